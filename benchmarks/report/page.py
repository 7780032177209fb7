"""One HTML file that holds the data, the style and the script, and loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from benchmarks.compare.files import read_json
from benchmarks.judge.table import judged
from benchmarks.report.curves import runs
from benchmarks.report.differences import how_to_read
from benchmarks.report.forgetting_table import how_to_read_forgetting
from benchmarks.report.notes import TITLES, notes
from benchmarks.report.pictures import colour_numbers
from benchmarks.report.published import HOW_TO_READ, SETTING, TITLE, published_grid
from benchmarks.report.questions import questions
from benchmarks.report.read import Comparison, number, read_comparison
from benchmarks.report.table import forgetting, metric_name, paired_differences, quality_and_cost, table
from benchmarks.report.task_tables import table_of_task
from benchmarks.report.verdict import verdict
from gantune.diagnostics import write_atomically
from gantune.generation.decoding import Decoding

# What could end a script element or that UTF-8 or a reader of the source cannot show; JSON.parse undoes the escapes.
UNSAFE = re.compile("[<>&\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def write_report(directory: str | Path, differences: Sequence[Mapping[str, Any]] | None = None) -> Path:
    """Write `comparison.html` beside a stored `comparison.json`.

    Args:
        directory: what a comparison wrote under `--output`.
        differences: paired differences between methods to show, with `method`, `rival`, `difference` (method minus
            rival) and, where they are known, `metric` (else rougeL), `low` and `high` of its 95 % interval, `p`,
            `p_holm`, `detectable` (the smallest true difference that would mostly be found), and the numbers of `seeds`
            and `questions`. None takes those of `comparison.json`.

    Returns:
        The path of the page.

    Raises:
        UserError: if the comparison is missing, a file of it holds something else, or the page cannot be written.
    """
    comparison = read_comparison(Path(directory))
    path = comparison.directory / "comparison.html"
    write_atomically(path, render(content(comparison, differences)))
    return path


def content(comparison: Comparison, differences: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """All that the page shows; see [`write_report`]."""
    settings = comparison.settings
    data = settings.get("data") or {}
    compared = paired_differences(comparison.differences if differences is None else differences)
    said = notes(comparison.rows, comparison.warnings, compared, number(data.get("test_size")))
    beside = {
        "title": TITLE,
        "grid": published_grid(comparison.summary),
        "notes": [f"Published: model {SETTING}.", HOW_TO_READ],
    }
    beside_differences, beside_forgetting = how_to_read(compared), how_to_read_forgetting(comparison.rows)
    reading = [line for line in said.reading if line not in (*beside_differences, *beside_forgetting)]
    trained = {row["method"] for row in comparison.rows if row.get("train_seconds")}
    colours = colour_numbers(comparison.methods)
    return {
        "title": f"{_last_part(settings.get('model'))} on {_last_part(data.get('dataset'))}",
        "setting": facts(comparison)[:2],
        "verdict": verdict(compared),
        "cautions": said.cautions if comparison.rows else ["No run has ended yet."],
        "notes": [[TITLES.settings, said.settings], [TITLES.reading, reading]],
        "facts": facts(comparison)[2:],
        "command": settings.get("command"),
        "settings": [[name, _plain(value)] for name, value in (settings.get("tuning") or {}).items()],
        "methods": [{"name": m, "trained": m in trained, "colour": colours[m]} for m in comparison.methods],
        "seeds": [str(seed) for seed in comparison.seeds],
        "table": table(comparison),
        "task": table_of_task(settings, comparison.rows),
        "forgetting": forgetting(comparison),
        "published": beside if settings.get("preset") == "source" else None,
        "judged": [one._asdict() for one in judged(comparison.directory)],
        "differences": [row | {"metric": metric_name(row["metric"])} for row in compared],
        "reading": beside_differences,
        "quality": quality_and_cost(comparison),
        "runs": runs(comparison),
        "compact": not any(comparison.run_directory(row).is_dir() for row in comparison.rows),
        "questions": questions(comparison),
    }


def facts(comparison: Comparison) -> list[tuple[str, str]]:
    """What the figures hold for, as names and values; what is not stored says so."""
    settings = comparison.settings
    data = settings.get("data") or {}
    stored = [
        row.get("environment") or read_json(comparison.run_directory(row) / "environment.json") or {}
        for row in comparison.rows
    ]
    commits = [_commit(environment.get("git") or {}) for environment in stored]
    versions = [
        ", ".join(f"{name} {version}" for name, version in (environment.get("versions") or {}).items() if version)
        for environment in stored
    ]
    pythons = [f"Python {environment['python']}" for environment in stored if environment.get("python")]
    sizes = f"{data.get('train_size')} questions to train, {data.get('test_size')} to test"
    return [
        ("Model", _plain(settings.get("model"))),
        ("Data", f"{data['dataset']}: {sizes}" if data.get("dataset") else "not stored"),
        ("Device", _plain(settings.get("device"))),
        ("Precision", _plain(settings.get("dtype"))),
        ("Decoding", str(headline_decoding(settings))),
        ("Words of the metrics", _plain(settings.get("word_tokenizer"))),
        ("Seeds", ", ".join(map(str, comparison.seeds)) or "none yet"),
        ("Commit", _distinct(commits)),
        ("Versions", _distinct(filter(None, [*pythons, *versions]))),
    ]


def headline_decoding(settings: Mapping[str, Any]) -> Decoding:
    """What the figures of the table are decoded by; a [`UserError`] if the settings name none that there is."""
    fairness = settings.get("fairness") or {}
    name, temperatures = fairness.get("decoding", "greedy"), fairness.get("decoding_temperature", [1.0])
    return Decoding.named(name, temperatures[0], reasoning_tokens=fairness.get("reasoning_tokens", 0))


def _commit(git: Mapping[str, Any]) -> str:
    changed = ", with uncommitted changes" if git.get("dirty") else ""
    return f"{git['commit']}{changed}" if git.get("commit") else ""


def _distinct(texts: Any) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text)) or "not stored"


def _last_part(path: Any) -> str:
    return Path(str(path)).name if path else "not stored"


def _plain(value: Any) -> str:
    if value is None:
        return "not stored"
    return value if isinstance(value, str) else json.dumps(value)


def render(report: Mapping[str, Any]) -> str:
    """The page around the data, which enter it as JSON alone.

    The content security policy allows the page's own style and script by their hashes, and no request at all.
    """
    style, script = _asset("page.css"), _asset("charts.js") + _asset("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {"POLICY": policy, "STYLE": style, "SCRIPT": script, "DATA": embedded_json(report)}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset("page.html"))


def embedded_json(value: Any) -> str:
    """JSON that can stand in a `<script>` element, whatever texts it holds.

    Raises:
        ValueError: if a number is NaN or infinite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _asset(name: str) -> str:
    return resources.files("benchmarks.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
