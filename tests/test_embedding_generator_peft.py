"""The PEFT method on seven model families: one table of models, one list of behaviours."""

import copy
import hashlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import (
    AutoPeftModelForCausalLM,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
)
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from gantune.embedding_generator import (
    EmbeddingGeneratorConfig,
    EmbeddingGeneratorLayer,
    draw_noise,
    generators,
    hold_noise,
    load_stack,
    noise_dim,
    save_stack,
    stack_adapters,
)
from gantune.embedding_generator.generators import build_generator
from gantune.errors import UserError
from gantune.generation.generate import generate_answers
from gantune.trainer.config import GameConfig
from gantune.tuning import TuningConfig
from tests.test_embedding_generator_network import Shift
from tests.tiny_models import HIDDEN_SIZE, NUM_LAYERS, PAD_ID, TINY_MODELS, VOCAB_SIZE
from tests.tiny_tokenizer import tiny_tokenizer

pytestmark = pytest.mark.filterwarnings(
    "ignore:Could not find a config file",
    "ignore:Input and output embeddings are no longer tied",
    "ignore:`gradient_checkpointing_enable` is deprecated",
    "ignore:`is_gradient_checkpointing` is deprecated",
    "ignore:You are trying to modify a model with PEFT for a second time",
    "ignore:Already found a `peft_config` attribute",
)

ROOT = Path(__file__).resolve().parents[1]
NOISE = 4
IDS = torch.randint(3, VOCAB_SIZE, (2, 9), generator=torch.Generator().manual_seed(0))
LORA_TARGETS = {"gpt2": "c_attn", "gpt_neox": "query_key_value"}


@pytest.fixture(params=TINY_MODELS)
def family(request) -> str:
    return request.param


