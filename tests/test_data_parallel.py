"""Two processes take the steps of one: gradients, history, interrupts, resuming, and the commands under a launcher."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file

from benchmarks.compare import comparison as compare
from benchmarks.compare.arguments import parse
from benchmarks.compare.run import run as run_alone
from gantune.distributed import DataParallel, join_processes
from gantune.errors import UserError
from gantune.hub.loading import load_model
from tests.parallel_training import leave
from tests.tiny_models import TINY_MODELS

ROOT = Path(__file__).parents[1]
LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
STILL = {"max_grad_norm": 1e9, "learning_rate": 1e-9, "discriminator_learning_rate": 1e-9}
"""Unclipped gradients at weights that stay: Adam's first step would make much of rounding."""
HALVES = {
    "policy gradient": (6, {}),
    "odd": (5, {"mismatched_negatives": True, "discriminator": "mlp"}),
    "one row for two": (1, {"advantage": "moving-average"}),
    "parts": (6, {"objective": "best-of-k", "reward": "consensus", "micro_batch_size": 2}),
    "checkpointing": (4, {"reward": "sequence", "replay_rollouts": 2, "gradient_checkpointing": True}),
}
HISTORY = {"validation_share": 0.17, "replay_rollouts": 3, "adversarial_every": 2}
"""Five pairs to train on in steps of four: the last step of an epoch has one row for two processes."""
SELF_PLAY = {
    "self_play_scale": 0.5,
    "num_train_epochs": 2,
    "warmup_share": 0.5,
    "validation_share": 0.2,
}
STOP = {"advantage": "moving-average", "validation_share": 0.17}
UNPAIRED = {
    "settings": {"blind_discriminator": True, "unpaired_likelihood_weight": 0.3, "max_completion_length": 6},
    "unpaired": ([f"who is n{i}?" for i in range(7)], [f"n{i} is old." for i in range(5)]),
}
LIKELIHOOD = {
    "likelihood": {"max_completion_length": 12},
    "packing": {"packing": True, "max_prompt_length": 40, "max_completion_length": 40},
    "micro-batches": {"micro_batch_size": 1, "max_completion_length": 12},
}


def run(*command: str, status: int | None = 0, **environment: str) -> subprocess.CompletedProcess:
    process = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if status is not None:
        assert process.returncode == status, process.stdout + process.stderr
    return process


def divided_model(directory: Path) -> str:
    """A folder with a tiny Llama, which transformers has a plan to divide."""
    folder = directory / "llama"
    if not folder.exists():
        TINY_MODELS["llama"]().save_pretrained(folder)
    return str(folder)


def likelihood(settings: dict[str, Any]) -> dict[str, Any]:
    """All of a model is trained by PairTrainer, on five pairs in steps of four."""
    return {"settings": {"num_train_epochs": 3, "learning_rate": 1e-3} | settings, "pairs": 5}


