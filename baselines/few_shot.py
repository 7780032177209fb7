"""The untuned model, shown some training pairs before each question (Brown et al. 2020, arXiv:2005.14165)."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from baselines.method import TunedModel, method
from gantune.data import Pair, Template
from gantune.errors import UserError
from gantune.observer import Observer
from gantune.tuning import TuningConfig, encode_training_pairs

logger = logging.getLogger(__name__)


@dataclass
class FewShotConfig(TuningConfig):
    """Settings of `few-shot`.

    Args:
        few_shot_examples: training pairs before each question, the same for all, drawn with the seed.

    Raises:
        UserError: if it is below 1.
    """

    _argument_group_name = "few-shot: the untuned model with examples"

    few_shot_examples: int = field(default=3, metadata={"help": "training pairs before each question"})

    def __post_init__(self) -> None:
        if self.few_shot_examples < 1:
            raise UserError(f"--few-shot-examples {self.few_shot_examples}: expected at least 1")


class FewShotTemplate:
    """Another template, with examples before the question, each one written as a pair is for training.

    So an example ends with the end-of-sequence, which tells the model to end its own answer likewise.

    Args:
        template: writes examples and questions.
        examples: token ids of each example, the end-of-sequence included.
        question_limit: tokens of the question, template included; a longer one keeps its end.
        limit: tokens of the whole prompt, None if any number fits; the last examples that do not fit are left out.
    """

    def __init__(
        self, template: Template, examples: Sequence[list[int]], question_limit: int, limit: int | None
    ) -> None:
        self.template, self.examples, self.question_limit, self.limit = template, examples, question_limit, limit

    def prompt_ids(self, question: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """See [`Template.prompt_ids`]."""
        ids = self._question_ids(question, tokenizer)
        return [token for example in self._fitting(len(ids)) for token in example] + ids

    def answer_ids(self, answer: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """See [`Template.answer_ids`]."""
        return self.template.answer_ids(answer, tokenizer)

    def number_of_examples(self, question: str, tokenizer: PreTrainedTokenizerBase) -> int:
        """How many examples stand before this question."""
        return len(self._fitting(len(self._question_ids(question, tokenizer))))

    def _question_ids(self, question: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        return self.template.prompt_ids(question, tokenizer)[-self.question_limit :]

    def _fitting(self, length: int) -> Sequence[list[int]]:
        """The first examples, as many as fit before a question of `length` tokens."""
        for count, example in enumerate(self.examples):
            length += len(example)
            if self.limit is not None and length > self.limit:
                return self.examples[:count]
        return self.examples


class FewShotModel(TunedModel):
    """The untuned model with a [`FewShotTemplate`]; says how often not all examples fit.

    Args:
        model: the untuned model.
        tokenizer: its tokenizer.
        config: limits.
        template: writes the prompts.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: TuningConfig,
        template: FewShotTemplate,
    ) -> None:
        longest = config.max_prompt_tokens + sum(len(example) for example in template.examples)
        super().__init__(
            model, tokenizer, replace(config, template=template, system_prompt="", max_prompt_tokens=longest)
        )

    def answer(self, questions: Sequence[str], noise: Tensor | None = None) -> list[str]:
        """See [`TunedModel.answer`]; fewer examples than asked for are logged as a warning."""
        template, wanted = self.config.template, len(self.config.template.examples)
        used = [template.number_of_examples(question, self.tokenizer) for question in questions]
        if fewer := [count for count in used if count < wanted]:
            logger.warning(
                "few-shot: %d of %d questions have fewer than %d examples before them, the fewest %d: "
                "the model's positions hold no more",
                len(fewer), len(used), wanted, min(fewer),
            )  # fmt: skip
        return super().answer(questions, noise)


@method("few-shot", FewShotConfig)
def few_shot(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: FewShotConfig,
    observer: Observer | None = None,
) -> FewShotModel:
    """Nothing is tuned; the prompt and a longest answer stay within the model's positions.

    Raises:
        UserError: if there are fewer pairs than examples.
    """
    if len(pairs) < config.few_shot_examples:
        raise UserError(f"--few-shot-examples {config.few_shot_examples}: expected at most {len(pairs)}, all the pairs")
    drawn = random.Random(config.seed).sample(list(pairs), config.few_shot_examples)
    examples = [row.prompt_ids + row.answer_ids for row in encode_training_pairs(drawn, tokenizer, config)]
    positions = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    template = FewShotTemplate(
        config.prompt_template(),
        examples,
        config.max_prompt_tokens,
        None if positions is None else positions - config.max_new_tokens,
    )
    return FewShotModel(model, tokenizer, config, template)
