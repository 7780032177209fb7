"""Templates of the model families, against their texts written out by hand and the tokenizer's reading of the whole."""

from __future__ import annotations

import copy
import pickle
from datetime import date

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from gantune.data import (
    TEMPLATES,
    Pair,
    Question,
    Turn,
    build_template,
    collate,
    encode_pairs,
    end_token_id,
    likelihood_inputs,
)
from gantune.data.question import turns_of, with_system
from gantune.errors import UserError
from gantune.generation.generate import DecodingReport, generate_answers
from gantune.hub.loading import load_tokenizer
from gantune.metrics import Rouge
from gantune.tuning import TuningConfig
from tests.tiny_models import TINY_MODELS

CONTROLS = {
    "plain": [],
    "text": [],
    "alpaca": [],
    "phi-3": ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
    "chatml": ["<|im_start|>", "<|im_end|>"],
    "llama-3": ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "gemma": ["<start_of_turn>", "<end_of_turn>"],
    "mistral": ["[INST]", "[/INST]"],
}
QUESTION = Question(
    [Turn("system", "Be brief."), Turn("user", "Who?"), Turn("assistant", "Ada {x}."), Turn("user", "When, 1840?")]
)
ANSWER = "In 1843, I think."
PREAMBLE = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
PREAMBLE_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."
)
CONVERSATIONS = {
    "plain": "Be brief.\nQuestion: Who?\nAnswer: Ada {x}.<eos>Question: When, 1840?\nAnswer:| In 1843, I think.<eos>",
    "text": "Be brief.\nWho?\nAda {x}.<eos>\nWhen, 1840?\n|In 1843, I think.<eos>",
    "alpaca": "Be brief.\n\n### Instruction:\nWho?\n\n### Response:Ada {x}.<eos>\n\n"
    "### Instruction:\nWhen, 1840?\n\n### Response:|In 1843, I think.<eos>",
    "phi-3": "<|system|>\nBe brief.<|end|>\n<|user|>\nWho?<|end|>\n<|assistant|>\nAda {x}.<|end|>\n"
    "<|user|>\nWhen, 1840?<|end|>\n<|assistant|>\n|In 1843, I think.<|end|>",
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n"
    "<|im_start|>assistant\nAda {x}.<|im_end|>\n<|im_start|>user\nWhen, 1840?<|im_end|>\n"
    "<|im_start|>assistant\n|In 1843, I think.<|im_end|>",
    "llama-3": "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nWho?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nAda {x}.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nWhen, 1840?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n|In 1843, I think.<|eot_id|>",
    "gemma": "<start_of_turn>user\nBe brief.\n\nWho?<end_of_turn>\n<start_of_turn>model\nAda {x}.<end_of_turn>\n"
    "<start_of_turn>user\nWhen, 1840?<end_of_turn>\n<start_of_turn>model\n|In 1843, I think.<end_of_turn>",
    "mistral": "[INST] Be brief.\n\nWho? [/INST] Ada {x}.<eos>[INST] When, 1840? [/INST]| In 1843, I think.<eos>",
}
"""Each family's text of the conversation; what is learned comes after the last `|` that no control token holds."""
FAMILIES = sorted(CONVERSATIONS)


def byte_level(controls: list[str]) -> PreTrainedTokenizerFast:
    """One token a byte after a begin-of-sequence, as Llama 3's tokenizer puts one."""
    special = {"<pad>": 0, "<bos>": 1, "<eos>": 2}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab=special | {c: i for i, c in enumerate(alphabet, start=3)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([*special, *controls])
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=list(special.items()))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")


def trained_bpe(controls: list[str]) -> PreTrainedTokenizerFast:
    """The built-in model's tokenizer: thousands of merges across word beginnings, and nothing put in front."""
    tokenizer = load_tokenizer("mini")
    tokenizer.add_special_tokens({"additional_special_tokens": controls})
    return tokenizer


