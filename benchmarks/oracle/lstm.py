"""The LSTM of SeqGAN's benchmark, as oracle and as policy: sequences of a fixed length without an end token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gantune.data.batch import Batch
from gantune.errors import UserError
from gantune.policy import Rollout, inference_kernels, sample_tokens

VOCABULARY, LENGTH, WIDTH, START = 5000, 20, 32, 0
BUFFER_ROWS = 256  # rows whose distributions are held at once
PRODUCT_ROWS = 64  # of them, rows whose logits are: so few stay in the processor's cache


class LSTMPolicy(nn.Module):
    """An embedding, one LSTM layer from a zero state, and a linear layer; a policy as [`CausalLMPolicy`] is one.

    Sequences begin with the start token, which is not part of them, and have no question: prompts are empty.

    Args:
        vocabulary: number of tokens.
        width: of the embedding and of the hidden state.
        std: standard deviation of all weights and biases at the start.
        dropout: of embeddings and of hidden states before the output, while it is trained.
    """

    def __init__(
        self, vocabulary: int = VOCABULARY, width: int = WIDTH, std: float = 0.1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.output = nn.Linear(width, vocabulary)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=std)
        nn.init.zeros_(self.lstm.bias_hh_l0).requires_grad_(False)  # torch keeps two biases where the paper has one
        self._buffer: Tensor | None = None

    @property
    def device(self) -> torch.device:
        return self.output.weight.device

    def draw_noise(self, batch_size: int) -> None:
        """None: the policy takes no noise."""

    def score(self, batch: Batch, *, noise: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """See [`gantune.policy.CausalLMPolicy.score`], `[B, T]`."""
        hidden, tokens = self._read(batch.answer_ids).flatten(0, 1), batch.answer_ids.flatten()
        if torch.is_grad_enabled():
            log_probs = -F.cross_entropy(self.output(hidden) / temperature, tokens, reduction="none")
        else:
            parts = zip(self._distributions(hidden, temperature), tokens.split(BUFFER_ROWS), strict=True)
            log_probs = torch.cat([part.gather(1, ids[:, None])[:, 0].log() for part, ids in parts])
        return log_probs.view_as(batch.answer_ids) * batch.answer_mask

    def log_distributions(self, ids: Tensor, temperature: float = 1.0) -> Tensor:
        """Log-probs of every token at each place of sequences `[B, T]`, given those before it, `[B, T, V]`."""
        return self._logits(self._read(ids), temperature).log_softmax(dim=2)

    @torch.no_grad()
    def rollout(
        self,
        batch: Batch,
        *,
        max_new_tokens: int = LENGTH,
        temperature: float = 1.0,
        samples_per_prompt: int = 1,
        keep_state: bool = False,
    ) -> Rollout:
        """See [`CausalLMPolicy.rollout`]; the state is the LSTM's after every prefix, `[2, B, T, width]`."""
        rows = len(batch) * samples_per_prompt
        ids = torch.empty(rows, max_new_tokens, dtype=torch.long, device=self.device)
        log_probs = torch.empty(rows, max_new_tokens, device=self.device)
        states = []
        hidden, cell = self._step(torch.full_like(ids[:, 0], START), None)
        for t in range(max_new_tokens):
            states.append(torch.stack([hidden, cell]))
            for first, distributions in enumerate(self._distributions(hidden, temperature)):
                part = slice(first * BUFFER_ROWS, (first + 1) * BUFFER_ROWS)
                ids[part, t] = sample_tokens(distributions)
                log_probs[part, t] = distributions.gather(1, ids[part, t, None])[:, 0].log()
            hidden, cell = self._step(ids[:, t], (hidden, cell))
        empty = ids.new_empty(rows, 0)
        return Rollout(
            prompt_ids=empty,
            prompt_mask=empty,
            answer_ids=ids,
            answer_mask=torch.ones_like(ids),
            log_probs=log_probs,
            noise=None,
            temperature=temperature,
            samples_per_prompt=samples_per_prompt,
            max_new_tokens=max_new_tokens,
            state=torch.stack(states, dim=2) if keep_state else None,
        )

    @torch.no_grad()
    def prepare(self, rollout: Rollout) -> Rollout:
        """See [`gantune.policy.CausalLMPolicy.prepare`]."""
        if rollout.state is None:
            state, states = None, []
            for token in F.pad(rollout.answer_ids[:, :-1], (1, 0), value=START).unbind(dim=1):
                state = self._step(token, state)
                states.append(torch.stack(state))
            rollout.state = torch.stack(states, dim=2)
        return rollout

    @torch.no_grad()
    def complete(self, rollout: Rollout, rows: Tensor, lengths: Tensor) -> Batch:
        """See [`gantune.policy.CausalLMPolicy.complete`]."""
        order = lengths.argsort(stable=True)  # rows with longer prefixes join as their turn comes
        rows, starts = rows[order], lengths[order]
        ids, (hidden, cell) = rollout.answer_ids[rows], rollout.state[:, rows, starts]
        # completions of one prefix stand side by side: their first tokens come from one distribution
        prefixes, of_prefix = torch.stack([rows, starts]).unique_consecutive(dim=1, return_inverse=True)
        begun = rollout.state[0, prefixes[0], prefixes[1]]
        ids.scatter_(1, starts[:, None], self._draw(begun, rollout.temperature, of_prefix)[:, None])
        for position in range(int(starts[0]) + 1, rollout.max_new_tokens):
            before = int((starts < position).sum())
            moved = self._step(ids[:before, position - 1], (hidden[:before], cell[:before]))
            hidden[:before], cell[:before] = moved
            ids[:before, position] = self._draw(moved[0], rollout.temperature)
        completed = torch.empty_like(ids)
        completed[order] = ids
        return as_batch(completed)

    def _read(self, ids: Tensor) -> Tensor:
        """The hidden state before each token of sequences `[B, T]`, `[B, T, width]`."""
        before = torch.cat([torch.full_like(ids[:, :1], START), ids[:, :-1]], dim=1)
        hidden, _ = self.lstm(self.dropout(self.embedding(before)))
        return self.dropout(hidden)

    def _step(self, tokens: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """The state after one more token, hidden and cell `[B, width]` each."""
        before = None if state is None else (state[0][None], state[1][None])
        _, (hidden, cell) = self.lstm(self.embedding(tokens)[:, None], before)
        return hidden[0], cell[0]

    def _draw(self, hidden: Tensor, temperature: float, rows: Tensor | None = None) -> Tensor:
        """A token after each state `[B, width]`, `[B]`, or after those that `rows` `[R]`, ascending, name, `[R]`."""
        parts = self._distributions(hidden, temperature)
        if rows is None:
            return torch.cat([sample_tokens(part) for part in parts])
        of_part = rows // BUFFER_ROWS
        return torch.cat([sample_tokens(part, rows=rows[of_part == i] % BUFFER_ROWS) for i, part in enumerate(parts)])

    def _distributions(self, hidden: Tensor, temperature: float) -> Iterator[Tensor]:
        """The distributions of the next token after states `[B, width]`, BUFFER_ROWS at a time; without gradient.

        All are written to one buffer, each over the one before: fresh memory costs several times the arithmetic.
        """
        if self._buffer is None or self._buffer.device != hidden.device:
            self._buffer = hidden.new_empty(BUFFER_ROWS, self.output.out_features)
        with inference_kernels(self):
            for part in hidden.split(BUFFER_ROWS):
                distributions = self._buffer[: len(part)]
                for states, result in zip(part.split(PRODUCT_ROWS), distributions.split(PRODUCT_ROWS), strict=True):
                    torch.softmax(self._logits(states, temperature), dim=1, out=result)
                yield distributions

    def _logits(self, hidden: Tensor, temperature: float) -> Tensor:
        logits = self.output(hidden)
        return logits if temperature == 1 else logits / temperature


def empty_batch(rows: int, device: torch.device | str = "cpu") -> Batch:
    """As many empty prompts, to sample sequences to."""
    return as_batch(torch.empty(rows, 0, dtype=torch.long, device=device))


def as_batch(ids: Tensor) -> Batch:
    """Sequences `[B, T]` as answers to empty prompts."""
    empty = ids.new_empty(len(ids), 0)
    return Batch(empty, empty, ids, torch.ones_like(ids))


@torch.no_grad()
def sample(policy: LSTMPolicy, rows: int, temperature: float = 1.0) -> Tensor:
    """So many sequences, `[rows, LENGTH]`."""
    return policy.rollout(empty_batch(rows, policy.device), temperature=temperature).answer_ids


@torch.no_grad()
def nats_per_token(policy: LSTMPolicy, ids: Tensor, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of sequences `[B, T]` under the policy."""
    total = sum(policy.score(as_batch(part), temperature=temperature).double().sum() for part in ids.split(256))
    return -(total / ids.numel()).item()


def load_oracle(path: str | None) -> LSTMPolicy:
    """The oracle: published weights, or a pinned draw of N(0, 1) weights and biases.

    Args:
        path: the .npz with `embedding`, then `W`, `U`, `b` of the gates `i`, `f`, `o`, `c`, and `W_out`, `b_out`.

    Raises:
        UserError: if the file cannot be read or is another one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(88)
        oracle = LSTMPolicy(std=1.0).requires_grad_(False)
    if path is None:
        return oracle
    gates = "ifco"  # torch's order
    try:
        with np.load(Path(path), allow_pickle=False) as file:
            weights = {name: torch.from_numpy(file[name].astype(np.float32)) for name in file.files}
        state = {
            "embedding.weight": weights["embedding"],
            "lstm.weight_ih_l0": torch.cat([weights[f"W_{gate}"] for gate in gates], dim=1).t(),
            "lstm.weight_hh_l0": torch.cat([weights[f"U_{gate}"] for gate in gates], dim=1).t(),
            "lstm.bias_ih_l0": torch.cat([weights[f"b_{gate}"] for gate in gates]),
            "lstm.bias_hh_l0": torch.zeros(4 * WIDTH),
            "output.weight": weights["W_out"].t(),
            "output.bias": weights["b_out"],
        }
        oracle.load_state_dict(state)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--oracle {path}: expected SeqGAN's target LSTM as .npz: {reason:.200}") from error
    return oracle
