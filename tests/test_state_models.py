"""Mamba, Mamba-2 and Jamba: published sizes, writing token by token, padding, and what options they refuse.

What a reader would get wrong: there is no second code for one token at a time. These tests say that the one code, given
what it remembers, goes on as if it had read everything at once, with the same gradients.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.errors import UserError
from fathom.models.parts.cache import Cache
from fathom.models.parts.moe import MixtureOfExperts
from fathom.network import build
from tests.parity.common import randomise

STREAM = {"text": {"form": "stream", "vocabulary": 50, "length": 40}}
TOKENS = {"text": {"form": "tokens", "vocabulary": 50, "length": 40}}
SMALL: dict[str, dict[str, Any]] = {
    "mamba": {"depth": 2, "width": 16, "state": 4},
    "mamba2": {"depth": 2, "width": 16, "state": 4, "head_width": 8, "groups": 2},
    "jamba": {"depth": 3, "width": 16, "state": 4, "heads": 2, "key_heads": 1, "attention_period": 3, "experts": 3},
}
# Counted in the published configurations with transformers 5.23, their matrices tied where theirs are.
PARAMETERS = {
    ("mamba", "130m", 50280): 129_135_360,
    ("mamba", "370m", 50280): 371_516_416,
    ("mamba", "790m", 50280): 793_204_224,
    ("mamba", "1.4b", 50280): 1_372_178_432,
    ("mamba", "2.8b", 50280): 2_768_345_600,
    ("mamba2", "130m", 50288): 128_989_632,
    ("mamba2", "370m", 50288): 368_346_624,
    ("mamba2", "780m", 50288): 780_161_280,
    ("mamba2", "1.3b", 50288): 1_343_757_312,
    ("mamba2", "2.7b", 50288): 2_702_599_680,
    ("jamba", "52b", 65536): 51_570_323_328,
    ("jamba", "398b", 65536): 398_555_145_696,
}


def made(name: str, inputs: dict[str, dict[str, Any]] = STREAM, outputs: int = 50, **options: Any) -> nn.Module:
    """In float64, every parameter away from its start: a norm of ones and a skip of ones hide mistakes."""
    torch.manual_seed(0)
    model = build(name, inputs, outputs, SMALL[name] | options).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def ids(rows: int, length: int) -> Tensor:
    return torch.randint(1, 50, (rows, length), generator=torch.Generator().manual_seed(1))


def piece_by_piece(model: nn.Module, tokens: Tensor, lengths: list[int], inside: Tensor | None = None) -> Tensor:
    cache, answers = Cache(), []
    for first, length in zip([sum(lengths[:i]) for i in range(len(lengths))], lengths, strict=True):
        part = slice(first, first + length)
        answers.append(model(tokens[:, part], None if inside is None else inside[:, part], cache=cache))
    assert cache.length == tokens.shape[1]
    return torch.cat(answers, dim=1)


@pytest.mark.parametrize(("name", "size", "vocabulary"), PARAMETERS)
def test_published_sizes_have_their_number_of_parameters(name: str, size: str, vocabulary: int) -> None:
    about = {"text": {"form": "stream", "vocabulary": vocabulary, "length": 2048}}
    with torch.device("meta"):
        model = build(name, about, vocabulary, {"size": size})
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name, size, vocabulary]


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_dial_reaches_the_smallest_published_size(name: str) -> None:
    with torch.device("meta"):
        dialled, named = (build(name, STREAM, 50, options) for options in ({"depth": 24}, {"size": "130m"}))
    assert {n: p.shape for n, p in dialled.named_parameters()} == {n: p.shape for n, p in named.named_parameters()}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("lengths", [[1] * 21, [5, 1, 1, 14], [1, 20]])
def test_piece_by_piece_is_the_whole(name: str, lengths: list[int]) -> None:
    model, tokens = made(name), ids(3, 21)
    with torch.no_grad():
        torch.testing.assert_close(piece_by_piece(model, tokens, lengths), model(tokens), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SMALL)
def test_gradients_of_the_whole_are_those_token_by_token(name: str) -> None:
    model, tokens = made(name), ids(2, 19)
    weights = torch.randn(2, 19, 50, dtype=torch.float64)
    gradients = []
    for answers in (model(tokens), piece_by_piece(model, tokens, [1] * 19)):
        model.zero_grad(set_to_none=True)
        (answers * weights).sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    for parameter, gradient in gradients[0].items():
        assert gradient is not None and gradient.any(), parameter
        torch.testing.assert_close(gradients[1][parameter], gradient, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", SMALL)
def test_padding_on_the_left_leaves_no_trace(name: str) -> None:
    """Not even where the first matrix has a bias, nor token by token."""
    model, tokens = made(name, bias=True), ids(3, 12)
    padded = F.pad(tokens, (4, 0), value=7)
    inside = torch.arange(16).expand(3, -1) >= 4
    with torch.no_grad():
        alone = model(tokens)
        torch.testing.assert_close(model(padded, inside)[:, 4:], alone, rtol=1e-9, atol=1e-9)
        pieces = piece_by_piece(model, padded, [2, 8, 1, 1, 4], inside)
        torch.testing.assert_close(pieces[:, 4:], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SMALL)
def test_future_is_not_seen(name: str) -> None:
    model, tokens = made(name), ids(2, 12)
    changed = tokens.clone()
    changed[:, 8:] = 1 + changed[:, 8:] % 49
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    torch.testing.assert_close(after[:, :8], before[:, :8])
    assert (after[:, 8:] - before[:, 8:]).abs().amax(dim=-1).min() > 1e-6


@pytest.mark.parametrize("name", SMALL)
def test_one_answer_a_row_comes_from_its_last_real_position(name: str) -> None:
    model, tokens = made(name, TOKENS, 3), ids(2, 12)
    tokens[1, 7:] = 0
    with torch.no_grad():
        torch.testing.assert_close(model(tokens)[1], model(tokens[1:, :7])[0])
        states = model.hidden(tokens)
        torch.testing.assert_close(model(tokens)[0], model.head.project(states[0, -1]))


@pytest.mark.parametrize("name", SMALL)
def test_head_is_the_embedding_only_where_asked_for_and_possible(name: str) -> None:
    assert "head.project.weight" not in made(name, tied=True).state_dict()
    assert "head.project.weight" in made(name, outputs=3, tied=True).state_dict()
    assert "head.project.weight" in made(name, TOKENS, 50, tied=True).state_dict()
    assert "head.project.weight" in made(name, tied=False).state_dict()
    assert made(name, outputs=16, head=False)(ids(2, 5)).shape == (2, 5, 16)


def test_decays_start_as_published() -> None:
    mixer = build("mamba", STREAM, 50, {}).blocks[0].mixer
    torch.testing.assert_close(mixer.log_decay.exp(), torch.arange(1.0, 17.0).expand(128, 16))
    heads = build("mamba2", STREAM, 50, {"head_width": 1}).blocks[0].mixer.log_decay.exp()
    assert 1 <= heads.min() < 3 and 14 < heads.max() <= 16


def test_jamba_has_each_kind_of_layer_where_its_paper_has_it() -> None:
    with torch.device("meta"):
        blocks = build("jamba", STREAM, 50, {"depth": 16, "width": 32, "experts": 2}).blocks
    assert [i for i, block in enumerate(blocks) if hasattr(block.mixer, "query")] == [4, 12]
    assert [i for i, block in enumerate(blocks) if hasattr(block.perceptron, "router")] == list(range(1, 16, 2))


def test_a_single_layer_of_jamba_knows_the_order() -> None:
    """Attention alone, without positions, would not."""
    model, tokens = randomise(build("jamba", TOKENS, 3, {"depth": 1})), ids(1, 9)
    other = tokens.clone()
    other[0, [2, 3]] = tokens[0, [3, 2]]
    with torch.no_grad():
        assert not torch.allclose(model(tokens), model(other), rtol=1e-3, atol=1e-3)


def test_jamba_asks_its_routers_once() -> None:
    model, calls = made("jamba"), []
    for part in model.modules():
        if isinstance(part, MixtureOfExperts):
            part.router.register_forward_hook(lambda *_: calls.append(1))
    model(ids(2, 5))
    assert len(calls) == sum(isinstance(part, MixtureOfExperts) for part in model.modules()) > 0


def test_jamba_weighs_experts_by_their_undivided_shares() -> None:
    model = made("jamba")
    block = next(block for block in model.blocks if isinstance(block.perceptron, MixtureOfExperts))
    mixture, x = block.perceptron, torch.randn(2, 5, 16, dtype=torch.float64)
    shares = mixture.router(x).softmax(dim=-1)
    wanted = torch.zeros_like(x)
    for row in range(2):
        for t in range(5):
            for expert in shares[row, t].argsort(descending=True)[:2].tolist():
                wanted[row, t] += shares[row, t, expert] * mixture.experts[expert](x[row, t])
    torch.testing.assert_close(block._think(x, None), wanted, rtol=1e-6, atol=1e-6)  # shares are float32


def test_jamba_offers_the_loss_for_even_loads() -> None:
    model = made("jamba", balance=0.5).train()
    model(ids(2, 12))
    losses = [part.auxiliary_loss() for part in model.modules() if hasattr(part, "auxiliary_loss")]
    assert losses and all(loss.detach() > 0.5 for loss in losses)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("mamba", {"size": "130M"}, "130m"),
        ("mamba", {"depth": 0}, "model.depth=0"),
        ("mamba", {"norm_eps": -1.0}, "model.norm_eps=-1.0"),
        ("mamba2", {"norm_eps": -1.0}, "model.norm_eps=-1.0"),
        ("jamba", {"norm_eps": -1.0}, "model.norm_eps=-1.0"),
        ("mamba", {"state": 0}, "model.state=0"),
        ("mamba", {"step_rank": 0}, "model.step_rank=0"),
        ("mamba", {"head": False}, "model.head=false answers with 64"),
        ("mamba2", {"head_width": 48}, "model.head_width=32"),
        ("mamba2", {"groups": 3}, "model.groups=2"),
        ("mamba2", {"kernel": 0}, "model.kernel=0"),
        ("jamba", {"width": 64, "heads": 3}, "model.heads=3"),
        ("jamba", {"width": 64, "heads": 4, "key_heads": 3}, "Type model.key_heads=2."),
        ("jamba", {"attention_offset": 2}, "model.attention_offset=2"),
        ("jamba", {"expert_period": 0}, "model.expert_period=0"),
        ("jamba", {"experts_used": 9}, "model.experts_used=9"),
        ("jamba", {"drop_attention": 1.0}, "model.drop_attention=1.0"),
    ],
)
def test_options_that_make_no_network_are_refused(name: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as caught:
        build(name, STREAM, 50, options)
    assert told in str(caught.value)
