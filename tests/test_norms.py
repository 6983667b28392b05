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


def test_layer_norm() -> None:
    norm, x = randomised(nn.LayerNorm(6, eps=1e-3)), normal(4, 5, 6)
    assert_is(norm(x), standardised(x, (-1,), 1e-3) * norm.weight.double() + norm.bias.double())


def test_channel_norm() -> None:
    norm, x = randomised(ChannelNorm(6, eps=1e-3)), normal(2, 6, 3, 4)
    weight, bias = (p.double()[:, None, None] for p in (norm.weight, norm.bias))
    assert_is(norm(x), standardised(x, (1,), 1e-3) * weight + bias)


def test_group_norm() -> None:
    norm, x = randomised(nn.GroupNorm(2, 6, eps=1e-3)), normal(2, 6, 3, 4)
    grouped = standardised(x.reshape(2, 2, 3, 3, 4), (2, 3, 4), 1e-3).reshape(x.shape)
    weight, bias = (p.double()[:, None, None] for p in (norm.weight, norm.bias))
    assert_is(norm(x), grouped * weight + bias)


def test_batch_norm_in_training_and_after() -> None:
    norm, x = randomised(nn.BatchNorm2d(6, eps=1e-3, momentum=0.25)), normal(5, 6, 3, 4)
    weight, bias = (p.double()[:, None, None] for p in (norm.weight, norm.bias))
    assert_is(norm.train()(x), standardised(x, (0, 2, 3), 1e-3) * weight + bias)
    # The running variance is of a sample (n - 1), the one divided by in training of the batch itself (n).
    x64, n = x.double(), x.numel() / 6
    mean = x64.mean(dim=(0, 2, 3))
    sample = ((x64 - mean[:, None, None]) ** 2).sum(dim=(0, 2, 3)) / (n - 1)
    running_mean, running_variance = 0.25 * mean, 0.75 + 0.25 * sample
    centred = (x64 - running_mean[:, None, None]) / torch.sqrt(running_variance + 1e-3)[:, None, None]
    assert_is(norm.eval()(x), centred * weight + bias)
