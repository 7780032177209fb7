"""Health of adversarial training: figures of a rollout, and a monitor that warns once of each way to fail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

# A condition that holds in one batch may be an accident of its few samples; in three running it hardly is.
ROWS_RUNNING = 3
# What is measured once, on many answers, is told at once.
JUDGE = "judge below consensus"
# Float32 gives one answer, in two rows of a batch, rewards that differ by some 1e-7 of their size, which is near 1.
SAME_REWARD = 1e-5
# With a baseline within the question such a question gives no gradient: at most a tenth of the samples still teach.
MAX_NO_SPREAD_SHARE = 0.9
# The likelihood steps between the adversarial ones lower the entropy as well; down to a fifth they are given room.
MIN_ENTROPY_SHARE = 0.2
# Well above 0.9, where a discriminator is trained no further by default: that alone has not held it back.
MAX_DISCRIMINATOR_ACCURACY = 0.99
# Nearly all answers stop at the limit and not by themselves; one of the two alone happens with long true answers.
MAX_LENGTH_SHARE, MIN_ENDED = 0.95, 0.1
# Answers that ended by themselves and are half as long now: saying little may be worth more than saying it wrongly.
MIN_LENGTH_SHARE, ENDED_BEFORE = 0.5, 0.5


@torch.no_grad()
def rollout_health(
    rollout_rewards: Tensor,
    answer_ids: Tensor,
    answer_mask: Tensor,
    log_probs: Tensor,
    samples_per_prompt: int,
    eos_token_id: int,
) -> dict[str, float | None]:
    """What a rollout tells of the policy that wrote it.

    Args:
        rollout_rewards: `[B]`, one an answer, or `[B, T]`, one a token; the latter count as their mean over the answer.
        answer_ids: `[B, T]`; rows of one question are adjacent.
        answer_mask: `[B, T]`, 1 on at least the first token of each answer, 0 after its last.
        log_probs: `[B, T]` log pi of the sampled tokens, of the distribution that they were drawn from.
        samples_per_prompt: answers a question, k.

    Returns:
        `reward`, the mean over answers;
        `reward_std`, their standard deviation (of the B answers themselves), None with one answer;
        `no_spread_share`, share of the questions whose k samples all got one reward, None if k is 1;
        `entropy`, in nats a token: the mean of -log pi over the sampled tokens. Of one token it is an unbiased estimate
        of the entropy of the distribution that the token was drawn from;
        `answer_length`, mean in tokens, the end-of-sequence included;
        `ended`, share of the answers whose last token is the end-of-sequence;
        `distinct_answers`, different answers divided by B;
        `most_common_answer`, share of the answers that are the most frequent one, None if all are to one question.
    """
    rewards, log_probs = rollout_rewards.detach().cpu().double(), log_probs.detach().cpu().double()
    ids, mask = answer_ids.cpu(), answer_mask.cpu().bool()
    lengths = mask.sum(dim=1)
    if rewards.dim() == 2:
        rewards = rewards.where(mask, 0).sum(dim=1) / lengths

    no_spread_share = None
    if samples_per_prompt > 1:
        grouped = rewards.view(-1, samples_per_prompt)
        no_spread_share = (grouped.amax(dim=1) - grouped.amin(dim=1) <= SAME_REWARD).double().mean().item()
    last = ids.gather(1, lengths[:, None] - 1)
    _, counts = ids.where(mask, -1).unique(dim=0, return_counts=True)
    return {
        "reward": rewards.mean().item(),
        "reward_std": rewards.std(correction=0).item() if len(rewards) > 1 else None,
        "no_spread_share": no_spread_share,
        "entropy": -log_probs[mask].mean().item(),
        "answer_length": lengths.double().mean().item(),
        "ended": (last == eos_token_id).double().mean().item(),
        "distinct_answers": len(counts) / len(ids),
        "most_common_answer": counts.max().item() / len(ids) if len(ids) > samples_per_prompt else None,
    }


@torch.no_grad()
def kl_estimate(log_probs: Tensor, base_log_probs: Tensor, mask: Tensor) -> float:
    """KL(pi || base) in nats a token, estimated from tokens that pi sampled.

    The estimator k3 of Schulman (http://joschu.net/blog/kl-approx.html): the mean over tokens of exp(-d) - 1 + d with
    d = log pi - log base. It is unbiased, as the mean of d is, and never negative, which that one often is.

    Args:
        log_probs: `[B, T]` log pi of the sampled tokens.
        base_log_probs: `[B, T]` log-probs of the same tokens by the base model, at the same temperature.
        mask: `[B, T]`, 1 on the tokens that count, one or more.
    """
    tokens = mask.cpu().bool()
    d = (log_probs.detach().cpu().double() - base_log_probs.detach().cpu().double())[tokens]
    return (torch.expm1(-d) + d).mean().clamp(min=0).item()


class HealthMonitor:
    """Warns of adversarial training that goes wrong, once a run of each kind.

    Only adversarial rows of the history count, but for what choosing by the discriminator is worth, which a row of its
    warm-up has: there it learns the same few rollouts by heart, while no generator follows its reward; what stays
    saturated after it is told at the third adversarial step. A row that does not hold the figures of a kind neither
    confirms nor clears it.
    """

    def __init__(self, max_new_tokens: int) -> None:
        self.max_new_tokens = max_new_tokens
        self._first_entropy: float | None = None
        self._first_length: float | None = None  # 0 if most answers did not end by themselves
        self._running: dict[str, int] = {}  # of each kind, the rows in which it held without a break
        self._told: dict[str, str] = {}

    @property
    def warnings(self) -> list[str]:
        """All warnings so far, in the order in which they were told."""
        return list(self._told.values())

    def state_dict(self) -> dict[str, Any]:
        first = {"first_entropy": self._first_entropy, "first_length": self._first_length}
        return first | {"running": self._running, "told": self._told}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._first_entropy, self._first_length = state["first_entropy"], state["first_length"]
        self._running, self._told = state["running"], state["told"]

    def observe(self, row: Mapping[str, Any]) -> list[str]:
        """The warnings, of kinds not told before, that a row of the history gives: a sentence each, and options to try.

        The row has `step`, `phase` and, if measured, the figures of [`rollout_health`], `discriminator_accuracy` and
        what choosing by the discriminator, by consensus and at random is worth (`chosen_...`).
        """
        new = []
        found = self._findings(row) if row.get("phase") == "adversarial" else ()
        for kind, bad, warning in (*self._chosen(row), *found):
            if kind in self._told:
                continue
            self._running[kind] = self._running.get(kind, 0) + 1 if bad else 0
            if self._running[kind] == (1 if kind == JUDGE else ROWS_RUNNING):
                self._told[kind] = f"step {row['step']}: {warning}"
                new.append(self._told[kind])
        return new

    def _chosen(self, row: Mapping[str, Any]) -> Iterator[tuple[str, bool, str]]:
        """As [`_findings`], of what choosing by the discriminator is worth."""
        judge, consensus = row.get("chosen_by_discriminator"), row.get("chosen_by_consensus")
        if judge is not None and consensus is not None:
            yield (
                JUDGE,
                judge < consensus,
                f"what the discriminator chooses among the samples to a question is worth {judge:.3f} (ROUGE-L, or of "
                f"records 1 less the slot error rate), by consensus {consensus:.3f}, at random "
                f"{row['chosen_at_random']:.3f}: as a reward it may not help; raise --discriminator-warmup-steps, "
                "or take another --discriminator",
            )

    def _findings(self, row: Mapping[str, Any]) -> Iterator[tuple[str, bool, str]]:
        """Of each kind of failure that the row has figures of: its name, whether it is there, and the warning then."""
        share, std = row.get("no_spread_share"), row.get("reward_std")
        if share is not None:
            yield (
                "no reward spread",
                share >= MAX_NO_SPREAD_SHARE,
                f"all samples of a question got one reward in {share:.0%} of the questions, so that a baseline within "
                "the question leaves nothing to learn; raise --num-generations or --temperature, or take "
                "--advantage moving-average",
            )
        elif std is not None:
            yield (
                "no reward spread",
                std <= SAME_REWARD,
                f"the answers to all questions got one reward (standard deviation {std:.1g}), so that there is nothing "
                "to learn from it; raise --num-generations or --temperature, or take another --reward-transform",
            )
        entropy = row.get("entropy")
        if entropy is not None:
            if self._first_entropy is None:
                self._first_entropy = entropy
            yield (
                "entropy collapse",
                entropy < MIN_ENTROPY_SHARE * self._first_entropy,
                f"the policy's entropy fell to {entropy:.3g} nats a token from {self._first_entropy:.3g} at the first "
                "adversarial step; raise --likelihood-weight or --temperature, or lower --adversarial-weight",
            )
        accuracy = row.get("discriminator_accuracy")
        compares = "discriminator_accuracy_generated" in row and "discriminator_accuracy_real" not in row
        if accuracy is not None and not compares:  # a true answer above another's few sampled ones is no news
            yield (
                "discriminator saturated",
                accuracy >= MAX_DISCRIMINATOR_ACCURACY,
                f"the discriminator is right on {accuracy:.1%} of what it reads, so that its reward hardly ranks the "
                "samples; lower --discriminator-learning-rate, --max-discriminator-accuracy or --real-label",
            )
        length, ended = row.get("answer_length"), row.get("ended")
        if length is not None and ended is not None:
            yield (
                "answers run to the limit",
                length >= MAX_LENGTH_SHARE * self.max_new_tokens and ended <= MIN_ENDED,
                f"answers run to the limit, {length:.1f} of {self.max_new_tokens} tokens long with {ended:.0%} ended; "
                "raise --likelihood-weight, lower --adversarial-weight, or raise --max-completion-length if the true "
                "answers are as long",
            )
            if self._first_length is None:
                self._first_length = length if ended >= ENDED_BEFORE else 0.0
            yield (
                "answers shrink",
                length < MIN_LENGTH_SHARE * self._first_length,
                f"answers shrink, to {length:.1f} tokens from {self._first_length:.1f} at the first adversarial step, "
                "as if saying little were best; raise --likelihood-weight, lower --adversarial-weight, or begin from a "
                "better likelihood (--warmup-share, --learning-rate)",
            )
        most_common = row.get("most_common_answer")
        if most_common is not None:
            yield (
                "one answer",
                most_common == 1,
                f"one answer makes up {most_common:.0%} of the samples to several questions; raise "
                "--likelihood-weight or --temperature, or lower --adversarial-weight",
            )
