"""What the discriminator is shown, its two losses and that of the fields, and the figures of how good it is."""

from __future__ import annotations

import math
import random
import threading
from collections import Counter
from dataclasses import replace
from functools import cache
from statistics import fmean

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gantune.data import Batch, EncodedPair, Pair, RecordQuestion, collate
from gantune.discriminators import CrossReader, Discriminator, Reading
from gantune.distributed import ALONE, DataParallel
from gantune.errors import UserError
from gantune.policy import Rollout
from gantune.trainer.config import GameConfig
from gantune.trainer.corrupting import Corruptor, build_corruptor
from gantune.trainer.discriminator_side import DiscriminatorSide
from gantune.trainer.negatives import answers_of, drawn_rows, stacked
from gantune.tuning import encode_with
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

NAMES, FOODS, AREAS = ("Ada", "Bo", "Cy", "Di", "Eve"), ("fish", "rice", "cake"), ("city", "hill")
FIELDS = [[("name", name), ("food", food), ("area", area)] for name in NAMES for food in FOODS for area in AREAS]
PAIRS = [
    Pair(RecordQuestion(fields), " has ".join(value for _, value in fields) + ".")
    for fields in (fields[: 3 - number % 2] for number, fields in enumerate(FIELDS))
]
TOKENIZER = tiny_tokenizer()
SETTINGS = {"template": "record", "max_prompt_length": 50, "max_completion_length": 30, "reward": "sequence"}
COMPARED = {"discriminator_loss": "bradley-terry", "max_discriminator_accuracy": 1.0}
CORRUPTED_ALONE = {"generated_negatives": False, "mismatched_negatives": False}


def config(**settings) -> GameConfig:
    return GameConfig(**SETTINGS | settings)


@cache
def encoded(pair: Pair) -> EncodedPair:
    return encode_with([pair], TOKENIZER, config())[0][0]


def batch_of(pairs=PAIRS[:4]) -> Batch:
    return collate([encoded(pair) for pair in pairs], 0)


def rollout_of(batch: Batch, first: int = 10) -> Rollout:
    """Answers of three tokens, of which row i has `first + i` as each."""
    answers = (first + torch.arange(len(batch)))[:, None].repeat(1, 3)
    return Rollout(
        batch.prompt_ids, batch.prompt_mask, answers, torch.ones_like(answers), batch.pairs, batch.prompt_fields,
        log_probs=torch.zeros(answers.shape), noise=None, temperature=1.0, samples_per_prompt=1, max_new_tokens=3,
    )  # fmt: skip


