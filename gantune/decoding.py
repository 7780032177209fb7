"""How answers are decoded for evaluation: greedily, sampled, or the consensus of several samples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rouge_score.rouge_scorer import RougeScorer
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gantune.errors import UserError
from gantune.generation import generate_answers
from gantune.tuning import TuningConfig

FEWEST_SAMPLES = 3  # of two, each is as near to the other


@dataclass(frozen=True)
class Decoding:
    """One way to decode.

    Args:
        samples: answers sampled to each question; 0 is greedy, and of several the consensus is the answer.
        temperature: of sampling.
        seed: of sampling, which so does not depend on what was drawn before.
    """

    samples: int = 0
    temperature: float = 1.0
    seed: int = 0

    @classmethod
    def named(cls, name: str, temperature: float = 1.0, seed: int = 0) -> Decoding:
        """The decoding called `greedy`, `sample`, or `mbr-K` for the consensus of K samples.

        Raises:
            UserError: for another name, a K below 3, or a temperature that is not above 0.
        """
        if temperature <= 0:
            raise UserError(f"--decoding-temperature {temperature}: expected above 0 (--decoding greedy has none)")
        if name in ("greedy", "sample"):
            return cls(int(name == "sample"), temperature, seed)
        match = re.fullmatch(r"mbr-(\d+)", name)
        if not match or int(match[1]) < FEWEST_SAMPLES:
            raise UserError(
                f"--decoding {name}: expected greedy, sample, or mbr-K with K at least {FEWEST_SAMPLES}, such as mbr-8"
            )
        return cls(int(match[1]), temperature, seed)

    def __str__(self) -> str:
        if not self.samples:
            return "greedy"
        return f"{'sample' if self.samples == 1 else f'mbr-{self.samples}'} at temperature {self.temperature:g}"


def consensus(answers: Sequence[str]) -> str:
    """The answer with the highest mean ROUGE-L (F1) to the others: minimum Bayes risk decoding; the first of equals.

    The samples stand for the model's distribution, as candidates and as what they are judged by (Kumar & Byrne 2004;
    Eikema & Aziz 2020, arXiv:2005.10283).

    Args:
        answers: samples of one question, at least one.
    """
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    gain = [0.0] * len(answers)
    for i, answer in enumerate(answers):
        for j in range(i):  # F1 is symmetric
            score = scorer.score(answer, answers[j])["rougeL"].fmeasure
            gain[i] += score
            gain[j] += score
    return answers[gain.index(max(gain))]


def decode_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    config: TuningConfig,
    decoding: Decoding,
    *,
    noise: Tensor | None = None,
) -> list[str]:
    """Answer questions; the global random state is left as it is.

    Args:
        model: a causal language model, tuned or not.
        tokenizer: its tokenizer.
        questions: texts.
        config: template and limits.
        decoding: see [`Decoding`].
        noise: as [`generate_answers`]; all samples of a question share it.

    Returns:
        One text a question.
    """
    if not decoding.samples:
        return generate_answers(model, tokenizer, questions, config, noise=noise)
    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(decoding.seed)
        samples = [
            generate_answers(model, tokenizer, questions, config, temperature=decoding.temperature, noise=noise)
            for _ in range(decoding.samples)
        ]
    return [consensus(answers) for answers in zip(*samples, strict=True)]
