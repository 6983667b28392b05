"""Measures of languages and translations: the numbers that sacreBLEU gives, and intervals without measuring again."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from fathom import evaluate, intervals
from fathom.data import Task
from fathom.measures import bits_per_byte, bleu, chrf, cross_entropy, perplexity
from fathom.referee import Candidate, judge
from fathom.show import shown

TRANSLATION = Task("translate", "de")
LANGUAGE = Task("language", "text")
PEERS = ((bleu, BLEU()), (chrf, CHRF()))
NASTY = [
    ("", "Ein Mann."),
    ("Ein Mann.", ""),
    ("", ""),
    ("   \n", "ein  Mann\tgeht "),
    ("😀 😀👍🏽 gut", "😀 👍🏽👍🏽 gut"),
    ("It costs 1,000.50 dollars, or 3.5-4.5.", "It costs 1.000,50 dollars - or 3.5 - 4.5 ."),
    ("a , . b ,. c5, .5 5. ,5", "a,.b , .c 5,.5 5.,5"),
    ("„Hallo“, sagt er: 'so ist's'", "“Hallo”, sagt er: ‚so ist’s‘"),
    ("&quot;quoted&quot; &amp;amp; &lt;b&gt;", '"quoted" & <b>'),
    ("<skipped> word-\nwrap e-\n", "wordwrap e-"),
    ("我喜欢机器学习。", "我喜欢学习机器 。"),
    ("これはペンです", "これはペンではありません"),
    ("ja", "ja"),
    ("ja", "nein"),
    ("the the the the the the the", "The cat sits on the mat"),
    ("l'été\u00a0dernier\u3000№5", "l’été dernier № 5"),
    ("٣٫١٤ = 3.14", "3,14 = ٣٫١٤"),
    ("{a}[b](c)*d/e\\f~g^h_i|j", "{ a } [b] ( c ) * d/e"),
]
ATOMS = [*"abAB .,-'\"&;<>0159?!()[]_\n", "&quot;", "&amp;", "<skipped>", "-\n", "5,0", "é", "你", "😀", "„", "\u00a0"]
TEXTS = st.lists(st.sampled_from(ATOMS), max_size=24).map("".join)


def objects(texts: list[str]) -> np.ndarray:
    found = np.empty(len(texts), object)
    found[:] = texts
    return found


def agrees(pairs: list[tuple[str, str]]) -> None:
    given, wanted = ([pair[side] for pair in pairs] for side in (0, 1))
    for module, peer in PEERS:
        expected = peer.corpus_score(given, [wanted]).score
        assert module.measure(objects(given), objects(wanted)) == pytest.approx(expected, abs=1e-9)


def test_nasty_texts_score_as_sacrebleu_says() -> None:
    agrees(NASTY)
    for pair in NASTY:
        agrees([pair])
    for number in range(1, len(NASTY)):
        agrees(NASTY[:number])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_any_texts_score_as_sacrebleu_says(pairs: list[tuple[str, str]]) -> None:
    agrees(pairs)
    for text, _ in pairs:
        assert " ".join(bleu.words(text)) == PEERS[0][1]._preprocess_segment(text)


@pytest.mark.data
def test_real_translations_score_as_sacrebleu_says(real_data: Path) -> None:
    lines = {}
    for language in ("en", "de", "fr"):
        with gzip.open(real_data / "multi30k" / f"test_2016_flickr.{language}.gz", "rt", encoding="utf-8") as file:
            lines[language] = file.read().splitlines()
    shifted = lines["de"][1:] + lines["de"][:1]
    agrees(list(zip(shifted, lines["de"], strict=True)))
    agrees(list(zip(lines["en"], lines["fr"], strict=True)))


def translated(seed: int, num_rows: int, share_right: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    words = np.array(["ein", "Mann", "sitzt", "auf", "der", "Bank", ",", "und", "eine", "Frau", "liest", "viel", "."])
    wanted = [generator.choice(words, size) for size in generator.integers(4, 14, size=num_rows)]
    share = share_right * generator.uniform(0.7, 1.3, size=num_rows)
    given = [
        np.where(generator.random(len(row)) < part, row, generator.choice(words, len(row)))
        for row, part in zip(wanted, share, strict=True)
    ]
    return objects([" ".join(row) for row in given]), objects([" ".join(row) for row in wanted])


def scored(seed: int, num_rows: int, loss: float) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.random.default_rng(99).integers(1, 80, size=num_rows)
    noise = np.random.default_rng(seed).normal(size=num_rows)
    sizes = np.column_stack([tokens, 2 * tokens]).astype(np.float64)
    return -tokens * loss * np.exp(0.2 * noise), sizes


def _loss(predictions: np.ndarray, targets: np.ndarray) -> float:
    return float(-predictions.sum() / targets[:, 0].sum())


# The measures once more, from rows and not from sums of statistics.
SLOWLY = {
    "bleu": lambda p, t: PEERS[0][1].corpus_score(list(p), [list(t)]).score,
    "chrf": lambda p, t: PEERS[1][1].corpus_score(list(p), [list(t)]).score,
    "cross_entropy": _loss,
    "perplexity": lambda p, t: float(np.exp(_loss(p, t))),
    "bits_per_byte": lambda p, t: _loss(p, t[:, ::-1]) / np.log(2),
}


@pytest.mark.parametrize("module", [bleu, chrf, cross_entropy, perplexity, bits_per_byte], ids=lambda m: m.__name__)
@pytest.mark.parametrize("grouped", [False, True])
def test_sums_give_the_interval_that_measuring_again_gives(
    module: ModuleType, grouped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, task = (translated(0, 60, 0.7), TRANSLATION) if module.TASK == "translate" else (scored(0, 60, 2), LANGUAGE)
    name = module.__name__.split(".")[-1]
    units = np.arange(60) // 2 if grouped else None
    quick = evaluate.evaluate(*data, task, units=units)[name]
    monkeypatch.delattr(module, "statistics")
    monkeypatch.setattr(module, "measure", SLOWLY[name])
    slow = evaluate.evaluate(*data, task, units=units)[name]
    assert quick["value"] == pytest.approx(slow["value"], rel=1e-12)
    # A hundred resamples of the slow way know the width to some 7 %.
    assert np.diff(quick["interval"])[0] == pytest.approx(np.diff(slow["interval"])[0], rel=0.25)
    assert np.mean(quick["interval"]) == pytest.approx(np.mean(slow["interval"]), rel=0.05)


def test_texts_are_cut_into_words_once_however_often_rows_are_resampled(monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[str] = []
    original = bleu.words
    monkeypatch.setattr(bleu, "words", lambda text: cut.append(text) or original(text))
    bleu._counts.cache_clear()
    predictions, targets = translated(5, 60, 0.6)
    evaluate.evaluate(predictions, targets, TRANSLATION)
    assert 0 < len(cut) <= 2 * 60


def test_resampled_sums_are_the_means_of_resampled_rows() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 3))
    sums, means = intervals.resample_sums(rows, seed=4), intervals.resample(rows, seed=4)
    assert np.allclose(sums.samples / 50, means.samples)
    assert np.allclose(sums.without / 49, means.without)
    assert np.allclose(sums.whole, rows.sum(axis=0))


def candidates_of(make: object, levels: tuple[float, float], num_rows: int) -> tuple[list[Candidate], np.ndarray]:
    found, targets = [], np.empty(0)
    for rank, level in enumerate(levels):
        predictions, targets = make(rank if make is scored else 7, num_rows, level)  # type: ignore[operator]
        kind = "network" if rank else "baseline"
        found.append(Candidate(("ngram", "gpt2")[rank], rank, predictions, predictions, 0.001, kind))
    return found, targets


def test_a_better_translator_is_advised_in_points_of_bleu() -> None:
    candidates, targets = candidates_of(translated, (0.4, 0.8), 150)
    verdict = judge(candidates, targets, targets, TRANSLATION, "bleu", seed=0, noun="text")
    assert verdict.advised == "gpt2"
    low, high = verdict.difference["interval"]
    value = bleu.measure(candidates[1].test, targets) - bleu.measure(candidates[0].test, targets)
    assert verdict.difference["value"] == pytest.approx(value)
    assert 0 < low < value < high
    assert f"+{value:.1f} BLEU (95 % interval {low:.1f} to {high:.1f})" in verdict.sentence
    assert set(verdict.test["gpt2"]) >= {"bleu", "chrf"}


def test_a_better_language_model_is_advised_and_a_tie_goes_to_the_simpler() -> None:
    candidates, targets = candidates_of(scored, (2.0, 1.6), 150)
    verdict = judge(candidates, targets, targets, LANGUAGE, "cross_entropy", seed=0, noun="piece")
    assert verdict.advised == "gpt2"
    assert verdict.difference["interval"][1] < 0
    assert " loss (95 % interval" in verdict.sentence
    tied, targets = candidates_of(scored, (2.0, 2.0), 150)
    assert judge(tied, targets, targets, LANGUAGE, "perplexity", seed=0).advised == "ngram"


def test_a_measure_without_a_value_is_still_judged_by_itself() -> None:
    candidates, targets = candidates_of(scored, (2.0, 1.6), 30)
    silent = [replace(c, validation=np.zeros(30), test=c.test) for c in candidates]
    verdict = judge(silent, np.zeros((30, 2)), targets, LANGUAGE, "cross_entropy", seed=0)
    assert verdict.decision["metric"] == "cross_entropy"
    assert verdict.advised == "ngram"


def test_a_perfect_translation_of_few_rows_is_not_certainty() -> None:
    wanted = objects(["ein Mann sitzt auf der Bank ."] * 25)
    found = evaluate.evaluate(wanted, wanted, TRANSLATION)
    none = evaluate.evaluate(objects(["Q Y X Q"] * 25), wanted, TRANSLATION)
    low, high = intervals.wilson(25, 25)
    for name in ("bleu", "chrf"):
        assert found[name]["interval"] == pytest.approx([100 * low, 100 * high])
        assert none[name]["value"] == 0
        assert none[name]["interval"] == pytest.approx([0, 100 * (1 - low)])
    halves = evaluate.evaluate(wanted, wanted, TRANSLATION, units=np.arange(25) // 5)
    assert halves["bleu"]["interval"][0] == pytest.approx(100 * intervals.wilson(5, 5)[0])


def test_losses_of_a_language_are_of_its_tokens_and_not_of_its_rows() -> None:
    predictions, targets = np.array([-1.0, -90.0]), np.array([[10.0, 20.0], [30.0, 40.0]])
    assert cross_entropy.measure(predictions, targets) == pytest.approx(91 / 40)
    assert perplexity.measure(predictions, targets) == pytest.approx(np.exp(91 / 40))
    assert bits_per_byte.measure(predictions, targets) == pytest.approx(91 / 60 / np.log(2))


def test_a_score_is_shown_with_one_decimal() -> None:
    assert shown(bleu, 38.4444) == "38.4"
    assert shown(cross_entropy, 1.46971) == "1.4697"
