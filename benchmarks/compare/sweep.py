"""`--tune`: each method's learning rate, and one more setting, by the same small sweep on seeds that are not reported.

The learning rates are tried first, at the other setting's default, then the other setting at the best rate: the cost is
the sum of the two grids and not their product. A grid whose edge wins grows by one value on that side, at most twice.

What decides is `metric_for_best_model` of the methods alike, by which the table should be read: the NLL of the answers,
ROUGE-L, or of records slot errors. It is the mean over the splits of `--tune-seeds`, which no reported run has; each is
tested on as many pairs as there are, at most 400. Each value and seed is a run as any other, in `tuning/METHOD/`, so a
sweep that was cut off goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from baselines.method import Method
from benchmarks.compare.tuned import Trial, Winner

EXTENSIONS = 2


class Measure(NamedTuple):
    """What a sweep goes by: its name, where a row has it, and the sign that makes less better."""

    title: str
    metric: str
    sign: int


MEASURES = {
    "loss": Measure("NLL", "nll", 1),
    "rougeL": Measure("ROUGE-L", "rougeL", -1),
    "slot_error_rate": Measure("SER", "slot_error_rate", 1),
}
"""By the names of `metric_for_best_model`."""


def grids_of(method: Method, fixed: set[str]) -> dict[str, tuple[float, ...]]:
    """What to try for a method: its sweeps without the settings in `fixed`."""
    return {option: tuple(sorted(grid)) for option, grid in method.sweeps.items() if option not in fixed}


def next_value(grid: Sequence[float], best: float) -> float | None:
    """The value that a sorted grid grows by if `best` is at its edge: in the ratio of the last two; None if it is not.

    Whole numbers stay whole, and above 0.
    """
    if best not in (grid[0], grid[-1]) or len(grid) < 2:
        return None
    neighbour = grid[1] if best == grid[0] else grid[-2]
    value = type(best)(best * (best / neighbour))
    return value if value > 0 else None


def sweep(
    grids: Mapping[str, Sequence[float]],
    defaults: Mapping[str, float],
    score: Callable[[dict[str, float]], float | None],
    measure: Measure,
    chosen_on: str,
) -> Winner | None:
    """Choose one setting after the other.

    Args:
        grids: sorted values of each setting, in the order they are chosen in.
        defaults: what a setting is before it is chosen.
        score: of settings; None if they cannot be scored.
        measure: what the scores are.
        chosen_on: see [`Winner`].

    Returns:
        The best; None if nothing could be scored.
    """
    chosen = {option: defaults[option] for option in grids}
    trials: list[Trial] = []
    known: dict[tuple[float, ...], float | None] = {}

    def attempt(option: str, value: float) -> None:
        settings = chosen | {option: value}
        key = tuple(settings.values())
        if key not in known:
            known[key] = score(settings)
        trials.append(Trial(option, value, known[key]))

    for option, grid in grids.items():
        for value in grid:
            attempt(option, value)
        for extension in range(EXTENSIONS + 1):
            of_option = [trial for trial in trials if trial.option == option]
            scored = [trial for trial in of_option if trial.score is not None]
            if not scored:
                return None
            best = min(scored, key=lambda trial: measure.sign * trial.score)
            value = next_value(sorted(trial.value for trial in of_option), best.value)
            if value is None or extension == EXTENSIONS:
                break
            attempt(option, value)
        chosen[option] = best.value
    return Winner(chosen, tuple(trials), best.score, measure.title, chosen_on)
