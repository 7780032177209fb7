"""What one process, or several launched together, come to: `python -m tests.parallel_training FILE JSON`.

The JSON holds what is asked by name, each with the `settings` of LanguageGAN, whose batch is that of all processes
together, and with `questions`, of the batch whose gradients are taken; without them it is trained. Optional are
`unpaired`, questions and answers; `divided`, the folder of a model, and its `sharding`;
`checkpoints`, a directory; `stop_after`, steps after which the last process notes a Ctrl-C; and `break_after`, steps
after which a weight of it becomes NaN. With `pairs` it is PairTrainer's training, with so many of them. The first
process writes FILE.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gantune.data import collate, encode_pairs
from gantune.distributed import is_divided
from gantune.hub.loading import load_model
from gantune.trainer.arguments import LanguageGANConfig, PairConfig
from gantune.trainer.language_gan import LanguageGAN
from gantune.trainer.pair_trainer import PairTrainer
from gantune.trainer.self_play import SelfPlay
from gantune.trainer.unpaired import Unpaired
from tests.test_language_gan import PAIRS, QUIET, SMALL, build
from tests.tiny_models import TINY_MODELS
from tests.tiny_tokenizer import tiny_tokenizer

WHOLE_BATCH = 4


def without_dropout(gan: LanguageGAN) -> LanguageGAN:
    for module in gan.discriminator.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return gan


def divided(asked: dict[str, Any]) -> LanguageGAN:
    """A trainer of the model in a folder, with its weights divided over the processes if there are several."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    model = load_model(asked["divided"], sharding=asked["sharding"] if several else "none")
    assert any(map(is_divided, model.parameters())) == several
    args = LanguageGANConfig(**QUIET | SMALL | asked["settings"])
    return LanguageGAN(model, args, PAIRS, processing_class=tiny_tokenizer())


def gradients(gan: LanguageGAN, questions: int) -> dict[str, Any]:
    """Of a likelihood step, a discriminator step and a generator step, unclipped, and the figures of the latter two."""
    args = gan.args
    limits = args.max_prompt_length, args.max_completion_length, args.too_long
    batch = collate(encode_pairs(PAIRS[:questions], gan.tokenizer, "plain", *limits)[0], gan.pad_token_id)
    gan.likelihood_step(batch)
    found = {"likelihood": [p.grad.clone() for p in gan.parameters]}
    rollout = gan.sample(batch, for_update=True)
    figures = gan.discriminator_step(batch, rollout)
    found["discriminator"] = [p.grad.clone() for p in gan.discriminator.parameters()]
    figures |= gan.generator_step(batch, rollout)
    figures["grad_norm"] = nn.utils.get_total_norm([p.grad for p in gan.parameters]).item()
    found["generator"] = [p.grad.clone() for p in gan.parameters]
    return found | {"figures": figures, "answers": gan.texts(rollout)}


def watch_steps(gan: LanguageGAN, asked: dict[str, Any]) -> None:
    """Make the last process note a Ctrl-C, or break, after some steps."""
    step, steps = LanguageGAN.likelihood_step, []

    def watched(self: LanguageGAN, *arguments: Any) -> dict[str, float]:
        figures = step(self, *arguments)
        steps.append(figures)
        if gan.parallel.rank == gan.parallel.size - 1:
            if len(steps) == asked.get("stop_after"):
                os.kill(os.getpid(), signal.SIGINT)
            if len(steps) == asked.get("break_after"):
                gan.parameters[0].data.fill_(float("nan"))
        return figures

    LanguageGAN.likelihood_step = watched


def history(trainer: PairTrainer) -> str:
    """All rows, but for the summary at the end."""
    return json.dumps([row for row in trainer.state.log_history if "train_runtime" not in row])


def leave(asked: dict[str, Any]) -> dict[str, Any]:
    """What comes of one thing that is asked; settings of self-play are for that."""
    sharers = 1 if "divided" in asked else int(os.environ.get("WORLD_SIZE", "1"))
    settings = {"per_device_train_batch_size": WHOLE_BATCH} | asked["settings"]
    settings["per_device_train_batch_size"] //= sharers
    if "self_play_scale" in settings:
        scale, args = settings.pop("self_play_scale"), LanguageGANConfig(**QUIET | SMALL | settings)
        game = SelfPlay(
            TINY_MODELS["gpt2"](), args, PAIRS, processing_class=tiny_tokenizer(), scale=scale, peft_config="embedding"
        )
        game.train()
        return {"history": history(game), "parameters": [p.detach() for p in game.parameters]}
    if "pairs" in asked:
        args = PairConfig(**QUIET | settings)
        trainer = PairTrainer(TINY_MODELS["gpt2"](), args, PAIRS[: asked["pairs"]], processing_class=tiny_tokenizer())
        trainer.train()
        return {"history": history(trainer), "parameters": [p.detach() for p in trainer.parameters]}
    if "checkpoints" in asked:
        settings |= {"output_dir": asked["checkpoints"], "save_strategy": "steps", "save_steps": 2}
    asked = asked | {"settings": settings}
    data = {"unpaired": Unpaired(*asked["unpaired"])} if "unpaired" in asked else {}
    gan = without_dropout(divided(asked) if "divided" in asked else build(**settings, **data))
    left: dict[str, Any] = {"size": gan.parallel.size}
    if "questions" in asked:
        return left | gradients(gan, asked["questions"])
    step = LanguageGAN.likelihood_step
    watch_steps(gan, asked)
    try:
        gan.train(resume_from_checkpoint="checkpoints" in asked)
    except (KeyboardInterrupt, FloatingPointError) as stopped:
        left["stopped"] = f"{type(stopped).__name__}: {stopped}"
    finally:
        LanguageGAN.likelihood_step = step
    left["divided"] = any(map(is_divided, gan.model.parameters()))
    return left | {"parameters": [p.detach() for p in gan.parameters], "history": history(gan)}


def main(file: Path, asked: dict[str, dict[str, Any]]) -> None:
    left = {name: leave(of_one) for name, of_one in asked.items()}
    if int(os.environ.get("RANK", "0")) == 0:
        torch.save(left, file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
