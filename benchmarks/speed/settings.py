"""What is measured: the command line's settings, and the units of work they make."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import GPT2Config

from benchmarks.speed.contenders import CONTENDERS, SourceWay
from benchmarks.speed.peers import BESIDE_PEERS, PEERS, SAMPLES, import_peer
from benchmarks.speed.workload import DTYPES, LLAMAS, SIZES, Workload
from gantune.errors import UserError

GROWTH = ("lora", "lora-answers", "gantune", "gantune-captured")
QUICK = {
    "sizes": ["tiny", "tinier"],
    "batch_sizes": [1, 2],
    "dtypes": ["float32"],
    "lengths": [2, 4, 8],
    "question_tokens": 6,
    "answer_tokens": 4,
    "growth_batch_size": 2,
    "repeats": 2,
    "output": "results/speed-quick",
}
"""Defaults under --quick."""
WITH_PEERS = {"sizes": ["gpt2"], "batch_sizes": [4], "dtypes": ["float32"], "output": "results/speed-peers"}
"""Defaults with --peers."""
NOT_BESIDE_PEERS = [name for name in CONTENDERS.names() if name not in (*BESIDE_PEERS, *sum(PEERS.values(), ()))]


@dataclass
class SpeedSettings:
    """What is measured, and where the results go.

    Raises:
        UserError: if a name is not known, a number out of range, or CUDA asked for where there is none.
    """

    _argument_group_name = "benchmark"

    sizes: list[str] = field(
        default_factory=lambda: ["gpt2", "distilgpt2"],
        metadata={"help": f"model shapes, the first for all but growth with size: {', '.join((*SIZES, *LLAMAS))}"},
    )
    batch_sizes: list[int] = field(default_factory=lambda: [1, 4, 16], metadata={"help": "pairs a step"})
    dtypes: list[str] = field(
        default_factory=lambda: ["float32", "bfloat16"],
        metadata={"help": "of the frozen model; the first for memory, operations and growth"},
    )
    lengths: list[int] = field(
        default_factory=lambda: [25, 50, 100, 200], metadata={"help": "answer lengths of the growth measurement"}
    )
    question_tokens: int = field(default=100, metadata={"help": "length of each question"})
    answer_tokens: int = field(default=50, metadata={"help": "length of each answer, but for growth with length"})
    growth_batch_size: int = field(default=4, metadata={"help": "pairs a step in the growth measurements"})
    contenders: list[str] = field(
        default_factory=lambda: ["lora", "lora-answers", "gantune", "plain", "source"],
        metadata={"help": f"what takes turns: {', '.join(NOT_BESIDE_PEERS)}"},
    )
    peers: list[str] = field(
        default_factory=list,
        metadata={
            "help": f"measure seconds and memory beside other packages' trainers instead: {', '.join(PEERS)}; LoRA, "
            f"{SAMPLES} samples a question, so --contenders and growth are left out"
        },
    )
    repeats: int = field(default=5, metadata={"help": "turns of each that count, after one that does not"})
    device: str = field(default="auto", metadata={"help": "'auto' (CUDA where there is one), or as torch names it"})
    output: str = field(default="results/speed", metadata={"help": "directory of the results; it is gone on with"})
    quick: bool = field(
        default=False, metadata={"help": "a tiny model and few repeats, for trying out: no figure means anything"}
    )

    def __post_init__(self) -> None:
        sizes = (*SIZES, *LLAMAS)
        for name, known in (
            ("sizes", sizes),
            ("dtypes", DTYPES),
            ("contenders", NOT_BESIDE_PEERS),
            ("peers", tuple(PEERS)),
        ):
            for value in getattr(self, name):
                if value not in known:
                    raise UserError(f"--{name} {value}: expected {', '.join(known)}")
        for name in ("sizes", "dtypes", "contenders", "peers", "batch_sizes", "lengths"):
            values, option = getattr(self, name), f"--{name.replace('_', '-')}"
            if twice := [value for value, count in Counter(values).items() if count > 1]:
                raise UserError(f"{option}: {twice[0]} is there twice")
            if not values and name not in ("lengths", "peers"):
                raise UserError(f"{option}: expected at least one")
        on_cuda = torch.cuda.is_available() and self.device != "cpu"
        if not on_cuda and (captured := [name for name in self.contenders if CONTENDERS.get(name).replays]):
            raise UserError(f"--contenders {captured[0]}: it needs a CUDA device")
        if "source" in self.contenders and not self.peers and (llama := [s for s in self.sizes if s in LLAMAS]):
            raise UserError(f"--contenders source: it is GPT-2's only, --sizes has {llama[0]}")
        numbers = {"question_tokens": 1, "answer_tokens": 1, "growth_batch_size": 1, "repeats": 1}
        for name, least in numbers.items():
            self._at_least(name, getattr(self, name), least)
        for name in ("batch_sizes", "lengths"):
            for value in getattr(self, name):
                self._at_least(name, value, 1)
        longest = max([self.answer_tokens, *self.lengths])
        if self.question_tokens + longest > GPT2Config().n_positions:
            raise UserError(
                f"--question-tokens {self.question_tokens} and answers of {longest}: expected at most "
                f"{GPT2Config().n_positions} together, the positions of GPT-2"
            )
        try:
            known_device = torch.device("cpu" if self.device == "auto" else self.device).type in ("cpu", "cuda")
        except RuntimeError:
            known_device = False
        if not known_device:
            raise UserError(f"--device {self.device}: expected auto, cpu, cuda or cuda:N")
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise UserError(f"--device {self.device}: this machine has no CUDA device")
        for name in self.peers:
            import_peer(name)

    @staticmethod
    def _at_least(name: str, value: int, least: int) -> None:
        if value < least:
            raise UserError(f"--{name.replace('_', '-')} {value}: expected at least {least}")


@dataclass(frozen=True)
class Unit:
    """What is measured at a stretch, and kept as a whole.

    Args:
        kind: seconds of several contenders in turns, or peak memory or operations of one.
        workload: what they work on.
        contenders: their names.
    """

    kind: Literal["time", "memory", "flops"]
    workload: Workload
    contenders: tuple[str, ...]

    def turn_work(self, name: str) -> float:
        """Multiplications of a contender's step, roughly."""
        return self.workload.work() * CONTENDERS.get(name).weight

    def work(self, repeats: int) -> float:
        """Multiplications of all, roughly."""
        rounds = {"time": repeats + 1, "memory": 4, "flops": 2}[self.kind]
        return rounds * sum(self.turn_work(name) for name in self.contenders)

    def key(self) -> tuple[Any, ...]:
        """What tells it from others in a results file."""
        return (self.kind, self.workload, self.contenders if self.kind != "time" else None)


