"""How probable each token is after those before it: interpolated modified Kneser-Ney over token ids, of any order.

What a reader would get wrong: only the longest n-grams keep their plain counts. A shorter one is counted by how many
different tokens stand before it, because it is asked only where the longer one was not met; one that begins a text has
none before it and keeps its plain count. Below the single tokens lies the uniform distribution: nothing is impossible.

An n-gram's key is the place of its first tokens among the sorted n-grams that are one shorter, times a base, plus its
last token: looking up a text is one binary search for each order, all positions at once.

Source: Kneser and Ney 1995, ICASSP; Chen and Goodman 1998, TR-10-98 (Harvard), section 3.3 and equation 23.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

# Discounts where counts of counts do not tell them: near what large texts of words give.
USUAL_DISCOUNTS = (0.5, 1.0, 1.5)
UNKNOWN = -1  # a token that was never met, and the place of an n-gram that was not


@dataclass(frozen=True)
class Level:
    """All n-grams of one length, ordered by key. A context is an n-gram one shorter; of single tokens the empty one."""

    keys: np.ndarray  # int64 [G], ascending: context * base + token
    counts: np.ndarray  # int64 [G]
    share: np.ndarray  # float64 [G]: probability of the token after its context, discounted
    rest: np.ndarray  # float64 [contexts]: weight of the shorter context; 1 where nothing followed this one

    @classmethod
    def of(cls, keys: np.ndarray, counts: np.ndarray, num_contexts: int, base: int) -> Level:
        context = keys // base
        total = np.bincount(context, weights=counts, minlength=num_contexts)
        taken = np.minimum(_discounts(counts)[np.minimum(counts, 3)], counts)
        known = np.maximum(total, 1)
        rest = np.bincount(context, weights=taken, minlength=num_contexts) / known
        return cls(keys, counts, (counts - taken) / known[context], np.where(total > 0, rest, 1.0))

    def find(self, context: np.ndarray, token: np.ndarray, base: int) -> np.ndarray:
        """Places of n-grams, UNKNOWN where one was not met."""
        key = context * base + token
        place = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        return np.where((context >= 0) & (token >= 0) & (self.keys[place] == key), place, UNKNOWN)

    def mix(self, context: np.ndarray, place: np.ndarray, shorter: np.ndarray) -> np.ndarray:
        """Probabilities after this context from those after the shorter one, which stay where the context is new."""
        own = np.where(place >= 0, self.share[place], 0.0)
        return np.where(context >= 0, own + self.rest[context] * shorter, shorter)


def _discounts(counts: np.ndarray) -> np.ndarray:
    """What is taken off a count of 0, 1, 2, and 3 or more (Chen and Goodman 1998, equation 26)."""
    one, two, three, four = (float(np.sum(counts == times)) for times in (1, 2, 3, 4))
    found = list(USUAL_DISCOUNTS)
    if one and two and three and four:
        share = one / (one + 2 * two)
        estimated = [1 - 2 * share * two / one, 2 - 3 * share * three / two, 3 - 4 * share * four / three]
        # Few tokens have odd counts of counts, which can ask for nothing or less; then an unseen token would get none.
        found = [own if own > 0 else usual for own, usual in zip(estimated, USUAL_DISCOUNTS, strict=True)]
    return np.array([0.0, *found])


@dataclass(frozen=True)
class KneserNey:
    """Levels of length 1, 2, …; `vocabulary` tokens, ids 0 to vocabulary - 1."""

    vocabulary: int
    levels: tuple[Level, ...]

    @property
    def base(self) -> int:
        """One id more than there are tokens: it stands before a text that has no border of its own."""
        return self.vocabulary + 1

    @property
    def order(self) -> int:
        return len(self.levels)

    def probabilities(self, tokens: np.ndarray, begins: np.ndarray) -> np.ndarray:
        """Of each token given all before it in its text, float64 [T]; `begins` [T] marks where texts begin."""
        text = Reading.of(tokens, begins, self)
        for level in self.levels:
            text = text.deeper(level)
        return text.probabilities

    def following(self, context: np.ndarray) -> np.ndarray:
        """Probabilities float64 [vocabulary] of what comes after these token ids; they sum to 1."""
        found = np.full(self.vocabulary, 1 / self.vocabulary)
        for length, level in enumerate(self.levels):
            place = self._place(context[len(context) - length :]) if length <= len(context) else UNKNOWN
            if place == UNKNOWN:
                break  # what is longer has not been met either
            first, last = np.searchsorted(level.keys, [place * self.base, (place + 1) * self.base])
            found *= level.rest[place]
            tokens = level.keys[first:last] - place * self.base
            inside = tokens < self.vocabulary
            found[tokens[inside]] += level.share[first:last][inside]
        return found

    def _place(self, tokens: np.ndarray) -> int:
        """Place of one n-gram among those of its length; 0 for the empty one."""
        place = np.zeros(1, np.int64)
        for level, token in zip(self.levels, tokens, strict=False):
            place = level.find(place, np.array([token], np.int64), self.base)
        return int(place[0])

    def arrays(self) -> dict[str, np.ndarray]:
        """What `from_arrays` needs, small: for each length the followers of every context, how many, and the counts."""
        found: dict[str, np.ndarray] = {}
        num_contexts = 1
        for length, level in enumerate(self.levels, 1):
            context, token = np.divmod(level.keys, self.base)
            found[f"tokens.{length}"] = _small(token)
            found[f"followers.{length}"] = _small(np.bincount(context, minlength=num_contexts))
            found[f"counts.{length}"] = _small(level.counts)
            num_contexts = len(level.keys)
        return found

    @classmethod
    def from_arrays(cls, vocabulary: int, arrays: Mapping[str, np.ndarray]) -> KneserNey:
        levels: list[Level] = []
        base = vocabulary + 1
        for length in range(1, 1 + sum(name.startswith("tokens.") for name in arrays)):
            tokens, followers, counts = (
                arrays[f"{n}.{length}"].astype(np.int64) for n in ("tokens", "followers", "counts")
            )
            keys = np.repeat(np.arange(len(followers)), followers) * base + tokens
            levels.append(Level.of(keys, counts, len(followers), base))
        return cls(vocabulary, tuple(levels))


def _small(values: np.ndarray) -> np.ndarray:
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


@dataclass(frozen=True)
class Reading:
    """A text looked up so far: for each position the n-gram that ends there, and the token's probability."""

    tokens: np.ndarray  # int64 [T]
    begins: np.ndarray  # bool [T]
    base: int
    length: int  # of the n-grams
    places: np.ndarray  # int64 [T]
    probabilities: np.ndarray  # float64 [T]

    @classmethod
    def of(cls, tokens: np.ndarray, begins: np.ndarray, model: KneserNey) -> Reading:
        tokens, uniform = np.asarray(tokens, np.int64), np.full(len(tokens), 1 / model.vocabulary)
        return cls(tokens, begins, model.base, 0, np.zeros(len(tokens), np.int64), uniform)

    def contexts(self) -> np.ndarray:
        """Place of the n-gram before each position; UNKNOWN at the beginning of a text, where there is none."""
        if self.length == 0:
            return self.places
        before = np.concatenate([[UNKNOWN], self.places[:-1]])
        return np.where(self.begins, UNKNOWN, before)

    def deeper(self, level: Level) -> Reading:
        """The same text with n-grams that are one longer."""
        context = self.contexts()
        place = level.find(context, self.tokens, self.base)
        mixed = level.mix(context, place, self.probabilities)
        return Reading(self.tokens, self.begins, self.base, self.length + 1, place, mixed)


