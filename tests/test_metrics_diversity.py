import subprocess
import sys

import pytest

import gantune.metrics
from gantune.errors import UserError
from gantune.metrics import Diversity, distinct_n, mean_length, unique_share


def test_distinct_n_by_hand():
    # Bigrams: (the cat) (cat sat) | (the cat) (cat ran): 3 distinct of 4. Unigrams: the cat sat ran of 6.
    texts = ["The cat sat", "the  CAT\nran"]
    assert distinct_n(texts, n=2) == pytest.approx(3 / 4)
    assert distinct_n(texts, n=1) == pytest.approx(4 / 6)
    assert distinct_n(texts, n=3) == pytest.approx(1.0)


def test_no_ngram_spans_two_texts():
    assert distinct_n(["a b", "c a", "b"], n=2) == 1.0
    assert distinct_n(["a b", "a b", "b"], n=2) == pytest.approx(1 / 2)


def test_texts_too_short_for_an_ngram_give_zero():
    assert distinct_n(["word", ""], n=2) == 0.0


def test_mean_length_counts_words():
    assert mean_length(["one two  three", "", "four\nfive"]) == pytest.approx(5 / 3)


def test_unique_share_by_hand():
    assert unique_share(["a b", "A  b", "a c", "c"]) == pytest.approx(3 / 4)
    assert unique_share(["", ""]) == pytest.approx(1 / 2)


def test_metric():
    result = Diversity().compute(predictions=["a a a", "a b", ""])
    # Bigrams: (a a) (a a) (a b).
    assert result == pytest.approx({"distinct2": 2 / 3, "unique": 1.0, "mean_length": 5 / 3})


@pytest.mark.parametrize(
    "function", [distinct_n, mean_length, unique_share, lambda texts: Diversity().compute(predictions=texts)]
)
@pytest.mark.parametrize(
    "texts, message", [([], "at least one string"), (["a", None], "row 1: expected a string"), ("a b", "got str")]
)
def test_bad_texts_are_named(function, texts, message):
    with pytest.raises(UserError, match=message):
        function(texts)


def test_n_below_one_is_refused():
    with pytest.raises(UserError, match="n: expected at least 1, got 0"):
        distinct_n(["a"], n=0)


def test_the_package_exports_its_names_and_imports_evaluate_only_on_use():
    for name in gantune.metrics.__all__:
        assert getattr(gantune.metrics, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Meteor'"):
        _ = gantune.metrics.Meteor
    code = "import sys, gantune.metrics; sys.exit('evaluate' in sys.modules or 'sacrebleu' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
