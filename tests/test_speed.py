"""The speed benchmark: its meter, its counts against formulas by hand, its contenders, its arithmetic and its files."""

from __future__ import annotations

import copy
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.compare.arguments import parse as compare_arguments
from benchmarks.speed import __main__ as speed
from benchmarks.speed import kept_quality, measure, search_cost, settings, soak
from benchmarks.speed.bars import CPU_BARS, CUDA_BARS, Bar, judge
from benchmarks.speed.contenders import CONTENDERS, AnswerOnlyLora, Gantune, PlainPath, SourceWay, UsualLora
from benchmarks.speed.meter import Meter, clocks
from benchmarks.speed.peers import PEERS, SAMPLES
from benchmarks.speed.settings import SpeedSettings, plan
from benchmarks.speed.summary import summarise_times
from benchmarks.speed.workload import Workload, share_weights

QUESTION, ANSWER, LAYERS, WIDTH, VOCABULARY = 6, 4, 2, 32, 500
TINY = Workload("tiny", "float32", 1, QUESTION, ANSWER)
NAMES = ["lora", "lora-answers", "gantune", "plain", "source"]


@pytest.fixture(scope="module")
def flops() -> dict[str, dict]:
    return {name: measure.count_flops(TINY, name, "cpu") for name in NAMES}


# ---- the meter


def test_parts_add_up_and_inner_parts_are_taken_out():
    now = [0.0]
    meter = Meter(lambda: (now[0],))

    class Policy:
        def score(self):
            now[0] += 5

    policy = Policy()

    def step(meter):
        now[0] += 1
        with meter.part("outer"):
            now[0] += 10
            with meter.wrapping(policy, "score", "score"):
                policy.score()
            with meter.part("repeated", scale=3):
                now[0] += 2
        with meter.part("whole", whole=True), meter.wrapping(policy, "score", "score"):
            policy.score()
        policy.score()

    (total,) = meter.measure(step)
    parts = {name: used.item() for name, used in meter.parts.items()}
    assert parts == {"rest": 6, "outer": 10, "score": 5, "repeated": 6, "whole": 5}
    assert total == 32  # what has passed, 28, and two repetitions more of 2


# ---- operations


def passes(tokens: int, keys: int | None = None) -> float:
    """Operations of the blocks for one sequence: 12 d^2 weights a layer and token, queries x keys x d twice."""
    return LAYERS * (24 * WIDTH**2 * tokens + 4 * tokens * (keys or tokens) * WIDTH)


def passes_back(tokens: int) -> float:
    """Input gradients of the frozen blocks, and five products of attention's size, the scores being computed again."""
    return LAYERS * (24 * WIDTH**2 * tokens + 10 * tokens**2 * WIDTH)


def test_the_plain_path_is_what_it_takes_by_hand(flops):
    whole, head = QUESTION + ANSWER, 2 * WIDTH * VOCABULARY
    adapter = 2 * (WIDTH * 16 + 16 * 8 + 8 * 16 + 16 * WIDTH)  # widths d/2, d/4, d/2
    noise = 2 * 100 * 16
    rollout = passes(QUESTION) + adapter * QUESTION + noise + head
    rollout += sum(passes(1, QUESTION + t) + adapter + noise + head for t in range(1, ANSWER))
    score = passes(whole) + adapter * whole + noise + 2 * head * ANSWER  # log-probs, and their gradient at once
    backward = passes_back(whole) + 2 * adapter * whole + noise
    kl = passes(whole) + head * ANSWER
    embedding, filters, features = 32, 32, 2 * 4 * 32
    judged = sum(2 * embedding * filters * width for width in (1, 2, 3, 4)) * whole
    judged += ANSWER * (2 * 2 * features**2 + 2 * features)
    parts = flops["plain"]["parts"]
    assert parts == {
        "rollout": rollout,
        "score": score,
        "backward": backward,
        "kl": kl,
        "discriminator": 3 * 3 * judged,  # a true answer, a sampled one, a replayed one; forward and backward
        "rest": judged,  # the rewards
    }
    assert flops["plain"]["flops"] == sum(parts.values())


