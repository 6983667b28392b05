"""N-grams: the formula of Chen and Goodman to the last digit, and what each row is allowed to know."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from fathom.baselines import constant, ngram
from fathom.baselines.parts import kneser_ney
from fathom.data import Examples, Ragged, Task
from fathom.errors import UserError

TASK = Task("language", "text")
BORDER = 1


def examples_of(rows: Sequence[Sequence[int]], *, vocabulary: int, continues: bool) -> Examples:
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    values = np.array([token for row in rows for token in row], np.int32)
    about = {"text": {"form": "stream", "vocabulary": vocabulary, "length": 8, "continues": continues}}
    return Examples({"text": Ragged(values, starts)}, about, {}, len(rows))


def fit(examples: Examples, train: Any, validate: Any = (), **options: Any) -> ngram.Fitted:
    targets = np.zeros((len(examples), 2))
    return ngram.fit(examples, targets, np.array(train, int), np.array(validate, int), TASK, **options)


def texts_of(seed: int, *, vocabulary: int, rows: int, longest: int = 12) -> list[list[int]]:
    """Rows of tokens of which some are far commoner than others."""
    generator = np.random.default_rng(seed)
    shares = 1 / np.arange(1, vocabulary - 2)
    lengths = generator.integers(0, longest, size=rows)
    return [(3 + generator.choice(vocabulary - 3, size=n, p=shares / shares.sum())).tolist() for n in lengths]


class Plain:
    """The same model written with dictionaries, from the formulas: probability by recursion over shorter contexts."""

    def __init__(self, texts: list[list[Any]], order: int, vocabulary: int) -> None:
        self.order, self.vocabulary = order, vocabulary
        seen: dict[int, Counter[tuple[Any, ...]]] = defaultdict(Counter)
        for text in texts:
            for end in range(2, len(text) + 1):
                for length in range(1, min(order, end) + 1):
                    seen[length][tuple(text[end - length : end])] += 1
        self.counts: dict[int, dict[tuple[Any, ...], int]] = {order: dict(seen[order])}
        for length in range(1, order):
            before: dict[tuple[Any, ...], set[Any]] = defaultdict(set)
            for gram in seen[length + 1]:
                before[gram[1:]].add(gram[0])
            first = Counter(tuple(text[:length]) for text in texts if len(text) >= length and length > 1)
            grams = seen[length] if length > 1 else dict.fromkeys(seen[1], 1)
            self.counts[length] = {gram: len(before[gram]) + first[gram] for gram in grams}
        self.discounts = {length: self._discount(counts) for length, counts in self.counts.items()}

    @staticmethod
    def _discount(counts: dict[tuple[Any, ...], int]) -> list[float]:
        n = [sum(count == times for count in counts.values()) for times in range(5)]
        usual = list(kneser_ney.USUAL_DISCOUNTS)
        if not all(n[1:]):
            return usual
        y = n[1] / (n[1] + 2 * n[2])
        found = [1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]]
        return [d if d > 0 else usual[i] for i, d in enumerate(found)]

    def probability(self, context: tuple[Any, ...], token: Any) -> float:
        shorter = self.probability(context[1:], token) if context else 1 / self.vocabulary
        length = len(context) + 1
        after = {g[-1]: c for g, c in self.counts[length].items() if g[:-1] == context and c > 0}
        if not after:
            return shorter
        taken = {one: min(c, self.discounts[length][min(c, 3) - 1]) for one, c in after.items()}
        total = sum(after.values())
        own = (after[token] - taken[token]) / total if token in after else 0.0
        return own + sum(taken.values()) / total * shorter


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_documents_are_as_probable_as_the_formulas_say(order: int) -> None:
    rows = [[*row, BORDER] for row in texts_of(0, vocabulary=9, rows=60)]
    examples = examples_of(rows, vocabulary=9, continues=False)
    fitted = fit(examples, range(50), order=order)
    plain = Plain([[BORDER, *row] for row in rows[:50]], order, 9)
    found = fitted.predict(examples)
    for row in range(40, 60):
        text = [BORDER, *rows[row]]
        logs = [
            math.log(plain.probability(tuple(text[max(0, end - order + 1) : end]), text[end]))
            for end in range(1, len(text))
        ]
        assert found[row] == pytest.approx(sum(logs), rel=1e-12)


def test_a_text_that_goes_on_is_as_probable_as_the_formulas_say() -> None:
    rows = [[*row, 3] for row in texts_of(1, vocabulary=9, rows=50)]
    examples = examples_of(rows, vocabulary=9, continues=True)
    fitted = fit(examples, range(30), order=3)
    plain = Plain([["nothing", *[t for row in rows[:30] for t in row]]], 3, 9)
    whole = [token for row in rows[30:] for token in row]
    logs = [math.log(plain.probability(tuple(whole[max(0, end - 2) : end]), whole[end])) for end in range(len(whole))]
    ends = np.cumsum([len(row) for row in rows[30:]])
    expected = [sum(part) for part in np.split(np.array(logs), ends[:-1])]
    assert np.allclose(fitted.predict(examples.take(np.arange(30, 50))), expected, rtol=1e-12)


@pytest.mark.parametrize("continues", [True, False])
def test_what_may_follow_sums_to_one_after_any_context(continues: bool) -> None:
    rows = [row + ([] if continues else [BORDER]) for row in texts_of(2, vocabulary=12, rows=80)]
    fitted = fit(examples_of(rows, vocabulary=12, continues=continues), range(80), order=4)
    generator = np.random.default_rng(0)
    for length in (0, 1, 2, 3, 4, 9):
        for _ in range(20):
            found = fitted.next_probabilities(generator.integers(0, 12, size=length))
            assert found.shape == (12,)
            assert found.sum() == pytest.approx(1, abs=1e-12)
            assert found.min() > 0


def test_what_may_follow_is_what_rows_are_judged_by() -> None:
    rows = [[*row, BORDER] for row in texts_of(3, vocabulary=9, rows=40)]
    examples = examples_of(rows, vocabulary=9, continues=False)
    fitted = fit(examples, range(30), order=4)
    for row in (5, 35):
        text = np.array([BORDER, *rows[row]])
        logs = [math.log(fitted.next_probabilities(text[:end])[text[end]]) for end in range(1, len(text))]
        assert fitted.predict(examples)[row] == pytest.approx(sum(logs), rel=1e-12)


def test_a_token_that_training_never_saw_is_rare_and_not_impossible() -> None:
    rows = [[3, 4, 5, 3, 4, 5, BORDER]] * 20 + [[3, 8, 5, BORDER]]
    examples = examples_of(rows, vocabulary=9, continues=False)
    known, unknown = fit(examples, range(20), order=3).predict(examples)[[0, 20]]
    assert np.isfinite(unknown)
    assert unknown < known / 3


def test_no_token_is_impossible_whatever_the_counts_of_counts() -> None:
    """Here the estimate for a count of 2 is below zero: without a floor nothing would be left for other tokens."""
    rows = [
        [3, 4],
        [3, 4],
        *[[5 + i] * 4 for i in range(6)],
        *[[11 + i, 3, 11 + i, 4, 11 + i] for i in range(3)],
        [20, 21],
    ]
    fitted = fit(examples_of(rows, vocabulary=30, continues=False), range(len(rows)), order=2)
    for token in range(30):
        assert fitted.next_probabilities(np.array([token])).min() > 0
    counts = np.array([1] + [2] * 3 + [3] * 40 + [4])
    assert (kneser_ney._discounts(counts)[1:] > 0).all()
    # Without a count of 4 the formula would take everything off a count of 3.
    assert tuple(kneser_ney._discounts(np.array([1, 2, 3]))[1:]) == kneser_ney.USUAL_DISCOUNTS


def test_a_text_is_read_the_same_behind_another() -> None:
    text = np.random.default_rng(0).integers(0, 4, size=300)
    model = next(model for model, _ in kneser_ney.grow(text, np.arange(300) == 0, 5) if model.order == 3)
    apart = [model.probabilities(part, np.arange(len(part)) == 0) for part in (text[:40], text[40:90])]
    begins = np.isin(np.arange(90), [0, 40])
    assert np.array_equal(model.probabilities(text[:90], begins), np.concatenate(apart))


def test_a_document_knows_nothing_of_the_one_before() -> None:
    rows = [[3, 4, 5, BORDER], [6, 7, BORDER]] * 30
    examples = examples_of(rows, vocabulary=9, continues=False)
    fitted = fit(examples, range(40), order=6)
    alone = fitted.predict(examples.take(np.array([1])))
    assert fitted.predict(examples)[1] == alone[0]
    assert fitted.predict(examples.take(np.array([1, 1])))[1] == alone[0]
    # In training neither: after a border every first token is equally a surprise, whatever stood before it.
    swapped = fit(
        examples_of(rows[::2] + rows[1::2], vocabulary=9, continues=False), [*range(20), *range(30, 50)], order=6
    )
    assert np.allclose(swapped.predict(examples), fitted.predict(examples), rtol=1e-12)


def test_rows_that_go_on_know_the_rows_before() -> None:
    text = [3, 4, 5, 6, 7, 8] * 60
    pieces = [text[i : i + 4] for i in range(0, len(text), 4)]
    examples = examples_of(pieces, vocabulary=9, continues=True)
    fitted = fit(examples, range(50), order=3)
    together = fitted.predict(examples)
    alone = fitted.predict(examples.take(np.array([7])))
    assert together[7] > alone[0] + 1


def test_rows_between_which_something_is_missing_do_not_go_on() -> None:
    """7 never follows 3 in the text: row 1, which stands between them, is held back."""
    rows = [[3], [5], [7]] * 40
    examples = examples_of(rows, vocabulary=9, continues=True)
    train = [row for row in range(len(rows)) if row % 3 != 1]
    after = fit(examples, train, order=2).next_probabilities(np.array([3]))
    joined = fit(examples_of([rows[row] for row in train], vocabulary=9, continues=True), range(80), order=2)
    assert joined.next_probabilities(np.array([3]))[7] > 0.9
    assert after[7] < 0.5


def test_the_order_of_training_rows_changes_nothing() -> None:
    examples = examples_of(texts_of(4, vocabulary=9, rows=60), vocabulary=9, continues=True)
    mixed = np.random.default_rng(0).permutation(50)
    one, other = (fit(examples, train, order=3) for train in (range(50), mixed))
    assert np.array_equal(one.predict(examples), other.predict(examples))


def test_the_order_is_as_long_as_the_memory_of_the_text() -> None:
    generator = np.random.default_rng(0)
    follows = generator.integers(3, 9, size=(9, 9))
    text = [3, 4]
    while len(text) < 6000:
        text.append(int(generator.integers(3, 9) if generator.random() < 0.1 else follows[text[-2], text[-1]]))
    rows = [text[i : i + 50] for i in range(0, 6000, 50)]
    examples = examples_of(rows, vocabulary=9, continues=True)
    assert fit(examples, range(90), range(90, 120)).settings == {"order": 3}
    noise = examples_of(generator.integers(3, 9, size=(120, 50)).tolist(), vocabulary=9, continues=True)
    assert fit(noise, range(90), range(90, 120)).settings == {"order": 1}
    assert fit(examples, range(90), range(90, 120), seconds=0.0).settings == {"order": 1}


def test_the_chosen_order_has_the_least_loss_on_validation_rows() -> None:
    examples = examples_of(
        [[*row, BORDER] for row in texts_of(6, vocabulary=9, rows=200)], vocabulary=9, continues=False
    )
    chosen = fit(examples, range(150), range(150, 200)).settings["order"]
    held = examples.take(np.arange(150, 200))
    losses = [-fit(examples, range(150), order=order).predict(held).sum() for order in range(1, chosen + 2)]
    assert losses[chosen - 1] == min(losses)
    assert losses[:chosen] == sorted(losses[:chosen], reverse=True)


def test_an_order_longer_than_every_text_is_the_longest_there_is() -> None:
    examples = examples_of([[3, 4, BORDER]] * 30, vocabulary=9, continues=False)
    assert fit(examples, range(20), order=50).settings == {"order": 4}


def test_a_text_without_tokens_is_refused() -> None:
    empty = examples_of([[]] * 4, vocabulary=9, continues=True)
    with pytest.raises(UserError, match="not one token in 3 training rows"):
        fit(empty, range(3), [3])
    some = examples_of([[3, 4]] * 4, vocabulary=9, continues=True)
    with pytest.raises(UserError, match="no token in the validation rows"):
        fit(some, range(3))


def test_a_damaged_file_is_named(tmp_path: Any) -> None:
    fit(examples_of([[3, 4]] * 9, vocabulary=9, continues=True), range(9), order=2).save(tmp_path)
    (tmp_path / "ngram.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match="cannot be read"):
        ngram.load(tmp_path)


def test_the_constant_knows_how_often_tokens_come_and_a_little_of_others() -> None:
    examples = examples_of([[3, 3, 3, 4], [5]], vocabulary=6, continues=True)
    fitted = constant.fit(examples, np.zeros((2, 2)), np.array([0]), np.array([1]), TASK)
    assert np.allclose(fitted.predict(examples), [3 * math.log(4 / 10) + math.log(2 / 10), math.log(1 / 10)])
