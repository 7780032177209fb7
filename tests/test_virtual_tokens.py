"""Virtual tokens: where they stand, what goes on from them, and that `mle:prompt` is the method prompt-tuning."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from peft import CPTConfig, LoraConfig, PeftModel, PromptEncoderConfig, PromptTuningConfig
from transformers import MistralConfig, MistralForCausalLM

from baselines import METHODS
from gantune.data import Pair
from gantune.embedding_generator import load_stack, save_stack, stack_adapters
from gantune.embedding_generator.generators import build_generator
from gantune.embedding_generator.virtual_tokens import VirtualTokensModel, insert, num_virtual_tokens
from gantune.errors import UserError
from gantune.generation.decoding import Decoding, decode_answers
from gantune.generation.generate import generate_answers
from gantune.policy import CausalLMPolicy
from gantune.policy.evaluation import answer_losses
from gantune.trainer.arguments import LanguageGANConfig
from gantune.trainer.callbacks import rows_of
from gantune.trainer.config import GameConfig
from gantune.trainer.language_gan import LanguageGAN
from tests.test_policy_prefill import WINDOW, pairs
from tests.tiny_models import EOS_ID, PAD_ID, TINY_MODELS, build
from tests.tiny_tokenizer import tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`")

VIRTUAL = 5
MODELS = {
    "gpt2": TINY_MODELS["gpt2"],
    "llama": TINY_MODELS["llama"],
    "mistral, window 4": lambda: build(MistralForCausalLM, MistralConfig, WINDOW),
}
CONFIGS = {
    "prompt": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=VIRTUAL),
    "p-tuning": PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=VIRTUAL),
}
PAIRS = [Pair(f"who is n{'x' * i}?", f"n{i} is {'old' if i % 2 else 'a cook'}.") for i in (0, 3, 9, 11, 2, 5)]
LIMITS = {"num_train_epochs": 3, "per_device_train_batch_size": 4, "max_prompt_length": 30, "max_completion_length": 8}
RATE = 3e-2
QUIET = {"learning_rate": RATE, "use_cpu": True, "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True}


def adapted(family: str = "gpt2", method: str = "prompt") -> VirtualTokensModel:
    torch.manual_seed(1)
    return stack_adapters(MODELS[family](), [deepcopy(CONFIGS[method])]).eval()


@torch.no_grad()
def by_hand(model: VirtualTokensModel, base: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    """Next-token logits of one unpadded row: the untouched base model on the virtual embeddings and the tokens'."""
    tokens = base.get_input_embeddings()(torch.tensor([ids]))
    return base(inputs_embeds=torch.cat([model.get_prompt(1), tokens], dim=1)).logits[0, -1]


def test_virtual_columns_stand_between_padding_and_tokens():
    real = torch.tensor([[0, 0, 7, 8], [1, 2, 3, 4]])
    virtual = torch.tensor([[-1, -2], [-3, -4]])
    found = insert(virtual, real, torch.tensor([[2], [0]]))
    assert found.tolist() == [[0, 0, -1, -2, 7, 8], [-3, -4, 1, 2, 3, 4]]
    assert insert(virtual, real, None).tolist() == [[-1, -2, 0, 0, 7, 8], [-3, -4, 1, 2, 3, 4]]
    wide = insert(virtual[..., None].expand(-1, -1, 3), real[..., None].expand(-1, -1, 3), torch.tensor([[2], [0]]))
    assert torch.equal(wide, found[..., None].expand(-1, -1, 3))


@pytest.mark.parametrize("family", MODELS)
def test_padded_rows_and_steps_from_a_cache_are_unpadded_rows(family):
    model, base, batch = adapted(family), MODELS[family](), pairs()
    policy = CausalLMPolicy(model, EOS_ID, PAD_ID)
    assert policy.virtual_tokens == num_virtual_tokens(model) == VIRTUAL and num_virtual_tokens(base) == 0
    torch.manual_seed(2)
    rollout = policy.rollout(batch, max_new_tokens=6)
    scored = policy.score(rollout)
    assert rollout.answer_mask.sum() > 10
    for row in range(len(batch)):
        ids = batch.prompt_ids[row][batch.prompt_mask[row].bool()].tolist()
        for column in range(int(rollout.answer_mask[row].sum())):
            log_probs, token = by_hand(model, base, ids).log_softmax(-1), int(rollout.answer_ids[row, column])
            assert rollout.log_probs[row, column].item() == pytest.approx(log_probs[token].item(), abs=1e-4)
            assert scored[row, column].item() == pytest.approx(log_probs[token].item(), abs=1e-4)
            ids.append(token)


