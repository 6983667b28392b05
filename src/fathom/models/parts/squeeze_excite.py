"""Squeeze-and-excitation: each channel of a picture is multiplied by a share computed from the means of all channels.

Hu et al. 2018, arXiv:1709.01507, section 3. The two 1x1 convolutions have biases; their kernels are [out, in, 1, 1], as
EfficientNet and MobileNet V3 keep them. What a reader would get wrong: the published gates differ (MobileNet V3 has the
"hardsigmoid", the others the sigmoid), and so does what `reduced` is a share of: see the model that calls this.
"""

from __future__ import annotations

from torch import Tensor, nn

from fathom.models.parts import activations


class SqueezeExcite(nn.Module):
    """[B, channels, H, W] to the same, by way of `reduced` numbers for each picture.

    >>> import torch
    >>> layer = SqueezeExcite(16, 4, activation="silu")
    >>> layer(torch.randn(2, 16, 5, 5)).shape
    torch.Size([2, 16, 5, 5])
    """

    def __init__(self, channels: int, reduced: int, *, activation: str = "relu", gate: str = "sigmoid") -> None:
        super().__init__()
        self.activation, self.gate = activations.activation(activation), activations.activation(gate)
        self.reduce = nn.Conv2d(channels, reduced, 1)
        self.expand = nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.activation(self.reduce(x.mean(dim=(2, 3), keepdim=True)))
        return x * self.gate(self.expand(squeezed))
