"""Comparisons of texts about records: slot errors, several references, samples at temperature 1, their tables."""

from __future__ import annotations

import json
from statistics import fmean

import numpy as np
import pytest

from baselines import Tuned, TunedModel
from benchmarks.compare import comparison
from benchmarks.compare.__main__ import main
from benchmarks.compare.answers import Answers, stored_answers, write_answers
from benchmarks.compare.arguments import parse
from benchmarks.compare.comparison import check
from benchmarks.compare.evaluation import METRICS, RECORD_METRICS, Scorer, evaluate, records_of, with_samples
from benchmarks.compare.fairness import run_config
from benchmarks.compare.run import run
from benchmarks.report.differences import differences, differences_grid, how_to_read
from benchmarks.report.page import content
from benchmarks.report.read import read_comparison
from benchmarks.report.terminal_table import as_text, summarise
from gantune.data import Pair
from gantune.data.question import RecordQuestion
from gantune.errors import UserError
from gantune.generation.decoding import Decoding, decode_answers
from gantune.metrics import Bleu, Diversity, Rouge, SlotMatcher
from gantune.tuning import TuningConfig
from tests.test_report import run_row, write_comparison
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

MILL = RecordQuestion([("name", "The Mill"), ("food", "French"), ("familyFriendly", "no")])
ZIZZI = RecordQuestion([("name", "Zizzi"), ("food", "Indian")])
PAIRS = [Pair(MILL, "The Mill serves French food to adults only."), Pair(ZIZZI, "Zizzi is an Indian place.")]
REFERENCES = [[PAIRS[0].answer, "A French place, not for kids, is The Mill."], [PAIRS[1].answer]]
ANSWERS = ["The Mill is a French place, not for kids.", "Zizzi serves French food by the river."]
CONFIG = TuningConfig(template="record-line", max_prompt_length=40, max_completion_length=8)


class Fixed(Tuned):
    """Gives the same answers whatever it is asked."""

    def answer(self, questions, noise=None):
        return ANSWERS


def test_slot_errors_and_several_references_are_scored(tmp_path):
    metrics, rows = Scorer(PAIRS, None, None, "cpu", REFERENCES).score(ANSWERS)
    assert [row["slot_errors"] for row in rows] == [0, 2] and [row["right"] for row in rows] == [1, 0]
    assert rows[1] | {"missing": 0, "wrong": 1, "added": 1, "slots": 2} == rows[1]
    assert metrics["slot_error_rate"] == 2 / 5 and metrics["wrong"] == metrics["added"] == 1 / 5
    assert metrics["right_texts"] == 1 / 2 and metrics["missing"] == 0
    assert metrics["bleu"] == Bleu().compute(predictions=ANSWERS, references=REFERENCES)["bleu"]
    assert metrics["rougeL"] == Rouge().compute(predictions=ANSWERS, references=REFERENCES)["rougeL"]
    assert metrics["rougeL"] > Rouge().compute(predictions=ANSWERS, references=[p.answer for p in PAIRS])["rougeL"]
    found = evaluate(Fixed(), PAIRS, tmp_path, None, None, "cpu", [Decoding()], references=REFERENCES)
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").open()]
    assert found.metrics == metrics and [sample["references"] for sample in samples] == REFERENCES
    assert set(found.metrics) == {*METRICS, *RECORD_METRICS}
    assert found.metrics["slot_error_rate_sampled"] is None and found.by_decoding is None


def test_slots_are_found_as_asked(tmp_path):
    (exact, _), (e2e, _) = (Scorer(PAIRS, None, None, "cpu", slots=slots).score(ANSWERS) for slots in ("exact", "e2e"))
    assert exact["slot_error_rate"] == 2 / 5 and exact["missing"] == 2 / 5 and e2e["wrong"] == 1 / 5
    file = tmp_path / "slots.json"
    file.write_text('{"food": [{"values": ["French", "Indian"], "said": "french"}]}')
    assert Scorer(PAIRS, None, None, "cpu", slots=str(file)).score(ANSWERS)[0]["slot_error_rate"] == 1 / 5


