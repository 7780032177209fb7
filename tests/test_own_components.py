"""Components of a user's own: used by every command, and refused in one line before anything is trained."""

from __future__ import annotations

import json
import random
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from baselines.method import resolve_method
from gantune.cli import main
from gantune.data import TEMPLATES, as_pairs
from gantune.discriminators import DISCRIMINATORS
from gantune.embedding_generator import NETWORKS, stack_adapters
from gantune.embedding_generator.generators import build_generator
from gantune.errors import UserError
from gantune.registry import GENERATORS
from gantune.seqgan import ADVANTAGES, TRANSFORMS
from gantune.trainer.language_gan import LanguageGAN
from tests import components_of_a_user as own
from tests.test_cli_train import ROWS, train
from tests.test_language_gan import build, trained
from tests.tiny_models import TINY_MODELS

HERE = "tests.components_of_a_user"
REGISTRIES = (GENERATORS, NETWORKS, TEMPLATES, DISCRIMINATORS, ADVANTAGES, TRANSFORMS)


@pytest.fixture
def forgetful(monkeypatch):
    """As in another process: nothing of the user's own is known; to be called again for one more process."""

    def forget():
        for registry in REGISTRIES:
            for table in ("_components", "_imported"):
                known = {name: kept for name, kept in getattr(registry, table).items() if not name.startswith("tests.")}
                monkeypatch.setattr(registry, table, known)

    forget()
    return forget


@pytest.fixture
def tuned(tmp_path, monkeypatch, forgetful):
    """A folder that was tuned with a generator and a template of the user's own, which is forgotten since."""
    monkeypatch.setattr("gantune.cli.plot.draw", lambda directory: [])
    options = ["--generator", f"{HERE}.Shift", "--template", f"{HERE}.Asked", "--discriminator", f"{HERE}.Counting"]
    assert train(tmp_path, *options) == 0
    file = tmp_path / "tuned" / "embedding_generator" / "adapter_model.safetensors"
    weights = load_file(file)
    assert len(weights) == 3
    moved = torch.Generator().manual_seed(0)
    save_file({name: w + 0.5 * torch.randn(w.shape, generator=moved) for name, w in weights.items()}, file)
    forgetful()
    return tmp_path / "tuned"


def error(capsys, *arguments):
    """What a command that is refused says, in one line."""
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    return told[0]


