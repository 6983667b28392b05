"""Rows as one wide sparse matrix: TF-IDF of every text column, then numbers and categories beside.

What is learned (vocabularies and how rare each word is) comes from the rows given to `fit`; means, deviations and codes
are those of the fields, which saw no test row (under cross-validation the rows of all folds).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer

from fathom.data import Examples
from fathom.errors import UserError

UNITS: dict[str, dict[str, Any]] = {
    # Punctuation counts as words: "!" and "?" tell much of a sentence.
    "words": {"analyzer": "word", "token_pattern": r"\w+|[^\w\s]", "ngram_range": (1, 2), "min_df": 1},
    "characters": {"analyzer": "char_wb", "ngram_range": (2, 5), "min_df": 2},
}
FARTHEST = 5.0  # standardised numbers are cut here: one absurd price must not outweigh every word


def vectorizer(unit: str, **more: Any) -> TfidfVectorizer:
    """How texts are cut into one kind of unit. Logarithmic counts: a word said ten times is not ten times the news."""
    return TfidfVectorizer(sublinear_tf=True, **(UNITS[unit] | more))


@dataclass(frozen=True)
class Bags:
    """The columns of the matrix: one bag for each (text column, unit), then what stands beside."""

    bags: dict[tuple[str, str], TfidfVectorizer]
    beside: dict[str, dict[str, Any]]  # descriptions of "numbers" and "categories", where there are any

    @classmethod
    def fit(cls, examples: Examples, rows: np.ndarray, units: list[str], features: int) -> Bags:
        """Vocabularies of at most `features` entries each. Raises UserError where there is no word at all."""
        bags = {}
        for name, texts in examples.words.items():
            known = _plain(texts[rows])
            for unit in units:
                bag = _fit_bag(known, unit, features)
                if bag is not None:
                    bags[name, unit] = bag
        if not bags:
            named = " or ".join(f"'{name}'" for name in examples.words)
            raise UserError(f"There is not one word in {named} of {len(rows):,} training rows: nothing to learn from.")
        beside = {form: about for form, about in examples.about.items() if form in ("numbers", "categories")}
        return cls(bags, beside)

    def matrix(self, examples: Examples, rows: np.ndarray) -> sp.csr_matrix:
        """Features float64 [len(rows), columns]."""
        blocks = [bag.transform(_plain(examples.words[name][rows])) for (name, _), bag in self.bags.items()]
        if "numbers" in self.beside:
            blocks.append(_standardised(examples.inputs["numbers"][rows], self.beside["numbers"]))
        if "categories" in self.beside:
            blocks.append(_one_hot(examples.inputs["categories"][rows], self.beside["categories"]["sizes"]))
        return sp.hstack(blocks, format="csr")

    def counts(self) -> dict[str, int]:
        """How many entries the vocabularies of each unit have together."""
        totals: dict[str, int] = {}
        for (_, unit), bag in self.bags.items():
            totals[unit] = totals.get(unit, 0) + len(bag.vocabulary_)
        return totals

    def to_json(self) -> dict[str, Any]:
        """Everything but the weights of the words, which `arrays` holds."""
        bags = [
            {"column": name, "unit": unit, "vocabulary": sorted(bag.vocabulary_, key=bag.vocabulary_.__getitem__)}
            for (name, unit), bag in self.bags.items()
        ]
        return {"bags": bags, "beside": self.beside}

    def arrays(self) -> dict[str, np.ndarray]:
        return {f"idf.{index}": bag.idf_ for index, bag in enumerate(self.bags.values())}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Bags:
        bags = {}
        for index, kept in enumerate(value["bags"]):
            bag = vectorizer(kept["unit"], vocabulary={word: i for i, word in enumerate(kept["vocabulary"])})
            bag.idf_ = arrays[f"idf.{index}"]
            bags[kept["column"], kept["unit"]] = bag
        return cls(bags, dict(value["beside"]))


def _plain(texts: np.ndarray) -> list[str]:
    return [text or "" for text in texts]


def _fit_bag(texts: list[str], unit: str, features: int) -> TfidfVectorizer | None:
    """None where the texts hold no unit that is common enough."""
    least = min(UNITS[unit]["min_df"], len(texts))
    counted = vectorizer(unit, max_features=features, min_df=least)
    try:
        return counted.fit(texts)
    except ValueError as error:
        # scikit-learn has no other way to say that no word is left; anything else is a mistake of ours.
        if "vocabulary" in str(error) or "no terms remain" in str(error):
            return None
        raise


def _standardised(numbers: np.ndarray, about: Mapping[str, Any]) -> sp.csr_matrix:
    """Numbers [N, F] → [N, 2F]: standardised (0 where missing), then 1 where missing."""
    z = (numbers.astype(np.float64) - np.asarray(about["mean"])) / np.asarray(about["std"])
    missing = np.isnan(z)
    return sp.csr_matrix(np.hstack([np.where(missing, 0.0, np.clip(z, -FARTHEST, FARTHEST)), missing]))


def _one_hot(codes: np.ndarray, sizes: list[int]) -> sp.csr_matrix:
    """Codes [N, G] → [N, sum of sizes], a 1 for each column's code."""
    num_rows, num_columns = codes.shape
    starts = np.concatenate([[0], np.cumsum(sizes)])
    columns = (codes + starts[:-1]).reshape(-1)
    ones = np.ones(num_rows * num_columns)
    return sp.csr_matrix((ones, columns, np.arange(num_rows + 1) * num_columns), shape=(num_rows, int(starts[-1])))
