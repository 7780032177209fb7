"""What the gain of the game grows with: the runs that are asked for, and what is made of their figures."""

from __future__ import annotations

import json

import pytest

from benchmarks import growth
from benchmarks.compare import rows as compare_rows
from benchmarks.compare.arguments import parse
from gantune.diagnostics import write_json


@pytest.fixture
def asked(monkeypatch):
    """No comparison is run; the game has a slot error rate of .3 and its control one of .4, and .1 more with seed 2."""
    found = []

    def compare(arguments):
        settings = parse(arguments)
        found.append(settings)
        (method,), rows = settings.comparison.methods, []
        for seed in settings.comparison.seeds:
            rate = {growth.GAME: 0.3, growth.CONTROL: 0.4 + 0.1 * (seed == 2)}[method]
            metrics = {"slot_error_rate": rate, "slot_error_rate_sampled": 2 * rate, "rougeL": 1 - rate}
            spent = {"train_seconds": 6.0 if method == growth.GAME else 2.0, "train_tokens": 10}
            spent["peak_memory_bytes"] = 300 if method == growth.GAME else 200
            rows.append({"method": method, "seed": seed, "metrics": metrics, **spent})
        write_json(settings.comparison.output + "/comparison.json", {"rows": rows})
        return 0

    monkeypatch.setattr(compare_rows, "compare", compare)
    return found


def test_a_line_is_the_game_less_its_control(asked, tmp_path, capsys):
    names = ["preset", "k=4, as many texts", "rounds=25"]
    assert growth.main(["--variants", *names, "--seeds", "1", "2", "3", "--output", str(tmp_path)]) == 0
    lines = json.loads((tmp_path / "growth.json").read_text())["lines"]
    assert [line["variant"] for line in lines] == ["preset", "rounds=25", "k=4, as many texts"], "in one order"
    assert lines[0]["gains"]["slot_error_rate"] == pytest.approx([-0.1, -0.2, -0.1]) and lines[0]["seconds"] == 3
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "growth.md").read_text()
    # half of the interval: t of two degrees of freedom, 4.303, times the standard error, 1/30
    assert (
        "| preset | 0.300 | -0.133 ±0.143 | 0.600 | -0.267 ±0.287 | 0.700 | +0.133 ±0.143 | 3.0 x | 1.5 x |" in printed
    )
    outputs = [settings.comparison.output for settings in asked]
    assert len(asked) == 6 and len(set(outputs)) == 5, "the second variant has the first one's control"

    for seeds, kept in (["1", "2", "3"], [names[0], "best-of-k", *names[1:]]), (["1"], ["best-of-k"]):
        assert growth.main(["--variants", "best-of-k", "--seeds", *seeds, "--output", str(tmp_path)]) == 0
        lines = json.loads((tmp_path / "growth.json").read_text())["lines"]
        assert {line["variant"] for line in lines} == set(kept), "lines of the same seeds stay, of others not"


def test_a_line_that_another_process_writes_meanwhile_stays(asked, tmp_path, monkeypatch):
    ours, both = compare_rows.compare, []

    def compare(arguments):
        monkeypatch.setattr(compare_rows, "compare", ours)
        both.append(growth.main(["--variants", "rounds=50", "--seeds", "1", "--output", str(tmp_path)]))
        return ours(arguments)

    monkeypatch.setattr(compare_rows, "compare", compare)
    assert growth.main(["--variants", "preset", "--seeds", "1", "--output", str(tmp_path)]) == 0 == both[0]
    lines = json.loads((tmp_path / "growth.json").read_text())["lines"]
    assert [line["variant"] for line in lines] == ["preset", "rounds=50"]


def test_each_variant_has_its_schedule_and_options(asked, tmp_path):
    assert growth.main(["--seeds", "1", "--output", str(tmp_path), "--test-size", "9"]) == 0
    games = [settings for settings in asked if settings.comparison.methods == [growth.GAME]]
    for settings, (name, variant) in zip(games, growth.VARIANTS.items(), strict=True):
        config = settings.method_config(growth.GAME, 1)
        steps = -(-settings.data.train_size // config.per_device_train_batch_size)
        likelihood = round(config.warmup_share * config.num_train_epochs * steps)
        rounds = (config.num_train_epochs * steps - likelihood) / config.steps_per_generation
        assert abs(likelihood - growth.LIKELIHOOD_EPOCHS * steps) <= 1 and settings.data.test_size == 9
        assert settings.data.train_size == variant.pairs and 0 <= rounds - variant.rounds < (steps + 1) / 8, name
    by_name = dict(zip(growth.VARIANTS, games, strict=True))
    assert by_name["prompts=none"].data.prompts == [] and by_name["prompts=rest"].data.prompts == ["rest"]
    assert by_name["best-of-k"].method_config(growth.GAME, 1).objective == "best-of-k"
    preset = parse(["--preset", "data-to-text"]).method_config(growth.GAME, 1)
    own = by_name["preset"].method_config(growth.GAME, 1)
    assert own.num_train_epochs == preset.num_train_epochs and round(2624 * own.warmup_share) == 1817
    assert round(2624 * preset.warmup_share) == 1817


def test_a_seed_that_is_given_twice_counts_once(asked, tmp_path):
    assert growth.main(["--variants", "preset", "--seeds", "1", "2", "1", "--output", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "growth.json").read_text())
    assert content["seeds"] == [1, 2] and len(content["lines"][0]["gains"]["rougeL"]) == 2


def test_what_is_wrong_is_told_in_one_line(asked, tmp_path, monkeypatch, capsys):
    assert growth.main(["--variants", "rounds=7", "--output", str(tmp_path)]) == 2
    assert "--variants rounds=7: expected one of preset, rounds=10" in capsys.readouterr().err
    for options, option in ((["--methods", "lora"], "--methods"), (["--preset=unpaired"], "--preset")):
        assert growth.main(["--output", str(tmp_path), *options]) == 2
        assert f"{option}: expected in benchmarks.compare only" in capsys.readouterr().err
    for content in ({}, {"seeds": [1], "options": [], "lines": [{"variant": "preset"}]}, {"lines": 3}):
        write_json(tmp_path / "growth.json", content)
        assert growth.main(["--output", str(tmp_path)]) == 2
        assert "growth.json: not the results of benchmarks.growth" in capsys.readouterr().err
    assert not asked
    (tmp_path / "growth.json").unlink()
    monkeypatch.setattr(compare_rows, "compare", lambda arguments: 1)
    assert growth.main(["--variants", "preset", "--output", str(tmp_path)]) == 2
    assert "the comparison ended with status 1, expected 0" in capsys.readouterr().err
