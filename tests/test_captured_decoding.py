"""Decoding over fixed tensors gives what the usual way gives; the graph around it is proven, or given up."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import BloomConfig, BloomForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from gantune.data.batch import Batch
from gantune.embedding_generator import stack_adapters
from gantune.errors import UserError
from gantune.policy import CausalLMPolicy, DelayedPolicy, Draws, MonteCarloSearch, Rollout, captured
from gantune.policy.captured import CAPACITY_STEP, KEPT, CapturedDecoding, why_not
from gantune.policy.decoding import Beginning, decode
from gantune.policy.fixed_step import FixedStep
from gantune.trainer.arguments import LanguageGANConfig
from gantune.trainer.language_gan import LanguageGAN
from tests.tiny_models import EOS_ID, PAD_ID, SHAPE, TINY_MODELS, VOCAB_SIZE, build
from tests.tiny_policies import ADAPTERS
from tests.tiny_tokenizer import tiny_tokenizer

LONGEST, SAMPLES, NEVER = 9, 3, -50.0
ENDS = {"eos_token_id": EOS_ID, "pad_token_id": PAD_ID}
LLAMA = {**SHAPE, "intermediate_size": 64}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
OTHERS = {
    "window": (
        lambda: build(MistralForCausalLM, MistralConfig, {**LLAMA, "num_key_value_heads": 1, "sliding_window": 4}),
        "full attention",
    ),
    "dynamic": (lambda: build(LlamaForCausalLM, LlamaConfig, {**LLAMA, "rope_parameters": DYNAMIC}), "rotary"),
}
pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")


def tuned(model: nn.Module, adapter: str = "embedding+lora", end_bias: float = 2.5) -> CausalLMPolicy:
    """A policy whose adapter is away from zero, and whose head likes the end token."""
    torch.manual_seed(1)
    model = stack_adapters(model, deepcopy(ADAPTERS[adapter]))  # peft writes into configurations
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    head = model.get_output_embeddings()
    head.register_buffer("liked", torch.zeros(VOCAB_SIZE, device=model.device, dtype=model.dtype))
    head.liked[EOS_ID] = end_bias
    head.register_forward_hook(lambda module, args, logits: logits + module.liked)
    return CausalLMPolicy(model, EOS_ID, PAD_ID)


def tiny(name: str = "gpt2", **options) -> CausalLMPolicy:
    return tuned(TINY_MODELS[name](), **options)


def over_fixed_tensors(policy: CausalLMPolicy, **options) -> CapturedDecoding:
    """Let a policy decode by the step that would be captured."""
    policy.captured = CapturedDecoding(policy.model, EOS_ID, PAD_ID, capture=False, **options)
    return policy.captured


def questions(lengths: tuple[int, ...] = (7, 2, 4), seed: int = 3) -> Batch:
    """Left-padded questions."""
    mask = torch.tensor([[0] * (max(lengths) - n) + [1] * n for n in lengths])
    ids = torch.randint(3, VOCAB_SIZE, mask.shape, generator=torch.Generator().manual_seed(seed)) * mask
    empty = torch.zeros(len(lengths), 0, dtype=torch.long)
    return Batch(ids, mask, empty, empty)


def rollout(policy: CausalLMPolicy, batch: Batch, seed: int = 0, longest: int = LONGEST, **options) -> Rollout:
    """Answers from random numbers that are given."""
    generator = torch.Generator().manual_seed(seed)
    options = {"temperature": 0.7, "samples_per_prompt": SAMPLES} | options
    rows = len(batch) * options["samples_per_prompt"]
    numbers = torch.rand(rows, longest + 2, dtype=torch.float64, generator=generator)
    draws = Draws(policy.draw_noise(len(batch), generator), numbers.to(batch.device))
    return policy.rollout(batch, max_new_tokens=longest, draws=draws, **options)


def same(found: Rollout, expected: Rollout) -> None:
    assert torch.equal(found.answer_ids, expected.answer_ids)
    assert torch.equal(found.answer_mask, expected.answer_mask)
    assert (found.log_probs - expected.log_probs).abs().max() < (1e-4 if found.device.type == "cuda" else 1e-5)
    assert not found.answer_ids.is_inference()


def check(policy: CausalLMPolicy, batch: Batch, **options) -> Rollout:
    """A rollout by the policy's captured decoding against one by the usual way."""
    found, decoding = rollout(policy, batch, **options), policy.captured
    policy.captured = None
    same(found, rollout(policy, batch, **options))
    policy.captured = decoding
    return found


