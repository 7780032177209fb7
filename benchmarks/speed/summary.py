"""Medians, spread and ratios of what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

CLOCKS = ("processor", "wall")
REFERENCES = ("lora", "lora-answers")
PEER_REFERENCES = ("lora-samples", "trl-grpo")
"""What the others are divided by; with --peers, where \"lora\" does not run."""


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summarise_times(measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each setting and contender.

    Args:
        measured: the settings, each with its `contenders` and its `turns` as [`time_in_turns`] gives them.

    Returns:
        `workload`, `contender`, `extrapolated`, `turns` (how many); for both clocks median, min and max of the seconds
        a step; `parts`, the medians of each part; and `ratios` to each LoRA and to TRL, see [`ratio`].
    """
    rows = []
    for setting in measured:
        by_name = {
            name: sorted((t for t in setting["turns"] if t["contender"] == name), key=lambda t: t["repeat"])
            for name in setting["contenders"]
        }
        for name, turns in by_name.items():
            row = {
                "workload": setting["workload"],
                "contender": name,
                "extrapolated": turns[0]["extrapolated"],
                "turns": len(turns),
            }
            row |= {clock: spread([turn[clock] for turn in turns]) for clock in CLOCKS}
            row["parts"] = {
                part: {clock: statistics.median(turn["parts"][part][clock] for turn in turns) for clock in CLOCKS}
                for part in turns[0]["parts"]
            }
            row["ratios"] = {
                reference: {clock: ratio(turns, by_name[reference], clock) for clock in CLOCKS}
                for reference in (*REFERENCES, *PEER_REFERENCES)
                if reference in by_name and reference != name
            }
            rows.append(row)
    return rows


def ratio(over: Sequence[Mapping[str, Any]], under: Sequence[Mapping[str, Any]], clock: str) -> dict[str, float]:
    """The ratio of two contenders' medians, with the least and most of the rounds' own ratios."""
    rounds = [a[clock] / b[clock] for a, b in zip(over, under, strict=True)]
    medians = [statistics.median(turn[clock] for turn in turns) for turns in (over, under)]
    return {"median": medians[0] / medians[1], "min": min(rounds), "max": max(rounds)}


def find(rows: Sequence[Mapping[str, Any]], contender: str, **workload: Any) -> Mapping[str, Any] | None:
    """The row of a contender whose workload has these values; None if there is none."""
    for row in rows:
        if row["contender"] == contender and all(row["workload"][key] == value for key, value in workload.items()):
            return row
    return None
