"""The source study's recipe: its settings, its parts, its preset, its published table."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from baselines import METHODS
from baselines.gan_source import SourceStudyConfig
from benchmarks.compare import comparison as compare
from benchmarks.compare import stand_ins
from benchmarks.compare.__main__ import main
from benchmarks.compare.arguments import parse
from benchmarks.compare.run import METRICS, run
from benchmarks.report.grid import markdown_table, text_table
from benchmarks.report.published import BASE, GAN, LORA, Figures, beside_published, measured
from benchmarks.report.terminal_table import summarise
from gantune.data import Pair
from gantune.diagnostics import write_json
from gantune.discriminators import TokenIdMLP, TokenValueMLP
from gantune.embedding_generator import EmbeddingGenerator
from gantune.errors import UserError
from gantune.trainer import language_gan
from gantune.trainer.callbacks import rows_of
from gantune.trainer.language_gan import LanguageGAN
from tests.shared import SHARED, needs_shared
from tests.test_discriminators import random_batch
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

PAIRS = [Pair(f"who is n{i}?", f"n{i} is {'old' if i % 2 else 'a cook'}.") for i in range(4)]
LIMITS = {"num_train_epochs": 2, "per_device_train_batch_size": 8, "max_prompt_length": 40, "max_completion_length": 8}


@pytest.fixture
def trainers(monkeypatch):
    """Every LanguageGAN that the method makes."""
    made = []

    class Kept(LanguageGAN):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(language_gan, "LanguageGAN", Kept)
    return made


def tune(config):
    return METHODS.get("gan-source").tune(TINY_MODELS["gpt2"](), tiny_tokenizer(), PAIRS, config)


def test_the_recipe_is_the_studys(trainers):
    config = SourceStudyConfig(
        **LIMITS, seed=3, template="plain", source_learning_rate=2e-3, source_discriminator_learning_rate=3e-4
    )
    tune(config)
    (trainer,) = trainers
    expected = {
        "per_device_train_batch_size": 1, "num_train_epochs": 2, "seed": 3, "max_prompt_length": 40,
        "max_completion_length": 8,
        "discriminator": "source", "reward": "sequence", "reward_transform": "prob", "advantage": "none",
        "warmup_share": 0, "discriminator_warmup_steps": 0, "adversarial_every": 1, "validation_share": 0,
        "num_generations": 1, "temperature": 1, "likelihood_weight": 0, "adversarial_weight": 1,
        "real_label": 1, "mismatched_negatives": False, "replay_rollouts": 0, "max_discriminator_accuracy": 1,
        "learning_rate": 2e-3, "discriminator_learning_rate": 3e-4, "lr_scheduler_type": "constant",
    }  # fmt: skip
    assert {name: getattr(trainer.args, name) for name in expected} == expected
    assert [row["phase"] for row in rows_of(trainer.state)] == ["adversarial"] * 2 * len(PAIRS)
    assert all(0 < row["reward"] < 1 for row in rows_of(trainer.state))
    optimizers = (trainer.optimizer, 2e-3), (trainer.adversary.optimizer, 3e-4)
    for optimizer, rate in optimizers:  # as it was at the start: constant
        for group in optimizer.param_groups:
            assert (group["lr"], group["weight_decay"]) == (pytest.approx(rate), 0)


def test_the_generator_is_the_studys(trainers):
    tune(SourceStudyConfig(**LIMITS | {"num_train_epochs": 1}))
    (network,) = [module for module in trainers[0].model.modules() if hasattr(module, "noise_scale")]
    assert type(network) is EmbeddingGenerator and network.noise_scale == 1 and isinstance(network.norm, nn.Identity)
    assert network.noise_layer.in_features == 100
    linear = [network.token_layer, *network.hidden_layers, network.output_layer]
    widths = [layer.out_features for layer in linear]
    assert len(linear) == 4 and widths[0] > widths[1] < widths[2] < widths[3]  # two reduce, two restore


def test_each_example_is_sampled_once_and_both_networks_learn_from_it(monkeypatch, trainers):
    seen = []

    def spy_on(name):
        real = getattr(LanguageGAN, name)

        def spy(self, batch, *rollout, **options):
            result = real(self, batch, *rollout, **options)
            seen.append((name, rollout[0] if rollout else result, len(batch)))
            return result

        monkeypatch.setattr(LanguageGAN, name, spy)

    for name in ("sample", "discriminator_step", "generator_step"):
        spy_on(name)
    tune(SourceStudyConfig(**LIMITS | {"num_train_epochs": 1}))
    assert [name for name, _, _ in seen] == ["sample", "discriminator_step", "generator_step"] * len(PAIRS)
    for start in range(0, len(seen), 3):
        sampled, *used = [rollout for _, rollout, _ in seen[start : start + 3]]
        assert len(sampled) == 1 and all(rollout is sampled for rollout in used)
    assert {rows for _, _, rows in seen} == {1}


def tuned_parts(trainer):
    return {"generator": trainer.parameters, "discriminator": list(trainer.discriminator.parameters())}


def test_the_tuned_parts_move_and_the_base_stays(trainers):
    model = TINY_MODELS["gpt2"]()
    base = {name: hashlib.sha256(p.detach().numpy().tobytes()).hexdigest() for name, p in model.named_parameters()}
    start = {}

    class Start(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            for part, parameters in tuned_parts(trainers[0]).items():
                start[part] = [p.detach().clone() for p in parameters]

    tuned = METHODS.get("gan-source").tune(model, tiny_tokenizer(), PAIRS, SourceStudyConfig(**LIMITS), [Start()])
    parameters = {name.replace("base_model.model.", ""): p for name, p in tuned.model.named_parameters()}
    after = {
        name.replace(".base_layer", ""): hashlib.sha256(p.detach().numpy().tobytes()).hexdigest()
        for name, p in parameters.items()
        if not p.requires_grad
    }
    assert after == base
    for part, parameters in tuned_parts(trainers[0]).items():
        assert all(not torch.equal(a, b) for a, b in zip(start[part], parameters, strict=True)), part


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source_learning_rate": 0.0}, "--source-learning-rate 0.0: expected above 0"),
        ({"source_discriminator_learning_rate": -1}, "--source-discriminator-learning-rate -1: expected above 0"),
        ({"num_train_epochs": 0}, "--num-train-epochs 0: expected above 0"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(UserError, match=re.escape(message)):
        SourceStudyConfig(**values)


def test_the_discriminator_has_four_layers_from_the_whole_sequence_to_one():
    for kind in (TokenValueMLP, TokenIdMLP):
        layers = list(kind(50, 100, 50).layers)
        linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
        assert [(layer.in_features, layer.out_features) for layer in linear] == [(150, 75), (75, 37), (37, 18), (18, 1)]
        assert [layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)] == [0.01] * 3


def test_the_discriminator_by_hand():
    """A token's learned number stands in its place, right-aligned questions and left-aligned answers, 0 elsewhere."""
    torch.manual_seed(0)
    batch, discriminator = random_batch(), TokenValueMLP(50, 8, 9)
    numbers = discriminator.values.weight.flatten()
    for row in range(len(batch)):
        question = batch.prompt_ids[row][batch.prompt_mask[row].bool()]
        answer = batch.answer_ids[row][batch.answer_mask[row].bool()]
        for length in range(1, len(answer) + 1):
            line = torch.zeros(17)
            line[8 - len(question) : 8] = numbers[question]
            line[8 : 8 + length] = numbers[answer[:length]]
            hidden = line
            for layer in discriminator.layers[:-1:2]:
                hidden = layer(hidden)
                hidden = hidden.clamp(min=0) + 0.01 * hidden.clamp(max=0)
            expected = discriminator.layers[-1](hidden)
            assert torch.allclose(discriminator.prefix_logits(batch)[row, length - 1], expected, atol=1e-6)
        assert torch.allclose(discriminator.sequence_logits(batch)[row], expected, atol=1e-6)


