"""Normalisations against their plain formulas in float64."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fathom.models.parts.norm import ChannelNorm, RMSNorm


def normal(*shape: int, seed: int = 0) -> Tensor:
    return 0.5 + torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def randomised(norm: nn.Module) -> nn.Module:
    with torch.no_grad():
        for seed, parameter in enumerate(norm.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=10 + seed))
    return norm


def standardised(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    x = x.double()
    mean = x.mean(dim=dims, keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=dims, keepdim=True)
    return (x - mean) / torch.sqrt(variance + eps)


def assert_is(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-6)


def test_rms_norm() -> None:
    norm, x = randomised(RMSNorm(6, eps=1e-3)), normal(4, 5, 6)
    x64 = x.double()
    wanted = x64 / torch.sqrt((x64**2).sum(dim=-1, keepdim=True) / 6 + 1e-3) * norm.weight.double()
    assert_is(norm(x), wanted)


def test_rms_norm_of_16_bits_is_computed_in_32() -> None:
    norm, x = RMSNorm(512), normal(3, 512).to(torch.bfloat16)
    assert norm.to(torch.bfloat16)(x).dtype == torch.bfloat16
    wanted = x.double() / torch.sqrt((x.double() ** 2).mean(dim=-1, keepdim=True) + norm.eps)
    torch.testing.assert_close(norm(x).double(), wanted, rtol=2**-8, atol=0)


def test_channel_norm() -> None:
    norm, x = randomised(ChannelNorm(6, eps=1e-3)), normal(2, 6, 3, 4)
    weight, bias = (p.double()[:, None, None] for p in (norm.weight, norm.bias))
    assert_is(norm(x), standardised(x, (1,), 1e-3) * weight + bias)
