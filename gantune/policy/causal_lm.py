"""The policy of a frozen causal language model with an adapter: sample with a cache, score in one pass."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from gantune.data.batch import Batch, position_ids
from gantune.embedding_generator import draw_noise, hold_noise
from gantune.errors import UserError
from gantune.policy.cache import GrowingCache, right_aligned
from gantune.policy.rollout import Rollout
from gantune.policy.sampling import sample_tokens


class Decoded(NamedTuple):
    """What was sampled, each `[R, S]`, S the most tokens that a row got.

    Args:
        ids: padded after a row's end.
        mask: 1 on sampled tokens.
        log_probs: 0 where the mask is 0.
    """

    ids: Tensor
    mask: Tensor
    log_probs: Tensor


class CausalLMPolicy:
    """pi(y_t | q, y_<t, x) of a causal language model, its noise x held fixed for a whole sequence.

    The model stays in `eval()` mode: dropout would make scoring another policy than the one that sampled.

    Args:
        model: a causal language model, usually wrapped by peft.
        eos_token_id: ends an answer; it belongs to the answer.
        pad_token_id: fills the rows that ended.
    """

    def __init__(self, model: PreTrainedModel, eos_token_id: int, pad_token_id: int) -> None:
        self.model = model.eval()
        self.eos_token_id = eos_token_id
        self.pad_token_id = pad_token_id

    def draw_noise(self, batch_size: int) -> Tensor | None:
        """One N(0, I) vector a sequence, `[B, noise_dim]`; None if the adapter takes no noise."""
        return draw_noise(self.model, batch_size)

    def rollout(
        self,
        batch: Batch,
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        samples_per_prompt: int = 1,
        keep_state: bool = False,
    ) -> Rollout:
        """Sample `samples_per_prompt` answers to each question; see [`Policy.rollout`].

        Args:
            batch: B questions.
            max_new_tokens: longest answer, T; shorter if every answer has ended.
            temperature: divides the logits before the softmax.
            samples_per_prompt: answers a question, k.
            keep_state: keep the key-value cache, of all rows and up to the longest answer, as the rollout's state.

        Returns:
            B * k rows, those of one question adjacent.

        Raises:
            UserError: if the adapter is a prompt learning method, or the model keeps no keys and values of every
                position; see [`GrowingCache.for_model`].
        """
        prompt_ids = batch.prompt_ids.repeat_interleave(samples_per_prompt, dim=0)
        prompt_mask = batch.prompt_mask.repeat_interleave(samples_per_prompt, dim=0)
        noise = self.draw_noise(len(prompt_ids))
        cache = self._empty_cache(prompt_ids.shape[1] + max_new_tokens - 1)
        left = torch.full_like(prompt_ids[:, 0], max_new_tokens)
        answers = self._decode(cache, prompt_ids, prompt_mask, left, noise, temperature, keep_rows=keep_state)
        return Rollout(
            prompt_ids=prompt_ids,
            prompt_mask=prompt_mask,
            answer_ids=answers.ids,
            answer_mask=answers.mask,
            pairs=batch.pairs and tuple(pair for pair in batch.pairs for _ in range(samples_per_prompt)),
            log_probs=answers.log_probs,
            noise=noise,
            temperature=temperature,
            samples_per_prompt=samples_per_prompt,
            max_new_tokens=max_new_tokens,
            state=cache if keep_state else None,
        )

    def prepare(self, rollout: Rollout) -> Rollout:
        """The rollout with the key-value cache of its questions and answers; see [`Policy.prepare`]."""
        if rollout.state is not None:
            return rollout
        ids, mask = rollout.input_ids()[:, :-1], rollout.attention_mask()[:, :-1]  # no prefix has the last token
        cache = self._empty_cache(ids.shape[1])
        with torch.inference_mode(), hold_noise(self.model, rollout.noise):
            self._next_token_logits(cache, ids, mask, position_ids(mask))
        return replace(rollout, state=cache)

    def complete(self, rollout: Rollout, rows: Tensor, lengths: Tensor) -> Batch:
        """Sample on from prefixes of a prepared rollout; see [`Policy.complete`].

        Rows with prefixes of different lengths are one batch. Each goes on from a copy of its row's cache.

        Args:
            rollout: B answers, with the state that [`prepare`] gives.
            rows: `[R]` row numbers.
            lengths: `[R]` tokens kept, at least 1, and fewer than the answer has.

        Returns:
            R completed answers, as long as the longest of them.
        """
        if rollout.state is None:
            raise ValueError("the rollout has no state to go on from, expected one that prepare() returned")
        prompt_length = rollout.prompt_ids.shape[1]
        columns, used = right_aligned(prompt_length + lengths)
        mask = rollout.attention_mask()[rows[:, None], columns] * used
        last_tokens = rollout.answer_ids[rows, lengths - 1][:, None]
        left = rollout.max_new_tokens - lengths
        noise = None if rollout.noise is None else rollout.noise[rows]
        cached = prompt_length + lengths - 1
        with torch.inference_mode():
            cache = rollout.state.select(rows, cached, capacity=int(cached.max() + left.max()))
        new = self._decode(cache, last_tokens, mask, left, noise, rollout.temperature)

        total = lengths + new.mask.sum(dim=1)
        columns = torch.arange(int(total.max()), device=rows.device).expand(len(rows), -1)
        from_prefix = columns < lengths[:, None]
        answer_mask = columns < total[:, None]
        old_ids = rollout.answer_ids[rows[:, None], columns.clamp(max=rollout.answer_ids.shape[1] - 1)]
        new_ids = new.ids.gather(1, (columns - lengths[:, None]).clamp(0, new.ids.shape[1] - 1))
        return Batch(
            prompt_ids=rollout.prompt_ids[rows],
            prompt_mask=rollout.prompt_mask[rows],
            answer_ids=old_ids.where(from_prefix, new_ids).where(answer_mask, self.pad_token_id),
            answer_mask=answer_mask.long(),
            pairs=rollout.pairs and tuple(rollout.pairs[row] for row in rows.tolist()),
        )

    @torch.inference_mode()
    def _decode(
        self,
        cache: GrowingCache,
        ids: Tensor,
        mask: Tensor,
        left: Tensor,
        noise: Tensor | None,
        temperature: float,
        keep_rows: bool = False,
    ) -> Decoded:
        """Sample token by token until each row has ended or got its number of tokens.

        Args:
            cache: of what comes before `ids`; it is used up.
            ids: `[R, L]`, the first tokens to feed.
            mask: `[R, cached + L]`, 0 on the padding at the left.
            left: `[R]`, most tokens to sample.
            noise: `[R, noise_dim]`.
            temperature: divides the logits.
            keep_rows: decode ended rows along, so that the cache is of all rows in the end.
        """
        tokens = ids.new_full((len(ids), int(left.max())), self.pad_token_id)
        sampled = torch.zeros_like(tokens)
        log_probs = torch.zeros_like(tokens, dtype=torch.float32)
        rows = torch.arange(len(ids), device=ids.device)  # those that are decoded
        alive = torch.ones_like(rows, dtype=torch.bool)
        positions = position_ids(mask)[:, -ids.shape[1] :]
        with ExitStack() as held:
            held.enter_context(hold_noise(self.model, noise))
            for step in range(tokens.shape[1]):
                logits = self._next_token_logits(cache, ids, mask, positions)
                probabilities = logits.float().div_(temperature).softmax(dim=-1)
                token = sample_tokens(probabilities).where(alive, self.pad_token_id)
                chosen = probabilities.gather(1, token[:, None]).squeeze(1).log()
                tokens[rows, step], sampled[rows, step] = token, alive.long()
                log_probs[rows, step] = chosen.where(alive, 0)

                ids, positions = token[:, None], positions[:, -1:] + alive[:, None]
                mask = torch.cat([mask, alive[:, None].to(mask.dtype)], dim=1)
                alive = alive & (token != self.eos_token_id) & (left[rows] > step + 1)
                going_on = int(alive.sum())
                if not going_on:
                    break
                # Ended rows leave at once: waiting until a tenth or more had ended was never faster (GPT-2, CPU).
                if not keep_rows and going_on < len(rows):
                    padding = int(mask[alive].any(dim=0).int().argmax())  # at the left of all rows that stay
                    stay = cache.keep(alive, padding)
                    rows, alive, ids, positions = rows[stay], alive[stay], ids[stay], positions[stay]
                    mask = mask[stay, padding:]
                    if noise is not None:
                        noise = noise[stay]
                        held.enter_context(hold_noise(self.model, noise))
        # tensors of inference mode may not enter a graph
        with torch.inference_mode(False):
            return Decoded(*(result[:, : step + 1].clone() for result in (tokens, sampled, log_probs)))

    def _next_token_logits(self, cache: GrowingCache, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """`[R, vocabulary]`, after feeding `ids` to the model; their keys and values go to the cache."""
        return self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]

    def _empty_cache(self, capacity: int) -> GrowingCache:
        adapter = getattr(self.model, "active_peft_config", None)
        if adapter is not None and adapter.is_prompt_learning:
            raise UserError(
                f"{adapter.peft_type.value}: peft feeds its virtual tokens again at every step, so this policy cannot "
                "sample; expected an adapter that is no prompt learning"
            )
        return GrowingCache.for_model(self.model.config.get_text_config(decoder=True), capacity)

    def score(self, batch: Batch, *, noise: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Log-probs of the answers by one teacher-forced pass, at answer positions only; see [`Policy.score`].

        Args:
            batch: questions and answers; a rollout, or true pairs.
            noise: the rollout's `[B, noise_dim]`; the zero vector if None.
            temperature: the rollout's; 1 for true answers.

        Returns:
            `[B, T]` float32, 0 where the answer mask is 0.
        """
        prompt_length, answer_length = batch.prompt_ids.shape[1], batch.answer_ids.shape[1]
        first = prompt_length - 1  # the last position of the question predicts the answer's first token
        with hold_noise(self.model, noise):
            logits = self.model(
                input_ids=batch.input_ids(),
                attention_mask=batch.attention_mask(),
                position_ids=batch.position_ids(),
                use_cache=False,
                logits_to_keep=torch.arange(first, first + answer_length, device=batch.device),
            ).logits
        logits = logits.float()
        if temperature != 1:
            logits = logits / temperature
        log_probs = -F.cross_entropy(logits.flatten(0, 1), batch.answer_ids.flatten(), reduction="none")
        return log_probs.view_as(batch.answer_ids) * batch.answer_mask
