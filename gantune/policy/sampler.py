"""Rollouts of whole batches: in parts that fit into memory, by several processes, from random numbers of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gantune.data.batch import Batch, repeated
from gantune.policy import CausalLMPolicy, Draws, Rollout, concatenate
from gantune.policy.micro_batches import MicroBatches


class Sampler:
    """Samples answers and noise. Random numbers are drawn for a batch as a whole, whoever samples which of its rows."""

    def __init__(
        self, policy: CausalLMPolicy, micro_batches: MicroBatches, max_new_tokens: int, temperature: float
    ) -> None:
        self.policy, self.micro_batches = policy, micro_batches
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        self.generator = torch.Generator()

    def seed(self, seed: int) -> None:
        """Start the random numbers anew."""
        self.generator.manual_seed(seed)

    def noise(self, batch_size: int) -> Tensor | None:
        """One vector a question, `[B, noise_dim]`; None if the policy takes none."""
        return self.policy.draw_noise(batch_size, self.generator)

    def __call__(
        self, batch: Batch, samples_per_question: int = 1, *, with_gradient: bool = False, keep_state: bool = False
    ) -> Rollout:
        """Answers to all questions of `batch`, the same in every process.

        Args:
            samples_per_question: answers to each, k.
            with_gradient: read the questions with a gradient, and keep what is needed to score answers from it, if
                this process's share is read in one part.
            keep_state: what a search needs to go on from any prefix, if the batch is read in one part by one process.
        """
        k = samples_per_question
        numbers = torch.rand(len(batch) * k, self.max_new_tokens, dtype=torch.float64, generator=self.generator)
        draws = Draws(self.noise(len(batch)), numbers.to(batch.device))

        def answered() -> list[Rollout]:
            whole = self.micro_batches.whole(len(batch), k)
            state = keep_state and whole and self.micro_batches.parallel.size == 1
            parts = self.micro_batches.of(len(batch), k)
            return [self._answered(batch, rows, draws, k, with_gradient and whole, state) for rows in parts]

        return self._joined(self.micro_batches.run(len(batch), answered), batch, draws, k)

    def _answered(
        self, batch: Batch, rows: tuple[int, int], draws: Draws, k: int, with_gradient: bool, keep_state: bool
    ) -> Rollout:
        part, own = batch.rows(*rows), draws.questions(*rows, k)
        return self.policy.rollout(
            part,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            samples_per_prompt=k,
            keep_state=keep_state,
            prefill=self.policy.prefill(part, own.noise) if with_gradient else None,
            draws=own,
        )

    def _joined(self, parts: Sequence[Rollout], batch: Batch, draws: Draws, k: int) -> Rollout:
        """The answers of all parts and processes; what was read with a gradient stays that of the own rows."""
        parallel = self.micro_batches.parallel
        own = concatenate(parts, self.policy.pad_token_id) if parts else None
        if parallel.size == 1:
            return own
        longest = max(parallel.collect(own.answer_ids.shape[1] if own else 0))
        start, total = k * parallel.rows(len(batch))[0], k * len(batch)

        def joined(name: str, dtype: torch.dtype, fill: float = 0) -> Tensor:
            rows = getattr(own, name) if own else torch.zeros(0, longest, dtype=dtype, device=batch.device)
            return parallel.join_rows(F.pad(rows, (0, longest - rows.shape[1]), value=fill), start, total)

        return Rollout(
            prompt_ids=batch.prompt_ids.repeat_interleave(k, dim=0),
            prompt_mask=batch.prompt_mask.repeat_interleave(k, dim=0),
            answer_ids=joined("answer_ids", torch.int64, self.policy.pad_token_id),
            answer_mask=joined("answer_mask", torch.int64),
            log_probs=joined("log_probs", torch.float32),
            pairs=batch.pairs and tuple(pair for pair in batch.pairs for _ in range(k)),
            prompt_fields=repeated(batch.prompt_fields, k),
            noise=repeated(draws.noise, k),
            temperature=self.temperature,
            samples_per_prompt=k,
            max_new_tokens=self.max_new_tokens,
            prefill=own.prefill if own else None,
        )

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"])
