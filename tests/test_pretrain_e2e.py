"""The base model for E2E: what it has read, what it has not, and that words are the same tokens on both sides."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.built_in import dialogue_corpus, mini_records, pretrain_e2e, pretrain_mini, pretrain_writer
from benchmarks.built_in.pretrain_e2e import divided, laid_out, main, token_stream
from gantune.data import Pair, load_pairs
from gantune.data.question import RecordQuestion
from gantune.errors import UserError
from tests.shared import SHARED, needs_shared

NAMES = ("The Mill", "Aromi", "Clowns", "Zizzi", "Cotto", "Giraffe", "Wildwood", "Strada")
AREAS = {"riverside": "by the riverside", "city centre": "in the city centre"}


def rows() -> list[dict[str, str]]:
    """Two texts each of 16 records, and one that two records share."""
    found = []
    for name in NAMES:
        for area, said in AREAS.items():
            record = f"name[{name}], area[{area}], familyFriendly[no]"
            found += [
                {"meaning_representation": record, "text": f"{name} is {said} and not family friendly."},
                {"meaning_representation": record, "text": f"Not for families: {name}, {said}."},
            ]
    return found + [{**found[n], "text": "A place for adults."} for n in (0, -1)]


@pytest.fixture
def dataset(tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return str(file)


def test_neither_a_record_nor_a_text_is_on_both_sides(dataset):
    pairs = load_pairs(dataset)
    for seed in range(8):  # the shared text is held out by some of them only
        train, test = divided(pairs, 5, seed)
        assert len({pair.question for pair in test}) == 5
        assert not {pair.question for pair in train} & {pair.question for pair in test}
        assert not {pair.answer for pair in train} & {pair.answer for pair in test}
        left_out = [pair for pair in pairs if pair not in train and pair not in test]
        assert {pair.answer for pair in left_out} <= {"A place for adults."}
        assert train == [pair for pair in pairs if pair in train], "in the order of the file"
    assert divided(pairs, 5, 0) == divided(pairs, 5, 0) != divided(pairs, 5, 1)


def test_what_cannot_be_divided_is_refused(dataset):
    with pytest.raises(UserError, match="--test-records 16: leaves no text to pretrain on"):
        divided(load_pairs(dataset), 16, 0)
    with pytest.raises(UserError, match="test_size 17: the data has 16 records"):
        divided(load_pairs(dataset), 17, 0)
    with pytest.raises(UserError, match=r"question 'who\?': expected a record, such as name\["):
        divided([Pair("who?", "he.")], 1, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "--steps 0: expected at least 1"),
        (["--output", "{}/pairs.jsonl"], "{}/pairs.jsonl: expected a folder that can be written to"),
        (["--test-records", "1"], "--test-records 1: their texts have "),
        (["--test-records", "8"], "tokens, expected at least the 1024 of a step"),
        (["--nothing"], "unrecognized arguments: --nothing"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line_before(dataset, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.setattr(pretrain_e2e, "one_thread", lambda: 0.0)
    monkeypatch.setattr("benchmarks.built_in.pretraining.tqdm", lambda *_, **__: pytest.fail("it trains"))
    given = ["--dataset", dataset, "--output", str(tmp_path / "out"), *(option.format(tmp_path) for option in options)]
    assert main(given) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and message.format(tmp_path) in line


@pytest.mark.parametrize("module", [dialogue_corpus, mini_records, pretrain_mini, pretrain_writer])
def test_commands_that_write_assets_tell_in_one_line_what_is_wrong(module, dataset, capsys):
    for options in (["--nothing"], ["--output", dataset]):
        assert module.main(options) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("error: ") and options[-1] in line


def test_the_folder_is_a_model_that_read_no_record(dataset, tmp_path, monkeypatch):
    deterministic = torch.are_deterministic_algorithms_enabled()
    streams = []
    pretrain = pretrain_e2e.pretrain
    monkeypatch.setattr(
        pretrain_e2e, "pretrain", lambda ids, *more: streams.append(ids.tolist()) or pretrain(ids, *more)
    )
    monkeypatch.setattr(pretrain_e2e, "POSITIONS", 16)
    out = tmp_path / "base"
    try:
        assert main(["--dataset", dataset, "--output", str(out), "--test-records", "5", "--steps", "2"]) == 0
    finally:
        torch.use_deterministic_algorithms(deterministic)
    train, test = load_pairs(str(out / "train.jsonl")), load_pairs(str(out / "test.jsonl"))
    assert (train, test) == divided(load_pairs(dataset), 5, 1234)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == model.config.eos_token_id == model.config.pad_token_id
    assert model.config.n_positions == tokenizer.model_max_length == 16
    (stream,) = streams
    texts = tokenizer.decode(stream).split(tokenizer.eos_token)
    assert texts == [f" {pair.answer}" for pair in train] + [""]
    told = json.loads((out / "pretraining.json").read_text())
    assert (told["steps"], told["records"], told["held_out_records"]) == (2, 11, 5)
    assert told["held_out_loss"] == pytest.approx(pretrain_e2e.loss_of(model.float(), token_stream(test, tokenizer)))


def test_a_record_is_laid_out_for_the_tokenizer_as_the_template_puts_it(dataset, tmp_path):
    record = RecordQuestion([("name", "The Mill"), ("priceRange", "less than £20"), ("near", "Café Rouge")])
    assert laid_out(record) == " name The Mill; price range less than £20; near Café Rouge:"
    tokenizer = pretrain_e2e.train_tokenizer([laid_out(record)], tmp_path, 400, 64)
    assert tokenizer.decode(pretrain_e2e.TEMPLATE.prompt_ids(record, tokenizer)) == laid_out(record)


@needs_shared
def test_values_are_the_same_few_tokens_in_a_record_and_in_a_text(tmp_path):
    pairs = load_pairs(str(SHARED / "data" / "e2e" / "pairs.jsonl"))
    train, test = divided(pairs, 350, 1234)
    tokenizer = pretrain_e2e.tokenizer_of(train, tmp_path)
    template, counts = pretrain_e2e.TEMPLATE, []
    for pair in test[:300]:
        fields = template.prompt_fields(pair.question, tokenizer)
        prompt = template.prompt_ids(pair.question, tokenizer)
        counts.append(len(prompt) / len(pair.question.fields))
        answer = template.answer_ids(pair.answer, tokenizer)
        for number, (name, value) in enumerate(pair.question.fields, start=1):
            if name not in ("name", "near") or f" {value} " not in pair.answer:
                continue
            said = tokenizer(f" {value}").input_ids
            of_field = [token for token, field in zip(prompt, fields, strict=True) if field == number]
            for ids in (of_field, answer):
                assert any(ids[start : start + len(said)] == said for start in range(len(ids))), (value, ids)
    assert sum(counts) / len(counts) < 6, "tokens a field, its name and what divides it from the next included"
