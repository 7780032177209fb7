"""The figures that tell what a discriminator knows, against counts by hand."""

from __future__ import annotations

import itertools
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import discriminators
from benchmarks.discriminators import Samples, auc, rank_correlation, ranks, selected, table
from gantune.data import Pair
from gantune.discriminators.cnn import CausalCNN
from gantune.trainer.arguments import LanguageGANConfig
from gantune.trainer.language_gan import LanguageGAN
from gantune.trainer.reranking import Reranking
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer


def test_ranks_share_the_mean_rank_among_equals():
    assert ranks([3.0, 1.0, 3.0, 2.0]).tolist() == [3.5, 1, 3.5, 2]


def test_auc_is_the_share_of_pairs_in_the_right_order():
    generator = np.random.default_rng(0)
    positive, negative = generator.integers(0, 5, 7).tolist(), generator.integers(0, 5, 9).tolist()
    pairs = [(p > n) + 0.5 * (p == n) for p, n in itertools.product(positive, negative)]
    assert auc(positive, negative) == pytest.approx(sum(pairs) / len(pairs))
    assert auc([2, 3], [0, 1]) == 1 and auc([0], [1]) == 0


def test_rank_correlation_is_within_questions_and_skips_those_that_do_not_vary():
    quality = np.array([[0.1, 0.2, 0.9], [0.3, 0.2, 0.1], [0.5, 0.5, 0.5]])
    scores = np.array([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0], [1.0, 2.0, 3.0]])
    assert rank_correlation(scores, quality) == pytest.approx((1 - 0.5) / 2)  # rho 1, rho 1 - 6 * 6 / 24 = -.5
    assert rank_correlation(np.zeros((3, 3)), quality) == 0


def test_selected_is_the_quality_of_the_highest_score():
    assert selected(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[0.2, 0.9], [0.4, 0.8]])) == pytest.approx(0.5)


def test_the_partial_correlation_is_within_questions_given_the_log_prob_of_the_answer():
    """Two questions at different levels, each with the values of the hand-computed 1 / sqrt(6)."""
    level = np.array([[0.0], [10.0]])
    scores, quality, own = (np.array([values] * 2) + level for values in ([1, 2, 3, 4], [1, 3, 4, 2], [1, 3, 2, 4]))
    rollout = SimpleNamespace(log_probs=torch.tensor(own).view(8, 1) * torch.tensor([[0.25, 0.75]]))
    found = Samples(rollout, None, None, [], quality).figures(scores)["partial_correlation"]
    assert found == pytest.approx(6**-0.5)


def test_the_table_gives_means_over_seeds():
    lines = table({"cnn": {"auc_real": [0.5, 0.7], "best": [0.25]}, "random": {"best": [0.5]}}).splitlines()
    assert lines[0] == "| scored by | AUC real | best-of-k ROUGE-L |"
    assert lines[2] == "| cnn | 0.600 | 0.250 |" and lines[3] == "| random | - | 0.500 |"


# ------------------------------------------------------------------------------------------------------- on records

RECORDS = [
    {"meaning_representation": f"name[{name}], food[{food}], area[{area}]", "text": f"{name}: {food} food, {area}."}
    for name in ("Ann", "Bob", "Cid", "Dot") for food in ("French", "Indian", "Thai") for area in ("north", "south")
]  # fmt: skip


@pytest.fixture
def command(tmp_path):
    """Options of a measurement that takes seconds, on records."""
    TINY_MODELS["gpt2"]().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in RECORDS))
    options = {
        "--model": tmp_path / "model", "--dataset": tmp_path / "records.jsonl", "--prompts": "rest",
        "--train-size": 8, "--test-size": 6, "--samples": 2, "--num-train-epochs": 1, "--template": "record-line",
        "--max-prompt-length": 44, "--max-completion-length": 12, "--generator": "lora", "--learning-rate": 1e-2,
        "--discriminator-warmup-steps": 3, "--discriminator-warmup-rollouts": 1, "--num-generations": 2,
        "--output": tmp_path / "found.json",
    }  # fmt: skip
    return [str(part) for option in options.items() for part in option]


