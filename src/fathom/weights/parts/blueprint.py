"""What is needed to build a model again: its name in models/, what comes in, what goes out, its options.

All of it is JSON, so that a folder of weights can carry it.
"""

from __future__ import annotations

from collections.abc import Mapping
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

    @property
    def form(self) -> str:
        """The form of the only input: "tokens" asks for one answer a row, "stream" for one at each position."""
        (about,) = self.inputs.values()
        return str(about["form"])


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
