"""What several sections are built from: headings, figures, tables, lists of facts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fathom.report.html import Html, element


def section(name: str, title: str, *inside: Html | None) -> Html | None:
    """A section with its heading, or None where there is nothing in it."""
    if not any(inside):
        return None
    return element("section", element("h2", title), *inside, id=name)


def figure(title: str, drawing: Html, caption: object = None, *, wide: bool = False) -> Html:
    return element(
        "figure",
        element("h3", title),
        drawing,
        element("figcaption", caption) if caption else None,
        class_="wide" if wide else None,
    )


def figures(*drawn: Html | None) -> Html | None:
    """Figures side by side where there is room."""
    known = [d for d in drawn if d is not None]
    return element("div", *known, class_="figures") if known else None


def table(head: Sequence[str], body: Iterable[Sequence[object]], *, numbers: Iterable[int] = (), label: str) -> Html:
    """A table that scrolls sideways by itself where the page is narrow; the columns in `numbers` are flush right."""
    right = frozenset(numbers)

    def cells(tag: str, values: Sequence[object]) -> list[Html]:
        return [element(tag, v, class_="number" if i in right else None) for i, v in enumerate(values)]

    header = element("thead", element("tr", *cells("th", head)))
    rows = element("tbody", *[element("tr", *cells("td", values)) for values in body])
    return element("div", element("table", header, rows), class_="scroll", tabindex=0, role="region", aria_label=label)


def facts(pairs: Iterable[tuple[object, object]], kind: str = "facts") -> Html:
    """Names and values, one under the other."""
    return element("dl", *[element("div", element("dt", n), element("dd", v)) for n, v in pairs], class_=kind)


def paragraph(*inside: object, kind: str | None = None) -> Html:
    return element("p", *inside, class_=kind)


def folded(title: str, *inside: object) -> Html:
    """Details that are opened by whoever wants them."""
    return element("details", element("summary", title), *inside)


def legend(*entries: tuple[str, str]) -> Html:
    """(kind of mark, what it stands for) …"""
    return element(
        "div",
        *[element("span", element("i", class_=f"key {kind}"), words) for kind, words in entries],
        class_="legend",
    )
