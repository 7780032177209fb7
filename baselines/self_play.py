"""Self-play fine-tuning, SPIN (Chen et al. 2024, arXiv:2401.01335), as a method; see [`gantune.trainer.self_play`]."""

from __future__ import annotations

from dataclasses import dataclass

from gantune.field_types import check_range, option
from gantune.trainer.config import GameConfig


@dataclass
class SelfPlayConfig(GameConfig):
    """Settings of self-play: those of the game without discriminator, reward and advantage, and a scale.

    `adversarial_weight` is that of the preference loss, `likelihood_weight` that of the likelihood beside it.
    """

    _argument_group_name = "self-play: beside the options of gan"

    self_play_scale: float = option(0.1, "of the log-prob ratios in the preference loss; the paper begins with 0.1")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "above 0", "self_play_scale")
