"""What a discriminator knows: `python -m benchmarks.discriminators`.

A generator is tuned by likelihood alone; then each discriminator learns from it, as before the adversarial phase, and
is asked about answers to *test* questions. Accuracy is not usefulness: what a reward needs is to rank the samples of
one question by their quality, and that is what the last columns show, beside the consensus of the samples and chance:
the rank correlation, what of the correlation is left when the generator's own log-prob is given, and the quality of
what the discriminator would choose.

The quality of a sample is its ROUGE-L; where all questions are records, it is its slot errors, the fewer the better.
Discriminators learn from answers to `--prompts`, if there are any, so that none has learned the true ones by heart:

    python -m benchmarks.discriminators --discriminators cross-reader cnn --dataset pairs.jsonl --prompts rest \\
        --train-size 500 --test-size 300 --template record-line --discriminator-loss bradley-terry
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, set_seed

from benchmarks.compare.dataset import DataArguments, read_split
from benchmarks.compare.environment import environment
from benchmarks.compare.files import check_writable
from benchmarks.statistics.partial_correlation import partial_correlation
from gantune.cli.options import OptionParser
from gantune.command import exit_status
from gantune.data import Batch, Pair, collate
from gantune.data.corruption import Corruptions
from gantune.data.question import all_records
from gantune.data.words import WORD_TOKENIZER
from gantune.diagnostics import write_json
from gantune.discriminators import DISCRIMINATORS
from gantune.errors import UserError
from gantune.field_types import check_range
from gantune.metrics.rouge_words import rouge_scorer
from gantune.metrics.slots import SlotMatcher, count_slots, records_of
from gantune.policy import Rollout, concatenate
from gantune.seqgan import self_consistency
from gantune.trainer.arguments import LanguageGANConfig
from gantune.trainer.config import GameConfig
from gantune.trainer.language_gan import LanguageGAN
from gantune.trainer.reranking import Reranking
from gantune.tuning import encode_training_pairs, encode_with

CORRUPTIONS = 4
"""Corrupted records that each true answer is shown with."""
DEFAULTS = {
    "generator": "embedding+lora",
    "learning_rate": 8e-3,
    "discriminator_warmup_steps": 200,
    "discriminator_warmup_rollouts": 40,
}
"""Options of LanguageGAN whose defaults are others here; the discriminator learns in its warm-up alone."""
COLUMNS = {
    "auc_real": "AUC real",
    "auc_question": "AUC question",
    "auc_corrupted": "AUC corrupted record",
    "rank_correlation": "rank correlation",
    "partial_correlation": "partial correlation",
    "best": "best-of-k ROUGE-L",
    "best_slot_error_rate": "best-of-k slot errors",
}


@dataclass
class Arguments:
    """What is measured; how generator and discriminators are trained say the options of LanguageGAN."""

    discriminators: list[str] = field(
        default_factory=lambda: DISCRIMINATORS.names(), metadata={"help": "registry names or dotted paths"}
    )
    model: str = field(default="mini", metadata={"help": "'mini', a Hugging Face folder, or a Hub id"})
    questions: int = field(default=120, metadata={"help": "test questions"})
    samples: int = field(default=8, metadata={"help": "answers to each"})
    slots: str | None = field(
        default=None, metadata={"help": "of records: patterns of slot errors, see gantune.metrics.SlotMatcher"}
    )
    seeds: list[int] = field(default_factory=lambda: [0], metadata={"help": "one generator a seed"})
    output: str | None = field(default=None, metadata={"help": "JSON file of the result"})

    def __post_init__(self) -> None:
        check_range(self, "at least 1", "questions", "samples")


@dataclass
class Samples:
    """Samples of each test question and what is known of them.

    Args:
        rollout: `questions * k` rows.
        true: the true answers, `questions` rows.
        corrupted: the true answers, each to [`CORRUPTIONS`] records that it is not right for; None if there are none.
        texts: k a question.
        quality: `[questions, k]`: ROUGE-L of each sample; of records minus its slot errors over the mean number of
            slots, so that the mean over questions is minus the slot error rate.
    """

    rollout: Rollout
    true: Batch
    corrupted: Batch | None
    texts: list[list[str]]
    quality: np.ndarray

    def figures(self, scores: np.ndarray) -> dict[str, float]:
        """What scores of the samples are worth."""
        best = selected(scores, self.quality)
        chosen = {"best": best} if self.corrupted is None else {"best_slot_error_rate": -best}
        own = self.rollout.log_probs.sum(dim=1).view(self.quality.shape).double().numpy()
        left = partial_correlation(*(within_questions(values) for values in (scores, self.quality, own)))
        correlations = {"rank_correlation": rank_correlation(scores, self.quality), "partial_correlation": left}
        return correlations | chosen


def ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 1, the mean rank for equals."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The probability that a positive scores above a negative one, half for equals (Mann-Whitney)."""
    ranked = ranks([*positive, *negative])[: len(positive)]
    return (ranked.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative))


