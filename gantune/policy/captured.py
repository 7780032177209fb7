"""Decoding by one step over fixed tensors, which CUDA records once and replays without the host: a CUDA graph.

At a small batch a GPU waits for the host to launch the several hundred kernels of a token; a graph is one launch.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from gantune.distributed import is_divided
from gantune.embedding_generator.virtual_tokens import num_virtual_tokens
from gantune.errors import UserError, first_line
from gantune.policy.decoding import CHECK_EVERY, Beginning, Decoded, decode
from gantune.policy.fixed_step import FixedStep

logger = logging.getLogger(__name__)

CAPACITY_STEP = 64  # capacities are multiples of it, so that questions of other lengths find a graph
KEPT = 4  # graphs, each with its buffers; the one that was used last goes last
PROVEN_STEPS = 2  # of each graph are compared; the second shows that positions move on
WARM_UP_STEPS = 3


def why_not(model: nn.Module) -> str | None:
    """Why a model cannot be decoded over fixed tensors, in a few words; None if nothing is known against it.

    Its layers have to attend to every position, and to take their mask as it comes, in 4D. Sliding windows and chunks
    count columns, of which there are unused ones here. The model may be wrapped by peft.
    """
    base = next(module for module in model.modules() if isinstance(module, PreTrainedModel))
    config = model.config.get_text_config(decoder=True)
    weights = list(model.parameters())
    if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=config).layers):
        return "not every layer has full attention"
    if config._attn_implementation not in ("sdpa", "eager"):
        return f"attention by {config._attn_implementation} takes no 4D mask"
    if (getattr(config, "rope_parameters", None) or {}).get("rope_type") in ("dynamic", "longrope"):
        return "its rotary embedding depends on the length, which the host would have to know"
    if not base._can_compile_fullgraph:
        return "its forward depends on values that the host would have to know"
    if num_virtual_tokens(model):
        return "it has virtual tokens"
    if len({weight.device for weight in weights}) > 1 or any(is_divided(weight) for weight in weights):
        return "its weights are not all on one device"
    return None


def captured(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """A CUDA graph of a step, ready to be replayed. The step is run; what it changes has to be set again.

    As torch's notes on CUDA graphs have it: warmed up on a side stream, then recorded.
    """
    with torch.cuda.device(device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_STEPS):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may go on
            step()
    return graph.replay


def reads(model: nn.Module) -> Hashable:
    """What a graph of a model has to find again: where its weights lie, and which adapters are on."""
    adapters = (module for module in model.modules() if isinstance(module, BaseTunerLayer))
    return (
        tuple(tensor.data_ptr() for tensors in (model.parameters(), model.buffers()) for tensor in tensors),
        tuple((a.disable_adapters, tuple(a.active_adapters), tuple(a.merged_adapters)) for a in adapters),
    )


class CapturedDecoding:
    """What [`decode`] does, by replaying a CUDA graph for each token.

    There is a graph for each number of rows and capacity; the last few are kept, from one training step to the next. An
    optimiser writes weights where they are, so a graph reads the new ones. Weights that lie elsewhere, and adapters
    that are switched, are seen and get a graph of their own. **Not** seen is what Python alone decides while the graph
    is recorded: hooks, a LoRA's scaling, dropout of a model in training mode.

    The first steps of each graph are compared with the usual way's. If they differ, or if anything fails before, one
    warning says why, and everything is decoded the usual way from then on; so it is for models that [`why_not`] names.

    Without `capture` the same step is run as it is, on any device; with it, a model that is not on CUDA is a
    [`UserError`]. The model is in evaluation mode; `check_every` is as for [`decode`].
    """

    def __init__(
        self,
        model: PreTrainedModel,
        eos_token_id: int,
        pad_token_id: int,
        capture: bool = True,
        check_every: int | None = None,
    ) -> None:
        self.model, self.capture, self.check_every = model, capture, check_every
        self.tokens = {"eos_token_id": eos_token_id, "pad_token_id": pad_token_id}
        self.device = next(model.parameters()).device
        if capture and self.device.type != "cuda":
            raise UserError(f"--captured-decoding needs CUDA, the model is on {self.device.type}")
        self.steps: OrderedDict[Hashable, FixedStep] = OrderedDict()
        self.usual = False
        if reason := why_not(model):
            self._give_up(reason)

    @torch.inference_mode()
    def decode(self, beginning: Beginning, *, keep_rows: bool = False) -> Decoded:
        """See [`decode`]. Random numbers that are not given are drawn for all tokens at once.

        So they are other numbers than there, once a row has ended.
        """
        cache, cached, most = beginning.cache, beginning.mask.shape[1], int(beginning.left.max())
        usual = partial(decode, self.model, keep_rows=keep_rows, check_every=self.check_every, **self.tokens)
        if self.usual or most == 1:
            return usual(beginning)
        if beginning.uniform is None:
            uniform = torch.rand(most, len(beginning.left), dtype=torch.float64, device=beginning.logits.device).T
            beginning = beginning._replace(uniform=uniform)
        try:
            step, sampled = self._begun(beginning, most)
        except Exception as error:  # whatever it is, the usual way is there
            self._give_up(f"{type(error).__name__}: {first_line(error)}")
        if self.usual:
            cache.shorten(cached)
            return usual(beginning)

        check_every = self.check_every or CHECK_EVERY.get(self.device.type, 1)
        for token in range(sampled, most):
            if token % check_every == 0 and not step.alive.any():
                break
            step.replay()
        used = int(step.sampled.sum(dim=1).max())
        if keep_rows:
            cache.shorten(cached)
            for index, layer in enumerate(step.cache.layers):
                new = slice(cached, cached + used - 1)  # nothing goes on from a last token
                cache.update(layer.keys[:, :, new], layer.values[:, :, new], index)
        with torch.inference_mode(False):  # tensors of inference mode may not enter a graph of gradients
            return Decoded(*(result[:, :used].clone() for result in (step.ids, step.sampled, step.log_probs)))

    def _begun(self, beginning: Beginning, most: int) -> tuple[FixedStep, int]:
        """A step that the rows are loaded into, for at most so many tokens, and how many each of them got already."""
        capacity = -(-(beginning.mask.shape[1] + most) // CAPACITY_STEP) * CAPACITY_STEP
        key = (len(beginning.logits), capacity, beginning.noise is None, reads(self.model))
        new = key not in self.steps
        if new:
            while len(self.steps) >= KEPT:
                self.steps.popitem(last=False)
            step = self.steps[key] = FixedStep(self.model, beginning, capacity, **self.tokens)
            if self.capture:
                step.replay = captured(step.advance, self.device)
        step = self.steps[key]
        self.steps.move_to_end(key)
        step.load(beginning)
        step.sample()
        compared = min(PROVEN_STEPS, most - 1) if new else 0
        if not step.agrees(beginning, compared):
            self._give_up("its first tokens differ from those of the usual way")
        return step, 1 + compared

    def _give_up(self, reason: str) -> None:
        logger.warning("captured decoding: %s; decoding goes on the usual way", reason)
        self.usual = True
        self.steps.clear()
