"""Virtual tokens among the embeddings (prompt tuning, P-tuning), for rows that are padded or go on from a cache.

peft puts the virtual tokens in front of a row's padding and drops `position_ids`: then a left-padded row's positions
begin at its padding, and its loss and its answer change with the rows beside it. It also puts them in again at every
call, so that no key-value cache can be gone on from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModelForCausalLM, PeftType
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

VIRTUAL_TOKEN_METHODS = (PeftType.PROMPT_TUNING, PeftType.P_TUNING)


class VirtualTokensModel(PeftModelForCausalLM):
    """peft's model for virtual tokens, independent of padding.

    V virtual tokens stand between a row's left padding and its first token. They take the positions 0 to V - 1, and the
    given `position_ids` count on from V. They are put in once: a call with a cache that holds something goes on from
    it. Masks, positions, labels and the columns that `logits_to_keep` names are those of the real tokens; the virtual
    tokens' are added here. The logits of a first call have V columns more than its tokens.

    A row without padding gets what peft gives it, so `PeftModel.from_pretrained` reads what this saves. What that
    returns is peft's own model again: give it one row at a time, or rows of one length.
    """

    @property
    def num_virtual_tokens(self) -> int:
        """V, the positions that a row takes in a cache besides those of its own tokens."""
        return self.active_peft_config.num_virtual_tokens

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> Any:
        """The wrapped model's forward with the virtual tokens in their place.

        Args:
            input_ids: `[B, L]`, padded on the left.
            attention_mask: `[B, cached + L]`, of the real tokens; None if there is no padding.
            position_ids: `[B, L]`, counting the real tokens.
            labels: `[B, L]`, in a call without a filled cache.
            logits_to_keep: how many of the last columns, or which of the L columns, none of them padding; 0 for all.
        """
        for name in ("noise", *self.special_peft_forward_args):
            if kwargs.get(name) is not None:
                raise ValueError(f"{name}= means nothing to virtual tokens, which are the same for all rows")
        rows, length = len(input_ids), self.num_virtual_tokens
        padding = None if attention_mask is None else attention_mask.long().argmax(dim=1, keepdim=True)

        def with_virtual(virtual: Tensor, real: Tensor) -> Tensor:
            return insert(virtual.expand(rows, length, *real.shape[2:]), real, padding)

        if attention_mask is not None:
            attention_mask = with_virtual(attention_mask.new_ones(1, 1), attention_mask)
        if position_ids is not None:
            position_ids = position_ids + length
        if past_key_values is None or not past_key_values.get_seq_length():
            embedded = self.word_embeddings(input_ids)
            inputs = {"inputs_embeds": with_virtual(self.get_prompt(rows).to(embedded.dtype), embedded)}
            if position_ids is not None:
                position_ids = with_virtual(torch.arange(length, device=position_ids.device)[None], position_ids)
            if labels is not None:
                inputs["labels"] = with_virtual(labels.new_full((1, 1), -100), labels)
            if isinstance(logits_to_keep, Tensor):
                logits_to_keep = logits_to_keep + length
        else:
            inputs = {"input_ids": input_ids}
        return self.base_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            logits_to_keep=logits_to_keep,
            **inputs,
            **kwargs,
        )

    def _adjust_prompt_learning_kwargs(
        self, peft_config: PeftConfig, *, kwargs: dict[str, Any], **options: Any
    ) -> None:
        # In `generate` peft puts the virtual tokens in itself, in front of the padding, and calls the wrapped model.
        positions, virtual = kwargs.pop("position_ids", None), peft_config.num_virtual_tokens
        super()._adjust_prompt_learning_kwargs(peft_config, kwargs=kwargs, **options)
        if positions is not None:
            positions = positions + virtual
            cache = kwargs.get("past_key_values")
            if cache is None or not cache.get_seq_length():
                first = torch.arange(virtual, device=positions.device).expand(len(positions), -1)
                positions = torch.cat([first, positions], dim=1)
            kwargs["position_ids"] = positions


def insert(virtual: Tensor, real: Tensor, before: Tensor | None) -> Tensor:
    """`virtual`, `[B, V, ...]`, put into `real`, `[B, L, ...]`, in front of its column `before`, `[B, 1]` (None: 0)."""
    both, length = torch.cat([virtual, real], dim=1), virtual.shape[1]
    if before is None:
        return both
    columns = torch.arange(both.shape[1], device=real.device).expand(len(real), -1)
    source = torch.where(columns < before, columns + length, columns - before)
    source = source.where(columns < before + length, columns)
    return both.take_along_dim(source.view(*source.shape, *[1] * (real.dim() - 2)), dim=1)


def num_virtual_tokens(model: nn.Module) -> int:
    """How many virtual tokens each row of `model` has among its embeddings; 0 without a [`VirtualTokensModel`]."""
    return model.num_virtual_tokens if isinstance(model, VirtualTokensModel) else 0


def add_virtual_tokens(model: PreTrainedModel, config: PeftConfig, adapter_name: str = "default") -> VirtualTokensModel:
    """What `get_peft_model` is for other methods; `model` is frozen in place."""
    config.base_model_name_or_path = model.name_or_path or None
    return VirtualTokensModel(model, config, adapter_name)


def saved_config(folder: str | Path) -> PeftConfig:
    """The settings of a saved adapter without its model's sizes: peft takes the model's, which the weights must fit."""
    config = PeftConfig.from_pretrained(str(folder))
    if config.is_prompt_learning:
        config.num_layers = config.token_dim = config.num_attention_heads = None
    return config


def load_virtual_tokens(
    model: PreTrainedModel, folder: str | Path, adapter_name: str = "default", is_trainable: bool = False
) -> VirtualTokensModel:
    """What `PeftModel.from_pretrained` is for other methods.

    P-tuning cannot be trained on: it saves the virtual tokens and not the network that wrote them.
    """
    config = saved_config(folder)
    config.inference_mode = not is_trainable
    tuned = VirtualTokensModel(model, config, adapter_name)
    tuned.load_adapter(str(folder), adapter_name, is_trainable=is_trainable)
    tuned.prompt_encoder.requires_grad_(is_trainable)  # peft leaves it on
    return tuned
