"""The tokenizer that a spec holds as JSON, read once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tokenizers import Tokenizer


def tokenizer_of(spec: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a text's spec."""
    return _read(json.dumps(spec["tokenizer"]))


@lru_cache(maxsize=16)
def _read(text: str) -> Tokenizer:
    tokenizer = Tokenizer.from_str(text)
    tokenizer.encode_special_tokens = True  # not kept in the JSON
    return tokenizer
