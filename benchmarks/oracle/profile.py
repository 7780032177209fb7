"""What copied states save: an adversarial round against one that regenerates every prefix from the start."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.grid import text_table
from benchmarks.oracle.highway_cnn import HighwayCNN
from benchmarks.oracle.lstm import LENGTH, START, LSTMPolicy, as_batch, empty_batch
from benchmarks.oracle.settings import OracleSettings
from benchmarks.oracle.training import adam, generator_step
from gantune.data.batch import Batch
from gantune.policy import MonteCarloSearch, Rollout, sample_tokens
from gantune.seqgan import MonteCarloReward

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
    def __call__(self, rollout: Rollout):
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


def profile(oracle: LSTMPolicy, settings: OracleSettings, device: str) -> None:
    """Time the three ways of a generator step in turn, several times over, and print medians and ratios."""
    torch.manual_seed(0)
    policy, discriminator = LSTMPolicy().to(device), HighwayCNN().to(device).eval()
    optimizer = adam(policy, 0.0)
    searches = {
        "copied states": MonteCarloSearch(policy, settings.completions, max_rows=settings.max_rows),
        "regenerated, our sampler": Regenerating(policy, settings.completions, sample_tokens),
        "regenerated, torch.multinomial": Regenerating(
            policy, settings.completions, lambda p: torch.multinomial(p, 1).squeeze(1)
        ),
    }
    rounds: dict[str, list[float]] = {name: [] for name in searches}
    alone: dict[str, list[float]] = {name: [] for name in searches}

    def seconds(call: Callable[[], object]) -> float:
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        started = time.perf_counter()
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - started

    for _ in range(REPEATS):
        for name, search in searches.items():
            reward = MonteCarloReward(discriminator, "prob", search)
            rounds[name].append(seconds(lambda reward=reward: generator_step(policy, optimizer, reward, settings)))
            rollout = policy.rollout(empty_batch(settings.batch_size, policy.device), keep_state=True)
            alone[name].append(seconds(lambda search=search, rollout=rollout: list(search(rollout))))
    ours, ours_alone = (statistics.median(times["copied states"]) for times in (rounds, alone))
    grid = [["search", "generator step", "ratio", "completions alone", "ratio"]]
    for name in searches:
        step, search_alone = statistics.median(rounds[name]), statistics.median(alone[name])
        cells = (f"{step:.2f} s", f"{step / ours:.1f} x", f"{search_alone:.2f} s", f"{search_alone / ours_alone:.1f} x")
        grid.append([name, *cells])
    print(text_table(grid))
    print(
        f"Medians of {REPEATS}, in turn; {settings.batch_size} sequences, N = {settings.completions}. A generator step "
        "holds the discriminator's reading of all completions, which is the same work in every row."
    )
