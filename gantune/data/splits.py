"""Divide pairs into those to train on and those to test on."""

from __future__ import annotations

import itertools
import random
from collections.abc import Hashable, Sequence

from gantune.data.question import Pair, identity
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
            f"the data has {len(pairs)}; ask for fewer: --train-size, --test-size"
        )
    order = list(range(len(pairs)))
    random.Random(seed).shuffle(order)
    return [pairs[i] for i in order[:train_size]], [pairs[i] for i in order[::-1][:test_size]]


def split_records(
    pairs: Sequence[Pair], train_size: int | None, test_size: int, seed: int
) -> tuple[list[Pair], list[Pair], list[list[str]]]:
    """Draw training pairs and, of other records, test pairs, each with all the texts that its record has.

    Records are the distinct questions. Test records come from the back of one shuffled order, each with its first text;
    training pairs from the front: one text of each record, drawn by the seed, and where more are asked for than there
    are other records, then further texts of these records. A text that a record has twice counts once.

    So no record is on both sides. The number of test records changes no training pair, as long as there are records
    enough for one text of each; a smaller part is a prefix of a larger one.

    Args:
        train_size: pairs; None takes all of the records that are not tested.
        test_size: records.

    Returns:
        The training pairs, a test pair for each test record, and for each of these the texts of its record.

    Raises:
        UserError: if a size is negative, or the data have not so many records or texts.
    """
    for name, size in (("train_size", train_size), ("test_size", test_size)):
        if size is not None and size < 0:
            raise UserError(f"{name} is {size}, expected 0 or more")
    texts: dict[Hashable, list[Pair]] = {}
    for pair in dict.fromkeys(pairs):
        texts.setdefault(identity(pair.question), []).append(pair)
    order, drawn = list(texts.values()), random.Random(seed)
    drawn.shuffle(order)
    shuffled = [drawn.sample(of_record, len(of_record)) for of_record in order]
    if test_size > len(order):
        raise UserError(f"test_size {test_size}: the data has {len(order)} records")
    rounds = itertools.zip_longest(*shuffled[: len(order) - test_size])
    train = [pair for texts_of_round in rounds for pair in texts_of_round if pair is not None]
    if train_size is not None and train_size > len(train):
        raise UserError(
            f"train_size {train_size}: beside {test_size} test records the data has {len(order) - test_size} records "
            f"with {len(train)} texts"
        )
    tested = order[::-1][:test_size]
    test, references = [of_record[0] for of_record in tested], [[p.answer for p in of_record] for of_record in tested]
    return train[:train_size], test, references