def perturb(model: nn.Module, seed: int = 1) -> nn.Module:
    """Move every trainable weight, so that a reload that leaves fresh weights in place is noticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter) * 0.2)
    return model


def config(**arguments) -> EmbeddingGeneratorConfig:
    """A configuration under which noise matters, so that a mix-up of noise rows is noticed."""
    return EmbeddingGeneratorConfig(**{"noise_dim": NOISE, "network_options": {"noise_scale": 1.0}, **arguments})


def adapted(family: str, **arguments) -> PeftModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return perturb(get_peft_model(TINY_MODELS[family](), config(**arguments)))


def lora_config(family: str) -> LoraConfig:
    target = LORA_TARGETS.get(family, "q_proj")
    return LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=[target], fan_in_fan_out=family == "gpt2")


def stacked(family: str) -> PeftModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return perturb(stack_adapters(TINY_MODELS[family](), [config(), lora_config(family)]))


def logits(model: nn.Module, **arguments) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, **arguments).logits


def logits_under(model: nn.Module, noise: torch.Tensor) -> torch.Tensor:
    with hold_noise(model, noise):
        return logits(model)


def draw(*shape: int, seed: int = 7) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def generate(model: nn.Module, ids: torch.Tensor = IDS, **arguments) -> torch.Tensor:
    defaults = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": PAD_ID, "attention_mask": torch.ones_like(ids)}
    return model.generate(input_ids=ids, **{**defaults, **arguments})


def hashes_of_base_weights(model: nn.Module) -> dict[str, str]:
    return {
        name: hashlib.sha256(parameter.detach().numpy().tobytes()).hexdigest()
        for name, parameter in model.named_parameters()
        if "embedding_generator_network" not in name
    }


# Training


def test_fresh_adapter_leaves_the_model_bit_equal(family):
    model = get_peft_model(TINY_MODELS[family](), config())
    assert torch.equal(logits(model, noise=draw(2, NOISE)), logits(TINY_MODELS[family]()))


def test_only_the_adapter_trains(family):
    torch.manual_seed(0)
    model = get_peft_model(TINY_MODELS[family](), config()).eval()  # the frozen model's dropout is always off
    before = hashes_of_base_weights(model)
    trainable = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    assert all("embedding_generator_network.default" in name for name in trainable)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    losses = []
    for _ in range(4):
        loss = model(input_ids=IDS, labels=IDS, noise=draw(2, NOISE)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert hashes_of_base_weights(model) == before
    assert losses[-1] < losses[0]
    assert all(not torch.equal(p, trainable[n]) for n, p in model.named_parameters() if n in trainable)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(family, use_reentrant):
    gradients = []
    for checkpointing in (False, True):
        model = adapted(family)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
        model.train()
        torch.manual_seed(0)  # the same dropout in both
        model(input_ids=IDS, labels=IDS, noise=draw(2, NOISE), use_cache=False).loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)


def test_bf16_base_with_fp32_adapter(family):
    base = TINY_MODELS[family]().to(torch.bfloat16)
    reference = logits(base)
    model = get_peft_model(base, config())
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert torch.equal(logits(model), reference)
    perturb(model)
    model(input_ids=IDS, labels=IDS, noise=draw(2, NOISE)).loss.backward()
    adapted_logits = logits(model)
    assert adapted_logits.dtype == torch.bfloat16
    assert not torch.equal(adapted_logits, reference)


# Noise


def test_noise_changes_the_output_and_reproduces_it(family):
    model, noise = adapted(family), draw(2, NOISE)
    first = logits(model, noise=noise)
    assert torch.equal(logits(model, noise=noise), first)
    assert not torch.allclose(logits(model, noise=draw(2, NOISE, seed=8)), first, atol=1e-3)
    assert torch.equal(logits(model), logits(model, noise=torch.zeros(NOISE)))


def test_noise_per_sequence_is_the_noise_of_each_row(family):
    model, noise = adapted(family), draw(2, NOISE)
    together = logits(model, noise=noise)
    for row in range(2):
        with torch.no_grad():
            alone = model(input_ids=IDS[row : row + 1], noise=noise[row]).logits
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-4)


def test_hold_noise_nests_and_restores(family):
    model, outer, inner = adapted(family), draw(NOISE), draw(NOISE, seed=8)
    with hold_noise(model, outer):
        held = logits(model)
        assert torch.equal(logits(model, noise=inner), logits_under(model, inner))
        with pytest.raises(RuntimeError), hold_noise(model, inner):
            raise RuntimeError
        assert torch.equal(logits(model), held)
    assert torch.equal(held, logits(model, noise=outer))
    assert torch.equal(logits(model), logits(model, noise=torch.zeros(NOISE)))


@pytest.mark.parametrize(
    ("shape", "message"), [((3, NOISE), "3 sequences"), ((NOISE + 1,), "shape"), ((2, 1, NOISE), "shape")]
)
def test_noise_of_another_shape_is_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        logits(adapted("gpt2"), noise=draw(*shape))


def test_drawn_noise_is_standard_normal_and_seeded():
    model = adapted("gpt2")
    noise = draw_noise(model, 5000, torch.Generator().manual_seed(3))
    assert (noise.shape, noise.dtype) == ((5000, NOISE), torch.float32)
    assert torch.equal(noise, torch.randn(5000, NOISE, generator=torch.Generator().manual_seed(3)))
    assert draw_noise(model, 3).shape == (3, NOISE)


def test_models_without_an_embedding_generator_have_no_noise():
    base = TINY_MODELS["gpt2"]()
    assert noise_dim(base) is None
    assert draw_noise(base, 2) is None
    with hold_noise(base, None):
        pass
    with pytest.raises(ValueError, match="no embedding generator"), hold_noise(base, draw(NOISE)):
        pass


# Generation


def test_generate_with_and_without_cache_agrees_with_scoring(family):
    model, noise = adapted(family), draw(2, NOISE)
    cached = generate(model, noise=noise, use_cache=True, output_logits=True, return_dict_in_generate=True)
    assert torch.equal(generate(model, noise=noise, use_cache=False), cached.sequences)
    with torch.no_grad():
        scored = model(input_ids=cached.sequences, noise=noise).logits[:, IDS.shape[1] - 1 : -1]
    steps = torch.stack(cached.logits, dim=1)
    ended = (cached.sequences[:, IDS.shape[1] :] == PAD_ID).unsqueeze(-1)
    torch.testing.assert_close(steps.masked_fill(ended, 0), scored.masked_fill(ended, 0), rtol=1e-3, atol=1e-3)


def test_several_return_sequences_repeat_the_noise(family):
    model, noise = adapted(family), draw(2, NOISE)
    sampling = {"do_sample": True, "max_new_tokens": 5}
    torch.manual_seed(0)
    sampled = generate(model, noise=noise, num_return_sequences=3, **sampling)
    torch.manual_seed(0)
    repeated = generate(model, IDS.repeat_interleave(3, 0), noise=noise.repeat_interleave(3, 0), **sampling)
    assert torch.equal(sampled, repeated)


def test_beams_repeat_the_noise(family):
    model, noise = adapted(family), draw(2, NOISE)
    together = generate(model, noise=noise, num_beams=3, max_new_tokens=4, eos_token_id=None)
    for row in range(2):
        alone = generate(model, IDS[row : row + 1], noise=noise[row], num_beams=3, max_new_tokens=4, eos_token_id=None)
        assert torch.equal(together[row : row + 1], alone)


def test_inputs_embeds_are_refused_while_the_adapter_is_active(family):
    model = adapted(family)
    embeds = draw(2, 9, HIDDEN_SIZE)
    refused = pytest.raises(ValueError, match="inputs_embeds bypasses")
    with refused:
        model(inputs_embeds=embeds)
    with refused:
        model.get_base_model().base_model(inputs_embeds=embeds)
    with refused:
        model.generate(inputs_embeds=embeds, max_new_tokens=2)
    with refused:
        get_peft_model(model.get_base_model(), lora_config(family), "outer")(inputs_embeds=embeds)
    with refused:
        stacked(family).generate(inputs_embeds=embeds, max_new_tokens=2)
    with torch.no_grad():
        reference = TINY_MODELS[family]()(inputs_embeds=embeds).logits
        with model.disable_adapter():
            assert torch.equal(model(inputs_embeds=embeds).logits, reference)
        assert torch.equal(model.unload()(inputs_embeds=embeds).logits, reference)


def test_inputs_embeds_are_refused_by_position():
    transformer = adapted("llama").get_base_model().base_model
    position = list(inspect.signature(transformer.forward).parameters).index("inputs_embeds")
    with pytest.raises(ValueError, match="inputs_embeds bypasses"):
        transformer(*[None] * position, draw(2, 9, HIDDEN_SIZE))


def test_noise_that_would_be_dropped_is_refused(family):
    model = adapted(family)
    with pytest.raises(ValueError, match="hold_noise"):
        logits(model.get_base_model(), noise=draw(NOISE))
    with pytest.raises(ValueError, match="hold_noise"):
        model.get_base_model()(IDS, torch.ones_like(IDS), noise=draw(NOISE))


def unused_disabled(model):
    model.base_model.disable_adapter_layers()


def unused_merged(model):
    model.merge_adapter()


def unused_inactive(model):
    model.base_model.set_adapter([])


@pytest.mark.parametrize("make", [adapted, stacked])
@pytest.mark.parametrize("unused", [unused_disabled, unused_merged, unused_inactive])
def test_noise_that_no_generator_would_use_is_refused(make, unused):
    model, noise = make("gpt2"), draw(2, NOISE)
    assert noise_dim(model) == NOISE
    unused(model)
    reference = logits(model)
    refused = pytest.raises(
        ValueError, match=r"^noise was given, .*: its embedding generator is merged, disabled or not"
    )
    with refused:
        logits(model, noise=noise)
    with refused:
        generate(model, noise=noise)
    with refused, hold_noise(model, noise[0]):
        pass
    with refused:
        generate_answers(model, tiny_tokenizer(), ["who?", "what?"], GameConfig(max_completion_length=4), noise=noise)
    with pytest.raises(ValueError, match="hold_noise"):
        logits(model.get_base_model(), noise=noise)
    assert noise_dim(model) is None and draw_noise(model, 2) is None, "what takes none is given none"
    assert torch.equal(logits(model, noise=draw_noise(model, 2)), reference)


def test_noise_is_for_the_adapter_that_is_active(family):
    model, noise = adapted(family), draw(2, NOISE)
    model.add_adapter("wide", config(noise_dim=NOISE + 1))
    model.set_adapter("wide")
    with pytest.raises(ValueError, match=rf"'wide' must have shape \[{NOISE + 1}\]"):
        logits(model, noise=noise)
    model.set_adapter("default")
    assert logits(model, noise=noise).isfinite().all()


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_a_call_is_given_one_row_of_noise_a_sequence(rows):
    model, ids = adapted("gpt2"), IDS.repeat(2, 1)[: 2 if rows == 1 else rows]
    noise = draw(1 if rows == 1 else 2, NOISE)
    refused = pytest.raises(ValueError, match=rf"noise for {len(noise)} sequences, got {len(ids)}: expected one row")
    with refused:
        model(input_ids=ids, noise=noise)
    with refused:
        model.base_model(ids, noise=noise)
    with refused:
        generate(model, ids, noise=noise)
    with pytest.raises(UserError, match=rf"^noise for {len(noise)} questions, got {len(ids)}: expected one row a que"):
        generate_answers(model, tiny_tokenizer(), ["who?"] * len(ids), GameConfig(max_completion_length=4), noise=noise)


@pytest.mark.parametrize("make", [adapted, stacked])
@pytest.mark.parametrize("argument", ["adapter_names", "alora_offsets"])
def test_an_adapter_for_each_row_is_refused(make, argument):
    model, reference = make("gpt2"), logits(make("gpt2"))
    refused = pytest.raises(
        ValueError, match=rf"^{argument}= is for LoRA: all rows have the active embedding generator"
    )
    with refused:
        logits(model, **{argument: ["__base__", "default"]})
    with refused:
        generate(model, **{argument: ["__base__", "default"]})
    with refused:
        logits(model.get_base_model(), **{argument: ["__base__", "default"]})
    assert torch.equal(logits(model), reference)


# Adapters


def test_disable_adapter_gives_the_base_model(family):
    model, reference = adapted(family), logits(TINY_MODELS[family]())
    active = logits(model)
    with hold_noise(model, draw(2, NOISE)), model.disable_adapter():
        assert torch.equal(logits(model), reference)
    assert torch.equal(logits(model), active)
    assert not torch.allclose(active, reference, atol=1e-2)


def test_two_adapters(family):
    model, noise = adapted(family), draw(2, NOISE)
    first = logits(model, noise=noise)
    torch.manual_seed(5)
    model.add_adapter("other", config(network_options={"hidden_dims": [6], "norm": "none", "noise_scale": 1.0}))
    assert torch.equal(logits(model, noise=noise), first)
    model.set_adapter("other")
    perturb(model, seed=2)
    second = logits(model, noise=noise)
    assert not torch.allclose(first, second, atol=1e-3)
    assert all(".other." in name for name, p in model.named_parameters() if p.requires_grad)

    layer = model.get_input_embeddings()
    model.base_model.set_adapter(["default", "other"])
    one, two = (layer.embedding_generator_network[name] for name in ("default", "other"))
    expected = two(one(layer.base_layer(IDS), noise), noise)
    with hold_noise(model, noise):
        torch.testing.assert_close(layer(IDS), expected)

    model.set_adapter("other")
    model.delete_adapter("default")
    assert torch.equal(logits(model, noise=noise), second)
    assert layer.noise_dims == {"other": NOISE}


def test_adapters_of_different_noise_width_have_no_common_noise():
    model = adapted("gpt2")
    model.add_adapter("wide", config(noise_dim=NOISE + 1))
    assert noise_dim(model) == NOISE
    model.base_model.set_adapter(["default", "wide"])
    with pytest.raises(ValueError, match="differ in noise width"):
        noise_dim(model)


# Saving and loading


def test_save_and_load_into_a_fresh_model(family, tmp_path):
    model, noise = adapted(family), draw(2, NOISE)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    names = dict(model.get_input_embeddings().embedding_generator_network["default"].named_parameters())
    assert {key.rpartition("embedding_generator_network.")[2] for key in saved} == set(names)  # no embedding matrix
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "EMBEDDING_GENERATOR"

    torch.manual_seed(99)
    for adapter_name in ("default", "renamed"):
        loaded = PeftModel.from_pretrained(TINY_MODELS[family](), tmp_path, adapter_name=adapter_name)
        assert torch.equal(logits(loaded, noise=noise), logits(model, noise=noise))
        assert not any(p.requires_grad for p in loaded.parameters())
    other_base = PeftModel.from_pretrained(TINY_MODELS[family](seed=3), tmp_path)
    for key, parameter in other_base.get_input_embeddings().embedding_generator_network["default"].named_parameters():
        assert torch.equal(parameter, names[key])
    trainable = PeftModel.from_pretrained(TINY_MODELS[family](), tmp_path, is_trainable=True)
    assert sum(p.requires_grad for p in trainable.parameters()) == len(names)


def test_low_memory_load(family, tmp_path):
    model = adapted(family)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(TINY_MODELS[family](), tmp_path, low_cpu_mem_usage=True)
    assert torch.equal(logits(loaded), logits(model))


def test_auto_class_and_transformers_own_loader(family, tmp_path):
    TINY_MODELS[family]().save_pretrained(tmp_path / "base")
    base_class = type(TINY_MODELS[family]())
    model = perturb(get_peft_model(base_class.from_pretrained(tmp_path / "base").eval(), config()))
    model.save_pretrained(tmp_path / "adapter")
    reference = logits(model)
    automatic = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").eval()
    torch.testing.assert_close(logits(automatic), reference)
    native = base_class.from_pretrained(tmp_path / "base").eval()
    native.load_adapter(str(tmp_path / "adapter"))
    torch.testing.assert_close(logits(native), reference)


def test_a_local_base_is_named_so_that_it_is_found_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # peft looks for the settings of owner/name
    TINY_MODELS["llama"]().save_pretrained("base")
    base_class = type(TINY_MODELS["llama"]())

    def named(model, folder="saved"):
        save_stack(model, folder)
        files = sorted(Path(folder).glob("*/adapter_config.json"))
        return [json.loads(file.read_text())["base_model_name_or_path"] for file in files]

    virtual = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    for configs in ([config(), lora_config("llama")], [virtual]):
        folder = str(tmp_path / f"saved{len(configs)}")
        model = stack_adapters(base_class.from_pretrained("base"), configs)
        assert named(model, folder) == [str(tmp_path / "base")] * len(configs)
        (tmp_path / "base").rename(tmp_path / "moved")
        again = load_stack(base_class.from_pretrained("moved"), folder)
        assert named(again, folder) == [str(tmp_path / "moved")] * len(configs), "the base that it is on now"
        (tmp_path / "moved").rename(tmp_path / "base")
    model.get_base_model().name_or_path = "owner/name"
    assert named(model) == ["owner/name"]
    fresh = stack_adapters(TINY_MODELS["llama"](), [config()])
    assert named(fresh, "fresh") == [None]


def test_load_in_a_fresh_process(tmp_path):
    model, noise = stacked("llama"), draw(NOISE)
    save_stack(model, tmp_path)
    torch.save(logits_under(model, noise), tmp_path / "logits.pt")
    code = f"""
