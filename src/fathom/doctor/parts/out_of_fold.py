"""Predictions for rows by models that have not seen them: quick ones, for whoever asks what the data tells.

Trees and logistic regression for tables (for numbers trees), naive Bayes and logistic regression over words and pairs
of words for texts, logistic regression for pictures. What a reader would get wrong: copies of a row, and the rows of a
declared group, are always held out together; else the model knows them by heart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from fathom.doctor.parts.given import Features, Given, features

FOLDS, TEXT_FOLDS = 5, 10  # models of words are quick, and every row helps them
LEAVES, RATE, ROUNDS = 8, 0.1, 60
MOST_TREES = 400  # of a fold; many classes share them
BINS = 32
FAR, MOST_CODES = 5.0, 50
LEAST = 1e-4  # a probability: no single model may rule out a class

Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # train, held-out, weights → predictions


class Learner:
    """One way to predict the targets of some rows; what it reads of them is made once."""

    def __init__(self, given: Given, rows: np.ndarray, labels: np.ndarray | None = None) -> None:
        """`rows` are ids; `labels` [len(rows)] are classes 0 and 1 to be told apart instead of the targets."""
        self.given, self.rows = given, rows
        self.targets = given.targets[rows] if labels is None else labels
        self.is_number = labels is None and given.task.kind == "regress"
        self.classes = 1 if self.is_number else 2 if labels is not None else len(given.task.classes)
        taken = given.examples.take(rows)
        self.table = features(taken)
        self.bag = None if self.table.names else _bag(list(taken.words.values()))
        self.pictures = bool(given.examples.of_form("pixels"))
        folds = FOLDS if self.bag is None else TEXT_FOLDS
        self.fold = fold_of(given, rows, self.targets if not self.is_number else None, folds)

    def predict(
        self, columns: list[int] | None = None, *, weights: np.ndarray | None = None, fold: np.ndarray | None = None
    ) -> np.ndarray:
        """Held-out probabilities [n, C] or numbers [n], from all columns or some of them, in these folds or its own."""
        weights = np.ones(len(self.rows)) if weights is None else weights
        fold = self.fold if fold is None else fold
        found = np.zeros((len(self.rows), self.classes))
        for number in range(fold.max() + 1):
            held = np.flatnonzero(fold == number)
            train = np.flatnonzero((fold != number) & (weights > 0))
            known = np.unique(self.targets[train])
            if self.is_number or len(known) > 1:
                found[held] = self._fit(columns)(train, held, weights)
            else:
                found[np.ix_(held, known)] = 1.0  # who has seen one class only knows no other
        return found[:, 0] if self.is_number else found

    def losses(self, predicted: np.ndarray) -> np.ndarray:
        """Of each row [n]: nats, or squared errors."""
        if self.is_number:
            return (predicted - self.targets) ** 2
        # A row that is held for impossible costs as if half a row of all had been like it.
        return -np.log(np.maximum(predicted[np.arange(len(self.targets)), self.targets], 0.5 / len(self.targets)))

    def prior(self) -> np.ndarray:
        """Predictions of somebody who knows only the shares of the classes, or the mean."""
        if self.is_number:
            return np.full(len(self.targets), self.targets.mean())
        return np.tile(np.bincount(self.targets, minlength=self.classes) / len(self.targets), (len(self.targets), 1))

    def gain(self, predicted: np.ndarray) -> float:
        """The share of the prior's loss that is gone: 1 for perfect, below 0 for worse than knowing nothing."""
        return float(1 - self.losses(predicted).mean() / max(self.losses(self.prior()).mean(), 1e-300))

    def _fit(self, columns: list[int] | None) -> Fit:
        if self.bag is not None:
            return self._ridge(self.bag) if self.is_number else self._words(self.bag)
        table = self.table if columns is None else self.table.of(columns)
        if self.is_number:
            return self._trees(table)
        if self.pictures and columns is None:
            return self._logistic(table)
        return _between(self._trees(table), self._logistic(table))

    def _trees(self, table: Features) -> Fit:
        import lightgbm

        first = table.matrix.shape[1] - table.codes
        parameters: dict[str, Any] = {"learning_rate": RATE, "num_leaves": LEAVES, "verbosity": -1, "num_threads": 1,
                                      "deterministic": True, "force_row_wise": True, "cat_smooth": 5.0,
                                      "lambda_l2": 1.0, "seed": self.given.seed}  # fmt: skip
        if self.is_number:
            parameters["objective"] = "regression"
        elif self.classes == 2:
            parameters["objective"] = "binary"
        else:
            parameters |= {"objective": "multiclass", "num_class": self.classes}
        rounds = min(ROUNDS, max(8, MOST_TREES // (self.classes if self.classes > 2 else 1)))

        def fit(train: np.ndarray, held: np.ndarray, weights: np.ndarray) -> np.ndarray:
            own = parameters | {"min_data_in_leaf": int(np.clip(len(train) // 50, 2, 20))}
            data = lightgbm.Dataset(
                table.matrix[train],
                self.targets[train],
                weight=weights[train],
                categorical_feature=list(range(first, table.matrix.shape[1])),
                params=own,
            )
            found = np.asarray(lightgbm.train(own, data, rounds).predict(table.matrix[held], num_threads=1))
            if self.is_number:
                return found[:, None]
            return np.stack([1 - found, found], axis=1) if self.classes == 2 else found

        return fit

    def _words(self, bag: sparse.csr_matrix) -> Fit:
        """Naive Bayes; of two classes the geometric mean with a logistic regression, which errs elsewhere."""
        from sklearn.feature_extraction.text import TfidfTransformer
        from sklearn.linear_model import LogisticRegression
        from sklearn.naive_bayes import MultinomialNB

        scaled = TfidfTransformer().fit_transform(bag)

        def fit(train: np.ndarray, held: np.ndarray, weights: np.ndarray) -> np.ndarray:
            labels, own = self.targets[train], weights[train]
            bayes = MultinomialNB().fit(bag[train], labels, sample_weight=own)
            found = self._spread(bayes.predict_proba(bag[held]), bayes.classes_)
            if self.classes > 2 or len(bayes.classes_) < 2:
                return found
            model = LogisticRegression(C=2.0, solver="liblinear", random_state=0)
            model.fit(scaled[train], labels, sample_weight=own)
            return _mean_of(found, model.predict_proba(scaled[held]))

        return fit

    def _ridge(self, bag: sparse.csr_matrix) -> Fit:
        from sklearn.linear_model import Ridge

        def fit(train: np.ndarray, held: np.ndarray, weights: np.ndarray) -> np.ndarray:
            model = Ridge(alpha=10.0, solver="sparse_cg").fit(bag[train], self.targets[train], weights[train])
            return np.asarray(model.predict(bag[held]))[:, None]

        return fit

    def _logistic(self, table: Features) -> Fit:
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        matrix = in_columns(table)

        def fit(train: np.ndarray, held: np.ndarray, weights: np.ndarray) -> np.ndarray:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # near enough
                model = LogisticRegression(C=0.1, max_iter=100)
                model.fit(matrix[train], self.targets[train], sample_weight=weights[train])
            return self._spread(model.predict_proba(matrix[held]), model.classes_)

        return fit

    def _spread(self, probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
        found = np.zeros((len(probabilities), self.classes))
        found[:, classes] = probabilities
        return found


def fold_of(given: Given, rows: np.ndarray, strata: np.ndarray | None, folds: int = FOLDS) -> np.ndarray:
    """Fold of each row [n], classes spread evenly: copies, or rows of a declared group, are in one."""
    return fold_of_units(given, given.copies[rows] if given.groups is None else given.groups[rows], strata, folds)


def fold_of_units(given: Given, units: np.ndarray, strata: np.ndarray | None, folds: int = FOLDS) -> np.ndarray:
    """Likewise, for any units [n] that must be held out together."""
    first, unit = np.unique(units, return_index=True, return_inverse=True)[1:]
    random = given.generator().permutation(len(first))
    order = np.lexsort((random, strata[first])) if strata is not None else np.argsort(random)
    of_unit = np.empty(len(first), np.int64)
    of_unit[order] = np.arange(len(first)) % min(folds, len(first))
    return of_unit[unit.ravel()]


def _between(one: Fit, other: Fit) -> Fit:
    """Two models that err in different places: where both are sure, they seldom do."""

    def fit(train: np.ndarray, held: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return _mean_of(one(train, held, weights), other(train, held, weights))

    return fit


def _mean_of(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The geometric mean of probabilities [n, C]."""
    both = np.sqrt((one + LEAST) * (other + LEAST))
    return np.asarray(both / both.sum(axis=1, keepdims=True))


def in_columns(table: Features) -> np.ndarray:
    """Numbers with mean 0 and spread 1, a missing one at the mean and a long tail cut; a column for each code."""
    first = table.matrix.shape[1] - table.codes
    numbers = table.matrix[:, :first].astype(np.float64)
    known = ~np.isnan(numbers)
    counts = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, numbers, 0.0)
    middle = filled.sum(axis=0) / counts
    spread = np.sqrt((np.where(known, numbers - middle, 0.0) ** 2).sum(axis=0) / counts)
    scaled = np.clip(np.where(known, (numbers - middle) / np.where(spread > 0, spread, 1.0), 0.0), -FAR, FAR)
    codes = [_hot(column.astype(np.int64)) for column in table.matrix[:, first:].T]
    return np.column_stack([scaled, *codes])


def _hot(codes: np.ndarray) -> np.ndarray:
    """A column for each of the most frequent codes."""
    found, counts = np.unique(codes, return_counts=True)
    kept = found[np.argsort(-counts, kind="stable")[:MOST_CODES]]
    return (codes[:, None] == kept).astype(np.float64)


def _bag(texts: list[np.ndarray]) -> sparse.csr_matrix:
    """Words and pairs of neighbours that a row holds, 0 or 1, of all its texts."""
    from sklearn.feature_extraction.text import CountVectorizer

    joined = [" ".join(row) for row in zip(*texts, strict=True)]
    words = CountVectorizer(ngram_range=(1, 2), binary=True, token_pattern=r"\w+|[^\w\s]", dtype=np.float64)
    return sparse.csr_matrix(words.fit_transform(joined))
