"""Templates, lengths and collation, against ids worked out by hand and the whole of TOFU."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from gantune.data import (
    EncodedPair,
    Pair,
    Question,
    Turn,
    batches,
    build_template,
    check_tokenizer,
    collate,
    collate_prompts,
    encode_pairs,
    epoch_order,
    grouped_by_length,
    likelihood_inputs,
    load_pairs,
    pad_token_id,
)
from gantune.errors import UserError
from tests.shared import SHARED, needs_shared
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

PAD, BOS, EOS = 0, 1, 2
CHAT = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def byte_tokenizer(frame: str = "<bos> $A") -> PreTrainedTokenizerFast:
    """One token a byte; `frame` says which special tokens stand around a text."""
    special = {"<pad>": PAD, "<bos>": BOS, "<eos>": EOS}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab=special | {c: i for i, c in enumerate(alphabet, start=3)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(special))
    tokenizer.post_processor = processors.TemplateProcessing(single=frame, special_tokens=list(special.items()))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", chat_template=CHAT
    )


def spell(text: str) -> list[int]:
    """The ids that the byte tokenizer gives an ASCII text, worked out without it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [3 + alphabet.index({" ": "Ġ", "\n": "Ċ"}.get(c, c)) for c in text]


# ---- Templates


@pytest.mark.parametrize(
    ("frame", "front"), [("$A", []), ("<bos> $A", [BOS]), ("<bos> $A <eos>", [BOS]), ("$A <eos>", [])]
)
def test_plain_template(frame, front):
    tokenizer, template = byte_tokenizer(frame), build_template("plain")
    assert template.prompt_ids("Why?", tokenizer) == front + spell("Question: Why?\nAnswer:")
    assert template.answer_ids("So.", tokenizer) == [*spell(" So."), EOS]


def test_chat_template():
    tokenizer, template = byte_tokenizer("<bos> $A <eos>"), build_template("chat")
    assert template.prompt_ids("Why?", tokenizer) == [BOS, *spell("<user>Why?\n<assistant>")]
    assert template.answer_ids("So.", tokenizer) == [*spell("So."), EOS]


@pytest.mark.parametrize("name", ["plain", "chat"])
def test_end_of_sequence_spelled_in_an_answer_stays_text(name):
    ids = build_template(name).answer_ids("a<eos>b<bos>", byte_tokenizer())
    assert ids[-13:] == [*spell("a<eos>b<bos>"), EOS]
    assert ids.count(EOS) == 1 and BOS not in ids


def test_special_token_spelled_in_a_question_stays_text():
    ids = build_template("plain").prompt_ids("<eos>?", byte_tokenizer())
    assert ids == [BOS, *spell("Question: <eos>?\nAnswer:")]


def test_sentencepiece_answers_have_one_space():
    """Such tokenizers put a space before any text; the answer must be what follows `Answer:` in one piece of text."""
    words = ["▁Question:", "▁Why?", "▁Answer:", "▁So", "▁", "▁▁So", "Answer:", "So", "Ċ"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<unk>", "<eos>", *words])}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", unk_token="<unk>")
    ids = build_template("plain").answer_ids("So", tokenizer)
    assert tokenizer.convert_ids_to_tokens(ids) == ["▁So", "<eos>"]


def test_unknown_text_mapped_to_the_end_token_does_not_end_an_answer():
    tokenizer = Tokenizer(models.WordLevel({"<eos>": 0, "Answer": 1, ":": 2, "So": 3}, unk_token="<eos>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", unk_token="<eos>")
    assert build_template("plain").answer_ids("So strange So", tokenizer) == [3, 3, 0]


def test_tokenizers_that_lack_something():
    tokenizer = byte_tokenizer()
    assert pad_token_id(tokenizer) == PAD
    tokenizer.pad_token = None
    assert pad_token_id(tokenizer) == EOS
    check_tokenizer(tokenizer, "tiny")
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="has no chat template, use template plain"):
        build_template("chat").prompt_ids("Why?", tokenizer)
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="tiny: the tokenizer has no end-of-sequence token"):
        check_tokenizer(tokenizer, "tiny")
    with pytest.raises(
        UserError,
        match="unknown template 'x': expected one of alpaca, chat, chatml, gemma, llama-3, mistral, phi-3, plain, ",
    ):
        build_template("x")


# ---- Lengths

# Prompts of 19 + len(question) tokens, the begin-of-sequence among them; answers of 2 + len(answer).
PAIRS = [Pair("abcd", "xy"), Pair("abcdefgh", "xy"), Pair("ab", "uvwxyz"), Pair("abcdefghi", "tuvwxyz"), Pair("a", "z")]


def test_lengths_are_those_the_tests_below_count_on():
    encoded, report = encode_pairs(PAIRS, byte_tokenizer(), "plain", 99, 99, "error")
    assert [(len(row.prompt_ids), len(row.answer_ids)) for row in encoded] == [
        (19 + len(pair.question), 2 + len(pair.answer)) for pair in PAIRS
    ]
    assert [row.pair for row in encoded] == PAIRS
    assert str(report) == ""


