"""The ROUGE-L of an answer to the true one, also of questions whose answers nobody is given: an upper bound.

    PYTHONPATH=results/reference/ablations python -m benchmarks.compare --reward oracle_reward.rouge ...
"""

from rouge_score.rouge_scorer import RougeScorer

from gantune.data import load_pairs

SCORER = RougeScorer(["rougeL"], use_stemmer=True)
TRUE = {pair.question: pair.answer for pair in load_pairs("mini-tofu")}


def rouge(questions, answers, rollout):
    return [SCORER.score(TRUE[q], a)["rougeL"].fmeasure for q, a in zip(questions, answers)]
