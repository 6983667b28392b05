"""What the OpenAPI page says of a run: its columns, what they take, and a row to try.

What a reader would get wrong: this page tells, and `cells` checks. It says no more than what is checked there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fathom.ship.predict import Model
from fathom.ship.serving.limits import Limits, shown
from fathom.ship.serving.reading import TABLES, needed

TYPES = {
    "number": ["number", "string", "null"],
    "datetime": ["string", "number", "null"],
    "category": ["string", "number", "boolean", "null"],
}
MOST_CLASSES = 50


def about(model: Model, candidate: str | None, limits: Limits, sizes: tuple[int, ...]) -> dict[str, Any]:
    """The run in short, as /about tells it."""
    columns = {name: _about_column(field) for name, field in needed(model).items()}
    told: dict[str, Any] = {
        "run": model.folder.name,
        "task": model.task.kind,
        "target": model.task.target,
        "model": candidate or model.metrics["advised"],
        "columns": columns,
        "limits": {"bytes": limits.bytes, "rows": limits.rows, "pixels": limits.pixels, "waiting": limits.waiting},
        "together": list(sizes),
    }
    return told | ({"classes": list(model.task.classes)} if model.task.classes else {})


def _about_column(field: Mapping[str, Any]) -> dict[str, Any]:
    kind = field["kind"]
    told: dict[str, Any] = {"kind": kind}
    if kind == "category":
        told["known"] = field["classes"][:MOST_CLASSES]
    if kind in ("number", "datetime"):
        ends = ("minimum", "maximum") if kind == "number" else ("start", "end")
        told["in training"] = [field[end] for end in ends]
    return told


def request_body(model: Model) -> dict[str, Any]:
    """The OpenAPI description of what /predict takes."""
    fields = needed(model)
    row = {
        "type": "object",
        "properties": {shown(name): _schema(field) for name, field in fields.items()},
        "required": [shown(name) for name in fields],
    }
    example = {shown(name): _example(field) for name, field in fields.items()}
    taken: dict[str, Any] = {
        "application/json": {"schema": {"oneOf": [row, {"type": "array", "items": row}]}, "example": example}
    }
    kinds = [field["kind"] for field in fields.values()]
    binary = {"type": "string", "format": "binary"}
    if "image" not in kinds:
        taken |= {kind: {"schema": {"type": "string"}} for kind in TABLES}
    if kinds == ["image"]:
        taken["image/*"] = {"schema": binary}
    if "image" not in kinds or kinds == ["image"]:
        file = {"type": "object", "properties": {"file": binary}, "required": ["file"]}
        taken["multipart/form-data"] = {"schema": file}
    return {"required": True, "content": taken}


def _schema(field: Mapping[str, Any]) -> dict[str, Any]:
    kind = field["kind"]
    if kind == "image":
        return {"type": ["string", "null"], "contentEncoding": "base64", "description": "the bytes of a picture"}
    return {"type": TYPES.get(kind, ["string", "null"]), "description": kind}


def _example(field: Mapping[str, Any]) -> Any:
    kind = field["kind"]
    if kind == "number":
        return field["median"]
    if kind == "datetime":
        return str(field["start"])
    return (field["classes"] or [None])[0] if kind == "category" else None if kind == "image" else "a text"
