"""Rotary positions in a config.json: older files say rope_theta and rope_scaling, newer ones rope_parameters.

What a reader would get wrong: the older way is the one to write, since both old and new readers take it.

    >>> rope_from({"rope_theta": 500.0}, default=10_000.0)
    {'rope_base': 500.0, 'rope_scaling': 'none'}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fathom.errors import UserError
from fathom.weights.parts.blueprint import expect

LLAMA_3 = {
    "rope_factor": "factor",
    "rope_low": "low_freq_factor",
    "rope_high": "high_freq_factor",
    "rope_length": "original_max_position_embeddings",
}


def rope_from(config: Mapping[str, Any], *, default: float) -> dict[str, Any]:
    """Our options. `default` is the base where none is given. Raises UserError on scalings that we do not have."""
    newer, older, theta = (config.get(name) for name in ("rope_parameters", "rope_scaling", "rope_theta"))
    found = dict(newer or older or {})
    nested = [name for name, value in found.items() if isinstance(value, Mapping)]
    if nested:
        raise UserError(
            f"config.json says rope_parameters for {', '.join(nested)} apart; supported are the same for all layers."
        )
    for settings in (config, {"model_type": config.get("model_type"), **found}):
        expect(settings, partial_rotary_factor=1.0)
    kind = found.get("rope_type", found.get("type", "default"))
    base = {"rope_base": float(found.get("rope_theta") or theta or default)}
    if kind == "default":
        return base | {"rope_scaling": "none"}
    if kind == "linear":
        return base | {"rope_scaling": kind, "rope_factor": float(found["factor"])}
    if kind == "llama3":
        found.setdefault("original_max_position_embeddings", config["max_position_embeddings"])
        return base | {"rope_scaling": kind} | {ours: found[theirs] for ours, theirs in LLAMA_3.items()}
    raise UserError(f"config.json says rope_type '{kind}'; supported are default, linear, llama3.")


def rope_to(options: Mapping[str, Any]) -> dict[str, Any]:
    base = {"rope_theta": options["rope_base"]}
    kind = options["rope_scaling"]
    if kind == "none":
        return base | {"rope_scaling": None}
    theirs = LLAMA_3 if kind == "llama3" else {"rope_factor": "factor"}
    return base | {"rope_scaling": {"rope_type": kind} | {their: options[our] for our, their in theirs.items()}}
