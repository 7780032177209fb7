"""`gantune train`: what it leaves, what it refuses, and how it is interrupted and gone on with."""

from __future__ import annotations

import json
import shutil
import signal
from contextlib import contextmanager

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from gantune.cli import main
from gantune.data import Pair
from gantune.diagnostics import load_trajectory
from gantune.diagnostics.files import locked
from gantune.trainer.callbacks import Bar
from gantune.trainer.checkpoints import folders_of
from gantune.trainer.language_gan import LanguageGAN
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

ROWS = [
    {"question": f"who is {name}?", "answer": f"{name} is {what}."}
    for name in ("ann", "bob", "eve")
    for what in ("cook", "old")
]
SMALL = [
    f"--{name.replace('_', '-')}={value}"
    for name, value in {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 3,
        "max_prompt_length": 32,
        "max_completion_length": 8,
        "num_generations": 2,
        "warmup_share": 0.5,
        "adversarial_every": 1,
        "discriminator_warmup_steps": 2,
        "discriminator_warmup_rollouts": 1,
        "device": "cpu",
    }.items()
]


def prepare(folder, family="gpt2"):
    """A tiny model, its tokenizer and pairs, as files in `folder`; the options that name them."""
    TINY_MODELS[family]().save_pretrained(folder / "base")
    tiny_tokenizer().save_pretrained(folder / "base")
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return ["--model", str(folder / "base"), "--dataset", str(folder / "pairs.jsonl"), "--report-to", "none"]


def train(folder, *options, output="tuned", family="gpt2"):
    """The exit status of a small training into `folder/output`."""
    named = prepare(folder, family)
    return main(["train", *named, *SMALL, "--output-dir", str(folder / output), *options])


def history(directory):
    """The rows of the log without the last one, which tells how long it took."""
    rows = [json.loads(line) for line in (directory / "history.jsonl").read_text().splitlines()]
    return [row for row in rows if "train_runtime" not in row]


@pytest.fixture
def no_plots(monkeypatch):
    """Without the plots, which take longer than the training."""
    monkeypatch.setattr("gantune.cli.plot.draw", lambda directory: [])


def test_a_run_leaves_adapter_history_plots_settings_and_card(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(ROWS[1], "id", 7)
    assert train(tmp_path, "--validation-size", "2") == 0
    output = tmp_path / "tuned"
    assert {path.name for path in output.iterdir()} == {
        ".lock", "README.md", "discriminator.safetensors", "embedding_generator", "health.png", "history.jsonl",
        "history.png", "language_gan.json", "run.yaml", "training.json", "weights.npz", "weights.png",
    }  # fmt: skip
    rows = history(output)
    assert [row["phase"] for row in rows if "phase" in row] == ["likelihood"] * 2 + ["discriminator"] * 2 + [
        "adversarial"
    ] * 2
    gan = LanguageGAN.from_pretrained(output, train_dataset=[Pair(row["question"], row["answer"]) for row in ROWS])
    assert gan.args.validation_share == pytest.approx(2 / 6)
    assert load_trajectory(output / "weights.npz").epochs.tolist() == [0, 1, 2]

    known = json.loads((output / "training.json").read_text())
    assert (known["pairs"], known["validation_pairs"], known["steps"]) == (6, 2, 4)
    assert known["dataset"] == str(tmp_path / "pairs.jsonl")
    metric, loss = known["validation"]
    assert (
        len(gan.eval_dataset) == 2 and metric == "loss" and loss == pytest.approx(gan.evaluate()["eval_loss"], rel=1e-5)
    )
    assert f"Validation loss: {loss:.4f} nats a token" in (output / "README.md").read_text()
    captured = capsys.readouterr()
    assert "training: 100%" in captured.err and "loss=" in captured.err and "phase=adversarial" in captured.err
    assert "training: 4 pairs, 2 more held out; " in captured.err
    assert "4 steps: 2 of likelihood, then the discriminator's own 2, then 2 adversarial\n" in captured.err
    told, losses = captured.out, [row["loss"] for row in rows if row.get("phase") == "likelihood"]
    assert f"likelihood loss {losses[0]:.3f} at first, {losses[-1]:.3f} at last\nnext:\n" in told
    assert f"\n  gantune generate --adapter {output}\n  gantune evaluate --adapter {output} --dataset" in told
    assert captured.err.count(f"warning: {tmp_path / 'pairs.jsonl'}: columns not read: id\n") == 1


def test_the_resolved_file_repeats_the_run(no_plots, tmp_path):
    assert train(tmp_path, "--learning-rate", "3e-3") == 0
    file = str(tmp_path / "tuned" / "run.yaml")
    assert main(["train", "--config", file, "--output-dir", str(tmp_path / "again")]) == 0
    assert history(tmp_path / "again") == history(tmp_path / "tuned")
    written = [(tmp_path / name / "run.yaml").read_text() for name in ("tuned", "again")]
    assert written[0].replace(str(tmp_path / "tuned"), str(tmp_path / "again")) == written[1]
    assert "learning_rate: 0.003\n" in written[0] and "resume" not in written[0]


@contextmanager
def interrupted(monkeypatch):
    """Ctrl-C in the third step of a training in the block."""

    def signalled(self, args, state, control, **kwargs):
        if state.global_step == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Bar, "on_step_begin", signalled)
        yield


