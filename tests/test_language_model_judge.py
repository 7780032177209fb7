"""The frozen model as its own judge: its gradients are right, it learns, and nothing of it is in the model."""

from __future__ import annotations

import gc
import shutil
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from gantune.discriminators import Blind, LanguageModelJudge
from gantune.discriminators.frozen_lm import without_adapters
from gantune.discriminators.second_adapter import ALPHA, RANK
from gantune.embedding_generator import draw_noise, hold_noise, stack_adapters
from gantune.embedding_generator.generators import build_generator
from gantune.errors import UserError
from gantune.policy import checkpoint_layers
from tests.finite_differences import slope
from tests.killed_training import OPTIONS, difference, train
from tests.test_discriminators import random_batch
from tests.test_language_gan import build as build_gan
from tests.tiny_models import TINY_MODELS

pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
every_family = pytest.mark.parametrize("family", ["gpt2", "llama"])
every_generator = pytest.mark.parametrize("generator", ["lora", "embedding", "embedding+lora"])


def drawn(parameters) -> None:
    """Other weights than those of the beginning, where B = 0."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))


def built(family="gpt2", generator="lora", **options):
    """A tuned model with drawn weights, and a judge on its base, with drawn weights too."""
    torch.manual_seed(0)
    tuned = stack_adapters(TINY_MODELS[family](), build_generator(generator)).eval()
    judge = LanguageModelJudge(tuned.get_base_model(), **options).eval()
    drawn(parameter for parameter in tuned.parameters() if parameter.requires_grad)
    drawn(judge.parameters())
    return tuned, judge


def read_plainly(tuned, judge, batch):
    """The logits by the book: each linear layer's weight with B A added to it, in one pass with a graph."""
    model = tuned.get_base_model()
    weights = {}
    for layer, own in zip(judge._layers, judge.adapter.values(), strict=True):
        product = own.scaling * own.lora_B @ own.lora_A
        weights[layer] = layer.weight + (product if isinstance(layer, nn.Linear) else product.T)
    names = {module: name for name, module in model.base_model.named_modules()}
    replaced = {f"{names[layer]}.weight": weight for layer, weight in weights.items()}
    inputs = {"input_ids": batch.input_ids(), "attention_mask": batch.attention_mask()}
    with without_adapters(tuned):
        states = torch.func.functional_call(
            model.base_model, replaced, kwargs=inputs | {"position_ids": batch.position_ids(), "use_cache": False}
        ).last_hidden_state
    return judge.head(judge.norm(states[:, batch.prompt_ids.shape[1] :].to(judge.head.weight))).squeeze(2)


@every_family
@every_generator
def test_it_reads_the_base_with_its_own_low_rank_weights_added(family, generator):
    tuned, judge = built(family, generator)
    batch = random_batch(5)
    expected, got = read_plainly(tuned, judge, batch), judge.prefix_logits(batch)
    alive = batch.answer_mask.bool()
    assert torch.allclose(got[alive], expected[alive], atol=1e-5) and got.dtype == torch.float32
    last = batch.answer_mask.sum(1) - 1
    assert torch.equal(judge.sequence_logits(batch), got[torch.arange(5), last])
    judge.room = 1  # a row at a time
    assert torch.allclose(judge.prefix_logits(batch)[alive], expected[alive], atol=1e-5)
    with hold_noise(tuned, draw_noise(tuned, 1)):
        assert torch.equal(judge.prefix_logits(batch), judge.prefix_logits(batch))
        assert torch.allclose(judge.prefix_logits(batch)[alive], expected[alive], atol=1e-5)


@every_family
@pytest.mark.parametrize("checkpointed", [False, True])
def test_its_gradients_are_those_of_one_pass_with_a_graph(family, checkpointed):
    tuned, judge = built(family, "embedding+lora", room=1)
    batch, direction = random_batch(3), torch.randn(3, 6) * random_batch(3).answer_mask
    plain = torch.autograd.grad((read_plainly(tuned, judge, batch) * direction).sum(), list(judge.parameters()))
    if checkpointed:
        checkpoint_layers(tuned)
    (judge.prefix_logits(batch) * direction).sum().backward()
    for parameter, expected in zip(judge.parameters(), plain, strict=True):
        assert torch.allclose(parameter.grad, expected, rtol=1e-4, atol=1e-4 * expected.abs().max())


def test_its_gradients_are_finite_differences():
    tuned, judge = built("gpt2", "embedding+lora")
    tuned.double(), judge.double()
    batch, direction = random_batch(3), torch.randn(3, 6, dtype=torch.float64) * random_batch(3).answer_mask

    def value():
        return (judge.prefix_logits(batch).tanh() * direction).sum()

    value().backward()
    for parameter in judge.parameters():
        along = torch.randn_like(parameter)
        expected = slope(value, parameter, along)
        assert (parameter.grad * along).sum().item() == pytest.approx(expected, rel=1e-5, abs=1e-7)


