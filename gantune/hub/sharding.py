"""A frozen model divided over processes: for one that does not fit a device. Each process has a part of its weights.

All of them do the same steps on whole batches. So nothing is faster than with one process; what is trained, and its
optimiser, are whole in each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from transformers import PreTrainedConfig, PreTrainedModel

from gantune.distributed import join_processes, launched_processes
from gantune.errors import UserError

Sharding = Literal["none", "tensor", "fsdp", "deepspeed"]


def check_sharding(sharding: Sharding, config: PreTrainedConfig, name: str) -> None:
    """A [`UserError`] if there is one process, or no plan to divide the model that the user called `name`.

    `tensor` divides each matrix, by transformers' plan for the architecture, and each process computes with its part;
    `fsdp` and `deepspeed` divide each block, which is put together whenever it is needed.
    """
    if sharding != "none" and launched_processes() == 1:
        raise UserError(f"--sharding {sharding}: one process, expected a launch of several")
    if sharding == "tensor" and getattr(config, "base_model_tp_plan", None) is None:
        raise UserError(f"{name}: transformers has no plan to divide a model of type {config.model_type}; try fsdp")


def divide_blocks(model: PreTrainedModel, sharding: Sharding, device: str) -> PreTrainedModel:
    """Divide a frozen model's blocks over the processes, in place; the rest goes to `device`.

    A block's weights are gathered before it computes and let go after: for every token that is decoded, too.

    Raises:
        UserError: if the model does not say what its blocks are, or DeepSpeed is not installed.
    """
    kinds = model._no_split_modules or ()
    blocks = [module for module in model.modules() if type(module).__name__ in kinds]
    if not blocks:
        raise UserError(f"--sharding {sharding}: {type(model).__name__} does not name its blocks (_no_split_modules)")
    processes = join_processes(device).processes
    if sharding == "fsdp":
        mesh = dist.init_device_mesh(torch.device(device).type, (processes,))
        for block in blocks:
            fully_shard(block, mesh=mesh, reshard_after_forward=True)  # which is not a root's default
    else:
        _by_deepspeed(blocks, torch.device(device), model.dtype)
    return model.to(device)


def _by_deepspeed(blocks: Sequence[nn.Module], device: torch.device, dtype: torch.dtype) -> None:
    """ZeRO's third stage (Rajbhandari et al. 2020, arXiv:1910.02054)."""
    try:
        import deepspeed
    except ImportError as error:
        raise UserError("--sharding deepspeed: its package is not installed here") from error
    deepspeed.init_distributed("gloo" if device.type == "cpu" else "nccl")
    config = {
        "train_micro_batch_size_per_gpu": 1,  # asked for, and used for nothing but training by DeepSpeed
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
        "bf16": {"enabled": dtype == torch.bfloat16},
        "fp16": {"enabled": dtype == torch.float16},
    }
    deepspeed.initialize(model=nn.ModuleList(blocks), config=config)
