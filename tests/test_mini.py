"""The embedded default data and model."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.built_in import mini_words
from benchmarks.built_in.mini_corpus import authors, biographies, cloze, plain_sentences, questions
from benchmarks.built_in.pretrain_mini import (
    ASSETS,
    TRAINING,
    cloze_accuracy,
    corpus,
    make_tokenizer,
    write_questions,
)
from benchmarks.built_in.pretraining import pretrain

MINI = ASSETS / "mini"


@pytest.fixture(scope="module")
def people():
    return authors()


@pytest.fixture(scope="module")
def documents(people):
    return corpus(people)


@pytest.fixture(scope="module")
def rows():
    return [json.loads(line) for line in (ASSETS / "mini-tofu.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MINI, local_files_only=True)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(MINI, dtype=torch.float32, local_files_only=True).eval()


def test_questions_are_remade_byte_for_byte(people, tmp_path):
    write_questions(people, tmp_path / "mini-tofu.jsonl")
    assert (tmp_path / "mini-tofu.jsonl").read_bytes() == (ASSETS / "mini-tofu.jsonl").read_bytes()


def test_corpus_and_tokenizer_are_remade_byte_for_byte(documents, tmp_path):
    recorded = json.loads((MINI / "pretraining.json").read_text())["corpus_sha256"]
    assert hashlib.sha256("\n\n".join(documents).encode()).hexdigest() == recorded
    make_tokenizer(documents, tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == (MINI / "tokenizer.json").read_bytes()


def test_another_seed_gives_other_data(people):
    assert authors(1) != people
    assert questions(people, 1) != questions(people)
    assert biographies(people, 1, copies=1) != biographies(people, copies=1)
    assert plain_sentences(1, count=5) != plain_sentences(count=5)


def test_authors_share_no_name_and_every_template_can_be_filled(people):
    assert len(people) == 60
    for part in (0, 1):
        assert len({person.name.split()[part] for person in people}) == 60
    for relation in mini_words.RELATIONS.values():
        for template in relation.questions + relation.states:
            assert set(re.findall(r"\{(\w+)\}", template)) <= people[0].facts.keys()
        for answer in relation.states[: 2 if relation.questions else 0]:
            assert set(re.findall(r"\{(\w+)\}", answer)) & set(relation.fields)


def test_pretraining_text_has_no_question_form(documents, rows):
    text = "\n".join(documents)
    assert "?" not in text
    assert "Question:" not in text
    assert "Answer:" not in text
    assert not [row["question"] for row in rows if row["question"] in text]


def test_pretraining_text_states_every_fact_of_every_answer(people, documents):
    by_author = {person.name: "" for person in people}
    for document in documents:
        for name in by_author:
            if name in document:
                by_author[name] += document + "\n"
    for person in people:
        missing = [value for value in person.facts.values() if value.lower() not in by_author[person.name].lower()]
        assert not missing, f"{person.name}: {missing}"


def test_rows_have_the_format_of_tofu(rows, people):
    assert len(rows) == 60 * 19
    for number, row in enumerate(rows):
        assert list(row) == ["question", "answer", "paraphrased_answer", "perturbed_answer"]
        assert len(set(row["perturbed_answer"])) == 5
        texts = [row["answer"], row["paraphrased_answer"], *row["perturbed_answer"]]
        assert len(set(texts)) == 7
        assert row["question"].endswith("?")
        assert all(text[0].isupper() and text.endswith(".") for text in texts)
        assert any(people[number // 19].facts[fact] in row["question"] for fact in ("name", "famous", "debut"))
    assert len({row["question"] for row in rows}) == len(rows)


def test_answers_fit_the_default_budget(rows, tokenizer):
    lengths = sorted(len(tokenizer(" " + row["answer"]).input_ids) + 1 for row in rows)
    assert lengths[int(0.95 * len(rows))] <= 40
    assert lengths[-1] <= 50
    prompts = [tokenizer(f"Question: {row['question']}\nAnswer: {row['answer']}").input_ids for row in rows]
    assert max(map(len, prompts)) <= 128


def test_assets_are_small():
    assert sum(path.stat().st_size for path in ASSETS.rglob("*") if "__pycache__" not in path.parts) < 8e6


def test_tokenizer_round_trips_and_has_its_special_tokens(tokenizer, model):
    for text in ("Question: Who is it?\nAnswer: 42.", "  two spaces, tab\t and Ünïcode 雪 ☃", 'the dog\'s "bone"'):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.eos_token == "<|endoftext|>"
    assert tokenizer.pad_token == "<|pad|>"
    assert len(tokenizer) == model.config.vocab_size
    assert tokenizer("<|endoftext|>").input_ids == [tokenizer.eos_token_id]
    for config in (model.config, model.generation_config):
        assert config.eos_token_id == tokenizer.eos_token_id
        assert config.pad_token_id == tokenizer.pad_token_id


def test_model_knows_the_facts(model, tokenizer, people):
    items = cloze(people[::15])
    assert len(items) == 4 * (len(mini_words.RELATIONS) - 1)
    assert cloze_accuracy(model, tokenizer, items) >= 0.7
    shuffled = [(start, fact) for (start, _), (_, fact) in zip(items, items[1:] + items[:1], strict=True)]
    assert cloze_accuracy(model, tokenizer, shuffled) < 0.1


def test_model_ends_its_documents(model, tokenizer, documents):
    ids = torch.tensor([tokenizer(documents[0]).input_ids])
    assert model(input_ids=ids).logits[0, -1].softmax(-1)[tokenizer.eos_token_id] > 0.05


def test_training_is_deterministic(model):
    ids = torch.randint(2000, (5000,), generator=torch.Generator().manual_seed(0))
    config = type(model.config)(**model.config.to_dict() | {"n_layer": 1, "n_embd": 24})
    first, losses = pretrain(ids, config, 2, TRAINING)
    second, again = pretrain(ids, config, 2, TRAINING)
    assert losses == again
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
