"""The comparison as a command: what it writes, what it refuses, what survives a failure."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from baselines import METHODS
from benchmarks.compare import comparison as compare
from benchmarks.compare.__main__ import main
from benchmarks.compare.arguments import parse
from benchmarks.compare.dataset import read_split
from benchmarks.compare.run import METRICS
from benchmarks.compare.stored import join, read
from benchmarks.report.notes import notes
from benchmarks.report.terminal_table import as_markdown, as_text, summarise
from benchmarks.report.verdict import verdict
from benchmarks.statistics.intervals import mean_and_half_width
from gantune.diagnostics import locked
from gantune.errors import UserError
from gantune.metrics import Bleurt, Rouge
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

ROWS = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A Hugging Face folder of a tiny model with its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-gpt2")
    TINY_MODELS["gpt2"]().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A file of questions and answers under column names of its own."""
    file = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [{"q": f"who is n{i}?", "a": f"n{i} is a cook." if i % 2 else f"n{i} is old."} for i in range(ROWS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.fixture(scope="module")
def command(model, dataset):
    """Options of a comparison that takes seconds."""
    options = {
        "--model": model, "--dataset": dataset, "--question-column": "q", "--answer-column": "a",
        "--train-size": 8, "--test-size": 6, "--num-train-epochs": 2,
        "--per-device-train-batch-size": 4, "--device": "cpu",
        "--max-prompt-length": 40, "--max-completion-length": 10, "--num-generations": 2,
        "--discriminator-warmup-steps": 2, "--adversarial-every": 1, "--warmup-share": 0.5,
    }  # fmt: skip
    return [str(part) for option in options.items() for part in option]


def only(monkeypatch, *always):
    """Fewer rows than always, to save time."""
    monkeypatch.setattr(compare, "ALWAYS", always)


@pytest.fixture(scope="module")
def comparison(command, tmp_path_factory):
    """The directory of one whole comparison, two seeds, with memory recorded and components given by dotted path."""
    directory = tmp_path_factory.mktemp("out") / "comparison"
    own = ["--discriminator", "tests.test_language_gan.OwnDiscriminator", "--reward", "sequence"]
    arguments = ["--methods", "gan", "lora", "--seeds", "0", "1", "--output", str(directory), "--memory-snapshot"]
    assert main([*arguments, *command, *own]) == 0
    return directory


def test_comparison_json_has_its_schema(comparison):
    result = json.loads((comparison / "comparison.json").read_text())
    assert set(result) == {"schema", "settings", "warnings", "rows", "summary", "differences"}
    assert result["schema"] == 1 and result["settings"]["word_tokenizer"] == "unicode-words"
    assert [(row["method"], row["seed"]) for row in result["rows"]] == [
        (method, seed) for seed in (0, 1) for method in ("copy-question", "random-answer", "base", "gan", "lora")
    ]
    for row in result["rows"]:
        assert {"method", "seed", "status", "error", "trainable_parameters", "train_seconds", "peak_memory_bytes",
                "metrics", "directory"} <= set(row)  # fmt: skip
        assert (row["status"], row["error"]) == ("success", None)
        assert set(row["metrics"]) == set(METRICS)
        assert row["metrics"]["bleurt"] is None and "--bleurt" in row["not_run"]["bleurt"]
        assert all(value is not None for name, value in row["metrics"].items() if name not in ("bleurt", "nll"))
        assert (comparison / row["directory"] / "metrics.json").is_file()
    trained = [row for row in result["rows"] if row["method"] in ("gan", "lora")]
    assert all(row["train_seconds"] > 0 and row["trainable_parameters"] > 0 for row in trained)
    assert all(row["peak_memory_bytes"] >= 0 and row["memory"]["kind"] == "cpu-rss" for row in trained)
    without_model = [row for row in result["rows"] if row["method"] in ("copy-question", "random-answer")]
    assert all(row["metrics"]["nll"] is None and row["not_run"]["nll"] for row in without_model)


def test_a_run_directory_is_complete(comparison):
    run = comparison / "runs" / "gan-seed0"
    names = {path.name for path in run.iterdir()}
    assert {"config.json", "environment.json", "metrics.json", "history.jsonl", "history.png", "samples.jsonl",
            "adapter", "weights.npz", "weights.png"} <= names  # fmt: skip
    assert {"memory_timeline.json", "memory_timeline.png"} <= names
    adapter = load_file(run / "adapter" / "embedding_generator" / "adapter_model.safetensors")
    assert adapter and all("embedding_generator" in name for name in adapter)
    assert json.loads((run / "environment.json").read_text())["versions"]["torch"]
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    phases = [row["phase"] for row in rows if "phase" in row]
    assert phases == ["likelihood"] * 2 + ["discriminator"] * 2 + ["adversarial"] * 2


def test_weight_trajectories_move_for_the_adapter_and_stay_for_the_base(comparison):
    for method in ("gan", "lora"):
        with np.load(comparison / "runs" / f"{method}-seed0" / "weights.npz", allow_pickle=False) as weights:
            norms, trainable, epochs = weights["norms"], weights["trainable"], weights["epochs"]
        assert epochs.tolist() == [0, 1, 2]
        moved = np.abs(norms - norms[0]).max(axis=0) > 0
        assert trainable.any() and moved[trainable].all()
        assert not moved[~trainable].any()


def test_samples_carry_the_scores_that_the_table_means(comparison):
    result = json.loads((comparison / "comparison.json").read_text())
    base = (comparison / "runs/base-seed1/samples.jsonl").read_text().splitlines()
    for row in result["rows"]:
        samples = [json.loads(line) for line in (comparison / row["directory"] / "samples.jsonl").open()]
        assert len(samples) == 6
        answers, references = [s["answer"] for s in samples], [s["reference"] for s in samples]
        expected = Rouge().compute(predictions=answers, references=references)
        assert row["metrics"]["rougeL"] == pytest.approx(expected["rougeL"])
        if row["method"] == "copy-question":
            assert answers == [s["question"] for s in samples]
        if row["metrics"]["nll"] is not None:
            tokens = sum(s["scores"]["tokens"] for s in samples)
            nats = sum(s["scores"]["nll"] * s["scores"]["tokens"] for s in samples)
            assert row["metrics"]["nll"] == pytest.approx(nats / tokens)
        if (row["method"], row["seed"]) == ("lora", 1):
            assert [s["base_answer"] for s in samples] == [json.loads(line)["answer"] for line in base]


def test_all_methods_of_a_seed_see_the_same_split_and_seeds_differ(comparison):
    def questions(run):
        return [json.loads(line)["question"] for line in (comparison / "runs" / run / "samples.jsonl").open()]

    assert questions("gan-seed0") == questions("lora-seed0") == questions("base-seed0")
    assert questions("gan-seed0") != questions("gan-seed1")


def test_the_same_command_again_runs_nothing_again(comparison, command, capfd):
    before = {path: path.stat().st_mtime_ns for path in comparison.glob("runs/*/metrics.json")}
    own = ["--discriminator", "tests.test_language_gan.OwnDiscriminator", "--reward", "sequence"]
    assert main(["--methods", "lora", "--output", str(comparison), "--wide", *command, *own]) == 0
    assert {path: path.stat().st_mtime_ns for path in comparison.glob("runs/*/metrics.json")} == before
    table = capfd.readouterr().out
    assert all(name in table for name in ("copy-question", "random-answer", "base", "gan", "lora", "gan / lora"))
    assert "BLEURT not run: no checkpoint (--bleurt PATH or Hub id)" in table
    assert "Memory recorded in each run's memory_timeline.json: a timeline of the process's memory" in table


def test_a_comparison_cut_off_in_its_first_run_goes_on(command, tmp_path, monkeypatch, capsys):
    only(monkeypatch)
    out = tmp_path / "out"

    def interrupted(directory, config):
        (directory / "half").parent.mkdir(parents=True)
        (directory / "half").write_text("a run")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(compare, "run_in_process", interrupted)
        assert main(["--methods", "random-answer", "--output", str(out), *command]) == 130
    assert "goes on from here" in capsys.readouterr().err
    assert main(["--methods", "random-answer", "--output", str(out), *command]) == 0
    assert json.loads((out / "comparison.json").read_text())["rows"][0]["status"] == "success"


def test_a_second_comparison_in_the_same_directory_is_refused(command, tmp_path, monkeypatch, capsys):
    only(monkeypatch)
    out = tmp_path / "out"
    arguments = ["--methods", "random-answer", "--output", str(out), *command]
    with locked(out):
        assert main(arguments) == 2
    assert "another process is writing there" in capsys.readouterr().err
    assert main(arguments) == 0


def test_results_of_other_settings_are_not_touched(comparison, command, capsys):
    assert main(["--methods", "lora", "--output", str(comparison), *command, "--num-train-epochs", "3"]) == 2
    assert "holds a comparison with another tuning" in capsys.readouterr().err


def test_results_of_other_words_are_read_but_not_mixed(comparison, command, tmp_path, capsys):
    result = json.loads((comparison / "comparison.json").read_text())
    old, new = tmp_path / "old", tmp_path / "new"
    for directory in (new, old):
        directory.mkdir()
        (directory / "comparison.json").write_text(json.dumps(result))
        result["settings"].pop("word_tokenizer", None)  # older results have none
    assert read(old).settings["word_tokenizer"] == "rouge-score"
    assert read(new).settings["word_tokenizer"] == "unicode-words"
    for both in ((old, new), (new, old)):
        with pytest.raises(UserError, match=r"they differ in word_tokenizer '.*' against '.*'"):
            join(both, tmp_path / "joined")
    assert len(join([old], tmp_path / "again").rows) == 10
    own = ["--discriminator", "tests.test_language_gan.OwnDiscriminator", "--reward", "sequence"]
    assert main(["--methods", "gan", "lora", "--seeds", "0", "1", "--output", str(old), *command, *own]) == 2
    assert "another word_tokenizer 'rouge-score' against 'unicode-words'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--lora-target-modules", "c_attn", "nope"], "target_modules nope: the model has no such module, .* c_attn"),
        (["--max-completion-length", "255"], "an answer of up to 255: the model has 256 positions"),
    ],
)
def test_what_the_model_has_not_is_refused_before_anything_runs(options, expected):
    settings = parse(["--methods", "lora", "--model", "mini", "--dataset", "mini-tofu", *options])
    with pytest.raises(UserError, match=expected):
        compare.check(settings)


