"""Metrics of generated answers: ROUGE, BLEU, BLEURT, diversity, as `evaluate.Metric` subclasses; slot errors of texts.

None of them needs the network, except to download a BLEURT checkpoint that is named by its Hub id. Names are imported
on first use, because `evaluate` takes seconds to import.
"""

from gantune.registry import lazy

__getattr__, __all__ = lazy(
    __name__,
    {
        "bleu": ["Bleu"],
        "bleurt": ["Bleurt"],
        "diversity": ["Diversity", "distinct_n", "mean_length", "unique_share"],
        "rouge": ["Rouge"],
        "slots": ["SlotErrors", "SlotMatcher", "parse_meaning_representation"],
    },
)
