"""Methods and a reward that a user might bring: `--methods tests.methods_of_a_user.broken`."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

from baselines import TunedModel, method
from gantune.tuning import TuningConfig


@dataclass
class OwnConfig(TuningConfig):
    """Settings with an option of their own."""

    _argument_group_name = "own: a method of a user"

    greeting: str = field(default="hello", metadata={"help": "what every answer is"})


@method("tests.methods_of_a_user.own", OwnConfig)
def own(model, tokenizer, pairs, config, callbacks=()):
    """Answers every question alike."""
    tuned = TunedModel(model, tokenizer, config)
    tuned.answer = lambda questions: [config.greeting] * len(questions)
    return tuned


@method("tests.methods_of_a_user.broken")
def broken(model, tokenizer, pairs, config, callbacks=()):
    """Fails in the middle."""
    raise RuntimeError("it broke\nin the middle")


@method("tests.methods_of_a_user.killed")
def killed(model, tokenizer, pairs, config, callbacks=()):
    """Is killed, as by the kernel when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def not_a_number(questions, answers, rollout):
    """A reward that is broken."""
    return [float("nan")] * len(answers)


def kills_once(questions, answers, rollout):
    """A reward that takes the process down the third time it is asked, once: the file it leaves says so."""
    kills_once.calls += 1
    marker = Path(os.environ["KILLED_ONCE"])
    if kills_once.calls == 3 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return [len(answer) / 10 for answer in answers]


kills_once.calls = 0
