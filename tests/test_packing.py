"""Several pairs in a row: what the rows hold, that loss and gradient stay what they are, and who cannot take it."""

from __future__ import annotations

import itertools

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import BloomConfig, BloomForCausalLM, MambaConfig, MambaForCausalLM

from baselines import METHODS
from baselines.lora import LoraTuningConfig, tune_lora
from gantune.data import EncodedPair, Pair, check_packing, collate, likelihood_inputs, mask_dtype, packed_inputs
from gantune.data.packing import fill_rows
from gantune.errors import UserError
from tests.killed_training import Remembering
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False", "ignore:`is_gradient_checkpointing`")


def encoded(*lengths):
    """Pairs of random tokens, with so many in prompt and answer."""
    draw = torch.Generator().manual_seed(0)
    tokens = [torch.randint(3, 97, (prompt + answer,), generator=draw).tolist() for prompt, answer in lengths]
    return [EncodedPair(ids[: p[0]], ids[p[0] :], Pair("", "")) for ids, p in zip(tokens, lengths, strict=True)]


ROWS = encoded((5, 4), (2, 3), (7, 1), (1, 6), (3, 2), (4, 4))


def test_rows_hold_as_little_padding_as_first_fit_finds():
    assert fill_rows([3, 5, 2, 2, 6, 1], 8) == [[4, 5], [1, 2], [0, 3]]
    assert fill_rows([3, 12], 8) == [[1], [0]]  # one that is too long has a row of its own
    assert fill_rows([4], 4) == [[0]]
    assert fill_rows([4, 4, 4, 4], 8) == [[0], [1], [2], [3]]  # no padding anyhow, and short rows cost less attention
    for lengths in itertools.product([1, 4, 7], repeat=5):
        rows = fill_rows(lengths, 14)
        assert sorted(item for row in rows for item in row) == list(range(5))
        widths = [sum(lengths[item] for item in row) for row in rows]
        assert max(widths) <= 14 and len(rows) * max(widths) <= 5 * max(lengths)


def test_a_packed_row_by_hand():
    rows = [EncodedPair([10, 11], [12], Pair("", "")), EncodedPair([20], [21], Pair("", ""))]
    inputs = packed_inputs([*rows, EncodedPair([30, 31, 32], [33], Pair("", ""))], 0, limit=6)
    assert inputs["input_ids"].tolist() == [[30, 31, 32, 33, 0], [10, 11, 12, 20, 21]]
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 3, 0], [0, 1, 2, 0, 1]]
    assert inputs["labels"].tolist() == [[-100, -100, -100, 33, -100], [-100, -100, 12, -100, 21]]
    first, second = inputs["attention_mask"][:, 0].int().tolist()
    assert first == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 1]]
    assert second == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]
    added = packed_inputs(rows, 0, 6, torch.float32)["attention_mask"]
    assert added.shape == (1, 1, 5, 5) and added[0, 0, 3].tolist() == 3 * [torch.finfo().min] + [0, torch.finfo().min]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "gpt_neox"])
def test_loss_and_gradient_are_those_of_unpacked_training(family, attention):
    model = TINY_MODELS[family]()
    model.set_attn_implementation(attention)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False))
    model.requires_grad_(True).eval()
    check_packing(model, ROWS)
    found = []
    for inputs in (likelihood_inputs(collate(ROWS, 0)), packed_inputs(ROWS, 0, 16, mask_dtype(model))):
        model.zero_grad()
        loss = model(**inputs).loss
        loss.backward()
        found.append((loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (loss, gradients), (packed_loss, packed_gradients) = found
    assert len(packed_inputs(ROWS, 0, 16)["input_ids"]) < len(ROWS) and len(gradients) > 10
    torch.testing.assert_close(packed_loss, loss, rtol=1e-5, atol=0)
    assert gradients.keys() == packed_gradients.keys()
    scale = max(gradient.abs().max() for gradient in gradients.values())
    for name, gradient in gradients.items():
        assert (packed_gradients[name] - gradient).abs().max() <= 1e-5 * scale, name


def test_packed_training_takes_the_same_steps_in_fewer_tokens():
    pairs = [Pair(f"who{' is' * (5 * i % 8)}?", f"n{i}.") for i in range(8)]
    runs = []
    for packing in (False, True):
        model, observer = TINY_MODELS["gpt2"](), Remembering()
        config = LoraTuningConfig(
            num_train_epochs=2,
            per_device_train_batch_size=4,
            max_prompt_length=100,
            packing=packing,
            lora_learning_rate=1e-2,
        )
        torch.manual_seed(0)
        tune_lora(model, tiny_tokenizer(), pairs, config, [observer])
        runs.append(observer.rows)
    assert [row["loss"] for row in runs[1]] == pytest.approx([row["loss"] for row in runs[0]], rel=1e-4)
    assert sum(row["tokens"] for row in runs[1]) < 0.9 * sum(row["tokens"] for row in runs[0])


@pytest.mark.parametrize(
    "model_class, config",
    [
        (MambaForCausalLM, MambaConfig(vocab_size=97, hidden_size=16, num_hidden_layers=1, state_size=4)),
        (BloomForCausalLM, BloomConfig(vocab_size=97, hidden_size=16, n_layer=1, n_head=2)),
    ],
)
def test_a_model_that_cannot_take_packed_rows_is_refused_in_one_line(model_class, config):
    model = model_class(config).train()
    with pytest.raises(UserError, match=r"^--packing: (Mamba|Bloom)ForCausalLM does not") as error:
        check_packing(model, ROWS)
    assert "\n" not in str(error.value) and model.training


@pytest.mark.parametrize("method", ["prompt-tuning", "p-tuning", "prefix-tuning"])
def test_virtual_tokens_are_refused(method):
    found, option = METHODS.get(method), method.replace("-", "_") + "_virtual_tokens"
    config = found.config_class(packing=True, max_prompt_length=30, max_completion_length=8, **{option: 2})
    with pytest.raises(UserError, match="--packing: not with virtual tokens"):
        found.tune(TINY_MODELS["gpt2"](), tiny_tokenizer(), [Pair("who?", "me.")], config)
