"""A model that accelerate has spread over devices, here the CPU and the disk."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from gantune import LanguageGAN
from gantune.data import load_pairs
from gantune.errors import UserError
from gantune.hub.loading import load_tokenizer, model_path
from gantune.trainer.arguments import LanguageGANConfig
from gantune.trainer.callbacks import rows_of
from tests.test_language_gan import QUIET

PAIRS = load_pairs("mini-tofu")[:8]


def spread(directory):
    """The built-in model with its last blocks on disk."""
    places = {f"transformer.h.{block}": "disk" for block in (2, 3, 4, 5, 6, 7)}
    names = ("transformer.wte", "transformer.wpe", "transformer.ln_f", "lm_head", "transformer.h.0", "transformer.h.1")
    config = AutoModelForCausalLM.from_pretrained(model_path("mini")).config
    places = {name: place for name, place in places.items() if int(name.rsplit(".", 1)[1]) < config.n_layer}
    return AutoModelForCausalLM.from_pretrained(
        model_path("mini"), device_map=places | dict.fromkeys(names, "cpu"), offload_folder=str(directory)
    )


def config(**settings) -> LanguageGANConfig:
    short = {"num_train_epochs": 2, "per_device_train_batch_size": 4, "max_completion_length": 6, "warmup_share": 0.5}
    return LanguageGANConfig(**QUIET | short | settings)


def test_a_spread_model_is_trained_as_a_whole_one(tmp_path):
    whole = AutoModelForCausalLM.from_pretrained(model_path("mini"))
    losses = []
    for model in (spread(tmp_path), whole):
        gan = LanguageGAN(model, config(), PAIRS, processing_class=load_tokenizer("mini"))
        gan.train()
        losses.append([row["loss"] for row in rows_of(gan.state) if row["phase"] == "likelihood"])
        assert len(gan.generate(["Who?"])) == 1
    assert len(losses[0]) == 3 and losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_an_adapter_on_a_layer_that_is_on_disk_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"h\.2\..*lora.*: its layer is offloaded by device_map"):
        LanguageGAN(spread(tmp_path), config(generator="lora"), PAIRS, processing_class=load_tokenizer("mini"))


def test_a_model_on_several_devices_is_for_one_process(monkeypatch):
    model = AutoModelForCausalLM.from_pretrained(model_path("mini"))
    model.hf_device_map = {"transformer": "cpu", "lm_head": torch.device("cuda", 1)}
    args = config()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("gantune.distributed.PartialState", lambda cpu: SimpleNamespace(num_processes=2))
    with pytest.raises(UserError, match="device_map over several devices in 2 processes: expected one process"):
        LanguageGAN(model, args, PAIRS, processing_class=load_tokenizer("mini"))
