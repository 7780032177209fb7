"""Settings under one name; every value is a default that the command line may override."""

from __future__ import annotations

from typing import Any

# The source study's setting (SOURCE_STUDY section 5): GPT-2 and TOFU from the Hub, 50 + 50 pairs, 100 + 50 tokens,
# 30 epochs, batch 1.
SOURCE_STUDY: dict[str, Any] = {
    "model": "openai-community/gpt2",
    "dataset": "tofu",
    "train_size": 50,
    "test_size": 50,
    "num_train_epochs": 30,
    "per_device_train_batch_size": 1,
    "max_prompt_length": 100,
    "max_completion_length": 50,
    "bleurt": "lucadiliello/BLEURT-20",
}

# 50 pairs, and questions and answers that do not belong to each other. Who can, learns the answers as text. Adversarial
# steps stay as few as by default: nothing that was tried with them beat the likelihood (results/reference/ablations).
UNPAIRED: dict[str, Any] = {
    "methods": ["lora", "lora-unpaired", "mle-stack", "mle-stack-unpaired", "gan-stack"],
    "unpaired": 300,
    "unpaired_likelihood_weight": 1.0,
    "blind_discriminator": True,
}

PRESETS: dict[str, dict[str, Any]] = {
    "tofu-gpt2": SOURCE_STUDY,
    "unpaired": UNPAIRED,
    # and its table: its own recipe between the untuned model and LoRA; figures in `benchmarks.report.published`
    "source": SOURCE_STUDY | {"methods": ["base", "gan-source", "lora-attention"]},
}