import torch
from gantune.embedding_generator import hold_noise, load_stack
from tests.test_embedding_generator_peft import NOISE, draw, logits
from tests.test_embedding_generator_network import Shift
from tests.tiny_models import TINY_MODELS
model = load_stack(TINY_MODELS["llama"](), {str(tmp_path)!r})
with hold_noise(model, draw(NOISE)):
    assert torch.equal(logits(model), torch.load({str(tmp_path / "logits.pt")!r}, weights_only=True))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_modules_to_save_are_trained_saved_loaded_and_disabled_with_the_adapter(family, tmp_path):
    modules = TINY_MODELS[family]().named_modules()
    name = [name for name, module in modules if "Norm" in type(module).__name__][-1]  # the last norm
    model, noise = adapted(family, modules_to_save=[name]), draw(2, NOISE)
    copied = {key: p for key, p in model.named_parameters() if ".modules_to_save.default." in key}
    assert copied and all(p.requires_grad and f"{name}." in key for key, p in copied.items())
    model(input_ids=IDS, labels=IDS, noise=noise).loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in copied.values())

    reference = logits(model, noise=noise)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(TINY_MODELS[family](), tmp_path)
    assert torch.equal(logits(loaded, noise=noise), reference)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(f"{name}." in key for key in saved) == len(copied)
    with loaded.disable_adapter():
        assert torch.equal(logits(loaded), logits(TINY_MODELS[family]()))
    before = logits(model)
    torch.testing.assert_close(logits(model.merge_and_unload()), before, rtol=1e-4, atol=1e-4)


