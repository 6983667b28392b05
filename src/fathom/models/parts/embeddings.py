"""Numbers and categories of a table as vectors, one for each column.

What a reader would get wrong: the raw numbers come in, NaN and all. Scaling is part of the model, kept in buffers, so
that weights and preprocessing cannot be parted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# Beyond this many standard deviations a number is pressed together.
SMOOTH_CLIP = 3.0
# The vectors of all columns together have about so many entries, so that a wide table does not make a slow network.
ALL_NUMBERS, ALL_CATEGORIES, ALL_BINS = 2048, 1024, 8192
FAR = 1e4  # deviations; what is farther is taken for this, since the square of a float32 may be infinite


def claims(inputs: Mapping[str, dict[str, Any]]) -> str | None:
    """What networks for tables are made for: numbers, categories or both, and nothing else."""
    forms = [about["form"] for about in inputs.values()]
    if not forms or set(forms) - {"numbers", "categories"}:
        return None
    return "a table of " + " and ".join(sorted(forms, reverse=True))


class TableEmbedding(nn.Module):
    """The columns of a table as vectors side by side: [B, sum(sizes)]. `sizes` has one entry for each column."""

    def __init__(self, inputs: Mapping[str, dict[str, Any]], *, bins: int) -> None:
        super().__init__()
        # One input comes as the tensor itself, several in a dict.
        self.only = next(iter(inputs)) if len(inputs) == 1 else ""
        self.columns = nn.ModuleDict()
        self.sizes: list[int] = []
        for name, about in inputs.items():
            count = len(about["names"])
            if about["form"] == "numbers":
                size = _share(ALL_NUMBERS, count, 4, 16)
                self.columns[name] = PiecewiseLinear(
                    about["mean"], about["std"], about["quantiles"], size=size, bins=_share(ALL_BINS, count, 8, bins)
                )
            else:
                size = _share(ALL_CATEGORIES, count, 2, 8)
                self.columns[name] = Categories(about["sizes"], size=size)
            self.sizes += [size] * count

    def no_decay(self) -> list[nn.Parameter]:
        """Every table and factor here belongs to one column: weight decay is for matrices that mix columns."""
        return list(self.parameters())

    def forward(self, inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
        given = {self.only: inputs} if isinstance(inputs, Tensor) else inputs
        return torch.cat([embed(given[name]).flatten(1) for name, embed in self.columns.items()], dim=1)


class Standardize(nn.Module):
    """[B, F] with NaN → [B, F] about N(0, 1), smoothly bounded by ±3, NaN at 0; and where the NaN were.

    Smooth clipping x / sqrt(1 + (x / 3)²): RealMLP, Holzmüller et al. 2024, arXiv:2407.04491, section 3.1. Theirs
    scales by quartiles; ours by mean and standard deviation, and leaves skew to the embeddings.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        missing = torch.isnan(numbers)
        z = ((torch.where(missing, self.mean, numbers) - self.mean) / self.std).clamp(-FAR, FAR)
        return z / torch.sqrt(1 + (z / SMOOTH_CLIP) ** 2), missing


class PiecewiseLinear(nn.Module):
    """A piecewise linear function of each number, bent at the training quantiles: [B, F] → [B, F, size].

    Gorishniy et al. 2022, arXiv:2203.05556, section 3.2, with a linear part beside it as in TabM. Departures: outside
    the training range the bent part is constant and only the linear part goes on, softly bounded; a missing number
    adds a vector of its own to the place of the mean.
    """

    low: Tensor
    per_width: Tensor

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], quantiles: Sequence[Sequence[float]], *, size: int, bins: int
    ) -> None:
        super().__init__()
        columns = len(mean)
        found = [_bins(q, bins) for q in quantiles]
        widest = max(len(begins) for begins, _ in found)
        low, per_width = torch.zeros(columns, widest), torch.zeros(columns, widest)
        for column, (begins, widths) in enumerate(found):
            low[column, : len(begins)] = begins
            # A bin that is not there keeps 0 and is always empty.
            per_width[column, : len(begins)] = 1 / widths
        self.register_buffer("low", low)
        self.register_buffer("per_width", per_width)
        self.standardize = Standardize(mean, std)
        bound = 1 / math.sqrt(widest)
        self.bent = nn.Parameter(torch.empty(columns, widest, size).uniform_(-bound, bound))
        self.straight = nn.Parameter(torch.empty(columns, size).uniform_(-1, 1))
        self.missing = nn.Parameter(torch.zeros(columns, size))
        self.bias = nn.Parameter(torch.empty(columns, size).uniform_(-bound, bound))

    def forward(self, numbers: Tensor) -> Tensor:
        z, missing = self.standardize(numbers)
        filled = torch.where(missing, self.standardize.mean, numbers).unsqueeze(-1)
        steps = ((filled - self.low) * self.per_width).clamp(0, 1)  # [B, F, bins]
        bent = torch.bmm(steps.transpose(0, 1), self.bent).transpose(0, 1)
        straight = z.unsqueeze(-1) * self.straight + missing.unsqueeze(-1) * self.missing
        return bent + straight + self.bias


class Categories(nn.Module):
    """A learned vector for each category of each column: int64 [B, G] → [B, G, size]. Code 0 is missing or unseen.

    Code 0 reads as the mean of its column's categories plus a vector of its own: where the training rows have none, an
    unseen category is an average one.
    """

    first: Tensor
    sizes: Tensor
    column: Tensor

    def __init__(self, sizes: Sequence[int], *, size: int) -> None:
        super().__init__()
        counts = torch.tensor(sizes)
        self.register_buffer("sizes", counts)
        self.register_buffer("first", counts.cumsum(0) - counts)
        self.register_buffer("column", torch.arange(len(counts)).repeat_interleave(counts))
        self.table = nn.Parameter(torch.randn(int(counts.sum()), size))
        with torch.no_grad():
            self.table[self.first] = 0

    def forward(self, codes: Tensor) -> Tensor:
        # A code beyond the training's is unseen too.
        codes = torch.where((codes < 0) | (codes >= self.sizes), 0, codes)
        vectors = nn.functional.embedding(codes + self.first, self.table)
        return vectors + (codes == 0).unsqueeze(-1) * self._means()

    def _means(self) -> Tensor:
        """Mean vector of each column's categories, code 0 aside: [G, size]."""
        own = self.table[self.first]
        sums = torch.zeros_like(own).index_add(0, self.column, self.table) - own
        return sums / (self.sizes - 1).clamp(min=1).unsqueeze(-1)


def _share(total: int, count: int, least: int, most: int) -> int:
    """What of the total comes to each of `count`, within bounds."""
    return min(most, max(least, total // count))


def _bins(quantiles: Sequence[float], bins: int) -> tuple[Tensor, Tensor]:
    """Where at most so many bins begin, and their widths, out of the training quantiles.

    A constant column gets one bin of width 1. Its end is not worked out: from 2**24 on float32 skips whole numbers.
    """
    edges = torch.tensor(quantiles or [0.0], dtype=torch.float32).unique()
    if len(edges) == 1:
        return edges, torch.ones(1)
    if len(edges) > bins + 1:
        edges = edges[torch.linspace(0, len(edges) - 1, bins + 1).round().long()]
    return edges[:-1], edges.diff()
