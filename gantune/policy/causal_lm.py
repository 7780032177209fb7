"""The policy of a frozen causal language model with an adapter: sample with a cache, score in one pass."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache, PreTrainedModel

from gantune.data.batch import Batch, position_ids
from gantune.embedding_generator import draw_noise, hold_noise
from gantune.policy.rollout import Rollout


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
        self, batch: Batch, *, max_new_tokens: int, temperature: float = 1.0, samples_per_prompt: int = 1
    ) -> Rollout:
        """Sample `samples_per_prompt` answers to each question; see [`Policy.rollout`].

        Args:
            batch: B questions.
            max_new_tokens: longest answer, T; shorter if every answer has ended.
            temperature: divides the logits before the softmax.
            samples_per_prompt: answers a question, k.

        Returns:
            B * k rows, those of one question adjacent.
        """
        prompt_ids = batch.prompt_ids.repeat_interleave(samples_per_prompt, dim=0)
        prompt_mask = batch.prompt_mask.repeat_interleave(samples_per_prompt, dim=0)
        pairs = batch.pairs and tuple(pair for pair in batch.pairs for _ in range(samples_per_prompt))
        noise = self.draw_noise(len(prompt_ids))
        with torch.inference_mode(), hold_noise(self.model, noise):
            answer_ids, answer_mask, log_probs = self._decode(prompt_ids, prompt_mask, max_new_tokens, temperature)
        return Rollout(
            prompt_ids=prompt_ids,
            prompt_mask=prompt_mask,
            answer_ids=answer_ids.clone(),  # tensors of inference mode may not enter a graph
            answer_mask=answer_mask.clone(),
            pairs=pairs,
            log_probs=log_probs.clone(),
            noise=noise,
            temperature=temperature,
            samples_per_prompt=samples_per_prompt,
        )

    def _decode(
        self, prompt_ids: Tensor, prompt_mask: Tensor, max_new_tokens: int, temperature: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Token by token on a key-value cache: ids, mask and log-probs, each `[B, T]`."""
        cache = DynamicCache(config=self.model.config.get_text_config(decoder=True))
        ids, mask = prompt_ids, prompt_mask
        positions = position_ids(mask)
        alive = torch.ones_like(prompt_ids[:, 0])
        columns = []
        for _ in range(max_new_tokens):
            logits = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            log_probs = F.log_softmax(logits.float() / temperature, dim=-1)
            token = torch.multinomial(log_probs.exp(), 1).squeeze(1)
            token = torch.where(alive.bool(), token, self.pad_token_id)
            chosen = log_probs.gather(1, token[:, None]).squeeze(1) * alive
            columns.append((token, alive, chosen))
            ids, positions = token[:, None], positions[:, -1:] + alive[:, None]
            mask = torch.cat([mask, alive[:, None]], dim=1)
            alive = alive * (token != self.eos_token_id)
            if not alive.any():
                break
        return tuple(torch.stack(column, dim=1) for column in zip(*columns, strict=True))

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
