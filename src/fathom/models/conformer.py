"""A Conformer for recordings: attention for what is far apart, convolution for what is near, in every block.

The encoder of Gulati et al. 2020, arXiv:2005.08100, with one answer a row from the mean over its positions; the paper
decodes text with a transducer instead. What a reader would get wrong: the paper's 10.3, 30.7 and 118.8 million
parameters count that decoder (one LSTM of 320 or 640 units, an embedding, a joint layer); the encoders of sizes S, M
and L have 8.7, 27.3 and 115.1 million. Departures: the convolutions in front are padded by one, so that a single frame
is enough; batch normalisation counts real positions only. Positions are told by distance alone, so there is no longest
recording.

    >>> import torch
    >>> model = build({"speech": {"form": "frames", "channels": 80, "length": 200}}, 10).eval()
    >>> frames = torch.randn(2, 30, 80)
    >>> frames[1, 12:] = float("nan")  # the second recording is shorter
    >>> model(frames).shape, model.hidden(frames).shape
    (torch.Size([2, 10]), torch.Size([2, 8, 64]))

Shapes: B rows, T positions, F numbers a frame.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from fathom.errors import UserError
from fathom.models.parts.checks import check_choice, check_shares, check_sizes
from fathom.models.parts.frames import channels_of, is_frames, real_frames, without_nan
from fathom.models.parts.heads import SequenceHead
from fathom.models.parts.masked_norm import MaskedBatchNorm
from fathom.models.parts.relative_attention import RelativeAttention

USE = "recordings and other series of frames"
SOURCE = "Gulati et al. 2020, arXiv:2005.08100"
SUBSAMPLES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Size:
    width: int
    depth: int
    heads: int
    kernel: int  # positions that the depthwise convolution sees


# Table 1 of the paper, and one that trains in seconds.
SIZES = {"tiny": Size(64, 2, 4, 15), "S": Size(144, 16, 4, 32), "M": Size(256, 16, 4, 32), "L": Size(512, 17, 8, 32)}


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    return "one series of frames" if is_frames(inputs) else None


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    size: str = "tiny",
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    kernel: int | None = None,
    subsample: int = 4,
    dropout: float = 0.1,
) -> nn.Module:
    """A network from frames [B, T, F], padded with NaN at the end, to [B, outputs].

    `size` is tiny, S, M or L; `width`, `depth`, `heads` and `kernel` change one of its measures. `subsample` frames
    become one position: 4 for a recording of 100 frames a second, 1 for a series in which each frame counts. Raises
    UserError on inputs that are not frames and on options that do not fit.
    """
    channels = channels_of(inputs, "conformer")
    check_choice("size", size, SIZES)
    given = {"width": width, "depth": depth, "heads": heads, "kernel": kernel}
    measures = Size(**asdict(SIZES[size]) | {name: value for name, value in given.items() if value is not None})
    check_sizes(**asdict(measures))
    check_shares(dropout=dropout)
    if measures.width % measures.heads or measures.width % 2:
        raise UserError(
            f"model.width={measures.width}: expected an even number that {measures.heads} heads can share, "
            f"for example model.width={2 * measures.heads * max(1, measures.width // (2 * measures.heads))}."
        )
    if subsample not in SUBSAMPLES:
        raise UserError(f"model.subsample={subsample}: expected 1, 2, 4 or 8 frames to become one. Type 4 for speech.")
    return Conformer(channels, outputs, measures, subsample, dropout)


class Conformer(nn.Module):
    """Fewer positions, blocks, and a linear head on the mean over real positions."""

    def __init__(self, channels: int, outputs: int, size: Size, subsample: int, dropout: float) -> None:
        super().__init__()
        self.subsampling = Subsampling(channels, size.width, subsample)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(size, dropout) for _ in range(size.depth))
        self.head = SequenceHead(size.width, outputs, each=False, dropout=dropout)

    def forward(self, frames: Tensor, inside: Tensor | None = None) -> Tensor:
        """`inside` [B, T] is True for real frames, which stand before all padding; left out, NaN tells."""
        return self.head(*self._read(frames, inside))

    def hidden(self, frames: Tensor, inside: Tensor | None = None) -> Tensor:
        """What the last block says: [B, T / subsample rounded up, width]. Real are `inside[:, ::subsample]`."""
        return self._read(frames, inside)[0]

    def _read(self, frames: Tensor, inside: Tensor | None) -> tuple[Tensor, Tensor]:
        x, inside = self.subsampling(without_nan(frames), real_frames(frames) if inside is None else inside)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, inside)
        return x, inside


class Subsampling(nn.Module):
    """3x3 convolutions that halve both time and channels, and a matrix: [B, T, F] → [B, T / by, width] and its mask.

    A position is real where its window's middle is. Everything else is zeroed before the next window reaches into it.
    """

    def __init__(self, channels: int, width: int, by: int) -> None:
        super().__init__()
        halvings = SUBSAMPLES.index(by)
        convs = [nn.Conv2d(width if index else 1, width, 3, stride=2, padding=1) for index in range(halvings)]
        self.convs = nn.ModuleList(convs)
        left = -(-channels // by)  # halving rounds up
        self.project = nn.Linear(left * width if halvings else channels, width)

    def forward(self, frames: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        x = (frames * inside.unsqueeze(-1)).unsqueeze(1)  # [B, 1, T, F]
        for conv in self.convs:
            inside = inside[:, ::2]
            x = F.relu(conv(x)) * inside[:, None, :, None]
        return self.project(x.transpose(1, 2).flatten(2)), inside


class Block(nn.Module):
    """Half a perceptron, attention, convolution, the other half, each added to what came in; then a norm (eq. 1)."""

    def __init__(self, size: Size, dropout: float) -> None:
        super().__init__()
        self.first_half = Perceptron(size.width, dropout)
        self.attention_norm = nn.LayerNorm(size.width)
        self.attention = RelativeAttention(size.width, size.heads, dropout=dropout)
        self.convolution = Convolution(size.width, size.kernel, dropout)
        self.second_half = Perceptron(size.width, dropout)
        self.norm = nn.LayerNorm(size.width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        x = x + 0.5 * self.first_half(x)
        x = x + self.dropout(self.attention(self.attention_norm(x), inside))
        x = x + self.convolution(x, inside)
        return self.norm(x + 0.5 * self.second_half(x))


class Perceptron(nn.Sequential):
    """Norm and two matrices with swish between them: [.., width] → [.., width]. Fig. 4."""

    def __init__(self, width: int, dropout: float) -> None:
        expand, contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        super().__init__(nn.LayerNorm(width), expand, nn.SiLU(), nn.Dropout(dropout), contract, nn.Dropout(dropout))


class Convolution(nn.Module):
    """Norm, a gate, each channel's own convolution over time, batch norm, swish: [B, T, width] → the same. Fig. 2."""

    def __init__(self, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * width)
        self.around = ((kernel - 1) // 2, kernel // 2)  # positions seen before and after; an even kernel looks ahead
        self.depthwise = nn.Conv1d(width, width, kernel, groups=width)
        self.batch_norm = MaskedBatchNorm(width)
        self.contract = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        # Padding is zeroed: the last position's window reaches into it, and the norm and biases have made it non-zero.
        gated = F.glu(self.expand(self.norm(x)), dim=-1) * inside.unsqueeze(-1)
        mixed = self.depthwise(F.pad(gated.transpose(1, 2), self.around)).transpose(1, 2)
        return self.dropout(self.contract(F.silu(self.batch_norm(mixed, inside))))
