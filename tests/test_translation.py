"""One text into another: parallel files, pairs for teacher forcing, beam search, and a whole run that translates."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fathom
from fathom.beam import beam_search
from fathom.data import Examples, Ragged
from fathom.errors import UserError
from fathom.fields import text
from fathom.models.parts.cache import Cache
from fathom.sources.parts.choose import open_any
from fathom.translation import END, Pairs, with_target

CPU = torch.device("cpu")
NOUNS = {"cat": "Kater", "dog": "Hund", "man": "Mann", "car": "Wagen", "fish": "Fisch", "tree": "Baum", "king": "König"}
VERBS = {"sleeps": "schläft", "barks": "bellt", "sees": "sieht", "eats": "isst", "meets": "trifft", "hears": "hört"}
WORDS = {"the": "der", "a": "ein", "here": "hier"} | NOUNS | VERBS
FIRST, STOP = 1, 1


def sentences(rows: int = 400, seed: int = 0) -> tuple[list[str], list[str]]:
    """Word for word, but that German sentences end with a full stop."""
    rng = np.random.default_rng(seed)
    english, german = [], []
    for _ in range(rows):
        one, other = rng.choice(list(NOUNS), 2)
        words = [rng.choice(["the", "a"]), one, rng.choice(list(VERBS)), rng.choice(["the", "a"]), other]
        words += ["here"] * int(rng.integers(0, 2))
        english.append(" ".join(words))
        german.append(" ".join(WORDS[word] for word in words) + ".")
    return english, german


def write(folder: Path, part: str, rows: int, seed: int) -> None:
    english, german = sentences(rows, seed)
    (folder / f"{part}.en").write_text("\n".join(english) + "\n")
    with gzip.open(folder / f"{part}.de.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(german) + "\n")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for part, rows, seed in (("train", 400, 0), ("val", 30, 1), ("test_2016", 40, 2)):
        write(folder, part, rows, seed)
    return folder


# Parallel files


def test_lines_of_two_files_are_pairs_with_their_official_parts(corpus: Path) -> None:
    table = open_any(corpus)
    assert set(table.columns) == {"de", "en"}
    assert table.parts is not None
    assert [int((table.parts == part).sum()) for part in ("train", "validate", "test")] == [400, 30, 40]
    english, german = sentences(400, 0)
    assert table.columns["en"][7] == english[7]
    assert table.columns["de"][7] == german[7]
    assert table.places[7].endswith(":8")


def test_one_of_the_files_stands_for_all(corpus: Path) -> None:
    assert len(open_any(corpus / "train.en")) == len(open_any(corpus)) == 470
    assert len(open_any(corpus / "train.de.gz", beside=False)) == 400
    assert len(open_any(corpus / "test_2016.en")) == 40


def test_files_that_differ_in_lines_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "train", 30, 0)
    (tmp_path / "train.en").write_text("one line only\n")
    with pytest.raises(UserError, match=r"train\.de\.gz has 30, train\.en has 1"):
        open_any(tmp_path)


def test_a_language_that_a_part_lacks_is_left_out_and_said(corpus: Path, tmp_path: Path) -> None:
    for path in corpus.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "train.fr").write_text("une phrase\n" * 400)
    table = open_any(tmp_path)
    assert set(table.columns) == {"de", "en"}
    assert any("fr" in note for note in table.notes)


# Pairs


def pairs_of(texts: list[str], references: list[str]) -> tuple[Examples, np.ndarray, dict[str, object]]:
    both = np.array([*texts, *references], object)
    spec = text.fit(both, lower=False) | {"length": 50, "name": "de"}
    tokens: Ragged = text.encode(np.array(texts, object), spec)["tokens"]
    about = {"en": {"form": "tokens", "vocabulary": spec["vocabulary"], "length": 50}}
    return Examples({"en": tokens}, about, {}, len(texts)), np.array(references, object), spec


def test_the_model_is_shown_the_target_before_each_token_and_padding_costs_nothing() -> None:
    examples, references, spec = pairs_of(["a cat", "the dog barks"], ["ein Kater.", "der Hund bellt laut."])
    (batch,) = Pairs(examples, references, spec, np.arange(2), 2, seed=0, device=CPU).epoch(0)
    given, wanted = batch.inputs["de"], batch.targets
    assert given.shape == wanted.shape
    assert torch.equal(given[:, 1:], wanted[:, :-1])
    for row in range(2):
        kept = wanted[row][wanted[row] != 0].tolist()
        assert kept[-1] == END
        assert text.from_tokens(kept[:-1], spec) in set(references)
        assert int(given[row, 0]) == END


def test_each_target_begins_and_ends_with_the_same_sign() -> None:
    examples, references, spec = pairs_of(["a cat", "a dog"], ["ein Kater.", "ein Hund."])
    tokens = with_target(examples, references, spec).inputs["de"]
    assert isinstance(tokens, Ragged)
    for a, b in itertools.pairwise(tokens.starts):
        assert tokens.values[a] == tokens.values[b - 1] == END
        assert END not in tokens.values[a + 1 : b - 1]


def test_a_target_that_was_cut_is_not_shown_as_ended() -> None:
    examples, references, spec = pairs_of(["a cat", "a dog"], ["ein Kater.", "ein Hund " * 40])
    tokens = with_target(examples, references, spec | {"length": 20}).inputs["de"]
    assert isinstance(tokens, Ragged)
    short, cut = (tokens.values[a:b].tolist() for a, b in itertools.pairwise(tokens.starts))
    assert short[-1] == END and len(short) < 20
    assert END not in cut[1:] and len(cut) == 20
    (batch,) = Pairs(examples, references, spec | {"length": 20}, np.arange(2), 2, seed=0, device=CPU).epoch(0)
    assert sorted((batch.targets == END).sum(dim=1).tolist()) == [0, 1]


def test_one_tokenizer_is_learned_from_the_training_rows_of_both(run: fathom.api.Run) -> None:
    spec = run.model.spec
    assert spec["fields"]["en"]["tokenizer"] == spec["target"]["tokenizer"]
    known = spec["target"]["tokenizer"]["model"]["vocab"]
    for words in (WORDS.keys(), WORDS.values()):
        assert any(f"Ġ{word}" in known for word in words if len(word) > 3)


# Beam search


class Markov(nn.Module):
    """The next token depends on the last alone: logits [B, T, V] are rows of a table."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table

    def forward(self, inputs: dict[str, Tensor], cache: Cache | None = None) -> Tensor:
        return self.table[inputs["de"]]


