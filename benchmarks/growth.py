"""What the game's gain on records grows with, and what halves its cost: `python -m benchmarks.growth --output DIR`.

Each line is the preset `data-to-text` with one thing changed. Its gain is the game's figure less that of its control,
the same generator trained as long by likelihood alone, seed by seed; seconds and peak memory are those of the game over
its control's.
Options that are not named below are those of `python -m benchmarks.compare`, and change every line:

    python -m benchmarks.growth --seeds 1 2 3 --output results/growth
    python -m benchmarks.growth --variants rounds=25 rounds=200 --seeds 1 --output results/growth --num-generations 4

Every line is a comparison of its own in `DIR/runs`, so that what was cut off goes on. `DIR/growth.json` has the rows,
`DIR/growth.md` the table; lines of an earlier call with the same seeds and options stay in both.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from benchmarks.compare.files import read_json
from benchmarks.compare.presets import DATA_TO_TEXT
from benchmarks.compare.rows import commits_of, compared_rows
from benchmarks.statistics.intervals import mean_and_half_width
from gantune.command import OneLineParser, exit_status
from gantune.diagnostics.files import write_atomically, write_json
from gantune.errors import UserError

GAME, CONTROL = "gan:lora", "mle:lora"
LIKELIHOOD_EPOCHS, ROUNDS = DATA_TO_TEXT["num_train_epochs"] * DATA_TO_TEXT["warmup_share"], 100
Row = dict[str, Any]
METRICS = {"slot_error_rate": "SER", "slot_error_rate_sampled": "SER T=1", "rougeL": "ROUGE-L"}


class Variant(NamedTuple):
    """One line: pairs and rounds, which a control of its own belongs to, and options of the game alone."""

    pairs: int = DATA_TO_TEXT["train_size"]
    rounds: int = ROUNDS
    game: tuple[str, ...] = ()

    def schedule(self) -> list[str]:
        """As many epochs of likelihood as ever, then the rounds; of game and control alike."""
        steps = math.ceil(self.pairs / DATA_TO_TEXT["per_device_train_batch_size"])
        epochs = math.ceil(LIKELIHOOD_EPOCHS + self.rounds * DATA_TO_TEXT["steps_per_generation"] / steps)
        share = LIKELIHOOD_EPOCHS / epochs
        return ["--train-size", str(self.pairs), "--num-train-epochs", str(epochs), "--warmup-share", f"{share:.4f}"]


VARIANTS = {
    "preset": Variant(),
    **{f"rounds={rounds}": Variant(rounds=rounds) for rounds in (10, 25, 50, 200)},
    **{f"pairs={pairs}": Variant(pairs=pairs) for pairs in (100, 2000)},
    "prompts=none": Variant(game=("--prompts", "none")),
    "prompts=rest": Variant(game=("--prompts", "rest")),
    "prompts=made:2000": Variant(game=("--prompts", "made:2000")),
    "k=4, as many texts": Variant(game=("--num-generations", "4", "--prompts-per-step", "12")),
    "k=16, as many texts": Variant(game=("--num-generations", "16", "--prompts-per-step", "3")),
    "k=16, twice the texts": Variant(game=("--num-generations", "16")),
    "best-of-k": Variant(game=("--objective", "best-of-k")),
    "half the samples": Variant(game=("--num-generations", "4")),
    "half the records": Variant(game=("--prompts-per-step", "3")),
    "24 texts at once": Variant(game=("--rollout-rows", "24")),
    "half the discriminator": Variant(game=("--discriminator-steps", "5", "--discriminator-warmup-steps", "200")),
}


def rows_of(method: str, variant: Variant, seeds: Sequence[int], more: Sequence[str], folder: Path) -> list[Row]:
    """The row of each seed; a control is run once for all variants that share it."""
    options = [*variant.schedule(), *(variant.game if method == GAME else ())]
    output = folder / "_".join([method, *options]).replace("/", "-").replace("--", "")
    asked = ["--methods", method, "--seeds", *map(str, seeds), *options, *more]
    rows = compared_rows(["--preset", "data-to-text", *asked], output)
    return [row for seed in seeds for row in rows if (row["method"], row["seed"]) == (method, seed)]


def line(name: str, games: Sequence[Row], controls: Sequence[Row]) -> dict[str, Any]:
    """What came of a variant: the game's means, and every seed's gain over its control."""
    pairs = list(zip(games, controls, strict=True))
    return {
        "variant": name,
        "game": {metric: fmean(game["metrics"][metric] for game in games) for metric in METRICS},
        "gains": {
            metric: [game["metrics"][metric] - own["metrics"][metric] for game, own in pairs] for metric in METRICS
        },
        "seconds": fmean(game["train_seconds"] / own["train_seconds"] for game, own in pairs),
        "memory": fmean(game["peak_memory_bytes"] / own["peak_memory_bytes"] for game, own in pairs),
        "tokens": fmean(game["train_tokens"] / own["train_tokens"] for game, own in pairs),
        "made_at": commits_of([*games, *controls]),
    }


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The lines as Markdown; gains with half of their 95 % confidence interval, Student's t over the seeds."""
    titles = [title for metric in METRICS.values() for title in (metric, f"gain in {metric}")]
    rows = [f"| | {' | '.join(titles)} | time / control's | memory / control's |"]
    rows.append(f"| --- |{' ---: |' * (len(titles) + 2)}")
    for each in lines:
        cells = []
        for metric in METRICS:
            mean, half = mean_and_half_width(each["gains"][metric])
            cells += [f"{each['game'][metric]:.3f}", f"{mean:+.3f}" + ("" if half is None else f" ±{half:.3f}")]
        rows.append(f"| {each['variant']} | {' | '.join(cells)} | {each['seconds']:.1f} x | {each['memory']:.1f} x |")
    return "\n".join(rows)


