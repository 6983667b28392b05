"""Canonical correlation: directions in which simple features of a picture and the words of its caption go together.

Both sides become vectors of one space, and a picture fits a caption as far as their vectors point the same way. What
a reader would get wrong: nothing here is trained step by step. Two covariances and the one across are all it sees, and
what they say is exact.

Source: Hotelling 1936, Biometrika 28; with a penalty, for pictures and words, Hardoon et al. 2004, Neural Computation
16(12), section 3; directions weighed by a power of their correlation, Gong et al. 2014, arXiv:1212.4522.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from safetensors.numpy import load_file, save_file
from sklearn.feature_extraction.text import TfidfVectorizer

from fathom.baselines.parts.bags import vectorizer
from fathom.baselines.parts.kept import reading
from fathom.baselines.parts.matching import both_sides, names_of, ranks, sides, unit
from fathom.baselines.parts.pairs import affordable, thinned
from fathom.baselines.parts.picture_features import picture_features
from fathom.data import Examples, Task
from fathom.errors import UserError

RANK = 1  # one matrix for each side
USE = "pictures with captions"
SOURCE = (
    "Hotelling 1936, Biometrika 28; Hardoon et al. 2004, Neural Computation 16(12); Gong et al. 2014, arXiv:1212.4522"
)
RANGES = {"penalty": (">", 0), "power": (">=", 0), "rows": (">=", 2)}
PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)  # shares of the mean variance
POWERS = (0.0, 1.0, 2.0, 4.0)
USUAL_PENALTY, USUAL_POWER = 0.1, 1.0
WORDS = 2_000  # words and pairs of words, the commonest
DIRECTIONS = 256  # of largest variance that are kept of each side
LEAST_VARIANCE = 1e-6  # of the largest; below it is noise of rounding
MOST_ROWS = 50_000  # to learn from: 0.3 GB of picture features
JUDGED_ROWS = 1_000  # to choose the penalty and the power by


def claims(about: dict[str, dict[str, Any]], task: Task) -> str | None:
    """Pictures with captions, or None."""
    return both_sides(about, task)


def fit(
    examples: Examples,
    targets: np.ndarray,
    train: np.ndarray,
    validate: np.ndarray,
    task: Task,
    *,
    seed: int = 0,
    seconds: float | None = None,
    penalty: float | None = None,
    power: float | None = None,
    rows: int | None = None,
) -> Fitted:
    """Learn from the training rows, `rows` of them drawn by `seed`: where None as many as there is time for.

    `penalty` is added to every variance, as a share of the mean; `power` is that of the correlations by which
    directions are weighed. Where None they are those of the highest mean reciprocal rank on validation rows. Raises
    UserError where no training caption has a word.
    """
    names = names_of(examples.about)
    assert names is not None, "claims() said so"
    reader = Reader(*names, _fitted_words(examples.words[names[1]][train], names[1]))
    if rows is None:
        rows = min(MOST_ROWS, affordable(lambda some: reader.both(examples, some), train, seconds))
    views = Views.of(*reader.both(examples, thinned(train, rows, seed)))
    is_late = seconds is not None and seconds <= 0
    penalties = (penalty,) if penalty is not None else (USUAL_PENALTY,) if is_late else PENALTIES
    powers = (power,) if power is not None else (USUAL_POWER,) if is_late else POWERS
    judged = examples.take(thinned(validate, JUDGED_ROWS, seed))
    penalty, power = _best(views, reader, judged, [(p, q) for p in penalties for q in powers])
    settings = {"penalty": penalty, "power": power, "rows": rows}
    return Fitted(reader, views.projections(penalty, power), settings)


def _fitted_words(texts: np.ndarray, name: str) -> TfidfVectorizer:
    try:
        return vectorizer("words", max_features=WORDS).fit(texts)
    except ValueError as error:
        # scikit-learn has no other way to say that no word is left; anything else is a mistake of ours.
        if "vocabulary" not in str(error):
            raise
        raise UserError(
            f"There is not one word in '{name}' of {len(texts):,} training rows: nothing to match."
        ) from error


@dataclass(frozen=True)
class Reader:
    """How pictures and captions become features."""

    picture: str
    caption: str
    words: TfidfVectorizer

    def both(self, examples: Examples, rows: np.ndarray) -> tuple[np.ndarray, sp.csr_matrix]:
        return self.of_pictures(examples, rows), self.of_captions(examples, rows)

    def of_pictures(self, examples: Examples, rows: np.ndarray) -> np.ndarray:
        pixels = examples.inputs[self.picture]
        assert isinstance(pixels, np.ndarray)
        return picture_features(pixels, rows)

    def of_captions(self, examples: Examples, rows: np.ndarray) -> sp.csr_matrix:
        return self.words.transform(examples.words[self.caption][rows])


class Projections(NamedTuple):
    """features @ matrix + offset is the vector, before it is brought to length 1."""

    picture_matrix: np.ndarray  # [F, D]
    picture_offset: np.ndarray  # [D]
    caption_matrix: np.ndarray  # [V, D]
    caption_offset: np.ndarray  # [D]

    def of_pictures(self, features: np.ndarray) -> np.ndarray:
        return unit(features @ self.picture_matrix + self.picture_offset)

    def of_captions(self, features: sp.csr_matrix) -> np.ndarray:
        return unit(features @ self.caption_matrix + self.caption_offset)


class View(NamedTuple):
    """One side in the directions of its largest variance."""

    mean: np.ndarray  # [F]
    axes: np.ndarray  # [F, K], orthogonal where the features are standardised
    variance: np.ndarray  # [K]

    @classmethod
    def of(cls, mean: np.ndarray, covariance: np.ndarray, scale: np.ndarray) -> View:
        variance, axes = np.linalg.eigh(covariance / np.outer(scale, scale))
        kept = np.flatnonzero(variance > LEAST_VARIANCE * variance[-1])[::-1][:DIRECTIONS]
        return cls(mean, axes[:, kept] / scale[:, None], variance[kept])


@dataclass(frozen=True)
class Views:
    """What the training rows say: each side, and how the two go together [K, L]."""

    pictures: View
    captions: View
    across: np.ndarray

    @classmethod
    def of(cls, pictures: np.ndarray, captions: sp.csr_matrix) -> Views:
        rows, x = len(pictures), pictures.astype(np.float64)
        x_mean, y_mean = x.mean(axis=0), np.asarray(captions.mean(axis=0)).reshape(-1)
        x_covariance = x.T @ x / rows - np.outer(x_mean, x_mean)
        y_covariance = (captions.T @ captions).toarray() / rows - np.outer(y_mean, y_mean)
        across = np.asarray(captions.T @ x).T / rows - np.outer(x_mean, y_mean)
        deviation = np.sqrt(np.maximum(np.diag(x_covariance), 0))
        # Pixels and edges have units of their own; words are weighed already.
        seen = View.of(x_mean, x_covariance, np.where(deviation > 1e-6, deviation, 1.0))
        read = View.of(y_mean, y_covariance, np.ones(len(y_mean)))
        return cls(seen, read, seen.axes.T @ across @ read.axes)

    def projections(self, penalty: float, power: float) -> Projections:
        """Hardoon et al., section 3.2: the singular vectors of the whitened covariance across."""
        whiten = [1 / np.sqrt(v.variance + penalty * v.variance.mean()) for v in (self.pictures, self.captions)]
        left, correlations, right = np.linalg.svd(whiten[0][:, None] * self.across * whiten[1], full_matrices=False)
        weight = correlations**power
        a = self.pictures.axes @ (whiten[0][:, None] * left * weight)
        b = self.captions.axes @ (whiten[1][:, None] * right.T * weight)
        return Projections(a, -self.pictures.mean @ a, b, -self.captions.mean @ b)


def _best(views: Views, reader: Reader, judged: Examples, choices: list[tuple[float, float]]) -> tuple[float, float]:
    """The penalty and the power of the highest mean reciprocal rank, of several pairs."""
    if len(choices) == 1:
        return choices[0]
    found = sides(judged)
    pictures, captions = reader.of_pictures(judged, found.pictures), reader.of_captions(judged, found.captions)
    scores = {}
    for penalty, power in choices:
        made = views.projections(penalty, power)
        given = ranks(made.of_pictures(pictures), made.of_captions(captions), found)
        scores[penalty, power] = float((1 / given).mean())
    return max(scores, key=scores.__getitem__)


@dataclass(frozen=True)
class Fitted:
    reader: Reader
    projections: Projections
    settings: dict[str, Any]

    def predict(self, examples: Examples) -> np.ndarray:
        """The rank of each row's caption and of its picture among those of all rows: float64 [N, 2]."""
        found = sides(examples)
        return ranks(
            self.picture_vectors(examples, found.pictures), self.caption_vectors(examples, found.captions), found
        )

    def picture_vectors(self, examples: Examples, rows: np.ndarray) -> np.ndarray:
        """Vectors of length 1, float32 [len(rows), D]; those of nothing known have the length 0."""
        return self.projections.of_pictures(self.reader.of_pictures(examples, rows))

    def caption_vectors(self, examples: Examples, rows: np.ndarray) -> np.ndarray:
        return self.projections.of_captions(self.reader.of_captions(examples, rows))

    def describe(self) -> str:
        made, chosen = self.projections, self.settings
        return (
            f"canonical correlation of {len(made.picture_matrix):,} picture features and "
            f"{len(made.caption_matrix):,} words; penalty {chosen['penalty']:g}, power {chosen['power']:g}"
        )

    def save(self, folder: Path) -> None:
        """Vocabulary as JSON, matrices as safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        words = self.reader.words
        terms = sorted(words.vocabulary_, key=words.vocabulary_.__getitem__)
        kept = {"picture": self.reader.picture, "caption": self.reader.caption, "settings": self.settings,
                "terms": terms}  # fmt: skip
        (folder / "correlation.json").write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
        arrays = {name: np.ascontiguousarray(value) for name, value in self.projections._asdict().items()}
        save_file(arrays | {"idf": words.idf_}, folder / "correlation.safetensors")


def load(folder: Path) -> Fitted:
    """What `Fitted.save` wrote. Raises UserError where a file of it is missing or damaged."""
    with reading("The canonical correlation", folder):
        kept = json.loads((folder / "correlation.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "correlation.safetensors")
        words = vectorizer("words", vocabulary={term: place for place, term in enumerate(kept["terms"])})
        words.idf_ = arrays.pop("idf")
        return Fitted(Reader(kept["picture"], kept["caption"], words), Projections(**arrays), kept["settings"])
