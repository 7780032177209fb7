"""The figures as tables, for the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.compare.environment import describe_device
from benchmarks.report.grid import markdown_table, text_table
from benchmarks.speed.contenders import CONTENDERS, TIMED_PASSES
from benchmarks.speed.peers import SAMPLES
from benchmarks.speed.settings import GROWTH
from benchmarks.speed.summary import PEER_REFERENCES, REFERENCES, find
from benchmarks.speed.workload import Workload

Grid = list[list[str]]


def report(results: Mapping[str, Any], device: str, markdown: bool) -> str:
    """All tables and notes.

    Args:
        results: the content of `speed.json`.
        device: where it was measured.
        markdown: or as text for the terminal.
    """
    times, references = results["summary"], PEER_REFERENCES if results["settings"]["peers"] else REFERENCES
    of_memory = references if results["settings"]["peers"] else references[:1]
    base = results["settings"]["sizes"][0], results["settings"]["answer_tokens"]
    at_base = [row for row in times if (row["workload"]["size"], row["workload"]["answer_tokens"]) == base]
    growth = sorted(
        (row for row in times if _grows(row, results["settings"])),
        key=lambda row: (row["workload"]["size"] != base[0], row["workload"]["answer_tokens"]),
    )
    parts: list[tuple[str, Grid]] = [
        ("Bars", _bars(results["bars"])),
        ("Seconds a step", _times(at_base, references)),
        ("Processor seconds of the parts of a step", _parts(at_base)),
        ("Growth with answer length and model size", _times(growth, references)),
        ("Peak memory above the loaded model", _memory(results["memory"], of_memory)),
        ("Floating-point operations of a step, and the floor", _flops(results["flops"])),
    ]
    write: Callable[[Grid], str] = markdown_table if markdown else text_table
    heading = "## {}\n\n{}" if markdown else "{}\n\n{}"
    tables = [heading.format(title, write(grid)) for title, grid in parts if len(grid) > 1]
    said = notes(results, device)
    return "\n\n".join([*tables, "\n".join(f"- {line}" for line in said)]) + "\n"


def notes(results: Mapping[str, Any], device: str) -> list[str]:
    """How to read the figures."""
    settings = results["settings"]
    lines = []
    if settings["quick"]:
        lines.append("QUICK: tiny models and few turns, for trying out. No figure here means anything.")
    lines += [
        f"{describe_device(device)}. Models with random weights; questions of {settings['question_tokens']} tokens, "
        f"answers of {settings['answer_tokens']} unless another number is given; no padding. No token ends an answer, "
        "so every answer has all of its tokens.",
        f"Contenders take turns in one process: one turn that is not counted, then {settings['repeats']}. Medians, "
        "with the least and the most; a ratio is that of two medians, its range that of the rounds. Processor seconds "
        "are of all cores. Limits on CPU are about processor seconds, on CUDA about those on the wall.",
        f"A step of gantune is LanguageGAN's: {SAMPLES if settings['peers'] else 'one'} answer"
        f"{'s' if settings['peers'] else ''} sampled to each question, one update of the discriminator, one of the "
        "generator, no likelihood anchor, and the KL to the base model that training reports.",
        "No contender computes dropout. LoRA as usually trained does, so this is in LoRA's favour.",
        *([_peers(results)] if settings["peers"] else _reading_floors(results)),
    ]
    if any(row["contender"] == "source" for key in ("summary", "flops") for row in results[key]):
        passes = min(TIMED_PASSES, settings["answer_tokens"])
        lines.append(
            f"* extrapolated: of the source study's {settings['answer_tokens']} scoring passes a step, {passes}, "
            "evenly spaced, are run forward and backward one by one, and counted for all. Its memory is that of the "
            "whole step, which was run."
        )
    commits = {(env["git"]["commit"], env["git"]["dirty"]) for env in results["environments"]}
    if len(commits) > 1:
        lines.append("Measured in several sessions, and the source code was not the same in all of them.")
    return lines


def _peers(results: Mapping[str, Any]) -> str:
    versions = {f"{name} {version}" for env in results["environments"] for name, version in env["peers"].items()}
    checkpointed = any(row["contender"] == "trl-grpo-checkpointed" for row in results["summary"])
    where = "has a row of its own" if checkpointed else "was not run"
    return (
        f"{SAMPLES} answers to each of B questions; for LoRA by likelihood, {SAMPLES} copies of each pair. Everybody "
        f"tunes the same LoRA. {', '.join(sorted(versions))}: without reference model, and with a reward that costs "
        f"nothing; its default is gradient checkpointing, which {where}. Gantune's discriminator is part of its step."
    )


def _reading_floors(results: Mapping[str, Any]) -> list[str]:
    """What no way of decoding token by token can pass: all weights are read for each."""
    settings, speed = results["settings"], max(env["read_bytes_per_second"] for env in results["environments"])
    lines = []
    for dtype in settings["dtypes"]:
        workload = Workload(settings["sizes"][0], dtype, 1, settings["question_tokens"], settings["answer_tokens"])
        size = workload.weight_bytes()
        lora = find(results["summary"], "lora", **asdict(workload))
        beside = f", beside {_number(lora['wall']['median'])} s of a usual LoRA step at B=1" if lora else ""
        lines.append(
            f"In {dtype} decoding reads {size / 1e6:.0f} MB of weights for each token, and this device reads "
            f"{speed / 1e9:.1f} GB/s with all its threads: {_number(size * workload.answer_tokens / speed)} s on the "
            f"wall for {workload.answer_tokens} tokens, at any batch size, before anything is computed{beside}."
        )
    return lines


def _grows(row: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    workload = row["workload"]
    return (
        workload["batch_size"] == settings["growth_batch_size"]
        and workload["dtype"] == settings["dtypes"][0]
        and (workload["size"] == settings["sizes"][0] or workload["answer_tokens"] == settings["answer_tokens"])
        and row["contender"] in GROWTH
    )


def _where(workload: Mapping[str, Any]) -> str:
    return f"{workload['size']} {workload['dtype']} B={workload['batch_size']} T={workload['answer_tokens']}"


def _label(row: Mapping[str, Any]) -> str:
    return CONTENDERS.get(row["contender"]).label + (" *" if row.get("extrapolated") else "")


def _number(value: float) -> str:
    """Three significant digits, and never an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.001 else f"{value:.5f}"


