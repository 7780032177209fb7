"""How far rounding grows in a training (entry 27 of the notebook): `OMP_NUM_THREADS=1 python results/reference/ablations/rounding.py`.

Each line trains twice on `mini`, 50 pairs of seed 20 and 30 epochs, the second time with each weight of the frozen model off
by about 1e-7 of itself, as much as float32 rounds. Printed are the distance between the two adapters over the way that one has
gone, at some steps, and the share of tokens of 200 test answers for which the two have another likeliest one.
"""

import itertools

import torch
import transformers
from torch.nn import functional as F
from transformers import TrainerCallback

from baselines import resolve_method
from benchmarks.compare.dataset import DataArguments, read_split
from gantune.embedding_generator.network import EmbeddingGenerator, SmoothEmbeddingGenerator
from gantune.hub.loading import load_model, load_tokenizer

SEED, OFF, EVERY = 20, 1e-7, 70
ACTIVATIONS = {
    "LeakyReLU": EmbeddingGenerator.activation,
    "LeakyReLU(0.5)": lambda x: F.leaky_relu(x, 0.5),
    "none": lambda x: x,
    "SiLU": F.silu,
    "GELU": F.gelu,
    "GELU, tanh": SmoothEmbeddingGenerator.activation,
}
ROWS = [
    ("lora", 8e-3, None),
    *itertools.product(["mle"], [2e-3], ACTIVATIONS),
    *itertools.product(["mle"], [1e-3, 4e-3], ["LeakyReLU", "GELU"]),
    *itertools.product(["gan", "mle-stack", "gan-stack"], [2e-3], ["LeakyReLU", "GELU"]),
    *itertools.product(["mle-stack"], [4e-3, 8e-3], ["LeakyReLU", "GELU"]),
    *itertools.product(["mle", "mle-stack"], [4e-3], ["GELU, tanh"]),
]


class Kept(TrainerCallback):
    """What is trained, at the beginning and every so many steps."""

    def __init__(self):
        self.weights = {}

    def on_train_begin(self, args, state, control, model=None, **_):
        if state.global_step % EVERY == 0:
            trained = [parameter.detach().flatten() for parameter in model.parameters() if parameter.requires_grad]
            self.weights[state.global_step] = torch.cat(trained).clone()

    on_step_end = on_train_begin


def trained(name, rate, off):
    """The adapter's weights by step, and the likeliest tokens of the test answers."""
    method = resolve_method(name)
    rates = {"lora_learning_rate" if name == "lora" else "learning_rate": rate}
    settings = method.config_class(seed=SEED, num_train_epochs=30, **rates)
    transformers.set_seed(SEED)
    split = read_split(DataArguments(dataset="mini-tofu", train_size=50, test_size=200), SEED)
    tokenizer, model = load_tokenizer("mini"), load_model("mini", torch.float32, "cpu")
    drawn = torch.Generator().manual_seed(1)
    for weights in model.state_dict().values():
        weights.mul_(1 + off * torch.randn(weights.shape, generator=drawn))
    kept = Kept()
    tuned = method.tune(model, tokenizer, split.train, settings, [kept]).model.eval()
    rows = [tokenizer(f"{pair.question} {pair.answer}", return_tensors="pt").input_ids for pair in split.test]
    with torch.no_grad():
        return kept.weights, torch.cat([tuned(input_ids=row).logits[0].argmax(-1) for row in rows])


if __name__ == "__main__":
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name, rate, activation in ROWS:
        if activation:
            SmoothEmbeddingGenerator.activation = staticmethod(ACTIVATIONS[activation])
        (weights, tokens), (others, other_tokens) = (trained(name, rate, off) for off in (0.0, OFF))
        way = {step: (others[step] - own).norm() / (own - weights[0]).norm() for step, own in weights.items() if step}
        grown = ", ".join(f"{apart:.1e} after {step}" for step, apart in way.items())
        share = (tokens != other_tokens).float().mean()
        print(f"{name}, {rate:g}, {activation}: {grown} steps; {share:.2%} other tokens", flush=True)
