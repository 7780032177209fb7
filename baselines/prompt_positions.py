"""Virtual tokens in front of left-padded rows, with positions that count tokens and not padding."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftConfig, PeftModelForCausalLM
from torch import Tensor
from transformers import PreTrainedModel


class PromptPositionsModel(PeftModelForCausalLM):
    """peft's model for virtual tokens among the embeddings (prompt tuning, P-tuning), independent of padding.

    peft drops `position_ids` for these methods. Then a left-padded row's positions begin at its padding, and its loss
    and its answer change with the rows beside it. Here the virtual tokens take the positions 0 to V - 1, and the given
    `position_ids` count on from V. Positions that `logits_to_keep` names are those of the real tokens, too.

    Without padding it computes what peft does, so `PeftModel.from_pretrained` reads what it saves. What that returns is
    peft's own model again: give it one row at a time, or rows of one length.
    """

    def _adjust_prompt_learning_kwargs(
        self, peft_config: PeftConfig, *, kwargs: dict[str, Any], remove_token_type_ids: bool = True
    ) -> None:
        positions, virtual = kwargs.pop("position_ids", None), peft_config.num_virtual_tokens
        super()._adjust_prompt_learning_kwargs(peft_config, kwargs=kwargs, remove_token_type_ids=remove_token_type_ids)
        if positions is not None:
            positions = positions + virtual
            cache = kwargs.get("past_key_values")
            if cache is None or not cache.get_seq_length():  # peft is about to put the virtual tokens in front
                first = torch.arange(virtual, device=positions.device).expand(len(positions), -1)
                positions = torch.cat([first, positions], dim=1)
            kwargs["position_ids"] = positions
        if isinstance(kwargs.get("logits_to_keep"), Tensor):
            kwargs["logits_to_keep"] = kwargs["logits_to_keep"] + virtual


def add_virtual_tokens(model: PreTrainedModel, config: PeftConfig) -> PromptPositionsModel:
    """What `get_peft_model` is for other methods; `model` is frozen in place."""
    config.base_model_name_or_path = model.name_or_path or None
    return PromptPositionsModel(model, config)
