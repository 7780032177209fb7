"""The limits that the figures are held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.speed.summary import find

REFERENCE = {"size": "gpt2", "question_tokens": 100, "answer_tokens": 50}
"""The setting that the limits are about; others are not judged by them."""
GROWTH_LENGTHS = (50, 200)


@dataclass(frozen=True)
class Bar:
    """A limit on the ratio of two contenders' figures.

    Args:
        kind: of the ratio of seconds, of peak memory, or `growth`: how many times the ratio of seconds at answers of 50
            tokens is that at 200.
        over: the contender above the line.
        under: the contender below it.
        dtype: of the frozen model.
        batch_size: None for growth, whose batch is that of the growth measurement.
        limit: what is not to be passed.
        at_least: the figure is to be this or more, not this or less.
    """

    kind: str
    over: str
    under: str
    dtype: str
    batch_size: int | None
    limit: float
    at_least: bool = False

    def met(self, figure: float) -> bool:
        """Whether a figure keeps the limit."""
        return figure >= self.limit if self.at_least else figure <= self.limit

    def __str__(self) -> str:
        what = {"time": "seconds", "memory": "peak memory above the model", "growth": "seconds, growth from 50 to 200"}
        batch = f", B={self.batch_size}" if self.batch_size else ""
        return f"{self.over} / {self.under}: {what[self.kind]}, {self.dtype}{batch}"


CPU_BARS = (
    Bar("time", "gantune", "lora", "float32", 1, 3.0),
    Bar("time", "gantune", "lora", "float32", 4, 1.8),
    Bar("time", "gantune", "lora", "float32", 16, 1.15),
    Bar("time", "gantune", "lora-answers", "bfloat16", 4, 1.5),
    Bar("time", "gantune", "lora-answers", "bfloat16", 16, 1.2),
    Bar("time", "source", "gantune", "float32", 1, 17, at_least=True),
    Bar("time", "source", "gantune", "float32", 4, 23, at_least=True),
    Bar("memory", "gantune", "lora", "float32", 1, 0.65),
    Bar("memory", "gantune", "lora", "float32", 4, 0.6),
    Bar("growth", "gantune", "lora", "float32", None, 1.5),
)
CUDA_BARS = (
    Bar("time", "gantune", "lora", "float32", 1, 2.5),
    Bar("time", "gantune", "lora", "float32", 16, 1.3),
    Bar("time", "gantune", "lora-answers", "bfloat16", 16, 1.5),
    Bar("time", "source", "gantune", "float32", 1, 25, at_least=True),
    Bar("memory", "gantune", "lora", "float32", 1, 1.0),
    Bar("memory", "gantune", "lora", "float32", 4, 1.0),
    Bar("growth", "gantune", "lora", "float32", None, 1.5),
)
PEER_BARS = (
    *(Bar("time", "gantune-lora", peer, "float32", 4, 0.5) for peer in ("trl-grpo", "trl-rloo")),
    Bar("time", "gantune-lora", "lora-samples", "float32", 4, 1.0),
    *(Bar("memory", "gantune-lora", peer, "float32", 4, 0.2) for peer in ("trl-grpo", "trl-rloo")),
    Bar("memory", "gantune-lora", "lora-samples", "float32", 4, 1.0),
)


def bars_for(device: str, peers: Sequence[str] = ()) -> tuple[Bar, ...]:
    """The limits on this kind of device; with peers, those beside them."""
    if peers:
        return PEER_BARS
    return CUDA_BARS if device.startswith("cuda") else CPU_BARS


def clock_of(device: str) -> str:
    """Which seconds the limits are about: the processor's on CPU (FINDINGS section 1), those on the wall on CUDA."""
    return "wall" if device.startswith("cuda") else "processor"


def is_judged(settings: Mapping[str, Any]) -> bool:
    """Whether the limits are about a run with these settings."""
    lengths = {key: settings[key] for key in ("question_tokens", "answer_tokens")}
    return {"size": settings["sizes"][0], **lengths} == REFERENCE


def judge(
    times: Sequence[Mapping[str, Any]], memory: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], device: str
) -> list[dict[str, Any]]:
    """Each limit beside its figure.

    Args:
        times: as [`summarise_times`] gives them.
        memory: rows with `workload`, `contender` and `peak_bytes`.
        settings: the run's.
        device: as torch names it.

    Returns:
        `bar` in words, `limit`, `at_least`, `figure` (None if it was not measured), `other_clock` (the same figure on
        the other clock; None for memory), `extrapolated`, and `verdict`: met, missed, not measured, or not judged (a
        setting that the limits are not about).
    """
    clock = clock_of(device)
    other = {"processor": "wall", "wall": "processor"}[clock]
    rows = []
    for bar in bars_for(device, settings.get("peers", ())):
        figure = _figure(bar, times, memory, settings, clock)
        if figure is None:
            verdict = "not measured"
        elif not is_judged(settings):
            verdict = "not judged"
        else:
            verdict = "met" if bar.met(figure) else "missed"
        rows.append(
            {
                "bar": str(bar),
                "limit": bar.limit,
                "at_least": bar.at_least,
                "figure": figure,
                "other_clock": None if bar.kind == "memory" else _figure(bar, times, memory, settings, other),
                "extrapolated": bar.over == "source" and figure is not None,
                "verdict": verdict,
            }
        )
    return rows


def _figure(
    bar: Bar,
    times: Sequence[Mapping[str, Any]],
    memory: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    clock: str,
) -> float | None:
    if bar.kind == "growth":
        short, long = (_ratio(bar, times, settings, clock, length) for length in GROWTH_LENGTHS)
        return long / short if short and long else None
    if bar.kind == "time":
        return _ratio(bar, times, settings, clock, settings["answer_tokens"])
    workload = {"size": settings["sizes"][0], "dtype": bar.dtype, "batch_size": bar.batch_size}
    over, under = (find(memory, name, **workload) for name in (bar.over, bar.under))
    if not over or not under or "failed" in over or "failed" in under or not under["peak_bytes"]:
        return None
    return over["peak_bytes"] / under["peak_bytes"]


def _ratio(
    bar: Bar, times: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], clock: str, length: int
) -> float | None:
    workload = {
        "size": settings["sizes"][0],
        "dtype": bar.dtype,
        "batch_size": bar.batch_size or settings["growth_batch_size"],
        "answer_tokens": length,
    }
    over, under = (find(times, name, **workload) for name in (bar.over, bar.under))
    return over[clock]["median"] / under[clock]["median"] if over and under else None
