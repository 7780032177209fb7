"""One run: one method, one seed, one process. `python -m benchmarks.compare.run RUN_DIRECTORY` reads its `config.json`.

The comparison starts one such process a run, so that peaks of memory do not mix and a crash costs one run. What comes
of it lies in the run's directory: `metrics.json`, `environment.json`, `history.jsonl`, `samples.jsonl`, `adapter/`,
`weights.npz`, plots, and the memory snapshot if one was asked for.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, TrainerCallback, TrainerState

from baselines import Diverged, Method, NotAvailable, Tuned, resolve_method
from baselines.matching import embedding_generator_parameters, matched_size, trainable_parameters
from benchmarks.compare.dataset import DataArguments, read_split
from benchmarks.compare.environment import environment
from benchmarks.compare.evaluation import METRICS, base_answers, evaluate, with_samples
from benchmarks.compare.forgetting import forgetting, question_sets
from gantune.diagnostics import (
    measure_memory,
    plot_health,
    plot_history,
    plot_memory_timeline,
    plot_weight_trajectories,
    record_memory_snapshot,
    write_json,
)
from gantune.distributed import join_processes, own_device
from gantune.errors import PeerEnded, UserError
from gantune.generation.decoding import Decoding
from gantune.hub.loading import load_model, load_tokenizer
from gantune.metrics.rouge_words import rouge_scorer
from gantune.metrics.slots import records_of
from gantune.trainer.callbacks import Bar, History, Weights, rows_of
from gantune.tuning import TuningConfig

SCHEMA = 1
CHECKPOINTS = "checkpoints"


class Watch(TrainerCallback):
    """What a run shows and leaves: a bar, the history on disk, the weights, the seconds of earlier processes.

    Args:
        directory: of the run.
        title: in front of the bar.
    """

    def __init__(self, directory: Path, title: str) -> None:
        self.directory, self.title = directory, title
        self.bar, self.weights = Bar(title), Weights(directory / "weights.npz")
        self.callbacks = [History(directory / "history.jsonl"), self.weights, self.bar, self]
        self.state: TrainerState | None = None
        self.started, self.earlier_seconds = time.perf_counter(), 0.0

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        self.state = state

    def state_dict(self) -> dict[str, Any]:
        """The seconds spent so far."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what [`state_dict`] gave."""
        self.earlier_seconds = state["seconds"]

    @property
    def seconds(self) -> float:
        """Of the training, earlier processes included."""
        return self.earlier_seconds + time.perf_counter() - self.started

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What was logged of steps."""
        return rows_of(self.state) if self.state else []

    @property
    def warnings(self) -> list[str]:
        """What the training has warned of."""
        return [warning for row in self.rows for warning in row.get("warnings", ())]

    def write_plots(self) -> None:
        """The history, the health of adversarial steps, and the weights; nothing for a method that does not train."""
        if self.rows:
            plot_history(self.state.log_history, self.directory / "history.png", self.title)
        if any(row["phase"] == "adversarial" for row in self.rows):
            plot_health(self.rows, self.directory / "health.png", self.title)
        if self.weights.trajectory is not None:
            self.weights.save()
            plot_weight_trajectories(self.weights.trajectory.trajectory(), self.directory / "weights.png")


@contextlib.contextmanager
def memory_snapshot(wanted: bool, directory: Path, device: str) -> Iterator[dict[str, str]]:
    """Record the memory of the block if wanted; which record it is, and its file, is told after the block."""
    told: dict[str, str] = {}
    if not wanted:
        yield told
        return
    with record_memory_snapshot(directory / "memory_snapshot.pickle", device) as record:
        yield told
    told |= {"kind": record.kind, "file": record.path.name}
    if record.kind == "process-timeline":
        plot_memory_timeline(record.path, directory / "memory_timeline.png")


@contextlib.contextmanager
def collected_warnings(name: str) -> Iterator[list[str]]:
    """What the loggers under `name` warn of in the block, each text once; it is not printed."""
    told: dict[str, None] = {}
    logger, handler = logging.getLogger(name), logging.Handler(logging.WARNING)
    handler.emit = lambda record: told.setdefault(" ".join(record.getMessage().split()))
    before = logger.level, logger.propagate
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    logger.addHandler(handler)
    found: list[str] = []
    try:
        yield found
    finally:
        found += told
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


def match_parameters(method: Method, model: PreTrainedModel | None, settings: TuningConfig) -> TuningConfig:
    """The settings at which a method has nearest to as many parameters as the default embedding generator."""
    if method.size is None:
        return settings
    return method.size.resized(settings, matched_size(method.size, model, settings))


def told_of_match(method: Method, tuned: Tuned, settings: TuningConfig) -> str | None:
    """What `--match parameters` came to; None for a method that tunes nothing."""
    if tuned.model is None or not (own := trainable_parameters(tuned.model)):
        return None
    target = embedding_generator_parameters(tuned.model)
    numbers = f"{own:,} trained parameters, the default embedding generator has {target:,}"
    if method.size is not None:
        return f"{method.size.option} {getattr(settings, method.size.option)}: {numbers}"
    return None if own == target else f"not matched, nothing sets its size: {numbers}"


def run(directory: Path) -> dict[str, Any] | None:
    """Tune, measure and judge as `config.json` says; returns the row of the comparison.

    Of processes that were launched together all tune, and the first one does the rest; the others return None.

    Raises:
        UserError: if the settings ask for something that is not there.
    """
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    method = resolve_method(config["method"])
    settings = method.config_class(**config["tuning"])
    device, dtype = own_device(config["device"]), config["dtype"]
    main_process = join_processes(device).main
    if main_process:
        write_json(directory / "environment.json", environment(device, dtype, settings.seed))
    transformers.set_seed(settings.seed)

    data = DataArguments(**config["data"])
    with collected_warnings("gantune.data"):  # the comparison has told them
        split = read_split(data, settings.seed)
    train, test, references, unpaired = split.train, split.test, split.references, split.unpaired
    decodings = [Decoding(**decoding) for decoding in config["decodings"]]
    if not config["sweep"] and records_of([pair.question for pair in test]):
        decodings = with_samples(decodings)
    sets = question_sets(data.dataset, split.pairs, train, test, seed=settings.seed) if data.forgetting else None
    model = tokenizer = None
    if method.needs_model:
        trust = config["trust_remote_code"]
        tokenizer = load_tokenizer(config["model"], trust)
        model = load_model(config["model"], getattr(torch, dtype), device, trust)
        for parameter in model.parameters():  # mapped from the file: unread pages would count as the method's memory
            parameter.sum()
    if config["match"] == "parameters":
        settings = match_parameters(method, model, settings)

    watch = Watch(directory, f"{method.name}, seed {settings.seed}")
    more: dict[str, Any] = {}
    if method.unpaired and unpaired is not None:
        more["unpaired"] = unpaired
    if method.resumes and config["save_steps"]:
        more["arguments"] = {"output_dir": str(directory / CHECKPOINTS), "save_steps": config["save_steps"]}
    rouge_scorer("rougeL")  # imported here, so that it is not memory of the trainings that ask for it
    try:
        snapshot = memory_snapshot(config["memory_snapshot"] and main_process, directory, device)
        with snapshot as memory_record, measure_memory(device) as memory:
            watch.started = time.perf_counter()
            tuned = method.tune(model, tokenizer, train, settings, watch.callbacks, **more)
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            seconds = watch.seconds
        if not isinstance(tuned, Tuned):
            raise UserError(f"method {method.name}: gave a {type(tuned).__name__}, expected a baselines.Tuned")
    except Diverged as error:
        if main_process:
            error.tuned.save(directory / "adapter")
        raise
    finally:
        watch.bar.close()
        if main_process:
            watch.write_plots()
    if not main_process:
        return None
    if not config["sweep"]:
        tuned.save(directory / "adapter")

    trained = tuned.model is not None and trainable_parameters(tuned.model) > 0
    evaluation = evaluate(
        tuned,
        test,
        directory,
        base_answers(config["base_samples"]),
        config["bleurt"],
        device,
        decodings,
        config["noise_draws"],
        references,
        config["slots"],
    )
    measured = {
        "train_seconds": seconds,
        "train_tokens": sum(row["tokens"] for row in watch.rows),
        "steps": watch.state.global_step if watch.state else 0,
        "planned_steps": watch.state.max_steps if watch.state else 0,
        "peak_memory_bytes": memory.peak_bytes,
        "memory": asdict(memory.report),
    }
    return blank_row(method.name, settings.seed) | {
        "status": "success",
        "trainable_parameters": trainable_parameters(tuned.model) if trained else 0,
        **(measured if trained else {}),
        "metrics": evaluation.metrics,
        "metrics_by_decoding": evaluation.by_decoding,
        "noise": evaluation.noise,
        "decoding_cost": evaluation.decoding_cost,
        "left_out": len(split.left_out),
        "forgetting": forgetting(tuned, sets, tokenizer, settings) if sets else None,
        "not_run": evaluation.not_run,
        "warnings": watch.warnings,
        "matched": told_of_match(method, tuned, settings) if config["match"] == "parameters" else None,
        "swept": config["swept"],
        "memory_record": memory_record or None,
    }


def blank_row(method: str, seed: int) -> dict[str, Any]:
    """A row of the comparison without a result."""
    return {
        "method": method,
        "seed": seed,
        "status": None,
        "error": None,
        "trainable_parameters": None,
        "train_seconds": None,
        "train_tokens": None,
        "steps": None,
        "planned_steps": None,
        "left_out": None,
        "peak_memory_bytes": None,
        "metrics": dict.fromkeys(METRICS),
        "metrics_by_decoding": None,
        "noise": None,
        "decoding_cost": None,
        "forgetting": None,
        "not_run": {},
        "warnings": [],
        "matched": None,
        "swept": None,
        "memory": None,
        "memory_record": None,
        "schema": SCHEMA,
    }


def failed_row(method: str, seed: int, error: str, status: str = "failed") -> dict[str, Any]:
    """The row of a run that did not end well, or was not begun: status "not run"."""
    return blank_row(method, seed) | {"status": status, "error": error}


def main() -> int:
    """Run what the directory on the command line asks for.

    Returns:
        0 if it ended well; 1 if not, with the reason on disk; 130 if it was interrupted.
    """
    directory = Path(sys.argv[1])
    logging.basicConfig(format="%(message)s", level=logging.ERROR)  # the comparison has said what is to be warned of
    for known in ("`is_gradient_checkpointing` is deprecated", "fan_in_fan_out is set to False but"):  # peft's own
        warnings.filterwarnings("ignore", message=known)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        with collected_warnings("baselines") as warned:
            row = run(directory)
        if row is None:
            return 0
        row["warnings"] += warned
    except KeyboardInterrupt:
        return 130
    except PeerEnded:  # which has written why
        return 1
    except NotAvailable as error:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        row = failed_row(config["method"], config["tuning"]["seed"], str(error), status="not run")
    except Exception as error:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        (directory / "error.log").write_text(traceback.format_exc(), encoding="utf-8")
        reason = str(error) if isinstance(error, UserError | Diverged) else f"{type(error).__name__}: {error}"
        row = failed_row(config["method"], config["tuning"]["seed"], " ".join(reason.split()))
    write_json(directory / "metrics.json", row)
    if row["status"] == "success":
        shutil.rmtree(directory / CHECKPOINTS, ignore_errors=True)
    return 1 if row["status"] == "failed" else 0


if __name__ == "__main__":
    sys.exit(main())
