"""How far a sampler is from the oracle, by the distributions of the next token: exact over the vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.oracle.samplers import Sampler

PART = 32  # sequences whose distributions are held at once


@torch.no_grad()
def divergences(oracle: Sampler, sampler: Sampler, real: Tensor, own: Tensor) -> dict[str, float]:
    """Means over prefixes, in nats a token; infinite where the sampler excludes what the oracle writes.

    A sum over the places of whole sequences, forward and reverse are unbiased estimates of the divergence of the
    sequences' distributions; they have less variance than log-ratios of what was drawn. The Jensen-Shannon divergence
    is that of the next token: of whole sequences it is log 2 for every sampler here (FINDINGS 11).

    Args:
        real: the oracle's sequences, `[B, T]`.
        own: as many of the sampler's.

    Returns:
        `forward_kl`, KL(oracle || sampler) at real prefixes; `reverse_kl`, KL(sampler || oracle) at own ones; `js`,
        half at real and half at own ones; `entropy`, of the sampler at own ones.
    """
    totals = {name: 0.0 for name in ("forward_kl", "reverse_kl", "js", "entropy")}
    for ids, is_own in [(part, False) for part in real.split(PART)] + [(part, True) for part in own.split(PART)]:
        log_p, log_q = oracle.log_distributions(ids), sampler.log_distributions(ids)
        p, q = log_p.exp(), log_q.exp()
        log_m = ((p + q) / 2).log()
        totals["js"] += 0.25 * (_total(p, log_p - log_m) + _total(q, log_q - log_m))
        if is_own:
            totals["reverse_kl"] += _total(q, log_q - log_p)
            totals["entropy"] -= _total(q, log_q)
        else:
            totals["forward_kl"] += _total(p, log_p - log_q)
    return {name: total / real.numel() for name, total in totals.items()}


def _total(probabilities: Tensor, values: Tensor) -> float:
    """The expectations of values `[B, T, V]`, added up; what has probability 0 counts nothing."""
    return (probabilities * values).where(probabilities > 0, 0).sum(dim=2).double().sum().item()
