"""Training on questions without answers and answers without questions."""

from __future__ import annotations

import pytest
import torch

from baselines.self_training import SelfTrainingConfig
from gantune.data import Pair, RecordQuestion
from gantune.discriminators import Blind, CausalCNN
from gantune.errors import UserError
from gantune.trainer.arguments import LanguageGANConfig
from gantune.trainer.language_gan import LanguageGAN
from gantune.trainer.self_training import SelfTraining
from gantune.trainer.unpaired import Unpaired, UnpairedBatches
from tests.test_language_gan import QUIET, trained
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

PAIRS = [Pair(f"who wrote book {i}", f"author {i} wrote it") for i in range(4)]
UNPAIRED = Unpaired([f"who wrote book {i}" for i in range(10, 16)], [f"author {i} wrote it" for i in range(20, 25)])


def build(kind=LanguageGAN, unpaired=UNPAIRED, **settings) -> LanguageGAN:
    own = {key: settings.pop(key) for key in ("decoding", "share") if key in settings}
    defaults = dict(num_train_epochs=2, per_device_train_batch_size=2, max_completion_length=6, warmup_share=0.0,
                    adversarial_every=1, validation_share=0.0, discriminator_warmup_steps=1, blind_discriminator=True,
                    )  # fmt: skip
    args = LanguageGANConfig(**QUIET | defaults | settings)
    return kind(TINY_MODELS["gpt2"](), args, PAIRS, processing_class=tiny_tokenizer(), unpaired=unpaired, **own)


def test_adversarial_steps_ask_the_unpaired_questions_and_show_the_unpaired_answers(monkeypatch):
    gan, asked, real = build(), [], []
    sample, judge = gan.sample, gan.adversary.step
    monkeypatch.setattr(gan, "sample", lambda batch, **o: asked.append(batch) or sample(batch, **o))
    monkeypatch.setattr(gan.adversary, "step", lambda batch, rollout: real.append(batch) or judge(batch, rollout))
    history = trained(gan)
    questions = [pair.question for batch in asked for pair in batch.pairs]
    answers = [pair.answer for batch in real for pair in batch.pairs]
    assert set(questions) <= set(UNPAIRED.questions) and set(answers) <= set(UNPAIRED.answers)
    assert all(row["likelihood"] > 0 for row in history if row["phase"] == "adversarial")


@pytest.mark.parametrize("reward", ["token", "sequence", "monte-carlo", "consensus", "consensus*sequence"])
@pytest.mark.parametrize("objective", ["policy-gradient", "best-of-k", "weighted"])
def test_every_objective_trains_by_every_reward_on_unpaired_data(objective, reward):
    gan = build(objective=objective, reward=reward, num_train_epochs=1, search_completions=1)
    before = [parameter.detach().clone() for parameter in gan.parameters]
    rows = trained(gan)
    assert any(not torch.equal(old, new) for old, new in zip(before, gan.parameters, strict=True))
    assert all(("discriminator_loss" in row) == (reward != "consensus") for row in rows)


def test_best_of_k_goes_down_the_likelihood_of_the_selected_answers():
    def reward(questions, answers, rollout):
        return torch.arange(len(answers), dtype=torch.float32)

    gan = build(objective="best-of-k", likelihood_weight=0.0, num_generations=3, adversarial_weight=0.5)
    gan.reward = reward
    asked = gan.unpaired.questions(0)
    rollout = gan.sample(asked)
    best = rollout.select(torch.tensor([2, 5]))
    log_probs = gan.policy.score(best, noise=best.noise)
    loss = -0.5 * log_probs.sum() / best.answer_mask.sum()
    expected = torch.autograd.grad(loss, gan.parameters)
    figures = gan.generator_step(gan.unpaired.answers(0), rollout, asked)
    assert figures["policy_gradient"] == pytest.approx(loss.item(), rel=1e-5)
    for parameter, gradient in zip(gan.parameters, expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-6)


