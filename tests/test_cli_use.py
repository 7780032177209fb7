"""`gantune generate`, `evaluate`, `plot` and `merge` on a small adapter."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from baselines import resolve_method
from gantune.cli import main
from gantune.cli.adapters import AdapterOptions, load_adapter, seeded_noise
from gantune.cli.streaming import AnswerStreamer
from gantune.data import Pair
from gantune.embedding_generator import hold_noise
from gantune.errors import UserError
from gantune.generation.generate import generate_answers
from gantune.hub.adapter_settings import naming_base_model
from gantune.hub.loading import load_model, load_tokenizer, model_path
from gantune.metrics import Rouge
from gantune.trainer.language_gan import LanguageGAN
from tests.test_cli_train import ROWS, SMALL, prepare, train
from tests.tiny_tokenizer import tiny_tokenizer

QUESTIONS = ["who is ann?", "who is bob, the old cook?", "eve?"]
INPUT = [[5, 9, 23, 40, 8], [60, 4, 33, 7, 71]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where `tuned` and, with LoRA stacked on it, `stack` are; the noise matters to both."""
    folder = tmp_path_factory.mktemp("use")
    for output, options in (("tuned", ()), ("stack", ("--generator", "embedding+lora"))):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gantune.cli.plot.draw", lambda directory: [])
            assert train(folder, *options, output=output) == 0
        for file in (folder / output).glob("*/adapter_model.safetensors"):
            generator = torch.Generator().manual_seed(0)
            weights = {
                name: value + 0.2 * torch.randn(value.shape, generator=generator)
                for name, value in load_file(file).items()
            }
            save_file(weights, file, {"format": "pt"})
    return folder


def expected(folder, questions, **options):
    adapter = load_adapter(AdapterOptions(str(folder / "tuned"), device="cpu"))
    return generate_answers(*adapter[:2], questions, adapter.config, **options)


def test_one_question_is_streamed_and_says_what_generation_says(folder, capsys):
    for question in QUESTIONS:
        assert main(["generate", "--adapter", str(folder / "tuned"), question]) == 0
        assert capsys.readouterr().out.strip() == expected(folder, [question])[0]


def test_the_adapter_of_a_compared_lora_answers_as_the_method_does(tmp_path, capsys):
    prepare(tmp_path)
    model, tokenizer = load_model(str(tmp_path / "base"), torch.float32, "cpu"), load_tokenizer(str(tmp_path / "base"))
    method = resolve_method("lora")
    limits = {"max_prompt_length": 32, "max_completion_length": 8, "template": "chatml"}
    config = method.config_class(num_train_epochs=2, lora_learning_rate=0.02, **limits)
    tuned = method(model, tokenizer, [Pair(row["question"], row["answer"]) for row in ROWS], config, [])
    tuned.save(tmp_path / "adapter")
    assert main(["generate", "--adapter", str(tmp_path / "adapter"), "--device", "cpu", QUESTIONS[0]]) == 0
    assert capsys.readouterr().out.strip() == tuned.answer(QUESTIONS[:1])[0]
    loaded = load_adapter(AdapterOptions(str(tmp_path / "adapter"), device="cpu"))
    assert loaded.config.template == "chatml" and list(loaded.model.peft_config) == ["lora"]


