"""Frames of numbers, one after the other: the features of a recording or the values of a series, [B, T, F].

Rows of different length are filled with NaN at the end. What a reader would get wrong: only the end is padding. A NaN
before the last frame that holds a number is a gap; it reads as 0 and its frame still counts.

    >>> nan = float("nan")
    >>> real_frames(torch.tensor([[[1.0, 2.0], [nan, nan], [3.0, nan], [nan, nan]]])).tolist()
    [[True, True, True, False]]
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fathom.models.parts.checks import refuse_inputs


def real_frames(frames: Tensor) -> Tensor:
    """Where [B, T, F] is not padding: bool [B, T]. The first position of a row always counts."""
    seen = (~torch.isnan(frames)).any(dim=-1)
    followed = seen.flip(1).cumsum(dim=1).flip(1) > 0  # a number here or later
    return followed | (torch.arange(frames.shape[1], device=frames.device) == 0)


def without_nan(frames: Tensor) -> Tensor:
    """The same with 0 for every NaN. Infinite values are left to be noticed."""
    return torch.where(torch.isnan(frames), torch.zeros((), dtype=frames.dtype, device=frames.device), frames)


class FrameEmbedding(nn.Module):
    """Frames [B, T, F] → vectors [B, T, width] and the mask [B, T] of real positions.

    `drop_frames` is the share of frames whose vector is zeroed in training, the first excepted.
    """

    def __init__(self, channels: int, width: int, *, drop_frames: float = 0.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.project = nn.Linear(channels, width)
        self.drop_frames = drop_frames
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        x = self.dropout(self.project(without_nan(frames)))
        if self.training and self.drop_frames:
            kept = torch.rand(x.shape[:2], device=x.device) >= self.drop_frames
            kept[:, 0] = True
            x = x * kept.unsqueeze(-1)
        return x, real_frames(frames)


def is_frames(inputs: dict[str, dict[str, Any]]) -> bool:
    return [about["form"] for about in inputs.values()] == ["frames"]


def channels_of(inputs: dict[str, dict[str, Any]], whose: str) -> int:
    """Numbers in each frame of the only input. Raises UserError where that is not frames."""
    if not is_frames(inputs):
        refuse_inputs(whose, "frames of numbers", inputs)
    (about,) = inputs.values()
    return int(about["channels"])
