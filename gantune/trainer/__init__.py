"""The trainers: what every method shares, and the game of generator and discriminator."""

from gantune.registry import lazy

__getattr__, __all__ = lazy(
    __name__,
    {
        "arguments": ["LanguageGANConfig", "PairConfig"],
        "callbacks": ["History", "Weights"],
        "checkpoints": ["last_whole_checkpoint"],
        "config": ["GameConfig"],
        "language_gan": ["LanguageGAN"],
        "pair_trainer": ["PairTrainer"],
        "policy_trainer": ["PolicyTrainer"],
        "unpaired": ["Unpaired"],
    },
)
