"""Write on: a language model's next tokens, one after another.

What a reader would get wrong: nothing is cut off quietly. A model that knows so many positions refuses to write past
them, before the first token is made.

    >>> from fathom.network import build
    >>> model = build("gpt2", {"text": {"form": "stream", "vocabulary": 50, "length": 16}}, 50, {"depth": 1})
    >>> generate(model, torch.tensor([[3, 1, 4]]), new_tokens=5).shape
    torch.Size([1, 8])

Shapes: B rows, T positions, V tokens of the vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fathom.errors import UserError
from fathom.models.parts.cache import Cache


def generate(
    model: nn.Module,
    tokens: Tensor,
    *,
    new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop: Collection[int] = (),
    inside: Tensor | None = None,
) -> Tensor:
    """The tokens int64 [B, T] with up to `new_tokens` more behind them, [B, T + n].

    At `temperature` 0 each is the most probable one; above, it is drawn from softmax(logits / temperature), of the
    `top_k` most probable tokens and of the fewest whose probabilities sum to at least `top_p` (Holtzman et al. 2020,
    arXiv:1904.09751, section 3.1), where these are given. The same `seed` draws the same tokens. A row that has made
    a token of `stop` is done and repeats it; when all rows are, the writing ends. Rows of different lengths are padded
    on the left, with `inside` [B, T] True for real positions; the model must take that mask.

    Raises UserError on options out of range and where the model has no room for so many tokens.
    """
    new = stream(
        model,
        tokens,
        new_tokens=new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        stop=stop,
        inside=inside,
    )
    return torch.cat([tokens, *(token[:, None] for token in new)], dim=1)


def stream(
    model: nn.Module,
    tokens: Tensor,
    *,
    new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop: Collection[int] = (),
    inside: Tensor | None = None,
) -> Iterator[Tensor]:
    """As `generate`, yielding each new token [B] as it is made. The model is in eval mode meanwhile."""
    _check(model, tokens, new_tokens)
    check_choice(new_tokens, temperature, top_k, top_p)
    choice = Choice(temperature, top_k, top_p, torch.Generator(tokens.device).manual_seed(seed))
    ends = torch.tensor(sorted(stop), dtype=tokens.dtype, device=tokens.device)
    return written(model, tokens, new_tokens, choice, inside=inside, stop=ends)


def written(
    model: nn.Module,
    tokens: Tensor,
    new_tokens: int,
    choice: Choice,
    *,
    inside: Tensor | None = None,
    stop: Tensor | None = None,
) -> Iterator[Tensor]:
    """As `stream`, for what was checked before: each token [B] by a `choice` that goes on from call to call."""
    stop = torch.empty(0, dtype=tokens.dtype, device=tokens.device) if stop is None else stop
    was_training = model.training
    model.eval()
    cache = Cache() if "cache" in inspect.signature(model.forward).parameters else None
    done = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
    try:
        for _ in range(new_tokens):
            token = torch.where(done, tokens[:, -1], choice(_next_logits(model, tokens, inside, cache)))
            yield token
            done = done | torch.isin(token, stop)
            if len(stop) and bool(done.all()):
                return
            tokens = torch.cat([tokens, token[:, None]], dim=1)
    finally:
        model.train(was_training)


@torch.inference_mode()
def _next_logits(model: nn.Module, tokens: Tensor, inside: Tensor | None, cache: Cache | None) -> Tensor:
    """Logits [B, V] of what follows `tokens` [B, T]. With a cache only those are read that it has not yet."""
    read = 0 if cache is None else cache.length
    given: dict[str, Any] = {} if cache is None else {"cache": cache}
    if inside is not None:
        written = torch.ones_like(tokens[:, inside.shape[1] :], dtype=torch.bool)
        given["inside"] = torch.cat([inside, written], dim=1)[:, read:]
    return model(tokens[:, read:], **given)[:, -1].float()


class Choice:
    """One token for each row of logits [B, V] → [B]."""

    def __init__(self, temperature: float, top_k: int | None, top_p: float | None, random: torch.Generator) -> None:
        self.temperature, self.top_k, self.top_p, self.random = temperature, top_k, top_p, random

    def __call__(self, logits: Tensor) -> Tensor:
        if self.temperature == 0:
            return logits.argmax(dim=-1)
        logits = logits / self.temperature
        if self.top_k is not None:
            logits = _only_most_probable(logits, self.top_k)
        if self.top_p is not None:
            logits = _only_nucleus(logits, self.top_p)
        return torch.multinomial(logits.softmax(dim=-1), 1, generator=self.random).squeeze(1)


def _only_most_probable(logits: Tensor, count: int) -> Tensor:
    least = logits.topk(min(count, logits.shape[-1]), dim=-1).values[:, -1:]
    return logits.masked_fill(logits < least, float("-inf"))


def _only_nucleus(logits: Tensor, share: float) -> Tensor:
    """The fewest tokens whose probabilities sum to `share` or more; the most probable is always among them."""
    ordered, order = logits.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    ordered = ordered.masked_fill(before >= share, float("-inf"))
    return torch.empty_like(logits).scatter(1, order, ordered)


def check_choice(new_tokens: int, temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raises UserError on options that are out of range."""
    if new_tokens < 0:
        raise UserError(f"new_tokens={new_tokens}: expected 0 or more.")
    if not temperature >= 0:
        raise UserError(f"temperature={temperature}: expected 0 (the most probable token) or more, for example 0.8.")
    if top_k is not None and top_k < 1:
        raise UserError(f"top_k={top_k}: expected at least 1, or nothing for all tokens.")
    if top_p is not None and not 0 < top_p <= 1:
        raise UserError(f"top_p={top_p}: expected a share above 0 up to 1, for example 0.9.")


def _check(model: nn.Module, tokens: Tensor, new_tokens: int) -> None:
    if tokens.dim() != 2 or tokens.shape[1] == 0 or tokens.is_floating_point():
        raise UserError(f"tokens are {tokens.dtype} {list(tokens.shape)}; expected int64 [rows, at least 1 position].")
    room = getattr(model, "length", None)
    asked = tokens.shape[1] + new_tokens
    # The last token made is not read any more.
    if isinstance(room, int) and asked - 1 > room:
        raise UserError(
            f"The model knows {room} positions; {tokens.shape[1]} tokens and {new_tokens} new ones need {asked - 1}. "
            f"Ask for new_tokens={max(0, room + 1 - tokens.shape[1])}, or give it a shorter text."
        )
