"""Per-question scores of stored runs, as `benchmarks.compare.run` leaves them in `samples.jsonl`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gantune.errors import UserError


class Answered(NamedTuple):
    """The questions of one run and the score of each answer."""

    file: Path
    questions: list[str]
    scores: list[float]


def paired_differences(method: Sequence[str | Path], rival: Sequence[str | Path], metric: str) -> list[np.ndarray]:
    """Differences for `paired_bootstrap` from the `samples.jsonl` of two methods, the same seeds in the same order.

    Returns:
        Per seed an array `[questions]`, method minus rival.

    Raises:
        UserError: naming file and line where the questions or their number differ, or a score is missing.
    """
    if len(method) != len(rival):
        raise UserError(f"{len(method)} runs of the method and {len(rival)} of its rival: expected one of each a seed")
    differences = []
    for own_file, other_file in zip(method, rival, strict=True):
        own, other = _read(own_file, metric), _read(other_file, metric)
        _check_same_questions(own, other)
        differences.append(np.subtract(own.scores, other.scores))
    return differences


def stored_scores(runs: Mapping[str, Mapping[int, str | Path]], metric: str) -> dict[str, dict[int, list[float]]]:
    """Scores for `compare_methods`.

    Args:
        runs: by method and seed the `samples.jsonl`.
        metric: a name under `scores` in these files.

    Raises:
        UserError: naming file and line where two methods of a seed answer different questions, or a score is missing.
    """
    scores: dict[str, dict[int, list[float]]] = {}
    first_of_seed: dict[int, Answered] = {}
    for method, files in runs.items():
        scores[method] = {}
        for seed, file in files.items():
            answered = _read(file, metric)
            _check_same_questions(answered, first_of_seed.setdefault(seed, answered))
            scores[method][seed] = answered.scores
    return scores


def _read(file: str | Path, metric: str) -> Answered:
    file = Path(file)
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as samples.jsonl of a run ({error})") from error
    answered = Answered(file, [], [])
    for number, line in enumerate(lines if lines[-1] else lines[:-1], start=1):
        try:
            sample = json.loads(line)
            question, scores = sample["question"], sample["scores"]
            score = scores.get(metric)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{file}, line {number}: expected a JSON object with question and scores") from error
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score):
            raise UserError(
                f"{file}, line {number}: no number in scores.{metric}; there is {', '.join(scores) or 'nothing'}"
            )
        answered.questions.append(question)
        answered.scores.append(float(score))
    if not answered.questions:
        raise UserError(f"{file}, line 1: the file is empty, expected a JSON object for each question")
    return answered


def _check_same_questions(own: Answered, other: Answered) -> None:
    for number, (question, expected) in enumerate(zip(own.questions, other.questions, strict=False), start=1):
        if question != expected:
            raise UserError(f"{own.file}, line {number}: question {question!r}, but {expected!r} in {other.file}")
    if len(own.questions) != len(other.questions):
        shorter, longer = sorted((own, other), key=lambda answered: len(answered.questions))
        raise UserError(
            f"{shorter.file}, line {len(shorter.questions) + 1}: the file ends, "
            f"but {longer.file} has {len(longer.questions)} questions"
        )
