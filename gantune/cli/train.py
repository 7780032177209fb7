"""`gantune train`: pairs in, a tuned adapter with its history, plots, settings and model card out."""

import dataclasses
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gantune.cli.devices import Dtype, resolve_device
from gantune.cli.messages import messages_on_stderr
from gantune.cli.options import TrainingOptions, option_types, parse, read_config, settled, write_config
from gantune.cli.run_directory import RUN_FILE, claimed, ended, has_checkpoint
from gantune.command import OneLineParser
from gantune.data.sources import READERS
from gantune.diagnostics.files import local_path
from gantune.errors import UserError
from gantune.field_types import check_range, option
from gantune.trainer.config import GameConfig

if TYPE_CHECKING:
    from gantune.data import Pair
    from gantune.trainer import LanguageGAN, Unpaired

COMMAND = "gantune train"
MAY_CHANGE = {"output_dir", "resume_from_checkpoint", "device", "report_to", "save_steps"}
"""Options that a run which is gone on with need not share with its beginning."""


@dataclass
class RunOptions:
    """Where the run goes, and who watches it."""

    _argument_group_name = "run"

    output_dir: str | None = option(None, "a new directory for everything that the run leaves")
    resume_from_checkpoint: bool = option(
        False, "go on with the run in --output-dir, which needs no other option; or begin it"
    )
    save_steps: int = option(50, "steps from one checkpoint to the next")
    report_to: str = option("none", "experiment tracker by transformers' name, such as tensorboard or wandb")

    def __post_init__(self) -> None:
        check_range(self, "at least 1", "save_steps")


@dataclass
class ModelOptions:
    """The frozen language model."""

    _argument_group_name = "model"

    model: str = option("mini", "'mini' (comes with gantune), a Hugging Face folder, or a Hub id")
    dtype: Dtype = option("float32", "of the frozen model")
    device: str = option("auto", "'auto' (CUDA where there is one), or as torch names it")
    sharding: Literal["none", "tensor", "fsdp", "deepspeed"] = option(
        "none", "divide the weights over the launched processes, and not the rows: by matrix, or by block"
    )


@dataclass
class DataOptions:
    """Questions and answers."""

    _argument_group_name = "data"

    dataset: str | None = option(
        None,
        "a .jsonl, .json, .csv, .tsv or .parquet file, a folder of them, mini-tofu, mini-dialogues, mini-records, "
        "tofu, or a Hub id",
    )
    question_column: str = option("question", "of format question-answer")
    answer_column: str = option("answer", "of format question-answer")
    format: str | None = option(None, "of the rows; by the columns if not given")
    answers: Literal["last", "every"] = option("last", "of a conversation, to learn")
    split: str = option("train", "of a Hub data set")

    def check(self) -> None:
        """Refuse options that name no data, or a file that is not there."""
        if self.dataset is None:
            raise UserError("--dataset: expected a file, a folder, mini-tofu, tofu, or a Hub id")
        _check_file(self.dataset)

    def load(self) -> "list[Pair]":
        """The pairs of the data; see [`gantune.data.load_pairs`]."""
        from gantune.data import load_pairs

        self.check()
        columns = self.question_column, self.answer_column
        return load_pairs(self.dataset, *columns, self.split, format=self.format, answers=self.answers)


@dataclass
class GameDataOptions:
    """What else a training takes of data: questions alone, and how many pairs choose the weights."""

    _argument_group_name = "data"

    prompts: str | None = option(
        None,
        "questions or records without answers, which the adversarial steps ask: as --dataset, or a .txt file with one "
        "a line",
    )
    validation_size: int | None = option(None, "pairs held out to choose the weights, instead of --validation-share")

    def check(self) -> None:
        """Refuse a file that is not there."""
        if self.prompts is not None:
            _check_file(self.prompts)

    def unpaired(self, data: DataOptions) -> "Unpaired | None":
        """The questions without answers, if some are named; see [`gantune.data.load_prompts`]."""
        if self.prompts is None:
            return None
        from gantune.data import load_prompts
        from gantune.trainer.unpaired import Unpaired

        return Unpaired(load_prompts(self.prompts, data.question_column, data.split))


