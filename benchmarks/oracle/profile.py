"""What copied states save: an adversarial round against one that regenerates every prefix from the start."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import torch
from torch import Tensor

from benchmarks.compare.environment import describe_device
from benchmarks.oracle.highway_cnn import HighwayCNN
from benchmarks.oracle.lstm import LENGTH, START, LSTMPolicy, as_batch
from benchmarks.oracle.settings import OracleSettings
from benchmarks.oracle.training import adam, generator_step
from benchmarks.report.grid import text_table
from gantune.data.batch import Batch
from gantune.policy import MonteCarloSearch, Rollout, sample_tokens
from gantune.seqgan import MonteCarloReward, Search

REPEATS = 3


class Regenerating:
    """The search as SeqGAN's released code does it: for each completion of each prefix length, feed the prefix from
    the start token on, sample the rest, a batch of whole sequences at a time.

    Args:
        policy: the roll-out policy.
        completions: N.
        draw: `[B, V]` probabilities to tokens `[B]`.
    """

    def __init__(self, policy: LSTMPolicy, completions: int, draw: Callable[[Tensor], Tensor]) -> None:
        self.policy, self.completions, self.draw = policy, completions, draw

    @torch.no_grad()
    def __call__(self, rollout: Rollout) -> Iterator[tuple[Tensor, Tensor, Batch]]:
        """See [`gantune.seqgan.Search`]."""
        rows = torch.arange(len(rollout), device=rollout.device)
        for length in range(1, LENGTH):
            for _ in range(self.completions):
                yield rows, torch.full_like(rows, length), self._completed(rollout.answer_ids, length)

    def _completed(self, ids: Tensor, length: int) -> Batch:
        token, state, columns = torch.full_like(ids[:, 0], START), None, []
        for t in range(LENGTH):
            state = self.policy._step(token, state)
            token = ids[:, t] if t < length else self.draw(self.policy.output(state[0]).softmax(dim=1))
            columns.append(token)
        return as_batch(torch.stack(columns, dim=1))


class Timed:
    """A search that adds up the seconds it spends on completions, apart from those that judge them.

    Args:
        search: what is timed.
        clock: now, in seconds.
    """

    def __init__(self, search: Search, clock: Callable[[], float]) -> None:
        self.search, self.clock, self.seconds = search, clock, 0.0

    def __call__(self, rollout: Rollout) -> Iterator[tuple[Tensor, Tensor, Batch]]:
        """See [`gantune.seqgan.Search`]."""
        completions = iter(self.search(rollout))
        while True:
            started = self.clock()
            chunk = next(completions, None)
            self.seconds += self.clock() - started
            if chunk is None:
                return
            yield chunk


def profile(settings: OracleSettings, device: str) -> None:
    """Time generator steps with each search in turn, several times over, and print medians and ratios."""
    torch.manual_seed(0)
    policy = LSTMPolicy().to(device)
    discriminator = HighwayCNN(bf16=settings.discriminator_bf16).to(device).eval()
    optimizer = adam(policy, 0.0)
    number, rows = settings.completions, settings.max_rows

    def clock() -> float:
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()

    whole = SimpleNamespace(sequence_logits=discriminator.sequence_logits)  # reads each completion from its start
    searches = {
        "copied states": (MonteCarloSearch(policy, number, max_rows=rows), discriminator),
        "regenerated, our sampler": (Regenerating(policy, number, sample_tokens), whole),
        "regenerated, torch.multinomial": (
            Regenerating(policy, number, lambda p: torch.multinomial(p, 1).squeeze(1)),
            whole,
        ),
    }
    steps: dict[str, list[float]] = {name: [] for name in searches}
    alone: dict[str, list[float]] = {name: [] for name in searches}
    for _ in range(REPEATS):
        for name, (search, judge) in searches.items():
            timed = Timed(search, clock)
            started = clock()
            generator_step(policy, optimizer, MonteCarloReward(judge, "prob", timed), settings)
            steps[name].append(clock() - started)
            alone[name].append(timed.seconds)
    ours, ours_alone = (statistics.median(times["copied states"]) for times in (steps, alone))
    grid = [["search", "generator step", "ratio", "completions alone", "ratio"]]
    for name in searches:
        step, completing = statistics.median(steps[name]), statistics.median(alone[name])
        cells = (f"{step:.2f} s", f"{step / ours:.1f} x", f"{completing:.2f} s", f"{completing / ours_alone:.1f} x")
        grid.append([name, *cells])
    print(text_table(grid))
    print(
        f"Medians of {REPEATS}, in turn, on {describe_device(device)}; {settings.batch_size} sequences, "
        f"N = {number}. A generator step holds the discriminator's reading of all completions"
        f"{', in bfloat16' if settings.discriminator_bf16 else ''}; with copied states it reads each prefix once."
    )
