"""Whatever settings hold, they are settings that are in range, or one line that says which is not."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from typing import get_args, get_type_hints

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from baselines import METHODS
from gantune.cli import main
from gantune.cli.adapters import AdapterOptions, load_adapter
from gantune.cli.options import option_types, parse, write_config
from gantune.cli.train import CLASSES
from gantune.errors import UserError
from gantune.generation.generate import generate_answers
from gantune.trainer.arguments import LanguageGANConfig
from gantune.trainer.config import CONFIG_FILE, GameConfig
from tests.hostile import TRIED, cases, check_message, nested, refused_at_most, texts, values
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

NAMES = sorted(option_types(CLASSES))
CONFIG_CLASSES = sorted({METHODS.get(name).config_class for name in METHODS.names()}, key=lambda each: each.__name__)
numbers = st.one_of(
    st.sampled_from(
        [0, -1, 1, 2**32, 10**400, 1e308, float("inf"), float("-inf"), float("nan"), True, 0.5, "1e-3", "1"]
    ),
    st.integers(),
    st.floats(),
)


@pytest.mark.parametrize("config_class", CONFIG_CLASSES)
@cases(80)
@given(data=st.data())
def test_settings_in_code(config_class, data):
    names = [field.name for field in fields(config_class) if field.init]
    changes = data.draw(st.dictionaries(st.sampled_from(names), numbers | values, min_size=1, max_size=2))
    with refused_at_most("settings of methods"):
        config = config_class(**changes)
        assert 0 <= config.seed < 2**32 and config.num_train_epochs > 0 and config.max_completion_length >= 1
        assert all(math.isfinite(value) for value in asdict(config).values() if isinstance(value, float))


@pytest.mark.parametrize("config_class", CONFIG_CLASSES)
def test_no_learning_rate_of_any_method_is_zero_or_less(config_class):
    rates = {each.name for each in fields(config_class) if each.name.endswith("learning_rate")}
    for name in rates - {"adversarial_learning_rate"}:  # 0 stands for none of its own
        for value in (0.0, -1.0):
            with pytest.raises(UserError, match=rf"^--{name.replace('_', '-')} {value}: expected above 0$"):
                config_class(**{name: value})


@pytest.mark.parametrize(
    ("method", "option", "value", "expected"),
    [
        ("bottleneck", "bottleneck_dim", 0, "at least 1"),
        ("p-tuning", "p_tuning_virtual_tokens", 0, "at least 1"),
        ("prefix-tuning", "prefix_tuning_virtual_tokens", -1, "at least 1"),
        ("prefix-tuning", "prefix_tuning_hidden_size", -1, "at least 0"),
        ("prompt-tuning", "prompt_tuning_virtual_tokens", 0, "at least 1"),
    ],
)
def test_no_size_of_any_method_is_none(method, option, value, expected):
    with pytest.raises(UserError, match=rf"^--{option.replace('_', '-')} {value}: expected {expected}$"):
        METHODS.get(method).config_class(**{option: value})


@pytest.mark.parametrize("config_class", [*CONFIG_CLASSES, LanguageGANConfig])
def test_no_number_of_any_method_is_infinite(config_class):
    hints = get_type_hints(config_class)
    names = [each.name for each in fields(config_class) if float in (hints[each.name], *get_args(hints[each.name]))]
    assert len(names) >= 4
    for name in names:
        for value in (math.inf, -math.inf, math.nan, 10**400):
            with pytest.raises(UserError, match=rf"^--{name.replace('_', '-')} .*: expected a finite number$"):
                config_class(**{name: value})


@cases(300)
@given(st.dictionaries(st.sampled_from(NAMES) | texts, numbers | values, min_size=1, max_size=3))
def test_files_of_options(tmp_path_factory, options):
    folder = tmp_path_factory.getbasetemp()
    text = yaml.safe_dump(options, allow_unicode=True)
    (folder / "run.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    with refused_at_most("files of options") as told:
        _, found = parse(CLASSES, ["--config", str(folder / "run.yaml")], "gantune train", "A test.")
        write_config(folder / "again.yaml", "gantune train", found)
        assert parse(CLASSES, ["--config", str(folder / "again.yaml")], "gantune train", "A test.")[1] == found
    assert all(message.startswith(str(folder / "run.yaml")) for message in told), "the file is named"


@cases(100)
@given(
    texts
    | nested
    | st.sampled_from(
        [
            "&a [*a]",
            "!!python/name:os.system",
            "a: &a\n b: *a",
            "? [1]\n: 2",
            "--- 1\n--- 2",
            "max_tokens: 0x1F",
            "max_tokens: 1_000",
            "max_tokens: 2020-01-01",
            "seed: .nan",
            "%YAML 9",
        ]
    )
)
def test_files_of_anything_else(tmp_path_factory, text):  # fmt: skip
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with refused_at_most("files of options"):
        parse(CLASSES, ["--config", str(file)], "gantune train", "A test.")


@cases(200)
@given(
    st.lists(st.tuples(st.sampled_from(NAMES) | texts, texts | numbers.map(str), st.booleans()), min_size=1, max_size=3)
)
def test_command_lines(options):
    arguments = []
    for name, value, joined in options:
        option = f"--{name.replace('_', '-')}"
        arguments += [f"{option}={value}"] if joined else [option, value]
    if {"-h", "--help"} & {argument.partition("=")[0] for argument in arguments}:
        return
    with refused_at_most("command lines"):
        parse(CLASSES, arguments, "gantune train", "A test.")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A folder as `save_pretrained` leaves it, as far as settings go."""
    folder = tmp_path_factory.mktemp("settings")
    return folder, asdict(GameConfig())


