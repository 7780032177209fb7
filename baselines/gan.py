"""The methods of this project, as rows of the comparison: an objective that trains a generator.

Each objective is a method, whose generator the settings name, and the left half of every `OBJECTIVE:GENERATOR`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from baselines.likelihood_training import quiet_arguments, train
from baselines.method import METHODS, OBJECTIVES, Diverged, Method, TunedModel, around
from baselines.prompt_learning import check_positions
from baselines.reranking import RerankedModel, RerankingConfig
from baselines.self_play import SelfPlayConfig
from baselines.self_training import SelfTrainingConfig
from baselines.slot_reward import SlotReward, SlotRewardConfig
from gantune.errors import UserError
from gantune.registry import GENERATORS
from gantune.trainer.config import GameConfig

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

    from gantune.data import Pair
    from gantune.trainer import PolicyTrainer


def tuned_model(trainer: PolicyTrainer, tokenizer: PreTrainedTokenizerBase, config: GameConfig) -> TunedModel:
    """The generator of a trainer."""
    return TunedModel(trainer.model, tokenizer, config, save=trainer.save_pretrained)


def train_language_gan(
    made: Callable[..., PolicyTrainer],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: GameConfig,
    callbacks: Sequence[TrainerCallback] = (),
    arguments: Mapping[str, Any] | None = None,
    *,
    outcome: Callable[..., TunedModel] = tuned_model,
    **more: Any,
) -> TunedModel:
    """What a trainer makes of the pairs, as the comparison wants it.

    `made` makes the trainer, as [`LanguageGAN`] is made, with `more`; for `arguments` see [`quiet_arguments`], for
    `outcome` [`Objective`].

    Raises:
        Diverged: with the last good weights, if a loss or a gradient is not finite.
    """
    with quiet_arguments(model, config, arguments) as args:
        trainer = made(model, args, pairs, processing_class=tokenizer, callbacks=callbacks, **more)
        tuned = outcome(trainer, tokenizer, config)
        try:
            train(trainer)
        except FloatingPointError as error:
            raise Diverged(str(error), tuned) from error
    return tuned


RATES = {"learning_rate": around(2e-3)}


def language_gan(config: GameConfig) -> Callable[..., PolicyTrainer]:
    """[`LanguageGAN`]."""
    from gantune.trainer.language_gan import LanguageGAN

    return LanguageGAN


def with_shuffled_reward(config: GameConfig) -> Callable[..., PolicyTrainer]:
    """A LanguageGAN whose rewards are given to the wrong answers of the batch; see [`ShuffledReward`]."""
    from gantune.seqgan import ShuffledReward
    from gantune.trainer.language_gan import LanguageGAN

    def made(*args: Any, **kwargs: Any) -> LanguageGAN:
        trainer = LanguageGAN(*args, **kwargs)
        trainer.reward = ShuffledReward(trainer.reward)
        return trainer

    return made


def with_slot_reward(config: SlotRewardConfig) -> Callable[..., PolicyTrainer]:
    """A LanguageGAN whose reward is the true number of slot errors; see [`SlotReward`]."""
    from gantune.trainer.language_gan import LanguageGAN

    def made(model: Any, args: Any, pairs: Sequence[Pair], **more: Any) -> LanguageGAN:
        reward = SlotReward([pair.question for pair in pairs], config.slots)
        return LanguageGAN(model, args, pairs, reward=reward, **more)

    return made


def reranking(config: RerankingConfig) -> Callable[..., PolicyTrainer]:
    """[`Reranking`]."""
    from gantune.trainer.reranking import Reranking

    return Reranking


def self_play(config: SelfPlayConfig) -> Callable[..., PolicyTrainer]:
    """[`SelfPlay`] at the scale of the settings."""
    from gantune.trainer.self_play import SelfPlay

    return partial(SelfPlay, peft_config=config.generator, scale=config.self_play_scale)


def self_training(config: SelfTrainingConfig) -> Callable[..., PolicyTrainer]:
    """[`SelfTraining`] as the settings say."""
    from gantune.trainer.self_training import SelfTraining

    return partial(SelfTraining, decoding=config.self_training_decoding, share=config.self_training_share)


@dataclass(frozen=True)
class Objective:
    """A way to train any generator; what is not named here is as in [`Method`].

    Args:
        about: what it is, for the methods' docstrings.
        changes: settings that it fixes.
        likelihood_only: whether every step is likelihood; see [`likelihood_alone`].
        trainer: gives for the settings what makes the trainer.
        outcome: what a trainer, the tokenizer and the settings give that answers questions.
        samples: whether it samples answers, which a prefix of keys and values cannot.
    """

    about: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    likelihood_only: bool = False
    trainer: Callable[[Any], Callable[..., PolicyTrainer]] = language_gan
    outcome: Callable[..., TunedModel] = tuned_model
    config_class: type[GameConfig] = GameConfig
    unpaired: Literal["", "used", "questions", "needed"] = ""
    samples: bool = True
    sweeps: Mapping[str, Sequence[float]] = field(
        default_factory=lambda: RATES | {"adversarial_weight": around(1.0, 1)}
    )


PATIENCE = 10**6
"""Epochs that early-stopped likelihood waits for a better one: its rate falls to the end; the best of all is kept."""


def likelihood_alone(config: GameConfig) -> dict[str, Any]:
    """What makes every step likelihood and leaves the learning rates as the game has them.

    Where its second part has a rate of its own, so has that of its control.
    """
    return {"adversarial_every": 0} if config.adversarial_learning_rate else {"warmup_share": 1.0}


SELF_TRAINING = Objective(
    "Likelihood warm-up, then also likelihood of its own answers to the unpaired questions, made once.",
    changes={"blind_discriminator": True},
    likelihood_only=True,
    trainer=self_training,
    config_class=SelfTrainingConfig,
    unpaired="questions",
    samples=False,
    sweeps=RATES,
)
OBJECTIVE_TABLE = {
    "gan": Objective(
        "LanguageGAN: likelihood warm-up, then adversarial steps with a likelihood anchor.", unpaired="used"
    ),
    "mle": Objective(
        "The control of `gan`: the same generator and the same number of steps, every one of them likelihood.",
        likelihood_only=True,
        samples=False,
        sweeps=RATES,
    ),
    "mle-early-stopped": Objective(
        "`mle` with the weights of the epoch that is best on a tenth of the pairs, which it does not train on.",
        changes={
            "warmup_share": 1.0,
            "adversarial_learning_rate": 0.0,
            "validation_share": 0.1,
            "early_stopping_patience": PATIENCE,
        },
        samples=False,
        sweeps=RATES,
    ),
    "mle-unpaired": Objective(
        "`mle` that also learns the likelihood of unpaired answers, to the empty question: what they are worth to it.",
        changes={"blind_discriminator": True},
        likelihood_only=True,
        unpaired="needed",
        samples=False,
        sweeps=RATES,
    ),
    "self-training": SELF_TRAINING,
    "self-training-greedy": replace(
        SELF_TRAINING,
        about="`self-training` on greedy answers.",
        changes={**SELF_TRAINING.changes, "self_training_decoding": "greedy"},
    ),
    "rerank": Objective(
        "The discriminator's choice among several samples of `mle`, after a warm-up on what it samples.",
        likelihood_only=True,
        trainer=reranking,
        outcome=RerankedModel,
        config_class=RerankingConfig,
        unpaired="used",
        sweeps=RATES,
    ),
    "gan-constant": Objective(
        "A control of `gan`: the same reward for all.", changes={"reward": "constant"}, unpaired="used"
    ),
    "gan-shuffled": Objective(
        "A control of `gan`: each answer gets another's reward.", trainer=with_shuffled_reward, unpaired="used"
    ),
    "gan-frozen-judge": Objective(
        "`gan` whose discriminator learns in its warm-up alone.", changes={"discriminator_steps": 0}, unpaired="used"
    ),
    "gan-plain": Objective(
        "`gan` whose discriminator learns from sampled answers alone, as in SeqGAN (Yu et al. 2017).",
        changes={"corrupted_negatives": False, "mismatched_negatives": False},
        unpaired="used",
    ),
    "gan-corrupted": Objective(
        "`gan` whose discriminator sees no sampled answers, only true ones to questions that are not theirs.",
        changes={"generated_negatives": False},
        unpaired="used",
    ),
    "gan-oracle": Objective(
        "The upper bound of `gan` on records: the true slot errors are the reward.",
        trainer=with_slot_reward,
        config_class=SlotRewardConfig,
        unpaired="used",
    ),
    "self-play": Objective(
        "Likelihood warm-up, then true answers preferred to the last epoch's own (Chen et al. 2024, arXiv:2401.01335).",
        trainer=self_play,
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


def check_generator(name: str, objective: Objective, config: GameConfig) -> list[PeftConfig]:
    """The configurations of a generator; a [`UserError`] if it is not known, or the objective cannot train it."""
    from peft import PeftType

    from gantune.embedding_generator import check_prompt_learning
    from gantune.embedding_generator.generators import build_generator

    configs = build_generator(config.generator, config)
    for part in configs:
        try:
            check_prompt_learning(part)
        except UserError as error:
            raise UserError(f"{name}: generator {config.generator!r}: {error}") from error
        if part.peft_type == PeftType.PREFIX_TUNING and objective.samples:
            raise UserError(
                f"{name}: generator {config.generator!r} is a prefix of keys and values, which peft puts in again at "
                "every step, so it cannot sample answers; train it by mle, or another generator, such as prompt"
            )
    return configs


def cell(objective: Objective, name: str, generator: str | None = None) -> Method:
    """The method `name`, which trains a generator, see [`build_generator`], by an objective; the settings' if None.

    Raises:
        UserError: if the generator is not known.
    """
    changes = dict(objective.changes)
    if generator is not None:
        for part in generator.split("+"):
            if "." not in part:
                GENERATORS.check(part)
        changes["generator"] = generator

    def fixed(config: GameConfig) -> GameConfig:
        own = likelihood_alone(config) if objective.likelihood_only else {}
        if objective.unpaired in ("questions", "needed"):  # as much as true answers, if the settings do not say
            own["unpaired_likelihood_weight"] = config.unpaired_likelihood_weight or 1.0
        return replace(config, **changes | own)

    def check(config: GameConfig) -> list[PeftConfig]:
        return check_generator(name, objective, fixed(config))

    def tune(model: Any, tokenizer: Any, pairs: Any, config: GameConfig, *training: Any, **more: Any) -> TunedModel:
        config = fixed(config)
        for part in check_generator(name, objective, config):
            if part.is_prompt_learning:
                said = f"{name}: generator {config.generator!r} has {part.num_virtual_tokens} virtual tokens"
                check_positions(model, config, part.num_virtual_tokens, said)
        made = objective.trainer(config)
        return train_language_gan(made, model, tokenizer, pairs, config, *training, outcome=objective.outcome, **more)

    tune.__doc__ = objective.about
    control = None if objective is OBJECTIVE_TABLE["mle"] else _same_generator("mle", name)
    return Method(
        name,
        tune,
        objective.config_class,
        needs_model=True,
        unpaired=objective.unpaired,
        resumes=True,
        control=control,
        rivals=(_same_generator("mle-unpaired", name), "lora-unpaired") if objective.unpaired else (),
        siblings=[_same_generator(other, name) for other in OBJECTIVE_TABLE]
        if objective is OBJECTIVE_TABLE["gan"]
        else (),
        sweeps=objective.sweeps,
        check=check,
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