def probability(table: Tensor, tokens: list[int]) -> float:
    chances = torch.log_softmax(table, dim=-1)
    path = [FIRST, *tokens, STOP]
    return sum(float(chances[a, b]) for a, b in itertools.pairwise(path))


@pytest.mark.parametrize("seed", range(20))
def test_as_many_beams_as_texts_find_the_best_of_all(seed: int) -> None:
    torch.manual_seed(seed)
    table = 2 * torch.randn(5, 5)
    every = [list(tokens) for length in range(4) for tokens in itertools.product([0, 2, 3, 4], repeat=length)]
    best = max(every, key=lambda tokens: probability(table, tokens) / (len(tokens) + 1))
    found = beam_search(
        Markov(table),
        {"en": torch.zeros(3, 1, dtype=torch.long)},
        "de",
        first=FIRST,
        stop=STOP,
        new_tokens=4,
        beams=100,
    )
    assert found == [best] * 3


class Markovs(nn.Module):
    """As Markov, with a table for each source."""

    def __init__(self, tables: Tensor) -> None:
        super().__init__()
        self.tables = tables

    def forward(self, inputs: dict[str, Tensor], cache: Cache | None = None) -> Tensor:
        return self.tables[inputs["en"][:, 0, None], inputs["de"]]


def test_a_row_is_written_as_if_it_were_alone_and_no_longer_than_it_may_be() -> None:
    torch.manual_seed(0)
    model = Markovs(2 * torch.randn(30, 8, 8))
    model.tables[3, :, STOP] = -50  # this one never ends by itself
    source, limits = torch.arange(30)[:, None], [1 + row % 9 for row in range(30)]
    options = {"first": FIRST, "stop": STOP, "beams": 4}
    together = beam_search(model, {"en": source}, "de", new_tokens=limits, **options)
    alone = [
        beam_search(model, {"en": source[row : row + 1]}, "de", new_tokens=limits[row], **options)[0]
        for row in range(30)
    ]
    assert together == alone
    assert all(len(tokens) <= limit for tokens, limit in zip(together, limits, strict=True))
    assert len(together[3]) == limits[3] == 4


