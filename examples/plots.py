"""Look at a training, cell by cell: curves, the game's health, and how far the weights moved."""

# %% Train, and write down what happens
import json
from pathlib import Path

from gantune import LanguageGAN, LanguageGANConfig, load_pairs
from gantune.diagnostics import load_trajectory, plot_health, plot_history, plot_weight_trajectories
from gantune.trainer import History, Weights

out = Path("out")
args = LanguageGANConfig(output_dir="out", num_train_epochs=30, warmup_share=0.5, learning_rate=2e-3, logging_steps=1)
weights = Weights(out / "weights.npz")
watching = [History(out / "history.jsonl"), weights]
gan = LanguageGAN("mini", args, train_dataset=load_pairs("mini-tofu")[:50], callbacks=watching)
gan.train()
weights.save()

# %% Loss, reward and rates over the steps
rows = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
plot_history(rows, out / "history.png", "LanguageGAN on mini-tofu")

# %% Is the game healthy? Spread of the rewards, entropy, lengths, the discriminator
plot_health(rows, out / "health.png", "LanguageGAN on mini-tofu")

# %% The adapter's weights move, the model's do not
plot_weight_trajectories(load_trajectory(weights.path), out / "weights.png")
print(*sorted(path.name for path in out.glob("*.png")))