def test_the_discriminator_ignores_what_comes_after_a_prefix():
    batch, discriminator = random_batch(), TokenValueMLP(50, 8, 9)
    logits = discriminator.prefix_logits(batch)
    for t in range(6):
        later = torch.arange(6) > t
        changed = replace(batch, answer_ids=torch.where(later, (batch.answer_ids + 17) % 50, batch.answer_ids))
        assert torch.equal(discriminator.prefix_logits(changed)[:, t], logits[:, t])


# ------------------------------------------------------------------------------------------------------ the preset


@pytest.fixture
def without_hub(monkeypatch):
    """A Hub that refuses, and what it was asked for; the cache is looked into by loaders that find nothing."""
    asked = []

    def refuse(self, repository, repo_type, timeout):
        asked.append(repository)
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr(stand_ins.HfApi, "repo_info", refuse)

    def empty(name):
        raise UserError(f"{name}: not in the cache")

    for option, stand_in in stand_ins.STAND_INS["source"].items():
        monkeypatch.setitem(stand_ins.STAND_INS["source"], option, stand_in._replace(load=empty))
    return asked


def test_the_preset_has_the_studys_settings(monkeypatch):
    monkeypatch.setattr(stand_ins.HfApi, "repo_info", lambda self, *args, **kwargs: None)  # the Hub has everything
    settings = parse(["--preset", "source"])
    assert settings.comparison.methods == ["base", "gan-source", "lora-attention"]
    assert (settings.model.model, settings.data.dataset) == ("openai-community/gpt2", "tofu")
    assert (settings.data.train_size, settings.data.test_size) == (50, 50)
    tuning = settings.tuning
    assert (tuning["max_prompt_length"], tuning["max_completion_length"]) == (100, 50)
    assert (tuning["per_device_train_batch_size"], tuning["num_train_epochs"], settings.stand_ins) == (1, 30, [])
    assert settings.comparison.bleurt == "lucadiliello/BLEURT-20"


