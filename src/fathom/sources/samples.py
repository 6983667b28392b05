"""Built-in samples that need no file: digits, breast-cancer, wine and diabetes, as scikit-learn brings them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fathom.data import Places, Table
from fathom.sources.parts.columns import find_column, rows_and_columns

NAMES = ("digits", "breast-cancer", "wine", "diabetes")


def claims(data: Any) -> str | None:
    """A file or folder of that name in the working directory wins."""
    is_ours = isinstance(data, str) and data in NAMES and not Path(data).exists()
    return f"the built-in sample {data}" if is_ours else None


def open(data: Any, *, target: str | int | None = None) -> Table:
    """The sample of that name. target: a column by name or by number from 1; the sample's own where it is left away."""
    makers: dict[str, Callable[[], tuple[dict[str, np.ndarray], str, str]]] = {
        "digits": _digits,
        "breast-cancer": _breast_cancer,
        "wine": _wine,
        "diabetes": _diabetes,
    }
    columns, own, note = makers[data]()
    num_rows = len(columns[own])
    has_pictures = "image" in columns
    summary = f"{num_rows:,} images in 10 classes" if has_pictures else rows_and_columns(num_rows, len(columns))
    return Table(
        name=data,
        columns=columns,
        places=Places.of_rows(data, num_rows),
        summary=summary,
        target=find_column(list(columns), target, data) or own,
        notes=(note,),
    )


def _digits() -> tuple[dict[str, np.ndarray], str, str]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pictures = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # the file counts dark pixels, 0 to 16
    columns = {"image": pictures, "label": bunch.target.astype(np.int64)}
    return columns, "label", "handwritten digits of 8×8 pixels (UCI, Alpaydin and Kaynak 1998)"


def _breast_cancer() -> tuple[dict[str, np.ndarray], str, str]:
    from sklearn.datasets import load_breast_cancer

    columns = _named(load_breast_cancer(), "diagnosis")
    return columns, "diagnosis", "Wisconsin diagnostic breast cancer (UCI, Wolberg et al. 1995)"


def _wine() -> tuple[dict[str, np.ndarray], str, str]:
    from sklearn.datasets import load_wine

    return _named(load_wine(), "cultivar"), "cultivar", "wine recognition (UCI, Forina et al. 1988)"


def _diabetes() -> tuple[dict[str, np.ndarray], str, str]:
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    columns = {str(n): v for n, v in zip(bunch.feature_names, bunch.data.T)}
    columns["progression"] = bunch.target.astype(np.float64)
    return columns, "progression", "disease progression after one year (Efron et al. 2004)"


def _named(bunch: Any, target: str) -> dict[str, np.ndarray]:
    columns = {str(n): v for n, v in zip(bunch.feature_names, bunch.data.T)}
    words = np.array([str(n) for n in bunch.target_names], object)
    return {**columns, target: words[bunch.target]}
