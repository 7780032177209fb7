"""Puts stored figures into README and the pages of docs: `python -m benchmarks.report.readme_figures`.

A block stands between two comments that a reader of the page does not see; the first says what is in it:
`<!--figure means mini rougeL,nll lora gan-->` ... `<!--/figure-->`. So no figure is typed by hand; a test sees to it.
"""

from __future__ import annotations

import functools
import json
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.oracle.methods import METHODS
from benchmarks.report.differences import OF_ALL
from benchmarks.report.grid import markdown_table
from benchmarks.report.verdict import LEVEL
from benchmarks.speed.kept_quality import compare
from gantune.command import OneLineParser, exit_status
from gantune.diagnostics import write_atomically
from gantune.errors import UserError
from gantune.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "results" / "reference"
MARKED = re.compile(r"<!--figure ([^>]*?)-->(.*?)<!--/figure-->", re.DOTALL)

FIGURES = Registry("figure")
HEADINGS = {
    "rougeL": "ROUGE-L",
    "nll": "NLL",
    "slot_error_rate": "slot errors",
    "slot_error_rate_sampled": "slot errors of samples",
    "right_texts": "texts without an error",
    "distinct2_sampled": "different word pairs in samples",
    "train_seconds": "training time",
    "peak_memory_bytes": "peak memory",
}
"""What a figure is called where it is a heading."""
LOWER_IS_BETTER = {"nll", "slot_error_rate", "slot_error_rate_sampled"}
QUALITY = ("slot_error_rate", "slot_error_rate_sampled", "right_texts", "rougeL")
"""The measures of texts about records, in the order in which they are told."""
COSTS = ("train_seconds", "peak_memory_bytes")


