"""`python -m benchmarks.speed`: what an adversarial step costs beside a LoRA step.

Results are written after each setting; the same command goes on with the settings that are missing.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentDefaultsHelpFormatter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.compare.environment import describe_device, environment
from benchmarks.compare.files import check_writable
from benchmarks.speed.bars import judge
from benchmarks.speed.measure import count_flops, peak_memory, reading_speed, silence_libraries, time_in_turns
from benchmarks.speed.plot import plot_speed
from benchmarks.speed.settings import QUICK, WITH_PEERS, SpeedSettings, Unit, plan
from benchmarks.speed.summary import summarise_times
from benchmarks.speed.table import report
from benchmarks.speed.workload import Workload
from gantune.cli.devices import resolve_device
from gantune.cli.options import OptionParser
from gantune.command import exit_status
from gantune.diagnostics import local_path, write_atomically, write_json
from gantune.errors import UserError

SCHEMA = 2


def parse(arguments: Sequence[str] | None = None) -> SpeedSettings:
    """The command line.

    Raises:
        UserError: if it cannot be read, a name is not known or a number out of range.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = OptionParser(
        [SpeedSettings],
        usage="python -m benchmarks.speed [options]",
        description="What an adversarial step costs beside a LoRA step: time, memory, floating-point operations.",
        formatter_class=ArgumentDefaultsHelpFormatter,
    )
    asked = parser.parse_known_args(arguments)[0]
    parser.set_defaults(**(WITH_PEERS if asked.peers else {}) | (QUICK if asked.quick else {}))
    settings, unknown = parser.parse_args_into_dataclasses(
        arguments, return_remaining_strings=True, look_for_args_file=False
    )
    if unknown:
        parser.error(f"unknown option {unknown[0]}")
    return settings


def described(settings: SpeedSettings, device: str) -> dict[str, Any]:
    """What has to be the same for a run to be gone on with."""
    values = {name: value for name, value in asdict(settings).items() if name != "output"}
    return values | {"device": describe_device(device)}


def earlier_results(file: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """What an earlier run with the same settings has measured; None if there was none.

    Raises:
        UserError: if the file holds something else.
    """
    if not file.is_file():
        return None
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
        schema, before = results["schema"], results["settings"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: not the results of benchmarks.speed; give --output another directory") from error
    if schema != SCHEMA:
        raise UserError(f"{file}: schema {schema}, expected {SCHEMA}; give --output another directory")
    for name, value in settings.items():
        if before.get(name) != value:
            raise UserError(
                f"{file}: measured with {name} {before.get(name)!r}, now {value!r}; give --output another directory"
            )
    return results


def finished(results: dict[str, Any]) -> set[tuple[Any, ...]]:
    """The keys of the units that are in the results."""
    return {
        Unit(kind, Workload(**row["workload"]), (row.get("contender"),)).key()
        for kind in ("time", "memory", "flops")
        for row in results[kind]
    }


def measure(unit: Unit, settings: SpeedSettings, device: str, done: Callable[[str], None]) -> dict[str, Any]:
    """Measure one unit; `done` is told the name of the contender after each of its turns."""
    if unit.kind == "time":
        turns = time_in_turns(unit.workload, unit.contenders, settings.repeats, device, done)
        return {"contenders": list(unit.contenders), "turns": turns}
    (name,) = unit.contenders
    figures = {"memory": peak_memory, "flops": count_flops}[unit.kind](unit.workload, name, device)
    return {"contender": name} | figures


def benchmark(settings: SpeedSettings) -> None:
    """Measure what is missing, write the results after each setting, print the tables."""
    silence_libraries()
    device, directory = resolve_device(settings.device), local_path(settings.output)
    file, asked = directory / "speed.json", described(settings, device)
    check_writable(file)
    results = earlier_results(file, asked) or {
        "schema": SCHEMA,
        "settings": asked,
        "environments": [],
        **{name: [] for name in ("time", "memory", "flops", "summary", "bars")},
    }
    ready = finished(results)
    units = plan(settings)
    missing = [unit for unit in units if unit.key() not in ready]
    if missing:
        here = environment(device, "+".join(settings.dtypes), 0)
        measured = {"command": sys.argv[1:], "read_bytes_per_second": reading_speed(device)}
        measured |= {"peers": {name: metadata.version(name) for name in settings.peers}}
        results["environments"].append(here | measured)
    print(f"{describe_device(device)} | {len(missing)} of {len(units)} settings to measure", file=sys.stderr)
    with tqdm(
        total=sum(unit.work(settings.repeats) for unit in missing),
        bar_format="{l_bar}{bar}| {elapsed} gone, about {remaining} left{postfix}",
        dynamic_ncols=True,
    ) as progress:
        for unit in missing:
            progress.set_postfix_str(f"{unit.kind}, {unit.workload}, {' '.join(unit.contenders)}")
            before = progress.n
            row = measure(unit, settings, device, lambda name, unit=unit: progress.update(unit.turn_work(name)))
            progress.update(before + unit.work(settings.repeats) - progress.n)
            source = {"workload": asdict(unit.workload), "environment": len(results["environments"]) - 1}
            results[unit.kind].append(source | row)
            results["summary"] = summarise_times(results["time"])
            results["bars"] = judge(results["summary"], results["memory"], results["settings"], device)
            write_json(file, results)
            write_atomically(directory / "speed.md", report(results, device, markdown=True))
    if not settings.peers:
        plot_speed(results, directory / "speed.png", device)
    print("", report(results, device, markdown=False), f"results: {directory}", sep="\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 0, 2 for bad input, 130 if interrupted."""
    goes_on = "the same command goes on with the settings that are missing"
    return exit_status(lambda: benchmark(parse(arguments)), goes_on)


if __name__ == "__main__":
    sys.exit(main())
