"""Make tiny BLEURT checkpoints and record the scores that bleurt-pytorch 0.0.1 gives them.

`tests/test_metrics_bleurt.py` compares `gantune.metrics.Bleurt` with these records. bleurt-pytorch does not work with
transformers 5, so this script runs in an environment of its own (`make bleurt-reference`) and imports nothing of
gantune. Without protobuf installed, bleurt-pytorch cannot open a SentencePiece checkpoint.

    python -m benchmarks.built_in.bleurt_reference [output folder, default tests/fixtures/bleurt]

It writes two checkpoint folders with random weights, each with an `expected.json` beside them:

- `bert/`: the BERT-style layout (`vocab.txt`, no embedding projection), as in bleurt-tiny, -base and -large.
- `bleurt20/`: the BLEURT-20 layout: `spm.model`, and embeddings narrower than the encoder (`embedding_size`). In
  bleurt-pytorch any `embedding_size` other than null adds the projection layer, even one equal to `hidden_size`.

Weights, vocabularies and scores are a function of the seeds below and of the pinned package versions.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import sentencepiece
import torch
import transformers
from bleurt_pytorch import BleurtConfig, BleurtForSequenceClassification, BleurtTokenizer
from bleurt_pytorch.bleurt.tokenization_bleurt_fast import BleurtTokenizerFast
from bleurt_pytorch.bleurt.tokenization_bleurt_sp import BleurtSPTokenizer

PAIRS = [  # reference, candidate
    ("An apple a day keeps the doctor away.", "An apple a day keeps the doctor away."),
    ("An apple a day keeps the doctor away.", "An apple a day keeps doctors away."),
    ("Bud Powell was a legendary pianist.", "Bud Powell was a historical piano player."),
    ("Bud Powell was a legendary pianist.", "Bud a day keeps the doctor away."),
    ("The author was born in Lima, Peru, in 1952.", "She was born in Kuwait City."),
    ("The author was born in Lima, Peru, in 1952.", ""),
    ("Her café opened.", "Zürich — naïve!"),
    (
        "Her first novel tells the story of a doctor who keeps an apple tree behind the house.",
        "Her first novel is about a piano player who was born in the house behind the apple tree.",
    ),
]
CORPUS = [text for pair in PAIRS[:6] + PAIRS[7:] for text in pair if text]
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "hidden_act": "gelu_new",
}


def wordpiece_tokenizer(folder: Path) -> BleurtTokenizerFast:
    """A lower-casing WordPiece tokenizer: the special tokens, the corpus's frequent words, single characters."""
    words = sorted({word for text in CORPUS for word in text.lower().replace(".", "").replace(",", "").split()})
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    characters = letters + [f"##{letter}" for letter in letters] + list("0123456789.,!") + ["##s", "##ist", "##er"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(word for word in words if len(word) > 2)]
    vocab_file = folder / "vocab.txt"
    vocab_file.write_text("\n".join(dict.fromkeys(pieces)) + "\n", encoding="utf-8")
    return BleurtTokenizerFast(str(vocab_file), do_lower_case=True)


def sentencepiece_tokenizer(folder: Path) -> BleurtSPTokenizer:
    """A cased SentencePiece tokenizer trained on the corpus in one thread, hence the same every time."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        model_type="bpe",
        vocab_size=150,
        normalization_rule_name="identity",
        num_threads=1,
        pad_id=0,
        pad_piece="[PAD]",
        unk_id=1,
        unk_piece="[UNK]",
        bos_id=-1,
        eos_id=-1,
        control_symbols=["[MASK]", "[CLS]", "[SEP]"],
        minloglevel=2,
    )
    vocab_file = folder / "spm.model"
    vocab_file.write_bytes(model.getvalue())
    return BleurtSPTokenizer(str(vocab_file))


def random_model(config: BleurtConfig, seed: int) -> BleurtForSequenceClassification:
    """A model whose every parameter is random, biases and LayerNorms too, so that none can be dropped unnoticed."""
    model = BleurtForSequenceClassification(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = 0.3 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + noise if name.endswith("LayerNorm.weight") else noise)
    return model


def record(folder: Path, tokenizer: BleurtTokenizerFast | BleurtSPTokenizer, embedding_size: int | None) -> None:
    """Saves the checkpoint, reads it back through bleurt-pytorch's own loaders and writes what these give."""
    config = BleurtConfig(
        vocab_size=len(tokenizer),
        embedding_size=embedding_size,
        architectures=["BleurtForSequenceClassification"],
        **SIZES,
    )
    model = random_model(config, seed=20 if embedding_size else 10)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for unused in ("tokenizer.json", "special_tokens_map.json", "added_tokens.json"):
        (folder / unused).unlink(missing_ok=True)

    loaded = BleurtForSequenceClassification.from_pretrained(folder).eval()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), f"{name} changed on the way through the checkpoint"
    loaded_tokenizer = BleurtTokenizer.from_pretrained(folder)
    assert type(loaded_tokenizer) is type(tokenizer), f"{folder} gave back a {type(loaded_tokenizer).__name__}"

    references, candidates = [list(side) for side in zip(*PAIRS, strict=True)]
    inputs = loaded_tokenizer(references, candidates, padding="longest", return_tensors="pt")
    with torch.no_grad():
        scores = loaded(**inputs).logits.flatten()

    ids = [row[mask.bool()].tolist() for row, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]
    types = [
        row[mask.bool()].tolist() for row, mask in zip(inputs["token_type_ids"], inputs["attention_mask"], strict=True)
    ]
    unknown = [sum(i == loaded_tokenizer.unk_token_id for i in row) for row in ids]
    assert len({tuple(row) for row in ids}) == len(PAIRS), "two pairs became the same ids"
    assert all(unknown[k] == 0 for k in range(len(PAIRS)) if PAIRS[k] != PAIRS[6]), f"words became [UNK]: {unknown}"
    assert unknown[6] > 0, "the pair with unseen characters should contain [UNK]"
    assert scores.std() > 0.1, f"the scores do not discriminate: {scores.tolist()}"

    expected = {
        "made_with": {
            "bleurt-pytorch": "0.0.1",
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "sentencepiece": sentencepiece.__version__,
        },
        "references": references,
        "candidates": candidates,
        "input_ids": ids,
        "token_type_ids": types,
        "scores": scores.tolist(),
    }
    text = json.dumps(expected, indent=1, ensure_ascii=False)
    (folder / "expected.json").write_text(text + "\n", encoding="utf-8")
    print(f"{folder}: {len(tokenizer)} pieces, scores {[round(score, 3) for score in scores.tolist()]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "bleurt"
    parser.add_argument("output", nargs="?", type=Path, default=default, help="folder to write (default: %(default)s)")
    output = parser.parse_args().output
    for folder in (output / "bert", output / "bleurt20"):
        folder.mkdir(parents=True, exist_ok=True)
    record(output / "bert", wordpiece_tokenizer(output / "bert"), embedding_size=None)
    record(output / "bleurt20", sentencepiece_tokenizer(output / "bleurt20"), embedding_size=16)


if __name__ == "__main__":
    main()
