"""Kernels for inference: same numbers, whatever the layer, never where a gradient is wanted, and gone afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from gantune.policy import inference_kernels
from gantune.policy.head import Features, OutputHead
from gantune.policy.inference_kernels import HAS_ONEDNN

needs_onednn = pytest.mark.skipif(not HAS_ONEDNN, reason="this torch has no oneDNN")
ONEDNN = "mkldnn::_linear_pointwise"


class Called(TorchDispatchMode):
    """Writes down which operations run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def build_gpt2():
    config = GPT2Config(n_layer=1, n_embd=64, n_head=2, vocab_size=5000, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config).eval().requires_grad_(False)


def layers():
    torch.manual_seed(0)
    conv1d = Conv1D(1024, 768)
    nn.init.normal_(conv1d.bias)
    return {"linear": nn.Linear(768, 768), "no bias": nn.Linear(768, 768, bias=False), "conv1d": conv1d}


@needs_onednn
@pytest.mark.parametrize("name", ["linear", "no bias", "conv1d"])
@pytest.mark.parametrize("shape", [(768,), (0, 3, 768), (1, 768), (3, 768), (2, 1, 768), (64, 768), (5, 33, 768)])
def test_products_are_those_of_float64(name, shape):
    layer, rows = layers()[name], torch.randn(shape)
    with torch.inference_mode(), inference_kernels(layer), Called() as called:
        result = layer(rows)
    assert ONEDNN in called.names and "forward" not in vars(layer)
    expected = layer.double()(rows.double())
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=2e-5)


@needs_onednn
@pytest.mark.parametrize(
    ("width", "rows", "served"), [(512, 15, False), (512, 16, True), (512, 200, True), (511, 200, False)]
)
def test_a_small_layer_takes_the_kernel_for_many_rows_and_a_smaller_one_never(width, rows, served):
    torch.manual_seed(0)
    layer, states = nn.Linear(256, width), torch.randn(rows, 256)
    with torch.inference_mode(), inference_kernels(layer), Called() as called:
        result = layer(states)
    assert (ONEDNN in called.names) == served
    torch.testing.assert_close(result.double(), layer.double()(states.double()), rtol=0, atol=2e-5)


@needs_onednn
def test_few_numbers_of_rows_reach_the_kernel():
    layer, seen = layers()["linear"], set()

    class Rows(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.name() == ONEDNN:
                seen.add(len(args[0]))
            return func(*args, **(kwargs or {}))

    with torch.inference_mode(), inference_kernels(layer), Rows():
        for rows in range(1, 200):
            layer(torch.randn(rows, 768))
    assert seen == {1, 2, 4, 8, 16, 32, 64}


@needs_onednn
def test_a_part_of_the_positions_is_multiplied_right():
    layer, states = layers()["linear"], torch.randn(3, 5, 768)
    with torch.no_grad(), inference_kernels(layer):
        result = layer(states[:, -1:])
    expected = F.linear(states[:, 4:].contiguous(), layer.weight, layer.bias)
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["linear", "conv1d"])
def test_gradients_pass_as_ever(name):
    layer, rows = layers()[name], torch.randn(2, 768, requires_grad=True)
    with inference_kernels(layer), Called() as called:
        result = layer(rows)
        result.square().sum().backward()
    assert ONEDNN not in called.names
    ours, rows.grad = rows.grad, None
    layer(rows).square().sum().backward()
    torch.testing.assert_close(ours, rows.grad)


class Part(nn.Parameter):
    """Stands for a parameter of which this process has a part, such as torch's DTensor."""


class Own(nn.Linear):
    """A layer that computes something else."""

    def forward(self, rows):
        return super().forward(rows) + 1


def with_part():
    layer = nn.Linear(768, 768)
    layer.weight = Part(layer.weight.detach())
    return layer


def with_forward():
    layer = nn.Linear(768, 768)
    layer.forward = lambda rows: F.linear(rows, layer.weight) * 2
    return layer


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(768, 768, dtype=torch.bfloat16),
        nn.Linear(768, 768, dtype=torch.float64),
        nn.Linear(768, 8),
        Own(768, 768),
        with_part(),
        with_forward(),
    ],
    ids=["bfloat16", "float64", "small", "of another class", "divided", "with a forward of its own"],
)
def test_others_are_left_as_they_are(layer):
    rows, before = torch.randn(2, 768, dtype=layer.weight.dtype), vars(layer).get("forward")
    with torch.no_grad():
        expected = layer(rows)
        with inference_kernels(nn.Sequential(layer)), Called() as called:
            result = layer(rows)
    assert ONEDNN not in called.names and torch.equal(result, expected)
    assert vars(layer).get("forward") is before


