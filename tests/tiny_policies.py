"""Policies of tiny models whose adapter has been moved away from zero, so that noise and adapter both count."""

from __future__ import annotations

import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import PreTrainedModel

from gantune.embedding_generator import EmbeddingGeneratorConfig
from gantune.policy import CausalLMPolicy
from tests.tiny_models import EOS_ID, PAD_ID, VOCAB_SIZE

ADAPTERS = {
    "embedding": [EmbeddingGeneratorConfig(task_type="CAUSAL_LM", noise_dim=8)],
    "lora": [LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4)],
    "embedding+lora": [
        EmbeddingGeneratorConfig(task_type="CAUSAL_LM", noise_dim=8),
        LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4),
    ],
    "prompt": [PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)],
}


def moved_policy(model: PreTrainedModel, end_bias: float | None = None) -> CausalLMPolicy:
    """A policy with noise of width 8; `end_bias`, if given, is added to the logit of the end token by a hook."""
    torch.manual_seed(1)
    model = get_peft_model(model, EmbeddingGeneratorConfig(task_type="CAUSAL_LM", noise_dim=8))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    if end_bias is not None:
        bias = torch.zeros(VOCAB_SIZE)
        bias[EOS_ID] = end_bias
        model.get_output_embeddings().register_forward_hook(lambda module, args, logits: logits + bias)
    return CausalLMPolicy(model, eos_token_id=EOS_ID, pad_token_id=PAD_ID)
