"""How answers are decoded: greedily, sampled, or chosen among several samples; after reasoning or without."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gantune.data.words import caseless, marks
from gantune.errors import UserError
from gantune.field_types import text_list
from gantune.tuning import TuningConfig

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from gantune.generation.generate import DecodingReport

FEWEST_SAMPLES = 3  # of two, each is as near to the other


@dataclass(frozen=True)
class Decoding:
    """One way to decode."""

    samples: int = 0  # of each question; 0 is greedy, and of several `choice` takes one
    temperature: float = 1.0
    seed: int = 0  # of sampling, which so does not depend on what was drawn before
    choice: str = "mbr"  # a name in `CHOICES`
    reasoning_tokens: int = 0  # longest reasoning before each answer, see `gantune.generation.reasoning`; 0 for none

    @classmethod
    def named(cls, name: str, temperature: float = 1.0, seed: int = 0, reasoning_tokens: int = 0) -> Decoding:
        """The decoding called `greedy`, `sample`, `mbr-K` (the consensus of K samples) or `vote-K` (the most frequent).

        Raises:
            UserError: for another name, a K below 3, a temperature that is not above 0, or a negative number of tokens.
        """
        if not 0 < temperature < math.inf:
            raise UserError(
                f"--decoding-temperature {temperature}: expected above 0, and finite (--decoding greedy has none)"
            )
        if reasoning_tokens < 0:
            raise UserError(f"--reasoning-tokens {reasoning_tokens}: expected at least 0")
        if name in ("greedy", "sample"):
            return cls(int(name == "sample"), temperature, seed, reasoning_tokens=reasoning_tokens)
        match = re.fullmatch(rf"({'|'.join(CHOICES)})-(\d+)", name)
        if not match or int(match[2]) < FEWEST_SAMPLES:
            raise UserError(
                f"--decoding {name}: expected greedy, sample, mbr-K or vote-K with K at least {FEWEST_SAMPLES} "
                "(such as mbr-8)"
            )
        return cls(int(match[2]), temperature, seed, match[1], reasoning_tokens)

    def __str__(self) -> str:
        text = "greedy"
        if self.samples:
            name = "sample" if self.samples == 1 else f"{self.choice}-{self.samples}"
            text = f"{name} at temperature {self.temperature:g}"
        return f"{text} after up to {self.reasoning_tokens} tokens of reasoning" if self.reasoning_tokens else text


def consensus(answers: Sequence[str]) -> str:
    """The answer with the highest mean ROUGE-L (F1) to the others: minimum Bayes risk decoding; the first of equals.

    The samples stand for the model's distribution, as candidates and as what they are judged by (Kumar & Byrne 2004;
    Eikema & Aziz 2020, arXiv:2005.10283).
    """
    from gantune.seqgan import self_consistency

    answers = text_list(answers, "answers", least=1)
    worth = self_consistency(answers)
    return answers[worth.index(max(worth))]


def most_frequent(answers: Sequence[str]) -> str:
    """The answer that most samples give: self-consistency (Wang et al. 2022, arXiv:2203.11171); the first of equals.

    Answers are the same if they are so after [`normalised`]; the first of the winning ones is returned as it is.
    """
    answers = text_list(answers, "answers", least=1)
    votes = Counter(map(normalised, answers))  # most_common keeps the order of first appearance among equals
    winner = votes.most_common(1)[0][0]
    return next(answer for answer in answers if normalised(answer) == winner)


def normalised(answer: str) -> str:
    """Lower case, without punctuation, articles and repeated blanks (SQuAD's, Rajpurkar et al. 2016).

    Other than there, a point or a minus before a digit stays: -5 is not 5, and 3.5 not 35. So do accents and vowel
    signs, and all of an answer of which nothing would be left.
    """
    text = re.sub(rf"(?![-.]\d|[{marks()}])[^\w\s]", "", caseless(answer))
    return " ".join(word for word in text.split() if word not in ("a", "an", "the")) or answer.strip()


CHOICES: dict[str, Callable[[Sequence[str]], str]] = {"mbr": consensus, "vote": most_frequent}


def decode_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    config: TuningConfig,
    decoding: Decoding,
    *,
    noise: Tensor | None = None,
    report: DecodingReport | None = None,
) -> list[str]:
    """[`generate_answers`] by a decoding; all samples of a question share the noise.

    The global random state is left as it is.
    """
    from gantune.generation.generate import generate_answers

    options = {"noise": noise, "report": report}
    if not decoding.samples:
        tokens = decoding.reasoning_tokens
        return generate_answers(model, tokenizer, questions, config, reasoning_tokens=tokens, **options)
    by_question = sample_answers(model, tokenizer, questions, config, decoding, **options)
    if report is not None and decoding.samples > 1 and decoding.choice == "vote":
        report.undecided += sum(len(set(map(normalised, answers))) == len(answers) for answers in by_question)
    return [CHOICES[decoding.choice](answers) for answers in by_question]


def sample_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    config: TuningConfig,
    decoding: Decoding,
    *,
    noise: Tensor | None = None,
    report: DecodingReport | None = None,
) -> list[tuple[str, ...]]:
    """All samples of each question, among which [`decode_answers`] chooses; of a decoding that samples."""
    import torch

    from gantune.generation.generate import generate_answers

    options = {"reasoning_tokens": decoding.reasoning_tokens, "noise": noise, "report": report}
    answer = partial(generate_answers, model, tokenizer, questions, config, **options)
    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(decoding.seed)
        samples = [answer(temperature=decoding.temperature) for _ in range(decoding.samples)]
    return [*zip(*samples, strict=True)]
