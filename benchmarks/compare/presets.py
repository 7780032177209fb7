"""Settings under one name; every value is a default that the command line may override."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import huggingface_hub
from huggingface_hub import HfApi

from gantune.data import load_pairs
from gantune.data.sources import TOFU
from gantune.errors import UserError
from gantune.hub.loading import load_model, load_tokenizer
from gantune.metrics import Bleurt

# The source study's setting (SOURCE_STUDY section 5): GPT-2 and TOFU from the Hub, 50 + 50 pairs, 100 + 50 tokens,
# 30 epochs, batch 1.
SOURCE_STUDY: dict[str, Any] = {
    "model": "openai-community/gpt2",
    "dataset": "tofu",
    "train_size": 50,
    "test_size": 50,
    "epochs": 30,
    "batch_size": 1,
    "max_prompt_tokens": 100,
    "max_new_tokens": 50,
    "bleurt": "lucadiliello/BLEURT-20",
}

# 50 pairs, and questions and answers that do not belong to each other. Who can, learns the answers as text. Adversarial
# steps stay as few as by default: nothing that was tried with them beat the likelihood (results/reference/ablations).
UNPAIRED: dict[str, Any] = {
    "methods": ["lora", "lora-unpaired", "mle-stack", "mle-stack-unpaired", "gan-stack"],
    "unpaired": 300,
    "unpaired_likelihood_weight": 1.0,
    "blind_discriminator": True,
}

PRESETS: dict[str, dict[str, Any]] = {
    "tofu-gpt2": SOURCE_STUDY,
    "unpaired": UNPAIRED,
    # and its table: its own recipe between the untuned model and LoRA; `benchmarks.report.published` has its figures
    "source": SOURCE_STUDY | {"methods": ["base", "gan-source", "lora"]},
}

HUB_SECONDS = 5.0


class StandIn(NamedTuple):
    """What takes the place of something from the Hub.

    Args:
        value: of the option instead.
        repository: where it is on the Hub.
        kind: of that repository.
        load: reads it, or raises a UserError.
        consequence: of the replacement, for the reader.
    """

    value: str | None
    repository: str
    kind: str
    load: Callable[[str], Any]
    consequence: str


_APART = "stands in, so the figures cannot be set against the published ones directly"
STAND_INS: dict[str, dict[str, StandIn]] = {
    "source": {
        "model": StandIn(
            "mini",
            SOURCE_STUDY["model"],
            "model",
            lambda name: (load_tokenizer(name), load_model(name)),
            f"mini {_APART}",
        ),
        "dataset": StandIn("mini-tofu", TOFU, "dataset", load_pairs, f"mini-tofu {_APART}"),
        "bleurt": StandIn(None, SOURCE_STUDY["bleurt"], "model", Bleurt, "BLEURT is not run"),
    }
}


def settings_of(preset: str, given: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """The values of a preset, with stand-ins for what is not at hand here.

    Args:
        preset: its name.
        given: options that the command line sets itself; they are not looked at.

    Returns:
        The values, and a line for each that something stands in for.
    """
    values, said = dict(PRESETS[preset]), []
    for option, stand_in in STAND_INS.get(preset, {}).items():
        reason = None if option in given else _why_missing(values[option], stand_in)
        if reason:
            said.append(f"{values[option]} is not at hand here ({reason}): {stand_in.consequence}")
            values[option] = stand_in.value
    return values, said


def _why_missing(name: str, stand_in: StandIn) -> str | None:
    """None if the Hub has it or the cache does; one request, since the loaders' own retries take most of a minute."""
    try:
        HfApi().repo_info(stand_in.repository, repo_type=stand_in.kind, timeout=HUB_SECONDS)
        return None
    except Exception as error:  # whatever the Hub client or the network raises
        lines = str(error).strip().splitlines() or [type(error).__name__]
    try:
        with _cache_only():
            stand_in.load(name)
    except UserError:
        return f"the Hub: {lines[0].rstrip('.')}; the cache: no whole copy"
    return None


@contextlib.contextmanager
def _cache_only() -> Iterator[None]:
    """What HF_HUB_OFFLINE=1 does, for the block: its value is read once, at import, in two places."""
    import datasets

    places = (huggingface_hub.constants, datasets.config)
    before = [place.HF_HUB_OFFLINE for place in places]
    try:
        for place in places:
            place.HF_HUB_OFFLINE = True
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value