@every_generator
def test_a_step_of_it_changes_the_generator_in_nothing(generator):
    tuned, judge = built("gpt2", generator)
    batch = random_batch()
    trainable = [name for name, parameter in tuned.named_parameters() if parameter.requires_grad]
    before, names = tuned(batch.input_ids()).logits, list(tuned.state_dict())
    weights = {name: value.clone() for name, value in tuned.state_dict().items()}
    optimizer = torch.optim.Adam(judge.parameters(), lr=1e-2)
    judge.sequence_logits(batch).sum().backward()
    assert all(parameter.grad is None for parameter in tuned.parameters())
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in judge.adapter.parameters())
    optimizer.step()
    assert torch.equal(tuned(batch.input_ids()).logits, before)
    assert list(tuned.state_dict()) == names and not difference(dict(tuned.state_dict()), weights)
    assert [name for name, parameter in tuned.named_parameters() if parameter.requires_grad] == trainable
    assert not any(module._forward_hooks for module in tuned.modules())
    assert not any(module.disable_adapters for module in tuned.modules() if isinstance(module, BaseTunerLayer))


def test_what_fails_while_it_reads_leaves_the_model_as_it_was(monkeypatch):
    tuned, judge = built("gpt2", "lora")
    batch = random_batch()
    before = tuned(batch.input_ids()).logits
    with pytest.raises(IndexError):
        judge.prefix_logits(replace(batch, answer_ids=batch.answer_ids + 1000))
    assert torch.equal(tuned(batch.input_ids()).logits, before)
    assert not any(module._forward_hooks for module in tuned.modules())


def test_dropout_is_off_while_it_reads_and_on_again_after():
    tuned, judge = built("gpt2", "lora")
    batch = random_batch()
    expected = judge.prefix_logits(batch)
    tuned.train()
    assert torch.equal(judge.prefix_logits(batch), expected)
    assert all(module.training for module in tuned.modules())


