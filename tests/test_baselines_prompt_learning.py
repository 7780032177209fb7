"""Answers and losses of prompt learning, batched and padded, against one row at a time computed by hand."""

from __future__ import annotations

import pytest
import torch

from baselines import METHODS
from baselines.prompt_learning import check_positions
from gantune.data import Pair, build_template, encode_pairs
from gantune.errors import UserError
from gantune.policy.evaluation import answer_losses
from gantune.tuning import TuningConfig
from tests.tiny_models import EOS_ID, TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`")

VIRTUAL = 4
PAIRS = [Pair(f"who is n{'x' * i}?", f"n{i} is {'old' if i % 2 else 'a cook'}.") for i in (0, 3, 9, 11)]
LIMITS = {"num_train_epochs": 2, "per_device_train_batch_size": 2, "max_prompt_length": 40, "max_completion_length": 8}
OPTIONS = {
    "p-tuning": {"p_tuning_virtual_tokens": VIRTUAL, "p_tuning_learning_rate": 3e-2},
    "prefix-tuning": {
        "prefix_tuning_virtual_tokens": VIRTUAL,
        "prefix_tuning_hidden_size": 0,
        "prefix_tuning_learning_rate": 3e-2,
    },
    "prompt-tuning": {"prompt_tuning_virtual_tokens": VIRTUAL, "prompt_tuning_learning_rate": 3e-2},
}


@pytest.fixture(
    scope="module", params=[(name, family) for name in sorted(OPTIONS) for family in ("gpt2", "llama")], ids="-".join
)
def tuned(request):
    """A tuned model, and the untouched base."""
    name, family = request.param
    torch.manual_seed(0)
    found = METHODS.get(name)
    config = found.config_class(**LIMITS | OPTIONS[name])
    return found.tune(TINY_MODELS[family](), tiny_tokenizer(), PAIRS, config), TINY_MODELS[family]()


@torch.no_grad()
def logits_by_hand(model, base, ids):
    """Next-token logits at every position of one unpadded row, by the base model and what the adapter learned."""
    prompt, tokens = model.get_prompt(batch_size=1), torch.tensor([ids])
    if not isinstance(prompt, torch.Tensor):  # keys and values
        positions = torch.arange(VIRTUAL, VIRTUAL + len(ids))[None]
        return base(input_ids=tokens, past_key_values=prompt, position_ids=positions).logits[0]
    return base(inputs_embeds=torch.cat([prompt, base.get_input_embeddings()(tokens)], dim=1)).logits[0, VIRTUAL:]


def test_losses_are_those_of_one_row_at_a_time(tuned):
    tuned, base = tuned
    encoded, _ = encode_pairs(PAIRS, tuned.tokenizer, "plain", 40, 8, "truncate")
    for row, (nats, tokens) in zip(encoded, tuned.losses(PAIRS), strict=True):
        logits = logits_by_hand(tuned.model, base, row.prompt_ids + row.answer_ids)
        predicting = logits[len(row.prompt_ids) - 1 : -1].log_softmax(-1)
        expected = -predicting[torch.arange(len(row.answer_ids)), row.answer_ids].sum()
        assert tokens == len(row.answer_ids)
        assert nats == pytest.approx(expected.item(), abs=1e-3)


def test_answers_are_those_of_one_row_at_a_time(tuned):
    tuned, base = tuned
    questions = [pair.question for pair in PAIRS]
    expected = []
    for question in questions:
        ids = build_template("plain").prompt_ids(question, tuned.tokenizer)
        start = len(ids)
        while len(ids) < start + tuned.config.max_completion_length and ids[-1] != EOS_ID:
            ids.append(logits_by_hand(tuned.model, base, ids)[-1].argmax().item())
        expected.append(tuned.tokenizer.decode(ids[start:], skip_special_tokens=True).strip())
    assert tuned.answer(questions) == expected
    assert len(set(expected)) > 1  # else it would prove little


def test_a_batch_changes_nothing(tuned):
    tuned, _ = tuned
    together = tuned.losses(PAIRS)
    alone = answer_losses(tuned.model, tuned.tokenizer, PAIRS, tuned.config, batch_size=1)
    assert [nats for nats, _ in together] == pytest.approx([nats for nats, _ in alone], abs=1e-3)


def test_the_prompt_starts_from_text():
    found, tokenizer = METHODS.get("prompt-tuning"), tiny_tokenizer()
    base = TINY_MODELS["gpt2"]()
    options = {"prompt_tuning_virtual_tokens": 5, "prompt_tuning_text": "abc", "prompt_tuning_learning_rate": 1e-9}
    tuned = found.tune(TINY_MODELS["gpt2"](), tokenizer, PAIRS, found.config_class(**LIMITS | options))
    ids = tokenizer("abcab", add_special_tokens=False)["input_ids"]
    expected = base.get_input_embeddings().weight[ids]
    torch.testing.assert_close(tuned.model.prompt_encoder["default"].embedding.weight, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_tuning_virtual_tokens": 0}, "--prompt-tuning-virtual-tokens 0: expected at least 1"),
        ({"prompt_tuning_virtual_tokens": 17}, "expected at most 16, the model has 64 positions"),
        ({"prompt_tuning_virtual_tokens": 2, "prompt_tuning_text": ""}, "a text of at least one token"),
    ],
)
def test_prompts_that_make_no_sense_are_refused(options, message):
    found = METHODS.get("prompt-tuning")
    with pytest.raises(UserError, match=message):
        found.tune(TINY_MODELS["gpt2"](), tiny_tokenizer(), PAIRS, found.config_class(**LIMITS | options))


def test_all_positions_can_be_used():
    check_positions(TINY_MODELS["gpt2"](), TuningConfig(max_prompt_length=40, max_completion_length=8), 16, "x")
