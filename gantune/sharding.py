"""A frozen model divided over processes: for one that does not fit a device. Each process has a part of its weights.

All of them do the same steps on whole batches. So nothing is faster than with one process; what is trained, and its
optimiser, are whole in each.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from transformers import PreTrainedConfig, PreTrainedModel

from gantune.data_parallel import join_processes, launched_processes
from gantune.errors import UserError

Sharding = Literal["none", "tensor", "fsdp"]


def check_sharding(sharding: Sharding, config: PreTrainedConfig, name: str) -> None:
    """Refuse what cannot be divided.

    Args:
        sharding: `tensor` divides each matrix, by transformers' plan for the architecture, and each process computes
            with its part; `fsdp` divides each block, which is put together whenever it is needed.
        config: of the model.
        name: of the model, for the message.

    Raises:
        UserError: if there is one process, or no plan.
    """
    if sharding != "none" and launched_processes() == 1:
        raise UserError(f"--sharding {sharding}: one process, expected a launch of several")
    if sharding == "tensor" and getattr(config, "base_model_tp_plan", None) is None:
        raise UserError(f"{name}: transformers has no plan to divide a model of type {config.model_type}; try fsdp")


def divide_blocks(model: PreTrainedModel, device: str) -> PreTrainedModel:
    """Divide each of a frozen model's blocks over the processes, in place (torch's FSDP2); the rest goes to `device`.

    A block's weights are gathered before it computes and let go after: for every token that is decoded, too.

    Raises:
        UserError: if the model does not say what its blocks are.
    """
    processes = join_processes(device).processes
    blocks = [module for module in model.modules() if type(module).__name__ in (model._no_split_modules or ())]
    if not blocks:
        raise UserError(f"--sharding fsdp: {type(model).__name__} does not name its blocks (_no_split_modules)")
    mesh = dist.init_device_mesh(torch.device(device).type, (processes,))
    for block in blocks:
        fully_shard(
            block, mesh=mesh, reshard_after_forward=True
        )  # by default a root stays whole, and each block is one
    return model.to(device)
