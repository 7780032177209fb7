"""The methods of this project, as rows of the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from baselines.method import Diverged, TunedModel, method
from gantune.data import Pair
from gantune.language_gan import LanguageGAN
from gantune.language_gan_config import LanguageGANConfig
from gantune.observer import Observer


def train_language_gan(trainer: LanguageGAN, pairs: Sequence[Pair], observer: Observer | None) -> TunedModel:
    """What a trainer makes of the pairs, as the comparison wants it.

    Raises:
        Diverged: with the last good weights, if a loss or a gradient is not finite.
    """
    tuned = TunedModel(trainer.model, trainer.tokenizer, trainer.config, save=trainer.save_pretrained)
    try:
        trainer.train(pairs, observer)
    except FloatingPointError as error:
        raise Diverged(str(error), tuned) from error
    return tuned


@method("gan", LanguageGANConfig)
def tune_gan(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: LanguageGANConfig,
    observer: Observer | None = None,
) -> TunedModel:
    """LanguageGAN: likelihood warm-up, then adversarial steps with a likelihood anchor."""
    return train_language_gan(LanguageGAN(model, tokenizer, config), pairs, observer)


@method("mle", LanguageGANConfig)
def tune_mle(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: LanguageGANConfig,
    observer: Observer | None = None,
) -> TunedModel:
    """The control of `gan`: the same generator and the same number of steps, every one of them likelihood."""
    return tune_gan(model, tokenizer, pairs, replace(config, warmup_share=1.0), observer)
