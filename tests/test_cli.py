"""The console command: its subcommands, its errors, what needs no training."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys

import peft
import pytest
import torch
from peft import AutoPeftModelForCausalLM, get_peft_model
from transformers import AutoModelForCausalLM

import gantune
from gantune.cli import COMMANDS, main
from gantune.embedding_generator import EmbeddingGeneratorConfig
from gantune.errors import UserError
from gantune.seqgan import REWARDS
from gantune.version import __version__
from tests.tiny_models import TINY_MODELS

TRAIN = ["train", "--output-dir", "OUT", "--dataset", "mini-tofu"]


def test_help_names_every_command_and_imports_no_torch():
    code = (
        "import sys; from gantune.cli import main; status = main(['--help']); assert 'torch' not in sys.modules; "
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "compare"])
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert f"gantune {name}" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gantune {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["tain"], "unknown command 'tain': expected one of train, generate"),
        (["train", "--num-train-epochs", "many"], "--num-train-epochs: invalid float value: 'many'"),
        (["train", "--epoch", "3"], "unknown option --epoch; did you mean --num-train-epochs?"),
        (["train", "--lerning_rate", "3"], "unknown option --lerning_rate; did you mean --learning-rate?"),
        (["train", "stray"], "unknown argument stray"),
        (["train", "--dataset", "mini-tofu"], "--output-dir: expected a new directory"),
        (["train", "--num-train-epochs", "0"], "--num-train-epochs 0.0: expected above 0"),
        (["train", "--output-dir", "OUT"], "--dataset: expected a file"),
        (["train", "--output-dir", "OUT", "--dataset", "none.jsonl"], "none.jsonl: no such file"),
        ([*TRAIN, "--report-to", "paper"], "--report-to paper: expected none, all, or one of"),
        ([*TRAIN, "--device", "abacus"], "--device abacus: cannot be used here"),
        (["generate", "--adapter", "nowhere", "Who?"], "nowhere: no such folder"),
        (["generate", "--adapter", "x", "Who?", "--file", "y"], "expected a question or --file, not both"),
        (["generate", "--adapter", "x", "  "], "the question is empty"),
        (["generate", "--adapter", "x", "Who?", "--samples", "2"], "greedy answers with zero noise are all the same"),
        (["generate", "Who?"], "required: --adapter"),
        (["evaluate", "--dataset", "mini-tofu"], "--adapter: expected a folder"),
        (["evaluate", "--adapter", "nowhere", "--dataset", "mini-tofu"], "nowhere: no such folder"),
        (["plot", "nowhere"], "nowhere: neither history.jsonl nor weights.npz"),
        (["merge", "--adapter", "nowhere", "--output", "OUT", "--noise", "3"], "--noise 3: expected zero or seed:N"),
        (["run"], "required: MODULE_OR_SCRIPT"),
        (["run", "--fast", "lm_eval"], "required: MODULE_OR_SCRIPT"),
        (["run", "./none.py", "--help"], "./none.py: no such script, and no module of that name"),
        (["run", "no_such_module.part"], "no_such_module.part: no such script, and no module of that name"),
        (["data", "show", "none.jsonl"], "none.jsonl: no such file"),
        (["env", "now"], "unrecognized arguments: now"),
    ],
)
def test_mistakes_are_told_in_one_line_with_status_2(arguments, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and told in err and not out
    assert not list(tmp_path.iterdir()), "a mistake leaves nothing behind"


def test_env_names_what_runs_here(capsys):
    assert main(["env"]) == 0
    out = capsys.readouterr().out
    assert f"- gantune: {__version__}\n" in out and f"- torch: {torch.__version__}\n" in out
    assert f"- CPU threads of torch: {torch.get_num_threads()}\n" in out


SCRIPT = """
import sys
import beside_the_script
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM
adapter, base, out, *rest = sys.argv[1:]
models = AutoPeftModelForCausalLM.from_pretrained(adapter), PeftModel.from_pretrained(
    AutoModelForCausalLM.from_pretrained(base), adapter)
with torch.no_grad():
    torch.save([__name__, rest, *(model.eval()(torch.tensor([[5, 6, 7]])).logits for model in models)], out)
