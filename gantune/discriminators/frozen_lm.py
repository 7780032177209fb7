"""A head on the hidden states of the frozen language model: a discriminator that can know what the model knows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel

from gantune.data.batch import Batch
from gantune.discriminators.base import Discriminator


@contextlib.contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """The model as if no adapter were in it, for the block; what is trainable stays so."""
    adapters = (BaseTunerLayer, AuxiliaryTrainingWrapper)  # the latter holds the copies of `modules_to_save`
    layers = [module for module in model.modules() if isinstance(module, adapters) and not module.disable_adapters]
    try:
        for layer in layers:
            layer._disable_adapters = True
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


class FrozenLMHead(Discriminator):
    """Reads question and answer by the frozen model, its adapters switched off, and judges each prefix by a small head.

    The head sees the hidden states of the embedding and of every layer, at the prefix's last token and as their mean
    over the prefix's answer tokens. No second model is in memory; the language model belongs to the caller and is
    neither trained nor saved with the head. Its hidden layer has `width` units.
    """

    def __init__(self, language_model: PreTrainedModel, width: int = 64, dropout: float = 0.2) -> None:
        super().__init__()
        self._language_model = [language_model]  # in a list, so that it is no part of this module
        config = language_model.config.get_text_config(decoder=True)
        features = (config.num_hidden_layers + 1) * config.hidden_size
        self.norm = nn.LayerNorm(features)
        self.head = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(2 * features, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, 1)
        )

    @classmethod
    def for_model(cls, model: PreTrainedModel, max_prompt_tokens: int, max_answer_tokens: int) -> FrozenLMHead:
        return cls(model)

    def prefix_logits(self, batch: Batch) -> Tensor:
        (model,) = self._language_model
        with torch.no_grad(), without_adapters(model):
            read = model.base_model(
                input_ids=batch.input_ids(),
                attention_mask=batch.attention_mask(),
                position_ids=batch.position_ids(),
                output_hidden_states=True,
                use_cache=False,
            )
        states = torch.cat([layer[:, batch.prompt_ids.shape[1] :] for layer in read.hidden_states], dim=2).float()
        states = self.norm(states) * batch.answer_mask[:, :, None]
        counted = batch.answer_mask.cumsum(dim=1).clamp(min=1)[:, :, None]
        return self.head(torch.cat([states, states.cumsum(dim=1) / counted], dim=2)).squeeze(2)
