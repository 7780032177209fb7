"""Metrics of generated answers: ROUGE, BLEURT and diversity, as `evaluate.Metric` subclasses.

None of them needs the network, except to download a BLEURT checkpoint that is named by its Hub id. Names are imported
on first use, because `evaluate` takes seconds to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gantune.metrics.bleurt import Bleurt
    from gantune.metrics.diversity import Diversity, distinct_n, mean_length
    from gantune.metrics.rouge import Rouge

__all__ = ["Bleurt", "Diversity", "Rouge", "distinct_n", "mean_length"]

_MODULES = {
    "Bleurt": "gantune.metrics.bleurt",
    "Diversity": "gantune.metrics.diversity",
    "Rouge": "gantune.metrics.rouge",
    "distinct_n": "gantune.metrics.diversity",
    "mean_length": "gantune.metrics.diversity",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
