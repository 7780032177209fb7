"""Health of adversarial training: the figures by hand, the warnings, the plot."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest
import torch

from gantune.diagnostics import HealthMonitor, kl_estimate, plot_health, rollout_health
from gantune.diagnostics.health import ROWS_RUNNING
from gantune.errors import UserError
from gantune.trainer.arguments import LanguageGANConfig
from tests.enumeration import VOCABULARY, TabularPolicy, every_answer

EOS, PAD = 9, 0
LN2 = math.log(2)


# ---- Figures of a rollout


def four_answers(**changes) -> dict:
    """Two questions, two answers each, of 2, 1, 3 and 2 tokens; the first two end, the third and fourth do not."""
    arguments = {
        "rollout_rewards": torch.tensor([1.0, 1.0, 0.0, 2.0], dtype=torch.float64),
        "answer_ids": torch.tensor([[5, EOS, PAD], [EOS, PAD, PAD], [5, 6, 7], [5, 6, PAD]]),
        "answer_mask": torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 0]]),
        "log_probs": -LN2 * torch.tensor([[1, 1, 0], [2, 0, 0], [1, 2, 1], [4, 4, 0]], dtype=torch.float64),
        "samples_per_prompt": 2,
        "eos_token_id": EOS,
    }
    return arguments | changes


def test_figures_of_a_rollout():
    got = rollout_health(**four_answers())
    assert got == {
        "reward": 1.0,
        "reward_std": math.sqrt(0.5),
        "no_spread_share": 0.5,  # the first question's samples both got 1
        "entropy": pytest.approx(2 * LN2, rel=1e-15),  # 16 bits in 8 tokens
        "answer_length": 2.0,
        "ended": 0.5,
        "distinct_answers": 1.0,
        "most_common_answer": 0.25,
    }


def test_a_reward_a_token_counts_as_its_mean_over_the_answer():
    padding = math.nan
    rewards = torch.tensor([[1, 3, padding], [2, padding, padding], [0, 0, 3], [4, 6, padding]], dtype=torch.float64)
    got = rollout_health(**four_answers(rollout_rewards=rewards))  # 2, 2, 1 and 5
    assert (got["reward"], got["reward_std"], got["no_spread_share"]) == (2.5, 1.5, 0.5)


def test_one_float32_reward_on_every_token_is_one_reward_at_any_length():
    got = rollout_health(**four_answers(rollout_rewards=torch.full((4, 3), 0.1)))
    assert got["no_spread_share"] == 1 and got["reward_std"] == 0


def test_distinct_answers_do_not_see_the_padding():
    ids = torch.tensor([[5, 6, 1], [5, 6, 2], [5, 6, 3], [5, 7, 4]])
    mask = torch.tensor([[1, 1, 0]] * 3 + [[1, 1, 1]])
    got = rollout_health(**four_answers(answer_ids=ids, answer_mask=mask))
    assert (got["distinct_answers"], got["most_common_answer"]) == (0.5, 0.75)


def test_what_one_sample_one_question_or_one_answer_cannot_tell():
    one_sample = rollout_health(**four_answers(samples_per_prompt=1))
    assert one_sample["no_spread_share"] is None and one_sample["most_common_answer"] == 0.25
    one_question = rollout_health(**four_answers(samples_per_prompt=4))
    assert one_question["most_common_answer"] is None and one_question["no_spread_share"] == 0
    tensors = {key: value[:1] for key, value in four_answers().items() if isinstance(value, torch.Tensor)}
    one_answer = rollout_health(**tensors, samples_per_prompt=1, eos_token_id=EOS)
    assert {key for key, value in one_answer.items() if value is None} == {
        "reward_std",
        "no_spread_share",
        "most_common_answer",
    }


def test_entropy_of_answers_in_their_exact_proportions():
    """Tokens with probability 1/2, 1/4, 1/4, each as often as that: the entropy is 1.5 bits."""
    ids = torch.tensor([[5], [5], [6], [7]])
    log_probs = torch.tensor([[0.5], [0.5], [0.25], [0.25]], dtype=torch.float64).log()
    got = rollout_health(torch.zeros(4), ids, torch.ones_like(ids), log_probs, 4, EOS)
    assert got["entropy"] == pytest.approx(1.5 * LN2, rel=1e-15)


def test_figures_of_a_rollout_are_plain_numbers_without_a_graph():
    log_probs = four_answers()["log_probs"].float().requires_grad_()
    got = rollout_health(**four_answers(log_probs=log_probs))
    assert all(type(value) is float for value in got.values())


# ---- KL


def test_kl_of_two_tokens_by_hand():
    """d = ln 2 gives 1/2 - 1 + ln 2, d = -ln 2 gives 2 - 1 - ln 2; the third token is padding."""
    base = torch.tensor([[-1.0, -2.0, -3.0]], dtype=torch.float64)
    log_probs = base + torch.tensor([[LN2, -LN2, 5]], dtype=torch.float64)
    for mask, expected in (([1, 0, 0], LN2 - 0.5), ([0, 1, 0], 1 - LN2), ([1, 1, 0], 0.25)):
        assert kl_estimate(log_probs, base, torch.tensor([mask])) == pytest.approx(expected, rel=1e-14)
    assert kl_estimate(base, base, torch.tensor([[1, 1, 1]])) == 0
    tiny = kl_estimate(base.float() + 1e-4, base.float(), torch.tensor([[1, 0, 0]]))
    assert tiny == pytest.approx(0.5e-8, rel=1e-2)  # d^2 / 2, not lost to rounding


def test_kl_estimate_is_unbiased():
    """Over all answers, the estimate's expectation is the exact KL: between sequences, and token by token."""
    answers, policy, base = every_answer(), TabularPolicy(seed=0), TabularPolicy(seed=1)
    with torch.no_grad():
        log_probs, base_log_probs = (p.token_log_probs(answers.answer_ids) for p in (policy, base))
    mask = answers.answer_mask
    log_probability = (log_probs * mask).sum(dim=1)
    probability = log_probability.exp()
    assert probability.sum().item() == pytest.approx(1, rel=1e-12)
    exact = (probability * (log_probability - (base_log_probs * mask).sum(dim=1))).sum().item()

    rows = range(len(answers))
    estimates = [kl_estimate(log_probs[[i]], base_log_probs[[i]], mask[[i]]) for i in rows]
    assert min(estimates) >= 0
    expected = sum(p * k * n for p, k, n in zip(probability.tolist(), estimates, mask.sum(1).tolist(), strict=True))
    assert expected == pytest.approx(exact, rel=1e-12)

    with torch.no_grad():
        first, base_first = (p.logits[:1].log_softmax(dim=1) for p in (policy, base))
    exact = (first.exp() * (first - base_first)).sum().item()
    token = torch.ones(1, 1, dtype=torch.long)
    estimates = [kl_estimate(first[:, [v]], base_first[:, [v]], token) for v in range(VOCABULARY)]
    expected = sum(p * k for p, k in zip(first[0].exp().tolist(), estimates, strict=True))
    assert expected == pytest.approx(exact, rel=1e-12)