def rank_correlation(scores: np.ndarray, quality: np.ndarray) -> float:
    """Spearman's rho within each question, the mean over questions whose scores and qualities both vary; else 0."""
    rows = [(ranks(s), ranks(q)) for s, q in zip(scores, quality, strict=True) if np.ptp(s) > 0 and np.ptp(q) > 0]
    return fmean(np.corrcoef(s, q)[0, 1] for s, q in rows) if rows else 0.0


def within_questions(values: np.ndarray) -> list[float]:
    """`[questions, k]` less the mean of each question, one after the other."""
    return (values - values.mean(axis=1, keepdims=True)).flatten().tolist()


def selected(scores: np.ndarray, quality: np.ndarray) -> float:
    """Mean quality of the sample that scores highest for its question."""
    return quality[np.arange(len(quality)), scores.argmax(axis=1)].mean().item()


def draw(gan: LanguageGAN, pairs: Sequence[Pair], samples: int, slots: str | None, seed: int) -> Samples:
    """Sample answers to test questions, at temperature 1."""
    encoded = encode_training_pairs(pairs, gan.tokenizer, gan.args)
    true = collate(encoded, gan.pad_token_id)
    torch.manual_seed(seed)
    drawn = gan.policy.rollout(true, max_new_tokens=gan.args.max_completion_length, samples_per_prompt=samples)
    rollout = concatenate([drawn], gan.pad_token_id)
    texts = gan.texts(rollout)
    groups = [texts[start : start + samples] for start in range(0, len(texts), samples)]
    if all_records([pair.question for pair in true.pairs]):
        return Samples(rollout, true, corrupted(gan, true.pairs, seed), groups, right_slots(true.pairs, groups, slots))
    if slots:
        raise UserError(f"--slots {slots}: expected records as questions")
    scorer = rouge_scorer("rougeL")
    quality = [
        [scorer.score(pair.answer, text)["rougeL"].fmeasure for text in group]
        for pair, group in zip(true.pairs, groups, strict=True)
    ]
    return Samples(rollout, true, None, groups, np.array(quality))


def right_slots(pairs: Sequence[Pair], groups: Sequence[Sequence[str]], slots: str | None) -> np.ndarray:
    """The quality of texts about records, see [`Samples`]."""
    records = records_of([pair.question for pair in pairs])
    matcher = SlotMatcher.for_records(records, slots)
    errors = [
        [sum(matcher.errors(record, text)) for text in group] for record, group in zip(records, groups, strict=True)
    ]
    return -np.array(errors) / fmean(map(count_slots, records))


def corrupted(gan: LanguageGAN, pairs: Sequence[Pair], seed: int) -> Batch:
    """The answers of pairs to records that differ in a field or two, made of the values of the training records."""
    drawn = random.Random(seed)
    made = Corruptions([row.pair.question for row in gan.train_dataset])
    wrong = [
        Pair(made.corrupted(pair.question, drawn).record, pair.answer) for pair in pairs for _ in range(CORRUPTIONS)
    ]
    return collate(encode_with(wrong, gan.tokenizer, gan.args)[0], gan.pad_token_id)


@torch.no_grad()
def judge(gan: LanguageGAN, drawn: Samples) -> dict[str, float]:
    """The figures of a trained discriminator; a blind one cannot tell right from wrong questions."""
    scores = gan.discriminator.sequence_logits(drawn.rollout).view(drawn.quality.shape).double().numpy()
    true = gan.discriminator.sequence_logits(drawn.true).tolist()
    figures = {"auc_real": auc(true, scores.flatten().tolist())}
    if not gan.args.blind_discriminator:
        ids, mask = (part.roll(1, 0) for part in (drawn.true.answer_ids, drawn.true.answer_mask))
        others = {"auc_question": replace(drawn.true, answer_ids=ids, answer_mask=mask)}
        if drawn.corrupted is not None:
            others["auc_corrupted"] = drawn.corrupted
        figures |= {
            name: auc(true, gan.discriminator.sequence_logits(other).tolist()) for name, other in others.items()
        }
    return figures | drawn.figures(scores)


