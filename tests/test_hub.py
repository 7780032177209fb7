"""What is pushed to the Hub, seen by a stand-in for its client; nothing here touches the network."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import HfHubHTTPError
from peft import LoraConfig, get_peft_model

from gantune.embedding_generator import EmbeddingGeneratorConfig
from gantune.errors import UserError
from gantune.hub.push import local_folder
from gantune.trainer.arguments import LanguageGANConfig
from gantune.trainer.language_gan import LanguageGAN
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer


class Hub:
    """Takes down what is asked of it, and what is in the folder that is uploaded."""

    def __init__(self, token=None):
        self.token = token
        Hub.last = self

    def create_repo(self, repo_id, **options):
        self.created = repo_id, options
        return SimpleNamespace(repo_id=f"ann/{repo_id}")

    def upload_folder(self, repo_id, folder_path, **options):
        self.uploaded = repo_id, options
        self.files = {str(path.relative_to(folder_path)): path.read_bytes()
                      for path in Path(folder_path).rglob("*") if path.is_file()}  # fmt: skip
        return f"https://huggingface.co/{repo_id}/commit/1"


@pytest.fixture
def gan(tmp_path):
    args = LanguageGANConfig(str(tmp_path / "out"), max_prompt_length=32, max_completion_length=8, use_cpu=True)
    return LanguageGAN(TINY_MODELS["gpt2"](), args, processing_class=tiny_tokenizer())


def test_a_language_gan_arrives_whole_and_with_its_own_card(gan, monkeypatch, tmp_path):
    monkeypatch.setattr("gantune.hub.push.HfApi", Hub)
    address = gan.push_to_hub("tuned", private=True, token="secret", create_pr=True)
    hub = Hub.last
    assert address == "https://huggingface.co/ann/tuned/commit/1" and hub.token == "secret"
    assert hub.created == ("tuned", {"private": True, "exist_ok": True})
    assert hub.uploaded[0] == "ann/tuned" and hub.uploaded[1]["create_pr"] is True
    gan.save_pretrained(tmp_path / "tuned")
    saved = {str(path.relative_to(tmp_path / "tuned")): path.read_bytes()
             for path in (tmp_path / "tuned").rglob("*") if path.is_file()}  # fmt: skip
    assert hub.files == saved and "embedding_generator/adapter_model.safetensors" in saved
    card = ModelCard(hub.files["README.md"].decode())
    assert card.data.library_name == "peft" and "tuned by gantune" in card.text


@pytest.mark.parametrize("config", [EmbeddingGeneratorConfig(), LoraConfig(task_type="CAUSAL_LM", r=2)])
def test_a_tuned_peft_model_is_pushed_as_any_other(config, monkeypatch):
    files = {}

    def upload(self, folder, repo_id, *args, **options):
        files.update({str(path.relative_to(folder)): path for path in Path(folder).rglob("*") if path.is_file()})
        return repo_id

    monkeypatch.setattr("transformers.utils.hub.hf_api", lambda: Hub())
    monkeypatch.setattr("transformers.utils.hub.create_and_tag_model_card", lambda *args, **options: ModelCard("x"))
    monkeypatch.setattr("peft.PeftModel._upload_modified_files", upload)
    model = get_peft_model(TINY_MODELS["llama"](), config)
    assert model.push_to_hub("tuned") == "ann/tuned"
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= files.keys()


def test_what_the_hub_refuses_is_told_in_one_line(gan, monkeypatch):
    class Refusing(Hub):
        def create_repo(self, repo_id, **options):
            raise HfHubHTTPError("403 Forbidden\nYou may not.", response=SimpleNamespace(headers={}, request=None))

    monkeypatch.setattr("gantune.hub.push.HfApi", Refusing)
    with pytest.raises(UserError, match=r"^tuned: cannot be pushed to the Hub: 403 Forbidden$"):
        gan.push_to_hub("tuned")


def test_a_folder_goes_before_the_hub_and_only_harmless_files_are_fetched(monkeypatch, tmp_path):
    asked = {}

    def download(name, **options):
        asked[name] = options
        if name == "ann/gone":
            raise FileNotFoundError("404\nnot there")
        return str(tmp_path)

    monkeypatch.setattr("gantune.hub.push.snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ann" / "here").mkdir(parents=True)
    assert local_folder("ann/here") == Path("ann/here") and local_folder(tmp_path) == tmp_path and not asked
    assert local_folder("nowhere") == Path("nowhere") and local_folder("a/b/c") == Path("a/b/c") and not asked
    assert local_folder("ann/tuned") == tmp_path
    assert asked["ann/tuned"] == {"allow_patterns": ["*.json", "*.safetensors", "*.md"]}
    with pytest.raises(UserError, match=r"ann/gone: no such folder, and not to be had from the Hub: 404$"):
        local_folder("ann/gone")
