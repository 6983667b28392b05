"""Translation memory: the translation of the training text that is most like the one to be translated.

What a reader would get wrong: it translates nothing. What it gives is always a sentence that somebody wrote, fluent and
often about something else; a text that shares no word with the memory is given back as it is.

Likeness is the cosine of TF-IDF over runs of one to three words.
Source: Salton and Buckley 1988, Information Processing & Management 24(5).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from safetensors.numpy import load_file, save_file
from sklearn.feature_extraction.text import TfidfVectorizer

from fathom.baselines.parts.kept import reading
from fathom.baselines.parts.pairs import affordable, source_of, thinned
from fathom.data import Examples, Task
from fathom.errors import UserError

RANK = 1  # it looks up
USE = "translation"
SOURCE = "Salton & Buckley 1988, Information Processing & Management 24(5)"
RANGES = {"rows": (">=", 1)}
MOST_ROWS = 300_000  # in memory, some 0.2 GB
AT_A_TIME = 128  # texts whose likeness to all of the memory is held at once


def claims(about: dict[str, dict[str, Any]], task: Task) -> str | None:
    """One text to be translated, or None."""
    return source_of(about, task)


def fit(
    examples: Examples,
    targets: np.ndarray,
    train: np.ndarray,
    validate: np.ndarray,
    task: Task,
    *,
    seed: int = 0,
    seconds: float | None = None,
    rows: int | None = None,
) -> Fitted:
    """Remember the training rows, `rows` of them drawn by `seed`: where None as many as there is time for.

    The validation rows change nothing. Raises UserError where no training text has a word.
    """
    (name,) = examples.words
    source = examples.words[name]
    if rows is None:
        rows = min(MOST_ROWS, affordable(lambda some: _vectorizer().fit_transform(source[some]), train, seconds))
    kept = thinned(train, rows, seed)
    vectorizer = _vectorizer()
    try:
        memory = vectorizer.fit_transform(source[kept])
    except ValueError as error:
        # scikit-learn has no other way to say that no word is left; anything else is a mistake of ours.
        if "vocabulary" not in str(error):
            raise
        raise UserError(
            f"There is not one word in '{name}' of {len(kept):,} training rows: nothing to recall."
        ) from error
    return Fitted(name, vectorizer, memory, list(targets[kept]), {"rows": rows})


def _vectorizer(**more: Any) -> TfidfVectorizer:
    # Punctuation counts as words, and a word said twice is not twice the news.
    given = {"token_pattern": r"\w+|[^\w\s]", "ngram_range": (1, 3), "sublinear_tf": True, "dtype": np.float32}
    return TfidfVectorizer(**given, **more)


class Fitted:
    """Texts as rows of a matrix, and the translation of each."""

    def __init__(
        self,
        name: str,
        vectorizer: TfidfVectorizer,
        memory: sp.csr_matrix,
        translations: Sequence[str],
        settings: dict[str, Any],
    ) -> None:
        self.name, self.vectorizer, self.memory, self.settings = name, vectorizer, memory, settings
        self.translations = np.empty(len(translations), object)
        self.translations[:] = translations
        self.columns = memory.T.tocsr()

    def predict(self, examples: Examples) -> np.ndarray:
        """The remembered translations, object [N] of str."""
        texts = examples.words[self.name]
        found = texts.copy()
        for start in range(0, len(texts), AT_A_TIME):
            block = slice(start, start + AT_A_TIME)
            likeness = self.vectorizer.transform(texts[block]) @ self.columns
            nearest = np.asarray(likeness.argmax(axis=1)).reshape(-1)
            is_like = likeness.getnnz(axis=1) > 0
            found[block] = np.where(is_like, self.translations[nearest], texts[block])
        return found

    def describe(self) -> str:
        return f"translation memory of {len(self.translations):,} texts"

    def save(self, folder: Path) -> None:
        """Vocabulary and translations as JSON, the matrix as safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        terms = sorted(self.vectorizer.vocabulary_, key=self.vectorizer.vocabulary_.__getitem__)
        kept = {"name": self.name, "settings": self.settings, "terms": terms, "translations": list(self.translations)}
        (folder / "memory.json").write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
        matrix = {name: np.ascontiguousarray(getattr(self.memory, name)) for name in ("data", "indices", "indptr")}
        save_file(matrix | {"idf": self.vectorizer.idf_}, folder / "memory.safetensors")


def load(folder: Path) -> Fitted:
    """A memory saved by `Fitted.save`. Raises UserError where a file of it is missing or damaged."""
    with reading("The translation memory", folder):
        kept = json.loads((folder / "memory.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "memory.safetensors")
        vectorizer = _vectorizer(vocabulary={term: place for place, term in enumerate(kept["terms"])})
        vectorizer.idf_ = arrays["idf"]
        shape = len(kept["translations"]), len(kept["terms"])
        memory = sp.csr_matrix((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
        return Fitted(kept["name"], vectorizer, memory, kept["translations"], kept["settings"])