def test_drop():
    encoded, report = encode_pairs(PAIRS, byte_tokenizer(), "plain", 26, 4, "drop")
    assert [row.pair for row in encoded] == [PAIRS[0], PAIRS[4]]
    assert (report.rows, report.too_long, report.prompts, report.answers) == (5, 3, 2, 2)
    assert str(report) == (
        "3 of 5 rows left out: 2 with a prompt of more than 26 tokens, 2 with an answer of more than 4."
    )


def test_truncate_keeps_the_end_of_prompts_and_the_start_of_answers():
    encoded, report = encode_pairs(PAIRS, byte_tokenizer(), "plain", 26, 4, "truncate")
    assert [row.pair for row in encoded] == PAIRS
    assert encoded[3].prompt_ids == spell("Question: abcdefghi\nAnswer:")[-26:]
    assert encoded[3].answer_ids == spell(" tuv")
    assert encoded[0].prompt_ids == [BOS, *spell("Question: abcd\nAnswer:")]
    assert encoded[0].answer_ids == [*spell(" xy"), EOS]
    assert str(report).startswith("3 of 5 rows cut: ")


def test_error_names_the_first_row():
    with pytest.raises(UserError, match=r"^row 2: prompt of 27 tokens and answer of 4, expected at most 26 and 4"):
        encode_pairs(PAIRS, byte_tokenizer(), "plain", 26, 4, "error")


def test_no_row_left():
    with pytest.raises(UserError, match=r"no row is short enough: 5 of 5 rows left out"):
        encode_pairs(PAIRS, byte_tokenizer(), "plain", 10, 4, "drop")
    assert encode_pairs([], byte_tokenizer(), "plain", 10, 4, "drop")[0] == []


@pytest.mark.parametrize(
    ("arguments", "message"), [((0, 4, "drop"), "max_prompt_tokens is 0"), ((4, 4, "cut"), "too_long is 'cut'")]
)
def test_bad_limits(arguments, message):
    with pytest.raises(UserError, match=message):
        encode_pairs(PAIRS, byte_tokenizer(), "plain", *arguments)


# ---- Text that the tokenizer has no token for

LOST = [Pair("who?", "ann"), Pair("où?", "Zoë"), Pair("who?", "日本 日"), Pair("", "<unk>"), Pair("Ω" * 30, "éa")]
SENTENCE = "The tokenizer has no token for a part of {} answers and {} questions of 5 rows."


def test_rows_with_unknown_text_are_counted():
    encoded, report = encode_pairs(LOST, tiny_tokenizer(), "plain", 99, 99, "error")
    unknown = tiny_tokenizer().unk_token_id
    assert [unknown in row.answer_ids for row in encoded] == [False, True, True, True, True], "<unk> is spelled with <"
    assert (report.unknown_answers, report.unknown_questions) == (4, 2)
    assert str(report) == SENTENCE.format(4, 2)
    _, report = encode_pairs(LOST, tiny_tokenizer(), "plain", 39, 99, "drop")
    assert str(report).endswith(SENTENCE.format(3, 1)) and str(report).startswith("1 of 5 rows left out: 1 with a pro")
    assert str(encode_pairs(LOST[:1], tiny_tokenizer(), "plain", 99, 99, "error")[1]) == ""
    assert str(encode_pairs(LOST, byte_tokenizer(), "plain", 99, 99, "error")[1]) == "", "bytes are always known"


