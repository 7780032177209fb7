"""What a sampled answer is worth: one number an answer, or one a token."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from gantune.data.batch import Batch
from gantune.errors import UserError
from gantune.field_types import text_list
from gantune.metrics.rouge_words import rouge_scorer
from gantune.seqgan import REWARDS, TRANSFORMS


class Judge(Protocol):
    """What a reward asks of a discriminator; see `gantune.discriminators.Discriminator`.

    It may also have `completion_logits(rollout)`: a function of what a [`Search`] gives, rows, lengths and completed
    answers, to their logits `[R]`, the same as `sequence_logits` gives, which reads the prefixes of a rollout once.
    """

    def sequence_logits(self, batch: Batch) -> Tensor: ...

    def prefix_logits(self, batch: Batch) -> Tensor: ...


class Search(Protocol):
    """Completes prefixes of a rollout; see `gantune.policy.MonteCarloSearch`.

    Gives rows `[R]` of the rollout, how many of their tokens are kept `[R]`, and the R completed answers.
    """

    def __call__(self, rollout: Batch) -> Iterable[tuple[Tensor, Tensor, Batch]]: ...


class Reward(Protocol):
    """Any callable of this form is a reward, a plain function included.

    `questions` and `answers` are the B texts; `rollout` holds the tensors, and in `rollout.pairs` the true answers.
    The result is a tensor or list of B numbers (one an answer), or `[B, T]` (one a token). Attributes a reward may
    have, all False by default: `per_token`, the discriminator learns on every prefix and not on whole answers;
    `is_return`, its numbers are what each token brings in all, not what is to be summed from there on; `searches`, its
    class takes a [`Search`] as third argument; `row_by_row`, what it gives an answer does not depend on the others, so
    that it may be asked in micro-batches; `unjudged`, it asks no discriminator, so that none is trained, which is True
    of a plain function unless it says otherwise.
    """

    def __call__(self, questions: Sequence[str], answers: Sequence[str], rollout: Batch) -> Tensor | list[float]: ...


def is_unjudged(reward: Reward) -> bool:
    """Whether a reward asks no discriminator; a plain function is given none."""
    return getattr(reward, "unjudged", inspect.isroutine(reward))


def centred(logits: Tensor) -> Tensor:
    """2 D - 1, in (-1, 1), zero where D is undecided (ScratchGAN, arXiv:1905.09922)."""
    return 2 * logits.sigmoid() - 1


def logit(logits: Tensor) -> Tensor:
    """log D - log(1 - D), unbounded."""
    return logits


class JudgedReward:
    """A reward R = r(D) that a discriminator gives; `transform` is r, a name in `TRANSFORMS`."""

    per_token: bool
    row_by_row = True

    def __init__(self, discriminator: Judge, transform: str = "centred") -> None:
        self.discriminator = discriminator
        self.transform = TRANSFORMS.resolve(transform)
        TRANSFORMS.tried(transform, lambda: self.transform(torch.zeros(2)), (2,))


class SequenceReward(JudgedReward):
    """R_i = r(D(q, Y)): one number an answer, from the whole answer (SOURCE_STUDY eq. 2.2)."""

    per_token = False

    @torch.no_grad()
    def __call__(self, questions: Sequence[str], answers: Sequence[str], rollout: Batch) -> Tensor:
        """The rewards, `[B]`."""
        return self.transform(self.discriminator.sequence_logits(rollout))


class TokenReward(JudgedReward):
    """R_it = r(D(q, Y_<=t)): one number a token, from all prefixes in one pass (ScratchGAN, arXiv:1905.09922)."""

    per_token = True

    @torch.no_grad()
    def __call__(self, questions: Sequence[str], answers: Sequence[str], rollout: Batch) -> Tensor:
        """The rewards, `[B, T]`; meaningless where the answer mask is 0."""
        return self.transform(self.discriminator.prefix_logits(rollout))


def search_values(
    score: Callable[[Batch], Tensor],
    search: Search,
    rollout: Batch,
    score_completions: Callable[[Tensor, Tensor, Batch], Tensor] | None = None,
) -> Tensor:
    """Q(Y_<t, y_t): the mean score of the completions of each prefix (Yu et al. 2017, eq. 4).

    The last token takes the whole answer's own score. A token whose prefix was not searched takes the value of the next
    one that was, to whose completion it contributed; so the policy gradient stays unbiased, with more variance.

    Args:
        score: answers to one number each, `[B]`.
        score_completions: what `search` gives, rows, lengths and completed answers, to the numbers that `score` gives
            these answers, for a score that need not read the prefixes again.

    Returns:
        `[B, T]`, 0 where the answer mask is 0.
    """
    mask = rollout.answer_mask
    whole = score(rollout)
    total = whole.new_zeros(mask.shape)
    count = torch.zeros_like(total)
    for rows, lengths, completed in search(rollout):
        scores = score_completions(rows, lengths, completed) if score_completions else score(completed)
        total.index_put_((rows, lengths - 1), scores, accumulate=True)
        count.index_put_((rows, lengths - 1), torch.ones_like(scores), accumulate=True)
    values = total / count.clamp(min=1)
    last = mask.sum(dim=1, keepdim=True).clamp(min=1) - 1
    values.scatter_(1, last, whole[:, None])
    known = (count > 0).scatter(1, last, True)
    for t in reversed(range(mask.shape[1] - 1)):
        values[:, t] = torch.where(known[:, t], values[:, t], values[:, t + 1])
    return values * mask


class MonteCarloReward(JudgedReward):
    """Q_it, the mean of r(D) over completions of each prefix: SeqGAN's reward (Yu et al. 2017, eq. 4).

    Already the return of each token. The discriminator learns on whole answers. `search` completes the prefixes.
    """

    per_token, is_return, searches = False, True, True

    def __init__(self, discriminator: Judge, transform: str = "centred", search: Search | None = None) -> None:
        super().__init__(discriminator, transform)
        if search is None:
            raise ValueError("reward monte-carlo needs a search, such as gantune.policy.MonteCarloSearch(policy)")
        self.search = search

    @torch.no_grad()
    def __call__(self, questions: Sequence[str], answers: Sequence[str], rollout: Batch) -> Tensor:
        """The returns, `[B, T]`; 0 where the answer mask is 0."""
        judge = self.discriminator
        logits = judge.completion_logits(rollout) if hasattr(judge, "completion_logits") else None

        def score(batch: Batch) -> Tensor:
            return self.transform(judge.sequence_logits(batch))

        def score_completions(rows: Tensor, lengths: Tensor, completed: Batch) -> Tensor:
            return self.transform(logits(rows, lengths, completed))

        return search_values(score, self.search, rollout, score_completions if logits else None)


class UnjudgedReward:
    """A reward of whole answers that asks no discriminator."""

    per_token, unjudged = False, True

    def __init__(self, discriminator: Judge | None = None, transform: str = "centred") -> None:
        """Takes a discriminator and a transform as the others do, and asks neither."""


class ConstantReward(UnjudgedReward):
    """One for every answer, whatever it says: the control that shows what the discriminator adds.

    Without a baseline it still changes the policy (a constant reward sharpens it); with one it does nothing.
    """

    def __call__(self, questions: Sequence[str], answers: Sequence[str], rollout: Batch) -> Tensor:
        """Ones, `[B]`."""
        return torch.ones(len(rollout), device=rollout.device)


def self_consistency(answers: Sequence[str]) -> list[float]:
    """The mean ROUGE-L (F1, stemmed) of each answer to the others: its utility under the samples of the model itself.

    What minimum Bayes risk decoding maximises (Kumar & Byrne 2004; Eikema & Aziz 2020, arXiv:2005.10283).

    A single answer is worth 0.
    """
    answers = text_list(answers, "answers")
    scorer, total = rouge_scorer("rougeL"), [0.0] * len(answers)
    for i, j in itertools.combinations(range(len(answers)), 2):  # F1 is symmetric
        agreement = scorer.score(answers[i], answers[j])["rougeL"].fmeasure
        total[i] += agreement
        total[j] += agreement
    return [agreement / max(1, len(answers) - 1) for agreement in total]


class ConsensusReward(UnjudgedReward):
    """How much an answer agrees with the other samples of its question; see [`self_consistency`]. No discriminator."""

    def __call__(self, questions: Sequence[str], answers: Sequence[str], rollout: Batch) -> Tensor:
        """Between 0 and 1, `[B]`; rows of one question are adjacent."""
        k = rollout.samples_per_prompt
        groups = [answers[start : start + k] for start in range(0, len(answers), k)]
        return torch.tensor([worth for group in groups for worth in self_consistency(group)], device=rollout.device)


class ProductReward:
    """The product of several rewards: an answer is worth much if it is to each of them.

    None of them is a return already. Those of whole answers count for each of their tokens.
    """

    def __init__(self, rewards: Sequence[Reward]) -> None:
        self.rewards = rewards
        self.per_token = any(getattr(reward, "per_token", False) for reward in rewards)
        self.row_by_row = all(getattr(reward, "row_by_row", False) for reward in rewards)
        self.unjudged = all(map(is_unjudged, rewards))

    def __call__(self, questions: Sequence[str], answers: Sequence[str], rollout: Batch) -> Tensor:
        """`[B]`, or `[B, T]` if one of the rewards is."""
        found = (reward(questions, answers, rollout) for reward in self.rewards)
        values = [torch.as_tensor(value, device=rollout.device) for value in found]
        if any(value.dim() == 2 for value in values):
            values = [value if value.dim() == 2 else value[:, None] for value in values]
        return math.prod(values)

    def state_dict(self) -> dict[str, Any]:
        """Those of the rewards that have one, by their numbers."""
        return {str(number): reward.state_dict() for number, reward in self._stateful()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for number, reward in self._stateful():
            reward.load_state_dict(state[str(number)])

    def _stateful(self) -> list[tuple[int, Any]]:
        return [(number, reward) for number, reward in enumerate(self.rewards) if hasattr(reward, "state_dict")]


class ShuffledReward:
    """Another reward's numbers, each answer given those of another: the control that keeps their distribution."""

    def __init__(self, reward: Reward) -> None:
        self.reward = reward
        self.per_token, self.is_return = (getattr(reward, name, False) for name in ("per_token", "is_return"))
        self.unjudged = is_unjudged(reward)

    def __call__(self, questions: Sequence[str], answers: Sequence[str], rollout: Batch) -> Tensor:
        """The rows of `reward`'s result in a random order, `[B]` or `[B, T]`.

        Where an answer is longer than the one whose numbers it gets, the last of these goes on: what stands beyond an
        answer's end is nobody's reward.
        """
        values = torch.as_tensor(self.reward(questions, answers, rollout))
        order = torch.randperm(len(values), device=values.device)
        if values.dim() == 1:
            return values[order]
        last = rollout.answer_mask.sum(dim=1)[order, None] - 1
        columns = torch.arange(values.shape[1], device=values.device).expand_as(values).minimum(last)
        return values[order].gather(1, columns)


def build_reward(
    spec: str | type | Callable[..., Any],
    discriminator: Judge,
    transform: str = "centred",
    search: Search | None = None,
) -> Reward:
    """The reward that `spec` names: a registry name, a dotted path, a class, or a callable that is used as it is.

    Several names joined by `*` are a [`ProductReward`]. Classes are constructed with `(discriminator, transform)`;
    those whose `searches` is true, with `search` as well.

    Raises:
        UserError: if a name is not known, the dotted path cannot be imported, a class or callable does not take these
            arguments, or a product is of a reward that searches.
    """
    if isinstance(spec, str) and "*" in spec:
        factors = [build_reward(name, discriminator, transform, search) for name in spec.split("*")]
        if any(getattr(factor, "is_return", False) for factor in factors):
            raise UserError(f"--reward {spec}: a reward that searches, such as monte-carlo, cannot be multiplied")
        return ProductReward(factors)
    made = component = REWARDS.resolve(spec)
    if isinstance(component, type):
        searched = [search] if getattr(component, "searches", False) else []
        made = REWARDS.tried(component, lambda: component(discriminator, transform, *searched))
    REWARDS.tried(component, lambda: inspect.signature(made).bind("questions", "answers", "rollout"))
    return made
