"""What each method's answers cost to decode, and whether that is the same for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from gantune.generation.decoding import Decoding
from gantune.generation.generate import DecodingReport


def decoding_cost(decoding: Decoding, report: DecodingReport | None, questions: int) -> dict[str, float] | None:
    """Of one question, for a row of the comparison.

    Args:
        decoding: of the answers.
        report: what they took; None, or without tokens, for a method without a language model.
        questions: how many were answered.

    Returns:
        `samples`, `limit` (tokens that might have been decoded, of all samples and their reasoning), `new_tokens` and
        `prompt_tokens` (decoded and read, means over the questions), `judged_tokens` (read by a discriminator that
        chooses among the samples, mean over the questions), `undecided` (of a vote: how many questions had no
        two equal samples; None otherwise), and the number of `questions`.
    """
    if report is None or not report.limit:
        return None
    vote = decoding.samples > 1 and decoding.choice == "vote"
    return {
        "samples": max(decoding.samples, report.samples),
        "limit": report.limit / questions,
        "new_tokens": report.new_tokens / questions,
        "prompt_tokens": report.prompt_tokens / questions,
        "judged_tokens": report.judged_tokens / questions,
        "undecided": report.undecided if vote else None,
        "questions": questions,
    }


def cost_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The cost of each method in one line, with a caution where some may decode more than others.

    Args:
        rows: of a comparison; those stored before costs were are passed over.
    """
    costs: dict[str, list[Mapping[str, float]]] = {}
    for row in rows:
        if row["status"] == "success" and row.get("decoding_cost"):
            costs.setdefault(row["method"], []).append(row["decoding_cost"])
    if not costs:
        return []
    groups: dict[str, list[str]] = {}
    for method, of_method in costs.items():
        groups.setdefault(_allowed(of_method), []).append(
            f"{method} {_mean(of_method, 'new_tokens')} ({_mean(of_method, 'prompt_tokens')})"
        )
    told = "; ".join(f"{allowed}: {', '.join(methods)}" for allowed, methods in groups.items())
    lines = [f"Decoding cost a question, tokens decoded (and read): {told}"]
    if len(groups) > 1:
        lines.append(
            "caution: decoding costs differ, so methods of different groups are not compared at equal cost: give all "
            "of them the same --decoding and --reasoning-tokens"
        )
    for method, of_method in costs.items():
        if any(cost.get("judged_tokens") for cost in of_method):
            lines.append(
                f"{method}: its discriminator reads {_mean(of_method, 'judged_tokens')} more tokens a question"
            )
        votes = [cost for cost in of_method if cost["undecided"] is not None]
        if undecided := sum(cost["undecided"] for cost in votes):
            lines.append(
                f"{method}: no two samples agree on {undecided:.0f} of {sum(cost['questions'] for cost in votes):.0f} "
                "questions: the vote takes the first sample there"
            )
    return lines


def _allowed(costs: Sequence[Mapping[str, float]]) -> str:
    samples = costs[0]["samples"]
    return f"{samples:.0f} sample{'s' if samples > 1 else ''}, at most {_mean(costs, 'limit')} tokens"


def _mean(costs: Sequence[Mapping[str, float]], figure: str) -> str:
    return f"{fmean(cost[figure] for cost in costs):.0f}"