@pytest.fixture(scope="module")
def of_two(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """What two processes come to, for all that is asked."""
    directory = tmp_path_factory.mktemp("parallel")
    divided = {"settings": HISTORY, "divided": divided_model(directory)}
    stop = {"settings": STOP, "checkpoints": str(directory / "kept")}
    asked = {
        name: {"questions": questions, "settings": STILL | settings} for name, (questions, settings) in HALVES.items()
    }
    asked |= {
        "history": {"settings": HISTORY},
        "whole": {"settings": STOP},
        "stopped": stop | {"stop_after": 3},
        "resumed": stop,
        "broken": {"settings": {}, "break_after": 2},
        "self-play": {"settings": SELF_PLAY},
        "unpaired": UNPAIRED,
        "tensor, stopped": divided | {"sharding": "tensor", "stop_after": 2},
    }
    asked |= {name: divided | {"sharding": name} for name in ("tensor", "fsdp")}
    asked |= {name: likelihood(settings) for name, settings in LIKELIHOOD.items()}
    asked["fsdp, lora"] = divided | {"sharding": "fsdp", "settings": HISTORY | {"generator": "embedding+lora"}}
    file = directory / "left.pt"
    run(*LAUNCH, "2", "-m", "tests.parallel_training", str(file), json.dumps(asked))
    return torch.load(file, weights_only=True)


def apart(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """Norm of the difference, as a share of the norm."""
    one, other = (torch.cat([tensor.double().flatten() for tensor in tensors]) for tensors in (found, expected))
    return ((one - other).norm() / other.norm()).item()


def without_none(figures: dict[str, Any]) -> dict[str, float]:
    return {name: figure for name, figure in figures.items() if figure is not None}


def rows_of(left: dict[str, Any]) -> list[dict[str, Any]]:
    return json.loads(left["history"])


def check_alike(two: dict[str, Any], one: dict[str, Any]) -> None:
    """The same weights and the same rows, but for rounding."""
    assert apart(two["parameters"], one["parameters"]) < 1e-4
    found, expected = rows_of(two), rows_of(one)
    assert len(found) == len(expected) > 0
    for row, of_one in zip(found, expected, strict=True):
        assert row.pop("phase", None) == of_one.pop("phase", None)
        assert row.pop("warnings", None) == of_one.pop("warnings", None)
        assert without_none(row) == pytest.approx(without_none(of_one), rel=1e-3, abs=1e-5), row


@pytest.mark.parametrize("name", HALVES)
def test_gradients_of_two_halves_are_those_of_the_whole(of_two, name):
    questions, settings = HALVES[name]
    one, two = leave({"questions": questions, "settings": STILL | settings}), of_two[name]
    assert (one["size"], two["size"]) == (1, 2)
    assert two["answers"] == one["answers"] and len(one["answers"]) == 2 * questions
    for of in ("likelihood", "discriminator", "generator"):
        for gradient, of_one in zip(two[of], one[of], strict=True):
            assert torch.allclose(gradient, of_one, rtol=0, atol=1e-6 * max(1, of_one.abs().max().item()))
        assert apart(two[of], one[of]) < 1e-5
        assert any(gradient.abs().max() > 0 for gradient in one[of])
    assert without_none(two["figures"]) == pytest.approx(without_none(one["figures"]), rel=1e-4, abs=1e-6)


def test_two_processes_leave_the_history_of_one(of_two):
    one, two = leave({"settings": HISTORY}), of_two["history"]
    phases = {row["phase"] for row in rows_of(one) if "phase" in row}
    assert phases == {"likelihood", "discriminator", "adversarial"}
    check_alike(two, one)


@pytest.mark.parametrize("name", LIKELIHOOD)
def test_a_likelihood_training_of_two_processes_is_that_of_one(of_two, name):
    check_alike(of_two[name], leave(likelihood(LIKELIHOOD[name])))


def test_unpaired_data_are_shared_out_too(of_two):
    check_alike(of_two["unpaired"], leave(UNPAIRED))


def test_self_play_of_two_processes_is_that_of_one(of_two):
    check_alike(of_two["self-play"], leave({"settings": SELF_PLAY}))


@pytest.mark.parametrize("name", ["tensor", "fsdp", "fsdp, lora"])
def test_a_model_divided_over_two_processes_is_trained_as_a_whole_one(of_two, tmp_path, name):
    generator = {"generator": "embedding+lora"} if "lora" in name else {}
    one, two = leave({"settings": HISTORY | generator, "divided": divided_model(tmp_path)}), of_two[name]
    assert two["divided"] and not one["divided"]  # after the training, too
    check_alike(two, one)


def test_processes_that_divide_a_model_stop_together(of_two):
    assert len(rows_of(of_two["tensor, stopped"])) == 2


def test_what_cannot_be_divided_is_refused(monkeypatch):
    with pytest.raises(UserError, match=r"^--sharding fsdp: one process, expected a launch of several"):
        load_model("mini", sharding="fsdp")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"^mini: transformers has no plan to divide a model of type gpt2"):
        load_model("mini", sharding="tensor")


def test_all_processes_stop_at_the_step_in_which_one_was_interrupted_and_go_on_to_the_same_end(of_two):
    whole, stopped, resumed = of_two["whole"], of_two["stopped"], of_two["resumed"]
    assert stopped["stopped"].startswith("KeyboardInterrupt") and len(rows_of(stopped)) == 3
    assert rows_of(resumed) == rows_of(whole)
    assert all(torch.equal(*both) for both in zip(resumed["parameters"], whole["parameters"], strict=True))


def test_a_number_that_is_not_finite_in_one_process_stops_all_of_them(of_two):
    stopped = of_two["broken"]
    assert "likelihood loss is nan" in stopped["stopped"] and len(rows_of(stopped)) == 2


def test_rows_are_shared_out_without_gap_or_overlap():
    for size in (1, 2, 3, 8):
        for total in (0, 1, 5, 8, 13):
            shares = [DataParallel(rank, size).rows(total) for rank in range(size)]
            assert [row for start, stop in shares for row in range(start, stop)] == list(range(total))
            assert max(stop - start for start, stop in shares) - min(stop - start for start, stop in shares) <= 1


@pytest.mark.parametrize("plugin", ["fsdp", "deepspeed"])
def test_a_launch_that_divides_models_is_refused_where_they_are_whole(monkeypatch, plugin):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(f"ACCELERATE_USE_{plugin.upper()}", "true")
    with pytest.raises(UserError, match=f"^{plugin}: methods are compared on whole models"):
        compare.check(parse(["--methods", "lora"]))
    monkeypatch.setattr("gantune.distributed.PartialState", lambda cpu: SimpleNamespace(num_processes=2))
    with pytest.raises(UserError, match=rf"^{plugin}: the model is not divided, .*sharding='{plugin}'\)"):
        join_processes("cpu", TINY_MODELS["llama"]())


@pytest.mark.parametrize("generator", ["embedding", "embedding+lora"])
def test_deepspeed_divides_a_model_that_is_trained_as_a_whole_one(tmp_path, generator):
    pytest.importorskip("deepspeed", reason="deepspeed is not installed")
    asked = {"settings": HISTORY | {"generator": generator}, "divided": divided_model(tmp_path)}
    file = tmp_path / "left.pt"
    command = (*LAUNCH, "2", "-m", "tests.parallel_training", str(file))
    run(*command, json.dumps({"of two": asked | {"sharding": "deepspeed"}}), DS_ACCELERATOR="cpu")
    one, two = leave(asked), torch.load(file, weights_only=True)["of two"]
    assert two["divided"] and apart(two["parameters"], one["parameters"]) < 1e-4
    assert [row["loss"] for row in rows_of(two) if "loss" in row] == pytest.approx(
        [row["loss"] for row in rows_of(one) if "loss" in row], rel=1e-3
    )


COMPARE = ["--train-size", "9", "--test-size", "6", "--num-train-epochs", "2", "--max-completion-length", "8",
           "--noise-draws", "0", "--device", "cpu", "--save-steps", "0"]  # fmt: skip


def steps_of(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "history.jsonl").open()]
    return [row for row in rows if "loss" in row]


