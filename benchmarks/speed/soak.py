"""Does memory stay flat? Thousands of adversarial steps of the built-in model: `python -m benchmarks.speed.soak`.

Every step is adversarial, with replay, held-out answers and checkpoints, as a long training would be. The resident
memory is noted every few steps; the result is the growth of its median from the third to the last quarter.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
from transformers import TrainerCallback, TrainerControl, TrainerState

from benchmarks.compare.environment import environment
from benchmarks.compare.files import check_writable
from gantune.command import OneLineParser, exit_status
from gantune.data import load_pairs, split_pairs
from gantune.diagnostics import write_json
from gantune.diagnostics.plots import png_figure
from gantune.errors import UserError
from gantune.trainer.arguments import LanguageGANConfig
from gantune.trainer.language_gan import LanguageGAN

BATCH, PAIRS, NOTED_EVERY, CHECKPOINT_EVERY = 8, 48, 10, 100
HELD_OUT, MOST_GROWTH = 1 / 6, 0.02


class Watch(TrainerCallback):
    """Notes the resident memory every few steps."""

    def __init__(self) -> None:
        self.memory: list[tuple[int, int]] = []

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % NOTED_EVERY == 0:
            self.memory.append((state.global_step, psutil.Process().memory_info().rss))


def growth(memory: list[tuple[int, int]]) -> float:
    """Growth of the median resident memory from the third to the last quarter of the steps, as a share."""
    values = [resident for _, resident in memory]
    half, three = len(values) // 2, 3 * len(values) // 4
    before, after = statistics.median(values[half:three]), statistics.median(values[three:])
    return after / before - 1


def plot(memory: list[tuple[int, int]], path: Path, title: str) -> None:
    """Resident memory by step."""
    with png_figure(path, 7, 3.2) as figure:
        axes = figure.add_subplot()
        axes.plot([step for step, _ in memory], [resident / 1e6 for _, resident in memory], linewidth=1)
        axes.set(xlabel="step", ylabel="resident memory, MB", title=title, ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)


def soak(steps: int, output: Path) -> int:
    """Run, write `soak.json` and `soak.png`; 1 if memory grew by more than 2 %."""
    pairs, _ = split_pairs(load_pairs("mini-tofu", "question", "answer"), PAIRS, 1, seed=0)
    watch = Watch()
    with tempfile.TemporaryDirectory() as directory:
        config = LanguageGANConfig(
            output_dir=directory,
            max_steps=steps,
            per_device_train_batch_size=BATCH,
            warmup_share=0.0,
            adversarial_every=1,
            validation_share=HELD_OUT,
            save_steps=CHECKPOINT_EVERY,
            use_cpu=True,
        )
        gan = LanguageGAN("mini", config, pairs, callbacks=[watch])
        gan.train()
    grown = growth(watch.memory)
    described = f"{gan.state.global_step} steps, last quarter {grown:+.2%} against the one before"
    write_json(
        output / "soak.json",
        {
            "environment": environment("cpu", "float32", 0),
            "steps": gan.state.global_step,
            "growth": grown,
            "memory": watch.memory,
        },
    )
    plot(watch.memory, output / "soak.png", described)
    print(f"{described} (bar: {MOST_GROWTH:.0%}); {output}")
    return 1 if grown > MOST_GROWTH else 0


def main() -> int:
    """The command; its status is 1 if memory grew too much."""
    parser = OneLineParser(prog="python -m benchmarks.speed.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000, help="adversarial steps")
    parser.add_argument("--output", type=Path, default=Path("results/soak"), help="directory of the results")

    def command() -> int:
        asked: argparse.Namespace = parser.parse_args()
        if asked.steps < 8 * NOTED_EVERY:
            raise UserError(f"--steps {asked.steps}: expected at least {8 * NOTED_EVERY}")
        check_writable(asked.output / "soak.json")
        return soak(asked.steps, asked.output)

    return exit_status(command, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
