"""BLEURT against bleurt-pytorch (by benchmarks/built_in/bleurt_reference.py) and against Google's own graph."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gantune.errors import UserError
from gantune.metrics import Bleurt
from gantune.metrics.bleurt_tokenizer import BleurtTokenizer, truncate_pair
from tests.shared import SHARED, needs_shared

FIXTURES = Path(__file__).parent / "fixtures" / "bleurt"
KINDS = ["bert", "bleurt20"]


def expected(kind):
    return json.loads((FIXTURES / kind / "expected.json").read_text(encoding="utf-8"))


def edit_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def edit_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


@pytest.fixture
def checkpoint(tmp_path):
    """A copy of the BLEURT-20 fixture, to be spoilt."""
    return Path(shutil.copytree(FIXTURES / "bleurt20", tmp_path / "checkpoint"))


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_bleurt_pytorch(kind):
    record = expected(kind)
    result = Bleurt(FIXTURES / kind).compute(predictions=record["candidates"], references=record["references"])
    torch.testing.assert_close(result["scores"], record["scores"], atol=1e-5, rtol=0)
    assert result["bleurt"] == pytest.approx(sum(record["scores"]) / len(record["scores"]), abs=1e-5)
    assert torch.tensor(record["scores"]).std() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_bleurt_pytorch(kind):
    record = expected(kind)
    tokenizer = BleurtTokenizer.from_folder(FIXTURES / kind)
    for row, pair in enumerate(zip(record["references"], record["candidates"], strict=True)):
        assert tokenizer.encode_pair(*pair) == (record["input_ids"][row], record["token_type_ids"][row])


@needs_shared
def test_scores_are_those_of_googles_graph():
    folder = SHARED / "data" / "bleurt-conformance"
    record = json.loads((folder / "expected_random.json").read_text())
    scores = Bleurt(folder).score_pairs(record["candidates"], record["references"])
    torch.testing.assert_close(scores, record["tf_graph_scores_random_weights"], atol=1e-5, rtol=0)


def test_batches_do_not_change_scores_or_their_order():
    record = expected("bert")
    for batch_size in (1, 3):
        metric = Bleurt(FIXTURES / "bert", batch_size=batch_size)
        scores = metric.score_pairs(record["candidates"], record["references"])
        torch.testing.assert_close(scores, record["scores"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "reference, candidate, max_length, kept",
    [
        ([1, 2, 3, 4], [5, 6], 4, ([1, 2], [5, 6])),
        ([1, 2], [3, 4], 3, ([1, 2], [3])),
        ([1], [2, 3, 4], 2, ([1], [2])),
        ([1, 2, 3], [4, 5, 6], 3, ([1, 2], [4])),
        ([1], [2], 2, ([1], [2])),
    ],
)
def test_truncation_by_hand(reference, candidate, max_length, kept):
    truncate_pair(reference, candidate, max_length)
    assert (reference, candidate) == kept


def test_a_pair_too_long_is_cut_to_the_models_positions():
    metric = Bleurt(FIXTURES / "bert")
    ids, types = metric.tokenizer.encode_pair("apple " * 300, "doctor")
    apple, doctor = (metric.tokenizer.encode_pair(word, "")[0][1] for word in ("apple", "doctor"))
    assert ids == [2] + [apple] * 60 + [3, doctor, 3]
    assert types == [0] * 62 + [1] * 2
    long, cut = metric.score_pairs(["doctor"] * 2, ["apple " * 300, "apple " * 60])
    assert long == pytest.approx(cut, abs=1e-6)


def test_model_max_length_of_the_tokenizer_lowers_the_limit(checkpoint):
    (checkpoint / "tokenizer_config.json").write_text('{"model_max_length": 20}')
    assert len(Bleurt(checkpoint).tokenizer.encode_pair("apple " * 30, "doctor " * 30)[0]) == 20


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_in_a_text_are_plain_characters(kind):
    tokenizer = BleurtTokenizer.from_folder(FIXTURES / kind)
    ids, _ = tokenizer.encode_pair("a [SEP] b [CLS]", "c")
    assert ids.count(tokenizer.sep_id) == 2
    assert ids.count(tokenizer.cls_id) == 1


def test_gelu_means_the_tanh_approximation(checkpoint):
    record = expected("bleurt20")
    edit_config(checkpoint, hidden_act="gelu")
    scores = Bleurt(checkpoint).score_pairs(record["candidates"], record["references"])
    torch.testing.assert_close(scores, record["scores"], atol=1e-5, rtol=0)


def test_pytorch_model_bin_is_read(checkpoint):
    record = expected("bleurt20")
    torch.save(load_file(checkpoint / "model.safetensors"), checkpoint / "pytorch_model.bin")
    (checkpoint / "model.safetensors").unlink()
    scores = Bleurt(str(checkpoint)).score_pairs(record["candidates"], record["references"])
    torch.testing.assert_close(scores, record["scores"], atol=1e-5, rtol=0)


def test_empty_candidate_has_a_score_and_bad_input_is_named():
    metric = Bleurt(FIXTURES / "bleurt20")
    assert len(metric.score_pairs([""], [""])) == 1
    with pytest.raises(UserError, match="got 1 predictions and 2 references"):
        metric.compute(predictions=["a"], references=["a", "b"])
    with pytest.raises(UserError, match="references, row 0: expected a string"):
        metric.score_pairs(["a"], [None])


def drop_vocabulary(folder):
    (folder / "spm.model").unlink()


def break_vocabulary(folder):
    (folder / "spm.model").write_text("not a model")


def vocabulary_without_cls(folder):
    drop_vocabulary(folder)
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[SEP]\na\n")


def drop_weights(folder):
    (folder / "model.safetensors").unlink()


def break_weights(folder):
    (folder / "model.safetensors").write_bytes(b"not weights")


def pickled_object_as_weights(folder):
    drop_weights(folder)
    torch.save({"bleurt": Path("an object")}, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json: no such file"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: not JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json: expected a JSON object, got list"),
        (lambda folder: edit_config(folder, model_type="bert"), 'model_type is "bert", expected "bleurt"'),
        (lambda folder: edit_config(folder, hidden_size=None), "hidden_size is null, expected a whole number above 0"),
        (lambda folder: edit_config(folder, num_attention_heads=5), "not a multiple of num_attention_heads 5"),
        (lambda folder: edit_config(folder, hidden_act="swishy"), 'unknown hidden_act "swishy"'),
        (lambda folder: edit_config(folder, vocab_size=20), "has 150 pieces, more than vocab_size 20"),
        (lambda folder: edit_config(folder, vocab_size=151), "of another shape: bleurt.embeddings.word_embeddings"),
        (lambda folder: edit_config(folder, num_hidden_layers=3), "missing: bleurt.encoder.layer.2"),
        (lambda folder: edit_config(folder, num_hidden_layers=1), "unexpected: bleurt.encoder.layer.1"),
        (
            lambda folder: edit_weights(folder, lambda weights: weights.pop("classifier.bias")),
            "missing: classifier.bias",
        ),
        (drop_vocabulary, "no vocabulary, expected vocab.txt or spm.model"),
        (break_vocabulary, "spm.model: not a SentencePiece model"),
        (vocabulary_without_cls, r"vocab.txt: no \[CLS\] in the vocabulary"),
        (drop_weights, "no weights, expected model.safetensors or pytorch_model.bin"),
        (break_weights, "model.safetensors: cannot be read as weights"),
        (pickled_object_as_weights, "pytorch_model.bin: cannot be read as weights"),
    ],
)
def test_a_spoilt_checkpoint_is_refused_in_one_line(checkpoint, spoil, message):
    spoil(checkpoint)
    with pytest.raises(UserError, match=message) as caught:
        Bleurt(checkpoint)
    assert "\n" not in str(caught.value)
    assert str(checkpoint) in str(caught.value)


def test_a_folder_that_is_not_there():
    with pytest.raises(UserError, match=r"BLEURT checkpoint ./nowhere/at/all: no such folder$"):
        Bleurt("./nowhere/at/all")


@pytest.mark.parametrize("kind", KINDS)
def test_a_hub_id_is_downloaded_with_all_it_needs(kind, tmp_path, monkeypatch):
    def download(repo_id, allow_patterns):
        for file in (FIXTURES / kind).iterdir():
            if any(file.match(pattern) for pattern in allow_patterns):
                shutil.copy(file, tmp_path)
        return str(tmp_path)

    monkeypatch.setattr("gantune.hub.push.snapshot_download", download)
    record = expected(kind)
    scores = Bleurt("somebody/bleurt").score_pairs(record["candidates"], record["references"])
    torch.testing.assert_close(scores, record["scores"], atol=1e-5, rtol=0)


def test_a_hub_id_that_cannot_be_had(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="nobody/no-such-bleurt: no such folder, and not to be had from the Hub"):
        Bleurt("nobody/no-such-bleurt")
