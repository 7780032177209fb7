"""What somebody else has written makes gantune import nothing, run nothing, and read or write nothing elsewhere."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from baselines import known_method
from benchmarks.compare import comparison as compare
from benchmarks.compare.stored import Stored, join, read
from benchmarks.compare.tuned import read_winners
from benchmarks.report.differences import _rivals
from benchmarks.report.read import Comparison
from gantune.cli import main
from gantune.cli.options import parse
from gantune.cli.train import DataOptions
from gantune.embedding_generator import load_stack
from gantune.errors import UserError
from gantune.hub.loading import load_model, load_tokenizer
from gantune.trainer.arguments import LanguageGANConfig
from gantune.trainer.checkpoints import MANIFEST, last_whole_checkpoint, mark_whole
from gantune.trainer.config import CONFIG_FILE, GameConfig
from gantune.trainer.language_gan import LanguageGAN
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    path for package in ("gantune", "baselines", "benchmarks") for path in sorted((ROOT / package).rglob("*.py"))
]
SMALL = {"max_prompt_length": 32, "max_completion_length": 8}


# ------------------------------------------------------------------------------------------------- the source itself

UNSAFE = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "dill.load", "dill.loads", "joblib.load", "marshal.load",
    "marshal.loads", "shelve.open", "os.system", "os.popen", "eval", "exec", "compile", "__import__",
    "yaml.unsafe_load", "yaml.full_load", "pandas.read_pickle", "torch.hub.load", "torch.jit.load",
}  # fmt: skip
IMPORTERS = {"gantune/registry.py", "gantune/__init__.py", "gantune/cli/__init__.py"}
"""Files that import by name: the registry what the user typed, the others what they list themselves."""


def unsafe_calls(source: str, file: str) -> list[str]:
    """Calls that may run what a file holds, as `file:line call`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name, options = ast.unparse(node.func), {option.arg: ast.unparse(option.value) for option in node.keywords}
        bad = name in UNSAFE
        bad |= name == "torch.load" and options.get("weights_only") != "True"
        bad |= name in ("np.load", "numpy.load") and options.get("allow_pickle") != "False"
        bad |= name == "yaml.load" and "_Loader" not in ast.unparse(node)
        bad |= name.endswith("import_module") and file not in IMPORTERS
        bad |= name.startswith("runpy.") and file != "gantune/cli/run.py"  # what the user typed
        bad |= options.get("shell") == "True" or options.get("trust_remote_code") == "True"
        if bad:
            found.append(f"{file}:{node.lineno} {name}")
    return found


def test_nothing_in_the_source_loads_pickles_or_runs_what_a_file_names():
    assert len(SOURCES) > 100
    assert [call for path in SOURCES for call in unsafe_calls(path.read_text(), str(path.relative_to(ROOT)))] == []


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file, allow_pickle=True)",
        "np.load(file)",
        "pickle.load(file)",
        "yaml.load(text, yaml.Loader)",
        "importlib.import_module(name)",
        "runpy.run_path(file)",
        "eval(text)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "subprocess.run(command, shell=True)",
    ],
)
def test_the_scan_sees_each_of_them(line):
    assert unsafe_calls(line, "gantune/policy/cache.py")


SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|\bhf_[A-Za-z0-9]{30,}\b|\bgh[pousr]_[A-Za-z0-9]{36,}\b"
    r"|\bgithub_pat_\w{50,}|\bsk-[A-Za-z0-9_-]{32,}|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bAIza[\w-]{35}\b|\bpypi-[\w-]{50,}"
    r"|\beyJ[\w-]{20,}\.eyJ[\w-]{20,}\.|(?i:(?:password|passwd|api_?key|secret_?key)\s*[=:]\s*['\"][^'\"\s]{8,}['\"])"
)
TEXT = {".py", ".md", ".cfg", ".toml", ".txt", ".json", ".jsonl", ".yaml", ".yml", ".html", ".js", ".css", "", ".sh"}


def test_no_secret_is_in_the_files():
    folders = [ROOT / name for name in ("gantune", "baselines", "benchmarks", "tests", ".ci", "docs")]
    files = [path for folder in folders for path in folder.rglob("*")] + list(ROOT.glob("*"))
    small = [path for path in files if path.is_file() and path.suffix in TEXT and path.stat().st_size < 5_000_000]
    assert [str(path) for path in small if SECRETS.search(path.read_text(encoding="utf-8", errors="ignore"))] == []


@pytest.mark.parametrize(
    "secret", ["AKIA" + "A1B2" * 4, "hf_" + "aB3" * 12, "ghp_" + "x1Y2" * 9, "-----BEGIN RSA " + "PRIVATE KEY-----"]
)
def test_the_search_finds_secrets(secret):
    assert SECRETS.search(f'token = "{secret}"')


