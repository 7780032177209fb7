"""The methods of this project, as rows of the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from baselines.method import TunedModel, method
from gantune.data import Pair
from gantune.language_gan import LanguageGAN
from gantune.language_gan_config import LanguageGANConfig
from gantune.observer import Observer


@method("gan", LanguageGANConfig)
def tune_gan(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: LanguageGANConfig,
    observer: Observer | None = None,
) -> TunedModel:
    """LanguageGAN: likelihood warm-up, then adversarial steps with a likelihood anchor."""
    trainer = LanguageGAN(model, tokenizer, config)
    trainer.train(pairs, observer)
    return TunedModel(trainer.model, tokenizer, config, save=trainer.save_pretrained)


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
