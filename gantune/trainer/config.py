"""Settings of the game; each field is an option of the command line. Importing it is quick."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from gantune.errors import UserError
from gantune.field_types import check_range, option
from gantune.tuning import LoraOptions

CONFIG_FILE = "language_gan.json"
"""Beside a saved adapter: how it was tuned."""


@dataclass
class GameConfig(LoraOptions):
    """Settings of [`LanguageGAN`] without transformers' own; the defaults are where FINDINGS section 7 arrives.

    What each is for says its `help`, which is its line on the command line. `objective` and `advantage` are what the
    generator does with the rewards; the policy gradient is divided by `max_completion_length`. AdamW trains the
    generator, Adam the discriminator, and each network's gradient is clipped by itself.
    """

    _argument_group_name = "gan: LanguageGAN"

    # parameters that control the components
    generator: str = option("embedding", "what is tuned: a registry name or dotted path; several joined by +")
    discriminator: str = option("cnn", "what judges the answers: a registry name or dotted path")
    reward: str = option(
        "token",
        "sequence, token, monte-carlo, consensus, constant, or the dotted path of a class or function; "
        "several joined by * are multiplied",
    )
    reward_transform: str = option("centred", "r in R = r(D): prob (D), centred (2D - 1), log (log D) or logit")
    objective: str = option(
        "policy-gradient",
        "what the rewards are for: policy-gradient, or likelihood of the sampled answers, of the best-of-k "
        "or weighted by reward",
    )
    advantage: str = option("leave-one-out", "baseline: none, moving-average, leave-one-out or group-norm")
    # parameters that control the Monte-Carlo search, for reward monte-carlo
    search_completions: int = option(4, "monte-carlo: completions of each prefix")
    search_stride: int = option(1, "monte-carlo: complete only every so many-th prefix")
    search_rows: int = option(64, "monte-carlo: most rows that are decoded at once")
    search_policy: Literal["current", "delayed"] = option(
        "current", "monte-carlo: complete with the generator, or with an exponential average of its adapter"
    )
    search_decay: float = option(0.8, "monte-carlo: share of the average that a step keeps")
    # parameters that control the schedule
    warmup_share: float = option(0.8, "share of the steps that is maximum likelihood only, at the start")
    discriminator_warmup_steps: int = option(
        30, "discriminator steps between the warm-up and the first adversarial step"
    )
    discriminator_warmup_rollouts: int = option(
        2, "batches of questions that are answered for these steps, at most those of an epoch"
    )
    adversarial_every: int = option(
        5, "after the warm-up every n-th step is adversarial, the others likelihood (0: all likelihood)"
    )
    steps_per_generation: int = option(1, "adversarial steps on one rollout, each on its share of the questions")
    adversarial_learning_rate: float = option(
        0.0, "of the generator after the warm-up, where its schedule begins anew (0: one schedule for all steps)"
    )
    # parameters that control rollouts and losses
    num_generations: int = option(4, "answers sampled to each question of an adversarial step")
    rollout_rows: int = option(
        0,
        "most answers that are sampled, or judged as a reward, at once (0: 96 on a CPU, where more save little time, "
        "else all of a rollout); a step of the discriminator itself reads all of its rows at once",
    )
    prompts_per_step: int = option(
        0, "questions of an adversarial step, where there are questions without answers (0: as many as pairs a step)"
    )
    epsilon: float = option(0.2, "the policy gradient's importance ratio is clipped to 1 - epsilon and 1 + epsilon")
    beta: float = option(0.0, "weight of the KL divergence to the policy that the warm-up left, in adversarial steps")
    temperature: float = option(1.0, "of the rollouts, in sampling and in scoring")
    likelihood_weight: float = option(
        1.0, "of the likelihood anchor in an adversarial step; without it policies collapse"
    )
    unpaired_likelihood_weight: float = option(
        0.0, "of the likelihood of unpaired answers, to the empty question, in every step (--unpaired)"
    )
    adversarial_weight: float = option(1.0, "of the objective in an adversarial step")
    discount: float = option(0.95, "of rewards a token")
    length_normalised: bool = option(True, "returns are averages over the tokens to come, not sums")
    # parameters that control speed
    captured_decoding: bool = option(
        False,
        "sample answers by replaying a CUDA graph for each token: the same answers, fewer launches; needs "
        "CUDA and a model with full attention in every layer; not yet run on a GPU",
    )
    # parameters that control the discriminator
    discriminator_loss: Literal["binary", "bradley-terry"] = option(
        "binary",
        "true answers against each other kind: binary cross-entropy, or bradley-terry, -log s(D(true) - D(other))",
    )
    discriminator_steps: int = option(1, "discriminator steps on each rollout (0: it stays as its warm-up left it)")
    real_label: float = option(0.9, "the discriminator's target for true answers, for the binary loss")
    generated_negatives: bool = option(True, "show it sampled answers as not real")
    corrupted_negatives: bool = option(
        True, "also show it true answers to corrupted records as not real, where questions are records"
    )
    blind_discriminator: bool = option(False, "show the discriminator answers without their questions")
    mismatched_negatives: bool = option(True, "also show it true answers to other questions as not real")
    replay_rollouts: int = option(8, "earlier rollouts kept to show it again (0: none)")
    max_discriminator_accuracy: float = option(0.9, "it is not trained further while its accuracy is above this")
    # parameters that control the optimisers
    learning_rate: float = option(2e-3, "of the generator; AdamW")
    discriminator_learning_rate: float = option(1e-3, "of the discriminator; Adam")
    max_grad_norm: float = option(1.0, "gradient norm of either network is clipped to this")

    @property
    def plays(self) -> bool:
        """Whether there are adversarial steps."""
        return self.warmup_share < 1 and self.adversarial_every > 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "between 0 and 1", "warmup_share", "discount", "real_label", "search_decay")
        check_range(self, "between 0 and 1", "max_discriminator_accuracy")
        check_range(self, "at least 1", "num_generations", "discriminator_warmup_rollouts", "steps_per_generation")
        check_range(self, "at least 1", "search_completions", "search_stride", "search_rows")
        check_range(self, "above 0", "temperature", "learning_rate", "discriminator_learning_rate", "max_grad_norm")
        check_range(self, "at least 0", "discriminator_warmup_steps", "replay_rollouts", "adversarial_weight")
        check_range(self, "at least 0", "likelihood_weight", "unpaired_likelihood_weight", "adversarial_every")
        check_range(self, "at least 0", "prompts_per_step", "adversarial_learning_rate", "epsilon", "beta")
        check_range(self, "at least 0", "discriminator_steps", "rollout_rows")


def read_game_config(folder: str | Path, template: str | None = None) -> GameConfig:
    """The settings beside an adapter; a template in them must be known: a file never makes gantune import anything.

    A `template` that the user names takes its place, be it a dotted path.

    Raises:
        UserError: if there are none, or they are not what was written.
    """
    from gantune.data import TEMPLATES

    file = Path(folder) / CONFIG_FILE
    if not file.parent.is_dir():
        raise UserError(f"{folder}: no such folder")
    if not file.is_file():
        raise UserError(f"{folder}: no {CONFIG_FILE}, expected a folder that gantune train or save_pretrained wrote")
    try:
        config = GameConfig(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: not the settings of a LanguageGAN: {error}") from error
    config = replace(config, template=template or config.template)
    (TEMPLATES.resolve if template else TEMPLATES.get)(config.template)
    return config