def test_what_is_not_at_hand_is_replaced_and_said(without_hub):
    settings = parse(["--preset", "source", "--num-train-epochs", "2"])
    assert (settings.model.model, settings.data.dataset, settings.comparison.bleurt) == ("mini", "mini-tofu", None)
    assert (
        settings.tuning["num_train_epochs"],
        settings.tuning["per_device_train_batch_size"],
        settings.data.test_size,
    ) == (2, 1, 50)
    assert settings.method_config("lora-attention", seed=0).lora_learning_rate == 8e-3  # as tuned for mini
    assert without_hub == ["openai-community/gpt2", "locuslab/TOFU", "lucadiliello/BLEURT-20"]
    reason = "is not at hand here (the Hub: no route to host; the cache: no whole copy)"
    apart = "stands in, so the figures cannot be set against the published ones directly"
    assert settings.stand_ins == [
        f"openai-community/gpt2 {reason}: mini {apart}",
        f"tofu {reason}: mini-tofu {apart}",
        f"lucadiliello/BLEURT-20 {reason}: BLEURT is not run",
    ]


def test_what_the_command_line_names_is_not_looked_for(without_hub):
    settings = parse(["--preset", "source", "--model", "own/model", "--bleurt", "none"])
    assert (settings.model.model, settings.data.dataset) == ("own/model", "mini-tofu")
    assert without_hub == ["locuslab/TOFU"] and len(settings.stand_ins) == 1
    given = ["--model", "openai-community/gpt2", "--dataset", "tofu", "--bleurt", "own/bleurt"]
    settings = parse(["--preset", "source", *given])
    assert (settings.model.model, settings.data.dataset) == ("openai-community/gpt2", "tofu")
    assert settings.comparison.bleurt == "own/bleurt" and settings.stand_ins == []
    assert parse(["--preset", "tofu-gpt2"]).model.model == "openai-community/gpt2"
    assert without_hub == ["locuslab/TOFU"]


def test_what_the_cache_holds_is_at_hand(without_hub, monkeypatch):
    import datasets
    import huggingface_hub

    offline = []

    def cached(name):
        offline.append((name, huggingface_hub.is_offline_mode(), datasets.config.HF_HUB_OFFLINE))

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    stand_in = stand_ins.STAND_INS["source"]["model"]
    monkeypatch.setitem(stand_ins.STAND_INS["source"], "model", stand_in._replace(load=cached))
    settings = parse(["--preset", "source", "--dataset", "mini-tofu", "--bleurt", "none"])
    assert settings.model.model == "openai-community/gpt2" and settings.stand_ins == []
    assert offline == [("openai-community/gpt2", True, True)]  # no retries against a Hub that does not answer
    assert not huggingface_hub.is_offline_mode()


