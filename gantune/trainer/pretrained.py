"""Using what [`gantune.LanguageGAN`] has tuned: answers, and the way to disk, to the Hub and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gantune.diagnostics.files import local_path, umask_followed, write_json
from gantune.discriminators import DISCRIMINATORS, Discriminator
from gantune.embedding_generator import load_stack, save_stack
from gantune.embedding_generator.generators import GeneratorSpec, build_generator
from gantune.errors import UserError
from gantune.generation.generate import generate_answers
from gantune.hub.adapter_settings import naming_base_model
from gantune.hub.loading import load_model, load_tokenizer
from gantune.hub.model_card import Training, write_model_card
from gantune.hub.push import PushToHub, local_folder
from gantune.seqgan import ADVANTAGES, OBJECTIVES, REWARDS, TRANSFORMS
from gantune.trainer.arguments import LanguageGANConfig, own_settings
from gantune.trainer.config import CONFIG_FILE, read_game_config

DISCRIMINATOR_FILE = "discriminator.safetensors"


class Pretrained(PushToHub):
    """The part of a LanguageGAN that trains nothing."""

    def generate(self, questions: Sequence[str], **options: Any) -> list[str]:
        """Answers to questions; greedy and with zero noise unless `options` say otherwise, see [`generate_answers`]."""
        return generate_answers(self.model, self.tokenizer, questions, self.args, **options)

    def save_pretrained(self, directory: str | Path, **told: Any) -> None:
        """Write the adapter as PEFT folders, the discriminator as safetensors, the settings, and a model card.

        Args:
            directory: made if it is not there.
            told: what else the card is to say, see [`Training`].
        """
        directory = local_path(directory)
        save_stack(self.model, directory)
        with umask_followed(directory):
            save_file(self.discriminator.state_dict(), directory / DISCRIMINATOR_FILE)
        settings = own_settings(self.args)
        write_json(directory / CONFIG_FILE, settings)
        tokens = sum(row.get("tokens", 0) for row in self.state.log_history)
        spent = {"steps": self.state.global_step, "tokens": tokens, "seconds": self.limits.seconds}
        trained, _ = self.get_nb_trainable_parameters()
        told = (spent if self.state.global_step else {}) | told
        write_model_card(directory, Training.of(self.model, settings, trained, **told))

    @classmethod
    def from_pretrained(
        cls,
        directory: str | Path,
        model: PreTrainedModel | str | None = None,
        processing_class: PreTrainedTokenizerBase | str | None = None,
        *,
        generator: GeneratorSpec | None = None,
        discriminator: str | type[Discriminator] | Discriminator | None = None,
        reward: str | type | Callable[..., Any] | None = None,
        **more: Any,
    ) -> Pretrained:
        """What [`save_pretrained`] wrote, on the same frozen model: `model`, or the one that the adapter names.

        Component names in the files must be registered: a file never makes gantune import anything. Give a class of
        your own as `generator`, `discriminator` or `reward`, name it as one of the settings, or register it first.

        Args:
            directory: a folder, or a Hub id.
            model: the base model, or its name.
            processing_class: its tokenizer, or its name.
            generator: what was tuned, if it is one of your own; see [`build_generator`].
            discriminator: if not the one that the file names.
            reward: the same.
            more: settings that are others now, and further arguments of the constructor, such as `train_dataset`.

        Raises:
            UserError: if a file is missing or not what was written, or names a component that is not registered.
        """
        directory = local_folder(directory)
        own = {name: more.pop(name) for name in [*more] if name in LanguageGANConfig.__dataclass_fields__}
        args = vars(read_game_config(directory, own.get("template")))
        named = {"advantage": ADVANTAGES, "objective": OBJECTIVES, "reward_transform": TRANSFORMS}
        for name in [name for name in named if name not in own]:
            named[name].get(args[name])
        if generator is not None:
            build_generator(generator)
        if model is None or isinstance(model, str):
            with naming_base_model(directory, model) as name:
                model, processing_class = load_model(name), processing_class or load_tokenizer(name)
        if model.device.type != "cuda":
            args["captured_decoding"] = False  # as it was trained, not what was trained
        args["output_dir"] = str(directory)
        discriminator = discriminator or DISCRIMINATORS.get(args["discriminator"])
        if reward is None:
            reward = args["reward"]
            for name in reward.split("*"):
                REWARDS.get(name)
        gan = cls(
            load_stack(model, directory, is_trainable=True),
            LanguageGANConfig(**args | own),
            processing_class=processing_class,
            peft_config=False,
            discriminator=discriminator,
            reward=reward,
            **more,
        )
        try:
            gan.discriminator.load_state_dict(load_file(directory / DISCRIMINATOR_FILE))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise UserError(
                f"{directory / DISCRIMINATOR_FILE}: not the weights of discriminator {args['discriminator']!r}; "
                "one that was given as an instance has to be given again"
            ) from error
        return gan
