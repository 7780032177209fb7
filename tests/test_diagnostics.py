"""Result files, weight trajectories, memory and plots."""

from __future__ import annotations

import gc
import json
import math
import os
import pickle
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from torch import nn
from transformers import TrainerControl, TrainerState

from benchmarks.report.pictures import draw_comparison
from gantune.diagnostics import (
    JsonLines,
    Trajectory,
    WeightTrajectory,
    load_trajectory,
    measure_memory,
    memory,
    plot_history,
    plot_memory_timeline,
    plot_weight_trajectories,
    record_memory_snapshot,
    replacing,
    write_atomically,
    write_json,
)
from gantune.diagnostics.plots import COLOURS, GREY, rows_of_steps
from gantune.errors import UserError
from gantune.trainer.callbacks import Weights
from tests.tiny_models import TINY_MODELS

MB = 10**6


# ---- Files


def test_write_atomically_replaces_and_makes_folders(tmp_path):
    path = tmp_path / "a" / "b.txt"
    for data, expected in (("é\n", "é\n".encode()), (b"\x00", b"\x00")):
        write_atomically(path, data)
        assert path.read_bytes() == expected
    assert os.listdir(path.parent) == ["b.txt"]


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_atomically(path, "old")
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise KeyError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_unwritable_path_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/a.json: cannot be written \(File exists\)$"):
        write_json(tmp_path / "file" / "a.json", {})
    with pytest.raises(UserError, match="cannot be written"):
        JsonLines(tmp_path / "file" / "a.jsonl")


