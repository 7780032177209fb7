"""How far the rows of a comparison move on another processor: `python -m benchmarks.repeatability --output DIR`.

The same comparison is run once for each entry of `PROCESSORS`: other numbers of threads and lower instruction sets
round differently, as another processor would. What stands in the table is, for each method, the largest distance of a
row from the row of the same seed in the first entry. Options that are not named below are those of
`python -m benchmarks.compare`:

    python -m benchmarks.repeatability --output results/repeatability --methods lora mle-stack gan-stack --seeds 0 1

`DIR/repeatability.json` has the rows, `DIR/repeatability.md` the table; what was cut off goes on.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.compare.answers import read_samples
from benchmarks.compare.rows import commits_of, compared_rows
from benchmarks.compare.run_folder import folder_of
from gantune.command import OneLineParser, exit_status
from gantune.diagnostics.files import write_atomically, write_json
from gantune.errors import UserError

FIRST = "one thread"
PROCESSORS: dict[str, dict[str, str]] = {
    FIRST: {"OMP_NUM_THREADS": "1"},
    "one thread again": {"OMP_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "torch with AVX2": {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "avx2"},
    "oneDNN and MKL with AVX2": {
        "OMP_NUM_THREADS": "1",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "torch without vectors": {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "default"},
}
"""Environment variables by the name of what they stand for; the first one is what the others are compared with."""
METRICS = ("rougeL", "nll", "slot_error_rate")
Row = dict[str, Any]


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables for the block; every run of a comparison is a process, which reads them anew."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def rows_on(name: str, options: Sequence[str], folder: Path) -> list[Row]:
    """The tuned rows of the comparison on a processor: method, seed, metrics and answers."""
    output = folder / "runs" / name.replace(" ", "-")
    with environment(PROCESSORS[name]):
        rows = compared_rows(options, output)
    return [
        {
            **{key: row[key] for key in ("method", "seed", "environment")},
            "metrics": {key: row["metrics"][key] for key in METRICS if row["metrics"].get(key) is not None},
            "answers": [sample["answer"] for sample in read_samples(folder_of(output, row) / "samples.jsonl").samples],
        }
        for row in rows
        if row["trainable_parameters"]
    ]


def distances(name: str, first: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """By method: the largest distance of each metric from the first processor's, and the share of other answers."""
    found: dict[str, list[Row]] = {}
    for own, other in zip(first, rows, strict=True):
        if (own["method"], own["seed"]) != (other["method"], other["seed"]):
            raise UserError(f"{name}: has {other['method']}, seed {other['seed']} where {own['method']} is expected")
        metrics = {key: abs(other["metrics"][key] - value) for key, value in own["metrics"].items()}
        changed = fmean(a != b for a, b in zip(own["answers"], other["answers"], strict=True))
        found.setdefault(own["method"], []).append({"metrics": metrics, "answers": changed})
    return [
        {
            "processor": name,
            "method": method,
            "metrics": {key: max(row["metrics"][key] for row in of_method) for key in of_method[0]["metrics"]},
            "answers": fmean(row["answers"] for row in of_method),
        }
        for method, of_method in found.items()
    ]


def table(lines: Sequence[Row]) -> str:
    """The distances as Markdown: a line a processor and method."""
    metrics = [key for key in METRICS if any(key in line["metrics"] for line in lines)]
    rows = [
        f"| processor | method | {' | '.join(metrics)} | other answers |",
        f"| --- | --- |{' ---: |' * (len(metrics) + 1)}",
    ]
    for line in lines:
        cells = [f"{line['metrics'][key]:.4f}" if key in line["metrics"] else "-" for key in metrics]
        rows.append(f"| {line['processor']} | {line['method']} | {' | '.join(cells)} | {line['answers']:.0%} |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status as of `benchmarks.compare`."""

    def command() -> None:
        parser = OneLineParser(prog="python -m benchmarks.repeatability", allow_abbrev=False)
        parser.add_argument("--output", required=True, type=Path, help="directory of the results")
        own, options = parser.parse_known_args(arguments)
        first, lines = rows_on(FIRST, options, own.output), []
        made = [*first]
        for name in list(PROCESSORS)[1:]:
            rows = rows_on(name, options, own.output)
            made += rows
            lines += distances(name, first, rows)
            content = {"options": options, "lines": lines, "made_at": commits_of(made)}
            write_json(own.output / "repeatability.json", content)
            write_atomically(own.output / "repeatability.md", table(lines) + "\n")
        print(table(lines))

    return exit_status(command, "the same command goes on from here")


if __name__ == "__main__":
    sys.exit(main())