EVERYDAY = (
    *("output_dir", "dataset", "model", "template", "generator", "discriminator", "reward"),
    *("num_train_epochs", "per_device_train_batch_size", "learning_rate", "validation_size", "max_completion_length"),
    *("seed", "resume_from_checkpoint", "config"),
)
CLASSES = (RunOptions, ModelOptions, DataOptions, GameDataOptions, GameConfig)


def run(arguments: Sequence[str]) -> int:
    """Train as the command line says; 1 if the training broke off."""
    groups, values = parse(
        CLASSES,
        arguments,
        COMMAND,
        "Tune an adapter on a frozen language model, adversarially. Everything is written to --output-dir. Beside the "
        "options below, those of transformers.TrainingArguments are taken.",
        config=_file_to_resume(arguments),
        transformers_too=True,
        everyday=EVERYDAY,
    )
    if groups[0].output_dir is None:
        raise UserError("--output-dir: expected a new directory")
    groups[2].check()
    groups[3].check()
    return _run(groups, values)


@messages_on_stderr()
def _run(groups: Sequence[Any], values: dict[str, Any]) -> int:
    import torch

    from gantune.cli.plot import HISTORY, WEIGHTS, draw
    from gantune.distributed import join_processes, launched_for, own_device
    from gantune.hub.loading import load_model, load_tokenizer
    from gantune.trainer.arguments import training_arguments
    from gantune.trainer.callbacks import Bar, History, Weights
    from gantune.trainer.checkpoints import folders_of
    from gantune.trainer.language_gan import LanguageGAN

    options, model, data, more, config = groups
    output, device = local_path(options.output_dir), resolve_device(model.device)
    theirs = {name: value for name, value in values.items() if name not in option_types(CLASSES)}
    parallel = join_processes(device)
    with ExitStack() as held:
        with parallel.main_first():
            if parallel.main:
                held.enter_context(claimed(output, options.resume_from_checkpoint))
            if ended(output):
                if parallel.main:
                    print(f"{output}: this run has ended")
                return 0
            if options.resume_from_checkpoint and has_checkpoint(output):
                _refuse_changes(output / RUN_FILE, values)
            pairs, unpaired = data.load(), more.unpaired(data)
            config = _with_validation_size(config, more.validation_size, len(pairs))
        quiet = {"use_cpu": device == "cpu", "logging_steps": 1, "disable_tqdm": True}
        places = {"output_dir": str(output), "save_steps": options.save_steps, "report_to": options.report_to}
        args = training_arguments(config, **quiet | places | theirs)
        sharding = launched_for() or "none" if model.sharding == "none" else model.sharding
        bar, weights = Bar("training"), Weights(output / WEIGHTS)
        with parallel.main_first() if sharding == "none" else nullcontext():  # a divided model takes all to load
            base = load_model(model.model, getattr(torch, model.dtype), own_device(device), sharding=sharding)
            watching = [History(output / HISTORY), weights, bar] if parallel.main else []
            tokenizer = load_tokenizer(model.model)
            gan = LanguageGAN(base, args, pairs, processing_class=tokenizer, unpaired=unpaired, callbacks=watching)
        bar.plan = partial(_plan, gan)
        if parallel.main:
            write_config(output / RUN_FILE, COMMAND, {k: v for k, v in values.items() if k != "resume_from_checkpoint"})
        stopped = _train(gan, bar, options.resume_from_checkpoint)
        if parallel.main:
            weights.save()
            held_out = len(gan.eval_dataset or ())
            gan.save_pretrained(
                output,
                dataset=settled(values)["dataset"],
                pairs=len(pairs),
                validation_pairs=held_out,
                validation=gan.best.measure() if gan.best.best is not None else None,
                stopped=stopped,
            )
            for folder in folders_of(output):
                shutil.rmtree(folder)
            draw(output)
    if parallel.main and stopped is not None:
        print(f"error: {stopped}; they are saved in {output}", file=sys.stderr)
    elif parallel.main:
        print(
            f"{output}: the adapter and its model card; {_told(gan)}",
            "next:",
            f"  gantune generate --adapter {output}",
            f"  gantune evaluate --adapter {output} --dataset HELD_OUT_PAIRS",
            sep="\n",
        )
    return 0 if stopped is None else 1


