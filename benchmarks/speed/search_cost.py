"""What Monte-Carlo search costs: seconds and memory at GPT-2's size, on this machine's CPU.

`python -m benchmarks.speed.search_cost [--output DIRECTORY]`. The model has random weights and the default adapter; one
question of 100 tokens, an answer of 50, 4 completions of each of its 49 proper prefixes, float32. No token ends an
answer, so that every completion has all of its tokens. Seconds are those of the search, its answer being there already,
on the clock and of all cores (which other programs disturb less); memory is the peak of the resident memory, answer and
search, above the loaded model. Each line has a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.compare.environment import environment
from benchmarks.compare.files import check_writable
from gantune.command import OneLineParser, exit_status
from gantune.data.batch import Batch
from gantune.diagnostics import measure_memory, write_json
from gantune.embedding_generator import EmbeddingGeneratorConfig
from gantune.policy import CausalLMPolicy, MonteCarloSearch, Rollout

QUESTION_TOKENS, ANSWER_TOKENS, COMPLETIONS = 100, 50, 4
TIMED_PREFIXES = (1, 13, 25, 37, 49)  # of the generation that is timed in part; evenly spaced over all 49
NO_TOKEN = -1


@dataclass(frozen=True)
class Case:
    """One line of the table; without `max_rows`, each prefix is generated from its question on."""

    name: str
    stride: int = 1
    max_rows: int | None = None


CASES = (
    *(Case(f"search, {rows} rows at once", max_rows=rows) for rows in (32, 64, 256)),
    *(Case(f"search, {rows} rows at once, every 5th prefix", stride=5, max_rows=rows) for rows in (32, 256)),
    Case("one generation a prefix"),
)


def measure(case: Case) -> dict[str, Any]:
    """Seconds, memory in MB, and how many completions and sampled tokens that was."""
    torch.manual_seed(0)
    model = get_peft_model(GPT2LMHeadModel(GPT2Config()), EmbeddingGeneratorConfig(task_type="CAUSAL_LM"))
    policy = CausalLMPolicy(model, eos_token_id=NO_TOKEN, pad_token_id=0)
    ids = torch.randint(GPT2Config().vocab_size, (1, QUESTION_TOKENS))
    nothing = torch.zeros(1, 0, dtype=torch.long)
    question = Batch(ids, torch.ones_like(ids), nothing, nothing)
    policy.rollout(question, max_new_tokens=2)  # what a first call sets up is not counted
    with measure_memory("cpu") as memory:
        rollout = policy.rollout(question, max_new_tokens=ANSWER_TOKENS, keep_state=case.max_rows is not None)
        cost = _generate(policy, rollout) if case.max_rows is None else _search(policy, rollout, case)
    return {**asdict(case), **cost, "peak_mb": memory.peak_bytes / 1e6}


def _search(policy: CausalLMPolicy, rollout: Rollout, case: Case) -> dict[str, Any]:
    search = MonteCarloSearch(policy, COMPLETIONS, case.stride, case.max_rows)
    started, cpu_started, completions, tokens = time.perf_counter(), time.process_time(), 0, 0
    for _, lengths, batch in search(rollout):
        completions += len(batch)
        tokens += int((batch.answer_mask.sum(dim=1) - lengths).sum())
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu_started,
        "completions": completions,
        "sampled_tokens": tokens,
        "extrapolated": False,
    }


def _generate(policy: CausalLMPolicy, rollout: Rollout) -> dict[str, Any]:
    started, cpu_started, tokens = time.perf_counter(), time.process_time(), 0
    for length in TIMED_PREFIXES:
        ids = torch.cat([rollout.prompt_ids, rollout.answer_ids[:, :length]], dim=1)
        nothing = torch.zeros(1, 0, dtype=torch.long)
        prefix = Batch(ids, torch.ones_like(ids), nothing, nothing)
        completed = policy.rollout(prefix, max_new_tokens=ANSWER_TOKENS - length, samples_per_prompt=COMPLETIONS)
        tokens += int(completed.answer_mask.sum())
    share = (ANSWER_TOKENS - 1) / len(TIMED_PREFIXES)
    return {
        "seconds": (time.perf_counter() - started) * share,
        "cpu_seconds": (time.process_time() - cpu_started) * share,
        "completions": (ANSWER_TOKENS - 1) * COMPLETIONS,
        "sampled_tokens": round(tokens * share),
        "extrapolated": True,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="directory that the figures are written to")
    return exit_status(lambda: measure_all(parser.parse_args(arguments).output), "the same command begins again")


def measure_all(output: Path | None) -> None:
    """Measure every case, print the table, and write it if asked."""
    file = output / "search-cost.json" if output else None
    if file:
        check_writable(file)
    print(f"{torch.get_num_threads()} threads")
    print(f"{'':<46}{'seconds':>9}{'CPU s':>8}{'peak MB':>9}{'completions':>13}{'tokens':>8}")
    results = []
    for case in CASES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            result = pool.apply(measure, (case,))
        results.append(result)
        note = f"  timed on {len(TIMED_PREFIXES)} prefixes, extrapolated" if result["extrapolated"] else ""
        print(
            f"{case.name:<46}{result['seconds']:>9.1f}{result['cpu_seconds']:>8.1f}{result['peak_mb']:>9.0f}"
            f"{result['completions']:>13}{result['sampled_tokens']:>8}{note}",
            flush=True,
        )
    if file:
        write_json(
            file,
            {"threads": torch.get_num_threads(), "environment": environment("cpu", "float32", 0), "results": results},
        )


if __name__ == "__main__":
    sys.exit(main())
