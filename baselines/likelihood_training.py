"""How methods are trained: by transformers' own likelihood loss, or by a trainer of their own; quietly, resumably."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines.matching import Size
from baselines.method import Method, TunedModel, method
from gantune.diagnostics.files import write_json
from gantune.trainer.config import CONFIG_FILE
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

    It is on the CPU if the model is. `arguments` are further ones, with the `output_dir` of the checkpoints; None keeps
    none.
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


def likelihood_method(
    name: str, config_class: type[TuningConfig], learning_rate: str, size: Size | None = None
) -> Callable[[Callable[..., PreTrainedModel]], Method]:
    """Decorator of a function `(model, tokenizer, config) -> model` that adds what is trained: a method by likelihood.

    What is trainable in that model is trained on the answers' tokens, see [`PairTrainer`]. If it is the given model
    itself, its tokenizer is saved beside it: a Hugging Face folder that can be loaded as it is. An adapter is saved as
    peft does it, with the settings that `gantune generate` reads beside it. `learning_rate` is the setting that is the
    method's; all else is as in [`Method`]. A model that carries an adapter is a `UserError`.
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
            from gantune.embedding_generator.stacking import refuse_adapted
            from gantune.trainer.pair_trainer import PairTrainer

            refuse_adapted(model)
            tuned = adapt(model, tokenizer, config)

            with quiet_arguments(tuned, config, arguments, learning_rate=getattr(config, learning_rate)) as args:
                train(PairTrainer(tuned, args, pairs, processing_class=tokenizer, callbacks=callbacks))

            def save(directory: Path) -> None:
                tuned.save_pretrained(directory)
                if tuned is model:
                    tokenizer.save_pretrained(directory)
                else:  # template and limits, which `gantune generate` reads
                    write_json(directory / CONFIG_FILE, {f.name: getattr(config, f.name) for f in fields(TuningConfig)})

            return TunedModel(tuned, tokenizer, config, save=save)

        tune.__doc__ = adapt.__doc__
        return method(name, config_class, size=size, resumes=True)(tune)

    return register
