"""LanguageGAN: SeqGAN's Algorithm 1 (Yu et al. 2017) on an adapter of a frozen language model, as a trainer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from gantune.data import Batch, collate
from gantune.diagnostics.health import kl_estimate, rollout_health
from gantune.discriminators import DISCRIMINATORS, Blind, Discriminator
from gantune.embedding_generator.generators import GeneratorSpec
from gantune.errors import UserError
from gantune.policy import DelayedPolicy, MonteCarloSearch, Prefill, Rollout
from gantune.seqgan import (
    ADVANTAGES,
    OBJECTIVES,
    REWARDS,
    Reward,
    build_reward,
    clipped_loss,
    is_unjudged,
    kl_loss,
    likelihood_loss,
    returns,
    weighted_loss,
)
from gantune.trainer.arguments import LanguageGANConfig
from gantune.trainer.choices import choices
from gantune.trainer.corrupting import build_corruptor
from gantune.trainer.discriminator_side import DiscriminatorSide
from gantune.trainer.policy_trainer import Losses, PolicyTrainer
from gantune.trainer.pretrained import Pretrained
from gantune.trainer.rounds import Round, Share
from gantune.trainer.trials import try_components
from gantune.trainer.unpaired import Unpaired, UnpairedBatches, numbered_batch

CHECKED_QUESTIONS = 32
"""On so many it is measured what the discriminator's choice is worth before it is used as a reward."""


