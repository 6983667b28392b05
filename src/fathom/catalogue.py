"""What models and baselines there are, and what is to be said of each: use, source, options, sizes, parameters.

What a reader would get wrong: numbers of parameters are counted and not kept. They depend on the inputs, so each stands
with those it was counted for; published sizes with the published ones. Those are built on torch's "meta" device, which
has shapes and no memory: 400 billion parameters are counted in a second.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from fathom import rooms
from fathom.errors import UserError

About = dict[str, dict[str, Any]]
MAKERS = {"models": "build", "baselines": "fit"}
NOT_OPTIONS = ("seed", "seconds")  # of a baseline's fit: the run sets them
PAGES = Path(__file__).parents[2] / "docs" / "architectures"  # of a checkout; not there in an installed package

_SCALING = {"mean": [0.5] * 3, "std": [0.25] * 3, "mirror": True}
_TEXT = {"vocabulary": 1000, "length": 32}
_PHOTO = {"form": "pixels", "height": 64, "width": 64, "channels": 3} | _SCALING
_AGE = {"names": ["age"], "mean": [40.0], "std": [10.0], "quantiles": [[20.0, 40.0, 60.0]]}
# One small input of each kind, in the order in which a model is asked what it takes.
EXAMPLES: tuple[About, ...] = (
    {"photo": _PHOTO},
    {"text": {"form": "stream"} | _TEXT},
    {"text": {"form": "tokens"} | _TEXT},
    {"source": {"form": "tokens"} | _TEXT, "target": {"form": "stream"} | _TEXT},
    {"photo": _PHOTO, "caption": {"form": "tokens"} | _TEXT},
    {"recording": {"form": "frames", "channels": 80, "length": 100}},
    {
        "numbers": {
            "form": "numbers",
            "names": ["age", "price"],
            "mean": [40.0, 10.0],
            "std": [10.0, 5.0],
            "quantiles": [[20.0, 40.0, 60.0], [1.0, 10.0, 30.0]],
        },
        "categories": {"form": "categories", "names": ["colour"], "sizes": [4]},
    },
    {"numbers": {"form": "numbers"} | _AGE, "review": {"form": "tokens"} | _TEXT},
)
OUTPUTS = 10
PHOTOGRAPHS: tuple[About, int] = {"photo": _PHOTO | {"height": 224, "width": 224}}, 1000


def names() -> dict[str, str]:
    """Every part's name with its room, models first."""
    return {name: room for room in MAKERS for name in rooms.names(room)}


def every() -> list[dict[str, Any]]:
    """What `entry` says, of all of them."""
    return [entry(name) for name in names()]


def entry(name: str) -> dict[str, Any]:
    """All that there is to say of one model or baseline, as plain values.

    Raises UserError naming the nearest where there is none of that name.

    >>> found = entry("mlp")
    >>> found["use"], found["options"]["width"], found["types"]["width"]
    ('tables of numbers and categories', 256, 'int')
    """
    known = names()
    if name not in known:
        raise UserError(f"There is no model or baseline '{name}'. {rooms.nearest(name, known)}")
    room = known[name]
    part = rooms.find(room, name)
    make = getattr(part, MAKERS[room])
    options = {option: default for option, default in rooms.options(make).items() if option not in NOT_OPTIONS}
    page = PAGES / f"{name}.md"
    found = {
        "room": room,
        "name": name,
        "use": part.USE,
        "source": part.SOURCE,
        "about": told(part),
        "options": options,
        "types": {option: _type(make, option) for option in options},
        "told": told(make),
        "page": str(page) if page.exists() else None,
    }
    return found | _sizes(part) if room == "models" else found


def told(of: object) -> str:
    """What a file or a function says of itself, its runnable example left out."""
    return (inspect.getdoc(of) or "").split(">>>")[0].rstrip()


def example(part: ModuleType) -> tuple[About, int]:
    """The first of `EXAMPLES` that a model takes, and how many outputs to ask for."""
    inputs = next(inputs for inputs in EXAMPLES if part.claims(inputs))
    streams = [about["vocabulary"] for about in inputs.values() if about["form"] == "stream"]
    return inputs, streams[0] if streams else OUTPUTS


def published(part: ModuleType, size: str) -> tuple[About, int]:
    """The inputs and outputs that a named size is counted for: the file's own `published`, or photographs."""
    if hasattr(part, "published"):
        inputs, outputs = part.published(size)
        return inputs, outputs
    return PHOTOGRAPHS if part.claims(PHOTOGRAPHS[0]) else example(part)


def _type(make: Callable[..., Any], option: str) -> str:
    """'int' for `int | None`: None is what an option is that nobody gave."""
    written = str(inspect.signature(make).parameters[option].annotation)
    return " or ".join(kind for kind in written.split(" | ") if kind != "None")


def _sizes(part: ModuleType) -> dict[str, Any]:
    """Parameters of the model as it is and in its named sizes, each with what it was counted for."""
    import torch

    inputs, outputs = example(part)
    found: dict[str, Any] = _counted(part.build(inputs, outputs), inputs, outputs)
    found["sizes"] = {}
    for size in getattr(part, "SIZES", ()):
        inputs, outputs = published(part, size)
        with torch.device("meta"), _unstarted():
            found["sizes"][size] = _counted(part.build(inputs, outputs, size=size), inputs, outputs)
    return found


def _unstarted() -> Any:
    """Leaves out the drawing of first weights: without memory there is nothing to draw, and it took half the time."""
    from torch.overrides import TorchFunctionMode

    class Unstarted(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name, kwargs = getattr(function, "__name__", ""), kwargs or {}
            if name.endswith("_") and not name.endswith("__"):  # torch's name for what changes its first argument
                return args[0] if args else next(iter(kwargs.values()))
            return function(*args, **kwargs)

    return Unstarted()


def _counted(model: Any, inputs: About, outputs: int) -> dict[str, Any]:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    said = " and ".join(_in_words(about) for about in inputs.values())
    return {"parameters": parameters, "counted_for": f"{said}; {outputs:,} outputs"}


def _in_words(about: Mapping[str, Any]) -> str:
    if about["form"] == "pixels":
        return f"a picture of {about['height']} x {about['width']} x {about['channels']}"
    if about["form"] in ("tokens", "stream"):
        return f"a text of {about['length']:,} tokens out of {about['vocabulary']:,}"
    if about["form"] == "frames":
        return f"frames of {about['channels']} numbers"
    count = len(about["names"])
    noun = {"numbers": ("number", "numbers"), "categories": ("category", "categories")}[about["form"]]
    return f"{count} {noun[count > 1]}"
