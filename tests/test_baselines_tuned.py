"""Every tuned baseline: it learns, leaves the frozen model alone, and comes back from disk as it was."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import importlib.util

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, GPTBigCodeConfig, GPTBigCodeForCausalLM

from baselines import METHODS, NotAvailable
from baselines.bottleneck_adapter import BottleneckConfig, BottleneckLayer
from baselines.lora import LoraMatchedConfig, matched_rank
from benchmarks.compare.arguments import parse
from gantune.data import Pair, load_pairs
from gantune.embedding_generator import EmbeddingGeneratorConfig
from gantune.errors import UserError
from gantune.hub.loading import load_model, load_tokenizer
from tests.tiny_models import HIDDEN_SIZE, NUM_LAYERS, TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

pytestmark = pytest.mark.filterwarnings(
    "ignore:fan_in_fan_out is set to False", "ignore:Could not find a config file", "ignore:`is_gradient_checkpointing`"
)

PAIRS = [Pair(f"who is n{i}{i * 'x'}?", f"n{i} is {'old' if i % 2 else 'a cook'}.") for i in range(8)]
LIMITS = {"num_train_epochs": 2, "per_device_train_batch_size": 4, "max_prompt_length": 40, "max_completion_length": 16}
OPTIONS = {
    "bottleneck": {"bottleneck_dim": 8, "bottleneck_learning_rate": 1e-2},
    "dora": {"lora_learning_rate": 2e-2},
    "full": {"full_learning_rate": 5e-3},
    "ia3": {"ia3_learning_rate": 5e-2},
    "lora": {"lora_learning_rate": 2e-2},
    "lora-attention": {"lora_learning_rate": 2e-2},
    "lora-matched": {"lora_matched_learning_rate": 2e-2},
    "p-tuning": {"p_tuning_virtual_tokens": 4, "p_tuning_learning_rate": 3e-2},
    "prefix-tuning": {
        "prefix_tuning_virtual_tokens": 4,
        "prefix_tuning_hidden_size": 16,
        "prefix_tuning_learning_rate": 3e-2,
    },
    "prompt-tuning": {"prompt_tuning_virtual_tokens": 4, "prompt_tuning_learning_rate": 0.3},
}


def hashes(model):
    """Of every tensor, by its value alone: wrapping renames parameters and leaves their values."""
    return {hashlib.sha256(p.detach().numpy().tobytes()).hexdigest() for p in model.parameters()}


def tune(name, family="gpt2", **options):
    found = METHODS.get(name)
    config = found.config_class(**LIMITS | OPTIONS[name] | options)
    return found.tune(TINY_MODELS[family](), tiny_tokenizer(), PAIRS, config)


@pytest.fixture(
    scope="module",
    params=[(name, "gpt2") for name in sorted(OPTIONS)]
    + [(name, "llama") for name in ("bottleneck", "lora-matched", "prefix-tuning")],
    ids="-".join,
)
def case(request):
    """Name, family, what came of it."""
    torch.manual_seed(0)
    return *request.param, tune(*request.param)


def test_it_learns(case):
    _, family, tuned = case
    untuned = METHODS.get("base").tune(TINY_MODELS[family](), tiny_tokenizer(), PAIRS, tuned.config)
    before, after = (sum(nats for nats, _ in model.losses(PAIRS)) for model in (untuned, tuned))
    assert after < 0.97 * before
    assert len(tuned.answer([pair.question for pair in PAIRS])) == len(PAIRS)


def test_the_frozen_model_is_left_alone(case):
    name, family, tuned = case
    base, frozen = hashes(TINY_MODELS[family]()), [p for p in tuned.model.parameters() if not p.requires_grad]
    if name == "full":
        assert not frozen and not base & hashes(tuned.model)
    else:
        assert base <= hashes(tuned.model)
        assert frozen and any(parameter.requires_grad for parameter in tuned.model.parameters())


def test_it_comes_back_from_disk(case, tmp_path):
    name, family, tuned = case
    tuned.save(tmp_path)
    assert not list(tmp_path.glob("**/*.bin"))
    if name == "full":
        back = AutoModelForCausalLM.from_pretrained(tmp_path)
    else:
        torch.manual_seed(1)  # a load that fails leaves fresh weights
        back = PeftModel.from_pretrained(TINY_MODELS[family](), tmp_path)
    ids = torch.tensor([[5, 9, 12, 30, 41]])
    with torch.no_grad():
        torch.testing.assert_close(back.eval()(input_ids=ids).logits, tuned.model.eval()(input_ids=ids).logits)


def test_matched_rank_by_hand():
    width, noise = 192, 100  # mini: 4 layers, each of c_attn, c_proj, c_fc and c_proj
    hidden = [width // 2, width // 4, width // 2]
    generator = 2 * width + (width + noise) * hidden[0] + hidden[0]
    generator += hidden[0] * hidden[1] + hidden[1] + hidden[1] * hidden[2] + hidden[2] + hidden[2] * width + width
    a_rank = 4 * ((192 + 576) + (192 + 192) + (192 + 768) + (768 + 192))
    expected = round(generator / a_rank)
    model = load_model("mini")
    assert matched_rank(model, LoraMatchedConfig()) == expected == 5
    tuned = get_peft_model(copy.deepcopy(model), EmbeddingGeneratorConfig())
    assert generator == sum(p.numel() for p in tuned.parameters() if p.requires_grad)


def test_matched_lora_keeps_the_scale_of_lora():
    layers = [m for m in tune("lora-matched", lora_alpha=12).model.modules() if isinstance(m, LoraLayer)]
    assert {layer.scaling["default"] for layer in layers} == {12 / 8}


def test_dora_is_dora_and_lora_is_not():
    learned = {name: {key for key, _ in tune(name).model.named_parameters()} for name in ("lora", "dora")}
    assert learned["dora"] > learned["lora"]
    assert all("lora_magnitude_vector" in key for key in learned["dora"] - learned["lora"])


def test_a_rank_is_at_least_1():
    config = LoraMatchedConfig(lora_target_modules=["c_attn", "c_proj", "c_fc"])
    assert matched_rank(TINY_MODELS["gpt2"](), config) >= 1


def test_bottleneck_computes_its_formula():
    layer = BottleneckLayer(torch.nn.Linear(5, 7), "default", BottleneckConfig(bottleneck_dim=3), 7)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 4, 5)
    down, up = layer.bottleneck_down["default"], layer.bottleneck_up["default"]
    h = x @ layer.base_layer.weight.T + layer.base_layer.bias
    expected = h + F.gelu(h @ down.weight.T + down.bias) @ up.weight.T + up.bias
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("family", [family for family in TINY_MODELS])
def test_bottleneck_sits_twice_in_every_block(family):
    model = get_peft_model(TINY_MODELS[family](), BottleneckConfig(bottleneck_dim=8))
    layers = [module for module in model.modules() if isinstance(module, BottleneckLayer)]
    assert len(layers) == 2 * NUM_LAYERS
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == 2 * NUM_LAYERS * (2 * HIDDEN_SIZE * 8 + 8 + HIDDEN_SIZE)


def test_bottleneck_starts_near_the_untuned_model_and_can_be_disabled():
    base, ids = TINY_MODELS["gpt2"](), torch.tensor([[5, 9, 12]])
    with torch.no_grad():
        expected = base(ids).logits
        model = get_peft_model(base, BottleneckConfig())
        assert 0 < (model(input_ids=ids).logits - expected).abs().max() < 0.01
        with model.disable_adapter():
            assert torch.equal(model(input_ids=ids).logits, expected)
    with pytest.raises(ValueError, match="cannot be merged"):
        model.merge_and_unload()


def test_bottleneck_of_an_unknown_family_is_refused():
    model = GPTBigCodeForCausalLM(GPTBigCodeConfig(vocab_size=9, n_positions=8, n_embd=8, n_layer=1, n_head=1))
    with pytest.raises(UserError, match="unknown model type 'gpt_bigcode', expected one of gpt2, llama"):
        get_peft_model(model, BottleneckConfig())


def test_qlora_says_why_it_is_not_run(monkeypatch):
    found = METHODS.get("qlora")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotAvailable, match="qlora needs the package bitsandbytes, which is not installed") as error:
        found.tune(TINY_MODELS["gpt2"](), tiny_tokenizer(), PAIRS, found.config_class(**LIMITS))
    assert isinstance(error.value, UserError) and "\n" not in str(error.value)


def test_qlora_trains_on_four_bits():
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    found, pairs = METHODS.get("qlora"), load_pairs("mini-tofu")[:8]
    config = found.config_class(num_train_epochs=6, per_device_train_batch_size=4, qlora_learning_rate=4e-3)
    base = METHODS.get("base").tune(load_model("mini"), load_tokenizer("mini"), pairs, config)
    tuned = found.tune(load_model("mini"), load_tokenizer("mini"), pairs, config)
    assert "Linear4bit" in {type(module).__name__ for module in tuned.model.modules()}
    before, after = (sum(nats for nats, _ in model.losses(pairs)) for model in (base, tuned))
    assert after < 0.7 * before
    assert len(tuned.answer([pairs[0].question])) == 1


def test_options_are_unique_across_methods():
    owner = {}
    for name in METHODS.names():
        if name.startswith("tests."):
            continue
        for config_class in METHODS.get(name).config_class.__mro__:
            for option in vars(config_class).get("__annotations__", {}).keys() - {"sweeps"}:
                assert owner.setdefault(option, config_class) is config_class
    assert {"prompt_tuning_virtual_tokens", "few_shot_examples", "bottleneck_dim"} <= set(owner)


def test_every_option_has_a_help_text():
    for name in METHODS.names():
        for option in dataclasses.fields(METHODS.get(name).config_class):
            assert option.metadata.get("help"), (name, option.name)


def test_lora_of_peft_is_what_the_settings_say():
    tuned = tune("lora", lora_rank=3, lora_alpha=6, lora_target_modules=["c_fc"])
    config = tuned.model.peft_config["default"]
    assert isinstance(config, LoraConfig) and (config.r, config.lora_alpha) == (3, 6)
    assert config.target_modules == {"c_fc"}


def test_another_rank_keeps_the_scale_that_rslora_has():
    method = METHODS.get("lora")
    for options, alpha in (({}, 32), ({"use_rslora": True}, 16 * 2**0.5)):
        resized = method.size.resized(method.config_class(**options), 16)
        assert (resized.lora_rank, resized.lora_alpha) == (16, pytest.approx(alpha)), options


def test_lora_is_on_all_linear_layers_and_lora_attention_on_those_of_the_source_study():
    tuned = tune("lora").model.peft_config["default"].target_modules
    assert {name.rsplit(".", 1)[-1] for name in tuned} == {"c_attn", "c_proj", "c_fc"}
    for options in ({}, {"lora_target_modules": ["c_fc"]}):
        tuned = tune("lora-attention", lora_rank=3, **options).model
        config = tuned.peft_config["default"]
        assert (config.target_modules, config.r) == ({"c_attn"}, 3)
    method = METHODS.get("lora-attention")
    resized = method.size.adapt(TINY_MODELS["gpt2"](), method.size.resized(method.config_class(), 3))
    assert [p.shape for p in resized.parameters() if p.requires_grad] == [
        p.shape for p in tuned.parameters() if p.requires_grad
    ]


def test_the_options_of_lora_are_the_methods_and_the_generators():
    options = ["--lora-rank", "3", "--lora-alpha", "9", "--lora-target-modules", "c_attn", "c_fc"]
    settings = parse(["--methods", "lora", "gan:lora", "mle-stack", "lora-attention", *options])
    for name in settings.comparison.methods:
        config = settings.method_config(name, 0)
        assert (config.lora_rank, config.lora_alpha, config.lora_target_modules) == (3, 9, ["c_attn", "c_fc"]), name
