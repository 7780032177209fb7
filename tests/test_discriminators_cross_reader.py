"""The cross-reader: what it reads of question and answer, what it tells, and whose embedding it sees by."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional as F

from gantune.data.batch import Batch
from gantune.discriminators import CrossReader
from gantune.distributed import ALONE
from gantune.embedding_generator import EmbeddingGeneratorConfig
from gantune.trainer.callbacks import Limits
from gantune.tuning import TuningConfig
from tests.tiny_models import TINY_MODELS

FIELDS = torch.tensor([[0, 0, 1, 1, 2, 2, 3, 3, 0], [0, 0, 0, 0, 1, 1, 1, 3, 0], [0] * 9])
"""Of three records: three fields, two of three (the second was cut away), and a question that is no record."""


def reader(seed: int = 0, model: str = "gpt2", **settings) -> CrossReader:
    torch.manual_seed(seed)
    return CrossReader(TINY_MODELS[model]().get_input_embeddings(), **settings).eval()


def records(seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    prompt_mask, answer_mask = torch.ones(3, 9, dtype=torch.long), torch.ones(3, 5, dtype=torch.long)
    prompt_mask[1, :3] = 0
    answer_mask[2, 3:] = 0
    ids = torch.randint(3, 97, (3, 14), generator=generator)
    return Batch(ids[:, :9], prompt_mask, ids[:, 9:], answer_mask, None, FIELDS)


def test_the_score_is_the_soft_minimum_of_the_fields_and_that_of_the_tokens():
    reading, batch = reader().read(records()), records()
    assert reading.field_mask.tolist() == [[1, 1, 1], [1, 0, 1], [1, 0, 0]]
    assert reading.field_logits.shape == (3, 3) and reading.token_logits.shape == (3, 5)
    for row in range(3):
        said = reading.field_logits[row, reading.field_mask[row].bool()].double()
        backed = reading.token_logits[row, batch.answer_mask[row].bool()].double()
        expected = -(-said).exp().sum().log() - (-backed).exp().sum().log()
        assert reading.score[row].item() == pytest.approx(expected.item(), abs=1e-5)
    assert torch.equal(reader().sequence_logits(batch), reading.score)


def test_a_question_without_fields_is_one_field():
    batch = records()
    none = reader().read(replace(batch, prompt_fields=None))
    assert none.field_mask.tolist() == [[1.0]] * 3
    whole = reader().read(replace(batch, prompt_fields=batch.prompt_mask))
    assert torch.equal(none.score, whole.score)
    assert none.score[2].item() == pytest.approx(reader().read(batch).score[2].item(), abs=1e-6)


def test_of_a_record_only_its_fields_are_read():
    batch, judge = records(), reader()
    before = judge.read(batch)
    ids = batch.prompt_ids.masked_fill(FIELDS == 0, 50)
    ids[2] = batch.prompt_ids[2]
    for one, other in zip(before, judge.read(replace(batch, prompt_ids=ids)), strict=True):
        assert torch.equal(one, other)
    ids = batch.prompt_ids.masked_fill(FIELDS == 3, 50)
    changed = judge.read(replace(batch, prompt_ids=ids)).field_logits - before.field_logits
    assert (changed[:2, 2].abs() > 1e-6).all() and changed[0, 0] == 0, "the first is no neighbour of the third"


def test_prefixes_of_answers_to_records_have_the_score_of_the_answer_cut_there():
    batch, judge = records(), reader()
    prefixes = judge.prefix_logits(batch)
    assert prefixes.shape == (3, 5)
    for t in range(5):
        cut = replace(batch, answer_ids=batch.answer_ids[:, : t + 1], answer_mask=batch.answer_mask[:, : t + 1])
        assert torch.equal(judge.sequence_logits(cut), prefixes[:, t])
    assert torch.allclose(prefixes[:, -1], judge.sequence_logits(batch), atol=1e-6)


@pytest.mark.parametrize("model", ["gpt2", "gemma"])
def test_it_begins_as_a_matcher_of_equal_tokens(model, monkeypatch):
    """Attention weights are read off by values that say which token they are of."""
    seen = []
    attend = F.scaled_dot_product_attention

    def spy(query, key, value, attn_mask):
        names = torch.eye(value.shape[1]).expand(len(value), -1, -1)
        seen.append(attend(query, key, names, attn_mask=attn_mask))
        return attend(query, key, value, attn_mask=attn_mask)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    judge, order = reader(model=model), torch.tensor([4, 2, 0, 3, 1])
    for context in (judge.question_context, judge.answer_context):
        torch.nn.init.zeros_(context.weight)
        torch.nn.init.zeros_(context.bias)
    asked = torch.arange(20, 25)[None]
    ones = torch.ones_like(asked)
    judge.read(Batch(asked, ones, asked[:, order], ones))
    said, backed = seen
    assert (said[0, :, 1:].argmax(1) == order.argsort()).all(), "each question token finds itself in the answer"
    assert (backed[0, :, 1:].argmax(1) == order).all()
    assert min(weights[0, :, 1:].max(1).values.min() for weights in seen) > 0.6


WRAPPED = {
    "embedding generator": EmbeddingGeneratorConfig(),
    "lora on the embedding": LoraConfig(target_modules=["wte"]),
    "a copy that is trained": LoraConfig(target_modules=["c_attn"], modules_to_save=["wte"]),
}


@pytest.mark.parametrize("config", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False", "ignore:`is_gradient_checkpointing`")
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_it_sees_by_the_frozen_table_whatever_adapter_is_around_it(config):
    batch = records()
    torch.manual_seed(0)
    expected = CrossReader.for_model(TINY_MODELS["gpt2"](), 9, 5).eval().sequence_logits(batch)
    tuned = get_peft_model(TINY_MODELS["gpt2"](), config)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    trainable = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
    torch.manual_seed(0)
    judge = CrossReader.for_model(tuned.get_base_model(), 9, 5).eval()
    assert torch.equal(judge.sequence_logits(batch), expected)
    judge.sequence_logits(batch).sum().backward()
    assert all(parameter.grad is None for parameter in tuned.parameters())
    assert [parameter for parameter in tuned.parameters() if parameter.requires_grad] == trainable


def test_the_table_is_neither_trained_nor_saved():
    judge = reader()
    table = TINY_MODELS["gpt2"]().get_input_embeddings().weight
    assert not any(tensor.shape == table.shape for tensor in [*judge.state_dict().values(), *judge.parameters()])
    file = io.BytesIO()
    torch.save(judge.state_dict(), file)
    again = reader(seed=1)
    again.load_state_dict(torch.load(io.BytesIO(file.getvalue())))
    assert torch.equal(again.sequence_logits(records()), judge.sequence_logits(records()))


def test_what_it_looks_up_does_not_count_as_read_by_the_model():
    model = TINY_MODELS["gpt2"]()
    judge = CrossReader.for_model(model, 9, 5)
    with Limits(TuningConfig(), model, ALONE) as limits:
        judge.sequence_logits(records())
        assert limits.tokens == 0
        model(torch.tensor([[5, 6]]))
    assert limits.tokens == 2


def test_the_scale_of_the_table_does_not_matter():
    torch.manual_seed(0)
    embedding = TINY_MODELS["gpt2"]().get_input_embeddings()
    small = torch.nn.Embedding.from_pretrained(0.01 * embedding.weight.detach() + 3)
    judges = []
    for table in (embedding, small):
        torch.manual_seed(0)
        judges.append(CrossReader(table).eval())
    first, second = (judge.sequence_logits(records()) for judge in judges)
    assert torch.allclose(first, second, atol=1e-3)


def test_it_learns_which_fields_are_said():
    """Records of three fields of two tokens; texts that say two of them, and half of the rows have a third."""
    judge = reader().train()
    optimizer = torch.optim.Adam(judge.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    fields = torch.tensor([[1, 1, 2, 2, 3, 3]])

    def batch(rows: int) -> tuple[Batch, torch.Tensor]:
        prompt = torch.randint(3, 97, (rows, 6), generator=generator)
        said = torch.rand(rows, 3, generator=generator) > 0.3
        other = torch.randint(3, 97, (rows, 6), generator=generator)
        answer = torch.where(said.repeat_interleave(2, dim=1), prompt, other)
        ones = torch.ones_like(prompt)
        return Batch(prompt, ones, answer, ones, None, fields.expand(rows, -1)), said.float()

    for _ in range(150):
        shown, said = batch(32)
        loss = F.binary_cross_entropy_with_logits(judge.read(shown).field_logits, said)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    shown, said = batch(300)
    right = (judge.eval().read(shown).field_logits > 0) == said.bool()
    assert right.float().mean() > 0.95