def interrupted_train(folder, monkeypatch, *options):
    """A small training into `folder/tuned`, [`interrupted`]."""
    with interrupted(monkeypatch):
        assert train(folder, *options) == 130


def test_an_interrupted_run_is_gone_on_with_to_the_same_end(no_plots, tmp_path, monkeypatch, capsys):
    assert train(tmp_path, output="whole") == 0
    interrupted_train(tmp_path, monkeypatch)
    assert "interrupted; the same command with --resume-from-checkpoint goes on from here" in capsys.readouterr().err
    output = tmp_path / "tuned"
    assert len(history(output)) == 5 and not (output / "training.json").exists()

    assert train(tmp_path) == 2
    assert "holds a run that has not ended: --resume-from-checkpoint goes on with it" in capsys.readouterr().err
    assert main(["train", "--output-dir", str(output), "--resume-from-checkpoint", "--num-train-epochs", "3"]) == 2
    assert (
        "num_train_epochs is 2.0 and now 3.0, a run goes on with the options it began with" in capsys.readouterr().err
    )
    assert main(["train", "--output-dir", str(output), "--resume-from-checkpoint"]) == 0
    assert history(output) == history(tmp_path / "whole")
    assert not folders_of(output), "checkpoints of a run that has ended"
    adapter = "embedding_generator/adapter_model.safetensors"
    assert (output / adapter).read_bytes() == (tmp_path / "whole" / adapter).read_bytes()
    trajectories = [load_trajectory(tmp_path / name / "weights.npz") for name in ("tuned", "whole")]
    assert trajectories[0].epochs.tolist() == trajectories[1].epochs.tolist() == [0, 1, 2]
    assert (trajectories[0].norms == trajectories[1].norms).all()

    before = (output / "README.md").stat().st_mtime_ns
    assert main(["train", "--output-dir", str(output), "--resume-from-checkpoint"]) == 0
    assert "this run has ended" in capsys.readouterr().out
    assert (output / "README.md").stat().st_mtime_ns == before