def lines_of(file: Path, seeds: Sequence[int], more: Sequence[str]) -> list[dict[str, Any]]:
    """The lines that an earlier call has written with these seeds and options; none of others.

    Raises:
        UserError: if the file holds something else.
    """
    content = read_json(file)
    if content is None:
        return []
    try:
        table(content["lines"])  # can be made
        same = (content["seeds"], content["options"]) == (list(seeds), list(more))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file}: not the results of benchmarks.growth; give --output another directory") from error
    return content["lines"] if same else []


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status as of `benchmarks.compare`."""

    def command() -> None:
        parser = OneLineParser(prog="python -m benchmarks.growth", allow_abbrev=False)
        parser.add_argument("--variants", nargs="+", default=[*VARIANTS], metavar="NAME", help=", ".join(VARIANTS))
        parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="one run each")
        parser.add_argument("--output", required=True, type=Path, help="directory of the results")
        own, more = parser.parse_known_args(arguments)
        own.seeds = list(dict.fromkeys(own.seeds))
        for name in own.variants:
            if name not in VARIANTS:
                raise UserError(f"--variants {name}: expected one of {', '.join(VARIANTS)}")
        for option in (argument.split("=")[0] for argument in more):
            if option in ("--methods", "--preset"):
                raise UserError(f"{option}: expected in benchmarks.compare only, each line here has its own")
        lines_of(own.output / "growth.json", own.seeds, more)  # refused before the work, not after
        for name in own.variants:
            variant = VARIANTS[name]
            games, controls = (rows_of(of, variant, own.seeds, more, own.output / "runs") for of in (GAME, CONTROL))
            found = {each["variant"]: each for each in lines_of(own.output / "growth.json", own.seeds, more)}
            found[name] = line(name, games, controls)  # beside what another process has written meanwhile
            lines = [found[name] for name in VARIANTS if name in found]
            write_json(own.output / "growth.json", {"seeds": own.seeds, "options": more, "lines": lines})
            write_atomically(own.output / "growth.md", table(lines) + "\n")
        print(table(lines))

    return exit_status(command, "the same command goes on from here")


if __name__ == "__main__":
    sys.exit(main())
