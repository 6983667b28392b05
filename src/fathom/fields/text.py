"""Free text. Encoded as ids of subword tokens, and as the text itself for models that count words.

The tokenizer works on bytes, so no character is unknown to it. Id 0 is padding and never produced; every text begins
with id 1, and an empty or missing one has nothing else. The spec holds the whole tokenizer as JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from fathom.data import File, Guess, Ragged
from fathom.fields.parts.tokenizer import tokenizer_of
from fathom.fields.parts.values import EMPTY, column, distinct, plural, sample, text_of

# Its threads and a later fork may block each other; each word is tokenized once, so that there is little to share.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

SPECIAL = ("[PAD]", "[CLS]")
_FIRST = SPECIAL.index("[CLS]")
_SUFFIXES = (".txt", ".md", ".text")
_TRAINING_TEXTS = 50_000
_CHARACTERS_PER_TOKEN = 32  # a text is cut there before it is tokenized
# A word, or one sign of a script that writes without blanks.
_UNIT = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W぀-ヿ㐀-鿿가-힯]+")


def sniff(name: str, values: np.ndarray) -> Guess | None:
    """Sure where values have several words and mostly differ."""
    if values.ndim != 1 or values.dtype.kind not in "OUS":
        return None
    seen = sample(values)
    if all(isinstance(value, File) for value in seen):
        mine = bool(len(seen)) and all(value.path.lower().endswith(_SUFFIXES) for value in seen)
        return Guess(0.99, f"{plural(len(values), 'text file')}") if mine else None
    found = distinct(seen).without(EMPTY)
    if not found.words:
        return None
    units = np.asarray([len(_UNIT.findall(word[:4_000])) for word in found.words])
    letters = np.mean([any(sign.isalpha() for sign in word[:200]) for word in found.words])
    words, share = float(units.mean()), len(found.words) / found.counts.sum()
    length = float(np.mean([len(word) for word in found.words]))
    why = f"{words:.0f} words on average, {share:.0%} of the texts differ"
    if letters < 0.5 or share < 0.1 or (share < 0.5 and len(found.words) < 200):
        return None
    if words >= 3 and (share >= 0.5 or words >= 5):
        return Guess(0.92 if words >= 5 or share >= 0.9 else 0.85, why)
    if share >= 0.5 and (words >= 2 or length >= 30):
        return Guess(0.6, why)
    return None


def broken(values: np.ndarray) -> dict[int, str]:
    """Text files that cannot be read, or are no text."""
    found = {}
    for row, value in enumerate(column(values)):
        if isinstance(value, File):
            try:
                if b"\x00" in value.read():
                    found[row] = "it holds zero bytes: no text"
            except (OSError, KeyError) as error:
                found[row] = f"cannot be read ({error})"
    return found


def texts(values: np.ndarray) -> np.ndarray:
    """Values as str in Unicode's composed form (NFC), '' where missing: object [N]."""
    return np.asarray([_text(value) for value in column(values)], dtype=object).reshape(len(values))


def _text(value: Any) -> str:
    if isinstance(value, File):
        value = value.read()
    if isinstance(value, bytes):
        value = _characters(value)
    # A number in a text column keeps its own spelling; only what is no string goes through text_of.
    text = value.strip() if isinstance(value, str) else text_of(value) or ""
    return "" if text in EMPTY else unicodedata.normalize("NFC", _without_surrogates(text))


