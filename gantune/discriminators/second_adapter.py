"""A discriminator that is a second adapter on the generator's frozen model."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from gantune.data.batch import Batch
from gantune.discriminators.base import Discriminator
from gantune.discriminators.frozen_lm import without_adapters
from gantune.distributed import is_divided
from gantune.errors import UserError
from gantune.policy.random_state import random_state, set_random_state

RANK, ALPHA = 8, 16
ROOM, ROOM_ON_CPU = 2 << 30, 96 << 20
"""Bytes of activations that a reading may keep: on an accelerator small parts cost time, on a CPU they do not."""


class LowRank(nn.Module):
    """What LoRA adds to a linear layer's output, scaling * B A x (Hu et al. 2021); begun as peft does, B = 0.

    Its weights are float32, whatever the layer's are; dropout is of x, in training.
    """

    def __init__(self, in_features: int, out_features: int, rank: int, scaling: float, dropout: float) -> None:
        super().__init__()
        self.scaling = scaling
        self.dropout = nn.Dropout(dropout)
        self.lora_A = nn.Parameter(torch.empty(rank, in_features, dtype=torch.float32))
        self.lora_B = nn.Parameter(torch.zeros(out_features, rank, dtype=torch.float32))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def added(self, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Forward hook of the layer: its output with this added, in its dtype."""
        down, up = self.lora_A.to(output.device), self.lora_B.to(output.device)  # a model may lie on several devices
        low = F.linear(self.dropout(args[0].to(down.dtype)), down)
        return (output + F.linear(low, up) * self.scaling).to(output.dtype)


