"""Fathom as scikit-learn estimators: `Classifier` and `Regressor`, for pipelines, cross-validation and grid search.

    from sklearn.model_selection import cross_val_score
    cross_val_score(fathom.Classifier(budget=30), X, y)

What a reader would get wrong: each `fit` is a whole run, with rows of its own set aside to choose and to test by; its
folder, report and verdict are behind `run_`. So a model sees 70 % of the rows that it is given, and `fit` takes the
seconds of its budget each time that cross-validation calls it.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_array, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from fathom import api

if TYPE_CHECKING:
    from sklearn.utils import Tags

FOLDER = "run"  # inside a temporary folder


class _Estimator(BaseEstimator):
    """What both have. X is a matrix [N, F] or a pandas frame, whose columns may be of any kind that Fathom reads."""

    _task: str

    def __init__(
        self,
        *,
        model: str | None = None,
        budget: float | str | None = None,
        metric: str | None = None,
        recipe: Mapping[str, Any] | None = None,
        out: str | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        """`model` is a name of `fathom models` ("none" for classical models alone), `budget` the seconds of a fit or
        "5m", `metric` what decides, `recipe` further keys of a recipe, nested as in its YAML, and `out` a folder that
        the run is kept in; by default it lives as long as the estimator.
        """
        self.model = model
        self.budget = budget
        self.metric = metric
        self.recipe = recipe
        self.out = out
        self.random_state = random_state

    def _fit(self, X: Any, y: np.ndarray) -> None:
        seed = self.random_state
        if not isinstance(seed, int):
            seed = int(check_random_state(seed).randint(2**31 - 1))
        values = {"task": self._task, "seed": seed, **(self.recipe or {})}
        given = {"model": self.model, "metric": self.metric}
        keys: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        self._kept = None if self.out else tempfile.TemporaryDirectory(prefix="fathom-")
        folder = Path(self.out or f"{self._kept.name}/{FOLDER}")  # type: ignore[union-attr]
        self.run_ = api.fit((X, y), budget=self.budget, recipe=values, out=folder, quiet=True, **keys)

    def _rows(self, X: Any, *, fitted: bool) -> Any:
        """X checked as scikit-learn checks it; a frame as it is, since its columns say more than a matrix would."""
        if hasattr(X, "columns") and hasattr(X, "iloc"):
            validate_data(self, X, reset=not fitted, skip_check_array=True)
            if not len(X):
                raise ValueError(f"Found array with 0 sample(s) (shape={X.shape}) while a minimum of 1 is required.")
            return X
        least = 1 if fitted else 2
        return validate_data(
            self, X, reset=not fitted, dtype=None, ensure_all_finite="allow-nan", ensure_min_samples=least
        )

    def _answers(self, X: Any, y: Any) -> np.ndarray:
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        answers = column_or_1d(y, warn=True)
        if answers.dtype.kind in "fc":
            check_array(answers, ensure_2d=False, dtype=None, input_name="y")
        if len(answers) != (rows := X.shape[0]):
            raise ValueError(f"Found input variables with inconsistent numbers of samples: [{rows}, {len(answers)}]")
        return answers

    def _predicted(self, X: Any) -> Any:
        check_is_fitted(self, "run_")
        return self.run_.predict(self._rows(X, fitted=True))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        tags.non_deterministic = self.model != "none"  # what fits into the budget is decided by the clock
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """The run folder travels along, packed."""
        state: dict[str, Any] = dict(super().__getstate__())
        run = state.pop("run_", None)
        state.pop("_kept", None)
        if run is not None:
            sink = io.BytesIO()
            with tarfile.open(fileobj=sink, mode="w") as archive:
                archive.add(run.path, arcname=FOLDER)
            state["_packed"] = sink.getvalue()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        packed = state.pop("_packed", None)
        super().__setstate__(state)
        if packed is not None:
            self._kept = tempfile.TemporaryDirectory(prefix="fathom-")
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                archive.extractall(self._kept.name, filter="data")
            self.run_ = api.load(Path(self._kept.name) / FOLDER)


class Classifier(ClassifierMixin, _Estimator):
    """A run that tells classes apart, as a scikit-learn classifier; see `_Estimator.__init__` for its options.

    >>> from sklearn.datasets import load_wine
    >>> X, y = load_wine(return_X_y=True)
    >>> Classifier(model="none", recipe={"baselines": {"linear": {}}}).fit(X, y).score(X, y) > 0.9
    True
    """

    _task = "classify"

    def fit(self, X: Any, y: Any) -> Classifier:
        rows = self._rows(X, fitted=False)
        answers = self._answers(rows, y)
        check_classification_targets(answers)
        self.classes_, numbers = np.unique(answers, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class only, {self.classes_[0]!r}. At least two are needed.")
        self._fit(rows, np.array([str(number) for number in numbers], object))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities [N, C] in the order of `classes_`."""
        found = self._predicted(X)
        return np.asarray(found.probabilities)[:, np.argsort([int(name) for name in found.classes])]

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row [N]."""
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])


class Regressor(RegressorMixin, _Estimator):
    """A run that predicts a number, as a scikit-learn regressor; see `_Estimator.__init__` for its options."""

    _task = "regress"

    def fit(self, X: Any, y: Any) -> Regressor:
        rows = self._rows(X, fitted=False)
        self._fit(rows, self._answers(rows, y).astype(np.float64))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """A number for each row [N]."""
        return np.asarray(self._predicted(X).values, np.float64)
