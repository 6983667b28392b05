"""A multilayer perceptron for tables: embedded numbers and categories, and several members that share their matrices.

What a reader would get wrong: the output is [B, K, outputs], one answer for each member. The loss averages the members'
losses, the prediction their probabilities; a mean of their logits would be another, worse model.

Sources: numeric embeddings, Gorishniy et al. 2022, arXiv:2203.05556, section 3; members, TabM, Gorishniy et al. 2024,
arXiv:2410.24210, section 3.3; smooth clipping, RealMLP, Holzmüller et al. 2024, arXiv:2407.04491. Departures:
embeddings of categories in place of one-hot codes, dropout masks drawn once for several members, and narrower
embeddings where columns are many.

    >>> import torch
    >>> ages = {"form": "numbers", "names": ["age"], "mean": [40.0], "std": [9.0], "quantiles": [[20.0, 40.0, 60.0]]}
    >>> build({"numbers": ages}, 3, members=4)(torch.tensor([[31.0], [float("nan")]])).shape
    torch.Size([2, 4, 3])
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from fathom.models.parts.checks import check_shares, check_sizes, refuse_inputs
from fathom.models.parts.embeddings import TableEmbedding
from fathom.models.parts.embeddings import claims as claims
from fathom.models.parts.members import MemberDropout, MemberHeads, MemberLinear, MemberScale

USE = "tables of numbers and categories"
SOURCE = "TabM, Gorishniy et al. 2024, arXiv:2410.24210"


def build(
    inputs: Mapping[str, dict[str, Any]],
    outputs: int,
    *,
    width: int = 256,
    depth: int = 3,
    members: int = 16,
    dropout: float = 0.1,
    bins: int = 48,
) -> MLP:
    """A network of float32 numbers [B, F] with NaN, int64 categories [B, G], or both → [B, members, outputs].

    `width` is the dial: units of each hidden layer. `depth` is the number of hidden layers, `members` how many networks
    share them, `dropout` the share of units dropped in each, `bins` into how many pieces the line of each number may be
    bent; few rows want few. Raises UserError for inputs that are not a table, and for values that make no network.
    """
    if claims(inputs) is None:
        refuse_inputs("mlp", "numbers and categories", inputs)
    check_sizes(width=width, depth=depth, members=members, bins=bins, outputs=outputs)
    check_shares(dropout=dropout)
    return MLP(TableEmbedding(inputs, bins=bins), outputs, width=width, depth=depth, members=members, dropout=dropout)


class MLP(nn.Module):
    """Embedding → each member's own scaling → hidden layers of shared matrices → each member's own head."""

    def __init__(
        self, embedding: TableEmbedding, outputs: int, *, width: int, depth: int, members: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.entrance = MemberScale(members, embedding.sizes)
        layers: list[nn.Module] = []
        features = sum(embedding.sizes)
        for _ in range(depth):
            layers += [MemberLinear(members, features, width), nn.ReLU(), MemberDropout(dropout)]
            features = width
        self.hidden = nn.Sequential(*layers)
        self.heads = MemberHeads(members, features, outputs)

    def forward(self, inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
        return self.heads(self.hidden(self.entrance(self.embedding(inputs))))
