"""What a step costs on a model of any size, computed: `python -m benchmarks.speed.scaling --model-shape 7b`.

Operations, bytes of memory and bytes read of one adversarial step and of one LoRA step, from the shape of the model and
of the batch alone. `docs/scaling.md` explains the terms and holds them against measured steps; `python -m
benchmarks.speed.scaling --write docs/scaling.md` writes its tables.

A multiplication with an addition counts as two operations. Only matrix products and attention are counted, as
`torch.utils.flop_counter` does; attention over the whole square, as its kernels are counted there.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report.grid import markdown_table, text_table
from benchmarks.speed.workload import Workload
from gantune.command import OneLineParser, exit_status
from gantune.diagnostics import write_atomically
from gantune.errors import UserError

LORA_RANK = 8
NOISE = 100
CHUNK_ROWS = 128  # gantune.policy.log_probs
STATE = 16  # bytes of a trained float32 parameter: itself, its gradient and two moments of Adam
CNN_DIM, CNN_WIDTHS, CNN_FILTERS = 32, (1, 2, 3, 4), 32  # gantune.discriminators.cnn


@dataclass(frozen=True)
class Shape:
    """A decoder of one of two families: GPT-2's blocks, or Llama's (gated feed-forward, rotary positions, RMSNorm).

    Args:
        layers: blocks.
        width: d, of the hidden states.
        heads: of attention; their keys and values are shared by `heads / kv_heads` of them.
        kv_heads: heads of keys and values.
        feed_forward: inner width of the feed-forward part.
        vocabulary: tokens.
        llama: whether the blocks are Llama's.
        tied: whether embeddings and output head are one matrix.
        positions: rows of a table of learned positions; 0 for none.
        source: where the numbers are from.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    llama: bool
    tied: bool
    positions: int
    source: str

    @property
    def kv_width(self) -> int:
        """Width of the keys, and of the values, of a position in one layer."""
        return self.width // self.heads * self.kv_heads

    @property
    def block_weights(self) -> int:
        """Weights of the matrices of all blocks."""
        attention = 2 * self.width * (self.width + self.kv_width)
        return self.layers * (attention + (3 if self.llama else 2) * self.width * self.feed_forward)

    @property
    def weights(self) -> int:
        """Weights of all matrices; norms and biases, below a thousandth, are left out."""
        return self.block_weights + (self.vocabulary * (1 if self.tied else 2) + self.positions) * self.width

    @property
    def generator_parameters(self) -> int:
        """Of the EmbeddingGenerator at its default widths d/2, d/4, d/2, with its LayerNorm."""
        half, quarter, d = self.width // 2, self.width // 4, self.width
        return 2 * d + (d + NOISE + 1) * half + (half + 1) * quarter + (quarter + 1) * half + (half + 1) * d

    @property
    def generator_matrices(self) -> int:
        """Weights that each token is multiplied with in the EmbeddingGenerator; its noise half is of a sequence."""
        half, quarter = self.width // 2, self.width // 4
        return 2 * half * (self.width + quarter)

    @property
    def discriminator_parameters(self) -> int:
        """Of the default discriminator, a CNN on token embeddings of its own."""
        features = 2 * CNN_FILTERS * len(CNN_WIDTHS)
        convolutions = sum((CNN_DIM * width + 1) * CNN_FILTERS for width in CNN_WIDTHS)
        return (self.vocabulary + 2) * CNN_DIM + convolutions + 2 * (features + 1) * features + features + 1

    @property
    def lora_parameters(self) -> int:
        """Of LoRA at rank 8 on what peft adapts by default: GPT-2's joint projection; Llama's queries and values."""
        outputs = [self.width, self.kv_width] if self.llama else [3 * self.width]
        return self.layers * LORA_RANK * sum(self.width + output for output in outputs)


SHAPES = {
    "gpt2": Shape(12, 768, 12, 12, 3072, 50257, False, True, 1024, "openai-community/gpt2, config.json"),
    "7b": Shape(32, 4096, 32, 32, 11008, 32000, True, False, 0, "Llama 2 7B (arXiv:2307.09288)"),
    "70b": Shape(80, 8192, 64, 8, 28672, 128256, True, False, 0, "Llama 3 70B (arXiv:2407.21783)"),
}


