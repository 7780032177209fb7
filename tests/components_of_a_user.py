"""Components that a user might bring: `--generator tests.components_of_a_user.Shift`, right ones and wrong ones."""

from __future__ import annotations

import torch
from torch import nn

from gantune.data import Pair
from gantune.data.templates import TurnTemplate
from gantune.discriminators import Discriminator


class Shift(nn.Module):
    """A generator: adds a learned vector, and the noise through a learned map."""

    def __init__(self, embedding_dim: int, noise_dim: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)  # which draws random numbers in training mode
        self.shift = nn.Parameter(torch.zeros(embedding_dim))
        self.noise = nn.Linear(noise_dim, embedding_dim)
        nn.init.zeros_(self.noise.weight), nn.init.zeros_(self.noise.bias)

    def forward(self, embeddings, noise):
        moved = self.dropout(self.noise(noise))
        return embeddings + self.shift + (moved[:, None] if noise.dim() == 2 else moved)


class Narrow(Shift):
    """Forgets half of the width."""

    def forward(self, embeddings, noise):
        return super().forward(embeddings, noise)[..., ::2]


class OneNoise(Shift):
    """Knows no noise of its own for each sequence."""

    def forward(self, embeddings, noise):
        return embeddings + self.shift + self.noise(noise)


class Silent(nn.Module):
    """Has no parameter."""

    def __init__(self, embedding_dim: int, noise_dim: int) -> None:
        super().__init__()

    def forward(self, embeddings, noise):
        return embeddings


class Counting(Discriminator):
    """A discriminator: goes by a learned number a token, and draws random numbers as it judges."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.worth = nn.Embedding(vocab_size, 1)

    def prefix_logits(self, batch):
        return self.worth(batch.answer_ids).squeeze(2).cumsum(dim=1) + 0 * torch.rand(())


class WithoutVocabulary(Counting):
    """Takes no `vocab_size`."""

    def __init__(self) -> None:
        super().__init__(97)


class Unfinished(Discriminator):
    """Judges nothing."""


class OneTooFew(Counting):
    """Leaves out the last prefix."""

    def prefix_logits(self, batch):
        return super().prefix_logits(batch)[:, :-1]


class Uncut(Counting):
    """Keeps a dimension too many, of whole answers too."""

    def prefix_logits(self, batch):
        return self.worth(batch.answer_ids)

    def sequence_logits(self, batch):
        return self.worth(batch.answer_ids).sum(dim=1)


class NoDiscriminator:
    """A class that is none."""


def length(questions, answers, rollout):
    """A reward."""
    return [float(len(answer)) for answer in answers]


def one_for_all(questions, answers, rollout):
    """A reward that gives one number."""
    return torch.tensor(1.0)


def one_too_few(questions, answers, rollout):
    """A reward that forgets an answer."""
    return [0.0] * (len(answers) - 1)


def nothing(questions, answers, rollout):
    """A reward that forgets to return."""


def of_answers(answers):
    """A reward of another form."""
    return [0.0] * len(answers)


class RewardOfNothing:
    """A reward that takes no discriminator."""

    def __call__(self, questions, answers, rollout):
        return [0.0] * len(answers)


def negated(logits):
    """A transform."""
    return -logits


def mean(logits):
    """A transform that gives one number."""
    return logits.mean()


class Halved:
    """An advantage, which counts its calls."""

    min_samples, calls = 1, 0

    def __call__(self, returns, mask, samples_per_prompt):
        self.calls += 1
        return 0.5 * returns * mask


class AdvantageOfAll(Halved):
    """One number for all."""

    def __call__(self, returns, mask, samples_per_prompt):
        return (returns * mask).mean()


class ObjectiveOfAnswers:
    """One weight an answer."""

    min_samples = 1

    def __init__(self, advantage, max_new_tokens):
        pass

    def __call__(self, returns, mask, samples_per_prompt):
        return returns.mean(dim=1)


class Asked(TurnTemplate):
    """A template."""

    def __init__(self) -> None:
        super().__init__("ask: {}\n", "say:", lead=" ")


class TextTemplate(Asked):
    """Writes text where token ids are wanted."""

    def prompt_ids(self, question, tokenizer):
        return f"ask: {question}"


class TemplateWithOptions(Asked):
    """Cannot be made of nothing."""

    def __init__(self, user) -> None:
        super().__init__()


class Columns:
    """A format of two columns."""

    columns = ("question", "answer")

    def pairs(self, record):
        return [Pair(record.text("question"), record.text("answer"))]


class Tuples(Columns):
    """Gives no Pairs."""

    def pairs(self, record):
        return [("who?", "ann")]


class NoColumns:
    """Does not say which columns it reads."""


def a_function(model, tokenizer, pairs, config, callbacks=()):
    """No method: `@method` is forgotten."""
