"""Writing on: greedy and drawn tokens, with and without a cache."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fathom.errors import UserError
from fathom.generation import Choice, generate, stream
from fathom.models.parts.cache import Cache
from fathom.network import build
from tests.parity.common import randomise

VOCABULARY = 30
STREAM = {"text": {"form": "stream", "vocabulary": VOCABULARY, "length": 24}}
PROMPT = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {}),
    "llama": ("llama", {"key_heads": 1}),
    "llama with a window": ("llama", {"window": 3, "norm_queries": True}),
    "llama, some blocks with a window": ("llama", {"window": 3, "window_from": 1}),
    "llama with experts": ("llama", {"experts": 3}),
}
SMALL = {"depth": 2, "width": 32, "heads": 2, "tied": False}


def lively(name: str, **options: Any) -> nn.Module:
    """A model whose answers differ much from token to token, unlike a fresh one's."""
    kind, own = MODELS[name]
    return randomise(build(kind, STREAM, VOCABULARY, SMALL | own | options))


class Counted(nn.Module):
    """Answers that token t is followed by t + 1, and counts the positions that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, tokens: Tensor) -> Tensor:
        self.seen += tokens.shape[1]
        return 9.0 * nn.functional.one_hot((tokens + 1) % VOCABULARY, VOCABULARY)


@torch.no_grad()
def by_hand(model: nn.Module, tokens: Tensor, new_tokens: int) -> Tensor:
    for _ in range(new_tokens):
        tokens = torch.cat([tokens, model(tokens)[:, -1:].argmax(dim=-1)], dim=1)
    return tokens


@pytest.mark.parametrize("name", MODELS)
def test_greedy_with_a_cache_is_what_whole_passes_give(name: str) -> None:
    model = lively(name)
    found = generate(model, PROMPT, new_tokens=12)
    assert torch.equal(found, by_hand(model, PROMPT, 12))
    assert len(found[:, 5:].unique()) > 2, "a model that repeats itself could not tell an error"


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("parts", [[1] * 16, [5, 1, 7, 3]])
@torch.no_grad()
def test_step_by_step_equals_the_whole_pass(name: str, parts: list[int]) -> None:
    model, cache = lively(name), Cache()
    tokens = torch.randint(1, VOCABULARY, (3, 16), generator=torch.Generator().manual_seed(0))
    found = torch.cat([model(part, cache=cache) for part in tokens.split(parts, dim=1)], dim=1)
    torch.testing.assert_close(found, model(tokens), rtol=1e-5, atol=1e-5)
    assert cache.length == 16


def test_each_position_is_read_once() -> None:
    model = lively("llama")
    seen = []
    model.embed.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[1]))
    generate(model, PROMPT, new_tokens=6)
    assert seen == [5, 1, 1, 1, 1, 1]


def test_recurrent_net_goes_on_from_its_state() -> None:
    model = randomise(build("lstm", STREAM, VOCABULARY, {"width": 16}))
    assert torch.equal(generate(model, PROMPT, new_tokens=12), by_hand(model, PROMPT, 12))


def test_model_without_a_cache_reads_all_anew() -> None:
    model = Counted()
    assert generate(model, PROMPT, new_tokens=3)[:, 5:].tolist() == [[6, 7, 8], [4, 5, 6]]
    assert model.seen == 5 + 6 + 7


@pytest.mark.parametrize("name", MODELS)
def test_prompts_padded_on_the_left_are_written_on_as_alone(name: str) -> None:
    model = lively(name)
    short = PROMPT[1:, 2:]
    tokens = torch.cat([PROMPT[:1], nn.functional.pad(short, (2, 0), value=7)])
    inside = torch.tensor([[True] * 5, [False] * 2 + [True] * 3])
    found = generate(model, tokens, new_tokens=8, inside=inside)
    assert torch.equal(found[:1], generate(model, PROMPT[:1], new_tokens=8))
    assert torch.equal(found[1:, 2:], generate(model, short, new_tokens=8))


def test_stop_ends_each_row_and_then_all() -> None:
    found = generate(Counted(), torch.tensor([[3], [5]]), new_tokens=20, stop=(8, 29))
    assert found.tolist() == [[3, 4, 5, 6, 7, 8], [5, 6, 7, 8, 8, 8]]


def test_stream_yields_the_same_tokens_one_by_one() -> None:
    model = lively("gpt2")
    tokens = list(stream(model, PROMPT, new_tokens=4))
    assert torch.equal(torch.stack(tokens, dim=1), generate(model, PROMPT, new_tokens=4)[:, 5:])


def test_model_is_left_as_it_was() -> None:
    model = lively("gpt2").train()
    written = stream(model, PROMPT, new_tokens=9)
    next(written)
    assert not model.training
    written.close()
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_no_new_tokens() -> None:
    assert torch.equal(generate(Counted(), PROMPT, new_tokens=0), PROMPT)


def test_seed_decides_what_is_drawn() -> None:
    model = lively("gpt2")
    one, same, other = (generate(model, PROMPT, new_tokens=9, temperature=2.0, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def drawn(temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Shares of four tokens with the probabilities 0.5, 0.3, 0.15, 0.05 among many draws."""
    logits = torch.tensor([0.3, 0.5, 0.05, 0.15]).log().repeat(20_000, 1)
    chosen = Choice(temperature, top_k, top_p, torch.Generator().manual_seed(0))(logits)
    return torch.bincount(chosen, minlength=4) / len(chosen)


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        ({}, [0.3, 0.5, 0.05, 0.15]),
        ({"temperature": 0.5}, [0.09, 0.25, 0.0025, 0.0225]),
        ({"top_k": 2}, [0.3, 0.5, 0, 0]),
        ({"top_k": 99}, [0.3, 0.5, 0.05, 0.15]),
        ({"top_p": 0.79}, [0.3, 0.5, 0, 0]),
        ({"top_p": 0.81}, [0.3, 0.5, 0, 0.15]),
        ({"top_p": 0.01}, [0, 1, 0, 0]),
        ({"top_k": 3, "top_p": 0.6}, [0.3, 0.5, 0, 0]),
    ],
)
def test_draws_have_the_probabilities_asked_for(options: dict[str, Any], shares: list[float]) -> None:
    wanted = torch.tensor(shares) / sum(shares)
    error = 4 * math.sqrt(0.25 / 20_000)
    torch.testing.assert_close(drawn(**options), wanted, rtol=0, atol=error)
    assert torch.equal(drawn(**options) > 0, wanted > 0)


def test_model_refuses_to_write_past_its_positions() -> None:
    model = lively("gpt2")
    assert generate(model, PROMPT, new_tokens=20).shape == (2, 25)  # the last token is not read any more
    with pytest.raises(UserError, match=r"24 positions.*new_tokens=20"):
        generate(model, PROMPT, new_tokens=21)


@pytest.mark.parametrize(
    "options", [{"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}, {"new_tokens": -1}]
)
def test_options_out_of_range_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        stream(Counted(), PROMPT, **{"new_tokens": 2} | options)


@pytest.mark.parametrize(
    "tokens", [torch.zeros(3, dtype=torch.long), torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, 2)]
)
def test_tokens_of_another_shape_are_refused(tokens: Tensor) -> None:
    with pytest.raises(UserError, match="tokens are"):
        generate(Counted(), tokens, new_tokens=1)