# ---- Warnings

LIMIT = 40
HEALTHY = {
    "phase": "adversarial",
    "reward": 0.1,
    "reward_std": 0.2,
    "no_spread_share": 0.5,
    "entropy": 1.0,
    "kl": 0.1,
    "answer_length": 15.0,
    "ended": 0.9,
    "distinct_answers": 0.8,
    "most_common_answer": 0.1,
    "discriminator_accuracy": 0.8,
}
FAILURES = {
    "no spread": ({"no_spread_share": 0.96}, "96%", "--num-generations"),
    "no spread, one sample": ({"no_spread_share": None, "reward_std": 1e-7}, "1e-07", "--num-generations"),
    "entropy": ({"entropy": 0.19}, "0.19 nats a token from 1 ", "--likelihood-weight"),
    "discriminator": ({"discriminator_accuracy": 0.994}, "99.4%", "--discriminator-learning-rate"),
    "lengths": (
        {"answer_length": 38.0, "ended": 0.1},
        "38.0 of 40 tokens long with 10% ended",
        "--max-completion-length",
    ),
    "shrinking": ({"answer_length": 7.4}, "to 7.4 tokens from 15.0", "--adversarial-weight"),
    "one answer": ({"most_common_answer": 1.0}, "100%", "--temperature"),
}
every_failure = pytest.mark.parametrize(("change", "figure", "option"), FAILURES.values(), ids=FAILURES)


def told(changes: list[dict]) -> list[list[str]]:
    """New warnings at each step of a run that begins with a healthy step."""
    monitor = HealthMonitor(LIMIT)
    rows = [HEALTHY | change | {"step": step} for step, change in enumerate([{}, *changes], start=1)]
    warnings = [monitor.observe(row) for row in rows]
    assert monitor.warnings == [warning for new in warnings for warning in new]
    return warnings


@every_failure
def test_a_failure_is_told_once_at_its_third_row(change, figure, option):
    *before, third, fourth = told([change] * 4)
    assert ROWS_RUNNING == 3 and not any(before) and not fourth
    (warning,) = third
    assert warning.startswith("step 4: ") and figure in warning and option in warning
    assert "\n" not in warning and ". " not in warning


