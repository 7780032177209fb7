"""The steps of the benchmark: maximum likelihood, the discriminator, and the policy gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.oracle.highway_cnn import HighwayCNN
from benchmarks.oracle.lstm import LSTMPolicy, as_batch, empty_batch, sample
from benchmarks.oracle.settings import OracleSettings
from gantune.seqgan import ADVANTAGES, Reward, discriminator_loss, likelihood_loss, policy_gradient_loss, returns

OUTPUT_PENALTY = 0.2  # the released code's l2_reg_lambda


def adam(module: nn.Module, learning_rate: float) -> torch.optim.Adam:
    """Adam over what is trained of a module."""
    return torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=learning_rate, fused=True)


def update(optimizer: torch.optim.Optimizer, max_grad_norm: float) -> None:
    """Go by the gradients that there are, clipped to a global norm."""
    nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], max_grad_norm)
    optimizer.step()


def _step(optimizer: torch.optim.Optimizer, loss: Tensor, max_grad_norm: float) -> float:
    optimizer.zero_grad()
    loss.backward()
    update(optimizer, max_grad_norm)
    return loss.item()


def likelihood_epoch(
    policy: LSTMPolicy, optimizer: torch.optim.Optimizer, data: Tensor, settings: OracleSettings
) -> float:
    """One epoch of maximum likelihood over sequences `[n, T]`, in their order, as in the original; the mean loss."""
    losses = []
    for part in data.split(settings.batch_size):
        batch = as_batch(part)
        loss = likelihood_loss(policy.score(batch), batch.answer_mask)
        losses.append(_step(optimizer, loss, settings.max_grad_norm))
    return sum(losses) / len(losses)


def discriminator_round(
    discriminator: HighwayCNN,
    optimizer: torch.optim.Optimizer,
    policy: LSTMPolicy,
    real: Tensor,
    settings: OracleSettings,
) -> float:
    """Fresh negatives, as many as there are real sequences, and some epochs over both; the last epoch's accuracy.

    A batch holds half real and half sampled ones, where the original draws from the mixture of both.
    """
    negatives = sample(policy, len(real))
    half = settings.batch_size // 2
    discriminator.train()
    for _ in range(settings.discriminator_epochs):
        right = 0
        orders = torch.randperm(len(real)), torch.randperm(len(real))
        for real_rows, negative_rows in zip(*(order.split(half) for order in orders), strict=True):
            ids = torch.cat([real[real_rows], negatives[negative_rows]])
            on_real, on_negative = discriminator.sequence_logits(as_batch(ids)).split(len(real_rows))
            loss = discriminator_loss(on_real, on_negative) + OUTPUT_PENALTY * discriminator.penalty()
            _step(optimizer, loss, float("inf"))
            right += int((on_real > 0).sum() + (on_negative < 0).sum())
    discriminator.eval()
    return right / (2 * len(real))


def generator_step(
    policy: LSTMPolicy,
    optimizer: torch.optim.Optimizer,
    reward: Reward,
    settings: OracleSettings,
    advantage: str = "none",
    sequences: int | None = None,
) -> dict[str, float]:
    """One step of the policy gradient, -A log p over all tokens.

    Args:
        advantage: a name in `gantune.seqgan.ADVANTAGES`; the original has none, A is the return.
        sequences: sampled, over which the loss is a mean; if None those of a batch, and their *sum*, as in the
            original, which the clipping of the gradient sees.

    Returns:
        `loss`, and `reward`, the mean of the returns.
    """
    rollout = policy.rollout(
        empty_batch(1, policy.device),
        samples_per_prompt=sequences or settings.batch_size,
        keep_state=settings.rollout_policy == "current",
    )
    values = torch.as_tensor(reward((), (), rollout), dtype=torch.float32)
    if not getattr(reward, "is_return", False):
        values = returns(values, rollout.answer_mask)
    advantages = ADVANTAGES.get(advantage)()(values, rollout.answer_mask, rollout.samples_per_prompt)
    loss = policy_gradient_loss(policy.score(rollout), advantages, rollout.answer_mask)
    loss = loss if sequences else len(rollout) * loss
    return {"loss": _step(optimizer, loss, settings.max_grad_norm), "reward": values.mean().item()}
