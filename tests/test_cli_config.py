"""YAML files of options: what they may hold, who wins, and what is written back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from benchmarks.compare import arguments
from gantune.cli import train
from gantune.cli.options import OptionParser, option_types, parse, read_config, settled, write_config
from gantune.errors import UserError
from gantune.trainer.config import GameConfig


@dataclass
class Options:
    name: str = field(default="ann", metadata={"help": "a text"})
    kind: Literal["one", "two"] = field(default="one", metadata={"help": "a choice"})
    limit: int | None = field(default=None, metadata={"help": "a number or none"})
    fast: bool = field(default=True, metadata={"help": "yes or no"})


CLASSES = (Options, GameConfig)


def read(tmp_path, text, *arguments):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    return parse(CLASSES, ["--config", str(file), *arguments], "gantune test", "A test.")


def test_the_file_stands_before_the_default_and_the_command_line_before_the_file(tmp_path):
    text = "num_train_epochs: 7\nper-device-train-batch-size: 3\nlearning_rate: 2e-3\nlimit: null\n"
    text += "fast: false\nkind: two\nseed: 5\n"
    (options, config), values = read(tmp_path, text, "--num-train-epochs", "9", "--limit=4")
    assert (config.num_train_epochs, config.per_device_train_batch_size, config.learning_rate, config.seed) == (
        9,
        3,
        0.002,
        5,
    )
    assert options == Options("ann", "two", 4, False)
    assert (
        values["num_train_epochs"] == 9
        and values["per_device_train_batch_size"] == 3
        and values["discount"] == GameConfig().discount
    )


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.E-3", "1.0E-03", "+.1e-2", "10E-4", "0.001"])
def test_a_number_may_be_written_in_any_way(tmp_path, text):
    assert read(tmp_path, f"learning_rate: {text}")[1]["learning_rate"] == 0.001
    assert read(tmp_path, f"max_seconds: {text.replace('-', '')}")[0][1].max_seconds == float(text.replace("-", ""))


def test_a_flag_on_the_command_line_wins_in_both_directions(tmp_path):
    assert read(tmp_path, "fast: false", "--fast")[0][0].fast is True
    assert read(tmp_path, "fast: true", "--no-fast")[0][0].fast is False


def test_what_is_written_back_reads_as_the_same_options(tmp_path):
    given = ["--name", "no", "--limit", "3", "--no-fast", "--learning-rate", "1e-05", "--temperature", "3"]
    groups, values = parse(CLASSES, given, "gantune test", "A test.")
    write_config(tmp_path / "run.yaml", "gantune test", values)
    again, same = parse(CLASSES, ["--config", str(tmp_path / "run.yaml")], "gantune test", "A test.")
    assert same == values and again == groups
    assert again[0].name == "no" and again[1].learning_rate == 1e-5


def test_files_here_are_written_by_their_absolute_paths_and_built_in_names_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mini", "tofu", "base", "tuned", "cnn"):
        (tmp_path / name).mkdir()
    values = {"model": "mini", "dataset": "tofu", "adapter": "tuned", "bleurt": None, "discriminator": "cnn", "seed": 3}
    assert settled(values) == values | {"adapter": str(tmp_path / "tuned")}
    assert settled({"model": "base", "dataset": "owner/name"}) == {
        "model": str(tmp_path / "base"), "dataset": "owner/name",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("epoch: 3", "unknown option 'epoch'"),
        ("num_train_epochs: three", "num_train_epochs is 'three', expected a number"),
        ("per_device_train_batch_size: 3.5", "per_device_train_batch_size is 3.5, expected a whole number"),
        ("max_prompt_length: true", "max_prompt_length is True, expected a whole number"),
        ("num_train_epochs:", "num_train_epochs is None, expected a number"),
        ("learning_rate: .inf", "learning_rate is inf, expected a finite number"),
        ("discount: 1E400", "discount is inf, expected a finite number"),
        ("temperature: .nan", "temperature is nan, expected a finite number"),
        ("learning_rate: inf", "learning_rate is 'inf', expected a number"),
        ("learning_rate: fast", "learning_rate is 'fast', expected a number"),
        ("fast: 1", "fast is 1, expected true or false"),
        ("name: 3", "name is 3, expected a text"),
        ("kind: three", "kind is 'three', expected one of one, two"),
        ("kind: [one]", "kind is ['one'], expected one of one, two"),
        ("limit: [1]", "limit is [1], expected a whole number"),
        ("seed: 3\nseed: 4", "line 2: not valid YAML ('seed' is there twice)"),
        ("max_tokens: 3\nmax-tokens: 4", "'max-tokens' is there twice"),
        ("seed: [", "not valid YAML"),
        ("- seed", "is a list, expected options as NAME: VALUE"),
        ("!!python/object/apply:os.system ['false']", "not valid YAML"),
        ("num_train_epochs: 0", "--num-train-epochs 0.0: expected above 0"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_name_and_the_key(tmp_path, text, told):
    with pytest.raises(UserError) as error:
        read(tmp_path, text)
    message = str(error.value)
    assert message.startswith(str(tmp_path / "run.yaml")) and told in message and "\n" not in message


def test_a_mistake_on_the_command_line_is_not_the_file_s(tmp_path):
    with pytest.raises(UserError) as error:
        read(tmp_path, "num_train_epochs: 3", "--num-train-epochs", "0")
    assert str(error.value).startswith("--num-train-epochs 0")


def test_an_empty_file_holds_no_options_and_a_missing_one_is_named(tmp_path):
    assert read(tmp_path, "# nothing\n")[0][0] == Options()
    with pytest.raises(UserError, match=r"gone\.yaml: cannot be read"):
        read_config(tmp_path / "gone.yaml", option_types(CLASSES))


def test_help_names_each_option_once_with_its_default():
    text = OptionParser([Options], prog="gantune test", add_help=False).format_help()
    assert text.splitlines() == [
        "usage: gantune test [options]",
        "",
        "options:",
        "  --name TEXT     a text (default: ann)",
        "  --kind one|two  a choice (default: one)",
        "  --limit N       a number or none",
        "  --fast          yes or no (default: yes; --no-fast)",
    ]
    few = OptionParser([Options], ["limit", "name"], prog="gantune test", add_help=False).format_help()
    assert few.splitlines()[2:] == [
        "everyday options:",
        "  --limit N    a number or none",
        "  --name TEXT  a text (default: ann)",
        "",
        "--help-all shows all 5 options.",
    ]


def test_help_shows_at_most_15_options():
    for everyday in (arguments.EVERYDAY, train.EVERYDAY):
        assert len(set(everyday)) == len(everyday) <= 15
