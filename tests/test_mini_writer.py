"""The base of mini-records: what it has read, and that values are the same tokens in records and texts."""

from __future__ import annotations

import json
import time

import pytest

from benchmarks.built_in import pretrain_writer
from benchmarks.built_in.mini_records import VALUES
from benchmarks.built_in.pretrain_mini import ASSETS
from gantune.data import load_pairs
from gantune.hub.loading import load_model, load_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("mini-writer")


def test_it_has_read_no_record_and_no_text_of_mini_records():
    read = pretrain_writer.plain_texts(400)
    shipped = load_pairs("mini-records")
    assert len(read) > 400
    assert not {pair.question for pair in read} & {pair.question for pair in shipped}
    assert not {pair.answer for pair in read} & {pair.answer for pair in shipped}


def test_a_value_is_the_same_tokens_in_a_record_and_in_a_text(tokenizer):
    for values in VALUES.values():
        for value in values:
            ids = tokenizer(f" {value.value}")["input_ids"]
            for around in (f" name{{}} {value.value};", f" who {value.value}."):
                assert tokenizer(around)["input_ids"][-len(ids) - 1 : -1] == ids


def test_the_model_is_what_its_facts_say(tokenizer):
    facts = json.loads((ASSETS / "mini-writer" / "pretraining.json").read_text(encoding="utf-8"))
    model = load_model("mini-writer")
    assert facts["parameters"] == model.num_parameters() < 400_000
    assert facts["steps"] == pretrain_writer.STEPS and len(tokenizer) <= pretrain_writer.VOCABULARY
    assert facts["final_loss"] < facts["held_out_loss"] < 1.2


def test_another_folder_is_made_the_same_way(tmp_path, monkeypatch, tokenizer):
    """Of a few texts and steps; of all of them the script's own run makes the shipped files."""
    few = pretrain_writer.plain_texts(60)
    monkeypatch.setattr(pretrain_writer, "plain_texts", lambda: few)
    monkeypatch.setattr(pretrain_writer, "one_thread", time.monotonic)  # which changes settings of the whole process
    pretrain_writer.make(tmp_path, steps=2)
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {path.name for path in (ASSETS / "mini-writer").iterdir()} - {"README.md"}
    assert load_model(str(tmp_path)).config.n_layer == pretrain_writer.LAYERS
