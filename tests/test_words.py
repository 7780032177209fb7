"""Words of every script, and the figures that are made of them."""

# ruff: noqa: RUF001

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenize import tokenize

from gantune.data.near_duplicates import normalised
from gantune.data.words import words, written_words
from gantune.metrics import Rouge, distinct_n, mean_length
from gantune.metrics.rouge_words import wordless
from gantune.seqgan.rewards import self_consistency
from tests.hostile import SCRIPTS, TRIED, cases, texts

ROUGE = Rouge()
ascii_texts = st.text(st.characters(max_codepoint=127), max_size=60) | st.lists(
    st.sampled_from(
        ["running", "Cats", "it's", "snake_case", "GPT-2", "1,843", "...", "generously", "flies", "\n", "a"]
    )
).map(" ".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop_me: GPT-2!", ["don", "t", "stop", "me", "gpt", "2"]),
        ("Pâté, el año; l’été", ["pâté", "el", "año", "l", "été"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("Рим — столица.", ["рим", "столица"]),
        ("הוא גר בתל־אביב", ["הוא", "גר", "בתל", "אביב"]),
        ("مَرْحَبًا بك", ["مَرْحَبًا", "بك"]),
        ("می\u200cخواهم co\u00adop", ["میخواهم", "coop"]),
        ("हिन्दी में १९५८", ["हिन्दी", "में", "१९५८"]),
        ("தமிழ் నేను", ["தமிழ்", "నేను"]),
        ("한국어 단어", ["한국어", "단어"]),
        ("罗马是首都，1958年。", ["罗", "马", "是", "首", "都", "1958", "年"]),
        ("東京々ラーメンhello", ["東", "京", "々", "ラ", "ー", "メ", "ン", "hello"]),
        ("ก่อนกิน", ["ก่", "อ", "น", "กิ", "น"]),
        ("ကို ខ្មែរ ລາວ", ["ကို", "ខ្", "មែ", "រ", "ລ", "າ", "ວ"]),
        ("བོད་སྐད།", ["བོད", "སྐད"]),
        ("🙂 ?! ❤️ €", []),
    ],
)
def test_words_by_hand(text, expected):
    assert words(text) == expected
    assert words(unicodedata.normalize("NFD", text)) == expected, "one form of each character"


def test_written_words_keep_punctuation_and_are_of_unspaced_scripts_the_characters():
    assert written_words("Don't stop, été.") == ["don't", "stop,", "été."]
    assert written_words("罗马（首都），abc。") == ["罗", "马（", "首", "都），", "abc。"]
    assert written_words("“ก่อน” — ok") == ["“ก่", "อ", "น”", "—", "ok"]
    assert written_words("བོད་སྐད།") == ["བོད", "སྐད།"]


def test_lengths_and_diversity_count_characters_of_chinese_and_are_what_they_were_elsewhere():
    assert mean_length(["罗马是意大利的首都。"]) == 9
    assert mean_length(["Rome, the capital.", "Рим — столица."]) == 3
    assert distinct_n(["罗马罗马"], n=2) == pytest.approx(2 / 3)  # 罗马 twice, 马罗
    assert distinct_n(["the cat. the cat"], n=2) == 1, "cat. is not cat"


def test_rouge_of_other_scripts_by_hand():
    figures = {"rouge1": 1.0, "rouge2": 0.0, "rougeL": 1.0, "rougeLsum": 1.0, "rougeL_recall": 1.0}
    assert ROUGE.compute(predictions=["Рим"], references=["Рим"]) == figures
    # 7 words against 6: "в" twice and 1958 are shared, in one order "в ... 1958"
    row = ROUGE.score_pairs(["Он родился в 1958 году в Риме."], ["Она умерла в Париже в 1958."])[0]
    assert row["rouge1"] == pytest.approx(6 / 13) and row["rougeL"] == pytest.approx(4 / 13)
    assert row["rougeL_recall"] == pytest.approx(2 / 6)
    # 7 characters against 6, 是 and 的 are shared
    row = ROUGE.score_pairs(["罗马是意大利的"], ["巴黎是法国的"])[0]
    assert row["rougeL"] == pytest.approx(2 * 2 / 13)
    pairs = [("p t", "pâté"), ("ano", "año"), ("कि", "की"), ("running año", "runs año")]
    rows = ROUGE.score_pairs(*zip(*pairs, strict=True))
    assert [row["rouge1"] for row in rows] == [0, 0, 0, 1], "accents and vowel signs count, stems are of ASCII words"
    assert ROUGE.score_pairs(["cafe\u0301"], ["CAFÉ"])[0]["rouge1"] == 1


def test_agreement_of_samples_in_other_scripts():
    assert self_consistency(["Париж", "Рим", "Рим", "Рим"]) == pytest.approx([0, 2 / 3, 2 / 3, 2 / 3])
    assert self_consistency(["罗马", "罗城", "巴黎"]) == pytest.approx([1 / 4, 1 / 4, 0])


def test_near_duplicates_have_the_same_words():
    assert normalised("हिन्दी में") == "हिन्दी में" and normalised("कि") != normalised("की")
    assert normalised("ก่อน ＡＢＣ") == "ก่ อ น abc"


def test_references_without_a_word_are_counted():
    told = "caution: 2 of 3 true answers have no word (signs or emoji alone): ROUGE is 0 there"
    assert wordless(["🙂", "Рим", "?!"]) == [told] and wordless(["Рим", "罗"]) == []


@cases(400)
@given(ascii_texts, ascii_texts)
def test_ascii_has_rouge_scores_own_figures(prediction, reference):
    TRIED["ASCII texts in the metrics"] += 1
    own = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True).score(reference, prediction)
    row = ROUGE.score_pairs([prediction], [reference])[0]
    assert row == {name: score.fmeasure for name, score in own.items()} | {"rougeL_recall": own["rougeL"].recall}
    assert words(prediction) == tokenize(prediction, None)
    assert written_words(prediction) == prediction.lower().split()


@cases(400)
@given(texts | st.sampled_from([text for script in SCRIPTS.values() for text in script]))
def test_equal_texts_score_one_in_every_script(text):
    TRIED["texts of every script in the metrics"] += 1
    text = text[:300]
    row = ROUGE.score_pairs([text], [text])[0]
    there = float(bool(words(text)))
    assert row["rouge1"] == row["rougeL"] == row["rougeLsum"] == row["rougeL_recall"] == there
    for form in ("NFC", "NFD"):
        assert words(unicodedata.normalize(form, text)) == words(text)
    assert all(word == "".join(words(word)) and not word.isspace() for word in words(text))


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_has_words_that_score(script):
    for text in SCRIPTS[script]:
        TRIED["scripts"] += 1
        assert words(text) and words(text.upper()) == words(text)
        assert mean_length([text]) == len(written_words(text)) >= len(text.split())
        assert ROUGE.score_pairs([text.upper()], [text])[0]["rougeL"] == 1
        assert self_consistency([text, text, "x"]) == [0.5, 0.5, 0]