class Sums(Discriminator):
    """Scores by the mean ids of prompt and answer; keeps what it was shown, and its scores."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([0.03, -0.05]))
        self.shown: list[Batch] = []
        self.scores: list[list[float]] = []

    def prefix_logits(self, batch):
        prompt = (batch.prompt_ids * batch.prompt_mask).sum(1, keepdim=True) / batch.prompt_mask.sum(1, keepdim=True)
        answer = (batch.answer_ids * batch.answer_mask).cumsum(1) / batch.answer_mask.cumsum(1)
        return self.weights[0] * prompt + self.weights[1] * answer

    def sequence_logits(self, batch):
        logits = super().sequence_logits(batch)
        self.shown.append(batch)
        self.scores.append(logits.tolist())
        return logits


class SumsOfFields(Sums):
    """Also tells what it thinks of each field, by the mean id of its tokens."""

    def read(self, batch):
        fields = F.one_hot(batch.prompt_fields)[..., 1:].transpose(1, 2).float()
        means = (fields @ batch.prompt_ids.float()[..., None]).squeeze(-1) / fields.sum(2).clamp(min=1)
        return Reading(self.sequence_logits(batch), self.weights[0] * means - 1, (fields.sum(2) > 0).float())


def side(judge=None, per_token=False, corrupt=None, parallel=ALONE, **settings) -> DiscriminatorSide:
    return DiscriminatorSide(judge or Sums(), per_token, config(**settings), parallel, corrupt)


def corruptor(pairs=PAIRS, **settings) -> Corruptor:
    return Corruptor([pair.question for pair in pairs], TOKENIZER, config(**settings))


def softplus(number: float) -> float:
    return math.log1p(math.exp(number))


# ------------------------------------------------------------------------------------------------------ the losses


def test_true_answers_are_compared_row_by_row_with_each_kind():
    random.seed(1)
    judge, batch, rollout = Sums(), batch_of(), rollout_of(batch_of(PAIRS[8:16]), first=40)
    figures = side(judge, corrupt=corruptor(), **COMPARED).step(batch, rollout)
    true, generated, mismatched, corrupted = judge.shown
    assert torch.equal(true.answer_ids, batch.answer_ids)
    assert len(generated) == 4 and set(generated.answer_ids[:, 0].tolist()) < set(rollout.answer_ids[:, 0].tolist())
    assert torch.equal(mismatched.answer_ids, batch.answer_ids.roll(1, 0))
    assert torch.equal(corrupted.answer_ids, batch.answer_ids)
    assert all(one.question != other.question for one, other in zip(corrupted.pairs, batch.pairs, strict=True))
    real, *others = judge.scores
    losses = [sum(softplus(o - r) for r, o in zip(real, other, strict=True)) / 4 for other in others]
    squares = sum(score**2 for row in judge.scores for score in row) / 16
    expected = 0.5 * losses[0] + losses[1] + losses[2] + 1e-3 * squares
    assert figures["discriminator_loss"] == pytest.approx(expected, rel=1e-5)
    wins = [sum(r > o for r, o in zip(real, other, strict=True)) / 4 for other in others]
    names = ("generated", "mismatched", "corrupted")
    assert [figures[f"discriminator_accuracy_{name}"] for name in names] == wins and len(set(wins)) > 1
    assert figures["discriminator_accuracy"] == pytest.approx(sum(wins) / 3)
    assert "discriminator_accuracy_real" not in figures and figures["discriminator_grad_norm"] > 0


def test_sampled_and_replayed_answers_are_one_pool_of_rows():
    judge, batch = Sums(), batch_of()
    adversary = side(judge, mismatched_negatives=False, **COMPARED)
    new, old = rollout_of(batch_of(PAIRS[8:20]), 10), rollout_of(batch_of(PAIRS[20:28]), 60)
    adversary.remember(old)
    adversary.remember(new)
    seen = Counter()
    for _ in range(200):
        judge.shown.clear()
        adversary.step(batch, new)
        _, generated = judge.shown
        firsts = generated.answer_ids[:, 0].tolist()
        assert len(set(firsts)) == 4, "no row twice"
        seen.update(firsts)
    assert set(seen) == {*range(10, 22), *range(60, 68)}
    assert all(15 < count < 70 for count in seen.values()), "each row is drawn as often, 40 times on average"


def test_corrupted_records_join_what_is_not_real_in_the_binary_loss():
    judge, batch, rollout = Sums(), batch_of(), rollout_of(batch_of(PAIRS[8:16]))
    figures = side(judge, corrupt=corruptor(), max_discriminator_accuracy=1.0).step(batch, rollout)
    real, generated, mismatched, corrupted = judge.scores
    others = generated + mismatched + corrupted
    assert len(generated) == 8 and len(others) == 16, "all sampled answers, of however many questions"
    of_real = sum(0.9 * softplus(-r) + 0.1 * softplus(r) for r in real) / 4
    expected = 0.5 * (of_real + sum(map(softplus, others)) / 16)
    assert figures["discriminator_loss"] == pytest.approx(expected, rel=1e-5)
    right = [sum(r > 0 for r in real) / 4, sum(o < 0 for o in generated) / 8, sum(o < 0 for o in corrupted) / 4]
    assert [figures[f"discriminator_accuracy_{name}"] for name in ("real", "generated", "corrupted")] == right
    assert figures["discriminator_accuracy"] == pytest.approx((right[0] + (right[1] + right[2]) / 2) / 2)
    assert "discriminator_accuracy_mismatched" not in figures


@pytest.mark.parametrize("loss", ["binary", "bradley-terry"])
def test_fields_are_trained_by_themselves_the_unsaid_ones_weigh_three(loss):
    settings = {"discriminator_loss": loss, "max_discriminator_accuracy": 1.0, "mismatched_negatives": False}
    batch, rollout = batch_of(), rollout_of(batch_of())
    found = {}
    for judge in (Sums(), SumsOfFields()):
        random.seed(3)
        found[type(judge)] = side(judge, corrupt=corruptor(), **settings).step(batch, rollout)["discriminator_loss"]
    random.seed(3)
    if loss == "bradley-terry":
        answers_of(batch, rollout)
    corrupted, said = corruptor()(batch)
    assert 0 < said.sum() < said.numel()
    total = weights = 0.0
    with torch.no_grad():
        for part, target in ((batch, None), (corrupted, said)):
            reading = SumsOfFields().read(part)
            for row, field in reading.field_mask.nonzero().tolist():
                unsaid = target is not None and not target[row, field]
                logit, weight = reading.field_logits[row, field].item(), 3 if unsaid else 1
                total, weights = total + weight * softplus(logit if unsaid else -logit), weights + weight
    assert found[SumsOfFields] - found[Sums] == pytest.approx(total / weights, rel=1e-4)


def test_fields_are_trained_beside_every_prefix_too():
    judge = SumsOfFields()
    adversary = side(judge, True, corruptor(), reward="token", max_discriminator_accuracy=1.0, **CORRUPTED_ALONE)
    whole = adversary.step(batch_of(), None)["discriminator_loss"]
    without = side(Sums(), True, lambda batch: (judge.shown[1], None), reward="token", **CORRUPTED_ALONE)
    assert whole > without.step(batch_of(), None)["discriminator_loss"] + 0.1


class Peers:
    """Processes as threads: each value is given to all, and gradients are added up."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier, self.values = size, threading.Barrier(size, timeout=20), [None] * size

    def exchange(self, rank: int, value):
        self.values[rank] = value
        self.barrier.wait()
        values = list(self.values)
        self.barrier.wait()
        return values

    def __getitem__(self, rank: int) -> DataParallel:
        peers = self

        class Peer(DataParallel):
            def collect(self, value):
                return peers.exchange(self.rank, value)

            def sum_gradients(self, parameters):
                parameters = list(parameters)
                own = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
                of_all = peers.exchange(self.rank, own)
                for parameter, *gradients in zip(parameters, *of_all, strict=True):
                    parameter.grad = torch.stack(gradients).sum(0)

        return Peer(rank, self.size)