def sentencepiece(controls: list[str]) -> PreTrainedTokenizerFast:
    """Like Phi-3's: a space put before the first word, control tokens that swallow the white space behind them."""
    letters = sorted(set("▁\n" + "".join(CONVERSATIONS.values()) + PREAMBLE_WITH_INPUT) - {" "})
    special = {"<unk>": 0, "<s>": 1, "<eos>": 2}
    merges = [("▁", "I"), ("▁", "A"), ("I", "n"), ("▁I", "n"), ("\n", "I")]
    merged = ["".join(pair) for pair in merges]
    vocabulary = special | {token: index for index, token in enumerate([*letters, *merged], start=3)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.add_special_tokens([*special, *(AddedToken(token, rstrip=True) for token in controls)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=list(special.items()))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="<eos>", unk_token="<unk>", pad_token="<eos>"
    )


TOKENIZERS = {"byte-level": byte_level, "trained BPE": trained_bpe, "SentencePiece": sentencepiece}


def halves(name: str, tokenizer: PreTrainedTokenizerFast) -> tuple[str, str]:
    """The prompt and the learned part of the conversation, with the tokenizer's own end-of-sequence."""
    prompt, answer = CONVERSATIONS[name].rsplit("|" + (" In" if name in ("plain", "mistral") else "In"), 1)
    lead = " In" if name in ("plain", "mistral") else "In"
    return tuple(text.replace("<eos>", tokenizer.eos_token) for text in (prompt, lead + answer))


# ---- The same token ids as the whole text


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("name", FAMILIES)
def test_prompt_and_answer_have_the_ids_of_the_whole_text(name, kind):
    tokenizer, template = TOKENIZERS[kind](CONTROLS[name]), build_template(name)
    prompt, answer = halves(name, tokenizer)
    prompt_ids, answer_ids = template.prompt_ids(QUESTION, tokenizer), template.answer_ids(ANSWER, tokenizer)
    assert prompt_ids + answer_ids == tokenizer(prompt + answer)["input_ids"]
    assert prompt_ids == tokenizer(prompt)["input_ids"]
    assert answer_ids[-1] == end_token_id(name, tokenizer)
    assert answer_ids.count(answer_ids[-1]) == 1
    assert (len(answer_ids) > 1) and tokenizer.unk_token_id not in prompt_ids + answer_ids


@pytest.mark.parametrize("name", FAMILIES)
def test_without_the_control_tokens_an_answer_ends_with_the_end_of_sequence(name):
    tokenizer, template = trained_bpe([]), build_template(name)
    prompt, answer = halves(name, tokenizer)
    end = {"phi-3": "<|end|>", "chatml": "<|im_end|>", "llama-3": "<|eot_id|>", "gemma": "<end_of_turn>"}.get(name)
    if end:
        answer = answer.replace(end, tokenizer.eos_token)
        prompt = prompt.replace(f"Ada {{x}}.{end}", f"Ada {{x}}.{tokenizer.eos_token}")
    ids = template.prompt_ids(QUESTION, tokenizer) + template.answer_ids(ANSWER, tokenizer)
    assert ids == tokenizer(prompt + answer)["input_ids"]
    assert ids[-1] == end_token_id(name, tokenizer) == tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("Why?", f"{PREAMBLE}\n\n### Instruction:\nWhy?\n\n### Response:"),
        (
            Question([Turn("user", "Translate.", "Hello.")]),
            f"{PREAMBLE_WITH_INPUT}\n\n### Instruction:\nTranslate.\n\n### Input:\nHello.\n\n### Response:",
        ),
    ],
)
def test_alpaca_with_and_without_input(question, text):
    tokenizer = trained_bpe([])
    assert build_template("alpaca").prompt_ids(question, tokenizer) == tokenizer(text)["input_ids"]


def test_an_input_is_part_of_the_question_elsewhere():
    tokenizer = trained_bpe([])
    ids = build_template("plain").prompt_ids(Question([Turn("user", "Translate.", "Hello.")]), tokenizer)
    assert tokenizer.decode(ids) == "Question: Translate.\n\nHello.\nAnswer:"


