"""The judge's part of the command line."""

from __future__ import annotations

from dataclasses import dataclass, field

from gantune.errors import UserError


@dataclass
class JudgeArguments:
    """Whether and how a language model judges the answers.

    Raises:
        UserError: if there is nothing to judge.
    """

    _argument_group_name = "judging answers by a language model"

    judge: str | None = field(
        default=None,
        metadata={
            "help": "which model: a folder or Hub id (also as hf:MODEL), or the dotted path of a judge of your own; "
            "its verdicts are stored in judge.json"
        },
    )
    judge_rival: str = field(
        default="lora", metadata={"help": "the method that every other method's answers are set against"}
    )
    judge_questions: int = field(
        default=50, metadata={"help": "questions of each seed that are judged, drawn at random; each in both orders"}
    )

    def __post_init__(self) -> None:
        if self.judge_questions < 1:
            raise UserError(f"--judge-questions {self.judge_questions}: expected at least 1")
