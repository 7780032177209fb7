"""Reranking: a generator of likelihood alone, and a discriminator that chooses among several of its answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gantune.data import Pair, collate
from gantune.errors import UserError
from gantune.trainer.language_gan import LanguageGAN
from gantune.tuning import encode_with


class Reranking(LanguageGAN):
    """Tunes a generator by the likelihood of the pairs alone, and then trains the discriminator on what it samples.

    What the same discriminator is worth where it chooses, and not as a reward: the rival of the game that takes several
    times its decoding.

    Args:
        args: as in [`LanguageGAN`], of which every step is likelihood (`warmup_share` 1, or `adversarial_every` 0);
            the discriminator has its `discriminator_warmup_steps`.

    Raises:
        UserError: as [`LanguageGAN`]; if the settings do not train a discriminator.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.judged or not self.args.discriminator_warmup_steps:
            raise UserError(
                f"--reward {self.args.reward} --discriminator-warmup-steps {self.args.discriminator_warmup_steps}: "
                "reranking chooses by a discriminator, expected a reward that asks one, and at least 1 step"
            )
        self.policy.check_sampling()

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """See [`PairTrainer.train`]; the discriminator's training follows."""
        output = super().train(*args, **kwargs)
        self.train_discriminator()
        return output

    def train_discriminator(self) -> None:
        """Train the discriminator against the generator as it is, as [`train`] does at its end.

        What it takes counts towards the limits; when they are reached it ends, after one step at least.
        """
        spent = self.limits.state_dict()
        with self.limits:
            self.limits.load_state_dict(spent)
            self._begin_game()

    @torch.no_grad()
    def choose(self, questions: Sequence[str], answers: Sequence[Sequence[str]]) -> tuple[list[str], int]:
        """Of several answers to each question the one that the discriminator finds most likely to be true.

        Returns:
            One answer a question, the first of equals; and how many tokens the discriminator read.
        """
        pairs = [Pair(*pair) for pair in zip(questions, answers, strict=True)]
        each = [Pair(question, answer) for question, several in pairs for answer in several]
        encoded, logits = encode_with(each, self.tokenizer, self.args)[0], []
        size = self.args.per_device_train_batch_size * self.args.num_generations
        for start in range(0, len(encoded), size):
            batch = collate(encoded[start : start + size], self.pad_token_id).to(self.args.device)
            logits += self.discriminator.sequence_logits(batch).tolist()
        read = sum(len(row.prompt_ids) + len(row.answer_ids) for row in encoded)
        scores = iter(logits)
        chosen = []
        for several in answers:
            of_question = [next(scores) for _ in several]
            chosen.append(several[of_question.index(max(of_question))])
        return chosen, read
