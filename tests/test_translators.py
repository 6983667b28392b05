"""Translators without a network: what they learn of words, how they put sentences together, what they leave alone."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fathom.baselines import translation_memory, word_by_word
from fathom.baselines.parts import lexicon
from fathom.baselines.parts.best_path import best_paths, log_joined
from fathom.baselines.parts.kneser_ney import grow
from fathom.baselines.parts.writing import Writing
from fathom.data import Examples, Ragged, Task
from fathom.errors import UserError

TASK = Task("translate", "de")
NOUNS = {"dog": "Hund", "man": "Mann", "tree": "Baum", "ball": "Ball"}
DOES = {"sees": "sieht", "paints": "malt", "has": "hat"}
SIZES = {"big": "großen", "red": "roten", "old": "alten"}


def objects(texts: list[str]) -> np.ndarray:
    found = np.empty(len(texts), object)
    found[:] = texts
    return found


def sentences(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """'The dog sees a red tree.' and 'Der Hund sieht einen roten Baum.'"""
    generator = np.random.default_rng(seed)
    pick = [[list(words.items())[i] for i in generator.integers(len(words), size=count)]
            for words in (NOUNS, DOES, SIZES, NOUNS)]  # fmt: skip
    english = [f"The {a[0]} {b[0]} a {c[0]} {d[0]}." for a, b, c, d in zip(*pick, strict=True)]
    german = [f"Der {a[1]} {b[1]} einen {c[1]} {d[1]}." for a, b, c, d in zip(*pick, strict=True)]
    return objects(english), objects(german)


def examples_of(source: np.ndarray) -> Examples:
    return Examples({}, {"en": {"form": "tokens", "vocabulary": 3, "length": 4}}, {"en": source}, len(source))


def fit(part: Any, source: np.ndarray, target: np.ndarray, **options: Any) -> Any:
    rows = np.arange(len(source))
    return part.fit(examples_of(source), target, rows, rows[: len(rows) // 5], TASK, **options)


def translate(fitted: Any, *texts: str) -> list[str]:
    return list(fitted.predict(examples_of(objects(list(texts)))))


# Writing


def test_a_word_is_small_inside_a_sentence_unless_it_is_always_large() -> None:
    writing = Writing.of(["Der Hund sieht den Hund.", "Hunde und der Mann.", "Mann sieht Hunde.", "Den Baum."])
    assert writing.cut("Der Baum") == ["der", "Baum"]
    assert writing.cut("Hunde bellen") == ["Hunde", "bellen"]
    assert writing.cut("Bäume") == ["Bäume"]
    assert writing.join(["der", "Hund", "."]) == "Der Hund."


def test_texts_without_capitals_stay_without() -> None:
    writing = Writing.of(["der hund bellt .", "ein Mann geht ."])
    assert writing.join(writing.cut("der hund bellt .")) == "der hund bellt ."


def test_signs_stand_where_training_texts_have_them() -> None:
    texts = ["Er sagt: „Ja, (fast) immer!“", "Sie kauft Müsli-Riegel und 3,5 Äpfel."]
    writing = Writing.of(texts)
    for text in texts:
        assert writing.join(writing.cut(text)) == text
    french = Writing.of(["Il dit : « oui » !", "Où va-t-il ?"])
    assert french.join(["il", "dit", ":", "«", "non", "»", "?"]) == "Il dit : « non » ?"


def test_languages_without_blanks_are_cut_into_signs_and_joined_without() -> None:
    writing = Writing.of(["我喜欢书。", "他喜欢茶。"])
    assert writing.cut("我喜欢茶。") == ["我", "喜", "欢", "茶", "。"]
    assert writing.join(["我", "喜", "欢", "茶", "。"]) == "我喜欢茶。"


def test_what_was_learned_of_writing_is_kept() -> None:
    writing = Writing.of(["Er sagt: „Ja“.", "Dann sagt er (nichts)."])
    assert Writing.from_json(writing.to_json()) == writing


# The dictionary


def ragged(rows: list[list[int]]) -> Ragged:
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Ragged(np.array([token for row in rows for token in row], np.int64), starts)


def plain_model_1(source: list[list[int]], target: list[list[int]]) -> dict[tuple[int, int], float]:
    """Brown et al. 1993, section 4.1, word by word; -1 is the empty word."""
    words = {word for row in target for word in row}
    table = {(s, t): 1.0 for row in [*source, [-1]] for s in row for t in words}
    for _ in range(lexicon.ITERATIONS):
        counts = dict.fromkeys(table, 0.0)
        for own, other in zip(source, target, strict=True):
            for t in other:
                total = sum(table[s, t] for s in [*own, -1])
                for s in [*own, -1]:
                    counts[s, t] += table[s, t] / total
        sums: dict[int, float] = {}
        for (s, _), count in counts.items():
            sums[s] = sums.get(s, 0.0) + count
        table = {(s, t): count / sums[s] for (s, t), count in counts.items()}
    return table


def test_the_dictionary_is_that_of_model_1() -> None:
    generator = np.random.default_rng(0)
    source = [generator.integers(0, 6, size=generator.integers(1, 6)).tolist() for _ in range(25)]
    target = [generator.integers(0, 7, size=generator.integers(1, 6)).tolist() for _ in range(25)]
    found = lexicon.learn(ragged(source), ragged(target), 7)
    forth, back = plain_model_1(source, target), plain_model_1(target, source)
    assert len(found.source) > 20
    for s, t, given_source, given_target in zip(*found, strict=True):
        assert given_source == pytest.approx(forth[s, t], rel=1e-9)
        assert given_target == pytest.approx(back[t, s], rel=1e-9)


def test_sentences_alone_tell_which_word_is_which() -> None:
    """No word stands alone in any sentence, and the order of the target is turned round."""
    source = [list(pair) for pair in itertools.combinations(range(5), 2)]
    found = lexicon.learn(ragged(source), ragged([[9 - word for word in row] for row in source]), 10)
    best = {
        s: max(range(len(found.source)), key=lambda i: (found.source[i] == s) * found.given_source[i]) for s in range(5)
    }
    assert {s: int(found.target[i]) for s, i in best.items()} == {s: 9 - s for s in range(5)}


# The best path


def test_the_best_path_is_the_best_of_all_paths() -> None:
    generator = np.random.default_rng(0)
    tokens = generator.integers(0, 6, size=200)
    bigrams = next(model for model, _ in grow(tokens, np.arange(200) % 8 == 0, 6) if model.order == 2)
    lengths = np.array([4, 4, 2, 1])
    words, worth = generator.integers(0, 5, size=(4, 4, 3)), generator.normal(size=(4, 4, 3))
    worth[0, 1, 2] = -np.inf
    found = best_paths(words, worth, lengths, bigrams, 5, 0.7)
    for row, length in enumerate(lengths):
        values = {}
        for path in itertools.product(range(3), repeat=int(length)):
            chosen = [int(words[row, place, choice]) for place, choice in enumerate(path)]
            pairs = itertools.pairwise([5, *chosen, 5])
            joined = sum(log_joined(bigrams, np.array([[a]]), np.array([[b]]))[0, 0, 0] for a, b in pairs)
            value = sum(worth[row, place, c] for place, c in enumerate(path)) + 0.7 * joined
            values[tuple(chosen)] = max(value, values.get(tuple(chosen), -np.inf))
        assert values[tuple(found[row])] == pytest.approx(max(values.values()))


# Word by word


def test_words_are_translated_in_their_order_with_capital_and_full_stop() -> None:
    fitted = fit(word_by_word, *sentences(120))
    assert translate(fitted, "The man has a red dog.") == ["Der Mann hat einen roten Hund."]
    assert translate(fitted, "The old man") == ["Der alten Mann"]


def test_an_unknown_word_stays_as_it_is_and_no_text_stays_none() -> None:
    fitted = fit(word_by_word, *sentences(120))
    assert translate(fitted, "The man sees Grzegorz.", "", "…") == ["Der Mann sieht Grzegorz.", "", "…"]
    assert translate(fitted, "THE MAN SEES a dog.") == ["Der Mann sieht einen Hund."]


def test_the_word_before_tells_which_translation_is_meant() -> None:
    """'the' is der or die, as often the one as the other: only the noun behind it tells."""
    nouns = {"man": "der Mann", "woman": "die Frau", "dog": "der Hund", "cat": "die Katze"}
    pairs = [(f"the {a} and the {b}", f"{nouns[a]} und {nouns[b]}") for a in nouns for b in nouns] * 6
    source, target = (objects([pair[side] for pair in pairs]) for side in (0, 1))
    fitted = fit(word_by_word, source, target)
    assert fitted.settings["weight"] > 0
    assert translate(fitted, "the cat and the man and the woman") == ["die Katze und der Mann und die Frau"]
    greedy = fit(word_by_word, source, target, weight=0.0)
    first, second = translate(greedy, "the cat", "the man")
    assert first.split()[0] == second.split()[0]


def test_too_many_meetings_of_words_are_thinned_over_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = sentences(300)
    monkeypatch.setattr(word_by_word, "MOST_MEETINGS", 49 * 100)
    seen: list[int] = []
    original = word_by_word.learn
    monkeypatch.setattr(word_by_word, "learn", lambda a, b, n: seen.append(len(a.starts) - 1) or original(a, b, n))
    fit(word_by_word, source, target, weight=1.0)
    assert seen == [100]


def test_very_long_sentences_teach_no_words() -> None:
    source, target = sentences(60)
    source[0], target[0] = "Strange " * 101, "Seltsam " * 101
    fitted = fit(word_by_word, source, target)
    assert "strange" not in [word.lower() for word in fitted.known[0]]


# Translation memory


def test_the_memory_gives_the_translation_of_what_it_knows() -> None:
    source, target = sentences(200)
    fitted = fit(translation_memory, source, target)
    assert translate(fitted, *source[:5]) == list(target[:5])
    assert translate(fitted, "The dog sees the moon.")[0].startswith("Der Hund sieht")


def test_a_text_that_shares_no_word_with_the_memory_is_given_back() -> None:
    fitted = fit(translation_memory, *sentences(50))
    assert translate(fitted, "Привет", "", "a") == ["Привет", "", translate(fitted, "a")[0]]


# Both


@pytest.mark.parametrize("part", [translation_memory, word_by_word], ids=lambda part: part.__name__)
def test_few_rows_are_used_when_asked_and_as_many_as_there_is_time_for(part: Any) -> None:
    source, target = sentences(1000)
    assert fit(part, source, target, rows=50).settings["rows"] == 50
    assert fit(part, source, target).settings["rows"] == 1000
    assert fit(part, source, target, seconds=0.0).settings["rows"] == 300


@pytest.mark.parametrize("part", [translation_memory, word_by_word], ids=lambda part: part.__name__)
def test_what_cannot_be_learned_from_is_refused(part: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to"):
        fit(part, objects([" "] * 9), objects(["ja"] * 9))
    with pytest.raises(UserError, match="cannot be read"):
        part.load(tmp_path)
