"""A trained network of pictures and captions as a candidate among others: each side is seen once, then compared.

The model has `encode_pictures` and `encode_texts`, which give vectors of length 1, and a `logit_scale`, as CLIP has.

Shapes: B rows, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fathom.baselines.parts.matching import Sides, names_of, ranks, sides
from fathom.data import Examples, Ragged
from fathom.rooms import find

AT_A_TIME = 256


class Matcher:
    """Which captions fit which pictures."""

    def __init__(self, model: nn.Module, config: Mapping[str, Any], device: torch.device) -> None:
        self.model, self.device, self.about = model.eval(), device, config["about"]
        self.objective = find("objectives", config["objective"]).build(config["spec"])
        names = names_of(self.about)
        assert names is not None, "pairs are a picture and a text"
        self.picture, self.caption = names

    def predict(self, examples: Examples) -> np.ndarray:
        """The rank of each row's caption and of its picture among those of all rows: float64 [N, 2]."""
        found = sides(examples)
        return ranks(*self._vectors(examples, found), found)

    def loss_and_ranks(self, examples: Examples, size: int) -> tuple[float, np.ndarray]:
        """The contrastive loss of the rows in nats a row, in the same batches of about `size` each time; the ranks."""
        found = sides(examples)
        pictures, captions = self._vectors(examples, found)
        both = np.stack([pictures[found.picture_of], captions[found.caption_of]], axis=1)
        ids = torch.from_numpy(np.stack([found.picture_of, found.caption_of], axis=1))
        raw = torch.from_numpy(both) * (self._scale() / 2).exp()
        order = torch.from_numpy(np.random.default_rng(0).permutation(len(examples)))
        pieces = order.tensor_split(max(1, round(len(order) / size)))
        total = sum(float(self.objective.total(raw[some], ids[some])) for some in pieces)
        return total / len(examples), ranks(pictures, captions, found)

    def picture_vectors(self, examples: Examples, rows: np.ndarray) -> np.ndarray:
        """Vectors of length 1: float32 [len(rows), D]."""
        pixels = examples.inputs[self.picture]
        assert isinstance(pixels, np.ndarray)

        def see(some: np.ndarray) -> Tensor:
            batch = torch.from_numpy(np.ascontiguousarray(pixels[some].transpose(0, 3, 1, 2)))
            found: Tensor = self.model.encode_pictures(batch.to(self.device))  # type: ignore[operator]
            return found

        return self._in_batches(see, rows)

    def caption_vectors(self, examples: Examples, rows: np.ndarray) -> np.ndarray:
        """Vectors of length 1: float32 [len(rows), D]."""
        tokens, longest = examples.inputs[self.caption], int(self.about[self.caption]["length"])
        assert isinstance(tokens, Ragged)

        def read(some: np.ndarray) -> Tensor:
            batch = torch.from_numpy(tokens.padded(some, longest).astype(np.int64))
            found: Tensor = self.model.encode_texts(batch.to(self.device))  # type: ignore[operator]
            return found

        return self._in_batches(read, rows)

    def _vectors(self, examples: Examples, found: Sides) -> tuple[np.ndarray, np.ndarray]:
        return self.picture_vectors(examples, found.pictures), self.caption_vectors(examples, found.captions)

    @torch.inference_mode()
    def _in_batches(self, encode: Callable[[np.ndarray], Tensor], rows: np.ndarray) -> np.ndarray:
        self.model.eval()
        pieces = [rows[start : start + AT_A_TIME] for start in range(0, len(rows), AT_A_TIME)]
        return np.concatenate([encode(some).float().cpu().numpy() for some in pieces])

    def _scale(self) -> Tensor:
        scale = self.model.logit_scale
        assert isinstance(scale, Tensor)
        return scale.detach().float().cpu()
