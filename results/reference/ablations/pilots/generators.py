"""Pilot: generators with more reach, by likelihood alone, on mini with 50 pairs; a row a training.

    python results/reference/ablations/pilots/generators.py ROWS.jsonl SEEDS TEST CELL=RATE[,RATE...] ...
    python results/reference/ablations/pilots/generators.py --check

All 50 pairs are trained on for 30 epochs, and the last weights tested.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[4]))
import torch
from peft import LoraConfig
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import get_scheduler, set_seed

from gantune.data import batches, decontaminate, encode_pairs, end_token_id, load_pairs, pad_token_id, split_pairs
from gantune.embedding_generator import EmbeddingGeneratorConfig, stack_adapters
from gantune.embedding_generator.layer import EmbeddingGeneratorLayer, generator_layers
from gantune.embedding_generator.network import EmbeddingGenerator
from gantune.evaluation import encoded_losses
from gantune.generation import continue_prompts
from gantune.loading import load_model, load_tokenizer
from gantune.metrics import Rouge
from gantune.policy import CausalLMPolicy
from gantune.seqgan import likelihood_loss
from gantune.tuning import TuningConfig

torch.set_num_threads(1)
PAD, PLACE, MARK = 1, 1999, 1757  # padding; stands for a virtual token; "swer", which ends the question
CONFIG = TuningConfig()


class SeesIds(EmbeddingGenerator):
    """The residual MLP, told which tokens its embeddings are of."""

    def see(self, ids: Tensor) -> None:
        self.ids = ids


class Mixing(SeesIds):
    """Its narrow layer sees the row's earlier tokens too, by `mix`; decoding with a cache keeps their features."""

    before: Tensor | None = None

    def forward(self, embeddings: Tensor, noise: Tensor) -> Tensor:
        from_noise = self.noise_layer(self.noise_scale * noise)
        from_noise = from_noise[:, None] if noise.dim() == 2 else from_noise
        hidden = F.leaky_relu(self.token_layer(self.norm(embeddings)) + from_noise, 0.01)
        narrow, widen = self.hidden_layers
        features = F.leaky_relu(narrow(hidden), 0.01) * (self.ids != PAD)[..., None]
        decoding, new = features.shape[1] == 1, features.shape[1]
        if decoding:
            features = torch.cat([self.before, features], dim=1)
        if not torch.is_grad_enabled():
            self.before = features
        mixed = (features + self.mix(features))[:, -new:]
        return embeddings + self.output_layer(F.leaky_relu(widen(mixed), 0.01))


class Convolution(Mixing):
    """A depthwise causal convolution."""

    def __init__(self, embedding_dim: int, noise_dim: int, *, width: int = 4, **options) -> None:
        super().__init__(embedding_dim, noise_dim, **options)
        channels = self.hidden_layers[0].out_features
        self.width, self.convolution = width, nn.Conv1d(channels, channels, width, groups=channels)

    def mix(self, features: Tensor) -> Tensor:
        return self.convolution(F.pad(features.transpose(1, 2), (self.width - 1, 0))).transpose(1, 2)


class Attention(Mixing):
    """Causal self-attention of four heads; nearer tokens count more (ALiBi, arXiv:2108.12409)."""

    def __init__(self, embedding_dim: int, noise_dim: int, *, heads: int = 4, **options) -> None:
        super().__init__(embedding_dim, noise_dim, **options)
        self.heads, channels = heads, self.hidden_layers[0].out_features
        self.norm_in, self.qkv = nn.LayerNorm(channels), nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def mix(self, features: Tensor) -> Tensor:
        rows, length, channels = features.shape
        real = features.any(dim=-1)
        split = self.qkv(self.norm_in(features)).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        at = torch.arange(length)
        distance = (at[:, None] - at[None]).float()
        slopes = torch.tensor([0.5, 0.125, 0.03, 0.0][: self.heads])
        bias = (-slopes[:, None, None] * distance).masked_fill(distance < 0, -1e9)
        bias = bias[None] + (~real)[:, None, None].float() * -1e9
        mixed = F.scaled_dot_product_attention(*split, attn_mask=bias)
        return self.out(mixed.transpose(1, 2).reshape(rows, length, channels))