def _characters(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:  # older text files are in Windows' own code, where every byte but five is a sign
        return content.decode("cp1252", errors="replace")


def _without_surrogates(text: str) -> str:
    """Halves of signs, which Python lets into strings, cannot be tokenized: each becomes '?'."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def fit(
    values: np.ndarray, *, name: str = "", vocabulary: int = 8_000, lower: bool = True, longest: int = 512
) -> dict[str, Any]:
    """Train the tokenizer on the training texts: bytes and at most `vocabulary` pieces, cut at `longest` tokens."""
    words = texts(values)
    filled = sample(words[words != ""], _TRAINING_TEXTS)
    # Blanks as `_tokenize` sees them: one between two words.
    training = [" ".join(text[: longest * _CHARACTERS_PER_TOKEN].split()) for text in filled]
    tokenizer = _train(training, vocabulary, lower)
    lengths = np.diff(_tokenize(tokenizer, words, longest).starts)
    length = int(np.ceil(np.quantile(lengths, 0.99))) if len(lengths) else 1
    return {
        "kind": "text",
        "name": name,
        "tokenizer": json.loads(tokenizer.to_str()),
        "vocabulary": tokenizer.get_vocab_size(),
        "length": min(max(length, 2), longest),
        "missing": int((words == "").sum()),
    }


def _train(training: Sequence[str], most: int, lower: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    steps = [normalizers.NFC(), *([normalizers.Lowercase()] if lower else [])]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_vocabulary_size(training, most),
        min_frequency=2,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[_FIRST]} $A", special_tokens=[(SPECIAL[_FIRST], _FIRST)]
    )
    # Words of the text that look like a special token are ordinary words.
    tokenizer.encode_special_tokens = True
    return tokenizer


def _vocabulary_size(training: Sequence[str], most: int) -> int:
    """The 256 bytes and about one piece for each word seen twice: more would be words learnt from one example."""
    counts = Counter(word for text in training for word in text.lower().split())
    repeated = sum(count >= 2 for count in counts.values())
    return max(len(SPECIAL) + 256, min(most, 300 + repeated))


def encode(values: np.ndarray, spec: dict[str, Any]) -> dict[str, Any]:
    """ "tokens": Ragged int32, at most spec["length"] a row, and "words": the texts, object [N]."""
    words = texts(values)
    return {"tokens": _tokenize(tokenizer_of(spec), words, spec["length"]), "words": words}


def _tokenize(tokenizer: Tokenizer, words: np.ndarray, longest: int) -> Ragged:
    """Each different word is tokenized once: the pieces of a text are those of its words, one after another."""
    chunks = [text[: longest * _CHARACTERS_PER_TOKEN].split() for text in words]
    index = {chunk: i for i, chunk in enumerate(dict.fromkeys(itertools.chain.from_iterable(chunks)))}
    found = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(index), add_special_tokens=False)]
    pieces = _ragged([[_FIRST], *found])
    # One flat list of words for all texts, each text opened by piece 0, the first token.
    flat = [piece for text in chunks for piece in (0, *(index[chunk] + 1 for chunk in text))]
    order = np.asarray(flat, np.int64)
    return _cut(pieces, order, np.asarray([1 + len(text) for text in chunks], np.int64), longest)


def _cut(pieces: Ragged, order: np.ndarray, per_row: np.ndarray, longest: int) -> Ragged:
    """The tokens of the pieces in that order, as rows of so many pieces each, cut at `longest` tokens."""
    tokens = pieces.take(order)
    ends = np.cumsum(per_row)
    whole = Ragged(tokens.values, tokens.starts[np.concatenate([[0], ends]).astype(np.int64)])
    lengths = np.diff(whole.starts)
    places = np.arange(len(whole.values)) - np.repeat(whole.starts[:-1], lengths)
    starts = np.concatenate([[0], np.cumsum(np.minimum(lengths, longest))]).astype(np.int64)
    return Ragged(whole.values[places < longest], starts)


def _ragged(rows: list[list[int]]) -> Ragged:
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Ragged(np.fromiter(itertools.chain.from_iterable(rows), np.int32, int(starts[-1])), starts)


def describe(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"tokens": {"vocabulary": spec["vocabulary"], "length": spec["length"]}}


def from_tokens(tokens: Sequence[int], spec: dict[str, Any]) -> str:
    """The text of token ids, as far as they hold it."""
    return tokenizer_of(spec).decode(list(tokens)).strip()


def decode(encoded: dict[str, Any], spec: dict[str, Any]) -> np.ndarray:
    """The texts as far as the tokens hold them (lower case, cut at the length), object [N]."""
    tokens, tokenizer = encoded["tokens"], tokenizer_of(spec)
    rows = [tokens.values[a:b].tolist() for a, b in zip(tokens.starts[:-1], tokens.starts[1:], strict=True)]
    return np.asarray([text.strip() for text in tokenizer.decode_batch(rows)], dtype=object).reshape(len(rows))