@functools.cache
def _stored(name: str) -> Any:
    try:
        return json.loads((REFERENCE / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{REFERENCE / name}: cannot be read ({error})") from error


# ----------------------------------------------------------------------------------------- what was printed, and code


@FIGURES.register("printed")
def printed(file: str) -> str:
    """What a command printed."""
    return _fenced("text", (REFERENCE / file).read_text(encoding="utf-8"))


@FIGURES.register("table-printed")
def table_printed(file: str) -> str:
    """What a comparison printed, from its heading to the end of its first table."""
    text = (REFERENCE / file).read_text(encoding="utf-8")
    heading = text.index("model ")
    return _fenced("text", text[heading : text.index("\n\n", text.index("\nmethod ", heading))])


@FIGURES.register("example")
def example(name: str) -> str:
    """A program of `examples/`, without the docstring above it."""
    source = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    return _fenced("python", source.split('"""', 2)[2])


def _fenced(language: str, text: str) -> str:
    return f"\n\n```{language}\n{text.strip()}\n```\n\n"


# ---------------------------------------------------------------------------------------------- comparisons of methods


@FIGURES.register("means")
def means(run: str, figures: str, *methods: str) -> str:
    """The means of methods over the seeds, each with half of its interval; a row a method."""
    summary, keys = _stored(f"{run}/comparison.json")["summary"], figures.split(",")
    rows = [[f"`{method}`", *(_mean(key, summary[method][key]) for key in keys)] for method in methods]
    return _block([["method", *(HEADINGS[key] for key in keys)], *rows])


@FIGURES.register("differences")
def differences(run: str, figures: str, *pairs: str) -> str:
    """Paired differences with their intervals; a pair is METHOD,RIVAL, and a row of the table."""
    keys = figures.split(",")
    rows = []
    for method, rival in (pair.split(",") for pair in pairs):
        rows.append([f"`{method}` minus `{rival}`", *(_difference(run, method, rival, key) for key in keys)])
    return _block([["difference", *(HEADINGS[key] for key in keys)], *rows])


@FIGURES.register("against")
def against(run: str, method: str, *rivals: str) -> str:
    """A method beside its rivals on records, a measure a row: means, differences with intervals, ratios of cost."""
    summary = _stored(f"{run}/comparison.json")["summary"]
    grid = [["", *(f"`{name}`" for name in (*rivals, method)), *(f"against `{rival}`" for rival in rivals)]]
    for key in QUALITY:
        wanted = "lower" if key in LOWER_IS_BETTER else "higher"
        cells = [_mean(key, summary[name][key]) for name in (*rivals, method)]
        grid.append(
            [f"{HEADINGS[key]} ({wanted} is better)", *cells, *(_difference(run, method, r, key) for r in rivals)]
        )
    for key, found in (("distinct2_sampled", summary), *((key, _costs(run)) for key in COSTS)):
        values = {name: found[name][key]["mean"] for name in (*rivals, method)}
        cells = [_mean(key, found[name][key]) for name in values]
        grid.append([HEADINGS[key], *cells, *(_times(values[method] / values[rival]) for rival in rivals)])
    data = _stored(f"{run}/comparison.json")["settings"]["data"]
    grid[0][0] = f"{data['train_size']} pairs to train, {data['test_size']} records to test, {_seeds(run)} seeds"
    return _block(grid)


@FIGURES.register("verdict")
def verdict(run: str, method: str, *rivals: str) -> str:
    """What the differences of [`against`] show, in words: a sentence a rival, and one about the price.

    As in a comparison's own verdict, what Holm's correction leaves is shown.
    """
    open_in = f"in {{}} {_seeds(run)} seeds cannot tell, "
    kinds = {
        "better": "the game is better in {}",
        "worse": "the game is worse in {}",
        "zero": f"{open_in}the interval contains zero",
        "holm": f"{open_in}after Holm's correction",
    }
    lines = []
    for rival in rivals:
        said: dict[str, list[str]] = {kind: [] for kind in kinds}
        for key in QUALITY:
            row = _row(run, method, rival, key)
            kind = "better" if (row["difference"] < 0) == (key in LOWER_IS_BETTER) else "worse"
            if not row["p_holm"] < LEVEL:
                kind = "zero" if row["low"] <= 0 <= row["high"] else "holm"
            said[kind].append(HEADINGS[key])
        told = [sentence.format(_listed(said[kind])) for kind, sentence in kinds.items() if said[kind]]
        lines.append(f"- Beside `{rival}`: {'; '.join(told)}.")
    found, prices = _costs(run), []
    for rival in rivals:
        costs = (found[method][key]["mean"] / found[rival][key]["mean"] for key in COSTS)
        prices.append("{:.1f} and {:.1f} times those of `{}`".format(*costs, rival))
    lines.append(f"- Its price, training time and memory: {', '.join(prices)}.")
    return "\n\n" + "\n".join(lines) + "\n\n"


def _costs(run: str) -> dict[str, Any]:
    """The means of what was measured for time and memory, alone on the machine; the run's own if nothing was."""
    timing = f"{run}-timing/comparison.json"
    return _stored(timing if (REFERENCE / timing).is_file() else f"{run}/comparison.json")["summary"]


def _times(ratio: float) -> str:
    return f"x {ratio:.1f}" if ratio >= 1 else f"x {ratio:.2f}"


def _seeds(run: str) -> int:
    return len({row["seed"] for row in _stored(f"{run}/comparison.json")["rows"]})


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _mean(key: str, figure: dict[str, Any]) -> str:
    if figure["mean"] is None:
        return "-"
    if key == "train_seconds":
        return f"{figure['mean']:.0f} s"
    if key == "peak_memory_bytes":
        return f"{figure['mean'] / 1e6:.0f} MB"
    return _short(f"{figure['mean']:.3f}" + (f" ±{figure['half_width']:.3f}" if figure["half_width"] else ""))


def _row(run: str, method: str, rival: str, key: str) -> dict[str, Any]:
    """The stored paired difference; differences of records have names of their own for some figures."""
    names = {key, *(name for name, of_all in OF_ALL.items() if of_all == key)}
    for row in _stored(f"{run}/comparison.json")["differences"]:
        if (row["method"], row["rival"]) == (method, rival) and row["metric"] in names:
            return row
    raise LookupError(f"{run}: no difference of {method} and {rival} in {key}")


def _difference(run: str, method: str, rival: str, metric: str) -> str:
    row = _row(run, method, rival, metric)
    return _short(f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})")


def _short(text: str) -> str:
    """Numbers below 1 without their zero."""
    return re.sub(r"(?<!\d)0\.", ".", text)


def _block(grid: list[list[str]]) -> str:
    return f"\n\n{markdown_table(grid)}\n\n"


# ------------------------------------------------------------------------------------------------- other measurements


@FIGURES.register("table")
def table(file: str) -> str:
    """The first table of a Markdown file."""
    lines = (REFERENCE / file).read_text(encoding="utf-8").splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("|"))
    end = next((index for index in range(start, len(lines)) if not lines[index].startswith("|")), len(lines))
    return "\n".join(["", "", *lines[start:end], "", ""])


