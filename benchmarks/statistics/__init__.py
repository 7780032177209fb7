"""Whether one method is better than another: paired differences over seeds and questions."""

from benchmarks.statistics.bootstrap import PairedDifference, paired_bootstrap
from benchmarks.statistics.comparison import compare_methods, holm
from benchmarks.statistics.power import smallest_detectable
from benchmarks.statistics.stored import paired_differences, stored_scores

__all__ = [
    "PairedDifference",
    "compare_methods",
    "holm",
    "paired_bootstrap",
    "paired_differences",
    "smallest_detectable",
    "stored_scores",
]
