"""CLIP: a picture and a caption become vectors of one space, where those that belong together point the same way.

Two Transformers that never see each other, each with its own projection. The answer [B, 2, outputs] holds the
picture's vector and the text's, both of length sqrt(exp(logit_scale)): the dot product of any picture with any text is
then the scaled cosine that the contrastive loss wants (Figure 3 of the paper), and `logit_scale` learns with the rest.

What a reader would get wrong: id 0 is no padding here but "!" in CLIP's vocabulary, and needs no mask either. Texts
are read from left to right up to the end-of-text token, and nothing after it is seen. Texts padded on the left do need
`inside`. Whoever trains must keep `logit_scale` at or below log(100) after each step (section 2.5).

Departures: one number for an answer (outputs=1) has no direction, so it is not normalised; a text without its
end-of-text token is read to its last id that is not 0; the pictures' blocks start like those of the texts.

    >>> photo = {"form": "pixels", "height": 32, "width": 32, "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}
    >>> caption = {"form": "tokens", "vocabulary": 100, "length": 12}
    >>> model = build({"photo": photo, "caption": caption}, outputs=16)
    >>> pixels = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    >>> model.similarity(pixels, torch.tensor([[1, 5, 99], [1, 99, 0], [1, 2, 99]])).shape
    torch.Size([2, 3])

Shapes: B rows, C channels, H x W pixels, T positions of the text.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.errors import UserError
from fathom.models.parts.checks import check_choice, refuse_inputs
from fathom.models.parts.patching import PatchEmbedding, patch_for, with_class_token
from fathom.models.parts.pictures import is_one_picture
from fathom.models.parts.pre_norm import Tower, tower
from fathom.models.parts.tokens import is_one_text, real

USE = "pictures with captions"
SOURCE = "Radford et al. 2021, arXiv:2103.00020"
START_SCALE = math.log(1 / 0.07)  # section 2.5

Measures = tuple[int, int, int | None]  # width, depth, heads
# Patch; width, depth and heads for pictures; the same for texts: Table 20 of the paper.
SMALL: Measures = (64, 2, None)
SIZES: dict[str, tuple[int, Measures, Measures]] = {
    "vit-b-32": (32, (768, 12, 12), (512, 12, 8)),
    "vit-b-16": (16, (768, 12, 12), (512, 12, 8)),
    "vit-l-14": (14, (1024, 24, 16), (768, 12, 12)),
}


def claims(inputs: dict[str, dict[str, Any]]) -> str | None:
    return "a picture and its caption" if _named(inputs) else None


def published(size: str) -> tuple[dict[str, dict[str, Any]], int]:
    """The inputs and outputs with which a named size has its published number of parameters."""
    photo = {"form": "pixels", "height": 224, "width": 224, "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}
    inputs = {"photo": photo, "caption": {"form": "tokens", "vocabulary": 49408, "length": 77}}
    return inputs, 768 if size == "vit-l-14" else 512


def build(
    inputs: dict[str, dict[str, Any]],
    outputs: int,
    *,
    size: str | None = None,
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    hidden: int | None = None,
    patch: int | None = None,
    text_width: int | None = None,
    text_depth: int | None = None,
    text_heads: int | None = None,
    text_hidden: int | None = None,
    activation: str = "quick_gelu",
    norm_eps: float = 1e-5,
    end: int | None = None,
    drop_attention: float = 0.0,
) -> CLIP:
    """A network from one picture [B, C, H, W] and one text int64 [B, T] to [B, 2, outputs].

    `size` is vit-b-32, vit-b-16 or vit-l-14 (with outputs 512, 512 and 768 as published); left out, two nets of 64
    channels and 2 blocks. `width`, `depth`, `heads` and `hidden` (units of each block's hidden layer) change single
    measures of the picture's net, those with `text_` the text's. `end` is the id of the end-of-text token; left out, it
    is the highest id of each row, as in the original. Raises UserError on other inputs and on options out of range.
    """
    picture, text = _named(inputs) or refuse_inputs("clip", "one picture of at least 4 x 4 pixels and one text", inputs)
    published_patch, seen, read = (None, SMALL, SMALL) if size is None else SIZES[check_choice("size", size, SIZES)]
    alike = {"activation": activation, "norm_eps": norm_eps, "drop_attention": drop_attention}
    seeing = tower(seen, width=width, depth=depth, heads=heads, hidden=hidden, **alike)
    reading = tower(
        read, width=text_width, depth=text_depth, heads=text_heads, hidden=text_hidden, named="text_", **alike
    )
    patch = patch_for(inputs[picture], published_patch if patch is None else patch)
    return CLIP(
        (picture, text),
        PictureTower(inputs[picture], outputs, seeing, patch),
        TextTower(inputs[text], outputs, reading, end),
    )


def _named(inputs: dict[str, dict[str, Any]]) -> tuple[str, str] | None:
    """The names of the picture and of the text, where there is one of each and nothing else."""
    pictures = [name for name, about in inputs.items() if is_one_picture({name: about})]
    texts = [name for name, about in inputs.items() if is_one_text({name: about})]
    return (pictures[0], texts[0]) if len(inputs) == 2 and len(pictures) == len(texts) == 1 else None


class CLIP(nn.Module):
    """A net for pictures, one for texts, and how steep the softmax over their similarities is."""

    def __init__(self, names: tuple[str, str], picture: PictureTower, text: TextTower) -> None:
        super().__init__()
        self.names = names
        self.picture = picture
        self.text = text
        self.logit_scale = nn.Parameter(torch.tensor(START_SCALE))

    def encode_pictures(self, pixels: Tensor) -> Tensor:
        """Unit vectors of pictures: [B, C, H, W] → [B, outputs]."""
        return _directed(self.picture(pixels))

    def encode_texts(self, tokens: Tensor, inside: Tensor | None = None) -> Tensor:
        """Unit vectors of texts: [B, T] → [B, outputs].

        `inside` [B, T] is True for real positions; texts padded on the right do without.
        """
        return _directed(self.text(tokens, inside))

    def similarity(self, pixels: Tensor, tokens: Tensor, inside: Tensor | None = None) -> Tensor:
        """Scaled cosine of each picture with each text: [pictures, texts], the logits of both softmaxes."""
        return self.logit_scale.exp() * self.encode_pictures(pixels) @ self.encode_texts(tokens, inside).T

    def forward(self, inputs: dict[str, Tensor], inside: Tensor | None = None) -> Tensor:
        pixels, tokens = (inputs[name] for name in self.names)
        vectors = torch.stack([self.encode_pictures(pixels), self.encode_texts(tokens, inside)], dim=1)
        return (self.logit_scale / 2).exp() * vectors


class PictureTower(nn.Module):
    """Pixels [B, C, H, W] → [B, outputs], by way of the class token. A norm stands before the first block too."""

    def __init__(self, about: dict[str, Any], outputs: int, measures: Tower, patch: int) -> None:
        super().__init__()
        width = measures.width
        self.patches = PatchEmbedding(about, patch, width, bias=False)
        self.class_token = nn.Parameter(width**-0.5 * torch.randn(width))
        self.positions = nn.Parameter(width**-0.5 * torch.randn(1 + self.patches.num_patches, width))
        self.embed_norm = measures.norm()
        self.blocks = _started(measures)
        self.norm = measures.norm()
        self.project = _projection(width, outputs)

    def no_decay(self) -> list[nn.Parameter]:
        """Parameters that weight decay would hurt: they are vectors to be added, not matrices."""
        return [self.positions]

    def hidden(self, pixels: Tensor) -> Tensor:
        """States of the class token and of each patch, before the last norm: [B, C, H, W] → [B, 1 + patches, width]."""
        x = self.embed_norm(with_class_token(self.class_token, self.patches(pixels)) + self.positions)
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, pixels: Tensor) -> Tensor:
        return self.project(self.norm(self.hidden(pixels)[:, 0]))


class TextTower(nn.Module):
    """Ids [B, T] → [B, outputs], from the state at the end-of-text token."""

    def __init__(self, about: dict[str, Any], outputs: int, measures: Tower, end: int | None) -> None:
        super().__init__()
        self.end = end
        self.embed = nn.Embedding(int(about["vocabulary"]), measures.width)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.positions = nn.Parameter(0.01 * torch.randn(int(about["length"]), measures.width))
        self.blocks = _started(measures)
        self.norm = measures.norm()
        self.project = _projection(measures.width, outputs)

    def no_decay(self) -> list[nn.Parameter]:
        """Parameters that weight decay would hurt: they are vectors to be added, not matrices."""
        return [self.positions]

    def hidden(self, tokens: Tensor, inside: Tensor | None = None) -> Tensor:
        """Normalised states of each position: [B, T] → [B, T, width]. Each has seen what stands before it only."""
        T = tokens.shape[1]
        beyond = max(0, T - len(self.positions))
        if beyond:
            _refuse_real(real(tokens) if inside is None else inside, len(self.positions))
        x = self.embed(tokens) + F.pad(self.positions[:T], (0, 0, 0, beyond))
        for block in self.blocks:
            x = block(x, inside=inside, causal=True)
        return self.norm(x)

    def forward(self, tokens: Tensor, inside: Tensor | None = None) -> Tensor:
        states = self.hidden(tokens, inside)
        ends = self._ends(tokens, inside)[:, None, None].expand(-1, 1, states.shape[-1])
        return self.project(states.gather(1, ends).squeeze(1))

    def _ends(self, tokens: Tensor, inside: Tensor | None) -> Tensor:
        """Where each text ends: [B]. The first of several, since CLIP's texts are padded with end-of-text tokens."""
        if self.end is None:
            return (tokens if inside is None else tokens.masked_fill(~inside, -1)).argmax(dim=1)
        counted = real(tokens) if inside is None else inside
        is_end = (tokens == self.end) & counted
        last = (torch.arange(tokens.shape[1], device=tokens.device) * counted).amax(dim=1)
        return torch.where(is_end.any(dim=1), is_end.int().argmax(dim=1), last)


def _directed(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1) if x.shape[-1] > 1 else x


def _projection(width: int, outputs: int) -> nn.Linear:
    project = nn.Linear(width, outputs, bias=False)
    nn.init.normal_(project.weight, std=width**-0.5)
    return project


def _started(measures: Tower) -> nn.ModuleList:
    """Blocks as the original draws those of its texts: what is added to the sum is small where many blocks add."""
    narrow = measures.width**-0.5
    deviations = {"query": narrow, "key": narrow, "value": narrow, "expand": (2 * measures.width) ** -0.5}
    blocks = measures.blocks()
    for name, module in blocks.named_modules():
        if isinstance(module, nn.Linear):
            small = narrow * (2 * measures.depth) ** -0.5
            nn.init.normal_(module.weight, std=deviations.get(name.rsplit(".", 1)[-1], small))
            nn.init.zeros_(module.bias)
    return blocks


def _refuse_real(inside: Tensor, length: int) -> None:
    """Padding may stand beyond the last position; a text may not. What is traced for export cannot look."""
    if not torch.compiler.is_compiling() and bool(inside[:, length:].any()):
        raise UserError(f"A text is longer than the {length} tokens that this model has positions for. Cut it there.")
