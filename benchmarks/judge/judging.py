"""Ask a judge about the stored answers of a comparison, and keep what it says in `judge.json`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.judge.answers import AnswerPair, answer_pairs
from benchmarks.judge.base import VERDICTS, Judge
from benchmarks.judge.figures import figures
from benchmarks.judge.language_model import LanguageModelJudge
from benchmarks.judge.records import read_records, write_records
from gantune.errors import UserError

PAIRS_BETWEEN_WRITES = 16


def judge_comparison(
    directory: Path,
    rows: Sequence[Mapping[str, Any]],
    judge: Judge,
    rival: str,
    questions: int,
    tuned_model: str | None = None,
) -> dict[str, Any]:
    """The judge's record, complete; what it has judged before is not asked again.

    A pair counts as judged before if its four texts are the same. The number of questions never falls: an earlier
    command's larger one stays.

    Args:
        directory: of the comparison.
        rows: its runs.
        judge: gives the verdicts.
        rival: the method that the others are set against.
        questions: of each seed.
        tuned_model: the model of the comparison.

    Raises:
        UserError: as [`answer_pairs`], if `judge.json` is of another kind, or the judge gives no verdicts.
    """
    others = [record for record in read_records(directory) if not _is_of(record, judge.identity, rival)]
    before = next((record for record in read_records(directory) if _is_of(record, judge.identity, rival)), {})
    questions = max(questions, before.get("questions", 0))
    pairs = answer_pairs(directory, rows, rival, questions)
    known = {row["texts"]: (row["method_first"], row["rival_first"]) for row in before.get("rows", ())}
    judged = [_row(pair, known[pair.digest]) for pair in pairs if pair.digest in known]
    record = {
        "identity": judge.identity,
        "parameters": before.get("parameters"),
        "rival": rival,
        "questions": questions,
        "own_model": _is_model(judge, tuned_model),
        "pairs": len(pairs),
        "rows": judged,
        "figures": None,
    }

    left = [pair for pair in pairs if pair.digest not in known]
    for start in range(0, len(left), PAIRS_BETWEEN_WRITES):
        part = left[start : start + PAIRS_BETWEEN_WRITES]
        print(f"[judging] pair {len(judged) + 1} of {len(pairs)}, {part[0].method}", file=sys.stderr, flush=True)
        judged += _ask(judge, part)
        record["parameters"] = judge.parameters
        write_records(directory, [*others, record])
    order = {(pair.method, pair.seed, pair.place): index for index, pair in enumerate(pairs)}
    judged.sort(key=lambda row: order[row["method"], row["seed"], row["place"]])
    record["figures"] = figures(judged)
    write_records(directory, [*others, record])
    return record


def _ask(judge: Judge, pairs: Sequence[AnswerPair]) -> list[dict[str, Any]]:
    """The rows of some pairs; both orders of all of them are asked at once, identical answers not at all."""
    differing = [pair for pair in pairs if not pair.identical]
    verdicts = judge.verdicts([duel for pair in differing for duel in pair.duels()]) if differing else []
    if len(verdicts) != 2 * len(differing) or {*verdicts} - {*VERDICTS, None}:
        raise UserError(f"judge {judge.identity}: expected {', '.join(VERDICTS)} or None for each pair of answers")
    said = {id(pair): (verdicts[2 * i], verdicts[2 * i + 1]) for i, pair in enumerate(differing)}
    return [_row(pair, said.get(id(pair), (None, None))) for pair in pairs]


def _row(pair: AnswerPair, verdicts: tuple[str | None, str | None]) -> dict[str, Any]:
    return {
        "method": pair.method,
        "seed": pair.seed,
        "place": pair.place,
        "texts": pair.digest,
        "rouge_gap": pair.rouge_gap,
        "identical": pair.identical,
        "method_first": verdicts[0],
        "rival_first": verdicts[1],
    }


def _is_of(record: Mapping[str, Any], identity: str, rival: str) -> bool:
    return (record["identity"], record["rival"]) == (identity, rival)


def _is_model(judge: Judge, tuned_model: str | None) -> bool:
    if tuned_model is None or not isinstance(judge, LanguageModelJudge):
        return False
    return judge.name == tuned_model or Path(judge.name).absolute() == Path(tuned_model).absolute()