# ---- the step


@pytest.mark.parametrize("name, adapter", [(name, "embedding+lora") for name in TINY_MODELS] + [("llama", "lora")])
def test_answers_are_those_of_the_usual_way(name, adapter):
    policy = tiny(name, adapter=adapter)
    decoding = over_fixed_tensors(policy)
    lengths = check(policy, questions()).answer_mask.sum(dim=1)
    assert 1 <= lengths.min() < lengths.max()  # rows end at different tokens
    check(policy, questions((5, 5)), seed=1, temperature=1.3, samples_per_prompt=1)
    check(policy, questions(), longest=2)
    check(policy, questions(), longest=1)
    assert not decoding.usual and len(decoding.steps) == 2  # for 9 rows and for 2
    assert all(layer.keys.shape[2] == CAPACITY_STEP for step in decoding.steps.values() for layer in step.cache.layers)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_attention_that_adds_its_mask(name):
    policy = tiny(name)
    policy.model.set_attn_implementation("eager")
    decoding = over_fixed_tensors(policy)
    check(policy, questions())
    assert not decoding.usual


def test_in_bfloat16_the_proof_holds():
    policy = tuned(TINY_MODELS["llama"]().bfloat16(), "embedding")
    decoding = over_fixed_tensors(policy)
    rollout(policy, questions())
    assert not decoding.usual


def test_nothing_is_left_of_the_rows_before():
    policy = tiny()
    decoding = over_fixed_tensors(policy)
    check(policy, questions())
    (step,) = decoding.steps.values()
    buffers = [value for value in vars(step).values() if isinstance(value, Tensor)]
    buffers += [states for layer in step.cache.layers for states in (layer.keys, layer.values)]
    with torch.inference_mode():
        for buffer in buffers:
            buffer.fill_(float("nan") if buffer.is_floating_point() else 1)
    check(policy, questions((3, 1, 2), seed=8), seed=4, longest=5)
    check(policy, questions((20, 30, 25), seed=9), seed=5, longest=12)
    assert list(decoding.steps.values()) == [step]


def test_longer_rows_have_other_buffers_and_few_are_kept():
    policy = tiny()
    decoding = over_fixed_tensors(policy)
    for rows in range(1, KEPT + 2):
        check(policy, questions((3,) * rows))
    first, *_, last = decoding.steps.values()
    assert len(decoding.steps) == KEPT and (len(first.ids), len(last.ids)) == (2 * SAMPLES, (KEPT + 1) * SAMPLES)
    check(policy, questions((3, 3)))
    assert list(decoding.steps.values())[-1] is first  # used last, so dropped last
    check(policy, questions((50,)), longest=14)
    assert [layer.keys.shape[2] for layer in decoding.steps.popitem()[1].cache.layers] == [CAPACITY_STEP] * 2
    check(policy, questions((50,)), longest=13)


def test_random_numbers_that_are_drawn_are_those_of_the_usual_way_until_a_row_ends():
    policy, drawn = tiny(end_bias=NEVER), []
    over_fixed_tensors(policy)
    for _ in range(2):
        torch.manual_seed(6)
        drawn.append(policy.rollout(questions(), max_new_tokens=LONGEST, samples_per_prompt=SAMPLES))
        policy.captured = None
    same(*drawn)


@pytest.mark.parametrize("check_every", [1, 4, 50])
def test_rows_that_ended_are_seen_now_and_then_and_make_no_difference(check_every):
    policy = tiny(end_bias=6.0)
    over_fixed_tensors(policy, check_every=check_every)
    check(policy, questions())