@cases(150)
@given(data=st.data())
def test_settings_of_a_saved_adapter(tuned, data):
    folder, settings = tuned
    changes = data.draw(
        st.dictionaries(st.sampled_from(sorted(settings)) | texts, numbers | values, min_size=1, max_size=2)
    )
    whole = data.draw(st.sampled_from([json.dumps(settings | changes), json.dumps(changes)]) | nested | texts)
    (folder / CONFIG_FILE).write_bytes(whole.encode("utf-8", "surrogatepass"))
    with refused_at_most("settings of saved adapters") as told:
        load_adapter(AdapterOptions(str(folder)))  # which has no adapter, if its settings are right
    assert told


@pytest.fixture(scope="module")
def model():
    return TINY_MODELS["gpt2"]()


@cases(25)
@given(st.lists(texts, min_size=1, max_size=3), st.integers(1, 60))
def test_answers_to_any_question(model, questions, max_prompt_length):
    config = GameConfig(max_prompt_length=max_prompt_length, max_completion_length=3)
    with refused_at_most("questions answered"):
        answers = generate_answers(model, tiny_tokenizer(), questions, config)
        assert len(answers) == len(questions) and all(isinstance(answer, str) for answer in answers)


def test_questions_longer_than_the_positions_of_the_model(model):
    TRIED["questions answered"] += 1
    config = GameConfig(max_prompt_length=1000, max_completion_length=10)
    generate_answers(model, tiny_tokenizer(), ["a" * 20], config)
    with pytest.raises(UserError, match=r"the model has 64 positions") as error:
        generate_answers(model, tiny_tokenizer(), ["a" * 60], config)
    check_message(str(error.value))


@pytest.mark.parametrize(
    "options",
    [
        ["--seed", "-1"],
        ["--seed", "4294967296"],
        ["--max-seconds", "nan"],
        ["--learning-rate", "nan"],
        ["--max-tokens", "1e3"],
        ["--template", "\x1b[31mred"],
        ["--system-prompt", "\ud800"],
        ["--reward", "no\nsuch"],
        ["--dataset", "a\0b.jsonl"],
        ["--model", "a\0b"],
        ["--config", "a\0b"],
        ["--generator", "lora", "--lora-target-modules", "c_attn", "nope"],
        ["--max-prompt-length", "100000", "--max-completion-length", "100000", "--too-long", "error"],
    ],
)
def test_the_command_ends_with_status_2(options, tmp_path, capsys):
    TRIED["commands"] += 1
    output = ["--output-dir", str(tmp_path / "out")]
    assert main(["train", "--dataset", "mini-tofu", *output, *options]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and not out
    check_message(err.removesuffix("\n"))
