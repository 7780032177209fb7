"""What nobody means to give and somebody will: texts, values, rows and files for property-based tests.

The cases are the same in every run. How many there were is counted in `TRIED`, and printed after the tests.
"""

# ruff: noqa: RUF001

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pyarrow
import pyarrow.parquet
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from gantune.data import FORMATS
from gantune.errors import UserError

TRIED: Counter[str] = Counter()
"""Cases tried, by what they were given to."""

LONGEST_MESSAGE = 2000


def cases(number: int) -> Callable[[Callable], Callable]:
    """Decorator beside `@given`: so many cases, always the same ones, however slow the machine is."""
    unhurried = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(
        max_examples=number,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=unhurried,
    )


@contextmanager
def refused_at_most(given_to: str) -> Iterator[list[str]]:
    """Count a case; in the block only a UserError may be raised, and it has to be one line that a terminal shows.

    Args:
        given_to: what is tried.

    Yields:
        A list that holds the message after the block, if there was one.
    """
    TRIED[given_to] += 1
    told: list[str] = []
    try:
        yield told
    except UserError as error:
        told.append(str(error))
        check_message(str(error))


def check_message(message: str) -> None:
    """A message is one line, not too long, and nothing in it that a terminal would act on."""
    assert message.strip() and message.isprintable(), repr(message)
    assert len(message) <= LONGEST_MESSAGE, f"{len(message)} characters: {message[:200]!r}"


