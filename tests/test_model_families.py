"""Models that cannot be sampled from here: told before the first step, and trained by likelihood all the same."""

from __future__ import annotations

import math

import pytest
import torch
import transformers

from baselines import METHODS
from gantune.cli import main
from gantune.errors import UserError
from gantune.hub.loading import load_model
from gantune.trainer.arguments import LanguageGANConfig
from gantune.trainer.config import GameConfig
from gantune.trainer.language_gan import LanguageGAN
from gantune.trainer.self_play import SelfPlay
from tests.test_cli_train import SMALL as OPTIONS
from tests.test_cli_train import prepare
from tests.test_language_gan import PAIRS, QUIET, SMALL, trained
from tests.tiny_models import SPECIAL_IDS, TINY_MODELS, VOCAB_SIZE
from tests.tiny_tokenizer import tiny_tokenizer

SIZES = {"vocab_size": VOCAB_SIZE, "hidden_size": 32, "num_hidden_layers": 2, **SPECIAL_IDS}
ATTENTION = {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64}
STATE = {"state_size": 4, "conv_kernel": 2, "expand": 2}
HEADS = {"num_heads": 4, "head_dim": 16, "n_groups": 1}
MAMBA = {"mamba_d_state": 4, "mamba_d_conv": 2, "mamba_expand": 2}
MAMBA_HEADS = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_chunk_size": 4}
FAMILIES: dict[str, tuple[str, dict]] = {
    "mamba": ("Mamba", SIZES | STATE),
    "mamba2": ("Mamba2", SIZES | STATE | HEADS | {"chunk_size": 4}),
    "falcon_mamba": ("FalconMamba", SIZES | STATE),
    "recurrent_gemma": (
        "RecurrentGemma",
        SIZES | ATTENTION | {"lru_width": 32, "block_types": ("recurrent", "attention"), "head_dim": 16},
    ),
    "jamba": (
        "Jamba",
        SIZES | ATTENTION | MAMBA
        | {"num_experts": 2, "use_mamba_kernels": False, "attn_layer_period": 2, "attn_layer_offset": 1},
    ),
    "qwen3_next": (
        "Qwen3Next",
        SIZES | ATTENTION
        | {"head_dim": 16, "linear_num_value_heads": 2, "linear_num_key_heads": 2, "linear_key_head_dim": 8,
           "linear_value_head_dim": 8, "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16,
           "shared_expert_intermediate_size": 16, "layer_types": ["linear_attention", "full_attention"]},
    ),
    "lfm2": ("Lfm2", SIZES | ATTENTION | {"layer_types": ["conv", "full_attention"]}),
    "falcon_h1": ("FalconH1", SIZES | ATTENTION | MAMBA | MAMBA_HEADS | {"mamba_d_ssm": 64, "head_dim": 16}),
    "bamba": ("Bamba", SIZES | ATTENTION | MAMBA | MAMBA_HEADS | {"attn_layer_indices": [1]}),
    "zamba": (
        "Zamba",
        SIZES | ATTENTION | MAMBA
        | {"n_mamba_heads": 2, "use_mamba_kernels": False, "num_hidden_layers": 4,
           "layers_block_type": ["mamba", "mamba", "hybrid", "hybrid"]},
    ),
    "minimax": (
        "MiniMax",
        SIZES | ATTENTION
        | {"head_dim": 16, "num_local_experts": 2, "num_experts_per_tok": 1, "block_size": 4,
           "layer_types": ["linear_attention", "full_attention"]},
    ),
    "openai-gpt": ("OpenAIGPT", {"vocab_size": VOCAB_SIZE, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}),
    "rwkv": ("Rwkv", SIZES | {"attention_hidden_size": 32, "context_length": 64}),
    "xlnet": ("XLNet", {"vocab_size": VOCAB_SIZE, "d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 32}),
}  # fmt: skip


def made(family: str) -> transformers.PreTrainedModel:
    """A tiny random model; the global random state is left as it is."""
    name, settings = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(**settings)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(config).eval()


def args(**settings) -> LanguageGANConfig:
    return LanguageGANConfig(**QUIET | SMALL | settings)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_cannot_be_sampled_from_is_told_before_the_first_step_and_learns_by_likelihood(family):
    seeded = torch.manual_seed(0).get_state()  # as transformers' trainer does when it is made
    with pytest.raises(UserError) as error:
        LanguageGAN(made(family), args(), PAIRS, processing_class=tiny_tokenizer())
    message = str(error.value)
    assert message.startswith(f"model type {made(family).config.model_type}: ") and "\n" not in message
    assert message.endswith("expected likelihood alone: --warmup-share 1, or a method such as mle")
    assert torch.equal(torch.get_rng_state(), seeded)

    if family == "xlnet":
        return  # it sees what follows, see below
    gan = LanguageGAN(
        made(family), args(warmup_share=1.0, num_train_epochs=2), PAIRS, processing_class=tiny_tokenizer()
    )
    rows = trained(gan)
    assert [row["phase"] for row in rows] == ["likelihood"] * 4
    assert all(math.isfinite(row["loss"]) for row in rows) and rows[-1]["loss"] < rows[0]["loss"]


REMEDY = "expected likelihood alone: --warmup-share 1, or a method such as mle"


def test_a_prefix_is_told_before_the_first_step_and_learns_by_likelihood():
    def build(**settings):
        model = TINY_MODELS["gpt2"]()
        return LanguageGAN(model, args(generator="prefix", **settings), PAIRS, processing_class=tiny_tokenizer())

    with pytest.raises(UserError, match=f"PREFIX_TUNING: peft puts its prompt in again at every step.*{REMEDY}$"):
        build()
    assert [row["phase"] for row in trained(build(warmup_share=1.0, num_train_epochs=1))] == ["likelihood"] * 2


def test_self_play_is_told_too():
    with pytest.raises(UserError, match=f"model type openai-gpt: .*{REMEDY}$"):
        SelfPlay(made("openai-gpt"), args(), PAIRS, processing_class=tiny_tokenizer(), peft_config="embedding")


@pytest.mark.parametrize("name", ["gan", "gan-constant", "gan-shuffled", "self-play", "gan-source"])
def test_methods_of_the_comparison_that_sample_are_refused(name):
    method = METHODS.get(name)
    config = method.config_class(num_train_epochs=1, max_prompt_length=32, max_completion_length=8)
    with pytest.raises(UserError, match=f"model type mamba: .*{REMEDY}$"):
        method(made("mamba"), tiny_tokenizer(), PAIRS, config)


def test_mle_of_the_comparison_runs():
    config = GameConfig(num_train_epochs=1, max_prompt_length=32, max_completion_length=8)
    tuned = METHODS.get("mle")(made("mamba"), tiny_tokenizer(), PAIRS, config)
    assert len(tuned.answer(["who is ann?"])) == 1


def test_the_command_line_says_it_in_one_line_and_leaves_the_directory_free(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("gantune.cli.plot.draw", lambda directory: [])
    named = prepare(tmp_path)
    made("mamba").save_pretrained(tmp_path / "base")
    command = ["train", *named, *OPTIONS, "--output-dir", str(tmp_path / "tuned")]
    capsys.readouterr()
    assert main(command) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(told) == 1 and told[0].startswith("error: model type mamba: ") and told[0].endswith(REMEDY)
    assert not (tmp_path / "tuned").exists()
    assert main([*command, "--warmup-share", "1"]) == 0


def test_a_model_that_sees_what_follows_is_not_loaded(tmp_path):
    """Likelihood would be learned from the answer itself: of XLNet, whose attention is to both sides."""
    model, ids = made("xlnet"), torch.tensor([[5, 9, 23, 40]])
    changed = torch.tensor([[5, 9, 23, 41]])
    assert (model(ids).logits - model(changed).logits)[:, :-1].abs().max() > 1e-4
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="xlnet sees what follows; expected a causal language model"):
        load_model(str(tmp_path))
