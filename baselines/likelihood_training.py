"""Maximum likelihood of the answers by `transformers.Trainer`: the training that all likelihood baselines share."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from baselines.method import NotAvailable, TunedModel
from baselines.resumable_trainer import EpochOrder, ResumableTrainer
from gantune.data import (
    EncodedPair,
    Pair,
    check_packing,
    collate,
    end_token_id,
    likelihood_inputs,
    mask_dtype,
    packed_inputs,
    pad_token_id,
)
from gantune.data.encoding import IGNORE_INDEX
from gantune.distributed import DataParallel, join_processes
from gantune.errors import UserError
from gantune.policy import CausalLMPolicy
from gantune.policy.evaluation import mean_loss
from gantune.policy.positions import check_positions
from gantune.trainer.budget import Budget
from gantune.trainer.checkpoints import Checkpoints
from gantune.trainer.interrupts import Interrupts
from gantune.trainer.kept_weights import KeptWeights
from gantune.trainer.observer import Observer, Silent
from gantune.trainer.optimizers import why_not
from gantune.tuning import TuningConfig, encode_training_pairs, hold_out, training_fingerprint

TRAINER_OPTIMIZERS = {"adamw-8bit": "adamw_bnb_8bit", "paged-adamw-8bit": "paged_adamw_8bit"}


class EarlyStopping:
    """Chooses the weights by the loss on held-out pairs, and says when it has not fallen for long enough.

    Args:
        policy: the model's.
        held_out: the pairs.
        config: how long, and how many pairs are scored together.
        parallel: the processes that share the pairs.
    """

    def __init__(
        self, policy: CausalLMPolicy, held_out: Sequence[EncodedPair], config: TuningConfig, parallel: DataParallel
    ) -> None:
        self.policy, self.held_out, self.config, self.parallel = policy, held_out, config, parallel
        self.kept = KeptWeights([parameter for parameter in policy.model.parameters() if parameter.requires_grad])

    def epoch_ended(self, epoch: int) -> float:
        """Measure the loss, nats a token, and keep the weights."""
        self.policy.model.eval()  # the Trainer puts it back into training mode at each step
        loss = mean_loss(self.policy, self.held_out, self.config.batch_size, self.parallel)
        self.kept.offer(epoch, loss)
        return loss

    @property
    def over(self) -> bool:
        """Whether training is to stop."""
        return self.kept.epochs_since_best >= self.config.early_stopping


class Report(TrainerCallback):
    """Tells an observer what the Trainer does; saves at its times; stops a run that diverges, or is to end.

    A row is told when its step is done. What happens after a step: row, validation, checkpoint, end; after the last one
    of an epoch the observer is told of the epoch before the checkpoint.

    Args:
        trainer: whose callback it is.
        observer: told of each step and epoch.
        budget: what may be spent.
        interrupts: whether Ctrl-C was pressed.
        early_stopping: chooses the weights; None keeps the last.
    """

    def __init__(
        self,
        trainer: ResumableTrainer,
        observer: Observer,
        budget: Budget,
        interrupts: Interrupts,
        early_stopping: EarlyStopping | None,
    ) -> None:
        self.trainer, self.observer, self.budget = trainer, observer, budget
        self.parallel = trainer.order.parallel
        self.interrupts, self.early_stopping = interrupts, early_stopping

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.observer.on_begin(state.max_steps, model)
        self.trainer.load_parts()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.budget.spent:
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(f"likelihood loss is {logs['loss']}: lower the learning rate {args.learning_rate}")
        epoch = math.ceil(state.epoch)
        epoch_ends = state.epoch == epoch or control.should_training_stop
        row = {"step": state.global_step, "epoch": epoch, "phase": "likelihood", "loss": logs["loss"]}
        if epoch_ends and self.early_stopping:
            row["validation_loss"] = self.early_stopping.epoch_ended(epoch)
            control.should_training_stop |= self.early_stopping.over
        self.observer.on_step(row | {"tokens": self.budget.new_tokens()})
        if not epoch_ends:
            self._save(state)

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.observer.on_epoch(math.ceil(state.epoch), model)
        self._save(state, ended=control.should_training_stop)

    def _save(self, state: Any, ended: bool = False) -> None:
        """Save if it is time.

        Raises:
            KeyboardInterrupt: if it was asked for, after saving.
        """
        checkpoints, asked = self.trainer.checkpoints, self.parallel.any(self.interrupts.asked)
        if checkpoints and (asked or checkpoints.due(state.global_step)):
            self.trainer.save_state(ended)
        if asked:
            raise KeyboardInterrupt


def train_by_likelihood(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    config: TuningConfig,
    learning_rate: float,
    observer: Observer | None = None,
    checkpoints: Checkpoints | None = None,
) -> TunedModel:
    """Train what is trainable in `model` on the answers' tokens: AdamW on the settings' schedule, no weight decay.

    Args:
        model: the model, usually with an adapter; its parameters with `requires_grad` are trained in place.
        tokenizer: its tokenizer.
        pairs: questions and true answers; all are trained on, but for the share that early stopping holds out.
        config: length of training, template and limits.
        learning_rate: the full one.
        observer: told of each step and epoch. If it has `state_dict` and `load_state_dict`, it resumes as well.
        checkpoints: where the whole state of the training is kept, and gone on from if there is one; on the CPU what
            comes out is then equal to the bit, however often the training was killed. Ctrl-C finishes the step and
            saves it.

    Returns:
        The model; `save` writes its own `save_pretrained`.

    Raises:
        UserError: as [`encode_training_pairs`]; if the micro-batch size does not divide the batch size, early stopping
            has nothing to hold out, the model's rows cannot be packed, or the checkpoints are of another training.
        NotAvailable: if the optimiser cannot be had here.
        FloatingPointError: if the loss is not finite.
        KeyboardInterrupt: after the step that was interrupted is saved.
    """
    parallel = join_processes(model.device)
    at_once = min(config.batch_size, (config.micro_batch_size or config.batch_size) * parallel.size)
    if config.batch_size % at_once:
        of = "" if parallel.size == 1 else f" in each of {parallel.size} processes"
        raise UserError(
            f"--micro-batch-size {config.micro_batch_size}{of}: expected a divisor of --batch-size {config.batch_size}"
        )
    if reason := why_not(config.optimizer, model.device):
        raise NotAvailable(reason)
    encoded, pad = encode_training_pairs(pairs, tokenizer, config), pad_token_id(tokenizer)
    longest = max(encoded, key=lambda row: len(row.prompt_ids) + len(row.answer_ids), default=None)
    if longest is not None:
        check_positions(model, len(longest.prompt_ids), len(longest.answer_ids))
    held_out: list[EncodedPair] = []
    if config.early_stopping:
        encoded, held_out = hold_out(encoded, config.validation_share, config.seed)
        if not held_out:
            raise UserError(f"--early-stopping: --validation-share {config.validation_share} holds no pair out")
    observer = observer if observer and parallel.main else Silent()
    inputs_of, budget = collator(model, encoded, pad, config), Budget(config, model, parallel)
    with tempfile.TemporaryDirectory() as unused, budget, Interrupts() as interrupts:
        early_stopping = None
        if held_out:
            policy = CausalLMPolicy(model, end_token_id(config.prompt_template(), tokenizer), pad)
            early_stopping = EarlyStopping(policy, held_out, config, parallel)
        parts = {"budget": budget} | ({"kept": early_stopping.kept} if early_stopping else {})
        parts |= {"observer": observer} if hasattr(observer, "state_dict") else {}
        trainer = ResumableTrainer(
            EpochOrder(encoded, config, at_once, parallel),
            config,
            checkpoints,
            training_fingerprint(config, encoded, learning_rate, [row[:2] for row in held_out]),
            parts,
            model=model,
            args=TrainingArguments(
                output_dir=unused,
                num_train_epochs=config.epochs,
                per_device_train_batch_size=-(-at_once // parallel.size),
                gradient_accumulation_steps=config.batch_size // at_once,
                **({"gradient_checkpointing": True} if config.gradient_checkpointing else {}),  # its default will go
                **({"optim": TRAINER_OPTIMIZERS[config.optimizer]} if config.optimizer in TRAINER_OPTIMIZERS else {}),
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
            data_collator=inputs_of,
        )
        trainer.add_callback(Report(trainer, observer, budget, interrupts, early_stopping))
        trainer.remove_callback(PrinterCallback)  # the observer shows what it would print
        trainer.train_or_go_on()
    if early_stopping:
        early_stopping.kept.restore()
    return TunedModel(model, tokenizer, config, save=model.save_pretrained)


def collator(
    model: PreTrainedModel, encoded: Sequence[EncodedPair], pad: int, config: TuningConfig
) -> Callable[[Sequence[EncodedPair]], dict[str, Tensor]]:
    """What makes the model's inputs of some rows: one pair a row, or several with `config.packing`.

    Of no rows, which is what a process gets of a batch with fewer rows than processes, it makes a row without a label:
    the process has to pass through the model with the others.

    Raises:
        UserError: see [`check_packing`].
    """
    if config.packing:
        check_packing(model, encoded)
        limit = config.max_prompt_tokens + config.max_new_tokens
        inputs_of = partial(packed_inputs, pad_token_id=pad, limit=limit, dtype=mask_dtype(model))
    else:
        inputs_of = lambda rows: likelihood_inputs(collate(rows, pad))  # noqa: E731

    def of(rows: Sequence[EncodedPair]) -> dict[str, Tensor]:
        if rows:
            return inputs_of(rows)
        inputs = inputs_of(encoded[:1])
        return inputs | {"labels": torch.full_like(inputs["labels"], IGNORE_INDEX)}

    return of