def test_rows_may_get_different_numbers_of_tokens():
    """The longest row would pass the model's last position if it went on with the others."""
    policy, batch, left = tiny(end_bias=NEVER), questions((60, 20, 5)), torch.tensor([3, 9, 20])
    noise = policy.draw_noise(3)
    uniform = torch.rand(3, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        prefill = policy.prefill(batch, noise)
    answers = []
    for decoding in (over_fixed_tensors(policy).decode, partial(decode, policy.model, **ENDS)):
        given = prefill.decoding_cache(1, 80), prefill.first_logits(1), batch.prompt_mask, left, noise
        answers.append(decoding(Beginning(*given, temperature=0.7, uniform=uniform)))
    found, expected = answers
    assert found.mask.sum(dim=1).tolist() == left.tolist() and not policy.captured.usual
    assert torch.equal(found.ids, expected.ids) and (found.log_probs - expected.log_probs).abs().max() < 1e-5


def test_a_search_goes_on_from_the_state():
    policy, completed, options = tiny(end_bias=0.0), [], {"longest": 8, "keep_state": True}
    decoding = over_fixed_tensors(policy)
    state = check(policy, questions(), **options)
    policy.captured = None
    usual = rollout(policy, questions(), **options)
    for given in (usual, state):
        torch.manual_seed(6)
        completed.append([part.batch.answer_ids.tolist() for part in MonteCarloSearch(policy, 2)(given)])
    assert completed[0] == completed[1] and len(completed[0]) > 1
    policy.captured = decoding
    (rows,) = (state.answer_mask.sum(dim=1) > 3).nonzero(as_tuple=True)
    completed = policy.complete(state, rows[:3], torch.tensor([1, 3, 2])[: len(rows)])
    assert not decoding.usual and len(completed) == min(3, len(rows))
    assert torch.equal(completed.answer_ids[:, 0], state.answer_ids[rows[:3], 0])


def test_a_step_after_an_optimiser_step_has_the_new_weights():
    policy = tiny("llama")
    decoding, batch = over_fixed_tensors(policy), questions()
    trained = [parameter for parameter in policy.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.05)
    before = check(policy, batch)
    policy.score(before, noise=before.noise).sum().backward()
    optimizer.step()
    after = check(policy, batch)
    assert len(decoding.steps) == 1 and not torch.equal(after.log_probs, before.log_probs)

    delayed = DelayedPolicy(policy, trained)
    with delayed._averaged():
        check(policy, batch)
    assert len(decoding.steps) == 2  # other addresses
    with policy.model.disable_adapter():
        check(policy, batch)
    assert len(decoding.steps) == 3  # the adapter is off
    check(policy, batch)
    assert len(decoding.steps) == 3


class CopiesFromTheHost(TorchDispatchMode):
    """Notes operations that a tensor of the CPU goes into; a bare number does not count, it is a kernel's argument."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        tensors = [value for value in tree_leaves((args, kwargs or {})) if isinstance(value, Tensor)]
        copies = "copy" in function.overloadpacket.__name__
        if any(value.device.type == "cpu" and (value.dim() or copies) for value in tensors):
            self.found.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("adapter", ["embedding+lora", "lora"])
@pytest.mark.parametrize("name", TINY_MODELS)
def test_a_step_asks_the_host_nothing(name, adapter):
    """On the device "meta" tensors have no values: what would read one raises."""
    policy = tiny(name, adapter=adapter)
    noise, batch = policy.draw_noise(3), questions()
    with torch.no_grad():
        prefill = policy.prefill(batch, noise)
        given = prefill.first_logits(1), batch.prompt_mask, torch.full((3,), LONGEST), noise
        logits, mask, left, noise = (value if value is None else value.to("meta") for value in given)
        policy.model.to("meta")
        prefill.states = [(keys.to("meta"), values.to("meta")) for keys, values in prefill.states]
        cache = prefill.decoding_cache(1, 20)
        uniform = torch.zeros(3, LONGEST, dtype=torch.float64, device="meta")
        beginning = Beginning(cache, logits, mask, left, noise, 0.7, uniform)
        step = FixedStep(policy.model, beginning, CAPACITY_STEP, EOS_ID, PAD_ID)
        step.load(beginning)
        with CopiesFromTheHost() as copies:
            step.sample()
            step.advance()
    assert copies.found == []
    with CopiesFromTheHost() as copies:
        step.ids.add_(torch.ones(3, 1, dtype=torch.long).to("meta"))
    assert len(copies.found) == 1  # the test sees a copy
    for question in (lambda: bool(step.alive.any()), lambda: step.ids[step.alive.squeeze(1)]):
        with pytest.raises((RuntimeError, NotImplementedError)):  # and what needs a value
            question()


# ---- the graph


@pytest.fixture
def graphs(monkeypatch):
    """Captures that only keep the step; what was captured, and how often it was replayed."""
    counts = {"captures": 0, "replays": 0}

    def kept(step, device):
        for _ in range(captured.WARM_UP_STEPS):
            step()
        counts["captures"] += 1

        def replay():
            counts["replays"] += 1
            step()

        return replay

    monkeypatch.setattr(captured, "captured", kept)
    return counts


def with_graphs(policy: CausalLMPolicy, **options) -> CapturedDecoding:
    decoding = over_fixed_tensors(policy, **options)
    decoding.capture = True
    return decoding


def test_a_graph_is_captured_once_and_replayed_for_every_token_but_the_first(graphs):
    policy = tiny(end_bias=NEVER)
    with_graphs(policy)
    for seed in range(3):
        check(policy, questions((4 + seed, 2, 3)), seed=seed)
    assert graphs == {"captures": 1, "replays": 3 * (LONGEST - 1)}


@pytest.mark.parametrize("check_every, replays", [(1, 0), (4, 3), (8, 7), (50, LONGEST - 1)])
def test_the_end_is_looked_at_every_so_many_tokens(graphs, check_every, replays):
    policy = tiny(end_bias=50.0)
    with_graphs(policy, check_every=check_every)
    check(policy, questions())
    graphs["replays"] = 0
    assert check(policy, questions()).answer_ids.shape[1] == 1
    assert graphs["replays"] == replays


def wrong_numbers(step):
    def replay():
        step()
        step.__self__.logits.neg_()

    return replay


def stuck(step):
    """A replay that does not move on: what a Python number in the step would make."""
    fixed = step.__self__

    def replay():
        if fixed.index == 1:
            return step()
        fixed.column.sub_(1)
        step()

    return replay


def not_a_number(step):
    return lambda: step.__self__.logits.fill_(float("nan"))


def out_of_memory(step):
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")


@pytest.mark.parametrize(
    "capture, reason",
    [
        (wrong_numbers, "differ"),
        (stuck, "differ"),
        (not_a_number, "differ"),
        (out_of_memory, "OutOfMemoryError: CUDA out of memory."),
    ],
)
def test_a_capture_that_fails_is_given_up_with_one_warning(capture, reason, monkeypatch, caplog):
    monkeypatch.setattr(captured, "captured", lambda step, device: capture(step))
    policy = tiny(end_bias=0.0)
    decoding = with_graphs(policy)
    with caplog.at_level(logging.WARNING):
        for seed in range(2):
            check(policy, questions(), seed=seed, keep_state=True)
    (message,) = [record.getMessage() for record in caplog.records]
    assert reason in message and "\n" not in message and message.endswith("decoding goes on the usual way")
    assert decoding.usual and not decoding.steps


def test_a_graph_is_recorded_as_torch_asks_for_it(monkeypatch):
    """The order of the calls, on stand-ins for CUDA's."""
    said: list[str] = []

    class Stream:
        def __init__(self, name="side"):
            self.name = name

        def wait_stream(self, other):
            said.append(f"{self.name} waits for {other.name}")

    class Graph:
        def replay(self):
            said.append("replay")

    @contextmanager
    def within(name):
        said.append(f"in {name}")
        yield
        said.append(f"out of {name}")

    stand_ins = {
        "Stream": Stream,
        "CUDAGraph": Graph,
        "current_stream": lambda: Stream("main"),
        "stream": lambda stream: within(stream.name),
        "device": lambda device: within(device.type),
        "graph": lambda graph, capture_error_mode: within(f"graph {capture_error_mode}"),
    }
    for name, value in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, value)
    captured.captured(lambda: said.append("step"), torch.device("cuda"))()
    assert said == [
        *("in cuda", "side waits for main", "in side", *["step"] * captured.WARM_UP_STEPS, "out of side"),
        *("main waits for side", "in graph thread_local", "step", "out of graph thread_local", "out of cuda", "replay"),
    ]


