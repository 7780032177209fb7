"""What a discriminator knows: `python -m benchmarks.discriminators`.

A generator is tuned by likelihood alone; then each discriminator learns from it, as in the adversarial phase, and is
asked about answers to *test* questions. Accuracy is not usefulness: what a reward needs is to rank the samples of one
question by their quality, and that is what the last two columns show, beside the consensus of the samples and chance.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from transformers import HfArgumentParser

from benchmarks.compare.dataset import DataArguments, read_split
from benchmarks.compare.environment import environment
from gantune.command import exit_status
from gantune.data import Batch, Pair, batches
from gantune.data.words import WORD_TOKENIZER
from gantune.diagnostics import write_json
from gantune.discriminators import DISCRIMINATORS
from gantune.metrics.rouge_words import rouge_scorer
from gantune.policy import Rollout, concatenate
from gantune.seqgan import self_consistency
from gantune.trainer.arguments import LanguageGANConfig
from gantune.trainer.language_gan import LanguageGAN
from gantune.trainer.unpaired import Unpaired, UnpairedBatches
from gantune.tuning import encode_training_pairs


@dataclass
class Arguments:
    """What is measured."""

    discriminators: list[str] = field(
        default_factory=lambda: DISCRIMINATORS.names(), metadata={"help": "registry names or dotted paths"}
    )
    blind: bool = field(default=False, metadata={"help": "they learn from --unpaired data, without questions"})
    model: str = field(default="mini", metadata={"help": "'mini', a Hugging Face folder, or a Hub id"})
    generator: str = field(default="embedding+lora", metadata={"help": "what is tuned by likelihood"})
    learning_rate: float = field(default=8e-3, metadata={"help": "of the generator"})
    steps: int = field(default=200, metadata={"help": "of each discriminator"})
    questions: int = field(default=120, metadata={"help": "test questions"})
    samples: int = field(default=8, metadata={"help": "answers to each"})
    seeds: list[int] = field(default_factory=lambda: [0], metadata={"help": "one generator a seed"})
    output: str | None = field(default=None, metadata={"help": "JSON file of the result"})


@dataclass
class Samples:
    """Samples of each test question and what is known of them.

    Args:
        rollout: `questions * k` rows.
        true: the true answers, `questions` rows.
        texts: k a question.
        quality: ROUGE-L of each, `[questions, k]`.
    """

    rollout: Rollout
    true: Batch
    texts: list[list[str]]
    quality: np.ndarray


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


def selected(scores: np.ndarray, quality: np.ndarray) -> float:
    """Mean quality of the sample that scores highest for its question."""
    return quality[np.arange(len(quality)), scores.argmax(axis=1)].mean().item()


def draw(gan: LanguageGAN, pairs: Sequence[Pair], samples: int) -> Samples:
    """Sample answers to test questions."""
    encoded = encode_training_pairs(pairs, gan.tokenizer, gan.args)
    drawn = [
        (batch, gan.policy.rollout(batch, max_new_tokens=gan.args.max_completion_length, samples_per_prompt=samples))
        for batch in batches(encoded, len(encoded), gan.pad_token_id, seed=0, epoch=0)
    ]
    true, rollout = drawn[0][0], concatenate([rollout for _, rollout in drawn], gan.pad_token_id)
    texts = gan.texts(rollout)
    groups = [texts[start : start + samples] for start in range(0, len(texts), samples)]
    scorer = rouge_scorer("rougeL")
    quality = [
        [scorer.score(pair.answer, text)["rougeL"].fmeasure for text in group]
        for pair, group in zip(true.pairs, groups, strict=True)
    ]
    return Samples(rollout, true, groups, np.array(quality))


def judge(gan: LanguageGAN, drawn: Samples, blind: bool) -> dict[str, float]:
    """The figures of a trained discriminator; a blind one cannot tell right from wrong questions."""
    with torch.no_grad():
        scores = gan.discriminator.sequence_logits(drawn.rollout).view(drawn.quality.shape).double().numpy()
        true = gan.discriminator.sequence_logits(drawn.true).tolist()
        other = replace(
            drawn.true, answer_ids=drawn.true.answer_ids.roll(1, 0), answer_mask=drawn.true.answer_mask.roll(1, 0)
        )
        wrong = gan.discriminator.sequence_logits(other).tolist()
    figures = {
        "auc_real": auc(true, scores.flatten().tolist()),
        "auc_question": auc(true, wrong),
        "rank_correlation": rank_correlation(scores, drawn.quality),
        "best": selected(scores, drawn.quality),
    }
    if blind:
        del figures["auc_question"]
    return figures


def measure(arguments: Arguments, data: DataArguments, seed: int) -> dict[str, dict[str, float]]:
    """The rows of one seed: each discriminator, and what it is to be compared with."""
    split = read_split(data, seed)
    rows: dict[str, dict[str, float]] = {}
    drawn: Samples | None = None
    for name in arguments.discriminators:
        config = LanguageGANConfig(
            seed=seed,
            generator=arguments.generator,
            learning_rate=arguments.learning_rate,
            discriminator=name,
            reward="sequence",
            warmup_share=1.0,
            blind_discriminator=arguments.blind,
            logging_strategy="no",
            save_strategy="no",
            use_cpu=True,
        )
        gan = LanguageGAN(arguments.model, config, split.train)
        gan.train()  # the same seed, so the same generator
        if drawn is None:
            torch.manual_seed(seed)
            drawn = draw(gan, split.test[: arguments.questions], arguments.samples)
            rows |= references(drawn, seed)
        for batch, rollout in _lessons(gan, split.train, split.unpaired if arguments.blind else None, arguments.steps):
            gan.discriminator_step(batch, rollout)
        rows[name] = judge(gan, drawn, arguments.blind)
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
    return {
        name: {"rank_correlation": rank_correlation(score, drawn.quality), "best": selected(score, drawn.quality)}
        for name, score in scores.items()
    }


def _lessons(gan: LanguageGAN, train: Sequence[Pair], unpaired: Unpaired | None, steps: int):
    """Batches of true answers and of the generator's, new ones every fifth step."""
    source: Callable[[int], tuple[Batch, Batch]]
    if unpaired is not None:
        numbered = UnpairedBatches(unpaired, gan.tokenizer, gan.args)
        source = lambda number: (numbered.questions(number), numbered.answers(number))  # noqa: E731
    else:
        encoded = encode_training_pairs(train, gan.tokenizer, gan.args)
        a_pass = [*batches(encoded, gan.args.per_device_train_batch_size, gan.pad_token_id, gan.args.seed, epoch=0)]
        source = lambda number: (a_pass[number % len(a_pass)],) * 2  # noqa: E731
    for step in range(steps):
        if step % 5 == 0:
            asked, real = source(step // 5)
            rollout = gan.sample(asked)
        yield real, rollout


def table(rows: dict[str, dict[str, list[float]]]) -> str:
    """The rows as text, means over seeds."""
    columns = {"auc_real": "AUC real", "auc_question": "AUC question", "rank_correlation": "rank correlation",
               "best": "best-of-k ROUGE-L"}  # fmt: skip
    lines = ["| scored by | " + " | ".join(columns.values()) + " |", "| --- |" + " ---: |" * len(columns)]
    for name, figures in rows.items():
        cells = []
        for column in columns:
            values = figures.get(column)
            cells.append(f"{fmean(values):.3f}" if values else "-")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Measure what the command line asks for."""
    arguments, data = HfArgumentParser([Arguments, DataArguments]).parse_args_into_dataclasses()

    def command() -> int:
        rows: dict[str, dict[str, list[float]]] = {}
        for seed in arguments.seeds:
            for name, figures in measure(arguments, data, seed).items():
                for column, value in figures.items():
                    rows.setdefault(name, {}).setdefault(column, []).append(value)
            if arguments.output:
                content: dict[str, Any] = {"arguments": asdict(arguments), "data": asdict(data)}
                content |= {"environment": environment("cpu", "float32", seed), "word_tokenizer": WORD_TOKENIZER}
                write_json(Path(arguments.output), json.loads(json.dumps(content | {"rows": rows})))
        print(table(rows))
        return 0

    return exit_status(command, "nothing is kept of a seed that was not finished")


if __name__ == "__main__":
    sys.exit(main())
