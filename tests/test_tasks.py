"""`--task`: its defaults, its table, the example that comes with it, and QLoRA's command where it cannot run."""

from __future__ import annotations

import json
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from baselines import METHODS
from benchmarks.built_in.dialogue_corpus import FILE, dialogues, write
from benchmarks.built_in.mini_corpus import authors
from benchmarks.built_in.pretrain_mini import ASSETS, POSITIONS, corpus
from benchmarks.compare import comparison as compare
from benchmarks.compare.__main__ import main
from benchmarks.compare.arguments import parse
from benchmarks.compare.run import blank_row
from benchmarks.compare.stored import Stored
from benchmarks.report.before_after import before_after_grid
from benchmarks.report.presentation import present
from benchmarks.statistics.intervals import mean_and_half_width
from gantune.data import build_template, decontaminate, load_pairs, split_pairs
from gantune.errors import UserError
from gantune.hub.loading import load_tokenizer
from gantune.tuning import TuningConfig
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

QLORA = Path(__file__).resolve().parents[1] / "docs" / "qlora.md"


def row(method: str, seed: int, rouge: float, trained: int, **changes):
    metrics = {"rouge1": rouge, "rouge2": rouge / 2, "rougeL": rouge - 0.1, "rougeLsum": rouge - 0.1}
    whole = blank_row(method, seed)
    found = {"status": "success", "trainable_parameters": trained, "directory": f"runs/{method}-seed{seed}"}
    return whole | found | {"metrics": whole["metrics"] | metrics} | changes


def stored_rows():
    return [
        row("base", 0, 0.20, 0), row("copy-question", 0, 0.50, 0), row("lora", 0, 0.50, 9), row("gan", 0, 0.15, 9),
        row("base", 1, 0.30, 0), row("copy-question", 1, 0.50, 0), row("lora", 1, 0.64, 9),
        row("gan", 1, 0.0, 9, status="failed"),
        row("base", 2, 0.25, 0), row("copy-question", 2, 0.50, 0), row("lora", 2, 0.57, 9),
    ]  # fmt: skip


def test_before_and_after_by_hand():
    heading, *rows = before_after_grid(stored_rows())
    assert heading == ["method", "figure", "base", "tuned", "improvement", "seeds"]
    half_width = mean_and_half_width([0.30, 0.34, 0.32])[1]  # 4.3027 * .02 / sqrt(3) = .050
    assert half_width == pytest.approx(0.0497, abs=5e-5)
    assert rows[0] == ["lora", "ROUGE-1", "0.250", "0.570", "+.320 ±.050", "3"]
    assert rows[1] == ["lora", "ROUGE-2", "0.125", "0.285", "+.160 ±.025", "3"]
    assert rows[4] == ["gan", "ROUGE-1", "0.200", "0.150", "-.050", "1"]  # its other seed failed
    assert [line[0] for line in rows] == ["lora"] * 4 + ["gan"] * 4  # what is not tuned has no row


def test_without_a_base_or_a_tuned_method_there_is_no_such_table():
    assert before_after_grid([r for r in stored_rows() if r["method"] != "base"]) is None
    assert before_after_grid([r for r in stored_rows() if not r["trainable_parameters"]]) is None


def settings_stored(task: str | None):
    data = {"dataset": "mini-dialogues", "train_size": 140, "test_size": 60}
    told = {"model": "mini", "device": "cpu", "dtype": "float32", "preset": None, "command": "", "tuning": {}}
    return told | {"methods": ["base", "lora", "gan"], "seeds": [0, 1], "data": data, "fairness": {}, "task": task}


