"""Trained networks of texts as candidates among others: a language model that scores, a translator that writes.

What a reader would get wrong: each window of a text is scored with nothing before it but what stands in it, as the
model was trained; so the first tokens of a window are the hardest, and a longer context scores better.

Shapes: B rows, T positions, V tokens of the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fathom.batches import Tensors, in_order
from fathom.beam import beam_search
from fathom.data import Examples
from fathom.fields import text
from fathom.language import stream_of
from fathom.objectives.parts.tokens import PAD, token_loss
from fathom.translation import END, taught, with_target

TOKENS_AT_A_TIME = 8_192
TEXTS_AT_A_TIME = 64
BEAMS = 5
# A translation is at most so much longer than what it translates, in tokens.
LONGER, MORE = 2, 10


class LanguageModel:
    """A trained model of a stream of tokens."""

    def __init__(self, model: nn.Module, config: Mapping[str, Any], device: torch.device) -> None:
        self.model = model.eval()
        (about,) = config["about"].values()
        self.context, self.device = int(about["length"]), device

    def predict(self, examples: Examples) -> np.ndarray:
        """The log-probability of each row in nats, float64 [N]: the sum over its tokens."""
        stream, starts = stream_of(examples)
        of_token = self.log_probabilities(stream)
        ends = np.concatenate([[0.0], np.cumsum(of_token)])
        return np.diff(ends[starts - 1])

    @torch.inference_mode()
    def log_probabilities(self, stream: np.ndarray) -> np.ndarray:
        """Of each token of a stream but the first, given those before it in its window: float64 [len(stream) - 1]."""
        self.model.eval()
        given, wanted = (_windows(torch.from_numpy(tokens), self.context) for tokens in (stream[:-1], stream[1:]))
        pieces = []
        for rows, right in zip(given, wanted, strict=True):
            logits = self.model(rows.to(self.device)).float()
            chosen = torch.log_softmax(logits, dim=-1).gather(-1, right.to(self.device)[..., None])
            pieces.append(chosen.flatten().cpu().double().numpy())
        return np.concatenate([*pieces, np.empty(0)])


class MaskedModel:
    """A trained model that tells hidden tokens from both sides of them."""

    def __init__(self, model: nn.Module, config: Mapping[str, Any], device: torch.device) -> None:
        self.model = model.eval()
        (about,) = config["about"].values()
        self.context, self.device, self.mask = int(about["length"]), device, int(config["spec"]["mask"])
        self.turns = math.ceil(1 / float(config["spec"]["masked"]))

    def predict(self, examples: Examples) -> np.ndarray:
        """The pseudo-log-likelihood of each row in nats, float64 [N]: each token given all others around it.

        Salazar et al. 2020, arXiv:1910.14659, equation 1; but every so many tokens are hidden at once, as many as in
        training, and a window is read that often, so that each token is hidden once.
        """
        stream, starts = stream_of(examples)
        pieces = [self._of_tokens(rows) for rows in _windows(torch.from_numpy(stream[1:]), self.context)]
        ends = np.concatenate([[0.0], np.cumsum(np.concatenate([*pieces, np.empty(0)]))])
        return np.diff(ends[starts - 1])

    @torch.inference_mode()
    def _of_tokens(self, rows: Tensor) -> np.ndarray:
        """Of each token of windows [B, T]: float64 [B · T]."""
        self.model.eval()
        tokens = rows.to(self.device)
        found = torch.zeros(tokens.shape, device=self.device)
        for turn in range(self.turns):
            hidden = torch.zeros_like(tokens, dtype=torch.bool)
            hidden[:, turn :: self.turns] = True
            logits = self.model(torch.where(hidden, self.mask, tokens)).float()
            chosen = torch.log_softmax(logits, dim=-1).gather(-1, tokens[..., None])[..., 0]
            found = torch.where(hidden, chosen, found)
        return found.flatten().cpu().double().numpy()


def _windows(tokens: Tensor, context: int) -> Iterator[Tensor]:
    """The tokens in order, as windows [B, T] of the context, some at a time; the last window is what is left."""
    whole = len(tokens) // context * context
    yield from tokens[:whole].view(-1, context).split(max(1, TOKENS_AT_A_TIME // context)) if whole else ()
    if whole < len(tokens):
        yield tokens[None, whole:]


class Translator:
    """A trained model of one text and the text that it becomes."""

    def __init__(self, model: nn.Module, config: Mapping[str, Any], device: torch.device) -> None:
        self.model, self.spec, self.device = model.eval(), config["spec"], device
        self.target = str(self.spec["name"])

    @torch.inference_mode()
    def loss(self, examples: Examples, references: np.ndarray) -> float:
        """Cross-entropy of the references in nats a token, the true target before each token being given."""
        self.model.eval()
        tensors = Tensors(with_target(examples, references, self.spec), self.device)
        total, count = 0.0, 0
        for _, inputs in in_order(tensors, np.arange(len(examples)), TEXTS_AT_A_TIME):
            given, targets = taught(inputs, self.target)
            total += float(token_loss(self.model, given, targets))
            count += int((targets != PAD).sum())
        return total / max(count, 1)

    @torch.inference_mode()
    def predict(self, examples: Examples, *, beams: int = BEAMS) -> np.ndarray:
        """The translations, object [N] of str, by beam search."""
        self.model.eval()
        tensors = Tensors(examples, self.device)
        found = np.empty(len(examples), object)
        (name,) = examples.of_form("tokens")
        for chosen, inputs in in_order(tensors, np.arange(len(examples)), TEXTS_AT_A_TIME):
            source = inputs if isinstance(inputs, torch.Tensor) else inputs[name]
            lengths = (source != PAD).sum(dim=1).tolist()
            most = [min(int(self.spec["length"]), LONGER * length + MORE) for length in lengths]
            written = beam_search(
                self.model, {name: source}, self.target, first=END, stop=END, new_tokens=most, beams=beams
            )
            for row, tokens in zip(chosen, written, strict=True):
                found[row] = text.from_tokens(tokens, self.spec)
        return found
