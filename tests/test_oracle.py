"""The synthetic benchmark: its LSTM, its scores, its steps, and that a killed run goes on."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.oracle import likelihood, lstm
from benchmarks.oracle import seqgan as seqgan_rows
from benchmarks.oracle.__main__ import main, parse
from benchmarks.oracle.curves import beside_temperature, game_names
from benchmarks.oracle.highway_cnn import FILTERS, HighwayCNN
from benchmarks.oracle.lstm import LENGTH, VOCABULARY, LSTMPolicy, as_batch, empty_batch, load_oracle, nats_per_token
from benchmarks.oracle.methods import METHODS
from benchmarks.oracle.profile import Regenerating
from benchmarks.oracle.settings import OracleSettings
from benchmarks.oracle.training import adam, discriminator_round, generator_step
from benchmarks.oracle.world import World
from gantune.errors import UserError
from gantune.policy import DelayedPolicy, MonteCarloSearch, sample_tokens
from gantune.seqgan import build_reward, search_values
from tests.shared import SHARED, needs_shared

SMALL = {"sequences": 16, "batch_size": 16, "mle_epochs": 2, "discriminator_rounds": 1, "discriminator_epochs": 1,
         "adversarial_rounds": 3, "discriminator_rounds_each": 1, "completions": 1, "evaluate_every": 1,
         "model_epochs": 1, "ratio_steps": 1, "ratio_sequences": 16}  # fmt: skip


def small_policy(vocabulary: int = 7) -> LSTMPolicy:
    torch.manual_seed(0)
    return LSTMPolicy(vocabulary, width=4, std=1.0)


# ---- the LSTM


def test_the_lstm_is_the_papers():
    """Gates written out in NumPy: i, f, o sigmoid, c tanh, h = o tanh(c), from a zero state and the start token 0."""
    policy = small_policy()
    weights = {name: value.detach().double().numpy() for name, value in policy.named_parameters()}
    names = "ifco"
    W = dict(zip(names, weights["lstm.weight_ih_l0"].reshape(4, 4, 4), strict=True))
    U = dict(zip(names, weights["lstm.weight_hh_l0"].reshape(4, 4, 4), strict=True))
    b = dict(zip(names, weights["lstm.bias_ih_l0"].reshape(4, 4), strict=True))
    ids = [3, 6, 1, 0, 2]
    hidden, cell, log_probs = np.zeros(4), np.zeros(4), []

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    for before, token in zip([0, *ids[:-1]], ids, strict=True):
        x = weights["embedding.weight"][before]
        i, f, o = (sigmoid(W[g] @ x + U[g] @ hidden + b[g]) for g in "ifo")
        cell = f * cell + i * np.tanh(W["c"] @ x + U["c"] @ hidden + b["c"])
        hidden = o * np.tanh(cell)
        logits = weights["output.weight"] @ hidden + weights["output.bias"]
        log_probs.append(logits[token] - np.log(np.exp(logits).sum()))
    scored = policy.score(as_batch(torch.tensor([ids])))[0]
    assert np.abs(scored.detach().numpy() - log_probs).max() < 1e-6
    assert nats_per_token(policy, torch.tensor([ids])) == pytest.approx(-np.mean(log_probs), abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_rollout_and_scoring_agree(temperature):
    policy = small_policy()
    rollout = policy.rollout(empty_batch(5), max_new_tokens=9, temperature=temperature, samples_per_prompt=2)
    assert rollout.answer_ids.shape == (10, 9)
    assert (policy.score(rollout, temperature=temperature) - rollout.log_probs).abs().max() < 1e-6


def test_the_state_of_a_rollout_is_that_of_its_prefixes():
    policy = small_policy()
    rollout = policy.rollout(empty_batch(5), max_new_tokens=9, keep_state=True)
    again = policy.prepare(rollout.without_state())
    assert (rollout.state - again.state).abs().max() < 1e-6


def test_completions_keep_their_prefix_and_follow_the_policy():
    """Over many completions of one prefix, the frequencies of the next two tokens against their exact probabilities."""
    policy = small_policy(vocabulary=3)
    rollout = policy.rollout(empty_batch(4), max_new_tokens=4, keep_state=True)
    n = 3000
    rows, lengths = torch.tensor([2] * n + [0] * 5), torch.tensor([2] * n + [3] * 5)
    completed = policy.complete(rollout, rows, lengths).answer_ids
    assert torch.equal(completed[:n, :2], rollout.answer_ids[2:3, :2].expand(n, -1))
    assert torch.equal(completed[n:, :3], rollout.answer_ids[:1, :3].expand(5, -1))
    for a in range(3):
        for c in range(3):
            ids = torch.cat([rollout.answer_ids[2, :2], torch.tensor([a, c])])[None]
            p = policy.score(as_batch(ids))[0, 2:].sum().exp().item()
            share = ((completed[:n, 2] == a) & (completed[:n, 3] == c)).double().mean().item()
            assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / n) + 1e-9


def test_completions_do_not_depend_on_how_many_distributions_are_held_at_once(monkeypatch):
    policy = small_policy()
    rollout = policy.rollout(empty_batch(7), max_new_tokens=9, keep_state=True)
    order = torch.randperm(7 * 8)  # prefixes in disorder, and as few as one completion of each
    rows, lengths = (order % 7).repeat_interleave(2), (order // 7 + 1).repeat_interleave(2)
    completed = []
    for buffer_rows, product_rows in ((256, 64), (5, 2)):
        monkeypatch.setattr(lstm, "BUFFER_ROWS", buffer_rows)
        monkeypatch.setattr(lstm, "PRODUCT_ROWS", product_rows)
        torch.manual_seed(3)
        completed.append(policy.complete(rollout, rows, lengths).answer_ids)
    assert torch.equal(*completed)


def test_values_from_search_approach_the_exact_ones_as_the_root_of_their_number():
    """All 64 sequences of 3 tokens enumerated; the error of Q within its standard error, at a fixed seed."""
    policy = small_policy(vocabulary=4)
    torch.manual_seed(5)
    every = torch.cartesian_prod(*[torch.arange(4)] * 3)
    table = torch.rand(64, dtype=torch.float64)
    probability = policy.score(as_batch(every)).double().sum(1).exp().detach()
    rollout = policy.rollout(empty_batch(6), max_new_tokens=3, keep_state=True)

    def score(batch):
        return table[(batch.answer_ids * torch.tensor([16, 4, 1])).sum(1)]

    errors, expected = {}, {}
    for number in (50, 5000):
        values = search_values(score, MonteCarloSearch(policy, number, max_rows=4096), rollout)
        squares, variances = [], []
        for row, ids in enumerate(rollout.answer_ids):
            assert values[row, 2] == score(as_batch(ids[None]))[0]
            for length in (1, 2):
                begins = (every[:, :length] == ids[:length]).all(1)
                p = probability[begins] / probability[begins].sum()
                exact = (p * table[begins]).sum()
                variance = (p * (table[begins] - exact) ** 2).sum() / number
                assert abs(values[row, length - 1] - exact) < 4.5 * variance.sqrt()
                squares.append((values[row, length - 1] - exact) ** 2)
                variances.append(variance)
        errors[number], expected[number] = torch.stack(squares).mean().sqrt(), torch.stack(variances).mean().sqrt()
    assert expected[50] / expected[5000] == pytest.approx(10)
    assert 5 < errors[50] / errors[5000] < 20


def test_a_delayed_policy_completes_with_the_average():
    policy = small_policy()
    parameters = [p for p in policy.parameters() if p.requires_grad]
    delayed = DelayedPolicy(policy, parameters, decay=0.75)
    before = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for p in parameters:
            p.add_(1.0)
    delayed.update()
    for average, old in zip(delayed.average, before, strict=True):
        assert torch.allclose(average, old + 0.25)
    rollout = policy.rollout(empty_batch(3), max_new_tokens=5, keep_state=True)
    state = delayed.prepare(rollout).state
    assert (state - rollout.state).abs().max() > 1e-3, "the average's state, not that of the present weights"
    assert all(torch.allclose(p, old + 1) for p, old in zip(parameters, before, strict=True))


def test_a_bad_oracle_file_is_one_line(tmp_path, capsys):
    file = tmp_path / "oracle.npz"
    np.savez(file, embedding=np.zeros((3, 2)))
    with pytest.raises(UserError, match="expected SeqGAN's target LSTM"):
        load_oracle(str(file))
    assert main(["--oracle", str(tmp_path / "none.npz"), "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_pinned_oracle_is_always_the_same():
    first, second = load_oracle(None), load_oracle(None)
    assert torch.equal(first.output.weight, second.output.weight)
    assert first.output.weight.std().item() == pytest.approx(1, abs=0.01)


@needs_shared
def test_the_published_oracles_own_samples_have_its_published_likelihood():
    oracle = load_oracle(str(SHARED / "data/seqgan-oracle/target_lstm.npz"))
    torch.manual_seed(0)
    ids = oracle.rollout(empty_batch(2000)).answer_ids
    assert nats_per_token(oracle, ids) == pytest.approx(5.75, abs=0.03)
    assert nats_per_token(oracle, torch.randint(0, VOCABULARY, (500, LENGTH))) == pytest.approx(11.43, abs=0.1)


# ---- the steps


def test_the_discriminator_has_the_papers_shape():
    cnn = HighwayCNN()
    assert sum(FILTERS) == cnn.highway.in_features == 1720
    cnn.eval()
    logits = cnn.sequence_logits(as_batch(torch.randint(0, VOCABULARY, (3, LENGTH))))
    assert logits.shape == (3,)
    expected = 0.5 * (cnn.output.weight**2).sum() + 0.5 * (cnn.output.bias**2).sum()
    assert torch.equal(cnn.penalty(), expected)


def test_the_discriminator_in_bfloat16_is_the_same_to_its_precision():
    torch.manual_seed(0)
    cnn = HighwayCNN().eval()
    batch = as_batch(torch.randint(0, VOCABULARY, (64, LENGTH)))
    exact = cnn.sequence_logits(batch)
    cnn.bf16 = True
    rounded = cnn.sequence_logits(batch)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    assert (rounded - exact).abs().max() < 0.05 * exact.std()


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("rows_at_once", [8, 50, 4096])
def test_completions_are_judged_as_whole_sequences_are(bf16, rows_at_once):
    torch.manual_seed(0)
    policy, cnn = LSTMPolicy(), HighwayCNN(bf16=bf16).eval()
    rollout = policy.rollout(empty_batch(8), keep_state=True)
    weights = {name: weight.clone() for name, weight in cnn.state_dict().items()}
    judge, seen = cnn.completion_logits(rollout), 0
    for rows, lengths, completed in MonteCarloSearch(policy, 2, max_rows=rows_at_once)(rollout):
        with torch.no_grad():
            whole = cnn.sequence_logits(completed)
        torch.testing.assert_close(judge(rows, lengths, completed), whole, rtol=0, atol=0.05 if bf16 else 1e-5)
        seen += len(rows)
    assert seen == 8 * 2 * (LENGTH - 1)
    assert all(torch.equal(weight, weights[name]) for name, weight in cnn.state_dict().items())


@torch.no_grad()
def test_windows_within_the_prefix_are_read_once():
    torch.manual_seed(0)
    cnn = HighwayCNN().eval()
    cnn.convolutions[-1].weight[..., 0] = 0  # else windows of all 20 tokens reach from the first beyond the prefix
    main = torch.randint(1, VOCABULARY, (3, LENGTH))
    altered = main.clone()
    altered[:, 0] = 0  # not the rollout's: whoever reads it again gives another logit
    judge, expected = cnn.completion_logits(as_batch(main)), cnn.sequence_logits(as_batch(main))
    rows, lengths = torch.tensor([0, 1, 2]), torch.tensor([16, 17, 19])
    torch.testing.assert_close(judge(rows, lengths, as_batch(altered)), expected)
    assert (cnn.sequence_logits(as_batch(altered)) - expected).abs().min() > 1e-3


@pytest.mark.parametrize("bf16", [False, True])
def test_the_discriminator_learns_what_is_easy_to_tell(bf16):
    settings = OracleSettings(**SMALL | {"sequences": 32, "batch_size": 32})
    torch.manual_seed(0)
    policy, cnn = LSTMPolicy(), HighwayCNN(bf16=bf16)
    real = torch.randint(0, 2, (32, LENGTH))  # the policy uses all 5000 tokens
    optimizer = adam(cnn, 1e-3)
    for _ in range(12):
        accuracy = discriminator_round(cnn, optimizer, policy, real, settings)
    assert accuracy > 0.9
    assert not cnn.training


def test_a_constant_reward_makes_what_was_sampled_likelier():
    settings = OracleSettings(**SMALL | {"learning_rate": 1e-3})
    torch.manual_seed(0)
    policy = LSTMPolicy()
    torch.manual_seed(1)
    sampled = policy.rollout(empty_batch(settings.batch_size))
    before = policy.score(sampled).sum().item()
    torch.manual_seed(1)
    figures = generator_step(policy, adam(policy, 1e-3), build_reward("constant", None), settings)
    assert figures["reward"] == 1
    assert figures["loss"] == pytest.approx(-before, rel=1e-5), "the sum over tokens and sequences"
    assert policy.score(sampled).sum().item() > before


def test_the_regenerating_search_of_the_profile_is_a_search():
    policy = LSTMPolicy()
    rollout = policy.rollout(empty_batch(4), keep_state=True)
    seen = 0
    for rows, lengths, batch in Regenerating(policy, 2, sample_tokens)(rollout):
        length = int(lengths[0])
        assert torch.equal(batch.answer_ids[:, :length], rollout.answer_ids[rows, :length])
        seen += len(rows)
    assert seen == 4 * 2 * (LENGTH - 1)


def test_the_profile_prints_ratios(capsys):
    assert main(["--profile", "--completions", "1", "--batch-size", "4", "--sequences", "4"]) == 0
    printed = capsys.readouterr().out
    assert "copied states" in printed and "1.0 x" in printed and "regenerated, torch.multinomial" in printed


# ---- runs


def make_world(directory, **changes):
    return World(load_oracle(None), OracleSettings(**SMALL | changes), seed=3, directory=directory, device="cpu")


def without_seconds(row):
    return row | {"seconds": 0, "history": [each | {"seconds": 0} for each in row["history"]]}


@pytest.mark.parametrize("rollout_policy", ["current", "delayed"])
def test_a_game_that_was_killed_goes_on_to_the_same_result(tmp_path, monkeypatch, rollout_policy):
    def play(directory):
        return METHODS["seqgan"](make_world(directory, rollout_policy=rollout_policy), "seqgan")[0]

    whole, calls, step = play(tmp_path / "whole"), [], seqgan_rows.generator_step

    def dies(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(seqgan_rows, "generator_step", dies)
    with pytest.raises(KeyboardInterrupt):
        play(tmp_path / "cut")
    history = json.loads((tmp_path / "cut/seqgan/history.json").read_text())
    assert [row["round"] for row in history] == [0, 1], "what was done is on disk"
    monkeypatch.setattr(seqgan_rows, "generator_step", step)
    again = play(tmp_path / "cut")
    assert without_seconds(whole) == without_seconds(again)
    assert "knows" not in METHODS["constant"](make_world(tmp_path / "whole"), "constant")[0], "no judge is in it"


def test_likelihood_with_dropout_that_was_killed_goes_on_to_the_same_best_epoch(tmp_path, monkeypatch):
    nats = iter([3.0, 1.0, 2.0] * 2)  # the best is the second, whatever is learned
    monkeypatch.setattr(likelihood, "nats_per_token", lambda *_: next(nats))
    whole = likelihood.fitted_model(make_world(tmp_path / "whole", model_epochs=3))
    assert whole.epoch == 1 and not torch.equal(whole.best.output.weight, whole.last.output.weight)
    assert not whole.best.training
    cut = make_world(tmp_path / "cut", model_epochs=3)
    likelihood.fit(cut, "ratio-model", 2, cut.settings.model_dropout)
    again = likelihood.fitted_model(cut)
    assert again.epoch == 1
    for policy in ("best", "last"):
        for name, value in getattr(whole, policy).state_dict().items():
            assert torch.equal(value, getattr(again, policy).state_dict()[name]), (policy, name)


def test_the_command_makes_every_row_and_keeps_what_is_finished(tmp_path, capsys, monkeypatch):
    small = SMALL | {"mle_epochs": 1, "adversarial_rounds": 1, "temperatures": 0.8}
    options = [part for name, value in small.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    output = ["--output", str(tmp_path / "out")]
    first = ["--methods", "random", "mle", "constant", *output]
    assert main([*first, *options]) == 0
    printed = capsys.readouterr().out
    for word in ("uniform", "unigram", "mle, temperature 0.8", "mle-best", "constant", "NLL_test", "one seed has none"):
        assert word in printed
    assert "at the end" not in printed, "a column that no row has"
    epochs, epoch = [], likelihood.likelihood_epoch
    monkeypatch.setattr(likelihood, "likelihood_epoch", lambda *given: epochs.append(1) or epoch(*given))
    assert main([*output, *options]) == 0
    assert len(epochs) == 1, "that of the ratio's model: what is finished is not run again, and all games begin from it"
    content = json.loads((tmp_path / "out/oracle.json").read_text())
    methods = [row["method"] for row in content["rows"]]
    assert [name for name in METHODS if name != "random" and name not in methods] == []
    assert methods[:6] == ["oracle", "uniform", "unigram", "mle-best", "mle-best, temperature 0.8", "mle"]
    by_name = {row["method"]: row for row in content["rows"]}
    assert by_name["unigram"]["nll_test"] is None and by_name["unigram"]["forward_kl"] is None
    for name in ("forward_kl", "reverse_kl", "js"):
        assert by_name["oracle"][name] == pytest.approx(0, abs=1e-5)
    assert by_name["optimal"]["knows"] == pytest.approx(1)
    for name in METHODS:
        if name.startswith(("seqgan", "ratio-last", "cot")):
            assert -1 <= by_name[name]["knows_at_the_end"] <= 1
    for name in ("oracle.md", "likelihoods.png", "seed0/cot.json", "seed0/mle/checkpoint.pt"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    assert not (tmp_path / "out/seed0/cot/checkpoint.pt").exists()
    assert main([*output, *options, "--completions", "2"]) == 2
    assert "holds runs with completions 1, now 2" in capsys.readouterr().err


def test_a_curve_keeps_the_row_at_temperature_1():
    world = SimpleNamespace(settings=SimpleNamespace(temperatures=[0.8, 1.0]), figures=lambda sampler: {})
    assert [row["method"] for row in likelihood.curve(world, "mle", small_policy())] == ["mle", "mle, temperature 0.8"]


@pytest.mark.parametrize(
    ("at", "expected"),
    [((8.5, 8.9), -0.1), ((9.5, 8.2), 0.2), ((7.5, 9.7), -0.3), ((7.2, 9.0), -1.2), ((None, 9.0), None)],
)
def test_a_game_is_held_against_the_curves_of_its_seed(at, expected):
    points = {"mle": (8.0, 9.5), "mle, temperature 0.8": (9.0, 8.5), "mle, temperature 0.7": (9.2, 8.0)}
    points |= {"ratio-model": (7.3, 10.2), "ratio-model, temperature 0.9": (7.7, 9.8)}
    rows = [
        {"method": name, "seed": 0, "nll_test": x, "nll_oracle": y, "history": []} for name, (x, y) in points.items()
    ]
    rows += [row | {"seed": 1, "nll_oracle": 0.0} for row in rows]
    game = {"method": "seqgan", "seed": 0, "nll_test": at[0], "nll_oracle": at[1], "history": []}
    assert game_names([*rows, game]) == {"seqgan"}
    assert beside_temperature([*rows, game], game) == (expected and pytest.approx(expected))


def test_results_of_two_published_oracles_are_not_mixed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.oracle.__main__.load_oracle", lambda path: load_oracle(None))
    options = [part for name, value in SMALL.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    options += ["--methods", "random", "--output", str(tmp_path / "out")]
    for name in ("a.npz", "b.npz"):
        (tmp_path / name).write_text(name)
    first, second = ([*options, "--oracle", str(tmp_path / name)] for name in ("a.npz", "b.npz"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").touch()
    assert main(first) == 2 and "holds other files" in capsys.readouterr().err
    (tmp_path / "out/notes.txt").rename(tmp_path / "out/.settings.json.7.tmp")  # a process that starts beside this one
    assert main(first) == main(first) == 0
    capsys.readouterr()
    assert main(second) == 2 and "holds runs with oracle_sha256" in capsys.readouterr().err
    settings = tmp_path / "out/settings.json"
    stored = json.loads(settings.read_text())
    del stored["oracle_sha256"]  # as it was before
    settings.write_text(json.dumps(stored))
    assert main(second) == 0


def test_scale_shrinks_epochs_and_rounds_alone():
    settings = OracleSettings().scaled(0.1)
    assert (settings.mle_epochs, settings.discriminator_rounds, settings.adversarial_rounds) == (12, 5, 20)
    assert (settings.discriminator_epochs, settings.discriminator_rounds_each) == (1, 1)
    assert (settings.sequences, settings.completions, settings.batch_size) == (9984, 16, 64)
    assert OracleSettings().scaled(1) == OracleSettings()


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--scale", "0"], "--scale 0.0: expected above 0 and at most 1"),
        (["--methods", "ratios"], "--methods ratios: expected some of oracle, random, mle"),
        (["--model-dropout", "1"], "--model-dropout 1.0: expected below 1"),
        (["--ratio-sequences", "1"], "--ratio-sequences 1: expected at least 2"),
        (["--completions", "0"], "--completions 0: expected above 0"),
        (["--learning-rate", "inf"], "--learning-rate inf: expected above 0, and finite"),
        (["--temperatures", "1", "nan"], "--temperatures [1.0, nan]: expected above 0, and finite"),
        (["--sequences", "100"], "expected a multiple of --batch-size 64"),
    ],
)
def test_bad_options_are_one_line(arguments, said, tmp_path, capsys):
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_the_defaults_are_the_papers():
    _, settings = parse([])
    paper = {"sequences": 9984, "batch_size": 64, "mle_epochs": 120, "discriminator_rounds": 50,
             "discriminator_epochs": 3, "adversarial_rounds": 200, "discriminator_rounds_each": 5, "completions": 16,
             "mle_learning_rate": 0.01, "learning_rate": 0.01, "discriminator_learning_rate": 1e-4,
             "max_grad_norm": 5.0}  # fmt: skip
    assert {name: getattr(settings, name) for name in paper} == paper
