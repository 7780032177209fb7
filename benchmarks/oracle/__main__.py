"""`python -m benchmarks.oracle`: maximum likelihood, SeqGAN, likelihood ratios and their controls in one table.

Each method and seed has a directory of its own under `--output`; what is finished there is kept, and a run that was
killed goes on from its last evaluation. Two processes may share an `--output`, each with its own methods.
"""

from __future__ import annotations

import hashlib
import json
import sys
from argparse import ArgumentDefaultsHelpFormatter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.compare.environment import describe_device, environment
from benchmarks.oracle.lstm import load_oracle
from benchmarks.oracle.methods import BEGUN_FROM, METHODS
from benchmarks.oracle.plane import plot_plane
from benchmarks.oracle.profile import profile
from benchmarks.oracle.settings import OracleSettings
from benchmarks.oracle.table import notes, summarise, table
from benchmarks.oracle.world import World
from gantune.cli.devices import resolve_device
from gantune.cli.options import OptionParser
from gantune.command import exit_status
from gantune.diagnostics import local_path, write_atomically, write_json
from gantune.errors import UserError, did_you_mean

SCHEMA = 2
CHECKSUM = "oracle_sha256"
"""The setting that tells published weights apart; results of before it have none, and go on with any."""


@dataclass
class OracleArguments:
    """What is run, and where the results go."""

    _argument_group_name = "benchmark"

    methods: list[str] = field(
        default_factory=lambda: list(METHODS),
        metadata={"help": "rows of the table, in any order; those that are there are not made again"},
    )
    seeds: list[int] = field(default_factory=lambda: [0], metadata={"help": "one run of each method a seed"})
    oracle: str | None = field(
        default=None, metadata={"help": "published weights as .npz (default: a pinned draw of N(0, 1) weights)"}
    )
    scale: float = field(default=1.0, metadata={"help": "epochs and rounds times this; below 1 it is not the paper's"})
    output: str = field(default="results/oracle", metadata={"help": "directory of the results; it is gone on with"})
    device: str = field(default="auto", metadata={"help": "'auto' (CUDA where there is one), or as torch names it"})
    profile: bool = field(
        default=False, metadata={"help": "measure adversarial rounds against regenerating every prefix, and stop"}
    )


def parse(arguments: Sequence[str] | None = None) -> tuple[OracleArguments, OracleSettings]:
    """The command line.

    Raises:
        UserError: if it cannot be read, a method is not known or a number out of range.
    """
    parser = OptionParser(
        [OracleArguments, OracleSettings],
        usage="python -m benchmarks.oracle [options]",
        description="SeqGAN's synthetic benchmark: learn to write like an LSTM with random weights.",
        formatter_class=ArgumentDefaultsHelpFormatter,
    )
    asked, settings, unknown = parser.parse_args_into_dataclasses(
        arguments, return_remaining_strings=True, look_for_args_file=False
    )
    if unknown:
        parser.error(f"unknown option {unknown[0]}")
    for name in asked.methods:
        if name not in METHODS:
            near = did_you_mean(name, METHODS)
            raise UserError(f"--methods {name}: expected some of {', '.join(METHODS)}{near}")
    return asked, settings.scaled(asked.scale)


def claim(directory: Path, described: dict[str, Any]) -> None:
    """Write what is run into the directory, or see that it is the same as what was run there.

    Raises:
        UserError: if the directory holds something else.
    """
    file = directory / "settings.json"
    if file.is_file():
        earlier = {CHECKSUM: described.get(CHECKSUM)} | json.loads(file.read_text(encoding="utf-8"))
        for name, value in described.items():
            if earlier.get(name) != value:
                raise UserError(
                    f"{directory}: holds runs with {name} {earlier.get(name)!r}, now {value!r}; "
                    "give --output another directory"
                )
    elif directory.exists() and (
        not directory.is_dir() or any(entry.suffix != ".tmp" for entry in directory.iterdir())
    ):
        raise UserError(f"{directory}: holds other files; give --output an empty or new directory")
    else:
        write_json(file, described)


def run(method: str, world: World, environment_: dict[str, Any]) -> None:
    """One method and seed, unless it is finished already."""
    file = world.directory / f"{method}.json"
    if not file.is_file():
        torch.manual_seed(world.seed)
        rows = [row | {"seed": world.seed} for row in METHODS[method](world, method)]
        write_json(file, {"environment": environment_, "rows": rows})
        if method not in BEGUN_FROM:
            world.forget(method)


def finished(directory: Path) -> list[dict[str, Any]]:
    """The rows of everything that is finished in a directory, whoever ran it, by method and then by seed."""
    files = [file for method in METHODS for file in sorted(directory.glob(f"seed*/{method}.json"))]
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    rows = [row | {"environment": of_run["environment"]} for of_run in found for row in of_run["rows"]]
    order = list(dict.fromkeys(row["method"] for row in rows))
    return sorted(rows, key=lambda row: (order.index(row["method"]), row["seed"]))


def benchmark(asked: OracleArguments, settings: OracleSettings) -> None:
    """Run every method and seed, write the results, print the table of all that is finished in the directory."""
    device = resolve_device(asked.device)
    oracle = load_oracle(asked.oracle)
    name = "published weights" if asked.oracle else "pinned N(0, 1) weights"
    checksum = hashlib.sha256(Path(asked.oracle).read_bytes()).hexdigest() if asked.oracle else None
    described = {"oracle": name, CHECKSUM: checksum, "scale": asked.scale, **asdict(settings)}
    directory = local_path(asked.output)
    claim(directory, described)
    print(f"oracle {name} | scale {asked.scale:g} | device {describe_device(device)}", file=sys.stderr)
    for seed in asked.seeds:
        world = World(oracle, settings, seed, directory / f"seed{seed}", device)
        for method in asked.methods:
            run(method, world, environment(device, "float32", seed))
            content = {"schema": SCHEMA, "settings": described, "command": sys.argv[1:], "rows": finished(directory)}
            write_json(directory / "oracle.json", content)
    rows = finished(directory)
    summary = summarise(rows)
    said = notes(asked.scale, settings, name, rows)
    write_atomically(directory / "oracle.md", "\n\n".join([table(summary, markdown=True), *said]) + "\n")
    plot_plane(rows, directory / "likelihoods.png")
    print("", table(summary), "", *said, f"results: {directory}", sep="\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 0, 2 for bad input, 130 if interrupted."""

    def command() -> None:
        asked, settings = parse(arguments)
        if asked.profile:
            profile(settings, resolve_device(asked.device))
        else:
            benchmark(asked, settings)

    return exit_status(command, "the same command goes on from the last evaluation")


if __name__ == "__main__":
    sys.exit(main())
