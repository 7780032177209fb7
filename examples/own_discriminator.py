"""A discriminator of your own: a recurrent network that reads the answer token by token."""

from torch import nn

from gantune import Discriminator, LanguageGAN, LanguageGANConfig, load_pairs


class Recurrent(Discriminator):
    """Judges every prefix of an answer; takes the vocabulary's size, as every discriminator does."""

    def __init__(self, vocab_size: int, width: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.reader = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, 1)

    def prefix_logits(self, batch):
        """One logit a prefix, [B, T]: above 0 means that the answer looks true so far."""
        states, _ = self.reader(self.embedding(batch.answer_ids))
        return self.head(states).squeeze(-1)


pairs = load_pairs("mini-tofu")[:50]
args = LanguageGANConfig(output_dir="out", num_train_epochs=30, learning_rate=2e-3)
gan = LanguageGAN("mini", args, train_dataset=pairs, discriminator=Recurrent)
gan.train()
accuracy = [row["discriminator_accuracy"] for row in gan.state.log_history if "discriminator_accuracy" in row]
print(f"right on {accuracy[-1]:.0%} of what it read last")
gan.save_pretrained("tuned")  # to load it again: LanguageGAN.from_pretrained("tuned", discriminator=Recurrent)