def test_modules_to_save_of_a_stack(family, tmp_path):
    model = perturb(stack_adapters(TINY_MODELS[family](), [config(modules_to_save=["lm_head"]), lora_config(family)]))
    save_stack(model, tmp_path)
    saved = {method: load_file(tmp_path / method / "adapter_model.safetensors") for method in model.peft_config}
    head = saved["embedding_generator"]["base_model.model.lm_head.weight"]
    assert not torch.equal(head, TINY_MODELS[family]().lm_head.weight)
    assert not any("lm_head" in key for key in saved["lora"])
    assert torch.equal(logits(load_stack(TINY_MODELS[family](), tmp_path)), logits(model))
    with model.disable_adapter():
        assert torch.equal(logits(model), logits(TINY_MODELS[family]()))


def test_modules_to_save_that_would_take_parts_of_the_generator_are_refused():
    with pytest.raises(UserError, match=r"modules_to_save: 'norm' of the generator network .* such as model.norm"):
        get_peft_model(TINY_MODELS["llama"](), config(modules_to_save=["norm"]))


@pytest.mark.parametrize("network", ["trap.Network", "os.system", ["mlp"]])
def test_a_checkpoint_cannot_name_code_to_import(network, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    adapted("gpt2").save_pretrained(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "network": network}))
    with pytest.raises(UserError, match="unknown generator network"):
        PeftModel.from_pretrained(TINY_MODELS["gpt2"](), tmp_path / "adapter")
    assert "trap" not in sys.modules


