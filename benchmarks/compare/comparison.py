"""Tune one model by several methods and compare them in one table: what `python -m benchmarks.compare` does.

Each method and seed runs in a process of its own (`benchmarks.compare.run`). Results appear in the output directory
as they come; the same command with the same `--output` goes on where it was stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from baselines import METHODS, NotAvailable, known_method, resolve_method
from benchmarks.compare.arguments import Settings
from benchmarks.compare.dataset import read_split
from benchmarks.compare.environment import describe_device
from benchmarks.compare.fairness import LIMITS, learning_rates, limit, run_config, tune
from benchmarks.compare.forgetting import question_sets
from benchmarks.compare.run import collected_warnings, failed_row
from benchmarks.compare.stored import Stored, claim, join, read
from benchmarks.compare.tuned import content_of
from benchmarks.judge import JUDGES, build_judge
from benchmarks.judge.judging import judge_comparison
from benchmarks.judge.records import join_records
from benchmarks.report.presentation import heading, present, store
from benchmarks.report.terminal_table import REFERENCE, summarise
from gantune.cli.devices import resolve_device
from gantune.data import TEMPLATES, Pair, build_template, encode_pairs
from gantune.data.words import WORD_TOKENIZER
from gantune.diagnostics import local_path, locked, write_json
from gantune.discriminators import DISCRIMINATORS
from gantune.distributed import launched_for, launched_processes, without_variables
from gantune.embedding_generator.generators import build_generator, lora
from gantune.embedding_generator.stacking import check_targets
from gantune.errors import UserError
from gantune.hub.loading import load_tokenizer, model_without_weights
from gantune.metrics import Bleurt, SlotMatcher
from gantune.metrics.rouge_words import wordless
from gantune.metrics.slots import records_of
from gantune.policy.positions import check_positions
from gantune.registry import GENERATORS
from gantune.seqgan import ADVANTAGES, OBJECTIVES, REWARDS, TRANSFORMS
from gantune.trainer.arguments import training_arguments
from gantune.trainer.callbacks import Interrupts
from gantune.trainer.held_out import check_metric

ALWAYS = ("copy-question", "random-answer", "base")
COMPONENTS = (GENERATORS, DISCRIMINATORS, REWARDS, TRANSFORMS, OBJECTIVES, ADVANTAGES, TEMPLATES, JUDGES)


def check(settings: Settings) -> list[str]:
    """Refuse, before anything runs, what would fail later.

    Returns:
        What is worth saying beforehand: how many rows are over the length limits, or can be given no score.

    Raises:
        UserError: naming what is wrong.
    """
    comparison, data, model = settings.comparison, settings.data, settings.model
    if plugin := launched_for():
        raise UserError(f"{plugin}: methods are compared on whole models, expected a launch without it")
    for method in comparison.methods:
        config = settings.method_config(method, seed=0)
        resolve_method(method).check(config)
        with contextlib.suppress(NotAvailable), alone():  # its row says so
            training_arguments(config, use_cpu=model.device == "cpu")
    tuning = settings.tuning
    build_generator(tuning["generator"])
    for registry, name in (
        (DISCRIMINATORS, "discriminator"),
        (TRANSFORMS, "reward_transform"),
        (OBJECTIVES, "objective"),
        (ADVANTAGES, "advantage"),
        (TEMPLATES, "template"),
    ):
        registry.resolve(tuning[name])
    for name in tuning["reward"].split("*"):
        REWARDS.resolve(name)
    device = resolve_device(model.device)
    if comparison.bleurt:
        Bleurt(comparison.bleurt)
    SlotMatcher.for_records((), comparison.slots)
    if settings.judging.judge:
        build_judge(settings.judging.judge, device, model.dtype)
        there = [*ALWAYS, *comparison.methods]
        if settings.judging.judge_rival not in there:
            raise UserError(f"--judge-rival {settings.judging.judge_rival}: expected one of {', '.join(there)}")
    with collected_warnings("gantune.data") as lines:
        split = read_split(data, comparison.seeds[0])
    lines += split.warnings
    train, test, left_out = split.train, split.test, split.left_out
    if data.forgetting:
        question_sets(data.dataset, split.pairs, train, test, seed=comparison.seeds[0])
    check_metric(tuning["metric_for_best_model"], test)
    if comparison.slots and not records_of([pair.question for pair in test]):
        raise UserError(f"--slots {comparison.slots}: expected records as questions, {data.dataset} has others")
    skeleton = model_without_weights(model.model, model.trust_remote_code)
    check_targets(skeleton, lora(settings.method_config("lora", seed=0)))
    tokenizer = load_tokenizer(model.model, model.trust_remote_code)
    template = build_template(tuning["template"], tuning["system_prompt"] or None)
    limits = (tokenizer, template, tuning["max_prompt_length"], tuning["max_completion_length"])
    learned, report = encode_pairs(train, *limits, tuning["too_long"])
    tests, of_test = encode_pairs(test, *limits, "truncate")
    asked = [Pair(question, "") for question in split.unpaired.questions] if data.prompts else []
    prompts, of_prompts = encode_pairs(asked, *limits, "truncate") if asked else ([], "")
    said = [("training pairs", report), ("test pairs", of_test), ("prompts", of_prompts)]
    longest = max(len(row.prompt_ids) for row in [*learned, *tests, *prompts])
    check_positions(skeleton, longest, tuning["max_completion_length"])
    lines += [f"{part} of seed {comparison.seeds[0]}: {report}" for part, report in said if str(report)]
    lines += wordless([pair.answer for pair in test])
    if left_out:
        lines.append(
            f"training pairs of seed {comparison.seeds[0]}: {len(left_out)} of {len(left_out) + len(train)} left out, "
            f"they repeat test pairs (the first: {left_out[0].reason})"
        )
    return lines


def describe(settings: Settings, device: str) -> dict[str, Any]:
    """What the comparison was asked for; two comparisons that differ in it may not share a directory."""
    return {
        "model": settings.model.model,
        "dtype": settings.model.dtype,
        "device": describe_device(device),
        "data": asdict(settings.data),
        "fairness": asdict(settings.fairness),
        "tuning": settings.tuning,
        "bleurt": settings.comparison.bleurt,
        "slots": settings.comparison.slots,
        "word_tokenizer": WORD_TOKENIZER,
        "preset": settings.comparison.preset,
        "task": settings.comparison.task,
    }


def results_directory(settings: Settings) -> Path:
    """The directory that was asked for, or a new one under `results/`."""
    if settings.comparison.output is not None:
        return local_path(settings.comparison.output).absolute()
    names = (Path(settings.model.model).name, Path(settings.data.dataset).stem)
    name = "-".join(re.sub(r"[^\w.-]+", "-", name) for name in names)
    return Path(f"results/{name}-{time.strftime('%Y%m%d-%H%M%S')}").absolute()


def run_in_process(directory: Path, config: dict[str, Any]) -> dict[str, Any]:
    """One run, or what a finished run in `directory` gave. As many processes tune as this one was launched with."""
    result = directory / "metrics.json"
    if result.is_file():
        row = json.loads(result.read_text(encoding="utf-8"))
        if row["status"] == "success":
            return row
        result.unlink()
    write_json(directory / "config.json", config)
    with Interrupts() as interrupts:  # the run finishes its step, saves, and ends by itself
        status = subprocess.run(run_command(directory), env=unlaunched()).returncode
    if status == 130 or interrupts.asked:
        raise KeyboardInterrupt
    if result.is_file():
        return json.loads(result.read_text(encoding="utf-8"))
    reason = f"killed by {signal.Signals(-status).name}" if status < 0 else f"the process ended with status {status}"
    row = failed_row(config["method"], config["tuning"]["seed"], reason)
    write_json(result, row)
    return row


def run_command(directory: Path) -> list[str]:
    """What starts a run: one process, or a launcher of as many as this one was launched with."""
    of_run, processes = ["-m", "benchmarks.compare.run", str(directory)], launched_processes()
    if processes == 1:
        return [sys.executable, *of_run]
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *of_run]


def unlaunched() -> dict[str, str]:
    """The environment without what a launcher has told this process: its place among others is not that of a run."""
    of_launchers = ("RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_")
    return {name: value for name, value in os.environ.items() if not name.startswith(of_launchers)}


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """For the block this process knows of no other: transformers' settings would wait for those that tune in runs."""
    with without_variables(os.environ.keys() - unlaunched().keys()):
        yield


