"""`gantune train`: pairs in, a tuned adapter with its history, plots, settings and model card out."""

import dataclasses
import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gantune.cli.devices import DTYPES, resolve_device
from gantune.cli.messages import messages_on_stderr
from gantune.cli.options import option_types, parse, read_config, write_config
from gantune.cli.plot import draw
from gantune.cli.progress import Progress
from gantune.cli.run_directory import CHECKPOINTS, RUN_FILE, claimed, ended
from gantune.cli.tracking import Tracker, choose_tracker
from gantune.command import OneLineParser, exit_status
from gantune.data import Pair, load_pairs
from gantune.distributed import join_processes, launched_for, own_device
from gantune.errors import UserError
from gantune.hub.loading import load_model, load_tokenizer
from gantune.hub.model_card import Training, write_model_card
from gantune.trainer.checkpoints import Checkpoints
from gantune.trainer.config import LanguageGANConfig
from gantune.trainer.language_gan import LanguageGAN

COMMAND = "gantune train"
MAY_CHANGE = {"output", "resume", "device", "track", "checkpoint_every"}
"""Options that a run which is gone on with need not share with its beginning."""


@dataclass
class RunOptions:
    """Where the run goes, and who watches it."""

    _argument_group_name = "run"

    output: str | None = field(default=None, metadata={"help": "a new directory for everything that the run leaves"})
    resume: bool = field(
        default=False, metadata={"help": "go on with the run in --output, which needs no other option; or begin it"}
    )
    checkpoint_every: int = field(default=50, metadata={"help": "steps from one checkpoint to the next"})
    track: str = field(
        default="auto",
        metadata={"help": "experiment tracker: auto (TensorBoard where it is installed), none, or accelerate's name"},
    )


@dataclass
class ModelOptions:
    """The frozen language model."""

    _argument_group_name = "model"

    model: str = field(
        default="mini", metadata={"help": "'mini' (comes with gantune), a Hugging Face folder, or a Hub id"}
    )
    dtype: Literal["float32", "bfloat16", "float16"] = field(
        default="float32", metadata={"help": "of the frozen model"}
    )
    device: str = field(default="auto", metadata={"help": "'auto' (CUDA where there is one), or as torch names it"})
    sharding: Literal["none", "tensor", "fsdp", "deepspeed"] = field(
        default="none",
        metadata={"help": "divide the weights over the launched processes, and not the rows: by matrix, or by block"},
    )


@dataclass
class DataOptions:
    """Questions and answers."""

    _argument_group_name = "data"

    dataset: str | None = field(
        default=None,
        metadata={
            "help": "a .jsonl, .json, .csv or .parquet file, a folder of them, mini-tofu, mini-dialogues, tofu, or a "
            "Hub id"
        },
    )
    question_column: str = field(default="question", metadata={"help": "of format question-answer"})
    answer_column: str = field(default="answer", metadata={"help": "of format question-answer"})
    format: str | None = field(default=None, metadata={"help": "of the rows; by the columns if not given"})
    answers: Literal["last", "every"] = field(default="last", metadata={"help": "of a conversation, to learn"})
    split: str = field(default="train", metadata={"help": "of a Hub data set"})

    def load(self) -> list[Pair]:
        """The pairs.

        Raises:
            UserError: if none is named, or they cannot be read.
        """
        if self.dataset is None:
            raise UserError("--dataset: expected a file, a folder, mini-tofu, tofu, or a Hub id")
        columns = self.question_column, self.answer_column
        return load_pairs(self.dataset, *columns, self.split, format=self.format, answers=self.answers)


@dataclass
class ValidationOptions:
    """How many pairs choose the weights."""

    _argument_group_name = "data"

    validation_size: int | None = field(
        default=None, metadata={"help": "pairs held out to choose the weights, instead of --validation-share"}
    )


CLASSES = (RunOptions, ModelOptions, DataOptions, ValidationOptions, LanguageGANConfig)


def main(arguments: Sequence[str]) -> int:
    """Train; returns the exit status."""

    def command() -> int:
        with messages_on_stderr():
            return run(arguments)

    return exit_status(command, "the same command with --resume goes on from here")


