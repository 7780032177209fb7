"""Self-play fine-tuning, SPIN (Chen et al. 2024, arXiv:2401.01335): prefer the true answer to one's own earlier one."""

from __future__ import annotations

from collections import deque
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gantune.data import Batch
from gantune.diagnostics.files import local_path, write_json
from gantune.embedding_generator import save_stack
from gantune.policy import Rollout
from gantune.trainer.arguments import own_settings
from gantune.trainer.policy_trainer import Losses, PolicyTrainer

CONFIG_FILE = "self_play.json"


class Game(NamedTuple):
    """A batch of B questions as the opponent left it: true answers, its own, and `[B]` log-probs of the true ones.

    The latter are the opponent's, under the noise of its own answers.
    """

    true: Batch
    played: Rollout
    true_log_probs: Tensor

    def rows(self, start: int, stop: int) -> Game:
        """The rows from `start` up to, not including, `stop`."""
        return Game(self.true.rows(start, stop), self.played.rows(start, stop), self.true_log_probs[start:stop])


def preference_loss(true_ratios: Tensor, played_ratios: Tensor, scale: float) -> Tensor:
    """- log sigmoid(lambda (log p(y)/p_t(y) - log p(y')/p_t(y'))), the mean over questions: the paper's L_SPIN.

    The ratios are `[B]` log p / p_t of the true answers y and of the answers y' of the opponent p_t; `scale` is lambda.
    """
    return -F.logsigmoid(scale * (true_ratios - played_ratios)).mean()


class SelfPlay(PolicyTrainer):
    """Tunes an adapter on a frozen model: likelihood warm-up, then each epoch against the policy that entered it.

    At the start of a self-play epoch the policy answers all of the epoch's questions, one answer each; the epoch's
    steps then raise the true answers over these. A sequence has one noise vector, in play and in both scores. Of the
    settings of the game those of discriminator, reward and advantage have no use here; `adversarial_weight` is that of
    the preference loss.

    Args:
        args: as in [`PolicyTrainer`]; so are those that are not named here.
        scale: lambda in the preference loss; the paper's first iterations have 0.1.
    """

    def __init__(self, *args: Any, scale: float = 0.1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scale = scale
        self.games: deque[Game] = deque()  # what is left of the present epoch's

    def training_step(self, model: nn.Module, inputs: Batch, num_items_in_batch: Any = None) -> Tensor:
        """Likelihood, and after `warmup_share` of the steps the preference."""
        step = self.state.global_step
        with self.accelerator.autocast():
            if step < self.warmup:
                return self.logged("likelihood", self.likelihood_step(inputs.to(self.args.device)))
            if step == 0 and self.eval_dataset:
                self.evaluate()
            if not self.games:
                epoch, done = divmod(step, len(self.order))
                self.games.extend(self.play(batch) for batch in self._batches(epoch + 1, done))
            return self.logged("self-play", self.preference_step(self.games.popleft()))

    def _batches(self, epoch: int, done: int) -> list[Batch]:
        """What is left of an epoch."""
        rows = self.order.of_epoch(epoch)[done:]
        return [self.collate([self.train_dataset[row] for row in step]).to(self.args.device) for step in rows]

    @torch.no_grad()
    def play(self, batch: Batch) -> Game:
        """One answer of the present policy to each question, and its log-probs of the true ones."""
        played = self.sampler(batch)
        parts = self.micro_batches.of(len(batch))
        own = [self._log_probs(batch.rows(*rows), played.rows(*rows)) for rows in parts]
        own = torch.cat(own) if own else torch.zeros(0, device=batch.device)
        return Game(batch, played, self.parallel.join_rows(own, self.parallel.rows(len(batch))[0], len(batch)))

    def preference_step(self, game: Game) -> dict[str, float]:
        """The gradient of a step of self-play: preference against the opponent, and likelihood.

        Returns:
            `loss` and its weighted parts `preference` and `likelihood`; `margin`, the mean difference of the two
            log-prob ratios in nats.
        """
        margins: list[float] = []
        figures = self.backward("loss", len(game.true), lambda: self._losses(game, margins))
        return figures | {"margin": fmean(chain.from_iterable(self.parallel.collect(margins)))}

    def _losses(self, game: Game, margins: list[float]) -> Losses:
        margins.clear()
        for start, stop in self.micro_batches.of(len(game.true)):
            true, played = self._ratios(game.rows(start, stop))
            margins.extend((true - played).tolist())
            weight = self.args.adversarial_weight * (stop - start) / len(game.true)
            yield "preference", weight * preference_loss(true, played, self.scale)
        yield from self.likelihood_losses(game.true, self.args.likelihood_weight)

    def _log_probs(self, batch: Batch, played: Rollout) -> Tensor:
        """Log-probs of whole answers, `[B]`, under the noise and the temperature of the rollout."""
        return self.policy.score(batch, noise=played.noise, temperature=played.temperature).sum(dim=1)

    def _ratios(self, game: Game) -> tuple[Tensor, Tensor]:
        """Log-probs of the true and of the played answers, less those under the opponent, each `[B]`."""
        true = self._log_probs(game.true, game.played) - game.true_log_probs
        return true, self._log_probs(game.played, game.played) - game.played.log_probs.sum(dim=1)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the adapter as PEFT folders, which [`load_stack`] reads, and the settings as JSON."""
        directory = local_path(directory)
        save_stack(self.model, directory)
        write_json(directory / CONFIG_FILE, own_settings(self.args))

    def tokens(self) -> list[Any]:
        return [*super().tokens(), self.scale]

    def state_dict(self) -> dict[str, Any]:
        games = [(game.true.state_dict(), game.played.state_dict(), game.true_log_probs) for game in self.games]
        return {"games": games}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        device = self.args.device
        self.games = deque(
            Game(Batch.from_state_dict(true).to(device), Rollout.from_state_dict(played).to(device), own.to(device))
            for true, played, own in state["games"]
        )

    def stateful(self) -> dict[str, Any]:
        return super().stateful() | {"games": self}
