"""Which weights move during tuning: norms and sampled entries of every parameter over the epochs.

The figures 3.3 and 3.4 of the source study show adapter weights that move beside base weights that stay flat.
"""

from __future__ import annotations

import io
import random
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gantune.diagnostics.files import write_atomically
from gantune.errors import UserError


@dataclass(frozen=True)
class Trajectory:
    """Recorded weights: E records of P parameters, S sampled entries each.

    The same entries at every record; NaN beyond the entries of a small parameter.
    """

    names: np.ndarray  # [P] text
    trainable: np.ndarray  # [P] bool
    epochs: np.ndarray  # [E] float64
    norms: np.ndarray  # [E, P] float32, L2
    samples: np.ndarray  # [E, P, S] float32


class WeightTrajectory:
    """Records the weights of a model without copying it.

    Every floating-point parameter counts, frozen or not, tied ones once. Quantised (integer) parameters are left out:
    their bytes are no weights.

    The adapter is to be in place: parameters added later are an error. `sample_size`, S, entries of each parameter are
    drawn; `seed` decides which.
    """

    def __init__(self, model: nn.Module, sample_size: int = 16, seed: int = 0) -> None:
        self._model = model
        self._sample_size = sample_size
        parameters = self._parameters()
        self._trainable = {name: parameter.requires_grad for name, parameter in parameters.items()}
        generator = random.Random(seed)
        self._entries = {
            name: torch.tensor(generator.sample(range(p.numel()), min(sample_size, p.numel())), dtype=torch.int64)
            for name, p in parameters.items()
        }
        self._epochs: list[float] = []
        self._norms: list[list[float]] = []
        self._samples: list[np.ndarray] = []

    def _parameters(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self._model.named_parameters() if parameter.is_floating_point()}

    @torch.no_grad()
    def record(self, epoch: float) -> None:
        """Take down the weights at this epoch, which may be a fraction; a ValueError if some came or went."""
        parameters = self._parameters()
        if parameters.keys() != self._trainable.keys():
            changed = ", ".join(sorted(parameters.keys() ^ self._trainable.keys())[:3])
            raise ValueError(f"the model's parameters are not those at the start: {changed}")
        samples = np.full((len(parameters), self._sample_size), np.nan, dtype=np.float32)
        for row, (name, parameter) in zip(samples, parameters.items(), strict=True):
            entries = self._entries[name]
            # unravelled: a parameter need not be contiguous, and flattening such a one would copy it
            places = torch.unravel_index(entries.to(parameter.device), parameter.shape) if parameter.ndim else ...
            row[: len(entries)] = parameter[places].float().cpu().numpy()
        self._samples.append(samples)
        self._norms.append([_norm(parameter) for parameter in parameters.values()])
        self._epochs.append(float(epoch))

    def trajectory(self) -> Trajectory:
        if not self._epochs:
            raise ValueError("no weights were recorded")
        return Trajectory(
            names=np.array(list(self._trainable), dtype=np.str_),
            trainable=np.array(list(self._trainable.values())),
            epochs=np.array(self._epochs),
            norms=np.array(self._norms, dtype=np.float32),
            samples=np.stack(self._samples),
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "names": list(self._trainable),
            "epochs": self._epochs,
            "norms": self._norms,
            "samples": [torch.from_numpy(samples) for samples in self._samples],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["names"] != list(self._trainable):
            raise ValueError("the recorded weights are those of other parameters")
        self._epochs, self._norms = list(state["epochs"]), list(state["norms"])
        self._samples = [samples.numpy() for samples in state["samples"]]

    def save(self, path: str | Path) -> None:
        """Write `weights.npz`: plain arrays under the names of [`Trajectory`]'s fields, no pickles."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **vars(self.trajectory()))
        write_atomically(path, buffer.getvalue())


def _norm(parameter: Tensor) -> float:
    """L2 norm in float32 or better, some rows at a time: a whole bf16 embedding table as float32 would be a copy."""
    parameter = torch.atleast_1d(parameter)
    rows = max(2**20 * len(parameter) // max(parameter.numel(), 1), 1)
    dtype = torch.promote_types(parameter.dtype, torch.float32)
    norms = [torch.linalg.vector_norm(block, dtype=dtype) for block in parameter.split(rows)]
    return torch.linalg.vector_norm(torch.stack(norms)).item()


def load_trajectory(path: str | Path) -> Trajectory:
    """Read what [`WeightTrajectory.save`] wrote; a [`UserError`] if the file is missing or holds something else."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Trajectory(**{field.name: arrays[field.name] for field in fields(Trajectory)})
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{path}: no recorded weights ({error}), expected a weights.npz of gantune") from error