def test_of_several_references_the_best_bleurt_counts(monkeypatch):
    scorer = Scorer(PAIRS, None, None, "cpu", REFERENCES)

    class Lengths:
        def score_pairs(self, predictions, references):
            return [
                len(prediction) - len(reference) for prediction, reference in zip(predictions, references, strict=True)
            ]

    scorer.bleurt = Lengths()
    expected = [
        max(len(answer) - len(reference) for reference in references)
        for answer, references in zip(ANSWERS, REFERENCES, strict=True)
    ]
    assert scorer.score(ANSWERS)[0]["bleurt"] == fmean(expected)


def test_plain_pairs_have_no_figures_of_records(tmp_path):
    pairs = [Pair(str(pair.question), pair.answer) for pair in PAIRS]
    assert records_of([pairs[0].question, MILL]) is None and records_of([]) is None
    metrics = evaluate(Fixed(), pairs, tmp_path, None, None, "cpu").metrics
    assert set(metrics) == set(METRICS)
    assert "references" not in json.loads((tmp_path / "samples.jsonl").read_text().splitlines()[0])


def test_records_are_also_answered_by_samples_at_temperature_1(tmp_path):
    tuned = TunedModel(TINY_MODELS["gpt2"](), tiny_tokenizer(), CONFIG)
    decodings = with_samples([Decoding(seed=3)])
    assert decodings == [Decoding(seed=3), Decoding(1, 1.0, 3)] == with_samples(decodings)
    assert with_samples([Decoding(8, 0.7)])[1] == Decoding(1, 1.0)
    found = evaluate(tuned, PAIRS, tmp_path, None, None, "cpu", decodings, references=REFERENCES)
    questions = [pair.question for pair in PAIRS]
    greedy, sampled = (decode_answers(tuned.model, tuned.tokenizer, questions, CONFIG, each) for each in decodings)
    assert greedy != sampled
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").open()]
    assert [sample["answer"] for sample in samples] == greedy
    matcher, records = SlotMatcher("e2e"), records_of(questions)
    for suffix, answers in (("", greedy), ("_sampled", sampled)):
        figures = matcher.figures(records, answers) | Diversity().compute(predictions=answers)
        for name in ("slot_error_rate", "right_texts", "distinct2", "unique"):
            assert found.metrics[f"{name}{suffix}"] == figures[name]
        assert found.metrics[f"bleu{suffix}"] == Bleu().compute(predictions=answers, references=REFERENCES)["bleu"]
        errors = [sum(matcher.errors(record, answer)) for record, answer in zip(records, answers, strict=True)]
        rouge = [row["rougeL"] for row in Rouge().score_pairs(answers, REFERENCES)]
        assert [sample["scores"][f"slot_errors{suffix}"] for sample in samples] == errors
        assert [sample["scores"][f"rougeL{suffix}"] for sample in samples] == rouge
    assert found.decoding_cost["samples"] == 1 and list(found.by_decoding) == ["greedy", "sample at temperature 1"]


def test_references_stay_with_the_answers(tmp_path):
    sample = {"question": "q", "reference": "a", "references": ["a", "b"], "base_answer": None, "answer": "c"}
    plain = {"question": "q", "reference": "a", "base_answer": None, "answer": "c", "scores": {"rougeL": 0.5}}
    rows = [{"method": "gan", "seed": seed, "status": "success"} for seed in (0, 1)]
    for together in ([sample | {"scores": {"rougeL": 1.0, "slots": 3}}], [plain]):
        write_answers(tmp_path, {("gan", 0): Answers("", together), ("gan", 1): Answers("", [plain])})
        found = stored_answers(tmp_path, rows)
        assert found["gan", 0].samples == together and found["gan", 1].samples == [plain]


# ---- Options


def test_slots_are_an_option_that_reaches_the_runs_and_is_refused_early(tmp_path):
    settings = parse(["--slots", "exact", "--methods", "lora"])
    assert run_config(settings, "lora", 0, "cpu")["slots"] == "exact"
    assert run_config(parse([]), "lora", 0, "cpu")["slots"] is None
    with pytest.raises(UserError, match="--slots exact: expected records as questions, mini-tofu has others"):
        check(settings)
    with pytest.raises(UserError, match=r"none\.json"):
        check(parse(["--slots", str(tmp_path / "none.json"), "--methods", "lora"]))


# ---- Table and differences