def test_on_records_quality_is_the_slot_errors(command, tmp_path, monkeypatch, capsys):
    drawn, trained = [], []
    step = LanguageGAN.discriminator_step

    def spied(self, batch, rollout):
        trained.append((self.args.discriminator, self.args.max_grad_norm, batch, rollout))
        return step(self, batch, rollout)

    draw = discriminators.draw
    monkeypatch.setattr(LanguageGAN, "discriminator_step", spied)
    monkeypatch.setattr(discriminators, "draw", lambda *of: drawn.append(draw(*of)) or drawn[-1])
    names = ["--discriminators", "cnn", "cross-reader", "--max-grad-norm", "0.5"]
    assert discriminators.main([*names, *command]) == 0

    (samples,) = drawn
    assert samples.true.pairs and len(samples.rollout) == 2 * len(samples.true) == 12
    asked = {pair.question for pair in samples.true.pairs}
    assert [kind for kind, *_ in trained] == ["cnn"] * 3 + ["cross-reader"] * 3
    for _, norm, batch, rollout in trained:
        told, made = {pair.question for pair in batch.pairs}, {pair.question for pair in rollout.pairs}
        assert norm == 0.5 and not told & asked and not made & asked and not told & made
    assert torch.equal(trained[0][3].answer_ids, trained[3][3].answer_ids), "all learn from the same samples"

    for row, (pair, texts) in enumerate(zip(samples.true.pairs, samples.texts, strict=True)):
        values = [value for _, value in pair.question.fields]
        errors = [sum(not re.search(rf"(?<!\w){value}(?!\w)", text, re.I) for value in values) for text in texts]
        assert samples.quality[row].tolist() == pytest.approx([-each / 3 for each in errors])
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert list(rows) == ["random", "consensus", "own mean log-prob", "oracle", "cnn", "cross-reader"]
    assert rows["oracle"]["best_slot_error_rate"] == [pytest.approx(-samples.quality.max(axis=1).mean())]
    for name in ("cnn", "cross-reader"):
        correlations = {"rank_correlation", "partial_correlation"}
        assert set(rows[name]) == {"auc_real", "auc_question", "auc_corrupted", "best_slot_error_rate"} | correlations
    assert "| AUC corrupted record |" in capsys.readouterr().out


def test_corrupted_records_are_other_ones_with_the_same_answers(command, monkeypatch):
    drawn = []
    draw = discriminators.draw
    monkeypatch.setattr(discriminators, "draw", lambda *of: drawn.append(draw(*of)) or drawn[-1])
    assert discriminators.main(["--discriminators", "cnn", *command]) == 0
    (samples,) = drawn
    right = [pair for pair in samples.true.pairs for _ in range(discriminators.CORRUPTIONS)]
    assert len(samples.corrupted) == len(right)
    for row, (pair, wrong) in enumerate(zip(right, samples.corrupted.pairs, strict=True)):
        assert wrong.answer == pair.answer and set(wrong.question.fields) != set(pair.question.fields)
        mask = samples.true.answer_mask[row // discriminators.CORRUPTIONS].bool()
        answer = samples.true.answer_ids[row // discriminators.CORRUPTIONS][mask].tolist()
        assert samples.corrupted.answer_ids[row][samples.corrupted.answer_mask[row].bool()].tolist() == answer


def test_options_that_cannot_be_meant_are_refused(command, capsys):
    for given, said in (
        (["--seed", "3"], "--seed, --discriminator: expected --seeds and --discriminators"),
        (["--slots", "none.json"], "none.json"),
    ):
        assert discriminators.main(["--discriminators", "cnn", *command, *given]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ") and said in error


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--discriminators", "cnn", "cnm"], "unknown discriminator 'cnm'"),
        (["--question", "3"], "unknown option --question; did you mean --questions?"),
        (["--questions", "0"], "--questions 0: expected at least 1"),
        (["--samples", "-1"], "--samples -1: expected at least 1"),
        (["--seeds", "0", "-1"], "--seed -1: expected at least 0"),
        (["--unpaired", "-3"], "--unpaired -3: expected at least 0"),
        (["--forgetting"], "--forgetting: expected in benchmarks.compare only"),
        (["--output", "{}"], "{}: is a folder, expected a file to write"),
        (["--output", "{}/file/found.json"], "{}/file: expected a folder that can be written to"),
    ],
)
def test_bad_options_are_told_in_one_line_before_anything_is_trained(tmp_path, monkeypatch, capsys, given, said):
    monkeypatch.setattr(discriminators, "read_split", lambda *_: pytest.fail("the work has begun"))
    (tmp_path / "file").write_text("")
    assert discriminators.main([option.format(tmp_path) for option in given]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and said.format(tmp_path) in line


class Begun(CausalCNN):
    """Notes what it begins from."""

    def begin_from(self, model):
        self.begun = [model]


def reranking(folder, **settings) -> Reranking:
    """Of two pairs and one step of likelihood; not trained yet."""
    limits = {"max_prompt_length": 8, "max_completion_length": 4, "num_generations": 2, "num_train_epochs": 1}
    args = LanguageGANConfig(str(folder), **limits | settings, generator="lora", warmup_share=1.0, use_cpu=True)
    pairs = [Pair("a?", "b."), Pair("c?", "d.")]
    return Reranking(TINY_MODELS["gpt2"](), args, pairs, processing_class=tiny_tokenizer(), discriminator=Begun)


def test_a_discriminator_that_begins_from_the_generator_does_so_without_a_game(tmp_path):
    gan = reranking(tmp_path, discriminator_warmup_steps=1)
    gan.train()
    assert gan.discriminator.begun == [gan.model]


@pytest.mark.parametrize("limit, steps", [({}, 3), ({"max_tokens": 40}, 1), ({"max_seconds": 1e-9}, 1)])
def test_what_a_discriminator_takes_after_the_likelihood_counts_towards_the_limits(tmp_path, limit, steps):
    gan, entered = reranking(tmp_path, discriminator_warmup_steps=3, logging_steps=1, **limit), []
    gan.model.get_input_embeddings().register_forward_hook(lambda *call: entered.append(call[2].shape[:-1].numel()))
    gan.train()
    assert gan.limits.tokens == sum(entered) > 40
    assert sum("discriminator_step" in row for row in gan.state.log_history) == steps
