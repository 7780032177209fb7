"""Which training pairs stand before a question in its prompt."""

from __future__ import annotations

import random
from collections.abc import Sequence

from gantune.data import Pair
from gantune.data.words import caseless, words
from gantune.errors import UserError
from gantune.registry import Registry

RETRIEVERS = Registry("few-shot retrieval")
"""Classes made of pairs, how many of them to choose, and a seed. Their `rows(question)` gives the numbers of the chosen
pairs in the order of the prompt: the last one stands next to the question."""


@RETRIEVERS.register("random")
class RandomRetriever:
    """The same pairs for every question, drawn with the seed."""

    def __init__(self, pairs: Sequence[Pair], examples: int, seed: int) -> None:
        self.drawn = random.Random(seed).sample(range(len(pairs)), examples)

    def rows(self, question: str) -> list[int]:
        return self.drawn


@RETRIEVERS.register("tfidf")
class TfidfRetriever:
    """The pairs whose questions are nearest by the cosine of TF-IDF vectors, the nearest last.

    Nearest examples: Liu et al. 2022, "What Makes Good In-Context Examples for GPT-3?", arXiv:2101.06804. The weights
    are scikit-learn's: idf = 1 + ln((1 + n) / (1 + df)) over the training questions, of [`words`]. Of equally near
    pairs the earlier one is taken.

    A pair that asks the same question is passed over: the prompt would hold the answer that is asked for.

    Raises:
        UserError: if there is no word in any question of `pairs`.
    """

    def __init__(self, pairs: Sequence[Pair], examples: int, seed: int) -> None:
        # half a second and 40 MB that the other methods do without
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.examples, self.questions = examples, [_plain(pair.question) for pair in pairs]
        if not any(map(words, self.questions)):
            raise UserError("--few-shot-retrieval tfidf: expected words in the training questions, there are none")
        self.vectorizer = TfidfVectorizer(tokenizer=words, token_pattern=None, lowercase=False)
        self.vectors = self.vectorizer.fit_transform(self.questions)

    def rows(self, question: str) -> list[int]:
        asked = _plain(question)
        similarity = (self.vectors @ self.vectorizer.transform([asked]).T).toarray()[:, 0]
        ranked = (-similarity).argsort(kind="stable").tolist()
        return [row for row in ranked if self.questions[row] != asked][: self.examples][::-1]


def _plain(question: str) -> str:
    return " ".join(caseless(question).split())
