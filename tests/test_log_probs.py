"""Log-probs in chunks against log-softmax in one piece, where the model's head allows them, and where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    PreTrainedModel,
)

from gantune.data.batch import Batch
from gantune.embedding_generator import EmbeddingGeneratorConfig
from gantune.policy import CausalLMPolicy
from gantune.policy.gelu import fuse_tanh_gelu
from gantune.policy.log_probs import CHUNK_ROWS, chosen_log_probs
from tests.tiny_models import SHAPE, TINY_MODELS, VOCAB_SIZE, build

EOS, PAD = 2, 0


# ---------------------------------------------------------------------------------------------------- the function


def frozen_head(width: int = 16, size: int = 31, bias: bool = True, std: float = 1.0) -> nn.Linear:
    generator = torch.Generator().manual_seed(0)
    head = nn.Linear(width, size, bias=bias).requires_grad_(False)
    for parameter in head.parameters():
        parameter.copy_(std * torch.randn(parameter.shape, generator=generator))
    return head


def inputs(rows: int, width: int = 16, size: int = 31) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, tokens and a weight for each log-prob."""
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(rows, width, generator=generator),
        torch.randint(0, size, (rows,), generator=generator),
        torch.randn(rows, generator=generator),
    )


def reference(
    hidden: Tensor, tokens: Tensor, weights: Tensor, head: nn.Linear, temperature: float
) -> tuple[Tensor, Tensor]:
    """Values and gradient in float64 by plain autograd."""
    hidden = hidden.detach().double().requires_grad_()
    logits = F.linear(hidden, head.weight.double(), None if head.bias is None else head.bias.double())
    log_probs = (logits / temperature).log_softmax(dim=1).gather(1, tokens[:, None]).squeeze(1)
    return log_probs.detach(), torch.autograd.grad((log_probs * weights.double()).sum(), hidden)[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.0])
@pytest.mark.parametrize("chunk", [1, 3, 13, 1000])
def test_values_and_gradients_are_those_of_log_softmax(bias, temperature, chunk):
    head, (hidden, tokens, weights) = frozen_head(bias=bias), inputs(13)
    values, gradient = reference(hidden, tokens, weights, head, temperature)
    hidden.requires_grad_()
    log_probs = chosen_log_probs(hidden, tokens, head, temperature, chunk)
    assert log_probs.dtype == torch.float32
    assert (log_probs - values).abs().max() < 1e-6 * values.abs().max()
    (log_probs * weights).sum().backward()
    assert (hidden.grad - gradient).abs().max() < 1e-6 * gradient.abs().max()
    assert head.weight.grad is None


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_gradients_are_finite_differences(temperature):
    head, (hidden, tokens, _) = frozen_head().double(), inputs(5)
    hidden = hidden.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda h: chosen_log_probs(h, tokens, head, temperature, chunk=2), hidden)


def test_sure_and_hopeless_tokens_stay_exact():
    """Probabilities of 1 - 1e-7 and of 1e-150: neither is lost by rounding p, nor is the gradient."""
    head, (hidden, _, weights) = frozen_head(std=10.0), inputs(8)
    logits = head(hidden)
    for tokens in (logits.argmax(dim=1), logits.argmin(dim=1)):
        values, gradient = reference(hidden, tokens, weights, head, 1.0)
        leaf = hidden.clone().requires_grad_()
        log_probs = chosen_log_probs(leaf, tokens, head)
        (log_probs * weights).sum().backward()
        assert torch.allclose(log_probs.double(), values, rtol=1e-6, atol=1e-6)
        assert (leaf.grad - gradient).abs().max() < 1e-5 * max(gradient.abs().max(), 1.0)
    assert values.min() < -150


def test_no_rows_are_no_log_probs():
    hidden = torch.zeros(0, 16, requires_grad=True)
    log_probs = chosen_log_probs(hidden, torch.zeros(0, dtype=torch.long), frozen_head())
    assert log_probs.shape == (0,)
    log_probs.sum().backward()
    assert hidden.grad.shape == (0, 16)


def test_without_gradient_none_is_kept():
    head, (hidden, tokens, _) = frozen_head(), inputs(5)
    assert not chosen_log_probs(hidden, tokens, head).requires_grad
    hidden.requires_grad_()
    expected = chosen_log_probs(hidden, tokens, head)
    with torch.no_grad():
        assert torch.equal(chosen_log_probs(hidden, tokens, head), expected)


