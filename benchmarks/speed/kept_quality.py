"""What a kept quality costs: `python -m benchmarks.speed.kept_quality`.

Processor seconds of training until a method's held-out loss is first no higher than LoRA's last one. All methods learn
from the same pairs, at the rates that `benchmarks.compare` has stored for model and data, and hold the same ones out;
their loss is measured after each epoch, and the measuring is not counted. Each seed is a training of its own. Alone on
the machine, or the seconds are those of the neighbours.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from baselines import resolve_method
from benchmarks.compare.environment import environment
from benchmarks.compare.files import check_writable
from benchmarks.compare.tuned import tuned_for, winner_of
from benchmarks.report.grid import text_table
from benchmarks.speed.measure import silence_libraries
from gantune.cli.devices import resolve_device
from gantune.command import OneLineParser, exit_status
from gantune.data import load_pairs, split_pairs
from gantune.diagnostics import write_json
from gantune.errors import UserError
from gantune.hub.loading import load_model, load_tokenizer
from gantune.trainer.callbacks import epoch_ends

REFERENCE = "lora"
HELD_OUT = 0.2


class HeldOutCurve(TrainerCallback):
    """Held-out loss over the processor seconds of the training so far: `curve`, pairs of seconds and nats a token."""

    def __init__(self) -> None:
        self.seconds, self.curve = 0.0, []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._started = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = time.process_time()
        self.seconds, self._started = self.seconds + now - self._started, now
        control.should_evaluate |= epoch_ends(state, control)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
        self.curve.append((self.seconds, metrics["eval_loss"]))
        self._started = time.process_time()


def first_reached(curve: Sequence[tuple[float, float]], loss: float) -> float | None:
    """The seconds at which a curve is first no higher than `loss`; None if it never is."""
    return next((seconds for seconds, value in curve if value <= loss), None)


def train(name: str, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train by one method; `swept` is its rate, `curve` as [`HeldOutCurve`] has it.

    Raises:
        UserError: if the method is not known, or trains nothing by steps.
    """
    method, device = resolve_method(name), resolve_device(options.device)
    winner = winner_of(tuned_for(options.model, options.dataset), name)
    swept = winner[1].settings if winner else {}
    settings = method.config_class(
        num_train_epochs=options.num_train_epochs,
        early_stopping_patience=options.num_train_epochs,  # holds pairs out, and never stops
        validation_share=HELD_OUT,
        seed=seed,
        **swept,
    )
    pairs, _ = split_pairs(load_pairs(options.dataset), options.train_size, 0, seed)
    watch = HeldOutCurve()
    model = load_model(options.model, torch.float32, device)
    method.tune(model, load_tokenizer(options.model), pairs, settings, [watch])
    if not watch.curve:
        raise UserError(f"--methods {name}: it has no held-out loss, expected a method that trains by steps")
    return {"method": name, "seed": seed, "swept": swept, "curve": watch.curve}


def compare(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A line for each method and seed, heading first; LoRA of the same seed is the measure."""
    grid = [["method", "seed", "last loss", "lowest", "processor s", "until LoRA's last loss", "x LoRA's"]]
    for row in rows:
        reference = next(r["curve"] for r in rows if (r["method"], r["seed"]) == (REFERENCE, row["seed"]))
        loss = reference[-1][1]
        reached, own = (first_reached(curve, loss) for curve in (row["curve"], reference))
        grid.append(
            [
                row["method"],
                str(row["seed"]),
                f"{row['curve'][-1][1]:.3f}",
                f"{min(value for _, value in row['curve']):.3f}",
                f"{row['curve'][-1][0]:.2f}",
                "never" if reached is None else f"{reached:.2f}",
                "-" if reached is None else f"{reached / own:.2f}",
            ]
        )
    return grid


def measure(options: argparse.Namespace) -> None:
    """Train everything in turns, print the table, and write it if asked."""
    silence_libraries()
    device, rows = resolve_device(options.device), []
    file = options.output / "kept-quality.json" if options.output else None
    if file:
        check_writable(file)
    for seed in options.seeds:
        for name in (REFERENCE, *options.methods):
            rows.append(train(name, options, seed))
            print(f"{name}, seed {seed}: {rows[-1]['curve'][-1][0]:.1f} processor s", file=sys.stderr)
            if file:
                found = {"options": vars(options) | {"output": str(options.output)}, "results": rows}
                write_json(file, found | {"environment": environment(device, "float32", seed)})
    print(text_table(compare(rows)))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = OneLineParser(prog="python -m benchmarks.speed.kept_quality", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini", help="the frozen model")
    parser.add_argument("--dataset", default="mini-tofu", help="questions and answers")
    parser.add_argument("--train-size", type=int, default=200, help="pairs; a fifth of them is held out")
    parser.add_argument("--num-train-epochs", type=int, default=30, help="of every method")
    parser.add_argument("--methods", nargs="+", default=["mle", "gan", "mle-stack", "gan-stack"], help="beside lora")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="a training each")
    parser.add_argument("--device", default="auto", help="'auto' (CUDA where there is one), or as torch names it")
    parser.add_argument("--output", type=Path, help="directory that the curves are written to")
    return exit_status(lambda: measure(parser.parse_args(arguments)), "the same command begins again")


if __name__ == "__main__":
    sys.exit(main())
