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

# Texts about records, where the game has something to win: checking a text against its record is easier than writing
# it, and records without text are at hand. 500 pairs are about 2600 steps: 1800 of likelihood, after which more of it
# brings nothing, and 100 rounds.
# Each value of the game has beside it where it is from, a paper or a measurement: [10] is the pilot that found the
# setting (results/reference/ablations, entry 18). Of other data only model, lengths and `adversarial_weight` change.
LIKELIHOOD_STEPS, STEPS = 1800, 2600
LONGEST_TEXT, MEAN_TEXT = 40, 18  # tokens of mini-records
DATA_TO_TEXT: dict[str, Any] = {
    "model": "mini-writer",
    "dataset": "mini-records",
    "methods": ["lora", "mle:lora", "gan:lora"],
    "train_size": 500,
    "test_size": 300,
    "prompts": ["rest", "made:2000"],  # 8,000 made up brought no more (entry 19)
    "template": "record-line",
    "max_prompt_length": 40,
    "max_completion_length": LONGEST_TEXT,
    "num_train_epochs": 82,
    "metric_for_best_model": "slot_error_rate",
    "per_device_train_batch_size": 16,
    "learning_rate": 1e-2,  # the best of likelihood alone, for LoRA on all linear layers (Dettmers et al., 2305.14314)
    "lora_learning_rate": 1e-2,
    "lora_dropout": 0.1,  # the same paper's for small models; without it LoRA has a seventh more slot errors
    # likelihood first, then the discriminator, then both: SeqGAN's Algorithm 1 (Yu et al. 2017, arXiv:1609.05473)
    "warmup_share": LIKELIHOOD_STEPS / STEPS,
    "self_training_share": LIKELIHOOD_STEPS / STEPS,
    "adversarial_learning_rate": 4e-3,  # [10]; twice as much is no better (entry 29)
    "adversarial_every": 1,
    # rounds of 48 questions x 8 samples and 8 updates, advantages within a question: GRPO (Shao et al. 2024,
    # arXiv:2402.03300), with PPO's clipped ratio (Schulman et al. 2017, arXiv:1707.06347)
    "prompts_per_step": 6,
    "num_generations": 8,
    "steps_per_generation": 8,
    "advantage": "group-norm",
    "epsilon": 0.2,
    # true pairs in every update: teacher forcing beside the policy gradient (Li et al. 2017, arXiv:1701.06547)
    "likelihood_weight": 1.0,
    "adversarial_weight": round(3 * LONGEST_TEXT / MEAN_TEXT, 1),  # 3 on the mean over the sampled tokens
    # log D - log(1 - D) of whole texts, which is unbounded: AIRL (Fu et al. 2018, arXiv:1710.11248)
    "reward": "sequence",
    "reward_transform": "logit",
    # true texts preferred to others: the relativistic loss (Jolicoeur-Martineau 2018, arXiv:1807.00734), GAD's; the
    # others are sampled ones, earlier ones too (Shrivastava et al. 2017, arXiv:1612.07828), and of corrupted records
    "discriminator": "cross-reader",
    "discriminator_loss": "bradley-terry",
    "mismatched_negatives": False,  # a corrupted record is the harder mismatch
    "discriminator_warmup_steps": 400,  # [10], as what follows
    "discriminator_steps": 10,
    "discriminator_learning_rate": 2e-3,
    "max_discriminator_accuracy": 1.0,
}

# Half the likelihood, too little for dropout (LoRA has .515 slot errors with it, .474 without; seed 0), and half the
# rounds: what `make compare` shows of it in five minutes.
SHORT_SHARE = 1000 / 1400
SHORT: dict[str, Any] = DATA_TO_TEXT | {
    "num_train_epochs": 44,
    "lora_dropout": 0.0,
    "warmup_share": SHORT_SHARE,
    "self_training_share": SHORT_SHARE,
}

# GAD (Ye et al. 2025, arXiv:2511.10643): a language model with a scalar head judges whole answers, each true one
# against one of the generator's own to the same question (Bradley-Terry; so it takes no `prompts`), and its score is
# GRPO's reward; both are warmed up before, here one after the other. The true answer of a pair stands for the
# teacher's. Ours beside it are the adapter in place of whole models, and the likelihood of true answers in each
# adversarial step, which the paper does without.
GAD: dict[str, Any] = {
    "methods": ["lora", "mle:lora", "gan:lora"],
    "discriminator": "judge",
    "discriminator_loss": "bradley-terry",
    "corrupted_negatives": False,
    "mismatched_negatives": False,
    "replay_rollouts": 0,
    "max_discriminator_accuracy": 1.0,
    "reward": "sequence",
    "reward_transform": "logit",
    "advantage": "group-norm",
    "num_generations": 8,
    "warmup_share": 0.5,
    "discriminator_warmup_steps": 100,
    "adversarial_every": 1,
}

PRESETS: dict[str, dict[str, Any]] = {
    "tofu-gpt2": SOURCE_STUDY,
    "unpaired": UNPAIRED,
    "data-to-text": DATA_TO_TEXT,
    "data-to-text-short": SHORT,
    "gad": GAD,
    # and its table: its own recipe between the untuned model and LoRA; figures in `benchmarks.report.published`
    "source": SOURCE_STUDY | {"methods": ["base", "gan-source", "lora-attention"]},
}
