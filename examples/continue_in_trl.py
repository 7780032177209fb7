"""Go on in TRL: merge what was tuned into a plain model, and train that by GRPO. Needs `pip install trl`."""

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from gantune import LanguageGAN, LanguageGANConfig, load_pairs

pairs = load_pairs("mini-tofu")
args = LanguageGANConfig(output_dir="out", num_train_epochs=30, learning_rate=2e-3)
gan = LanguageGAN("mini", args, train_dataset=pairs[:50])
gan.train()
plain = gan.model.merge_and_unload()  # exact for the zero noise; any program takes it from here
plain.requires_grad_(True)


def ends_in_time(completions, **_):
    """1 for an answer that is a whole sentence."""
    return [float(text.rstrip().endswith(".")) for text in completions]


cuda = torch.cuda.is_available()
prompts = Dataset.from_list([{"prompt": f"Question: {pair.question}\nAnswer:"} for pair in pairs[50:100]])
trainer = GRPOTrainer(
    model=plain,
    reward_funcs=ends_in_time,
    args=GRPOConfig("out/grpo", max_steps=20, max_completion_length=50, num_generations=4, bf16=cuda, use_cpu=not cuda),
    train_dataset=prompts,
    processing_class=gan.tokenizer,
)
trainer.train()
trainer.save_model("plain")
