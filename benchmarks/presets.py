"""Settings under one name; every value is a default that the command line may override."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # The source study's setting (SOURCE_STUDY section 5): GPT-2 and TOFU from the Hub, 50 + 50 pairs, 100 + 50 tokens,
    # 30 epochs, batch 1.
    "tofu-gpt2": {
        "model": "openai-community/gpt2",
        "dataset": "tofu",
        "train_size": 50,
        "test_size": 50,
        "epochs": 30,
        "batch_size": 1,
        "max_prompt_tokens": 100,
        "max_new_tokens": 50,
        "bleurt": "lucadiliello/BLEURT-20",
    },
}
