"""Judging answers: what verdicts come to, which are asked for, what is stored and what is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.compare.__main__ import main
from benchmarks.judge import JUDGES, VERDICTS, Duel, LanguageModelJudge, build_judge
from benchmarks.judge.answers import answer_pairs
from benchmarks.judge.figures import against_rival, figures, outcome, trust
from benchmarks.judge.judging import judge_comparison
from benchmarks.judge.language_model import PROMPT
from benchmarks.judge.records import join_records, read_records
from benchmarks.judge.table import HEADING, cautions, judged, judged_tables
from benchmarks.report import write_report
from benchmarks.report.page import content, render
from benchmarks.report.read import read_comparison
from benchmarks.statistics import paired_bootstrap
from gantune.errors import UserError
from tests.test_report import HOSTILE, Browser, needs_chromium, run_row, write_comparison, write_lines
from tests.tiny_models import SHAPE, build
from tests.tiny_tokenizer import tiny_tokenizer


class FakeJudge:
    """Prefers the answer with more of the letter x; between equal ones it takes the first place, and says so."""

    parameters = None

    def __init__(self, argument: str = "", device: str = "cpu", dtype: str = "float32") -> None:
        self.identity, self.asked = f"fake {argument}".strip(), []

    def verdicts(self, duels):
        self.asked += duels
        return [self._verdict(duel.first.count("x"), duel.second.count("x")) for duel in duels]

    def _verdict(self, first, second):
        if max(first, second) > 9:
            return None
        return "A" if first >= second else "B"


class Broken(FakeJudge):
    """Stops after the first write."""

    def verdicts(self, duels):
        if self.asked:
            raise KeyboardInterrupt
        return super().verdicts(duels)


def judged_row(verdicts, gap=0.0, method="gan", seed=0, identical=False):
    first, second = {"-": (None, None)}.get(verdicts) or [{"t": "tie"}.get(one, one) for one in verdicts]
    return {"method": method, "seed": seed, "method_first": first, "rival_first": second} | {
        "identical": identical,
        "rouge_gap": gap,
    }


# ---- Figures


def test_only_an_answer_that_is_better_in_both_orders_wins():
    won = {
        verdicts: outcome(judged_row(verdicts)) for verdicts in ("AB", "BA", "AA", "BB", "tt", "At", "tA", "tB", "-")
    }
    assert won == {"AB": 1, "BA": -1, "AA": 0, "BB": 0, "tt": 0, "At": 0, "tA": 0, "tB": 0, "-": None}
    assert outcome(judged_row("-", identical=True)) == 0


def test_wins_and_their_interval_are_those_of_the_outcomes():
    rows = [judged_row(verdicts, seed=seed) for seed, of in enumerate((["AB", "AB", "AA"], ["AB", "BA", "tt", "-"]))
            for verdicts in of]  # fmt: skip
    found = against_rival(rows)
    expected = paired_bootstrap([[1, 1, 0], [1, -1, 0]])
    assert (found["wins"], found["ties"], found["losses"]) == (3, 2, 1)
    assert found["margin"] == pytest.approx((2 / 3 + 0) / 2) == pytest.approx(expected.difference)
    assert found["low"] == max(expected.low, -1) and found["high"] == min(expected.high, 1)
    assert against_rival([judged_row("AB")] * 3)["low"] is None, "nothing tells the spread"
    assert against_rival([judged_row("-")])["margin"] is None


def test_position_bias_consistency_and_agreement_by_hand():
    rows = [
        judged_row("AB", 0.3),  # consistent, as ROUGE-L
        judged_row("BA", 0.1),  # consistent, against ROUGE-L
        judged_row("AA", -0.2),  # the first place twice
        judged_row("AA", 0.0),
        judged_row("tt", 0.4),  # consistent
        judged_row("At", -0.1),
        judged_row("AB", 0.0),  # consistent, ROUGE-L undecided
        judged_row("-", 0.9),
        judged_row("-", 0.0, identical=True),
    ]
    found = trust(rows)
    assert (found["asked"], found["identical"], found["not_judged"]) == (7, 1, 1)
    # first places: AB 1, BA 1, AA 2, AA 2, At 1, AB 1; second places: AB 1, BA 1, AB 1; ties: tt 2, At 1
    assert found["decided"] == 8 + 3 and found["first"] == pytest.approx(8 / 11)
    assert found["tie"] == pytest.approx(3 / 14)
    assert found["consistency"] == pytest.approx(4 / 7)
    assert (found["compared"], found["agreement"]) == (2, 0.5)
    # outcomes 1 -1 0 0 0 0 1, gaps .3 .1 -.2 0 .4 -.1 0. Of 21 pairs 7 have equal outcomes (6 of the zeros, 1 of the
    # ones), 1 has equal gaps, none both. Concordant 6, discordant 7 of the other 13, counted by hand:
    # .3>{-.2,0,-.1} .3>.1 (4 up), .3<.4 (1 down); -1: .1 above -.2, 0, -.1 (3 down), below .4 (1 up); last 1 with gap
    # 0: above -.2, -.1 (2 up), below .4 (1 down), below the -1's .1 (1 down), equal to 0. So 7 up, 6 down
    assert found["tau"] == pytest.approx((7 - 6) / ((21 - 7) * (21 - 1)) ** 0.5)


def test_a_judge_without_anything_to_count_has_no_shares():
    nothing = trust([judged_row("-", identical=True)])
    assert [nothing[key] for key in ("first", "tie", "consistency", "agreement", "tau")] == [None] * 5
    assert trust([judged_row("tt")])["first"] is None


# ---- What is asked


def sample(question, answer, rouge):
    return {"question": question, "reference": f"{question}!", "answer": answer, "scores": {"rougeL": rouge}}


ANSWERS = {  # by method and seed, questions q0, q1, q2
    ("lora", 0): ["x", "xx", "same"],
    ("gan", 0): ["xxx", "x", " same"],
    ("base", 0): ["o", "oxx", "x" * 10],
    ("lora", 1): ["x", "x", "x"],
    ("gan", 1): ["xx", "xx", "o"],
}


def write(directory: Path, answers=ANSWERS) -> Path:
    rows = [run_row(method, seed, 0.5, directory=f"runs/{method}-seed{seed}") for method, seed in answers]
    for (method, seed), texts in answers.items():
        samples = [sample(f"q{place}", text, text.count("x") / 10) for place, text in enumerate(texts)]
        write_lines(directory / f"runs/{method}-seed{seed}/samples.jsonl", samples)
    settings = {"methods": [*{method for method, _ in answers}], "seeds": [*{seed for _, seed in answers}]}
    return write_comparison(directory, rows, **settings)


def rows_of(directory):
    return read_comparison(directory).rows


def test_both_orders_are_asked_once_and_identical_answers_not_at_all(tmp_path):
    directory, judge = write(tmp_path), FakeJudge()
    record = judge_comparison(directory, rows_of(directory), judge, "lora", 9)
    assert Duel("q0", "q0!", "xxx", "x") in judge.asked and Duel("q0", "q0!", "x", "xxx") in judge.asked
    assert len(judge.asked) == 2 * (9 - 1) and not any(
        "same" in duel.first and "same" in duel.second for duel in judge.asked
    )
    told = {
        (row["method"], row["seed"], row["place"]): (row["method_first"], row["rival_first"]) for row in record["rows"]
    }
    assert told == {
        ("gan", 0, 0): ("A", "B"), ("gan", 0, 1): ("B", "A"), ("gan", 0, 2): (None, None),
        ("base", 0, 0): ("B", "A"), ("base", 0, 1): ("A", "A"), ("base", 0, 2): (None, None),
        ("gan", 1, 0): ("A", "B"), ("gan", 1, 1): ("A", "B"), ("gan", 1, 2): ("B", "A"),
    }  # fmt: skip
    gan, base = record["figures"]["methods"]
    assert [gan[name] for name in ("method", "wins", "ties", "losses", "identical")] == ["gan", 3, 1, 2, 1]
    assert [base[name] for name in ("wins", "ties", "losses", "not_judged")] == [0, 1, 1, 1]
    assert record["figures"]["judge"]["first"] == pytest.approx(8 / 14)
    assert json.loads((directory / "judge.json").read_text())["judges"] == [record] == read_records(directory)


def test_what_was_judged_is_not_asked_again_and_more_questions_include_fewer(tmp_path):
    directory, judge = write(tmp_path), FakeJudge()
    first = judge_comparison(directory, rows_of(directory), judge, "lora", 1)
    assert len(first["rows"]) == 3 == first["pairs"]
    once = len(judge.asked)
    whole = judge_comparison(directory, rows_of(directory), judge, "lora", 3)
    assert len(judge.asked) == 2 * 8 > once
    assert judge_comparison(directory, rows_of(directory), judge, "lora", 2) == whole, "the larger number stays"
    changed = {**ANSWERS, ("gan", 1): ["xx", "new", "o"]}
    judge.asked.clear()
    judge_comparison(write(tmp_path, changed), rows_of(directory), judge, "lora", 3)
    assert {duel.question for duel in judge.asked} == {"q1"} and len(judge.asked) == 2
    judge_comparison(directory, rows_of(directory), FakeJudge("other"), "lora", 3)
    judge_comparison(directory, rows_of(directory), judge, "base", 3)
    kept = [(record["identity"], record["rival"]) for record in read_records(directory)]
    assert kept == [("fake", "lora"), ("fake other", "lora"), ("fake", "base")]


def test_a_judge_that_is_stopped_goes_on(tmp_path):
    answers = {("lora", 0): [f"a{i}" for i in range(20)], ("gan", 0): [f"x{i}" for i in range(20)]}
    directory = write(tmp_path, answers)
    with pytest.raises(KeyboardInterrupt):
        judge_comparison(directory, rows_of(directory), Broken(), "lora", 20)
    (one,) = judged(directory)
    assert one.lines == ["stopped after 16 of 20 pairs; the same command goes on from there"]
    judge = FakeJudge()
    record = judge_comparison(directory, rows_of(directory), judge, "lora", 20)
    assert len(judge.asked) == 2 * 4 and record["figures"]["methods"][0]["wins"] == 20
    assert [row["place"] for row in record["rows"]] == list(range(20))


def test_what_cannot_be_judged_is_refused(tmp_path):
    directory = write(tmp_path)
    with pytest.raises(UserError, match=r"--judge-rival mle: expected a method with stored answers .*lora, gan, base"):
        answer_pairs(directory, rows_of(directory), "mle", 5)
    with pytest.raises(UserError, match="no answers beside those of lora"):
        answer_pairs(directory, rows_of(directory)[:1], "lora", 5)
    write_lines(directory / "runs/gan-seed1/samples.jsonl", [sample("another", "x", 0.1)])
    with pytest.raises(UserError, match=r"gan-seed1/samples.jsonl: other questions than in .*lora-seed1"):
        answer_pairs(directory, rows_of(directory), "lora", 5)
    write_lines(directory / "runs/gan-seed1/samples.jsonl", [{"question": "q0"}])
    with pytest.raises(UserError, match="line 1: expected question, reference and answer"):
        answer_pairs(directory, rows_of(directory), "lora", 5)
    (directory / "judge.json").write_text('{"schema": 1, "judges": [{}]}')
    with pytest.raises(UserError, match=r"judge.json: holds no verdicts that this version"):
        read_records(directory)
    judge = FakeJudge()
    judge.verdicts = lambda duels: ["yes"] * len(duels)
    (directory / "judge.json").unlink()
    with pytest.raises(UserError, match="judge fake: expected A, B, tie or None"):
        judge_comparison(directory, rows_of(directory)[:2], judge, "lora", 5)


# ---- What is told


def record_of(rows, **more):
    record = {"identity": "hf:big", "parameters": 7_000_000_000, "rival": "lora", "questions": 9, "own_model": False}
    return record | {"pairs": len(rows), "rows": rows, "figures": figures(rows)} | more


def test_cautions_say_what_speaks_against_a_judge():
    fair = [judged_row("AB"), judged_row("BA"), judged_row("tt")]
    assert cautions(record_of(fair)) == []
    small, own = cautions(record_of(fair, parameters=3_400_000, own_model=True))
    assert small.startswith("caution: 3.4 million parameters are few") and "may prefer what it would write" in own
    noise, place = cautions(record_of([judged_row("AA"), judged_row("AA"), judged_row("AB")]))
    assert "the same verdict on 33% of the pairs only" in noise and "prefers the answer in the first place" in place
    assert "in the second place" in cautions(record_of([judged_row("BB")] * 2))[1]
    assert cautions(record_of([judged_row("tt")] * 20)) == [
        "caution: 100% of the verdicts are ties: the judge hardly tells answers apart"
    ]
    assert cautions(record_of([judged_row("-")])) == ["caution: it has judged nothing"]


def test_the_table_names_the_judge_and_its_figures(tmp_path):
    directory = write(tmp_path)
    assert judged_tables(directory) == []
    judge_comparison(directory, rows_of(directory), FakeJudge(), "lora", 3)
    (one,) = judged(directory)
    assert one.title == "Judged by fake, against lora" and one.grid[0] == [*HEADING]
    assert one.grid[2][:4] == ["base - lora", "0", "1", "1"] and one.grid[2][6:8] == ["75%", "50%"]
    assert "The first place wins 57% of 14 decided verdicts (50 % without position bias)" in one.lines[1]
    assert "1 pairs of identical answers" in one.lines[1] and "1 pairs were not judged" in one.lines[1]
    ((text, markdown),) = judged_tables(directory)
    assert "gan - lora" in text and markdown.startswith("## Judged by fake, against lora\n\n|")


def test_the_command_judges_stored_answers_and_shows_them_everywhere(tmp_path, capsys):
    directory = write(tmp_path / "one")
    command = ["--from", str(directory), "--judge", "tests.test_judge.FakeJudge:strict", "--judge-questions", "2"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    written = (directory / "comparison.md").read_text()
    assert "Judged by fake strict, against lora" in printed and "## Judged by fake strict, against lora" in written
    assert "Judged by fake strict" in (directory / "comparison.html").read_text()
    assert len(read_records(directory)[0]["rows"]) == 6
    assert main(["--from", str(directory)]) == 0 and "Judged by fake strict" in capsys.readouterr().out
    assert main([*command[:3], "tests.no_such.Judge"]) == 2
    assert main([*command, "--judge-rival", "mle"]) == 2
    assert main([*command[:4], "--judge-questions", "0"]) == 2


def test_joined_comparisons_keep_their_verdicts(tmp_path):
    methods = {
        name: {run: texts for run, texts in ANSWERS.items() if run[0] in ("lora", name)} for name in ("gan", "base")
    }
    directories = [write(tmp_path / name, answers) for name, answers in methods.items()]
    judge = FakeJudge()
    for directory in directories:
        judge_comparison(directory, rows_of(directory), judge, "lora", 3)
    together = write(tmp_path / "both")
    join_records(directories, together)
    asked = len(judge.asked)
    (joined,) = read_records(together)
    assert (
        judge_comparison(together, rows_of(together), judge, "lora", 3)["figures"]["judge"]
        == joined["figures"]["judge"]
    )
    assert len(judge.asked) == asked
    join_records([tmp_path], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_texts_of_a_judge_cannot_break_out_of_the_page(tmp_path):
    directory = write(tmp_path)
    for text in HOSTILE[:3]:
        judge_comparison(directory, rows_of(directory), FakeJudge(text), "lora", 3)
    page = render(content(read_comparison(directory)))
    assert not any(text in page for text in HOSTILE[:3]) and len(judged(directory)) == 3


@pytest.fixture
def browser():
    opened = Browser()
    yield opened
    opened.close()


@needs_chromium
def test_the_page_shows_the_verdicts_cautions_first_and_sorts_them(browser, tmp_path):
    directory = write(tmp_path)
    judge_comparison(directory, rows_of(directory), FakeJudge(), "lora", 3)
    browser.open(write_report(directory))
    section = "document.getElementById('judge').parentElement"
    table = f"{section}.querySelector('table')"
    names = f"[...{table}.querySelectorAll('tbody th')].map((node) => node.textContent)"
    assert browser.run(f"{section}.querySelector('h3').textContent") == "Judged by fake, against lora"
    assert browser.run(f"{section}.querySelectorAll('ul.said li').length") == 2
    assert browser.run(names) == ["gan - lora", "base - lora"]
    browser.run(f"{table}.querySelectorAll('th button')[2].click()")  # ties, most first, then fewest
    browser.run(f"{table}.querySelectorAll('th button')[3].click()")  # losses: gan 2, base 1
    browser.run(f"{table}.querySelectorAll('th button')[3].click()")
    assert browser.run(names) == ["base - lora", "gan - lora"]
    assert not [event for event in browser.events if event.get("method") == "Runtime.exceptionThrown"]


# ---- A language model as judge


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random model of 1200 positions, with a tokenizer of one token a character."""
    folder = tmp_path_factory.mktemp("judge")
    shape = {**SHAPE, "intermediate_size": 64, "max_position_embeddings": 1200}
    build(LlamaForCausalLM, LlamaConfig, shape).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def test_the_verdict_is_the_most_probable_reply_and_long_prompts_have_none(folder):
    judge = LanguageModelJudge(folder, "cpu", "float32")
    duels = [Duel("who?", "bob", "a cook", "old bob"), Duel("who?", "bob", "old bob", "a cook")]
    long = Duel("who?" * 300, "bob", "a cook", "old bob")
    found = judge.log_probs([duels[0], long, duels[1]])
    assert found[1] is None
    tokenizer, model = tiny_tokenizer(), judge.model
    encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    for duel, scores in zip(duels, (found[0], found[2]), strict=True):
        prompt = encode(PROMPT.format(**duel._asdict()) + "\nVerdict:")
        for verdict in VERDICTS:
            reply = encode(f" {verdict}")
            with torch.no_grad():
                logits = model(torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1]
            expected = logits.log_softmax(-1)[torch.arange(len(reply)), reply].sum().item()
            assert scores[verdict] == pytest.approx(expected, abs=1e-3)
    expected = [max(scores, key=scores.get) for scores in (found[0], found[2])]
    assert judge.verdicts([duels[0], long, duels[1]]) == [expected[0], None, expected[1]]
    assert judge.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_judges_by_name(folder):
    assert JUDGES.names() == ["hf"]
    named = [build_judge(spec, "cpu", "float32") for spec in (folder, f"hf:{folder}")]
    assert named[0].identity == named[1].identity and folder in named[0].identity
    assert build_judge(folder, "cpu", "bfloat16").identity != named[0].identity
    assert build_judge("tests.test_judge.FakeJudge", "cpu", "float32").identity == "fake"
    for spec, message in (
        ("/nowhere/judge", "no such model folder"),
        ("hf:", "expected hf:MODEL"),
        ("no.such.Judge", "cannot import judge"),
    ):
        with pytest.raises(UserError, match=message):
            build_judge(spec, "cpu", "float32")


def test_the_model_that_was_tuned_is_told_when_it_judges(tmp_path, folder):
    directory = write(tmp_path)
    for tuned, own in ((folder, True), ("mini", False)):
        judge = LanguageModelJudge(folder, "cpu", "float32")
        judge.verdicts = lambda duels: ["tie"] * len(duels)
        assert judge_comparison(directory, rows_of(directory), judge, "lora", 1, tuned)["own_model"] is own