def settings(game: GameConfig, seed: int, discriminator: str) -> LanguageGANConfig:
    """Likelihood alone, and a discriminator that is to judge whole answers."""
    fixed = {"seed": seed, "discriminator": discriminator, "reward": "sequence", "warmup_share": 1.0}
    quiet = {"logging_strategy": "no", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    return LanguageGANConfig(**asdict(game) | fixed | quiet)


def measure(arguments: Arguments, data: DataArguments, game: GameConfig, seed: int) -> dict[str, dict[str, float]]:
    """The rows of one seed: each discriminator, and what it is to be compared with."""
    split = read_split(data, seed)
    generator = LanguageGAN(arguments.model, settings(game, seed, arguments.discriminators[0]), split.train)
    generator.remove_callback(PrinterCallback)
    generator.train()
    drawn = draw(generator, split.test[: arguments.questions], arguments.samples, arguments.slots, seed)
    rows = references(drawn, seed)
    unpaired = split.unpaired
    if unpaired is not None and unpaired.answers and not game.blind_discriminator:
        unpaired = None  # who is shown questions learns from the pairs
    for name in arguments.discriminators:
        gan = Reranking(
            generator.model,
            settings(game, seed, name),
            split.train,
            processing_class=generator.tokenizer,
            peft_config=False,
            unpaired=unpaired,
        )
        gan.remove_callback(PrinterCallback)  # it would print each step
        set_seed(seed)
        gan.train_discriminator()
        rows[name] = judge(gan, drawn)
        print(f"seed {seed}, {name}: " + ", ".join(f"{key} {value:.3f}" for key, value in rows[name].items()))
    return rows


def references(drawn: Samples, seed: int) -> dict[str, dict[str, float]]:
    """Chance, the consensus of the samples, the generator's own log-prob, and the best there is."""
    generator = np.random.default_rng(seed)
    consensus = np.array([self_consistency(group) for group in drawn.texts])
    mask = drawn.rollout.answer_mask
    own = (drawn.rollout.log_probs.sum(dim=1) / mask.sum(dim=1)).view(drawn.quality.shape).double().numpy()
    scores = {
        "random": generator.random(drawn.quality.shape),
        "consensus": consensus,
        "own mean log-prob": own,
        "oracle": drawn.quality,
    }
    return {name: drawn.figures(score) for name, score in scores.items()}


def table(rows: dict[str, dict[str, list[float]]]) -> str:
    """The rows as text, means over seeds; columns that some row has."""
    columns = {name: title for name, title in COLUMNS.items() if any(name in figures for figures in rows.values())}
    lines = ["| scored by | " + " | ".join(columns.values()) + " |", "| --- |" + " ---: |" * len(columns)]
    for name, figures in rows.items():
        cells = []
        for column in columns:
            values = figures.get(column)
            cells.append(f"{fmean(values):.3f}" if values else "-")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(command_line: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for."""

    def command() -> int:
        parser = OptionParser([Arguments, DataArguments, GameConfig], allow_abbrev=False)
        parser.set_defaults(**DEFAULTS)
        arguments, data, game, unknown = parser.parse_args_into_dataclasses(
            command_line, return_remaining_strings=True, look_for_args_file=False
        )
        if unknown:
            parser.unknown(unknown[0])
        if game.seed or game.discriminator != GameConfig.discriminator:
            raise UserError("--seed, --discriminator: expected --seeds and --discriminators")
        if data.forgetting:
            raise UserError("--forgetting: expected in benchmarks.compare only, discriminators forget nothing")
        for name in arguments.discriminators:
            DISCRIMINATORS.resolve(name)
        for seed in arguments.seeds:
            settings(game, seed, arguments.discriminators[0])
        if arguments.output:
            check_writable(Path(arguments.output))
        rows: dict[str, dict[str, list[float]]] = {}
        for seed in arguments.seeds:
            for name, figures in measure(arguments, data, game, seed).items():
                for column, value in figures.items():
                    rows.setdefault(name, {}).setdefault(column, []).append(value)
            if arguments.output:
                content: dict[str, Any] = {"arguments": asdict(arguments), "data": asdict(data), "game": asdict(game)}
                content |= {"environment": environment("cpu", "float32", seed), "word_tokenizer": WORD_TOKENIZER}
                write_json(Path(arguments.output), json.loads(json.dumps(content | {"rows": rows})))
        print(table(rows))
        return 0

    return exit_status(command, "nothing is kept of a seed that was not finished")


if __name__ == "__main__":
    sys.exit(main())