def test_a_network_of_the_users_own_saves_and_loads(family, tmp_path):
    model, noise = adapted(family, network=Shift, network_options={"gain": 2.0}), draw(2, NOISE)
    layer = model.get_input_embeddings()
    shift = 2.0 * noise @ layer.embedding_generator_network["default"].shift.weight.T
    with hold_noise(model, noise):
        torch.testing.assert_close(layer(IDS), layer.base_layer(IDS) + shift.unsqueeze(1))
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(TINY_MODELS[family](), tmp_path)
    assert torch.equal(logits(loaded, noise=noise), logits(model, noise=noise))


# Merging


def test_merge_and_unload_is_exact_under_a_held_noise(family, tmp_path):
    model, noise = adapted(family), draw(NOISE)
    head = model.get_output_embeddings().weight.detach().clone()
    with hold_noise(model, noise):
        expected = logits(model)
        merged = model.merge_and_unload(safe_merge=True)
    assert not any(isinstance(module, EmbeddingGeneratorLayer) for module in merged.modules())
    torch.testing.assert_close(logits(merged), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(merged.get_output_embeddings().weight, head)

    merged.save_pretrained(tmp_path)
    reloaded = type(merged).from_pretrained(tmp_path).eval()
    assert reloaded.config.tie_word_embeddings is False
    torch.testing.assert_close(logits(reloaded), expected, rtol=1e-5, atol=1e-5)


def test_merge_and_unmerge_is_bit_exact(family):
    model = adapted(family)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    table, before = embedding.weight, logits(model)
    tied = table is head.weight
    model.merge_adapter()
    torch.testing.assert_close(logits(model), before, rtol=1e-5, atol=1e-5)
    assert embedding.weight is not table
    assert embedding.merged_adapters == ["default"]
    model.unmerge_adapter()
    assert embedding.weight is table
    assert (embedding.weight is head.weight) == tied
    assert torch.equal(logits(model), before)


def test_disabling_a_merged_adapter_unmerges_it(family):
    model = adapted(family)
    model.merge_adapter()
    with model.disable_adapter():
        assert torch.equal(logits(model), logits(TINY_MODELS[family]()))


def test_merge_is_refused_under_noise_per_sequence(family):
    model = adapted(family)
    before = logits(model)
    with hold_noise(model, draw(2, NOISE)), pytest.raises(ValueError, match="per-sequence noise"):
        model.merge_and_unload()
    assert torch.equal(logits(model), before)


def test_the_layer_has_the_features_of_the_embedding(family):
    layer = adapted(family).get_input_embeddings()
    assert (layer.in_features, layer.out_features) == (VOCAB_SIZE, HIDDEN_SIZE) == layer.weight.shape


def test_safe_merge_refuses_a_broken_adapter_in_the_words_of_peft():
    model = adapted("gpt2")
    model.add_adapter("broken", config())
    model.base_model.set_adapter(["default", "broken"])
    table, before = model.get_input_embeddings().weight, model.get_input_embeddings().weight.clone()
    with torch.no_grad():
        model.get_input_embeddings().embedding_generator_network["broken"].output_layer.weight[0] = float("nan")
    message = "NaNs detected in the merged weights. The adapter broken seems to be broken"
    with pytest.raises(ValueError, match=message):
        model.merge_and_unload(safe_merge=True)
    assert model.get_input_embeddings().weight is table and torch.equal(table, before)
    model.merge_adapter()  # as peft does without the check
    assert model.get_input_embeddings().weight.isnan().any()


def test_safe_merge_refuses_values_that_are_not_finite():
    model = adapted("gpt2")
    with torch.no_grad():
        model.get_input_embeddings().embedding_generator_network["default"].output_layer.bias[0] = float("inf")
    with pytest.raises(ValueError, match="not finite"):
        model.merge_adapter(safe_merge=True)


def test_merges_are_counted_by_each_model_alone():
    merged, other = adapted("gpt2"), adapted("gpt2")
    merged.merge_adapter()
    assert not other.get_input_embeddings().merged


def test_unload_gives_the_base_model_back(family):
    model = adapted(family).unload()
    assert torch.equal(logits(model), logits(TINY_MODELS[family]()))
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_copy_is_independent(family):
    model = adapted(family)
    before, duplicate = logits(model), copy.deepcopy(model)
    perturb(duplicate)
    assert torch.equal(logits(model), before)
    assert not torch.equal(logits(duplicate), before)


# Stacking with other methods


def test_stack_trains_both_adapters_and_nothing_else(family):
    model = stack_adapters(TINY_MODELS[family](), [config(), lora_config(family)])
    assert torch.equal(logits(model), logits(TINY_MODELS[family]()))
    perturb(model)
    model(input_ids=IDS, labels=IDS, noise=draw(2, NOISE)).loss.backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {"lora" if "lora_" in name else "generator" for name in trained} == {"lora", "generator"}
    assert all("lora_" in name or "embedding_generator_network" in name for name in trained)
    assert trained == {name for name, p in model.named_parameters() if p.requires_grad}


def test_stack_saves_ordinary_adapters_and_loads(family, tmp_path):
    model, noise = stacked(family), draw(2, NOISE)
    save_stack(model, tmp_path)
    for method, part in (("lora", "lora_"), ("embedding_generator", "embedding_generator_network")):
        saved = load_file(tmp_path / method / "adapter_model.safetensors")
        assert saved
        assert all(part in key for key in saved)
    reference = logits(model, noise=noise)
    loaded = load_stack(TINY_MODELS[family](), tmp_path)
    assert torch.equal(logits(loaded, noise=noise), reference)
    assert torch.equal(generate(loaded, noise=noise), generate(model, noise=noise))
    assert not any(p.requires_grad for p in loaded.parameters())
    trainable = load_stack(TINY_MODELS[family](), tmp_path, is_trainable=True)
    names = {name for name, p in trainable.named_parameters() if p.requires_grad}
    assert names == {name for name, p in model.named_parameters() if p.requires_grad}

    only_lora = PeftModel.from_pretrained(TINY_MODELS[family](), tmp_path / "lora")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embedding_generator_network" in name and ".output_layer." in name:
                parameter.zero_()
    assert torch.equal(logits(only_lora), logits(model))


def test_stack_disables_and_merges_as_one(family):
    model, noise = stacked(family), draw(NOISE)
    with model.disable_adapter():
        assert torch.equal(logits(model), logits(TINY_MODELS[family]()))
    with hold_noise(model, noise):
        expected = logits(model)
        merged = model.merge_and_unload()
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["embedding", "lora", "prompt"])
def test_stack_of_one_has_the_same_layout(method, tmp_path):
    configs = {
        "embedding": config(),
        "lora": lora_config("gpt2"),
        "prompt": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    }
    model = perturb(stack_adapters(TINY_MODELS["gpt2"](), [configs[method]]))
    save_stack(model, tmp_path)
    assert len(list(tmp_path.glob("*/adapter_config.json"))) == 1
    assert torch.equal(logits(load_stack(TINY_MODELS["gpt2"](), tmp_path)), logits(model))


