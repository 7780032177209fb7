"""What a judge has said, for the eye: a table, how to read it, and how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.judge.records import read_records
from benchmarks.report.grid import markdown_table, text_table

FAIR_FIRST = (0.35, 0.65)
FEWEST_CONSISTENT = 0.6
MOST_TIES = 0.9
SMALL = 1e9
HEADING = (
    *("method - rival", "wins", "ties", "losses", "wins - losses", "95 % interval"),
    *("first place", "consistent", "as ROUGE-L", "tau"),
)


class Judged(NamedTuple):
    """One judge's verdicts on a comparison.

    Args:
        title: names the judge.
        grid: heading and a row a method.
        cautions: why it should not be taken for more than it is.
        lines: how to read it.
    """

    title: str
    grid: list[list[str]]
    cautions: list[str]
    lines: list[str]


def judged(directory: Path) -> list[Judged]:
    """What the judges of a comparison have said; nothing if there was none.

    Raises:
        UserError: as [`read_records`].
    """
    return [_judged(record) for record in read_records(directory)]


def judged_tables(directory: Path) -> list[tuple[str, str]]:
    """[`judged`] for the terminal and in Markdown."""
    return [
        (
            "\n".join([one.title, *one.cautions, text_table(one.grid), *one.lines]),
            "\n\n".join([f"## {one.title}", *one.cautions, markdown_table(one.grid), *one.lines]),
        )
        for one in judged(directory)
    ]


def cautions(record: Mapping[str, Any]) -> list[str]:
    """Why the verdicts of a judge should not be taken for quality; nothing if nothing speaks against them.

    Args:
        record: of `judge.json`, complete.
    """
    judge, lines = record["figures"]["judge"], []
    if not judge["asked"]:
        return ["caution: it has judged nothing"]
    if record["parameters"] is not None and record["parameters"] < SMALL:
        lines.append(
            f"caution: {_millions(record['parameters'])} parameters are few for a judge: its verdicts show that "
            "judging works, not which answers are better"
        )
    if record["own_model"]:
        lines.append("caution: the judge is the model that was tuned, and may prefer what it would write itself")
    if judge["consistency"] < FEWEST_CONSISTENT:
        lines.append(
            f"caution: the two orders lead to the same verdict on {judge['consistency']:.0%} of the pairs only: the "
            "verdicts are mostly noise or place, and say little about the answers"
        )
    if judge["first"] is not None and not FAIR_FIRST[0] <= judge["first"] <= FAIR_FIRST[1]:
        place = "first" if judge["first"] > FAIR_FIRST[1] else "second"
        lines.append(f"caution: position bias: the judge prefers the answer in the {place} place")
    if judge["tie"] > MOST_TIES:
        lines.append(f"caution: {judge['tie']:.0%} of the verdicts are ties: the judge hardly tells answers apart")
    return lines


def _judged(record: Mapping[str, Any]) -> Judged:
    rival, found = record["rival"], record["figures"]
    title = f"Judged by {record['identity']}, against {rival}"
    if found is None:
        stopped = f"stopped after {len(record['rows'])} of {record['pairs']} pairs; the same command goes on from there"
        return Judged(title, [[*HEADING]], [], [stopped])
    grid = [[*HEADING]] + [_cells(f"{row['method']} - {rival}", row) for row in found["methods"]]
    parameters = record["parameters"]
    size = "" if parameters is None else f" ({_millions(parameters)} parameters)"
    explained = (
        f"Judge {record['identity']}{size} read up to {record['questions']} questions a seed, the true answer, and "
        "both answers in both orders. A win is one in both orders, all else a tie."
    )
    return Judged(title, grid, cautions(record), [explained, _told(found["judge"])])


def _cells(name: str, row: Mapping[str, Any]) -> list[str]:
    interval = "-" if row["low"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}"
    shares = ["-" if row[key] is None else f"{row[key]:.0%}" for key in ("first", "consistency", "agreement")]
    margin = "-" if row["margin"] is None else f"{row['margin']:+.3f}"
    tau = "-" if row["tau"] is None else f"{row['tau']:+.2f}"
    return [name, *(str(row[key]) for key in ("wins", "ties", "losses")), margin, interval, *shares, tau]


def _told(judge: Mapping[str, Any]) -> str:
    if not judge["asked"]:
        parts = ["No pair was judged"]
    else:
        first = "-" if judge["first"] is None else f"{judge['first']:.0%}"
        parts = [
            f"The first place wins {first} of {judge['decided']} decided verdicts (50 % without position bias)",
            f"{judge['tie']:.0%} of all verdicts are ties",
            f"both orders say the same on {judge['consistency']:.0%} of {judge['asked']} pairs",
        ]
    if judge["agreement"] is not None:
        tau = "" if judge["tau"] is None else f" (Kendall's tau-b over all pairs {judge['tau']:+.2f})"
        parts.append(f"it decides {judge['agreement']:.0%} of {judge['compared']} pairs as ROUGE-L does{tau}")
    if judge["identical"]:
        parts.append(f"{judge['identical']} pairs of identical answers are ties without asking")
    if judge["not_judged"]:
        parts.append(f"{judge['not_judged']} pairs were not judged, being too long for it")
    return "; ".join(parts) + "."


def _millions(parameters: int) -> str:
    return f"{parameters / 1e9:.1f} billion" if parameters >= SMALL else f"{parameters / 1e6:.1f} million"