@dataclass(frozen=True)
class Step:
    """What a step works on.

    Args:
        shape: of the model.
        batch_size: B, questions.
        samples: k, answers sampled to each question.
        question_tokens: P.
        answer_tokens: T, all of them sampled: no answer ends early.
        anchor: whether the likelihood of the true answers is in the loss.
        bytes_a_number: 4 for float32, 2 for bfloat16: of frozen weights, activations, keys and values.
        micro_batch: m, questions at once; B for all, which alone shares the reading of questions with the rollout.
        checkpointing: keep each block's input only, and compute the rest again.
    """

    shape: Shape
    batch_size: int
    samples: int = 4
    question_tokens: int = 100
    answer_tokens: int = 50
    anchor: bool = True
    bytes_a_number: int = 2
    micro_batch: int | None = None
    checkpointing: bool = False

    @property
    def at_once(self) -> int:
        """Questions that pass through the model at once."""
        return self.micro_batch or self.batch_size


# ------------------------------------------------------------------------------------------------------- operations


def _attention(shape: Shape, queries: int, keys: int) -> int:
    return 4 * shape.layers * shape.width * queries * keys


def adversarial_operations(step: Step) -> dict[str, int]:
    """Operations of the parts of an adversarial step; the discriminator's, below a thousandth, are left out.

    Returns:
        By part: `prefill` (the questions, read once; once more without gradient where the rollout cannot share it),
        `rollout`, `score` (samples and anchor), `backward`, and `kl` (one answer to every fourth question, by the model
        without adapter).
    """
    shape, questions, p, t = step.shape, step.batch_size, step.question_tokens, step.answer_tokens
    adapter, body = 2 * shape.generator_matrices, 2 * shape.block_weights
    head = 2 * shape.vocabulary * shape.width
    rows = questions * (step.samples + step.anchor)

    def forward(tokens: int, keys: int) -> int:
        return tokens * (body + adapter) + _attention(shape, tokens, keys)

    def backward(tokens: int, keys: int) -> int:
        """Through frozen weights once, through the adapter twice (its weights too), 5/2 times through attention."""
        return tokens * (body + 2 * adapter) + _attention(shape, tokens, keys) * 5 // 2

    decoded = sum(forward(1, p + fed) + head for fed in range(1, t)) + head
    judged = -(-questions // 4) * ((p + t) * body + _attention(shape, p + t, p + t) + t * head)
    shared = step.at_once == questions and not step.checkpointing
    parts = {"prefill": questions * forward(p, p), "rollout": questions * step.samples * decoded, "kl": judged}
    if step.checkpointing:  # each answer is scored with its question, forward twice
        scored, back = 2 * forward(p + t, p + t), rows * backward(p + t, p + t)
    else:
        parts["prefill"] *= 1 if shared else 2
        scored = forward(t - 1, p + t - 1)
        back = questions * backward(p, p) + rows * backward(t - 1, p + t - 1)
    # the gradient with respect to what the head takes is computed with the log-probs
    return parts | {"score": rows * (scored + 2 * t * head), "backward": back}


def lora_operations(step: Step, answers_only: bool = False) -> int:
    """Operations of a LoRA step on the true answers: forward, and backward down to the first block's adapters.

    Args:
        step: its batch; samples are of no account.
        answers_only: logits at answer positions only.
    """
    shape, tokens = step.shape, step.question_tokens + step.answer_tokens
    body, head = 2 * shape.block_weights, 2 * shape.vocabulary * shape.width
    first = 2 * shape.width * (shape.width + 2 * shape.kv_width)  # no gradient passes below the first projections
    logits = (step.answer_tokens if answers_only else tokens) * head
    attention = _attention(shape, tokens, tokens)
    adapters = 2 * shape.lora_parameters
    below = 2 * LORA_RANK * shape.width * (2 if shape.llama else 1)  # nor into the first block's adapters
    forward = tokens * (body + adapters) + attention + logits
    backward = tokens * (body - first + 2 * adapters - below) + attention * 5 // 2 + logits
    return step.batch_size * (forward + backward)


# ----------------------------------------------------------------------------------------------------------- memory


def _block(step: Step, tokens: int, keys: int, lora: bool, cached: bool = False) -> int:
    """Bytes that one block keeps for the backward pass of a row.

    Args:
        step: see [`Step`].
        tokens: that are fed.
        keys: positions that they attend to.
        lora: whether LoRA's inputs are kept as well, and GPT-2's GELU is transformers' own instead of torch's kernel.
        cached: whether keys and values come from a cache that holds more than these tokens.
    """
    shape, e = step.shape, step.bytes_a_number
    d, kv = shape.width, shape.kv_width
    if shape.llama:
        norms, wide = 2 * d * 4, 3 * shape.feed_forward * e  # RMSNorm computes in float32
        attention = tokens * 2 * d * e + keys * 2 * (d if cached else kv) * e  # shared heads are repeated if masked
        inputs = (1 if e == 4 else 2) * d * 4 + 2 * LORA_RANK * 4  # float32 adapters take copies
    else:
        norms, wide = 2 * d * e, shape.feed_forward * e * (4 if lora else 1)
        attention = tokens * 4 * d * e + (0 if lora else keys * 2 * kv * e)  # the joint projection, and the cache
        inputs = d * 4 + LORA_RANK * 4
    mask = tokens * keys * e if cached else 0
    return tokens * (norms + wide + (inputs if lora else 0) + 4 * shape.heads) + attention + mask


def kv_bytes(step: Step, rows: int, positions: int) -> int:
    """Bytes of the keys and values of `rows` times `positions`."""
    return rows * positions * step.shape.layers * 2 * step.shape.kv_width * step.bytes_a_number


def adversarial_memory(step: Step) -> dict[str, int]:
    """Bytes of an adversarial step by what holds them; `peak` is the most at once, the frozen weights included.

    Two phases compete: sampling (`rollout cache` and the samplers' logits) and scoring (`answers`, `gradients of the
    questions' keys` and a chunk of logits). The graph of the questions is kept through both, if all questions are read
    at once and blocks are not checkpointed; otherwise it is built part by part, for scoring only.
    """
    shape, e, p, t = step.shape, step.bytes_a_number, step.question_tokens, step.answer_tokens
    d, m, k = shape.width, step.at_once, step.samples
    state = STATE * (shape.generator_parameters + shape.discriminator_parameters)
    cache = kv_bytes(step, m * k, p + t - 1)
    logits = m * k * shape.vocabulary * (e + 8)  # as the model writes them, float32, and their softmax
    chunk = min(CHUNK_ROWS, m * (t if step.checkpointing else t - 1)) * shape.vocabulary * (e if e == 4 else e + 4)
    if step.checkpointing:
        questions, leaves = 0, 0
        answers = m * ((p + t) * d * e * shape.layers + _block(step, p + t, p + t, lora=False))
    else:
        questions = m * shape.layers * _block(step, p, p, lora=False)
        answers = m * shape.layers * _block(step, t - 1, p + t - 1, lora=False, cached=True)
        leaves = kv_bytes(step, m, p)
    sampling = cache + logits
    if m == step.batch_size:  # the graph is there while sampling
        sampling += questions
    else:
        sampling += leaves
    scoring = questions + answers + leaves + chunk
    return {
        "frozen weights": shape.weights * e,
        "trained parameters": state,
        "questions": questions,
        "rollout cache": cache,
        "sampled logits": logits,
        "answers": answers,
        "gradients of the questions' keys": leaves,
        "logits chunk": chunk,
        "peak": shape.weights * e + state + max(sampling, scoring),
    }


def lora_memory(step: Step, answers_only: bool = False) -> dict[str, int]:
    """Bytes of a LoRA step by what holds them; `peak` is the most at once, the frozen weights included.

    Args:
        step: its batch; samples are of no account.
        answers_only: logits at answer positions only.
    """
    shape, e, m = step.shape, step.bytes_a_number, step.at_once
    tokens = step.question_tokens + step.answer_tokens
    block = _block(step, tokens, tokens, lora=True)
    activations = m * (tokens * shape.width * e * shape.layers + block if step.checkpointing else shape.layers * block)
    positions = step.answer_tokens if answers_only else tokens
    # as the model writes them, if it is not float32; in float32, their log-softmax, and the gradient
    logits = m * positions * shape.vocabulary * (12 if e == 4 else e + 12)
    held = {
        "frozen weights": shape.weights * e,
        "trained parameters": STATE * shape.lora_parameters,
        "activations": activations,
        "logits": logits,
    }
    return held | {"peak": sum(held.values())}


def rollout_bytes_read(step: Step) -> int:
    """Bytes that decoding reads: all weights but the embedding once a token, and the cache so far.

    All answers are decoded side by side; with micro-batches, those of one, so that weights are read as many times more.
    """
    shape, p, t = step.shape, step.question_tokens, step.answer_tokens
    matrices = (shape.block_weights + shape.vocabulary * shape.width) * step.bytes_a_number
    passes = -(-step.batch_size // step.at_once)
    cache = sum(kv_bytes(step, step.batch_size * step.samples, p + fed) for fed in range(1, t))
    return passes * (t - 1) * matrices + cache


def seconds(step: Step, operations_a_second: float, bytes_a_second: float) -> dict[str, float]:
    """Seconds of an adversarial step and of LoRA's on a device of two speeds.

    Decoding is the sum of reading and computing, as if they did not overlap; all else computes only.
    """
    operations = adversarial_operations(step)
    adversarial = sum(operations.values()) / operations_a_second + rollout_bytes_read(step) / bytes_a_second
    return {"adversarial": adversarial, "lora": lora_operations(step) / operations_a_second}


# ----------------------------------------------------------------------------------------------- against measurement


def of_workload(workload: Workload | dict[str, Any]) -> Step:
    """The step that `benchmarks.speed` measures on a workload at GPT-2's size: one sample, no anchor."""
    values = workload if isinstance(workload, dict) else vars(workload)
    return Step(
        SHAPES[values["size"]],
        values["batch_size"],
        samples=1,
        question_tokens=values["question_tokens"],
        answer_tokens=values["answer_tokens"],
        anchor=False,
        bytes_a_number={"float32": 4, "bfloat16": 2}[values["dtype"]],
    )


def predicted_memory(step: Step, contender: str) -> int:
    """Peak above the loaded model."""
    if contender == "gantune":
        return adversarial_memory(step)["peak"] - step.shape.weights * step.bytes_a_number
    return lora_memory(step, contender == "lora-answers")["peak"] - step.shape.weights * step.bytes_a_number


def operations_grid(speed: dict[str, Any]) -> list[list[str]]:
    """Predicted and counted operations of each part."""
    counted = {row["contender"]: row for row in speed["flops"]}
    rows = [
        ("adversarial, " + part, value, counted["gantune"]["parts"][part])
        for part, value in adversarial_operations(of_workload(counted["gantune"]["workload"])).items()
    ]
    step = of_workload(counted["lora"]["workload"])
    rows += [
        ("LoRA", lora_operations(step), counted["lora"]["flops"]),
        ("LoRA, answer-only logits", lora_operations(step, True), counted["lora-answers"]["flops"]),
    ]
    grid = [["step and part", "predicted GFLOP", "counted GFLOP", "error"]]
    return grid + [[name, f"{a / 1e9:.3f}", f"{b / 1e9:.3f}", _error(a, b)] for name, a, b in rows]


def memory_grid(speed: dict[str, Any], live: list[dict[str, Any]]) -> list[list[str]]:
    """Predicted peak above the model, beside the bytes of live tensors and the resident memory that were measured."""
    grid = [["contender", "B", "predicted MB", "live tensors MB", "error", "resident MB", "resident / predicted"]]
    resident = {
        (row["contender"], row["workload"]["batch_size"]): row["peak_bytes"]
        for row in speed["memory"]
        if row.get("peak_bytes")
    }
    tensors = {(row["contender"], row["workload"]["batch_size"]): row for row in live}
    for contender in ("lora", "lora-answers", "gantune"):
        for batch_size in sorted({b for name, b in (*resident, *tensors) if name == contender}):
            own, seen = tensors.get((contender, batch_size)), resident.get((contender, batch_size))
            workload = speed["memory"][0]["workload"] | {"batch_size": batch_size}
            value = predicted_memory(of_workload(workload), contender)
            grid.append(
                [
                    contender,
                    str(batch_size),
                    f"{value / 1e6:.0f}",
                    f"{own['live_bytes'] / 1e6:.0f}" if own else "-",
                    _error(value, own["live_bytes"]) if own else "-",
                    f"{seen / 1e6:.0f}" if seen else "-",
                    f"{seen / value:.2f}" if seen else "-",
                ]
            )
    return grid


def calibrated(speed: dict[str, Any]) -> tuple[float, float]:
    """Operations and bytes a processor second: from LoRA's step at B=4, and from decoding at B=1, both float32."""
    lora, alone = _timed(speed, "lora", 4), _timed(speed, "gantune", 1)
    rate = lora_operations(of_workload(lora["workload"])) / lora["processor"]["median"]
    step = of_workload(alone["workload"])
    reading = alone["parts"]["rollout"]["processor"] - adversarial_operations(step)["rollout"] / rate
    return rate, rollout_bytes_read(step) / reading


def seconds_grid(speed: dict[str, Any]) -> list[list[str]]:
    """Predicted and measured processor seconds of a step."""
    rates = calibrated(speed)
    grid = [["step", "B", "predicted s", "measured s", "error"]]
    for name, contender in (("adversarial", "gantune"), ("lora", "lora")):
        for batch_size in (1, 4, 16):
            row = _timed(speed, contender, batch_size)
            value, measured = seconds(of_workload(row["workload"]), *rates)[name], row["processor"]["median"]
            used = " (sets the rate)" if (contender, batch_size) == ("lora", 4) else ""
            grid.append([contender, str(batch_size), f"{value:.2f}", f"{measured:.2f}", _error(value, measured) + used])
    return grid


def _timed(speed: dict[str, Any], contender: str, batch_size: int) -> dict[str, Any]:
    wanted = {"dtype": "float32", "batch_size": batch_size, "answer_tokens": 50}
    return next(
        row
        for row in speed["summary"]
        if row["contender"] == contender and all(row["workload"][key] == value for key, value in wanted.items())
    )


def _error(predicted: float, measured: float) -> str:
    return f"{100 * (predicted / measured - 1):+.1f} %"


# ------------------------------------------------------------------------------------------------------------ output

BATCHES = (8, 16)
LENGTHS = ((100, 50), (1024, 256))
SAVINGS = {
    "as it is": {},
    "micro-batch 1": {"micro_batch": 1},
    "checkpointing": {"checkpointing": True},
    "both": {"micro_batch": 1, "checkpointing": True},
}
DEVICE = (400e12, 2e12)
"""Operations and bytes a second that are assumed of an H100 at bfloat16: about 40 % and 60 % of its data sheet's."""


def needs_grid(shape: Shape) -> list[list[str]]:
    """What bfloat16 steps need at the batches and lengths of the plan, in GB and in operations."""
    headings = ["B", "P + T", "weights", "state", "questions", "rollout cache", "answers", "peak", "LoRA's peak"]
    grid = [[*headings, "PFLOP", "x LoRA's", "decoding reads"]]
    for p, t in LENGTHS:
        for batch_size in BATCHES:
            step = Step(shape, batch_size, question_tokens=p, answer_tokens=t)
            memory, operations = adversarial_memory(step), sum(adversarial_operations(step).values())
            parts = ("frozen weights", "trained parameters", "questions", "rollout cache", "answers", "peak")
            grid.append(
                [
                    str(batch_size),
                    f"{p} + {t}",
                    *(_gb(memory[part]) for part in parts),
                    _gb(lora_memory(step)["peak"]),
                    f"{operations / 1e15:.2f}",
                    f"{operations / lora_operations(step):.1f}",
                    f"{rollout_bytes_read(step) / 1e12:.2f} TB",
                ]
            )
    return grid


def savings_grid(shape: Shape) -> list[list[str]]:
    """The peak at the largest batch and length with the options that save memory, and what decoding reads then."""
    p, t = LENGTHS[-1]
    grid = [["options", "peak", "of it above the weights", "LoRA's peak", "decoding reads", "seconds, estimated"]]
    for name, options in SAVINGS.items():
        step = Step(shape, BATCHES[-1], question_tokens=p, answer_tokens=t, **options)
        peak = adversarial_memory(step)["peak"]
        grid.append(
            [
                name,
                _gb(peak),
                _gb(peak - shape.weights * step.bytes_a_number),
                _gb(lora_memory(step)["peak"]),
                f"{rollout_bytes_read(step) / 1e12:.2f} TB",
                f"{seconds(step, *DEVICE)['adversarial']:.1f}",
            ]
        )
    return grid


def _gb(value: float) -> str:
    return f"{value / 1e9:.1f} GB"


MARKED = re.compile(r"(<!--scaling ([\w -]+)-->\n).*?(\n<!--/scaling-->)", re.DOTALL)


def filled(text: str, speed: dict[str, Any], live: list[dict[str, Any]]) -> str:
    """A document with its marked tables written anew.

    Raises:
        UserError: if a mark names no table.
    """
    tables: dict[str, Callable[[], list[list[str]]]] = {
        "operations": lambda: operations_grid(speed),
        "memory": lambda: memory_grid(speed, live),
        "seconds": lambda: seconds_grid(speed),
    }
    tables |= {f"needs {name}": lambda shape=shape: needs_grid(shape) for name, shape in SHAPES.items()}
    tables |= {f"savings {name}": lambda shape=shape: savings_grid(shape) for name, shape in SHAPES.items()}

    def table(found: re.Match[str]) -> str:
        if found[2] not in tables:
            raise UserError(f"unknown table {found[2]!r}: expected one of {', '.join(tables)}")
        return f"{found[1]}\n{markdown_table(tables[found[2]]())}\n{found[3]}"

    return MARKED.sub(table, text)


ROOT = Path(__file__).resolve().parents[2]
SPEED = ROOT / "results/reference/speed/speed.json"
LIVE = ROOT / "docs/scaling.json"


def measure_live() -> list[dict[str, Any]]:
    """Live tensors of one step of each contender at GPT-2's size, a question of 100 tokens; about a CPU minute."""
    from benchmarks.speed.live_memory import live_peak

    points = [("lora", 1), ("lora", 2), ("lora-answers", 1), ("gantune", 1)]
    rows = []
    for contender, batch_size in points:
        workload = Workload("gpt2", "float32", batch_size, 100, 50)
        rows.append({"contender": contender, "workload": vars(workload), "live_bytes": live_peak(workload, contender)})
    return rows


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-shape", choices=[*SHAPES], default="7b", help="whose needs are printed")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the marked tables of a document anew")
    parser.add_argument("--measure", action="store_true", help=f"first measure live tensors anew, into {LIVE.name}")

    def command() -> None:
        options = parser.parse_args(arguments)
        try:
            text = options.write.read_text(encoding="utf-8") if options.write else None
        except (OSError, ValueError) as error:
            raise UserError(f"--write {options.write}: expected a document to read ({error})") from error
        if options.measure:
            LIVE.write_text(json.dumps(measure_live(), indent=1) + "\n", encoding="utf-8")
        if text is not None:
            speed, live = (json.loads(file.read_text(encoding="utf-8")) for file in (SPEED, LIVE))
            write_atomically(options.write, filled(text, speed, live))
            return
        shape = SHAPES[options.model_shape]
        print(f"{shape.source}: {shape.weights / 1e9:.1f} billion weights, bfloat16, 4 samples a question")
        print("", text_table(needs_grid(shape)), "", "At the last row's batch and lengths:", sep="\n")
        print(text_table(savings_grid(shape)))

    return exit_status(command, "the same command begins again")


if __name__ == "__main__":
    sys.exit(main())