sys.exit(beside_the_script.STATUS)
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """What a program may change in this process; one is in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gantune"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = {*sys.modules}
    yield
    for name in {*sys.modules} - before:
        del sys.modules[name]


def test_a_script_that_does_not_know_gantune_loads_its_adapters_and_ends_as_it_ends(program, tmp_path, monkeypatch):
    TINY_MODELS["gpt2"]().save_pretrained("base")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), EmbeddingGeneratorConfig(noise_dim=4)).eval()
    torch.nn.init.normal_(model.get_input_embeddings().embedding_generator_network["default"].output_layer.weight)
    model.save_pretrained("tuned")
    with torch.no_grad():
        wanted = model(torch.tensor([[5, 6, 7]])).logits
    for table in ("CONFIG", "TUNER", "PREFIX"):  # as in a process that has not imported gantune
        monkeypatch.delitem(getattr(peft.mapping, f"PEFT_TYPE_TO_{table}_MAPPING"), "EMBEDDING_GENERATOR")
    monkeypatch.setattr(gantune, "embedding_generator", gantune.embedding_generator)  # the import binds another one
    monkeypatch.delitem(sys.modules, "gantune.embedding_generator")
    with pytest.raises(KeyError, match="EMBEDDING_GENERATOR"):
        AutoPeftModelForCausalLM.from_pretrained("tuned")

    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "script.py").write_text(SCRIPT)
    (tmp_path / "app" / "beside_the_script.py").write_text("STATUS = 3\n")
    rest = ["--help", "--", "-x", "a b"]
    with pytest.raises(SystemExit) as ended:
        main(["run", "app/script.py", "tuned", "base", "logits.pt", *rest])
    assert ended.value.code == 3
    name, told, *found = torch.load("logits.pt")
    assert name == "__main__" and told == rest and len(found) == 2
    for logits in found:
        torch.testing.assert_close(logits, wanted)


def test_a_module_is_run_by_its_name_from_the_directory_where_one_is(program, tmp_path, capsys):
    (tmp_path / "harness_of_a_user").mkdir()
    (tmp_path / "harness_of_a_user" / "__init__.py").write_text("")
    lines = "import sys", "print(__name__, sys.argv[1:])", "assert sys.modules['__main__'].__file__ == __file__"
    (tmp_path / "harness_of_a_user" / "__main__.py").write_text("\n".join(lines))
    assert main(["run", "harness_of_a_user", "--tasks", "a b", "--help"]) == 0
    assert capsys.readouterr().out == "__main__ ['--tasks', 'a b', '--help']\n"
    (tmp_path / "fails_by_itself.py").write_text("raise ValueError('its own')\n")
    with pytest.raises(ValueError, match="its own"):
        main(["run", "fails_by_itself"])


def test_the_script_finds_modules_of_the_folder_it_is_started_in(tmp_path, monkeypatch, capsys):
    (tmp_path / "rewards_of_mine.py").write_text("def same(questions, answers, rollout): return [1.0] * len(answers)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setattr(sys, "argv", ["gantune", "--version"])
    with pytest.raises(UserError, match="No module named 'rewards_of_mine'"):
        REWARDS.resolve("rewards_of_mine.same")
    assert main() == 0
    assert REWARDS.resolve("rewards_of_mine.same")([], ["a"], None) == [1.0]


def test_data_is_the_command_of_gantune_data(tmp_path, capsys):
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({"question": "Who?", "answer": "Ann."}) + "\n")
    assert main(["data", "clean", str(file), str(tmp_path / "out.jsonl")]) == 0
    assert (tmp_path / "out.jsonl").read_text() == file.read_text()


def test_compare_hands_its_arguments_on(monkeypatch):
    from benchmarks.compare import __main__ as compare

    monkeypatch.setattr(compare, "main", lambda arguments: {("--list",): 7}[tuple(arguments)])
    assert main(["compare", "--list"]) == 7


def test_compare_without_its_package_says_so(monkeypatch, capsys):
    real = builtins.__import__

    def without_benchmarks(name, *args, **kwargs):
        if name.partition(".")[0] == "benchmarks":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_benchmarks)
    assert main(["compare", "--list"]) == 2
    assert "benchmarks and baselines of gantune are not installed" in capsys.readouterr().err