def test_a_longer_text_may_overtake_one_that_has_ended() -> None:
    table = torch.full((6, 6), float("-inf"))
    table[0] = 0.0
    table[FIRST, STOP], table[FIRST, 2] = 0.0, -0.9  # to end at once is likelier than to begin with 2,
    table[2, 3] = table[3, 4] = table[4, 5] = table[5, STOP] = 0.0  # but what begins so goes on surely
    source = {"en": torch.zeros(1, 1, dtype=torch.long)}
    found = beam_search(Markov(table), source, "de", first=FIRST, stop=STOP, new_tokens=8, beams=3)
    assert probability(table, []) / 1 < probability(table, [2, 3, 4, 5]) / 5
    assert found == [[2, 3, 4, 5]]


def test_one_beam_takes_the_most_probable_token_each_time() -> None:
    torch.manual_seed(1)
    table = torch.randn(6, 6)
    table[:, STOP] -= 2
    wanted, token = [], FIRST
    for _ in range(8):
        token = int(table[token].argmax())
        if token == STOP:
            break
        wanted.append(token)
    source = {"en": torch.zeros(2, 3, dtype=torch.long)}
    found = beam_search(Markov(table), source, "de", first=FIRST, stop=STOP, new_tokens=8, beams=1)
    assert found == [wanted] * 2


