"""T5: an encoder reads one text, a decoder writes another, told by relative positions only. Translation and the like.

Raffel et al. 2020, arXiv:1910.10683, section 2.1; the sizes named v1_1 have the gated perceptron of Shazeer 2020,
arXiv:2002.05202, and an output matrix of their own. What a reader would get wrong: `target` is what the decoder reads,
not what it should write: the text shifted right by one, behind a start token, by whoever makes the batch. Scores are
not divided by the root of the head's width (the first weights of the queries are that much smaller instead), and a tied
head divides the last states by the root of the width.

Two inputs, "tokens" and a "stream", get an answer at each position of the stream; one text of "tokens" gets one answer
a row from the encoder alone, by the mean over its real positions. With `head=False` the answers are what the head would
see. `depth` is the dial: so many blocks on each side. Left out, `size` is a small net for texts of thousands of pairs.

Departures: an output matrix of its own starts with normal numbers of deviation 1/sqrt(width), so that the first answers
have the size that a tied one gives. Padding of the target needs no mask as long as it stands on the right: nothing real
looks to the right, and its own answers are for the loss to leave out.

    >>> text = {"vocabulary": 50, "length": 16}
    >>> model = build({"source": {"form": "tokens", **text}, "target": {"form": "stream", **text}}, 50, depth=1)
    >>> model({"source": torch.tensor([[5, 9, 7], [4, 6, 0]]), "target": torch.tensor([[1, 8], [1, 7]])}).shape
    torch.Size([2, 2, 50])

Shapes: B rows, S positions of the source, T of the target.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.errors import UserError
from fathom.models.parts.attention import heads_for
from fathom.models.parts.cache import Cache
from fathom.models.parts.checks import check_positive, check_shares, check_sizes, refuse_inputs
from fathom.models.parts.heads import SequenceHead
from fathom.models.parts.language import check_headless, inside_of, named_size
from fathom.models.parts.pooling import masked_mean
from fathom.models.parts.t5_stack import Decoder, Encoder, Layout
from fathom.models.parts.tokens import is_one_text

USE = "texts into texts, texts"
SOURCE = "Raffel et al. 2020, arXiv:1910.10683; gated perceptrons: Shazeer 2020, arXiv:2002.05202"
HEAD_WIDTH = 32  # where neither heads nor their width are named

# Sections 3.1.1 (base) and 3.7 of the paper; v1.1 has no paper, its sizes are those of the published configurations.
PLAIN = {"head_width": 64, "gated": False, "activation": "relu", "tied": True}
GATED = {"head_width": 64, "gated": True, "activation": "gelu_tanh", "tied": False}
SIZES: dict[str, dict[str, Any]] = {
    "t5-small": {"depth": 6, "width": 512, "heads": 8, "hidden": 2048, **PLAIN},
    "t5-base": {"depth": 12, "width": 768, "heads": 12, "hidden": 3072, **PLAIN},
    "t5-large": {"depth": 24, "width": 1024, "heads": 16, "hidden": 4096, **PLAIN},
    "t5-3b": {"depth": 24, "width": 1024, "heads": 32, "hidden": 16384, **PLAIN, "head_width": 128},
    "t5-11b": {"depth": 24, "width": 1024, "heads": 128, "hidden": 65536, **PLAIN, "head_width": 128},
    "v1_1-small": {"depth": 8, "width": 512, "heads": 6, "hidden": 1024, **GATED},
    "v1_1-base": {"depth": 12, "width": 768, "heads": 12, "hidden": 2048, **GATED},
    "v1_1-large": {"depth": 24, "width": 1024, "heads": 16, "hidden": 2816, **GATED},
    "v1_1-xl": {"depth": 24, "width": 2048, "heads": 32, "hidden": 5120, **GATED},
    "v1_1-xxl": {"depth": 24, "width": 4096, "heads": 64, "hidden": 10240, **GATED},
}
SMALL: dict[str, Any] = {"depth": 2, "width": 64, "gated": True, "activation": "gelu_tanh", "tied": True}


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    if _pair(inputs) is not None:
        return "a text into another"
    return "one text" if is_one_text(inputs) else None


def published(size: str) -> tuple[dict[str, dict[str, Any]], int]:
    """The inputs and outputs with which a named size has its published number of parameters."""
    about = {"vocabulary": 32128, "length": 512}
    return {"source": {"form": "tokens", **about}, "target": {"form": "stream", **about}}, 32128


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    size: str | None = None,
    depth: int | None = None,
    decoder_depth: int | None = None,
    width: int | None = None,
    heads: int | None = None,
    head_width: int | None = None,
    hidden: int | None = None,
    gated: bool | None = None,
    activation: str | None = None,
    norm_eps: float = 1e-6,
    buckets: int = 32,
    distance: int = 128,
    shared: bool = True,
    tied: bool | None = None,
    head: bool = True,
    dropout: float = 0.1,
) -> T5 | T5Encoder:
    """A network from {source: int64 [B, S], target: int64 [B, T]} to [B, T, outputs], or from [B, S] to [B, outputs].

    `size` is a published one ("t5-small", "v1_1-base"); options given beside it count more. `decoder_depth` is the
    encoder's if left out, `hidden` (the width inside the perceptron) 4 · width. `gated` perceptrons have a third
    matrix. Relative positions fall into `buckets`, those from `distance` on all into one. `shared` has one embedding
    for both texts, whose ids must then mean the same. `tied` has an effect where the outputs are the target's
    vocabulary. Raises UserError on other inputs and on options out of range.
    """
    given: dict[str, Any] = {
        "depth": depth,
        "decoder_depth": decoder_depth,
        "width": width,
        "heads": heads,
        "head_width": head_width,
    }
    given |= {"hidden": hidden, "gated": gated, "activation": activation, "tied": tied}
    found = SMALL | dict(named_size(size, SIZES)) | {name: value for name, value in given.items() if value is not None}
    tied = found.pop("tied")
    layout = _layout(found, norm_eps=norm_eps, buckets=buckets, distance=distance, dropout=dropout)
    if not head:
        check_headless(outputs, layout.width)
    answers = outputs if head else None
    pair = _pair(inputs)
    if pair is not None:
        return T5(pair, inputs, answers, layout, shared=shared, tied=tied)
    if not is_one_text(inputs):
        refuse_inputs("t5", "one text (tokens), or one and the text it becomes (stream)", inputs)
    (about,) = inputs.values()
    return T5Encoder(about, answers, layout)


def _layout(found: dict[str, Any], *, norm_eps: float, buckets: int, distance: int, dropout: float) -> Layout:
    """All measures, those left out derived from the others. Raises UserError on those that make no network."""
    check_sizes(**{name: size for name, size in found.items() if name not in ("gated", "activation")})
    check_shares(dropout=dropout)
    check_positive(norm_eps=norm_eps)
    if buckets < 4 or buckets % 2:
        raise UserError(f"model.buckets={buckets}: expected an even number from 4, for example model.buckets=32.")
    if distance <= buckets // 2:
        raise UserError(
            f"model.distance={distance}: expected more than half of model.buckets={buckets}. Type "
            f"model.distance={4 * buckets}."
        )
    width = found["width"]
    heads = found.get("heads") or heads_for(width, found.get("head_width", HEAD_WIDTH))
    derived = {
        "decoder_depth": found["depth"],
        "heads": heads,
        "head_width": max(1, width // heads),
        "hidden": 4 * width,
    }
    return Layout(**derived | found, norm_eps=norm_eps, buckets=buckets, distance=distance, dropout=dropout)


def _pair(inputs: dict[str, dict[str, Any]]) -> tuple[str, str] | None:
    """The names of the text that is read and the one that is written, where there is one of each and nothing else."""
    forms = {about["form"]: name for name, about in inputs.items()}
    return (forms["tokens"], forms["stream"]) if len(inputs) == 2 and set(forms) == {"tokens", "stream"} else None


class T5(nn.Module):
    """Vectors of tokens, the encoder, the decoder, the head."""

    def __init__(
        self,
        names: tuple[str, str],
        inputs: dict[str, dict[str, Any]],
        outputs: int | None,
        layout: Layout,
        *,
        shared: bool,
        tied: bool,
    ) -> None:
        super().__init__()
        self.names = names
        self.about, written = (inputs[name] for name in names)
        read, vocabulary = int(self.about["vocabulary"]), int(written["vocabulary"])
        if shared and read != vocabulary:
            raise UserError(
                f"model.shared=true: one embedding cannot hold both vocabularies, of {read} and {vocabulary} tokens. "
                "Type model.shared=false."
            )
        self.embed = Embedding(vocabulary, layout.width)
        self.source_embed = None if shared else Embedding(read, layout.width)
        self.encoder = Encoder(layout)
        self.decoder = Decoder(layout)
        self.tied = tied and outputs == vocabulary
        self.scale = layout.width**-0.5
        self.head = None
        if outputs is not None and not self.tied:
            self.head = nn.Linear(layout.width, outputs, bias=False)
            nn.init.normal_(self.head.weight, std=self.scale)

    def forward(self, inputs: dict[str, Tensor], inside: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Answers at each position of the target, [B, T, outputs]. `inside` [B, S] is the source's mask.

        With a `cache` the target holds the tokens that came since the last call, and the source is encoded once.
        """
        x = self.hidden(inputs, inside, cache)
        if self.tied:
            return F.linear(x * self.scale, self.embed.weight)
        return x if self.head is None else self.head(x)

    def hidden(self, inputs: dict[str, Tensor], inside: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """The decoder's states after its last norm: → [B, T, width]."""
        source, target = (inputs[name] for name in self.names)
        inside = inside_of(source, inside, self.about)
        states = None if cache is not None and cache.length else self.encode(source, inside)
        return self.decoder(self.embed(target), states, inside, cache)

    def encode(self, source: Tensor, inside: Tensor | None = None) -> Tensor:
        """The encoder's states after its last norm: [B, S] → [B, S, width]."""
        embed = self.embed if self.source_embed is None else self.source_embed
        return self.encoder(embed(source), inside_of(source, inside, self.about))


class T5Encoder(nn.Module):
    """The encoder alone, with one answer for each row from the mean of its states."""

    def __init__(self, about: dict[str, Any], outputs: int | None, layout: Layout) -> None:
        super().__init__()
        self.about = about
        self.embed = Embedding(int(about["vocabulary"]), layout.width)
        self.encoder = Encoder(layout)
        self.head = None
        if outputs is not None:
            self.head = SequenceHead(layout.width, outputs, each=False, dropout=layout.dropout)

    def forward(self, tokens: Tensor, inside: Tensor | None = None) -> Tensor:
        """Answers for ids [B, S]: [B, outputs]. `inside` [B, S] is True for real positions."""
        inside = inside_of(tokens, inside, self.about)
        inside = torch.ones_like(tokens, dtype=torch.bool) if inside is None else inside
        x = self.hidden(tokens, inside)
        return masked_mean(x, inside) if self.head is None else self.head(x, inside)

    def hidden(self, tokens: Tensor, inside: Tensor | None = None) -> Tensor:
        """The states after the last norm: [B, S] → [B, S, width]."""
        return self.encoder(self.embed(tokens), inside_of(tokens, inside, self.about))


class Embedding(nn.Embedding):
    """A vector for each token: [B, T] → [B, T, width].

    Normal numbers of deviation 1, as torch starts them and the paper does.
    """

    def rates(self) -> list[tuple[Tensor, float]]:
        """They are far larger than other weights, and were trained by steps in proportion to their size
        (Adafactor: Shazeer & Stern 2018, arXiv:1804.04235, section 8)."""
        return [(self.weight, self.embedding_dim**0.5)]
