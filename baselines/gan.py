"""The methods of this project, as rows of the comparison: an objective that trains a generator.

Each objective is a method, whose generator the settings name, and the left half of every `OBJECTIVE:GENERATOR`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, Protocol

from peft import PeftConfig, PeftType
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from baselines.method import METHODS, OBJECTIVES, Diverged, Method, TunedModel, around
from baselines.prompt_learning import check_positions
from baselines.self_play import SelfPlay, SelfPlayConfig
from baselines.self_training import SelfTraining, SelfTrainingConfig
from gantune.data import Pair
from gantune.embedding_generator import check_prompt_learning
from gantune.embedding_generator.generators import build_generator
from gantune.errors import UserError
from gantune.seqgan import ShuffledReward
from gantune.trainer.config import LanguageGANConfig
from gantune.trainer.language_gan import LanguageGAN
from gantune.trainer.observer import Observer


class GeneratorTrainer(Protocol):
    """What trains a generator, such as [`LanguageGAN`]; made of `(model, tokenizer, config)`."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    config: LanguageGANConfig

    def train(self, pairs: Sequence[Pair], observer: Observer | None = None) -> Any:
        """Raises FloatingPointError, with the last good weights put back, if training diverges."""
        ...

    def save_pretrained(self, directory: Any) -> None: ...


def train_language_gan(
    trainer: GeneratorTrainer,
    pairs: Sequence[Pair],
    observer: Observer | None = None,
    **more: Any,
) -> TunedModel:
    """What a trainer makes of the pairs, as the comparison wants it; `more` goes to its `train`.

    Raises:
        Diverged: with the last good weights, if a loss or a gradient is not finite.
    """
    tuned = TunedModel(trainer.model, trainer.tokenizer, trainer.config, save=trainer.save_pretrained)
    try:
        trainer.train(pairs, observer, **more)
    except FloatingPointError as error:
        raise Diverged(str(error), tuned) from error
    return tuned


RATES = {"learning_rate": around(2e-3)}


@dataclass(frozen=True)
class Objective:
    """A way to train any generator.

    Args:
        about: what it is, for the methods' docstrings.
        changes: settings that it fixes.
        trainer: `(model, tokenizer, config) -> GeneratorTrainer`.
        config_class: its settings.
        unpaired: see [`Method`].
        samples: whether it samples answers, which a prefix of keys and values cannot.
        resumes: whether its trainer goes on from checkpoints.
        sweeps: see [`Method`].
    """

    about: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    trainer: Callable[..., GeneratorTrainer] = LanguageGAN
    config_class: type[LanguageGANConfig] = LanguageGANConfig
    unpaired: Literal["", "used", "needed"] = ""
    samples: bool = True
    resumes: bool = True
    sweeps: Mapping[str, Sequence[float]] = field(
        default_factory=lambda: RATES | {"adversarial_weight": around(1.0, 1)}
    )


def with_shuffled_reward(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: LanguageGANConfig
) -> LanguageGAN:
    """A LanguageGAN whose rewards are given to the wrong answers of the batch; see [`ShuffledReward`]."""
    trainer = LanguageGAN(model, tokenizer, config)
    trainer.reward = ShuffledReward(trainer.reward)
    return trainer


def with_unpaired_likelihood(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: LanguageGANConfig
) -> LanguageGAN:
    """A LanguageGAN to which unpaired answers count; as much as true answers to questions if `config` does not say."""
    return LanguageGAN(
        model, tokenizer, replace(config, unpaired_likelihood_weight=config.unpaired_likelihood_weight or 1.0)
    )