class WithoutCache(nn.Module):
    """The same model, but all that was written is read again at each step. The cache holds nothing but the tokens."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Tensor], cache: Cache) -> Tensor:
        tokens = inputs["de"][:, None, :, None].double()
        every, _ = cache.extend(0, tokens, tokens)
        return self.model(inputs | {"de": every[:, 0, :, 0].long()})


# A whole run


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> fathom.api.Run:
    recipe = {"model": {"name": "t5", "options": {"depth": 2, "width": 64, "dropout": 0.0}}, "threads": 1}
    return fathom.fit(
        corpus,
        target="de",
        task="translate",
        out=tmp_path_factory.mktemp("translated") / "run",
        recipe=recipe,
        quiet=True,
        train__steps=400,
        train__batch_size=32,
        train__learning_rate=0.002,
        train__precision="fp32",
        train__patience=100,
    )


def test_a_free_text_as_the_target_is_a_translation(run: fathom.api.Run) -> None:
    assert run.metrics["task"] == "translate"
    assert run.metrics["metric"] == "bleu"
    assert {"translation_memory", "word_by_word", "t5"} <= set(run.metrics["test"])


def test_learns_to_translate_what_it_has_not_seen(run: fathom.api.Run) -> None:
    assert run.metrics["test"]["t5"]["bleu"] > 80
    assert list(run.predict("the dog sees a tree here", candidate="t5").values) == ["der Hund sieht ein Baum hier."]
    kept = run.folder.read_table("predictions.parquet")
    assert {"source", "truth", "t5"} <= set(kept)


@pytest.mark.parametrize("beams", [1, 4])
def test_beams_keep_their_own_states_and_rows_do_not_disturb_each_other(run: fathom.api.Run, beams: int) -> None:
    (member,) = run.model.candidate("t5").members  # type: ignore[union-attr]
    texts = np.array(["the cat sees a dog here", "a king eats", "fish fish a", "horse"], object)
    source = torch.from_numpy(text.encode(texts, run.model.spec["fields"]["en"])["tokens"].padded(np.arange(4), 20))
    asked: dict[str, Any] = {"first": FIRST, "stop": STOP, "new_tokens": 12, "beams": beams}
    with torch.inference_mode():
        found = beam_search(member.model, {"en": source.long()}, "de", **asked)
        assert found == beam_search(WithoutCache(member.model), {"en": source.long()}, "de", **asked)
        assert found == [beam_search(member.model, {"en": row[None].long()}, "de", **asked)[0] for row in source]
    assert len({tuple(tokens) for tokens in found}) == 4, "the rows differ"


def test_new_pairs_are_evaluated(run: fathom.api.Run, tmp_path: Path) -> None:
    write(tmp_path, "train", 25, 9)
    found = run.evaluate(tmp_path, candidate="t5")
    assert found["rows"] == 25
    assert found["measures"]["bleu"]["value"] > 80


def test_the_page_shows_translations(run: fathom.api.Run) -> None:
    page = (run.path / "report.html").read_text()
    assert "Texts are translated into ‘de’" in page


def test_the_same_seed_gives_the_same_translations(run: fathom.api.Run, tmp_path: Path) -> None:
    again = fathom.fit(recipe=run.path / "recipe.yaml", out=tmp_path / "again", quiet=True)
    assert again.metrics["test"]["t5"]["bleu"] == run.metrics["test"]["t5"]["bleu"]
    one, other = (r.folder.read_table("predictions.parquet")["t5"] for r in (run, again))
    assert list(one) == list(other)


def test_a_source_that_is_not_clear_is_asked_for(corpus: Path, tmp_path: Path) -> None:
    for path in corpus.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for part, rows in (("train", 400), ("val", 30), ("test_2016", 40)):
        (tmp_path / f"{part}.fr").write_text("".join(f"une phrase numéro {i} de {part}\n" for i in range(rows)))
    with pytest.raises(UserError, match="--drop fr"):
        fathom.fit(tmp_path, target="de", task="translate", out=tmp_path / "run", quiet=True)


def test_columns_of_a_table_are_translated_too(tmp_path: Path) -> None:
    english, german = sentences(200, 3)
    lines = [f"{e} {i},{g} {i}\n" for i, (e, g) in enumerate(zip(english, german, strict=True))]
    (tmp_path / "t.csv").write_text("english,german\n" + "".join(lines))
    found = fathom.fit(tmp_path / "t.csv", target="german", out=tmp_path / "run", quiet=True, model__name="none")
    assert found.metrics["task"] == "translate"
    with pytest.raises(UserError, match="no column 'germ'"):
        fathom.fit(tmp_path / "t.csv", target="germ", task="translate", out=tmp_path / "x", quiet=True)


def test_pairs_with_an_empty_side_are_left_out_once_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    english, german = sentences(60, 3)
    english[2] = english[5] = german[5] = german[7] = ""
    lines = [f"{i},{e},{g}\n" for i, (e, g) in enumerate(zip(english, german, strict=True))]
    (tmp_path / "t.csv").write_text("id,en,de\n" + "".join(lines))
    asked: dict[str, Any] = {"target": "de", "task": "translate", "drop": ["id"], "model__name": "none"}
    run = fathom.fit(tmp_path / "t.csv", out=tmp_path / "run", **asked)
    assert "3 left out, listed in left_out.csv; the first: " in capsys.readouterr().out
    found = {row["where"].rpartition(":")[2]: row["why"] for row in run.folder.read_rows("left_out.csv")}
    assert found == {"4": "no text in 'en'", "7": "no text in 'en' and 'de'", "9": "no text in 'de'"}
    assert len(run.folder.read_rows("left_out.csv")) == 3