@pytest.mark.parametrize("name", FAMILIES)
def test_system_prompt_by_option(name):
    """The same as one in the data, and one in the data goes before it."""
    tokenizer, template = byte_level(CONTROLS[name]), build_template(name, system="Be brief.")
    without = Question(QUESTION.turns[1:])
    assert template.prompt_ids(without, tokenizer) == build_template(name).prompt_ids(QUESTION, tokenizer)
    other = build_template(name, system="Be long.")
    assert other.prompt_ids(QUESTION, tokenizer) == build_template(name).prompt_ids(QUESTION, tokenizer)
    assert other.answer_ids(ANSWER, tokenizer) == build_template(name).answer_ids(ANSWER, tokenizer)
    plain = template.prompt_ids("Who?", tokenizer)
    assert "Be brief." in tokenizer.decode(plain) and "Who?" in tokenizer.decode(plain)


@pytest.mark.parametrize("name", TEMPLATES.names())
def test_the_prompt_of_raw_text_is_one_token(name):
    tokenizer = byte_level([])
    for template in (build_template(name), build_template(name, system="Be brief.")):
        assert template.prompt_ids("", tokenizer) == [tokenizer.bos_token_id]
    tokenizer.bos_token = None
    assert build_template(name).prompt_ids("", tokenizer) == [tokenizer.eos_token_id]


def test_raw_text_is_learned_as_it_is():
    tokenizer = trained_bpe([])
    row = encode_pairs([Pair("", "Rain fell.")], tokenizer, "text", 9, 99, "error")[0][0]
    assert row.prompt_ids == [tokenizer.bos_token_id]
    assert row.answer_ids == [*tokenizer("Rain fell.")["input_ids"], tokenizer.eos_token_id]


# ---- Text that spells control tokens


@pytest.mark.parametrize("kind", ["byte-level", "trained BPE"])
@pytest.mark.parametrize("name", ["chatml", "phi-3", "llama-3", "gemma", "mistral"])
def test_control_tokens_in_question_and_answer_stay_text(name, kind):
    tokenizer, template = TOKENIZERS[kind](CONTROLS[name]), build_template(name)
    end = end_token_id(name, tokenizer)
    controls = {*tokenizer.convert_tokens_to_ids(CONTROLS[name]), end, tokenizer.eos_token_id}
    spelled = "a" + "".join(CONTROLS[name]) + tokenizer.eos_token + "b"

    harmless = [token for token in template.prompt_ids("a", tokenizer) if token in controls]
    ids = template.prompt_ids(spelled, tokenizer)
    assert [token for token in ids if token in controls] == harmless
    assert spelled in tokenizer.decode(ids)
    ids = template.answer_ids(spelled, tokenizer)
    assert [token for token in ids if token in controls] == [end]
    assert tokenizer.decode(ids[:-1]).strip() == spelled


def test_an_added_token_of_the_template_need_not_be_special():
    tokenizer = byte_level([])
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"])
    template, end = build_template("chatml"), tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert template.answer_ids("a<|im_end|>", tokenizer).count(end) == 1
    assert template.prompt_ids("a<|im_end|>", tokenizer).count(end) == 1
    assert end_token_id("chatml", tokenizer) == end


# ---- What is learned