def plan(settings: SpeedSettings) -> list[Unit]:
    """Everything that is measured, in order, each once.

    The source study's way is left out where it cannot run: above a batch of 4 (at 16 the graphs need some 110 GB,
    FINDINGS section 1), and its memory is measured at batch 1 only (28 GB at 4).
    """
    if settings.peers:
        return _plan_peers(settings)
    size, dtype, question, answer = (
        settings.sizes[0],
        settings.dtypes[0],
        settings.question_tokens,
        settings.answer_tokens,
    )

    def fitting(batch_size: int, most: int | None = None) -> list[str]:
        limits = {name: CONTENDERS.get(name).max_batch_size for name in settings.contenders}
        if most is not None and "source" in limits:
            limits["source"] = most
        return [name for name, limit in limits.items() if limit is None or batch_size <= limit]

    counted = [name for name in settings.contenders if not CONTENDERS.get(name).replays]
    flops = [Unit("flops", Workload(size, dtype, 1, question, answer), (name,)) for name in counted]
    memory = [
        Unit("memory", Workload(size, dtype, batch_size, question, answer), (name,))
        for batch_size in settings.batch_sizes
        for name in fitting(batch_size, SourceWay.max_memory_batch_size)
    ]
    times = {
        workload: Unit("time", workload, tuple(fitting(workload.batch_size)))
        for workload in (
            Workload(size, kind, batch_size, question, answer)
            for kind in settings.dtypes
            for batch_size in settings.batch_sizes
        )
    }
    growing = tuple(name for name in settings.contenders if name in GROWTH)
    if growing:
        many = settings.growth_batch_size
        for workload in (
            *(Workload(size, dtype, many, question, length) for length in settings.lengths),
            *(Workload(other, dtype, many, question, answer) for other in settings.sizes),
        ):
            times.setdefault(workload, Unit("time", workload, growing))
    return [*flops, *times.values(), *memory]


def _plan_peers(settings: SpeedSettings) -> list[Unit]:
    names = (*BESIDE_PEERS, *(name for peer in settings.peers for name in PEERS[peer]))
    workloads = [
        Workload(settings.sizes[0], dtype, batch_size, settings.question_tokens, settings.answer_tokens)
        for dtype in settings.dtypes
        for batch_size in settings.batch_sizes
    ]
    memory = [Unit("memory", workload, (name,)) for workload in workloads for name in names]
    return [*(Unit("time", workload, names) for workload in workloads), *memory]