@pytest.mark.parametrize("loss", ["binary", "bradley-terry"])
@pytest.mark.parametrize(("rows", "size"), [(5, 2), (1, 2), (4, 3)])
def test_processes_take_the_step_of_one(loss, rows, size):
    """The first row alone has three fields, so that the processes know different numbers of them; two are alike."""
    batch = batch_of([PAIRS[0], PAIRS[1], *PAIRS[1::2]][:rows])
    random.seed(0)
    corrupted = corruptor()(batch)
    settings = {"discriminator_loss": loss, "max_discriminator_accuracy": 1.0, "generated_negatives": False}

    def stepped(parallel: DataParallel) -> tuple[dict[str, float], torch.Tensor]:
        judge = SumsOfFields()
        adversary = side(judge, corrupt=lambda batch: corrupted, parallel=parallel, **settings)
        adversary.hold_out(batch, rollout_of(batch))
        return adversary.step(batch, None), judge.weights.grad

    expected, gradient = stepped(ALONE)
    peers, found = Peers(size), {}
    threads = [
        threading.Thread(target=lambda rank=rank: found.update({rank: stepped(peers[rank])})) for rank in range(size)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == size
    for figures, own in found.values():
        assert figures == pytest.approx(expected, rel=1e-5)
        assert torch.allclose(own, gradient, rtol=1e-4, atol=1e-6)


# -------------------------------------------------------------------------------------- what is shown and measured


def test_held_out_answers_are_compared_by_kind_and_kept():
    judge = SumsOfFields()
    adversary = side(judge, corrupt=corruptor(), **COMPARED)
    adversary.hold_out(batch_of(PAIRS[8:12]), rollout_of(batch_of(PAIRS[8:12])))
    random.seed(0)
    figures = adversary.step(batch_of(), rollout_of(batch_of()))
    real, generated, corrupted = judge.scores[4:]
    for kind, scores in (("generated", generated), ("corrupted", corrupted)):
        wins = sum(r > o for r, o in zip(real, scores, strict=True)) / 4
        assert figures[f"held_out_discriminator_accuracy_{kind}"] == wins
    assert "held_out_discriminator_accuracy_real" not in figures
    again = side(SumsOfFields(), corrupt=corruptor(), **COMPARED)
    again.load_state_dict(adversary.state_dict())
    steps = []
    for each in (adversary, again):
        random.seed(1)
        steps.append(each.step(batch_of(), rollout_of(batch_of())))
    assert steps[0] == steps[1] and list(again.held_out) == ["real", "generated", "corrupted"]


def test_without_records_nothing_is_corrupted_and_nothing_new_is_told():
    figures = side(Sums()).step(batch_of(), rollout_of(batch_of()))
    accuracies = {"discriminator_accuracy", "discriminator_accuracy_real", "discriminator_accuracy_generated"}
    assert accuracies <= set(figures) and set(figures) - accuracies <= {"discriminator_loss", "discriminator_grad_norm"}


@pytest.mark.parametrize("settings", [{"corrupted_negatives": False}, {"blind_discriminator": True}])
def test_records_are_left_alone_where_that_is_asked(settings):
    adversary = side(Sums(), corrupt=corruptor(), **settings)
    assert adversary.corrupt is None
    assert build_corruptor([pair.question for pair in PAIRS], TOKENIZER, config(**settings)) is None


def test_mismatched_answers_alone_need_two_rows():
    judge = Sums()
    adversary = side(judge, generated_negatives=False)
    assert adversary.step(batch_of(PAIRS[:1]), None) == {"discriminator_loss": 0.0} and not judge.shown
    figures = adversary.step(batch_of(PAIRS[:2]), None)
    assert set(figures) >= {"discriminator_accuracy_real", "discriminator_accuracy_mismatched"}


@pytest.mark.parametrize("loss", ["binary", "bradley-terry"])
def test_a_mismatched_answer_is_never_a_true_one(loss):
    """Of five rows two have the question or the answer of the row before; of equal ones nothing is left."""
    ask, answer = [pair.question for pair in PAIRS], [pair.answer for pair in PAIRS]
    numbers = ((0, 0), (1, 1), (1, 2), (3, 2), (4, 4))
    batch = batch_of([Pair(ask[question], answer[said]) for question, said in numbers])
    judge, settings = Sums(), {"generated_negatives": False, "discriminator_loss": loss}
    figures = side(judge, max_discriminator_accuracy=1.0, **settings).step(batch, None)
    real, mixed = judge.scores[:2]
    asked, told = batch.select(torch.tensor([0, 1, 4])), batch.select(torch.tensor([4, 0, 3]))
    assert torch.equal(judge.shown[1].prompt_ids, asked.prompt_ids)
    assert torch.equal(judge.shown[1].answer_ids, told.answer_ids)
    if loss == "binary":
        of_real = sum(0.9 * softplus(-r) + 0.1 * softplus(r) for r in real) / 5
        expected = 0.5 * (of_real + sum(map(softplus, mixed)) / 3)
    else:
        true = [real[row] for row in (0, 1, 4)]
        assert figures["discriminator_accuracy"] == sum(t > m for t, m in zip(true, mixed, strict=True)) / 3
        squares = sum(score**2 for score in real + mixed) / 10
        expected = sum(softplus(m - t) for t, m in zip(true, mixed, strict=True)) / 3 + 1e-3 * squares
    assert figures["discriminator_loss"] == pytest.approx(expected, rel=1e-5)
    same = batch_of([PAIRS[0]] * 2)
    assert side(generated_negatives=False).step(same, None) == {"discriminator_loss": 0.0}


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(UserError, match=r"--discriminator-loss bradley-terry: whole answers .* --reward sequence"):
        side(per_token=True, **COMPARED)
    for settings in (CORRUPTED_ALONE, {"generated_negatives": False, "blind_discriminator": True}):
        with pytest.raises(UserError, match=r"--generated-negatives false: .* --mismatched-negatives true"):
            side(**settings).check_negatives()


def test_a_true_answer_is_compared_with_a_sampled_one_to_its_own_question_where_there_is_one():
    batch, twice = batch_of(), rollout_of(batch_of([pair for pair in PAIRS[:4] for _ in range(2)]))
    rollout, others = replace(twice, samples_per_prompt=2), rollout_of(batch_of(PAIRS[4:8]))
    judge, drawn = Sums(), Counter()
    adversary = side(judge, mismatched_negatives=False, replay_rollouts=0, **COMPARED)
    for _ in range(40):
        judge.shown.clear()
        adversary.step(batch, rollout)
        _, generated = judge.shown
        assert torch.equal(generated.prompt_ids, batch.prompt_ids)
        assert ((generated.answer_ids[:, 0] - 10) // 2).tolist() == [0, 1, 2, 3], "each question's own samples"
        drawn.update(generated.answer_ids[:, 0].tolist())
    assert len(drawn) == 8, "either of the two"
    assert answers_of(batch, others) is None and answers_of(batch.rows(0, 2), rollout) is None


def test_few_rows_are_drawn_again():
    rollout = rollout_of(batch_of(PAIRS[:2]))
    drawn = drawn_rows([rollout], 5)
    assert len(drawn) == 5 and set(drawn.answer_ids[:, 0].tolist()) == {10, 11}


def test_stacked_batches_are_padded_to_the_widest():
    long, short = batch_of(PAIRS[:2]), batch_of(PAIRS[1:2])
    plain = replace(rollout_of(short), prompt_fields=None)
    whole = stacked([long, plain])
    assert long.prompt_ids.shape[1] > short.prompt_ids.shape[1]
    assert torch.equal(whole.rows(0, 2).answer_ids, long.answer_ids)
    assert whole.prompt_ids[2][whole.prompt_mask[2].bool()].tolist() == short.prompt_ids[0].tolist()
    assert whole.answer_ids[2].tolist()[:4] == [10, 10, 10, 0] and whole.answer_mask[2].sum() == 3
    assert torch.equal(whole.prompt_fields[:2], long.prompt_fields) and not whole.prompt_fields[2].any()
    assert stacked([plain, plain]).prompt_fields is None


# ------------------------------------------------------------------------------------------------ corrupted records


def test_a_corrupted_record_keeps_the_answer_and_tells_its_fields():
    batch, corrupt = batch_of(), corruptor()
    changed, said = corrupt(batch)
    assert torch.equal(changed.answer_ids, batch.answer_ids) and torch.equal(changed.answer_mask, batch.answer_mask)
    assert said.shape == (4, max(len(pair.question.fields) for pair in changed.pairs))
    for row, (pair, (record, answer)) in enumerate(zip(batch.pairs, changed.pairs, strict=True)):
        expected = [float(field in pair.question.fields) for field in record.fields]
        assert said[row].tolist() == expected + [1.0] * (said.shape[1] - len(expected)) and answer == pair.answer
        expected, tokens = encoded(Pair(record, answer)), changed.prompt_mask[row].bool()
        assert changed.prompt_ids[row][tokens].tolist() == expected.prompt_ids
        assert changed.prompt_fields[row][tokens].tolist() == expected.prompt_fields


def test_the_global_random_numbers_say_how_a_record_is_corrupted():
    batch, found = batch_of(PAIRS[:1] * 40), []
    for seed in (0, 0, 1):
        random.seed(seed)
        found.append(corruptor()(batch)[0].pairs)
    assert found[0] == found[1] != found[2] and len({pair.question for pair in found[0]}) > 8


def test_a_corrupted_record_keeps_its_system_prompt():
    """Or the discriminator would know it by that."""
    pairs = [Pair(RecordQuestion(pair.question.fields, "Be brief."), pair.answer) for pair in PAIRS[:4]]
    batch = replace(batch_of(pairs), pairs=tuple(pairs))  # a record is equal to one with another system prompt
    assert {pair.question.system for pair in corruptor(pairs)(batch)[0].pairs} == {"Be brief."}


def test_without_fields_in_the_template_the_question_is_said_or_not():
    corrupt = corruptor(template="plain")
    changed, said = corrupt(batch_of())
    assert changed.prompt_fields is None and said.shape == (4, 1)
    expected = [
        set(corrupted.question.fields) <= set(pair.question.fields)
        for corrupted, pair in zip(changed.pairs, batch_of().pairs, strict=True)
    ]
    assert said[:, 0].bool().tolist() == expected


def test_long_prompts_are_cut_as_those_of_the_pairs_are():
    changed, _ = corruptor(max_prompt_length=12)(batch_of())
    assert changed.prompt_ids.shape[1] == 12 and changed.prompt_fields[0].tolist()[-5:] == [0] * 5


def test_only_records_that_differ_are_corrupted():
    questions = [pair.question for pair in PAIRS]
    assert isinstance(build_corruptor(questions, TOKENIZER, config()), Corruptor)
    assert build_corruptor([*questions, "Who is Ada?"], TOKENIZER, config()) is None
    assert build_corruptor([], TOKENIZER, config()) is None
    with pytest.raises(UserError, match="all records are like it"):
        build_corruptor([RecordQuestion([("name", "Ada")])] * 2, TOKENIZER, config())


def test_a_cross_reader_learns_to_tell_records_from_corrupted_ones():
    torch.manual_seed(0)
    random.seed(0)
    judge = CrossReader.for_model(TINY_MODELS["gpt2"](), 50, 30)
    adversary = side(judge, corrupt=corruptor(), discriminator_learning_rate=5e-3, **COMPARED, **CORRUPTED_ALONE)
    shown = [adversary.step(batch_of(random.sample(PAIRS, 16)), None) for _ in range(45)]
    won = [figures["discriminator_accuracy_corrupted"] for figures in shown]
    assert fmean(won[:5]) < 0.75 and fmean(won[-20:]) > 0.85