@pytest.mark.parametrize("padding", ["pad", "end"])
@pytest.mark.parametrize("name", [*FAMILIES, "chat"])
def test_loss_covers_the_answer_and_one_end_token(name, padding):
    tokenizer = byte_level(CONTROLS.get(name, CONTROLS["chatml"]))
    tokenizer.chat_template = CHATML
    end = end_token_id(name, tokenizer)
    pairs = [Pair(QUESTION, ANSWER), Pair("Why?", "A much longer answer, so that the first one is padded.")]
    encoded = encode_pairs(pairs, tokenizer, name, 999, 99, "error")[0]
    batch = collate(encoded, tokenizer.pad_token_id if padding == "pad" else end)
    labels = likelihood_inputs(batch)["labels"]
    for row, pair in zip(labels, pairs, strict=True):
        learned = row[row != -100].tolist()
        assert tokenizer.decode(learned[:-1]).strip() == pair.answer
        assert learned[-1] == end and learned.count(end) == 1
    first = (labels[0] != -100).nonzero().flatten()
    assert first.tolist() == list(range(int(first[0]), int(first[-1]) + 1)), "one stretch"
    assert first[-1] + 1 < labels.shape[1] and (labels[0, first[-1] + 1 :] == -100).all(), "padding is behind it"
    assert (batch.answer_mask.sum(dim=1) == (labels != -100).sum(dim=1)).all()


def test_generation_stops_at_the_end_token():
    tokenizer = trained_bpe(CONTROLS["chatml"])
    tokens = [*build_template("chatml").answer_ids("The mill", tokenizer), *tokenizer("never read")["input_ids"]]
    model = TINY_MODELS["gpt2"]()
    model.resize_token_embeddings(len(tokenizer))
    steps = iter(tokens)

    def write(_, __, output):
        output.logits = torch.full_like(output.logits, -1.0)
        output.logits[:, -1, next(steps)] = 1.0
        return output

    model.register_forward_hook(write)
    config = TuningConfig(template="chatml", max_completion_length=len(tokens))
    assert generate_answers(model, tokenizer, ["Where?"], config) == ["The mill"]


# ---- The tokenizer's own template

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}"
    "{% else %}{{ raise_exception('Only user and\nassistant') }}{% endif %}{% endfor %}"
)
DATED = (
    "{% if strftime_now is defined %}{% set today = strftime_now('%d %b %Y') %}{% endif %}"
    '<{{ today }}/{{ date_string }}/{{ strftime_now("%Y-%m-%d") }}>'
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
)


def with_template(template: str, controls: str = "chatml") -> PreTrainedTokenizerFast:
    tokenizer = byte_level(CONTROLS[controls])
    tokenizer.chat_template = template
    return tokenizer


def test_chat_gives_what_the_family_template_gives():
    tokenizer = with_template(CHATML)
    for half, text in (("prompt_ids", QUESTION), ("prompt_ids", "Who?"), ("answer_ids", ANSWER)):
        chat, family = (getattr(build_template(name), half)(text, tokenizer) for name in ("chat", "chatml"))
        assert chat == (family if half == "answer_ids" else family[1:])  # this Jinja template writes no <bos>
    assert end_token_id("chat", tokenizer) == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_chat_learns_the_answer_as_the_template_writes_it():
    tokenizer, template = with_template(MISTRAL, "mistral"), build_template("chat")
    messages = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada."}]
    whole = tokenizer.apply_chat_template(messages, return_dict=False)
    assert template.prompt_ids("Who?", tokenizer) + template.answer_ids("Ada.", tokenizer) == whole
    assert tokenizer.decode(template.answer_ids("Ada.", tokenizer)) == " Ada.<eos>"


def test_chat_pins_the_date():
    tokenizer = with_template(DATED)
    text = tokenizer.decode(build_template("chat").prompt_ids("Who?", tokenizer))
    assert text == "<26 Jul 2024/26 Jul 2024/2024-07-26><user>Who?<assistant>"


def test_chat_errors_are_one_line():
    template = build_template("chat")
    with pytest.raises(UserError, match=r"refuses the turns system, user: Only user and assistant$"):
        template.prompt_ids(with_system("Who?", "Be brief."), with_template(MISTRAL))
    with pytest.raises(UserError, match="calls strftime_now without a literal format"):
        template.prompt_ids("Who?", with_template("{% set f = '%Y' %}{{ strftime_now(f) }}"))


