"""LanguageGAN: likelihood warm-up, then adversarial steps after SeqGAN's Algorithm 1, with a likelihood anchor."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from gantune.data import TEMPLATES, Batch, EncodedPair, Pair, batches, collate, end_token_id, pad_token_id
from gantune.diagnostics.files import write_json
from gantune.diagnostics.health import kl_estimate, rollout_health
from gantune.discriminators import DISCRIMINATORS, Blind, Discriminator
from gantune.distributed import is_divided, join_processes
from gantune.embedding_generator import load_stack, save_stack, stack_adapters
from gantune.embedding_generator.generators import GeneratorSpec, build_generator
from gantune.errors import UserError
from gantune.generation.generate import generate_answers
from gantune.hub.adapter_settings import base_model_name
from gantune.hub.loading import check_vocabulary, load_model, load_tokenizer
from gantune.hub.model_card import Training, write_model_card
from gantune.hub.push import PushToHub, local_folder
from gantune.policy import (
    CausalLMPolicy,
    DelayedPolicy,
    MonteCarloSearch,
    Prefill,
    Rollout,
    checkpoint_layers,
    inference_kernels,
)
from gantune.policy.evaluation import mean_loss
from gantune.policy.micro_batches import MicroBatches
from gantune.policy.positions import check_positions
from gantune.policy.sampler import Sampler
from gantune.seqgan import (
    ADVANTAGES,
    OBJECTIVES,
    REWARDS,
    TRANSFORMS,
    Reward,
    build_reward,
    likelihood_loss,
    returns,
    weighted_loss,
)
from gantune.trainer.budget import Budget
from gantune.trainer.checkpoints import Checkpoints
from gantune.trainer.config import LanguageGANConfig
from gantune.trainer.discriminator_side import Adversary
from gantune.trainer.interrupts import Interrupts
from gantune.trainer.non_finite import non_finite_output
from gantune.trainer.observer import Observer, Silent
from gantune.trainer.optimizers import adamw, why_not
from gantune.trainer.training_run import TrainingRun
from gantune.trainer.unpaired import Unpaired, UnpairedBatches
from gantune.trainer.updates import update
from gantune.tuning import encode_training_pairs, hold_out

logger = logging.getLogger(__name__)

CONFIG_FILE, DISCRIMINATOR_FILE = "language_gan.json", "discriminator.safetensors"


class LanguageGAN(PushToHub):
    """Tunes an adapter on a frozen causal language model, adversarially.

    ```python
    gan = LanguageGAN(model, tokenizer, LanguageGANConfig(epochs=30))
    gan.train(pairs)
    gan.generate(["Who wrote Ulysses?"])
    gan.save_pretrained("tuned")
    ```

    Args:
        model: the language model; it is frozen, and wrapped in place by the adapter.
        tokenizer: its tokenizer, with an end-of-sequence token.
        config: settings; the defaults if None.
        generator: what is tuned, if not `config.generator`; see [`build_generator`].
        discriminator: a class or an instance, if not `config.discriminator`.
        reward: a class or any callable `(questions, answers, rollout) -> reward`, if not `config.reward`.

    Raises:
        UserError: if a component is not known or settings contradict each other.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: LanguageGANConfig | None = None,
        *,
        generator: GeneratorSpec | None = None,
        discriminator: str | type[Discriminator] | Discriminator | None = None,
        reward: str | type | Callable[..., Any] | None = None,
    ) -> None:
        self.config = config = config or LanguageGANConfig()
        with torch.random.fork_rng():  # the same seed gives the same networks, whatever was drawn before
            torch.manual_seed(config.seed)
            tuned = stack_adapters(model, build_generator(generator or config.generator))
            self._set_up(model, tuned, tokenizer, discriminator or config.discriminator, reward or config.reward)

    def _set_up(
        self,
        model: PreTrainedModel,
        tuned: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        discriminator: str | type[Discriminator] | Discriminator,
        reward: str | type | Callable[..., Any],
    ) -> None:
        made = DISCRIMINATORS.resolve(discriminator)
        name = reward if isinstance(reward, str) else REWARDS.name_of(reward)
        self.config = config = replace(self.config, discriminator=DISCRIMINATORS.name_of(made), reward=name)
        self.model, self.tokenizer = tuned, tokenizer
        check_vocabulary(tokenizer, model.get_input_embeddings().weight.shape[0], "LanguageGAN")
        self.pad_token_id = pad_token_id(tokenizer)
        end = end_token_id(config.prompt_template(), tokenizer)
        self.policy = CausalLMPolicy(tuned, end, self.pad_token_id, config.captured_decoding)
        self.parallel = join_processes(model.device, model)
        self.micro_batches = MicroBatches(config.micro_batch_size or None, self.parallel)
        self.sampler = Sampler(self.policy, self.micro_batches, config.max_new_tokens, config.temperature)
        self.sampler.seed(config.seed)
        if config.gradient_checkpointing:
            checkpoint_layers(tuned)
        if isinstance(made, type):
            made = made.for_model(model, config.max_prompt_tokens, config.max_new_tokens)
        if config.blind_discriminator:
            made = Blind(made, config.prompt_template().prompt_ids("", tokenizer))
        self.discriminator: Discriminator = made.to(model.device)
        named = [(name, parameter) for name, parameter in tuned.named_parameters() if parameter.requires_grad]
        self.parameters = [parameter for _, parameter in named]
        for name, parameter in named:
            if parameter.is_meta or is_divided(parameter):
                where = "divided over processes" if is_divided(parameter) else "offloaded by device_map"
                raise UserError(f"{name}: its layer is {where}, expected a generator of the embedding alone")
        self.delayed: DelayedPolicy | None = None
        if config.search_policy == "delayed":
            self.delayed = DelayedPolicy(self.policy, self.parameters, config.search_decay)
        search = MonteCarloSearch(
            self.delayed or self.policy, config.search_completions, config.search_stride, config.search_rows
        )
        self.reward: Reward = build_reward(reward, self.discriminator, config.reward_transform, search)
        self.advantage = ADVANTAGES.resolve(config.advantage)()
        self.objective = OBJECTIVES.resolve(config.objective)(self.advantage, config.max_new_tokens)
        if config.samples_per_question < self.objective.min_samples:
            raise UserError(
                f"--samples-per-question {config.samples_per_question}: {config.objective} with advantage "
                f"{config.advantage!r} compares the samples of a question, expected at least "
                f"{self.objective.min_samples}"
            )
        if reason := why_not(config.optimizer, model.device):
            raise UserError(reason)
        self.optimizer = adamw(self.parameters, config.learning_rate, config.optimizer, fused=True)
        self.optimizer.param_groups[0]["param_names"] = [name for name, _ in named]
        per_token = getattr(self.reward, "per_token", False)
        self.adversary = Adversary(self.discriminator, per_token, config, self.parallel)
        self.unpaired: UnpairedBatches | None = None
        self.history: list[dict[str, Any]] = []

    # ------------------------------------------------------------------------------------------------- training

    def train(
        self,
        pairs: Sequence[Pair],
        observer: Observer | None = None,
        checkpoints: Checkpoints | None = None,
        unpaired: Unpaired | None = None,
    ) -> list[dict[str, Any]]:
        """Likelihood warm-up, discriminator warm-up, adversarial steps with an anchor, choice of the best weights.

        Args:
            pairs: questions and true answers.
            observer: told of each step and epoch. If it has `state_dict` and `load_state_dict`, it resumes as well.
            checkpoints: where the whole state of the training is kept, and resumed from if there is one; on the CPU
                what comes out is then equal to the bit, however often the training was killed. Ctrl-C finishes the
                step and saves it.
            unpaired: if given, adversarial steps answer its questions instead of those of the pairs, and the
                discriminator, which has to be blind, learns from its answers. The anchor is on the pairs as ever.

        Returns:
            The history, one row a step; also in `history`.

        Each row holds the figures of its step. A sign of bad health is told once, as a log warning and under `warnings`
        in the row of the step that showed it; see [`HealthMonitor`].

        Raises:
            UserError: if there is no pair to train on, the checkpoints are of another training, or there is unpaired
                data and the discriminator is not blind.
            FloatingPointError: if a loss or a gradient is not finite; the last good weights are put back first.
            KeyboardInterrupt: after the step that was interrupted is saved.
        """
        set_seed(self.config.seed)
        torch.manual_seed(self.config.seed + self.parallel.rank)  # for dropout; what else is drawn is the sampler's
        self.sampler.seed(self.config.seed)
        self.parallel.share([*self.parameters, *self.discriminator.state_dict().values()])
        training, validation = self._encode(pairs)
        if unpaired is not None:
            if not self.config.blind_discriminator:
                raise UserError("--blind-discriminator false: unpaired answers have no questions to be shown with")
            self.unpaired = UnpairedBatches(unpaired, self.tokenizer, self.config)
        with Budget(self.config, self.model, self.parallel) as budget, Interrupts() as interrupts:
            held_out_loss = partial(self._validation_loss, validation)
            run = TrainingRun(self, training, held_out_loss, budget, observer or Silent(), checkpoints, interrupts)
            run.follow(partial(self._train, validation=validation))
        return self.history

    def _train(self, run: TrainingRun, validation: list[EncodedPair]) -> None:
        config, warmup = self.config, run.warmup
        run.begin()
        for epoch in range(run.epoch, config.epochs + 1):
            for batch in itertools.islice(self._batches(run.training, epoch), run.batches, None):
                if run.over:
                    break
                started = time.perf_counter()
                if run.step == warmup:
                    run.kept.offer(epoch - 1, self._validation_loss(validation))
                    self._hold_out(validation)
                    for figures in self._discriminator_warmup(run.training):
                        run.log("discriminator", epoch, figures, started)
                        started = time.perf_counter()
                        if run.budget.spent:
                            break
                if run.step >= warmup and (run.step - warmup) % config.adversarial_every == 0:
                    asked, real = self._adversarial_batches(batch, (run.step - warmup) // config.adversarial_every)
                    rollout = self.sample(asked, for_update=True)
                    figures = self.discriminator_step(real, rollout) if self.judged else {}
                    figures |= self.generator_step(batch, rollout, asked, self._unpaired_answers(run.step))
                    run.done("adversarial", epoch, figures, started)
                else:
                    figures = self.likelihood_step(batch, self._unpaired_answers(run.step))
                    run.done("likelihood", epoch, figures, started)
            if warmup < run.step < run.total:
                self._hold_out(validation)
            run.epoch_ended(epoch)
            if run.over:
                break

    @property
    def judged(self) -> bool:
        """Whether the reward asks the discriminator; if it does not, none is trained."""
        return not getattr(self.reward, "unjudged", False)

    def state_dict(self) -> dict[str, Any]:
        """Everything that training changes, to be saved: networks, optimisers, replay, averages, history."""
        parts = self._parts()
        return {
            "parameters": [parameter.detach().clone() for parameter in self.parameters],
            "optimizer": self.optimizer.state_dict(),
            "adversary": self.adversary.state_dict(),
            "history": self.history,
            "micro_batch_size": self.micro_batches.size,
            "parts": {name: part.state_dict() for name, part in parts.items() if hasattr(part, "state_dict")},
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what [`state_dict`] gave."""
        for parameter, saved in zip(self.parameters, state["parameters"], strict=True):
            parameter.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.adversary.load_state_dict(state["adversary"], self.model.device)
        self.history[:] = state["history"]
        self.micro_batches.size = state["micro_batch_size"]
        parts = self._parts()
        for name, saved in state["parts"].items():
            parts[name].load_state_dict(saved)

    def _parts(self) -> dict[str, Any]:
        """What may have a state of its own."""
        return {
            "advantage": self.advantage,
            "reward": self.reward,
            "delayed": self.delayed,
            "sampler": self.sampler,
        }

    def likelihood_step(self, batch: Batch, answers: Batch | None = None) -> dict[str, float]:
        """One step of maximum likelihood on the true answers.

        Args:
            batch: questions and true answers.
            answers: unpaired true answers, which count `unpaired_likelihood_weight`.

        Returns:
            `loss`, in nats a token, and `gradient_norm` before clipping.
        """
        losses, norm = self._step(batch, lambda: self._likelihood_losses(batch, answers), "likelihood loss")
        return {"loss": sum(losses.values()), "gradient_norm": norm}

    def generator_step(
        self,
        batch: Batch,
        rollout: Rollout | None = None,
        asked: Batch | None = None,
        answers: Batch | None = None,
    ) -> dict[str, float]:
        """One step on sampled answers, anchored by the likelihood of the true ones (DESIGN section 3).

        What is made of the rewards is the objective's affair: a policy gradient, or likelihood of the best samples.

        Args:
            batch: questions and true answers.
            rollout: sampled answers to the questions of `asked` from the *current* policy; drawn if None. What it was
                drawn with for an update is used and dropped.
            asked: other questions, whose answers are not read; those of `batch` if None.
            answers: as in [`likelihood_step`].

        Returns:
            `loss` and its weighted parts `likelihood` and `policy_gradient`; `gradient_norm` before clipping; `kl` to
            the model without adapter, nats a token, estimated on one answer to a quarter of the questions; and the
            figures of [`rollout_health`].
        """
        config, asked = self.config, batch if asked is None else asked
        if rollout is None:
            rollout = self.sample(asked, for_update=True)
        mask = rollout.answer_mask
        own_rewards = self.micro_batches.run(len(asked), lambda: self._rewards(rollout))
        first_row = rollout.samples_per_prompt * self.parallel.rows(len(asked))[0]
        rewards = self.parallel.join_rows(own_rewards, first_row, len(rollout))
        if not torch.isfinite(rewards.where(mask.bool(), 0) if rewards.dim() == 2 else rewards).all():
            raise FloatingPointError(f"the reward {config.reward!r} of some answers is not finite")
        rollout.state = None  # large, and not valid after the update
        if getattr(self.reward, "is_return", False):
            dense = rewards * mask
        else:
            dense = returns(rewards, mask, config.discount, config.length_normalised)
        weights = config.adversarial_weight * self.objective(dense, mask, rollout.samples_per_prompt)
        kl = self._kl_to_base(rollout)
        losses, norm = self._step(
            batch, lambda: self._generator_losses(batch, asked, answers, rollout, weights), "generator loss"
        )
        return {
            "loss": sum(losses.values()),
            "likelihood": losses.get("likelihood", 0.0),
            "policy_gradient": losses.get("policy_gradient", 0.0),
            "gradient_norm": norm,
            "kl": kl,
        } | rollout_health(
            rewards,
            rollout.answer_ids,
            mask,
            rollout.log_probs,
            rollout.samples_per_prompt,
            self.policy.eos_token_id,
        )

    def discriminator_step(self, batch: Batch, rollout: Rollout | None = None) -> dict[str, float]:
        """One step of the discriminator: true answers against sampled ones, replayed ones and mismatched true ones.

        It learns on every prefix if the reward is one a token, on whole answers otherwise. While it is better than
        `max_discriminator_accuracy` it is measured and left as it is.

        Args:
            batch: questions and true answers.
            rollout: sampled answers to these questions; drawn if None.

        Returns:
            `discriminator_loss`; `discriminator_accuracy`, the mean of its accuracy on real and on generated answers,
            `..._real` and `..._generated`; the latter two of held-out questions as `held_out_...`, if there are any;
            `discriminator_gradient_norm` before clipping, if it was trained.
        """
        return self.adversary.step(batch, self.sample(batch) if rollout is None else rollout)

    def sample(self, batch: Batch, for_update: bool = False) -> Rollout:
        """Answers of the current policy to the questions of `batch`, `samples_per_question` each; kept for replay.

        Args:
            batch: questions.
            for_update: read the questions with a gradient, once for sampling and scoring, and let a Monte-Carlo search
                go on from the answers' prefixes: what [`generator_step`] makes use of.
        """
        rollout = self.sampler(
            batch,
            self.config.samples_per_question,
            with_gradient=for_update and not self.config.gradient_checkpointing,
            keep_state=for_update and getattr(self.reward, "searches", False) and self.delayed is None,
        )
        self.adversary.remember(rollout)
        return rollout

    # ---------------------------------------------------------------------------------------- using what was tuned

    def generate(self, questions: Sequence[str], **options: Any) -> list[str]:
        """Answers to questions; greedy and with zero noise unless `options` say otherwise, see [`generate_answers`]."""
        return generate_answers(self.model, self.tokenizer, questions, self.config, **options)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the adapter as PEFT folders, the discriminator as safetensors, the settings, and a model card."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        save_stack(self.model, directory)
        save_file(self.discriminator.state_dict(), directory / DISCRIMINATOR_FILE)
        write_json(directory / CONFIG_FILE, dataclasses.asdict(self.config))
        write_model_card(directory, Training.of(self))

    @classmethod
    def from_pretrained(
        cls,
        directory: str | Path,
        model: PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        discriminator: str | type[Discriminator] | Discriminator | None = None,
        reward: str | type | Callable[..., Any] | None = None,
    ) -> LanguageGAN:
        """What [`save_pretrained`] wrote, on the same frozen model: `model`, or the one that the adapter names.

        Component names in the files must be registered: a file never makes gantune import anything. Give a class of
        your own as `discriminator` or `reward`, or register it first.

        Raises:
            UserError: if a file is missing or not what was written, or names a component that is not registered.
        """
        directory = local_folder(directory)
        file = directory / CONFIG_FILE
        if not file.is_file():
            raise UserError(f"{directory}: no {CONFIG_FILE}, expected a folder that LanguageGAN.save_pretrained wrote")
        try:
            config = LanguageGANConfig(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, TypeError, ValueError, RecursionError) as error:
            raise UserError(f"{file}: not the settings of a LanguageGAN: {error}") from error
        for registry, name in (
            (ADVANTAGES, config.advantage),
            (OBJECTIVES, config.objective),
            (TRANSFORMS, config.reward_transform),
            (TEMPLATES, config.template),
        ):
            registry.get(name)
        discriminator = discriminator or DISCRIMINATORS.get(config.discriminator)
        if reward is None:
            reward = config.reward
            for name in reward.split("*"):
                REWARDS.get(name)
        if model is None or tokenizer is None:
            name = base_model_name(directory)
            model, tokenizer = model or load_model(name), tokenizer or load_tokenizer(name)
        if model.device.type != "cuda":
            config.captured_decoding = False  # as it was trained, not what was trained
        gan = cls.__new__(cls)
        gan.config = config
        gan._set_up(model, load_stack(model, directory, is_trainable=True), tokenizer, discriminator, reward)
        try:
            gan.discriminator.load_state_dict(load_file(directory / DISCRIMINATOR_FILE))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise UserError(
                f"{directory / DISCRIMINATOR_FILE}: not the weights of discriminator {config.discriminator!r}; "
                "one that was given as an instance has to be given again"
            ) from error
        return gan

    # ------------------------------------------------------------------------------------------------------ parts

    def _encode(self, pairs: Sequence[Pair]) -> tuple[list[EncodedPair], list[EncodedPair]]:
        """Tokens of the pairs to train on and of those held out."""
        encoded = encode_training_pairs(pairs, self.tokenizer, self.config)
        longest = max((len(row.prompt_ids) for row in encoded), default=0)
        check_positions(self.model, longest, self.config.max_new_tokens)
        return hold_out(encoded, self.config.validation_share, self.config.seed)

    def _batches(self, training: list[EncodedPair], epoch: int) -> Iterator[Batch]:
        config = self.config
        drawn = batches(
            training, config.batch_size, self.pad_token_id, config.seed, epoch, group_by_length=config.group_by_length
        )
        return (batch.to(self.model.device) for batch in drawn)

    def _rewards(self, rollout: Rollout) -> Tensor:
        """The reward as a tensor, `[B]` or `[B, T]`, of this process's rows.

        One that searches is computed on parts of the rows.
        """
        k, questions = rollout.samples_per_prompt, len(rollout) // rollout.samples_per_prompt
        parts = [self.parallel.rows(questions)]
        if getattr(self.reward, "searches", False):
            parts = list(self.micro_batches.of(questions))
        if parts == [(0, questions)]:
            return self._reward(rollout)  # with the state that a search goes on from
        of_parts = [self._reward(rollout.rows(first * k, end * k)) for first, end in parts if end > first]
        return torch.cat(of_parts) if of_parts else torch.zeros(0, device=rollout.device)

    def texts(self, rollout: Rollout) -> list[str]:
        """The answers of a rollout, without special tokens and surrounding blanks."""
        answers = [ids[mask.bool()] for ids, mask in zip(rollout.answer_ids, rollout.answer_mask, strict=True)]
        return [text.strip() for text in self.tokenizer.batch_decode(answers, skip_special_tokens=True)]

    def _reward(self, rollout: Rollout) -> Tensor:
        questions = [pair.question for pair in rollout.pairs or ()]
        rewards = self.reward(questions, self.texts(rollout), rollout)
        return torch.as_tensor(rewards, dtype=torch.float32, device=rollout.device)

    @torch.no_grad()
    def _kl_to_base(self, rollout: Rollout) -> float:
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

    def _hold_out(self, validation: list[EncodedPair]) -> None:
        """Answer some held-out questions, for the discriminator to be measured on until the next time."""
        if validation:
            batch = collate(validation[: self.config.batch_size], self.pad_token_id).to(self.model.device)
            self.adversary.hold_out(batch, self.sampler(batch))

    def _discriminator_warmup(self, training: list[EncodedPair]) -> Iterator[dict[str, float]]:
        """Train the discriminator on rollouts of the likelihood-only generator, step by step, before it is followed."""
        config = self.config
        if not config.discriminator_warmup_steps or not self.judged:
            return
        drawn = itertools.islice(self._batches(training, epoch=0), config.discriminator_warmup_rollouts)
        batches = [self._adversarial_batches(batch, number) for number, batch in enumerate(drawn)]
        ready = [(real, self.sample(asked)) for asked, real in batches]
        for real, rollout in itertools.islice(itertools.cycle(ready), config.discriminator_warmup_steps):
            yield self.discriminator_step(real, rollout)

    def _adversarial_batches(self, batch: Batch, number: int) -> tuple[Batch, Batch]:
        """The questions of an adversarial step, and the true answers that its discriminator learns from."""
        if self.unpaired is None:
            return batch, batch
        device = self.model.device
        return self.unpaired.questions(number).to(device), self.unpaired.answers(number).to(device)

    def _unpaired_answers(self, step: int) -> Batch | None:
        """Answers whose likelihood counts in this step."""
        if self.unpaired is None or not self.config.unpaired_likelihood_weight:
            return None
        return self.unpaired.answers(step).to(self.model.device)

    def _likelihood_losses(self, batch: Batch, answers: Batch | None) -> Iterator[tuple[str, Tensor]]:
        """The likelihood loss in parts, and that of unpaired answers."""
        yield from self._likelihood("likelihood", batch, 1.0)
        if answers is not None:
            yield from self._likelihood("unpaired_likelihood", answers, self.config.unpaired_likelihood_weight)

    def _likelihood(self, name: str, batch: Batch, weight: float) -> Iterator[tuple[str, Tensor]]:
        """`weight` times the likelihood loss, in parts of one micro-batch each, with noise of its own."""
        noise = self.sampler.noise(len(batch))
        for start, stop in self.micro_batches.of(len(batch)):
            part = batch.rows(start, stop)
            log_probs = self.policy.score(part, noise=None if noise is None else noise[start:stop])
            yield name, weight * part.answer_share(batch) * likelihood_loss(log_probs, part.answer_mask)

    def _generator_losses(
        self, batch: Batch, asked: Batch, answers: Batch | None, rollout: Rollout, weights: Tensor
    ) -> Iterator[tuple[str, Tensor]]:
        """The objective's loss and the anchor in parts, so that one part's graph lives at a time.

        A micro-batch's questions are read once, with the noise of the rollout, for its samples and its true answers;
        with gradient checkpointing each part is a pass of its own, and so is the anchor if other questions were asked.
        Answers without weight are not scored.
        """
        config, k = self.config, rollout.samples_per_prompt
        for start, stop in self.micro_batches.of(len(asked)):
            questions, rows = asked.rows(start, stop), stop - start
            noise = None if rollout.noise is None else rollout.noise[start * k : stop * k : k]
            prefill, rollout.prefill = rollout.prefill, None  # of weights that are no more after this
            if config.gradient_checkpointing:
                prefill = None
            elif prefill is None or not prefill.is_of(questions):
                prefill = self.policy.prefill(questions, noise)
            weighted = start * k + weights[start * k : stop * k].any(dim=1).nonzero().flatten()
            for chosen in weighted.split(rows) if len(weighted) else ():
                part = rollout.select(chosen)
                log_probs = self._score(part, prefill, chosen // k - start, part.noise, part.temperature)
                yield "policy_gradient", weighted_loss(log_probs, weights[chosen])
            if config.likelihood_weight and asked is batch:
                log_probs = self._score(questions, prefill, torch.arange(rows, device=batch.device), noise)
                loss = likelihood_loss(log_probs, questions.answer_mask)
                yield "likelihood", config.likelihood_weight * questions.answer_share(batch) * loss
            if prefill is not None:
                prefill.backward()
        if config.likelihood_weight and asked is not batch:
            yield from self._likelihood("likelihood", batch, config.likelihood_weight)
        if answers is not None:
            yield from self._likelihood("unpaired_likelihood", answers, config.unpaired_likelihood_weight)

    def _score(
        self, batch: Batch, prefill: Prefill | None, rows: Tensor, noise: Tensor | None, temperature: float = 1.0
    ) -> Tensor:
        """Log-probs of answers: from these rows of the prefill, or by a pass of its own without one."""
        if prefill is None:
            return self.policy.score(batch, noise=noise, temperature=temperature)
        return self.policy.score_from(prefill, batch, rows, temperature)

    def _step(
        self, batch: Batch, losses: Callable[[], Iterator[tuple[str, Tensor]]], name: str
    ) -> tuple[dict[str, float], float]:
        """One step of the generator's optimiser; see [`update`]."""
        limit, numbers = self.config.max_grad_norm, self.sampler.state_dict()

        def same_losses() -> Iterator[tuple[str, Tensor]]:
            self.sampler.load_state_dict(numbers)
            return losses()

        try:
            figures = self.micro_batches.run(
                len(batch), lambda: update(self.optimizer, same_losses(), limit, name, self.parallel)
            )
        except FloatingPointError as error:
            where = non_finite_output(self.model, same_losses())
            raise FloatingPointError(f"{error}; it is first seen in {where}" if where else str(error)) from error
        if self.delayed is not None:
            self.delayed.update()
        return figures

    def _validation_loss(self, validation: list[EncodedPair]) -> float:
        """Negative log-likelihood of the held-out answers at zero noise, nats a token; infinite without any."""
        rows = self.micro_batches.size or self.config.batch_size
        return mean_loss(self.policy, validation, rows, self.parallel)
