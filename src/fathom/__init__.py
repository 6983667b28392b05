"""Fathom: raw data to a trained, checked, explained and usable model.

    import fathom
    run = fathom.fit("people.csv", target="income", budget="5m")
    run.predict("new.csv")

Importing costs milliseconds; PyTorch is loaded by the first call that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Classifier",
    "Regressor",
    "Run",
    "UserError",
    "examine",
    "export",
    "fit",
    "from_pretrained",
    "generate",
    "load",
    "resume",
    "save_pretrained",
    "watch",
]

if TYPE_CHECKING:
    from fathom.api import Run, examine, export, fit, load, resume
    from fathom.doctor.watch import watch
    from fathom.errors import UserError
    from fathom.estimators import Classifier, Regressor
    from fathom.generation import generate
    from fathom.pretrained import from_pretrained, save_pretrained

_HOMES = {
    "Run": "api",
    "examine": "api",
    "export": "api",
    "fit": "api",
    "load": "api",
    "resume": "api",
    "UserError": "errors",
    "Classifier": "estimators",
    "Regressor": "estimators",
    "from_pretrained": "pretrained",
    "save_pretrained": "pretrained",
    "generate": "generation",
    "watch": "doctor.watch",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fathom' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"fathom.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
