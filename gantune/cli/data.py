"""`gantune data show FILE` and `gantune data clean IN OUT`: look at data before it is learned, and clean it."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gantune.cli.options import check_names
from gantune.command import OneLineParser
from gantune.data.cleaning import CleaningConfig, clean
from gantune.data.formats import FORMATS
from gantune.data.lengths import histogram, length_table
from gantune.data.near_duplicates import NEAR_DUPLICATE
from gantune.data.record_formats import RecordFormat
from gantune.data.sources import Source, open_source, pairs_of
from gantune.data.templates import TEMPLATES, build_template
from gantune.diagnostics.files import local_path
from gantune.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SOURCE = (
    "a .jsonl, .json, .csv, .tsv or .parquet file, a folder of them, mini-tofu, mini-dialogues, mini-records, tofu, "
    "or a Hub id"
)
CONTEXT = 8
"""Tokens before a token with which it is decoded: some tokenizers leave out the space of the first one."""


def run(arguments: Sequence[str]) -> None:
    """The command line after `gantune data`."""
    parsed = _parser().parse_args(arguments)
    check_names(vars(parsed))
    from gantune.cli.messages import messages_on_stderr

    with messages_on_stderr():
        parsed.command(parsed)


def show(options: Namespace) -> None:
    """Print one example as the model sees it, and how long all of them are."""
    import transformers

    from gantune.data.encoding import encode_pairs
    from gantune.hub.loading import load_tokenizer

    transformers.utils.logging.set_verbosity_error()  # long rows are what the statistics are for
    source = _open(options)
    pairs = pairs_of(source, options.answers)
    name = options.template or _template_of(source)
    template, tokenizer = build_template(name, options.system), load_tokenizer(options.model)
    if not 1 <= options.example <= len(pairs):
        raise UserError(f"--example {options.example}: expected 1 to {len(pairs)}, the number of examples")

    encoded, report = encode_pairs(pairs, tokenizer, template, sys.maxsize, sys.maxsize, "error")
    prompt_ids, answer_ids = encoded[options.example - 1][:2]
    end = answer_ids[-1]
    _print_format(source, options.format)
    silent = sum(not source.format.pairs(record) for record in source.records)
    print(f"rows: {len(source.records)}, examples: {len(pairs)}" + f", rows without a text: {silent}" * bool(silent))
    print(f"template: {name}, tokenizer: {options.model}, end token: {tokenizer.convert_ids_to_tokens(end)} (id {end})")
    print(f"\nexample {options.example}, each learned token in «»:\n")
    print(_marked(prompt_ids, answer_ids, tokenizer))
    if str(report):
        print(f"\n{report}")
    prompts, answers = [len(row.prompt_ids) for row in encoded], [len(row.answer_ids) for row in encoded]
    together = [sum(both) for both in zip(prompts, answers, strict=True)]
    print(f"\n{length_table({'prompt': prompts, 'answer': answers, 'together': together})}")
    for title, lengths in (("prompt", prompts), ("answer", answers)):
        print(f"\n{title} tokens, examples\n{histogram(lengths)}")


def clean_file(options: Namespace) -> None:
    """Write the rows that stay, and the rows left out with the reasons."""
    report = options.report or f"{options.output}.dropped.jsonl"
    for path in (options.output, report):
        if any(local_path(path).resolve() == Path(read).resolve() for read in (options.source, options.test) if read):
            raise UserError(f"{path}: would be overwritten while it is read, expected another file")
    if Path(options.output).suffix.lower() != ".jsonl":
        raise UserError(f"{options.output}: expected a .jsonl file, one JSON object a line")
    names = [name for name in CleaningConfig.__dataclass_fields__ if name != "forbidden"]
    config = CleaningConfig(
        **{name: getattr(options, name) for name in names}, forbidden=tuple(options.forbidden or ())
    )
    source = _open(options)
    test = None
    if options.test and config.decontamination:
        columns = (options.question_column, options.answer_column)
        test = pairs_of(open_source(options.test, *columns, options.test_split), "every")
    cleaned = clean(source, config, test)

    _write_rows(options.output, (record.values for record in cleaned.kept))
    _write_rows(
        report,
        (
            {"where": row.record.where, "step": row.step, "reason": row.reason, "row": row.record.values}
            for row in cleaned.dropped
        ),
    )
    _print_format(source, options.format)
    print(f"{'rows read':<20}{len(source.records) + len(source.left_out):>8}")
    for step, count in cleaned.counts.items():
        print(f"{step:<20}{-count:>8}")
    if config.decontamination and test is None:
        print("decontamination: not done, no test set (--test)")
    print(f"{'rows written':<20}{len(cleaned.kept):>8}  {options.output}")
    print(f"{'rows left out':<20}{len(cleaned.dropped):>8}  {report}")


def _parser() -> ArgumentParser:
    parser = OneLineParser(prog="gantune data", description="Look at data before it is learned, and clean it.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Any, summary: str) -> ArgumentParser:
        added = commands.add_parser(
            name, help=summary, description=summary, formatter_class=ArgumentDefaultsHelpFormatter
        )
        added.set_defaults(command=command)
        added.add_argument("source", metavar="IN" if name == "clean" else "FILE", help=SOURCE)
        added.add_argument("--format", help=f"of the rows: {', '.join(FORMATS.names())} (None: by the columns)")
        added.add_argument("--question-column", default="question", help="of format question-answer")
        added.add_argument("--answer-column", default="answer", help="of format question-answer")
        added.add_argument("--split", default="train", help="of a Hub data set")
        return added

    looked = add("show", show, "print an example with its learned tokens marked, and statistics of the lengths")
    looked.add_argument("--answers", choices=("last", "every"), default="last", help="of a conversation, to learn")
    looked.add_argument(
        "--template", help=f"{', '.join(TEMPLATES.names())} (None: plain; text for raw text, record for records)"
    )
    looked.add_argument("--system", help="system prompt before every question that has none")
    looked.add_argument("--model", default="mini", help="whose tokenizer: mini, a folder, or a Hub id")
    looked.add_argument("--example", type=int, default=1, help="number of the example printed")

    cleaned = add("clean", clean_file, "leave out rows, and write down which and why")
    cleaned.add_argument("output", metavar="OUT", help="a .jsonl file for the rows that stay, as they are")
    cleaned.add_argument("--report", help="a .jsonl file for the rows left out (None: OUT.dropped.jsonl)")
    for name in ("question", "answer"):
        cleaned.add_argument(f"--min-{name}", type=int, help=f"fewest characters, {name}")
        cleaned.add_argument(f"--max-{name}", type=int, help=f"most characters, {name}")
    cleaned.add_argument("--forbidden", nargs="+", metavar="PHRASE", help="leave out rows that hold one, in any case")
    for name, summary in (
        ("format-check", "leave out rows that are not as the format wants them; else the first is an error"),
        ("exact-duplicates", "leave out rows that repeat an earlier one"),
        ("near-duplicates", "leave out rows nearly the same as an earlier one"),
        ("decontamination", "leave out rows that the test set holds too, word for word or nearly"),
    ):
        cleaned.add_argument(f"--{name}", action=BooleanOptionalAction, default=True, help=summary)
    cleaned.add_argument(
        "--similarity", type=float, default=NEAR_DUPLICATE, help="least Jaccard similarity of near-duplicates"
    )
    cleaned.add_argument("--test", metavar="SOURCE", help="the test set")
    cleaned.add_argument("--test-split", default="test", help="its split, of a Hub data set")
    return parser


def _open(options: Namespace) -> Source:
    return open_source(
        options.source, options.question_column, options.answer_column, options.split, format=options.format
    )


def _template_of(source: Source) -> str:
    """The template that the rows of a format are usually put with."""
    if source.format_name == "text":
        return "text"
    return "record" if isinstance(source.format, RecordFormat) else "plain"


def _print_format(source: Source, forced: str | None) -> None:
    how = "as --format says" if forced else "found by the columns"
    print(f"format: {source.format_name} ({how}: {', '.join(source.format.columns)})")


def _marked(prompt_ids: list[int], answer_ids: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of a sequence, each learned token between «»; tokens that share a character share the marks."""
    ids, first, marked = prompt_ids + answer_ids, len(prompt_ids), tokenizer.decode(prompt_ids)
    for stop in range(first + 1, len(ids) + 1):
        start = max(first - CONTEXT, 0)
        before, text = tokenizer.decode(ids[start:first]), tokenizer.decode(ids[start:stop])
        if text.endswith("\ufffd") and stop < len(ids):
            continue
        marked += f"«{text[len(before) :]}»"
        first = stop
    return marked


def _write_rows(path: str, rows: Iterator[dict[str, Any]]) -> None:
    """One JSON object a line; what JSON has no form for, such as a date, is written as text."""
    from gantune.diagnostics.files import write_atomically

    lines = []
    for row in rows:
        line = json.dumps(row, ensure_ascii=False, default=str)
        try:
            line.encode()
        except UnicodeEncodeError:  # half a surrogate pair, which only an escape can spell
            line = json.dumps(row, default=str)
        lines.append(f"{line}\n")
    write_atomically(path, "".join(lines))