class SoftPrompt(SeesIds):
    """Also writes the embeddings of the virtual tokens, from the mean of the question's and the noise.

    `tokens=False`: nothing else is changed. `code=0`: the virtual tokens are the same for all.
    """

    def __init__(self, embedding_dim, noise_dim, *, virtual=4, code=16, tokens=True, **options) -> None:
        super().__init__(embedding_dim, noise_dim, **options)
        self.tokens, self.code = tokens, code
        self.prompt = nn.Parameter(torch.randn(virtual, embedding_dim) * 0.09)
        if code:
            self.pool_norm, self.read = nn.LayerNorm(embedding_dim), nn.Linear(embedding_dim, code)
            self.read_noise, self.write = nn.Linear(noise_dim, code, bias=False), nn.Linear(code, self.prompt.numel())
            nn.init.zeros_(self.write.weight), nn.init.zeros_(self.write.bias)
        if not tokens:
            for part in (self.norm, self.token_layer, self.noise_layer, self.hidden_layers, self.output_layer):
                for name in [name for name, _ in part.named_parameters()]:
                    module = part.get_submodule(name.rpartition(".")[0])
                    delattr(module, name.rpartition(".")[2])

    def forward(self, embeddings: Tensor, noise: Tensor) -> Tensor:
        adapted = super().forward(embeddings, noise) if self.tokens else embeddings
        place = self.ids == PLACE
        if not place.any():
            return adapted
        virtual = self.prompt.expand(len(embeddings), -1, -1)
        if self.code:
            ended = (self.ids == MARK).cumsum(dim=1) > 0
            asked = ((self.ids != PAD) & ~place & ~ended)[..., None].to(embeddings.dtype)
            mean = (self.pool_norm(embeddings) * asked).sum(1) / asked.sum(1)
            code = F.leaky_relu(self.read(mean) + self.read_noise(self.noise_scale * noise), 0.01)
            virtual = virtual + self.write(code).view_as(virtual)
        return adapted.masked_scatter(place[..., None], virtual.to(adapted.dtype))


class BlockGenerators(nn.Module):
    """A residual MLP of its own before each block but the first, with the noise of the one behind the embedding."""

    def __init__(self, blocks, layer: EmbeddingGeneratorLayer, hidden_dims: list[int], noise_dim: int) -> None:
        super().__init__()
        width = layer.embedding_dim
        self.networks = nn.ModuleList(
            EmbeddingGenerator(width, noise_dim, hidden_dims=hidden_dims) for _ in list(blocks)[1:]
        )
        for block, network in zip(list(blocks)[1:], self.networks, strict=True):
            block.register_forward_pre_hook(self.before(network, layer))

    @staticmethod
    def before(network: EmbeddingGenerator, layer: EmbeddingGeneratorLayer):
        def hook(block, args):
            noise = layer._expanded_noise(layer.active_adapters[0], args[0])
            return (network(args[0], noise), *args[1:])

        return hook


