"""Self-play fine-tuning, SPIN (Chen et al. 2024, arXiv:2401.01335): prefer the true answer to one's own earlier one."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from gantune.data import Batch, EncodedPair, Pair, batches, end_token_id, pad_token_id
from gantune.diagnostics import write_json
from gantune.distributed import join_processes
from gantune.embedding_generator import save_stack, stack_adapters
from gantune.embedding_generator.generators import build_generator
from gantune.errors import UserError
from gantune.policy import CausalLMPolicy, Rollout
from gantune.policy.evaluation import mean_loss
from gantune.policy.micro_batches import MicroBatches
from gantune.policy.sampler import Sampler
from gantune.seqgan import likelihood_loss
from gantune.trainer.budget import Budget
from gantune.trainer.checkpoints import Checkpoints
from gantune.trainer.config import LanguageGANConfig
from gantune.trainer.interrupts import Interrupts
from gantune.trainer.observer import Observer, Silent
from gantune.trainer.optimizers import adamw, why_not
from gantune.trainer.training_run import TrainingRun
from gantune.trainer.updates import update
from gantune.tuning import encode_training_pairs, hold_out

CONFIG_FILE = "self_play.json"


@dataclass
class SelfPlayConfig(LanguageGANConfig):
    """Settings of [`SelfPlay`]: those of LanguageGAN without discriminator, reward and advantage, and a scale.

    `adversarial_weight` is that of the preference loss, `likelihood_weight` that of the likelihood beside it.

    Args:
        self_play_scale: lambda in the preference loss; the paper's first iterations have 0.1.

    Raises:
        UserError: if a value is out of range.
    """

    _argument_group_name = "self-play: beside the options of gan"

    self_play_scale: float = field(default=0.1, metadata={"help": "of the log-prob ratios in the preference loss"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.self_play_scale <= 0:
            raise UserError(f"--self-play-scale {self.self_play_scale}: expected above 0")


class Game(NamedTuple):
    """A batch as the opponent left it.

    Args:
        true: B questions and true answers.
        played: the opponent's answers to them, with their noise.
        true_log_probs: `[B]`, of the true answers under the opponent and the same noise.
    """

    true: Batch
    played: Rollout
    true_log_probs: Tensor

    def rows(self, start: int, stop: int) -> Game:
        """The rows from `start` up to, not including, `stop`."""
        return Game(self.true.rows(start, stop), self.played.rows(start, stop), self.true_log_probs[start:stop])


def preference_loss(true_ratios: Tensor, played_ratios: Tensor, scale: float) -> Tensor:
    """- log sigmoid(lambda (log p(y)/p_t(y) - log p(y')/p_t(y'))), the mean over questions: the paper's L_SPIN.

    Args:
        true_ratios: `[B]` log p / p_t of the true answers y, p_t being the opponent.
        played_ratios: `[B]` the same of the opponent's answers y'.
        scale: lambda.
    """
    return -F.logsigmoid(scale * (true_ratios - played_ratios)).mean()


class SelfPlay:
    """Tunes an adapter on a frozen model: likelihood warm-up, then each epoch against the policy that entered it.

    At the start of a self-play epoch the policy answers all of the epoch's questions, one answer each; the epoch's
    steps then raise the true answers over these. A sequence has one noise vector, in play and in both scores.

    Args:
        model: the language model; it is frozen, and wrapped in place by the adapter.
        tokenizer: its tokenizer, with an end-of-sequence token.
        config: settings.

    Raises:
        UserError: if the generator is not known, or the optimiser cannot be had here.
    """

    judged, unpaired = False, None  # what a training run asks of LanguageGAN: no discriminator, no other data

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: SelfPlayConfig) -> None:
        self.config, self.tokenizer, self.pad_token_id = config, tokenizer, pad_token_id(tokenizer)
        with torch.random.fork_rng():  # the same seed gives the same networks, whatever was drawn before
            torch.manual_seed(config.seed)
            self.model = stack_adapters(model, build_generator(config.generator))
        self.policy = CausalLMPolicy(self.model, end_token_id(config.prompt_template(), tokenizer), self.pad_token_id)
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        if reason := why_not(config.optimizer, model.device):
            raise UserError(reason)
        self.optimizer = adamw(self.parameters, config.learning_rate, config.optimizer)
        self.parallel = join_processes(model.device)
        self.sampler = Sampler(
            self.policy, MicroBatches(parallel=self.parallel), config.max_new_tokens, config.temperature
        )
        self.games: list[Game] = []  # what is left of the present epoch's
        self.history: list[dict[str, Any]] = []

    def train(
        self, pairs: Sequence[Pair], observer: Observer | None = None, checkpoints: Checkpoints | None = None
    ) -> list[dict[str, Any]]:
        """Likelihood for `warmup_share` of the steps, self-play for the others, choice of the best weights.

        Args:
            pairs: questions and true answers.
            observer: told of each step and epoch. If it has `state_dict` and `load_state_dict`, it resumes as well.
            checkpoints: where the whole state of the training is kept, and gone on from if there is one; on the CPU
                what comes out is then equal to the bit. Ctrl-C finishes the step and saves it.

        Returns:
            The history, one row a step; also in `history`.

        Raises:
            UserError: if there is no pair to train on, or the checkpoints are of another training.
            FloatingPointError: if a loss or a gradient is not finite; the last good weights are put back first.
            KeyboardInterrupt: after the step that was interrupted is saved.
        """
        set_seed(self.config.seed)
        self.sampler.seed(self.config.seed)
        training, validation = self._encode(pairs)
        with Budget(self.config, self.model, self.parallel) as budget, Interrupts() as interrupts:
            held_out_loss = partial(self._validation_loss, validation)
            run = TrainingRun(self, training, held_out_loss, budget, observer or Silent(), checkpoints, interrupts)
            run.follow(partial(self._train, validation=validation))
        return self.history

    def _train(self, run: TrainingRun, validation: list[EncodedPair]) -> None:
        config, warmup = self.config, run.warmup
        run.begin()
        for epoch in range(run.epoch, config.epochs + 1):
            drawn = batches(run.training, config.batch_size, self.pad_token_id, config.seed, epoch)
            drawn = [batch.to(self.model.device) for batch in drawn]
            for number in range(run.batches, len(drawn)):
                if run.over:
                    break
                started = time.perf_counter()
                if run.step == warmup:
                    run.kept.offer(epoch - 1, self._validation_loss(validation))
                if run.step < warmup:
                    run.done("likelihood", epoch, self.likelihood_step(drawn[number]), started)
                else:
                    self.games = self.games or [self.play(later) for later in drawn[number:]]
                    figures = self.preference_step(self.games[number - len(drawn)])
                    run.done("self-play", epoch, figures, started)
            self.games = []
            run.epoch_ended(epoch)
            if run.over:
                break

    def state_dict(self) -> dict[str, Any]:
        """Everything that training changes, to be saved: adapter, optimiser, the epoch's games, history."""
        return {
            "parameters": [parameter.detach().clone() for parameter in self.parameters],
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state_dict(),
            "games": [(game.true.state_dict(), game.played.state_dict(), game.true_log_probs) for game in self.games],
            "history": self.history,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what [`state_dict`] gave."""
        device = self.model.device
        for parameter, saved in zip(self.parameters, state["parameters"], strict=True):
            parameter.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.load_state_dict(state["sampler"])
        self.games = [
            Game(
                Batch.from_state_dict(true).to(device),
                Rollout.from_state_dict(played).to(device),
                true_log_probs.to(device),
            )
            for true, played, true_log_probs in state["games"]
        ]
        self.history[:] = state["history"]

    @torch.no_grad()
    def play(self, batch: Batch) -> Game:
        """One answer of the present policy to each question, and its log-probs of the true ones."""
        played = self.sampler(batch)
        first, end = self.parallel.rows(len(batch))
        own = torch.zeros(0, device=batch.device)
        if end > first:
            own = self._log_probs(batch.rows(first, end), played.rows(first, end))
        return Game(batch, played, self.parallel.join_rows(own, first, len(batch)))

    def likelihood_step(self, batch: Batch) -> dict[str, float]:
        """One step of maximum likelihood on the true answers: `loss`, in nats a token, and `gradient_norm`."""
        losses, norm = self._update(self._likelihood(batch, 1.0))
        return {"loss": losses["likelihood"], "gradient_norm": norm}

    def preference_step(self, game: Game) -> dict[str, float]:
        """One step of self-play: preference against the opponent, and likelihood.

        Returns:
            `loss` and its weighted parts `preference` and `likelihood`; `margin`, the mean difference of the two
            log-prob ratios in nats; `gradient_norm` before clipping.
        """
        margins: list[float] = []

        def losses() -> Iterator[tuple[str, Tensor]]:
            config, (first, end) = self.config, self.parallel.rows(len(game.true))
            if end > first:
                true, played = self._ratios(game.rows(first, end))
                margins.extend((true - played).tolist())
                weight = config.adversarial_weight * (end - first) / len(game.true)
                yield "preference", weight * preference_loss(true, played, config.self_play_scale)
            yield from self._likelihood(game.true, config.likelihood_weight)

        found, norm = self._update(losses())
        return {
            "loss": sum(found.values()),
            "preference": found["preference"],
            "likelihood": found["likelihood"],
            "margin": fmean(chain.from_iterable(self.parallel.collect(margins))),
            "gradient_norm": norm,
        }

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the adapter as PEFT folders, which [`load_stack`] reads, and the settings as JSON."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        save_stack(self.model, directory)
        write_json(directory / CONFIG_FILE, dataclasses.asdict(self.config))

    def _encode(self, pairs: Sequence[Pair]) -> tuple[list[EncodedPair], list[EncodedPair]]:
        """Tokens of the pairs to train on and of those held out: those that LanguageGAN holds out."""
        encoded = encode_training_pairs(pairs, self.tokenizer, self.config)
        return hold_out(encoded, self.config.validation_share, self.config.seed)

    def _log_probs(self, batch: Batch, played: Rollout) -> Tensor:
        """Log-probs of whole answers, `[B]`, under the noise and the temperature of the rollout."""
        return self.policy.score(batch, noise=played.noise, temperature=played.temperature).sum(dim=1)

    def _ratios(self, game: Game) -> tuple[Tensor, Tensor]:
        """Log-probs of the true and of the played answers, less those under the opponent, each `[B]`."""
        true = self._log_probs(game.true, game.played) - game.true_log_probs
        return true, self._log_probs(game.played, game.played) - game.played.log_probs.sum(dim=1)

    def _likelihood(self, batch: Batch, weight: float) -> Iterator[tuple[str, Tensor]]:
        """`weight` times the likelihood loss of this process's rows, as their share of the whole batch's."""
        noise, (first, end) = self.sampler.noise(len(batch)), self.parallel.rows(len(batch))
        if end > first:
            own = batch.rows(first, end)
            log_probs = self.policy.score(own, noise=None if noise is None else noise[first:end])
            yield "likelihood", weight * own.answer_share(batch) * likelihood_loss(log_probs, own.answer_mask)

    def _update(self, losses: Iterable[tuple[str, Tensor]]) -> tuple[dict[str, float], float]:
        """One clipped optimiser step; see [`update`]."""
        return update(self.optimizer, losses, self.config.max_grad_norm, "loss", self.parallel)

    def _validation_loss(self, validation: list[EncodedPair]) -> float:
        """Negative log-likelihood of the held-out answers at zero noise, nats a token; infinite without any."""
        return mean_loss(self.policy, validation, self.config.batch_size, self.parallel)
