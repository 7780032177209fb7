"""The words of a text in any script: what ROUGE, consensus, diversity, lengths and near-duplicates count."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

WORD_TOKENIZER = "unicode-words"
"""Stands beside figures; those of earlier versions are of rouge-score's own words, which are runs of a-z and 0-9."""

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u9fff\ua9e0-\ua9ff"
    "\uaa60-\uaa7f\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
"""Thai, Lao, Burmese, Khmer, kana, Bopomofo and Chinese, which write no blanks, as in a regular expression's []."""

SPACES = r"\s\u0f0b\u0f0c\u1361\u200b"  # Tibetan's between syllables, Ethiopic's between words, the one of no width
IGNORED = re.compile("[\u00ad\u061c\u200c-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")  # soft hyphen, joiners, directions


def caseless(text: str) -> str:
    """One case and one form of each character (Unicode's canonical caseless match); accents stay, invisible ones go."""
    return unicodedata.normalize("NFC", IGNORED.sub("", unicodedata.normalize("NFD", text).casefold()))


@cache
def marks() -> str:
    """Every combining mark, such as an accent or a vowel sign of Hindi, as in a regular expression's []."""
    return "".join(mark for mark in map(chr, range(0x300, 0x20000)) if unicodedata.category(mark)[0] == "M")


def words(text: str) -> list[str]:
    """Runs of letters and digits with their marks, [`caseless`]; of scripts in `UNSPACED`, each character by itself.

    Punctuation, signs and emoji are in no word, and end one. Of ASCII, these are the words of rouge-score.
    """
    return _patterns()[0].findall(caseless(text))


def written_words(text: str) -> list[str]:
    """What stands between blanks with its punctuation, [`caseless`]; of scripts in `UNSPACED`, as in [`words`]."""
    return _patterns()[1].findall(caseless(text))


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    alone, letter = rf"(?=\w)[{UNSPACED}]", rf"[^\W_{UNSPACED}]"
    mark = rf"(?=[^\w\x00-\x7f])[{marks()}]"  # the long class is only looked through where a mark may stand
    beside = rf"[^\w{SPACES}]*"
    bare = rf"{alone}(?:{mark})*|{letter}+(?:{mark}{letter}*)*"
    return re.compile(bare), re.compile(rf"{beside}{alone}{beside}|[^{SPACES}{UNSPACED}]+")