# ---------------------------------------------------------------------------------------------- the published table


@needs_shared
def test_the_published_figures_are_the_studys():
    text = (SHARED / "reference" / "SOURCE_STUDY.md").read_text(encoding="utf-8")
    rows = {}
    for line in text.splitlines():
        name, *figures = [cell.strip() for cell in line.split("|")[1:-1]] or [""]
        if name in ("base GPT-2", "GAN tuning", "LoRA"):
            rows[name] = tuple(float(figure) if figure else None for figure in figures)
    assert rows == {row.name: tuple(row.figures) for row in (BASE, GAN, LORA)}


def row_of(method, seconds=None, memory=None, **metrics):
    return {"method": method, "seed": 0, "status": "success", "error": None, "trainable_parameters": 1,
            "train_seconds": seconds, "peak_memory_bytes": memory, "metrics": dict.fromkeys(METRICS) | metrics,
            "not_run": {}}  # fmt: skip


def test_ours_stands_beside_the_published_in_its_units():
    summary = summarise(
        [
            row_of("base", rouge1=0.25),
            row_of("gan-source", 90.0, 3e8, rouge1=0.125),
            row_of("lora-attention", 30.0, 2e8),
        ]
    )
    assert measured(summary["gan-source"]) == Figures(rouge1=0.125, minutes=1.5, gigabytes=0.3)
    text = beside_published(summary, "model mini | data mini-tofu", markdown_table)
    assert "- published: model GPT-2 124M | data TOFU" in text and "- here: model mini | data mini-tofu" in text
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line[:1] == "|"]
    none = ["-"] * 4
    assert rows[2:] == [
        ["base GPT-2 (published)", "0.066", "0.020", "0.062", "0.061", "-0.936", "-", "-"],
        ["base (here)", "0.250", *none, "-", "-"],
        ["GAN tuning (published)", "0.109", "0.036", "0.099", "0.101", "-0.611", "91", "12.3"],
        ["gan-source (here)", "0.125", *none, "1.5", "0.3"],
        ["LoRA (published)", "0.127", "0.027", "0.111", "0.112", "-0.536", "2", "1.1"],
        ["lora-attention (here)", "-", *none, "0.5", "0.2"],
        ["GAN tuning / LoRA (published)", "-", *none, "45.5 x", "11.2 x"],
        ["gan-source / lora-attention (here)", "-", *none, "3.0 x", "1.5 x"],
    ]


def test_a_method_that_did_not_run_has_no_figures():
    text = beside_published(summarise([row_of("lora-attention", 30.0, 2e8)]), "here", text_table)
    for name in ("gan-source", "gan-source / lora-attention"):
        assert re.search(rf"^{name} \(here\)( +-){{7}}$", text, re.MULTILINE)


def test_the_preset_prints_both_tables(without_hub, monkeypatch, tmp_path, capfd):
    def in_this_process(directory, config):
        write_json(directory / "config.json", config)
        return run(directory)

    monkeypatch.setattr(compare, "run_in_process", in_this_process)
    monkeypatch.setattr(compare, "ALWAYS", ("base",))
    options = [
        "--train-size",
        "4",
        "--test-size",
        "4",
        "--num-train-epochs",
        "1",
        "--max-completion-length",
        "8",
        "--device",
        "cpu",
    ]
    assert main(["--preset", "source", *options, "--output", str(tmp_path / "out")]) == 0
    printed = capfd.readouterr().out
    written = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    for text in (printed, written):
        assert "The source study's published table beside this one:" in text
        assert "- here: model mini | data mini-tofu (4 to train, 4 to test)" in text
        assert "openai-community/gpt2 is not at hand here" in text and "BLEURT not run" in text
        assert re.search(r"^\W*GAN tuning / LoRA \(published\) .* 45\.5 x[ |]+11\.2 x", text, re.MULTILINE)
        assert re.search(r"^\W*gan-source / lora-attention \(here\) .*\d x", text, re.MULTILINE)
