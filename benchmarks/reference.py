"""Remakes the results that a document cites, at one clean commit: `python -m benchmarks.reference`.

    python -m benchmarks.reference                          # the plan: parts, their minutes, commits of what is stored
    python -m benchmarks.reference mini-records dialogues   # remake these
    python -m benchmarks.reference --all                    # remake everything
    python -m benchmarks.reference --keep                   # what is remade becomes results/reference

A part is made in `results/remade/PART`, which git ignores, and goes on there when it was cut off. Comparisons,
growth and the oracle run in two processes side by side, one thread each, so that their seconds and memory are rough;
`...-timing` measures them, alone on the machine. Nothing is kept of several commits, or of one with uncommitted
changes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.compare.environment import git_state
from benchmarks.growth import VARIANTS
from benchmarks.oracle.methods import METHODS
from gantune.command import OneLineParser, exit_status
from gantune.diagnostics import write_json
from gantune.errors import UserError

KEPT, REMADE = Path("results/reference"), Path("results/remade")
SHARED = Path("../shared/data")


class Part(NamedTuple):
    """Some stored results.

    Args:
        minutes: on 2 cores, about.
        module: that makes them, given `--output`.
        arguments: of it.
        beside: what is added to them in each of the processes side by side, one thread each, which may be one; none is
            one process with all threads.
        kept: whether it is a result; what others begin from is not.
    """

    minutes: int
    module: str
    arguments: tuple[str, ...] = ()
    beside: tuple[tuple[str, ...], ...] = ()
    kept: bool = True

    @property
    def joined(self) -> bool:
        """Whether each process makes a comparison of its own, of which one is made in its small form."""
        return self.module == "benchmarks.compare"


def comparison(minutes: int, *arguments: str, seeds: Sequence[int] = range(5)) -> Part:
    """A comparison, half of the seeds in each process; in one process if there is but one seed."""
    middle = -(-len(seeds) // 2)
    halves = tuple(("--seeds", *map(str, half)) for half in (seeds[:middle], seeds[middle:]) if half)
    return Part(minutes, "benchmarks.compare", arguments, halves)


RECORDS = ("--preset", "data-to-text", "--save-steps", "0")
OF_RECORDS = (
    *("lora", "mle-early-stopped:lora", "mle:lora", "gan:lora", "self-training:lora", "self-training-greedy:lora"),
    *("rerank:lora", "gan-shuffled:lora"),
)
JUDGES = ("gan:lora", *(f"gan-{control}:lora" for control in ("plain", "corrupted", "frozen-judge", "oracle")))
TIMED = ("--methods", "lora", "mle:lora", "gan:lora", "--test-size", "20")
STACK = ("lora", "mle-stack", "gan-stack")
E2E = REMADE / "e2e-base" / "made"
ON_E2E = (
    *("--model", f"{E2E}", "--dataset", f"{E2E}/train.jsonl", "--test-dataset", f"{E2E}/test.jsonl"),
    *("--max-prompt-length", "44", "--max-completion-length", "60", "--adversarial-weight", "7"),
)
E2E_RATES = ("--learning-rate", "2e-2", "--lora-learning-rate", "2e-2")
E2E_STACK_RATES = ("--learning-rate", "1e-2", "--lora-learning-rate", "2e-2")
ON_TINYSTORIES = (
    *("--model", f"{SHARED}/tinystories-gpt2-3m", "--dataset", f"{SHARED}/e2e/pairs.jsonl"),
    *("--max-prompt-length", "52", "--max-completion-length", "70", "--adversarial-weight", "6.3"),
    *("--learning-rate", "4e-3", "--lora-learning-rate", "4e-3"),
)
EMBEDDING_ALONE = ("--methods", "mle", "gan")
EMBEDDING_RATES = ("--learning-rate", "3e-3", "--adversarial-learning-rate", "1.2e-3")
ON_TOFU = (
    *("--model", f"{SHARED}/tinystories-gpt2-3m", "--dataset", f"{SHARED}/tofu/full.jsonl", "--train-size", "1000"),
    *("--test-size", "400", "--num-train-epochs", "3", "--noise-draws", "0"),
)
OWN_CONTROLS = tuple(name for name in VARIANTS if name.startswith(("rounds=", "pairs=")))
ONE_HALF = ("seqgan", "cot", "cot-shuffled", "optimal", "optimal-all-actions")
OTHER_HALF = tuple(row for row in METHODS if row not in (*ONE_HALF, "seqgan-shuffled"))
PARTS: dict[str, Part] = {
    "mini-records": comparison(87, *RECORDS, "--methods", *OF_RECORDS, seeds=range(1, 6)),
    "mini-records-judges": comparison(80, *RECORDS, "--methods", *JUDGES, seeds=range(1, 6)),
    "mini-records-stack": comparison(
        30, *RECORDS, "--learning-rate", "5e-3", "--methods", *STACK, seeds=range(1, 6)
    ),
    "mini-records-embedding": comparison(20, *RECORDS, *EMBEDDING_ALONE, seeds=range(1, 6)),
    "e2e-base": Part(3, "benchmarks.built_in.pretrain_e2e", ("--dataset", f"{SHARED}/e2e/pairs.jsonl"), kept=False),
    "e2e": comparison(250, *RECORDS, *ON_E2E, *E2E_RATES, "--methods", *OF_RECORDS, seeds=range(1, 6)),
    "e2e-judges": comparison(160, *RECORDS, *ON_E2E, *E2E_RATES, "--methods", *JUDGES, seeds=range(1, 4)),
    "e2e-stack": comparison(
        92, *RECORDS, *ON_E2E, *E2E_STACK_RATES, "--methods", *STACK, seeds=range(1, 6)
    ),
    "e2e-tinystories": comparison(
        160, *RECORDS, *ON_TINYSTORIES, "--methods", "lora", "mle:lora", "gan:lora", seeds=range(1, 4)
    ),
    "e2e-embedding": comparison(70, *RECORDS, *ON_E2E, *EMBEDDING_RATES, *EMBEDDING_ALONE, seeds=range(1, 6)),
    "mini": comparison(
        8, "--methods", "lora", "mle", "gan", "mle-stack", "gan-stack", "--test-size", "200", "--noise-draws", "0",
        seeds=range(20, 25),
    ),
    "mini-gad": comparison(
        20, "--preset", "gad", "--test-size", "200", "--noise-draws", "0", "--methods", "lora",
        "mle:lora", "gan:lora", "gan-shuffled:lora", seeds=range(20, 25),
    ),
    "repeatability": Part(
        15, "benchmarks.repeatability",
        ("--methods", "lora", "mle-stack", "gan-stack", "gan", "--seeds", "20", "--test-size", "200", "--noise-draws",
         "0"),
    ),
    "tofu-tinystories": comparison(
        25, *ON_TOFU, "--methods", "base", "lora", "dora", "mle-stack", "gan-stack", seeds=range(3)
    ),
    "tofu-gad": comparison(
        30, "--preset", "gad", *ON_TOFU, "--learning-rate", "4e-3", "--methods", "lora", "mle:lora", "gan:lora",
        "gan-shuffled:lora", seeds=range(3),
    ),
    "unpaired": comparison(
        11, "--preset", "unpaired", "--objective", "best-of-k", "--reward", "consensus", "--num-generations", "8",
        "--warmup-share", "0.3", "--adversarial-every", "1", "--adversarial-weight", "0.25", seeds=range(5, 10),
    ),
    "dialogues": comparison(
        9, "--task", "summarise", "--methods", "base", "lead-3", "lora", "gan", "gan-stack", "--num-train-epochs",
        "15", "--validation-share", "0.1", "--noise-draws", "0", "--winners", f"{KEPT}/dialogues/comparison.json",
        seeds=range(3),
    ),
    "growth": Part(
        165, "benchmarks.growth", ("--seeds", "1", "2", "3"),
        (("--variants", *OWN_CONTROLS), ("--variants", *(name for name in VARIANTS if name not in OWN_CONTROLS))),
    ),
    "oracle": Part(
        110, "benchmarks.oracle",
        ("--oracle", f"{SHARED}/seqgan-oracle/target_lstm.npz", "--scale", "0.15", "--discriminator-rounds", "133",
         "--adversarial-rounds", "133"),
        (("--seeds", "0", "1", "2", "--methods", *ONE_HALF), ("--seeds", "2", "1", "0", "--methods", *OTHER_HALF)),
    ),
    "mini-records-timing": comparison(10, *RECORDS, *TIMED, seeds=[1]),
    "e2e-timing": comparison(35, *RECORDS, *ON_E2E, *E2E_RATES, *TIMED, seeds=[1]),
    "speed": Part(30, "benchmarks.speed", ("--repeats", "2")),
    "speed-peers": Part(
        24, "benchmarks.speed", ("--peers", "trl", "--device", "cpu", "--repeats", "3"), beside=((),)
    ),
    "kept-quality": Part(8, "benchmarks.speed.kept_quality", ("--device", "cpu")),
    "search-cost": Part(2, "benchmarks.speed.search_cost"),
    "soak": Part(12, "benchmarks.speed.soak", ("--steps", "2000"), beside=((),)),
}  # fmt: skip
"""By the name of their folder in `results/reference`; those that take seconds and memory come last, alone."""


def commands(part: Part, folder: Path) -> list[list[str]]:
    """What is started side by side."""
    start = [sys.executable, "-m", part.module, *part.arguments]
    return [
        [*start, *added, "--output", str(folder / (f"process-{number}" if part.joined else "made"))]
        for number, added in enumerate(part.beside or [()])
    ]


def remake(name: str) -> None:
    """Make a part, or go on with it; `part.json` in its folder has the minutes that it took, and its commit.

    Raises:
        UserError: if one of its commands fails, what it printed is in a log beside its results; or if it begins from
            data that are not there.
    """
    part, folder = PARTS[name], REMADE / name
    for path in part.arguments:
        if path.startswith((f"{SHARED}", f"{E2E}")) and not Path(path).exists():
            raise UserError(f"{path}: not there, {name} begins from it ({SHARED} is not part of gantune)")
    folder.mkdir(parents=True, exist_ok=True)
    began, before = time.monotonic(), minutes_of(folder)
    started, quiet = [], os.environ | ({"OMP_NUM_THREADS": "1"} if part.beside else {})
    for number, command in enumerate(commands(part, folder)):
        log = (folder / f"log-{number}.txt").open("w")
        started.append((command, log, subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=quiet)))
    try:
        statuses = [process.wait() for *_, process in started]
    except KeyboardInterrupt:
        for *_, process in started:
            process.wait()  # it was interrupted too, and saves
        raise
    minutes = before + (time.monotonic() - began) / 60
    write_json(folder / "part.json", {"minutes": round(minutes, 1), "git": git_state()})
    for (_, log, _), status in zip(started, statuses, strict=True):
        log.close()
        if status:
            raise UserError(f"{log.name}: ended with status {status}, expected 0")
    if part.joined:
        shutil.rmtree(folder / "made", ignore_errors=True)
        made = [command[-1] for command in commands(part, folder)]
        joined = ["--from", *made, "--compact", "--output", str(folder / "made")]
        subprocess.run([sys.executable, "-m", "benchmarks.compare", *joined], check=True, stdout=subprocess.DEVNULL)


def minutes_of(folder: Path) -> float:
    """What a part has taken so far."""
    file = folder / "part.json"
    return json.loads(file.read_text(encoding="utf-8"))["minutes"] if file.is_file() else 0.0


def states(folder: Path) -> set[tuple[str, bool]]:
    """The commits, and whether there were uncommitted changes, of what a folder of results holds."""
    found = set()

    def look(value: object) -> None:
        if isinstance(value, dict):
            if isinstance(state := value.get("git"), dict):
                found.add((state.get("commit"), state.get("dirty")))
            value = list(value.values())
        for each in value if isinstance(value, list) else ():
            look(each)

    for file in folder.glob("*.json"):
        look(json.loads(file.read_text(encoding="utf-8")))
    return found


def told(found: set[tuple[str, bool]]) -> str:
    """Commits in words."""
    return ", ".join(sorted(f"{str(commit)[:7]}{' dirty' * bool(dirty)}" for commit, dirty in found)) or "-"


def plan() -> Iterator[str]:
    """A line a part: its minutes, and of which commits what is stored and what is remade are."""
    width = max(map(len, PARTS))
    for name, part in PARTS.items():
        stored, remade = (told(states(folder)) for folder in (KEPT / name, REMADE / name / "made"))
        took = f" in {minutes:.0f} min" if (minutes := minutes_of(REMADE / name)) else ""
        yield f"{name:{width}} {part.minutes:4} min  stored: {stored}; remade: {remade}{took}"
    yield f"{'all':{width}} {sum(part.minutes for part in PARTS.values()):4} min"


def keep() -> list[str]:
    """Put what is remade in the place of what is stored; its parts.

    Raises:
        UserError: if it is not of one commit without changes, or there is nothing.
    """
    made = {
        name: states(folder) | states(folder / "made")
        for name in PARTS
        if ((folder := REMADE / name) / "made").is_dir()
    }
    commits = set().union(*made.values())
    if len(commits) != 1 or any(dirty for _, dirty in commits):
        of = "; ".join(f"{name}: {told(state)}" for name, state in made.items())
        raise UserError(f"{REMADE}: expected results of one clean commit, found {of or 'none'}")
    parts = [name for name in made if PARTS[name].kept]
    for name in parts:
        shutil.rmtree(KEPT / name, ignore_errors=True)
        shutil.copytree(
            REMADE / name / "made", KEPT / name, ignore=shutil.ignore_patterns("*.html", ".lock", "seed*", "runs")
        )
    return parts


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""

    def command() -> None:
        described = __doc__.partition("\n\n")
        parser = OneLineParser(
            prog="python -m benchmarks.reference",
            description=described[0],
            epilog=described[2],
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
        parser.add_argument("--all", action="store_true", help="every part")
        parser.add_argument("--keep", action="store_true", help="what is remade becomes what is stored")
        asked = parser.parse_args(arguments)
        for name in asked.parts:
            if name not in PARTS:
                raise UserError(f"{name}: expected one of {', '.join(PARTS)}")
        parts = [*PARTS] if asked.all else asked.parts
        if parts and git_state()["dirty"]:
            raise UserError("uncommitted changes: expected a clean checkout, or no one could make these results again")
        for name in parts:
            print(f"{name}: about {PARTS[name].minutes} minutes", flush=True)
            remake(name)
        if asked.keep:
            print("kept:", ", ".join(keep()))
        elif not parts:
            print(*plan(), sep="\n")

    return exit_status(command, "the same command goes on from here")


if __name__ == "__main__":
    sys.exit(main())