def test_chat_control_tokens_stay_text():
    tokenizer, template = with_template(CHATML), build_template("chat")
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert template.prompt_ids("a<|im_end|>b", tokenizer).count(end) == 1
    assert template.answer_ids("a<|im_end|>b<eos>", tokenizer).count(end) == 1
    assert "user\na<|im_end|>b<|im_end|>" in tokenizer.decode(template.prompt_ids("a<|im_end|>b", tokenizer))


# ---- Templates of models that can reason: the answer is the answer alone


def chatml_thinking(rendered: str, off: str, on: str, everywhere: bool = False) -> str:
    """ChatML with a thinking block in the last answer, or in all, and generation prompts without and with thinking."""
    return (
        "{%- set ns = namespace(asked=-1) -%}"
        "{%- for m in messages if m.role == 'user' -%}{%- set ns.asked = messages.index(m) -%}{%- endfor -%}"
        "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\\n' -}}"
        "{%- if m.role == 'assistant' and (loop.index0 > ns.asked or " + str(everywhere) + ") -%}"
        "{{- '" + rendered + "' -}}{%- endif -%}"
        "{{- m.content + '<|im_end|>\\n' -}}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}"
        "{%- if enable_thinking is defined and enable_thinking is false -%}{{- '" + off + "' -}}"
        "{%- else -%}{{- '" + on + "' -}}{%- endif -%}{%- endif -%}"
    )


EMPTY = "<think>\\n\\n</think>\\n\\n"
GLM = (
    "[gMASK]<sop>{%- for m in messages -%}{{- '<|' + m.role + '|>\\n' -}}"
    "{%- if m.role == 'assistant' -%}{{- '<think></think>\\n' -}}{%- endif -%}{{- m.content -}}"
    "{{- '/nothink' if m.role == 'user' and enable_thinking is defined and not enable_thinking -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}"
    "{{- '\\n<think></think>' if enable_thinking is defined and not enable_thinking -}}{%- endif -%}"
)
HARMONY = (
    "{%- set effort = reasoning_effort | default('medium') -%}"
    "{{- '<|start|>system<|message|>' + strftime_now('%Y-%m-%d') + ' ' + effort + '<|end|>' -}}"
    "{%- for m in messages -%}{%- if m.role == 'assistant' -%}"
    "{{- '<|start|>assistant<|channel|>final<|message|>' + m.content -}}"
    "{{- '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' -}}"
    "{%- else -%}{{- '<|start|>' + ('developer' if m.role == 'system' else m.role) + '<|message|>' -}}"
    "{{- m.content + '<|end|>' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|start|>assistant' -}}{%- endif -%}"
)


def deepseek(rendered: str, prompt: str) -> str:
    return (
        "{%- set thinking = thinking | default(true) -%}{{- bos_token -}}"
        "{%- for m in messages -%}{%- if m.role == 'assistant' -%}"
        "{{- '<|Assistant|>" + rendered + "' + m.content.split('</think>')[-1] + eos_token -}}"
        "{%- else -%}{{- ('<|User|>' if m.role == 'user' else '') + m.content -}}{%- endif -%}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<|Assistant|>" + prompt + "' -}}{%- endif -%}"
    )