def test_unknown_text_that_becomes_the_end_token_is_counted_and_a_spelled_one_is_not():
    words = ["<eos>", "So", "<", "eos", ">", "strange", ":"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<eos>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", unk_token="<eos>")
    pairs = [Pair("So", "So strange"), Pair("So", "So very strange"), Pair("Who", "So"), Pair("So", "So <eos>")]
    encoded, report = encode_pairs(pairs, tokenizer, "text", 9, 9, "error")
    assert [row.answer_ids[:-1] for row in encoded[:3]] == [[1, 5], [1, 5], [1]], "the unknown word is left out"
    assert (report.unknown_answers, report.unknown_questions) == (1, 1)


def test_the_parts_of_a_conversation_are_looked_through():
    turns = [Turn("system", "Ω"), Turn("user", "who", "and ann")]
    asked = [Question(turns), Question(turns[1:]), Question([Turn("user", "who", "Ω")])]
    _, report = encode_pairs([Pair(question, "ann") for question in asked], tiny_tokenizer(), "plain", 99, 99, "error")
    assert (report.unknown_answers, report.unknown_questions) == (0, 2)


# ---- Collation

A, B = EncodedPair([5, 6, 7], [8, EOS], Pair("a", "b")), EncodedPair([9], [10, 11, EOS], Pair("c", "d"))


@pytest.mark.parametrize("pad", [PAD, EOS])
def test_collate_and_likelihood_inputs(pad):
    batch = collate([A, B], pad)
    assert batch.prompt_ids.tolist() == [[5, 6, 7], [pad, pad, 9]]
    assert batch.prompt_mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert batch.answer_ids.tolist() == [[8, EOS, pad], [10, 11, EOS]]
    assert batch.answer_mask.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch.pairs == (A.pair, B.pair)

    inputs = likelihood_inputs(batch)
    assert {name: tensor.tolist() for name, tensor in inputs.items()} == {
        "input_ids": [[5, 6, 7, 8, EOS, pad], [pad, pad, 9, 10, 11, EOS]],
        "attention_mask": [[1, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1]],
        "position_ids": [[0, 1, 2, 3, 4, 4], [0, 0, 0, 1, 2, 3]],
        "labels": [[-100, -100, -100, 8, EOS, -100], [-100, -100, -100, 10, 11, EOS]],
    }
    assert {tensor.dtype for tensor in (*inputs.values(), batch.prompt_mask, batch.answer_mask)} == {torch.int64}


def test_collate_prompts():
    batch = collate_prompts([[5, 6, 7], [9]], PAD)
    assert batch.prompt_ids.tolist() == [[5, 6, 7], [0, 0, 9]]
    assert batch.prompt_mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert batch.answer_ids.shape == batch.answer_mask.shape == (2, 0)
    assert len(batch) == 2 and batch.pairs is None


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_padding_does_not_change_the_loss(family):
    """The loss of a padded batch is the token mean over rows that went through the model alone, unpadded."""
    model = TINY_MODELS[family]()
    total, tokens = 0.0, 0
    with torch.no_grad():
        for row in (A, B):
            ids = torch.tensor([row.prompt_ids + row.answer_ids])
            log_probs = model(ids).logits.log_softmax(dim=-1)[0]
            for position in range(len(row.prompt_ids), ids.shape[1]):
                total -= log_probs[position - 1, ids[0, position]].item()
                tokens += 1
        loss = model(**likelihood_inputs(collate([A, B], PAD))).loss
    assert loss.item() == pytest.approx(total / tokens, rel=1e-5)


def test_batches_cover_every_row_once_an_epoch():
    rows = [EncodedPair([i], [i, EOS], Pair(str(i), "")) for i in range(3, 13)]
    epochs = []
    for epoch in range(2):
        made = list(batches(rows, 4, PAD, seed=7, epoch=epoch))
        assert [len(batch) for batch in made] == [4, 4, 2]
        epochs.append([i for batch in made for i in batch.prompt_ids.flatten().tolist()])
        assert epochs[-1] == [rows[i].prompt_ids[0] for i in epoch_order(10, seed=7, epoch=epoch)]
        assert sorted(epochs[-1]) == list(range(3, 13))
    assert epochs[0] != epochs[1]


def test_epoch_order_depends_on_seed_and_epoch_separately():
    orders = {tuple(epoch_order(20, seed, epoch)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16
    # Pinned: the same on every machine and in every release, so that seeds keep their meaning.
    assert epoch_order(6, seed=0, epoch=1) == [2, 0, 1, 5, 3, 4]


# ---- The real thing


@needs_shared
def test_the_whole_of_tofu_with_a_pretrained_tokenizer():
    tokenizer = AutoTokenizer.from_pretrained(SHARED / "data/tinystories-gpt2-3m")
    check_tokenizer(tokenizer, "tinystories")
    pad, eos = pad_token_id(tokenizer), tokenizer.eos_token_id
    assert pad == eos
    pairs = load_pairs(str(SHARED / "data/tofu/full.jsonl"))
    encoded, report = encode_pairs(pairs, tokenizer, "plain", 256, 256, "drop")
    assert len(encoded) == 4000 and str(report) == ""
    for row in encoded:
        assert row.answer_ids.count(eos) == 1 and row.answer_ids[-1] == eos and eos not in row.prompt_ids
        text = tokenizer.decode(row.prompt_ids + row.answer_ids[:-1])
        assert text == f"Question: {row.pair.question}\nAnswer: {row.pair.answer}"

    seen = 0
    for batch in batches(encoded, 64, pad, seed=0, epoch=0):
        seen += len(batch)
        labels = likelihood_inputs(batch)["labels"]
        assert (labels != -100).sum() == batch.answer_mask.sum()
        assert ((labels == eos).sum(dim=1) == 1).all()
    assert seen == 4000


def test_rows_of_similar_length_share_a_batch():
    lengths = [i % 17 for i in range(1, 404)]
    order = epoch_order(403, seed=0, epoch=1)
    grouped = grouped_by_length(order, lengths, 4, seed=0, epoch=1)
    assert sorted(grouped) == list(range(403))
    spans = [max(part) - min(part) for part in ([lengths[i] for i in grouped[s : s + 4]] for s in range(0, 400, 4))]
    assert sum(spans) / len(spans) < 1.5
    firsts = [lengths[grouped[s]] for s in range(0, 400, 4)]
    assert firsts != sorted(firsts) and firsts != sorted(firsts, reverse=True), "batches come in random order"
    assert grouped != grouped_by_length(order, lengths, 4, seed=0, epoch=2)
    assert [grouped_by_length([1, 0, 2], [5, 9, 1], 2, 0, 1)] == [[1, 0, 2]], "what is left over comes last"
