"""The contenders: each is one training step on one batch, which can be repeated."""

from __future__ import annotations

from contextlib import ExitStack
from typing import ClassVar

import torch
from peft import LoraConfig, PeftConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from benchmarks.speed.meter import Meter
from benchmarks.speed.workload import NoTemplate, NoWords
from gantune.data import likelihood_inputs
from gantune.data.batch import Batch
from gantune.embedding_generator import hold_noise
from gantune.policy import Rollout
from gantune.registry import Registry
from gantune.seqgan import policy_gradient_loss, returns
from gantune.trainer.arguments import LanguageGANConfig
from gantune.trainer.language_gan import LanguageGAN

CONTENDERS = Registry("contender")
TIMED_PASSES = 5


def lora_config(model: PreTrainedModel) -> LoraConfig:
    """LoRA of rank 8 on what peft adapts by default: GPT-2's joint projection; Llama's queries and values."""
    transposed = model.config.model_type == "gpt2"  # whose layers are Conv1D
    return LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, fan_in_fan_out=transposed)


class Contender:
    """One way to train.

    Args:
        model: frozen; it is wrapped in place.
        batch: questions and true answers, all of one length.
    """

    label: ClassVar[str]
    weight: ClassVar[float]
    """Cost beside a LoRA step, roughly; the progress bar goes by it."""
    max_batch_size: ClassVar[int | None] = None
    extrapolated: ClassVar[bool] = False
    replays: ClassVar[bool] = False
    """Whether it replays CUDA graphs: it needs a device that has them, and its operations cannot be counted."""

    def __init__(self, model: PreTrainedModel, batch: Batch) -> None:
        self.batch = batch

    @classmethod
    def import_libraries(cls) -> None:
        """Import what only this contender needs, so that it is not measured as memory of its steps."""

    def step(self, meter: Meter) -> None:
        """All updates of one batch."""
        raise NotImplementedError


@CONTENDERS.register("lora")
class UsualLora(Contender):
    """LoRA as its users write it: the model's own loss, hence logits at every position (arXiv:2106.09685)."""

    label, weight = "LoRA, usual", 1.0

    def __init__(self, model: PreTrainedModel, batch: Batch) -> None:
        super().__init__(model, batch)
        self.model = get_peft_model(model, lora_config(model))
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-3, weight_decay=0.0)

    def step(self, meter: Meter) -> None:
        """One step of maximum likelihood."""
        with meter.part("forward"):
            loss = self._loss()
        self.optimizer.zero_grad(set_to_none=True)
        with meter.part("backward"):
            loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()

    def _loss(self) -> Tensor:
        return self.model(**likelihood_inputs(self.batch), use_cache=False).loss


@CONTENDERS.register("lora-answers")
class AnswerOnlyLora(UsualLora):
    """The same with logits at answer positions only."""

    label, weight = "LoRA, answer-only logits", 0.8

    def _loss(self) -> Tensor:
        batch = self.batch
        first = batch.prompt_ids.shape[1] - 1
        logits = self.model(
            input_ids=batch.input_ids(),
            attention_mask=batch.attention_mask(),
            position_ids=batch.position_ids(),
            use_cache=False,
            logits_to_keep=torch.arange(first, first + batch.answer_ids.shape[1], device=batch.device),
        ).logits
        return F.cross_entropy(logits.float().flatten(0, 1), batch.answer_ids.flatten())


class Adversarial(Contender):
    """What the adversarial contenders share: LanguageGAN's adapter, discriminator and optimisers.

    One sampled answer a question and no likelihood anchor, so that a step is one update of the generator and one of the
    discriminator (FINDINGS section 1). The discriminator is trained at every step.
    """

    samples: ClassVar[int] = 1
    advantage: ClassVar[str] = "none"
    discriminator: ClassVar[str] = "cnn"

    @classmethod
    def tuned(cls, model: PreTrainedModel) -> PeftConfig | None:
        """What is tuned; None for the default adapter."""
        return None

    def __init__(self, model: PreTrainedModel, batch: Batch) -> None:
        super().__init__(model, batch)
        config = LanguageGANConfig(
            template=f"{NoTemplate.__module__}.{NoTemplate.__name__}",
            max_prompt_length=batch.prompt_ids.shape[1],
            max_completion_length=batch.answer_ids.shape[1],
            num_generations=self.samples,
            advantage=self.advantage,
            discriminator=self.discriminator,
            likelihood_weight=0.0,
            max_discriminator_accuracy=1.0,
            captured_decoding=self.replays,
            use_cpu=model.device.type == "cpu",
        )
        self.gan = LanguageGAN(model, config, processing_class=NoWords(), peft_config=self.tuned(model))
        self.gan.create_optimizer_and_scheduler(num_training_steps=10**9)

    def _update(self) -> None:
        """What transformers' loop does with the generator's gradients."""
        gan = self.gan
        gan._clip_grad_norm(gan.model)
        gan.optimizer.step()
        gan.lr_scheduler.step()
        gan.model.zero_grad()