# ---- where it is not used


@pytest.mark.parametrize("name", OTHERS)
def test_other_attention_keeps_the_usual_way(name, caplog):
    made, reason = OTHERS[name]
    policy = tuned(made())
    with caplog.at_level(logging.WARNING):
        decoding = over_fixed_tensors(policy)
        check(policy, questions())
    (message,) = [record.getMessage() for record in caplog.records]
    assert decoding.usual and reason in message and reason in why_not(policy.model)


def test_virtual_tokens_keep_the_usual_way():
    policy = tiny("llama", adapter="prompt")
    assert over_fixed_tensors(policy).usual and "virtual tokens" in why_not(policy.model)
    check(policy, questions())


def test_a_model_that_reads_its_mask_itself_is_found_out(caplog):
    shape = {"vocab_size": VOCAB_SIZE, "hidden_size": 32, "n_layer": 2, "n_head": 2}
    policy = tuned(build(BloomForCausalLM, BloomConfig, shape), "lora")
    assert why_not(policy.model) is None
    decoding = over_fixed_tensors(policy)
    with caplog.at_level(logging.WARNING):
        check(policy, questions())
    assert decoding.usual and len(caplog.records) == 1


def test_without_cuda_it_is_refused_in_one_line(tmp_path):
    message = r"^--captured-decoding needs CUDA, the model is on cpu$"
    with pytest.raises(UserError, match=message):
        CausalLMPolicy(TINY_MODELS["gpt2"](), EOS_ID, PAD_ID, captured_decoding=True)
    with pytest.raises(UserError, match=message):
        config = LanguageGANConfig(captured_decoding=True, use_cpu=True)
        LanguageGAN(TINY_MODELS["gpt2"](), config, processing_class=tiny_tokenizer())