def _range(figure: Mapping[str, float]) -> str:
    return f"{_number(figure['median'])} [{_number(figure['min'])}, {_number(figure['max'])}]"


def _times(rows: Sequence[Mapping[str, Any]], references: Sequence[str]) -> Grid:
    grid = [["setting", "contender", "processor s", "wall s", *(f"x {CONTENDERS.get(n).label}" for n in references)]]
    for row in rows:
        ratios = [row["ratios"].get(name) for name in references]
        grid.append(
            [
                _where(row["workload"]),
                _label(row),
                _range(row["processor"]),
                _range(row["wall"]),
                *(
                    "-" if r is None else f"{_range(r['processor'])}, wall {_number(r['wall']['median'])}"
                    for r in ratios
                ),
            ]
        )
    return grid


def _parts(rows: Sequence[Mapping[str, Any]]) -> Grid:
    names = list(dict.fromkeys(part for row in rows for part in row["parts"]))
    grid = [["setting", "contender", *names]]
    for row in rows:
        cells = [_number(row["parts"][n]["processor"]) if n in row["parts"] else "-" for n in names]
        grid.append([_where(row["workload"]), _label(row), *cells])
    return grid


def _memory(rows: Sequence[Mapping[str, Any]], references: Sequence[str]) -> Grid:
    grid = [["setting", "contender", "peak MB", *(f"x {CONTENDERS.get(n).label}" for n in references)]]
    for row in rows:
        beside = [find(rows, name, **row["workload"]) for name in references]
        if "failed" in row:
            cells = [row["failed"], *("-" for _ in references)]
        else:
            compared = [other and other is not row and other.get("peak_bytes") for other in beside]
            ratios = [_number(row["peak_bytes"] / peak) if peak else "-" for peak in compared]
            cells = [f"{row['peak_bytes'] / 1e6:.0f}", *ratios]
        grid.append([_where(row["workload"]), CONTENDERS.get(row["contender"]).label, *cells])
    return grid


def _flops(rows: Sequence[Mapping[str, Any]]) -> Grid:
    grid = [["setting", "contender", "GFLOP", "of it KL", *(f"x {CONTENDERS.get(n).label}" for n in REFERENCES)]]
    for row in rows:
        kl = _number(row["parts"]["kl"] / 1e9) if "kl" in row["parts"] else "-"
        references = [find(rows, name, **row["workload"]) for name in REFERENCES]
        ratios = ["-" if r is None or r is row else _number(row["flops"] / r["flops"]) for r in references]
        grid.append([_where(row["workload"]), _label(row), _number(row["flops"] / 1e9), kl, *ratios])
    return grid


def _bars(rows: Sequence[Mapping[str, Any]]) -> Grid:
    grid = [["bar", "figure", "on the other clock", "limit", "verdict"]]
    for row in rows:
        figure, other = ("-" if row[key] is None else _number(row[key]) for key in ("figure", "other_clock"))
        limit = f"{'>=' if row['at_least'] else '<='} {row['limit']:g}"
        grid.append([row["bar"], figure + (" *" if row["extrapolated"] else ""), other, limit, row["verdict"]])
    return grid
