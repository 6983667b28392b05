"""Take a few functions out of the package, with what they need and nothing else, as files that stand alone.

An exported model must read rows as its run does: it is given the run's own code, not code written a second time. What
a reader would get wrong: names are followed as they are written; a part that is found by its name at run time
(`rooms.find`) must be asked for.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

PACKAGE = "fathom"


class _Import(NamedTuple):
    """Where a name comes from: a module (name is ""), or a name of a module."""

    module: str
    name: str
    statement: int


class _Source:
    """One module, taken apart into statements and what each name is bound by."""

    def __init__(self, module: str) -> None:
        path = _path(module)
        assert path is not None, f"{module} has no source"
        self.text = path.read_text(encoding="utf-8")
        self.lines = self.text.splitlines()
        self.body = ast.parse(self.text).body
        self.bound: dict[str, list[int]] = {}
        self.imports: dict[str, _Import] = {}
        for number, statement in enumerate(self.body):
            if isinstance(statement, ast.Import | ast.ImportFrom):
                for alias in statement.names:
                    name = alias.asname or alias.name.split(".")[0]
                    self.imports[name] = _import(statement, alias, number)
            for name in _names_bound_by(statement):
                self.bound.setdefault(name, []).append(number)


def carry(wanted: Iterable[tuple[str, str]], *, root: str) -> dict[str, str]:
    """Files by their path below the folder `root`, for (module, name) pairs such as ("fathom.encode", "encode").

    In them the package is called `root`.
    """
    kept: dict[str, set[int]] = {}
    used: dict[str, set[str]] = {}
    todo, done = list(wanted), set()
    while todo:
        module, name = todo.pop()
        if (module, name) in done:
            continue
        done.add((module, name))
        source = _source(module)
        assert name in source.bound or name in source.imports, f"{module} has no {name}"
        kept.setdefault(module, set())
        for number in source.bound.get(name, []):
            kept[module].add(number)
            todo += _needs(source, source.body[number], module, used.setdefault(module, set()))
        if name in source.imports:
            used.setdefault(module, set()).add(name)
            todo += _followed(source.imports[name])
    return {_place(module): _renamed(_written(_source(module), kept[module], used[module]), root) for module in kept}


@lru_cache
def _source(module: str) -> _Source:
    return _Source(module)


@lru_cache
def _path(module: str) -> Path | None:
    found = importlib.util.find_spec(module)
    return Path(found.origin) if found and found.origin else None


def _is_module(name: str) -> bool:
    try:
        return _path(name) is not None
    except ModuleNotFoundError:
        return False


def _import(statement: ast.Import | ast.ImportFrom, alias: ast.alias, number: int) -> _Import:
    if isinstance(statement, ast.Import):
        return _Import(alias.name, "", number)
    module = statement.module or ""
    if module.split(".")[0] == PACKAGE and _is_module(f"{module}.{alias.name}"):
        return _Import(f"{module}.{alias.name}", "", number)
    return _Import(module, alias.name, number)


def _names_bound_by(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
        targets = [statement.target]
    return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]


def _needs(source: _Source, statement: ast.stmt, module: str, used: set[str]) -> list[tuple[str, str]]:
    """What a statement reads of its own and of other modules of the package; imports that it uses are added."""
    found: list[tuple[str, str]] = []
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and node.id in source.bound:
            found.append((module, node.id))
        if isinstance(node, ast.Name) and node.id in source.imports:
            used.add(node.id)
            found += _followed(source.imports[node.id])
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            origin = source.imports.get(node.value.id)
            if origin and not origin.name and origin.module.startswith(f"{PACKAGE}."):
                found.append((origin.module, node.attr))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            found += [(node.module or "", alias.name) for alias in node.names]
    return found


def _followed(origin: _Import) -> list[tuple[str, str]]:
    is_ours = origin.module.startswith(f"{PACKAGE}.") and origin.name
    return [(origin.module, origin.name)] if is_ours else []


def _written(source: _Source, kept: set[int], used: set[str]) -> str:
    """The module's first words, the imports that are used, and the statements that are kept, as they are written."""
    lines: list[str] = []
    for number, statement in enumerate(source.body):
        first = _first_line(source, statement)
        if isinstance(statement, ast.Import | ast.ImportFrom):
            is_future = isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
            aliases = [a for a in statement.names if is_future or (a.asname or a.name.split(".")[0]) in used]
            text = ast.unparse(type(statement)(**{**vars(statement), "names": aliases})) if aliases else ""
        elif number in kept or (number == 0 and isinstance(statement, ast.Expr)):
            text = "\n".join(source.lines[first : statement.end_lineno])
        else:
            text = ""
        if text:
            blank = next(n for n in range(3) if n == 2 or first - n < 1 or source.lines[first - n - 1].strip())
            lines += [*[""] * blank, text]
    return "\n".join(lines) + "\n"


def _first_line(source: _Source, statement: ast.stmt) -> int:
    """Where a statement begins, the decorators and comments right above it included; counted from 0."""
    first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))]) - 1
    while first and source.lines[first - 1].startswith("#"):
        first -= 1
    return first


def _renamed(text: str, root: str) -> str:
    text = re.sub(rf"\b(from|import) {PACKAGE}\b", rf"\1 {root}", text)
    # f"fathom.{room}.{name}" of what is found at run time.
    return re.sub(rf'"{PACKAGE}\.', f'"{root}.', text)


def _place(module: str) -> str:
    return module.removeprefix(f"{PACKAGE}.").replace(".", "/") + ".py"
