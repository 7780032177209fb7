import math
import socket

import pytest
from sacrebleu import corpus_bleu

from gantune.errors import UserError
from gantune.metrics import Bleu

ANSWERS = ["the mill is a cheap pub by the river", "a pub"]


def test_one_reference_by_hand():
    # 1- to 4-grams of "a b c d e" in "a b c d f": 4 of 5, 3 of 4, 2 of 3, 1 of 2; equally long
    found = Bleu().compute(predictions=["a b c d e"], references=["a b c d f"])
    assert found == {"bleu": pytest.approx(100 * math.prod([4 / 5, 3 / 4, 2 / 3, 1 / 2]) ** 0.25)}
    # three quarters as long: brevity penalty exp(1 - 8 / 6)
    found = Bleu().compute(predictions=["a b c d e f"], references=["a b c d e f g h"])["bleu"]
    assert found == pytest.approx(100 * math.exp(1 - 8 / 6))


def test_several_references_of_different_number_by_hand():
    # every n-gram of "a b c d e f" is in one of the two; the nearest length is 6
    several = [["a b c d e f", "x"], ["a b c d e", "e f g h", "f g"]]
    answers = ["a b c d e f", "a b c d e"]
    assert Bleu().compute(predictions=answers, references=several)["bleu"] == pytest.approx(100)
    # an absent reference is none, and not an empty text, whose length 0 would be nearer to a short answer's
    one_more = [["p q r s t u v w", "x"], "a b c d e f g h"]
    answers = ["p q r s t u v w", "a b c"]
    alone = corpus_bleu(answers, [["p q r s t u v w", "a b c d e f g h"]]).score
    assert Bleu().compute(predictions=answers, references=one_more)["bleu"] == pytest.approx(alone)
    assert alone < 80 < corpus_bleu(answers, [["p q r s t u v w", "a b c d e f g h"], ["x", ""]]).score


def test_it_is_sacrebleus_figure():
    references = ["The Mill is a cheap pub near the river.", "A pub."]
    assert (
        Bleu().compute(predictions=ANSWERS, references=references)["bleu"] == corpus_bleu(ANSWERS, [references]).score
    )
    streams = [["The Mill is a cheap pub.", "A pub."], ["A cheap pub by the river is the mill.", "One pub."]]
    together = [list(of_answer) for of_answer in zip(*streams, strict=True)]
    assert Bleu().compute(predictions=ANSWERS, references=together)["bleu"] == corpus_bleu(ANSWERS, streams).score


def test_empty_answers_and_no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a metric opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert Bleu().compute(predictions=["", ""], references=["a b", ["c", "d"]]) == {"bleu": 0.0}


def test_bad_input_is_named():
    with pytest.raises(UserError, match="got 1 predictions and 2 references"):
        Bleu().compute(predictions=["a"], references=["a", ["b"]])
    with pytest.raises(UserError, match="references: expected at least one string, got an empty list"):
        Bleu().compute(predictions=[], references=[])
