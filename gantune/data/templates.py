"""How a question and its answer become token ids, in training and in generation.

A template writes a question as text with control strings around it (`<|im_start|>user`), which the tokenizer then reads
as a whole. What the question and the answer themselves spell stays text: a control token in them ends no turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from gantune.data.question import RecordQuestion, Turn, turns_of, with_system
from gantune.errors import UserError
from gantune.registry import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATES = Registry("template")

PINNED_DATE = date(2024, 7, 26)
"""The day that a tokenizer's own template takes for today: Llama 3.1's default, the same prompt on every day."""

THINKING_OFF = {"enable_thinking": False, "thinking": False, "reasoning": False, "reasoning_effort": "none"}
"""What switches thinking off, by the variable of a chat template; a text where the template has it."""
OPEN_THINKING = re.compile(r"<[\w:]*think\w*>\s*$")
EMPTY_THINKING = re.compile(r"<([\w:]*think\w*)>\s*</\1>\s*$")

CUT = "\ufdd0"
"""A Unicode noncharacter put inside a spelled control token, where its text is taken apart before tokenization."""
KEPT = 16384
"""So many fields of records are kept as ids."""


class Template(Protocol):
    """Writes the two halves of a sequence; `prompt_ids + answer_ids` is what a model is trained on."""

    def prompt_ids(self, question: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Token ids of the question, up to where the answer begins.

        An empty question is that of raw text: its prompt is one token, see [`start_id`].
        """
        ...

    def answer_ids(self, answer: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Token ids of the answer and one end token, which occurs nowhere else in them."""
        ...


def build_template(template: str | type[Template] | Template, system: str | None = None) -> Template:
    """The template that a registry name, a dotted path, a class or an instance stands for; see [`Registry.resolve`].

    With `system`, that system prompt stands before every question that has none of its own.
    """
    template = TEMPLATES.resolve(template)
    template = TEMPLATES.tried(template, template) if isinstance(template, type) else template
    return SystemPromptTemplate(template, system) if system else template


def prompt_fields(template: Template, question: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The field of a record that each prompt token belongs to, see [`RecordTemplate.prompt_fields`].

    Empty where the question is no record, or the template does not tell.
    """
    while isinstance(template, SystemPromptTemplate):
        question, template = with_system(question, template.system), template.template
    if not isinstance(question, RecordQuestion) or not hasattr(template, "prompt_fields"):
        return []
    return template.prompt_fields(question, tokenizer)


def end_token_id(template: str | Template, tokenizer: PreTrainedTokenizerBase) -> int:
    """The token with which answers end, and at which generation has to stop; of a template without one, the eos."""
    template = build_template(template)
    last, other = (template.answer_ids(answer, tokenizer)[-1] for answer in ("a", "b"))
    return last if last == other else tokenizer.eos_token_id


@dataclass(frozen=True)
class SystemPromptTemplate:
    """Another template with a system prompt before every question that has none of its own."""

    template: Template
    system: str

    def prompt_ids(self, question: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        return self.template.prompt_ids(with_system(question, self.system), tokenizer)

    def answer_ids(self, answer: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        return self.template.answer_ids(answer, tokenizer)


@dataclass(frozen=True)
class TurnTemplate:
    """A template made of one string a role, with `{}` where the text goes.

    Special tokens in front are those which the tokenizer puts there, such as a begin-of-sequence; those which it puts
    behind (BERT's separator, an end-of-sequence) would end the sequence before the answer and are left out.

    Args:
        user: around a user's text.
        assistant: what leads to an answer.
        system: around the system prompt; None puts that before the first user's text, with an empty line between.
        lead: the first characters of every answer, which tokenizers join to its first word.
        end: what ends an answer. It is used where the tokenizer has it as one token, otherwise `eos_token` is.
        after: between the end of an answer and the next turn.
    """

    user: str
    assistant: str = ""
    system: str | None = None
    lead: str = ""
    end: str | None = None
    after: str = ""

    def prompt_ids(self, question: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        turns = turns_of(question)
        if not turns:
            return [start_id(tokenizer)]
        specials = _control_tokens(tokenizer, self._written())
        turns = [Turn(turn.role, _cut(turn.content, specials), _cut(turn.context, specials)) for turn in turns]
        return _front_ids(tokenizer) + _cut_ids("", self.render(turns, self.end_token(tokenizer)), tokenizer)

    def answer_ids(self, answer: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        context = (self.user + self.assistant).rpartition("{}")[2]
        end_id = tokenizer.convert_tokens_to_ids(self.end_token(tokenizer))
        answer = _cut(answer, _control_tokens(tokenizer, self._written()))
        return _answer_ids(context, self.lead + answer, end_id, tokenizer)

    def end_token(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """The token with which answers end."""
        return self.end if self.end in tokenizer.get_added_vocab() else tokenizer.eos_token

    def render(self, turns: Sequence[Turn], end: str) -> str:
        """The text of a prompt without the special token in front; `end` is the token that ends an answer."""
        if turns[0].role == "system" and self.system is None and len(turns) > 1:
            first = turns[1]
            turns = [Turn(first.role, f"{turns[0].text}\n\n{first.content}", first.context), *turns[2:]]
        return "".join(self._render_turn(turn, end) for turn in turns) + self.assistant

    def _written(self) -> str:
        """All that the template itself writes."""
        return "".join([self.system or "", self.user, self.assistant, self.end or ""])

    def _render_turn(self, turn: Turn, end: str) -> str:
        if turn.role == "assistant":
            return f"{self.assistant}{self.lead}{turn.text}{end}{self.after}"
        around = self.system if turn.role == "system" and self.system is not None else self.user
        return around.format(turn.text)


class AlpacaTemplate(TurnTemplate):
    """Alpaca's two prompts, with and without an input; a system prompt takes the place of the first sentences.

    Source: `PROMPT_DICT` in tatsu-lab/stanford_alpaca, `train.py`; the answer follows the colon, as there.
    """

    preamble = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    )
    preamble_with_input = (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request."
    )

    def render(self, turns: Sequence[Turn], end: str) -> str:
        if turns[0].role != "system":
            turns = [Turn("system", self.preamble_with_input if turns[0].context else self.preamble), *turns]
        return super().render(turns, end)

    def _render_turn(self, turn: Turn, end: str) -> str:
        if turn.role == "user" and turn.context:
            turn = turn._replace(content=f"{turn.content}\n\n### Input:\n{turn.context}", context="")
        return super()._render_turn(turn, end)


@dataclass(frozen=True)
class RecordTemplate(TurnTemplate):
    """Lays a record out field by field: `field.format(name, value)` each, with `between` in between.

    Names are written as words, `priceRange` as `price range`. A question that is no record is put as by `user`.

    Args:
        field: a field, its name and its value.
        between: two fields.
    """

    field: str = "{}: {}"
    between: str = "\n"

    def prompt_ids(self, question: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        if not isinstance(question, RecordQuestion):
            return super().prompt_ids(question, tokenizer)
        return [token for ids, _ in self._pieces(question, tokenizer) for token in ids]

    def prompt_fields(self, question: RecordQuestion, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """For each token of [`prompt_ids`] the number of its field, from 1; 0 for what is of none."""
        return [number for ids, number in self._pieces(question, tokenizer) for _ in ids]

    def _pieces(
        self, record: RecordQuestion, tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[tuple[Sequence[int], int]]:
        """Ids of what stands before the fields, of each field with what divides it from the next, and of the end."""
        specials, known = _control_tokens(tokenizer, self._written()), len(tokenizer)
        before, _, after = self.user.partition("{}")
        if system := _cut(record.system, specials):
            before = f"{before}{system}\n\n" if self.system is None else self.system.format(system) + before
        yield _kept_front_ids(before, tokenizer, known), 0
        context = before.rpartition(CUT)[2]
        for number, (name, value) in enumerate(record.fields, start=1):
            text = self.field.format(*(_cut(part, specials) for part in (words_of(name), value)))
            text = text if number == len(record.fields) else text + self.between
            yield _kept_ids(context, text, tokenizer, known), number
            context = self.between
        yield _kept_ids(context, after + self.assistant, tokenizer, known), 0


def words_of(name: str) -> str:
    """A field's name as words: `priceRange` and `price_range` as `price range`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_+", " ", name).strip().lower()


def _headed(header: str, end: str, after: str = "\n") -> TurnTemplate:
    """Each turn under a header that names its role, as most chat formats have it."""
    system, user, assistant = (header.format(role) for role in ("system", "user", "assistant"))
    return TurnTemplate(f"{user}{{}}{end}{after}", assistant, f"{system}{{}}{end}{after}", end=end, after=after)


for _name, _template in {
    "plain": TurnTemplate("Question: {}\n", "Answer:", system="{}\n", lead=" "),
    "text": TurnTemplate("{}\n", system="{}\n", after="\n"),  # a question, if any, is a line before the raw text
    "summary": TurnTemplate("{}\n\n", "Summary:", system="{}\n\n", lead=" ", after="\n\n"),
    "record": RecordTemplate("{}\n", "Text:", system="{}\n", lead=" ", after="\n\n"),
    "record-line": RecordTemplate("{}:", lead=" ", field=" {} {}", between=";"),
    "alpaca": AlpacaTemplate("### Instruction:\n{}\n\n", "### Response:", system="{}\n\n", after="\n\n"),
    # model card of microsoft/Phi-3-mini-4k-instruct, "Chat Format"
    "phi-3": _headed("<|{}|>\n", "<|end|>"),
    # openai/openai-python v0.28, `chatml.md`; Qwen and others use it
    "chatml": _headed("<|im_start|>{}\n", "<|im_end|>"),
    # meta-llama/llama3, `llama/tokenizer.py`, class `ChatFormat`
    "llama-3": _headed("<|start_header_id|>{}<|end_header_id|>\n\n", "<|eot_id|>", after=""),
    # ai.google.dev/gemma/docs, "Formatting"
    "gemma": TurnTemplate(
        "<start_of_turn>user\n{}<end_of_turn>\n", "<start_of_turn>model\n", end="<end_of_turn>", after="\n"
    ),
    "mistral": TurnTemplate("[INST] {} [/INST]", lead=" "),  # model card of mistralai/Mistral-7B-Instruct-v0.2
}.items():
    TEMPLATES.register(_name)(_template)


@TEMPLATES.register("chat")
class ChatTemplate:
    """The tokenizer's own Jinja template, in which today is always [`PINNED_DATE`] and nobody thinks.

    All that the template writes before an answer belongs to the prompt, such as an empty `<think></think>` or the name
    of a channel. The end token is the first special one behind the answer, or the end-of-sequence where there is none.

    A [`UserError`] for a tokenizer without a template, or whose template refuses the turns, or does not write an answer
    where its generation prompt leads to, or writes it within an open `<think>`.
    """

    def prompt_ids(self, question: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        turns = turns_of(question)
        if not turns:
            return [start_id(tokenizer)]
        specials = _control_tokens(tokenizer, _chat_template(tokenizer))
        messages = [{"role": turn.role, "content": _cut(turn.text, specials)} for turn in turns]
        prompt, *_ = _around_answer(messages, tokenizer)
        if opened := OPEN_THINKING.search(prompt):
            raise UserError(
                f"template chat: the tokenizer's template leaves {opened[0].strip()} open before an answer, expected "
                "one that switches thinking off, as some do by --system-prompt /no_think"
            )
        return _cut_ids("", prompt, tokenizer)

    def answer_ids(self, answer: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        asked = "QUESTION"
        prompt, blanks, behind = _around_answer([{"role": "user", "content": asked}], tokenizer)
        special_ids = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder} - {tokenizer.unk_token_id}
        behind_ids = tokenizer(behind, add_special_tokens=False)["input_ids"]
        end_id = next((token for token in behind_ids if token in special_ids), tokenizer.eos_token_id)
        answer = _cut(answer, _control_tokens(tokenizer, _chat_template(tokenizer)))
        return _answer_ids(prompt.rpartition(asked)[2], blanks + answer, end_id, tokenizer)


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Refuse a tokenizer without an end-of-sequence token, with a [`UserError`] that calls it `name`."""
    if tokenizer.eos_token_id is None:
        raise UserError(f"{name}: the tokenizer has no end-of-sequence token (eos_token), which ends every answer")


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The padding token's id, or the end-of-sequence's where there is none (masks tell the two apart)."""
    return tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id


def start_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The whole prompt of raw text: the begin-of-sequence, or the end-of-sequence where there is none."""
    return tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id


def count_unknown(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> int:
    """How many texts have a part that the tokenizer knows no token for: it becomes the unknown one, or is left out."""
    if tokenizer.unk_token_id is None or not texts:
        return 0
    specials = _control_tokens(tokenizer, "")
    cut = [_cut(text, specials).replace(CUT, " ") for text in texts]
    return sum(tokenizer.unk_token_id in ids for ids in tokenizer(cut, add_special_tokens=False)["input_ids"])


def _chat_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The source of the tokenizer's own template, with the calls of its clock replaced by [`PINNED_DATE`]."""
    name = tokenizer.name_or_path or type(tokenizer).__name__
    if tokenizer.chat_template is None:
        raise UserError(f"template chat: tokenizer {name} has no chat template, use template plain")
    source = re.sub(
        r"strftime_now\(\s*(['\"])(.*?)\1\s*\)",
        lambda call: repr(PINNED_DATE.strftime(call[2])),
        tokenizer.get_chat_template(),
    )
    if "strftime_now(" in source:
        raise UserError(f"template chat: the template of tokenizer {name} calls strftime_now without a literal format")
    return source


def _around_answer(messages: Sequence[dict[str, str]], tokenizer: PreTrainedTokenizerBase) -> tuple[str, str, str]:
    """What the tokenizer's own template writes up to an answer, the blanks next to it, and what it writes behind it.

    The blanks belong to the answer, since tokenizers join them to its first word. An empty thinking block may be in the
    generation prompt alone.
    """
    answered = "ANSWER"
    prompt = _apply_chat_template(messages, tokenizer, add_generation_prompt=True)
    messages = [*messages, {"role": "assistant", "content": answered}]
    whole = _apply_chat_template(messages, tokenizer, add_generation_prompt=False)
    before, _, behind = whole.rpartition(answered)
    begun = prompt if before.startswith(prompt) else EMPTY_THINKING.sub("", prompt)
    if not before.startswith(begun):
        raise UserError(
            f"template chat: the tokenizer's template asks for an answer with ...{prompt[-40:]!r} and writes one as "
            f"...{whole[-40:]!r}, expected the same; change its chat_template, or use another template such as chatml"
        )
    lead = before[len(begun) :].rstrip(" ")
    return prompt + lead, before[len(begun) + len(lead) :], behind


def _apply_chat_template(
    messages: Sequence[dict[str, str]], tokenizer: PreTrainedTokenizerBase, add_generation_prompt: bool
) -> str:
    """The text that the tokenizer's own template makes, with thinking switched off."""
    template = _chat_template(tokenizer)
    known = {name: value for name, value in THINKING_OFF.items() if name in template}
    off = {name: value for name, value in known.items() if not value or re.search(f"['\"]{value}['\"]", template)}
    try:
        text = tokenizer.apply_chat_template(
            messages,
            chat_template=template,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            date_string=PINNED_DATE.strftime("%d %b %Y"),
            **off,
        )
        text.encode()
        return text
    except Exception as error:  # a template is a program, and may fail in any way
        roles = ", ".join(message["role"] for message in messages)
        reason = " ".join(str(error).split())
        raise UserError(f"template chat: the tokenizer's template refuses the turns {roles}: {reason}") from error


def _control_tokens(tokenizer: PreTrainedTokenizerBase, written: str) -> list[str]:
    """The texts that a tokenizer reads as control tokens: its special tokens, and the added ones that `written` has."""
    added = {
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special or (token.content in written and not token.content.isspace())
    }
    return sorted(added | set(tokenizer.all_special_tokens), key=len, reverse=True)


def _cut(text: str, specials: Sequence[str]) -> str:
    """The text with [`CUT`] after the first character of each special token that it spells."""
    try:
        text.encode()
    except UnicodeEncodeError:  # tokenizers fail on it
        raise UserError(f"{text!r:.60} has half a surrogate pair, expected valid Unicode") from None
    if not any(special in text for special in specials):
        return text
    return re.sub("|".join(map(re.escape, specials)), lambda spelled: spelled[0][0] + CUT + spelled[0][1:], text)


def _cut_ids(context: str, text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that a text has after `context`: its special tokens are read as such, except those with a cut inside."""
    first, *others = text.split(CUT)
    ids = _ids_after(context, first, tokenizer)
    return ids + [token for other in others for token in _ids_after("\n", other, tokenizer)]


@lru_cache(KEPT)
def _kept_ids(context: str, text: str, tokenizer: PreTrainedTokenizerBase, known: int) -> Sequence[int]:
    """[`_cut_ids`] of what recurs from record to record; `known` is the size of the tokenizer's vocabulary."""
    return tuple(_cut_ids(context, text, tokenizer))


@lru_cache(KEPT)
def _kept_front_ids(text: str, tokenizer: PreTrainedTokenizerBase, known: int) -> Sequence[int]:
    """Ids of the same that begin a prompt."""
    return (*_front_ids(tokenizer), *_cut_ids("", text, tokenizer))


def _front_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens which the tokenizer puts in front of a text."""
    ids = tokenizer("a", add_special_tokens=False)["input_ids"]
    with_special = tokenizer("a")["input_ids"]
    spare = len(with_special) - len(ids)
    return with_special[: next((k for k in range(spare + 1) if with_special[k : k + len(ids)] == ids), 0)]


def _ids_after(context: str, text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that `text` has after `context`.

    SentencePiece tokenizers put a space before whatever they are given; the context takes it, so that the first token
    of an answer is the one which a model writes.
    """
    context_ids = tokenizer(context, add_special_tokens=False)["input_ids"]
    ids = tokenizer(context + text, add_special_tokens=False)["input_ids"]
    splits = ids[: len(context_ids)] == context_ids  # or the two share a token
    return ids[len(context_ids) :] if splits else tokenizer(text, add_special_tokens=False)["input_ids"]


def _answer_ids(context: str, answer: str, end_id: int, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that the answer, with its cuts, has after `context`, and one end token."""
    ends = (end_id, tokenizer.eos_token_id)  # some tokenizers map unknown text to their eos
    ids = [token for token in _cut_ids(context, answer, tokenizer) if token not in ends]
    return [*ids, end_id]
