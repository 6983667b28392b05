"""The network around recurrent layers, whatever their cell: models/rnn.py, lstm.py and gru.py differ in nothing else.

What a reader would get wrong: there is no packed sequence here. Rows are padded on the right, so a forward net never
sees padding before a real position; the backward net reads each row reversed within its own length. That equals
packing, uses the fast kernels for whole tensors and can be exported. Only a running text is read in one direction: an
answer at each position must not know what comes after it.

    >>> inputs = {"text": {"form": "stream", "vocabulary": 9, "length": 6}}
    >>> net = recurrent("gru", inputs, 9, "gru", width=8, depth=2, dropout=0.0, drop_tokens=0.0).eval()
    >>> tokens, cache = torch.randint(9, (2, 6)), Cache()
    >>> steps = [net(tokens[:, t : t + 1], cache=cache) for t in range(6)]
    >>> torch.allclose(torch.cat(steps, dim=1), net(tokens), atol=1e-6), cache.length
    (True, 6)

Shapes: B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fathom.errors import UserError
from fathom.models.parts.cache import Cache
from fathom.models.parts.checks import check_choice, check_shares, check_sizes, refuse_inputs
from fathom.models.parts.frames import FrameEmbedding
from fathom.models.parts.pooling import masked_max, masked_mean
from fathom.models.parts.recurrent import State, start_orthogonal, start_remembering
from fathom.models.parts.tokens import TokenEmbedding

Cell = Callable[..., nn.RNNBase]
Kept = tuple[Tensor, ...]  # a layer's state in a cache, and an LSTM's cell after it: each [B, width]
CELLS: dict[str, Cell] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
FORMS = {"tokens": "one text", "stream": "a running text", "frames": "one series of frames"}
STARTS = ("uniform", "orthogonal")


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    forms = [about["form"] for about in inputs.values()]
    return FORMS.get(forms[0]) if len(forms) == 1 else None


def recurrent(
    cell: str,
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    whose: str,
    *,
    width: int,
    depth: int,
    dropout: float,
    drop_tokens: float,
    start: str = "uniform",
    forget_bias: float | None = None,
) -> Recurrent:
    """The network for one input with layers of that cell. Raises UserError on inputs and options that do not fit."""
    if claims(inputs) is None:
        refuse_inputs(whose, "one text or one series of frames", inputs)
    check_sizes(width=width, depth=depth)
    check_shares(dropout=dropout, drop_tokens=drop_tokens)
    check_choice("start", start, STARTS)
    if forget_bias is not None and cell != "lstm":
        raise UserError(
            f"model.forget_bias={forget_bias}: a {cell} has no forget gate. Leave it out, or type model=lstm."
        )
    (about,) = inputs.values()
    model = Recurrent(about, outputs, CELLS[cell], width, depth, dropout, drop_tokens)
    for layer in model.modules():
        if isinstance(layer, nn.RNNBase) and start == "orthogonal":
            start_orthogonal(layer)
        if isinstance(layer, nn.RNNBase) and forget_bias is not None:
            start_remembering(layer, forget_bias)
    return model


class Recurrent(nn.Module):
    """Vectors of the positions, layers, and a head: on the maximum and the mean over positions, or on each of them."""

    def __init__(
        self,
        about: dict[str, Any],
        outputs: int,
        cell: Cell,
        width: int,
        depth: int,
        dropout: float,
        drop_tokens: float,
    ) -> None:
        super().__init__()
        self.each = about["form"] == "stream"
        wide = width if self.each else 2 * width
        self.embed: TokenEmbedding | FrameEmbedding
        if about["form"] == "frames":
            self.embed = FrameEmbedding(about["channels"], wide, drop_frames=drop_tokens, dropout=dropout)
        else:
            self.embed = TokenEmbedding(about["vocabulary"], wide, drop_tokens=drop_tokens, dropout=dropout)
        self.layers = nn.ModuleList(
            cell(wide, width, batch_first=True) if self.each else BothWays(cell, wide, width) for _ in range(depth)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(wide if self.each else 2 * wide, outputs)

    def forward(self, values: Tensor, inside: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Ids int64 or frames with NaN, [B, T] or [B, T, F] → [B, outputs]; of a running text [B, T, outputs].

        Without `inside` padding stands at the end of a row: id 0 or NaN, and in a running text there is none.
        """
        x, inside = self._read(values, inside, cache)
        if not self.each:
            x = torch.cat([masked_max(x, inside), masked_mean(x, inside)], dim=1)
        return self.head(self.dropout(x))

    def hidden(self, values: Tensor, inside: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """What the last layer says of each position: [B, T, 2 width], of a running text [B, T, width].

        `inside` [B, T] is True for real positions, wherever they stand. `cache` goes on from what was read before;
        only a running text can. Raises UserError otherwise.
        """
        return self._read(values, inside, cache)[0]

    def _read(self, values: Tensor, given: Tensor | None, cache: Cache | None) -> tuple[Tensor, Tensor]:
        if cache is not None and not self.each:
            raise UserError("This net reads in both directions: it needs the whole row and takes no cache.")
        x, inside = self.embed(values)
        if given is None:  # only the end is padding: an id 0 before another one is read
            inside = inside.flip(1).cumsum(dim=1).flip(1) > 0
        else:  # padding may stand anywhere: real positions to the front, and back at the end
            order = given.long().argsort(dim=1, descending=True, stable=True)
            x, inside = _moved(x, order), given.gather(1, order)
        for index, layer in enumerate(self.layers):
            x = self.dropout(x)
            if not self.each:
                x = layer(x, inside)
            elif cache is None:
                x, _ = layer(x)
            else:
                x, cache.layers[index] = _onwards(layer, x, cache.layers.get(index), None if given is None else inside)
        if cache is not None:
            cache.length += x.shape[1]
        return (x, inside) if given is None else (_moved(x, order.argsort(dim=1)), given)


class BothWays(nn.Module):
    """One recurrent layer read from left to right and one from right to left: [B, T, in] → [B, T, 2 width]."""

    def __init__(self, cell: Callable[..., nn.Module], width_in: int, width: int) -> None:
        super().__init__()
        self.forwards = cell(width_in, width, batch_first=True)
        self.backwards = cell(width_in, width, batch_first=True)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        to_right, _ = self.forwards(x)
        to_left, _ = self.backwards(reversed_inside(x, inside))
        return torch.cat([to_right, reversed_inside(to_left, inside)], dim=-1)


def reversed_inside(x: Tensor, inside: Tensor) -> Tensor:
    """Each row's real positions in reverse order, its padding where it was: [B, T, width] → [B, T, width]."""
    place = torch.arange(x.shape[1], device=x.device)
    last = inside.sum(dim=1, keepdim=True) - 1
    source = torch.where(inside, last - place, place)
    return _moved(x, source)


def _moved(x: Tensor, source: Tensor) -> Tensor:
    """Position t of row b becomes what stood at source[b, t]: [B, T, width] → [B, T, width]."""
    return x.gather(1, source.unsqueeze(-1).expand_as(x))


def _onwards(layer: nn.Module, x: Tensor, kept: Kept | None, inside: Tensor | None) -> tuple[Tensor, Kept]:
    """Go on from a kept state, and the state to keep.

    Rows that end early are packed after all: their last state is not the tensor's last. A row without any real position
    cannot be packed; its state stays what it was.
    """
    if inside is None:
        y, state = layer(x, _as_torch_has_it(kept))
        return y, _as_it_is_kept(state)
    lengths = inside.sum(dim=1)
    packed = pack_padded_sequence(x, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
    packed, state = layer(packed, _as_torch_has_it(kept))
    now = _as_it_is_kept(state)
    before = tuple(torch.zeros_like(part) for part in now) if kept is None else kept
    read = (lengths > 0)[:, None]
    y, _ = pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])
    return y, tuple(torch.where(read, new, old) for new, old in zip(now, before, strict=True))


def _as_torch_has_it(kept: Kept | None) -> State | None:
    """Torch puts the layers, of which each of ours has one, before the rows."""
    if kept is None:
        return None
    state = tuple(part.unsqueeze(0) for part in kept)
    return state if len(state) == 2 else state[0]


def _as_it_is_kept(state: State) -> Kept:
    return tuple(part.squeeze(0) for part in (state if isinstance(state, tuple) else (state,)))
