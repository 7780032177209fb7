"""LoRA as a user of peft and transformers would do it (Hu et al. 2021, arXiv:2106.09685)."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader, Sampler
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from baselines.method import TunedModel, method
from gantune.data import Pair, collate, epoch_order, likelihood_inputs, pad_token_id
from gantune.observer import Observer, Silent
from gantune.tuning import TuningConfig, encode_training_pairs


@dataclass
class LoraTuningConfig(TuningConfig):
    """Settings of the LoRA baseline.

    Args:
        lora_rank: rank of the update.
        lora_alpha: the update is scaled by alpha / rank.
        lora_dropout: on the input of the update.
        lora_target_modules: names of the adapted modules; peft's choice for the architecture if empty.
        lora_learning_rate: AdamW, falling linearly to 0.
    """

    _argument_group_name = "lora: the baseline"

    lora_rank: int = field(default=8, metadata={"help": "rank of the update"})
    lora_alpha: int = field(default=16, metadata={"help": "the update is scaled by alpha / rank"})
    lora_dropout: float = field(default=0.0, metadata={"help": "on the input of the update"})
    lora_target_modules: list[str] = field(
        default_factory=list, metadata={"help": "adapted modules; peft's choice for the architecture if not given"}
    )
    lora_learning_rate: float = field(default=1e-3, metadata={"help": "AdamW, falling linearly to 0"})


class EpochOrder(Sampler[int]):
    """Rows in the order that LanguageGAN takes them in, epoch by epoch, so that methods differ in nothing else."""

    def __init__(self, rows: int, seed: int) -> None:
        self.rows, self.seed, self.epoch = rows, seed, 0

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        return iter(epoch_order(self.rows, self.seed, self.epoch))

    def __len__(self) -> int:
        return self.rows


class OrderedTrainer(Trainer):
    """`transformers.Trainer` with [`EpochOrder`]."""

    def get_train_dataloader(self) -> DataLoader:
        """Batches of the training set in the order of [`EpochOrder`]."""
        sampler = EpochOrder(len(self.train_dataset), self.args.seed)
        loader = DataLoader(
            self.train_dataset, self.args.train_batch_size, sampler=sampler, collate_fn=self.data_collator
        )
        return self.accelerator.prepare(loader)


class Report(TrainerCallback):
    """Tells an observer what the Trainer does, and stops a run that diverges."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.observer.on_begin(state.max_steps, model)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(f"likelihood loss is {logs['loss']}: lower --lora-learning-rate")
        row = {"step": state.global_step, "epoch": math.ceil(state.epoch), "phase": "likelihood", "loss": logs["loss"]}
        self.observer.on_step(row)

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.observer.on_epoch(round(state.epoch), model)


@method("lora", LoraTuningConfig)
def tune_lora(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: LoraTuningConfig,
    observer: Observer | None = None,
) -> TunedModel:
    """peft's LoRA, trained by `transformers.Trainer` on the answers' tokens."""
    encoded = encode_training_pairs(pairs, tokenizer, config)
    tuned = get_peft_model(
        model,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            target_modules=config.lora_target_modules or None,
        ),
    )
    pad = pad_token_id(tokenizer)
    with tempfile.TemporaryDirectory() as unused:
        trainer = OrderedTrainer(
            model=tuned,
            args=TrainingArguments(
                output_dir=unused,
                num_train_epochs=config.epochs,
                per_device_train_batch_size=config.batch_size,
                learning_rate=config.lora_learning_rate,
                weight_decay=0.0,
                seed=config.seed,
                use_cpu=model.device.type == "cpu",
                logging_steps=1,
                logging_nan_inf_filter=False,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                remove_unused_columns=False,
            ),
            train_dataset=encoded,
            data_collator=lambda rows: likelihood_inputs(collate(rows, pad)),
            callbacks=[Report(observer or Silent())],
        )
        trainer.remove_callback(PrinterCallback)  # the observer shows what it would print
        trainer.train()
    return TunedModel(tuned, tokenizer, config, save=tuned.save_pretrained)
