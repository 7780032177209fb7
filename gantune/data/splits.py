"""Divide pairs into those to train on and those to test on."""

from __future__ import annotations

import random

from gantune.data.question import Pair
from gantune.errors import UserError


def split_pairs(
    pairs: list[Pair], train_size: int | None, test_size: int | None, seed: int
) -> tuple[list[Pair], list[Pair]]:
    """Draw training pairs and, disjoint from them, test pairs.

    Training pairs come from the front of one shuffled order and test pairs from its back. So the size of one part
    never changes which rows are in the other, and a smaller part is a prefix of a larger one.

    A size of None takes all that the other leaves.

    Raises:
        UserError: if both sizes are None, one is negative, or there are not so many pairs or none for "the rest".
    """
    if train_size is None and test_size is None:
        raise UserError("train_size and test_size: give at least one, the other then takes the rest")
    for name, size in (("train_size", train_size), ("test_size", test_size)):
        if size is not None and size < 0:
            raise UserError(f"{name} is {size}, expected 0 or more")
    if train_size is None:
        train_size = max(len(pairs) - test_size, 1)
    if test_size is None:
        test_size = max(len(pairs) - train_size, 1)
    if train_size + test_size > len(pairs):
        raise UserError(
            f"train_size {train_size} and test_size {test_size} need {train_size + test_size} pairs, "
            f"the data has {len(pairs)}"
        )
    order = list(range(len(pairs)))
    random.Random(seed).shuffle(order)
    return [pairs[i] for i in order[:train_size]], [pairs[i] for i in order[::-1][:test_size]]
