"""A key-value cache that grows in place, gives up rows, and is copied from any prefix of any row."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from gantune.errors import UserError


class GrowingLayer(DynamicLayer):
    """Keys and values of one layer, `[B, heads, length, head_dim]`: views of buffers with room for more.

    Sliding-window layers keep every position too: the attention mask hides those outside the window, and a copy that
    ends earlier needs them.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.buffers: tuple[Tensor, Tensor] | None = None
        self.rows, self.start, self.stop = 0, 0, 0  # what of the buffers is in use

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write behind what is there, a `ValueError` if there is no room; all keys and values so far."""
        if self.buffers is None:
            self._allocate(key_states, value_states, len(key_states))
        stop = self.stop + key_states.shape[2]
        if stop > self.capacity:
            raise ValueError(f"the cache has room for {self.capacity} positions, got {stop}")
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[: self.rows, :, self.stop : stop] = states
        self._view(self.rows, self.start, stop)
        return self.keys, self.values

    @classmethod
    def copied(cls, keys: Tensor, values: Tensor, prefixes: list[tuple[int, int, int]], capacity: int) -> GrowingLayer:
        """Copies for rows (row, length, count): the first positions of a row, several times, ending in one column."""
        width = max(length for _, length, _ in prefixes)
        copy = cls(capacity)
        copy._allocate(keys, values, sum(count for _, _, count in prefixes))
        for buffer, states in zip(copy.buffers, (keys, values), strict=True):
            first = 0
            for row, length, count in prefixes:
                rows = buffer[first : first + count]
                rows[:, :, : width - length] = 0  # hidden by the mask, but what is not finite would get through
                rows[:, :, width - length : width] = states[row, :, :length]
                first += count
        copy._view(copy.rows, 0, width)
        return copy

    def keep(self, rows: int, holes: Tensor, moved: Tensor, start: int) -> None:
        """The first `rows` rows, where those at `moved` take the place of those at `holes`, from column `start` on."""
        start += self.start
        holes, moved = (numbers.to(self.device) for numbers in (holes, moved))  # a model may lie on several devices
        for buffer in self.buffers:
            buffer[holes, :, start : self.stop] = buffer[moved, :, start : self.stop]
        self._view(rows, start, self.stop)

    def _allocate(self, keys: Tensor, values: Tensor, rows: int) -> None:
        self.dtype, self.device = keys.dtype, keys.device
        self.buffers = tuple(s.new_empty(rows, s.shape[1], self.capacity, s.shape[3]) for s in (keys, values))
        self._view(rows, 0, 0)
        self.is_initialized = True

    def _view(self, rows: int, start: int, stop: int) -> None:
        self.rows, self.start, self.stop = rows, start, stop
        self.keys, self.values = (buffer[:rows, :, start:stop] for buffer in self.buffers)


class FixedLayer(DynamicLayer):
    """Keys and values of one layer, `[R, heads, capacity, head_dim]`: always the whole buffers, at fixed addresses.

    What is not written is zero, and the mask has to hide it. The owner of `column`, `[1]`, where the next position is
    written, moves it on, for all layers at once.
    """

    def __init__(self, like: GrowingLayer, capacity: int, column: Tensor) -> None:
        super().__init__()
        self.dtype, self.device, self.column = like.dtype, like.device, column
        self.keys, self.values = (s.new_zeros(*s.shape[:2], capacity, s.shape[3]) for s in (like.keys, like.values))
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write one position, `[R, heads, 1, head_dim]`; the whole buffers."""
        self.keys.index_copy_(2, self.column, key_states)
        self.values.index_copy_(2, self.column, value_states)
        return self.keys, self.values

    def load(self, layer: GrowingLayer) -> None:
        """Begin with what another layer of R rows holds."""
        for buffer, states in ((self.keys, layer.keys), (self.values, layer.values)):
            buffer[:, :, : states.shape[2]] = states
            buffer[:, :, states.shape[2] :] = 0  # hidden by the mask, but what is not finite would get through


def attention_layers(config: PreTrainedConfig) -> int:
    """How many layers of keys and values a model has; a [`UserError`] if one does not keep those of every position."""
    standard = DynamicCache(config=config).layers
    for index, layer in enumerate(standard):
        if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
            raise UserError(
                f"model type {config.model_type}: layer {index} has a cache of type {type(layer).__name__}, "
                "expected keys and values of every position (full, sliding-window or chunked attention)"
            )
    return len(standard)


class GrowingCache(Cache):
    """A [`GrowingLayer`] for each layer of a model. Not for use with gradients: it is written in place."""

    layers: list[GrowingLayer]

    @classmethod
    def for_model(cls, config: PreTrainedConfig, capacity: int) -> GrowingCache:
        """An empty cache with room for `capacity` positions; a [`UserError`] as [`attention_layers`] raises it."""
        return cls(layers=[GrowingLayer(capacity) for _ in range(attention_layers(config))])

    def select(self, rows: Tensor, lengths: Tensor, capacity: int) -> GrowingCache:
        """A new cache that holds the first `lengths[i]` positions of row `rows[i]`, for each i.

        All rows end in the same column, so that they can go on together; see [`right_aligned`]. The first columns of
        shorter rows must be hidden by the attention mask. So no row has a gap, which would be wrong under sliding
        windows: they count columns and not positions.

        Args:
            rows: `[R]`, as `lengths`, in any order and number; equal prefixes side by side are copied at once.
            capacity: positions that the new cache has room for.
        """
        prefixes, counts = torch.stack([rows, lengths], dim=1).unique_consecutive(dim=0, return_counts=True)
        copies = [(row, length, count) for (row, length), count in zip(prefixes.tolist(), counts.tolist(), strict=True)]
        layers = [GrowingLayer.copied(layer.keys, layer.values, copies, capacity) for layer in self.layers]
        return GrowingCache(layers=layers)

    def shorten(self, length: int) -> None:
        """Forget all positions but the first `length`; others can be written in their place."""
        for layer in self.layers:
            layer._view(layer.rows, layer.start, layer.start + length)

    def keep(self, kept: Tensor, start: int = 0) -> Tensor:
        """Give up rows, and the columns before `start`, which the mask must hide in all rows that stay.

        The last rows move into the places that become free, so as little as possible is copied, and nothing allocated.

        `kept` is `[R]` bool. Gives the old numbers of the rows that stay, in their new order.
        """
        order = torch.arange(int(kept.sum()), device=kept.device)
        holes = (~kept[: len(order)]).nonzero().squeeze(1)
        order[holes] = moved = kept[len(order) :].nonzero().squeeze(1) + len(order)
        for layer in self.layers:
            layer.keep(len(order), holes, moved, start)
        return order


def right_aligned(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """How to write prefixes of `lengths` (`[R]`) so that all end in the last column of `[R, max(lengths)]`.

    That is the position that each column takes (0 where none), and whether it takes one.
    """
    width = int(lengths.max())
    columns = torch.arange(width, device=lengths.device) - (width - lengths[:, None])
    return columns.clamp(min=0), columns >= 0
