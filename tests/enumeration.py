"""A policy small enough to enumerate: vocabulary 4 (one of them the end), answers of at most 3 tokens, float64."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from gantune.data.batch import Batch

VOCABULARY, LENGTH, END = 4, 3, 0


class TabularPolicy(nn.Module):
    """One free row of logits for every prefix: the most general policy there is."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        rows = sum(VOCABULARY**t for t in range(LENGTH))
        self.logits = nn.Parameter(torch.randn(rows, VOCABULARY, generator=generator, dtype=torch.float64))

    def token_log_probs(self, answers: Tensor) -> Tensor:
        """Log-prob of each token given those before it, `[B, T]`."""
        row = torch.zeros(len(answers), dtype=torch.long)
        columns, offset, index = [], 0, row
        for t in range(answers.shape[1]):
            log_probs = self.logits.log_softmax(dim=1)[offset + index]
            columns.append(log_probs.gather(1, answers[:, t : t + 1]).squeeze(1))
            offset, index = offset + VOCABULARY**t, index * VOCABULARY + answers[:, t]
        return torch.stack(columns, dim=1)


def every_answer() -> Batch:
    """All answers that end or reach the greatest length, each once, without a question; padded with the end token."""
    ids, masks = [], []
    for tokens in itertools.product(range(VOCABULARY), repeat=LENGTH):
        ends = tokens.index(END) + 1 if END in tokens else LENGTH
        if any(tokens[ends:]):  # END is 0: the padding after it is written one way only
            continue
        ids.append(tokens)
        masks.append([1] * ends + [0] * (LENGTH - ends))
    empty = torch.zeros(len(ids), 0, dtype=torch.long)
    return Batch(empty, empty, torch.tensor(ids), torch.tensor(masks))


def flat_gradient(value: Tensor, policy: nn.Module) -> Tensor:
    """The gradient of `value` with respect to every parameter of `policy`, as one vector."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(policy.parameters()), retain_graph=True)])
