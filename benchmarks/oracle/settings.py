"""The settings of the benchmark; the defaults are the paper's and its released code's."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from gantune.errors import UserError


@dataclass
class OracleSettings:
    """Numbers of the protocol; FINDINGS section 4 lists where they come from.

    Args:
        sequences: drawn once from the oracle to train on, and as many to test on, and sampled for each evaluation.
        batch_size: of every network, and sequences of a generator step.
        mle_epochs: of maximum likelihood.
        mle_learning_rate: Adam.
        discriminator_rounds: before the first adversarial round; fresh negatives in each.
        discriminator_epochs: over real and negative sequences in each of them.
        discriminator_learning_rate: Adam.
        discriminator_bf16: whether it computes in bfloat16 (autocast); its weights stay in float32.
        adversarial_rounds: each a generator step and then discriminator rounds.
        discriminator_rounds_each: discriminator rounds of an adversarial one.
        learning_rate: of the policy gradient; Adam.
        max_grad_norm: global norm of the generator's gradient.
        completions: N of the Monte-Carlo search.
        rollout_policy: what completes.
        max_rows: completions decoded and judged at once.
        model_epochs: of the model m of the likelihood ratio, of which the best is taken.
        model_dropout: of m.
        ratio_steps: of a game with the ratio; with many more the policy can collapse (FINDINGS 11).
        ratio_sequences: sampled for each of them.
        ratio_learning_rate: of policy and mediator in them; Adam.
        evaluate_every: epochs and rounds from one evaluation to the next.
        temperatures: at which models of maximum likelihood are also sampled.
    """

    _argument_group_name = "protocol; the defaults are the paper's"

    sequences: int = field(default=9984, metadata={"help": "to train on, to test on, and for each evaluation"})
    batch_size: int = field(default=64, metadata={"help": "sequences a step"})
    mle_epochs: int = field(default=120, metadata={"help": "epochs of maximum likelihood"})
    mle_learning_rate: float = field(default=1e-2, metadata={"help": "of maximum likelihood, Adam"})
    discriminator_rounds: int = field(default=50, metadata={"help": "rounds before the adversarial ones"})
    discriminator_epochs: int = field(default=3, metadata={"help": "epochs a discriminator round"})
    discriminator_learning_rate: float = field(default=1e-4, metadata={"help": "of the discriminator, Adam"})
    discriminator_bf16: bool = field(default=False, metadata={"help": "the discriminator computes in bfloat16"})
    adversarial_rounds: int = field(default=200, metadata={"help": "rounds of one generator step each"})
    discriminator_rounds_each: int = field(default=5, metadata={"help": "discriminator rounds after each of them"})
    learning_rate: float = field(default=1e-2, metadata={"help": "of the policy gradient, Adam"})
    max_grad_norm: float = field(default=5.0, metadata={"help": "global norm of the generator's gradient"})
    completions: int = field(default=16, metadata={"help": "completions of each prefix"})
    rollout_policy: Literal["current", "delayed"] = field(
        default="current", metadata={"help": "complete with the generator, or an exponential average (0.8) of it"}
    )
    max_rows: int = field(default=1024, metadata={"help": "completions decoded and judged at once"})
    model_epochs: int = field(default=15, metadata={"help": "epochs of the ratio's own model"})
    model_dropout: float = field(default=0.2, metadata={"help": "of the ratio's own model"})
    ratio_steps: int = field(default=40, metadata={"help": "generator steps of a game with the ratio"})
    ratio_sequences: int = field(default=512, metadata={"help": "sequences of such a step"})
    ratio_learning_rate: float = field(default=3e-3, metadata={"help": "of such a game, Adam"})
    evaluate_every: int = field(default=5, metadata={"help": "epochs or rounds between evaluations"})
    temperatures: list[float] = field(
        default_factory=lambda: [0.7, 0.8, 0.9, 1.1],
        metadata={"help": "at which mle and the ratio's model are also sampled"},
    )

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            UserError: naming the field, its value and what is expected.
        """
        for name, value in vars(self).items():
            values = value if isinstance(value, list) else [value]
            if any(type(number) in (int, float) and not 0 < number < math.inf for number in values):
                raise UserError(f"--{name.replace('_', '-')} {value}: expected above 0, and finite")
        if self.sequences % self.batch_size:
            raise UserError(f"--sequences {self.sequences}: expected a multiple of --batch-size {self.batch_size}")
        if self.model_dropout >= 1:
            raise UserError(f"--model-dropout {self.model_dropout}: expected below 1")
        if self.ratio_sequences < 2:
            raise UserError(f"--ratio-sequences {self.ratio_sequences}: expected at least 2, they are compared")

    def scaled(self, scale: float) -> "OracleSettings":
        """The paper's epochs and rounds times `scale`, rounded, at least one of each; everything else as it is.

        Raises:
            UserError: if `scale` is not in (0, 1].
        """
        if not 0 < scale <= 1:
            raise UserError(f"--scale {scale}: expected above 0 and at most 1")
        names = (
            "mle_epochs",
            "discriminator_rounds",
            "discriminator_epochs",
            "adversarial_rounds",
            "discriminator_rounds_each",
        )
        return replace(self, **{name: max(1, round(getattr(self, name) * scale)) for name in names})