def test_the_likelihood_of_unpaired_answers_is_that_after_the_empty_question():
    gan = build(unpaired_likelihood_weight=0.3, warmup_share=1.0)
    batch, gan.state.global_step = gan.unpaired.answers(0), 1
    answers = gan.unpaired.answers(1)
    gan.sampler.noise = lambda size: None
    losses = dict(gan.likelihood_losses(batch))
    log_probs = gan.policy.score(answers)
    expected = -0.3 * log_probs.sum() / answers.answer_mask.sum()
    assert losses["unpaired_likelihood"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert answers.pairs[0].question == ""
    row = trained(gan)[0]
    assert row["phase"] == "likelihood" and row["loss"] > 0


def test_a_blind_discriminator_sees_no_question():
    torch.manual_seed(0)
    inner, gan = CausalCNN(vocab_size=500).eval(), build()
    blind = Blind(inner, [3, 4])
    batch = gan.sample(gan.unpaired.questions(0))
    other = type(batch)(**{**vars(batch), "prompt_ids": batch.prompt_ids.flip(0)})
    assert not torch.allclose(inner.prefix_logits(batch), inner.prefix_logits(other))
    assert torch.equal(blind.prefix_logits(batch), blind.prefix_logits(other))
    assert torch.equal(blind.sequence_logits(batch), blind.sequence_logits(other))


def test_batches_go_by_number_and_pass_through_all_rows():
    gan = build()
    batches = gan.unpaired
    asked = [pair.question for number in range(3) for pair in batches.questions(number).pairs]
    assert sorted(asked) == sorted(UNPAIRED.questions)
    again = UnpairedBatches(UNPAIRED, gan.tokenizer, gan.args)
    assert torch.equal(batches.answers(7).answer_ids, again.answers(7).answer_ids)


def test_questions_alone_are_enough_and_records_among_them_have_their_fields():
    record = RecordQuestion([("name", "the mill"), ("food", "french")])
    config = LanguageGANConfig(**QUIET | {"per_device_train_batch_size": 2, "template": "record"})
    batches = UnpairedBatches(Unpaired([record, "who wrote it"]), tiny_tokenizer(), config)
    assert not batches.answered
    batch = batches.questions(0)
    row = [pair.question for pair in batch.pairs].index(record)
    assert batch.pairs[row].question.fields == record.fields and batch.answer_ids.shape == (2, 0)
    ids = config.prompt_template().prompt_ids(record, tiny_tokenizer())
    fields = config.prompt_template().prompt_fields(record, tiny_tokenizer())
    assert batch.prompt_ids[row, -len(ids) :].tolist() == ids
    assert batch.prompt_fields[row, -len(ids) :].tolist() == fields and set(fields) == {0, 1, 2}
    assert not batch.prompt_fields[1 - row].any()
    assert len(batches.questions(1, 5)) == 5 and len(batches.tokens()) == 2


def test_self_training_asks_questions_alone():
    trainer = build(SelfTraining, Unpaired(UNPAIRED.questions), decoding="greedy", share=0.5, warmup_share=1.0)
    assert trained(trainer) and len(trainer.answers) == len(UNPAIRED.questions)


def test_what_unpaired_data_need_is_told_in_one_line():
    with pytest.raises(UserError, match="--blind-discriminator false: unpaired answers have no questions"):
        build(blind_discriminator=False)
    with pytest.raises(UserError, match="unpaired questions: expected at least one string, got an empty list"):
        build(unpaired=Unpaired([], ["ann"]))
    with pytest.raises(UserError, match="unpaired answers: expected a list of strings, got str"):
        build(unpaired=Unpaired(["who"], "ann"))
    with pytest.raises(UserError, match="unpaired questions, row 1: expected a string, got Pair"):
        build(unpaired=Unpaired(["who", PAIRS[0]], ["ann"]))


def test_self_training_learns_its_own_answers_to_the_unpaired_questions_from_its_share_on(monkeypatch):
    trainer = build(SelfTraining, decoding="greedy", share=0.5, warmup_share=1.0, unpaired_likelihood_weight=1.0)
    learned, chosen = [], trainer.unpaired_answers
    monkeypatch.setattr(trainer, "unpaired_answers", lambda step: learned.append(chosen(step)) or learned[-1])
    made, decode = [], trainer.model.generate
    monkeypatch.setattr(trainer.model, "generate", lambda *a, **k: made.append(len(learned)) or decode(*a, **k))
    trainer.train()
    assert [answers is None for answers in learned] == [True, True, False, False]
    assert set(made) == {2}  # made once, before the third step
    assert {pair.question for batch in learned[2:] for pair in batch.pairs} <= set(UNPAIRED.questions)
    with pytest.raises(UserError, match="--self-training-share 2: expected between 0 and 1"):
        SelfTrainingConfig(self_training_share=2)
