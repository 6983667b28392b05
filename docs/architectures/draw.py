"""One page and one picture for each architecture, made from the code: what is built, run once and watched.

    python docs/architectures/draw.py            writes docs/architectures/<model>.md and .svg

A test makes them again and compares, so a page cannot tell of a model that is no longer so.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from fathom import catalogue, rooms

HERE = Path(__file__).parent
WIDTH, ROW, LEFT = 860, 46, 12


@dataclass(frozen=True)
class Box:
    """One part of the model as it was seen working."""

    name: str
    kind: str
    what: str
    shape: str
    parameters: int


def one_value(about: Mapping[str, Any]) -> Tensor:
    """Two rows of an input; what they say does not matter."""
    if about["form"] == "pixels":
        return torch.zeros(2, about["channels"], about["height"], about["width"], dtype=torch.uint8)
    if about["form"] in ("tokens", "stream"):
        return torch.ones(2, about["length"], dtype=torch.int64)
    if about["form"] == "frames":
        return torch.zeros(2, about["length"], about["channels"])
    width = len(about["names"])
    return torch.zeros(2, width) if about["form"] == "numbers" else torch.zeros(2, width, dtype=torch.int64)


def built(module: ModuleType) -> tuple[nn.Module, Tensor | dict[str, Tensor]]:
    """The model with its defaults on the first example that it takes, and two rows for it."""
    inputs, outputs = catalogue.example(module)
    torch.manual_seed(0)
    values = {name: one_value(about) for name, about in inputs.items()}
    return module.build(inputs, outputs).eval(), next(iter(values.values())) if len(values) == 1 else values


def watched(model: nn.Module, values: Tensor | dict[str, Tensor]) -> list[Box]:
    """The parts in the order in which they were first called; parts of a list one by one, alike neighbours as one."""
    seen: dict[str, Box] = {}
    hooks = []
    for name, part in _shown_parts(model):

        def note(part: nn.Module, _: Any, output: Any, name: str = name) -> None:
            parameters = sum(p.numel() for p in part.parameters())
            seen.setdefault(name, Box(name, type(part).__name__, _what(part), _shape(output), parameters))

        hooks.append(part.register_forward_hook(note))
    with torch.no_grad():
        model(values)
    for hook in hooks:
        hook.remove()
    return list(_joined(list(seen.values())))


def _shown_parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, part in model.named_children():
        if isinstance(part, nn.ModuleList | nn.ModuleDict) or (isinstance(part, nn.Sequential) and len(part) > 2):
            yield from ((f"{name}.{inner}", child) for inner, child in part.named_children())
        else:
            yield name, part


def _joined(boxes: list[Box]) -> Iterator[Box]:
    """Neighbours in one list that are alike become one box: 'blocks.0 to 5'."""
    run: list[Box] = []
    for box in [*boxes, None]:
        alike = run and box is not None and _likeness(box) == _likeness(run[-1])
        if run and not alike:
            first, last = run[0], run[-1]
            name = first.name if len(run) == 1 else f"{first.name} to {last.name.rpartition('.')[2]}"
            yield Box(name, first.kind, first.what, first.shape, sum(one.parameters for one in run))
            run = []
        if box is not None:
            run.append(box)


def _likeness(box: Box) -> tuple[str, ...]:
    return box.name.rpartition(".")[0] or box.name, box.kind, box.shape, str(box.parameters)


def _what(part: nn.Module) -> str:
    """The first line that its class says of itself, for parts of ours; torch's own are known by name."""
    if type(part).__module__.startswith("torch."):
        return str(part).splitlines()[0].rstrip("(") if not isinstance(part, nn.Sequential) else _names(part)
    text = (inspect.getdoc(type(part)) or "").split("\n\n")[0]
    return " ".join(text.split())


def _names(part: nn.Sequential) -> str:
    inner = (type(leaf).__name__ for leaf in part.modules() if not list(leaf.children()))
    return ", ".join(dict.fromkeys(inner))


def _shape(output: Any) -> str:
    while isinstance(output, tuple | list):
        output = output[0]
    return "×".join(str(n) for n in output.shape[1:]) if isinstance(output, Tensor) else ""


def picture(title: str, boxes: list[Box]) -> str:
    """The parts from top to bottom as an SVG: name, what it is, parameters, and what a row is behind it."""
    height = 54 + ROW * len(boxes)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="26" font-size="16" font-weight="600">{escape(title)}</text>',
        f'<text x="{WIDTH - LEFT}" y="26" text-anchor="end" fill="#666">a row behind it · parameters</text>',
    ]
    for index, box in enumerate(boxes):
        top = 42 + ROW * index
        what = textwrap.shorten(box.what, 116, placeholder=" …")
        lines += [
            f'<rect x="{LEFT}" y="{top}" width="{WIDTH - 2 * LEFT}" height="{ROW - 10}" rx="5" fill="#eef3f8" '
            'stroke="#b9c9d9"/>',
            f'<text x="{LEFT + 10}" y="{top + 15}" font-weight="600">{escape(box.name)}'
            f'<tspan font-weight="400" fill="#666">  {escape(box.kind)}</tspan></text>',
            f'<text x="{LEFT + 10}" y="{top + 30}" fill="#333" font-size="11.5">{escape(what)}</text>',
            f'<text x="{WIDTH - LEFT - 10}" y="{top + 15}" text-anchor="end">{escape(box.shape)}</text>',
            f'<text x="{WIDTH - LEFT - 10}" y="{top + 30}" text-anchor="end" fill="#666" font-size="11.5">'
            f"{box.parameters:,}</text>",
        ]
        if index:
            lines.append(f'<path d="M{LEFT + 24} {top - 10}v10" stroke="#7a92a8" stroke-width="1.5" fill="none"/>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def page(found: Mapping[str, Any]) -> str:
    """What the file says of itself, its picture, its options and its named sizes."""
    name = found["name"]
    options = [(option, found["types"][option], default) for option, default in found["options"].items()]
    sizes = [(size, f"{one['parameters']:,}", one["counted_for"]) for size, one in found["sizes"].items()]
    return (
        f"# {name}\n\n{found['about']}\n\nUse: {found['use']}. Source: {found['source']}.\n\n"
        f"![{name}, part by part]({name}.svg)\n\n"
        f"The picture is the model with its defaults, for {found['counted_for']}: {found['parameters']:,} parameters.\n"
        + table(("option", "type", "default"), [[f"`{cell}`" for cell in row] for row in options])
        + table(("named size", "parameters", "counted for"), sizes)
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, nothing where it has no rows."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines) if rows else ""


def made() -> dict[str, str]:
    """Every page and picture, by file name."""
    found: dict[str, str] = {}
    lines = []
    for name, module in rooms.every("models").items():
        model, values = built(module)
        told = catalogue.entry(name)
        found[f"{name}.svg"] = picture(f"{name}: {told['parameters']:,} parameters", watched(model, values))
        found[f"{name}.md"] = page(told)
        lines.append((f"[{name}]({name}.md)", module.USE, module.SOURCE))
    head = "# Architectures\n\nOne file of `models/` each; the pages are made from the code by `draw.py`.\n"
    found["README.md"] = head + table(("model", "use", "source"), lines)
    return found


def main() -> None:
    for name, text in made().items():
        (HERE / name).write_text(text)


if __name__ == "__main__":
    main()