@CONTENDERS.register("gantune")
class Gantune(Adversarial):
    """The step of `LanguageGAN.train` with the optimiser's, whatever path it takes inside, with all that it reports."""

    label, weight = "gantune", 2.5

    def step(self, meter: Meter) -> None:
        """One rollout, an update of the discriminator, an update of the generator."""
        gan, policy = self.gan, self.gan.policy
        with ExitStack() as held:
            for method in ("prefill", "rollout", "score_from", "score"):
                held.enter_context(meter.wrapping(policy, method, method.removesuffix("_from")))
            held.enter_context(meter.wrapping(torch.autograd, "backward", "backward"))
            held.enter_context(meter.wrapping(gan, "discriminator_step", "discriminator", whole=True))
            held.enter_context(meter.wrapping(gan, "kl_to_base", "kl", whole=True))
            rollout = gan.sample(self.batch, for_update=True)
            gan.discriminator_step(self.batch, rollout)
            gan.generator_step(self.batch, rollout)
            self._update()


@CONTENDERS.register("gantune-judge")
class GantuneJudge(Gantune):
    """The same with a language model as the judge, a second adapter on the frozen one."""

    label, discriminator, weight = "gantune, judge", "judge", 4.0


@CONTENDERS.register("gantune-captured")
class GantuneCaptured(Gantune):
    """The same with `--captured-decoding`."""

    label, replays = "gantune, captured decoding", True


@CONTENDERS.register("plain")
class PlainPath(Adversarial):
    """The same updates by the reference path: decode from the question on, then score in one teacher-forced pass."""

    label, weight = "plain path", 2.8

    def step(self, meter: Meter) -> None:
        """One rollout, an update of the discriminator, an update of the generator, the KL to the base model."""
        gan, args = self.gan, self.gan.args
        with meter.part("rollout"):
            rollout = gan.policy.rollout(self.batch, max_new_tokens=args.max_completion_length)
        gan.adversary.remember(rollout)
        with meter.part("discriminator"):
            gan.discriminator_step(self.batch, rollout)
        rewards = gan.reward([], [], rollout)
        advantages = returns(rewards, rollout.answer_mask, args.discount, args.length_normalised)
        with meter.part("kl"):
            gan.kl_to_base(rollout)
        with meter.part("score"):
            log_probs = gan.policy.score(rollout, noise=rollout.noise)
        with meter.part("backward"):
            (policy_gradient_loss(log_probs, advantages, rollout.answer_mask) / args.max_completion_length).backward()
        self._update()


@CONTENDERS.register("source")
class SourceWay(Adversarial):
    """The source study's way: a whole pass over question and answer so far for each token of the answer.

    The graphs of all passes are kept until one backward (SOURCE_STUDY sections 4 and 6), and the discriminator's update
    samples answers of its own. Its mistakes are corrected, its cost is not: logits are of every position, and only
    the last position's are used. Sampling has a key-value cache.

    Args:
        model: see [`Contender`].
        batch: see [`Contender`].
        timed_passes: run only so many passes, evenly spaced over the answer, forward and backward one by one, and
            count them for all; None for the step as it is.
    """

    label, weight, extrapolated = "source study's way", 12.0, True
    max_batch_size, max_memory_batch_size = 4, 1

    def __init__(self, model: PreTrainedModel, batch: Batch, timed_passes: int | None = TIMED_PASSES) -> None:
        activations = [(block.mlp, block.mlp.act) for block in model.transformer.h]
        super().__init__(model, batch)
        for layer, activation in activations:
            layer.act = activation  # gantune's policy puts a leaner one in its place
        self.timed_passes = timed_passes

    def step(self, meter: Meter) -> None:
        """Two rollouts, an update of the discriminator, an update of the generator."""
        gan, length = self.gan, self.gan.args.max_completion_length
        with meter.part("rollout"):
            theirs = gan.policy.rollout(self.batch, max_new_tokens=length)
        with meter.part("discriminator"):
            gan.discriminator_step(self.batch, theirs)
        with meter.part("rollout"):
            rollout = gan.policy.rollout(self.batch, max_new_tokens=length)
        with torch.no_grad():
            rewards = gan.discriminator.sequence_logits(rollout).sigmoid()
        if self.timed_passes is None:
            with meter.part("score"):
                log_probs = torch.stack([self.log_prob(rollout, t) for t in range(length)], dim=1)
            with meter.part("backward"):
                self._loss(log_probs, rewards).backward()
        else:
            count = min(self.timed_passes, length)
            for t in (int((i + 0.5) * length / count) for i in range(count)):
                with meter.part("score", scale=length / count):
                    log_prob = self.log_prob(rollout, t)
                with meter.part("backward", scale=length / count):
                    self._loss(log_prob[:, None], rewards).backward()
        self._update()

    def log_prob(self, rollout: Rollout, t: int) -> Tensor:
        """log pi of the answers' token `t`, `[B]`, by a pass of its own."""
        ids = torch.cat([rollout.prompt_ids, rollout.answer_ids[:, :t]], dim=1)
        with hold_noise(self.gan.model, rollout.noise):
            logits = self.gan.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[:, -1]
        return logits.float().log_softmax(dim=-1).gather(1, rollout.answer_ids[:, t, None]).squeeze(1)

    @staticmethod
    def _loss(log_probs: Tensor, rewards: Tensor) -> Tensor:
        return -(log_probs * rewards[:, None]).sum() / len(rewards)
