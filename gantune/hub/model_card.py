"""The model card of a saved adapter, in the Hub's format: base, data, settings, figures and limits.

A card tells what was measured and says so where nothing was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from gantune.diagnostics.files import write_atomically, write_json
from gantune.errors import UserError
from gantune.hub.adapter_settings import FOR_USE_ONLY
from gantune.hub.loading import BUILT_IN, model_path
from gantune.version import __version__

CARD_FILE, TRAINING_FILE, EVALUATION_FILE = "README.md", "training.json", "evaluation.json"
BUILT_IN_DATA = ("mini-tofu", "mini-dialogues")
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
    """What is known of a training; None is what nobody has told or measured.

    Args:
        base_model: a built-in name, a Hub id or a folder.
        adapters: PEFT methods in the order of their folders, such as `("embedding_generator", "lora")`.
        settings: all of [`gantune.LanguageGANConfig`].
        trained_parameters: how many.
        steps: of all phases.
        seconds: spent in them.
        tokens: that have entered the model.
        dataset: where the pairs come from.
        pairs: how many there were.
        validation_pairs: how many of them were held out to choose the weights.
        validation_loss: of these, nats a token.
        stopped: why training did not come to its end.
        gantune: version.
    """

    base_model: str
    adapters: tuple[str, ...]
    settings: dict[str, Any]
    trained_parameters: int
    steps: int | None = None
    seconds: float | None = None
    tokens: int | None = None
    dataset: str | None = None
    pairs: int | None = None
    validation_pairs: int | None = None
    validation_loss: float | None = None
    stopped: str | None = None
    gantune: str = __version__

    @classmethod
    def of(cls, model: Any, settings: Mapping[str, Any], trained_parameters: int, **told: Any) -> Training:
        """What a tuned model itself knows, and what else is `told`."""
        name = model.get_base_model().config._name_or_path
        return cls(
            base_model=next((known for known in BUILT_IN if model_path(known) == name), name),
            adapters=tuple(sorted(_stacked(model))),
            settings=dict(settings),
            trained_parameters=trained_parameters,
            **told,
        )


def write_model_card(directory: str | Path, training: Training) -> None:
    """Write `README.md`, and then what it was made from as `training.json`.

    Raises:
        UserError: if a file cannot be written.
    """
    directory = Path(directory)
    write_atomically(directory / CARD_FILE, str(model_card(training)))
    write_json(directory / TRAINING_FILE, asdict(training))


def model_card(training: Training) -> ModelCard:
    """The card of an adapter that nobody has evaluated yet."""
    settings = training.settings
    methods = " and ".join(ADAPTERS.get(name, name) for name in training.adapters)
    hub_model, hub_data = hub_id(training.base_model), hub_dataset(training.dataset)
    tags = ["gantune", "gan", *(name.replace("_", "-") for name in training.adapters)]
    data = ModelCardData(
        base_model=training.base_model if training.base_model in BUILT_IN else hub_model,
        library_name="peft",
        pipeline_tag="text-generation",
        tags=tags if hub_model is None else [*tags, f"base_model:adapter:{hub_model}"],
        datasets=[hub_data] if hub_data else None,
    )
    sections = {
        "How to use it": _usage(training),
        "Base model": _base(training),
        "Data": _data(training),
        "Training": _training(training),
        "Figures": figures(training, None),
        "Limits": _limits(training),
        "Settings": "| option | value |\n| --- | --- |\n"
        + "\n".join(_row(name, value) for name, value in settings.items()),
    }
    title = f"# {methods} for {_shown(training.base_model)}, tuned by gantune"
    body = "\n\n".join([title, *(f"## {name}\n\n{text}" for name, text in sections.items())])
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n")


def add_evaluation(directory: str | Path) -> bool:
    """Put the figures of `evaluation.json` into the card; what somebody has written elsewhere in it stays.

    Returns:
        Whether there was a card with figures to replace.

    Raises:
        UserError: if a file is not what gantune writes, or the card cannot be written.
    """
    directory = Path(directory)
    if not (directory / CARD_FILE).is_file() or not (directory / TRAINING_FILE).is_file():
        return False
    training, evaluation = _read(directory / TRAINING_FILE), _read(directory / EVALUATION_FILE)
    known = {field.name for field in fields(Training)}
    try:
        text = figures(Training(**{name: value for name, value in training.items() if name in known}), evaluation)
        measured = [
            name
            for name, value in (("rouge", "rougeL"), ("bleurt", "bleurt"))
            if evaluation["metrics"][value] is not None
        ]
    except (TypeError, KeyError) as error:
        raise UserError(f"{directory}: {TRAINING_FILE} or {EVALUATION_FILE} is not as gantune writes it") from error
    card = ModelCard.load(directory / CARD_FILE)
    section = re.compile(r"^## Figures\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if not section.search(card.text):
        return False
    card.text = section.sub(lambda _: f"## Figures\n\n{text}\n\n", card.text, count=1)
    card.data.metrics = measured
    write_atomically(directory / CARD_FILE, str(card))
    return True


def figures(training: Training, evaluation: Mapping[str, Any] | None) -> str:
    """The section of what was measured."""
    if training.validation_loss is None:
        lines = ["Validation loss: not measured."]
    else:
        lines = [
            f"Validation loss: {training.validation_loss:.4f} nats a token, on {training.validation_pairs} held-out "
            "pairs, which also chose the weights."
        ]
    if evaluation is None:
        return "\n\n".join([*lines, "Test metrics: not measured."])
    same = training.dataset is not None and _place(evaluation["dataset"]) == _place(training.dataset)
    lines.append(
        f"Test metrics on {evaluation['pairs']} pairs of {_source(evaluation['dataset'])}, {evaluation['decoding']} "
        f"decoding, zero noise{', **from the source that it was trained on**' if same else ''}."
    )
    rows = [
        f"| {name} | {'not measured' if value is None else f'{value:.4f}'} |"
        for name, value in evaluation["metrics"].items()
    ]
    return "\n\n".join([*lines, "\n".join(["| metric | value |", "| --- | --- |", *rows])])


def hub_id(name: str | None) -> str | None:
    """`name` if the Hub may know it: of the form of an id, not built in and no folder here."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return None if name in BUILT_IN or Path(name).exists() else name