def test_lora_is_what_it_takes_by_hand(flops):
    rank, whole = 8, QUESTION + ANSWER
    a, b, attended = 2 * WIDTH * rank, 2 * rank * 3 * WIDTH, 2 * 3 * WIDTH**2
    adapters = LAYERS * (a + b) * whole
    unwanted = (attended + a) * whole  # the first layer's input needs no gradient
    for name, positions in (("lora", whole), ("lora-answers", ANSWER)):
        head = 2 * WIDTH * VOCABULARY * positions
        forward = passes(whole) + adapters + head
        backward = passes_back(whole) + 2 * adapters + head - unwanted
        assert flops[name]["parts"] == {"forward": forward, "backward": backward, "rest": 0}


def test_our_step_takes_no_more_than_the_plain_path(flops):
    assert flops["gantune"]["flops"] <= flops["plain"]["flops"]
    expected = {"rollout", "score", "backward", "kl", "discriminator", "rest"}
    assert expected <= flops["gantune"]["parts"].keys()
    assert all(flops["gantune"]["parts"][part] > 0 for part in expected)


def test_the_source_studys_passes_are_counted_for_all(flops):
    """With as many timed passes as tokens nothing is extrapolated; with fewer, the error is attention's square."""
    workload = Workload("tiny", "float32", 1, 20, 12)

    def counted(timed_passes: int | None) -> int:
        contender = SourceWay(workload.model("cpu"), workload.batch("cpu"), timed_passes)
        with measure.FlopCounterMode(display=False, custom_mapping=measure.CPU_KERNELS) as counter:
            return int(Meter(lambda: (counter.get_total_flops(),)).measure(contender.step).item())

    whole = counted(None)
    assert counted(12) == whole
    assert counted(4) == pytest.approx(whole, rel=1e-3)
    assert counted(4) != whole
    assert flops["source"]["extrapolated"]
    assert not flops["gantune"]["extrapolated"]


# ---- the contenders


@pytest.mark.parametrize(("made", "rollouts"), [(Gantune, 1), (PlainPath, 1), (SourceWay, 2)])
def test_rollouts_of_a_step(made, rollouts, monkeypatch):
    contender = made(TINY.model("cpu"), TINY.batch("cpu"))
    policy, called = contender.gan.policy, []
    original = policy.rollout
    monkeypatch.setattr(policy, "rollout", lambda *a, **k: called.append(original(*a, **k)) or called[-1])
    contender.step(Meter(lambda: (0.0,)))
    assert len(called) == rollouts
    assert all(rollout.answer_mask.sum() == ANSWER for rollout in called)  # no token ends an answer


@pytest.mark.parametrize("name", NAMES)
def test_a_step_trains_the_adapter_and_leaves_shared_weights(name):
    base = TINY.model("cpu")
    before = copy.deepcopy(base.state_dict())
    copied = share_weights(base)
    assert all(a is b for a, b in zip(base.parameters(), copied.parameters(), strict=True))
    contender = CONTENDERS.get(name)(copied, TINY.batch("cpu"))
    trained = contender.parameters if isinstance(contender, UsualLora) else contender.gan.parameters
    start = [p.detach().clone() for p in trained]
    for _ in range(2):
        contender.step(Meter(lambda: (0.0,)))
    assert all(torch.equal(value, before[key]) for key, value in base.state_dict().items())
    assert any(not torch.equal(a, b) for a, b in zip(trained, start, strict=True))
    if name in ("gantune", "plain", "source"):
        state = contender.gan.adversary.optimizer.state
        assert {int(entry["step"]) for entry in state.values()} == {2}