def test_no_activations_are_kept_however_many_answers_there_are():
    """The graph holds the answers' last hidden states, and the rows are read in parts of the room given."""
    _, judge = built("gpt2", "lora")
    judge.room = judge._bytes_of_token * 11 * 3  # three rows of 5 + 6 tokens
    batch, rows, kept = random_batch(16), [], []
    read = judge.one_pass
    judge.one_pass = lambda part: rows.append(len(part)) or read(part)
    own = {parameter.data_ptr() for parameter in judge.parameters()}

    def pack(tensor):
        kept.append(0 if tensor.data_ptr() in own else tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = judge.prefix_logits(batch)
    logits.sum().backward()
    assert rows[:6] == [3, 3, 3, 3, 3, 1] and sorted(rows[6:]) == sorted(rows[:6])
    assert sum(kept) <= 3 * 16 * 6 * 32  # of layers it would be a hundred times as much


def test_a_layer_that_is_not_whole_in_memory_is_refused_by_name():
    model = TINY_MODELS["llama"]()
    model.model.layers[1].mlp.up_proj.to("meta")
    with pytest.raises(UserError, match=r"^layers.1.mlp.up_proj: its layer is offloaded by device_map, expected"):
        LanguageModelJudge(model)


@every_generator
def test_it_begins_from_the_generators_lora(generator):
    """As the generator reads: with its weights, the judge's hidden states are those of the generator without noise."""
    tuned, _ = built("llama", generator)
    batch = random_batch()
    fresh = LanguageModelJudge(tuned.get_base_model())
    fresh.begin_from(tuned)
    with torch.no_grad():
        with fresh.in_place():
            states = fresh.one_pass(batch)
        disabled = [module for module in tuned.modules() if type(module).__name__ == "EmbeddingGeneratorLayer"]
        for module in disabled:
            module._disable_adapters = True
        expected = tuned.get_base_model().base_model(
            input_ids=batch.input_ids(),
            attention_mask=batch.attention_mask(),
            position_ids=batch.position_ids(),
            use_cache=False,
        )
    expected, alive = expected.last_hidden_state[:, 5:], batch.answer_mask.bool()
    assert torch.allclose(states[alive], expected[alive], atol=1e-5)
    has_lora = "lora" in generator
    assert any(own.lora_B.any() for own in fresh.adapter.values()) == has_lora
    generators = [module for module in tuned.modules() if isinstance(module, LoraLayer)]
    with torch.no_grad():  # a copy, and not the same weights
        for module in generators:
            module.lora_B["lora"].weight.add_(1)
    again = LanguageModelJudge(tuned.get_base_model())
    Blind(again, [1]).begin_from(tuned)
    pairs = zip(again.adapter.values(), fresh.adapter.values(), strict=True)
    assert sum(not torch.equal(own.lora_B, other.lora_B) for own, other in pairs) == len(generators)


def test_its_rank_and_scaling_are_those_of_the_generators_lora_where_there_is_one():
    config = LoraConfig(r=3, lora_alpha=15, target_modules=["q_proj"], task_type="CAUSAL_LM")
    tuned = stack_adapters(TINY_MODELS["llama"](), [config])
    judge = LanguageModelJudge(tuned.get_base_model())
    assert len(judge.adapter) == 2 * 7  # every linear layer but the head, and none of an adapter's
    for name, own in judge.adapter.items():
        rank, scaling = (3, 5) if name.endswith("q_proj") else (RANK, ALPHA / RANK)
        assert (len(own.lora_A), own.scaling) == (rank, scaling), name
    assert judge.adapter.keys() == LanguageModelJudge(TINY_MODELS["llama"]()).adapter.keys()
    other = LanguageModelJudge(TINY_MODELS["llama"]())
    other.begin_from(tuned)  # of another model: nothing
    assert not any(own.lora_B.any() for own in other.adapter.values())


def test_in_half_precision_its_weights_are_float32_and_it_reads_as_the_base_does():
    tuned, judge = built("gpt2", "embedding+lora")
    expected = judge.prefix_logits(batch := random_batch())
    tuned.to(torch.bfloat16)
    got = judge.prefix_logits(batch)
    got.sum().backward()
    assert {p.dtype for p in judge.parameters()} == {p.grad.dtype for p in judge.parameters()} == {torch.float32}
    assert got.dtype == torch.float32
    alive = batch.answer_mask.bool()
    assert (got - expected)[alive].abs().max() < 0.1 * expected[alive].std()


def test_under_autocast_its_gradients_are_those_without_it_but_for_rounding():
    _, judge = built("gpt2", "lora")
    batch, found = random_batch(), []
    for enabled in (False, True):
        judge.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            judge.sequence_logits(batch).tanh().sum().backward()
            found.append(torch.cat([p.grad.flatten() for p in judge.adapter.parameters()]))
    assert torch.cosine_similarity(*found, dim=0) > 0.99 and not torch.equal(*found)


# ---- in a training


@pytest.mark.parametrize(
    ("family", "generator"), [("gpt2", "lora"), ("llama", "embedding"), ("gpt2", "embedding+lora")]
)
def test_a_game_trains_it_and_saves_it_apart_from_the_generator(family, generator, tmp_path):
    gan = build_gan(family, discriminator="judge", generator=generator, max_discriminator_accuracy=1.0)
    before = {name: value.clone() for name, value in gan.discriminator.state_dict().items()}
    alone = build_gan(family, generator=generator)
    assert gan.names == alone.names
    assert gan.get_nb_trainable_parameters() == alone.get_nb_trainable_parameters()
    frozen = {name: p.clone() for name, p in gan.model.named_parameters() if not p.requires_grad}
    gan.train()
    after = gan.discriminator.state_dict()
    assert all(not torch.equal(value, after[name]) for name, value in before.items())
    assert all(torch.equal(value, gan.model.get_parameter(name)) for name, value in frozen.items())
    gan.save_pretrained(tmp_path)
    alone.save_pretrained(tmp_path / "alone")
    for folder in tmp_path.glob("*/adapter_model.safetensors"):
        assert folder.stat().st_size == (tmp_path / "alone" / folder.relative_to(tmp_path)).stat().st_size
    loaded = type(gan).from_pretrained(tmp_path, TINY_MODELS[family](), gan.tokenizer)
    assert not difference(dict(loaded.discriminator.state_dict()), dict(after))
    batch = random_batch()
    assert torch.equal(loaded.discriminator.prefix_logits(batch), gan.discriminator.prefix_logits(batch))


def test_a_game_with_it_is_gone_on_with_to_the_bit(tmp_path, monkeypatch):
    settings = {"discriminator": "judge", "generator": "embedding+lora", "reward": "token", "search_policy": "current"}
    monkeypatch.setitem(OPTIONS, "gan", OPTIONS["gan"] | settings)
    kept = {"save_steps": 6, "save_total_limit": None}
    whole = train("gan", tmp_path / "whole", **kept)
    held = whole["checkpoint"]["gantune.pt"]["parts"]["adversary"]
    assert any(name.endswith("lora_B") and value.any() for name, value in held["discriminator"].items())
    for name in ("checkpoint-6", "checkpoint-12"):
        shutil.copytree(tmp_path / "whole" / name, tmp_path / name / name)
        assert not difference(train("gan", tmp_path / name, **kept), whole), name


def copies_of(parameters: list[nn.Parameter]) -> int:
    """How many living tensors in other places have the content of one of these."""
    places = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    tensors = [found for found in gc.get_objects() if isinstance(found, torch.Tensor)]
    others = [found.flatten() for found in tensors if found.untyped_storage().data_ptr() not in places]
    return sum(torch.equal(other, own.flatten()) for own in parameters for other in others if len(other) == own.numel())


def test_the_base_is_in_memory_once(monkeypatch):
    made = TINY_MODELS["gpt2"]
    monkeypatch.setitem(TINY_MODELS, "gpt2", lambda: made(seed=1907))  # a model that no other test has
    gan = build_gan(discriminator="judge", generator="lora", max_discriminator_accuracy=1.0)
    gan.train()
    weights = [p for p in gan.model.parameters() if not p.requires_grad and p.dim() == 2]
    assert len(weights) == 2 + 4 * 2 and copies_of(weights) == 0
    another = weights[0].detach().clone()
    assert copies_of(weights) == 1, another.shape