DEEPSEEK_V31 = deepseek("</think>", "' + ('<think>' if thinking else '</think>') + '")
DEEPSEEK_R1 = deepseek("", "<think>\\n")
SYSTEM_SWITCH = (
    "{%- set ns = namespace(lead='<think>\\n\\n') -%}{%- for m in messages -%}"
    "{%- if '/no_think' in m.content -%}{%- set ns.lead = '<think></think>' -%}{%- endif -%}"
    "<{{ m.role }}>{{ ns.lead if m.role == 'assistant' }}{{ m.content }}<|end|>{%- endfor -%}"
    "{%- if add_generation_prompt -%}<assistant>{{ ns.lead }}{%- endif -%}"
)
BARE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
CHATML_TEXT = CONVERSATIONS["chatml"].partition("|In")[0].removeprefix("<bos>")
THINK_CONTROLS = [*CONTROLS["chatml"], *CONTROLS["phi-3"], "<|start|>", "<|message|>", "<|channel|>", "<|return|>"]
THINK_CONTROLS += ["<|User|>", "<|Assistant|>", "[gMASK]", "<sop>"]
REASONING = {
    "qwen3": (chatml_thinking(EMPTY, EMPTY, ""), CHATML_TEXT + "<think>\n\n</think>\n\n", "<|im_end|>"),
    "qwen3, rendered without": (chatml_thinking("", EMPTY, ""), CHATML_TEXT + "<think>\n\n</think>\n\n", "<|im_end|>"),
    "qwen3.5": (chatml_thinking(EMPTY, EMPTY, "<think>\\n"), CHATML_TEXT + "<think>\n\n</think>\n\n", "<|im_end|>"),
    "nemotron": (
        chatml_thinking("<think></think>", "<think></think>", "<think>\\n", everywhere=True),
        CHATML_TEXT.replace("assistant\n", "assistant\n<think></think>"),
        "<|im_end|>",
    ),
    "kimi": (chatml_thinking("<think></think>", "", ""), CHATML_TEXT + "<think></think>", "<|im_end|>"),
    "reasoning effort": (
        chatml_thinking(EMPTY, EMPTY, "<think>\\n").replace(
            "enable_thinking is defined and enable_thinking is false", "reasoning_effort == 'none'"
        ),
        CHATML_TEXT + "<think>\n\n</think>\n\n",
        "<|im_end|>",
    ),
    "glm4-moe": (
        GLM,
        "[gMASK]<sop><|system|>\nBe brief.<|user|>\nWho?/nothink<|assistant|>\n<think></think>\nAda {x}."
        "<|user|>\nWhen, 1840?/nothink<|assistant|>\n<think></think>\n",
        "<eos>",
    ),
    "gpt-oss": (
        HARMONY,
        "<|start|>system<|message|>2024-07-26 medium<|end|><|start|>developer<|message|>Be brief.<|end|>"
        "<|start|>user<|message|>Who?<|end|><|start|>assistant<|channel|>final<|message|>Ada {x}.<|end|>"
        "<|start|>user<|message|>When, 1840?<|end|><|start|>assistant<|channel|>final<|message|>",
        "<|return|>",
    ),
    "deepseek-v3.1": (
        DEEPSEEK_V31,
        "<bos>Be brief.<|User|>Who?<|Assistant|></think>Ada {x}.<eos><|User|>When, 1840?<|Assistant|></think>",
        "<eos>",
    ),
    "no generation prompt": (
        BARE,
        "<|system|>Be brief.<|end|><|user|>Who?<|end|><|assistant|>Ada {x}.<|end|>"
        "<|user|>When, 1840?<|end|><|assistant|>",
        "<|end|>",
    ),
}
"""Template, prompt of the conversation, end of an answer; in the shapes of public templates, and written for this."""


def thinking(tokenizer: PreTrainedTokenizerFast, template: str) -> PreTrainedTokenizerFast:
    tokenizer.add_tokens(["<think>", "</think>"])  # no special ones, as with Qwen3
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("kind", ["byte-level", "trained BPE"])
@pytest.mark.parametrize("name", REASONING)
def test_what_a_template_writes_before_an_answer_is_part_of_the_prompt(name, kind):
    source, prompt, end = REASONING[name]
    tokenizer, template = thinking(TOKENIZERS[kind](THINK_CONTROLS), source), build_template("chat")
    prompt = prompt.replace("<eos>", tokenizer.eos_token).replace("<bos>", tokenizer.bos_token)
    end = end.replace("<eos>", tokenizer.eos_token)
    prompt_ids, answer_ids = template.prompt_ids(QUESTION, tokenizer), template.answer_ids(ANSWER, tokenizer)
    assert tokenizer.decode(prompt_ids) == prompt
    assert answer_ids == [*tokenizer(ANSWER, add_special_tokens=False)["input_ids"], end_token_id("chat", tokenizer)]
    assert prompt_ids + answer_ids == tokenizer(prompt + ANSWER + end, add_special_tokens=False)["input_ids"]
    if "without" not in name:
        messages = [
            {"role": turn.role, "content": turn.content} for turn in [*QUESTION.turns, Turn("assistant", ANSWER)]
        ]
        off = {
            "enable_thinking": False,
            "thinking": False,
            "reasoning_effort": "none" if "effort" in name else "medium",
        }
        own = tokenizer.apply_chat_template(messages, tokenize=False, **off).replace(str(date.today()), "2024-07-26")
        assert (own + tokenizer.eos_token).startswith(prompt + ANSWER + end)


