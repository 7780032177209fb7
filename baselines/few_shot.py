"""The untuned model, shown some training pairs before each question (Brown et al. 2020, arXiv:2005.14165)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from baselines.method import TunedModel, method
from baselines.retrieval import RETRIEVERS
from gantune.data import Pair, Template
from gantune.errors import UserError
from gantune.field_types import check_range, option, text_list
from gantune.tuning import TuningConfig, encode_training_pairs

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


@dataclass
class FewShotConfig(TuningConfig):
    """Settings of `few-shot`."""

    _argument_group_name = "few-shot: the untuned model with examples"

    few_shot_examples: int = option(3, "training pairs before each question")
    few_shot_retrieval: str = option(
        "random",
        "which ones: random (the same for all, drawn with the seed), tfidf (the nearest questions), or a "
        "dotted path; few-shot-retrieval takes tfidf for random",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "at least 1", "few_shot_examples")
        RETRIEVERS.resolve(self.few_shot_retrieval)


@dataclass
class FewShotRetrievalConfig(FewShotConfig):
    """Settings of `few-shot-retrieval`: those of [`FewShotConfig`], with `tfidf` in the place of `random`."""

    def __post_init__(self) -> None:
        if self.few_shot_retrieval == "random":
            self.few_shot_retrieval = "tfidf"
        super().__post_init__()


@dataclass(eq=False)
class FewShotTemplate:
    """Another template, with examples before the question, each one written as a pair is for training.

    So an example ends with the end-of-sequence, which tells the model to end its own answer likewise.

    Args:
        template: writes examples and questions.
        examples: token ids of each pair, the end-of-sequence included.
        retriever: chooses among them, see [`RETRIEVERS`].
        question_limit: tokens of the question, template included; a longer one keeps its end.
        limit: tokens of the whole prompt, None if any number fits; of the examples that do not fit together, those
            farthest from the question are left out.
    """

    template: Template
    examples: Sequence[list[int]]
    retriever: Any
    question_limit: int
    limit: int | None

    def prompt_ids(self, question: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        examples, ids = self._parts(question, tokenizer)
        return [token for example in examples for token in example] + ids

    def answer_ids(self, answer: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        return self.template.answer_ids(answer, tokenizer)

    def number_of_examples(self, question: str, tokenizer: PreTrainedTokenizerBase) -> int:
        return len(self._parts(question, tokenizer)[0])

    def with_room_for(self, tokens: int) -> FewShotTemplate:
        """The same with a limit that is so much lower."""
        return self if self.limit is None else replace(self, limit=self.limit - tokens)

    def _parts(self, question: str, tokenizer: PreTrainedTokenizerBase) -> tuple[list[list[int]], list[int]]:
        ids = self.template.prompt_ids(question, tokenizer)[-self.question_limit :]
        length, fitting = len(ids), []
        for row in reversed(self.retriever.rows(question)):
            length += len(self.examples[row])
            if self.limit is not None and length > self.limit:
                break
            fitting.insert(0, self.examples[row])
        return fitting, ids


class FewShotModel(TunedModel):
    """The untuned model with a [`FewShotTemplate`]; says how often not all examples fit."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: FewShotConfig,
        template: FewShotTemplate,
    ) -> None:
        longest = sorted(map(len, template.examples))[-config.few_shot_examples :]
        limit = config.max_prompt_length + sum(longest)
        super().__init__(
            model, tokenizer, replace(config, template=template, system_prompt="", max_prompt_length=limit)
        )

    def answer(self, questions: Sequence[str], noise: Tensor | None = None) -> list[str]:
        """See [`TunedModel.answer`]; fewer examples than asked for are logged as a warning."""
        from gantune.generation.reasoning import around_reasoning

        questions = text_list(questions, "questions")
        template, wanted = self.config.template, self.config.few_shot_examples
        if reasoning_tokens := self.decoding.reasoning_tokens:
            template = template.with_room_for(
                reasoning_tokens + sum(map(len, around_reasoning(template, self.tokenizer)))
            )
        used = [template.number_of_examples(question, self.tokenizer) for question in questions]
        if fewer := [count for count in used if count < wanted]:
            logger.warning(
                "few-shot: %d of %d questions have fewer than %d examples before them, the fewest %d: "
                "the model's positions hold no more",
                len(fewer), len(used), wanted, min(fewer),
            )  # fmt: skip
        return self.decode(questions, replace(self.config, template=template), self.decoding, noise)


@method("few-shot", FewShotConfig)
def few_shot(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], config: FewShotConfig, *_: Any
) -> FewShotModel:
    """Nothing is tuned; the prompt and a longest answer stay within the model's positions.

    Raises:
        UserError: if there are fewer pairs than examples.
    """
    from gantune.policy.positions import model_positions

    encoded = encode_training_pairs(pairs, tokenizer, config)
    if len(encoded) < config.few_shot_examples:
        raise UserError(
            f"--few-shot-examples {config.few_shot_examples}: expected at most {len(encoded)}, all the pairs"
        )
    limit = model_positions(model)
    template = FewShotTemplate(
        config.prompt_template(),
        [row.prompt_ids + row.answer_ids for row in encoded],
        RETRIEVERS.resolve(config.few_shot_retrieval)(
            [row.pair for row in encoded], config.few_shot_examples, config.seed
        ),
        config.max_prompt_length,
        None if limit is None else limit - config.max_completion_length,
    )
    return FewShotModel(model, tokenizer, config, template)


few_shot_retrieval = method("few-shot-retrieval", FewShotRetrievalConfig)(few_shot.tune)
"""As `few-shot`, with the training questions nearest to each one asked."""
