"""What makes methods comparable: the runs' common settings, `--tune`, `--match`, and where learning rates are from."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from baselines import NotAvailable, resolve_method
from benchmarks.compare.arguments import Settings
from benchmarks.compare.sweep import MEASURES, grids_of, sweep
from benchmarks.compare.tuned import Winner, read_winners, short, winner_of, write_winners
from benchmarks.report.terminal_table import REFERENCE
from gantune.generation.decoding import Decoding

LIMITS = {"time": ("max_seconds", "train_seconds"), "sampled-tokens": ("max_tokens", "train_tokens")}
"""For each `--match` that stops training: the setting that does, and the figure of LoRA's row that it is set to."""

Run = Callable[[Path, dict[str, Any]], dict[str, Any]]


def run_config(
    settings: Settings, method: str, seed: int, device: str, changes: Mapping[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """What `benchmarks.compare.run` reads: one method and seed at the settings of the comparison.

    Args:
        settings: of the comparison.
        method: name.
        seed: of the split and of the training.
        device: as torch names it.
        changes: settings of the method that are others in this run.
        more: entries that are others in this run.
    """
    return {
        "method": method,
        "tuning": asdict(settings.method_config(method, seed, **changes or {})),
        "model": settings.model.model,
        "dtype": settings.model.dtype,
        "device": device,
        "trust_remote_code": settings.model.trust_remote_code,
        "data": asdict(settings.data),
        "sweep": False,
        "match": settings.fairness.match,
        "decodings": [asdict(decoding) for decoding in settings.fairness.decodings(seed)],
        "noise_draws": settings.fairness.noise_draws,
        "bleurt": settings.comparison.bleurt,
        "slots": settings.comparison.slots,
        "memory_snapshot": settings.comparison.memory_snapshot,
        "save_steps": settings.comparison.save_steps,
        "base_samples": None,
        "swept": None,
    } | more


def tune(
    settings: Settings, methods: Sequence[str], directory: Path, device: str, run: Run
) -> tuple[dict[str, Winner], list[str]]:
    """Sweep the methods that `tuning.json` in `directory` does not have yet; it has each as soon as it is chosen.

    Args:
        settings: of the comparison.
        methods: names; those without a sweep are passed over.
        directory: of the comparison.
        device: as torch names it.
        run: gives the row of a run from its directory and `config.json`, which tests nothing that the comparison tests.

    Returns:
        The winners by method, and what is worth saying of methods without one.
    """
    file, said = directory / "tuning.json", []
    winners = read_winners(file) if file.is_file() else {}
    seeds, measure = settings.fairness.tune_seeds, MEASURES[settings.tuning["metric_for_best_model"]]
    apart_from = [] if settings.data.test_dataset else settings.comparison.seeds
    sweep_run = {
        "data": asdict(settings.data) | {"forgetting": False, "test_dataset": None, "apart_from": apart_from},
        "sweep": True,
        "decodings": [asdict(Decoding())],
        "noise_draws": 0,
        "bleurt": None,
        "memory_snapshot": False,
    }

    def mean_score(method: str, values: dict[str, float]) -> float | None:
        scores = []
        for seed in seeds:
            name = ",".join([*(f"{option}={value:g}" for option, value in values.items()), f"seed{seed}"])
            print(f"[tuning] {method}, {name}", file=sys.stderr, flush=True)
            config = run_config(settings, method, seed, device, values, **sweep_run)
            row = run(directory / "tuning" / method / name, config)
            if row["status"] == "not run":
                raise NotAvailable(row["error"])
            scores.append(row["metrics"].get(measure.metric))
        return None if None in scores else fmean(scores)

    for name in methods:
        method = resolve_method(name)
        matched = {method.size.option} if method.size and settings.fairness.match == "parameters" else set()
        grids = grids_of(method, settings.given.keys() | matched)
        if name in winners or not grids:
            continue
        defaults = vars(settings.method_config(name, seeds[0]))
        chosen_on = f"the test pairs of seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        with contextlib.suppress(NotAvailable):  # its main runs say why
            winner = sweep(grids, defaults, lambda values, name=name: mean_score(name, values), measure, chosen_on)
            if winner is None:
                said.append(f"{name}: no value of its sweep could be scored, so its defaults are used")
            else:
                winners[name] = winner
                write_winners(file, winners)
    return winners, said


def limit(match: str | None, method: str, seed: int, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The settings that stop a method where LoRA has stopped at the same seed; none without such a `--match`.

    Args:
        match: of the comparison.
        method: name.
        seed: of the run.
        rows: of the runs before it.

    Raises:
        NotAvailable: if LoRA's run of the seed has nothing to stop at.
    """
    if match not in LIMITS or method == REFERENCE:
        return {}
    option, figure = LIMITS[match]
    value = next((row[figure] for row in rows if (row["method"], row["seed"]) == (REFERENCE, seed)), None)
    if value is None:
        raise NotAvailable(f"--match {match}: {REFERENCE} has no result for seed {seed}")
    return {option: value}


def learning_rates(settings: Settings) -> str:
    """A line that names the learning rates of the methods and where they come from."""
    told = []
    for name in settings.comparison.methods:
        method, config = resolve_method(name), vars(settings.method_config(name, seed=0))
        for option in method.sweeps or config:
            if option.endswith("learning_rate"):
                told.append(f"{name} {option} {_rate(settings, name, option, config[option])}")
    return f"learning rates: {', '.join(told) or 'none'}"


def _rate(settings: Settings, method: str, option: str, value: float) -> str:
    found = winner_of(settings.winners, method)
    if option in settings.given:
        source = settings.given[option]
    elif settings.fairness.tune and option in resolve_method(method).sweeps:
        return f"by --tune, of {MEASURES[settings.tuning['metric_for_best_model']].title}"
    elif found and option in found[1].settings:
        source = "swept" if found[0] == method else f"swept for {found[0]}"
    else:
        source = "default, not swept"
    return f"{short(value)} ({source})"