def test_a_bfloat16_head_rounds_its_logits_as_the_model_does():
    head, (hidden, tokens, weights) = frozen_head().bfloat16(), inputs(13)
    hidden = hidden.bfloat16().requires_grad_()
    plain = (head(hidden).float() / 0.7).log_softmax(dim=1).gather(1, tokens[:, None]).squeeze(1)
    (gradient,) = torch.autograd.grad((plain * weights).sum(), hidden)
    log_probs = chosen_log_probs(hidden, tokens, head, 0.7, chunk=4)
    (log_probs * weights).sum().backward()
    assert log_probs.dtype == torch.float32 and hidden.grad.dtype == torch.bfloat16
    assert (log_probs - plain).abs().max() < 1e-5
    assert (hidden.grad - gradient).abs().max() < 2**-6 * gradient.abs().max()


class Largest(TorchDispatchMode):
    """The most elements that a new tensor with `width` columns has."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.elements = width, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor) and tensor.dim() and tensor.shape[-1] == self.width:
                self.elements = max(self.elements, tensor.numel())
        return result


def test_the_logits_of_all_rows_are_never_held():
    head, (hidden, tokens, _) = frozen_head(width=2), inputs(50, width=2)
    hidden.requires_grad_()
    with Largest(width=31) as seen:
        chosen_log_probs(hidden, tokens, head, chunk=4).sum().backward()
    assert seen.elements == 4 * 31


# ------------------------------------------------------------------------------------- where a policy may use it


def adapted(model: PreTrainedModel, **options) -> CausalLMPolicy:
    torch.manual_seed(1)
    config = EmbeddingGeneratorConfig(task_type="CAUSAL_LM", noise_dim=8)
    if options:
        config = LoraConfig(task_type="CAUSAL_LM", r=4, **options)
    model = get_peft_model(model, config)
    with torch.no_grad():
        for parameter in trained(model):
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return CausalLMPolicy(model, eos_token_id=EOS, pad_token_id=PAD)


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def pairs(rows: int = 4, longest: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(3)
    prompt = torch.ones(rows, 5, dtype=torch.long)
    prompt[0, :2] = 0
    answer = (torch.arange(longest) < torch.randint(1, longest + 1, (rows, 1), generator=generator)).long()
    ids = torch.randint(3, VOCAB_SIZE, (rows, 5 + longest), generator=generator)
    return Batch(ids[:, :5] * prompt, prompt, ids[:, 5:] * answer, answer)


def assert_scores_are_the_models(policy: CausalLMPolicy, temperature: float = 0.7) -> None:
    """Both ways of scoring against log-softmax of all logits that the model returns, and their gradients."""
    batch = pairs()
    parameters = trained(policy.model)
    weights = torch.randn(batch.answer_ids.shape, generator=torch.Generator().manual_seed(4))
    logits = policy.model(
        input_ids=batch.input_ids(), attention_mask=batch.attention_mask(), position_ids=batch.position_ids()
    ).logits[:, 4:-1]
    chosen = (logits.float() / temperature).log_softmax(dim=2).gather(2, batch.answer_ids[:, :, None]).squeeze(2)
    expected = chosen * batch.answer_mask
    gradients = torch.autograd.grad((expected * weights).sum(), parameters)

    prefill = policy.prefill(batch, None)
    ways = {
        "plain": policy.score(batch, temperature=temperature),
        "prefilled": policy.score_from(prefill, batch, torch.arange(4), temperature),
    }
    for way, scored in ways.items():
        assert (scored - expected).abs().max() < 1e-5, way
        policy.model.zero_grad()
        (scored * weights).sum().backward()
        if way == "prefilled":
            prefill.backward()
        for parameter, gradient in zip(parameters, gradients, strict=True):
            assert (parameter.grad - gradient).abs().max() <= 1e-5 * gradient.abs().max(), way


@pytest.mark.parametrize("family", TINY_MODELS)
def test_frozen_linear_heads_are_scored_in_chunks(family):
    policy = adapted(TINY_MODELS[family]())
    assert policy.head.linear is policy.model.get_output_embeddings()
    assert_scores_are_the_models(policy)


def test_scoring_never_holds_the_logits_of_all_rows():
    policy, batch = adapted(TINY_MODELS["llama"]()), pairs(rows=40, longest=12)
    with Largest(width=VOCAB_SIZE) as seen:
        policy.score(batch).sum().backward()
        prefill = policy.prefill(batch, None)
        policy.score_from(prefill, batch, torch.arange(40)).sum().backward()
    assert batch.answer_mask[:, 1:].sum() > CHUNK_ROWS
    assert seen.elements == CHUNK_ROWS * VOCAB_SIZE


SMALL = {**SHAPE, "intermediate_size": 64, "num_key_value_heads": 1}
OTHER_LOGITS = {
    "soft-capped": lambda: build(Gemma2ForCausalLM, Gemma2Config, {**SMALL, "head_dim": 16}),
    "soft-capped, of small logits": lambda: build(
        Gemma2ForCausalLM, Gemma2Config, {**SMALL, "head_dim": 16, "initializer_range": 0.01}
    ),
    "scaled": lambda: build(CohereForCausalLM, CohereConfig, {**SMALL, "logit_scale": 0.25}),
    "divided": lambda: build(GraniteForCausalLM, GraniteConfig, {**SMALL, "logits_scaling": 4.0}),
}


@pytest.mark.parametrize("kind", OTHER_LOGITS)
def test_logits_that_are_more_than_the_heads_output_are_taken_from_the_model(kind):
    policy = adapted(OTHER_LOGITS[kind]())
    assert policy.head.linear is None
    assert_scores_are_the_models(policy)


def test_soft_capping_that_is_off_is_no_obstacle():
    shape = {**SMALL, "head_dim": 16, "final_logit_softcapping": None}
    policy = adapted(build(Gemma2ForCausalLM, Gemma2Config, shape))
    assert policy.head.linear is not None
    assert_scores_are_the_models(policy)


HEAD_OPTIONS = {
    "an adapter": {"target_modules": ["lm_head", "c_attn"], "fan_in_fan_out": False},
    "a trained copy": {"target_modules": ["c_attn"], "fan_in_fan_out": True, "modules_to_save": ["lm_head"]},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", HEAD_OPTIONS)
def test_a_head_that_is_tuned_is_run_and_gets_its_gradient(what):
    policy = adapted(TINY_MODELS["gpt2"](), **HEAD_OPTIONS[what])
    assert policy.head.linear is None
    assert any("lm_head" in name and p.requires_grad for name, p in policy.model.named_parameters())
    assert_scores_are_the_models(policy)


def test_a_trainable_head_is_run_and_gets_its_gradient():
    model = TINY_MODELS["llama"]().requires_grad_(False)
    model.lm_head.requires_grad_(True)
    policy = CausalLMPolicy(model, eos_token_id=EOS, pad_token_id=PAD)
    assert policy.head.linear is None
    assert_scores_are_the_models(policy)


@contextmanager
def hooked(head: nn.Linear) -> Iterator[None]:
    handle = head.register_forward_hook(lambda module, args, logits: logits.sin())
    yield
    handle.remove()


@contextmanager
def replaced(head: nn.Linear) -> Iterator[None]:
    forward = head.forward
    head.forward = lambda hidden: forward(hidden).sin()
    yield
    del head.forward


@pytest.mark.parametrize("change", [hooked, replaced])
def test_a_head_that_is_changed_later_is_run(change):
    policy = adapted(TINY_MODELS["gpt2"]())
    with change(policy.model.get_output_embeddings()):
        assert policy.head.linear is None
        assert_scores_are_the_models(policy)
    assert policy.head.linear is not None


def test_finding_out_leaves_the_model_as_it_was():
    model = TINY_MODELS["gpt2"]().requires_grad_(False)
    policy = CausalLMPolicy(model, eos_token_id=EOS, pad_token_id=PAD)
    policy.score(pairs())
    head = model.get_output_embeddings()
    assert not head._forward_hooks and not head._forward_pre_hooks


def test_hidden_states_in_bfloat16_give_the_models_log_probs():
    model = TINY_MODELS["llama"]().requires_grad_(False).bfloat16()
    policy, batch = CausalLMPolicy(model, eos_token_id=EOS, pad_token_id=PAD), pairs()
    assert policy.head.linear is not None
    logits = model(
        input_ids=batch.input_ids(), attention_mask=batch.attention_mask(), position_ids=batch.position_ids()
    ).logits[:, 4:-1]
    expected = logits.float().log_softmax(dim=2).gather(2, batch.answer_ids[:, :, None]).squeeze(2)
    assert (policy.score(batch) - expected * batch.answer_mask).abs().max() < 1e-5


# ------------------------------------------------------------------------------------------------------- GELU


def test_the_fused_gelu_is_the_same_function():
    plain, fused = TINY_MODELS["gpt2"](), TINY_MODELS["gpt2"]()
    keys = list(fused.state_dict())
    assert fuse_tanh_gelu(fused) == 2 and fuse_tanh_gelu(fused) == 0
    assert list(fused.state_dict()) == keys
    ids = pairs().input_ids()
    results = []
    for model in (plain, fused):
        logits = model(input_ids=ids).logits
        (logits * torch.linspace(-1, 1, VOCAB_SIZE)).sum().backward()
        results.append((logits.detach(), [p.grad for p in model.parameters()]))
    (logits, gradients), (fused_logits, fused_gradients) = results
    assert (logits - fused_logits).abs().max() < 1e-6 * logits.abs().max()
    for one, other in zip(gradients, fused_gradients, strict=True):
        assert (one - other).abs().max() <= 1e-6 * one.abs().max()


def test_a_policy_fuses_what_its_model_has():
    assert fuse_tanh_gelu(adapted(TINY_MODELS["gpt2"]()).model) == 0
    assert fuse_tanh_gelu(TINY_MODELS["gpt_neox"]()) == 0  # the exact GELU is another function