def test_words_are_printed_as_they_come_without_prompt_and_first_blank(monkeypatch):
    parts, tokenizer = [], tiny_tokenizer()
    monkeypatch.setattr("builtins.print", lambda text="", **options: parts.append(text))
    streamer = AnswerStreamer(tokenizer)
    streamer.put(torch.tensor([tokenizer.encode("who is ann?")]))
    for token in [*tokenizer.encode(" ann is old."), tokenizer.eos_token_id]:
        streamer.put(torch.tensor([token]))
    assert [part for part in parts if part] == ["ann ", "is "], "the last word may still grow"
    streamer.end()
    assert "".join(parts) == "ann is old."


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "-"])
def test_a_file_of_questions_becomes_json_lines_in_its_order(folder, tmp_path, capsys, monkeypatch, kind):
    text = {
        "jsonl": "".join(json.dumps({"question": question}) + "\n" for question in QUESTIONS),
        "csv": "question\n" + "".join(f'"{question}"\n' for question in QUESTIONS),
    }.get(kind, "\n\n".join(QUESTIONS))
    file = tmp_path / f"questions.{kind}"
    file.write_text(text)
    with open(file) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        name = "-" if kind == "-" else str(file)
        assert main(["generate", "--adapter", str(folder / "tuned"), "--file", name, "--batch-size", "2"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    answers = expected(folder, QUESTIONS[:2]) + expected(folder, QUESTIONS[2:])
    assert rows == [{"question": q, "answer": a} for q, a in zip(QUESTIONS, answers, strict=True)]


def test_samples_are_numbered_and_come_again_with_the_same_seed(folder, tmp_path, capsys):
    (tmp_path / "q.txt").write_text("\n".join(QUESTIONS))
    command = ["generate", "--adapter", str(folder / "tuned"), "--file", str(tmp_path / "q.txt"), "--samples", "2"]
    outputs = []
    for options in (
        ["--noise", "random"],
        ["--temperature", "1"],
        ["--temperature", "1"],
        ["--temperature", "1", "--seed", "1"],
    ):
        assert main([*command, *options]) == 0
        outputs.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    assert [(row["question"], row["sample"]) for row in outputs[0]] == [(q, s) for q in QUESTIONS for s in (1, 2)]
    assert any(
        first["answer"] != second["answer"] for first, second in zip(outputs[0][::2], outputs[0][1::2], strict=True)
    )
    assert outputs[1] == outputs[2] != outputs[3]


def test_a_terminal_is_asked_until_an_empty_question(folder, capsys, monkeypatch):
    typed = iter([QUESTIONS[0], QUESTIONS[2], ""])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    assert main(["generate", "--adapter", str(folder / "tuned")]) == 0
    answers = [expected(folder, [question])[0] for question in (QUESTIONS[0], QUESTIONS[2])]
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == answers


def test_mistakes_about_questions_are_told(folder, tmp_path, capsys, monkeypatch):
    command = ["generate", "--adapter", str(folder / "tuned")]
    (tmp_path / "bad.jsonl").write_text('{"question": "who?"}\n{"query": "who?"}\n')
    (tmp_path / "empty.txt").write_text("\n \n")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    for more, told in (
        (["--file", str(tmp_path / "bad.jsonl")], "bad.jsonl, line 2: no 'question', expected a text"),
        (["--file", str(tmp_path / "empty.txt")], "empty.txt: holds no question"),
        (["--file", str(tmp_path / "gone.txt")], "gone.txt: cannot be read"),
        ([], "no question: expected one as an argument"),
    ):
        assert main([*command, *more]) == 2
        err = capsys.readouterr().err
        assert told in err and err.count("\n") == 1


def test_an_adapter_that_is_not_whole_or_of_another_model_is_told(folder, tmp_path, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(folder / "tuned", broken)
    (broken / "embedding_generator" / "adapter_model.safetensors").write_bytes(b"torn")
    assert main(["generate", "--adapter", str(broken), "who?"]) == 2
    assert main(["generate", "--adapter", str(folder / "tuned"), "who?", "--model", "mini"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all("the adapter cannot be put on the base model" in line for line in lines)
    made_for = str(folder / "base")
    assert f"on the base model {model_path('mini')}, it was made for {made_for!r}: " in lines[1]
    assert "] in it, expected [" in lines[1]


def test_an_adapter_whose_base_was_named_relatively_is_used_from_elsewhere(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("gantune.cli.plot.draw", lambda directory: [])
    (tmp_path / "elsewhere").mkdir()
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--model", "base", "--dataset", "pairs.jsonl", *SMALL, "--output-dir", "tuned"]) == 0
    tuned, base, pairs = tmp_path / "tuned", tmp_path / "base", tmp_path / "pairs.jsonl"
    config = tuned / "embedding_generator" / "adapter_config.json"
    training, card = json.loads((tuned / "training.json").read_text()), (tuned / "README.md").read_text()
    assert json.loads(config.read_text())["base_model_name_or_path"] == training["base_model"] == str(base)
    assert training["dataset"] == str(pairs)
    assert "# EmbeddingGenerator for `base`, tuned" in card and 'load_model("path/to/base")' in card
    assert str(tmp_path) not in card, "a card is for readers elsewhere"

    capsys.readouterr()
    generate, answers = ["generate", "--adapter", str(tuned), QUESTIONS[0]], []
    for place in (tmp_path, tmp_path / "elsewhere"):
        monkeypatch.chdir(place)
        assert main(generate) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    assert main(["evaluate", "--adapter", str(tuned), "--dataset", "../pairs.jsonl"]) == 0
    assert "from the source that it was trained on" in (tuned / "README.md").read_text()
    assert f"dataset: {pairs}\n" in (tuned / "evaluation.yaml").read_text()

    base.rename(tmp_path / "moved")
    capsys.readouterr()
    told = (
        f"{base}: no such model folder (built-in models: mini, mini-writer) (named in {config}; --model gives another)"
    )
    assert main(generate) == 2
    assert capsys.readouterr().err == f"error: {told}\n"
    with pytest.raises(UserError) as refused:
        LanguageGAN.from_pretrained(tuned)
    assert str(refused.value) == told
    assert main([*generate, "--model", str(tmp_path / "moved")]) == 0
    assert capsys.readouterr().out == answers[0]
    assert main([*generate, "--model", "./none"]) == 2
    assert capsys.readouterr().err == "error: ./none: no such model folder (built-in models: mini, mini-writer)\n"
    assert main([*generate, "--device", "abacus"]) == 2
    assert "adapter_config.json" not in capsys.readouterr().err, "it has nothing to do with the adapter"


def test_the_built_in_model_is_found_where_gantune_is_installed_now(tmp_path):
    file = tmp_path / "embedding_generator" / "adapter_config.json"
    file.parent.mkdir()
    for named, found in (
        ("/old/venv/lib/python3.10/site-packages/gantune/assets/mini", "mini"),
        ("/old/gantune/assets/other", "/old/gantune/assets/other"),
        ("owner/name", "owner/name"),
    ):
        file.write_text(json.dumps({"base_model_name_or_path": named}))
        with naming_base_model(tmp_path) as name:
            assert name == found
        with naming_base_model(tmp_path, "given") as name:
            assert name == "given"


def test_evaluation_writes_figures_and_they_come_into_the_card(folder, tmp_path, capsys):
    tuned = tmp_path / "tuned"
    shutil.copytree(folder / "tuned", tuned)
    card = tuned / "README.md"
    card.write_text(card.read_text().replace("## Limits\n", "## Limits\n\nWritten by hand.\n"))
    assert main(["evaluate", "--adapter", str(tuned), "--dataset", str(folder / "pairs.jsonl")]) == 0
    answers = expected(folder, [row["question"] for row in ROWS])
    rouge = Rouge().compute(predictions=answers, references=[row["answer"] for row in ROWS])
    result = json.loads((tuned / "evaluation.json").read_text())
    assert result["pairs"] == 6 and result["metrics"]["rougeL"] == pytest.approx(rouge["rougeL"])
    assert (result["word_tokenizer"], result["cautions"]) == ("unicode-words", [])
    assert result["metrics"]["bleurt"] is None and "no checkpoint" in result["not_run"]["bleurt"]
    samples = [json.loads(line) for line in (tuned / "evaluation.jsonl").read_text().splitlines()]
    assert [row["answer"] for row in samples] == answers
    nats = sum(row["scores"]["nll"] * row["scores"]["tokens"] for row in samples)
    assert result["metrics"]["nll"] == pytest.approx(nats / sum(row["scores"]["tokens"] for row in samples))

    written = ModelCard.load(card)
    assert written.data.metrics == ["rouge"]
    assert f"| rougeL | {rouge['rougeL']:.4f} |" in written.text and "| bleurt | not measured |" in written.text
    assert "from the source that it was trained on" in written.text and "Written by hand." in written.text
    out = capsys.readouterr().out
    assert "rougeL " in out and "bleurt" in out and "not run" in out

    again = ["evaluate", "--config", str(tuned / "evaluation.yaml"), "--output", str(tmp_path / "elsewhere")]
    assert main(again) == 0
    assert json.loads((tmp_path / "elsewhere" / "evaluation.json").read_text()) == result


def test_an_evaluation_says_that_true_answers_have_no_word(folder, tmp_path, capsys):
    file = tmp_path / "signs.jsonl"
    rows = [{"question": "who is ann?", "answer": "ann."}, {"question": "who is bob?", "answer": "?!"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["evaluate", "--adapter", str(folder / "tuned"), "--dataset", str(file), "--output", str(tmp_path)]
    assert main(command) == 0
    told = "caution: 1 of 2 true answers have no word (signs or emoji alone): ROUGE is 0 there"
    assert json.loads((tmp_path / "evaluation.json").read_text())["cautions"] == [told]
    assert told in capsys.readouterr().out.splitlines()


def test_plots_are_drawn_again_from_the_files_alone(folder, tmp_path, capsys):
    for name in ("history.jsonl", "weights.npz"):
        shutil.copy(folder / "tuned" / name, tmp_path)
    with open(tmp_path / "history.jsonl", "a") as file:
        file.write('{"step": 99, "pha')  # as a killed run leaves it
    assert main(["plot", str(tmp_path)]) == 0
    drawn = ["history.png", "health.png", "weights.png"]
    assert capsys.readouterr().out.split() == [str(tmp_path / name) for name in drawn]
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in drawn)
    (tmp_path / "history.jsonl").write_text("nonsense\n")
    assert main(["plot", str(tmp_path)]) == 2
    assert "history.jsonl, line 1: expected a JSON object" in capsys.readouterr().err


WITHOUT_GANTUNE = """
import json, sys
sys.modules["gantune"] = sys.modules["peft"] = None  # importing them now fails
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
logits = {}
for folder in sys.argv[2:]:
    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"], report
    assert AutoTokenizer.from_pretrained(folder).eos_token == "<eos>"
    logits[folder] = model.eval()(torch.tensor(json.loads(sys.argv[1]))).logits.tolist()
json.dump(logits, sys.stdout)
"""


def test_what_is_merged_needs_no_gantune_and_is_the_adapter_at_its_noise(folder, tmp_path):
    wanted = {}
    for name, noise in (("tuned", "zero"), ("tuned", "seed:3"), ("stack", "seed:3")):
        output = str(tmp_path / f"{name}-{noise.replace(':', '')}")
        assert main(["merge", "--adapter", str(folder / name), "--output", output, "--noise", noise]) == 0
        adapter = load_adapter(AdapterOptions(str(folder / name), device="cpu"))
        vector = None if noise == "zero" else seeded_noise(adapter.model, 1, 3)[0]
        with torch.no_grad(), hold_noise(adapter.model, vector):
            wanted[output] = adapter.model(torch.tensor(INPUT)).logits
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_GANTUNE, json.dumps(INPUT), *wanted], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = {output: torch.tensor(logits) for output, logits in json.loads(done.stdout).items()}
    for output, logits in wanted.items():
        torch.testing.assert_close(found[output], logits, rtol=1e-4, atol=1e-4)
    zero, random, _ = wanted.values()
    assert (zero - random).abs().max() > 0.01, "the noise makes no difference, so the test shows nothing"


def test_a_merge_overwrites_nothing_and_needs_noise_to_be_taken(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gantune.cli.plot.draw", lambda directory: [])
    assert main(["merge", "--adapter", str(folder / "tuned"), "--output", str(folder / "base")]) == 2
    assert "is there, expected a new folder" in capsys.readouterr().err
    assert train(tmp_path, "--generator", "lora") == 0
    capsys.readouterr()
    command = ["merge", "--adapter", str(tmp_path / "tuned"), "--output", str(tmp_path / "plain")]
    assert main([*command, "--noise", "seed:1"]) == 2
    assert "the adapter takes no noise, expected zero" in capsys.readouterr().err
    assert not (tmp_path / "plain").exists()
    assert main(command) == 0
