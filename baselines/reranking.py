"""Reranking as a method: the discriminator's choice among samples of the likelihood model.

TGen chose so among its beams on E2E (Dusek & Jurcicek 2016, arXiv:1606.05491).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from baselines.method import TunedModel
from gantune.field_types import check_range, option
from gantune.trainer.config import GameConfig

if TYPE_CHECKING:
    from torch import Tensor

    from gantune.trainer.reranking import Reranking


@dataclass
class RerankingConfig(GameConfig):
    """Settings of reranking: of the game those of the discriminator, its warm-up and the likelihood."""

    _argument_group_name = "rerank: beside the options of gan"

    rerank_samples: int = option(8, "answers to each question among which the discriminator chooses")
    rerank_temperature: float = option(0.7, "of these samples, where --decoding does not sample by itself")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "at least 1", "rerank_samples")
        check_range(self, "above 0", "rerank_temperature")


class RerankedModel(TunedModel):
    """Answers with the discriminator's choice among `config.rerank_samples` samples of each question.

    Their temperature is that of `decoding` where it samples, else `config.rerank_temperature`.
    """

    config: RerankingConfig

    def __init__(self, trainer: Reranking, tokenizer: Any, config: RerankingConfig) -> None:
        super().__init__(trainer.model, tokenizer, config, save=trainer.save_pretrained)
        self.trainer = trainer

    def answer(self, questions: Sequence[str], noise: Tensor | None = None) -> list[str]:
        """See [`TunedModel.answer`]."""
        from gantune.generation.decoding import sample_answers

        config, k = self.config, self.config.rerank_samples
        temperature = self.decoding.temperature if self.decoding.samples else config.rerank_temperature
        decoding = replace(self.decoding, samples=k, temperature=temperature)
        self.report = type(self.report)(samples=k)
        samples = sample_answers(
            self.model, self.tokenizer, questions, config, decoding, noise=noise, report=self.report
        )
        answers, self.report.judged_tokens = self.trainer.choose(questions, samples)
        return answers