@pytest.mark.parametrize("generator", ["embedding", "lora", "prompt", "prefix"])
def test_an_adapter_of_another_model_names_both_models_and_what_differs(generator, tmp_path):
    def gpt2(name, width=HIDDEN_SIZE, layers=2):
        shape = {"vocab_size": VOCAB_SIZE, "n_embd": width, "n_layer": layers, "n_head": 2, "n_positions": 64}
        model = GPT2LMHeadModel(GPT2Config(**shape))
        model.name_or_path = name
        return model

    tokens = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 3}
    configs = {"embedding": config(), "lora": lora_config("gpt2")}
    configs |= {"prompt": PromptTuningConfig(**tokens), "prefix": PrefixTuningConfig(**tokens)}
    save_stack(stack_adapters(gpt2("ann/small"), [configs[generator]]), tmp_path)
    said = rf"^{tmp_path}: the adapter cannot be put on the base model bob/other, it was made for 'ann/small': "
    with pytest.raises(
        UserError, match=said + r"\S+ is \[(.*\b32\b.*|3, 128)\] in it, expected \[(.*\b16\b.*|3, 64)\]$"
    ):
        load_stack(gpt2("bob/other", width=16), tmp_path)
    load_stack(gpt2("bob/same"), tmp_path)
    if generator == "lora":
        for layers, layer in ((1, 1), (3, 2)):
            with pytest.raises(UserError, match=said + rf"\S+\.h\.{layer}\.\S+ is in one of them only$"):
                load_stack(gpt2("bob/other", layers=layers), tmp_path)


