"""How a question and its answer become token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gantune.errors import UserError
from gantune.registry import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATES = Registry("template")


class Template(Protocol):
    """Writes the two halves of a sequence; `prompt_ids + answer_ids` is what a model is trained on."""

    def prompt_ids(self, question: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Token ids of the question, up to where the answer begins; no end-of-sequence at the end."""
        ...

    def answer_ids(self, answer: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Token ids of the answer and one end-of-sequence, which occurs nowhere else in them."""
        ...


def build_template(template: str | type[Template] | Template) -> Template:
    """The template that a registry name, a dotted path, a class or an instance stands for.

    Raises:
        UserError: if the name is unknown.
    """
    template = TEMPLATES.resolve(template)
    return template() if isinstance(template, type) else template


@TEMPLATES.register("plain")
class PlainTemplate:
    """`Question: ...` and `Answer:` on two lines, for models without a chat format.

    Special tokens are those which the tokenizer puts in front, such as a begin-of-sequence; those which it puts behind
    (BERT's separator, an end-of-sequence) would end the sequence before the answer and are left out.
    """

    def prompt_ids(self, question: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        text = f"Question: {question}\nAnswer:"
        ids = _text_ids(text, tokenizer)
        with_special = tokenizer(text, split_special_tokens=True)["input_ids"]
        spare = len(with_special) - len(ids)
        front = next((k for k in range(spare + 1) if with_special[k : k + len(ids)] == ids), 0)
        return with_special[:front] + ids

    def answer_ids(self, answer: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        return _continuation_ids("Answer:", f" {answer}", tokenizer)


@TEMPLATES.register("chat")
class ChatTemplate:
    """The tokenizer's own chat template: the question is the user's turn, the answer the assistant's.

    The template is rendered to text before it is tokenized, so a question that spells a control token becomes one.
    """

    def prompt_ids(self, question: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        if tokenizer.chat_template is None:
            raise UserError(
                f"template chat: tokenizer {tokenizer.name_or_path or type(tokenizer).__name__} has no chat template, "
                "use template plain"
            )
        turn = {"role": "user", "content": question}
        return list(tokenizer.apply_chat_template([turn], add_generation_prompt=True, return_dict=False))

    def answer_ids(self, answer: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        return _continuation_ids("\n", answer, tokenizer)


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Refuse a tokenizer that cannot end an answer.

    Args:
        tokenizer: the model's tokenizer.
        name: how the user named it, for the message.

    Raises:
        UserError: if it has no end-of-sequence token.
    """
    if tokenizer.eos_token_id is None:
        raise UserError(f"{name}: the tokenizer has no end-of-sequence token (eos_token), which ends every answer")


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The padding token's id, or the end-of-sequence's where there is none (masks tell the two apart)."""
    return tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id


def _text_ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of plain text: nothing is added, and text that spells a special token stays text."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def _continuation_ids(context: str, text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that `text` has after `context`, and one end-of-sequence.

    SentencePiece tokenizers put a space before whatever they are given; the context takes it, so that the answer's
    first token is the one which a model writes.
    """
    context_ids = _text_ids(context, tokenizer)
    ids = _text_ids(context + text, tokenizer)
    splits = ids[: len(context_ids)] == context_ids  # or the two share a token
    ids = ids[len(context_ids) :] if splits else _text_ids(text, tokenizer)
    eos = tokenizer.eos_token_id
    return [token for token in ids if token != eos] + [eos]  # some tokenizers map unknown text to their eos