def test_a_run_that_was_told_relative_paths_is_gone_on_with_from_elsewhere(no_plots, tmp_path, monkeypatch, capsys):
    """So is one, where it began, whose file has the relative paths that were written there once."""
    (tmp_path / "elsewhere").mkdir()
    prepare(tmp_path)
    command = ["train", "--model", "base", "--dataset", "pairs.jsonl", *SMALL]
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--output-dir", "whole"]) == 0
    with interrupted(monkeypatch):
        assert main([*command, "--output-dir", "tuned"]) == 130
    written = (tmp_path / "tuned" / "run.yaml").read_text()
    assert f"model: {tmp_path}/base\n" in written and f"dataset: {tmp_path}/pairs.jsonl\n" in written

    shutil.copytree(tmp_path / "tuned", tmp_path / "old")
    (tmp_path / "old" / "run.yaml").write_text(written.replace(f"{tmp_path}/", ""))
    (tmp_path / "other.jsonl").write_text((tmp_path / "pairs.jsonl").read_text())
    resume = ["--resume-from-checkpoint", "--output-dir"]
    assert main(["train", *resume, "old", "--dataset", "other.jsonl"]) == 2
    told = f"dataset is {str(tmp_path / 'pairs.jsonl')!r} and now {str(tmp_path / 'other.jsonl')!r}"
    assert told in capsys.readouterr().err
    assert main([*command, *resume, "old"]) == 0

    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["train", *resume, "../tuned"]) == 0
    assert history(tmp_path / "tuned") == history(tmp_path / "old") == history(tmp_path / "whole")


def test_prompts_reach_the_game_and_a_resumed_run_has_the_same(no_plots, tmp_path, monkeypatch, capsys):
    """Here all steps are likelihood: what the adversarial ones do with prompts is their own tests' matter."""
    given, made = [], LanguageGAN.__init__
    monkeypatch.setattr(LanguageGAN, "__init__", lambda *a, **k: given.append(k["unpaired"]) or made(*a, **k))
    prepare(tmp_path)
    (tmp_path / "asked.txt").write_text("name[The Mill], food[fish]\nname[Zizzi]\n")
    command = ["train", "--model", "base", "--dataset", "pairs.jsonl", *SMALL, "--warmup-share=1"]
    command += ["--blind-discriminator", "--prompts", "asked.txt", "--output-dir", "tuned"]
    monkeypatch.chdir(tmp_path)
    with interrupted(monkeypatch):
        assert main(command) == 130
    assert f"prompts: {tmp_path}/asked.txt\n" in (tmp_path / "tuned" / "run.yaml").read_text()
    (tmp_path / "other.txt").write_text("name[Zizzi]\n")
    assert main(["train", "--resume-from-checkpoint", "--output-dir", "tuned", "--prompts", "other.txt"]) == 2
    assert f"asked.txt' and now '{tmp_path}/other.txt'" in capsys.readouterr().err
    assert main(["train", "--resume-from-checkpoint", "--output-dir", "tuned"]) == 0
    assert [unpaired.questions[0].fields for unpaired in given] == [(("name", "The Mill"), ("food", "fish"))] * 2
    assert main([*command[:-1], "new", "--prompts", "nowhere.txt"]) == 2
    assert "nowhere.txt: no such file" in capsys.readouterr().err


def test_every_option_of_transformers_is_taken_written_down_and_gone_on_with(no_plots, tmp_path, monkeypatch, capsys):
    def weights(name):
        return (tmp_path / name / "embedding_generator/adapter_model.safetensors").read_bytes()

    def begun(self, args, state, control, **kwargs):
        seen.append((args.weight_decay, args.adam_beta1))

    seen = []
    monkeypatch.setattr(Bar, "on_train_begin", begun)
    options = ["--weight-decay", "0.1", "--adam-beta1=0.8"]
    assert train(tmp_path, output="plain") == 0
    assert train(tmp_path, *options, output="whole") == 0
    (tmp_path / "more.yaml").write_text("weight_decay: 0.1\nadam-beta1: 0.8\n")
    assert train(tmp_path, "--config", str(tmp_path / "more.yaml"), output="from-file") == 0
    interrupted_train(tmp_path, monkeypatch, *options)
    resume = ["train", "--output-dir", str(tmp_path / "tuned"), "--resume-from-checkpoint"]
    assert main([*resume, "--weight-decay", "0.2"]) == 2
    assert "weight_decay is 0.1 and now 0.2" in capsys.readouterr().err
    assert main(resume) == 0
    assert seen == [(0.0, 0.9)] + [(0.1, 0.8)] * 4
    assert weights("whole") == weights("from-file") == weights("tuned") != weights("plain")
    written = (tmp_path / "tuned" / "run.yaml").read_text()
    assert "weight_decay: 0.1\n" in written and "adam_beta1: 0.8\n" in written


