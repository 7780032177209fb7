"""Model folders that are not what they should be: each works, or is refused in one line with exit status 2."""

from __future__ import annotations

import json
import logging
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTModel,
)

from gantune.cli import main
from gantune.errors import UserError
from gantune.generation.generate import generate_answers
from gantune.hub.loading import check_vocabulary, load_model, load_tokenizer
from gantune.tuning import TuningConfig
from tests.hostile import cases, check_message, refused_at_most, values
from tests.tiny_models import TINY_MODELS, VOCAB_SIZE
from tests.tiny_tokenizer import tiny_tokenizer

SMALL = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def save(folder, model=None, tokenizer=None):
    """A model folder that is whole."""
    (model or TINY_MODELS["llama"]()).save_pretrained(folder)
    (tokenizer or tiny_tokenizer()).save_pretrained(folder)
    return folder


def edit(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def answer(folder):
    config = TuningConfig(max_prompt_length=32, max_completion_length=4)
    return generate_answers(load_model(str(folder)), load_tokenizer(str(folder)), ["who is ann?"], config)


def refused(folder, tmp_path, capsys):
    """What a command says of the folder."""
    data = tmp_path / "pairs.jsonl"
    data.write_text(json.dumps({"question": "who?", "answer": "ann"}) + "\n" * 2)
    capsys.readouterr()
    options = ["--dataset", str(data), "--output-dir", str(tmp_path / "out"), "--validation-share", "0"]
    assert main(["train", "--model", str(folder), *options]) == 2
    out, err = capsys.readouterr()
    message = err.splitlines()[-1]
    assert message.startswith("error: ") and not out
    check_message(message)
    return message


def encoder():
    return BertForMaskedLM(BertConfig(**SMALL))


def encoder_decoders():
    t5 = {"vocab_size": 97, "d_model": 32, "d_kv": 16, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    bart = {"vocab_size": 97, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32}
    bart |= {"decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    return T5ForConditionalGeneration(T5Config(**t5)), BartForConditionalGeneration(BartConfig(**bart))


def vision():
    small = {name: size for name, size in SMALL.items() if name != "vocab_size"}
    return ViTModel(ViTConfig(**small, image_size=32, patch_size=16))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (encoder, "bert is an encoder, which sees what follows"),
        (lambda: encoder_decoders()[0], "t5 is an encoder-decoder model"),
        (lambda: encoder_decoders()[1], "bart is an encoder-decoder model"),
        (vision, "a model of type vit is no causal language model"),
    ],
)
def test_other_architectures(make, told, tmp_path, capsys):
    assert told in refused(save(tmp_path / "model", make()), tmp_path, capsys)


def test_an_encoder_that_was_made_a_decoder_works(tmp_path):
    model = load_model(str(save(tmp_path / "model", BertLMHeadModel(BertConfig(**SMALL, is_decoder=True)))))
    ids = torch.tensor([[5, 6, 7], [5, 6, 8]])
    first, second = model(ids).logits
    torch.testing.assert_close(first[:2], second[:2])


@pytest.mark.parametrize("family", ["gpt2", "llama"])  # a head tied to the embedding, and one of its own
def test_tied_and_untied_heads(family, tmp_path):
    folder, made = save(tmp_path / "model", TINY_MODELS[family]()), TINY_MODELS[family]()
    model, ids = load_model(str(folder)), torch.tensor([[5, 6, 7]])
    tied = model.get_output_embeddings().weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    assert tied == (family == "gpt2")
    torch.testing.assert_close(model(ids).logits, made(ids).logits)


def test_an_untied_head_that_is_missing_is_not_made_up(tmp_path, capsys):
    folder = save(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert "weights missing from the files: lm_head.weight" in refused(folder, tmp_path, capsys)


@pytest.mark.parametrize("content", [None, "", "{", "{}"])
def test_generation_settings_make_no_difference(content, tmp_path):
    folder = save(tmp_path / "model")
    expected = answer(folder)
    file = folder / "generation_config.json"
    file.unlink() if content is None else file.write_text(content)
    assert answer(folder) == expected


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "gptq", "bits": 4}, "cannot load"),
        ({}, "quant_method"),
        ("4bit", "cannot load"),
    ],
)
def test_quantised_weights_need_their_package(settings, told, tmp_path, capsys):
    if told == "bitsandbytes":
        try:
            import bitsandbytes  # noqa: F401
        except ImportError:
            pass
        else:
            pytest.skip("bitsandbytes is installed")
    folder = save(tmp_path / "model")
    edit(folder, quantization_config=settings)
    assert told in refused(folder, tmp_path, capsys)


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows(tmp_path, capsys):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"word{index}" for index in range(VOCAB_SIZE)])
    folder = save(tmp_path / "model", tokenizer=tokenizer)
    message = refused(folder, tmp_path, capsys)
    assert f"with id {VOCAB_SIZE}, the model's embedding ends at {VOCAB_SIZE - 1}" in message

    tokenizer = tiny_tokenizer()
    vocabulary = len(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    check_vocabulary(tokenizer, vocabulary, "model")  # no text becomes it
    tokenizer.add_special_tokens({"pad_token": "<padding>"})
    with pytest.raises(UserError, match="'<padding>'"):
        check_vocabulary(tokenizer, vocabulary + 1, "model")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("not json", "config.json: not valid JSON"),
        ("[" * 100_000, "config.json: not valid JSON"),
        (b"\xff\xfe", "config.json: not valid JSON"),
        ("[]", "config.json: is a JSON list, expected an object"),
        ("null", "config.json: is a JSON NoneType, expected an object"),
        ("{}", "config.json: no 'model_type'"),
        ('{"model_type": 3}', "config.json: no 'model_type'"),
        ('{"model_type": "nothing"}', "cannot load a causal language model"),
        ('{"model_type": "llama", "hidden_size": "x"}', "cannot load a causal language model"),
        ('{"model_type": "llama", "num_attention_heads": 0}', "cannot load a causal language model"),
    ],
)
def test_settings_that_are_none(content, told, tmp_path, capsys):
    folder = save(tmp_path / "model")
    (folder / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert told in refused(folder, tmp_path, capsys)


@pytest.mark.parametrize(
    ("change", "told"),
    [({"vocab_size": 50}, "has shape (97, 32) in the files, and (50, 32)"), ({"num_hidden_layers": 3}, "missing")],
)
def test_settings_of_another_model(change, told, tmp_path, capsys):
    folder = save(tmp_path / "model")
    edit(folder, **change)
    assert told in refused(folder, tmp_path, capsys)


def test_weights_that_are_left_over_are_told(tmp_path, caplog):
    folder = save(tmp_path / "model")
    edit(folder, num_hidden_layers=1)
    with caplog.at_level(logging.WARNING, logger="gantune"):
        load_model(str(folder))
    assert "weights that the model has no place for: model.layers.1." in caplog.text


@pytest.mark.parametrize("shard", ["model-2.safetensors", "../../outside.safetensors", "/etc/passwd", "", "."])
def test_shards_that_are_not_in_the_folder(shard, tmp_path, capsys):
    folder = save(tmp_path / "model")
    (tmp_path / "outside.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "model-1.safetensors", "model.norm.weight": shard}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "which is not in the folder" in refused(folder, tmp_path, capsys)


class Evil:
    """Pickled, it writes a file when it is loaded."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def pickled(weights, file):
    file.write_bytes(pickle.dumps(weights))


@pytest.mark.parametrize("write", [pickled, torch.save])
def test_pickled_weights_run_nothing(write, tmp_path, capsys):
    folder = save(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    write({"lm_head.weight": Evil(tmp_path / "ran")}, folder / "pytorch_model.bin")
    assert "not plain tensors" in refused(folder, tmp_path, capsys)
    assert not (tmp_path / "ran").exists()


def test_a_folder_without_tokenizer(tmp_path, capsys):
    folder = save(tmp_path / "model")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert "no tokenizer, expected tokenizer.json" in refused(folder, tmp_path, capsys)


@cases(60)
@given(st.dictionaries(st.sampled_from(["model_type", "hidden_size", "num_attention_heads", "rope_parameters", "dtype",
                                        "quantization_config", "auto_map", "architectures", "eos_token_id", "head_dim",
                                        "tie_word_embeddings", "attn_implementation", "hidden_act", "vocab_size"]),
                       st.one_of(values, st.integers(-2, 64), st.sampled_from(["llama", "gpt2", "bert"])),
                       min_size=1, max_size=2))  # fmt: skip
def test_any_settings(tmp_path_factory, changes):
    folder = tmp_path_factory.getbasetemp() / "any-model"
    if not folder.exists():
        save(folder)
        (folder / "config.json").rename(folder / "as-saved.json")
    sizes = [value for value in changes.values() if isinstance(value, int) and value > 512]
    if sizes:  # a model of that size would be built
        return
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "as-saved.json").read_text()) | changes))
    with refused_at_most("settings of models"):
        load_model(str(folder))
    with refused_at_most("settings of models"):
        load_tokenizer(str(folder))
