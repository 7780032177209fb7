"""A causal language model as judge: which verdict it holds most likely, without sampling."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cached_property

import torch
from transformers import PreTrainedModel

from benchmarks.judge.base import VERDICTS, Duel
from gantune.data import EncodedPair, Pair, build_template, end_token_id, pad_token_id
from gantune.data.templates import TurnTemplate
from gantune.errors import UserError
from gantune.hub.loading import load_model, load_tokenizer
from gantune.policy import CausalLMPolicy
from gantune.policy.evaluation import encoded_losses
from gantune.policy.positions import model_positions

# after the reference-guided pairwise prompt of Zheng et al. 2023 (arXiv:2306.05685, figure 8), with tuned-in facts in
# mind, which no judge can know: what counts is the true answer
PROMPT = """\
Two answers to a question are to be compared with the true answer. The better one states more of the facts of the true \
answer, and fewer wrong ones. The order of the two, their length and their style do not count.

Question: {question}
True answer: {reference}
Answer A: {first}
Answer B: {second}

Which answer is better? Reply with one word: A, B, or tie if neither is."""
DUELS_AT_ONCE = 8
WITHOUT_CHAT_FORMAT = TurnTemplate("{}\n", "Verdict:", lead=" ")


class LanguageModelJudge:
    """A causal language model from a folder or the Hub; see [`benchmarks.judge.base.Judge`].

    Its verdict is the one of `VERDICTS` whose tokens are together the most probable after `PROMPT`, which goes through
    the tokenizer's own chat template where it has one; a tie if two are equally so. A prompt longer than its positions
    is not judged. Code that comes with a model is not run. The weights are loaded with the first verdict.

    Args:
        argument: a model as `--model` takes it.
        device: as torch names it.
        dtype: of the weights.

    Raises:
        UserError: if its tokenizer cannot be loaded; [`verdicts`] if its weights cannot.
    """

    def __init__(self, argument: str, device: str, dtype: str) -> None:
        self.name, self.device, self.dtype = argument, device, dtype
        self.tokenizer = load_tokenizer(argument)
        self.template = build_template(WITHOUT_CHAT_FORMAT if self.tokenizer.chat_template is None else "chat")
        wording = hashlib.sha256(f"{PROMPT}{VERDICTS}{type(self.template).__name__}".encode()).hexdigest()[:8]
        self.identity = f"hf:{argument} ({dtype}, prompt {wording})"

    @cached_property
    def model(self) -> PreTrainedModel:
        """The judge itself, frozen."""
        return load_model(self.name, getattr(torch, self.dtype), self.device)

    @property
    def parameters(self) -> int:
        """How many it has."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def verdicts(self, duels: Sequence[Duel]) -> list[str | None]:
        """See [`benchmarks.judge.base.Judge.verdicts`]."""
        return [scores and _highest(scores) for scores in self.log_probs(duels)]

    @torch.inference_mode()
    def log_probs(self, duels: Sequence[Duel]) -> list[dict[str, float] | None]:
        """Log-probability of each of `VERDICTS`, by duel; None for a prompt that is too long.

        Raises:
            UserError: if one is not finite.
        """
        policy = CausalLMPolicy(self.model, end_token_id(self.template, self.tokenizer), pad_token_id(self.tokenizer))
        replies = {verdict: self.template.answer_ids(verdict, self.tokenizer)[:-1] for verdict in VERDICTS}
        limit, longest = model_positions(self.model), max(map(len, replies.values()))
        found: list[dict[str, float] | None] = [None] * len(duels)
        encoded: list[EncodedPair] = []
        places: list[int] = []
        for place, duel in enumerate(duels):
            prompt = PROMPT.format(**duel._asdict())
            ids = self.template.prompt_ids(prompt, self.tokenizer)
            if limit is None or len(ids) + longest <= limit:
                places.append(place)
                encoded += [EncodedPair(ids, reply, Pair(prompt, verdict)) for verdict, reply in replies.items()]
        losses = encoded_losses(policy, encoded, DUELS_AT_ONCE * len(VERDICTS))
        for number, place in enumerate(places):
            of_duel = losses[number * len(VERDICTS) : (number + 1) * len(VERDICTS)]
            found[place] = {verdict: -nats for verdict, (nats, _) in zip(VERDICTS, of_duel, strict=True)}
            if not all(map(math.isfinite, found[place].values())):
                raise UserError(f"judge {self.identity}: its probabilities are not finite; try another --dtype")
        return found


def _highest(scores: dict[str, float]) -> str:
    best = [verdict for verdict, score in scores.items() if score == max(scores.values())]
    return best[0] if len(best) == 1 else "tie"
