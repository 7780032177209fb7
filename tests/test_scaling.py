"""The cost model: numbers computed by hand, what autograd and torch count, and the document made from it."""

from __future__ import annotations

import json

import pytest

from benchmarks.speed import scaling
from benchmarks.speed.live_memory import live_peak
from benchmarks.speed.scaling import LIVE, ROOT, SHAPES, SPEED, Shape, Step, adversarial_memory, adversarial_operations
from benchmarks.speed.workload import SIZES, Workload
from gantune.errors import UserError

TOY = Shape(1, 4, 2, 1, 8, 10, llama=True, tied=False, positions=0, source="by hand")
STEP = Step(TOY, batch_size=2, samples=3, question_tokens=5, answer_tokens=2)


def test_weights_by_hand():
    assert TOY.kv_width == 2
    assert TOY.block_weights == 2 * 4 * (4 + 2) + 3 * 4 * 8 == 144  # q, o of 4 x 4; k, v of 4 x 2; three of 4 x 8
    assert TOY.weights == 144 + 2 * 10 * 4
    assert TOY.generator_matrices == 4 * 2 + 2 * 1 + 1 * 2 + 2 * 4
    assert TOY.lora_parameters == 8 * ((4 + 4) + (4 + 2))  # queries and values
    assert 6.73e9 < SHAPES["7b"].weights < 6.75e9 and 70.4e9 < SHAPES["70b"].weights < 70.7e9  # as published: 6.7, 70.6
    assert 124.3e6 < SHAPES["gpt2"].weights < 124.5e6


def test_operations_by_hand():
    body, adapter, head = 2 * 144, 2 * 20, 2 * 10 * 4  # of a token
    found = adversarial_operations(STEP)
    assert found["prefill"] == 2 * (5 * (body + adapter) + 4 * 4 * 5 * 5)
    assert found["rollout"] == 6 * ((body + adapter) + 4 * 4 * 6 + head + head)  # one token fed, two rows of logits
    assert found["score"] == (6 + 2) * ((body + adapter) + 4 * 4 * 6 + 2 * 2 * head)
    back = 2 * (5 * (body + 2 * adapter) + 4 * 4 * 25 * 5 // 2) + 8 * ((body + 2 * adapter) + 4 * 4 * 6 * 5 // 2)
    assert found["backward"] == back
    assert found["kl"] == 7 * body + 4 * 4 * 49 + 2 * head  # one answer to one of the two questions


def test_memory_by_hand():
    found = adversarial_memory(STEP)
    assert found["frozen weights"] == 224 * 2
    assert found["rollout cache"] == 2 * 3 * (5 + 1) * 2 * 2 * 2  # rows, positions, keys and values, width, bytes
    assert found["gradients of the questions' keys"] == 2 * 5 * 2 * 2 * 2
    assert found["sampled logits"] == 6 * 10 * (2 + 4 + 4)
    assert found["logits chunk"] == 2 * 10 * (2 + 4)
    kept = 2 * 4 * 4 + 3 * 8 * 2 + 4 * 2  # two norms in float32, the feed-forward part, the softmax's sums
    assert found["questions"] == 2 * (5 * (kept + 2 * 4 * 2) + 5 * 2 * 2 * 2)
    assert found["answers"] == 2 * (1 * (kept + 2 * 4 * 2) + 6 * 2 * 4 * 2 + 1 * 6 * 2)  # heads repeated, and a mask
    held = found["questions"] + found["answers"] + found["gradients of the questions' keys"] + found["logits chunk"]
    sampling = found["questions"] + found["rollout cache"] + found["sampled logits"]
    assert found["peak"] == found["frozen weights"] + found["trained parameters"] + max(held, sampling)


def test_decoding_reads_weights_once_a_token_and_the_cache():
    assert scaling.rollout_bytes_read(STEP) == (144 + 40) * 2 + 6 * 6 * 2 * 2 * 2
    again = Step(TOY, batch_size=2, samples=3, question_tokens=5, answer_tokens=2, micro_batch=1)
    assert scaling.rollout_bytes_read(again) - scaling.rollout_bytes_read(STEP) == (144 + 40) * 2


def test_operations_are_those_that_torch_counted():
    speed = json.loads(SPEED.read_text())
    for _, predicted, counted, _ in scaling.operations_grid(speed)[1:]:
        assert float(predicted) == pytest.approx(float(counted), rel=1e-3)


@pytest.mark.parametrize("contender", ["lora", "lora-answers", "gantune"])
def test_memory_is_that_of_the_live_tensors(contender, monkeypatch):
    """At another shape than the one the terms were found at, large enough for passing tensors to be small."""
    size = {"n_layer": 6, "n_embd": 128, "n_head": 2, "vocab_size": 4000, "bos_token_id": 0, "eos_token_id": 0}
    monkeypatch.setitem(SIZES, "probe", size)
    monkeypatch.setitem(SHAPES, "probe", Shape(6, 128, 2, 2, 512, 4000, False, True, 1024, "made up"))
    workload = Workload("probe", "float32", 4, 60, 40)
    predicted = scaling.predicted_memory(scaling.of_workload(workload), contender)
    assert live_peak(workload, contender) == pytest.approx(predicted, rel=0.06)


def test_the_document_is_up_to_date():
    text = (ROOT / "docs/scaling.md").read_text()
    speed, live = json.loads(SPEED.read_text()), json.loads(LIVE.read_text())
    assert len(scaling.MARKED.findall(text)) == 7
    assert scaling.filled(text, speed, live) == text, "run: python -m benchmarks.speed.scaling --write docs/scaling.md"
    with pytest.raises(UserError, match="unknown table 'needs 3b'"):
        scaling.filled("<!--scaling needs 3b-->\n\n<!--/scaling-->", speed, live)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--nothing"], "unrecognized arguments: --nothing"),
        (["--model-shape", "9b"], "argument --model-shape: invalid choice: '9b'"),
        (["--measure", "--write", "/nowhere/x.md"], "--write /nowhere/x.md: expected a document to read"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_before_anything_is_measured(options, said, monkeypatch, capsys):
    monkeypatch.setattr(scaling, "measure_live", lambda: pytest.fail("it measures"))
    assert scaling.main(options) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and said in line


def test_the_command_prints_what_a_shape_needs(capsys):
    assert scaling.main(["--model-shape", "70b"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Llama 3 70B") and "micro-batch 1" in out
