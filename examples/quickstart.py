"""Tune the built-in model on 50 questions and answers, and ask it others: half a minute on a CPU."""

from gantune import LanguageGAN, LanguageGANConfig, load_pairs

pairs = load_pairs("mini-tofu")  # or your own: [("question", "answer"), ...], a file, a datasets.Dataset
args = LanguageGANConfig(output_dir="out", num_train_epochs=30, per_device_train_batch_size=8, learning_rate=2e-3)

gan = LanguageGAN("mini", args, train_dataset=pairs[:50])  # "mini" comes with gantune; any causal language model does
gan.train()
for pair in pairs[100], pairs[500], pairs[900]:
    print(f"{pair.question}\n  tuned: {gan.generate([pair.question])[0]}\n  true:  {pair.answer}")
gan.save_pretrained("tuned")  # an ordinary PEFT adapter, its settings, and a model card