@every_failure
def test_two_rows_that_fail_are_not_told(change, figure, option):
    assert not any(told([change, change, {}, change, change, {}]))


@every_failure
def test_a_second_spell_of_a_failure_is_not_told_again(change, figure, option):
    assert sum(map(len, told([change] * 3 + [{}] * 2 + [change] * 3))) == 1


@every_failure
def test_every_option_of_a_warning_is_one_of_the_settings(change, figure, option):
    (warning,) = told([change] * 3)[-1]
    options = {name.replace("-", "_") for name in re.findall(r"--([\w-]+)", warning)}
    assert options and options <= {field.name for field in dataclasses.fields(LanguageGANConfig)}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"no_spread_share": 0.89, "reward_std": 0.0},  # with several samples the share decides
        {"no_spread_share": None, "reward_std": 0.01},
        {"entropy": 0.2},
        {"discriminator_accuracy": 0.98},
        {"answer_length": 40.0, "ended": 0.2},
        {"answer_length": 37.9, "ended": 0.0},
        {"answer_length": 7.6},
        {"most_common_answer": 0.97},
        {key: None for key in HEALTHY if key != "phase"},
    ],
    ids=str,
)
def test_a_healthy_run_is_left_alone(change):
    assert not any(told([change] * 10))
    missing = {key: value for key, value in (HEALTHY | change).items() if value is not None}
    monitor = HealthMonitor(LIMIT)
    assert not any(monitor.observe({"step": step} | missing) for step in range(10))


def test_answers_that_ran_to_the_limit_at_first_may_shrink():
    monitor = HealthMonitor(LIMIT)
    rows = [{"answer_length": 40.0, "ended": 0.2}, *[{"answer_length": 9.0, "ended": 1.0}] * 5]
    assert not any(monitor.observe(HEALTHY | row | {"step": step}) for step, row in enumerate(rows))


def test_rows_of_other_phases_and_unmeasured_ones_neither_confirm_nor_clear():
    sick = {"discriminator_accuracy": 1.0}
    others = [sick | {"phase": "discriminator"}] * 5 + [{"phase": "likelihood"}]
    assert not any(told(others))
    unmeasured = {"discriminator_accuracy": None}
    assert [len(new) for new in told([sick, {"phase": "likelihood"}, sick, unmeasured, sick])] == [0] * 5 + [1]


def test_entropy_is_compared_with_the_first_adversarial_step():
    changes = [{"entropy": 4.0}, *[{"entropy": 0.5}] * 5]
    assert not any(told(changes))  # half of the first, though an eighth of the highest


def test_several_failures_are_told_side_by_side():
    both = {"discriminator_accuracy": 1.0, "no_spread_share": 1.0}
    assert len(told([both] * 3)[-1]) == 2


