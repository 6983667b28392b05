"""Recurrent layers as equations, to be read; the networks use torch's kernels, which compute the same.

Parameters have torch's names and layout, so that either reads the other's state dict: the rows of each matrix are its
gates one below the other. What a reader would get wrong: what torch calls by a paper's name departs from the paper.
Its RNN squashes by tanh where Elman has the logistic function; its LSTM has the forget gate, which Gers et al. added
in 2000; its GRU multiplies by the reset gate after the matrix, Cho et al. before it. And all have two biases where one
would do.

    >>> layer = Equations("lstm", 3, 4)
    >>> states, (last, cell) = layer(torch.randn(2, 5, 3))
    >>> states.shape, last.shape, cell.shape
    (torch.Size([2, 5, 4]), torch.Size([1, 2, 4]), torch.Size([1, 2, 4]))
    >>> _ = nn.LSTM(3, 4, batch_first=True).load_state_dict(layer.state_dict())

Shapes: B rows, T positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

# What a layer remembers: its state, and for an LSTM the cell beside it. Each is [1, B, width], as torch has it.
State = Tensor | tuple[Tensor, Tensor]
Step = Callable[[Tensor, Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]


def elman(from_input: Tensor, from_state: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """h = tanh(W x + U h). Elman 1990, Finding Structure in Time."""
    return (torch.tanh(from_input + from_state),)


def lstm(from_input: Tensor, from_state: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """c = forget · c + write · tanh(candidate), h = read · tanh(c).

    Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000 and no peepholes.
    """
    write, forget, candidate, read = (from_input + from_state).chunk(4, dim=-1)
    cell = torch.sigmoid(forget) * state[1] + torch.sigmoid(write) * torch.tanh(candidate)
    return torch.sigmoid(read) * torch.tanh(cell), cell


def gru(from_input: Tensor, from_state: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """h = keep · h + (1 - keep) · tanh(W x + reset · U h). Cho et al. 2014, arXiv:1406.1078, eq. 5 to 8."""
    reset_in, keep_in, new_in = from_input.chunk(3, dim=-1)
    reset_state, keep_state, new_state = from_state.chunk(3, dim=-1)
    keep = torch.sigmoid(keep_in + keep_state)
    new = torch.tanh(new_in + torch.sigmoid(reset_in + reset_state) * new_state)
    return (keep * state[0] + (1 - keep) * new,)


STEPS: dict[str, tuple[int, Step]] = {"rnn": (1, elman), "lstm": (4, lstm), "gru": (3, gru)}


class Equations(nn.Module):
    """One layer, left to right: [B, T, width_in] → the state after each position [B, T, width], and the last state."""

    def __init__(self, kind: str, width_in: int, width: int) -> None:
        super().__init__()
        gates, self.step = STEPS[kind]
        self.num_states = 2 if kind == "lstm" else 1
        self.hidden_size = width
        self.weight_ih_l0 = nn.Parameter(torch.empty(gates * width, width_in))
        self.weight_hh_l0 = nn.Parameter(torch.empty(gates * width, width))
        self.bias_ih_l0 = nn.Parameter(torch.empty(gates * width))
        self.bias_hh_l0 = nn.Parameter(torch.empty(gates * width))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(width), 1 / math.sqrt(width))

    def forward(self, x: Tensor, state: State | None = None, inside: Tensor | None = None) -> tuple[Tensor, State]:
        """Where `inside` [B, T] is False nothing is read: the state stays as it was, as after a packed sequence."""
        given = state if isinstance(state, tuple) else (state,) * self.num_states
        now = tuple(x.new_zeros(len(x), self.hidden_size) if part is None else part.squeeze(0) for part in given)
        from_input = nn.functional.linear(x, self.weight_ih_l0, self.bias_ih_l0)  # all positions at once
        states = []
        for t in range(x.shape[1]):
            from_state = nn.functional.linear(now[0], self.weight_hh_l0, self.bias_hh_l0)
            new = self.step(from_input[:, t], from_state, now)
            if inside is not None:
                new = tuple(torch.where(inside[:, t, None], *pair) for pair in zip(new, now, strict=True))
            now = new
            states.append(now[0])
        last = tuple(part.unsqueeze(0) for part in now)
        return torch.stack(states, dim=1), last if len(last) == 2 else last[0]


@torch.no_grad()
def start_orthogonal(layer: nn.RNNBase | Equations) -> None:
    """Glorot's range for what reads the input, orthogonal matrices for what reads the state, biases 0; gate by gate.

    Glorot & Bengio 2010, eq. 16; Saxe et al. 2014, arXiv:1312.6120: an orthogonal matrix neither swells nor shrinks a
    state however often it is applied. Torch draws all of them from ±1/sqrt(width).
    """
    for name, parameter in layer.named_parameters():
        for gate in parameter.split(int(layer.hidden_size)):
            if name.startswith("weight_ih"):
                nn.init.xavier_uniform_(gate)
            elif name.startswith("weight_hh"):
                nn.init.orthogonal_(gate)
            else:
                nn.init.zeros_(gate)


@torch.no_grad()
def start_remembering(layer: nn.RNNBase | Equations, bias: float) -> None:
    """Set the bias of an LSTM's forget gate, the sum of torch's two, so that it starts by keeping its cell.

    Gers et al. 2000; Jozefowicz et al. 2015 (An Empirical Exploration), who find that 1 closes the gap to the GRU.
    """
    width = int(layer.hidden_size)
    for name, parameter in layer.named_parameters():
        if name.startswith("bias"):
            parameter[width : 2 * width] = bias if name.startswith("bias_ih") else 0.0
