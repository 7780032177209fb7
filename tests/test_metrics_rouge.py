import random
import socket

import evaluate
import pytest

from gantune.errors import UserError
from gantune.metrics import Rouge


@pytest.fixture(scope="module")
def rouge():
    return Rouge()


def lcs_length(first, second):
    if not first or not second:
        return 0
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def test_hand_computed_scores(rouge):
    # "cats" is stemmed to "cat"; 3 of 3 predicted words match, 3 of the reference's 6; bigrams 2 of 2 and 2 of 5.
    row = rouge.score_pairs(["The cats sat."], ["the cat sat on the mat"])[0]
    assert row == pytest.approx(
        {"rouge1": 2 / 3, "rouge2": 4 / 7, "rougeL": 2 / 3, "rougeLsum": 2 / 3, "rougeL_recall": 1 / 2}
    )


def test_rougelsum_takes_a_line_as_a_sentence(rouge):
    row = rouge.score_pairs(["c d\na b"], ["a b\nc d"])[0]
    assert row["rougeL"] == pytest.approx(0.5)
    assert row["rougeLsum"] == pytest.approx(1.0)


def test_rouge_l_agrees_with_an_independent_subsequence_count(rouge):
    rng = random.Random(0)
    for _ in range(30):
        prediction, reference = ([rng.choice("abcde") for _ in range(rng.randint(1, 12))] for _ in range(2))
        common = lcs_length(prediction, reference)
        row = rouge.score_pairs([" ".join(prediction)], [" ".join(reference)])[0]
        assert row["rougeL_recall"] == pytest.approx(common / len(reference))
        assert row["rougeL"] == pytest.approx(2 * common / (len(prediction) + len(reference)))


def test_compute_is_the_mean_of_the_pairs(rouge):
    predictions, references = ["one two", "", "three four five"], ["one two", "six", "three five"]
    rows = rouge.score_pairs(predictions, references)
    result = rouge.compute(predictions=predictions, references=references)
    assert result.keys() == {"rouge1", "rouge2", "rougeL", "rougeLsum", "rougeL_recall"}
    for name, value in result.items():
        assert value == pytest.approx(sum(row[name] for row in rows) / 3)
    assert result["rouge1"] == pytest.approx((1 + 0 + 0.8) / 3)


def test_batches_and_single_examples_add_up(rouge):
    rouge.add(prediction="one", reference="one")
    rouge.add_batch(predictions=["one", "two"], references=["two", "two"])
    assert rouge.compute()["rouge1"] == pytest.approx(2 / 3)


def test_of_several_references_the_best_counts_for_each_score(rouge):
    references = ["the cat sat on the mat", "a dog", "the cats sat"]
    (row,) = rouge.score_pairs(["The cats sat."], [references])
    alone = [rouge.score_pairs(["The cats sat."], [reference])[0] for reference in references]
    assert row == {name: max(scores[name] for scores in alone) for name in row}
    assert rouge.score_pairs(["a dog", "one"], [["a", "a dog"], "two"])[0]["rougeL"] == 1.0
    assert rouge.score_pairs(["one"], [["one"]]) == rouge.score_pairs(["one"], ["one"])
    # the best of one score may be another reference than that of another score
    (row,) = rouge.score_pairs(["a b c d"], [["a c b d e f g h", "b"]])
    assert row["rougeL_recall"] == 1.0 and row["rougeL"] == pytest.approx(0.5)


def test_compute_takes_several_references(rouge):
    rouge.add(prediction="one", reference=["two", "one"])
    rouge.add_batch(predictions=["one", "two"], references=[["three"], "two"])
    assert rouge.compute()["rouge1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "prediction, reference", [("", "a word"), ("a word", ""), ("", ""), ("...", "a word"), ("\n", "?")]
)
def test_a_text_without_words_scores_zero(rouge, prediction, reference):
    assert set(rouge.score_pairs([prediction], [reference])[0].values()) == {0.0}
    assert set(rouge.compute(predictions=[prediction], references=[reference]).values()) == {0.0}


def test_no_network_and_no_litter(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a metric opened a connection")

    cache, here = tmp_path / "cache", tmp_path / "here"
    here.mkdir()
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", cache)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(here)
    Rouge().compute(predictions=["a"], references=["a"])
    assert not cache.exists()
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    "predictions, references, message",
    [
        (["a"], ["a", "b"], "got 1 predictions and 2 references"),
        (["a", None], ["a", "b"], "predictions, row 1: expected a string, got NoneType"),
        (["a"], [3], "references, row 0: expected a string or a list of them, got int"),
        (["a", "b"], ["a", ["b", 3]], "references, row 1, row 1: expected a string, got int"),
        (["a", "b"], ["a", []], "references, row 1: expected at least one string, got an empty list"),
        ("a", ["a"], "predictions: expected a list of strings, got str"),
        (["a"], None, "references: expected a list of strings, got NoneType"),
    ],
)
def test_bad_input_is_named(rouge, predictions, references, message):
    with pytest.raises(UserError, match=message):
        rouge.score_pairs(predictions, references)
    with pytest.raises(UserError, match=message):
        rouge.compute(predictions=predictions, references=references)