# ---- Plot


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the figures that are saved, by title; a second axis has none."""
    from matplotlib.figure import Figure

    axes, savefig = {}, Figure.savefig

    def keep(figure, *args, **kwargs):
        axes.update({panel.get_title(loc="left"): panel for panel in figure.axes})
        savefig(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return axes


def check_picture(path) -> None:
    from matplotlib.image import imread

    pixels = imread(path)
    assert pixels.shape[1] == 1200 and len(np.unique(pixels[..., 0])) > 20


def lines(panel) -> dict:
    """Steps and values of each line that has a name."""
    return {line.get_label(): line.get_xydata().tolist() for line in panel.lines if line.get_label()[0] != "_"}


def without_figures(panel) -> bool:
    return [text.get_text() for text in panel.texts] == ["not measured"]


def run() -> list[dict]:
    accuracies = {
        f"{prefix}discriminator_accuracy_{kind}": value
        for (prefix, kind), value in zip(
            [(prefix, kind) for prefix in ("", "held_out_") for kind in ("real", "generated", "corrupted")],
            (0.9, 0.8, 0.75, 0.7, 0.6, 0.65),
            strict=True,
        )
    }
    norms = {"grad_norm": 0.5, "discriminator_grad_norm": 0.25}
    likelihood = [{"step": i, "phase": "likelihood", "loss": 1.0, "grad_norm": 2.0} for i in (1, 2)]
    warm_up = [{"step": 2, "phase": "discriminator", "discriminator_grad_norm": norm} for norm in (4.0, 3.0)]
    held_out = [{"step": 2, "epoch": 1.0, "eval_loss": 1.5}]
    return likelihood + held_out + warm_up + [HEALTHY | accuracies | norms | {"step": i} for i in (4, 5)]


def test_plot_of_a_run(tmp_path, drawn):
    plot_health(run(), tmp_path / "health.png", "gan, seed 0")
    check_picture(tmp_path / "health.png")
    assert not any(without_figures(panel) for panel in drawn.values())
    reward, spread, entropy, answers, discriminator, gradients = (panel for title, panel in drawn.items() if title)
    assert lines(reward) == {"mean": [[4, 0.1], [5, 0.1]]}
    band = reward.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(-0.1) and band.max() == pytest.approx(0.3)
    assert lines(spread) == {"no reward spread": [[4, 0.5], [5, 0.5]], "distinct answers": [[4, 0.8], [5, 0.8]]}
    assert lines(entropy) == {"entropy": [[4, 1], [5, 1]], "KL": [[4, 0.1], [5, 0.1]]}
    assert lines(answers) == {"length": [[4, 15], [5, 15]]}
    assert lines(drawn[""]) == {"ended (right)": [[4, 0.9], [5, 0.9]]}
    expected = {"real": 0.9, "generated": 0.8, "corrupted": 0.75}
    expected |= {"real, held out": 0.7, "generated, held out": 0.6, "corrupted, held out": 0.65}
    assert lines(discriminator) == {name: [[4, value], [5, value]] for name, value in expected.items()}
    dashes = {line.get_label(): line.get_linestyle() for line in discriminator.lines if line.get_label() in expected}
    assert dashes == {name: "--" if "held" in name else "-" for name in expected}
    assert gradients.get_yscale() == "log"
    assert lines(gradients) == {
        "likelihood": [[1, 2], [2, 2]],
        "adversarial": [[4, 0.5], [5, 0.5]],
        "discriminator": [[4, 0.25], [5, 0.25]],
    }


def test_plot_of_one_row(tmp_path, drawn):
    plot_health(run()[-1:], tmp_path / "health.png", "one")
    check_picture(tmp_path / "health.png")
    assert len(drawn) == 7 and not any(without_figures(panel) for panel in drawn.values())


def test_plot_of_a_long_run_shows_running_means(tmp_path, drawn):
    rows = [HEALTHY | {"step": step, "reward": step / 100} for step in range(200)]
    plot_health(rows, tmp_path / "health.png", "long")
    reward = next(iter(drawn.values()))
    values = np.array(lines(reward)["mean"])  # over windows of 5
    np.testing.assert_allclose(values, [[step, (step - 2) / 100] for step in range(4, 200)])


def test_plot_says_what_was_not_measured(tmp_path, drawn):
    rows = [{"step": step, "phase": "adversarial", "reward": 0.5, "kl": None, "ended": 1.0} for step in range(3)]
    plot_health(rows, tmp_path / "health.png", "little")
    check_picture(tmp_path / "health.png")
    assert {title for title, panel in drawn.items() if without_figures(panel)} == {
        "Spread of a rollout",
        "Entropy and KL to the base",
        "Discriminator accuracy",
        "Gradient norms",
    }
    assert drawn["Answers"].get_ylabel() == "mean length (tokens): not measured"
    plot_health([{"step": 1, "phase": "adversarial"}], tmp_path / "health.png", "nothing")
    assert sum(without_figures(panel) for panel in drawn.values()) == 6


def test_gradient_norms_of_zero_are_drawn(tmp_path, drawn):
    plot_health([{"step": 1, "phase": "adversarial", "grad_norm": 0.0}], tmp_path / "health.png", "zero")
    panel = drawn["Gradient norms"]
    assert lines(panel) == {"adversarial": [[1, 0]]} and panel.get_yscale() == "linear"


def test_plot_without_adversarial_steps(tmp_path):
    with pytest.raises(UserError, match=r"health\.png: the training history has no adversarial step"):
        plot_health(run()[:3], tmp_path / "health.png", "likelihood only")


def test_a_discriminator_that_chooses_worse_than_consensus_is_told_at_once():
    chosen = {"chosen_by_discriminator": 0.3, "chosen_by_consensus": 0.4, "chosen_at_random": 0.2}
    _, (warning,), _ = told([chosen, chosen])
    assert warning.startswith("step 2: what the discriminator chooses among the samples to a question is worth 0.300")
    assert sum(map(len, told([chosen] * 3))) == 1
    assert not any(told([chosen | {"chosen_by_discriminator": 0.4}] * 3))
    assert HealthMonitor(LIMIT).observe(chosen | {"step": 5, "phase": "discriminator"}), "where a training measures it"


def test_a_discriminator_that_compares_is_not_told_to_be_saturated():
    compared = {"discriminator_accuracy": 1.0, "discriminator_accuracy_generated": 1.0}
    assert not any(told([compared] * 5))
    assert any(told([compared | {"discriminator_accuracy_real": 1.0}] * 5))