def test_nothing_that_is_there_is_overwritten(tmp_path, capsys):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("years of work")
    for more in ([], ["--resume-from-checkpoint"]):
        assert train(tmp_path, *more, output="taken") == 2
        assert "holds other files, expected a new directory as --output-dir" in capsys.readouterr().err
    assert train(tmp_path, output="taken/thesis.txt") == 2
    assert "taken/thesis.txt: cannot be written" in capsys.readouterr().err
    assert (taken / "thesis.txt").read_text() == "years of work"


def test_two_processes_cannot_train_into_one_directory(no_plots, tmp_path, capsys):
    with locked(tmp_path / "tuned"):
        assert train(tmp_path) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "another process is writing there" in err
    assert train(tmp_path) == 0


def test_pairs_that_cannot_be_trained_on_leave_no_run_behind(tmp_path, capsys):
    assert train(tmp_path, "--validation-size", "6") == 2
    assert "--validation-size 6: expected 0 to 5" in capsys.readouterr().err
    assert train(tmp_path, "--too-long", "error", "--max-prompt-length", "5") == 2
    assert train(tmp_path, "--early-stopping-patience", "1") == 2
    assert "--validation-share 0.0 holds no pair out" in capsys.readouterr().err
    assert not (tmp_path / "tuned").exists()


def test_a_limit_that_is_reached_before_held_out_pairs_are_scored_ends_the_run(no_plots, tmp_path):
    assert train(tmp_path, "--validation-size", "2", "--early-stopping-patience", "1", "--max-tokens", "1") == 0
    told = json.loads((tmp_path / "tuned" / "training.json").read_text())
    assert told["steps"] == 1 and told["validation"] is None


def test_a_training_that_breaks_off_keeps_the_last_good_weights_and_says_so(no_plots, tmp_path, monkeypatch, capsys):
    def broken(self, batch):
        raise FloatingPointError("likelihood loss is nan")

    monkeypatch.setattr(LanguageGAN, "likelihood_step", broken)
    assert train(tmp_path) == 1
    assert "error: likelihood loss is nan" in capsys.readouterr().err
    card = (tmp_path / "tuned" / "README.md").read_text()
    assert "**Training did not come to its end**: likelihood loss is nan" in card
    LanguageGAN.from_pretrained(tmp_path / "tuned")


class Recorder(TrainerCallback):
    """An experiment tracker as transformers has them."""

    told: list = []  # noqa: RUF012

    def on_train_begin(self, args, state, control, **kwargs):
        self.told[:] = [("settings", args.to_dict())]

    def on_log(self, args, state, control, logs, **kwargs):
        self.told.append((state.global_step, dict(logs)))

    def on_train_end(self, args, state, control, **kwargs):
        self.told.append(("finished", None))


def test_a_tracker_hears_settings_every_row_and_the_end(no_plots, tmp_path, monkeypatch):
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "recorder", Recorder)
    assert train(tmp_path, "--report-to", "recorder") == 0
    (_, settings), *rows, (last, _) = Recorder.told
    assert settings["num_train_epochs"] == 2 and settings["generator"] == "embedding" and last == "finished"
    written = [json.loads(line) for line in (tmp_path / "tuned" / "history.jsonl").read_text().splitlines()]
    assert len(rows) >= 6 and [{"step": step} | row for step, row in rows] == written
