"""Names to components, and models from folders: what is found, what is refused and how."""

from __future__ import annotations

import collections
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from gantune.discriminators import DISCRIMINATORS
from gantune.errors import UserError
from gantune.hub.loading import load_model, load_tokenizer
from gantune.registry import GENERATORS, Registry
from gantune.seqgan import ADVANTAGES, OBJECTIVES, REWARDS, TRANSFORMS
from tests.shared import SHARED, needs_shared
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer


@pytest.fixture
def registry():
    registry = Registry("widget")
    registry.register("round")(int)
    return registry


def test_names_dotted_paths_and_components(registry):
    assert registry.resolve("round") is int and registry.resolve(str) is str
    with pytest.raises(UserError, match=r"OrderedDict': expected --widget collections.OrderedDict \(in Python widget="):
        registry.get("collections.OrderedDict")  # a name from a file imports nothing
    assert registry.resolve("collections.OrderedDict") is collections.OrderedDict
    assert registry.get("collections.OrderedDict") is collections.OrderedDict  # the user has named it since
    assert registry.names() == ["round"]  # and the list of what is built in does not grow
    assert registry.name_of(int) == registry.name_of(5) == "round"
    assert registry.name_of(collections.OrderedDict) == "collections.OrderedDict"


def test_what_is_built_in_is_imported_when_it_is_asked_for(monkeypatch):
    monkeypatch.delitem(sys.modules, "this", raising=False)
    registry = Registry("widget", {"zen": "this.s", "number": "numbers.Number"})
    assert registry.names() == ["number", "zen"] and "zen" in registry and "this.s" not in registry
    assert "this" not in sys.modules
    assert registry.name_of(5) == "builtins.int"
    with pytest.raises(UserError, match=r"unknown widget 'this.s': expected --widget this.s \(in Python widget="):
        registry.get("this.s")
    assert "this" not in sys.modules
    assert registry.get("zen") == registry.resolve("zen") == sys.modules["this"].s
    registry.register("number")(int)  # a user's own in place of it
    assert registry.get("number") is int and registry.name_of(5) == "number"


@pytest.mark.parametrize("registry", [DISCRIMINATORS, GENERATORS, REWARDS, TRANSFORMS, ADVANTAGES, OBJECTIVES])
def test_every_built_in_name_finds_its_component(registry):
    assert len(registry.names()) > 2
    for name in registry.names():
        assert (
            callable(registry.get(name)) and registry.get(name).__doc__ and registry.name_of(registry.get(name)) == name
        )


def test_names_are_known_without_torch():
    code = """
import sys
from gantune.diagnostics import write_json
from gantune.discriminators import DISCRIMINATORS
from gantune.hub.adapter_settings import check_adapter
from gantune.registry import GENERATORS
from gantune.seqgan import ADVANTAGES, OBJECTIVES, REWARDS, TRANSFORMS
assert "cnn" in DISCRIMINATORS and "lora" in GENERATORS and "token" in REWARDS and "nothing" not in OBJECTIVES
assert not {"torch", "transformers", "peft", "numpy"} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("spec", ["square", "no.such.module", "collections.NoSuchThing", ".", "a..b", ""])
def test_what_cannot_be_found_is_told_in_one_line(registry, spec):
    with pytest.raises(UserError, match="round") as caught:
        registry.resolve(spec)
    assert "\n" not in str(caught.value)


@pytest.fixture
def folder(tmp_path):
    TINY_MODELS["llama"]().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def test_a_model_is_loaded_frozen_in_evaluation_mode_and_the_dtype_asked_for(folder):
    model = load_model(str(folder), dtype=torch.bfloat16)
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert load_tokenizer(str(folder)).eos_token == "<eos>"


def test_weights_that_are_missing_are_not_made_up(folder):
    file = folder / "model.safetensors"
    weights = load_file(file)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"weights missing from the files: model.layers.1.mlp.up_proj.weight"):
        load_model(str(folder))


def test_weights_that_are_cut_off_are_told_in_one_line(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(UserError, match="cannot load a causal language model") as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)


def test_a_model_that_is_no_causal_language_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="t5 is an encoder-decoder model, expected a causal language model"):
        load_model(str(tmp_path))


@needs_shared
def test_a_real_pretrained_model_is_loaded():
    name = str(SHARED / "data" / "tinystories-gpt2-3m")
    assert sum(p.numel() for p in load_model(name).parameters()) == 3_413_632
    assert load_tokenizer(name).eos_token == "<|endoftext|>"
