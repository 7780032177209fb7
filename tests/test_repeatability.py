"""Rows repeated under other environments: what each run is given, and the distances that are told."""

from __future__ import annotations

import json
import os

import pytest
import torch

from baselines import resolve_method
from benchmarks import repeatability
from benchmarks.compare import rows
from gantune.data import load_pairs
from gantune.diagnostics import write_json
from gantune.hub.loading import load_model, load_tokenizer


@pytest.fixture
def seen(monkeypatch):
    """No comparison is run; under two threads seed 2 has .03 less ROUGE-L and another answer."""
    found = []

    def compare(arguments):
        output, threads = arguments[-1], os.environ["OMP_NUM_THREADS"]
        found.append((threads, os.environ.get("ATEN_CPU_CAPABILITY"), arguments[:-2]))
        moved, made = threads == "2", [{"method": "base", "seed": 1, "metrics": {}, "trainable_parameters": 0}]
        for seed in (1, 2):
            metrics = {"rougeL": 0.5 - 0.03 * (moved and seed == 2), "nll": 1.25, "slot_error_rate": None}
            made.append(
                {"method": "lora", "seed": seed, "metrics": metrics, "trainable_parameters": 9, "status": "success"}
            )
            folder = f"{output}/runs/lora-seed{seed}"
            os.makedirs(folder)
            answers = ["yes", "maybe" if moved and seed == 2 else "no"]
            with open(f"{folder}/samples.jsonl", "w") as file:
                file.writelines(json.dumps({"answer": answer}) + "\n" for answer in answers)
            git = {"commit": f"c{seed}", "dirty": False}
            write_json(f"{folder}/environment.json", {"git": git})
        write_json(output + "/comparison.json", {"rows": made})
        return 0

    monkeypatch.setattr(rows, "compare", compare)
    return found


def test_the_distance_of_a_method_is_that_of_its_farthest_row(seen, tmp_path, capsys):
    before = dict(os.environ)
    assert repeatability.main(["--output", str(tmp_path), "--methods", "lora", "--seeds", "1", "2"]) == 0
    assert dict(os.environ) == before
    written = json.loads((tmp_path / "repeatability.json").read_text())
    lines = written["lines"]
    assert [made["git"]["commit"] for made in written["made_at"]] == ["c1", "c2"]
    by_name = {line["processor"]: line for line in lines}
    assert list(by_name) == list(repeatability.PROCESSORS)[1:]
    assert by_name["two threads"]["metrics"] == {"rougeL": pytest.approx(0.03), "nll": 0.0}
    assert by_name["two threads"]["answers"] == 0.25 and by_name["one thread again"]["answers"] == 0
    assert "| two threads | lora | 0.0300 | 0.0000 | 25% |" in capsys.readouterr().out
    assert ("1", "avx2", ["--methods", "lora", "--seeds", "1", "2"]) in seen and len(seen) == len(
        repeatability.PROCESSORS
    )


def test_a_comparison_that_fails_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(rows, "compare", lambda arguments: 1)
    assert repeatability.main(["--output", str(tmp_path)]) == 2
    assert "runs/one-thread: the comparison ended with status 1, expected 0" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False", "ignore:`is_gradient_checkpointing`")
@pytest.mark.parametrize("name", ["lora", "gan-stack"])
def test_a_row_of_mini_repeats_to_the_bit(name):
    pairs, method = load_pairs("mini-tofu"), resolve_method(name)

    def row(seed):
        torch.manual_seed(seed)  # as a run of a comparison does
        config = method.config_class(num_train_epochs=2, per_device_train_batch_size=4, seed=seed)
        tuned = method.tune(load_model("mini"), load_tokenizer("mini"), pairs[:20], config, [])
        weights = {name: value for name, value in tuned.model.state_dict().items() if "lora" in name}
        return weights, tuned.losses(pairs[20:24]), tuned.answer([pair.question for pair in pairs[20:24]])

    (weights, *told), (again, *told_again), (others, *_) = row(0), row(0), row(1)
    assert len(weights) > 8 and told == told_again
    assert all(torch.equal(value, again[key]) for key, value in weights.items())
    assert not all(torch.equal(value, others[key]) for key, value in weights.items())
