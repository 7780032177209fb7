"""The model card of a saved adapter, in the Hub's format: base, data, settings, figures and limits.

A card tells what was measured and says so where nothing was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from gantune.assets import MODELS
from gantune.data.sources import SHIPPED, TOFU
from gantune.diagnostics.files import absolute_path, read_object, write_atomically, write_json
from gantune.errors import UserError
from gantune.hub.adapter_settings import FOR_USE_ONLY
from gantune.hub.loading import model_path
from gantune.version import __version__

CARD_FILE, TRAINING_FILE, EVALUATION_FILE = "README.md", "training.json", "evaluation.json"
TEMPLATE = resources.files("gantune.hub") / "model_card.md"
FIGURES = re.compile(r"^## Figures\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
ADAPTERS = {
    "embedding_generator": "EmbeddingGenerator",
    "lora": "LoRA",
    "ia3": "(IA)³",
    "prefix_tuning": "prefix",
    "prompt_tuning": "prompt tuning",
    "p_tuning": "P-tuning",
}
NEEDS_STACK = ("prompt_tuning", "p_tuning")
"""Alone, too: peft's own model of these makes a padded row's positions begin at its padding."""


@dataclass(frozen=True)
class Training:
    """What is known of a training; None is what nobody has told or measured."""

    base_model: str  # a built-in name, a Hub id or a folder's absolute path
    adapters: tuple[str, ...]  # PEFT methods in the order of their folders
    settings: dict[str, Any]  # all of [`gantune.LanguageGANConfig`]
    trained_parameters: int
    steps: int | None = None  # of the adapter; those in which the discriminator alone learns are not among them
    seconds: float | None = None
    tokens: int | None = None  # that have entered the model
    dataset: str | None = None
    pairs: int | None = None
    validation_pairs: int | None = None  # held out of them to choose the weights
    validation: tuple[str, float] | None = None  # the metric of these that chose the weights; a loss is nats a token
    stopped: str | None = None  # why training did not come to its end
    gantune: str = __version__

    @classmethod
    def of(cls, model: Any, settings: Mapping[str, Any], trained_parameters: int, **told: Any) -> Training:
        """What a tuned model itself knows, and what else is `told`."""
        name = model.get_base_model().config._name_or_path
        return cls(
            base_model=next((known for known in MODELS if model_path(known) == name), absolute_path(name)),
            adapters=tuple(sorted({str(config.peft_type.value).lower() for config in model.peft_config.values()})),
            settings=dict(settings),
            trained_parameters=trained_parameters,
            **told,
        )


def write_model_card(directory: str | Path, training: Training) -> None:
    """Write `README.md`, then what it was made from as `training.json`; a [`UserError`] if one cannot be written."""
    directory = Path(directory)
    write_atomically(directory / CARD_FILE, f"{model_card(training)}\n")
    write_json(directory / TRAINING_FILE, asdict(training))


def model_card(training: Training, evaluation: Mapping[str, Any] | None = None) -> ModelCard:
    """The card of an adapter; `evaluation` is what `gantune evaluate` wrote, None if nobody has evaluated it yet."""
    hub_model, hub_data = hub_id(training.base_model), hub_dataset(training.dataset)
    base_model, built_in = training.base_model, training.base_model in MODELS
    base_name = base_model if built_in or hub_model else Path(base_model).name  # not whose folder it lies in
    tags = ["gantune", "gan", *(name.replace("_", "-") for name in training.adapters)]
    data = ModelCardData(
        base_model=base_model if built_in else hub_model,
        library_name="peft",
        pipeline_tag="text-generation",
        tags=tags if hub_model is None else [*tags, f"base_model:adapter:{hub_model}"],
        datasets=[hub_data] if hub_data else None,
    )
    alone = len(training.adapters) == 1 and training.adapters[0] not in NEEDS_STACK
    settings = {name: json.dumps(value, ensure_ascii=False) for name, value in training.settings.items()}
    return ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        training=training,
        methods=" and ".join(ADAPTERS.get(name, name) for name in training.adapters),
        base_name=base_name,
        base_model=json.dumps(base_name if base_name == base_model else f"path/to/{base_name}"),
        built_in=built_in,
        hub_model=hub_model,
        source=_source(training.dataset),
        alone=training.adapters[0] if alone else None,
        trainable=not set(training.adapters) & set(FOR_USE_ONLY),
        mergeable=not set(training.adapters) & {*FOR_USE_ONLY, *NEEDS_STACK},
        evaluation=evaluation and _evaluated(training, evaluation),
        settings={name: text.replace("|", "\\|").replace("`", "'") for name, text in settings.items()},
    )


def add_evaluation(directory: str | Path) -> bool:
    """Put the figures of `evaluation.json` into the card, if it has some to replace; what else is written in it stays.

    Raises:
        UserError: if a file is not what gantune writes, or the card cannot be written.
    """
    directory = Path(directory)
    if not (directory / CARD_FILE).is_file() or not (directory / TRAINING_FILE).is_file():
        return False
    training, evaluation = read_object(directory / TRAINING_FILE), read_object(directory / EVALUATION_FILE)
    known = {field.name for field in fields(Training)}
    try:
        evaluated = model_card(Training(**{name: training[name] for name in training.keys() & known}), evaluation)
        metrics = {"rouge": evaluation["metrics"]["rougeL"], "bleurt": evaluation["metrics"]["bleurt"]}
    except (TypeError, KeyError) as error:
        raise UserError(f"{directory}: {TRAINING_FILE} or {EVALUATION_FILE} is not as gantune writes it") from error
    card = ModelCard.load(directory / CARD_FILE)
    if not FIGURES.search(card.text):
        return False
    card.text = FIGURES.sub(lambda _: FIGURES.search(evaluated.text)[0], card.text, count=1)
    card.data.metrics = [name for name, value in metrics.items() if value is not None]
    write_atomically(directory / CARD_FILE, str(card))
    return True


def hub_id(name: str | None) -> str | None:
    """`name` if the Hub may know it: of the form of an id, not built in and no folder here."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return None if name in MODELS or Path(name).exists() else name


def hub_dataset(source: str | None) -> str | None:
    """The Hub id of a data source that `gantune.data.load_pairs` knows; None for a file or one that is built in."""
    if source is None or source in SHIPPED or Path(source).exists():
        return None
    name = source.partition(":")[0]
    return TOFU if name == "tofu" else hub_id(name)


def _source(source: str | None) -> str:
    """A data source as a reader elsewhere may see it: of a path here only the last part."""
    if source is None:
        return "not recorded"
    return f"`{Path(source).name}`, a local file or folder" if Path(source).exists() else f"`{source}`"


def _evaluated(training: Training, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """What the card tells of an evaluation."""
    source = evaluation["dataset"]
    return {
        "source": _source(source),
        "trained_on": training.dataset is not None and Path(source).resolve() == Path(training.dataset).resolve(),
        **{name: evaluation[name] for name in ("pairs", "decoding", "metrics")},
        "cautions": evaluation.get("cautions", ()),  # which older files have not
    }