def test_what_was_trained_with_it_is_loaded_without_cuda(tmp_path):
    tokenizer = tiny_tokenizer()
    gan = LanguageGAN(TINY_MODELS["gpt2"](), LanguageGANConfig(use_cpu=True), processing_class=tokenizer)
    gan.args.captured_decoding = True
    gan.save_pretrained(tmp_path)
    loaded = LanguageGAN.from_pretrained(tmp_path, TINY_MODELS["gpt2"](), tokenizer, use_cpu=True)
    assert not loaded.args.captured_decoding and loaded.policy.captured is None


# ---- on a GPU


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_captured_graph_gives_the_answers_of_the_usual_way(name):
    policy = tuned(TINY_MODELS[name]().cuda())
    policy.captured = decoding = CapturedDecoding(policy.model, EOS_ID, PAD_ID)
    batch = questions().to("cuda")
    trained = [parameter for parameter in policy.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.05)
    for seed in range(2):
        found = check(policy, batch, seed=seed)
        policy.score(found, noise=found.noise).sum().backward()
        optimizer.step()
    check(policy, questions((20, 30, 25), seed=9).to("cuda"), longest=12)
    assert not decoding.usual and len(decoding.steps) == 1
    with FixedStepCalls() as calls:
        check(policy, batch, seed=5)
    assert calls.count == 0  # all steps were replays


class FixedStepCalls:
    """Counts the steps that Python runs."""

    def __enter__(self):
        self.count, self.original = 0, FixedStep.advance

        def counted(step):
            self.count += 1
            self.original(step)

        FixedStep.advance = counted
        return self

    def __exit__(self, *error):
        FixedStep.advance = self.original
