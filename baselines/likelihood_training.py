"""How methods are trained: by transformers' own likelihood loss, or by a trainer of their own; quietly, resumably."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines.matching import Size
from baselines.method import Method, TunedModel, method
from gantune.tuning import TuningConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

    from gantune.data import Pair
    from gantune.trainer import PairConfig, PairTrainer


@contextmanager
def quiet_arguments(
    model: PreTrainedModel, config: TuningConfig, arguments: Mapping[str, Any] | None, **more: Any
) -> Iterator[PairConfig]:
    """The settings of a method as those of its training, which shows nothing itself and logs every step.

    Args:
        model: says whether to train on the CPU.
        config: the method's.
        arguments: further ones, with the `output_dir` of the checkpoints; None keeps none.
        more: still further ones.
    """
    from gantune.trainer.arguments import training_arguments

    with tempfile.TemporaryDirectory() as unused:
        kept = {"output_dir": unused, "save_strategy": "no"} if arguments is None else dict(arguments)
        shown = {"use_cpu": model.device.type == "cpu", "logging_steps": 1, "disable_tqdm": True}
        yield training_arguments(config, **shown | kept | more)


def train(trainer: PairTrainer) -> None:
    """Train, from the newest whole checkpoint on if there is one."""
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)  # the callbacks of the run show what it would print
    trainer.train(resume_from_checkpoint=True)


def train_by_likelihood(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: TuningConfig,
    learning_rate: float,
    callbacks: Sequence[TrainerCallback] = (),
    arguments: Mapping[str, Any] | None = None,
) -> TunedModel:
    """Train what is trainable in `model` on the answers' tokens, see [`PairTrainer`].

    Args:
        model: the model, usually with an adapter.
        tokenizer: its tokenizer.
        pairs: questions and true answers; all are trained on, but for the share that early stopping holds out.
        config: length of training, template and limits.
        learning_rate: the full one.
        callbacks: see [`PairTrainer`].
        arguments: see [`quiet_arguments`].

    Returns:
        The model; `save` writes its own `save_pretrained`.
    """
    from gantune.trainer.pair_trainer import PairTrainer

    with quiet_arguments(model, config, arguments, learning_rate=learning_rate) as args:
        train(PairTrainer(model, args, pairs, processing_class=tokenizer, callbacks=callbacks))
    return TunedModel(model, tokenizer, config, save=model.save_pretrained)


def likelihood_method(
    name: str, config_class: type[TuningConfig], learning_rate: str, size: Size | None = None
) -> Callable[[Callable[..., PreTrainedModel]], Method]:
    """Decorator of a function `(model, tokenizer, config) -> model` that adds what is trained: a method by likelihood.

    Args:
        name: of the method.
        config_class: its settings.
        learning_rate: the setting that is its learning rate.
        size: see [`Method`].
    """

    def register(adapt: Callable[..., PreTrainedModel]) -> Method:
        def tune(
            model: PreTrainedModel,
            tokenizer: PreTrainedTokenizerBase,
            pairs: Sequence[Pair],
            config: TuningConfig,
            callbacks: Sequence[TrainerCallback] = (),
            arguments: Mapping[str, Any] | None = None,
        ) -> TunedModel:
            tuned, rate = adapt(model, tokenizer, config), getattr(config, learning_rate)
            return train_by_likelihood(tuned, tokenizer, pairs, config, rate, callbacks, arguments)

        tune.__doc__ = adapt.__doc__
        return method(name, config_class, size=size, resumes=True)(tune)

    return register


def save_with_tokenizer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Callable[[Path], None]:
    """Writes a Hugging Face folder that can be loaded as it is."""

    def save(directory: Path) -> None:
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)

    return save