def test_what_was_tuned_with_components_of_ones_own_is_used_if_they_are_named(tuned, forgetful, tmp_path, capsys):
    named = ["--generator", f"{HERE}.Shift", "--template", f"{HERE}.Asked"]
    data = tmp_path / "pairs.jsonl"
    commands = {
        "generate": ["--file", str(data)],
        "evaluate": ["--dataset", str(data), "--output", str(tmp_path / "evaluated")],
        "merge": ["--output", str(tmp_path / "merged")],
    }
    for name, options in commands.items():
        command = [name, "--adapter", str(tuned), "--device", "cpu", *options]
        for missing, kind in ((named[:2], "template"), (named[2:], "generator")):
            forgetful()
            told = error(capsys, *command, *missing)
            assert f"--{kind} {HERE}.{'Asked' if kind == 'template' else 'Shift'} (in Python {kind}=)" in told
            assert "a file never makes gantune import anything" in told
        forgetful()
        assert main([*command, *named]) == 0
        if name == "generate":
            answers = [json.loads(line)["answer"] for line in capsys.readouterr().out.splitlines()]
    evaluated = [json.loads(line) for line in (tmp_path / "evaluated" / "evaluation.jsonl").read_text().splitlines()]
    assert [row["answer"] for row in evaluated] == answers

    forgetful()
    with pytest.raises(UserError, match=r"unknown template .*--template tests.components_of_a_user.Asked"):
        LanguageGAN.from_pretrained(tuned)
    with pytest.raises(UserError, match=r"unknown discriminator .*in Python discriminator="):
        LanguageGAN.from_pretrained(tuned, template=own.Asked())
    given = {"template": f"{HERE}.Asked", "discriminator": own.Counting}
    with pytest.raises(UserError, match=r"unknown generator network .*in Python generator="):
        LanguageGAN.from_pretrained(tuned, **given)
    for generator in (own.Shift, f"{HERE}.Shift"):
        forgetful()
        gan = LanguageGAN.from_pretrained(tuned, generator=generator, **given)
        assert gan.generate([row["question"] for row in ROWS]) == answers
    merged = LanguageGAN.from_pretrained(tuned, generator=own.Shift, **given).model.merge_and_unload()
    table = load_file(tmp_path / "merged" / "model.safetensors")["transformer.wte.weight"]
    torch.testing.assert_close(table, merged.get_input_embeddings().weight, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(table, TINY_MODELS["gpt2"]().get_input_embeddings().weight, atol=0.1)


def test_settings_that_are_given_take_the_place_of_what_the_file_names(tmp_path, forgetful):
    gan = build(advantage=f"{HERE}.Halved", reward_transform=f"{HERE}.negated")
    gan.save_pretrained(tmp_path)
    forgetful()
    model, tokenizer = TINY_MODELS["gpt2"](), gan.tokenizer
    with pytest.raises(UserError, match=f"unknown (advantage|reward transform) '{HERE}"):
        LanguageGAN.from_pretrained(tmp_path, model, tokenizer)
    given = {"advantage": f"{HERE}.Halved", "reward_transform": f"{HERE}.negated"}
    loaded = LanguageGAN.from_pretrained(tmp_path, model, tokenizer, **given)
    assert isinstance(loaded.advantage, own.Halved) and loaded.reward.transform is own.negated


WRONG = [
    ("generator", own.Narrow, r"generator network .*Narrow: gave a Tensor of shape \[3, 16\], expected \[3, 32\]"),
    ("generator", own.OneNoise, r"generator network .*OneNoise: RuntimeError: "),
    ("generator", own.Silent, r"generator network .*Silent: StopIteration: "),
    ("discriminator", own.WithoutVocabulary, r"discriminator .*WithoutVocabulary: TypeError: .*'vocab_size'"),
    ("discriminator", own.Unfinished, r"discriminator .*Unfinished: TypeError: .*abstract method '?prefix_logits"),
    ("discriminator", own.NoDiscriminator, r"discriminator .*NoDiscriminator: AttributeError: .*'for_model'"),
    ("discriminator", own.OneTooFew, r"discriminator .*OneTooFew: gave a Tensor of shape \[2, 2\], expected \[2, 3\]"),
    ("discriminator", own.Uncut, r"discriminator .*Uncut: gave a Tensor of shape \[2, 3, 1\], expected \[2, 3\]"),
    ("reward", own.of_answers, r"reward .*of_answers: TypeError: too many positional arguments"),
    ("reward", own.RewardOfNothing, r"reward .*RewardOfNothing: TypeError: .*RewardOfNothing"),
    ("reward_transform", own.mean, r"reward transform .*mean: gave a Tensor of shape \[\], expected \[2\]"),
    ("advantage", own.AdvantageOfAll, r"advantage .*AdvantageOfAll: gave a Tensor of shape \[\], expected \[2, 3\]"),
    ("objective", own.ObjectiveOfAnswers, r"objective .*Answers: gave a Tensor of shape \[2\], expected \[2, 3\]"),
    ("template", own.TextTemplate, r"template .*TextTemplate.* gave 'ask: who is ann\?', expected a list of token ids"),
    ("template", own.TemplateWithOptions, r"template .*TemplateWithOptions: TypeError: .*'user'"),
]


@pytest.mark.parametrize(("kind", "component", "told"), WRONG, ids=[component.__name__ for _, component, _ in WRONG])
def test_a_wrong_component_is_named_with_the_shapes_and_blocks_no_next_try(kind, component, told, tmp_path, capsys):
    with pytest.raises(UserError, match=told):
        build(**{kind: f"{HERE}.{component.__name__}"})
    output, option = tmp_path / "tuned", f"--{kind.replace('_', '-')}"
    with pytest.raises(UserError, match=told):
        raise UserError(error_of_training(tmp_path, capsys, option, f"{HERE}.{component.__name__}"))
    assert not output.exists()


def error_of_training(folder, capsys, *options):
    assert train(folder, *options) == 2
    (told,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return told


def test_a_discriminator_is_tried_by_what_the_reward_asks_of_it():
    with pytest.raises(UserError, match=r"Uncut: gave a Tensor of shape \[2, 1\], expected \[2\]"):
        build(discriminator=own.Uncut, reward="sequence")
    assert build(discriminator=own.Uncut, reward="constant").judged is False


def test_trying_components_changes_nothing():
    given = {"discriminator": own.Counting, "generator": own.Shift, "advantage": f"{HERE}.Halved"}
    torch.manual_seed(0), random.seed(0), np.random.seed(0)  # as transformers' trainer does when it is made
    numbers = torch.rand(2), random.random(), np.random.rand()
    gan = build(**given)
    assert torch.equal(torch.rand(2), numbers[0]) and (random.random(), np.random.rand()) == numbers[1:]
    assert gan.advantage.calls == 0 and not gan.discriminator.training

    def first_weights(**fewer):
        return build(**given | fewer).discriminator.worth.weight

    assert torch.equal(first_weights(), gan.discriminator.worth.weight)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the seed of the settings: first the generator's weights, then the discriminator's
        own.Shift(32, 100)
        assert torch.equal(own.Counting(97).worth.weight, gan.discriminator.worth.weight)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("one_for_all", r"reward .*one_for_all: gave a Tensor of shape \[\], expected \[6\] or \[6, \d+\]"),
        ("one_too_few", r"reward .*one_too_few: gave a Tensor of shape \[5\], expected \[6\] or \[6, \d+\]"),
        ("nothing", r"reward .*nothing: \w+: "),
    ],
)
def test_a_reward_of_a_wrong_shape_is_named_when_it_is_first_asked(name, told, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("gantune.cli.plot.draw", lambda directory: [])
    with pytest.raises(UserError, match=told):
        trained(build(reward=getattr(own, name), warmup_share=0.0))
    assert re.search(told, error_of_training(tmp_path, capsys, "--reward", f"{HERE}.{name}", "--warmup-share", "0"))
    assert train(tmp_path, "--reward", f"{HERE}.length") == 0  # the same directory: nothing was kept to go on from


def test_a_list_of_rewards_is_a_reward_an_answer():
    rollout_rewards = []

    def reward(questions, answers, rollout):
        rollout_rewards.append(own.length(questions, answers, rollout))
        return rollout_rewards[-1]

    gan = build(reward=reward, warmup_share=0.5, num_train_epochs=2)
    rows = [row for row in trained(gan) if row["phase"] == "adversarial"]
    means = [sum(values) / len(values) for values in rollout_rewards]
    assert [row["reward"] for row in rows] == pytest.approx(means)


def test_networks_are_tried_where_they_are_added():
    with pytest.raises(UserError, match=r"Narrow: gave a Tensor of shape \[3, 16\], expected \[3, 32\]"):
        stack_adapters(TINY_MODELS["gpt2"](), build_generator(own.Narrow))
    stacked = stack_adapters(TINY_MODELS["gpt2"](), build_generator(own.Shift))
    layer = stacked.get_base_model().get_input_embeddings()
    assert layer.embedding_generator_network["embedding_generator"].training, "as fresh modules are"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Tuples", r"data format .*Tuples: gave \('who\?', 'ann'\), expected a Pair"),
        ("NoColumns", r"data format .*NoColumns: AttributeError: .*'columns'"),
    ],
)
def test_a_wrong_format_is_named(name, told):
    assert as_pairs(ROWS, format=f"{HERE}.Columns") == as_pairs(ROWS)
    with pytest.raises(UserError, match=told):
        as_pairs(ROWS, format=f"{HERE}.{name}")


def test_what_is_no_method_is_named():
    with pytest.raises(UserError, match=rf"method {HERE}.a_function: is a function, expected a function under @"):
        resolve_method(f"{HERE}.a_function")