def test_write_json_keeps_the_order_of_keys(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": ["é", None, 0.1]})
    assert (tmp_path / "a.json").read_text("utf-8") == (
        '{\n  "b": 1,\n  "a": [\n    "é",\n    null,\n    0.1\n  ]\n}\n'
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_are_refused_by_name(tmp_path, bad):
    with pytest.raises(ValueError, match=r"a.json: runs\[1\].loss is -?(nan|inf), expected a finite number"):
        write_json(tmp_path / "a.json", {"runs": [{}, {"loss": bad}]})
    with JsonLines(tmp_path / "a.jsonl") as rows, pytest.raises(ValueError, match=r"a\.jsonl: loss is"):
        rows.write({"loss": bad})
    assert not (tmp_path / "a.json").exists() and (tmp_path / "a.jsonl").read_text() == ""


def test_json_lines_are_on_disk_after_every_row(tmp_path):
    path = tmp_path / "run" / "a.jsonl"
    with JsonLines(path) as rows:
        for step in range(3):
            rows.write({"step": step, "text": "a\nb"})
            assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == list(range(step + 1))


def test_json_lines_go_on_after_a_torn_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"step": 0}\n{"st')
    with JsonLines(path, append=True) as rows:
        rows.write({"step": 1})
    assert path.read_text() == '{"step": 0}\n{"step": 1}\n'
    with JsonLines(path) as rows:
        rows.write({"step": 5})
    assert path.read_text() == '{"step": 5}\n'


# ---- Weights


class Tied(nn.Module):
    """A frozen, tied base and a trained adapter; a scalar and a non-contiguous parameter among them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 4).requires_grad_(False)
        self.head = nn.Linear(4, 50, bias=False)
        self.head.weight = self.embedding.weight
        self.bf16 = nn.Parameter(torch.full((3000, 1000), 0.5, dtype=torch.bfloat16), requires_grad=False)
        self.float64 = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64), requires_grad=False)
        self.adapter = nn.Parameter(torch.zeros(4, 6).t())
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.quantised = nn.Parameter(torch.ones(3, dtype=torch.uint8), requires_grad=False)


def test_norms_and_sampled_entries():
    model = Tied()
    recorder = WeightTrajectory(model, sample_size=5, seed=1)
    recorder.record(0)
    with torch.no_grad():
        model.adapter.copy_(torch.arange(24.0).view(6, 4))
        model.scale.neg_()
    recorder.record(0.5)
    got = recorder.trajectory()

    assert got.names.tolist() == ["bf16", "float64", "adapter", "scale", "embedding.weight"]  # head.weight is tied
    assert got.trainable.tolist() == [False, False, True, True, False]
    assert got.epochs.tolist() == [0, 0.5]
    table = model.embedding.weight.double().square().sum().sqrt().item()
    half = 0.5 * math.sqrt(3_000_000)  # a bf16 sum would be off by far more than 1e-5
    adapter = math.sqrt(sum(i * i for i in range(24)))
    np.testing.assert_allclose(got.norms, [[half, 5, 0, 2, table], [half, 5, adapter, 2, table]], rtol=1e-5)

    assert got.samples.shape == (2, 5, 5)
    np.testing.assert_array_equal(np.isnan(got.samples).sum(axis=2), [[0, 3, 0, 4, 0]] * 2)
    assert sorted(got.samples[0, 1, :2]) == [3, 4]
    np.testing.assert_array_equal(got.samples[:, 3, 0], [2, -2])
    entries = got.samples[1, 2]
    assert len(set(entries)) == 5 and set(entries) <= set(range(24)) and not got.samples[0, 2].any()
    np.testing.assert_array_equal(got.samples[0, 4], got.samples[1, 4])
    assert set(got.samples[0, 4].tolist()) <= set(model.embedding.weight.flatten().tolist())


def test_the_seed_decides_which_entries():
    model = TINY_MODELS["gpt2"]()

    def samples(seed):
        recorder = WeightTrajectory(model, seed=seed)
        recorder.record(0)
        return recorder.trajectory().samples

    np.testing.assert_array_equal(samples(0), samples(0))
    assert not np.array_equal(samples(0), samples(1), equal_nan=True)


def test_lora_moves_and_the_base_stays(tmp_path):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(TINY_MODELS["llama"](), LoraConfig(r=2, target_modules=["q_proj"]))
    recorder = WeightTrajectory(model)
    recorder.record(0)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    ids = torch.arange(3, 15)[None]
    for epoch in (1, 2):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        recorder.record(epoch)
    path = tmp_path / "weights.npz"
    recorder.save(path)
    got = load_trajectory(path)
    changed = np.abs(got.norms[2] - got.norms[0]) > 0
    np.testing.assert_array_equal(changed, got.trainable)
    np.testing.assert_array_equal(got.trainable, ["lora_" in name for name in got.names])
    assert (got.samples[2] != got.samples[0])[got.trainable].any()
    np.testing.assert_array_equal(got.samples[2][~got.trainable], got.samples[0][~got.trainable])
    with np.load(path, allow_pickle=False) as arrays:
        assert sorted(arrays) == ["epochs", "names", "norms", "samples", "trainable"]


def test_recording_refuses_a_changed_model():
    model = nn.Linear(2, 2)
    recorder = WeightTrajectory(model)
    with pytest.raises(ValueError, match="no weights were recorded"):
        recorder.trajectory()
    model.extra = nn.Parameter(torch.zeros(1))
    with pytest.raises(ValueError, match="not those at the start: extra"):
        recorder.record(0)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 broken"])
def test_broken_trajectory_files(tmp_path, content):
    path = tmp_path / "weights.npz"
    with pytest.raises(UserError, match="no such file"):
        load_trajectory(path)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"weights.npz: no recorded weights \("):
        load_trajectory(path)


def test_trajectory_files_with_pickles_or_other_arrays_are_refused(tmp_path):
    path = tmp_path / "weights.npz"
    good = {"trainable": [True], "epochs": [0.0], "norms": [[0.0]], "samples": [[[0.0]]]}
    for names in ({"names": np.array([object()])}, {"other": np.zeros(1)}):
        np.savez(path, **good, **names)
        with pytest.raises(UserError, match="no recorded weights"):
            load_trajectory(path)


# ---- Memory


def fill(megabytes: int) -> torch.Tensor:
    """Memory that is really touched."""
    return torch.ones(megabytes * MB, dtype=torch.uint8)


linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="VmHWM is Linux's")


def check_peak() -> memory.MemoryReport:
    with measure_memory("cpu") as monitor:
        with pytest.raises(RuntimeError, match="once the measured block has ended"):
            _ = monitor.peak_bytes
        block = fill(100)
        time.sleep(0.05)
        del block
    assert 90 * MB <= monitor.peak_bytes <= 160 * MB
    assert monitor.report.kind == "cpu-rss" and monitor.report.peak_reserved_bytes is None
    assert monitor.report.baseline_bytes > 10 * MB
    return monitor.report


@linux_only
def test_peak_of_the_process():
    if not memory._reset_high_water_mark():
        pytest.skip("/proc/self/clear_refs cannot be written here")
    assert "VmHWM" in check_peak().method


def test_peak_of_the_process_by_sampling(monkeypatch):
    monkeypatch.setattr(memory, "CLEAR_REFS", Path("/nowhere/clear_refs"))
    assert "sampled" in check_peak().method


def test_memory_freed_before_the_block_does_not_count():
    block = fill(200)
    del block
    with measure_memory("cpu") as monitor:
        pass
    assert monitor.peak_bytes < 20 * MB


@linux_only
def test_free_heap_goes_back_before_the_block():
    """Small blocks are cut from the heap and stay in it when freed; they must not hide the block's own need."""
    held = [bytearray(50_000) for _ in range(2000)]
    last = bytearray(50_000)  # at the end of the heap: without it, free() itself would shrink the heap
    del held
    with measure_memory("cpu") as monitor:
        used = [bytearray(50_000) for _ in range(2000)]
    assert 90 * MB <= monitor.peak_bytes <= 160 * MB
    del used, last


def test_the_report_is_there_after_an_error():
    with pytest.raises(KeyError), measure_memory("cpu") as monitor:
        block = fill(50)
        del block
        raise KeyError
    assert monitor.peak_bytes >= 45 * MB


class FakeCuda:
    """Stands in for torch.cuda's counters; `calls` keeps what was called."""

    def __init__(self, monkeypatch) -> None:
        self.calls: list[str] = []
        self.allocated, self.reserved = 1000, 4000
        self.peak_allocated = self.peak_reserved = 99_999  # of before the block: a reset must forget it
        counters = {
            "memory_allocated": lambda: self.allocated,
            "memory_reserved": lambda: self.reserved,
            "max_memory_allocated": lambda: self.peak_allocated,
            "max_memory_reserved": lambda: self.peak_reserved,
            "reset_peak_memory_stats": self.reset,
            "empty_cache": self.empty,
            "synchronize": lambda: None,
        }
        for name, value in counters.items():
            monkeypatch.setattr(torch.cuda, name, self.fake(name, value))
        monkeypatch.setattr(
            torch.cuda.memory,
            "_record_memory_history",
            lambda enabled="all", **options: self.calls.append(f"history {enabled} {options}"),
        )
        monkeypatch.setattr(torch.cuda.memory, "_dump_snapshot", lambda path: Path(path).write_bytes(b"snapshot"))

    def fake(self, name, value):
        def call(device=None):
            self.calls.append(name)
            return value()

        return call

    def reset(self) -> None:
        self.peak_allocated, self.peak_reserved = self.allocated, self.reserved

    def empty(self) -> None:
        self.reserved = 2000


def test_peak_on_cuda(monkeypatch):
    cuda = FakeCuda(monkeypatch)
    with measure_memory("cuda:0") as monitor:
        cuda.peak_allocated, cuda.peak_reserved = 1700, 2900
    assert monitor.report.kind == "cuda"
    assert monitor.peak_bytes == 700
    assert monitor.report.peak_reserved_bytes == 900
    assert monitor.report.baseline_bytes == 1000


def test_snapshot_on_cuda(monkeypatch, tmp_path):
    cuda = FakeCuda(monkeypatch)
    path = tmp_path / "run" / "memory_snapshot.pickle"
    with pytest.raises(torch.OutOfMemoryError), record_memory_snapshot(path, "cuda") as record:
        assert not path.exists()
        raise torch.OutOfMemoryError("the moment in which a snapshot is wanted")
    assert (record.kind, record.path) == ("cuda-snapshot", path)
    assert path.read_bytes() == b"snapshot" and os.listdir(path.parent) == [path.name]
    start, stop = cuda.calls
    assert "'max_entries': 100000" in start and "'stacks': 'python'" in start and stop.startswith("history None")


def assert_read_by_the_viewer(snapshot: dict) -> None:
    """What https://pytorch.org/memory_viz reads of a snapshot is there, and allocations have their Python stacks."""
    assert snapshot["segments"] and snapshot["device_traces"]
    for segment in snapshot["segments"]:
        assert {"address", "total_size", "stream", "segment_type", "blocks"} <= segment.keys()
        assert sum(block["size"] for block in segment["blocks"]) == segment["total_size"]
        assert all(block["state"].startswith(("active", "inactive")) for block in segment["blocks"])
    events = [event for trace in snapshot["device_traces"] for event in trace]
    assert {"alloc", "free_completed"} <= {event["action"] for event in events}
    assert all({"action", "addr", "size", "stream"} <= event.keys() for event in events)
    named = [frame for event in events if event["action"] == "alloc" for frame in event["frames"]]
    assert any(frame["filename"] == __file__ and frame["line"] > 0 for frame in named)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_snapshot_is_what_the_viewer_reads(tmp_path):
    with record_memory_snapshot(tmp_path / "memory_snapshot.pickle", "cuda") as record:
        block = torch.ones(2**20, device="cuda")
        (block + 1).sum().item()
        del block
    assert_read_by_the_viewer(pickle.loads(record.path.read_bytes()))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_peak_on_a_cuda_device():
    with measure_memory("cuda") as monitor:
        block = torch.ones(10 * MB // 4, device="cuda")
        del block
    assert monitor.report.kind == "cuda"
    assert 10 * MB <= monitor.peak_bytes <= 12 * MB


def test_timeline_on_cpu(tmp_path, capsys):
    gc.collect()
    with record_memory_snapshot(tmp_path / "memory_snapshot.pickle", "cpu") as record:
        time.sleep(0.1)
        block = fill(100)
        time.sleep(0.2)
        del block
    assert record.kind == "process-timeline" and record.path == tmp_path / "memory_timeline.json"
    content = json.loads(record.path.read_text())
    assert content["columns"] == ["seconds", "resident_bytes"]
    seconds, used = zip(*content["samples"], strict=True)
    assert list(seconds) == sorted(seconds) and len(seconds) >= 4
    assert 90 * MB <= max(used) - used[0] <= 160 * MB
    assert capsys.readouterr() == ("", "")

    plot_memory_timeline(record.path, tmp_path / "memory.png")
    assert_png(tmp_path / "memory.png")


# ---- Plots


def assert_png(path) -> None:
    """A picture with something drawn on it, and no temporary file beside it."""
    from matplotlib.image import imread

    pixels = imread(path)
    assert min(pixels.shape[:2]) > 300
    assert len(np.unique(pixels[..., 0])) > 20
    assert not [name for name in os.listdir(path.parent) if name.endswith(".tmp")]


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the figures that are saved."""
    from matplotlib.figure import Figure

    axes = []
    savefig = Figure.savefig

    def keep(figure, *args, **kwargs):
        axes.extend(figure.axes)
        savefig(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return axes


def test_a_trajectory_has_the_start_each_epoch_and_the_end(tmp_path):
    taken, model = Weights(tmp_path / "weights.npz"), nn.Linear(2, 2)
    state, control = TrainerState(), TrainerControl()
    taken.on_train_begin(None, state, control, model=model)
    for step in range(1, 6):  # two steps an epoch; training stops after 2.5 epochs
        state.epoch, control.should_training_stop = step / 2, step == 5
        taken.on_step_end(None, state, control)
    taken.save()
    assert load_trajectory(tmp_path / "weights.npz").epochs.tolist() == [0, 1, 2, 3]


def trajectory(trained: int) -> Trajectory:
    epochs = np.arange(4.0)
    names = [f"model.adapter.{i}.weight" for i in range(trained)] + ["model.base.weight", "model.base.bias"]
    moves = np.array([*range(1, trained + 1), 0, 0]) * epochs[:, None]
    return Trajectory(
        names=np.array(names),
        trainable=np.array([True] * trained + [False] * 2),
        epochs=epochs,
        norms=moves,
        samples=np.stack([1 + moves, 1 - moves, np.full_like(moves, np.nan)], axis=2),
    )


@pytest.mark.parametrize("trained", [0, 2, 30])
def test_plot_weight_trajectories(tmp_path, drawn, trained):
    plot_weight_trajectories(trajectory(trained), tmp_path / "weights.png")
    assert_png(tmp_path / "weights.png")
    for axes in drawn:
        assert axes.get_xlabel() and axes.get_ylabel()
        lines = {line.get_label(): line for line in axes.lines}
        assert np.nanmax(np.abs(lines["base, frozen (2 parameters)"].get_ydata())) == 0
    # Norms grow from zero, so at the end every one is all of its largest.
    if trained == 2:
        ends = [line.get_ydata()[-2] for line in drawn[0].lines]
        assert ends == [100, 100, 0]
        assert [line.get_label() for line in drawn[0].lines][:2] == ["0.weight", "1.weight"]


def history() -> list[dict]:
    warm_up = [{"step": i, "phase": "likelihood", "loss": 5 - i / 200, "note": "x"} for i in range(200)]
    pretraining = [
        {"step": 199, "phase": "discriminator", "discriminator_loss": 0.7, "discriminator_accuracy": 0.5 + i / 50}
        for i in range(20)
    ]
    adversarial = [
        {"step": 200 + i, "phase": "adversarial", "loss": 0.1, "reward": 0.5, "likelihood": 2 + i % 3, "kl": None}
        for i in range(100)
    ]
    for i in (49, 99):  # what was held out stands in rows of its own, between those of the steps
        adversarial.insert(i + 1 + i // 99, {"step": 200 + i, "epoch": 1.5, "eval_loss": 3 - i / 100})
    ended = [{"step": 299, "epoch": 2.0, "train_runtime": 9.0, "train_loss": 2.0}]
    return warm_up + pretraining + adversarial + ended


def test_plot_history(tmp_path, drawn):
    plot_history(history(), tmp_path / "history.png", "gan, seed 0")
    assert_png(tmp_path / "history.png")
    assert [axes.get_title(loc="left") for axes in drawn] == [
        "Generator loss",
        "Loss on held-out pairs",
        "Reward",
        "Likelihood",
        "Discriminator accuracy, warm-up",
        "Discriminator loss, warm-up",
    ]
    held_out, reward = drawn[1].lines[0], drawn[2].lines[1]
    np.testing.assert_allclose(held_out.get_xydata(), [[249, 2.51], [299, 2.01]])
    np.testing.assert_allclose(reward.get_xdata(), np.arange(201, 300))  # one line, whatever stands in between
    assert len(drawn[2].lines) == 2
    accuracy = drawn[4].lines[0]
    np.testing.assert_allclose(accuracy.get_xdata(), 1 + np.arange(20))  # steps of its own, none of the generator's
    tens = [row | {"discriminator_step": 10 * number} for number, row in enumerate(history()[200:220], start=1)]
    assert [row["step"] for row in rows_of_steps(tens)] == list(range(10, 210, 10))  # a row every ten steps
    assert drawn[4].get_xlabel() == "step of the discriminator's warm-up" and drawn[0].get_xlabel() == "step"
    assert not drawn[4].patches and len(drawn[0].patches) == 2
    np.testing.assert_allclose(accuracy.get_ydata(), 0.5 + np.arange(20) / 50)
    # The likelihood loss falls linearly: its mean over a window of 5 steps is the value in the window's middle.
    mean = drawn[0].lines[1]
    np.testing.assert_allclose(mean.get_xdata(), np.arange(4, 200))
    np.testing.assert_allclose(mean.get_ydata(), 5 - (np.arange(4, 200) - 2) / 200)


def test_plot_history_of_one_step_and_of_none(tmp_path):
    plot_history([{"step": 1, "phase": "likelihood", "loss": 1.0}], tmp_path / "history.png", "one")
    assert_png(tmp_path / "history.png")
    with pytest.raises(UserError, match="has no numbers to draw"):
        plot_history([{"step": 1, "phase": "likelihood", "loss": math.nan}], tmp_path / "none.png", "none")


def summary_of(**methods):
    """ROUGE-L with its half width, seconds and bytes of each method, as a comparison summarises them."""
    keys = ("rougeL", "train_seconds", "peak_memory_bytes")
    return {
        name.replace("_", "-"): {
            key: {"mean": value, "half_width": half} for key, value in zip(keys, costs, strict=True)
        }
        for name, (half, *costs) in methods.items()
    }


def test_comparison_png(tmp_path, drawn):
    summary = summary_of(base=(None, 0.1, None, None), gan=(0.3, 0.2, 90.0, 300 * MB), lora=(0.02, 0.9, 60.0, 200 * MB))
    draw_comparison(summary, tmp_path / "comparison.png")
    assert_png(tmp_path / "comparison.png")
    bars, time, memory = drawn
    assert [bar.get_width() for bar in bars.patches] == [0.9, 0.2, 0.1], "best first, controls last"
    assert [label.get_text() for label in bars.get_yticklabels()] == ["lora", "gan", "base"]
    colours = [to_hex(bar.get_facecolor()).upper() for bar in bars.patches]
    assert colours == [COLOURS[0], COLOURS[1], GREY]
    assert [*bars.lines[1].get_xdata()] == [0, 0.5], "an interval from -0.1 ends where ROUGE does"
    assert [text.get_text() for text in bars.texts] == ["0.900", "0.200", "0.100"]
    assert {text.get_position()[0] for text in bars.texts} == {1.02}, "in a column, whatever the intervals"
    assert {text.get_text() for text in time.texts} == {text.get_text() for text in memory.texts} == {"lora", "gan"}
    assert [to_hex(line.get_color()).upper() for line in time.lines] == [COLOURS[0]] * 2 + [COLOURS[1]] * 2


def test_labels_of_many_methods_are_numbers_that_lie_apart(tmp_path, drawn):
    many = {f"m{i}": (0.01, 0.3 + (i % 5) / 500, 20.0 + i % 7, (50 + i) * MB) for i in range(25)}
    draw_comparison(summary_of(**many), tmp_path / "comparison.png")
    bars, time, _ = drawn
    assert bars.get_yticklabels()[0].get_text().startswith("1  m")
    assert time.texts and all(text.get_text().isdigit() for text in time.texts)
    boxes = [text.get_window_extent() for text in time.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_comparison_png_says_what_there_is_nothing_to_weigh(tmp_path, drawn):
    draw_comparison(summary_of(base=(None, 0.1, None, None)), tmp_path / "comparison.png")
    assert drawn[1].texts[0].get_text() == "no method was tuned"
    draw_comparison(summary_of(lora=(None, 0.1, 3.0, 9.0)), tmp_path / "comparison.png")
    assert drawn[4].texts[0].get_text().startswith("one tuned method")


@pytest.mark.parametrize("content", ["{", '{"samples": []}', '{"samples": [[1]]}', "[]"])
def test_plot_of_a_broken_timeline(tmp_path, content):
    path = tmp_path / "memory_timeline.json"
    with pytest.raises(UserError, match="no memory timeline"):
        plot_memory_timeline(path, tmp_path / "memory.png")
    path.write_text(content)
    with pytest.raises(UserError, match="no memory timeline"):
        plot_memory_timeline(path, tmp_path / "memory.png")


def test_plots_leave_matplotlib_unloaded_until_used():
    import subprocess

    code = "import sys, gantune.diagnostics; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0
