"""A model's last step: from the hidden states at some positions to the log-probs of the tokens that follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from gantune.embedding_generator import hold_noise
from gantune.policy.inference_kernels import Product
from gantune.policy.log_probs import chosen_log_probs

PROBE_LOGIT = 100.0  # beyond the soft caps in use (30 and 50), so that a capped model is told from a plain one
PROBE_ROWS = 8192  # rows of the head that probes are taken from


@dataclass(frozen=True)
class Features:
    """What the next tokens' distributions follow from: hidden states and their head, or the logits themselves.

    Args:
        values: `[..., d]` hidden states if there is a head, else `[..., vocabulary]` logits.
        head: a frozen linear layer, whose output on the hidden states is the logits; None if `values` are the logits.
    """

    values: Tensor
    head: nn.Linear | None

    def logits(self) -> Tensor:
        """`[..., vocabulary]`."""
        if self.head is None:
            return self.values
        rows = self.values.flatten(0, -2)  # of a part of the positions torch would copy the weight for each row
        return F.linear(rows, self.head.weight, self.head.bias).unflatten(0, self.values.shape[:-1])

    def log_probs(self, tokens: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
        """Log-probs of `tokens`, each given the features at its place; see [`chosen_log_probs`].

        All are `[R, T]`, for values of shape `[R, T, ...]`; the result is float32 and 0 where the mask is 0. What the
        mask hides is not computed, if there is a head.
        """
        mask = mask.bool()
        if self.head is not None:
            chosen = chosen_log_probs(self.values[mask], tokens[mask], self.head, temperature)
            return chosen.new_zeros(mask.shape).masked_scatter(mask, chosen)
        logits = self.values.float()
        if temperature != 1:
            logits = logits / temperature
        log_probs = -F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none")
        return log_probs.view_as(tokens).masked_fill(~mask, 0)


class OutputHead:
    """Runs a model up to its head where that is enough, and through it where the logits are more than the head's.

    It stops at the head if this is a frozen `nn.Linear` without adapter, hook or replaced `forward`, and if the model
    returns what it computes: found out once, on hidden states that give large logits, so that soft-capped (Gemma 2) or
    scaled (Cohere, Granite) or masked logits are seen. Otherwise the model's own logits are used.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        head = model.get_output_embeddings()
        self._proven = head if _is_frozen_linear(head) and _logits_are_its_output(model, head) else None

    @property
    def linear(self) -> nn.Linear | None:
        """The head that the model is stopped at; None if its logits are used."""
        head = self.model.get_output_embeddings()
        return head if head is self._proven and _is_frozen_linear(head) else None

    def features(self, **inputs: Any) -> Features:
        """Of the positions that `logits_to_keep` names, all other inputs being the model's too."""
        head = self.linear
        if head is None:
            return Features(self.model(**inputs).logits, None)
        seen: list[Tensor] = []

        def stop(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
            seen.append(args[0])
            return (args[0][:, :0],)  # no position is left to compute logits of

        handle = head.register_forward_pre_hook(stop)
        try:
            self.model(**inputs)
        finally:
            handle.remove()
        return Features(seen[0], head)


def _is_frozen_linear(head: nn.Module | None) -> bool:
    """Whether what the module returns is a linear map that no gradient is wanted of."""
    return (
        type(head) is nn.Linear
        and not any(parameter.requires_grad for parameter in head.parameters())
        and not (head._forward_hooks or head._forward_pre_hooks)
        and isinstance(vars(head).get("forward"), Product | None)
    )


@torch.no_grad()
def _logits_are_its_output(model: PreTrainedModel, head: nn.Linear) -> bool:
    """Whether the model returns the head's output unchanged, tried at two hidden states that are put in its way."""
    rows = head.weight[:PROBE_ROWS].float()
    largest = rows.square().sum(dim=1).topk(2)
    probe = rows[largest.indices] * (PROBE_LOGIT / largest.values[:, None])  # each has this logit at its own token
    probe = probe[None].to(head.weight.dtype)
    handle = head.register_forward_pre_hook(lambda module, args: (probe,))
    try:
        with hold_noise(model, None):
            ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    finally:
        handle.remove()
    expected = F.linear(probe, head.weight, head.bias)
    return logits.shape == expected.shape and torch.allclose(
        logits.float(), expected.float(), rtol=1e-3, atol=1e-3 * PROBE_LOGIT
    )
