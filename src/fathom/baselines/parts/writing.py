"""How a language is written, learned from its texts: where words end, what a capital at the beginning means, where
blanks stand.

`cut` takes a text apart into words and signs, the first word as it is written inside a sentence; `join` puts words
together as the training texts would: the first letter large where theirs is, no blank before a full stop.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

# Chinese and Japanese signs and Korean syllables stand alone: their texts have no blanks to cut at.
_ALONE = "぀-ヿ㐀-鿿가-힯"
# "don't", "T-Shirt" and "1,000.5" are one word each.
_UNIT = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+(?:(?:[-'’]|(?<=\d)[.,:](?=\d))[^\W{_ALONE}]+)*|[^\w\s]")
_SIGN = re.compile(rf"[{_ALONE}]|[^\w\s]")


@dataclass(frozen=True)
class Writing:
    """What was learned of one language."""

    small: frozenset[str]  # words that have a capital only because they begin a text
    capitals: bool  # whether texts begin with one
    before: frozenset[str]  # signs without a blank before them
    after: frozenset[str]  # and behind them

    @classmethod
    def of(cls, texts: Iterable[str]) -> Writing:
        """Of texts as they are written."""
        firsts: Counter[str] = Counter()
        inside: Counter[str] = Counter()
        blanks = {"before": Counter[str](), "after": Counter[str]()}
        for text in texts:
            units = list(_UNIT.finditer(text))
            firsts.update(unit[0] for unit in units[:1])
            inside.update(unit[0] for unit in units[1:])
            _count_blanks(units, blanks)
        small = frozenset(word for word in firsts if inside[_lowered(word)] > inside[word])
        large = sum(times for word, times in firsts.items() if word[0].isupper())
        cased = large + sum(times for word, times in firsts.items() if word[0].islower())
        glued = {side: frozenset(sign for sign, more in counts.items() if more > 0) for side, counts in blanks.items()}
        return cls(small, cased > 0 and large > cased / 2, glued["before"], glued["after"])

    def cut(self, text: str) -> list[str]:
        """The words and signs of a text.

        >>> Writing.of(["The cat sees the dog."]).cut("The dog isn't here.")
        ['the', 'dog', "isn't", 'here', '.']
        """
        units: list[str] = _UNIT.findall(text)
        if units and units[0] in self.small:
            units[0] = _lowered(units[0])
        return units

    def join(self, units: Iterable[str]) -> str:
        """The words and signs as a text.

        >>> Writing.of(["The cat sees the dog."]).join(["the", "dog", "here", "."])
        'The dog here.'
        """
        text, last = "", ""
        for unit in units:
            text += unit if not last or unit in self.before or last in self.after else f" {unit}"
            last = unit
        return text[:1].upper() + text[1:] if self.capitals else text

    def to_json(self) -> dict[str, Any]:
        sets = {name: sorted(getattr(self, name)) for name in ("small", "before", "after")}
        return {**sets, "capitals": self.capitals}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Writing:
        small, before, after = (frozenset(value[name]) for name in ("small", "before", "after"))
        return cls(small, value["capitals"], before, after)


def _lowered(word: str) -> str:
    return word[:1].lower() + word[1:]


def _count_blanks(units: list[re.Match[str]], blanks: dict[str, Counter[str]]) -> None:
    """One more for each sign without a blank beside it, one less for each with; words have theirs from the signs."""
    for first, second in pairwise(units):
        vote = 1 if first.end() == second.start() else -1
        if _SIGN.fullmatch(second[0]):
            blanks["before"][second[0]] += vote
        if _SIGN.fullmatch(first[0]):
            blanks["after"][first[0]] += vote
