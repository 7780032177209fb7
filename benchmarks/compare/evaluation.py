"""Test answers of a tuned model and their scores, the same way for every method."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
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
from gantune.metrics import Bleurt, Diversity, Rouge

METRICS = ("rouge1", "rouge2", "rougeL", "rougeLsum", "rougeL_recall", "bleurt", "nll", "distinct2", "mean_length")
Metrics = dict[str, float | None]


@dataclass
class Evaluation:
    """What came of the test pairs.

    Args:
        metrics: the headline: the first decoding, at zero noise; None for a metric that was not run.
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
    """

    def __init__(
        self, pairs: Sequence[Pair], losses: list[tuple[float, int]] | None, bleurt: str | None, device: str
    ) -> None:
        self.references, self.losses = [pair.answer for pair in pairs], losses
        self.rouge, self.bleurt = Rouge(), None if bleurt is None else Bleurt(bleurt, device=device)
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
            scores = self.bleurt.score_pairs(answers, self.references)
            metrics["bleurt"] = sum(scores) / len(scores)
            for row, score in zip(rows, scores, strict=True):
                row["bleurt"] = score
        return metrics, rows


def evaluate(
    tuned: Tuned,
    pairs: Sequence[Pair],
    directory: Path,
    base_answers: list[str] | None,
    bleurt: str | None,
    device: str,
    decodings: Sequence[Decoding] = (Decoding(),),
    noise_draws: int = 0,
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
    """
    questions = [pair.question for pair in pairs]
    if tuned.model is None:  # nothing to decode
        decodings = decodings[:1]
    scorer = Scorer(pairs, tuned.losses(pairs), bleurt, device)
    by_decoding: dict[str, Metrics] = {}
    for decoding in reversed(decodings):  # the headline's answers and scores are the last ones, and stay
        tuned.decoding = decoding
        answers = tuned.answer(questions)
        metrics, scores = scorer.score(answers)
        by_decoding = {str(decoding): metrics} | by_decoding
    with JsonLines(directory / "samples.jsonl") as samples:
        for index, (pair, answer, row) in enumerate(zip(pairs, answers, scores, strict=True)):
            base = base_answers[index] if base_answers else None
            sample = {"question": pair.question, "reference": pair.answer, "base_answer": base, "answer": answer}
            samples.write(sample | {"scores": row})
    cost = decoding_cost(decodings[0], getattr(tuned, "report", None), len(pairs))
    noise = noise_figures(tuned, pairs, noise_draws, decodings[0].seed)
    return Evaluation(metrics, scorer.not_run, by_decoding if len(decodings) > 1 else None, noise, cost)


def noise_figures(tuned: Tuned, pairs: Sequence[Pair], draws: int, seed: int) -> dict[str, Any] | None:
    """ROUGE-L under random noise, one vector a question and draw.

    Args:
        tuned: answers, decoded as it is set to.
        pairs: questions and true answers.
        draws: how often.
        seed: of the noise.

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
        rows = rouge.score_pairs(answers, [pair.answer for pair in pairs])
        means.append(fmean(row["rougeL"] for row in rows))
    return {"draws": draws, "rougeL": {"mean": fmean(means), "sd": stdev(means) if draws > 1 else None}}


def base_answers(path: str | None) -> list[str] | None:
    """The answers in another run's `samples.jsonl`; None if there is no such file."""
    if path is None or not Path(path).is_file():
        return None
    lines = Path(path).read_text(encoding="utf-8").split("\n")  # splitlines would break at U+2028 in an answer
    return [json.loads(line)["answer"] for line in lines if line]
