"""A generator of your own: what stands between the embedding layer and the first block, fed with noise."""

import torch
from torch import nn

from gantune import LanguageGAN, LanguageGANConfig, load_pairs


class Gated(nn.Module):
    """Scales every embedding by a learned gate, which the noise moves; it begins as the untuned model."""

    def __init__(self, embedding_dim: int, noise_dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(embedding_dim, embedding_dim)
        self.noise = nn.Linear(noise_dim, embedding_dim, bias=False)
        nn.init.zeros_(self.gate.weight), nn.init.zeros_(self.gate.bias), nn.init.zeros_(self.noise.weight)

    def forward(self, embeddings, noise):
        """[B, T, d] embeddings and [B, n] or [n] noise, to [B, T, d]."""
        moved = self.noise(noise)
        moved = moved[:, None] if moved.dim() == 2 else moved  # one noise vector for each sequence
        return embeddings * (1 + torch.tanh(self.gate(embeddings) + moved))


pairs = load_pairs("mini-tofu")[:50]
args = LanguageGANConfig(output_dir="out", num_train_epochs=30, learning_rate=2e-3)
gan = LanguageGAN("mini", args, train_dataset=pairs, peft_config=Gated)
gan.train()
print(sum(parameter.numel() for parameter in gan.parameters), "trained parameters")
gan.save_pretrained("tuned")
again = LanguageGAN.from_pretrained("tuned", generator=Gated)  # a folder never imports your class by itself
questions = [pair.question for pair in pairs[:8]]
print("the same answers:", again.generate(questions) == gan.generate(questions))
