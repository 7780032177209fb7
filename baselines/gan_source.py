"""The source study's GAN tuning as it was published, without the errors of its listings."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from baselines.gan import train_language_gan
from baselines.method import TunedModel, around, method
from gantune.field_types import check_range, option
from gantune.trainer.config import GameConfig
from gantune.tuning import TuningConfig

UNCLIPPED = 1e9  # no gradient comes near, and unlike infinity it can be written as JSON


@dataclass
class SourceStudyConfig(TuningConfig):
    """Settings of `gan-source`. All others of LanguageGAN are the study's; the batch size is 1 whatever is asked for.

    Its report is not known to set a learning rate, so the defaults are those of torch's Adam.
    """

    _argument_group_name = "gan-source: the source study's recipe, always at batch size 1"
    sweeps: ClassVar = {
        "source_learning_rate": around(1e-3),
        "source_discriminator_learning_rate": around(1e-3, 1),
    }

    source_learning_rate: float = option(1e-3, "of the generator; Adam, constant")
    source_discriminator_learning_rate: float = option(1e-3, "of the discriminator; Adam, constant")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "above 0", "source_learning_rate", "source_discriminator_learning_rate")
        self.language_gan()

    def language_gan(self) -> GameConfig:
        """The study's recipe as settings of LanguageGAN."""
        shared = {f.name: getattr(self, f.name) for f in dataclasses.fields(TuningConfig)}
        recipe = {
            "per_device_train_batch_size": 1,
            "validation_share": 0.0,
            "early_stopping_patience": 0,
            "lr_scheduler_type": "constant",
            "warmup_steps": 0.0,
        }
        return GameConfig(
            **shared | recipe,
            discriminator="source",
            reward="sequence",
            reward_transform="prob",
            advantage="none",
            warmup_share=0.0,
            discriminator_warmup_steps=0,
            adversarial_every=1,
            num_generations=1,
            likelihood_weight=0.0,
            real_label=1.0,
            mismatched_negatives=False,
            replay_rollouts=0,
            max_discriminator_accuracy=1.0,
            learning_rate=self.source_learning_rate,
            discriminator_learning_rate=self.source_discriminator_learning_rate,
            max_grad_norm=UNCLIPPED,
        )


@method("gan-source", SourceStudyConfig, resumes=True)
def tune_source(
    model: Any, tokenizer: Any, pairs: Any, config: SourceStudyConfig, *training: Any, **more: Any
) -> TunedModel:
    """REINFORCE on a whole-answer reward from the first step on, and nothing else (SOURCE_STUDY section 2).

    Its adapter (raw noise, no norm), its four-layer discriminator, one rollout an example, D and G in turn at every
    step. Of the errors in its listings (SOURCE_STUDY section 6) these are corrected:

    1. The next token's distribution is that of the last position, not of logits summed over all positions.
    2. The log-probability is that of the token which the rollout took, not of one that is drawn anew.
    3. One rollout without a graph and one scoring pass with it, not a graph of each of `max_completion_length` passes.
    4. An answer has one noise vector, in its rollout and in its score, not a new one in each pass.
    5. The discriminator reads one learned number a token id, not the id as a quantity.
    6. Padding and tokens after the end count neither in the reward nor in the gradient.
    8. One rollout serves both networks; the question is read, and is the same in the true and in the sampled sequence.
    9. `train` hides no `nn.Module.train`: LanguageGAN is no module but a trainer.

    The seventh, no baseline, no likelihood warm-up, no warm-up of the discriminator and no reward for a prefix, is the
    recipe itself (2.2 to 2.4). It is kept because it is the study's, and it is why the policy may collapse.

    Three things are this project's: the adapter's last layer starts at zero, so that training starts from the untuned
    model; answers are judged at zero noise; and questions are put through `config.template`.
    """
    from gantune.embedding_generator import EmbeddingGeneratorConfig
    from gantune.trainer.language_gan import LanguageGAN

    generator = EmbeddingGeneratorConfig(network="mlp", network_options={"norm": "none", "noise_scale": 1.0})
    made, game = partial(LanguageGAN, peft_config=generator), config.language_gan()
    return train_language_gan(made, model, tokenizer, pairs, game, *training, **more)