def test_impossible_stacks_are_user_errors(tmp_path):
    prompt = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    for configs in ([], [config(), config()], [config(), prompt]):
        with pytest.raises(UserError):
            stack_adapters(TINY_MODELS["gpt2"](), configs)
    with pytest.raises(UserError, match="no adapter found"):
        load_stack(TINY_MODELS["gpt2"](), tmp_path)


def test_lora_on_all_linear_layers_meets_neither_head_nor_embedding_nor_the_generators_own(family, tmp_path):
    settings = GameConfig(lora_rank=3, lora_alpha=6)
    base = TINY_MODELS[family]()
    head = next(name for name, module in base.named_modules() if module is base.get_output_embeddings())
    linear = {name for name, module in base.named_modules() if isinstance(module, nn.Linear | Conv1D)} - {head}
    assert len(linear) >= 4 * NUM_LAYERS
    generator, lora = build_generator("embedding+lora", settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = perturb(stack_adapters(base, [generator, lora]))
    adapted = {name for name, module in model.get_base_model().named_modules() if isinstance(module, LoraLayer)}
    assert adapted == linear
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name or "embedding_generator_network" in name for name in trained)
    assert not any("lora_" in name and "embedding_generator" in name for name in trained)

    noise = draw(generator.noise_dim)
    expected = logits(model, noise=noise)
    save_stack(model, tmp_path)
    loaded = load_stack(TINY_MODELS[family](), tmp_path)
    assert torch.equal(logits(loaded, noise=noise), expected)
    assert {loaded.peft_config["lora"].r, loaded.peft_config["lora"].lora_alpha} == {3, 6}
    with hold_noise(loaded, noise):
        merged = loaded.merge_and_unload()
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-4)


