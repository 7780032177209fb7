"""Rounds of the game: several clipped steps on one rollout, a schedule that begins anew, prompts without answers."""

from __future__ import annotations

import itertools
import math
import shutil

import pytest
import torch
from peft import LoraConfig
from torch import nn
from transformers import PrinterCallback, TrainerCallback

from gantune.data import Pair, RecordQuestion, load_pairs
from gantune.errors import UserError
from gantune.policy import Rollout
from gantune.seqgan import clipped_loss, kl_loss, weighted_loss
from gantune.trainer.arguments import LanguageGANConfig
from gantune.trainer.choices import choices
from gantune.trainer.language_gan import LanguageGAN
from gantune.trainer.rounds import Round
from gantune.trainer.unpaired import Unpaired
from tests.test_language_gan import QUIET

pytestmark = pytest.mark.usefixtures("one_thread")
PAIRS = load_pairs("mini-tofu")[:16]
PROMPTS = [pair.question for pair in load_pairs("mini-tofu")[40:70]]


def table(seed: int) -> torch.Tensor:
    """Logits of a policy of two tokens out of three, the second after each first one: `[1 + 3, 3]`."""
    return torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


SEQUENCES = list(itertools.product(range(3), repeat=2))


def log_probs(logits: torch.Tensor) -> torch.Tensor:
    """Of every sequence, `[9, 2]`."""
    rows = logits.log_softmax(dim=1)
    return torch.stack([torch.stack([rows[0, a], rows[1 + a, b]]) for a, b in SEQUENCES])


def test_at_ratio_1_the_clipped_gradient_is_the_policy_gradient():
    logits, advantages = table(0).requires_grad_(), torch.linspace(-1, 2, 9, dtype=torch.float64)[:, None].expand(9, 2)
    own = log_probs(logits)
    (clipped,) = torch.autograd.grad(clipped_loss(own, own, advantages, 0.2), logits, retain_graph=True)
    (plain,) = torch.autograd.grad(weighted_loss(own, advantages), logits)
    assert torch.allclose(clipped, plain, rtol=0, atol=1e-14)


def test_the_ratio_corrects_for_the_policy_that_sampled():
    """Without a clip, summed over all sequences with the probability of the old policy, it is the new one's gradient.

    With one number a sequence the product of ratios would be exact; for tokens it is, where only the last one matters.
    """
    new, old = table(1).requires_grad_(), table(2)
    with torch.no_grad():
        new[0] = old[0]  # the first token is as likely as before: the ratio of its prefix is 1
    worth = torch.tensor([float(a == b) for a, b in SEQUENCES], dtype=torch.float64)
    behaviour = log_probs(old)
    probability = behaviour.sum(dim=1).exp()
    weights = torch.stack([torch.zeros(9, dtype=torch.float64), worth * probability], dim=1)
    loss = clipped_loss(log_probs(new), behaviour, weights, epsilon=1e9)
    (gradient,) = torch.autograd.grad(loss, new)
    expected_worth = (log_probs(new).sum(dim=1).exp() * worth).sum()
    (exact,) = torch.autograd.grad(-expected_worth, new)
    assert torch.allclose(gradient[1:], exact[1:], rtol=0, atol=1e-14)


@pytest.mark.parametrize(("ratio", "weight", "slope"), [(1.5, 1, 0), (1.1, 1, 1.1), (0.5, 1, 0.5), (0.5, -1, 0),
                                                        (0.9, -1, -0.9), (1.5, -1, -1.5)])  # fmt: skip
def test_a_step_beyond_the_clip_gains_nothing(ratio: float, weight: float, slope: float):
    new = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    loss = clipped_loss(new, torch.zeros(1, 1, dtype=torch.float64), torch.tensor([[float(weight)]]), 0.2)
    loss.backward()
    assert new.grad.item() == pytest.approx(-slope, abs=1e-12)


def test_the_kl_loss_is_the_divergence():
    """Of the first token, whose distribution is the same in every sequence."""
    new, old = log_probs(table(3)), log_probs(table(4))
    first = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(9, 2)
    estimate = sum(new[i].sum().exp() * kl_loss(new[i : i + 1], old[i : i + 1], first[:1]) for i in range(9))
    p, q = table(3)[0].log_softmax(0), table(4)[0].log_softmax(0)
    assert estimate.item() == pytest.approx((p.exp() * (p - q)).sum().item(), abs=1e-12)


GAME = {
    "num_train_epochs": 4,
    "per_device_train_batch_size": 4,
    "max_prompt_length": 32,
    "max_completion_length": 8,
    "warmup_share": 0.5,
    "adversarial_every": 1,
    "steps_per_generation": 4,
    "prompts_per_step": 3,
    "num_generations": 2,
    "discriminator_steps": 3,
    "discriminator_warmup_steps": 2,
    "discriminator_warmup_rollouts": 1,
    "reward": "sequence",
    "beta": 0.1,
}


