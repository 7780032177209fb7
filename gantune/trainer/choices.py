"""What a discriminator's choice among samples is worth, measured before it is used as a reward."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean

from gantune.data import Pair
from gantune.metrics.rouge_words import rouge_scorer
from gantune.metrics.slots import SlotMatcher, count_slots, records_of
from gantune.seqgan import self_consistency


def worth_of(pairs: Sequence[Pair]) -> Callable[[int, str], float] | None:
    """What an answer to the question of a pair, by its number, is worth; None where it cannot be told.

    Of a record that is 1 less its slot errors over its values, which needs no true text; of other questions ROUGE-L
    against the true answer.
    """
    if records := records_of([pair.question for pair in pairs]):
        matcher = SlotMatcher.for_records(records)
        return lambda number, text: 1 - sum(matcher.errors(records[number], text)) / count_slots(records[number])
    if not all(pair.answer for pair in pairs):
        return None
    scorer = rouge_scorer("rougeL")
    return lambda number, text: scorer.score(pairs[number].answer, text)["rougeL"].fmeasure


def choices(pairs: Sequence[Pair], texts: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
    """What choosing one of k samples by scores is worth, by the consensus of the samples, and at random.

    Args:
        pairs: questions, and true answers unless they are records.
        texts: k sampled answers to each, side by side.
        scores: of the texts.

    Returns:
        `chosen_by_discriminator`, `chosen_by_consensus` and `chosen_at_random`, means of [`worth_of`] over the
        questions; nothing where that cannot be told.
    """
    worth, k = worth_of(pairs), len(texts) // len(pairs)
    if worth is None:
        return {}
    chosen: dict[str, list[float]] = defaultdict(list)
    for number in range(len(pairs)):
        of_question = slice(number * k, (number + 1) * k)
        answers, score = texts[of_question], list(scores[of_question])
        values, consensus = [worth(number, answer) for answer in answers], self_consistency(answers)
        chosen["chosen_by_discriminator"].append(values[score.index(max(score))])
        chosen["chosen_by_consensus"].append(values[consensus.index(max(consensus))])
        chosen["chosen_at_random"].append(fmean(values))
    return {name: fmean(values) for name, values in chosen.items()}