@FIGURES.register("oracle-epochs")
def oracle_epochs(run: str, *epochs: str) -> str:
    """NLL_oracle of maximum likelihood after some epochs, counted from 0 as the released code's log does."""
    trained = [row["history"] for row in _stored(f"{run}/oracle.json")["rows"] if row["method"] == "mle"]
    of_epoch = {
        each: [row["nll_oracle"] for rows in trained for row in rows if row["epoch"] == int(each)] for each in epochs
    }
    cells = [f"{statistics.fmean(values):.2f}" for values in of_epoch.values()]
    return _block([["epoch", *epochs], ["NLL_oracle", *cells]])


@FIGURES.register("oracle-not-run")
def oracle_not_run(run: str) -> str:
    """Which methods of the oracle's benchmark have no row in a run; nothing if all have."""
    stored = {row["method"] for row in _stored(f"{run}/oracle.json")["rows"]} | {"random"}  # whose rows are named else
    missing = [f"`{method}`" for method in METHODS if method not in stored]
    if not missing:
        return "\n"
    return f"\n\nNot run: {', '.join(missing)}.\n\n"


@FIGURES.register("kept-quality")
def kept_quality(file: str) -> str:
    """What `benchmarks.speed.kept_quality` printed of a file of its curves."""
    return _block(compare(_stored(file)["results"]))


@FIGURES.register("profiled")
def profiled(*searches: str) -> str:
    """How many times as long each search takes as copied states do, a column a command of the profile."""
    commands = (REFERENCE / "oracle-profile.txt").read_text(encoding="utf-8").split("$ ")[1:]
    grid = [["search", *(f"run {number}" for number in range(1, len(commands) + 1))]]
    for search in (name.replace("_", " ") for name in searches):
        found = [re.search(rf"^{re.escape(search)}.*?([\d.]+) x", command, re.MULTILINE) for command in commands]
        grid.append([search, *(f"{match[1]} x" if match else "-" for match in found)])
    return _block(grid)


# --------------------------------------------------------------------------------------------------------- documents


def filled(text: str, name: str = "README.md") -> str:
    """The text with the present figures at its marks.

    Raises:
        UserError: naming the document and a mark that is not known or that the stored runs cannot fill.
    """

    def fill(mark: re.Match[str]) -> str:
        kind, *arguments = mark.group(1).split()
        try:
            value = FIGURES.get(kind)(*arguments)
        except (LookupError, OSError, StopIteration, TypeError, ValueError) as error:
            raise UserError(f"{name}: figure {mark.group(1)!r} is not in the stored runs ({error!r})") from error
        return f"<!--figure {mark.group(1)}-->{value}<!--/figure-->"

    return MARKED.sub(fill, text)


def documents() -> list[Path]:
    """README and the pages of docs that have such marks."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [file for file in files if MARKED.search(file.read_text(encoding="utf-8"))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill all of them in place."""

    def command() -> None:
        prog = "python -m benchmarks.report.readme_figures"
        OneLineParser(prog=prog, description=__doc__.partition(":")[0]).parse_args(arguments)
        texts = {file: filled(file.read_text(encoding="utf-8"), file.name) for file in documents()}
        for file, text in texts.items():
            write_atomically(file, text)

    return exit_status(command, "the documents are as they were")


if __name__ == "__main__":
    sys.exit(main())