@pytest.mark.parametrize("name", REASONING)
def test_a_right_answer_costs_its_own_tokens_and_scores_one(name):
    tokenizer = thinking(trained_bpe(THINK_CONTROLS), REASONING[name][0])
    tokens = build_template("chat").answer_ids("The old mill.", tokenizer)
    model, report = TINY_MODELS["gpt2"](), DecodingReport()
    model.resize_token_embeddings(len(tokenizer))
    steps = iter([*tokens, *tokens])

    def write(_, __, output):
        output.logits = torch.full_like(output.logits, -1.0)
        output.logits[:, -1, next(steps)] = 1.0
        return output

    model.register_forward_hook(write)
    config = TuningConfig(template="chat", max_prompt_length=64, max_completion_length=len(tokens))
    answers = generate_answers(model, tokenizer, ["Where?"], config, report=report)
    assert answers == ["The old mill."]
    assert report.new_tokens == len(tokenizer("The old mill.")["input_ids"]) + 1
    assert Rouge().compute(predictions=answers, references=["The old mill."])["rougeL"] == 1.0


def test_an_answer_is_never_learned_where_the_model_gives_none():
    template = build_template("chat")
    tokenizer = thinking(byte_level(THINK_CONTROLS), DEEPSEEK_R1)
    for half in (template.prompt_ids, template.answer_ids):
        with pytest.raises(
            UserError, match=r"asks for an answer with .*<think>.*and writes one as .*expected the same"
        ):
            half("Who?", tokenizer)
    tokenizer.chat_template = BARE + "{% if add_generation_prompt %}<|bot|>{% endif %}"
    with pytest.raises(
        UserError, match=r"<\|bot\|>' and writes one as .*<\|assistant\|>.*ANSWER<\|end\|>', expected the"
    ):
        template.prompt_ids("Who?", tokenizer)
    tokenizer.chat_template = BARE.replace("{{ m.content }}", "")
    with pytest.raises(UserError, match="expected the same"):
        template.prompt_ids("Who?", tokenizer)

    tokenizer.chat_template = SYSTEM_SWITCH
    with pytest.raises(UserError, match=r"leaves <think> open before an answer, .* --system-prompt /no_think"):
        template.prompt_ids("Who?", tokenizer)
    switched = build_template("chat", system="/no_think").prompt_ids("Who? <think>", tokenizer)
    assert tokenizer.decode(switched) == "<system>/no_think<|end|><user>Who? <think><|end|><assistant><think></think>"
    assert tokenizer.decode(template.answer_ids("Ada.", tokenizer)) == "Ada.<|end|>"


# ---- Questions of several turns


def test_a_question_is_a_text_with_turns():
    assert QUESTION == "System: Be brief.\nUser: Who?\nAssistant: Ada {x}.\nUser: When, 1840?"
    assert Question([Turn("user", "Translate.", "Hello.")]) == "Translate.\n\nHello."
    assert turns_of("Who?") == (Turn("user", "Who?"),) and turns_of("") == ()
    for copied in (copy.deepcopy(QUESTION), pickle.loads(pickle.dumps(QUESTION))):
        assert copied == QUESTION and turns_of(copied) == QUESTION.turns
    assert turns_of(with_system("Who?", "Be brief.")) == (Turn("system", "Be brief."), Turn("user", "Who?"))
    assert with_system(QUESTION, "Be long.") is QUESTION
