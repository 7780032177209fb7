"""Sampling token by token with a cache that rows leave when they have ended."""

from __future__ import annotations

from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from gantune.embedding_generator import hold_noise
from gantune.policy.cache import GrowingCache
from gantune.policy.inference_kernels import inference_kernels
from gantune.policy.sampling import sample_tokens

CHECK_EVERY = {"cuda": 8}  # looking makes the host wait for the device; on the CPU it costs nothing


class Beginning(NamedTuple):
    """What R rows are decoded from.

    `uniform` holds random numbers in [0, 1), one a token, T at least the most that any row samples; they are drawn anew
    for each token if it is None.
    """

    cache: GrowingCache  # of what comes before; it is used up
    logits: Tensor  # [R, vocabulary] of the first token to sample; overwritten
    mask: Tensor  # [R, cached], 0 on the padding at the left
    left: Tensor  # [R], most tokens to sample
    noise: Tensor | None  # [R, noise_dim], held through all steps
    temperature: float
    uniform: Tensor | None = None  # [R, T] float64


class Decoded(NamedTuple):
    """What was sampled, each `[R, S]`, S the most tokens that a row got; 0 (ids: pads) after a row's end."""

    ids: Tensor
    mask: Tensor
    log_probs: Tensor


def next_token_logits(model: PreTrainedModel, cache: Cache, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    """`[R, vocabulary]` after feeding `ids` `[R, L]`; their keys and values go to the cache of what comes before.

    The mask is of both, `[R, cached + L]`; the positions are those of `ids`.
    """
    return model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    beginning: Beginning,
    *,
    eos_token_id: int,
    pad_token_id: int,
    keep_rows: bool = False,
    check_every: int | None = None,
) -> Decoded:
    """Sample until each row has ended or got its number of tokens.

    Args:
        keep_rows: decode ended rows along, so that the cache is of all rows in the end.
        check_every: tokens from one look at which rows have ended to the next; [`CHECK_EVERY`] of the device if None.
    """
    cache, logits, mask, left, noise, temperature, uniform = beginning
    check_every = check_every or CHECK_EVERY.get(logits.device.type, 1)
    rows = torch.arange(len(logits), device=logits.device)  # those that are decoded
    alive = torch.ones_like(rows, dtype=torch.bool)
    tokens = rows.new_full((len(rows), int(left.max())), pad_token_id)
    sampled = torch.zeros_like(tokens)
    log_probs = torch.zeros_like(tokens, dtype=torch.float32)
    with inference_kernels(model), ExitStack() as held:
        held.enter_context(hold_noise(model, noise))
        for step in range(tokens.shape[1]):
            probabilities = logits.float().div_(temperature).softmax(dim=-1)
            token = sample_tokens(probabilities, None if uniform is None else uniform[rows, step])
            token = token.where(alive, pad_token_id)
            chosen = probabilities.gather(1, token[:, None]).squeeze(1).log()
            tokens[rows, step], sampled[rows, step] = token, alive.long()
            log_probs[rows, step] = chosen.where(alive, 0)

            positions = mask.sum(dim=1, keepdim=True)
            mask = torch.cat([mask, alive[:, None].to(mask.dtype)], dim=1)
            alive = alive & (token != eos_token_id) & (left[rows] > step + 1)
            if step + 1 == tokens.shape[1]:
                break
            going_on = int(alive.sum()) if (step + 1) % check_every == 0 else len(rows)
            if not going_on:
                break
            # Ended rows leave at once: waiting until a tenth or more had ended was never faster (GPT-2, CPU).
            if not keep_rows and going_on < len(rows):
                padding = int(mask[alive].any(dim=0).int().argmax())  # at the left of all rows that stay
                stay = cache.keep(alive, padding)
                rows, alive, token, positions = rows[stay], alive[stay], token[stay], positions[stay]
                mask = mask[stay, padding:]
                if noise is not None:
                    noise = noise[stay]
                    held.enter_context(hold_noise(model, noise))
            logits = next_token_logits(model, cache, token[:, None], mask, positions)
    # tensors of inference mode may not enter a graph
    with torch.inference_mode(False):
        used = int(sampled.sum(dim=1).max())
        return Decoded(*(result[:, :used].clone() for result in (tokens, sampled, log_probs)))
