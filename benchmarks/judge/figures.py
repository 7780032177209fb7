"""What verdicts come to: wins, ties and losses, and how far to trust the judge."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import kendalltau

from benchmarks.statistics import paired_bootstrap

Row = Mapping[str, Any]
"""One judged pair of `judge.json`: `method`, `seed`, `identical`, `rouge_gap`, and the verdicts `method_first` and
`rival_first`, where A is the first of each order; both None where there is no verdict."""


def outcome(row: Row) -> int | None:
    """1 if the method wins, -1 if the rival does, 0 for a tie; None without a verdict.

    Only an answer that is better in both orders wins, all else is a tie (Zheng et al. 2023, section 3.4). Identical
    answers are a tie, which no judge is asked about.
    """
    if row["identical"]:
        return 0
    if row["method_first"] is None or row["rival_first"] is None:
        return None
    return {("A", "B"): 1, ("B", "A"): -1}.get((row["method_first"], row["rival_first"]), 0)


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """Of all methods and of the judge.

    Returns:
        `methods`: a list of what [`against_rival`] and [`trust`] give, with `method`; `judge`: what [`trust`] gives for
        all pairs together.
    """
    methods = []
    for method in dict.fromkeys(row["method"] for row in rows):
        of_method = [row for row in rows if row["method"] == method]
        methods.append({"method": method} | against_rival(of_method) | trust(of_method))
    return {"methods": methods, "judge": trust(rows)}


def against_rival(rows: Sequence[Row]) -> dict[str, Any]:
    """One method's `wins`, `ties`, `losses`, and `margin`: wins minus losses, as a share; the mean over seeds.

    Returns:
        These, with `low` and `high`, the margin's 95 % interval by the hierarchical bootstrap over questions and seeds
        ([`paired_bootstrap`]), within -1 and 1; None where nothing tells the spread, or nothing was judged.
    """
    by_seed: dict[int, list[int]] = {}
    for row in rows:
        if (result := outcome(row)) is not None:
            by_seed.setdefault(row["seed"], []).append(result)
    counts = Counter(result for results in by_seed.values() for result in results)
    found = paired_bootstrap([*by_seed.values()]) if by_seed else None
    return {
        "wins": counts[1],
        "ties": counts[0],
        "losses": counts[-1],
        "margin": found and found.difference,
        "low": None if found is None or found.low is None else max(found.low, -1.0),
        "high": None if found is None or found.high is None else min(found.high, 1.0),
    }


def trust(rows: Sequence[Row]) -> dict[str, Any]:
    """How far the verdicts can be trusted.

    Identical answers and pairs without a verdict do not count in any share.

    Returns:
        `asked`: pairs judged in both orders; `identical` and `not_judged`: those left out.
        `decided`: verdicts that are no tie, and `first`: the share of these that prefer the first place, .5 for a judge
        without position bias; `tie`: the share of ties among all verdicts.
        `consistency`: the share of pairs on which both orders say the same, a tie included.
        `compared`: pairs that the judge and ROUGE-L both decide; `agreement`: the share of these that they decide the
        same way; `tau`: Kendall's tau-b between outcome and difference in ROUGE-L over all pairs asked.
        A share is None where there is nothing to take it of.
    """
    asked = [row for row in rows if not row["identical"] and outcome(row) is not None]
    verdicts = Counter(row[order] for row in asked for order in ("method_first", "rival_first"))
    decided = verdicts["A"] + verdicts["B"]
    alike = {("A", "B"), ("B", "A"), ("tie", "tie")}
    scored = [(outcome(row), row["rouge_gap"]) for row in asked if row["rouge_gap"] is not None]
    both = [(won, gap) for won, gap in scored if won and gap]
    return {
        "asked": len(asked),
        "identical": sum(bool(row["identical"]) for row in rows),
        "not_judged": sum(outcome(row) is None for row in rows),
        "decided": decided,
        "first": _share(verdicts["A"], decided),
        "tie": _share(verdicts["tie"], 2 * len(asked)),
        "consistency": _share(sum((row["method_first"], row["rival_first"]) in alike for row in asked), len(asked)),
        "compared": len(both),
        "agreement": _share(sum((won > 0) == (gap > 0) for won, gap in both), len(both)),
        "tau": _tau(scored),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _tau(scored: Sequence[tuple[int, float]]) -> float | None:
    if len(scored) < 2:
        return None
    with warnings.catch_warnings():  # where one side is constant there is no tau
        warnings.simplefilter("ignore")
        tau = float(kendalltau(*zip(*scored, strict=True)).statistic)
    return tau if math.isfinite(tau) else None