def game(held_out: list[Pair] | None = None, **settings) -> LanguageGAN:
    """With the prompts, or where pairs are held out on the questions of the pairs."""
    unpaired = None if held_out else Unpaired(PROMPTS)
    gan = LanguageGAN("mini", LanguageGANConfig(**QUIET | GAME | settings), PAIRS, held_out, unpaired=unpaired)
    gan.remove_callback(PrinterCallback)
    return gan


def test_a_round_asks_the_prompts_once_and_each_step_takes_its_share(monkeypatch):
    gan = game()
    asked, taught, shares = [], [], []
    sample, judge, step = gan.sample, gan.discriminator_step, gan.generator_step
    monkeypatch.setattr(gan, "sample", lambda batch, **kw: asked.append(batch) or sample(batch, **kw))
    monkeypatch.setattr(
        gan, "discriminator_step", lambda batch, rollout: taught.append((batch, rollout)) or judge(batch, rollout)
    )
    monkeypatch.setattr(gan, "generator_step", lambda *given: shares.append(given) or step(*given))
    gan.train()
    assert gan.state.global_step == 16 and len(shares) == 8  # of them half are adversarial: two rounds of four
    assert [len(batch) for batch in asked] == [12, 12, 12]  # the discriminator's warm-up, and two rounds of 4 times 3
    assert len(taught) == 2 + 2 * 3
    assert all(pair in PAIRS for batch, _ in taught for pair in batch.pairs)
    questions = [pair.question for _, _, questions, _ in shares[:4] for pair in questions.pairs]
    assert questions == [pair.question for pair in asked[1].pairs] and set(questions) <= set(PROMPTS)
    assert all(len(share.rollout) == 3 * 2 == len(share.rewards) for *_, share in shares)
    first, later = (
        row for row in gan.state.log_history if row.get("phase") == "adversarial" and row["step"] in (9, 11)
    )
    assert first["kl_to_warmup"] == pytest.approx(0, abs=1e-9) and first["discriminator_loss"] > 0
    assert "discriminator_loss" not in later


@pytest.mark.parametrize("prompts", [True, False])
def test_samples_are_scored_as_they_were_drawn_and_true_answers_with_the_dropout_of_the_adapter(monkeypatch, prompts):
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, lora_dropout=0.5)
    args = LanguageGANConfig(**QUIET | GAME | {"beta": 0.0} | ({} if prompts else {"steps_per_generation": 1}))
    gan = LanguageGAN("mini", args, PAIRS, unpaired=Unpaired(PROMPTS) if prompts else None, peft_config=lora)
    gan.remove_callback(PrinterCallback)
    distances, scores = [], []
    loss, score = gan._policy_loss, gan.policy.score

    def noted_loss(log_probs, rollout, weights):
        counted = rollout.answer_mask.bool()
        distances.append((log_probs - rollout.log_probs)[counted].abs().max().item())
        return loss(log_probs, rollout, weights)

    def noted_score(batch, **more):
        dropped = any(m.training for m in gan.model.modules() if isinstance(m, nn.Dropout) and m.p == 0.5)
        scores.append((torch.is_grad_enabled(), dropped))
        return score(batch, **more)

    monkeypatch.setattr(gan, "_policy_loss", noted_loss)
    monkeypatch.setattr(gan.policy, "score", noted_score)
    gan.train()
    of_steps = torch.tensor(distances).reshape(8, -1).amax(dim=1)
    of_first, later = (of_steps[::4], of_steps[1::4]) if prompts else (of_steps, None)
    assert of_first.max() < 1e-4, "no weight has changed since: the ratio is 1"
    assert later is None or later.min() > 1e-3
    assert {dropped for learns, dropped in scores if learns} == {True}
    assert not any(m.training for m in gan.model.modules() if isinstance(m, nn.Dropout))


def test_the_schedule_begins_anew():
    gan = game(learning_rate=4e-3, adversarial_learning_rate=1e-3)
    gan.train()
    rates = [row["learning_rate"] for row in gan.state.log_history if "loss" in row]
    assert rates[:8] == pytest.approx([4e-3 * (8 - step) / 8 for step in range(8)])
    assert rates[8:] == pytest.approx([1e-3 * (8 - step) / 8 for step in range(8)])


def test_a_constant_reward_is_the_control_where_rewards_count_within_a_question():
    lora = {"generator": "lora", "lora_dropout": 0.1, "adversarial_learning_rate": 1e-3, "beta": 0.0}
    constant = game(**lora, reward="constant", advantage="group-norm")
    control = game(**lora, adversarial_every=0)
    for gan in (constant, control):
        gan.train()
    assert [row.get("phase") for row in constant.state.log_history].count("adversarial") == 8
    assert all(torch.equal(*both) for both in zip(constant.parameters, control.parameters, strict=True))


