"""Sweeps: what is tried, what wins, what is stored, and that each method gets its own winner."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest

from baselines import METHODS, resolve_method
from benchmarks.compare import comparison as compare
from benchmarks.compare.__main__ import main
from benchmarks.compare.arguments import parse
from benchmarks.compare.fairness import learning_rates, run_config
from benchmarks.compare.run import blank_row, run
from benchmarks.compare.sweep import MEASURES, grids_of, next_value, sweep
from benchmarks.compare.tuned import Trial, Winner, read_winners, short, tuned_for, write_winners
from gantune.data import load_pairs, split_pairs
from gantune.diagnostics import write_json
from gantune.errors import UserError
from gantune.generation.decoding import Decoding
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

NOT_TUNED = {"base", "chain-of-thought", "copy-question", "few-shot", "few-shot-retrieval", "lead-3", "random-answer"}


NLL = MEASURES["loss"]


def bowl(**best):
    """A score that is lowest at `best`, in octaves; counts its calls."""

    def score(settings):
        score.asked.append(dict(settings))
        return sum(math.log2(value / best[option]) ** 2 for option, value in settings.items())

    score.asked = []
    return score


def test_every_tuned_method_is_swept_over_as_many_learning_rates_and_at_most_one_more_setting():
    for name in set(METHODS.names()) - NOT_TUNED | {"gan:lora", "mle:embedding+lora", "self-play:embedding"}:
        if "." in name:
            continue  # a test's own
        method = resolve_method(name)
        rate, *other = method.sweeps
        assert rate.endswith("learning_rate") and len(other) <= 1, name
        defaults = method.config_class()
        assert [value / getattr(defaults, rate) for value in method.sweeps[rate]] == [0.25, 0.5, 1, 2, 4], name
        for option in other:
            assert 2 <= len(method.sweeps[option]) <= 3 and getattr(defaults, option) in method.sweeps[option], name
            assert all(isinstance(value, type(getattr(defaults, option))) for value in method.sweeps[option]), name
    for name in NOT_TUNED:
        assert not resolve_method(name).sweeps


def test_the_best_of_the_grid_wins_one_setting_after_the_other():
    score = bowl(rate=2e-3, rank=8)
    grids = {"rate": (5e-4, 1e-3, 2e-3, 4e-3), "rank": (4, 8, 16)}
    winner = sweep(grids, {"rate": 1e-3, "rank": 4}, score, NLL, "test pairs")
    assert winner.settings == {"rate": 2e-3, "rank": 8} and winner.score == 0
    assert [settings["rank"] for settings in score.asked[:4]] == [4] * 4, "rates are tried at the default rank"
    assert [settings["rate"] for settings in score.asked[4:]] == [2e-3] * 2, "ranks at the best rate, none tried twice"
    assert [trial.value for trial in winner.trials] == [5e-4, 1e-3, 2e-3, 4e-3, 4, 8, 16]
    assert winner.trials[0] == Trial("rate", 5e-4, 2.0**2 + 1)
    assert str(winner) == "rate 2e-3 (swept 5e-4 ... 4e-3), rank 8 (swept 4 ... 16) on test pairs, NLL .000"


@pytest.mark.parametrize(
    ("best", "tried", "chosen"),
    [
        (4e-3, [1e-3, 2e-3, 4e-3, 8e-3], 4e-3),
        (2.5e-4, [1e-3, 2e-3, 4e-3, 5e-4, 2.5e-4], 2.5e-4),
        (1.0, [1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2], 1.6e-2),
    ],
)
def test_a_grid_whose_edge_wins_grows_at_most_twice(best, tried, chosen):
    winner = sweep({"rate": (1e-3, 2e-3, 4e-3)}, {"rate": 2e-3}, bowl(rate=best), NLL, "pairs")
    assert [trial.value for trial in winner.trials] == pytest.approx(tried, rel=1e-12)
    assert winner.settings["rate"] == pytest.approx(chosen, rel=1e-12)
    assert ("the winner at the edge" in str(winner)) == (chosen == tried[-1])


def test_whole_numbers_stay_whole_and_above_zero():
    assert (next_value((4, 8, 16), 16), next_value((4, 8, 16), 4), next_value((4, 8, 16), 8)) == (32, 2, None)
    assert isinstance(next_value((5, 10), 5), int) and next_value((1, 4), 1) is None


def test_values_that_cannot_be_scored_lose():
    def score(settings):
        return None if settings["rate"] > 1e-3 else 1.0 - settings["rate"]

    winner = sweep({"rate": (5e-4, 1e-3, 2e-3)}, {"rate": 1e-3}, score, NLL, "pairs")
    assert winner.settings == {"rate": 1e-3} and winner.trials[-1].score is None
    assert sweep({"rate": (5e-4, 1e-3)}, {"rate": 1e-3}, lambda settings: None, NLL, "pairs") is None


def test_of_rouge_the_highest_wins():
    score, grids = bowl(rate=2e-3), {"rate": (1e-3, 2e-3, 4e-3)}
    winner = sweep(grids, {"rate": 1e-3}, lambda settings: 1 - score(settings), MEASURES["rougeL"], "pairs")
    assert winner.settings == {"rate": 2e-3} and winner.score == 1 and str(winner).endswith("on pairs, ROUGE-L 1.000")


def test_options_that_are_given_are_not_swept():
    assert set(grids_of(resolve_method("lora"), {"lora_rank"})) == {"lora_learning_rate"}
    assert grids_of(resolve_method("mle"), {"learning_rate"}) == {}


def test_winners_come_back_from_their_file(tmp_path):
    winners = {"lora": Winner({"rate": 1e-3}, (Trial("rate", 1e-3, 0.5), Trial("rate", 2e-3, None)), 0.5, "NLL", "x")}
    file = tmp_path / "tuning.json"
    write_winners(file, winners)
    assert read_winners(file) == winners
    assert json.loads(file.read_text())["lora"]["trials"][0] == {"option": "rate", "value": 1e-3, "score": 0.5}
    for content in ("[]", '{"lora": 3}', '{"lora": {"settings": 1, "trials": []}}', "{"):
        file.write_text(content)
        with pytest.raises(UserError, match=r"expected the tuning\.json of an earlier"):
            read_winners(file)


def test_stored_winners_are_the_best_of_their_own_trials():
    for model, dataset in (("mini", "mini-tofu"), ("../tinystories-gpt2-3m", "../tofu/full.jsonl")):
        for winner in tuned_for(model, dataset).values():
            best = max(winner.trials, key=lambda trial: trial.score)
            assert winner.settings == {best.option: best.value} and winner.score == best.score
            assert "the edge" not in str(winner)
    assert tuned_for("mini", "other.jsonl") == {}


@pytest.mark.parametrize(
    ("value", "text"), [(8e-3, "8e-3"), (2.5e-4, "2.5e-4"), (1.6e-2, "1.6e-2"), (0.5, "0.5"), (16, "16"), (0, "0")]
)
def test_short_numbers(value, text):
    assert short(value) == text


def test_winners_are_kept_by_method_and_options_go_before_them(tmp_path):
    file = tmp_path / "tuning.json"
    swept = {"gan": {"learning_rate": 3e-3, "adversarial_weight": 2.0}, "mle": {"learning_rate": 5e-4}}
    write_winners(file, {name: Winner(of, (), 0.1, "NLL", "x") for name, of in swept.items()})
    settings = parse(["--winners", str(file), "--methods", "gan", "mle", "gan-constant", "gan:lora"])
    gan, mle, constant, other = (settings.method_config(name, 0) for name in settings.comparison.methods)
    assert (gan.learning_rate, gan.adversarial_weight, mle.learning_rate) == (3e-3, 2.0, 5e-4)
    assert constant.learning_rate == 5e-4, "its control's"
    assert other.learning_rate == 2e-3, "another generator's would say nothing of it"
    assert compare.learning_rates(settings) == (
        "learning rates: gan learning_rate 3e-3 (swept), mle learning_rate 5e-4 (swept), "
        "gan-constant learning_rate 5e-4 (swept for mle), gan:lora learning_rate 2e-3 (default, not swept)"
    )
    settings = parse(["--winners", str(file), "--learning-rate", "0.1"])
    gan = settings.method_config("gan", 0)
    assert (gan.learning_rate, gan.adversarial_weight) == (0.1, 2.0)
    assert "gan learning_rate 0.1 (given)" in learning_rates(settings)


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Options of a comparison whose runs are not run."""
    folder = tmp_path_factory.mktemp("model")
    TINY_MODELS["gpt2"]().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    file = folder / "pairs.jsonl"
    rows = [{"question": f"who is n{i}?", "answer": f"n{i} is old."} for i in range(20)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["--model", str(folder), "--dataset", str(file), "--train-size", "12", "--test-size", "6",
            "--max-prompt-length", "40", "--max-completion-length", "10", "--device", "cpu"]  # fmt: skip


@pytest.fixture
def stubbed(monkeypatch):
    """No run is run: its NLL is least at a learning rate of 4e-3 and an adversarial weight of 1, and lists the runs."""
    asked = []

    def run(directory, config):
        asked.append((directory, config))
        if config["method"] == "qlora":
            return blank_row("qlora", config["tuning"]["seed"]) | {"status": "not run", "error": "no CUDA"}
        tuning = config["tuning"]
        rate = {"lora": "lora_learning_rate"}.get(config["method"], "learning_rate")
        nll = abs(math.log2(tuning.get(rate, 1.0) / 4e-3)) + abs(math.log2(tuning.get("adversarial_weight", 1.0)))
        row = blank_row(config["method"], tuning["seed"]) | {"status": "success", "swept": config["swept"]}
        figures = {"trainable_parameters": 1, "train_seconds": 7.5, "train_tokens": 900, "peak_memory_bytes": 1}
        return row | figures | {"metrics": row["metrics"] | {"nll": nll, "rougeL": 0.5}}

    monkeypatch.setattr(compare, "run_in_process", run)
    monkeypatch.setattr(compare, "ALWAYS", ("base",))
    return asked


def test_a_preset_is_no_hindrance_to_a_sweep_and_what_is_typed_is_one():
    settings = parse(["--preset", "data-to-text", "--tune", "--learning-rate", "1e-2"])
    assert settings.given == {"learning_rate": "given"} and settings.tuning["lora_learning_rate"] == 1e-2
    assert "lora lora_learning_rate by --tune, of SER" in learning_rates(settings)
    assert "mle:lora learning_rate 1e-2 (given)" in learning_rates(settings)
    without = parse(["--preset", "data-to-text"])
    assert "lora lora_learning_rate 1e-2 (preset), mle:lora learning_rate 1e-2 (preset)" in learning_rates(without)


def test_tune_sweeps_each_method_and_its_winners_go_into_the_main_runs(command, stubbed, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [
        *command,
        "--tune",
        "--methods",
        "gan",
        "lora",
        "qlora",
        "--lora-rank",
        "8",
        "--output",
        str(out),
        "--wide",
    ]
    assert main([*arguments, "--seeds", "0", "1", "--noise-draws", "2"]) == 0
    sweeps = [(path, config) for path, config in stubbed if config["sweep"]]
    others = [config for _, config in stubbed if not config["sweep"]]
    runs = {(config["method"], config["tuning"]["seed"]): config for config in others}
    assert {path.parent for path, _ in sweeps} == {out / "tuning" / name for name in ("gan", "lora", "qlora")}
    assert {config["tuning"]["seed"] for _, config in sweeps} == {100, 101}
    assert all(config["data"]["apart_from"] == [0, 1] and config["noise_draws"] == 0 for _, config in sweeps)
    assert all(config["data"]["apart_from"] == [] for config in others)
    for seed in (0, 1):
        assert runs["lora", seed]["tuning"]["lora_learning_rate"] == 4e-3
        gan = runs["gan", seed]["tuning"]
        assert (gan["learning_rate"], gan["adversarial_weight"]) == (4e-3, 1.0)
        assert runs["qlora", seed]["tuning"]["qlora_learning_rate"] == 2e-4
        assert runs["lora", seed]["noise_draws"] == 2
    assert sum(config["method"] == "qlora" for _, config in sweeps) == 1, "it cannot run here, which is seen at once"
    # lora: five rates and one more at the edge; gan: five rates, and two weights beside the default; two seeds each
    assert [sum(config["method"] == name for _, config in sweeps) for name in ("lora", "gan")] == [2 * 6, 2 * 7]
    stored = read_winners(out / "tuning.json")
    assert set(stored) == {"gan", "lora"}
    assert [trial.value for trial in stored["lora"].trials] == [2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3]
    printed = capsys.readouterr().out
    assert (
        "lora: lora_learning_rate 4e-3 (swept 2.5e-4 ... 8e-3) on the test pairs of seeds 100, 101, NLL .000" in printed
    )
    assert "gan learning_rate by --tune, of NLL" in printed

    del stubbed[:]
    assert main([*arguments, "--seeds", "0", "1", "--noise-draws", "2"]) == 0
    swept_again = {config["method"] for _, config in stubbed if config["sweep"]}
    assert swept_again == {"qlora"}, "what tuning.json has is not swept again"


def test_another_rank_keeps_the_scale_of_lora(command, stubbed, tmp_path):
    for given, scale in (([], 2), (["--lora-alpha", "24"], 3)):
        out = tmp_path / f"scale{scale}"
        assert main([*command, "--tune", "--methods", "lora", *given, "--output", str(out)]) == 0
        tuned = [config["tuning"] for _, config in stubbed if config["method"] == "lora"]
        tried = [(each["lora_rank"], each["lora_alpha"]) for each in tuned]
        assert set(tried) == {(rank, scale * rank) for rank in (2, 4, 8, 16)}
        assert tried[-1] == (4, scale * 4), "the winner's run; of equals the first wins"
        del stubbed[:]
    settings = parse([*command, "--methods", "lora", "--lora-rank", "16"])
    assert settings.method_config("lora", 0).lora_alpha == 16, "a rank that is given changes nothing else"
    assert settings.method_config("qlora", 0, lora_rank=64).lora_alpha == 64
    assert settings.method_config("bottleneck", 0, bottleneck_dim=32).bottleneck_dim == 32


def test_winners_that_were_read_are_stored_with_the_results(command, stubbed, tmp_path):
    file, out = tmp_path / "tuning.json", tmp_path / "out"
    write_winners(file, {"lora": Winner({"lora_learning_rate": 3e-3}, (), 0.1, "NLL", "x")})
    assert main([*command, "--winners", str(file), "--methods", "lora", "--output", str(out)]) == 0
    assert read_winners(out / "comparison.json") == read_winners(file)


@pytest.mark.parametrize(("match", "limit"), [("time", {"max_seconds": 7.5}), ("sampled-tokens", {"max_tokens": 900})])
def test_match_runs_lora_first_and_stops_the_others_with_it(command, stubbed, tmp_path, match, limit):
    options = ["--match", match, "--methods", "gan", "mle", "lora", "--output", str(tmp_path / "out")]
    assert main([*command, *options]) == 0
    assert [config["method"] for _, config in stubbed] == ["base", "lora", "gan", "mle"]
    for _, config in stubbed:
        expected = limit if config["method"] in ("gan", "mle") else dict.fromkeys(limit, 0)
        assert {name: config["tuning"][name] for name in limit} == expected


def run_here(directory, config):
    """A run in this process, and the questions that it was tested on."""
    write_json(directory / "config.json", config)
    row = run(directory)
    return row, {json.loads(line)["question"] for line in (directory / "samples.jsonl").open()}


def test_a_run_of_a_sweep_is_tested_on_all_that_is_left_and_a_main_run_on_its_test_pairs(command, tmp_path):
    options = [
        "--match",
        "parameters",
        "--decoding",
        "mbr-3",
        "--decoding-temperature",
        "0.7",
        "1",
        "--num-train-epochs",
        "1",
    ]
    settings = parse([*command, *options, "--noise-draws", "2", "--validation-share", "0"])
    data = settings.data
    train, test = split_pairs(load_pairs(data.dataset, "question", "answer"), data.train_size, data.test_size, seed=3)
    assert (len(train), len(test)) == (12, 6)
    left = asdict(data) | {"test_size": None}
    sweep_run = {"sweep": True, "data": left, "decodings": [asdict(Decoding())], "noise_draws": 0}
    config = run_config(settings, "lora", 3, "cpu", {"lora_learning_rate": 1e-2}, **sweep_run)
    row, questions = run_here(tmp_path / "sweep", config)
    assert len(questions) == 8 and not questions & {pair.question for pair in train}
    assert row["metrics"]["nll"] > 0 and row["steps"] == row["planned_steps"] == 2
    assert row["noise"] is None and not (tmp_path / "sweep/adapter").exists()

    row, questions = run_here(tmp_path / "main", run_config(settings, "mle", 3, "cpu"))
    assert questions == {pair.question for pair in test}
    assert list(row["metrics_by_decoding"]) == ["mbr-3 at temperature 0.7", "mbr-3 at temperature 1"]
    assert row["metrics"] == row["metrics_by_decoding"]["mbr-3 at temperature 0.7"]
    assert row["noise"]["draws"] == 2 and row["matched"] is None, "it is what others are matched to"
    assert row["train_tokens"] > 0 and row["steps"] == 2
    row, _ = run_here(tmp_path / "lora", run_config(settings, "lora", 3, "cpu", noise_draws=0))
    adapted = row["trainable_parameters"]
    assert row["matched"].startswith("lora_rank ") and f" {adapted:,} trained parameters" in row["matched"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--match", "time", "--methods", "gan"], "--match time: expected lora among --methods"),
        (["--tune", "--tune-seeds", "100", "0"], "--tune-seeds 0: is among --seeds"),
        (["--tune", "--metric-for-best-model", "slot_error_rate"], "the held-out questions are not all records"),
        (["--tune", "--winners", "tuning.json"], "--tune and --winners: expected one of them"),
        (["--winners", "/nowhere/tuning.json"], "/nowhere/tuning.json: expected the tuning.json"),
        (["--decoding", "beam"], "--decoding beam: expected greedy, sample, mbr-K or vote-K"),
        (["--decoding", "mbr-2"], "with K at least 3"),
        (["--decoding-temperature", "0.7"], "greedy decoding has none"),
        (["--decoding", "sample", "--decoding-temperature", "0"], "expected above 0"),
        (["--decoding", "sample", "--decoding-temperature", "inf"], "-temperature inf: expected above 0, and finite"),
        (["--decoding", "sample", "--decoding-temperature", "1", "1"], "expected each one once"),
        (["--noise-draws", "-1"], "--noise-draws -1: expected at least 0"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(command, stubbed, capsys, options, message):
    assert main([*command, *options]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line and not stubbed
