"""Options by the names of an earlier version are refused in one line that has the new one, wherever they are given."""

from __future__ import annotations

from dataclasses import fields

import pytest

from baselines import METHODS
from benchmarks.compare.__main__ import main as compare
from benchmarks.compare.arguments import parse
from gantune.cli import main
from gantune.cli.options import TrainingOptions, option_types
from gantune.cli.train import CLASSES
from gantune.errors import UserError
from gantune.trainer.arguments import LanguageGANConfig, PairConfig
from gantune.trainer.config import GameConfig
from gantune.tuning import RENAMED, TuningConfig

NAMES = sorted(RENAMED.items())
OF_COMPARE = [name for name, new in NAMES if new in parse([]).tuning or new == "save_steps"]


def dashed(name):
    return f"--{name.replace('_', '-')}"


def test_the_new_names_are_options_and_the_old_ones_are_not():
    there = {*option_types(CLASSES), *TrainingOptions().types}
    assert len(RENAMED) >= 14 and set(RENAMED.values()) <= there and not set(RENAMED) & there
    assert len(OF_COMPARE) >= 11


@pytest.mark.parametrize(("old", "new"), NAMES)
@pytest.mark.parametrize("form", ["{} 3", "{}=3", "{}"])
def test_on_the_command_line_of_train(old, new, form, capsys, tmp_path):
    given = form.format(dashed(old)).split()
    assert main(["train", "--output-dir", str(tmp_path / "out"), "--dataset", "mini-tofu", *given]) == 2
    assert capsys.readouterr().err == f"error: {dashed(old)} is called {dashed(new)} now, as in transformers and TRL\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("old", "new"), NAMES)
def test_in_a_file_of_options(old, new, capsys, tmp_path):
    file = tmp_path / "run.yaml"
    for written in (old, old.replace("_", "-")):
        file.write_text(f"seed: 1\n{written}: 3\n")
        assert main(["train", "--config", str(file)]) == 2
        told = f"error: {file}: {old} is called {new} now, as in transformers and TRL\n"
        assert capsys.readouterr().err == told


@pytest.mark.parametrize("old", OF_COMPARE)
def test_on_the_command_line_of_the_comparison(old, capsys):
    assert compare(["--methods", "gan", dashed(old), "3"]) == 2
    told = f"error: {dashed(old)} is called {dashed(RENAMED[old])} now, as in transformers and TRL\n"
    assert capsys.readouterr().err == told


def test_where_there_is_no_such_option_no_new_name_is_told(capsys):
    assert main(["evaluate", "--adapter", "x", "--epochs", "3"]) == 2
    assert capsys.readouterr().err == "error: unknown option --epochs (--help lists the options)\n"
    assert compare(["--track", "none"]) == 2
    assert capsys.readouterr().err == "error: unknown option --track; did you mean --task? (--help lists the options)\n"


CONFIGS = {
    TuningConfig,
    GameConfig,
    PairConfig,
    LanguageGANConfig,
    *(METHODS.get(name).config_class for name in METHODS.names()),
}


@pytest.mark.parametrize(("old", "new"), NAMES)
def test_in_python(old, new):
    for config_class in CONFIGS:
        assert old not in {field.name for field in fields(config_class)}
        with pytest.raises(UserError, match=rf"^{old} is called {new} now, as in transformers and TRL$"):
            config_class(**{old: 3})
