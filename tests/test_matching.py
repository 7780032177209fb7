"""Equal parameters, equal seconds, equal tokens."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerCallback

from baselines import METHODS, resolve_method
from baselines.matching import embedding_generator_parameters, matched_size, trainable_parameters
from benchmarks.compare.run import collected_warnings, match_parameters, told_of_match
from gantune.data import Pair, batches, encode_pairs
from gantune.errors import UserError
from gantune.trainer import callbacks
from gantune.trainer.callbacks import rows_of
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False", "ignore:`is_gradient_checkpointing`")

PAIRS = [Pair(f"who is n{i}{i * 'x'}?", f"n{i} is {'old' if i % 2 else 'a cook'}.") for i in range(8)]
LIMITS = {"num_train_epochs": 2, "per_device_train_batch_size": 2, "max_prompt_length": 40, "max_completion_length": 12}


class Spy(TrainerCallback):
    """Keeps the rows and the epochs of a training."""

    def on_train_end(self, args, state, control, **kwargs):
        self.rows, self.epochs = rows_of(state), state.epoch


def tune(name, **options):
    """Trains the tiny model; the rows of its history."""
    spy, method = Spy(), resolve_method(name)
    if name != "lora":
        options = {"validation_share": 0.0, "num_generations": 2, "discriminator_warmup_steps": 0} | options
    config = method.config_class(**LIMITS | options)
    tuned = method.tune(TINY_MODELS["gpt2"](), tiny_tokenizer(), PAIRS, config, [spy])
    return tuned, spy


@pytest.mark.parametrize(
    ("name", "family"),
    [("lora", "gpt2"), ("bottleneck", "llama"), ("prefix-tuning", "gpt2"), ("lora-matched", "llama")],
)
def test_the_matched_size_is_the_nearest_to_the_embedding_generator(name, family):
    method, model = METHODS.get(name), TINY_MODELS[family]()
    options = {"prefix_tuning_hidden_size": 16} if name == "prefix-tuning" else {}
    config = method.config_class(**LIMITS | {"max_prompt_length": 4, "max_completion_length": 2} | options)
    target = embedding_generator_parameters(model)
    assert target == trainable_parameters(METHODS.get("mle").tune(
        TINY_MODELS[family](), tiny_tokenizer(), PAIRS[:2],
        METHODS.get("mle").config_class(num_train_epochs=1, validation_share=0.0, max_completion_length=12),
    ).model)  # fmt: skip
    size = matched_size(method.size, model, config)

    def parameters(value):
        return trainable_parameters(method.size.adapt(TINY_MODELS[family](), method.size.resized(config, value)))

    distance = {value: abs(parameters(value) - target) for value in (size - 1, size, size + 1) if value}
    if method.size.most(model, config) == size:
        distance.pop(size + 1)
    assert min(distance, key=distance.get) == size
    matched = match_parameters(method, model, config)
    assert getattr(matched, method.size.option) == size


def test_lora_keeps_its_scale_at_another_rank():
    lora = METHODS.get("lora")
    config = lora.size.resized(lora.config_class(lora_rank=8, lora_alpha=16), 3)
    assert config.lora_alpha / config.lora_rank == 2


def test_a_prompt_is_no_longer_than_the_positions_allow():
    method, model = METHODS.get("prompt-tuning"), TINY_MODELS["gpt2"]()
    config = method.config_class(**LIMITS)
    assert matched_size(method.size, model, config) == 64 - 40 - 12


def test_what_matching_came_to_is_told():
    def model(parameters):
        tuned = TINY_MODELS["gpt2"]()
        tuned.requires_grad_(False)
        tuned.extra = torch.nn.Parameter(torch.zeros(parameters))
        return SimpleNamespace(model=tuned)

    target = embedding_generator_parameters(TINY_MODELS["gpt2"]())
    ia3, gan, lora = (METHODS.get(name) for name in ("ia3", "gan", "lora"))
    assert told_of_match(gan, model(target), gan.config_class()) is None
    assert told_of_match(ia3, model(5), ia3.config_class()) == (
        f"not matched, nothing sets its size: 5 trained parameters, the default embedding generator has {target:,}"
    )
    assert told_of_match(lora, model(5), lora.config_class(lora_rank=3)).startswith("lora_rank 3: 5 trained")
    assert told_of_match(METHODS.get("copy-question"), SimpleNamespace(model=None), None) is None


@pytest.mark.parametrize("name", ["lora", "mle", "gan", "self-play"])
def test_training_stops_after_the_step_that_reaches_the_limit(name, monkeypatch):
    clock = iter(range(10_000))  # read once a step
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    _, spy = tune(name, max_seconds=6.0, **({} if name == "lora" else {"warmup_share": 0.5, "adversarial_every": 1}))
    assert len(spy.rows) == 6 and spy.epochs == 1.5
    phases = {"lora": "likelihood", "mle": "likelihood", "gan": "adversarial", "self-play": "self-play"}
    assert spy.rows[-1]["phase"] == phases[name]


def test_tokens_are_the_positions_that_enter_the_model():
    tokenizer = tiny_tokenizer()
    encoded, _ = encode_pairs(PAIRS, tokenizer, "plain", 40, 12, "truncate")
    expected = [
        batch.input_ids().numel() for epoch in (1, 2) for batch in batches(encoded, 2, tokenizer.pad_token_id, 0, epoch)
    ]
    _, lora = tune("lora")
    assert [row["tokens"] for row in lora.rows] == expected
    _, stopped = tune("lora", max_tokens=sum(expected[:3]))
    assert [row["tokens"] for row in stopped.rows] == expected[:3] and stopped.epochs == 0.75
    _, mle = tune("mle", max_tokens=sum(expected[:3]))
    assert sum(row["tokens"] for row in mle.rows) >= sum(expected[:3]) > sum(row["tokens"] for row in mle.rows[:-1])
    _, gan = tune("gan", warmup_share=0.5, adversarial_every=1)
    by_phase = {row["phase"]: row["tokens"] for row in gan.rows}
    assert by_phase["adversarial"] > 2 * by_phase["likelihood"], "two samples a question, and true answers"


def test_a_limit_below_zero_is_refused():
    with pytest.raises(UserError, match=r"--max-seconds -1\.0: expected at least 0"):
        tune("lora", max_seconds=-1.0)


def test_warnings_of_the_methods_are_collected_once():
    log = logging.getLogger("baselines.few_shot")
    with collected_warnings("baselines") as found:
        for _ in range(2):
            log.warning("%d of %d questions", 2, 5)
        log.info("not this")
    assert found == ["2 of 5 questions"]
    log.warning("after the block")
    assert len(found) == 1
