"""Write on from a prompt with a finished run of a language.

What a reader would get wrong: a model sees no more than the context it was trained with. When that is full the older
half is let go, so that a text may become as long as one likes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from fathom import generation
from fathom.candidates import Candidate, Predictor
from fathom.errors import UserError
from fathom.fields import plain_text
from fathom.ship.predict import Model
from fathom.text_networks import LanguageModel

CLOSING = "\ufffd"  # the end of a character of several bytes that is not whole yet


def write_on(
    model: Model,
    prompt: str = "",
    *,
    new_tokens: int = 300,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    candidate: str | None = None,
) -> Iterator[str]:
    """The text after the prompt, piece by piece as it is made; it ends early where a document would end.

    Raises UserError for a run of another task, for options out of range and for a prompt with characters that the
    training text does not have.
    """
    if model.task.kind != "language":
        raise UserError(f"{model.folder.path} was fitted to {model.task.kind}; only a run of a language can write on.")
    if model.spec["target"]["masked"]:
        raise UserError(f"{model.folder.path} fills in hidden tokens from both sides; it cannot write on.")
    (spec,) = model.spec["fields"].values()
    _check_prompt(prompt, spec)
    generation.check_choice(new_tokens, temperature, top_k, top_p)
    tokens = [plain_text.BORDER, *plain_text.ids(prompt, spec).tolist()]
    chosen = model.candidate(candidate)
    assert isinstance(chosen, Candidate), "texts have no ensembles"
    (member,) = chosen.members
    if not isinstance(member, LanguageModel) and not hasattr(member, "next_probabilities"):
        able = [name for name in model.candidates if name != chosen.name]
        remedy = f"Name another, candidate={able[-1]!r} (--candidate {able[-1]})." if able else "Fit a network as well."
        raise UserError(f"'{chosen.name}' does not know what follows what, and cannot write on. {remedy}")
    random = torch.Generator(getattr(member, "device", "cpu")).manual_seed(seed)
    choice = generation.Choice(temperature, top_k, top_p, random)
    made = _tokens(member, tokens, int(spec["length"]), choice)
    return _pieces((token for token, _ in zip(made, range(new_tokens), strict=False)), spec)


def _check_prompt(prompt: str, spec: dict[str, Any]) -> None:
    if spec["unit"] != "characters":
        return
    unknown = sorted(set(prompt) - set(spec["characters"]))
    if unknown:
        raise UserError(
            f"The prompt has characters that the training text has not: {' '.join(map(repr, unknown))}. Leave them "
            "out, or fit with text.unit=bytes, to which nothing is unknown."
        )


def _tokens(member: Predictor, tokens: list[int], context: int, choice: generation.Choice) -> Iterator[int]:
    """New tokens without end."""
    if not isinstance(member, LanguageModel):
        while True:
            chances = torch.from_numpy(member.next_probabilities(np.asarray(tokens[-context:])))  # type: ignore[attr-defined]
            tokens.append(int(choice(chances.clamp(min=1e-30).log()[None])))
            yield tokens[-1]
    while True:
        tokens = tokens[-context:] if len(tokens) <= context else tokens[-max(1, context // 2) :]
        room = context + 1 - len(tokens)
        given = torch.tensor([tokens], device=member.device)
        for token in generation.written(member.model, given, room, choice):
            tokens.append(int(token))
            yield tokens[-1]


def _pieces(tokens: Iterator[int], spec: dict[str, Any]) -> Iterator[str]:
    """Their text, each piece as soon as its characters are whole."""
    held: list[int] = []
    shown = ""
    for token in tokens:
        if token == plain_text.BORDER:
            break
        held.append(token)
        text = plain_text.text_of(held, spec)
        if not text.endswith(CLOSING):
            yield text[len(shown) :]
            # Texts of characters and bytes do not depend on what came before; of subwords only the first blank does.
            held, shown = ([], "") if spec["unit"] != "subwords" else (held, text)
    if held and (rest := plain_text.text_of(held, spec)[len(shown) :]):
        yield rest