class LanguageGAN(Pretrained, PolicyTrainer):
    """Tunes an adapter on a frozen causal language model, adversarially.

    ```python
    gan = LanguageGAN("mini", LanguageGANConfig(num_train_epochs=30), train_dataset=pairs)
    gan.train()
    gan.generate(["Who wrote Ulysses?"])
    gan.save_pretrained("tuned")
    ```

    Args:
        model: the language model, or its name; it is frozen, and wrapped in place by the adapter.
        args: settings; the defaults if None.
        train_dataset: questions and answers, see [`PairTrainer`].
        eval_dataset: the same, held out.
        processing_class: the tokenizer, with an end-of-sequence token, or its name; the model's own if None.
        peft_config: what is tuned, if not `args.generator`; see [`build_generator`]. False for a model that carries its
            adapter already.
        discriminator: a name, class or instance, if not `args.discriminator`.
        reward: a name, a class or any callable `(questions, answers, rollout) -> reward`, if not `args.reward`.
        unpaired: if given, adversarial steps answer its questions instead of those of the pairs. If it has answers, the
            discriminator learns from these, and has to be blind; else from those of the pairs. The anchor is on the
            pairs as ever.
        callbacks: see [`PairTrainer`].

    Raises:
        UserError: if a component is not known, cannot be built, or gives a tensor of a wrong shape; if settings
            contradict each other, or there is unpaired data and the discriminator is not blind.
    """

    def __init__(
        self,
        model: PreTrainedModel | str,
        args: LanguageGANConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: PreTrainedTokenizerBase | str | None = None,
        *,
        peft_config: GeneratorSpec | bool | None = None,
        discriminator: str | type[Discriminator] | Discriminator | None = None,
        reward: str | type | Callable[..., Any] | None = None,
        unpaired: Unpaired | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        args = self.config_class() if args is None else args
        made = DISCRIMINATORS.resolve(args.discriminator if discriminator is None else discriminator)
        reward = args.reward if reward is None else reward
        args.discriminator = DISCRIMINATORS.name_of(made)
        args.reward = reward if isinstance(reward, str) else REWARDS.name_of(reward)
        self.advantage = ADVANTAGES.tried(args.advantage, ADVANTAGES.resolve(args.advantage))
        objective = partial(OBJECTIVES.resolve(args.objective), self.advantage, args.max_completion_length)
        self.objective = OBJECTIVES.tried(args.objective, objective)
        if args.num_generations < self.objective.min_samples:
            raise UserError(
                f"--num-generations {args.num_generations}: {args.objective} with advantage {args.advantage!r} "
                f"compares the samples of a question, expected at least {self.objective.min_samples}"
            )
        if unpaired is not None and len(unpaired.answers) and not args.blind_discriminator:
            raise UserError("--blind-discriminator false: unpaired answers have no questions to be shown with")
        generator = args.generator if peft_config is None else peft_config or None
        self._made = made
        super().__init__(
            model, args, train_dataset, eval_dataset, processing_class, peft_config=generator, callbacks=callbacks
        )
        self.unpaired = unpaired and UnpairedBatches(unpaired, self.tokenizer, args, self.order.batch_size)
        self._per_step = args.prompts_per_step or self.order.batch_size
        self.round = Round(args.device)
        self.reference = DelayedPolicy(self.policy, self.parameters, decay=0) if args.beta else None
        delayed = args.search_policy == "delayed"
        self.delayed = DelayedPolicy(self.policy, self.parameters, args.search_decay) if delayed else None
        if args.blind_discriminator:
            self._made = Blind(self._made, args.prompt_template().prompt_ids("", self.tokenizer))
        search = MonteCarloSearch(
            self.delayed or self.policy, args.search_completions, args.search_stride, args.search_rows
        )
        judge = self._made.to(self.model.device)
        self.reward: Reward = build_reward(reward, judge, args.reward_transform, search)
        questions = [row.pair.question for row in self.train_dataset or ()]
        corrupt = build_corruptor(questions, self.tokenizer, args) if self.judged else None
        per_token = getattr(self.reward, "per_token", False)
        self.adversary = DiscriminatorSide(judge, per_token, args, self.parallel, corrupt)
        if self.judged and self.train_dataset:
            self.adversary.check_negatives()
        try_components(self)

    def build_networks(self, model: PreTrainedModel, generator: GeneratorSpec | None) -> PreTrainedModel:
        tuned = super().build_networks(model, generator)
        if isinstance(self._made, type):
            model = tuned.get_base_model()  # also of one that was given with its adapter
            limits, made = (self.args.max_prompt_length, self.args.max_completion_length), self._made
            self._made = DISCRIMINATORS.tried(made, lambda: made.for_model(model, *limits))
        return tuned

    @property
    def discriminator(self) -> Discriminator:
        return self.adversary.discriminator

    # ------------------------------------------------------------------------------------- SeqGAN's Algorithm 1

    def training_step(self, model: nn.Module, inputs: Batch, num_items_in_batch: Any = None) -> Tensor:
        """Likelihood (line 2); then, every n-th step, the game (lines 5 to 15), with likelihood as its anchor."""
        batch, after = inputs.to(self.args.device), self.state.global_step - self.warmup
        if self.delayed is not None and self.state.global_step:
            self.delayed.update()  # after the step before
        with self.accelerator.autocast():
            if after == 0 or (after > 0 and self.state.epoch == int(self.state.epoch)):
                self._hold_out()
            if after == 0 and self.warmup == 0 and self.eval_dataset:
                self.evaluate()  # the untrained weights are to choose from as well
            if after == 0 and self.args.plays:
                self._begin_game()
            every = self.args.adversarial_every
            if after < 0 or not every or after % every:
                return self.logged("likelihood", self.likelihood_step(batch))
            return self.logged("adversarial", self.adversarial_step(batch, after // every))

    def adversarial_step(self, batch: Batch, number: int) -> dict[str, float | None]:
        """Step `number` of the game, from 0: the first of a round samples, and trains the discriminator on it.

        A rollout answers the questions of all `steps_per_generation` steps of its round, and each takes its share.

        Args:
            batch: questions and true answers.
            number: the data of a step depend on it, so that a training that is gone on with sees what it would have.

        Returns:
            The figures of [`discriminator_step`], in the first step of a round, and of [`generator_step`].
        """
        steps = self.args.steps_per_generation
        number, place = divmod(number, steps)
        if place == 0:
            asked = self._asked(batch, number)
            rollout, figures = self.sample(asked, for_update=steps == 1), {}
            for real in self._true_answers(batch, number) if self.judged else ():
                figures = self.discriminator_step(real, rollout)
            if steps == 1:
                return figures | self.generator_step(batch, rollout, asked)
            self.round.begin(rollout, self.rewards(rollout), self.reference_scores(rollout))
        else:
            figures = {}
        share = self.round.share(place, steps)
        return figures | self.generator_step(batch, share.rollout, share.questions(), share)

    def generator_step(
        self, batch: Batch, rollout: Rollout | None = None, asked: Batch | None = None, share: Share | None = None
    ) -> dict[str, float | None]:
        """The gradient of the objective on sampled answers, anchored by the likelihood of the true ones (lines 6 to 8).

        What is made of the rewards is the objective's affair: a policy gradient, or likelihood of the best samples. The
        optimiser's step is transformers': `gan.optimizer.step()` where this is called alone.

        Args:
            batch: questions and true answers.
            rollout: sampled answers to the questions of `asked` from the *current* policy; drawn if None. What it was
                drawn with for an update is used and dropped.
            asked: other questions, whose answers are not read; those of `batch` if None.
            share: the rollout with its rewards, if it is of a round: the policy may have moved since it was sampled.

        Returns:
            `loss` and its weighted parts `likelihood` and `policy_gradient`, in which that of `beta` is; `kl` to the
            model without adapter, nats a token, estimated on one answer to a quarter of the questions; `kl_to_warmup`
            with `beta`; and the figures of [`rollout_health`].
        """
        args, asked = self.args, batch if asked is None else asked
        if rollout is None:
            rollout = self.sample(asked, for_update=True)
        mask, k = rollout.answer_mask, rollout.samples_per_prompt
        if share is None:
            share = Share(rollout, self.rewards(rollout), self.reference_scores(rollout))
        rewards = share.rewards
        rollout.state = None  # large, and not valid after the update
        if getattr(self.reward, "is_return", False):
            dense = rewards.where(mask.bool(), 0)
        else:
            dense = returns(rewards, mask, args.discount, args.length_normalised)
        weights = args.adversarial_weight * self.objective(dense, mask, k)
        kl = self.kl_to_base(rollout)
        losses = self.backward(
            "generator loss",
            len(asked),
            lambda: self._generator_losses(batch, asked, rollout, weights, share.reference),
        )
        if share.reference is not None:
            losses["kl_to_warmup"] = kl_estimate(rollout.log_probs, share.reference, mask)
        return {"likelihood": 0.0, "policy_gradient": 0.0, "kl": kl, **losses} | rollout_health(
            rewards, rollout.answer_ids, mask, rollout.log_probs, k, self.policy.eos_token_id
        )

    def discriminator_step(self, batch: Batch, rollout: Rollout | None = None) -> dict[str, float]:
        """One step of the discriminator, its optimiser's included (lines 10 to 13); see [`DiscriminatorSide.step`].

        Args:
            batch: questions and true answers.
            rollout: sampled answers to these questions; drawn if None.
        """
        return self.adversary.step(batch, self.sample(batch) if rollout is None else rollout)

    def likelihood_losses(self, batch: Batch, weight: float = 1.0, name: str = "likelihood") -> Losses:
        """The likelihood loss in parts, and that of unpaired answers, which count `unpaired_likelihood_weight`."""
        yield from super().likelihood_losses(batch, weight, name)
        yield from self._unpaired_losses()

    def _unpaired_losses(self) -> Losses:
        if (answers := self.unpaired_answers(self.state.global_step)) is not None:
            weight = self.args.unpaired_likelihood_weight
            yield from super().likelihood_losses(answers, weight, "unpaired_likelihood")

    def _generator_losses(
        self, batch: Batch, asked: Batch, rollout: Rollout, weights: Tensor, reference: Tensor | None
    ) -> Losses:
        """The objective's loss and the anchor in parts, so that one part's graph lives at a time.

        A micro-batch's questions are read once, with the noise of the rollout, for its samples and its true answers;
        with gradient checkpointing each part is a pass of its own, and so is the anchor if other questions were asked.
        Answers without weight are not scored, and those of like length are scored together, without the columns that
        none of them fills. Samples are scored without dropout, as they were drawn; the true answers keep it, and then
        have a pass of their own.
        """
        args, k = self.args, rollout.samples_per_prompt
        anchored = args.likelihood_weight and asked is batch and not self.drops_out
        self.unset_dropout()
        for start, stop in self.micro_batches.of(len(asked)):
            questions, rows = asked.rows(start, stop), stop - start
            noise = None if rollout.noise is None else rollout.noise[start * k : stop * k : k]
            prefill, rollout.prefill = rollout.prefill, None  # of weights that are no more after this
            if args.gradient_checkpointing:
                prefill = None
            elif prefill is None or not prefill.is_of(questions):
                prefill = self.policy.prefill(questions, noise)
            counted = weights[start * k : stop * k].any(dim=1) if reference is None else torch.ones(rows * k).bool()
            weighted = start * k + counted.nonzero().flatten().to(batch.device)
            weighted = weighted[rollout.answer_mask[weighted].sum(dim=1).argsort(stable=True)]
            at_once = self.micro_batches.size or max(rows, len(batch))
            for chosen in weighted.split(at_once) if len(weighted) else ():
                part = rollout.select(chosen).cut()
                longest = part.answer_ids.shape[1]
                log_probs = self._score(part, prefill, chosen // k - start, part.noise, part.temperature)
                loss = self._policy_loss(log_probs, part, weights[chosen, :longest])
                if reference is not None:
                    beta = args.beta / rollout.answer_mask.sum()
                    loss = loss + beta * kl_loss(log_probs, reference[chosen, :longest], part.answer_mask)
                yield "policy_gradient", loss
            if anchored:
                log_probs = self._score(questions, prefill, torch.arange(rows, device=batch.device), noise)
                loss = likelihood_loss(log_probs, questions.answer_mask)
                yield "likelihood", args.likelihood_weight * questions.answer_share(batch) * loss
            if prefill is not None:
                prefill.backward()
        self.set_dropout()
        if args.likelihood_weight and not anchored:
            yield from super().likelihood_losses(batch, args.likelihood_weight)
        yield from self._unpaired_losses()

    def _policy_loss(self, log_probs: Tensor, rollout: Rollout, weights: Tensor) -> Tensor:
        """What the objective's weights make of log-probs; clipped where the policy may have moved since it sampled."""
        if self.args.steps_per_generation > 1 and getattr(self.objective, "clipped", False):
            return clipped_loss(log_probs, rollout.log_probs, weights, self.args.epsilon)
        return weighted_loss(log_probs, weights)

    def _score(
        self, batch: Batch, prefill: Prefill | None, rows: Tensor, noise: Tensor | None, temperature: float = 1.0
    ) -> Tensor:
        """Log-probs of answers: from these rows of the prefill, or by a pass of its own without one."""
        if prefill is None:
            return self.policy.score(batch, noise=noise, temperature=temperature)
        return self.policy.score_from(prefill, batch, rows, temperature)

    # ------------------------------------------------------------------------------------------ rollouts and rewards

    def sample(self, batch: Batch, for_update: bool = False) -> Rollout:
        """Answers of the current policy to the questions of `batch`, `num_generations` each; kept for replay.

        Args:
            batch: questions.
            for_update: read the questions with a gradient, once for sampling and scoring, and let a Monte-Carlo search
                go on from the answers' prefixes: what [`generator_step`] makes use of.
        """
        rollout = self.sampler(
            batch,
            self.args.num_generations,
            with_gradient=for_update and not self.args.gradient_checkpointing,
            keep_state=for_update and getattr(self.reward, "searches", False) and self.delayed is None,
        )
        self.adversary.remember(rollout)
        return rollout

    def rewards(self, rollout: Rollout) -> Tensor:
        """What the answers of a rollout are worth, `[B]` or `[B, T]`; of all processes, each of which finds its share.

        Raises:
            FloatingPointError: if one is not finite.
            UserError: if their shape is another.
        """
        rewards = self._of_all_rows(rollout, self._reward, getattr(self.reward, "row_by_row", False))
        counted = rewards.where(rollout.answer_mask.bool(), 0) if rewards.dim() == 2 else rewards
        if not torch.isfinite(counted).all():
            raise FloatingPointError(f"the reward {self.args.reward!r} of some answers is not finite")
        return rewards

    def reference_scores(self, rollout: Rollout) -> Tensor | None:
        """Log-probs of a rollout by the reference, `[B, T]`, each process's share in micro-batches; None without it."""
        return None if self.reference is None else self._of_all_rows(rollout, self.reference.score, True)

    def _of_all_rows(self, rollout: Rollout, score: Callable[[Rollout], Tensor], in_parts: bool) -> Tensor:
        """The `score` of all rows, of which each process finds its share, in micro-batches if it may be asked so."""
        k, questions = rollout.samples_per_prompt, len(rollout) // rollout.samples_per_prompt

        def own() -> Tensor:
            parts = list(self.micro_batches.of(questions, k)) if in_parts else [self.parallel.rows(questions)]
            if parts == [(0, questions)]:
                return score(rollout)  # with the state that a search goes on from
            of_parts = [score(rollout.rows(first * k, end * k)) for first, end in parts if end > first]
            return torch.cat(of_parts) if of_parts else torch.zeros(0, device=rollout.device)

        found = self.micro_batches.run(questions, own)
        return self.parallel.join_rows(found, k * self.parallel.rows(questions)[0], len(rollout))

    def _reward(self, rollout: Rollout) -> Tensor:
        questions = [pair.question for pair in rollout.pairs or ()]
        rewards = self.reward(questions, self.texts(rollout), rollout)
        tensor = partial(torch.as_tensor, rewards, dtype=torch.float32, device=rollout.device)
        return REWARDS.tried(self.args.reward, tensor, (len(rollout),), tuple(rollout.answer_ids.shape))

    @property
    def judged(self) -> bool:
        """Whether the reward asks the discriminator; if it does not, none is trained."""
        return not is_unjudged(self.reward)

    def unpaired_answers(self, step: int) -> Batch | None:
        """Answers whose likelihood counts in this step."""
        if self.unpaired is None or not self.unpaired.answered or not self.args.unpaired_likelihood_weight:
            return None
        return self.unpaired.answers(step).to(self.args.device)

    def _asked(self, batch: Batch, number: int) -> Batch:
        """The questions of round `number`, as many as its steps take: the prompts, or those of the pairs."""
        steps = self.args.steps_per_generation
        if self.unpaired is not None:
            return self.unpaired.questions(number, steps * self._per_step).to(batch.device)
        return batch if steps == 1 else self._pairs(number, steps * self.order.batch_size)

    def _true_answers(self, batch: Batch, number: int) -> Iterator[Batch]:
        """True answers for each of the discriminator's steps in round `number`."""
        steps = self.args.discriminator_steps
        for step in range(number * steps, (number + 1) * steps):
            if self.unpaired is not None and self.unpaired.answered:
                yield self.unpaired.answers(step).to(batch.device)
            else:
                yield batch if steps == 1 else self._pairs(self.args.discriminator_warmup_steps + step)

    def _pairs(self, number: int, rows: int | None = None) -> Batch:
        """Pairs by number, in an order of their own."""
        rows = rows or self.order.batch_size
        seed = f"{self.args.seed}/game"
        return numbered_batch(self.train_dataset, number, rows, seed, self.pad_token_id).to(self.args.device)

    # --------------------------------------------------------------------------------------- the discriminator's side

    def _hold_out(self) -> None:
        """Answer some held-out questions, for the discriminator to be measured on until the next time."""
        if self.eval_dataset and self.args.plays and self.judged:
            rows = self.eval_dataset[: self.order.batch_size]
            batch = collate(rows, self.pad_token_id).to(self.args.device)
            self.adversary.hold_out(batch, self.sampler(batch))

    def _begin_game(self) -> None:
        """What the likelihood warm-up leaves is the reference, what the discriminator begins from, and its opponent."""
        if self.reference is not None:
            self.reference.update()
        if hasattr(self.discriminator, "begin_from"):
            self.discriminator.begin_from(self.model)
        self._warm_up_discriminator()

    @torch.no_grad()
    def _choices(self) -> dict[str, float]:
        """What choosing among samples by the discriminator is worth on questions that nobody has learned; [`choices`].

        These are the first prompts if they are records, or held-out ones; nothing is measured where there are none,
        where one sample is drawn, or where the discriminator is blind or learns from prefixes.
        """
        k, asked = self.args.num_generations, self.eval_dataset or ()
        if self.unpaired is not None and not self.unpaired.answered:
            asked = self.unpaired.rows()
        if not asked or k < 2 or self.args.blind_discriminator or self.adversary.per_token:
            return {}
        batch = self.collate(asked[:CHECKED_QUESTIONS]).to(self.args.device)
        numbers = self.sampler.state_dict()  # the check changes nothing of what is drawn later
        rollout = self.sampler(batch, k)
        self.sampler.load_state_dict(numbers)
        rows = k * self.micro_batches.at_once(len(batch), k)
        parts = (rollout.rows(start, start + rows) for start in range(0, len(rollout), rows))
        logits = torch.cat([self.discriminator.sequence_logits(part) for part in parts])
        return choices(batch.pairs, self.texts(rollout), logits.tolist())

    def _warm_up_discriminator(self) -> None:
        """Its steps are counted by themselves and logged as often as the others; the last row has what it is worth."""
        step = 0
        for step, figures in enumerate(self._discriminator_warmup(), start=1):
            self.note("discriminator", figures)
            if step == self.args.discriminator_warmup_steps or self.limits.spent:
                break
            if step % self.state.logging_steps == 0:
                self.log({"discriminator_step": step})
        if self.judged:
            self.note("discriminator", self._choices())
        if step:
            self.log({"discriminator_step": step})

    def _discriminator_warmup(self) -> Iterator[dict[str, float]]:
        """Train the discriminator on a few rollouts and true answers (lines 3 and 4)."""
        args = self.args
        if not self.judged or not args.discriminator_warmup_steps:
            return
        count = args.discriminator_warmup_rollouts
        ready: list[tuple[Batch, Rollout]] = []
        for number, rows in enumerate(self.order.of_epoch(0)[:count]):
            batch = self.collate([self.train_dataset[row] for row in rows]).to(args.device)
            if self.unpaired is not None and self.unpaired.answered:
                batch = self.unpaired.answers(number).to(args.device)
            ready.append((batch, self.sample(self._asked(batch, number))))
        fresh = self.unpaired is not None and not self.unpaired.answered  # answers to other questions than the pairs'
        for step, (real, rollout) in enumerate(
            itertools.islice(itertools.cycle(ready), args.discriminator_warmup_steps)
        ):
            yield self.discriminator_step(self._pairs(step) if fresh else real, rollout)

    # --------------------------------------------------------------------------- parts of transformers' own training

    def shared_tensors(self) -> list[Tensor]:
        return [*self.parameters, *self.discriminator.state_dict().values()]

    def tokens(self) -> list[Any]:
        return super().tokens() + (self.unpaired.tokens() if self.unpaired else [])

    def stateful(self) -> dict[str, Any]:
        parts = {"advantage": self.advantage, "reward": self.reward, "delayed": self.delayed}
        parts |= {"round": self.round, "reference": self.reference}
        parts = {name: part for name, part in parts.items() if hasattr(part, "state_dict")}
        return super().stateful() | parts | {"adversary": self.adversary}
