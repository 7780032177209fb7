"""Methods to compare, one file a family. Importing this package registers them in `METHODS`."""

# ruff: noqa: F401

from baselines import (
    bottleneck,
    few_shot,
    full,
    gan,
    gan_source,
    ia3,
    lora,
    prompt_learning,
    qlora,
    trivial,
    untuned,
)
from baselines.method import (
    METHODS,
    Diverged,
    Method,
    NotAvailable,
    Tuned,
    TunedModel,
    known_method,
    method,
    resolve_method,
)
