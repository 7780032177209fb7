"""The trainers against a loop that is written out here: transformers' training adds nothing and leaves nothing out."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from transformers import PrinterCallback, set_seed

from gantune.data import collate, end_token_id, epoch_rows, load_pairs, pad_token_id
from gantune.embedding_generator import stack_adapters
from gantune.embedding_generator.generators import build_generator
from gantune.hub.loading import load_model, load_tokenizer
from gantune.policy import CausalLMPolicy
from gantune.policy.micro_batches import MicroBatches
from gantune.policy.sampler import Sampler
from gantune.seqgan import likelihood_loss
from gantune.trainer.arguments import LanguageGANConfig
from gantune.trainer.language_gan import LanguageGAN
from gantune.tuning import encode_training_pairs
from tests.test_language_gan import QUIET

pytestmark = pytest.mark.usefixtures("one_thread")
PAIRS = load_pairs("mini-tofu")[:20]


def trainer(**settings) -> LanguageGAN:
    short = {"num_train_epochs": 3, "max_prompt_length": 32, "max_completion_length": 12}
    gan = LanguageGAN("mini", LanguageGANConfig(**QUIET | short | settings), PAIRS)
    gan.remove_callback(PrinterCallback)
    return gan


def batches(gan: LanguageGAN, epoch: int):
    """Of eight pairs, in the order that every method takes them."""
    encoded = encode_training_pairs(PAIRS, gan.tokenizer, gan.args)
    rows = epoch_rows(encoded, 8, 0, epoch)
    return [collate([encoded[row] for row in rows[start : start + 8]], gan.pad_token_id) for start in range(0, 20, 8)]


def stepper(parameters: list[nn.Parameter], steps: int):
    """Takes a step down the gradients: AdamW, clipped to 1, at a rate that falls linearly to 0."""
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, (steps - step) / steps))

    def step() -> None:
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()

    return step


def check_equal(gan: LanguageGAN, parameters: list[nn.Parameter], start: list[torch.Tensor]) -> None:
    """To the bit, and trained."""
    assert len(parameters) == len(gan.parameters) > 0
    assert all(torch.equal(*both) for both in zip(gan.parameters, parameters, strict=True))
    assert not any(torch.equal(*both) for both in zip(gan.parameters, start, strict=True))


def test_likelihood_training_is_the_plain_loop():
    gan = trainer(warmup_share=1.0)
    start = [parameter.detach().clone() for parameter in gan.parameters]
    gan.train()

    tokenizer = load_tokenizer("mini")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = stack_adapters(load_model("mini"), build_generator("embedding"))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    policy = CausalLMPolicy(model, end_token_id(gan.args.prompt_template(), tokenizer), pad_token_id(tokenizer))
    sampler, step = Sampler(policy, MicroBatches(), 12, 1.0), stepper(parameters, 9)
    sampler.seed(0)
    for epoch in (1, 2, 3):
        for batch in batches(gan, epoch):
            model.zero_grad()
            log_probs = policy.score(batch, noise=sampler.noise(len(batch)))
            likelihood_loss(log_probs, batch.answer_mask).backward()
            step()
    check_equal(gan, parameters, start)


def test_adversarial_training_is_the_plain_loop():
    """Likelihood for four steps, three of the discriminator on two rollouts, then every second step is adversarial."""
    settings = {"warmup_share": 0.45, "adversarial_every": 2, "discriminator_warmup_steps": 3,
                "discriminator_warmup_rollouts": 2}  # fmt: skip
    gan, plain = trainer(**settings), trainer(**settings)
    start = [parameter.detach().clone() for parameter in gan.parameters]
    gan.train()

    set_seed(0)
    step = stepper(plain.parameters, 9)
    for number, batch in enumerate(itertools.chain(*(batches(plain, epoch) for epoch in (1, 2, 3)))):
        if number == 4:
            ready = [(batch_of_0, plain.sample(batch_of_0)) for batch_of_0 in batches(plain, 0)[:2]]
            for known in (ready[0], ready[1], ready[0]):
                plain.discriminator_step(*known)
        if number in (4, 6, 8):
            rollout = plain.sample(batch, for_update=True)
            plain.discriminator_step(batch, rollout)
            plain.generator_step(batch, rollout)
        else:
            plain.likelihood_step(batch)
        step()
    check_equal(gan, plain.parameters, start)
    judges = zip(gan.discriminator.parameters(), plain.discriminator.parameters(), strict=True)
    assert all(torch.equal(*both) for both in judges)
