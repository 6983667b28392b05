"""What is needed to build a model again: its name in models/, what comes in, what goes out, its options.

All of it is JSON, so that a folder of weights can carry it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fathom.errors import UserError


@dataclass(frozen=True)
class Blueprint:
    model: str  # the file in models/
    inputs: dict[str, dict[str, Any]]  # as build() takes them
    outputs: int
    options: dict[str, Any] = field(default_factory=dict)  # of build()
    architecture: str = ""  # the other library's class, where one model_type has several: "BertForMaskedLM"
    classes: tuple[str, ...] = ()  # names of a classifier's outputs, in their order, where somebody named them

    @property
    def form(self) -> str:
        """The form of the only input: "tokens" asks for one answer a row, "stream" for one at each position."""
        (about,) = self.inputs.values()
        return str(about["form"])


class Settings(dict[str, Any]):
    """What a file says of a model, and in `asked` what of it somebody wanted to know.

    Asking for what it does not say raises UserError naming the file and the setting.
    """

    def __init__(self, found: Mapping[str, Any], where: str) -> None:
        super().__init__(found)
        self.where = where
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)

    def __missing__(self, name: str) -> Any:
        raise UserError(f"{self.where} does not say '{name}', which cannot be guessed.")


# What a text for a number, a list too short, or a size beyond all measure leads to.
WRONG_KIND = (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, IndexError, RuntimeError, MemoryError,
              AssertionError)  # fmt: skip


@contextmanager
def reading(where: object) -> Iterator[None]:
    """What fails in here fails for a setting of the wrong kind (a text for a number, a list too short): a UserError."""
    try:
        yield
    except UserError:
        raise
    except WRONG_KIND as error:
        raise UserError(
            f"{where} has a setting of the wrong kind: {type(error).__name__}: {error}. Compare it with the file that "
            "came with the weights, or fetch that again."
        ) from error


def with_defaults(blueprint: Blueprint, defaults: Mapping[str, Any], *, needed: Iterable[str] = ()) -> dict[str, Any]:
    """The options with what they leave unsaid. An option that is None is unsaid.

    `needed` are those without a default: a model's sizes, which pretrained.py asks the built model for beforehand.
    """
    options = {**defaults, **{name: value for name, value in blueprint.options.items() if value is not None}}
    missing = [name for name in needed if name not in options]
    assert not missing, f"{blueprint.model}: {missing} are unsaid; resolve the blueprint with its model first"
    return options


def numbered(names: Mapping[str, str], count: int) -> dict[str, str]:
    """One entry for each layer: every "{i}" on both sides becomes 0, 1, … count - 1."""
    return {
        ours.replace("{i}", str(i)): theirs.replace("{i}", str(i))
        for i in range(count)
        for ours, theirs in names.items()
    }


def expect(config: Mapping[str, Any], **settings: Any) -> None:
    """Refuse settings that our model does not have, rather than compute something else. Left out counts as given."""
    for name, wanted in settings.items():
        found = config.get(name, wanted)
        if found != wanted:
            raise UserError(
                f"config.json says {name}={found!r}; only {wanted!r} is supported for model_type "
                f"'{config.get('model_type')}'. These weights cannot be used here."
            )


def architecture_of(config: Mapping[str, Any], known: Sequence[str]) -> str:
    """The class that config.json names, the first of `known` where it names none. Raises UserError on others."""
    architecture = (config.get("architectures") or known)[0]
    if architecture not in known:
        raise UserError(f"config.json says architectures=['{architecture}']; supported are {', '.join(known)}.")
    return str(architecture)
