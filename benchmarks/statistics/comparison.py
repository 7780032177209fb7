"""All wanted comparisons of methods at once, corrected for their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.statistics.bootstrap import paired_bootstrap
from gantune.errors import UserError


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values of a family, adjusted to keep the chance of any false finding below the level (Holm 1979).

    The i-th smallest of m is multiplied by m - i + 1, is at least its predecessor, and at most 1.
    """
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def compare_methods(
    scores: Mapping[str, Mapping[int, Sequence[float]]],
    rivals: Mapping[str, Sequence[str]],
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Every method against each of its rivals, on the seeds that both have.

    Args:
        scores: by method and seed the score of each question, in the same order for all methods of a seed
            (`stored_scores` reads and checks them).
        rivals: by method the methods that it is compared with.
        confidence, resamples, seed: as `paired_bootstrap`.

    Returns:
        A row a pair: `method`, `rival`, `difference` (method minus rival), `low`, `high`, `p`, `p_holm` (over all
        comparisons with this rival), `seeds`, `questions`. A pair without a common seed has no row.

    Raises:
        UserError: naming the methods and the seed if their numbers of questions differ; as `paired_bootstrap`.
    """
    rows: list[dict[str, Any]] = []
    for method, opponents in rivals.items():
        for rival in opponents:
            own, other = scores.get(method, {}), scores.get(rival, {})
            common = sorted(own.keys() & other.keys())
            if not common:
                continue
            for run in common:
                if len(own[run]) != len(other[run]):
                    raise UserError(
                        f"scores of {method} and {rival}, seed {run}: {len(own[run])} and {len(other[run])} questions, "
                        "expected the same questions"
                    )
            pairs = [np.subtract(own[run], other[run]) for run in common]
            found = paired_bootstrap(pairs, confidence, resamples, seed)
            rows.append({"method": method, "rival": rival, **found._asdict()})
    families: dict[str, dict[str, float]] = {}
    for row in rows:
        families.setdefault(row["rival"], {})[row["method"]] = row["p"]
    corrected = {rival: holm(family) for rival, family in families.items()}
    columns = ("method", "rival", "difference", "low", "high", "p", "p_holm", "seeds", "questions")
    return [
        {name: (row | {"p_holm": corrected[row["rival"]][row["method"]]})[name] for name in columns} for row in rows
    ]