def grow(tokens: np.ndarray, begins: np.ndarray, vocabulary: int) -> Iterator[tuple[KneserNey, Level]]:
    """Models of order 1, 2, … of a text, and what the longest level becomes in the model after this one.

    `tokens` int [T] with `begins` bool [T]: the first token of each text is only what the others stand after, and is
    not learned itself (the border, or the id `vocabulary` where there is no border). Ends when no text is longer.

    >>> text, begins = np.array([0, 1, 2, 1, 2, 1, 2]), np.array([True] + [False] * 6)
    >>> bigrams = next(model for model, _ in grow(text, begins, vocabulary=4) if model.order == 2)
    >>> bigrams.following(np.array([1])).round(3)
    array([0.062, 0.229, 0.646, 0.062])
    """
    base = vocabulary + 1
    inner: tuple[Level, ...] = ()
    # `place` is of the n-gram that ends at each position, UNKNOWN where the text began too late for one.
    keys, place = np.unique(tokens.astype(np.int64), return_inverse=True)
    num_contexts = 1
    learned = ~begins  # a beginning is a context, and never what follows one
    while len(keys):
        plain = np.bincount(place[learned], minlength=len(keys))
        longer_keys, longer_place, is_first = _longer(place, tokens, begins, base)
        # How many different tokens stand before each: a longer n-gram holds it as its end.
        inside = longer_place >= 0
        end_of = np.zeros(len(longer_keys), np.int64)
        end_of[longer_place[inside]] = place[inside]
        varied = np.bincount(end_of, minlength=len(keys)) + np.bincount(place[learned & is_first], minlength=len(keys))
        top, below = (Level.of(keys, counts, num_contexts, base) for counts in (plain, varied))
        yield KneserNey(vocabulary, (*inner, top)), below
        inner, num_contexts = (*inner, below), len(keys)
        keys, place, learned = longer_keys, longer_place, longer_place >= 0


def _longer(
    place: np.ndarray, tokens: np.ndarray, begins: np.ndarray, base: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys of all n-grams one longer, the place of the one at each position, and where there is only the shorter."""
    before = np.where(begins, UNKNOWN, np.concatenate([[UNKNOWN], place[:-1]]))
    inside = before >= 0
    keys, inverse = np.unique(before[inside] * base + tokens[inside], return_inverse=True)
    longer = np.full(len(place), UNKNOWN, np.int64)
    longer[inside] = inverse
    return keys, longer, (place >= 0) & ~inside