def _plan(gan: "LanguageGAN", steps: int) -> str:
    """What a training of so many steps is going to do."""
    args, held_out = gan.args, len(gan.eval_dataset or ())
    trained = sum(parameter.numel() for parameter in gan.parameters)
    known = sum(parameter.numel() for parameter in gan.model.parameters())
    warmup, every = gan.warmup_steps(steps), args.adversarial_every
    adversarial = -(-(steps - warmup) // every) if every and args.plays else 0
    phases = [f"{warmup if adversarial else steps} of likelihood"]
    if adversarial and gan.judged and args.discriminator_warmup_steps:
        phases.append(f"the discriminator's own {args.discriminator_warmup_steps}")
    if adversarial:
        between = steps - warmup - adversarial
        phases.append(f"{adversarial} adversarial" + f" among {between} of likelihood" * bool(between))
    pairs = f"{len(gan.train_dataset)} pairs" + f", {held_out} more held out" * bool(held_out)
    return (
        f"training: {pairs}; {trained:,} of {known:,} parameters ({100 * trained / known:.2g} %)\n"
        f"{steps} steps: {', then '.join(phases)}"
    )


def _told(gan: "LanguageGAN") -> str:
    """How long it took, and the loss of likelihood's first and last step; adversarial losses are of another kind."""
    losses = [row["loss"] for row in gan.state.log_history if row.get("phase") == "likelihood" and "loss" in row]
    told = f"{gan.limits.seconds:.1f} s"
    return f"{told}, likelihood loss {losses[0]:.3f} at first, {losses[-1]:.3f} at last" if losses else told


def _train(gan: "LanguageGAN", bar: Any, resume: bool) -> str | None:
    """Train; if it met a number that is not finite, what happened: the weights are then the last good ones."""
    from transformers.trainer_callback import PrinterCallback

    gan.remove_callback(PrinterCallback)
    try:
        gan.train(resume_from_checkpoint=resume)
    except FloatingPointError as error:
        return " ".join(str(error).split())
    finally:
        bar.close()
    return None


def _file_to_resume(arguments: Sequence[str]) -> str | None:
    """The options of the run in `--output-dir`, if it is to be gone on with."""
    first = OneLineParser(add_help=False, allow_abbrev=False)
    first.add_argument("--output-dir", "--output_dir")
    first.add_argument("--resume-from-checkpoint", "--resume_from_checkpoint", nargs="?", const="true")
    known = first.parse_known_args(arguments)[0]
    if known.output_dir is None or known.resume_from_checkpoint is None:
        return None
    file = Path(known.output_dir) / RUN_FILE
    return str(file) if file.is_file() else None


def _refuse_changes(file: Path, values: dict[str, Any]) -> None:
    """A run goes on with the options that it began with."""
    values = settled(values)
    for name, before in settled(read_config(file, option_types(CLASSES), TrainingOptions())).items():
        if name not in MAY_CHANGE and values.get(name) != before:
            raise UserError(
                f"{file}: {name} is {before!r} and now {values.get(name)!r}, a run goes on with the options it began "
                "with"
            )


def _with_validation_size(config: GameConfig, size: int | None, pairs: int) -> GameConfig:
    """The settings with the share of the pairs that `size` is, if it is given."""
    if size is None:
        return config
    if not 0 <= size < pairs:
        raise UserError(f"--validation-size {size}: expected 0 to {pairs - 1}, less than the {pairs} pairs of the data")
    return dataclasses.replace(config, validation_share=size / pairs)


def _check_file(source: str) -> None:
    """Refuse a file of data that is not there."""
    path = local_path(source)
    if path.suffix.lower() in (*READERS, ".txt") and not path.exists():
        raise UserError(f"{source}: no such file")
