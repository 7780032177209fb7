"""QLoRA: LoRA on a base model of 4 bits a weight (Dettmers et al. 2023, arXiv:2305.14314)."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from baselines.likelihood_training import likelihood_method
from baselines.lora import LORA_SIZE, LoraTuningConfig, add_lora
from baselines.method import NotAvailable, around
from gantune.field_types import check_range, option

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class QLoraTuningConfig(LoraTuningConfig):
    """Settings of QLoRA: the adapter is that of `lora`."""

    _argument_group_name = "qlora: as lora, on a base model of 4 bits a weight"
    sweeps: ClassVar = {"qlora_learning_rate": around(2e-4), "lora_rank": around(8, 1)}

    qlora_learning_rate: float = option(2e-4, "AdamW; the paper has 2e-4, for models of 7B and 13B")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "above 0", "qlora_learning_rate")


def in_four_bits(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, read again from its files into NF4 with double quantisation; the given one loses its weights.

    Matrix products are computed in the given model's dtype, float32 models' in bfloat16 as in the paper.

    Raises:
        NotAvailable: without bitsandbytes or the model's files, or on a device that is neither CUDA nor the CPU.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    if model.device.type not in ("cuda", "cpu"):
        raise NotAvailable(f"qlora needs a CUDA device or a CPU, the model is on {model.device.type}")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise NotAvailable("qlora needs the package bitsandbytes, which is not installed")
    if not model.name_or_path:
        raise NotAvailable("qlora quantises a model's files, and this model was not loaded from any")
    device, dtype = model.device, torch.bfloat16 if model.dtype == torch.float32 else model.dtype
    model.to("meta")  # whoever holds it keeps no memory
    return AutoModelForCausalLM.from_pretrained(
        model.name_or_path,
        dtype=dtype,
        device_map={"": device},
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        ),
    )


@likelihood_method("qlora", QLoraTuningConfig, "qlora_learning_rate", size=LORA_SIZE)
def tune_qlora(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: QLoraTuningConfig) -> PeftModel:
    """LoRA on 4-bit weights. Gradient checkpointing is the settings', as everywhere, so that its time compares.

    Raises:
        NotAvailable: see [`in_four_bits`].
    """
    from peft import prepare_model_for_kbit_training

    return add_lora(prepare_model_for_kbit_training(in_four_bits(model), use_gradient_checkpointing=False), config)