def test_a_comparison_tunes_by_two_processes_what_one_tunes(tmp_path):
    ours = ("--methods", "lora", *COMPARE, "--per-device-train-batch-size", "2", "--output", str(tmp_path / "two"))
    run(*LAUNCH, "2", "-m", "benchmarks.compare", *ours)
    settings = json.loads((tmp_path / "two/comparison.json").read_text())["settings"]
    assert settings["device"].endswith(", 2 processes")
    of_two, of_one = tmp_path / "two/runs/lora-seed0", tmp_path / "one"
    of_one.mkdir()
    config = json.loads((of_two / "config.json").read_text())
    assert config["tuning"]["per_device_train_batch_size"] == 2
    config["tuning"]["per_device_train_batch_size"] = 4
    (of_one / "config.json").write_text(json.dumps(config))
    one, two = run_alone(of_one), json.loads((of_two / "metrics.json").read_text())
    assert one["status"] == two["status"] == "success"
    assert two["metrics"]["nll"] == pytest.approx(one["metrics"]["nll"], rel=1e-3)
    rows = steps_of(of_one), steps_of(of_two)
    assert len(rows[0]) == 6  # of which two have one row for two processes
    for row, other in zip(*rows, strict=True):
        assert other["loss"] == pytest.approx(row["loss"], rel=1e-3)
        assert (other["step"], other["epoch"], other["tokens"] > 0) == (row["step"], row["epoch"], True)


def test_training_by_two_processes_leaves_one_run_and_says_once_what_is_wrong(tmp_path):
    command = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "-m", "gantune.train")
    options = ["--dataset", "mini-tofu", "--device", "cpu", "--output-dir"]
    refused = run(*command, *options, str(tmp_path / "no"), "--validation-size", "100000", status=None)
    assert refused.returncode != 0 and refused.stderr.count("error: --validation-size 100000") == 1
    assert not (tmp_path / "no").exists()
    sizes = ["--num-train-epochs", "1", "--per-device-train-batch-size", "128", "--max-completion-length", "4",
             "--warmup-share", "0.5", "--report-to", "none"]  # fmt: skip
    done = run(*command, *options, str(tmp_path / "run"), *sizes)
    assert done.stdout.count("the adapter and its model card") == 1
    steps = steps_of(tmp_path / "run")
    assert [row["step"] for row in steps] == list(range(1, len(steps) + 1))


@pytest.mark.parametrize("plugin", ["fsdp", "deepspeed"])
def test_the_configuration_for_a_divided_model_is_one_that_accelerate_reads(plugin):
    settings = load_config_from_file(str(ROOT / f"docs/accelerate/{plugin}.yaml"))
    assert settings.distributed_type == plugin.upper() and settings.num_processes == 2
    assert settings.fsdp_config == ({"fsdp_version": 2} if plugin == "fsdp" else {})
    assert settings.deepspeed_config == ({"zero_stage": 3} if plugin == "deepspeed" else {})
