"""Text of which every sign counts, to be written on by a language model: characters, bytes, or learned subwords.

What a reader would get wrong: nothing is changed, neither case nor blanks nor line ends, and `decode` gives the text
back exactly (but for characters that training never saw, where the unit is characters). Never guessed for a column:
the task asks for it.

Id 0 is padding and never produced. Id 1 is the border between documents: it ends each row where rows are documents,
and it stands before the first token of a text. Id 2 is an unknown character, and stands for a hidden token.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from fathom.data import File, Guess, Ragged
from fathom.errors import UserError
from fathom.fields import text as free_text
from fathom.fields.parts.tokenizer import tokenizer_of
from fathom.fields.parts.values import EMPTY, column
from fathom.fields.parts.values import text_of as text_of_cell

SPECIAL = ("[PAD]", "[BORDER]", "[UNKNOWN]")
PAD, BORDER, UNKNOWN = range(3)
UNITS = ("characters", "bytes", "subwords")
# Few different characters and a short text are learned by character: a subword would be met too rarely.
MOST_CHARACTERS, SHORT_TEXT = 256, 5_000_000
CONTEXT = {"characters": 128, "bytes": 128, "subwords": 128}
SUBWORDS = 4_096
_REPLACEMENT = "\ufffd"


def sniff(name: str, values: np.ndarray) -> Guess | None:
    """Never: a column of texts is `text` unless a language is to be learned from it."""
    return None


def broken(values: np.ndarray) -> dict[int, str]:
    """Text files that cannot be read, or are no text."""
    return free_text.broken(values)


def texts(values: np.ndarray) -> np.ndarray:
    """Values as str, unchanged; '' where missing: object [N]."""
    found = np.empty(len(values), object)
    found[:] = [value if isinstance(value, str) else _read(value) for value in column(values)]
    return found


def _read(value: Any) -> str:
    if isinstance(value, File):
        return value.read().decode("utf-8", "replace")
    return text_of_cell(value) or ""


def fit(
    values: np.ndarray,
    *,
    name: str = "",
    unit: str | None = None,
    vocabulary: int | None = None,
    context: int | None = None,
    continues: bool = False,
) -> dict[str, Any]:
    """Learn the units from the training texts.

    unit: characters, bytes or subwords; by default characters where there are at most 256 different ones in at most
    five million. vocabulary: of subwords, 4,096 by default. context: the tokens that a model sees at once.
    continues: the rows are pieces of one text; otherwise each is a document and ends with the border. Raises UserError
    for an unknown unit.
    """
    words = texts(values)
    unit = unit or _unit_for(words)
    if unit not in UNITS:
        raise UserError(f"text.unit is '{unit}'; expected {', '.join(UNITS)}.")
    spec: dict[str, Any] = {"kind": "plain_text", "name": name, "unit": unit, "continues": continues}
    if unit == "characters":
        spec["characters"] = "".join(sorted(set().union(*map(set, words)))) if len(words) else ""
        size = len(SPECIAL) + len(spec["characters"])
    elif unit == "bytes":
        size = len(SPECIAL) + 256
    else:
        tokenizer = _train(words, vocabulary or SUBWORDS)
        spec["tokenizer"] = json.loads(tokenizer.to_str())
        size = tokenizer.get_vocab_size()
    return spec | {"vocabulary": size, "length": context or CONTEXT[unit]}


def _unit_for(words: np.ndarray) -> str:
    size = sum(map(len, words))
    few = size <= SHORT_TEXT and len(set().union(*map(set, words))) <= MOST_CHARACTERS
    return "characters" if few else "subwords"


def _train(words: Sequence[str] | np.ndarray, vocabulary: int) -> Tokenizer:
    """Byte-level pairs (Sennrich et al. 2016, arXiv:1508.07909; on bytes: Radford et al. 2019), as in GPT-2."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(iter(words), trainer)
    # Words of the text that look like a special token are ordinary words.
    tokenizer.encode_special_tokens = True
    return tokenizer


def encode(values: np.ndarray, spec: dict[str, Any]) -> dict[str, Any]:
    """ "stream": Ragged int32 of whole rows, cut nowhere, and "words": the texts, object [N]."""
    words = texts(values)
    rows = [ids(text, spec) for text in words]
    if not spec["continues"]:
        rows = [np.append(row, np.int32(BORDER)) for row in rows]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    values = np.concatenate([*rows, np.empty(0, np.int32)])
    return {"stream": Ragged(values, starts), "words": words}


def ids(text: str, spec: dict[str, Any]) -> np.ndarray:
    """The token ids of one text, int32 [T], without a border."""
    if spec["unit"] == "characters":
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        known = np.frombuffer(spec["characters"].encode("utf-32-le", "surrogatepass"), np.uint32)
        if not len(known):
            return np.full(len(points), UNKNOWN, np.int32)
        place = np.minimum(np.searchsorted(known, points), len(known) - 1)
        return np.where(known[place] == points, place + len(SPECIAL), UNKNOWN).astype(np.int32)
    if spec["unit"] == "bytes":
        return np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int32) + len(SPECIAL)
    tokenizer = tokenizer_of(spec)
    return np.asarray(
        tokenizer.encode(text.encode("utf-8", "replace").decode(), add_special_tokens=False).ids, np.int32
    )


def text_of(tokens: Sequence[int] | np.ndarray, spec: dict[str, Any]) -> str:
    """The text of token ids; borders and padding leave nothing."""
    kept = np.asarray([t for t in np.asarray(tokens).tolist() if t not in (PAD, BORDER)], np.int64)
    if spec["unit"] == "characters":
        return "".join(spec["characters"][t - len(SPECIAL)] if t != UNKNOWN else _REPLACEMENT for t in kept)
    if spec["unit"] == "bytes":
        return (kept[kept != UNKNOWN] - len(SPECIAL)).astype(np.uint8).tobytes().decode("utf-8", "replace")
    return tokenizer_of(spec).decode(kept.tolist())


def describe(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    facts = {name: spec[name] for name in ("vocabulary", "length", "continues")}
    return {"stream": facts}


def decode(encoded: dict[str, Any], spec: dict[str, Any]) -> np.ndarray:
    """The texts, object [N]."""
    stream = encoded["stream"]
    found = np.empty(len(stream.starts) - 1, object)
    found[:] = [text_of(stream.values[a:b], spec) for a, b in zip(stream.starts[:-1], stream.starts[1:], strict=True)]
    return found


def is_empty(values: np.ndarray) -> np.ndarray:
    """Rows without a sign, bool [N]."""
    return np.array([not text.strip() or text in EMPTY for text in texts(values)], bool)
