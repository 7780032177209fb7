"""Maximum likelihood of the answers by `transformers.Trainer`: the training that all likelihood baselines share."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from baselines.method import TunedModel
from gantune.budget import Budget
from gantune.data import EncodedPair, Pair, collate, epoch_rows, likelihood_inputs, pad_token_id
from gantune.errors import UserError
from gantune.observer import Observer, Silent
from gantune.tuning import TuningConfig, encode_training_pairs


class EpochOrder(Sampler[int]):
    """Rows in the order that LanguageGAN takes them in, epoch by epoch, so that methods differ in nothing else."""

    def __init__(self, encoded: Sequence[EncodedPair], config: TuningConfig) -> None:
        self.encoded, self.config, self.epoch = encoded, config, 0

    def __iter__(self) -> Iterator[int]:
        config, self.epoch = self.config, self.epoch + 1
        return iter(epoch_rows(self.encoded, config.batch_size, config.seed, self.epoch, config.group_by_length))

    def __len__(self) -> int:
        return len(self.encoded)


class OrderedTrainer(Trainer):
    """`transformers.Trainer` with the order of its rows given.

    Args:
        order: of the training set's rows.
        kwargs: see `transformers.Trainer`.
    """

    def __init__(self, order: Sampler[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.order = order

    def get_train_dataloader(self) -> DataLoader:
        """Batches of the training set in the given order."""
        loader = DataLoader(
            self.train_dataset, self.args.train_batch_size, sampler=self.order, collate_fn=self.data_collator
        )
        return self.accelerator.prepare(loader)


class Report(TrainerCallback):
    """Tells an observer what the Trainer does; stops a run that diverges, or has spent its budget."""

    def __init__(self, observer: Observer, budget: Budget) -> None:
        self.observer, self.budget = observer, budget

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.observer.on_begin(state.max_steps, model)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.budget.spent:
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(f"likelihood loss is {logs['loss']}: lower the learning rate {args.learning_rate}")
        row = {"step": state.global_step, "epoch": math.ceil(state.epoch), "phase": "likelihood", "loss": logs["loss"]}
        self.observer.on_step(row | {"tokens": self.budget.new_tokens()})

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.observer.on_epoch(math.ceil(state.epoch), model)


def train_by_likelihood(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: TuningConfig,
    learning_rate: float,
    observer: Observer | None = None,
) -> TunedModel:
    """Train what is trainable in `model` on the answers' tokens: AdamW, falling linearly to 0, no weight decay.

    Args:
        model: the model, usually with an adapter; its parameters with `requires_grad` are trained in place.
        tokenizer: its tokenizer.
        pairs: questions and true answers; all are trained on.
        config: length of training, template and limits.
        learning_rate: the first one.
        observer: told of each step and epoch.

    Returns:
        The model; `save` writes its own `save_pretrained`.

    Raises:
        UserError: as [`encode_training_pairs`]; if the micro-batch size does not divide the batch size.
        FloatingPointError: if the loss is not finite.
    """
    at_once = config.micro_batch_size or config.batch_size
    if config.batch_size % at_once:
        raise UserError(f"--micro-batch-size {at_once}: expected a divisor of --batch-size {config.batch_size}")
    encoded, pad = encode_training_pairs(pairs, tokenizer, config), pad_token_id(tokenizer)
    with tempfile.TemporaryDirectory() as unused, Budget(config, model) as budget:
        trainer = OrderedTrainer(
            EpochOrder(encoded, config),
            model=model,
            args=TrainingArguments(
                output_dir=unused,
                num_train_epochs=config.epochs,
                per_device_train_batch_size=at_once,
                gradient_accumulation_steps=config.batch_size // at_once,
                **({"gradient_checkpointing": True} if config.gradient_checkpointing else {}),  # its default will go
                learning_rate=learning_rate,
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
            callbacks=[Report(observer or Silent(), budget)],
        )
        trainer.remove_callback(PrinterCallback)  # the observer shows what it would print
        trainer.train()
    return TunedModel(model, tokenizer, config, save=model.save_pretrained)
