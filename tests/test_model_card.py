"""The model card: what the Hub reads, what a reader runs, and nothing that was not measured."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
import torch
from huggingface_hub import ModelCard

from gantune.data import Pair
from gantune.errors import UserError
from gantune.hub.loading import load_tokenizer
from gantune.hub.model_card import Training, add_evaluation, hub_dataset, hub_id, model_card, write_model_card
from gantune.trainer.arguments import LanguageGANConfig, own_settings
from gantune.trainer.config import GameConfig
from gantune.trainer.language_gan import LanguageGAN
from gantune.version import __version__
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

KNOWN = Training(
    base_model="meta-llama/Llama-3.1-8B",
    adapters=("embedding_generator",),
    settings=dataclasses.asdict(GameConfig(seed=11, max_completion_length=37, system_prompt="a | b")),
    trained_parameters=56496,
    steps=120,
    seconds=34.56,
    tokens=123456,
    dataset="tofu",
    pairs=200,
    validation_pairs=20,
    validation=("loss", 0.98765),
)
EVALUATION = {
    "dataset": "tofu:forget10",
    "pairs": 40,
    "decoding": "greedy",
    "noise": "zero",
    "metrics": {"rougeL": 0.41234, "bleurt": None, "nll": 1.5},
}


def test_the_hub_reads_what_it_is_made_from(tmp_path):
    write_model_card(tmp_path, KNOWN)
    card = ModelCard.load(tmp_path / "README.md")
    data = card.data.to_dict()
    assert data["base_model"] == "meta-llama/Llama-3.1-8B" and data["library_name"] == "peft"
    assert data["datasets"] == ["locuslab/TOFU"] and data["pipeline_tag"] == "text-generation"
    assert "gantune" in data["tags"] and "base_model:adapter:meta-llama/Llama-3.1-8B" in data["tags"]
    assert "metrics" not in data, "nothing was measured"
    for told in ("Question-answer pairs: 200, 20 of them held out", "0.9877 nats a token, on 20 held-out pairs",
                 "120 steps, 34.6 s, 123,456 tokens", "56,496 trained parameters", "seed 11", f"gantune {__version__}",
                 "Test metrics: not measured", "| `max_completion_length` | `37` |",
                 r'| `system_prompt` | `"a \| b"` |'):  # fmt: skip
        assert told in card.text, told
    assert all(f"| `{name}` |" in card.text for name in KNOWN.settings)
    assert not re.search(r"\b(None|nan)\b", card.text)


def test_what_nobody_measured_is_called_that():
    unknown = dataclasses.replace(KNOWN, dataset=None, pairs=None, validation_pairs=None, validation=None)
    text = model_card(unknown).text
    assert "Validation loss: not measured." in text and "Source: not recorded. Number of pairs: not recorded." in text


def test_names_that_only_this_machine_knows_are_not_told_to_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    (tmp_path / "pairs.jsonl").write_text("{}")
    local = dataclasses.replace(KNOWN, base_model="models/tiny", dataset=str(tmp_path / "pairs.jsonl"))
    card = model_card(local)
    assert card.data.base_model is None and card.data.datasets is None
    assert "Source: `pairs.jsonl`, a local file or folder." in card.text and str(tmp_path) not in card.text
    absolute = model_card(dataclasses.replace(local, base_model=str(tmp_path / "models" / "tiny")))
    assert absolute.text == card.text and "# EmbeddingGenerator for `tiny`, tuned by gantune" in card.text
    assert "`tiny` (a folder on the machine that trained)" in card.text and 'load_model("path/to/tiny")' in card.text
    assert model_card(dataclasses.replace(KNOWN, base_model="mini")).data.base_model == "mini"
    assert [hub_id(name) for name in ("gpt2", "a/b", "/a/b", "a/b/c", "mini", "models/tiny")] == [
        "gpt2", "a/b", None, None, None, None,
    ]  # fmt: skip
    assert [hub_dataset(name) for name in ("tofu", "tofu:full", "a/b:c", "mini-tofu", None)] == [
        "locuslab/TOFU", "locuslab/TOFU", "a/b", None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("adapter", "run", "merge"),
    [
        ("embedding_generator", True, True),
        ("lora", False, True),
        ("prompt_tuning", False, False),
        ("p_tuning", False, False),
    ],
)
def test_how_it_is_installed_and_used_by_others_is_told(adapter, run, merge):
    text = model_card(dataclasses.replace(KNOWN, adapters=(adapter,))).text
    assert "`pip install .` in a checkout" in text and "pip install gantune" not in text
    line = (
        "Start it by `gantune run`, its options as ever: `gantune run lm_eval --model hf --model_args pretrained=BASE,"
    )
    assert (f"{line}peft=FOLDER/embedding_generator ...`" in text) == ("KeyError" in text) == run
    assert ("`gantune merge --adapter FOLDER --output PLAIN` writes" in text) == merge
    assert "\n\n\n" not in text[text.index("In a terminal") : text.index("## Base model")]


def test_an_evaluation_replaces_the_figures_and_nothing_else(tmp_path):
    write_model_card(tmp_path, KNOWN)
    before = ModelCard.load(tmp_path / "README.md")
    for rouge in (0.41234, 0.5):
        evaluation = EVALUATION | {"metrics": EVALUATION["metrics"] | {"rougeL": rouge}}
        (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
        assert add_evaluation(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.metrics == ["rouge"] and card.data.base_model == "meta-llama/Llama-3.1-8B"
    assert "| rougeL | 0.5000 |" in card.text and "0.4123" not in card.text and "| bleurt | not measured |" in card.text
    assert "on 40 pairs of `tofu:forget10`" in card.text and "the source that it was trained on" not in card.text
    figures = re.compile(r"## Figures\n.*?(?=## )", re.DOTALL)
    assert figures.sub("", card.text).strip() == figures.sub("", before.text).strip()


def test_cautions_of_an_evaluation_stand_below_its_figures():
    told = "caution: 2 of 3 true answers have no word"
    text = model_card(KNOWN, EVALUATION | {"cautions": [told]}).text
    assert f"| nll | 1.5000 |\n\n{told}\n\n## Limits" in text
    assert "| nll | 1.5000 |\n\n## Limits" in model_card(KNOWN, EVALUATION).text


def test_figures_find_no_place_where_there_is_no_such_card(tmp_path):
    assert not add_evaluation(tmp_path)
    write_model_card(tmp_path, KNOWN)
    (tmp_path / "evaluation.json").write_text("{}")
    with pytest.raises(UserError, match="not as gantune writes it"):
        add_evaluation(tmp_path)
    (tmp_path / "evaluation.json").write_text(json.dumps(EVALUATION))
    (tmp_path / "README.md").write_text("# Mine\n")
    assert not add_evaluation(tmp_path) and (tmp_path / "README.md").read_text() == "# Mine\n"


@pytest.mark.parametrize("generator", ["embedding", "embedding+lora", "prompt", "p-tuning"])
def test_the_card_s_own_code_loads_the_adapter(tmp_path, generator):
    tokenizer = load_tokenizer("mini")
    gan = LanguageGAN("mini", LanguageGANConfig(str(tmp_path), generator=generator, max_completion_length=4))
    for parameter in gan.parameters:
        torch.nn.init.normal_(parameter, std=0.05)
    gan.save_pretrained(tmp_path)
    training = json.loads((tmp_path / "training.json").read_text())
    assert training["base_model"] == "mini" and training["steps"] is None
    assert training["trained_parameters"] == sum(parameter.numel() for parameter in gan.parameters)
    assert "steps, time and tokens not recorded" in (tmp_path / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == (1 if generator == "p-tuning" else 2)  # nothing can be trained on that P-tuning saves
    ids = torch.tensor([tokenizer.encode("Who wrote Ulysses?")])
    with torch.no_grad():
        wanted = gan.model(ids).logits
        for block, name in zip(blocks, ("gan", "model")[-len(blocks) :], strict=True):
            scope: dict = {}
            exec(block.replace("FOLDER", str(tmp_path)), scope)
            loaded = scope[name].model if name == "gan" else scope[name]
            torch.testing.assert_close(loaded.eval()(ids).logits, wanted, rtol=0, atol=1e-5 * (generator == "p-tuning"))


def test_what_the_trainer_knows_of_its_training(tmp_path):
    pairs = [Pair(f"who is {name}?", f"{name} is {what}.") for name in ("ann", "bob") for what in ("cook", "old", "in")]
    args = LanguageGANConfig(str(tmp_path / "out"), num_train_epochs=7, validation_share=0.34, max_completion_length=8,
                             discriminator_warmup_steps=4, use_cpu=True, save_strategy="no", logging_steps=3,
                             disable_tqdm=True)  # fmt: skip
    gan = LanguageGAN(TINY_MODELS["gpt2"](), args, pairs, processing_class=tiny_tokenizer())
    gan.train()
    gan.save_pretrained(tmp_path, pairs=len(pairs))
    told = json.loads((tmp_path / "training.json").read_text())
    assert told["steps"] == gan.state.global_step == 7 and told["pairs"] == 6  # none of the discriminator's four
    assert told["tokens"] == gan.limits.tokens > 0  # also those of the step after the last row
    assert told["seconds"] == pytest.approx(gan.limits.seconds)
    assert told["settings"] == own_settings(args) and told["adapters"] == ["embedding_generator"]