def hub_dataset(source: str | None) -> str | None:
    """The Hub id of a data source that `gantune.data.load_pairs` knows; None for a file or one that is built in."""
    if source is None or source in BUILT_IN_DATA or Path(source).exists():
        return None
    name = source.partition(":")[0]
    return "locuslab/TOFU" if name == "tofu" else hub_id(name)


def _stacked(model: Any) -> set[str]:
    """Names of the adapters of a stack; each is that of its PEFT method."""
    return {str(config.peft_type.value).lower() for config in model.peft_config.values()}


def _shown(name: str | None) -> str:
    return "not recorded" if name is None else f"`{name}`"


def _row(name: str, value: Any) -> str:
    """One option in the table of the settings."""
    text = json.dumps(value, ensure_ascii=False).replace("|", "\\|").replace("`", "'")
    return f"| `{name}` | `{text}` |"


def _place(source: str) -> str:
    """The same text for the same source, however its path is written."""
    return str(Path(source).resolve()) if Path(source).exists() else source


def _source(source: str | None) -> str:
    """A data source as a reader elsewhere may see it: of a path here only the last part."""
    return f"`{Path(source).name}`, a local file or folder" if source and Path(source).exists() else _shown(source)


def _usage(training: Training) -> str:
    load = [
        "from gantune import LanguageGAN",
        "",
        'gan = LanguageGAN.from_pretrained("FOLDER")  # this folder, once it is on your disk',
        'print(gan.generate(["Who wrote Ulysses?"]))',
    ]
    peft = ["from gantune import load_model, load_tokenizer"]
    base = json.dumps(training.base_model)
    loading = [f"model, tokenizer = load_model({base}), load_tokenizer({base})"]
    if len(training.adapters) == 1 and training.adapters[0] not in NEEDS_STACK:
        name = training.adapters[0]
        imports = ["import gantune.embedding_generator  # makes the method known to peft"]
        peft = ["from peft import PeftModel", "", *(imports if name == "embedding_generator" else []), *peft]
        loading += [f'model = PeftModel.from_pretrained(model, "FOLDER", subfolder="{name}")  # or a Hub id as FOLDER']
    else:
        peft += ["from gantune.embedding_generator import load_stack"]
        loading += ['model = load_stack(model, "FOLDER")']
    ways = [load, [*peft, "", *loading]]
    if set(training.adapters) & set(FOR_USE_ONLY):
        del ways[0]
    said = ("`pip install gantune`, then", "or, as any PEFT adapter,")
    return "\n\n".join(
        [
            *(text for way, lines in zip(said, ways, strict=False) for text in (way, _code(lines))),
            "In a terminal: `gantune generate --adapter FOLDER`. And `gantune merge --adapter FOLDER --output PLAIN` "
            "writes a Hugging Face folder that needs neither gantune nor peft.",
        ]
    )


def _code(lines: Sequence[str]) -> str:
    return "\n".join(["```python", *lines, "```"])


def _base(training: Training) -> str:
    name = training.base_model
    if hub_id(name):
        return f"[`{name}`](https://huggingface.co/{name}); its own weights are not changed."
    where = "comes with gantune" if name in BUILT_IN else "a folder on the machine that trained"
    return f"{_shown(name)} ({where}); its own weights are not changed."


def _data(training: Training) -> str:
    if training.pairs is None:
        return f"Source: {_source(training.dataset)}. Number of pairs: not recorded."
    held_out = f", {training.validation_pairs} of them held out" if training.validation_pairs else ""
    return f"Source: {_source(training.dataset)}. Question-answer pairs: {training.pairs}{held_out}."


def _training(training: Training) -> str:
    settings = training.settings
    objective = "Maximum likelihood only"
    if settings["warmup_share"] < 1:
        objective = f"Maximum likelihood, then policy gradient against the discriminator `{settings['discriminator']}`"
    spent = "steps, time and tokens not recorded"
    if training.steps is not None:
        spent = f"{training.steps} steps, {training.seconds:.1f} s, {training.tokens:,} tokens in the model"
    lines = [
        f"{objective}: {spent}; {training.trained_parameters:,} trained parameters, seed {settings['seed']}, "
        f"gantune {training.gantune}."
    ]
    if training.stopped:
        lines.append(f"**Training did not come to its end**: {training.stopped}.")
    return "\n\n".join(lines)


def _limits(training: Training) -> str:
    settings = training.settings
    lines = [
        f"It answers questions put in the template `{settings['template']}`, of up to {settings['max_prompt_length']} "
        f"tokens (of longer ones it sees the end), in up to {settings['max_completion_length']} tokens.",
        "Answers can be wrong however fluent they are; they were judged by likeness to the true answers, if at all.",
        "What the base model has of errors and bias stays, and what it could do besides may have changed.",
        "One training with one seed: another seed gives other figures.",
    ]
    if "embedding_generator" in training.adapters:
        lines.append("Figures are with zero noise, which is the default; random noise gives other answers.")
    return "\n".join(f"- {line}" for line in lines)


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
