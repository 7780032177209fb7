"""Whether one method is better than another: paired differences over seeds and questions."""

from gantune.registry import lazy

__getattr__, __all__ = lazy(
    __name__,
    {
        "bootstrap": ["PairedDifference", "paired_bootstrap"],
        "comparison": ["compare_methods", "holm"],
        "power": ["smallest_detectable"],
        "stored": ["paired_differences", "stored_scores"],
    },
)
