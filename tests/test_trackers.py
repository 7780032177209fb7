"""`report_to`: what experiment trackers are told of a training, read back from what they keep without a network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gantune.trainer.callbacks import rows_of
from tests.test_language_gan import build
from tests.test_trainer import trainer

Told = dict[str, list[float]]


def tensorboard(folder: Path, name: str) -> Told:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (logs,) = (folder / name).glob("runs/*")
    kept = EventAccumulator(str(logs)).Reload()
    return {tag: [each.value for each in kept.Scalars(tag)] for tag in kept.Tags()["scalars"]}


def trackio(folder: Path, name: str) -> Told:
    from trackio.sqlite_storage import SQLiteStorage

    assert list((folder / "trackio").glob("*.db"))
    return columns(SQLiteStorage.get_logs("huggingface", name))


def wandb(folder: Path, name: str) -> Told:
    import wandb

    last = dict(wandb.run.summary)
    wandb.finish()  # which transformers leaves to the end of the process
    assert list(folder.glob("wandb/offline-run-*/run-*.wandb"))
    return columns([last])


def mlflow(folder: Path, name: str) -> Told:
    from mlflow import MlflowClient

    client = MlflowClient()
    (run,) = (run for run in client.search_runs(["0"]) if run.info.run_name == name)
    histories = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
    return {f"train/{key}": [each.value for each in history] for key, history in histories.items()}


def columns(rows: Iterable[Mapping[str, Any]]) -> Told:
    found: Told = defaultdict(list)
    for row in rows:
        for key, value in row.items():
            found[key].append(value)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all of them keep their files; trackio reads its place when it is imported."""
    folder = tmp_path_factory.mktemp("trackers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKIO_DIR", str(folder / "trackio"))
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_DIR", str(folder))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        yield folder


@pytest.mark.parametrize("kind", [trainer, build], ids=["pairs", "game"])
@pytest.mark.parametrize("tracker", [tensorboard, trackio, wandb, mlflow], ids=lambda tracker: tracker.__name__)
def test_a_tracker_keeps_every_loss_and_reward(folder, tracker, kind):
    name = tracker.__name__
    pytest.importorskip(name, reason=f"{name} cannot be imported (pip install {name})")
    run = f"{name}-{kind.__name__}"
    told_of = kind(report_to=name, output_dir=str(folder / run), run_name=run)
    told_of.train()
    kept, rows = tracker(folder, run), rows_of(told_of.state)
    assert len(rows) > 1
    for figure in ("loss", "reward", "discriminator_loss") if kind is build else ("loss",):
        expected = [row[figure] for row in rows if figure in row]
        values = kept[f"train/{figure}"]
        assert values == pytest.approx(expected[-len(values) :], rel=1e-5) and len(values) in (1, len(expected))