def run(arguments: Sequence[str]) -> int:
    """Train as the command line says; 1 if the training broke off.

    Raises:
        UserError: if the options, the data, the model or the output directory are not as they should be.
    """
    (options, model, data, validation, config), values = parse(
        CLASSES,
        arguments,
        COMMAND,
        "Tune an adapter on a frozen language model, adversarially. Everything is written to --output.",
        config=_file_to_resume(arguments),
    )
    if options.output is None:
        raise UserError("--output: expected a new directory")
    output, tracker_name, device = Path(options.output), choose_tracker(options.track), resolve_device(model.device)
    parallel = join_processes(device)
    checkpoints = Checkpoints(output / CHECKPOINTS, options.checkpoint_every)
    with ExitStack() as held:
        with parallel.main_first():
            if parallel.main:
                held.enter_context(claimed(output, options.resume))
            if ended(output):
                if parallel.main:
                    print(f"{output}: this run has ended")
                return 0
            if options.resume and (output / RUN_FILE).is_file():
                _refuse_changes(output / RUN_FILE, values)
            pairs = data.load()
            config = _with_validation_size(config, validation.validation_size, len(pairs))
        sharding = launched_for() or "none" if model.sharding == "none" else model.sharding
        with parallel.main_first() if sharding == "none" else nullcontext():  # a divided model takes all to load
            base = load_model(model.model, DTYPES[model.dtype], own_device(device), sharding=sharding)
            gan = LanguageGAN(base, load_tokenizer(model.model), config)
            _, held_out = gan._encode(pairs)  # says what is wrong with them before anything is written
        progress = None
        if parallel.main:
            write_config(output / RUN_FILE, COMMAND, {k: v for k, v in values.items() if k != "resume"})
            tracker = None if tracker_name is None else Tracker(tracker_name, output, values)
            progress = Progress(output, gan.history, tracker)
        stopped = _train(gan, pairs, progress, checkpoints)
        validation_loss = gan._validation_loss(held_out) if held_out else None
        if parallel.main:
            gan.save_pretrained(output)
            training = Training.of(
                gan,
                dataset=data.dataset,
                pairs=len(pairs),
                validation_pairs=len(held_out),
                validation_loss=validation_loss,
                stopped=stopped,
            )
            write_model_card(output, training)
            checkpoints.clear()
            draw(output)
    if parallel.main and stopped is not None:
        print(f"error: {stopped}; they are saved in {output}", file=sys.stderr)
    elif parallel.main:
        print(f"{output}: the adapter and its model card; gantune generate --adapter {output}")
    return 0 if stopped is None else 1


def _train(gan: LanguageGAN, pairs: Sequence[Pair], progress: Progress | None, checkpoints: Checkpoints) -> str | None:
    """Train; if it met a number that is not finite, what happened: the weights are then the last good ones."""
    try:
        gan.train(pairs, progress, checkpoints)
    except FloatingPointError as error:
        return " ".join(str(error).split())
    finally:
        if progress is not None:
            progress.close()
    return None


def _file_to_resume(arguments: Sequence[str]) -> str | None:
    """The options of the run in `--output`, if it is to be gone on with."""
    first = OneLineParser(add_help=False, allow_abbrev=False)
    first.add_argument("--output")
    first.add_argument("--resume", nargs="?", const="true")
    known = first.parse_known_args(arguments)[0]
    if known.output is None or known.resume is None:
        return None
    file = Path(known.output) / RUN_FILE
    return str(file) if file.is_file() else None


def _refuse_changes(file: Path, values: dict[str, Any]) -> None:
    """A run goes on with the options that it began with.

    Raises:
        UserError: naming one that is another now.
    """
    for name, before in read_config(file, option_types(CLASSES)).items():
        if name not in MAY_CHANGE and values[name] != before:
            raise UserError(
                f"{file}: {name} is {before!r} and now {values[name]!r}, a run goes on with the options it began with"
            )


def _with_validation_size(config: LanguageGANConfig, size: int | None, pairs: int) -> LanguageGANConfig:
    """The settings with the share of the pairs that `size` is, if it is given.

    Raises:
        UserError: if it leaves no pair to train on.
    """
    if size is None:
        return config
    if not 0 <= size < pairs:
        raise UserError(f"--validation-size {size}: expected 0 to {pairs - 1}, less than the {pairs} pairs of the data")
    return dataclasses.replace(config, validation_share=size / pairs)
