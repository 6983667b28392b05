"""Attention, rotary positions, the cache and the mixture of experts against plain formulas in float64."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fathom.errors import UserError
from fathom.models.parts.attention import attend
from fathom.models.parts.cache import Cache
from fathom.models.parts.gated import GatedPerceptron
from fathom.models.parts.language_head import LanguageHead, last_real
from fathom.models.parts.moe import MixtureOfExperts, unevenness
from fathom.models.parts.rotary import RopeScaling, rotate, rotation

B, H, T, D = 2, 4, 7, 6


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    inside: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """One query at a time, in float64, with numbers and loops only."""
    out = torch.zeros(query.shape, dtype=torch.float64)
    rows, heads, T, D = query.shape
    groups, S = key.shape[1], key.shape[2]
    for row in range(rows):
        for head in range(heads):
            group = head * groups // heads
            for t in range(T):
                here = S - T + t
                scores = {}
                for s in range(S):
                    seen = not causal or s <= here
                    seen = seen and (window is None or here - s < window)
                    seen = seen and (inside is None or bool(inside[row, s]))
                    if seen or (causal and s == here):
                        dot = float(query[row, head, t].double() @ key[row, group, s].double())
                        scores[s] = dot * (1 / math.sqrt(D) if scale is None else scale)
                        scores[s] += 0.0 if bias is None else float(bias[0, head, t, s])
                most = max(scores.values())
                total = sum(math.exp(score - most) for score in scores.values())
                for s, score in scores.items():
                    out[row, head, t] += math.exp(score - most) / total * value[row, group, s].double()
    return out


CASES = {
    "plain": {},
    "causal": {"causal": True},
    "padded": {"inside": True},
    "causal and padded": {"causal": True, "inside": True},
    "window": {"causal": True, "window": 3},
    "window of one": {"causal": True, "window": 1},
    "window longer than the text": {"causal": True, "window": 50},
    "window and padded": {"causal": True, "window": 3, "inside": True},
    "bias": {"bias": True},
    "bias, causal and padded": {"bias": True, "causal": True, "inside": True},
    "own scale": {"scale": 0.3, "causal": True},
}


@pytest.mark.parametrize("groups", [4, 2, 1])
@pytest.mark.parametrize("case", CASES)
def test_attention_is_the_formula(case: str, groups: int) -> None:
    query, key, value = (normal(B, n, T, D, seed=i) for i, n in enumerate((H, groups, groups)))
    options = dict(CASES[case])
    if "inside" in options:
        options["inside"] = torch.tensor([[True] * 5 + [False] * 2, [False] * 3 + [True] * 4])
    if "bias" in options:
        options["bias"] = normal(1, H, T, T, seed=3)
    found = attend(query, key, value, **options)
    torch.testing.assert_close(found.double(), reference(query, key, value, **options), rtol=0, atol=1e-6)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("new", [1, 2, T])
def test_queries_are_the_last_of_the_keys(new: int, window: int | None) -> None:
    query, key, value = normal(B, H, new, D), normal(B, 2, T, D, seed=1), normal(B, 2, T, D, seed=2)
    inside = torch.tensor([[True] * T, [False] * 2 + [True] * (T - 2)])
    found = attend(query, key, value, causal=True, window=window, inside=inside)
    wanted = reference(query, key, value, causal=True, window=window, inside=inside)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-6)
    found = attend(query, key, value, causal=True, window=window)
    wanted = reference(query, key, value, causal=True, window=window)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-6)


def test_gradient_of_attention_is_that_of_the_formula() -> None:
    inputs = [normal(1, 2, 4, 4, seed=i).double().requires_grad_() for i in range(3)]
    assert torch.autograd.gradcheck(lambda *qkv: attend(*qkv, causal=True, window=2), inputs)


def test_future_changes_nothing() -> None:
    query, key, value = (normal(B, H, T, D, seed=i) for i in range(3))
    before = attend(query, key, value, causal=True)
    key[:, :, 4:] = 9.0
    value[:, :, 4:] = 9.0
    after = attend(query, key, value, causal=True)
    assert torch.equal(before[:, :, :4], after[:, :, :4])
    assert not torch.allclose(before[:, :, 4:], after[:, :, 4:])


def test_rotation_is_the_formula() -> None:
    x = normal(1, 1, 5, 6)
    turned = rotate(x, *rotation(5, 6, x.device, base=100.0, start=20))
    for t in range(5):
        for i in range(3):
            angle = (20 + t) * 100.0 ** (-2 * i / 6)
            a, b = float(x[0, 0, t, i]), float(x[0, 0, t, i + 3])
            assert float(turned[0, 0, t, i]) == pytest.approx(a * math.cos(angle) - b * math.sin(angle), abs=1e-5)
            assert float(turned[0, 0, t, i + 3]) == pytest.approx(b * math.cos(angle) + a * math.sin(angle), abs=1e-5)


def test_rotated_products_depend_on_the_distance_only() -> None:
    query, key = normal(1, 1, 1, 8), normal(1, 1, 1, 8, seed=1)

    def product(m: int, n: int) -> Tensor:
        at = [rotation(1, 8, query.device, start=place) for place in (m, n)]
        return (rotate(query, *at[0]) * rotate(key, *at[1])).sum()

    torch.testing.assert_close(product(3, 1), product(40, 38), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(product(3, 1), product(3, 2), rtol=1e-2)


def test_llama_3_keeps_fast_pairs_and_slows_slow_ones() -> None:
    scaling = RopeScaling("llama3", factor=8.0, low=1.0, high=4.0, length=100)
    turns = torch.tensor([10.0, 4.0, 2.5, 1.0, 0.1])  # in 100 positions
    frequencies = turns * 2 * math.pi / 100
    share = torch.tensor([1.0, 1.0, 0.5 * 1 / 8 + 0.5, 1 / 8, 1 / 8])
    torch.testing.assert_close(scaling(frequencies), frequencies * share)
    with pytest.raises(UserError, match="llama3"):
        RopeScaling("lama3")


@pytest.mark.parametrize("window", [None, 3])
def test_cache_keeps_what_the_window_needs(window: int | None) -> None:
    keys, values, queries = (normal(1, 2, 9, D, seed=i) for i in range(3))
    cache = Cache()
    found = []
    for part in (slice(0, 4), slice(4, 5), slice(5, 6), slice(6, 9)):
        key, value = cache.extend(0, keys[:, :, part], values[:, :, part], window=window)
        found.append(attend(queries[:, :, part], key, value, causal=True, window=window))
    whole = attend(queries, keys, values, causal=True, window=window)
    torch.testing.assert_close(torch.cat(found, dim=2), whole)
    assert cache.keys[0].shape[2] == (9 if window is None else window)


def test_cache_remembers_padding() -> None:
    cache, first = Cache(), torch.tensor([[False, True], [True, True]])
    assert torch.equal(cache.note(first, torch.zeros(2, 2)), first)
    assert cache.note(None, torch.zeros(2, 1)).tolist() == [[False, True, True], [True, True, True]]
    late = Cache()
    assert late.note(None, torch.zeros(2, 3)) is None
    late.length = 3
    assert late.note(torch.tensor([[True], [False]]), torch.zeros(2, 1)).tolist() == [[True] * 4, [True] * 3 + [False]]


def test_gated_perceptron_is_the_formula() -> None:
    layer, x = GatedPerceptron(4, 6), normal(3, 4)
    gate, expand, contract = (m.weight.detach().double() for m in (layer.gate, layer.expand, layer.contract))
    x64 = x.double()
    gated = x64 @ gate.T
    wanted = (gated / (1 + torch.exp(-gated)) * (x64 @ expand.T)) @ contract.T
    torch.testing.assert_close(layer(x).double(), wanted, rtol=0, atol=1e-6)


def test_last_real_position_on_either_side() -> None:
    x = torch.arange(12.0).reshape(2, 3, 2).repeat(1, 2, 1)[:, :4]
    inside = torch.tensor([[True, True, False, False], [False, False, True, True]])
    assert torch.equal(last_real(x, inside), torch.stack([x[0, 1], x[1, 3]]))
    assert torch.equal(last_real(x, None), x[:, -1])


def test_head_without_outputs_gives_the_states() -> None:
    x = normal(2, 3, 4)
    assert LanguageHead(4, None, each=True, tied=True)(x, None, torch.zeros(0, 4)) is x


def mixture(**options: float) -> MixtureOfExperts:
    torch.manual_seed(0)
    return MixtureOfExperts(4, 6, **{"experts": 3, "used": 2} | options)


def test_mixture_is_the_formula() -> None:
    layer, x = mixture().eval().requires_grad_(False), normal(2, 5, 4)
    found = layer(x)
    for row in x.flatten(0, 1).unbind():
        shares = F.softmax(layer.router.weight @ row, dim=0)
        best = sorted(range(3), key=lambda e: -float(shares[e]))[:2]
        total = sum(shares[e] for e in best)
        wanted = sum(shares[e] / total * layer.experts[e](row) for e in best)
        at = (x == row).all(-1).nonzero()[0]
        torch.testing.assert_close(found[at[0], at[1]], wanted, rtol=0, atol=1e-6)


def test_only_chosen_experts_learn() -> None:
    layer = mixture(used=1)
    with torch.no_grad():
        layer.router.weight[1] = -99 * layer.router.weight[0].sign()
        layer.router.weight[0] = -layer.router.weight[1]
    layer(layer.router.weight[0].sign()[None, None].detach()).sum().backward()
    assert layer.experts[0].gate.weight.grad.any()
    assert not layer.experts[1].gate.weight.grad.any()


def test_unevenness_is_that_of_the_switch_paper() -> None:
    shares = torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    chosen = shares.argmax(dim=1, keepdim=True)
    fractions, means = [2 / 4, 1 / 4, 1 / 4], [1.6 / 4, 1.5 / 4, 0.9 / 4]
    wanted = 3 * sum(f * m for f, m in zip(fractions, means))
    assert float(unevenness(shares, chosen)) == pytest.approx(wanted)
    even = torch.full((4, 4), 0.25)
    assert float(unevenness(even, torch.tensor([[0, 1], [2, 3], [0, 1], [2, 3]]))) == pytest.approx(2.0)


def test_padding_does_not_count_for_the_balance() -> None:
    shares, chosen = normal(6, 3).softmax(dim=-1), torch.tensor([[0], [1], [2], [0], [0], [0]])
    inside = torch.tensor([True, True, True, True, False, False])
    torch.testing.assert_close(unevenness(shares, chosen, inside), unevenness(shares[:4], chosen[:4]))


def test_a_batch_of_padding_alone_costs_nothing() -> None:
    layer, x = mixture(balance=1.0).train(), normal(2, 5, 4)
    layer(x, torch.zeros(2, 5, dtype=torch.bool))
    loss = layer.auxiliary_loss()
    assert float(loss.detach()) == 0
    loss.backward()
    assert not layer.router.weight.grad.any()


def test_balance_is_asked_for_once_and_only_after_training() -> None:
    layer, x = mixture(balance=0.5), normal(2, 5, 4)
    layer.train()(x)
    first = layer.auxiliary_loss()
    assert first.requires_grad
    assert float(first.detach()) > 0.5 * 2 * 0.99
    assert float(layer.auxiliary_loss()) == 0
    layer.eval()(x)
    assert float(layer.auxiliary_loss()) == 0
    layer.train()(x)
    assert float(copy.deepcopy(layer).auxiliary_loss()) == 0


def test_descending_the_balance_evens_the_loads() -> None:
    layer, x = mixture(experts=4, used=1, balance=1.0), normal(1, 64, 4)
    with torch.no_grad():
        layer.router.weight[0] += 1.0
    optimizer = torch.optim.SGD([layer.router.weight], lr=0.5)
    losses = []
    for _ in range(100):
        layer.train()(x)
        loss = layer.auxiliary_loss()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert losses[-1] < 1.1  # 1 is an even load


def test_more_experts_used_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match="experts_used=4"):
        mixture(used=4)
