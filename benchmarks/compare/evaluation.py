"""Test answers of a tuned model and their scores, the same way for every method."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from baselines import Tuned
from benchmarks.compare.decoding_cost import decoding_cost
from gantune.data import Pair
from gantune.diagnostics import JsonLines
from gantune.embedding_generator import draw_noise, noise_dim
from gantune.generation.decoding import Decoding
from gantune.metrics import Bleu, Bleurt, Diversity, Rouge, SlotMatcher
from gantune.metrics.slots import count_slots, records_of, slot_figures

METRICS = (
    *("rouge1", "rouge2", "rougeL", "rougeLsum", "rougeL_recall", "bleurt"),
    *("nll", "distinct2", "unique", "mean_length"),
)
ERRORS = ("slot_error_rate", "missing", "wrong", "added", "right_texts")
SAMPLED = (*ERRORS, "distinct2", "unique", "rougeL", "bleu")
"""What is also told of answers to records that are sampled at temperature 1, as `..._sampled`."""
SAMPLED_SCORES = ("slot_errors", "rougeL")
"""The same of the scores of each answer."""
RECORD_METRICS = (
    *(*ERRORS, "bleu"),
    *(f"{name}_sampled" for name in SAMPLED),
)
"""Metrics of texts about records, beside the others."""
Metrics = dict[str, float | None]


@dataclass
class Evaluation:
    """What came of the test pairs.

    Args:
        metrics: the headline: the first decoding, at zero noise; None for a metric that was not run. Where the
            questions are records, `..._sampled` are of samples at temperature 1.
        not_run: why, by metric.
        by_decoding: metrics of every decoding by its name, if there are several.
        noise: `draws`, and `mean` and `sd` over them of `rougeL`; None for a model that takes no noise.
        decoding_cost: of the headline, see [`benchmarks.compare.decoding_cost`]; None without a language model.
    """

    metrics: Metrics
    not_run: dict[str, str]
    by_decoding: dict[str, Metrics] | None
    noise: dict[str, Any] | None
    decoding_cost: dict[str, float] | None = None


class Scorer:
    """Scores answers to the same questions again and again.

    Args:
        pairs: questions and true answers.
        losses: (nats, tokens) of each true answer; None without a language model.
        bleurt: checkpoint; None for none.
        device: of BLEURT.
        references: all true answers to each question; those of the pairs if None. Of ROUGE and BLEURT the best counts.
        slots: patterns of slot errors, see [`SlotMatcher.for_records`]; they are counted where every question is a
            record.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        losses: list[tuple[float, int]] | None,
        bleurt: str | None,
        device: str,
        references: Sequence[Sequence[str]] | None = None,
        slots: str | None = None,
    ) -> None:
        self.references, self.losses = references or [[pair.answer] for pair in pairs], losses
        self.rouge, self.bleurt = Rouge(), None if bleurt is None else Bleurt(bleurt, device=device)
        self.records = records_of([pair.question for pair in pairs])
        self.matcher = SlotMatcher.for_records(self.records, slots) if self.records else None
        self.not_run: dict[str, str] = {}
        if losses is None:
            self.not_run["nll"] = "no language model"
        if bleurt is None:
            self.not_run["bleurt"] = "no checkpoint (--bleurt PATH or Hub id)"

    def score(self, answers: list[str]) -> tuple[Metrics, list[dict[str, float]]]:
        """Metrics of all answers, and the scores of each."""
        metrics: Metrics = dict.fromkeys(METRICS)
        rows = self.rouge.score_pairs(answers, self.references)
        metrics |= {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        metrics |= Diversity().compute(predictions=answers)
        if self.losses is not None:
            metrics["nll"] = sum(nats for nats, _ in self.losses) / sum(tokens for _, tokens in self.losses)
            for row, (nats, tokens) in zip(rows, self.losses, strict=True):
                row |= {"nll": nats / tokens, "tokens": tokens}
        if self.bleurt is not None:
            scores = self._best_bleurt(answers)
            metrics["bleurt"] = sum(scores) / len(scores)
            for row, score in zip(rows, scores, strict=True):
                row["bleurt"] = score
        if self.matcher is not None:
            metrics |= dict.fromkeys(RECORD_METRICS) | self._score_slots(answers, rows)
            metrics |= Bleu().compute(predictions=answers, references=self.references)
        return metrics, rows

    def _best_bleurt(self, answers: list[str]) -> list[float]:
        each = [(answer, reference) for answer, of in zip(answers, self.references, strict=True) for reference in of]
        scores = iter(self.bleurt.score_pairs(*map(list, zip(*each, strict=True))))
        return [max(itertools.islice(scores, len(of_answer))) for of_answer in self.references]

    def _score_slots(self, answers: list[str], rows: list[dict[str, float]]) -> dict[str, float]:
        errors = [self.matcher.errors(record, answer) for record, answer in zip(self.records, answers, strict=True)]
        slots = [count_slots(record) for record in self.records]
        for row, found, values in zip(rows, errors, slots, strict=True):
            row |= {"slot_errors": sum(found), **found._asdict(), "slots": values, "right": int(not any(found))}
        return slot_figures(errors, sum(slots))


def with_samples(decodings: Sequence[Decoding]) -> list[Decoding]:
    """The decodings, and samples at temperature 1 among them: greedy answers alone say little of a distribution."""
    sampled = replace(decodings[0], samples=1, temperature=1.0)
    return [*decodings] if any(map(_is_sample, decodings)) else [*decodings, sampled]


def _is_sample(decoding: Decoding) -> bool:
    return (decoding.samples, decoding.temperature) == (1, 1.0)


def evaluate(
    tuned: Tuned,
    pairs: Sequence[Pair],
    directory: Path,
    base_answers: list[str] | None,
    bleurt: str | None,
    device: str,
    decodings: Sequence[Decoding] = (Decoding(),),
    noise_draws: int = 0,
    references: Sequence[Sequence[str]] | None = None,
    slots: str | None = None,
) -> Evaluation:
    """Scores on the test pairs; the headline's answers with their scores go to `samples.jsonl`.

    Args:
        tuned: answers.
        pairs: questions and true answers.
        directory: of the run.
        base_answers: the untuned model's, to stand beside; None for none.
        bleurt: checkpoint; None for none.
        device: of BLEURT.
        decodings: all are evaluated, the first is the headline.
        noise_draws: see [`noise_figures`].
        references: see [`Scorer`]; where there are several, they are in `samples.jsonl`.
        slots: see [`Scorer`].
    """
    questions = [pair.question for pair in pairs]
    if tuned.model is None:  # nothing to decode
        decodings = decodings[:1]
    scorer = Scorer(pairs, tuned.losses(pairs), bleurt, device, references, slots)
    scored: dict[Decoding, tuple[Metrics, list[dict[str, float]]]] = {}
    for decoding in reversed(decodings):  # the headline's answers are the last ones, and stay
        tuned.decoding = decoding
        answers = tuned.answer(questions)
        scored = {decoding: scorer.score(answers)} | scored
    by_decoding = {str(decoding): dict(metrics) for decoding, (metrics, _) in scored.items()}
    metrics, scores = scored[decodings[0]]
    sampled = next((of for decoding, of in scored.items() if _is_sample(decoding)), None)
    if scorer.records and sampled and tuned.model is not None:
        metrics |= {f"{name}_sampled": sampled[0][name] for name in SAMPLED}
        for row, of_sample in zip(scores, sampled[1], strict=True):
            row |= {f"{name}_sampled": of_sample[name] for name in SAMPLED_SCORES}
    with JsonLines(directory / "samples.jsonl") as samples:
        for index, (pair, answer, row) in enumerate(zip(pairs, answers, scores, strict=True)):
            base = base_answers[index] if base_answers else None
            several = {"references": list(references[index])} if references else {}
            sample = {"question": pair.question, "reference": pair.answer, **several, "base_answer": base}
            samples.write(sample | {"answer": answer, "scores": row})
    cost = decoding_cost(decodings[0], getattr(tuned, "report", None), len(pairs))
    noise = noise_figures(tuned, pairs, noise_draws, decodings[0].seed, references)
    return Evaluation(metrics, scorer.not_run, by_decoding if len(decodings) > 1 else None, noise, cost)


def noise_figures(
    tuned: Tuned, pairs: Sequence[Pair], draws: int, seed: int, references: Sequence[Sequence[str]] | None = None
) -> dict[str, Any] | None:
    """ROUGE-L under random noise, one vector a question and draw.

    Args:
        tuned: answers, decoded as it is set to.
        pairs: questions and true answers.
        draws: how often.
        seed: of the noise.
        references: see [`Scorer`].

    Returns:
        `draws`, and of `rougeL` the `mean` and the sample standard deviation `sd` over the draws' means (None for one
        draw); None without draws, or if the model takes no noise.
    """
    if not draws or tuned.model is None or noise_dim(tuned.model) is None:
        return None
    generator, rouge, means = torch.Generator().manual_seed(seed), Rouge(), []
    for _ in range(draws):
        noise = draw_noise(tuned.model, len(pairs), generator)
        answers = tuned.answer([pair.question for pair in pairs], noise=noise)
        rows = rouge.score_pairs(answers, references or [pair.answer for pair in pairs])
        means.append(fmean(row["rougeL"] for row in rows))
    return {"draws": draws, "rougeL": {"mean": fmean(means), "sd": stdev(means) if draws > 1 else None}}


def base_answers(path: str | None) -> list[str] | None:
    """The answers in another run's `samples.jsonl`; None if there is no such file."""
    if path is None or not Path(path).is_file():
        return None
    lines = Path(path).read_text(encoding="utf-8").split("\n")  # splitlines would break at U+2028 in an answer
    return [json.loads(line)["answer"] for line in lines if line]