OBJECTIVE_TABLE = {
    "gan": Objective(
        "LanguageGAN: likelihood warm-up, then adversarial steps with a likelihood anchor.", unpaired="used"
    ),
    "mle": Objective(
        "The control of `gan`: the same generator and the same number of steps, every one of them likelihood.",
        changes={"warmup_share": 1.0},
        samples=False,
        sweeps=RATES,
    ),
    "mle-unpaired": Objective(
        "`mle` that also learns the likelihood of unpaired answers, to the empty question: what they are worth to it.",
        changes={"warmup_share": 1.0, "blind_discriminator": True},
        trainer=with_unpaired_likelihood,
        unpaired="needed",
        samples=False,
        sweeps=RATES,
    ),
    "self-training": Objective(
        "Likelihood warm-up, then also likelihood of its own answers to the unpaired questions, made once.",
        trainer=SelfTraining,
        config_class=SelfTrainingConfig,
        unpaired="needed",
        samples=False,
        resumes=False,
        sweeps=RATES,
    ),
    "gan-constant": Objective(
        "A control of `gan`: the same reward for all.", changes={"reward": "constant"}, unpaired="used"
    ),
    "gan-shuffled": Objective(
        "A control of `gan`: each answer gets another's reward.", trainer=with_shuffled_reward, unpaired="used"
    ),
    "self-play": Objective(
        "Likelihood warm-up, then true answers preferred to the last epoch's own (Chen et al. 2024, arXiv:2401.01335).",
        trainer=SelfPlay,
        config_class=SelfPlayConfig,
        sweeps=RATES | {"self_play_scale": around(0.1, 1)},
    ),
}
NAMED_CELLS = {
    "gan-stack": ("gan", "embedding+lora"),
    "mle-stack": ("mle", "embedding+lora"),
    "lora-unpaired": ("mle-unpaired", "lora"),
    "mle-stack-unpaired": ("mle-unpaired", "embedding+lora"),
}


def check_generator(name: str, objective: Objective, generator: str) -> list[PeftConfig]:
    """Refuse a generator that is not known, or that the objective cannot train.

    Returns:
        The generator's configurations.

    Raises:
        UserError: naming the method.
    """
    configs = build_generator(generator)
    for config in configs:
        try:
            check_prompt_learning(config)
        except UserError as error:
            raise UserError(f"{name}: generator {generator!r}: {error}") from error
        if config.peft_type == PeftType.PREFIX_TUNING and objective.samples:
            raise UserError(
                f"{name}: generator {generator!r} is a prefix of keys and values, which peft puts in again at every "
                "step, so it cannot sample answers; train it by mle, or another generator, such as prompt"
            )
    return configs


def cell(objective: Objective, name: str, generator: str | None = None) -> Method:
    """The method that trains a generator by an objective.

    Args:
        objective: trains it.
        name: of the method.
        generator: see [`build_generator`]; `config.generator` if None.

    Raises:
        UserError: see [`check_generator`].
    """
    changes = dict(objective.changes)
    if generator is not None:
        check_generator(name, objective, generator)
        changes["generator"] = generator

    def tune(
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        pairs: Sequence[Pair],
        config: LanguageGANConfig,
        observer: Observer | None = None,
        **more: Any,
    ) -> TunedModel:
        config = replace(config, **changes)
        for part in check_generator(name, objective, config.generator):
            if part.is_prompt_learning:
                said = f"{name}: generator {config.generator!r} has {part.num_virtual_tokens} virtual tokens"
                check_positions(model, config, part.num_virtual_tokens, said)
        return train_language_gan(objective.trainer(model, tokenizer, config), pairs, observer, **more)

    tune.__doc__ = objective.about
    control = None if objective is OBJECTIVE_TABLE["mle"] else _same_generator("mle", name)
    return Method(
        name,
        tune,
        objective.config_class,
        needs_model=True,
        unpaired=objective.unpaired,
        resumes=objective.resumes,
        control=control,
        rivals=(_same_generator("mle-unpaired", name), "lora-unpaired") if objective.unpaired else (),
        sweeps=objective.sweeps,
    )


def _same_generator(objective: str, name: str) -> str:
    """The method that trains the generator of the method `name` by an objective."""
    _, colon, generator = name.partition(":")
    if not colon:
        _, generator = NAMED_CELLS.get(name, (name, None))
    if generator is None:
        return objective
    named = (cell for cell, content in NAMED_CELLS.items() if content == (objective, generator))
    return next(named, f"{objective}:{generator}")


for _name, _objective in OBJECTIVE_TABLE.items():
    OBJECTIVES.register(_name)(partial(cell, _objective))
    METHODS.register(_name)(cell(_objective, _name))
for _name, (_objective_name, _generator) in NAMED_CELLS.items():
    METHODS.register(_name)(cell(OBJECTIVE_TABLE[_objective_name], _name, _generator))
tune_gan, tune_mle = METHODS.get("gan"), METHODS.get("mle")
