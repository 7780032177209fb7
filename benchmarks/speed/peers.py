"""The trainers that people would pick instead: TRL's GRPOTrainer and RLOOTrainer, and what is measured beside them.

Four answers are sampled to each question. TRL (https://github.com/huggingface/trl) is not part of gantune: `pip install
'gantune[peers]'`. Everybody tunes the same LoRA by the same learning rate, without dropout, on the same questions, and
no token ends an answer. TRL's reward is the length of the text, which costs nothing; ours is the discriminator's, which
is trained as well.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from types import ModuleType
from typing import Any, ClassVar

import torch
from datasets import Dataset
from peft import PeftConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from benchmarks.speed.contenders import CONTENDERS, Contender, Gantune, UsualLora, lora_config
from benchmarks.speed.meter import Meter
from gantune.data.batch import Batch
from gantune.errors import NotAvailable, first_line

SAMPLES = 4
"""Answers to each question."""
BESIDE_PEERS = ("lora-samples", "gantune-lora")
PEERS = {"trl": ("trl-grpo", "trl-rloo", "trl-grpo-checkpointed")}
"""Contenders of each package that `--peers` names."""


def _trl() -> ModuleType:
    import trl

    return trl


def import_peer(name: str) -> ModuleType:
    """A peer's package.

    Raises:
        NotAvailable: if it is not installed, or cannot be imported beside the other packages.
    """
    try:
        package = {"trl": _trl}[name]()
        for trainer in ("GRPOTrainer", "RLOOTrainer"):
            getattr(package, trainer)  # imported only now
    except (ImportError, RuntimeError, AttributeError) as error:
        raise NotAvailable(
            f"--peers {name}: not run: {first_line(error)}; expected pip install 'gantune[peers]'"
        ) from error
    return package


@CONTENDERS.register("lora-samples")
class LoraOnSamples(UsualLora):
    """LoRA by likelihood on as many rows as the others sample: each question and its answer, so many times."""

    label, weight = f"LoRA by likelihood, {SAMPLES} rows a question", 1.0 * SAMPLES

    def __init__(self, model: PreTrainedModel, batch: Batch) -> None:
        rows = torch.arange(len(batch), device=batch.device).repeat_interleave(SAMPLES)
        tensors = (batch.prompt_ids, batch.prompt_mask, batch.answer_ids, batch.answer_mask)
        super().__init__(model, Batch(*(tensor[rows] for tensor in tensors)))


@CONTENDERS.register("gantune-lora")
class GantuneLora(Gantune):
    """The adversarial step with LoRA for an adapter: policy gradient on the group-normalised discriminator's reward."""

    label, weight = f"gantune, LoRA, {SAMPLES} samples", 1.0 * SAMPLES
    samples, advantage = SAMPLES, "group-norm"

    @classmethod
    def tuned(cls, model: PreTrainedModel) -> PeftConfig:
        return lora_config(model)


class TrlContender(Contender):
    """One step of a trainer of TRL: sampling, rewards, the log-probs and the update."""

    trainer: ClassVar[str]
    checkpointing: ClassVar[bool] = False

    @classmethod
    def import_libraries(cls) -> None:
        import_peer("trl")

    def __init__(self, model: PreTrainedModel, batch: Batch) -> None:
        super().__init__(model, batch)
        package = import_peer("trl")
        model.generation_config.eos_token_id = None  # GPT-2's would end an answer
        self._directory = tempfile.TemporaryDirectory()  # made by the trainer, and left empty
        args = getattr(package, self.trainer.replace("Trainer", "Config"))(
            output_dir=self._directory.name,
            per_device_train_batch_size=len(batch) * SAMPLES,
            num_generations=SAMPLES,
            max_completion_length=batch.answer_ids.shape[1],
            beta=0.0,  # no reference model
            learning_rate=2e-3,  # gantune's
            gradient_checkpointing=self.checkpointing,
            bf16=False,  # the model has its dtype; no autocast
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=model.device.type == "cpu",
        )
        self.rows = [{"prompt": text} for text in as_texts(batch.prompt_ids) for _ in range(SAMPLES)]
        self.made = getattr(package, self.trainer)(
            model,
            reward_funcs=text_length,
            args=args,
            train_dataset=Dataset.from_list(self.rows[::SAMPLES]),
            processing_class=number_tokenizer(model.config.vocab_size),
            peft_config=lora_config(model),
        )
        self.made.create_optimizer()
        self.made.current_gradient_accumulation_steps = 1  # what `train` sets
        if self.checkpointing:  # and what it switches on
            tuned = self.made.model
            name = "activation" if hasattr(tuned, "activation_checkpointing_enable") else "gradient"
            getattr(tuned, f"{name}_checkpointing_enable")(self.made.args.gradient_checkpointing_kwargs)
        self.parameters = [parameter for parameter in self.made.model.parameters() if parameter.requires_grad]

    def step(self, meter: Meter) -> None:
        """What `train` does with a batch."""
        made = self.made
        with (
            meter.wrapping(made.model, "generate", "rollout"),
            meter.wrapping(torch.autograd, "backward", "backward"),
        ):
            made.training_step(made.model, self.rows, None)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        made.optimizer.step()
        made.model.zero_grad()


@CONTENDERS.register("trl-grpo")
class TrlGRPO(TrlContender):
    """Group Relative Policy Optimization (Shao et al. 2024, arXiv:2402.03300)."""

    label, weight, trainer = "TRL GRPOTrainer", 2.5 * SAMPLES, "GRPOTrainer"


@CONTENDERS.register("trl-rloo")
class TrlRLOO(TrlContender):
    """REINFORCE Leave-One-Out (Ahmadian et al. 2024, arXiv:2402.14740)."""

    label, weight, trainer = "TRL RLOOTrainer", 2.5 * SAMPLES, "RLOOTrainer"


@CONTENDERS.register("trl-grpo-checkpointed")
class TrlGRPOCheckpointed(TrlGRPO):
    """The same with gradient checkpointing, which is TRL's default: less memory, more time."""

    label, checkpointing = "TRL GRPOTrainer, gradient checkpointing", True


def text_length(completions: Sequence[str], **_: Any) -> list[float]:
    """A reward that costs nothing and differs from answer to answer."""
    return [float(len(completion)) for completion in completions]


def as_texts(ids: torch.Tensor) -> list[str]:
    """Token ids `[B, T]` as texts that [`number_tokenizer`] reads back."""
    return [" ".join(map(str, row)) for row in ids.tolist()]


def number_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer whose words are the ids. Its end has an id beyond the model's vocabulary: it is never sampled."""
    words = {str(number): number for number in range(vocabulary)} | {"<end>": vocabulary}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="0", padding_side="left")
