"""Tiny random causal language models of several families, for tests that need a real transformers model.

Vocabulary 97, width 32, 2 layers, 64 positions; pad 0, bos 1, eos 2. Weights are drawn with standard deviation 0.2, ten
times the usual, so that logits are far from uniform and a test notices a small change.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

VOCAB_SIZE, HIDDEN_SIZE, NUM_LAYERS, MAX_POSITIONS = 97, 32, 2, 64
PAD_ID, BOS_ID, EOS_ID = 0, 1, 2

SPECIAL_IDS = {"pad_token_id": PAD_ID, "bos_token_id": BOS_ID, "eos_token_id": EOS_ID}
SHAPE = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": HIDDEN_SIZE,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": 2,
    "max_position_embeddings": MAX_POSITIONS,
    "initializer_range": 0.2,
    **SPECIAL_IDS,
}


def build(
    model_class: type[PreTrainedModel], config_class: type[PreTrainedConfig], shape: dict, seed: int = 0
) -> PreTrainedModel:
    """A freshly initialised model in evaluation mode; the global random state is left as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_class(config_class(**shape)).eval()


# Each entry is a function of an optional seed. GPT-2, OPT and Gemma tie the head to the embedding; the others do not.
TINY_MODELS: dict[str, Callable[..., PreTrainedModel]] = {
    "gpt2": partial(
        build,
        GPT2LMHeadModel,
        GPT2Config,
        {
            "vocab_size": VOCAB_SIZE,
            "n_embd": HIDDEN_SIZE,
            "n_layer": NUM_LAYERS,
            "n_head": 2,
            "n_positions": MAX_POSITIONS,
            "initializer_range": 0.2,
            **SPECIAL_IDS,
        },
    ),
    "llama": partial(build, LlamaForCausalLM, LlamaConfig, {**SHAPE, "intermediate_size": 64}),
    "qwen2": partial(
        build, Qwen2ForCausalLM, Qwen2Config, {**SHAPE, "intermediate_size": 64, "num_key_value_heads": 2}
    ),
    "gpt_neox": partial(build, GPTNeoXForCausalLM, GPTNeoXConfig, {**SHAPE, "intermediate_size": 64}),
    "opt": partial(
        build,
        OPTForCausalLM,
        OPTConfig,
        {
            "vocab_size": VOCAB_SIZE,
            "hidden_size": HIDDEN_SIZE,
            "word_embed_proj_dim": HIDDEN_SIZE,
            "ffn_dim": 64,
            "num_hidden_layers": NUM_LAYERS,
            "num_attention_heads": 2,
            "max_position_embeddings": MAX_POSITIONS,
            "init_std": 0.2,
            **SPECIAL_IDS,
        },
    ),
    "phi": partial(build, PhiForCausalLM, PhiConfig, {**SHAPE, "intermediate_size": 64}),
    "gemma": partial(
        build,
        GemmaForCausalLM,
        GemmaConfig,
        {**SHAPE, "intermediate_size": 64, "num_key_value_heads": 1, "head_dim": 16},
    ),
}
