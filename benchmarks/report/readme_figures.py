"""Puts the figures of the stored reference runs into README: `python -m benchmarks.report.readme_figures`.

Each stands between two comments that a reader of the page does not see, the first of which says what it is:
`<!--figure rouge mini gan-->.421 ±.045<!--/figure-->`. So no figure there is typed by hand; a test sees to it.
"""

from __future__ import annotations

import functools
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.report.differences import RECORD_METRICS_COMPARED
from benchmarks.report.grid import markdown_table
from benchmarks.report.terminal_table import RECORD_COLUMNS
from gantune.command import exit_status
from gantune.diagnostics import write_atomically
from gantune.errors import UserError
from gantune.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "results" / "reference"
MARKED = re.compile(r"<!--figure ([^>]*?)-->(.*?)<!--/figure-->", re.DOTALL)

FIGURES = Registry("figure")


@functools.cache
def _stored(name: str) -> Any:
    try:
        return json.loads((REFERENCE / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{REFERENCE / name}: cannot be read ({error})") from error


@FIGURES.register("printed")
def printed(file: str) -> str:
    """What a command printed: its heading and first table, in a block of their own."""
    lines = (REFERENCE / file).read_text(encoding="utf-8").splitlines()
    heading = next(index for index, line in enumerate(lines) if line.startswith("model "))
    table = next(index for index, line in enumerate(lines) if line.startswith("method "))
    end = next((index for index in range(table, len(lines)) if not lines[index]), len(lines))
    return "\n".join(["", "```text", lines[heading], *lines[table:end], "```", ""])


@FIGURES.register("rouge")
def rouge(run: str, method: str) -> str:
    """Mean ROUGE-L of a method over the seeds, with half of the interval."""
    return _mean(_stored(f"{run}/comparison.json")["summary"][method]["rougeL"])


RECORD_MEANS = ("slot_error_rate", "slot_error_rate_sampled", "right_texts", "rougeL", "distinct2_sampled")


@FIGURES.register("records")
def records(run: str, *methods: str) -> str:
    """The means of methods on records over the seeds, each with half of its interval, and the seconds of training."""
    summary = _stored(f"{run}/comparison.json")["summary"]
    columns = {column.key: column for column in RECORD_COLUMNS}
    grid = [["method", *(columns[key].heading for key in (*RECORD_MEANS, "train_seconds"))]]
    for method in methods:
        seconds = summary[method]["train_seconds"]["mean"]
        told = "-" if seconds is None else columns["train_seconds"].write(seconds)
        grid.append([f"`{method}`", *(_mean(summary[method][key]) for key in RECORD_MEANS), told])
    return f"\n\n{markdown_table(grid)}\n\n"


@FIGURES.register("record-differences")
def record_differences(run: str, *pairs: str) -> str:
    """Paired differences on records with their intervals; a pair is METHOD,RIVAL."""
    grid = [["difference", *RECORD_METRICS_COMPARED.values()]]
    for method, rival in (pair.split(",") for pair in pairs):
        cells = [difference(run, method, rival, metric) for metric in RECORD_METRICS_COMPARED]
        grid.append([f"`{method}` minus `{rival}`", *cells])
    return f"\n\n{markdown_table(grid)}\n\n"


def _mean(figure: dict[str, Any]) -> str:
    if figure["mean"] is None:
        return "-"
    half_width = f" ±{figure['half_width']:.3f}".replace("0.", ".") if figure["half_width"] else ""
    return f"{figure['mean']:.3f}".removeprefix("0") + half_width


@FIGURES.register("ratio")
def ratio(run: str, method: str, figure: str) -> str:
    """A figure of a method divided by LoRA's."""
    return f"{_stored(f'{run}/comparison.json')['summary'][method][figure]['ratio_to_lora']:.1f}"


@FIGURES.register("difference")
def difference(run: str, method: str, rival: str, metric: str) -> str:
    """A paired difference with its interval."""
    rows = _stored(f"{run}/comparison.json")["differences"]
    row = next(row for row in rows if (row["method"], row["rival"], row["metric"]) == (method, rival, metric))
    return f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})".replace("0.", ".")


@FIGURES.register("table")
def table(file: str) -> str:
    """The first table of a Markdown file."""
    lines = (REFERENCE / file).read_text(encoding="utf-8").splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("|"))
    end = next((index for index in range(start, len(lines)) if not lines[index].startswith("|")), len(lines))
    return "\n".join(["", "", *lines[start:end], "", ""])


def _oracle(run: str, method: str) -> list[dict[str, Any]]:
    return [row for row in _stored(f"{run}/oracle.json")["rows"] if row["method"] == method]


@FIGURES.register("oracle-gain")
def oracle_gain(run: str, method: str) -> str:
    """How far a method's NLL_oracle falls below its maximum-likelihood start."""
    start = {row["seed"]: row["nll_oracle"] for row in _oracle(run, "mle")}
    return f"{statistics.fmean(start[row['seed']] - row['nll_oracle'] for row in _oracle(run, method)):.2f}"


@FIGURES.register("oracle-nll")
def oracle_nll(run: str, *method: str) -> str:
    """NLL_oracle of a method."""
    return f"{statistics.fmean(row['nll_oracle'] for row in _oracle(run, ' '.join(method))):.2f}"


@FIGURES.register("oracle-epoch")
def oracle_epoch(run: str, epoch: str) -> str:
    """NLL_oracle of maximum likelihood after an epoch, counted from 0 as the released code's log does."""
    values = [
        row["nll_oracle"] for trained in _oracle(run, "mle") for row in trained["history"] if row["epoch"] == int(epoch)
    ]
    return f"{statistics.fmean(values):.2f}"


@FIGURES.register("profiled")
def profiled(number: str, *search: str) -> str:
    """How many times as long a search takes as copied states do, of the number-th command of the profile."""
    commands = (REFERENCE / "oracle-profile.txt").read_text(encoding="utf-8").split("$ ")[1:]
    line = next(line for line in commands[int(number) - 1].splitlines() if line.startswith(" ".join(search)))
    return re.search(r"([\d.]+) x", line)[1]


def filled(text: str) -> str:
    """The text with the present figures at its marks.

    Raises:
        UserError: naming a mark that is not known or that the stored runs cannot fill.
    """

    def fill(mark: re.Match[str]) -> str:
        name, *arguments = mark.group(1).split()
        try:
            value = FIGURES.get(name)(*arguments)
        except (LookupError, StopIteration, TypeError, statistics.StatisticsError) as error:
            raise UserError(f"README.md: figure {mark.group(1)!r} is not in the stored runs ({error!r})") from error
        return f"<!--figure {mark.group(1)}-->{value}<!--/figure-->"

    return MARKED.sub(fill, text)


def main() -> int:
    """Fill README in place."""

    def command() -> None:
        file = ROOT / "README.md"
        write_atomically(file, filled(file.read_text(encoding="utf-8")))

    return exit_status(command, "README is as it was")


if __name__ == "__main__":
    sys.exit(main())
