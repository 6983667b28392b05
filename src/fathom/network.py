"""A trained network as one candidate among others: examples in, probabilities or numbers out.

It carries what is needed to build it again: the model's name, its options and the description of its inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fathom.augment import views
from fathom.batches import Tensors, in_order
from fathom.compute import autocast
from fathom.data import Examples
from fathom.memory import refusing_what_does_not_fit
from fathom.rooms import check_options, find

ROWS_AT_A_TIME = 512
# Matrix kernels treat one to three rows otherwise than more, in the last bits. A network of small rows never reads
# fewer than four, so that a row has the answer alone that it has in a file, and a server may answer several at once.
FEWEST = 4
SMALL_ROW = 32 * 32 * 3  # values: four larger pictures would take four times as long as one


def build(name: str, about: Mapping[str, dict[str, Any]], outputs: int, options: Mapping[str, Any]) -> nn.Module:
    """The model of that name; unknown options are refused with the nearest."""
    part = find("models", name)
    check_options(part.build, options, f"model {name}")
    with refusing_what_does_not_fit(f"model {name}"):
        return part.build(dict(about), outputs, **options)


class Network:
    """One trained model with its objective's way of reading outputs."""

    def __init__(
        self,
        model: nn.Module,
        objective: str,
        spec: Mapping[str, Any],
        *,
        device: torch.device,
        precision: str = "fp32",
        views: int = 0,
        mirror: bool = False,
        rows_at_a_time: int = ROWS_AT_A_TIME,
    ) -> None:
        self.rows_at_a_time = rows_at_a_time
        self.model = model.eval()
        part = find("objectives", objective)
        self.decode = part.decode
        self.interval = part.interval if hasattr(part, "interval") and part.makes_interval(spec) else None
        self.spec, self.device, self.views, self.mirror = spec, device, views, mirror
        self.context = autocast(device, precision)

    def predict(self, examples: Examples) -> np.ndarray:
        """Probabilities [N, C] or numbers [N], float64, in the order of the examples."""
        filled = _filled(examples)
        return self.predict_rows(Tensors(filled, self.device), np.arange(len(filled)))[: len(examples)]

    def ends(self, examples: Examples) -> np.ndarray | None:
        """The interval [N, 2] that the model itself gives around each number; None where it gives none."""
        if self.interval is None:
            return None
        filled = _filled(examples)
        ends = self.predict_with_ends(Tensors(filled, self.device), np.arange(len(filled)))[1]
        return None if ends is None else ends[: len(examples)]

    def predict_rows(self, tensors: Tensors, rows: np.ndarray) -> np.ndarray:
        """As `predict`, for some rows of tensors that are on the device already."""
        return self.predict_with_ends(tensors, rows)[0]

    def predict_with_ends(self, tensors: Tensors, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """As `predict_rows` and `ends`, in one pass."""
        found = self._read_rows(tensors, rows)
        return (found, None) if self.interval is None else (found[:, 0], found[:, 1:])

    @torch.inference_mode()
    def _read_rows(self, tensors: Tensors, rows: np.ndarray) -> np.ndarray:
        self.model.eval()
        found: np.ndarray | None = None
        place = np.empty(int(rows.max(initial=-1)) + 1, np.int64)
        place[rows] = np.arange(len(rows))
        for chosen, inputs in in_order(tensors, rows, self.rows_at_a_time):
            decoded = self.decoded(inputs).cpu().numpy()
            if found is None:
                found = np.empty((len(rows), *decoded.shape[1:]))
            found[place[chosen]] = decoded
        return np.empty((0, 3) if self.interval else 0) if found is None else found

    def decoded(self, inputs: Tensor | dict[str, Tensor]) -> Tensor:
        """Predictions of a batch, with intervals [B, 3] where the model gives some; the mean over views of pictures."""
        seen = [inputs]
        if self.views and isinstance(inputs, Tensor):
            seen = list(views(inputs, mirror=self.mirror, shift=self.views))
        decoded = []
        for one in seen:
            with self.context():
                outputs = self.model(one)
            decoded.append(self._read(outputs.float()))
        return torch.stack(decoded).mean(dim=0)

    def _read(self, raw: Tensor) -> Tensor:
        decoded: Tensor = self.decode(raw, self.spec)
        if self.interval is None:
            return decoded
        return torch.cat([decoded[:, None], self.interval(raw, self.spec)], dim=1)


def _filled(examples: Examples) -> Examples:
    """The rows, some repeated where they are too few; texts, whose width goes by the longest, stay as they are."""
    is_small = all(
        isinstance(values, np.ndarray) and values[:1].size <= SMALL_ROW for values in examples.inputs.values()
    )
    if not is_small or not 0 < len(examples) < FEWEST:
        return examples
    return examples.take(np.resize(np.arange(len(examples)), FEWEST))