def test_settings_of_lora_reach_every_place_that_adds_it():
    named = GameConfig(
        lora_rank=2, lora_alpha=5, lora_dropout=0.1, lora_target_modules=["c_fc"], use_rslora=True, use_dora=True
    )
    for spec in ("lora", ["lora"], generators.lora):
        (config,) = build_generator(spec, named)
        assert (config.r, config.lora_alpha, config.lora_dropout, config.target_modules) == (2, 5, 0.1, {"c_fc"})
        assert config.use_rslora and config.use_dora
    for settings in (None, TuningConfig()):
        (config,) = build_generator("lora", settings)
        assert (config.r, config.lora_alpha, config.target_modules) == (8, 16, "all-linear")
    (config,) = build_generator("lora", GameConfig(lora_target_modules=[]))
    assert config.target_modules is None
    with pytest.raises(UserError, match="--lora-target-modules all-linear c_fc: expected all-linear or names"):
        GameConfig(lora_target_modules=["all-linear", "c_fc"])
    with pytest.raises(UserError, match="--lora-rank 0: expected at least 1"):
        GameConfig(lora_rank=0)


# Limits


def test_resizing_the_embeddings_after_wrapping_is_refused(family):
    with pytest.raises(ValueError, match="before adding an embedding generator"):
        adapted(family).resize_token_embeddings(VOCAB_SIZE + 4)


def test_only_embeddings_can_be_adapted():
    with pytest.raises(UserError, match="expected a torch"):
        get_peft_model(TINY_MODELS["llama"](), config(target_modules=["lm_head"]))
    with pytest.raises(UserError, match="target_modules"):
        get_peft_model(nn.Sequential(nn.Embedding(5, 4)), config(task_type=None))
    assert get_peft_model(nn.Sequential(nn.Embedding(5, 4)), config(task_type=None, target_modules=["0"]))