def test_true_answers_without_a_word_are_said_beforehand(command, tmp_path):
    file = tmp_path / "signs.jsonl"
    rows = [{"q": f"who is n{i}?", "a": "🙂" if i % 2 else "Рим"} for i in range(ROWS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = parse(["--methods", "lora", *command, "--dataset", str(file)])
    test = read_split(settings.data, 0).test
    count = sum(pair.answer == "🙂" for pair in test)
    told = f"caution: {count} of 6 true answers have no word (signs or emoji alone): ROUGE is 0 there"
    assert 0 < count < 6 and told in compare.check(settings)


def test_a_run_that_diverges_fails_and_keeps_its_last_good_adapter(command, tmp_path, monkeypatch, capsys):
    only(monkeypatch)
    options = [
        "--reward",
        "tests.methods_of_a_user.not_a_number",
        "--advantage",
        "none",
        "--output",
        str(tmp_path / "out"),
    ]
    assert main(["--methods", "gan", *options, *command]) == 1
    reward = "tests.methods_of_a_user.not_a_number"
    assert f"gan, seed 0: failed: the reward {reward!r} of some answers is not finite; the weights are those after" in (
        capsys.readouterr().out
    )
    adapter = tmp_path / "out/runs/gan-seed0/adapter"
    weights = load_file(adapter / "embedding_generator/adapter_model.safetensors")
    assert all(torch.isfinite(weight).all() for weight in weights.values())
    assert any(weight.any() for name, weight in weights.items() if "output_layer" in name), "the likelihood steps' work"


def test_the_health_of_a_run_is_drawn_and_its_warnings_stand_below_the_table(command, tmp_path, monkeypatch, capsys):
    only(monkeypatch)
    options = ["--reward", "constant", "--num-train-epochs", "6", "--output", str(tmp_path / "out")]
    assert main(["--methods", "gan", *command, *options]) == 0
    assert "gan, seed 0: warning: step" in capsys.readouterr().out
    run = tmp_path / "out/runs/gan-seed0"
    assert (run / "health.png").stat().st_size > 0
    assert any("got one reward" in warning for warning in json.loads((run / "metrics.json").read_text())["warnings"])


def test_a_killed_run_goes_on_from_its_checkpoint_to_the_same_scores(command, tmp_path, monkeypatch, capfd):
    only(monkeypatch)
    marker = tmp_path / "killed"
    monkeypatch.setenv("KILLED_ONCE", str(marker))
    options = ["--reward", "tests.methods_of_a_user.kills_once", "--num-train-epochs", "4", "--save-steps", "1"]
    arguments = ["--methods", "gan", *command, *options, "--noise-draws", "0", "--output", str(tmp_path / "out")]
    assert main(arguments) == 1 and marker.exists()
    run = tmp_path / "out/runs/gan-seed0"
    assert json.loads((run / "metrics.json").read_text())["error"] == "killed by SIGKILL"
    assert (run / "checkpoints").is_dir()
    assert main(arguments) == 0
    assert "goes on after" in capfd.readouterr().err
    assert not (run / "checkpoints").exists()
    assert main([*arguments[:-1], str(tmp_path / "whole")]) == 0

    def left(directory):
        row = json.loads((directory / "metrics.json").read_text())
        rows = [json.loads(line) for line in (directory / "history.jsonl").read_text().splitlines()]
        return row["metrics"], [step for step in rows if "train_runtime" not in step]

    assert left(run) == left(tmp_path / "whole/runs/gan-seed0")


def test_a_failing_method_leaves_the_others(command, tmp_path, monkeypatch, capfd):
    only(monkeypatch, "random-answer")
    methods = [f"tests.methods_of_a_user.{name}" for name in ("broken", "killed", "own")]
    arguments = ["--methods", *methods, "--output", str(tmp_path / "out"), *command, "--greeting", "n1 is old."]
    assert main(arguments) == 1
    rows = {row["method"]: row for row in json.loads((tmp_path / "out/comparison.json").read_text())["rows"]}
    assert rows["random-answer"]["status"] == rows[methods[2]]["status"] == "success"
    assert rows[methods[2]]["metrics"]["rouge1"] > 0.3
    assert (rows[methods[0]]["status"], rows[methods[0]]["error"]) == (
        "failed", "RuntimeError: it broke in the middle")  # fmt: skip
    assert (rows[methods[1]]["status"], rows[methods[1]]["error"]) == ("failed", "killed by SIGKILL")
    printed = capfd.readouterr().out
    assert f"{methods[0]}, seed 0: failed: RuntimeError: it broke in the middle" in printed


def test_bleurt_scores_every_answer_when_a_checkpoint_is_given(command, tmp_path, monkeypatch):
    """With the random weights of the fixture, whose scores mean nothing: the way they take is what is tested."""
    only(monkeypatch)
    checkpoint = str(Path(__file__).parent / "fixtures" / "bleurt" / "bert")
    out = tmp_path / "out"
    arguments = ["--methods", "random-answer", "--output", str(out), *command, "--bleurt", checkpoint]
    assert main(arguments) == 0
    (row,) = json.loads((out / "comparison.json").read_text())["rows"]
    samples = [json.loads(line) for line in (out / row["directory"] / "samples.jsonl").open()]
    expected = Bleurt(checkpoint).score_pairs([s["answer"] for s in samples], [s["reference"] for s in samples])
    assert [s["scores"]["bleurt"] for s in samples] == pytest.approx(expected, abs=1e-5)
    assert row["metrics"]["bleurt"] == pytest.approx(sum(expected) / len(expected), abs=1e-5)
    assert "bleurt" not in row["not_run"]


def test_what_is_not_read_of_the_data_is_told_once_and_kept(command, dataset, tmp_path, monkeypatch, capfd):
    only(monkeypatch)
    file, out = tmp_path / "pairs.jsonl", tmp_path / "out"
    rows = [json.loads(line) | {"id": 7} for line in Path(dataset).read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in [rows[0] | {"a": "Zoë"}, *rows[1:]]))
    sizes = ["--train-size", str(ROWS - 1), "--test-size", "1", "--decontamination", "false"]
    arguments = ["--methods", "random-answer", "--output", str(out), *command, "--dataset", str(file), *sizes]
    assert main(arguments) == 0
    told = f"{file}: columns not read: id"
    kept = json.loads((out / "comparison.json").read_text())["warnings"]
    assert kept.count(told) == 1 and told not in capfd.readouterr().err
    lost = [line for line in kept if "no token for a part of 1 answers and 0 questions" in line]
    assert len(lost) == 1 and lost[0].split()[0] in ("training", "test")


@pytest.fixture
def refused(command, capsys):
    """Runs the command with bad options; checks status 2 and one line; returns the line."""

    def run(*options):
        capsys.readouterr()
        assert main([*command, *options]) == 2
        captured = capsys.readouterr()
        lines = captured.err.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: ") and "Traceback" not in captured.err
        return lines[0]

    return run


def test_bad_data_is_told_in_one_line(refused, tmp_path):
    file = tmp_path / "bad.jsonl"
    assert "nowhere.jsonl" in refused("--dataset", str(tmp_path / "nowhere.jsonl"))
    file.write_text("")
    assert "bad.jsonl" in refused("--dataset", str(file))
    file.write_text('{"q": "who?", "a": "me"}\n{"q": "what?", "a": ""}\n')
    line = refused("--dataset", str(file))
    assert "bad.jsonl" in line and "line 2" in line and "a" in line
    line = refused("--question-column", "frage")
    assert "'frage'" in line and "q" in line and "a" in line
    assert "100" in refused("--train-size", "100") and str(ROWS) in refused("--train-size", "100")


def test_bad_models_are_told_in_one_line(refused, model, tmp_path):
    assert "no such model folder" in refused("--model", str(tmp_path / "nowhere"))
    assert "no config.json" in refused("--model", str(tmp_path))
    TINY_MODELS["gpt2"]().config.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    assert "no weights" in refused("--model", str(tmp_path))
    TINY_MODELS["gpt2"]().save_pretrained(tmp_path)
    tiny_tokenizer(eos=False).save_pretrained(tmp_path)
    assert "no end-of-sequence token" in refused("--model", str(tmp_path))


def test_unknown_names_are_told_with_the_nearest(refused):
    assert refused("--methods", "lorra").endswith("; did you mean lora?")
    assert refused("--metods", "lora").endswith("; did you mean --methods? (--help lists the options)")
    assert refused("--question-column", "aq").endswith("; did you mean q?")


def test_unknown_names_are_told_with_the_known_ones(refused):
    assert "base, bottleneck, chain-of-thought, copy-question, dora, few-shot," in refused("--methods", "lorra")
    assert "unknown objective 'lorra'" in refused("--methods", "lorra:embedding")
    assert "embedding, ia3, lora" in refused("--generator", "soft")
    assert "cnn, cross-reader, frozen-lm, judge, mediator, mlp, ratio, source" in refused("--discriminator", "rnn")
    assert "constant, monte-carlo, sequence, token" in refused("--reward", "rouge")
    assert "cannot import discriminator 'no.such.Disc'" in refused("--discriminator", "no.such.Disc")
    assert "expected one of float32, bfloat16, float16" in refused("--dtype", "fp8")
    assert "BLEURT" in refused("--bleurt", "/nowhere/bleurt")
    assert "--device quantum" in refused("--device", "quantum")
    if not torch.cuda.is_available():
        assert "--device cuda: cannot be used here" in refused("--device", "cuda")


def test_a_directory_of_something_else_is_refused(refused, tmp_path):
    (tmp_path / "thesis.txt").write_text("do not lose me")
    assert "holds files that are no comparison" in refused("--output", str(tmp_path))
    (tmp_path / "comparison.json").write_text("{}")
    assert "is no comparison that this version of gantune wrote" in refused("--output", str(tmp_path))
    assert "is a file" in refused("--output", str(tmp_path / "thesis.txt"))
    assert (tmp_path / "thesis.txt").read_text() == "do not lose me"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--unpaired", "-3"], "--unpaired -3: expected at least 0"),
        (["--save-steps", "-1"], "--save-steps -1: expected at least 0"),
        (["--seeds", "0", "-1"], "--seeds -1: expected 0 to 4294967295"),
        (["--tune-seeds", "4294967296"], "--tune-seeds 4294967296: expected 0 to 4294967295"),
        (["--early-stopping-patience", "2"], "--early-stopping-patience 2: expected --validation-share above 0"),
        (["--methods", "full", "--full-learning-rate", "0"], "--full-learning-rate 0.0: expected above 0"),
        (["--train-size", "0"], "--train-size 0: expected at least 1"),
        (["--test-size", "0"], "--test-size 0: expected at least 1"),
        (["--forgetting", "--test-dataset", "b.jsonl"], "--forgetting and --test-dataset: expected one of them"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(refused, options, message):
    assert message in refused(*options)


@pytest.mark.parametrize("options", [["--epoks", "3"], ["--num-train-epochs", "many"], ["--preset", "none"]])
def test_a_command_line_that_cannot_be_read_ends_with_status_2(options, capsys):
    assert main(options) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_help_is_grouped_and_complete(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help-all"])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and text.count("--num-train-epochs") == 1 and "--num_train_epochs" not in text
    for group in ("comparison:", "model:", "data:", "training, the same for every method:", "gan: LanguageGAN:",
                  "gan-source: the source study's recipe", "lora: the baseline:"):  # fmt: skip
        assert group in text
    for option in ("--methods", "--generator", "--discriminator", "--reward", "--lora-rank", "--preset", "--bleurt"):
        assert option in text


def test_help_has_the_everyday_options_with_the_rates_that_are_used(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert re.findall(r" (--[\w-]+)", text.partition("everyday options: ")[2])[0] == "--seeds"
    assert "(default: 2e-3; swept for this model and data: mle 4e-3, mle-stack 4e-3" in text
    assert "--help-all shows all" in text and "--lora-rank" not in text
    with pytest.raises(SystemExit):
        main(["--help", "--dataset", "tofu"])
    assert "swept" not in capsys.readouterr().out.replace("not swept", "")


def test_list_names_every_component(capsys):
    assert main(["--list"]) == 0
    text = capsys.readouterr().out
    assert "method: base, bottleneck, chain-of-thought, copy-question, dora, few-shot, few-shot-retrieval, full" in text
    assert "discriminator: cnn, cross-reader, frozen-lm, judge, mediator, mlp, ratio, source" in text


def test_a_preset_gives_way_to_the_command_line():
    settings = parse(["--preset", "tofu-gpt2", "--train-size", "70", "--bleurt", "none"])
    assert settings.comparison.bleurt is None
    # the winners for mini, the model without a preset, are not those of the preset's model
    rates = settings.method_config("gan", 0).learning_rate, settings.method_config("lora", 0).lora_learning_rate
    assert rates == (2e-3, 1e-3)
    assert (settings.model.model, settings.data.dataset) == ("openai-community/gpt2", "tofu")
    assert (settings.data.train_size, settings.data.test_size, settings.tuning["per_device_train_batch_size"]) == (
        70,
        50,
        1,
    )


def test_winners_of_sweeps_are_defaults_and_named():
    on = ["--model", "../tinystories-gpt2-3m", "--dataset", "full.jsonl", "--methods", "gan", "lora-attention"]
    settings = parse([*on, "--learning-rate", "1"])
    assert settings.method_config("gan", 0).learning_rate == 1.0
    told = compare.learning_rates(settings)
    assert "gan learning_rate 1 (given), lora-attention lora_learning_rate 1e-3 (swept)" in told
    settings = parse(["--model", "../tinystories-gpt2-3m", "--dataset", "full.jsonl"])
    assert settings.method_config("gan", 0).learning_rate == 5e-3
    assert "gan learning_rate 5e-3 (swept for mle)" in compare.learning_rates(settings)
    other = parse(["--model", "other/model", "--dataset", "full.jsonl"])
    assert "lora_learning_rate 1e-3 (default, not swept)" in compare.learning_rates(other)


def row_of(method, seed, rougeL, seconds=2.0, status="success"):
    metrics = dict.fromkeys(METRICS) | {"rougeL": rougeL}
    return {"method": method, "seed": seed, "status": status, "error": "why" if status == "failed" else None,
            "trainable_parameters": 10, "train_seconds": seconds, "peak_memory_bytes": 3_000_000, "metrics": metrics,
            "not_run": {"bleurt": "no checkpoint"}}  # fmt: skip


def test_summary_by_hand():
    rows = [row_of("gan", 0, 0.2, 6.0), row_of("gan", 1, 0.4, 2.0), row_of("lora", 0, 0.4), row_of("lora", 1, 0.6)]
    rows += [row_of("gan", 2, 0.3, 4.0), row_of("gan", 3, None, None, status="failed")]
    summary = summarise(rows)
    assert (summary["gan"]["seeds"], summary["gan"]["failed"]) == (3, 1)
    figure = summary["gan"]["rougeL"]
    assert figure["mean"] == pytest.approx(0.3) and figure["ratio_to_lora"] == pytest.approx(0.6)
    # Student's t for two degrees of freedom at 97.5 % is 4.30265; the standard error of (0.2, 0.3, 0.4) is .1 / sqrt(3)
    assert figure["half_width"] == pytest.approx(4.30265 * 0.1 / math.sqrt(3), rel=1e-4)
    assert summary["lora"]["rougeL"]["half_width"] is None, "two seeds are too few"
    assert summary["gan"]["train_seconds"]["ratio_to_lora"] == pytest.approx(2)
    assert summary["gan"]["bleurt"]["mean"] is None
    assert "gan, seed 3: failed: why" in notes(rows).cautions
    assert "2.00 x" in as_text(summary, wide=True) and "| gan / lora |" in as_markdown(summary)


def test_the_printed_table_fits_80_columns_best_first_and_controls_last():
    methods = {"base": 0.9, "a-method-with-a-name-that-is-much-too-long-for-a-table": 0.3, "lora": 0.5}
    rows = [row_of(name, seed, rouge + seed / 100) for seed in (0, 1, 2) for name, rouge in methods.items()]
    summary = summarise(rows)
    heading, rule, *lines = as_text(summary).splitlines()
    assert heading.split() == ["method", "ROUGE-L", "trainable", "time", "memory"], "no column without a value"
    assert all(len(line) <= 80 for line in (heading, rule, *lines))
    assert [line.split()[0] for line in lines] == ["lora", "a-method-with-a-name…too-long-for-a-table", rule, "base"]
    assert lines[0].split()[1:] == ["0.510", "±.025", "10", "2.0", "s", "3", "MB"]
    styled = as_text(summary, styled=True)
    assert "\033[2m\033[1m0.910 ±.025\033[0m" in styled, "a control is dim; its value is the best, beyond doubt"
    assert re.sub(r"\033\[\dm", "", styled) == as_text(summary)


def found(method, rival, difference, p_holm, seeds=5, metric="rougeL"):
    return {"method": method, "rival": rival, "metric": metric, "difference": difference, "p_holm": p_holm,
            "seeds": seeds}  # fmt: skip


def test_the_verdict_is_one_sentence_a_rival():
    rows = [found("gan", "lora", -0.02, 0.3), found("full", "lora", 0.04, 0.01), found("mle", "lora", -0.2, 0.02)]
    rows += [found("gan", "mle", 0.01, 0.04), found("gan", "lora", 9.0, 0.01, metric="nll")]
    assert verdict(rows) == [
        "Against lora, by ROUGE-L, these 5 seeds show full 0.040 ahead and mle 0.200 behind and cannot tell gan "
        "(0.020 behind) apart.",
        "Against mle, by ROUGE-L, these 5 seeds show gan 0.010 ahead.",
    ]
    lower = [found("gan", "lora", -0.02, 0.01, metric="slot_errors")]
    assert verdict(lower) == ["Against lora, by SER, these 5 seeds show gan 0.020 ahead."]
    one = verdict([found("gan", "lora", -0.02, 0.001, seeds=1)])
    assert one == ["Against lora, by ROUGE-L: gan 0.020 behind; one seed cannot tell methods apart."]
    many = verdict([found(f"m{place}", "lora", -place / 100, 0.5) for place in range(1, 9)])
    assert many[0].endswith("m4 (0.040 behind) or 4 more apart.")
    assert verdict([])[0].startswith("No verdict: ")


def test_notes_are_merged_over_seeds_and_parted_by_weight():
    warning = "step {}: the discriminator is right on {:.1%} of what it reads"
    rows = [row_of("gan", seed, 0.5) | {"warnings": [warning.format(9 + seed, 0.999)]} for seed in (0, 1, 2)]
    rows += [row_of("lora", seed, None, None, status="failed") for seed in (0, 1, 2)]
    told = notes(rows, ["learning rates: lora 1", "8 rows cut"], test_size=400)
    assert told.cautions == [
        "lora, seeds 0, 1, 2: failed: why",
        "gan, seeds 0, 1, 2: warning: from step 9 to 11 on: the discriminator is right on 99.9% of what it reads",
        "BLEURT not run for gan, lora: no checkpoint",
        "8 rows cut",
    ]
    assert told.settings == ["learning rates: lora 1"]
    assert told.reading == ["Means over 3 seeds, ± half of the 95 % confidence interval (Student's t over seeds)."]


def test_fewer_than_three_seeds_have_no_interval():
    assert mean_and_half_width([0.25]) == (0.25, None) and mean_and_half_width([0.25, 0.75]) == (0.5, None)
    mean, half_width = mean_and_half_width([1.0, 2.0, 3.0])
    assert mean == 2 and half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert any("One seed" in line for line in notes([row_of("lora", 0, 0.5)]).cautions)
    two = notes([row_of("lora", 0, 0.5), row_of("lora", 1, 0.5)])
    assert any("no interval from fewer than 3" in line for line in two.cautions)


def test_all_methods_are_those_that_the_data_suffice_for():
    named = parse(["--methods", "lora", "all"]).comparison.methods
    assert named[0] == "lora" and len(named) == len(set(named))
    assert set(named) == {name for name in METHODS.names() if METHODS.get(name).unpaired in ("", "used")}
    assert set(parse(["--methods", "all", "--unpaired", "5"]).comparison.methods) == set(METHODS.names())
