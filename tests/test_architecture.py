"""The house stays a house: imports point one way, one file moves weights, rooms keep to their own words."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "fathom"
FILES = sorted(SOURCE.rglob("*.py"))

# From the outside in. A file may import from its own line or from lines below; rooms never from each other.
WORKFLOWS = {"cli", "api", "estimators", "aftercare", "mending", "__main__", "__init__"}
TOP = {"fitting", "ship", "report", "explain", "compare", "adapt"}
ROOMS = {"sources", "fields", "models", "baselines", "objectives", "optimizers", "measures", "doctor"}
ROOMS |= {"weights", "trackers"}
LEAVES = {"data", "errors", "loop", "compute", "rooms", "terminal"}

# A word that a room never says (see ARCHITECTURE.md, "A line of code knows its room").
NEVER_SAYS = {
    "sources": r"\b(layers?|loss(es)?|optimizer|gradients?)\b",
    "fields": r"\b(layers?|loss(es)?|optimizer|gradients?)\b",
    "models": r"\b(batch_size|learning_rate|optimizer|Path|read_bytes)\b",
    "objectives": r"\b(optimizer|epochs?|device|Path)\b",
    "measures": r"\b(gradients?|layers?|optimizer)\b",
    "loop.py": r"\b(images?|pictures?|tokens?|class(es)?|Path|column)\b",
    "compute.py": r"\b(columns?|labels?)\b",
    "run.py": r"\b(layers?|gradients?)\b",
}


def home(path: Path) -> str:
    """'models' for models/resnet.py, 'fit' for fit.py."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Homes inside the package that a file imports from, type-checking imports aside."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "fathom":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("fathom.")}
    return found - {"__version__"}


def code_without_words(path: Path) -> str:
    """The code of a file without comments and strings."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            lines.append(node.id)
        elif isinstance(node, ast.Attribute):
            lines.append(node.attr)
        elif isinstance(node, ast.arg):
            lines.append(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            lines.append(node.name)
        elif isinstance(node, ast.alias):
            lines.append(node.name.split(".")[-1])
    return "\n".join(lines)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_inwards(path: Path) -> None:
    own, others = home(path), imported(path)
    if own in WORKFLOWS:
        return
    assert not others & WORKFLOWS - {own}, "only cli and api stand above everything"
    if own in TOP:
        assert not (others & TOP) - {own}, "workflows meet in the run folder, not in each other"
    elif own in ROOMS:
        assert others <= LEAVES | {own}, f"{own} imports {others}"
    elif own in LEAVES:
        assert others <= {"errors"}, f"{own} is a leaf and imports {others}"
    else:
        assert not others & TOP, f"{own} imports {others & TOP}"


def test_loop_and_compute_import_nothing_of_ours() -> None:
    for name in ("loop.py", "compute.py"):
        assert imported(SOURCE / name) == set()


def test_one_file_moves_weights() -> None:
    calls = {
        path.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("backward", "step")
        if not _is_own(node)
    }
    assert calls == {"loop.py"}


def _is_own(node: ast.Call) -> bool:
    """self.step() of a class that is no optimizer."""
    assert isinstance(node.func, ast.Attribute)
    return isinstance(node.func.value, ast.Name) and node.func.value.id == "self"


@pytest.mark.parametrize("room", sorted(NEVER_SAYS))
def test_rooms_keep_to_their_words(room: str) -> None:
    files = [SOURCE / room] if room.endswith(".py") else sorted((SOURCE / room).rglob("*.py"))
    for path in files:
        found = re.search(NEVER_SAYS[room], code_without_words(path))
        assert found is None, f"{path.relative_to(SOURCE)} says '{found[0] if found else ''}'"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_pickle_and_no_eval(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert not re.search(r"pickle|joblib|dill|shelve|marshal", ast.dump(node)), ast.unparse(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec"), ast.unparse(node)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load", "numpy.load"):
            assert "allow_pickle=False" in ast.unparse(node), ast.unparse(node)


def test_import_is_quick_and_without_torch() -> None:
    code = (
        "import sys, fathom, fathom.cli; heavy = {'torch', 'pandas', 'sklearn', 'lightgbm', 'pyarrow', 'scipy'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("room", ["sources", "fields", "baselines", "measures"])
def test_rooms_that_need_no_torch_import_none(room: str) -> None:
    code = f"import sys; from fathom.rooms import every; every('{room}'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400, "split the file: it answers more than one question"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is too long to be read at one go"
    if path.name != "__init__.py":
        assert ast.get_docstring(ast.parse(text)), "a file opens with what it is"