# --------------------------------------------------------------------------------------------- model folders and code


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """A file that is there as soon as the module `trap` is imported, from anywhere."""
    code = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    (tmp_path / "trap.py").write_text(f"{code}class Thing: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "ran"
    assert not (tmp_path / "ran").exists(), "code was run"


@pytest.mark.parametrize("model_type", ["llama", "trap"])
def test_code_in_a_model_folder_is_not_run(model_type, ran, tmp_path):
    folder = tmp_path / "model"
    TINY_MODELS["llama"]().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    (folder / "trap.py").write_text((tmp_path / "trap.py").read_text())
    classes = {"AutoConfig": "trap.Thing", "AutoModelForCausalLM": "trap.Thing", "AutoTokenizer": ["trap.Thing", None]}
    for name in ("config.json", "tokenizer_config.json"):
        settings = json.loads((folder / name).read_text()) | {"auto_map": classes}
        settings |= {"model_type": model_type} if name == "config.json" else {"tokenizer_class": "Thing"}
        (folder / name).write_text(json.dumps(settings))
    for load in (load_model, load_tokenizer):
        try:
            load(str(folder))  # with the library's own class, where it knows the type
        except UserError as error:
            assert "custom code" in str(error)


# ------------------------------------------------------------------------------------------------------------ adapters


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    TINY_MODELS["gpt2"]().save_pretrained(folder / "base")
    tiny_tokenizer().save_pretrained(folder / "base")
    base = load_model(str(folder / "base"))
    args = LanguageGANConfig(str(folder / "out"), generator="embedding+lora", use_cpu=True, **SMALL)
    LanguageGAN(base, args, processing_class=tiny_tokenizer()).save_pretrained(folder / "tuned")
    return folder / "tuned"


@pytest.fixture
def tuned(saved, tmp_path):
    """A copy, to be tampered with."""
    import shutil

    return Path(shutil.copytree(saved, tmp_path / "tuned"))


def change(file, **settings):
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


@pytest.mark.parametrize("name", ["discriminator", "reward", "reward_transform", "advantage", "template"])
def test_components_that_a_saved_folder_names_are_not_imported(name, ran, tuned):
    change(tuned / CONFIG_FILE, **{name: "trap.Thing"})
    with pytest.raises(UserError, match=r"unknown .* 'trap.Thing'"):
        LanguageGAN.from_pretrained(tuned)
    if name == "template":
        assert main(["generate", "--adapter", str(tuned), "who?", "--device", "cpu"]) == 2


def test_a_generator_or_network_that_a_saved_folder_names_is_not_imported(ran, tuned):
    change(tuned / CONFIG_FILE, generator="trap.Thing")
    LanguageGAN.from_pretrained(tuned)  # what was saved is what is loaded
    change(tuned / "embedding_generator" / "adapter_config.json", network="trap.Thing")
    with pytest.raises(UserError, match=r"unknown generator network 'trap.Thing'"):
        load_stack(TINY_MODELS["gpt2"](), tuned)


@pytest.mark.parametrize(
    "settings",
    [
        {"megatron_config": {"tensor_model_parallel_size": 1}, "megatron_core": "trap"},
        {"megatron_core": "trap"},
        {"tokenizer_kwargs": {"trust_remote_code": True}},
        {"prompt_tuning_init_state_dict_path": "/etc/passwd"},
        {"adapters": {"other": "/somewhere"}},
    ],
)
def test_settings_by_which_peft_would_import_or_read_elsewhere_are_refused(settings, ran, tuned):
    change(tuned / "lora" / "adapter_config.json", **settings)
    with pytest.raises(UserError, match="never makes gantune do so"):
        load_stack(TINY_MODELS["gpt2"](), tuned)
    assert main(["generate", "--adapter", str(tuned), "who?", "--device", "cpu"]) == 2


@pytest.mark.parametrize("content", ["[]", "{", "", "3"])
def test_settings_of_an_adapter_that_are_none(content, tuned):
    (tuned / "lora" / "adapter_config.json").write_text(content)
    with pytest.raises(UserError, match="not the settings of an adapter"):
        load_stack(TINY_MODELS["gpt2"](), tuned)


@pytest.mark.parametrize("name", ["discriminator", "reward", "template", "generator", "format"])
def test_components_that_a_file_of_options_names_are_not_imported(name, ran, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(f"{name}: {'embedding+' if name == 'generator' else ''}trap.Thing\n")
    with pytest.raises(UserError, match=r"run.yaml: .* never makes gantune import anything"):
        parse((DataOptions, GameConfig), ["--config", str(file)], "gantune train", "A test.")
    typed = ["--config", str(file), f"--{name}", "trap.Thing"]
    assert parse((DataOptions, GameConfig), typed, "gantune train", "A test.")[1][name] == "trap.Thing"


# --------------------------------------------------------------------------------------------- directories of results


def comparison(stored, **row):
    """A stored comparison with one row; its directory is as given."""
    row = {"method": "lora", "seed": 0, "status": "success", "metrics": {"rougeL": 0.5}, "not_run": {}} | row
    settings = {"methods": [row["method"]], "seeds": [0], "command": "compare", "model": "m", "device": "cpu"}
    settings |= {"dtype": "float32", "data": {"dataset": "d", "train_size": 1, "test_size": 1}}
    stored.mkdir(parents=True, exist_ok=True)
    (stored / "comparison.json").write_text(json.dumps({"settings": settings, "rows": [row], "summary": {}}))
    return stored


OUTSIDE = ["../outside", "runs/../../outside", "/etc", "", ".", "..", "runs/link", "nul\0", None, 3, ["runs"]]


@pytest.mark.parametrize("name", OUTSIDE)
def test_runs_of_a_comparison_lie_inside_it(name, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "metrics.json").write_text("{}")
    directory = comparison(tmp_path / "stored", directory=name)
    (directory / "runs").mkdir()
    (directory / "runs" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="is not inside the comparison's directory"):
        read(directory)
    with pytest.raises(UserError, match="is not inside the comparison's directory"):
        join([directory], tmp_path / "joined")
    row = json.loads((directory / "comparison.json").read_text())["rows"][0]
    with pytest.raises(UserError, match="is not inside the comparison's directory"):
        Comparison(directory, {}, [row], {}, [], []).run_directory(row)
    assert main(["compare", "--from", str(directory)]) == 2
    assert not (tmp_path / "joined").exists()


def test_links_in_a_run_are_not_followed_when_it_is_copied(tmp_path):
    (tmp_path / "outside.txt").write_text("private")
    directory = comparison(tmp_path / "stored", directory="runs/lora-seed0")
    run = directory / "runs" / "lora-seed0"
    run.mkdir(parents=True)
    (run / "history.jsonl").write_text("")
    (run / "samples.jsonl").symlink_to(tmp_path / "outside.txt")
    join([directory], tmp_path / "joined")
    assert {path.name for path in (tmp_path / "joined" / "runs" / "lora-seed0").iterdir()} == {"history.jsonl"}


@pytest.mark.parametrize("method", ["trap.Thing", "gan:trap.Thing", "gan:lora+trap.Thing"])
def test_methods_that_a_stored_comparison_names_are_not_imported(method, ran, tmp_path):
    with pytest.raises(UserError, match=r"unknown (method|generator) 'trap.Thing'"):
        known_method(method)
    assert _rivals(method, {"lora": {}}, records=False) == ["lora"]
    settings = SimpleNamespace(comparison=SimpleNamespace(methods=["lora"]))
    with pytest.raises(UserError, match="unknown"):
        compare.run_all(settings, tmp_path, "cpu", {}, Stored({"methods": [method]}, [], []), [])


def test_methods_that_a_file_of_winners_names_are_not_imported(ran, tmp_path):
    trial = {"option": "rate", "value": 1.0, "score": 0.5}
    winner = {"settings": {"rate": 1.0}, "trials": [trial], "score": 0.5, "metric": "ROUGE-L", "chosen_on": "x"}
    (tmp_path / "tuning.json").write_text(json.dumps({"trap.Thing": winner}))
    try:
        read_winners(tmp_path / "tuning.json")
    except UserError as error:
        assert "expected the tuning.json" in str(error)


def test_plots_are_written_beside_what_they_are_drawn_from(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    rows = [{"step": 1, "epoch": 1, "phase": "../../phase", "loss": 1.0, "../loss": 2.0, "seconds": 0.1, "tokens": 5}]
    (run / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(["plot", str(run)])
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_a_manifest_of_checkpoints_cannot_name_another_file(tmp_path):
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    (tmp_path / "outside").write_text("private")
    for name in ("../outside", str(tmp_path / "outside"), "../checkpoint-1/../outside"):
        files = {name: hashlib.sha256(b"private").hexdigest()}
        (folder / MANIFEST).write_text(json.dumps({"training": "mine", "files": files}))
        assert last_whole_checkpoint(tmp_path) is None
    mark_whole(folder, "mine")
    assert last_whole_checkpoint(tmp_path) == folder
