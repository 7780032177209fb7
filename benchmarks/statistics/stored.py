"""Per-question scores of stored runs; see [`benchmarks.compare.answers`]."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.compare.answers import Answers, read_samples
from gantune.errors import UserError

Run = Answers | str | Path
"""The answers of a run, or its `samples.jsonl`."""


class Answered(NamedTuple):
    """The questions of one run and the score of each answer."""

    where: str
    questions: list[str]
    scores: list[float]


def paired_differences(method: Sequence[Run], rival: Sequence[Run], metric: str) -> list[np.ndarray]:
    """Differences for `paired_bootstrap` from the answers of two methods, the same seeds in the same order.

    Returns:
        Per seed an array `[questions]`, method minus rival.

    Raises:
        UserError: naming file and line where the questions or their number differ, or a score is missing.
    """
    if len(method) != len(rival):
        raise UserError(f"{len(method)} runs of the method and {len(rival)} of its rival: expected one of each a seed")
    differences = []
    for own_run, other_run in zip(method, rival, strict=True):
        own, other = _scored(own_run, metric), _scored(other_run, metric)
        _check_same_questions(own, other)
        differences.append(np.subtract(own.scores, other.scores))
    return differences


def stored_scores(runs: Mapping[str, Mapping[int, Run]], metric: str) -> dict[str, dict[int, list[float]]]:
    """Scores for `compare_methods`.

    Args:
        runs: by method and seed.
        metric: a name under their `scores`.

    Raises:
        UserError: naming file and line where two methods of a seed answer different questions, or a score is missing.
    """
    scores: dict[str, dict[int, list[float]]] = {}
    first_of_seed: dict[int, Answered] = {}
    for method, of_method in runs.items():
        scores[method] = {}
        for seed, run in of_method.items():
            answered = _scored(run, metric)
            _check_same_questions(answered, first_of_seed.setdefault(seed, answered))
            scores[method][seed] = answered.scores
    return scores


def _scored(run: Run, metric: str) -> Answered:
    where, samples = run if isinstance(run, Answers) else read_samples(run)
    answered = Answered(where, [], [])
    for number, sample in enumerate(samples, start=1):
        try:
            question, scores = sample["question"], sample["scores"]
            score = scores.get(metric)
        except (KeyError, AttributeError) as error:
            raise UserError(f"{where}, line {number}: expected a JSON object with question and scores") from error
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score):
            raise UserError(
                f"{where}, line {number}: no number in scores.{metric}; there is {', '.join(scores) or 'nothing'}"
            )
        answered.questions.append(question)
        answered.scores.append(float(score))
    if not answered.questions:
        raise UserError(f"{where}, line 1: the file is empty, expected a JSON object for each question")
    return answered


def _check_same_questions(own: Answered, other: Answered) -> None:
    for number, (question, expected) in enumerate(zip(own.questions, other.questions, strict=False), start=1):
        if question != expected:
            raise UserError(f"{own.where}, line {number}: question {question!r}, but {expected!r} in {other.where}")
    if len(own.questions) != len(other.questions):
        shorter, longer = sorted((own, other), key=lambda answered: len(answered.questions))
        raise UserError(
            f"{shorter.where}, line {len(shorter.questions) + 1}: the file ends, "
            f"but {longer.where} has {len(longer.questions)} questions"
        )
