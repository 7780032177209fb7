"""The rows of the table, in their order; each `(world, name) -> rows` of one seed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.oracle.likelihood import maximum_likelihood, oracle_itself, random_tokens, ratio_model
from benchmarks.oracle.ratio import all_actions, ratio
from benchmarks.oracle.seqgan import constant, seqgan
from benchmarks.oracle.world import Row, World

Method = Callable[[World, str], list[Row]]

METHODS: dict[str, Method] = {
    "oracle": oracle_itself,
    "random": random_tokens,
    "mle": maximum_likelihood,
    "ratio-model": ratio_model,
    "seqgan": seqgan,
    "seqgan-leave-one-out": partial(seqgan, advantage="leave-one-out"),
    "seqgan-shuffled": partial(seqgan, shuffled=True),
    "constant": constant,
    "ratio-last": partial(ratio, start="last"),
    "ratio-last-shuffled": partial(ratio, start="last", shuffled=True),
    "ratio": ratio,
    "ratio-shuffled": partial(ratio, shuffled=True),
    "ratio-all-actions": partial(ratio, step=all_actions),
    "ratio-all-actions-shuffled": partial(ratio, step=all_actions, shuffled=True),
    "cot": partial(ratio, step=all_actions, learned=True),
    "cot-shuffled": partial(ratio, step=all_actions, learned=True, shuffled=True),
    "optimal": partial(ratio, optimal=True),
    "optimal-all-actions": partial(ratio, step=all_actions, optimal=True),
}
BEGUN_FROM = ("mle", "ratio-model")
"""Methods whose checkpoints are kept, because games begin from them."""
