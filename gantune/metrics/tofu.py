"""TOFU's measures of what a model knows: probability, truth ratio and model utility.

Source: Maini et al. 2024, "TOFU: A Task of Fictitious Unlearning for LLMs", arXiv:2401.06121, section 2.2. Pure
arithmetic on the negative log-likelihood of each answer, in nats, and its number of tokens; no model is needed.

P(a|q)^(1/|a|) of an answer a is exp(-nats / tokens). Which tokens count is for whoever computes the losses to say.
`gantune.policy.evaluation.answer_losses` counts the answer's tokens and one end-of-sequence, as locuslab/tofu
(`data_module.py`) and locuslab/open-unlearning (`src/data/utils.py`) do; a cut answer has no end-of-sequence.

The paper and both codes disagree on the truth ratio, so both forms are here under their own names:

- `arithmetic`: the mean of the wrong answers' P^(1/|a|), as in the paper's equation 1;
- `geometric`: the exponential of the mean log P^(1/|a|), as in locuslab/tofu (`utils.py`, `get_model_utility`) and
  locuslab/open-unlearning (`src/evals/metrics/memorization.py`, `truth_ratio`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from gantune.errors import UserError

AnswerLoss = tuple[float, int]
"""Negative log-likelihood of an answer in nats, and its number of tokens."""

Mean = Literal["arithmetic", "geometric"]
MEANS: tuple[Mean, ...] = ("arithmetic", "geometric")


class QuestionLosses(NamedTuple):
    """The losses of all answers to one question: the true one, the same in other words (or again), and wrong ones."""

    answer: AnswerLoss
    paraphrased: AnswerLoss
    perturbed: tuple[AnswerLoss, ...]


def probability(answer: AnswerLoss) -> float:
    """P(a|q)^(1/|a|): the probability of an answer, normalised for its length."""
    return math.exp(-_nats_a_token(answer))


def choice_probability(answer: AnswerLoss, perturbed: Sequence[AnswerLoss]) -> float:
    """The true answer's share in a multiple choice, P(a|q) / sum_i P(a_i|q).

    The paper writes it without the exponent 1/|a|; both of its codes normalise each P for length, and so does this.
    """
    return 1 / sum(map(_exp, [0.0, *_log_ratios(answer, perturbed)]))


def truth_ratio(paraphrased: AnswerLoss, perturbed: Sequence[AnswerLoss], mean: Mean) -> float:
    """R_truth: how likely wrong answers are, against the true answer in other words. 0 is best; 1 is no difference.

    `mean` is that over the wrong answers. The ratio is infinite where it is too large for a float.

    Raises:
        UserError: if there is no wrong answer, a loss is not a finite number, an answer has no token, or `mean` is
            unknown.
    """
    if mean not in MEANS:
        raise UserError(f"mean is {mean!r}, expected {' or '.join(MEANS)}")
    ratios = _log_ratios(paraphrased, perturbed)
    if mean == "geometric":
        return _exp(sum(ratios) / len(ratios))
    return sum(map(_exp, ratios)) / len(ratios)


def rescaled_truth_ratio(ratio: float) -> float:
    """max(0, 1 - R_truth): between 0 and 1, larger is better. This is the truth ratio that the paper's tables show."""
    return max(0.0, 1.0 - ratio)


def harmonic_mean(values: Sequence[float]) -> float:
    """The harmonic mean of numbers of 0 or more, at least one; 0 if any is 0."""
    if not values:
        raise UserError("harmonic mean: expected at least one value, got none")
    for value in values:
        if not value >= 0:
            raise UserError(f"harmonic mean: expected values of 0 or more, got {value}")
    return 0.0 if min(values) == 0 else len(values) / sum(1 / value for value in values)


def set_figures(
    questions: Sequence[QuestionLosses], rouge_recalls: Sequence[float], multiple_choice: bool
) -> dict[str, Any]:
    """The measures of one question set, each the mean over its questions.

    Args:
        rouge_recalls: ROUGE-L recall of each generated answer against the true one, in the same order.
        multiple_choice: whether probability is the share of a choice (the paper: real authors, world facts) or the
            answer's own (the paper: the authors of TOFU).

    Returns:
        `questions`, their number; `probability`; `rougeL_recall`; `truth_ratio_questions`, the number of those with
        wrong answers; `truth_ratio_arithmetic` and `truth_ratio_geometric`, the means of max(0, 1 - R_truth) over
        these. A mean over no question is None.
    """
    if len(questions) != len(rouge_recalls):
        raise UserError(f"expected one ROUGE-L recall a question, got {len(rouge_recalls)} for {len(questions)}")
    if multiple_choice:
        probabilities = [choice_probability(question.answer, question.perturbed) for question in questions]
    else:
        probabilities = [probability(question.answer) for question in questions]
    with_wrong = [question for question in questions if question.perturbed]
    figures: dict[str, Any] = {
        "questions": len(questions),
        "probability": _average(probabilities),
        "rougeL_recall": _average(rouge_recalls),
        "truth_ratio_questions": len(with_wrong),
    }
    for mean in MEANS:
        ratios = (truth_ratio(question.paraphrased, question.perturbed, mean) for question in with_wrong)
        figures[f"truth_ratio_{mean}"] = _average([rescaled_truth_ratio(ratio) for ratio in ratios])
    return figures


def model_utility(sets: Iterable[Mapping[str, Any]], mean: Mean) -> float | None:
    """The harmonic mean of probability, ROUGE-L recall and the truth ratio of this mean, over question sets, as
    [`set_figures`] gives them; None if any figure is None. The paper takes three sets, so nine numbers.
    """
    names = ("probability", "rougeL_recall", f"truth_ratio_{mean}")
    values = [figures[name] for figures in sets for name in names]
    return None if None in values else harmonic_mean(values)


def _log_ratios(true: AnswerLoss, perturbed: Sequence[AnswerLoss]) -> list[float]:
    """The log of each wrong answer's P^(1/|a|) over the true one's."""
    if not perturbed:
        raise UserError("perturbed answers: expected at least one, got none")
    nats = _nats_a_token(true)
    return [nats - _nats_a_token(loss) for loss in perturbed]


def _nats_a_token(loss: AnswerLoss) -> float:
    nats, tokens = loss
    if not math.isfinite(nats):
        raise UserError(f"loss of an answer: expected a finite number of nats, got {nats}")
    if tokens < 1:
        raise UserError(f"loss of an answer: expected 1 token or more, got {tokens}")
    return nats / tokens


def _exp(value: float) -> float:
    """The exponential; infinite where it is too large for a float."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def _average(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
