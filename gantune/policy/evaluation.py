"""How well a language model predicts true answers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gantune.data import EncodedPair, Pair, collate, end_token_id, pad_token_id
from gantune.distributed import ALONE, DataParallel
from gantune.policy import CausalLMPolicy
from gantune.tuning import TuningConfig, encode_with


@torch.inference_mode()
def answer_losses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: TuningConfig,
    *,
    batch_size: int = 32,
    noise: Tensor | None = None,
) -> list[tuple[float, int]]:
    """Negative log-likelihood of each true answer, end-of-sequence included, and its number of tokens.

    The mean over tokens of all answers is `sum(loss) / sum(tokens)`; answers are cut to
    `config.max_completion_length` as in training, so that every method is judged on the same tokens.
    The noise is one vector for all, `[noise_dim]`; zero if None.
    """
    policy = CausalLMPolicy(model, end_token_id(config.prompt_template(), tokenizer), pad_token_id(tokenizer))
    return encoded_losses(policy, encode_with(pairs, tokenizer, config)[0], batch_size, noise)


def mean_loss(
    policy: CausalLMPolicy, encoded: Sequence[EncodedPair], batch_size: int, parallel: DataParallel = ALONE
) -> float:
    """Negative log-likelihood of the answers at zero noise, nats a token; infinite without any."""
    first, end = parallel.rows(len(encoded))
    losses = list(chain.from_iterable(parallel.collect(encoded_losses(policy, encoded[first:end], batch_size))))
    return sum(nats for nats, _ in losses) / sum(tokens for _, tokens in losses) if losses else float("inf")


@torch.inference_mode()
def encoded_losses(
    policy: CausalLMPolicy, encoded: Sequence[EncodedPair], batch_size: int, noise: Tensor | None = None
) -> list[tuple[float, int]]:
    """[`answer_losses`] of pairs that are token ids already."""
    losses: list[tuple[float, int]] = []
    for start in range(0, len(encoded), batch_size):
        batch = collate(encoded[start : start + batch_size], policy.pad_token_id).to(policy.model.device)
        nats = -policy.score(batch, noise=noise).sum(dim=1)
        losses += zip(nats.tolist(), batch.answer_mask.sum(dim=1).tolist(), strict=True)
    return losses