class SecondAdapter(Discriminator):
    """Reads question and answer by the frozen model under a LoRA of its own, on all linear layers but the output head.

    The discriminator holds its low-rank matrices itself and puts them in place by hooks while it reads, with the
    generator's adapters and their noise switched off. As a second adapter of peft's it would be among the model's own
    parameters, to be kept out of its optimiser, its files, its counts and its merges; so nothing of it is in the model
    between two readings.

    A layer's rank and scaling are those of the generator's LoRA there, where there is one.

    The activations of a reading are not kept: for the backward pass it is done again, a part of the rows at a time, so
    that memory does not grow with the number of answers. The model reads without dropout of its own. A second
    derivative is refused.

    Args:
        language_model: frozen, with or without adapters on it; it belongs to the caller.
        room: about how many bytes of activations a part may have, which is at least a row; by the device if None.
        dropout: of what goes into each low-rank product, in training.

    Raises:
        UserError: if a layer is divided over processes or offloaded.
    """

    def __init__(self, language_model: PreTrainedModel, room: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.room, self.dropout = room, dropout
        self._language_model = [language_model]  # in a list, so that it is no part of this module
        self._layers = {layer: name for name, layer in base_layers(language_model.base_model)}
        generators = lora_weights(language_model)
        self.adapter = nn.ModuleDict()
        self._bytes_of_token = 0  # what goes into and comes out of the layers, in float32
        for layer, name in self._layers.items():
            if layer.weight.is_meta or is_divided(layer.weight):
                where = "offloaded by device_map" if layer.weight.is_meta else "divided over processes"
                raise UserError(f"{name}: its layer is {where}, expected a discriminator such as frozen-lm")
            shape = (layer.nx, layer.nf) if isinstance(layer, Conv1D) else (layer.in_features, layer.out_features)
            down, _, scaling = generators.get(layer, (None, None, ALPHA / RANK))
            self._bytes_of_token += 4 * sum(shape)
            rank = RANK if down is None else len(down)
            self.adapter[name.replace(".", "/")] = LowRank(*shape, rank, scaling, dropout)

    @classmethod
    def for_model(cls, model: PreTrainedModel, max_prompt_tokens: int, max_answer_tokens: int) -> SecondAdapter:
        return cls(model)

    @torch.no_grad()
    def begin_from(self, model: nn.Module) -> None:
        """Take over the weights of the LoRA that the generator has on the same layers, where its rank is the same."""
        generators = lora_weights(model)
        for layer, own in zip(self._layers, self.adapter.values(), strict=True):
            down, up, scaling = generators.get(layer, (None, None, None))
            if down is not None and down.shape == own.lora_A.shape:
                own.lora_A.copy_(down)
                own.lora_B.copy_(up * (scaling / own.scaling))

    @abstractmethod
    def one_pass(self, batch: Batch) -> Tensor:
        """What the model tells of the answers' tokens with this adapter in place, `[B, T, ...]`."""

    def read_in_parts(self, batch: Batch) -> Tensor:
        """[`one_pass`], with a gradient that reaches this adapter alone."""
        room = self.room or (ROOM_ON_CPU if batch.device.type == "cpu" else ROOM)
        rows = max(1, room // (self._bytes_of_token * batch.attention_mask().shape[1]))
        parts = [batch.rows(start, start + rows) for start in range(0, len(batch), rows)]
        return torch.cat([Recomputed.apply(self, part, *self.adapter.parameters()) for part in parts])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model with this adapter and no other, and without dropout, for the block."""
        (model,) = self._language_model
        training = [module for module in model.modules() if module.training]
        try:
            for module in training:
                module.training = False
            with without_adapters(model), ExitStack() as hooks:
                for layer, own in zip(self._layers, self.adapter.values(), strict=True):
                    hooks.callback(layer.register_forward_hook(own.added).remove)
                yield
        finally:
            for module in training:
                module.training = True


class Recomputed(torch.autograd.Function):
    """[`SecondAdapter.one_pass`], done again in the backward pass, in the state that the model was in.

    torch's own checkpointing would end a reading before its backward pass, and with it the hooks; what layers compute
    again in there, see [`gantune.policy.checkpoint_layers`], needs them. Dropout is that of the first time.
    """

    @staticmethod
    def forward(ctx: Any, reader: SecondAdapter, batch: Batch, *parameters: nn.Parameter) -> Tensor:
        kind = batch.device.type
        ctx.precision = {"enabled": torch.is_autocast_enabled(kind), "dtype": torch.get_autocast_dtype(kind)}
        ctx.reader, ctx.batch = reader, batch
        ctx.random = random_state() if reader.training and reader.dropout else None
        ctx.save_for_backward(*parameters)
        with reader.in_place(), torch.autocast(kind, **ctx.precision, cache_enabled=False):
            return reader.one_pass(batch)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        precision = torch.autocast(gradient.device.type, **ctx.precision, cache_enabled=False)
        with ctx.reader.in_place(), torch.enable_grad(), same_numbers(ctx.random):
            with precision:
                read = ctx.reader.one_pass(ctx.batch)
            return None, None, *torch.autograd.grad(read, ctx.saved_tensors, gradient, allow_unused=True)


@contextmanager
def same_numbers(state: dict[str, Any] | None) -> Iterator[None]:
    """Random numbers as from `state` on, for the block; nothing if None."""
    now = state and random_state()
    try:
        if state:
            set_random_state(state)
        yield
    finally:
        if now:
            set_random_state(now)


def base_layers(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The linear layers that a model had before it was given adapters, by their names then."""
    if isinstance(module, BaseTunerLayer):
        yield from base_layers(module.base_layer, name)
    elif isinstance(module, AuxiliaryTrainingWrapper):
        yield from base_layers(module.original_module, name)
    elif isinstance(module, nn.Linear | Conv1D):
        yield name, module
    else:
        for child_name, child in module.named_children():
            yield from base_layers(child, f"{name}.{child_name}" if name else child_name)


def lora_weights(model: nn.Module) -> dict[nn.Module, tuple[Tensor, Tensor, float]]:
    """A `[r, in]`, B `[out, r]` and scaling of the active LoRA of each layer, by the layer that it is on.

    Variants that are more than a product, such as DoRA, are left out.
    """
    found = {}
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name in module.active_adapters:
                if name in module.lora_A and name not in module.lora_variant:
                    weights = module.lora_A[name].weight, module.lora_B[name].weight
                    found[module.get_base_layer()] = (*weights, module.scaling[name])
    return found
