"""Self-training: likelihood of the model's own answers to questions without answers, made once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gantune.data import Batch, EncodedPair, Pair, encode_pairs
from gantune.errors import UserError
from gantune.generation.decoding import Decoding, decode_answers
from gantune.trainer.config import LanguageGANConfig
from gantune.trainer.language_gan import LanguageGAN
from gantune.trainer.observer import Observer
from gantune.trainer.unpaired import Unpaired, numbered_batch


@dataclass
class SelfTrainingConfig(LanguageGANConfig):
    """Settings of [`SelfTraining`]; those of the adversarial steps are not used.

    Args:
        self_training_decoding: of the answers that are learned.
        self_training_share: share of the steps before they are made.
    """

    _argument_group_name = "self-training: beside the options of gan"

    self_training_decoding: str = field(
        default="mbr-8", metadata={"help": "of the answers that it learns: greedy, sample, mbr-K or vote-K"}
    )
    self_training_share: float = field(
        default=0.3, metadata={"help": "share of the steps on the pairs alone, before these answers are made"}
    )

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            UserError: naming the field, its value and what is expected.
        """
        super().__post_init__()
        if not 0 <= self.self_training_share <= 1:
            raise UserError(f"--self-training-share {self.self_training_share}: expected between 0 and 1")
        Decoding.named(self.self_training_decoding)


class SelfTraining(LanguageGAN):
    """Tunes a generator by the likelihood of the pairs, and from some step on of its own answers to other questions.

    The rival of everything that samples anew in each step (He et al. 2020, arXiv:1909.13788).

    Args:
        model: the language model; it is frozen, and wrapped in place by the adapter.
        tokenizer: its tokenizer, with an end-of-sequence token.
        config: settings.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: SelfTrainingConfig) -> None:
        settings = {"warmup_share": 1.0, "blind_discriminator": True}
        weight = config.unpaired_likelihood_weight or 1.0
        super().__init__(model, tokenizer, replace(config, unpaired_likelihood_weight=weight, **settings))
        self._asked: Sequence[str] = ()
        self._answered: list[EncodedPair] = []
        self._starts = 0

    def train(
        self,
        pairs: Sequence[Pair],
        observer: Observer | None = None,
        unpaired: Unpaired | None = None,
    ) -> list[dict[str, Any]]:
        """See [`LanguageGAN.train`]; of `unpaired` only the questions are read."""
        steps = self.config.epochs * -(-len(self._encode(pairs)[0]) // self.config.batch_size)
        self._asked, self._starts = unpaired.questions, round(self.config.self_training_share * steps)
        return super().train(pairs, observer, unpaired=unpaired)

    def _unpaired_answers(self, step: int) -> Batch | None:
        """Its own answers, each to its question, from the step on that makes them."""
        if step < self._starts:
            return None
        if not self._answered:
            decoding = replace(Decoding.named(self.config.self_training_decoding), seed=self.config.seed)
            answers = decode_answers(self.model, self.tokenizer, self._asked, self.config, decoding)
            self._answered, _ = encode_pairs(
                [Pair(*pair) for pair in zip(self._asked, answers, strict=True)],
                self.tokenizer,
                self.config.prompt_template(),
                self.config.max_prompt_tokens,
                self.config.max_new_tokens,
                "truncate",
            )
        batch = numbered_batch(self._answered, step, self.config, self.pad_token_id)
        return batch.to(self.model.device)
