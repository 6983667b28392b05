"""FT-Transformer for tables: each column becomes a token, and a Transformer lets the columns look at each other.

Gorishniy et al. 2021, arXiv:2106.11959, section 3.3, with the defaults of its appendix. What a reader would get wrong:
this is slow where columns are many, since each looks at every other, and it is not the best network we have for tables;
that is the mlp. Departures: numbers are standardised and softly bounded where the paper makes them normal by their
ranks; a missing number is the mean plus a learned vector of its column, which starts at 0 (the paper's data has none);
a missing or unseen category is the mean of its column's categories plus such a vector. The last block works out [CLS]
only, since nothing else is read.

    >>> numbers = {"form": "numbers", "names": ["age", "price"], "mean": [40.0, 9.0], "std": [10.0, 3.0]}
    >>> categories = {"form": "categories", "names": ["colour"], "sizes": [4]}
    >>> model = build({"numbers": numbers, "categories": categories}, 3)
    >>> row = {"numbers": torch.tensor([[31.0, float("nan")]]), "categories": torch.tensor([[2]])}
    >>> model(row).shape
    torch.Size([1, 3])

Shapes: B rows, S tokens: [CLS] and the columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.errors import UserError
from fathom.models.parts.attention import attend
from fathom.models.parts.checks import check_shares, check_sizes, refuse_inputs
from fathom.models.parts.embeddings import Categories, Standardize
from fathom.models.parts.embeddings import claims as claims

USE = "tables of numbers and categories"
SOURCE = "Gorishniy et al. 2021, arXiv:2106.11959"
# Width, dropout of attention and dropout of the perceptron for 1 to 6 blocks: the authors' own table of defaults.
DEFAULTS = ((96, 0.1, 0.0), (128, 0.15, 0.05), (192, 0.2, 0.1), (256, 0.25, 0.15), (320, 0.3, 0.2), (384, 0.35, 0.25))
WIDENING = 4 / 3  # a gate doubles the first matrix: as many parameters as twice the width without one


def build(
    inputs: Mapping[str, dict[str, Any]],
    outputs: int,
    *,
    depth: int = 3,
    width: int | None = None,
    heads: int = 8,
    drop_attention: float | None = None,
    dropout: float | None = None,
    drop_residual: float = 0.0,
) -> nn.Module:
    """A network of float32 numbers [B, F] with NaN, int64 categories [B, G], or both → [B, outputs].

    `depth` is the dial: the number of blocks, from which width and dropout follow as in the paper's defaults.
    `drop_attention` drops looks at columns, `dropout` units of the perceptrons, `drop_residual` parts of what a block
    adds. Raises UserError for inputs that are not a table, and for values that make no network.
    """
    if claims(inputs) is None:
        refuse_inputs("ft_transformer", "numbers and categories", inputs)
    check_sizes(depth=depth, heads=heads, outputs=outputs)
    usual_width, usual_attention, usual_dropout = DEFAULTS[min(depth, len(DEFAULTS)) - 1]
    width = usual_width if width is None else width
    drop_attention = usual_attention if drop_attention is None else drop_attention
    dropout = usual_dropout if dropout is None else dropout
    check_sizes(width=width)
    check_shares(drop_attention=drop_attention, dropout=dropout, drop_residual=drop_residual)
    if width % heads:
        raise UserError(
            f"model.width={width}: expected a multiple of the {heads} heads. "
            f"Type model.width={heads * max(1, width // heads)}."
        )
    return FTTransformer(Tokenizer(inputs, width), outputs, depth, width, heads, drop_attention, dropout, drop_residual)


class FTTransformer(nn.Module):
    """Tokens of the columns and [CLS], blocks, and a head on what became of [CLS]."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        outputs: int,
        depth: int,
        width: int,
        heads: int,
        drop_attention: float,
        dropout: float,
        drop_residual: float,
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.blocks = nn.ModuleList(
            # Without the first of all norms it trains better (section 3.3).
            Block(width, heads, drop_attention, dropout, drop_residual, norm_first=index > 0)
            for index in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)

    def features(self, inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
        """One vector for each row, as the head sees it: [B, width]."""
        x = self.tokenizer(inputs)
        for index, block in enumerate(self.blocks):
            x = block(x, kept=1 if index == len(self.blocks) - 1 else x.shape[1])
        return F.relu(self.norm(x[:, 0]))

    def forward(self, inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
        return self.head(self.features(inputs))


class Tokenizer(nn.Module):
    """The columns of a table as vectors of one width, and the vector of [CLS] before them: [B, S, width]."""

    def __init__(self, inputs: Mapping[str, dict[str, Any]], width: int) -> None:
        super().__init__()
        self.only = next(iter(inputs)) if len(inputs) == 1 else ""  # one input comes as the tensor itself
        self.answer = _uniform(1, width)  # [CLS]
        self.columns = nn.ModuleDict()
        for name, about in inputs.items():
            kind = NumberTokens if about["form"] == "numbers" else CategoryTokens
            self.columns[name] = kind(about, width)

    def no_decay(self) -> list[nn.Parameter]:
        """Every vector here belongs to one column and is not decayed, as in the paper's appendix."""
        return list(self.parameters())

    def forward(self, inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
        given = {self.only: inputs} if isinstance(inputs, Tensor) else inputs
        tokens = [embed(given[name]) for name, embed in self.columns.items()]
        return torch.cat([self.answer.expand(tokens[0].shape[0], 1, -1), *tokens], dim=1)


class NumberTokens(nn.Module):
    """bias + number · weight, both vectors of the column: [B, F] → [B, F, width]. NaN: bias + missing."""

    def __init__(self, about: dict[str, Any], width: int) -> None:
        super().__init__()
        columns = len(about["names"])
        self.standardize = Standardize(about["mean"], about["std"])
        self.weight = _uniform(columns, width)
        self.missing = nn.Parameter(torch.zeros(columns, width))
        self.bias = _uniform(columns, width)

    def forward(self, numbers: Tensor) -> Tensor:
        z, missing = self.standardize(numbers)
        return self.bias + z.unsqueeze(-1) * self.weight + missing.unsqueeze(-1) * self.missing


class CategoryTokens(nn.Module):
    """bias + the vector of the category: int64 [B, G] → [B, G, width]."""

    def __init__(self, about: dict[str, Any], width: int) -> None:
        super().__init__()
        self.vectors = Categories(about["sizes"], size=width)
        with torch.no_grad():
            self.vectors.table.copy_(_uniform(*self.vectors.table.shape))
            self.vectors.table[self.vectors.first] = 0  # code 0 adds this to the mean of the others
        self.bias = _uniform(len(about["names"]), width)

    def forward(self, codes: Tensor) -> Tensor:
        return self.vectors(codes) + self.bias


def _uniform(rows: int, width: int) -> nn.Parameter:
    """±1/sqrt(width), the range in which torch draws a matrix with so many inputs; the paper's too."""
    bound = 1 / math.sqrt(width)
    return nn.Parameter(torch.empty(rows, width).uniform_(-bound, bound))


class Block(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)): [B, S, width] → [B, kept, width], the first tokens of S."""

    def __init__(
        self, width: int, heads: int, drop_attention: float, dropout: float, drop_residual: float, *, norm_first: bool
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width) if norm_first else nn.Identity()
        self.attention = Attention(width, heads, drop_attention)
        self.perceptron_norm = nn.LayerNorm(width)
        self.perceptron = ReGLU(width, int(width * WIDENING), dropout)
        self.dropout = nn.Dropout(drop_residual)

    def forward(self, x: Tensor, kept: int) -> Tensor:
        normed = self.attention_norm(x)
        x = x[:, :kept] + self.dropout(self.attention(normed[:, :kept], normed))
        return x + self.dropout(self.perceptron(self.perceptron_norm(x)))


class Attention(nn.Module):
    """Some tokens look at all: [B, kept, width] and [B, S, width] → [B, kept, width]. Biases start at 0."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.project_out = nn.Linear(width, width)
        for layer in (self.query, self.key, self.value, self.project_out):
            nn.init.zeros_(layer.bias)

    def forward(self, asking: Tensor, asked: Tensor) -> Tensor:
        query, key, value = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project, x in ((self.query, asking), (self.key, asked), (self.value, asked))
        )
        mixed = attend(query, key, value, dropout=self.dropout if self.training else 0.0)
        return self.project_out(mixed.transpose(1, 2).flatten(2))


class ReGLU(nn.Module):
    """A perceptron whose hidden units are each multiplied by a gate: Shazeer 2020, arXiv:2002.05202, eq. 6."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Linear(width, 2 * hidden)
        self.dropout = nn.Dropout(dropout)
        self.contract = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.expand(x).chunk(2, dim=-1)
        return self.contract(self.dropout(value * F.relu(gate)))