@needs_onednn
def test_layers_are_put_back_when_something_fails():
    layer = nn.Linear(768, 768)
    with torch.no_grad(), pytest.raises(RuntimeError), inference_kernels(layer):
        layer(torch.randn(2, 255))
    assert "forward" not in vars(layer)


@needs_onednn
def test_the_output_head_is_still_known_and_stopped_at():
    model = build_gpt2()
    head = OutputHead(model)
    assert head.linear is model.lm_head
    with inference_kernels(model):
        assert "forward" in vars(model.lm_head) and head.linear is model.lm_head


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_first_logits_do_not_copy_the_head_for_each_question(dtype):
    head = nn.Linear(16, 1000, bias=False, dtype=dtype).requires_grad_(False)
    states = torch.randn(5, 3, 16, dtype=dtype)
    with torch.no_grad(), Called() as called:
        logits = Features(states[:, -1:], head).logits()
    assert logits.shape == (5, 1, 1000)
    torch.testing.assert_close(logits[:, 0], F.linear(states[:, -1].contiguous(), head.weight))
    assert "aten::bmm" not in called.names  # which copies the second operand, the head, as often as there are rows


def half(dtype):
    """A model of this precision, whose attention is meant."""
    return nn.Linear(2, 2, dtype=dtype)


def attention_inputs(dtype, heads=4, queries=1):
    torch.manual_seed(0)
    buffers = torch.randn(2, 3, 4, 20, 8, dtype=dtype)
    keys, values = buffers[:, :2, :, 3:15]  # as the cache gives them: fewer rows and columns than there is room for
    query = torch.randn(2, queries, heads, 8, dtype=dtype).transpose(1, 2)
    return query, keys, values


def hidden(dtype):
    seen = torch.ones(2, 1, 1, 12, dtype=torch.bool)
    seen[0, ..., :5] = False
    return {"none": None, "bool": seen, "added": torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, -1e4)}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mask", ["none", "bool", "added"])
@pytest.mark.parametrize("scale", [None, 0.7])
def test_attention_of_one_query_is_that_of_float64(dtype, mask, scale):
    query, keys, values = attention_inputs(dtype)
    shown = hidden(dtype)[mask]
    with torch.inference_mode(), inference_kernels(half(dtype)), Called() as called:
        result = F.scaled_dot_product_attention(query, keys, values, attn_mask=shown, scale=scale)
    assert "aten::bmm" in called.names and result.dtype == dtype
    exact = (query.double() @ keys.double().transpose(2, 3)) * (scale or 8**-0.5)
    if mask != "none":
        exact = exact.masked_fill(~hidden(dtype)["bool"], -torch.inf)
    expected = exact.softmax(dim=-1) @ values.double()
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=2e-2 if dtype is torch.bfloat16 else 3e-3)


@pytest.mark.parametrize(
    ("dtype", "queries", "options"),
    [
        (torch.float32, 1, {}),
        (torch.bfloat16, 2, {}),
        (torch.bfloat16, 1, {"is_causal": True}),
    ],
    ids=["float32", "two queries", "causal"],
)
def test_other_attention_is_left_as_it_is(dtype, queries, options):
    inputs = attention_inputs(dtype, queries=queries)
    with torch.inference_mode():
        expected = F.scaled_dot_product_attention(*inputs, **options)
        with inference_kernels(half(dtype)):
            result = F.scaled_dot_product_attention(*inputs, **options)
    assert torch.equal(result, expected)


def test_fewer_key_heads_are_left_to_torch():
    query, keys, values = attention_inputs(torch.bfloat16)
    keys, values = keys[:, :2], values[:, :2]
    with torch.inference_mode(), inference_kernels(half(torch.bfloat16)):
        result = F.scaled_dot_product_attention(query, keys, values, enable_gqa=True)
    expected = F.scaled_dot_product_attention(query, keys.repeat_interleave(2, 1), values.repeat_interleave(2, 1))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-2)