SPELLED = (
    "<|endoftext|>", "<eos>", "</s>", "<s>", "<pad>", "<|im_end|>", "<|im_start|>system\n", "[INST]", "<|eot_id|>",
    "<end_of_turn>", "### Response:", "\nAnswer:", "{}", "{0.__class__}", "{{ 7 * 7 }}", "{% raise %}", "%s", "\\",
    "\ufdd0", "\ufeff", "../../etc/passwd", "<script>alert(1)</script>", "'; DROP TABLE questions; --",
    '"', ",,,", "NaN", "null",
)  # fmt: skip
EMOJI = ("🙂", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇮🇪", "👍🏿", "1️⃣", "❤️")

SCRIPTS: dict[str, tuple[str, ...]] = {
    "Latin": ("Où est le pâté de l’été ?", "El año que viene", "Straße, Łódź, Đà Nẵng", "İstanbul şehri"),
    "Cyrillic": ("Он родился в 1958 году.", "Їжак і ґанок", "Рим"),
    "Greek": ("Ο Οδυσσέας, ᾳ ΐ", "Ρώμη"),
    "Armenian and Georgian": ("Հռոմը մայրաքաղաք է։", "რომი დედაქალაქია"),
    "Hebrew": ("הוא נולד בשנת 1958", "שָׁלוֹם"),
    "Arabic and Persian": ("ولد عام ١٩٥٨", "مَرْحَبًا", "می‌خواهم بروم"),
    "Indic": ("हिन्दी में क्षि", "বাংলা ভাষা", "தமிழ் மொழி", "తెలుగు", "ਪੰਜਾਬੀ", "ಕನ್ನಡ", "മലയാളം", "සිංහල"),
    "Chinese": ("罗马是意大利的首都。", "他生于1958年", "𠮷野家", "葛󠄀城"),
    "Japanese": ("東京は首都です。", "ラーメンを食べた", "ﾗｰﾒﾝ", "がき"),
    "Korean": ("로마는 이탈리아의 수도입니다.", "한국"),
    "Thai, Lao, Khmer, Burmese": ("กรุงโรมเป็นเมืองหลวง", "ກຸງໂຣມ", "ភ្នំពេញ", "ရန်ကုန်မြို့", "น้ำ"),
    "Tibetan and Ethiopic": ("བོད་སྐད།", "ሮማ፡ዋና፡ከተማ"),
    "other planes": ("𐌰𐌱𐌲", "𞤀𞤣𞤤𞤢𞤥", "𝒜𝓁𝒾"),
}
"""Texts with words, by script; the last one's letters are past U+FFFF."""

TEXTS: dict[str, st.SearchStrategy[str]] = {
    "empty": st.just(""),
    "white space": st.text(" \t\n\r\v\f\u00a0\u2003\u2028\u2029\u3000\u200b", min_size=1, max_size=20),
    "enormous": st.builds(
        lambda part, times: part * times, st.sampled_from(["a", "é ", "word ", "🙂", "\u0301"]), st.integers(2000, 8000)
    ),
    "control characters": st.text(st.characters(categories=["Cc", "Cf"]), min_size=1, max_size=20),
    "right to left": st.text("אבגדשלוםمرحبا ؟\u200f\u202b\u202e\u2067abc", min_size=1, max_size=30),
    "combining": st.builds(
        "{}{}{}".format,
        st.text(max_size=3),
        st.text("\u0300\u0301\u0323\u0489\u20dd\u0e33", min_size=1),
        st.sampled_from(["", "a", " क्षि", "한", "ﷺ"]),
    ),
    "lone surrogates": st.builds(
        "{}{}{}".format, st.text(max_size=5), st.characters(categories=["Cs"]), st.text(max_size=5)
    ),
    "scripts": st.lists(st.sampled_from([text for of in SCRIPTS.values() for text in of]), min_size=1, max_size=4).map(
        " ".join
    ),
    "emoji": st.lists(st.sampled_from(EMOJI), min_size=1, max_size=8).map("".join),
    "NUL": st.builds("{}\0{}".format, st.text(max_size=5), st.text(max_size=5)),
    "spelled": st.builds(
        "{}{}{}".format,
        st.sampled_from(["", "who is ", " "]),
        st.sampled_from(SPELLED),
        st.sampled_from(["", "?", "\n"]),
    ),
    "any": st.text(max_size=40),
    "plain": st.text("abcdefgh ?", min_size=1, max_size=40),
}
"""Texts of every kind, by kind."""

texts = st.one_of(list(TEXTS.values()))

nested = st.builds(
    lambda depth, square: ("[" * depth + "]" * depth) if square else '{"a":' * depth + "1" + "}" * depth,
    st.sampled_from([1, 50, 5000, 200_000]),
    st.booleans(),
)
"""Deeply nested JSON, as text."""

scalars = st.one_of(
    texts, st.none(), st.booleans(), st.integers(), st.just(10**400), st.floats(), st.binary(max_size=5).map(repr)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
"""Whatever JSON can hold."""

OPTIONAL = sorted({column for name in FORMATS.names() for column in FORMATS.get(name).optional_columns})
COLUMNS = sorted({column for name in FORMATS.names() for column in FORMATS.get(name).columns} | {*OPTIONAL})


def turns() -> st.SearchStrategy[Any]:
    """Conversations that are nearly right."""
    role = st.sampled_from(["system", "user", "assistant", "human", "gpt", "tool", "", None, 3])
    weight = st.sampled_from([0, 1, None]) | values
    turn = st.one_of(
        st.fixed_dictionaries({"role": role, "content": texts | values}, optional={"weight": weight}),
        st.fixed_dictionaries({"from": role, "value": texts | values}),
        st.dictionaries(st.sampled_from(["role", "from", "content", "value", "x"]), values, max_size=3),
        values,
    )
    good = st.tuples(texts, texts).map(
        lambda pair: [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    )
    return good | st.lists(turn, max_size=4) | values


def rows() -> st.SearchStrategy[dict[str, Any]]:
    """Rows that have the columns of a format, or nearly."""
    beside = dict.fromkeys(OPTIONAL, texts | values)
    beside["history"] |= st.lists(st.lists(texts, min_size=2, max_size=2), max_size=2)
    beside["label"] |= st.sampled_from([True, False, 1, 0, "true", "false"])
    of_format = st.sampled_from(FORMATS.names()).flatmap(
        lambda name: st.fixed_dictionaries(
            {
                column: turns() | texts if column in ("messages", "conversations") else texts | values
                for column in FORMATS.get(name).columns
            },
            optional={column: beside[column] for column in FORMATS.get(name).optional_columns},
        )
    )
    pair = st.fixed_dictionaries({"question": texts, "answer": texts})
    return pair | of_format | st.dictionaries(st.sampled_from(COLUMNS) | texts, values, max_size=3)


def tables() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Rows of one file: several of a kind, repeated ones, strangers among them."""
    repeated = st.builds(lambda row, times: [row] * times, rows(), st.integers(1, 4))
    return st.lists(rows(), max_size=5) | repeated | st.builds(list.__add__, repeated, st.lists(rows(), max_size=2))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # a lone surrogate becomes bytes that are not UTF-8


def _jsonl(table: list[dict[str, Any]], escaped: bool) -> bytes:
    return _encoded("".join(json.dumps(row, ensure_ascii=escaped) + "\n" for row in table))


NESTED = {
    "an array": lambda table: table,
    "a field": lambda table: {"version": "1", "data": table},
    "several fields": lambda table: {"train": table, "test": table, "n": 3},
    "a row": lambda table: table[0] if table else {},
    "rows by name": lambda table: {str(number): row for number, row in enumerate(table)},
    "columns": lambda table: {column: [row.get(column) for row in table] for row in table for column in row},
    "deep": lambda table: {"data": {"data": [table]}},
}
"""Ways to hold a table in one JSON value."""


def _json(table: list[dict[str, Any]], escaped: bool, way: str, indent: int | None) -> bytes:
    return _encoded(json.dumps(NESTED[way](table), ensure_ascii=escaped, indent=indent))


def _csv(table: list[dict[str, Any]], quoted: bool, delimiter: str) -> bytes:
    file = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    writer = csv.writer(file, quoting=quoting, escapechar="\\", delimiter=delimiter)
    columns = list(dict.fromkeys(column for row in table for column in row))
    writer.writerow(columns)
    for row in table:
        writer.writerow([row.get(column, "") for column in columns])
    return _encoded(file.getvalue())


def damaged(content: bytes, places: list[tuple[int, int]], length: float) -> bytes:
    """Some bytes replaced, and the end cut off."""
    changed = bytearray(content[: max(1, round(length * len(content)))])
    for place, byte in places:
        changed[place % len(changed)] = byte
    return bytes(changed)


def _whole_or_damaged(content: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    places = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3)
    return content | st.builds(damaged, content.filter(bool), places, st.sampled_from([1.0, 1.0, 0.9, 0.5]))


def _parquet() -> st.SearchStrategy[bytes]:
    """Columns of every kind of type, under the names of a format."""
    clean = texts.map(lambda text: text.encode("utf-8", "replace").decode())
    kinds = st.sampled_from(
        [
            (pyarrow.string(), clean),
            (pyarrow.large_string(), clean),
            (pyarrow.binary(), st.binary(max_size=8)),
            (pyarrow.int64(), st.integers(-(2**63), 2**63 - 1)),
            (pyarrow.float32(), st.floats(width=32)),
            (pyarrow.bool_(), st.booleans()),
            (pyarrow.null(), st.none()),
            (pyarrow.timestamp("ns"), st.integers(-(2**63) + 1, 2**63 - 1)),
            (pyarrow.timestamp("s", tz="Nowhere/Land"), st.integers(-(2**40), 2**40)),
            (pyarrow.date64(), st.integers(-(10**15), 10**15)),
            (pyarrow.duration("s"), st.integers(-(10**15), 10**15)),
            (pyarrow.decimal128(38, 0), st.decimals(-(10**30), 10**30, places=0)),
            (pyarrow.list_(pyarrow.string()), st.lists(clean, max_size=3)),
            (
                pyarrow.map_(pyarrow.string(), pyarrow.int64()),
                st.lists(st.tuples(clean, st.integers(0, 9)), max_size=2),
            ),
            (
                pyarrow.list_(pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])),
                st.lists(
                    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", ""]), "content": clean}),
                    max_size=3,
                ),
            ),
        ]
    )
    names = st.sampled_from(
        [("question", "answer"), ("messages",), ("text",), ("question", "question"), ("", "answer")]
    )

    @st.composite
    def file(draw: st.DrawFn) -> bytes:
        rows_, columns = draw(st.integers(0, 4)), draw(names)
        arrays = []
        for _ in columns:
            kind, cells = draw(kinds)
            drawn = draw(st.lists(st.none() | cells, min_size=rows_, max_size=rows_))
            if pyarrow.types.is_temporal(kind):
                arrays.append(pyarrow.array(drawn, pyarrow.int64()).cast(kind, safe=False))
            else:
                arrays.append(pyarrow.array(drawn, kind))
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table(arrays, names=list(columns)), buffer)
        return buffer.getvalue()

    return file()


@cache  # strategies are validated when first used
def files(suffix: str) -> st.SearchStrategy[bytes]:
    """Contents of a data file with this suffix: rows of every kind, damaged ones, and none at all."""
    if suffix == ".parquet":
        return _whole_or_damaged(_parquet()) | st.binary(max_size=40)
    ways = {
        ".jsonl": (_jsonl,),
        ".json": (_json, st.sampled_from([*NESTED]), st.sampled_from([None, 1])),
        ".csv": (_csv, st.sampled_from(",;\t")),
        ".tsv": (_csv, st.sampled_from("\t;,")),
    }
    write, *how = ways[suffix]
    stray = texts.map(_encoded) | nested.map(_encoded) | nested.map(lambda text: _encoded(f'{{"question": {text}}}'))
    return _whole_or_damaged(st.builds(write, tables(), st.booleans(), *how)) | stray | st.binary(max_size=40)
