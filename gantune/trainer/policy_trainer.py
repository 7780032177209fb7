"""Training by the policy's own log-probs: what the game and self-play share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import PreTrainedModel

from gantune.data import Batch, EncodedPair, collate, end_token_id
from gantune.diagnostics.health import kl_estimate
from gantune.distributed import is_divided
from gantune.embedding_generator.generators import GeneratorSpec
from gantune.embedding_generator.stacking import check_stack
from gantune.errors import UserError
from gantune.policy import CausalLMPolicy, Rollout, inference_kernels
from gantune.policy.positions import check_positions
from gantune.policy.sampler import Sampler
from gantune.seqgan import likelihood_loss
from gantune.trainer.arguments import LanguageGANConfig
from gantune.trainer.non_finite import non_finite_output
from gantune.trainer.pair_trainer import PairTrainer

Losses = Iterator[tuple[str, Tensor]]

ROLLOUT_ROWS_ON_CPU = 96
"""Answers that a CPU samples at once, by default; a GPU takes all. On E2E's records all 384 of a round take a third
more memory, and 7 % less of its time."""


class PolicyTrainer(PairTrainer):
    """Steps down losses of a policy's log-probs, whose noise and samples come from random numbers of their own.

    For `args.warmup_share` of the steps that is likelihood alone; what comes after is the subclass's. Arguments are as
    in [`PairTrainer`].

    Raises:
        UserError: if an adapter lies on a layer that is divided or offloaded, or is not as [`check_stack`] wants it; if
            steps that sample are planned, as of [`CausalLMPolicy.check_sampling`].
    """

    config_class = LanguageGANConfig
    holds_out_always = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, parameter in zip(self.names, self.parameters, strict=True):
            if parameter.is_meta or is_divided(parameter):
                where = "divided over processes" if is_divided(parameter) else "offloaded by device_map"
                raise UserError(f"{name}: its layer is {where}, expected a generator of the embedding alone")
        settings, end = self.args, end_token_id(self.args.prompt_template(), self.tokenizer)
        self.policy = CausalLMPolicy(self.model, end, self.pad_token_id, settings.captured_decoding)
        on_cpu = self.args.device.type == "cpu"
        self.micro_batches.sampled = settings.rollout_rows or (ROLLOUT_ROWS_ON_CPU if on_cpu else None)
        self.sampler = Sampler(self.policy, self.micro_batches, settings.max_completion_length, settings.temperature)
        self.sampler.seed(settings.seed)
        if settings.plays:
            self.policy.check_sampling()

    def build_networks(self, model: PreTrainedModel, generator: GeneratorSpec | None) -> PreTrainedModel:
        tuned = super().build_networks(model, generator)
        check_stack(tuned)
        return tuned

    @property
    def warmup(self) -> int:
        """Steps of likelihood alone."""
        return self.warmup_steps(self.state.max_steps)

    def warmup_steps(self, steps: int) -> int:
        return round(self.args.warmup_share * steps)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LRScheduler:
        """See `transformers.Trainer`; with `adversarial_learning_rate` the schedule begins anew after the warm-up."""
        rate, warmup = self.args.adversarial_learning_rate, self.warmup_steps(num_training_steps)
        if not rate or self.lr_scheduler is not None or not 0 < warmup < num_training_steps:
            return super().create_scheduler(num_training_steps, optimizer)
        parts = []
        for steps in (warmup, num_training_steps - warmup):
            parts += super().create_scheduler(steps, optimizer).lr_lambdas[:1]
            self.lr_scheduler = None
        share = rate / self.args.learning_rate

        def factor(step: int) -> float:
            return parts[0](step) if step < warmup else share * parts[1](step - warmup)

        self.lr_scheduler = LambdaLR(self.optimizer if optimizer is None else optimizer, factor)
        return self.lr_scheduler

    def likelihood_step(self, batch: Batch) -> dict[str, float]:
        """The gradient of the likelihood of true answers.

        Returns:
            `loss`, in nats a token, and its parts if it has more than one.
        """
        figures = self.backward("likelihood loss", len(batch), partial(self.likelihood_losses, batch))
        return figures if len(figures) > 2 else {"loss": figures["loss"]}  # which is its only part

    def likelihood_losses(self, batch: Batch, weight: float = 1.0, name: str = "likelihood") -> Losses:
        """`weight` times the likelihood loss, in parts of one micro-batch each, with noise of its own."""
        noise = self.sampler.noise(len(batch))
        for start, stop in self.micro_batches.of(len(batch)):
            part = batch.rows(start, stop)
            log_probs = self.policy.score(part, noise=None if noise is None else noise[start:stop])
            yield name, weight * part.answer_share(batch) * likelihood_loss(log_probs, part.answer_mask)

    def backward(self, name: str, rows: int, losses: Callable[[], Losses]) -> dict[str, float]:
        """Gradients of a sum of losses, whose graphs live one at a time; smaller parts if memory runs out.

        Args:
            name: of the sum, for what goes wrong.
            rows: of the batch that they are of.
            losses: named scalars, cut by `self.micro_batches`; each is backpropagated before the next is asked for.

        Returns:
            `loss`, and the sum of each name.

        Raises:
            FloatingPointError: naming the parameter and the module; nothing is stepped.
        """
        numbers = self.sampler.state_dict()

        def same_losses() -> Losses:
            self.sampler.load_state_dict(numbers)
            self.set_dropout()
            return losses()

        def summed() -> dict[str, float]:
            self.clear_gradients()
            found: dict[str, float] = defaultdict(float)
            for part, loss in same_losses():
                found[part] += loss.item()
                self.accelerator.backward(loss)
            return found

        own = self.micro_batches.run(rows, summed)
        self.unset_dropout()
        values: dict[str, float] = defaultdict(float)
        for of_process in self.parallel.collect(dict(own)):
            for part, value in of_process.items():
                values[part] += value
        try:
            self.shared_step(name, torch.tensor(sum(values.values())))
        except FloatingPointError as error:
            where = non_finite_output(self.model, same_losses())
            raise FloatingPointError(f"{error}; it is first seen in {where}" if where else str(error)) from error
        return {"loss": sum(values.values())} | values

    def texts(self, rollout: Rollout) -> list[str]:
        """The answers of a rollout, without special tokens and surrounding blanks."""
        answers = [ids[mask.bool()] for ids, mask in zip(rollout.answer_ids, rollout.answer_mask, strict=True)]
        return [text.strip() for text in self.tokenizer.batch_decode(answers, skip_special_tokens=True)]

    @torch.no_grad()
    def kl_to_base(self, rollout: Rollout) -> float:
        """KL of the policy to the model without adapter, nats a token, from one answer to every fourth question."""
        every = 4 * rollout.samples_per_prompt
        first = rollout.select(torch.arange(0, len(rollout), every, device=rollout.device))
        own, end = self.parallel.rows(len(first))
        base = torch.zeros(0, device=rollout.device)
        if end > own:
            with self.model.disable_adapter(), inference_kernels(self.model):
                base = self.policy.score(first.rows(own, end), temperature=first.temperature)
        base = self.parallel.join_rows(base, own, len(first))
        return kl_estimate(first.log_probs, base, first.answer_mask)

    def logged(self, phase: str, figures: dict[str, float | None]) -> Tensor:
        """The loss as transformers' training wants it; the other figures go into the log."""
        self.note(phase, {name: value for name, value in figures.items() if name != "loss"})
        return torch.tensor(figures["loss"], device=self.args.device)

    # --------------------------------------------------------------------------- parts of transformers' own training

    def collate(self, rows: Sequence[EncodedPair]) -> Batch:
        return collate(rows, self.pad_token_id)

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> None:
        return None

    def stateful(self) -> dict[str, Any]:
        return super().stateful() | {"sampler": self.sampler}

    def _check_lengths(self, model: PreTrainedModel, encoded: Sequence[EncodedPair], args: Any) -> None:
        longest = max((len(row.prompt_ids) for row in encoded), default=0)
        check_positions(model, longest, args.max_completion_length)

    def _keeps(self, held_out: Sequence[EncodedPair]) -> bool:
        return True
