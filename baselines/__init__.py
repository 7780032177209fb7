"""Methods to compare, one file a family. Importing this package registers them in `METHODS`."""

from baselines import (  # noqa: F401 (for what they register)
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
from baselines.method import (  # noqa: F401
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
