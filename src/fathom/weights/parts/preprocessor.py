"""How the other library scales pixels before its model sees them: preprocessor_config.json.

What a reader would get wrong: mean and deviation are no part of config.json, and they are not all of it. Files may
multiply by another factor than 1/255, subtract 1, or (EfficientNet's) divide by the deviation twice. All of that is one
mean and one deviation of pixels in 0..1, which stand in a family's settings as "image_mean" and "image_std".

    >>> pixel_scaling({"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False})
    {'image_mean': [0.5], 'image_std': [0.5]}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fathom.weights.parts.blueprint import Blueprint

KEYS = ("image_mean", "image_std")
DIVIDES_TWICE = "EfficientNet"  # unless its "include_top" says no


def pixel_scaling(processor: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and deviation of pixels in 0..1, one number for each channel or for all; nothing where the file has none"""
    normalises = processor.get("do_normalize", True)
    if normalises and not all(key in processor for key in KEYS):
        return {}
    channels = len(_listed(processor.get("image_std", 1.0)))
    mean, std = [0.0] * channels, [1.0] * channels
    if normalises:
        mean, std = (_listed(processor[key]) for key in KEYS)
    # Largest pixel after the factor; rounded, since 255 times what is written for 1/255 is not quite 1.
    top = round(255 * (processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 1), 6)
    lowered = 1.0 if processor.get("rescale_offset", False) else 0.0
    kind = str(processor.get("image_processor_type", processor.get("feature_extractor_type", "")))
    if processor.get("include_top", kind.startswith(DIVIDES_TWICE)):
        std = [once * again for once, again in zip(std, _listed(processor["image_std"]))]
    return {"image_mean": [(m + lowered) / top for m in mean], "image_std": [s / top for s in std]}


def _listed(found: Any) -> list[float]:
    return [float(number) for number in found] if isinstance(found, list | tuple) else [float(found)]


def processor_for(blueprint: Blueprint) -> dict[str, Any]:
    """What to write beside config.json; nothing for models without a picture. Pictures are scaled to the exact size."""
    for about in blueprint.inputs.values():
        if about["form"] == "pixels":
            return {
                "image_processor_type": "ViTImageProcessor",  # the one that neither crops nor keeps the proportions
                "do_resize": True,
                "size": {"height": about["height"], "width": about["width"]},
                "do_rescale": True,
                "rescale_factor": 1 / 255,
                "do_normalize": True,
                "image_mean": about["mean"],
                "image_std": about["std"],
            }
    return {}
