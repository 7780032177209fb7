"""`gantune generate`: answers of what was tuned, streamed one by one or as JSON lines."""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from functools import partial

from gantune.cli.adapters import Adapter, add_adapter_options, load_adapter, seeded_noise
from gantune.cli.messages import messages_on_stderr
from gantune.command import OneLineParser
from gantune.data.prompts import as_records, questions_in, questions_in_text
from gantune.data.sources import READERS
from gantune.diagnostics.files import local_path
from gantune.errors import UserError
from gantune.field_types import check_range
from gantune.tuning import MAX_SEED

PROMPT = "> "


@messages_on_stderr()
def run(arguments: Sequence[str]) -> None:
    """Answer as the command line says."""
    options = _parser().parse_args(arguments)
    _check(options)
    questions = _questions(options)
    adapter = load_adapter(options)
    if options.max_new_tokens is not None:
        config = dataclasses.replace(adapter.config, max_completion_length=options.max_new_tokens)
        adapter = adapter._replace(config=config)
    import torch

    torch.manual_seed(options.seed)
    if options.file is None:
        for number, question in enumerate(questions):
            _stream(adapter, question, number, options)
    else:
        _write_lines(adapter, list(questions), options)


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="gantune generate",
        description="Answer a question, each one of a file, or one after the other from a prompt.",
    )
    add_adapter_options(parser)
    parser.add_argument("question", nargs="?", help="without it and --file you are asked for one, again and again")
    parser.add_argument(
        "--file",
        help=f"one question a line, or a {', '.join(READERS)} file; - is standard input; the answers are JSON lines",
    )
    parser.add_argument("--question-column", default="question", help="of a file with columns (question)")
    parser.add_argument("--noise", choices=("zero", "random"), default="zero", help="of the generator (zero)")
    parser.add_argument("--temperature", type=float, default=0.0, help="of sampling; 0, the default, is greedy")
    parser.add_argument("--samples", type=int, default=1, help="answers to each question (1)")
    parser.add_argument("--seed", type=int, default=0, help="of sampling and noise (0)")
    parser.add_argument("--max-new-tokens", type=int, help="longest answer (as it was trained)")
    parser.add_argument("--batch-size", type=int, default=32, help="questions of a file that are answered at once (32)")
    return parser


def _check(options: Namespace) -> None:
    if options.question is not None and options.file is not None:
        raise UserError("expected a question or --file, not both")
    if options.question is not None and not options.question.strip():
        raise UserError("the question is empty, expected a text")
    check_range(options, "at least 0", "temperature")
    check_range(options, "at least 1", "samples", "batch_size")
    if options.max_new_tokens is not None:
        check_range(options, "at least 1", "max_new_tokens")
    if not 0 <= options.seed <= MAX_SEED:
        raise UserError(f"--seed {options.seed}: expected 0 to {MAX_SEED}")
    if options.samples > 1 and options.temperature == 0 and options.noise == "zero":
        raise UserError(
            f"--samples {options.samples}: greedy answers with zero noise are all the same, expected --temperature "
            "above 0 or --noise random"
        )


def _questions(options: Namespace) -> Iterator[str] | list[str]:
    """What is to be answered; a terminal is asked as the answers come."""
    if options.question is not None:
        return as_records([options.question.strip()])
    if options.file is not None:
        return read_questions(options.file, options.question_column)
    if not sys.stdin.isatty():
        raise UserError("no question: expected one as an argument, --file FILE (- is standard input), or a terminal")
    return _ask()


def _ask() -> Iterator[str]:
    """Questions typed on the terminal, until an empty one or the end of the input."""
    print("A question and Enter; an empty one ends.", file=sys.stderr)
    try:
        yield from (as_records([line])[0] for line in iter(lambda: input(PROMPT).strip(), ""))
    except EOFError:
        print(file=sys.stderr)


def read_questions(path: str, column: str) -> list[str]:
    """The questions in a file, or its records: in a column, or one a line, of which blank ones hold none.

    If there are none, or one cannot be read, the [`UserError`] names the file and the row.
    """
    file = local_path(path)
    try:
        data = sys.stdin.buffer.read() if path == "-" else file.read_bytes()
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from error
    if reader := READERS.get(file.suffix.lower()):
        questions = questions_in(path, list(reader(path, data)), column)
    else:
        questions = questions_in_text(path, data)
    if not questions:
        raise UserError(f"{path}: holds no question")
    return questions


def _stream(adapter: Adapter, question: str, number: int, options: Namespace) -> None:
    """Print the answers to one question, each on lines of its own, as they come."""
    from gantune.cli.streaming import AnswerStreamer

    model, tokenizer, _ = adapter
    for sample in range(options.samples):
        streaming = copy.copy(model)
        streaming.generate = partial(model.generate, streamer=AnswerStreamer(tokenizer))
        _answers(adapter._replace(model=streaming), [question], number, sample, options)


def _write_lines(adapter: Adapter, questions: list[str], options: Namespace) -> None:
    """Print one JSON object an answer, in the order of the questions; with several samples also their number."""
    for start in range(0, len(questions), options.batch_size):
        asked = questions[start : start + options.batch_size]
        drawn = [_answers(adapter, asked, start, sample, options) for sample in range(options.samples)]
        for question, answers in zip(asked, zip(*drawn, strict=True), strict=True):
            for sample, answer in enumerate(answers, start=1):
                row = {"question": question} | ({"sample": sample} if options.samples > 1 else {}) | {"answer": answer}
                print(json.dumps(row, ensure_ascii=False), flush=True)


def _answers(adapter: Adapter, questions: list[str], first: int, sample: int, options: Namespace) -> list[str]:
    """One answer to each question; `first` is the number of the first, which with `sample` seeds the noise."""
    from gantune.generation.generate import generate_answers

    seed = options.seed + first * options.samples + sample
    noise = seeded_noise(adapter.model, len(questions), seed) if options.noise == "random" else None
    how = {"batch_size": options.batch_size, "temperature": options.temperature, "noise": noise}
    return generate_answers(adapter.model, adapter.tokenizer, questions, adapter.config, **how)
