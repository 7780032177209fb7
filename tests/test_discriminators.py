"""Every discriminator: each prefix has its own logit, padding changes nothing, and it can learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from gantune.data.batch import Batch
from gantune.discriminators import CausalCNN, CrossReader, FrozenLMHead, LanguageModelJudge, TokenIdMLP, TokenValueMLP
from gantune.embedding_generator import EmbeddingGeneratorConfig, stack_adapters
from gantune.seqgan import discriminator_loss
from tests.tiny_models import TINY_MODELS

VOCABULARY = 50
DISCRIMINATORS = {
    "cnn": lambda: CausalCNN(VOCABULARY, embedding_dim=8, widths=(1, 2, 3), filters=4),
    "mlp": lambda: TokenIdMLP(VOCABULARY, max_prompt_tokens=40, max_answer_tokens=24),
    "source": lambda: TokenValueMLP(VOCABULARY, max_prompt_tokens=40, max_answer_tokens=24),
    "cross-reader": lambda: CrossReader.for_model(TINY_MODELS["gpt2"](), 40, 24),
    "judge": lambda: LanguageModelJudge(TINY_MODELS["gpt2"]()),
    "frozen-lm": lambda: FrozenLMHead(TINY_MODELS["gpt2"](), width=8),
}
every_discriminator = pytest.mark.parametrize("name", DISCRIMINATORS)


def build(name):
    torch.manual_seed(0)
    return DISCRIMINATORS[name]().eval()


def random_batch(rows: int = 4, seed: int = 0) -> Batch:
    """Questions of 2 to 5 tokens in 5 places, answers of 1 to 6 tokens in 6 places."""
    generator = torch.Generator().manual_seed(seed)
    prompt_mask, answer_mask = torch.zeros(rows, 5, dtype=torch.long), torch.zeros(rows, 6, dtype=torch.long)
    for row in range(rows):
        prompt_mask[row, 3 - row % 4 :] = 1
        answer_mask[row, : 1 + (row * 5) % 6] = 1
    return Batch(
        torch.randint(1, VOCABULARY, (rows, 5), generator=generator) * prompt_mask,
        prompt_mask,
        torch.randint(1, VOCABULARY, (rows, 6), generator=generator) * answer_mask,
        answer_mask,
    )


@every_discriminator
def test_a_prefix_has_the_logit_of_the_answer_cut_there(name):
    discriminator, batch = build(name), random_batch()
    prefixes = discriminator.prefix_logits(batch)
    for t in range(6):
        cut = replace(batch, answer_ids=batch.answer_ids[:, : t + 1], answer_mask=batch.answer_mask[:, : t + 1])
        alive = batch.answer_mask[:, t].bool()
        assert torch.allclose(discriminator.sequence_logits(cut)[alive], prefixes[alive, t], atol=1e-6)


@every_discriminator
def test_padding_changes_nothing(name):
    discriminator, batch = build(name), random_batch()
    junk = 7  # whatever stands in the padding is not read
    padded = Batch(
        F.pad(batch.prompt_ids.masked_fill(batch.prompt_mask == 0, junk), (2, 0), value=junk),
        F.pad(batch.prompt_mask, (2, 0)),
        F.pad(batch.answer_ids.masked_fill(batch.answer_mask == 0, junk), (0, 1), value=junk),
        F.pad(batch.answer_mask, (0, 1)),
    )
    expected, got = discriminator.sequence_logits(batch), discriminator.sequence_logits(padded)
    assert torch.allclose(expected, got, atol=1e-6)
    assert expected.std() > 0


@every_discriminator
def test_later_tokens_and_the_question_are_read(name):
    discriminator, batch = build(name), random_batch()
    last_token = batch.answer_ids.clone()
    last_token[torch.arange(4), batch.answer_mask.sum(1) - 1] = 11
    other_question = batch.prompt_ids.roll(1, dims=1)
    logits = discriminator.sequence_logits(batch)
    assert not torch.allclose(logits, discriminator.sequence_logits(replace(batch, answer_ids=last_token)))
    assert not torch.allclose(logits, discriminator.sequence_logits(replace(batch, prompt_ids=other_question)))


@every_discriminator
def test_it_learns_to_tell_two_kinds_of_answers_apart(name):
    """Real answers use low ids, generated ones high ids, which even a network on raw ids can see."""
    discriminator = build(name).train()
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-2)
    real, generated = random_batch(16, seed=1), random_batch(16, seed=2)
    real.answer_ids = real.answer_ids.clamp(max=20)
    generated.answer_ids = (generated.answer_ids.clamp(min=30)) * generated.answer_mask
    for _ in range(60):
        loss = discriminator_loss(discriminator.sequence_logits(real), discriminator.sequence_logits(generated))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    discriminator.eval()
    assert (discriminator.sequence_logits(real) > 0).float().mean() > 0.9
    assert (discriminator.sequence_logits(generated) < 0).float().mean() > 0.9


@pytest.mark.parametrize(("name", "kind"), [("mlp", TokenIdMLP), ("source", TokenValueMLP)])
def test_an_mlp_refuses_what_it_is_too_narrow_for(name, kind):
    for judge in (kind(VOCABULARY, 3, 7).prefix_logits, kind(VOCABULARY, 3, 7).sequence_logits):
        with pytest.raises(ValueError, match=f"discriminator {name} reads 3 prompt and 7 answer tokens, got 5 and 6"):
            judge(random_batch())


def test_the_head_on_the_frozen_model_reads_it_without_its_adapter_and_trains_none_of_it():
    torch.manual_seed(0)
    model, batch = TINY_MODELS["gpt2"](), random_batch()
    discriminator = FrozenLMHead(model, width=8).eval()
    before = discriminator.prefix_logits(batch)
    tuned = stack_adapters(model, [EmbeddingGeneratorConfig()])
    trainable = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for parameter in trainable:
            parameter.add_(torch.randn_like(parameter))
    assert torch.allclose(discriminator.prefix_logits(batch), before, atol=1e-6)
    assert not torch.allclose(tuned(batch.answer_ids).logits, _without_adapter(tuned, batch.answer_ids), atol=1e-3)
    discriminator.sequence_logits(batch).sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [p for p in tuned.parameters() if p.requires_grad] == trainable
    assert not any("language_model" in name for name in discriminator.state_dict())


def test_the_head_on_the_frozen_model_reads_it_without_the_modules_saved_with_an_adapter():
    model, batch = TINY_MODELS["gpt2"](), random_batch()
    discriminator = FrozenLMHead(model, width=8).eval()
    before = discriminator.prefix_logits(batch)
    tuned = stack_adapters(model, [EmbeddingGeneratorConfig(modules_to_save=["ln_f"])])
    torch.nn.init.ones_(tuned.base_model.model.transformer.ln_f.modules_to_save["embedding_generator"].bias)
    assert not torch.allclose(tuned(batch.answer_ids).logits, _without_adapter(tuned, batch.answer_ids), atol=1e-3)
    assert torch.allclose(discriminator.prefix_logits(batch), before, atol=1e-6)


def _without_adapter(tuned, ids):
    with tuned.disable_adapter():
        return tuned(ids).logits