def dims(width: int) -> list[int]:
    return [width, width // 2, width]


class Cell:
    """What is tuned: an embedding generator's network and options, blocks' widths, LoRA's rank, virtual tokens."""

    def __init__(self, network=None, options=None, lora=0, blocks=0, virtual=0) -> None:
        self.network, self.options, self.lora, self.blocks, self.virtual = network, options or {}, lora, blocks, virtual

    def build(self, base, seed: int):
        set_seed(seed)
        configs, blocks = [], base.transformer.h
        if self.lora:
            configs.append(LoraConfig(task_type="CAUSAL_LM", r=self.lora, lora_alpha=2 * self.lora))
        if self.network:
            configs.append(EmbeddingGeneratorConfig(network=self.network, network_options=self.options))
        model = stack_adapters(base, configs)
        for layer in generator_layers(model):
            network = next(iter(layer.embedding_generator_network.values()))
            if hasattr(network, "see"):
                layer.register_forward_pre_hook(lambda _, args, network=network: network.see(args[0]))
            if self.blocks:
                model.block_generators = BlockGenerators(blocks, layer, dims(self.blocks), 100)
        return model


def emb(width=96, **more):
    return {"network": "mlp", "options": {"hidden_dims": dims(width)}, **more}


def soft(width=96, lora=0, virtual=4, **options):
    options |= {"hidden_dims": dims(width), "virtual": virtual}
    return Cell(SoftPrompt, options, lora=lora, virtual=virtual)


CELLS = {
    "lora 8": Cell(lora=8),
    # as many parameters as the embedding generator
    "emb": Cell(**emb()),
    "lora 18": Cell(lora=18),
    "emb conv": Cell(Convolution, {"hidden_dims": dims(96)}),
    "emb attention": Cell(Attention, {"hidden_dims": dims(80)}),
    "blocks": Cell(**emb(26, blocks=26)),
    "emb soft": soft(68),
    # as many as the stack
    "stack": Cell(**emb(lora=8)),
    "lora 26": Cell(lora=26),
    "stack conv": Cell(Convolution, {"hidden_dims": dims(96)}, lora=8),
    "stack attention": Cell(Attention, {"hidden_dims": dims(80)}, lora=8),
    "stack blocks": Cell(**emb(26, blocks=26, lora=8)),
    "stack soft": soft(68, lora=8),
    "lora soft": soft(2, lora=8, code=52, tokens=False),
    "stack fixed": soft(96, lora=8, code=0),
    "blocks 81k": Cell(**emb(37, blocks=37)),
}


class Data:
    """A seed's pairs as token ids; `virtual` placeholders before each question."""

    def __init__(self, tokenizer, seed: int, virtual: int, test_size: int) -> None:
        train, test = split_pairs(load_pairs("mini-tofu"), 50, 400, seed)
        train, _ = decontaminate(train, test)
        self.test = test[:test_size]
        self.rows, self.test_rows = (self.encode(pairs, tokenizer, virtual) for pairs in (train, self.test))

    @staticmethod
    def encode(pairs, tokenizer, virtual: int):
        rows, _ = encode_pairs(pairs, tokenizer, CONFIG.prompt_template(), 100, 50, "truncate")
        assert all(row.prompt_ids.count(MARK) == 1 and PLACE not in row.prompt_ids for row in rows)
        return [row._replace(prompt_ids=[PLACE] * virtual + row.prompt_ids) for row in rows]


def train(policy: CausalLMPolicy, rows, rate: float, seed: int) -> int:
    """30 epochs of likelihood; the number of parameters."""
    parameters = [parameter for parameter in policy.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    schedule = get_scheduler("linear", optimizer, 0, 30 * -(-len(rows) // 8))
    for epoch in range(1, 31):
        for batch in batches(rows, 8, policy.pad_token_id, seed, epoch):
            loss = likelihood_loss(policy.score(batch, noise=policy.draw_noise(len(batch))), batch.answer_mask)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
    return sum(parameter.numel() for parameter in parameters)


def evaluate(policy: CausalLMPolicy, tokenizer, data: Data) -> dict:
    prompts = [row.prompt_ids for row in data.test_rows]
    ids = continue_prompts(policy.model, tokenizer, prompts, policy.eos_token_id, 50)
    answers = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
    scores = [row["rougeL"] for row in Rouge().score_pairs(answers, [pair.answer for pair in data.test])]
    losses = encoded_losses(policy, data.test_rows, 32)
    return {
        "rougeL": sum(scores) / len(scores),
        "nll": sum(nats for nats, _ in losses) / sum(tokens for _, tokens in losses),
        "distinct": len(set(answers)) / len(answers),
        "per_question": [
            [round(score, 3), round(nats / n, 3)] for score, (nats, n) in zip(scores, losses, strict=True)
        ],
    }


def check(base, tokenizer) -> None:
    """Decoding with a cache gives what one pass without gives, and no token sees a later one."""
    for name, cell in CELLS.items():
        data = Data(tokenizer, 0, cell.virtual, 6)
        model = cell.build(copy.deepcopy(base), 0)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.02)
        policy = CausalLMPolicy(model, end_token_id(CONFIG.prompt_template(), tokenizer), PAD)
        prompts = [row.prompt_ids for row in data.test_rows]
        written = continue_prompts(model, tokenizer, prompts, policy.eos_token_id, 12)
        for prompt, answer in zip(prompts, written, strict=True):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([prompt + answer])).logits[0]
            assert logits[len(prompt) - 1 : -1].argmax(-1).tolist() == answer, (name, answer)
        print(name, sum(p.numel() for p in model.parameters() if p.requires_grad), tokenizer.decode(written[0]))


def run(base, tokenizer, file: Path, name: str, rate: float, seed: int, test_size: int) -> None:
    """Train and test one cell, unless its row is there."""
    key = {"cell": name, "seed": seed, "rate": rate, "test": test_size}
    if file.exists() and any(key.items() <= json.loads(line).items() for line in file.read_text().splitlines()):
        return
    cell, started = CELLS[name], time.process_time()
    data = Data(tokenizer, seed, cell.virtual, test_size)
    model = cell.build(copy.deepcopy(base), seed)
    policy = CausalLMPolicy(model, end_token_id(CONFIG.prompt_template(), tokenizer), PAD)
    parameters, trained = train(policy, data.rows, rate, seed), time.process_time()
    row = key | {"parameters": parameters, "train_cpu_s": round(trained - started, 1)}
    row |= evaluate(policy, tokenizer, data)
    with file.open("a") as out:
        out.write(json.dumps(row) + "\n")
    print(f"{name:16s} {rate:g} seed {seed} {parameters:6d} ROUGE-L {row['rougeL']:.3f} NLL {row['nll']:.3f} "
          f"distinct {row['distinct']:.2f} {row['train_cpu_s']} s", flush=True)  # fmt: skip


def main() -> None:
    tokenizer, base = load_tokenizer("mini"), load_model("mini")
    assert pad_token_id(tokenizer) == PAD
    if sys.argv[1] == "--check":
        return check(base, tokenizer)
    file, seeds, test_size = Path(sys.argv[1]), [int(seed) for seed in sys.argv[2].split(",")], int(sys.argv[3])
    for seed in seeds:
        for name, rates in (argument.split("=") for argument in sys.argv[4:]):
            for rate in rates.split(","):
                run(base, tokenizer, file, name, float(rate), seed, test_size)


if __name__ == "__main__":
    main()
