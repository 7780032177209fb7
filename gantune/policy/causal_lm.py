"""The policy of a frozen causal language model with an adapter: read the questions once, sample, score."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from transformers import Cache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from gantune.data.batch import Batch, position_ids, repeated
from gantune.embedding_generator import draw_noise, hold_noise
from gantune.embedding_generator.virtual_tokens import num_virtual_tokens
from gantune.errors import UserError, first_line
from gantune.policy.cache import GrowingCache, attention_layers, right_aligned
from gantune.policy.captured import CapturedDecoding
from gantune.policy.decoding import Beginning, Decoded, decode, next_token_logits
from gantune.policy.gelu import fuse_tanh_gelu
from gantune.policy.head import OutputHead
from gantune.policy.inference_kernels import inference_kernels
from gantune.policy.prefill import Prefill
from gantune.policy.rollout import Draws, Rollout


class CausalLMPolicy:
    """pi(y_t | q, y_<t, x) of a causal language model, its noise x held fixed for a whole sequence.

    There are two ways to a step. The plain one, [`rollout`] and then [`score`], reads the questions twice; the other
    reads them once: `rollout(batch, prefill=prefill)` and [`score_from`], with the same numbers.

    The model stays in `eval()` mode: dropout would make scoring another policy than the one that sampled. Its GELUs are
    fused, which changes results by rounding only; see [`fuse_tanh_gelu`].

    Args:
        model: a causal language model, usually wrapped by peft.
        eos_token_id: ends an answer; it belongs to the answer.
        captured_decoding: replay a CUDA graph for each token, where the model allows it; see [`CapturedDecoding`]. A
            `UserError` without CUDA.
    """

    def __init__(
        self, model: PreTrainedModel, eos_token_id: int, pad_token_id: int, captured_decoding: bool = False
    ) -> None:
        self.model = model.eval()
        self.eos_token_id = eos_token_id
        self.pad_token_id = pad_token_id
        fuse_tanh_gelu(model)
        self.head = OutputHead(model)
        self.virtual_tokens = num_virtual_tokens(model)  # of a row, in the cache before its own
        self.captured = CapturedDecoding(model, eos_token_id, pad_token_id) if captured_decoding else None

    def draw_noise(self, batch_size: int, generator: torch.Generator | None = None) -> Tensor | None:
        """One N(0, I) vector a question, `[B, noise_dim]`; None if the adapter takes no noise."""
        return draw_noise(self.model, batch_size, generator)

    def check_sampling(self) -> None:
        """A [`UserError`] if the model does not go on from copies of a cache, as samples need it; nothing is drawn."""
        ids = torch.full((1, 2), self.pad_token_id, device=self.model.device)
        batch = Batch(ids, torch.ones_like(ids), ids, torch.ones_like(ids))
        try:
            with torch.no_grad():
                self.score_from(self.prefill(batch, None), batch, torch.zeros_like(ids[:, 0]))
        except Exception as error:  # models fail in many ways
            kind = "" if isinstance(error, UserError) else f"model type {self.model.config.model_type}: "
            raise UserError(
                f"{kind}{first_line(error)}; so training cannot sample from it, expected likelihood alone: "
                "--warmup-share 1, or a method such as mle"
            ) from error

    def prefill(self, batch: Batch, noise: Tensor | None) -> Prefill:
        """Read the questions once, with gradient unless it is disabled, to sample and to score answers from.

        The answers of `batch` are not read. The noise is as [`draw_noise`] gives it; the zero vector if None. Models
        that [`rollout`] refuses are refused.
        """
        # for use with gradients: every position of every layer, sliding-window layers too
        cache = Cache(layers=[DynamicLayer() for _ in range(attention_layers(self._cache_config()))])
        with hold_noise(self.model, noise):
            last = self.head.features(
                input_ids=batch.prompt_ids,
                attention_mask=batch.prompt_mask,
                position_ids=position_ids(batch.prompt_mask),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        if any(layer.get_seq_length() != self.virtual_tokens + batch.prompt_ids.shape[1] for layer in cache.layers):
            raise UserError(f"model type {self.model.config.model_type}: does not fill the cache that it is given")
        states = [(layer.keys, layer.values) for layer in cache.layers]
        return Prefill(batch.prompt_ids, batch.prompt_mask, noise, last, states)

    def rollout(
        self,
        batch: Batch,
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        samples_per_prompt: int = 1,
        keep_state: bool = False,
        prefill: Prefill | None = None,
        draws: Draws | None = None,
    ) -> Rollout:
        """Sample `samples_per_prompt` answers, k, to each question of `batch`, whose own are not read. No gradient.

        Each question is read once, so its samples share its noise vector. Of the B * k rows those of one question are
        adjacent.

        Args:
            max_new_tokens: longest answer, T; shorter if every answer has ended.
            keep_state: keep the key-value cache, of all rows and up to the longest answer, as the rollout's state:
                what [`complete`] goes on from.
            prefill: of these questions; decoding starts from copies of it. None to draw noise and read them here,
                without gradient.
            draws: the random numbers to sample with; those that come if None.

        Raises:
            UserError: if the adapter is a prefix of keys and values, or the model keeps no keys and values of every
                position; see [`attention_layers`].
            ValueError: if the prefill is of other questions.
        """
        k = samples_per_prompt
        capacity = self.virtual_tokens + batch.prompt_ids.shape[1] + max_new_tokens - 1
        if prefill is not None and not prefill.is_of(batch):
            raise ValueError("the prefill is of other questions than those to answer")
        given = prefill if prefill is not None else draws
        noise = self.draw_noise(len(batch)) if given is None else given.noise
        with torch.inference_mode():
            source = self.prefill(batch, noise) if prefill is None else prefill
            logits, cache = source.first_logits(k), source.decoding_cache(k, capacity)
            del source  # while decoding, the copies are enough
        noise = repeated(noise, k)
        prompt_mask = batch.prompt_mask.repeat_interleave(k, dim=0)
        left = torch.full_like(prompt_mask[:, 0], max_new_tokens)
        uniform = None if draws is None else draws.uniform
        beginning = Beginning(cache, logits, prompt_mask, left, noise, temperature, uniform)
        answers = self._decode(beginning, keep_rows=keep_state)
        return Rollout(
            prompt_ids=batch.prompt_ids.repeat_interleave(k, dim=0),
            prompt_mask=prompt_mask,
            answer_ids=answers.ids,
            answer_mask=answers.mask,
            pairs=batch.pairs and tuple(pair for pair in batch.pairs for _ in range(k)),
            prompt_fields=repeated(batch.prompt_fields, k),
            log_probs=answers.log_probs,
            noise=noise,
            temperature=temperature,
            samples_per_prompt=k,
            max_new_tokens=max_new_tokens,
            state=cache if keep_state else None,
            prefill=prefill,
        )

    def score(self, batch: Batch, *, noise: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Log-probs of the answers by one teacher-forced pass, at answer positions only, with gradient.

        Of a rollout, noise and temperature are the rollout's; of true answers, zero (None) and 1. The result is
        `[B, T]` float32, 0 where the answer mask is 0.
        """
        first = batch.prompt_ids.shape[1] - 1  # the last position of the question predicts the answer's first token
        predicting = torch.arange(first, first + batch.answer_ids.shape[1], device=batch.device)
        with hold_noise(self.model, noise):
            features = self.head.features(
                input_ids=batch.input_ids(),
                attention_mask=batch.attention_mask(),
                position_ids=batch.position_ids(),
                use_cache=False,
                logits_to_keep=predicting,
            )
        return features.log_probs(batch.answer_ids, batch.answer_mask, temperature)

    def score_from(self, prefill: Prefill, batch: Batch, rows: Tensor, temperature: float = 1.0) -> Tensor:
        """Log-probs of answers to questions that were read before: only the answers are fed, in one block.

        Equal to [`score`] under the prefill's noise. Gradients stop at the prefill's leaves until its `backward`.

        Args:
            prefill: of the questions, under the present weights.
            batch: R answers; its questions are not read.
            rows: `[R]`, the row of the prefill that each answer is to, in any order and number.

        Returns:
            `[R, T]` float32, 0 where the answer mask is 0.
        """
        ids, mask = batch.answer_ids, batch.answer_mask
        last = replace(prefill.last, values=prefill.last.values.index_select(0, rows))
        log_probs = [last.log_probs(ids[:, :1], mask[:, :1], temperature)]
        if ids.shape[1] > 1:
            fed = torch.cat([prefill.prompt_mask[rows], mask[:, :-1]], dim=1)
            with hold_noise(self.model, None if prefill.noise is None else prefill.noise[rows]):
                features = self.head.features(
                    input_ids=ids[:, :-1],
                    attention_mask=fed,
                    position_ids=position_ids(fed)[:, prefill.prompt_mask.shape[1] :],
                    past_key_values=prefill.scoring_cache(rows),
                    use_cache=True,
                )
            log_probs.append(features.log_probs(ids[:, 1:], mask[:, 1:], temperature))
        return torch.cat(log_probs, dim=1)

    def prepare(self, rollout: Rollout) -> Rollout:
        """The rollout with the key-value cache of its questions and answers: its own, or computed in one pass."""
        if rollout.state is not None:
            return rollout
        ids, mask = rollout.input_ids()[:, :-1], rollout.attention_mask()[:, :-1]  # no prefix has the last token
        cache = GrowingCache.for_model(self._cache_config(), self.virtual_tokens + ids.shape[1])
        with torch.inference_mode(), hold_noise(self.model, rollout.noise), inference_kernels(self.model):
            self.head.features(
                input_ids=ids,
                attention_mask=mask,
                position_ids=position_ids(mask),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return replace(rollout, state=cache)

    def complete(self, rollout: Rollout, rows: Tensor, lengths: Tensor) -> Batch:
        """Sample on from prefixes: row `rows[i]` of a prepared rollout is kept up to its first `lengths[i]` tokens.

        Noise, temperature and longest answer are the rollout's. Rows with prefixes of different lengths are one batch.
        Each goes on from a copy of its row's cache, so no prefix is computed again.

        Args:
            rollout: as [`prepare`] gives it.
            rows: `[R]` row numbers, in any order and number.
            lengths: `[R]` tokens kept, at least 1, and fewer than the answer has.

        Returns:
            R completed answers, with the questions and pairs of their rows.
        """
        if rollout.state is None:
            raise ValueError("the rollout has no state to go on from, expected one that prepare() returned")
        prompt_length = rollout.prompt_ids.shape[1]
        columns, used = right_aligned(prompt_length + lengths)
        mask = rollout.attention_mask()[rows[:, None], columns] * used
        last_tokens = rollout.answer_ids[rows, lengths - 1][:, None]
        left = rollout.max_new_tokens - lengths
        noise = None if rollout.noise is None else rollout.noise[rows]
        cached = self.virtual_tokens + prompt_length + lengths - 1
        with torch.inference_mode(), hold_noise(self.model, noise), inference_kernels(self.model):
            cache = rollout.state.select(rows, cached, capacity=int(cached.max() + left.max()))
            logits = next_token_logits(self.model, cache, last_tokens, mask, position_ids(mask)[:, -1:])
        new = self._decode(Beginning(cache, logits, mask, left, noise, rollout.temperature))

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
            prompt_fields=None if rollout.prompt_fields is None else rollout.prompt_fields[rows],
        )

    def _decode(self, beginning: Beginning, keep_rows: bool = False) -> Decoded:
        if self.captured is not None:
            return self.captured.decode(beginning, keep_rows=keep_rows)
        tokens = {"eos_token_id": self.eos_token_id, "pad_token_id": self.pad_token_id}
        return decode(self.model, beginning, keep_rows=keep_rows, **tokens)

    def _cache_config(self) -> PreTrainedConfig:
        adapter = getattr(self.model, "active_peft_config", None)
        if adapter is not None and adapter.is_prompt_learning and not self.virtual_tokens:
            raise UserError(
                f"{adapter.peft_type.value}: peft puts its prompt in again at every step, so this policy cannot "
                "sample; expected virtual tokens that stack_adapters added, or an adapter that is no prompt learning"
            )
        return self.model.config.get_text_config(decoder=True)
