"""Several forms together: an encoder for the columns of the table, for each text and for each picture, and one head.

Each branch is a sibling file of this room, built with its vector for outputs. What a reader would get wrong: where
there are numbers or categories the output is [B, K, outputs], for the table's branch has K members; texts and pictures
are encoded once and shared by all of them.

Shapes: B rows, K members.

    >>> colours = {"form": "categories", "names": ["colour"], "sizes": [4]}
    >>> review = {"form": "tokens", "vocabulary": 50, "length": 12}
    >>> model = build({"categories": colours, "review": review}, 3, members=4)
    >>> model({"categories": torch.tensor([[1], [3]]), "review": torch.randint(1, 50, (2, 12))}).shape
    torch.Size([2, 4, 3])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fathom.errors import UserError
from fathom.models import lstm, mlp, resnet, transformer
from fathom.models.parts.checks import check_choice, check_shares, check_sizes, refuse_inputs
from fathom.models.parts.members import MemberDropout, MemberHeads
from fathom.models.parts.pictures import is_one_picture

USE = "mixed tables"
SOURCE = "late fusion of one vector for each form: Baltrušaitis et al. 2019, arXiv:1705.09406, section 7.1"
TABLE = ("numbers", "categories")
DROP_TOKENS = 0.1  # texts beside other columns are often names and titles: few words, each of weight
TEXT_NETS: dict[str, Callable[..., nn.Module]] = {"transformer": transformer.build, "lstm": lstm.build}


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    forms = [about["form"] for about in inputs.values()]
    texts, pictures = forms.count("tokens"), forms.count("pixels")
    if len(forms) < 2 or not texts + pictures or set(forms) - {*TABLE, "tokens", "pixels"}:
        return None
    if not all(is_one_picture({name: about}) for name, about in inputs.items() if about["form"] == "pixels"):
        return None
    parts = [form for form in TABLE if form in forms]
    parts += [f"{texts} text{'s' * (texts > 1)}"] if texts else []
    parts += [f"{pictures} picture{'s' * (pictures > 1)}"] if pictures else []
    return ", ".join(parts[:-1]) + f" and {parts[-1]}" if len(parts) > 1 else parts[0]


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    width: int = 64,
    members: int = 16,
    dropout: float = 0.2,
    text: str = "transformer",
) -> nn.Module:
    """A network from a dict of inputs to [B, members, outputs], or [B, outputs] where there is no table.

    `width` is the length of each branch's vector, `text` the net that reads texts (transformer or lstm). Raises
    UserError on inputs of one form only and on options out of range.
    """
    if claims(inputs) is None:
        refuse_inputs("fused", "a text or a picture of at least 4 x 4 pixels together with something else", inputs)
    check_sizes(width=width, members=members)
    check_shares(dropout=dropout)
    text = check_choice("text", text, TEXT_NETS)
    # By form and not by name: a column of texts may be called "numbers".
    table = {name: about for name, about in inputs.items() if about["form"] in TABLE}
    others = {name: about for name, about in inputs.items() if about["form"] not in TABLE}
    return Fused(table, others, outputs, width, members, dropout, TEXT_NETS[text])


class Fused(nn.Module):
    """Branches, a LayerNorm on each so that none drowns the others, a hidden layer, and a head for each member."""

    def __init__(
        self,
        table: dict[str, dict[str, Any]],
        others: dict[str, dict[str, Any]],
        outputs: int,
        width: int,
        members: int,
        dropout: float,
        text: Callable[..., nn.Module],
    ) -> None:
        super().__init__()
        self.table_names, self.other_names = list(table), list(others)
        self.members = members if table else 1
        self.table = mlp.build(table, width, members=members) if table else None
        self.others = nn.ModuleList(_branch(name, about, width, text) for name, about in others.items())
        num_branches = bool(table) + len(others)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(num_branches))
        self.hidden = nn.Sequential(nn.Linear(num_branches * width, 2 * width), nn.GELU(), MemberDropout(dropout))
        self.heads = MemberHeads(self.members, 2 * width, outputs)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        shared = [branch(inputs[name]) for name, branch in zip(self.other_names, self.others, strict=True)]
        vectors = [vector.unsqueeze(1).expand(-1, self.members, -1) for vector in shared]
        if self.table is not None:
            columns = {name: inputs[name] for name in self.table_names}
            vectors.append(self.table(columns if len(columns) > 1 else columns[self.table_names[0]]))
        normed = [norm(vector) for norm, vector in zip(self.norms, vectors, strict=True)]
        answers = self.heads(self.hidden(torch.cat(normed, dim=-1)))  # [B, K, outputs]
        return answers if self.table is not None else answers.squeeze(1)


def _branch(name: str, about: dict[str, Any], width: int, text: Callable[..., nn.Module]) -> nn.Module:
    """A net from one text or one picture to [B, width]."""
    if about["form"] == "tokens":
        return text({name: about}, width, drop_tokens=DROP_TOKENS)
    if about["form"] == "pixels":
        return resnet.build({name: about}, width)
    raise UserError(f"fused cannot take '{name}', which is {about['form']}: expected tokens or pixels.")
