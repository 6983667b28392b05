"""The estimators keep to scikit-learn's own conventions: its suite of checks, pipelines, cross-validation, search."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_wine
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import fathom

QUICK = {"model": "none", "recipe": {"baselines": {"linear": {}}}}
TOO_FEW = "fits 10 to 15 rows; a run needs 20 to train, choose and test, and says so"
EXCEPTIONS = dict.fromkeys(
    [
        "check_n_features_in_after_fitting",
        "check_classifier_data_not_an_array",
        "check_regressors_no_decision_function",
        "check_fit2d_1feature",
    ],
    TOO_FEW,
)


@parametrize_with_checks(
    [fathom.Classifier(**QUICK), fathom.Regressor(**QUICK)], expected_failed_checks=lambda estimator: EXCEPTIONS
)
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_pipeline_and_cross_validation() -> None:
    X, y = load_wine(return_X_y=True)
    scores = cross_val_score(make_pipeline(StandardScaler(), fathom.Classifier(**QUICK)), X, y, cv=3)
    assert scores.min() > 0.9


def test_grid_search_chooses_by_options_of_the_recipe() -> None:
    X, y = load_diabetes(return_X_y=True)
    grid = {"recipe": [{"baselines": {"constant": {}}}, {"baselines": {"linear": {}}}]}
    search = GridSearchCV(fathom.Regressor(model="none"), grid, cv=2).fit(X, y)
    assert search.best_params_ == {"recipe": {"baselines": {"linear": {}}}}


def test_a_pickled_estimator_brings_its_run(tmp_path: Path) -> None:
    X, y = load_wine(return_X_y=True)
    names = np.array(["barolo", "grignolino", "barbera"])[y]
    fitted = fathom.Classifier(**QUICK).fit(X, names)
    expected, path = fitted.predict_proba(X), fitted.run_.path
    kept = pickle.dumps(fitted)
    del fitted
    assert not path.exists()  # it lived as long as the estimator
    opened = pickle.loads(kept)  # noqa: S301
    assert opened.run_.path != path
    assert np.array_equal(opened.predict_proba(X), expected)
    assert set(opened.predict(X)) == {"barolo", "grignolino", "barbera"}


def test_frames_of_words_and_the_classes_order(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    random = np.random.default_rng(0)
    colour = random.choice(["red", "green", "blue"], size=120)
    frame = pandas.DataFrame({"colour": colour, "size": random.normal(size=120)})
    y = np.where(colour == "red", 10, 9)
    fitted = fathom.Classifier(**QUICK, out=str(tmp_path / "kept")).fit(frame, y)
    assert list(fitted.classes_) == [9, 10]
    assert fitted.score(frame, y) == 1.0
    assert fitted.predict_proba(frame)[colour == "red", 1].min() > 0.5
    assert (tmp_path / "kept" / "report.html").exists()
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame.rename(columns={"size": "length"}))


def test_a_network_by_name() -> None:
    X, y = load_wine(return_X_y=True)
    recipe = {"train": {"epochs": 2}, "baselines": {"constant": {}}, "split": {"folds": 1}}
    fitted = clone(fathom.Classifier(model="mlp", recipe=recipe)).fit(X, y)
    assert fitted.run_.recipe.model.name == "mlp"
    assert fitted.predict(X).shape == y.shape


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="one class only"):
        fathom.Classifier(**QUICK).fit(np.random.default_rng(0).normal(size=(30, 2)), np.zeros(30))


def test_a_model_beside_a_recipe_that_names_one_otherwise_is_refused_in_words() -> None:
    X, y = load_wine(return_X_y=True)
    recipe: dict[str, Any] = {"model": {"width": 8}}
    with pytest.raises(fathom.UserError, match="'model.width'"):
        fathom.Classifier(model="mlp", recipe=recipe).fit(X, y)
    assert recipe == {"model": {"width": 8}}, "what was given is not changed"
    with pytest.raises(fathom.UserError, match="'model' is a single value"):
        fathom.Classifier(model="mlp", recipe={"model": "gpt2"}).fit(X, y)