def test_the_table_stands_beside_the_normal_one_everywhere(tmp_path, capsys):
    present(tmp_path, Stored(settings_stored("summarise"), stored_rows(), []))
    shown, markdown = capsys.readouterr().out, (tmp_path / "comparison.md").read_text()
    assert "Before and after tuning\nmethod" in shown and "ROUGE-Lsum" in shown
    assert "## Before and after tuning\n\n| method | figure | base | tuned | improvement | seeds |" in markdown
    assert "| lora | ROUGE-1 | 0.250 | 0.570 | +.320 ±.050 | 3 |" in markdown
    page = (tmp_path / "comparison.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, flags=re.DOTALL)[1])
    assert data["task"][0] == "Before and after tuning"
    assert data["task"][1][1] == ["lora", "ROUGE-1", "0.250", "0.570", "+.320 ±.050", "3"]


def test_without_a_task_there_is_none(tmp_path, capsys):
    present(tmp_path, Stored(settings_stored(None), stored_rows(), []))
    assert "Before and after" not in capsys.readouterr().out + (tmp_path / "comparison.md").read_text()


def test_a_task_gives_way_to_preset_and_command_line():
    settings = parse(["--task", "summarise"])
    assert settings.data.dataset == "mini-dialogues" and settings.data.format == "dialogue-summary"
    assert settings.tuning["template"] == "summary" and settings.comparison.methods == ["lead-3", "gan", "lora"]
    assert settings.tuning["max_prompt_length"] == 512
    settings = parse(["--task", "summarise", "--dataset", "x.csv", "--max-prompt-length", "64", "--methods", "lora"])
    assert (settings.data.dataset, settings.tuning["max_prompt_length"]) == ("x.csv", 64)
    assert settings.comparison.methods == ["lora"] and settings.tuning["template"] == "summary"
    assert parse([]).comparison.task is None and parse([]).tuning["template"] == "plain"


def test_a_file_of_something_else_is_refused_in_one_line(tmp_path, capsys):
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"question": "Who?", "answer": "Ada."}\n')
    assert main(["--task", "summarise", "--dataset", str(file), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no column 'dialogue'" in error


def test_lead_3_is_the_first_three_lines_of_the_dialogue():
    (pair, *_) = load_pairs("mini-dialogues")
    tuned = METHODS.get("lead-3")(None, None, [pair], TuningConfig())
    first = dialogues()[0]["dialogue"].split("\n")[:3]
    assert tuned.answer([pair.question, "one\ntwo\nthree\nfour"]) == ["\n".join(first), "one\ntwo\nthree"]


# ------------------------------------------------------------------------------------------------------ the example


def test_the_example_is_what_its_script_writes(tmp_path):
    write(tmp_path / FILE)
    assert (tmp_path / FILE).read_bytes() == (ASSETS / FILE).read_bytes()
    assert len(dialogues()) == 200 and (ASSETS / FILE).stat().st_size < 150_000


def test_the_example_fits_the_built_in_model():
    settings = parse(["--task", "summarise"]).tuning
    pairs, tokenizer, template = load_pairs("mini-dialogues"), load_tokenizer("mini"), build_template("summary")
    longest = max(len(template.prompt_ids(pair.question, tokenizer)) for pair in pairs)
    assert longest + settings["max_completion_length"] <= POSITIONS
    assert max(len(template.answer_ids(pair.answer, tokenizer)) for pair in pairs) <= settings["max_completion_length"]


def test_the_words_of_its_summaries_are_those_of_the_pretraining_text():
    known = set(re.findall(r"[A-Za-z]+", " ".join(corpus(authors()))))
    assert {word for row in dialogues() for word in re.findall(r"[A-Za-z]+", row["summary"])} <= known


def test_no_dialogue_of_the_example_repeats_another():
    pairs = load_pairs("mini-dialogues")
    for seed in (0, 1, 2):
        train, test = split_pairs(pairs, 140, 60, seed)
        assert decontaminate(train, test)[1] == []


def test_summary_template_is_one_text():
    tokenizer, template = load_tokenizer("mini"), build_template("summary")
    pair = load_pairs("mini-dialogues")[0]
    text = f"{pair.question}\n\nSummary: {pair.answer}{tokenizer.eos_token}"
    assert pair.question.startswith("Summarize the following conversation.\n\nMark: ")
    ids = template.prompt_ids(pair.question, tokenizer) + template.answer_ids(pair.answer, tokenizer)
    assert ids == tokenizer(text)["input_ids"]


# ------------------------------------------------------------------------------------------------------------ qlora


def documented_options() -> list[str]:
    command = re.search(r"```bash\npython -m benchmarks.compare (.*?)```", QLORA.read_text(), flags=re.DOTALL)[1]
    return shlex.split(command.replace("\\\n", " "))


def replaced(options: list[str], **values: str) -> list[str]:
    options = list(options)
    for name, value in values.items():
        options[options.index(f"--{name.replace('_', '-')}") + 1] = value
    return options


def test_the_documented_command_of_qlora_says_what_it_does():
    settings = parse(documented_options())
    config = settings.method_config("qlora", seed=0)
    assert (config.lora_rank, config.optim, config.gradient_checkpointing) == (32, "paged_adamw_8bit", True)
    assert (config.per_device_train_batch_size, config.micro_batch_size, config.qlora_learning_rate) == (16, 4, 2e-4)
    assert config.lora_target_modules == ["q_proj", "k_proj", "v_proj", "o_proj"]


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_the_documented_command_of_qlora_is_refused_here_with_the_reason(tmp_path, monkeypatch, capfd):
    TINY_MODELS["llama"]().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    file = tmp_path / "dialogues.jsonl"
    file.write_text(
        "".join(json.dumps({"dialogue": f"n{i}: I am old.", "summary": f"n{i} is old."}) + "\n" for i in range(8))
    )
    monkeypatch.setattr(compare, "ALWAYS", ())
    out = tmp_path / "out"
    options = replaced(
        documented_options(), dataset=str(file), model=str(tmp_path / "model"), train_size="4", output=str(out)
    )
    assert main([*options, "--device", "cpu", "--decontamination", "false"]) == 0
    reason = "qlora needs the package bitsandbytes, which is not installed"
    line = f"qlora, seed 0: not run: {reason}"
    assert f"- {line}" in capfd.readouterr().out.splitlines() and line in (out / "comparison.md").read_text()
    assert line in QLORA.read_text().splitlines()
    (found,) = json.loads((out / "comparison.json").read_text())["rows"]
    assert (found["status"], found["error"]) == ("not run", reason)


def test_unknown_tasks_are_refused(capsys):
    with pytest.raises((SystemExit, UserError)):
        parse(["--task", "translate"])
