"""A language model that judges answers: `python -m benchmarks.compare --judge MODEL` (with `--from DIR`, stored ones).

Each method's answer is set against a rival's (LoRA's by default) to the same question, in both orders, as in Zheng et
al. 2023, "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", arXiv:2306.05685. `base` says what a judge is,
`language_model` is one, `answers` reads what it is to judge, `judging` asks it, `records` keeps `judge.json`, `figures`
counts, `table` tells.
"""

from gantune.registry import lazy

__getattr__, __all__ = lazy(
    __name__,
    {"base": ["JUDGES", "VERDICTS", "Duel", "Judge", "build_judge"], "language_model": ["LanguageModelJudge"]},
)
