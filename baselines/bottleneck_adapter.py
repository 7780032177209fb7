"""BOTTLENECK, a PEFT method: Houlsby et al.'s adapters (2019, arXiv:1902.00751), as peft lays out its own methods.

Importing this module registers the method with peft; an adapter that was saved can be loaded after that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peft import PeftConfig, PeftType
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import register_peft_method
from torch import Tensor, nn
from torch.nn import functional as F

from gantune.embedding_generator import extend_peft_type
from gantune.errors import UserError
from gantune.field_types import option

INITIAL_STD = (
    1e-3  # of all weights, truncated at two deviations: the authors' code, github.com/google-research/adapter-bert
)
TARGET_MODULES = {  # the last projection of the attention and of the perceptron, by model type
    "gpt2": ["attn.c_proj", "mlp.c_proj"],
    **{name: ["o_proj", "down_proj"] for name in ("llama", "mistral", "qwen2", "qwen3", "gemma")},
    "gpt_neox": ["attention.dense", "dense_4h_to_h"],
    "opt": ["out_proj", "fc2"],
    "phi": ["self_attn.dense", "fc2"],
}

extend_peft_type("BOTTLENECK")


@dataclass
class BottleneckConfig(PeftConfig):
    """Configuration of a [`BottleneckModel`]."""

    task_type: str | None = option("CAUSAL_LM", "The type of task.")
    bottleneck_dim: int = option(64, "Width of the bottleneck, at least 1.")
    target_modules: list[str] | str | None = option(None, "Names of the modules that are followed by an adapter.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType.BOTTLENECK
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)
        if self.bottleneck_dim < 1:
            raise UserError(f"bottleneck_dim is {self.bottleneck_dim}, expected at least 1")


class BottleneckLayer(nn.Module, BaseTunerLayer):
    """A sublayer's last projection h, followed by h + W2 gelu(W1 h + b1) + b2, before the block's residual sum."""

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: BottleneckConfig, width: int) -> None:
        super().__init__()
        self.base_layer, self.width = base_layer, width
        self.bottleneck_down, self.bottleneck_up = nn.ModuleDict(), nn.ModuleDict()
        self.merged_adapters: list[str] = []
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: BottleneckConfig) -> None:
        """Add a fresh adapter under `adapter_name`."""
        self.bottleneck_down[adapter_name] = nn.Linear(self.width, config.bottleneck_dim)
        self.bottleneck_up[adapter_name] = nn.Linear(config.bottleneck_dim, self.width)
        for layer in (self.bottleneck_down[adapter_name], self.bottleneck_up[adapter_name]):
            nn.init.trunc_normal_(layer.weight, std=INITIAL_STD, a=-2 * INITIAL_STD, b=2 * INITIAL_STD)
            nn.init.zeros_(layer.bias)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The projection's output, adapted; `[..., width]` in its dtype."""
        hidden = self.base_layer(*args, **kwargs)
        if self.disable_adapters:
            return hidden
        for name in self.active_adapters:
            if name in self.bottleneck_down:
                down, up = self.bottleneck_down[name], self.bottleneck_up[name]
                hidden = hidden + up(F.gelu(down(hidden.to(down.weight.dtype)))).to(hidden.dtype)
        return hidden

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refused: the adapter is not linear."""
        raise ValueError("a bottleneck adapter is not linear, it cannot be merged")


class BottleneckModel(BaseTuner):
    """Puts a bottleneck adapter behind the sublayers of a frozen transformer."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer
    target_module_mapping = TARGET_MODULES

    def _prepare_adapter_config(self, peft_config: BottleneckConfig, model_config: dict) -> PeftConfig:
        if peft_config.target_modules is None and model_config["model_type"] not in TARGET_MODULES:
            raise UserError(
                f"bottleneck: unknown model type {model_config['model_type']!r}, expected one of "
                f"{', '.join(TARGET_MODULES)}, or target modules"
            )
        return super()._prepare_adapter_config(peft_config, model_config)

    def _create_and_replace(
        self,
        peft_config: BottleneckConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, BottleneckLayer):
            target.update_layer(adapter_name, peft_config)
            return
        width = getattr(target, "out_features", None) or getattr(target, "nf", None)  # nn.Linear; GPT-2's Conv1D
        if width is None:
            raise UserError(f"target module {current_key!r} is a {type(target).__name__}: expected a linear layer")
        layer = BottleneckLayer(target, adapter_name, peft_config, width)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)


register_peft_method(name="bottleneck", config_cls=BottleneckConfig, model_cls=BottleneckModel)
