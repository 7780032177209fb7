"""What every method shares: `transformers.Trainer` on pairs, in one order, with whole checkpoints."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, set_seed
from transformers.trainer_utils import TrainOutput

from gantune.data import (
    EncodedPair,
    as_pairs,
    check_packing,
    collate,
    end_token_id,
    epoch_rows,
    likelihood_inputs,
    mask_dtype,
    packed_inputs,
    pad_token_id,
)
from gantune.data.encoding import IGNORE_INDEX
from gantune.distributed import join_processes, without_plugins
from gantune.embedding_generator import stack_adapters
from gantune.embedding_generator.generators import GeneratorSpec, build_generator
from gantune.errors import UserError
from gantune.generation.generate import generate_answers
from gantune.hub.loading import check_vocabulary, load_model, load_tokenizer
from gantune.policy import CausalLMPolicy, checkpoint_layers
from gantune.policy.evaluation import mean_loss
from gantune.policy.micro_batches import MicroBatches
from gantune.policy.positions import check_positions
from gantune.trainer.arguments import PairConfig
from gantune.trainer.callbacks import BestWeights, Health, Interrupts, Limits, NextRow
from gantune.trainer.checkpoints import CheckpointedTrainer, has_ended
from gantune.trainer.held_out import OF_ANSWERS, check_metric
from gantune.trainer.non_finite import share_gradients
from gantune.tuning import encode_training_pairs, hold_out

logger = logging.getLogger(__name__)


class EpochOrder(Sampler[list[int]]):
    """The rows of each step, in the order in which every method takes them; all processes are given all of a step.

    `state()` says which epoch is to come.
    """

    def __init__(self, encoded: Sequence[EncodedPair], args: PairConfig, batch_size: int, state: Any) -> None:
        self.encoded, self.args, self.batch_size, self.state = encoded, args, batch_size, state

    def of_epoch(self, epoch: int) -> list[list[int]]:
        """The rows of each step of an epoch, counted from 1."""
        grouped = self.args.train_sampling_strategy == "group_by_length"
        rows = epoch_rows(self.encoded, self.batch_size, self.args.seed, epoch, grouped)
        return [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.of_epoch(self.state().global_step // max(1, len(self)) + 1))

    def __len__(self) -> int:
        return -(-len(self.encoded) // self.batch_size)


class PairTrainer(CheckpointedTrainer):
    """Trains by the likelihood of the answers to questions, with transformers' own loss.

    ```python
    trainer = PairTrainer("mini", PairConfig(learning_rate=1e-3), train_dataset=pairs, peft_config=LoraConfig(r=8))
    trainer.train()
    ```

    Args:
        model: a causal language model, or its name; its parameters with `requires_grad` are trained in place.
        args: settings.
        train_dataset: questions and answers, whatever [`gantune.data.as_pairs`] takes; needed for [`train`] only.
        eval_dataset: the same, held out: it chooses the weights, by `args.metric_for_best_model`. If None,
            `args.validation_share` of the pairs.
        processing_class: the tokenizer, or its name; the model's own if None.
        peft_config: what is added to the model and trained, see [`build_generator`]; None trains it as it is.
        callbacks: told of every step and epoch, see `transformers.TrainerCallback`. One with `state_dict` and
            `load_state_dict` is saved with every checkpoint.

    Raises:
        UserError: as [`encode_training_pairs`]; if nothing is held out for early stopping; if rows cannot be packed.
    """

    config_class = PairConfig
    holds_out_always = False
    """Whether `validation_share` holds pairs out without early stopping, too."""

    def __init__(
        self,
        model: PreTrainedModel | str,
        args: PairConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: PreTrainedTokenizerBase | str | None = None,
        *,
        peft_config: GeneratorSpec | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        args = self.config_class() if args is None else args
        if processing_class is None:
            processing_class = model if isinstance(model, str) else model.config._name_or_path
        tokenizer = load_tokenizer(processing_class) if isinstance(processing_class, str) else processing_class
        model = load_model(model) if isinstance(model, str) else model
        check_vocabulary(tokenizer, model.get_input_embeddings().weight.shape[0], type(self).__name__)
        self.pad_token_id = pad_token_id(tokenizer)
        training, held_out = self._encode(train_dataset, eval_dataset, tokenizer, args)
        if held_out:
            check_metric(args.metric_for_best_model, [row.pair for row in held_out])
        self._check_lengths(model, training, args)
        self.args = args
        with torch.random.fork_rng():  # the same seed gives the same networks, whatever was drawn before
            torch.manual_seed(args.seed)
            model = self.build_networks(model, peft_config)
        self.parallel = join_processes(args.device, model)
        args._n_gpu = min(args.n_gpu, 1)  # as transformers does where it must not copy the model to every GPU
        args.average_tokens_across_devices = False  # losses are shares of the whole batch's already
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        self.names, self.parameters = [name for name, _ in named], [parameter for _, parameter in named]
        self.limits, self.interrupts = Limits(args, model, self.parallel), Interrupts(self.parallel)
        self.best = (
            BestWeights(self.parameters, args, self.warmup_steps, bool(held_out)) if self._keeps(held_out) else None
        )
        own = [self.limits, self.interrupts, self.best, Health(args.max_completion_length), NextRow(self)]
        with without_plugins(), _own_settings_kept(model):
            super().__init__(
                model=model,
                args=args,
                train_dataset=training,
                eval_dataset=held_out or None,
                processing_class=tokenizer,
                data_collator=self.collate,
                callbacks=[*(callback for callback in own if callback), *callbacks],
            )
        self.is_distributed_loading_by_transformers = True  # so that accelerate wraps nothing, see `shared_step`
        self.order = EpochOrder(training, args, args.train_batch_size * self.parallel.size, lambda: self.state)
        self.micro_batches = MicroBatches(args.micro_batch_size or None, self.parallel)
        if args.gradient_checkpointing:
            checkpoint_layers(model)
        if args.packing and training:
            check_packing(model, training)
        self._figures: dict[str, list[float]] = defaultdict(list)
        self._begin_row()

    def __repr__(self) -> str:
        trained, every = self.get_nb_trainable_parameters()
        losses = [row["loss"] for row in self.state.log_history if "loss" in row]
        base = self.model.config._name_or_path or type(self.model).__name__
        done = f"{self.state.global_step} steps done{f', last loss {losses[-1]:.3f}' if losses else ''}"
        return f"{type(self).__name__}({base}: {trained:,} trainable parameters, {trained / every:.2%}; {done})"

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """How many parameters are trained, and how many there are, as peft counts them."""
        trained = sum(parameter.numel() for parameter in self.parameters)
        return trained, sum(parameter.numel() for parameter in self.model.parameters())

    def print_trainable_parameters(self) -> None:
        """What is trained, all there is, and per cent, as peft prints it."""
        trained, every = self.get_nb_trainable_parameters()
        print(f"trainable params: {trained:,d} || all params: {every:,d} || trainable%: {100 * trained / every:.4f}")

    # ------------------------------------------------------------------------------------------------- training

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> TrainOutput:
        """Train, and put the best weights back.

        Args:
            resume_from_checkpoint: True goes on from the newest whole checkpoint in `args.output_dir`, or begins if
                there is none; a folder goes on from the one it is. On the CPU what comes out is equal to the bit to a
                training that was never killed. Ctrl-C finishes the step and saves it.
            kwargs: see `transformers.Trainer.train`.

        Raises:
            UserError: if there is no pair to train on, or nothing to train, or the checkpoint is of another training.
            FloatingPointError: if a loss or a gradient is not finite; the last good weights are put back first.
            KeyboardInterrupt: after the step that was interrupted is saved.
        """
        if not self.train_dataset:
            raise UserError("no pair to train on: expected train_dataset")
        if not self.parameters:
            raise UserError("nothing to train: all of the model is frozen, expected peft_config")
        checkpoint = self._checkpoint(resume_from_checkpoint)
        self._begin_row()
        if self.eval_dataset:
            _ = self.policy  # before the first step: it fuses activations, which changes rounding, and tries the head
        set_seed(self.args.seed)
        torch.manual_seed(self.args.seed + self.parallel.rank)  # for dropout; samples are drawn by the sampler
        self.parallel.share(self.shared_tensors())
        with self.limits, self.interrupts, _own_settings_kept(self.model), without_plugins():
            self.model.config.use_cache = self.args.use_cache  # keys and values are of no use to a loss
            try:
                if checkpoint and has_ended(checkpoint):
                    output = self._ended(checkpoint)
                else:
                    output = super().train(resume_from_checkpoint=checkpoint and str(checkpoint), **kwargs)
            except FloatingPointError as error:
                if self.best is None:
                    raise
                epoch = self.best.restore()
                raise FloatingPointError(f"{error}; the weights are those after epoch {epoch:.3g}") from error
        if self.interrupts.asked:
            raise KeyboardInterrupt
        if self.best is not None and self.best.best is not None:
            epoch = self.best.restore()
            logger.info("kept the weights of epoch %.3g, held-out %s %.3f", epoch, *self.best.measure())
        self.model.eval()
        return output

    def training_step(self, model: nn.Module, inputs: dict[str, Tensor], num_items_in_batch: Any = None) -> Tensor:
        """The loss of a batch, of which each process has its rows, in micro-batches; gradients are left behind."""
        step, rows = super().training_step, len(inputs["input_ids"])

        def loss_of_parts() -> Tensor:
            self.clear_gradients()
            parts = ({name: value[a:b] for name, value in inputs.items()} for a, b in self.micro_batches.of(rows))
            return sum((step(self.model, part, num_items_in_batch) for part in parts), self._tr_loss.new_zeros(()))

        return self.shared_step("likelihood loss", self.micro_batches.run(rows, loss_of_parts))

    def clear_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def shared_step(self, name: str, loss: Tensor) -> Tensor:
        """Add up the gradients of all processes, each of its share of a batch, and refuse what is not finite.

        Nothing is wrapped by DDP: the policy is called in stages, which would leave its gradients unreduced.

        Args:
            name: of the loss, for what goes wrong.
            loss: of this process's share.

        Returns:
            What the mean over the processes is the loss of the whole batch of.

        Raises:
            FloatingPointError: naming the parameter; nothing is stepped.
        """
        share_gradients(name, loss, zip(self.names, self.parameters, strict=True), self.parallel)
        return loss * self.parallel.size

    def compute_loss(self, model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """See `transformers.Trainer.compute_loss`; what is frozen has no dropout unless it is asked for."""
        self.set_dropout()
        return super().compute_loss(model, *args, **kwargs)

    def set_dropout(self) -> None:
        """Put the adapters into training mode, and the base model too if its dropout is asked for."""
        if not self.args.disable_dropout:
            self.model.train()
            return
        if self.model.training:
            self.model.eval()
        for part in self.adapters:
            part.train()

    def unset_dropout(self) -> None:
        """Undo [`set_dropout`]."""
        for part in self.adapters if self.args.disable_dropout else (self.model,):
            part.eval()

    @cached_property
    def drops_out(self) -> bool:
        """Whether [`set_dropout`] changes anything."""
        of_adapters = (module for part in self.adapters for module in part.modules())
        return not self.args.disable_dropout or any(isinstance(each, nn.Dropout) and each.p for each in of_adapters)

    @cached_property
    def adapters(self) -> list[nn.Module]:
        """The parts of the model that are adapters."""
        parts = []
        for module in self.model.modules():
            if isinstance(module, BaseTunerLayer):
                parts += [
                    getattr(module, name, None) for name in (*module.adapter_layer_names, *module.other_param_names)
                ]
            elif isinstance(module, PeftModel):
                parts.append(getattr(module, "prompt_encoder", None))
        return [part for part in parts if isinstance(part, nn.Module)]

    def build_networks(self, model: PreTrainedModel, generator: GeneratorSpec | None) -> PreTrainedModel:
        """The model with what is to be trained; everything that draws its first weights."""
        return model if generator is None else stack_adapters(model, build_generator(generator, self.args))

    def warmup_steps(self, steps: int) -> int:
        """How many of so many steps are likelihood alone."""
        return steps

    def shared_tensors(self) -> list[Tensor]:
        """What all processes have to begin with alike, trained or not."""
        return self.parameters

    # ----------------------------------------------------------------------------------------- evaluating, logging

    @cached_property
    def policy(self) -> CausalLMPolicy:
        """The policy that the model is; see [`CausalLMPolicy`]."""
        return CausalLMPolicy(self.model, end_token_id(self.args.prompt_template(), self.tokenizer), self.pad_token_id)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.processing_class

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> dict:
        """Negative log-likelihood of held-out answers at zero noise, nats a token, as `eval_loss`.

        Beside it `args.metric_for_best_model`, if that is of greedy answers; both in the precision of training.
        `eval_dataset` is as in the constructor, what is held out if None; `ignore_keys` are of other models.
        """
        encoded = self.eval_dataset
        if eval_dataset is not None and eval_dataset is not encoded:
            encoded = encode_training_pairs(as_pairs(eval_dataset, name="eval_dataset"), self.tokenizer, self.args)
        if not encoded:
            raise UserError("nothing to evaluate on: expected eval_dataset, or --validation-share above 0")
        policy = self.policy
        policy.model.eval()
        rows = self.micro_batches.size or self.args.per_device_train_batch_size
        with self.accelerator.autocast():
            metrics = {f"{metric_key_prefix}_loss": mean_loss(policy, encoded, rows, self.parallel)}
            if (name := self.args.metric_for_best_model) in OF_ANSWERS:
                pairs = [row.pair for row in encoded]
                asked = [pair.question for pair in pairs]
                answers = generate_answers(self.model, self.tokenizer, asked, self.args, batch_size=rows)
                metrics[f"{metric_key_prefix}_{name}"] = OF_ANSWERS[name](pairs, answers)
        self.log(dict(metrics))
        if self.best is not None and encoded is self.eval_dataset:  # other pairs choose nothing
            self.best.weigh(self.args, self.state, self.control, metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def note(self, phase: str, figures: dict[str, float | None]) -> None:
        """Put figures of a step into the next row of the log, which has their means since the row before.

        Its phase is adversarial if one of its steps is, else that of the last one.
        """
        if self._phase != "adversarial":
            self._phase = phase
        for name, value in figures.items():
            if value is not None:
                self._figures[name].append(value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """See `transformers.Trainer.log`; a row of steps has its `phase`, `tokens` and what was noted.

        The last row, of the whole training, has the `tokens` after the last row of steps.
        """
        if "loss" in logs or "discriminator_step" in logs:
            noted = {name: math.fsum(values) / len(values) for name, values in self._figures.items()}
            logs.update({"phase": self._phase} | noted | {"tokens": self.limits.new_tokens()} | logs)
            self._begin_row()
        elif "train_runtime" in logs:
            logs["tokens"] = self.limits.new_tokens()
        super().log(logs, start_time)

    def _begin_row(self) -> None:
        self._figures.clear()
        self._phase = "likelihood"

    # --------------------------------------------------------------------------- parts of transformers' own training

    def create_accelerator_and_postprocess(self) -> None:
        """See `transformers.Trainer`; accelerate has nothing to do for a divided model, and refuses some on the CPU."""
        divided = {module: module._tp_size for module in self.model.modules() if vars(module).get("_tp_size")}
        for module in divided:
            module._tp_size = None
        super().create_accelerator_and_postprocess()
        for module, size in divided.items():
            module._tp_size = size

    def collate(self, rows: Sequence[EncodedPair]) -> Any:
        """The model's inputs of some rows: one pair a row, or several with `args.packing`."""
        if self.args.packing:
            limit = self.args.max_prompt_length + self.args.max_completion_length
            return packed_inputs(rows, self.pad_token_id, limit, mask_dtype(self.model))
        return likelihood_inputs(collate(rows, self.pad_token_id))

    def get_train_dataloader(self) -> DataLoader:
        """Batches in the given order."""
        own = torch.Generator()  # an epoch draws a number, which is not to come from torch's global one
        return DataLoader(self.train_dataset, batch_sampler=self.order, collate_fn=self.data_collator, generator=own)

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Tensor | None:
        """Labels of the whole batch, which every process is given."""
        return sum(inputs["labels"][:, 1:].ne(IGNORE_INDEX).sum() for inputs in batch_samples).to(device)

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        return self.accelerator.clip_grad_norm_(self.parameters, self.args.max_grad_norm)

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # transformers' counts all parameters in every step

    def _sync_replicated_trainable_parameters(self, model: nn.Module) -> None:
        """Nothing: [`train`] and [`shared_step`] do it."""

    # -------------------------------------------------------------------------------------------------------- parts

    def _encode(
        self, training: Any, held_out: Any, tokenizer: PreTrainedTokenizerBase, args: PairConfig
    ) -> tuple[list[EncodedPair], list[EncodedPair]]:
        """Tokens of the pairs to train on and of those held out."""
        if training is None:
            return [], []
        encoded, kept = encode_training_pairs(as_pairs(training, name="train_dataset"), tokenizer, args), []
        if held_out is not None:
            kept = encode_training_pairs(as_pairs(held_out, name="eval_dataset"), tokenizer, args)
        elif self.holds_out_always or args.early_stopping_patience:
            encoded, kept = hold_out(encoded, args.validation_share, args.seed)
        if args.early_stopping_patience and not kept:
            raise UserError(
                f"--early-stopping-patience {args.early_stopping_patience}: --validation-share {args.validation_share} "
                "holds no pair out, expected more"
            )
        return encoded, kept

    def _check_lengths(self, model: PreTrainedModel, encoded: Sequence[EncodedPair], args: PairConfig) -> None:
        """Refuse pairs that are longer than what the model can read."""
        longest = max(encoded, key=lambda row: len(row.prompt_ids) + len(row.answer_ids), default=None)
        if longest is not None:
            check_positions(model, len(longest.prompt_ids), len(longest.answer_ids))

    def _keeps(self, held_out: Sequence[EncodedPair]) -> bool:
        """Whether copies of the weights are kept: to choose from, or to go back to."""
        return bool(held_out)


@contextmanager
def _own_settings_kept(model: PreTrainedModel) -> Iterator[None]:
    """Put back what transformers' trainer writes into the settings of the base model."""
    names = ("use_cache", "bos_token_id", "eos_token_id", "pad_token_id")
    holders = [held for held in (model.config, getattr(model, "generation_config", None)) if held is not None]
    before = [(held, name, getattr(held, name)) for held in holders for name in names if hasattr(held, name)]
    try:
        yield
    finally:
        for held, name, value in before:
            setattr(held, name, value)