def records_comparison(directory, seeds=(0, 1, 2), questions=40):
    """`gan:lora`, its control, its shuffled control, and LoRA; the game has fewer slot errors by a known number."""
    rng, rows = np.random.default_rng(0), []
    for seed in seeds:
        slots, common = rng.integers(2, 9, questions), rng.integers(1, 4, questions)
        for method, more in {"gan:lora": 0, "mle:lora": 1, "gan-shuffled:lora": 2, "lora": 1}.items():
            errors, sampled = common + more, common + 2 * more
            scores = [
                {"rougeL": 0.5 - 0.1 * more + 0.01 * (i % 3), "slot_errors": int(e), "slot_errors_sampled": int(s)}
                | {"slots": int(n), "right": int(e == 1)}
                for i, (e, s, n) in enumerate(zip(errors, sampled, slots, strict=True))
            ]
            metrics = dict.fromkeys(RECORD_METRICS) | {
                "slot_error_rate": errors.sum() / slots.sum(),
                "slot_error_rate_sampled": sampled.sum() / slots.sum(),
                "right_texts": float(np.mean(errors == 1)),
                "bleu": 12.5,
                "distinct2_sampled": 0.25,
            }
            row = run_row(method, seed, 0.5 - 0.1 * more)
            row |= {"metrics": row["metrics"] | metrics, "directory": f"runs/{method}-seed{seed}"}
            rows.append(row)
            folder = directory / row["directory"]
            folder.mkdir(parents=True)
            samples = [
                {"question": f"q{i}", "reference": "a", "answer": "b", "scores": s} for i, s in enumerate(scores)
            ]
            (folder / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    write_comparison(directory, rows)
    return rows


def test_a_comparison_of_records_has_a_table_of_its_own(tmp_path):
    rows = records_comparison(tmp_path)
    table = as_text(summarise(rows), wide=True).splitlines()
    headings = ["SER", "SER T=1", "right", "ROUGE-L", "BLEU", "distinct-2 T=1"]
    places = [table[0].index(f" {heading}") for heading in headings]
    assert places == sorted(places) and table[0].endswith(headings[-1]), "no column without a value"
    expected = fmean(row["metrics"]["slot_error_rate"] for row in rows if row["method"] == "gan:lora")
    assert f"{expected:.3f}" in table[2] and "12.5" in table[2]
    narrow = as_text(summarise(rows)).splitlines()[0].split()
    assert narrow == ["method", "SER", "SER", "T=1", "ROUGE-L"], "slot errors alone would show copies as the best"
    page = content(read_comparison(tmp_path))["table"]
    assert [column["heading"] for column in page["columns"][:4]] == ["SER", "SER T=1", "right", "ROUGE-L"]
    assert [column["better"] for column in page["columns"][:4]] == ["low", "low", "high", "high"]
    plain = summarise([run_row("lora", 0, 0.5)])
    assert "SER" not in as_text(plain) and not set(RECORD_METRICS) & set(plain["lora"])


def test_differences_of_slot_errors_are_those_of_the_rates(tmp_path):
    rows = records_comparison(tmp_path)
    found = differences(tmp_path, rows)
    assert {row["metric"] for row in found} == {"slot_errors", "slot_errors_sampled", "right", "rougeL"}
    of_game = {(row["rival"], row["metric"]): row for row in found if row["method"] == "gan:lora"}
    assert {rival for rival, _ in of_game} == {"lora", "mle:lora", "gan-shuffled:lora"}
    for metric, figure in {"slot_errors": "slot_error_rate", "slot_errors_sampled": "slot_error_rate_sampled"}.items():
        rates = {(row["method"], row["seed"]): row["metrics"][figure] for row in rows}
        for rival in ("lora", "mle:lora", "gan-shuffled:lora"):
            expected = fmean(rates["gan:lora", seed] - rates[rival, seed] for seed in (0, 1, 2))
            assert of_game[rival, metric]["difference"] == pytest.approx(expected)
            assert of_game[rival, metric]["high"] < 0 and of_game[rival, metric]["questions"] == 120
    assert of_game["lora", "rougeL"]["difference"] == pytest.approx(0.1)
    # the controls themselves are compared with LoRA and with the likelihood alone, not with each other
    assert {row["rival"] for row in found if row["method"] == "gan-shuffled:lora"} == {"lora", "mle:lora"}
    grid = differences_grid(found)
    assert {line[1] for line in grid[1:]} == {"SER", "SER T=1", "right", "ROUGE-L"}
    assert "A lower SER, the slot error rate, is better" in how_to_read(found)[0]
    page = content(read_comparison(tmp_path), found)["differences"]
    assert {row["metric"] for row in page} == {"SER", "SER T=1", "right", "ROUGE-L"}


# ---- Presets


def test_the_preset_of_data_to_text_plays_as_long_as_it_says():
    settings = parse(["--preset", "data-to-text"])
    game = settings.method_config("gan:lora", seed=0)
    steps = game.num_train_epochs * -(-settings.data.train_size // game.per_device_train_batch_size)
    assert 2600 <= steps <= 2630 and game.warmup_share * steps == pytest.approx(1800, rel=0.02)
    assert game.adversarial_weight / game.max_completion_length == pytest.approx(3 / 18, rel=0.01)
    assert settings.data.prompts == ["rest", "made:2000"]
    assert settings.method_config("lora", 0).lora_learning_rate == game.learning_rate == 1e-2
    for preset in ("data-to-text", "data-to-text-short"):
        own = parse(["--preset", preset]).method_config("self-training:lora", 0)
        assert own.self_training_share == own.warmup_share, "its own answers come where the game would begin"
    assert parse(["--preset", "data-to-text", "--methods", "rerank:lora"]).comparison.methods == ["rerank:lora"]


def test_the_preset_of_gad_names_its_parts():
    game = parse(["--preset", "gad"]).method_config("gan:lora", seed=0)
    assert (game.discriminator, game.discriminator_loss, game.advantage) == ("judge", "bradley-terry", "group-norm")


# ---- A whole comparison


def test_a_comparison_of_records_runs_and_shows_its_table(tmp_path, monkeypatch, capsys):
    TINY_MODELS["gpt2"]().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    data, foods = tmp_path / "records.jsonl", ("French", "Indian", "Italian")
    rows = [
        {"meaning_representation": f"name[n{i}], food[{food}]", "text": text}
        for i in range(12)
        for food in foods[i % 3 : i % 3 + 1]
        for text in (f"n{i} serves {food} food.", f"{food} food is what n{i} has.")
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(comparison, "ALWAYS", ())
    options = {
        "--model": tmp_path / "model", "--dataset": data, "--train-size": 8, "--test-size": 4, "--device": "cpu",
        "--template": "record-line", "--num-train-epochs": 1, "--per-device-train-batch-size": 4,
        "--max-prompt-length": 40, "--max-completion-length": 8, "--num-generations": 2, "--rerank-samples": 2,
        "--discriminator-warmup-steps": 1, "--output": tmp_path / "out",
    }  # fmt: skip
    command = [str(part) for option in options.items() for part in option]
    monkeypatch.setattr(comparison, "run_in_process", lambda folder, config: run_here(folder, config))
    assert main(["--methods", "lora", "rerank:lora", "--wide", *command]) == 0
    table = capsys.readouterr().out
    assert all(told in table for told in ("SER T=1", "distinct-2 T=1", "rerank:lora / lora", "rerank:lora - lora"))
    assert "rerank:lora: its discriminator reads" in table and "2 samples, at most 16 tokens" in table
    result = json.loads((tmp_path / "out" / "comparison.json").read_text())
    for row in result["rows"]:
        assert row["metrics"]["slot_error_rate_sampled"] is not None and row["metrics"]["bleu"] is not None
        samples = [json.loads(line) for line in (tmp_path / "out" / row["directory"] / "samples.jsonl").open()]
        assert len(samples) == 4 and all(len(sample["references"]) == 2 for sample in samples)
    assert main(["--from", str(tmp_path / "out"), "--compact", "--output", str(tmp_path / "small")]) == 0
    small = json.loads((tmp_path / "small" / "comparison.json").read_text())
    assert small["differences"] == result["differences"] and small["summary"] == result["summary"]


def run_here(folder, config):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    row = run(folder)
    (folder / "metrics.json").write_text(json.dumps(row))
    return row
