"""Pilot: the schedule of `gan-stack` on mini with 50 pairs, one setting at a time; a row a training.

    python results/reference/ablations/pilots/schedules.py ROWS.jsonl SEEDS TEST CELL ...

The first 60 % of the steps are likelihood and the same for all cells of a seed, so they are taken once; a cell goes on
from there, by likelihood alone or with every second step adversarial. 5 of the 50 pairs are held out: both the last
weights are tested and those that the held-out pairs choose, the likelihood-only ones at the fork among them.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import time
from pathlib import Path
from statistics import fmean

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[4]))
import torch
from generators import Data, evaluate
from transformers import set_seed

from gantune.evaluation import mean_loss
from gantune.kept_weights import KeptWeights
from gantune.language_gan import LanguageGAN
from gantune.language_gan_config import LanguageGANConfig
from gantune.loading import load_model, load_tokenizer
from gantune.schedules import learning_rate_schedule
from gantune.tuning import hold_out

WARMUP = 0.6
BEST = {"objective": "best-of-k", "reward": "consensus"}
CELLS = {
    "likelihood": {},
    "pg": {"adversarial_every": 2},
    "pg anchor .3": {"likelihood_weight": 0.3},
    "pg group-norm": {"advantage": "group-norm"},
    "pg 8 samples": {"samples_per_question": 8},
    "pg temperature .7": {"temperature": 0.7},
    "pg every step": {"adversarial_every": 1},
    "best-of-4": BEST,
    "best-of-8": BEST | {"samples_per_question": 8},
    "best-of-4 anchor .3": BEST | {"likelihood_weight": 0.3},
    "best-of-4 temperature 1.5": BEST | {"temperature": 1.5},
}


def settings(name: str, seed: int) -> LanguageGANConfig:
    common = {"generator": "embedding+lora", "learning_rate": 8e-3, "seed": seed, "adversarial_every": 2}
    return LanguageGANConfig(**common | CELLS[name])


class Fork:
    """A seed's training up to the first adversarial step."""

    def __init__(self, base, tokenizer, seed: int, test_size: int) -> None:
        self.seed, self.data, started = seed, Data(tokenizer, seed, 0, test_size), time.process_time()
        self.training, self.held_out = hold_out(self.data.rows, 0.1, seed)
        gan, schedule = self.start(base, tokenizer, "likelihood")
        self.steps = [(epoch, batch) for epoch in range(1, 31) for batch in gan._batches(self.training, epoch)]
        self.first = round(WARMUP * len(self.steps))
        for _, batch in self.steps[: self.first]:
            gan.likelihood_step(batch)
            schedule.step()
        self.state = copy.deepcopy((gan.state_dict(), schedule.state_dict()))
        self.cpu = time.process_time() - started

    def start(self, base, tokenizer, name: str):
        gan = LanguageGAN(copy.deepcopy(base), tokenizer, settings(name, self.seed))
        set_seed(self.seed)
        steps = 30 * -(-len(self.training) // 8)
        return gan, learning_rate_schedule(gan.optimizer, "linear", 0.0, steps)


FORKS: dict[int, Fork] = {}


def run(base, tokenizer, file: Path, name: str, seed: int, test_size: int) -> None:
    """Train one cell from the fork, and test it."""
    fork = FORKS[seed] = FORKS.get(seed) or Fork(base, tokenizer, seed, test_size)
    started = time.process_time()
    gan, schedule = fork.start(base, tokenizer, name)
    for target, saved in zip((gan.optimizer, schedule), (fork.state[0]["optimizer"], fork.state[1]), strict=True):
        target.load_state_dict(copy.deepcopy(saved))
    with torch.no_grad():
        for parameter, saved in zip(gan.parameters, fork.state[0]["parameters"], strict=True):
            parameter.copy_(saved)
    kept = KeptWeights(gan.parameters)
    kept.offer(0, mean_loss(gan.policy, fork.held_out, 8))
    fork_loss, adversarial, figures = kept.loss, name != "likelihood", []
    if adversarial:
        gan._hold_out(fork.held_out)
        figures += gan._discriminator_warmup(fork.training)
    rest = fork.steps[fork.first :]
    for number, (epoch, batch) in enumerate(rest):
        if adversarial and number % gan.config.adversarial_every == 0:
            rollout = gan.sample(batch, for_update=True)
            judged = gan.discriminator_step(batch, rollout) if gan.judged else {}
            figures.append(judged | gan.generator_step(batch, rollout))
        else:
            gan.likelihood_step(batch)
        schedule.step()
        if number + 1 == len(rest) or rest[number + 1][0] != epoch:
            kept.offer(epoch, mean_loss(gan.policy, fork.held_out, 8))
    row = {"cell": name, "seed": seed, "test": test_size, "train_cpu_s": round(time.process_time() - started, 1),
           "fork_cpu_s": round(fork.cpu, 1), "held_out": [round(fork_loss, 4), round(kept.loss, 4)]}  # fmt: skip
    for figure in ("no_spread_share", "entropy", "distinct_answers", "discriminator_accuracy", "policy_gradient"):
        if values := [step[figure] for step in figures if step.get(figure) is not None]:
            row[figure] = round(fmean(values[-18:]), 4)
    row["last"] = evaluate(gan.policy, tokenizer, fork.data)
    row["kept_epoch"] = kept.restore()
    row["kept"] = evaluate(gan.policy, tokenizer, fork.data) if row["kept_epoch"] != 30 else row["last"]
    with file.open("a") as out:
        out.write(json.dumps(row) + "\n")
    told = {key: value for key, value in row.items() if not isinstance(value, dict)}
    scores = (f"{which} {row[which]['rougeL']:.3f} {row[which]['nll']:.3f}" for which in ("last", "kept"))
    print(*scores, told, flush=True)


def main() -> None:
    tokenizer, base = load_tokenizer("mini"), load_model("mini")
    for seed in sys.argv[2].split(","):
        for name in sys.argv[4:]:
            run(base, tokenizer, Path(sys.argv[1]), name, int(seed), int(sys.argv[3]))


if __name__ == "__main__":
    main()
