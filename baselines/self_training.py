"""Self-training on its own answers to unpaired questions, as a method; see [`gantune.trainer.self_training`]."""

from __future__ import annotations

from dataclasses import dataclass

from gantune.field_types import check_range, option
from gantune.trainer.config import GameConfig


@dataclass
class SelfTrainingConfig(GameConfig):
    """Settings of [`gantune.trainer.self_training.SelfTraining`]; those of the adversarial steps are not used."""

    _argument_group_name = "self-training: beside the options of gan"

    self_training_decoding: str = option("mbr-8", "of the answers that it learns: greedy, sample, mbr-K or vote-K")
    self_training_share: float = option(0.3, "share of the steps on the pairs alone, before these answers are made")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "between 0 and 1", "self_training_share")
        from gantune.generation.decoding import Decoding

        Decoding.named(self.self_training_decoding)
