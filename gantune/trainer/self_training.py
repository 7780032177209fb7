"""Self-training: likelihood of the model's own answers to questions without answers, made once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gantune.data import Batch, EncodedPair, Pair
from gantune.generation.decoding import Decoding, decode_answers
from gantune.trainer.language_gan import LanguageGAN
from gantune.trainer.unpaired import Unpaired, numbered_batch
from gantune.tuning import encode_with


class SelfTraining(LanguageGAN):
    """Tunes a generator by the likelihood of the pairs, and from some step on of its own answers to other questions.

    The rival of everything that samples anew in each step (He et al. 2020, arXiv:1909.13788).

    Args:
        args: as in [`LanguageGAN`], with a `warmup_share` of 1 and an `unpaired_likelihood_weight`; so are those that
            are not named here.
        unpaired: of these only the questions are read.
        decoding: of the answers that are learned: greedy, sample, mbr-K or vote-K.
        share: of the steps before they are made.
    """

    def __init__(self, *args: Any, unpaired: Unpaired, decoding: str, share: float, **kwargs: Any) -> None:
        super().__init__(*args, unpaired=unpaired, **kwargs)
        self.asked, self.decoding, self.share = unpaired.questions, Decoding.named(decoding), share
        self.answers: list[str] = []
        self.learned: list[EncodedPair] = []  # these, each with its question

    def unpaired_answers(self, step: int) -> Batch | None:
        """Its own answers, each to its question, from the step on that makes them."""
        if step < round(self.share * self.state.max_steps):
            return None
        if not self.answers:
            decoding = replace(self.decoding, seed=self.args.seed)
            self.answers = decode_answers(self.model, self.tokenizer, self.asked, self.args, decoding)
        self.learned = self.learned or self._encoded()
        batch = numbered_batch(self.learned, step, self.order.batch_size, self.args.seed, self.pad_token_id)
        return batch.to(self.args.device)

    def _encoded(self) -> list[EncodedPair]:
        pairs = [Pair(*pair) for pair in zip(self.asked, self.answers, strict=True)]
        return encode_with(pairs, self.tokenizer, self.args)[0]

    def tokens(self) -> list[Any]:
        return [*super().tokens(), str(self.decoding), self.share]

    def state_dict(self) -> dict[str, Any]:
        return {"answers": self.answers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.answers = list(state["answers"])

    def stateful(self) -> dict[str, Any]:
        return super().stateful() | {"answers": self}