def test_both_loras_have_the_same_loss():
    losses = [made(TINY.model("cpu"), TINY.batch("cpu"))._loss().item() for made in (UsualLora, AnswerOnlyLora)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_the_source_studys_passes_score_the_rollout():
    contender = SourceWay(TINY.model("cpu"), TINY.batch("cpu"))
    policy = contender.gan.policy
    torch.nn.init.normal_(contender.gan.parameters[-2], std=0.1)  # else the noise makes no difference
    rollout = policy.rollout(TINY.batch("cpu"), max_new_tokens=ANSWER)
    scored = torch.stack([contender.log_prob(rollout, t) for t in range(ANSWER)], dim=1)
    assert torch.allclose(scored, policy.score(rollout, noise=rollout.noise), atol=1e-5)


def test_peak_memory_is_that_of_a_process_of_its_own():
    figures = measure.peak_memory(TINY, "lora", "cpu")
    assert figures["peak_bytes"] > 0
    assert "resident memory" in figures["method"]


# ---- figures and limits


def turns(**seconds: list[float]) -> list[dict]:
    return [
        {"contender": name.replace("_", "-"), "repeat": i + 1, "extrapolated": name == "source", "wall": 10 * value,
         "processor": value, "parts": {"rest": {"wall": 10 * value, "processor": value}}}
        for name, values in seconds.items() for i, value in enumerate(values)
    ]  # fmt: skip


def setting(dtype: str, batch_size: int, length: int, **seconds: list[float]) -> dict:
    workload = {"size": "gpt2", "dtype": dtype, "batch_size": batch_size, "question_tokens": 100}
    names = [name.replace("_", "-") for name in seconds]
    return {"workload": workload | {"answer_tokens": length}, "contenders": names, "turns": turns(**seconds)}


ASKED = {"sizes": ["gpt2"], "question_tokens": 100, "answer_tokens": 50, "growth_batch_size": 4}


def test_ratios_are_those_of_medians_with_the_range_of_the_rounds():
    (lora, ours) = summarise_times([setting("float32", 1, 50, lora=[1.0, 4.0, 2.0], gantune=[3.0, 4.0, 9.0])])
    assert lora["processor"] == {"median": 2, "min": 1, "max": 4}
    assert lora["ratios"] == {}
    assert ours["ratios"]["lora"]["processor"] == {"median": 2, "min": 1, "max": 4.5}
    assert ours["wall"]["median"] == 40
    assert ours["turns"] == 3


def test_limits_on_made_up_figures():
    times = summarise_times(
        [
            setting("float32", 1, 50, lora=[1.0], gantune=[3.0], source=[48.0]),
            setting("float32", 4, 50, lora=[1.0], gantune=[1.9], source=[48.0]),
            setting("float32", 4, 200, lora=[2.0], gantune=[6.0]),
            setting("bfloat16", 4, 50, lora=[1.0], lora_answers=[2.0], gantune=[3.1]),
        ]
    )
    places = [row["workload"] for row in times]
    memory = [
        {"workload": places[0], "contender": "lora", "peak_bytes": 100},
        {"workload": places[0], "contender": "gantune", "peak_bytes": 65},
        {"workload": places[3], "contender": "lora", "peak_bytes": 100},
        {"workload": places[3], "contender": "gantune", "failed": "not enough memory"},
    ]
    rows = judge(times, memory, ASKED, "cpu")
    assert [(row["verdict"], row["figure"]) for row in rows] == [
        ("met", 3.0),
        ("missed", pytest.approx(1.9)),
        ("not measured", None),
        ("missed", pytest.approx(1.55)),
        ("not measured", None),
        ("missed", 16.0),
        ("met", pytest.approx(48 / 1.9)),
        ("met", 0.65),
        ("not measured", None),
        ("missed", pytest.approx((6 / 2) / 1.9)),
    ]
    assert [row["extrapolated"] for row in rows] == [bar.over == "source" for bar in CPU_BARS]
    other = judge(times, memory, ASKED | {"answer_tokens": 200}, "cpu")
    assert {row["verdict"] for row in other} == {"not judged", "not measured"}
    on_cuda = judge(times, memory, ASKED, "cuda")
    assert len(on_cuda) == len(CUDA_BARS)
    assert on_cuda[0]["verdict"] == "missed"
    assert on_cuda[0]["figure"] == 3.0


def test_a_limit_may_be_from_below():
    assert Bar("time", "source", "gantune", "float32", 1, 17, at_least=True).met(17)
    assert not Bar("time", "gantune", "lora", "float32", 1, 3.0).met(3.01)


def test_the_plan_leaves_out_what_cannot_run():
    units = plan(SpeedSettings())
    assert len(units) == len({unit.key() for unit in units})
    with_source = {(u.kind, u.workload.batch_size) for u in units if "source" in u.contenders}
    assert with_source == {("time", 1), ("time", 4), ("memory", 1), ("flops", 1)}
    lengths = {u.workload.answer_tokens for u in units if u.kind == "time" and u.workload.batch_size == 4}
    assert lengths == {25, 50, 100, 200}
    assert {u.workload.size for u in units} == {"gpt2", "distilgpt2"}


# ---- the command


QUICK = ["--quick", "--batch-sizes", "1", "--growth-batch-size", "1", "--lengths", "2", "--device", "cpu"]


@pytest.fixture
def in_this_process(monkeypatch):
    """Peak memory without a process of its own, which takes seconds to start; and less memory to read."""
    monkeypatch.setattr(speed, "peak_memory", measure._peak_memory)
    monkeypatch.setattr(measure, "READ_BYTES", 2**24)


def test_replayed_operations_are_not_counted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    units = plan(SpeedSettings(contenders=["lora", "gantune-captured"]))
    assert {name for unit in units if unit.kind == "flops" for name in unit.contenders} == {"lora"}
    assert all("gantune-captured" in unit.contenders for unit in units if unit.kind == "time")


def test_a_quick_run_and_how_it_is_gone_on_with(tmp_path, capsys, monkeypatch, in_this_process):
    command = [*QUICK, "--output", str(tmp_path)]
    assert speed.main(command) == 0
    told = capsys.readouterr().out
    file = tmp_path / "speed.json"
    results = json.loads(file.read_text())
    assert results["schema"] == 2
    assert results["environments"][0]["versions"]["torch"]
    assert results["environments"][0]["read_bytes_per_second"] > 1e8
    assert {key: len(results[key]) for key in ("flops", "memory", "time")} == {"flops": 5, "memory": 5, "time": 3}
    (base,) = [row for row in results["time"] if "source" in row["contenders"]]
    assert (
        [(turn["repeat"], turn["contender"]) for turn in base["turns"]]
        == [
            *(
                (1, name) for name in (*NAMES[1:], NAMES[0])
            ),  # the round before, which began with the first, is not counted
            *((2, name) for name in (*NAMES[2:], *NAMES[:2])),
        ]
    )
    assert [turn["turn"] for turn in base["turns"]] == list(range(1, 11))
    assert all(
        turn[clock] == pytest.approx(sum(part[clock] for part in turn["parts"].values()))
        for turn in base["turns"]
        for clock in ("wall", "processor")
    )
    assert {turn["contender"] for turn in base["turns"] if turn["extrapolated"]} == {"source"}
    assert {row["verdict"] for row in results["bars"]} == {"not judged", "not measured"}
    table = (tmp_path / "speed.md").read_text()
    assert "source study's way *" in table and "* extrapolated" in table and "QUICK" in table
    assert "source study's way *" in told and "decoding reads" in told
    assert (tmp_path / "speed.png").stat().st_size > 10_000

    # a setting that is missing is measured, no other
    before, lost = copy.deepcopy(results), results["time"].pop(1)
    file.write_text(json.dumps(results))
    measured = []
    original = speed.measure
    monkeypatch.setattr(speed, "measure", lambda unit, *rest: measured.append(unit) or original(unit, *rest))
    assert speed.main(command) == 0
    assert [(unit.kind, unit.workload) for unit in measured] == [("time", Workload(**lost["workload"]))]
    after = json.loads(file.read_text())
    assert len(after["environments"]) == 2
    assert after["time"][:2] == [before["time"][0], before["time"][2]]
    assert after["time"][2]["environment"] == 1

    capsys.readouterr()
    assert speed.main([*command, "--repeats", "3"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {file}: measured with repeats 2, now 3; give --output another directory"
    )


def test_decoding_reads_all_weights_but_the_positions():
    # a block has 12 d^2 + 13 d weights; then the tied head and the last norm, of width 32
    block = 12 * 32 * 32 + 13 * 32
    for dtype, width in (("float32", 4), ("bfloat16", 2)):
        assert Workload("tiny", dtype, 1, 6, 4).weight_bytes() == width * (2 * block + 500 * 32 + 2 * 32)


def test_other_files_are_not_gone_on_with(tmp_path, capsys):
    (tmp_path / "speed.json").write_text('{"schema": 0, "settings": {}}')
    assert speed.main([*QUICK, "--output", str(tmp_path)]) == 2
    assert "schema 0, expected 2" in capsys.readouterr().err
    (tmp_path / "speed.json").write_text("[]")
    assert speed.main([*QUICK, "--output", str(tmp_path)]) == 2
    assert "not the results of benchmarks.speed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sizes", "gpt5"], "--sizes gpt5: expected gpt2, distilgpt2"),
        (["--dtypes", "float8"], "--dtypes float8: expected float32, bfloat16"),
        (["--contenders", "lora", "prefix"], "--contenders prefix: expected"),
        (["--contenders", "lora", "lora"], "--contenders: lora is there twice"),
        (["--batch-sizes", "0"], "--batch-sizes 0: expected at least 1"),
        (["--repeats", "0"], "--repeats 0: expected at least 1"),
        (["--lengths", "1000"], "--question-tokens 100 and answers of 1000: expected at most 1024 together"),
        (
            ["--device", "cpu", "--contenders", "gantune-captured"],
            "--contenders gantune-captured: it needs a CUDA device",
        ),
        (["--device", "abacus"], "--device abacus: expected auto, cpu, cuda or cuda:N"),
    ],
)
def test_bad_options_take_one_line(options, message, capsys):
    assert speed.main(options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


# ---- beside other packages' trainers


def test_without_trl_one_line_says_what_was_not_run(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "trl", None)  # as if it were not installed
    assert speed.main(["--quick", "--peers", "trl"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --peers trl: not run: ") and "pip install 'gantune[peers]'" in line


def test_the_plan_beside_peers(monkeypatch):
    monkeypatch.setattr(settings, "import_peer", lambda name: None)
    units = plan(speed.parse(["--peers", "trl"]))
    names = ("lora-samples", "gantune-lora", "trl-grpo", "trl-rloo", "trl-grpo-checkpointed")
    assert [(unit.kind, unit.contenders) for unit in units] == [
        ("time", names),
        *(("memory", (name,)) for name in names),
    ]
    assert {unit.workload for unit in units} == {Workload("gpt2", "float32", 4, 100, 50)}


@pytest.mark.parametrize("size", ["tiny", "tiny-llama"])
def test_what_runs_beside_peers_has_as_many_rows_and_the_same_lora(size):
    workload = Workload(size, "float32", 2, QUESTION, ANSWER)
    ours, lora = (
        CONTENDERS.get(name)(workload.model("cpu"), workload.batch("cpu")) for name in ("gantune-lora", "lora-samples")
    )
    policy, drawn = ours.gan.policy, []
    rollout = policy.rollout
    policy.rollout = lambda *a, **k: drawn.append(rollout(*a, **k)) or drawn[-1]
    ours.step(Meter(lambda: (0.0,)))
    assert [len(rows) for rows in drawn] == [len(lora.batch)] == [2 * SAMPLES]
    assert torch.equal(lora.batch.prompt_ids[:SAMPLES], workload.batch("cpu").prompt_ids[:1].expand(SAMPLES, -1))
    assert [p.shape for p in ours.gan.parameters] == [p.shape for p in lora.parameters]


@pytest.mark.parametrize("name", [name for names in PEERS.values() for name in names])
def test_a_peers_step_samples_full_answers_and_trains_lora_alone(name):
    pytest.importorskip("trl", reason="trl is not installed: pip install 'gantune[peers]'")
    workload = Workload("tiny", "float32", 2, QUESTION, ANSWER)
    base = workload.model("cpu")
    before = copy.deepcopy(base.state_dict())
    made = CONTENDERS.get(name)(share_weights(base), workload.batch("cpu"))
    start, sampled = [p.detach().clone() for p in made.parameters], []
    generate = made.made.model.generate
    made.made.model.generate = lambda *a, **k: sampled.append(generate(*a, **k)) or sampled[-1]
    meter = Meter(clocks("cpu"))
    for _ in range(2):
        meter.measure(made.step)
    assert [rows.shape for rows in sampled] == [(2 * SAMPLES, QUESTION + ANSWER)] * 2
    asked = workload.batch("cpu").prompt_ids.repeat_interleave(SAMPLES, dim=0)
    assert torch.equal(sampled[0][:, :QUESTION], asked)
    assert {"rollout", "backward", "rest"} == meter.parts.keys()
    assert all(torch.equal(value, before[key]) for key, value in base.state_dict().items())
    assert any(not torch.equal(a, b) for a, b in zip(made.parameters, start, strict=True))
    lora = CONTENDERS.get("lora")(workload.model("cpu"), workload.batch("cpu"))
    assert [p.shape for p in made.parameters] == [p.shape for p in lora.parameters]
    checkpointed = any(getattr(module, "gradient_checkpointing", False) for module in made.made.model.modules())
    assert checkpointed == (name == "trl-grpo-checkpointed")


def test_a_quick_run_beside_trl(tmp_path, capsys, in_this_process):
    pytest.importorskip("trl", reason="trl is not installed: pip install 'gantune[peers]'")
    command = ["--quick", "--peers", "trl", "--batch-sizes", "1", "--device", "cpu", "--output", str(tmp_path)]
    assert speed.main(command) == 0
    results = json.loads((tmp_path / "speed.json").read_text())
    assert results["environments"][0]["peers"].keys() == {"trl"}
    assert {key: len(results[key]) for key in ("flops", "memory", "time")} == {"flops": 0, "memory": 5, "time": 1}
    ours = next(row for row in results["summary"] if row["contender"] == "gantune-lora")
    assert ours["ratios"].keys() == {"lora-samples", "trl-grpo"}
    assert "x TRL GRPOTrainer" in capsys.readouterr().out
    assert not (tmp_path / "speed.png").exists()


def test_limits_beside_peers():
    seconds = {"lora_samples": [12.8], "gantune_lora": [12.0], "trl_grpo": [33.3], "trl_rloo": [20.0]}
    times = summarise_times([setting("float32", 4, 50, **seconds)])
    peaks = {"lora-samples": 5.2, "gantune-lora": 0.64, "trl-grpo": 6.2}
    memory = [{"workload": times[0]["workload"], "contender": n, "peak_bytes": b} for n, b in peaks.items()]
    rows = judge(times, memory, ASKED | {"peers": ["trl"]}, "cpu")
    assert [row["verdict"] for row in rows] == ["met", "missed", "met", "met", "not measured", "met"]
    assert rows[0]["figure"] == pytest.approx(12.0 / 33.3)


# ---- what a kept quality costs


def test_seconds_until_a_loss_is_first_reached():
    curve = [(1.0, 3.0), (2.0, 2.5), (3.0, 2.6)]
    assert kept_quality.first_reached(curve, 2.6) == 2.0
    assert kept_quality.first_reached(curve, 2.4) is None
    rows = [
        {"method": "lora", "seed": 0, "curve": [(1.0, 3.0), (2.0, 2.4), (3.0, 2.6)]},
        {"method": "gan", "seed": 0, "curve": [(4.0, 3.0), (5.0, 2.6)]},
        {"method": "mle", "seed": 0, "curve": [(4.0, 2.7)]},
    ]
    assert kept_quality.compare(rows)[1:] == [
        ["lora", "0", "2.600", "2.400", "3.00", "2.00", "1.00"],
        ["gan", "0", "2.600", "2.600", "5.00", "5.00", "2.50"],
        ["mle", "0", "2.700", "2.700", "4.00", "never", "-"],
    ]


def test_kept_quality_measures_every_epoch_of_every_method(tmp_path, capsys):
    command = ["--methods", "gan", "--train-size", "20", "--num-train-epochs", "2", "--seeds", "0", "--device", "cpu"]
    assert kept_quality.main([*command, "--output", str(tmp_path)]) == 0
    lora, gan = json.loads((tmp_path / "kept-quality.json").read_text())["results"]
    assert (lora["method"], gan["method"]) == ("lora", "gan")
    assert lora["swept"] == {"lora_learning_rate": 8e-3} and gan["swept"] == {"learning_rate": 4e-3}
    for row in (lora, gan):
        seconds, losses = zip(*row["curve"], strict=True)
        assert list(seconds) == sorted(seconds) and len(losses) >= 2
    assert "until LoRA's last loss" in capsys.readouterr().out


def test_kept_quality_names_the_device_that_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_quality, "resolve_device", lambda name: f"resolved {name}")
    monkeypatch.setattr(kept_quality, "environment", lambda device, dtype, seed: {"device": device})
    monkeypatch.setattr(kept_quality, "train", lambda name, options, seed: curve_of(name, seed))
    assert kept_quality.main(["--device", "cuda", "--output", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "kept-quality.json").read_text())["environment"]["device"] == "resolved cuda"


def curve_of(name, seed):
    return {"method": name, "seed": seed, "swept": {}, "curve": [(1.0, 2.0)]}


# ---- where the results cannot go


@pytest.mark.parametrize(
    ("command", "measures"), [(kept_quality, "train"), (search_cost, "measure"), (soak, "soak"), (speed, "measure")]
)
def test_an_output_that_cannot_be_written_is_told_before_anything_is_measured(
    command, measures, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(command, measures, lambda *_: pytest.fail("it measures"))
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "argv", ["command", "--output", str(tmp_path / "file")])
    assert command.main() == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"error: {tmp_path / 'file'}: expected a folder that can be written to")


# ---- the script for CUDA

CUDA_SH = Path(speed.__file__).with_name("cuda.sh")


def cuda_sh(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHON": sys.executable} | variables
    return subprocess.run(["bash", CUDA_SH, *arguments], env=environment, capture_output=True, text=True)


def test_the_commands_of_the_cuda_script_are_understood(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(settings, "import_peer", lambda name: None)
    told = cuda_sh("--dry-run", "out", MODEL="a-model")
    assert told.returncode == 0, told.stderr
    commands = dict(line.removeprefix("== ").split(": ", 1) for line in told.stdout.splitlines())
    assert list(commands) == ["tests", "gpt2", "llama-1b", "gpt2-peers", "llama-1b-peers", "data-to-text"]
    for name, command in commands.items():
        _, _, module, *options = shlex.split(command)
        if module == "benchmarks.speed":
            assert plan(speed.parse(options)), name
        elif module == "benchmarks.compare":
            assert compare_arguments(["cpu" if option == "cuda" else option for option in options])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_cuda_script_asks_for_a_device(tmp_path):
    told = cuda_sh(str(tmp_path))
    assert (told.returncode, told.stderr.splitlines()[0][:21]) == (2, "error: no CUDA device")
    assert cuda_sh("--fast").returncode == 2


def test_a_part_that_the_time_does_not_reach_is_told(tmp_path):
    told = cuda_sh("--tiny", str(tmp_path), SECONDS_IN_ALL="5")
    assert told.returncode == 1
    assert "== gpt2: not run: all of the 5 seconds are gone" in told.stdout
    assert "== data-to-text: not run: MODEL names no model" in told.stdout


def test_unknown_options_take_one_line(capsys):
    assert speed.main(["--fast"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
