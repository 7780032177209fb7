"""What takes the place of a preset's model, data or metric where the Hub cannot be reached."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import huggingface_hub
from huggingface_hub import HfApi

from benchmarks.compare.presets import PRESETS
from gantune.data import load_pairs
from gantune.data.sources import TOFU
from gantune.errors import UserError
from gantune.hub.loading import load_model, load_tokenizer
from gantune.metrics import Bleurt

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
            PRESETS["source"]["model"],
            "model",
            lambda name: (load_tokenizer(name), load_model(name)),
            f"mini {_APART}",
        ),
        "dataset": StandIn("mini-tofu", TOFU, "dataset", load_pairs, f"mini-tofu {_APART}"),
        "bleurt": StandIn(None, PRESETS["source"]["bleurt"], "model", Bleurt, "BLEURT is not run"),
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