@pytest.mark.parametrize("family", MODELS)
def test_completions_go_on_from_their_prefixes(family):
    model, base, batch = adapted(family), MODELS[family](), pairs()
    policy = CausalLMPolicy(model, EOS_ID, PAD_ID)
    torch.manual_seed(2)
    sampled = policy.rollout(batch, max_new_tokens=7, keep_state=True)
    lengths = torch.tensor([1, 3, 2, 1])
    rows = torch.tensor([1, 0, 2, 2])
    assert (sampled.answer_mask.sum(1)[rows] > lengths).all()
    for state in (sampled, policy.prepare(sampled.without_state())):
        completed = policy.complete(replace(state, temperature=1e-4), rows, lengths)  # greedy, but for a tie
        for number, row in enumerate(rows.tolist()):
            prompt = batch.prompt_ids[row][batch.prompt_mask[row].bool()].tolist()
            answer = sampled.answer_ids[row, : lengths[number]].tolist()
            while len(answer) < 7 and answer[-1] != EOS_ID:
                answer.append(int(by_hand(model, base, prompt + answer).argmax()))
            assert completed.answer_ids[number][completed.answer_mask[number].bool()].tolist() == answer


@pytest.mark.parametrize("method", CONFIGS)
def test_what_is_saved_is_read_by_gantune_and_by_peft(method, tmp_path):
    model, batch = adapted(method=method), pairs()
    save_stack(model, tmp_path)
    (folder,) = tmp_path.glob("*/")
    torch.manual_seed(9)  # a load that fails leaves fresh weights
    loaded, ids = load_stack(TINY_MODELS["gpt2"](), tmp_path), batch.prompt_ids[:1]
    with torch.no_grad():
        for other in (loaded, PeftModel.from_pretrained(TINY_MODELS["gpt2"](), str(folder))):
            torch.testing.assert_close(other(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-5, rtol=0)
        scores = [CausalLMPolicy(one, EOS_ID, PAD_ID).score(batch) for one in (model, loaded)]
    torch.testing.assert_close(*scores, atol=1e-5, rtol=0)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())

    if method == "p-tuning":
        with pytest.raises(UserError, match="p_tuning: peft cannot train on what p_tuning saves"):
            load_stack(TINY_MODELS["gpt2"](), tmp_path, is_trainable=True)
        return
    trainable = load_stack(TINY_MODELS["gpt2"](), tmp_path, is_trainable=True).eval()
    assert [p.shape for p in trainable.parameters() if p.requires_grad] == [(VIRTUAL, 32)]
    with torch.no_grad():
        torch.testing.assert_close(trainable(input_ids=ids).logits, loaded(input_ids=ids).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("argument", ["noise", "adapter_names", "alora_offsets"])
def test_what_is_meant_for_other_adapters_is_refused(argument):
    model, ids = adapted(), pairs().prompt_ids
    with pytest.raises(ValueError, match=f"^{argument}= means nothing to virtual tokens"):
        model(ids, **{argument: torch.ones(len(ids), 3)})
    with pytest.raises(ValueError, match=argument):
        model.generate(input_ids=ids, max_new_tokens=1, **{argument: torch.ones(len(ids), 3)})
    with pytest.raises(ValueError, match="the model has no embedding generator to use it: it has none"):
        generate_answers(model, tiny_tokenizer(), ["who?"], GameConfig(max_completion_length=4), noise=torch.ones(3))


def test_other_prompt_learning_is_refused():
    cpt = CPTConfig(task_type="CAUSAL_LM", cpt_token_ids=[3], cpt_mask=[1], cpt_tokens_type_mask=[1])
    for configs, message in (
        ([cpt], "CPT: of prompt learning methods expected one of PREFIX_TUNING, PROMPT_TUNING, P_TUNING"),
        ([deepcopy(CONFIGS["prompt"]), LoraConfig(task_type="CAUSAL_LM")], "cannot be stacked"),
    ):
        with pytest.raises(UserError, match=message):
            stack_adapters(TINY_MODELS["gpt2"](), configs)


def test_a_prompt_starts_from_the_vocabulary_and_the_seed():
    table = TINY_MODELS["gpt2"]().get_input_embeddings().weight
    drawn = []
    for seed in (0, 0, 1):
        config = LanguageGANConfig(generator="prompt", seed=seed, use_cpu=True)
        gan = LanguageGAN(TINY_MODELS["gpt2"](), config, processing_class=tiny_tokenizer())
        (start,) = gan.parameters
        assert (start[:, None] == table).all(-1).any(-1).all()
        drawn.append(start.detach())
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_the_likelihood_of_the_generator_prompt_is_the_method_prompt_tuning():
    """From the same embeddings, settings and pairs: the same weights, losses and answers, greedy and sampled.

    With a llama, which has no dropout: LanguageGAN trains without it.
    """
    method, tokenizer, text = METHODS.get("prompt-tuning"), tiny_tokenizer(), "Answer the question."
    limits = LIMITS | {
        "per_device_train_batch_size": len(PAIRS)
    }  # what LanguageGAN might hold out, it takes in another order
    changes = {"generator": "prompt", "warmup_share": 1.0, "validation_share": 0.0}
    args = LanguageGANConfig(**limits, **QUIET, **changes)
    gan = LanguageGAN(TINY_MODELS["llama"](), args, PAIRS, processing_class=tokenizer)
    (virtual,) = gan.parameters
    ids = (tokenizer(text)["input_ids"] * 2)[: len(virtual)]
    with torch.no_grad():
        virtual.copy_(TINY_MODELS["llama"]().get_input_embeddings().weight[ids])
    start = virtual.detach().clone()
    gan.train()

    options = {"prompt_tuning_learning_rate": RATE, "prompt_tuning_text": text}
    config = method.config_class(**limits, **options, prompt_tuning_virtual_tokens=len(virtual))
    tuned = method.tune(TINY_MODELS["llama"](), tokenizer, PAIRS, config)
    expected = tuned.model.prompt_encoder["default"].embedding.weight
    assert (expected - start).abs().max() > 0.05
    torch.testing.assert_close(virtual, expected, atol=2e-4, rtol=0)

    losses = answer_losses(gan.model, tokenizer, PAIRS, gan.args)
    assert [nats for nats, _ in losses] == pytest.approx([nats for nats, _ in tuned.losses(PAIRS)], abs=2e-2)
    with torch.no_grad():
        virtual.copy_(expected)  # rounding aside
    assert answer_losses(gan.model, tokenizer, PAIRS, gan.args) == tuned.losses(PAIRS)
    questions = [pair.question for pair in PAIRS]
    for decoding in (Decoding(), Decoding.named("sample", 0.8)):
        tuned.decoding = decoding
        answers = decode_answers(gan.model, tokenizer, questions, gan.args, decoding)
        assert answers == tuned.answer(questions) and len(set(answers)) > 1


@pytest.mark.parametrize("reward", ["token", "monte-carlo"])
def test_virtual_tokens_are_trained_adversarially(reward, tmp_path):
    """The whole loop: sampling, search, the model without them for the KL, and what is saved trained on."""
    config = LanguageGANConfig(
        **LIMITS, **QUIET, reward=reward, warmup_share=0.5, validation_share=0.34, adversarial_every=1,
        num_generations=2, discriminator_warmup_steps=1, search_completions=2, search_stride=3,
    )  # fmt: skip
    tokenizer = tiny_tokenizer()
    gan = LanguageGAN(
        TINY_MODELS["gpt2"](), config, PAIRS, processing_class=tokenizer, peft_config=deepcopy(CONFIGS["prompt"])
    )
    before = {name: parameter.clone() for name, parameter in gan.model.base_model.named_parameters()}
    gan.train()
    steps = [row for row in rows_of(gan.state) if row["phase"] == "adversarial"]
    assert steps and all(row["grad_norm"] > 0 and row["kl"] != 0 for row in steps)
    assert all(torch.equal(before[name], parameter) for name, parameter in gan.model.base_model.named_parameters())
    gan.save_pretrained(tmp_path)
    back = LanguageGAN.from_pretrained(tmp_path, TINY_MODELS["gpt2"](), tokenizer, train_dataset=PAIRS, **QUIET)
    questions = [pair.question for pair in PAIRS]
    assert back.generate(questions) == gan.generate(questions)
    back.train()


def test_registered_generators():
    for name, kind, tokens in (("prompt", PromptTuningConfig, 20), ("p-tuning", PromptEncoderConfig, 20)):
        (config,) = build_generator(name)
        assert type(config) is kind and config.num_virtual_tokens == tokens