@pytest.mark.parametrize("held_out", [None, PAIRS[:2]])
def test_without_adversarial_steps_all_are_likelihood(held_out):
    gan = game(held_out, adversarial_every=0, adversarial_learning_rate=1e-3)
    gan.train()
    assert {row["phase"] for row in gan.state.log_history if "loss" in row} == {"likelihood"}
    assert not gan.adversary.held_out, "no answer is sampled"


class _Interrupt(TrainerCallback):
    """Ctrl-C in a step."""

    def __init__(self, gan: LanguageGAN, step: int) -> None:
        self.gan, self.step = gan, step

    def on_step_begin(self, args, state, control, **kwargs):
        self.gan.interrupts.asked |= state.global_step == self.step - 1


def test_a_round_that_is_cut_in_two_goes_on_to_the_bit(tmp_path):
    whole = game()
    whole.train()
    kept = {"save_strategy": "steps", "save_steps": 2, "output_dir": str(tmp_path)}
    cut = game(**kept)
    cut.add_callback(_Interrupt(cut, 10))
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    assert cut.state.global_step == 10  # in the midst of the first round
    shutil.copytree(tmp_path, tmp_path / "again")
    resumed = game(**kept)
    resumed.train(resume_from_checkpoint=True)
    cut.args.output_dir = str(tmp_path / "again")
    cut.train(resume_from_checkpoint=True)  # in the same object
    for gone_on in (resumed, cut):
        assert all(torch.equal(*both) for both in zip(whole.parameters, gone_on.parameters, strict=True))
        assert whole.state.global_step == gone_on.state.global_step
        assert len(whole.adversary.replay) == len(gone_on.adversary.replay)


def test_a_round_goes_on_where_the_model_is():
    """A checkpoint is read on the CPU; the device `meta` stands for another one."""
    ids, figures = torch.ones(4, 3, dtype=torch.int64), torch.zeros(4, 3)
    rollout = Rollout(ids, ids, ids, ids, log_probs=figures, noise=None, temperature=1.0, samples_per_prompt=2,
                      max_new_tokens=3)  # fmt: skip
    saved = Round("cpu")
    saved.begin(rollout, figures[:, 0], figures)
    for device in ("meta", "cpu"):
        again = Round(device)
        again.load_state_dict(saved.state_dict())
        share = again.share(1, 2)
        assert {part.device.type for part in (share.rollout.answer_ids, share.rewards, share.reference)} == {device}


def test_answers_without_questions_need_a_blind_discriminator():
    with pytest.raises(UserError, match="--blind-discriminator"):
        LanguageGAN("mini", LanguageGANConfig(**QUIET | GAME), PAIRS, unpaired=Unpaired(PROMPTS, ["An answer."]))


def test_what_the_discriminator_chooses_is_measured_before_it_is_a_reward(monkeypatch):
    """The check draws nothing that the game draws, and counts the answers that have the highest score."""
    held_out = [Pair("Who?", "the true answer"), Pair("What?", "another one")]
    gan, plain = game(held_out), game(held_out)
    monkeypatch.setattr(plain, "_choices", dict)
    plain.train()
    measured, choices = [], gan._choices
    worse = {"chosen_by_discriminator": -1.0}
    monkeypatch.setattr(gan, "_choices", lambda: measured.append(choices() | worse) or measured[-1])
    gan.train()
    assert all(torch.equal(*both) for both in zip(gan.parameters, plain.parameters, strict=True))
    (found,) = measured
    last = [row for row in gan.state.log_history if row.get("phase") == "discriminator"][-1]
    assert found.items() <= last.items() and set(found) == {
        "chosen_by_discriminator", "chosen_by_consensus", "chosen_at_random"
    }  # fmt: skip
    assert "is worth -1.000" in last["warnings"][0]


def test_choices_are_worth_what_is_chosen():
    pairs = [Pair("who", "the true answer")] * 2
    texts = ["the true answer", "quite other words"] * 2
    assert choices(pairs, texts, [1.0, 0.0] * 2)["chosen_by_discriminator"] == 1
    assert choices(pairs, texts, [0.0, 1.0] * 2) == {
        "chosen_by_discriminator": 0, "chosen_by_consensus": 1, "chosen_at_random": 0.5
    }  # fmt: skip
    assert choices([Pair("who", "")], texts[:2], [0.0, 1.0]) == {}
    record = [Pair(RecordQuestion([("name", "Ann"), ("trade", "baker")]), "")]
    found = choices(record, ["Ann is a baker.", "Ann sings.", "Bob sings."], [1.0, 2.0, 3.0])
    assert found["chosen_by_discriminator"] == 0 and found["chosen_at_random"] == 0.5