def main_run(
    settings: Settings, method: str, seed: int, directory: Path, device: str, rows: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The row of one method and seed, given the rows before it."""
    name, untuned = f"runs/{method}-seed{seed}", method in ALWAYS
    try:
        changes = {} if untuned else limit(settings.fairness.match, method, seed, rows)
    except NotAvailable as error:
        return failed_row(method, seed, str(error), status="not run") | {"directory": name}
    swept = settings.winners.get(method) if settings.fairness.tune else None
    config = run_config(
        settings,
        method,
        seed,
        device,
        changes,
        base_samples=None if untuned else str(directory / f"runs/base-seed{seed}/samples.jsonl"),
        swept=swept and str(swept),
    )
    return run_in_process(directory / name, config) | {"directory": name}


def compare(settings: Settings) -> int:
    """Run every method and seed, write the results, print the table; 0 if all ended well, 1 if some failed."""
    said = check(settings)
    device = resolve_device(settings.model.device)
    described = describe(settings, device)
    directory = results_directory(settings)
    earlier = claim(directory, described)
    with locked(directory):
        return run_all(settings, directory, device, described, earlier, said)


def run_all(
    settings: Settings, directory: Path, device: str, described: dict[str, Any], earlier: Stored | None, said: list[str]
) -> int:
    """Run what is not finished in a directory that is ours, and present all of it; see [`compare`].

    Args:
        settings: of the comparison.
        directory: of the results.
        device: as torch names it.
        described: see [`describe`].
        earlier: what the directory holds already.
        said: see [`check`].
    """
    before = earlier.settings if earlier else {}
    for method in set(before.get("methods", [])) - set(settings.comparison.methods):
        known_method(method)  # from a file, which never makes gantune import anything
    methods = list(dict.fromkeys([*ALWAYS, *before.get("methods", []), *settings.comparison.methods]))
    seeds = sorted({*before.get("seeds", []), *settings.comparison.seeds})
    asked = {"methods": methods, "seeds": seeds, **described, "command": " ".join(["python -m", *_command()])}
    read_winners = content_of(settings.winners) if settings.fairness.winners else {}
    stored = Stored(asked, [], [learning_rates(settings), *settings.stand_ins, *said], read_winners)
    print(heading(asked), *stored.warnings, sep="\n", flush=True)

    if not earlier:
        store(directory, stored, {})  # before the first run, so that a directory that was cut off in it is known again
    if settings.fairness.tune:
        winners, told = tune(settings, methods, directory, device, run_in_process)
        settings = replace(settings, winners=winners)
        stored.warnings.extend(told)
    if settings.fairness.match in LIMITS:  # the reference first of those that are tuned
        methods.sort(key=lambda method: (method not in ALWAYS, method != REFERENCE))
    for index, (seed, method) in enumerate((seed, method) for seed in seeds for method in methods):
        print(f"[{index + 1}/{len(seeds) * len(methods)}] {method}, seed {seed}", file=sys.stderr, flush=True)
        stored.rows.append(main_run(settings, method, seed, directory, device, stored.rows))
        store(directory, stored, summarise(stored.rows))
    judge_answers(settings, directory, stored)
    present(directory, stored, settings.comparison.wide)
    return 1 if any(row["status"] == "failed" for row in stored.rows) else 0


def rebuild(settings: Settings) -> None:
    """Everything that a person sees, once more from stored runs; several comparisons become one."""
    directories = [Path(directory).absolute() for directory in settings.comparison.from_directories]
    if len(directories) == 1 and settings.comparison.output is None and not settings.comparison.compact:
        output, stored = directories[0], read(directories[0])
    else:
        output = results_directory(settings)
        stored = join(directories, output, settings.comparison.compact)
        join_records(directories, output)
    if settings.judging.judge:
        with locked(output):
            judge_answers(settings, output, stored)
    present(output, stored, settings.comparison.wide)


def judge_answers(settings: Settings, directory: Path, stored: Stored) -> None:
    """Have the stored answers judged, if that was asked for; see [`benchmarks.judge`]."""
    asked = settings.judging
    if asked.judge:
        judge = build_judge(asked.judge, resolve_device(settings.model.device), settings.model.dtype)
        model = stored.settings["model"]
        judge_comparison(directory, stored.rows, judge, asked.judge_rival, asked.judge_questions, model)


def _command() -> list[str]:
    return ["benchmarks.compare", *sys.argv[1:]]


def list_components() -> None:
    """Print the registered names of everything that can be chosen."""
    for registry in (METHODS, *COMPONENTS):
        print(f"{registry.kind}: {', '.join(registry.names())}")
