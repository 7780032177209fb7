"""The soak's verdict: what counts as growth. The soak itself takes a quarter of an hour and is not run here."""

from __future__ import annotations

import pytest

from benchmarks.speed import soak


def test_growth_is_that_of_the_last_quarter_against_the_one_before():
    flat_after_a_start = [(step, 500 if step > 20 else 100) for step in range(100)]
    assert soak.growth(flat_after_a_start) == 0
    leaking = [(step, 1000 + step) for step in range(100)]
    assert soak.growth(leaking) == pytest.approx((1000 + 87) / (1000 + 62) - 1)


def test_too_few_steps_are_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["soak", "--steps", "3"])
    assert soak.main() == 2
    assert capsys.readouterr().err == "error: --steps 3: expected at least 80\n"
