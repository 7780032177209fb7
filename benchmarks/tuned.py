"""Learning rates that a sweep has found, for the settings that the documents report.

A method is judged by its learning rate as much as by itself, so each method's comes from the same small sweep: 50
training pairs, mean ROUGE-L of the splits of seeds 100 and 101, which no reported run uses (though single rows of
theirs are tested there too). Every winner lies inside its grid. The rates are defaults: an option on the command line
wins, and the comparison names what it used.

| model, data | method | ROUGE-L by learning rate |
| --- | --- | --- |
| mini, mini-tofu (150 tested) | lora | 1e-3 .293, 2e-3 .374, 4e-3 .506, **8e-3 .585**, 1.6e-2 .581, 3.2e-2 .400 |
| | mle | 1e-3 .426, **2e-3 .468**, 5e-3 .450, 1e-2 .400, 2e-2 .369 |
| tinystories-gpt2-3m, TOFU (forget10, 200 tested) | lora | 5e-4 .096, **1e-3 .106**, 2e-3 .101, 5e-3 .091, 1e-2 .092 |
| | mle | 1e-3 .077, 2e-3 .089, **5e-3 .097**, 1e-2 .093 |

The rate of `mle` is that of `gan`, whose generator it is.
"""

from __future__ import annotations

from pathlib import Path

TUNED: dict[tuple[str, str], dict[str, float]] = {
    ("mini", "mini-tofu"): {"learning_rate": 2e-3, "lora_learning_rate": 8e-3},
    ("tinystories-gpt2-3m", "full"): {"learning_rate": 5e-3, "lora_learning_rate": 1e-3},
}


def tuned_for(model: str, dataset: str) -> dict[str, float]:
    """The learning rates found for a model and a data set, by the names of their folder and file; else none."""
    return TUNED.get((Path(model).name, Path(dataset).stem), {})
