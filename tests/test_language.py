"""A language from plain text: pieces and borders, windows of the stream, scores of rows, a run that writes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fathom
from fathom import intervals
from fathom.cli import main
from fathom.data import Examples, Ragged
from fathom.errors import UserError
from fathom.evaluate import evaluate
from fathom.fields import plain_text
from fathom.language import Windows, refuse_foresight, sizes, stream_of
from fathom.network import build
from fathom.sources import plain_text as source
from fathom.sources.parts.choose import open_any
from fathom.text_networks import LanguageModel, MaskedModel

CPU = torch.device("cpu")


def story(sentences: int = 900, seed: int = 0) -> str:
    """Lines of a small language: who does what where, each sentence ended by a full stop."""
    rng = np.random.default_rng(seed)
    who, what, where = (
        ("the cat", "a dog", "my aunt"),
        ("sleeps", "sings loudly", "waits"),
        ("here", "at home", "in town"),
    )
    return "".join(f"{rng.choice(who)} {rng.choice(what)} {rng.choice(where)}.\n" for _ in range(sentences))


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text(story())
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> fathom.api.Run:
    folder = tmp_path_factory.mktemp("language")
    (folder / "book.txt").write_text(story())
    options = {"depth": 1, "width": 64, "heads": 4, "dropout": 0.0, "drop_embedding": 0.0, "drop_attention": 0.0}
    recipe = {"model": {"name": "gpt2", "options": options}, "threads": 1}
    return fathom.fit(
        folder / "book.txt",
        out=folder / "run",
        recipe=recipe,
        task="language",
        quiet=True,
        train__steps=300,
        train__batch_size=8,
        train__learning_rate=0.01,
        train__precision="fp32",
        text__context=32,
    )


def examples_of(rows: list[list[int]], *, vocabulary: int = 9, context: int = 4) -> Examples:
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    values = np.array([token for row in rows for token in row], np.int32)
    about = {"text": {"form": "stream", "vocabulary": vocabulary, "length": context, "continues": True}}
    words = np.array(["ü" * len(row) for row in rows], object)
    return Examples({"text": Ragged(values, starts)}, about, {"text": words}, len(rows))


class Counting(nn.Module):
    """Logits that depend on how many tokens of the window came before: [B, T] → [B, T, V]."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(64, vocabulary))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.table[torch.arange(tokens.shape[1])].expand(len(tokens), -1, -1)


# The text


def test_pieces_together_are_the_text_and_end_with_a_line() -> None:
    text = story() + "\n\n" + "x" * 9_000 + "\nend without a line end"
    pieces = source.cut(text)
    assert "".join(piece for _, piece in pieces) == text
    assert all(len(piece) <= source.LONGER * source.PIECE for _, piece in pieces)
    assert len(source.cut(story(50), 100)) > 10
    lines = text.split("\n")
    assert all(lines[number - 1].endswith(piece.split("\n")[0]) or "x" * 99 in piece for number, piece in pieces)


def test_prose_is_a_language_and_a_table_stays_a_table(tmp_path: Path) -> None:
    prose = "".join(f"{word} began it and {line}" for word, line in zip(range(200), story(200).splitlines(True)))
    (tmp_path / "prose.txt").write_text(prose)
    table = open_any(tmp_path / "prose.txt")
    assert table.continues
    assert "".join(table.columns["text"]) == prose
    assert not open_any(tmp_path / "prose.txt", delimiter=",").continues
    (tmp_path / "t.txt").write_text("".join(f"{i}\t{i * i}\n" for i in range(50)))
    assert list(open_any(tmp_path / "t.txt").columns) != ["text"]
    (tmp_path / "labels.txt").write_text(
        "".join(f"{'yes' if i % 2 else 'no'} how{' are you' * (i % 3)} {i}\n" for i in range(50))
    )
    assert len(open_any(tmp_path / "labels.txt").columns) == 2


def test_many_files_are_documents_and_those_about_them_are_not(tmp_path: Path) -> None:
    for i in range(25):
        (tmp_path / f"{i:02}.txt").write_text(story(8, seed=i))
    (tmp_path / "README.md").write_text("About these texts. They were made for a test and say nothing at all of use.")
    table = open_any(tmp_path)
    assert len(table) == 25
    assert not table.continues
    assert table.places[3].endswith("03.txt")


@pytest.mark.parametrize("unit", plain_text.UNITS)
def test_every_sign_comes_back(unit: str) -> None:
    text = "Two  blanks,\ttab\nNEW line — “quotes” 日本 😀 \n\n end "
    spec = plain_text.fit(np.array([text, story(50)], object), unit=unit, vocabulary=400)
    spec = json.loads(json.dumps(spec))
    tokens = plain_text.ids(text, spec)
    assert tokens.min() > plain_text.UNKNOWN
    assert tokens.max() < spec["vocabulary"]
    assert plain_text.text_of(tokens, spec) == text


def test_unknown_characters_are_unknown_and_bytes_never_are() -> None:
    few = np.array(["abc"], object)
    assert plain_text.ids("axc", plain_text.fit(few, unit="characters")).tolist() == [3, plain_text.UNKNOWN, 5]
    assert (
        plain_text.text_of(plain_text.ids("axü", plain_text.fit(few, unit="bytes")), plain_text.fit(few, unit="bytes"))
        == "axü"
    )


def test_documents_end_with_a_border_and_pieces_do_not() -> None:
    rows = np.array(["ab", "", "b"], object)
    ends = plain_text.encode(rows, plain_text.fit(rows, unit="characters"))["stream"]
    assert ends.values.tolist() == [3, 4, 1, 1, 4, 1]
    flows = plain_text.encode(rows, plain_text.fit(rows, unit="characters", continues=True))["stream"]
    assert flows.values.tolist() == [3, 4, 4]


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(UserError, match="characters, bytes, subwords"):
        plain_text.fit(np.array(["abc"], object), unit="words")


# The stream


def test_sizes_are_tokens_and_bytes() -> None:
    assert sizes(examples_of([[5, 6], [], [7]])).tolist() == [[2, 4], [0, 0], [1, 2]]


def test_windows_give_each_token_its_next_and_no_target_twice_in_a_pass() -> None:
    stream = np.arange(1_000)
    batches = Windows(stream, 7, 5, seed=3, device=CPU)
    seen: list[int] = []
    for batch in batches.epoch(0):
        assert torch.equal(batch.targets, batch.inputs + 1)
        seen += batch.targets.flatten().tolist()
    assert len(seen) == len(set(seen)) == batches.tokens_an_epoch
    assert len(seen) > 0.9 * len(stream)


def test_windows_are_cut_elsewhere_in_each_pass_and_the_same_again() -> None:
    batches = Windows(np.arange(500), 9, 4, seed=0, device=CPU)
    starts = [{int(window[0]) % 9 for batch in batches.epoch(number) for window in batch.inputs} for number in range(6)]
    assert all(len(offsets) == 1 for offsets in starts)
    assert len(set().union(*starts)) > 1
    again = Windows(np.arange(500), 9, 4, seed=0, device=CPU)
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(batches.epoch(2), again.epoch(2), strict=True))
    skipped = list(batches.epoch(2, skip=3))
    assert torch.equal(skipped[0].inputs, list(again.epoch(2))[3].inputs)


def test_epochs_of_a_long_stream_are_parts_of_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fathom.language.MOST_STEPS", 5)
    batches = Windows(np.arange(400), 7, 4, seed=1, device=CPU)
    assert batches.epochs_a_pass == 3
    seen = [int(t) for number in range(3) for batch in batches.epoch(number) for t in batch.targets.flatten()]
    assert len(seen) == len(set(seen))


def test_a_row_scores_the_sum_of_its_tokens_in_windows_of_the_context() -> None:
    torch.manual_seed(0)
    rows = [[3, 4, 5], [], [6, 7, 8, 3, 4], [5]]
    examples = examples_of(rows)
    model = Counting(9)
    network = LanguageModel(model, {"about": examples.about}, CPU)
    stream, _ = stream_of(examples)
    assert stream.tolist() == [1, 3, 4, 5, 6, 7, 8, 3, 4, 5]
    chances = torch.log_softmax(model.table.detach(), dim=-1)
    of_token = [float(chances[place % 4, token]) for place, token in enumerate(stream[1:])]
    wanted = [sum(of_token[0:3]), 0.0, sum(of_token[3:8]), of_token[8]]
    np.testing.assert_allclose(network.predict(examples), wanted, rtol=1e-5)


# A whole run


def test_the_future_of_a_text_is_its_test(run: fathom.api.Run) -> None:
    parts = run.folder.read_table("split.parquet")
    order = {"train": 0, "validate": 1, "test": 2}
    numbers = [order[part] for part in parts["part"]]
    assert numbers == sorted(numbers)
    assert set(numbers) == {0, 1, 2}


def test_what_can_be_learned_is_learned_and_judged_against_counting(run: fathom.api.Run) -> None:
    test = run.metrics["test"]
    assert {"ngram", "gpt2"} <= set(test)
    # Three of three choices a sentence, which of some 25 characters have to be paid for; the rest is certain.
    floor = 3 * np.log(3) / np.mean([len(line) + 1 for line in story().splitlines()])
    assert test["constant"]["cross_entropy"] > 2.0
    assert floor < test["ngram"]["cross_entropy"] < floor + 0.1
    assert test["gpt2"]["cross_entropy"] < 0.2 * test["constant"]["cross_entropy"]
    assert test["gpt2"]["perplexity"] == pytest.approx(np.exp(test["gpt2"]["cross_entropy"]))
    assert test["gpt2"]["bits_per_byte"] == pytest.approx(test["gpt2"]["cross_entropy"] / np.log(2), rel=1e-6)


@pytest.mark.parametrize("candidate", ["ngram", "gpt2"])
def test_writes_on_in_its_language_beyond_the_context(run: fathom.api.Run, candidate: str) -> None:
    text = run.generate("the cat ", new_tokens=150, candidate=candidate, temperature=0.5, seed=1)
    assert text.startswith("the cat ")
    assert len(text) == 158
    assert text == run.generate("the cat ", new_tokens=150, candidate=candidate, temperature=0.5, seed=1)
    assert text != run.generate("the cat ", new_tokens=150, candidate=candidate, temperature=0.5, seed=2)
    words = set(story().replace(".", "").split())
    written = text.replace(".", "").split()[:-1]
    assert sum(word in words for word in written) > 0.6 * len(written)


def test_what_only_knows_shares_cannot_write_on(run: fathom.api.Run) -> None:
    with pytest.raises(UserError, match="'constant' does not know what follows what.*--candidate gpt2"):
        run.generate("the cat ", candidate="constant")


def test_the_split_of_a_text_is_told_by_rows(run: fathom.api.Run) -> None:
    split = run.folder.read_table("split.parquet")
    first = {part: int(split["row"][split["part"] == part].min()) + 1 for part in ("validate", "test")}
    said = (run.path / "log.txt").read_text()
    assert f"in its order: validate from row {first['validate']:,}, test from row {first['test']:,}" in said


def test_new_text_is_scored(run: fathom.api.Run) -> None:
    own, foreign = (run.predict(text).values[0] for text in ("my aunt sings loudly at home.\n", "aeiou nnnn tttt\n"))
    assert own < foreign
    assert run.predict("my aunt sings loudly at home.\n", candidate="gpt2").values[0] < 1.5


def test_evaluating_its_own_file_repeats_its_loss(run: fathom.api.Run, book: Path) -> None:
    found = run.evaluate(book, candidate="gpt2")["measures"]
    assert found["cross_entropy"]["value"] == pytest.approx(run.metrics["test"]["gpt2"]["cross_entropy"], abs=0.1)


def test_pieces_of_new_text_are_resampled_as_blocks(run: fathom.api.Run, book: Path) -> None:
    found = run.evaluate(book, candidate="constant")["measures"]
    examples = run.model.examples(run.model.table(book)[0])
    units, raw = intervals.blocks(len(examples), len(examples)), run.model.candidate("constant").predict(examples)
    expected = [evaluate(raw, sizes(examples), run.model.task, units=given) for given in (units, None)]
    assert found["cross_entropy"]["interval"] == expected[0]["cross_entropy"]["interval"]
    assert found["cross_entropy"]["interval"] != expected[1]["cross_entropy"]["interval"]


def test_command_writes_what_python_writes(run: fathom.api.Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", str(run.path), "a dog ", "--tokens", "40", "--seed", "3"]
    assert main(words) == 0
    assert capsys.readouterr().out == run.generate("a dog ", new_tokens=40, seed=3) + "\n"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["Ω"], "'Ω'"),
        (["--temperature", "-1"], "temperature"),
        (["--top-p", "0"], "top_p"),
        (["--tokens", "-4"], "new_tokens"),
    ],
)
def test_wrong_prompts_and_options_are_refused(
    run: fathom.api.Run, options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(run.path), *options]) == 2
    assert told in capsys.readouterr().err


def test_the_page_and_the_mistakes_are_of_texts(run: fathom.api.Run) -> None:
    page = (run.path / "report.html").read_text()
    assert "each next token from those before it" in page
    assert "nats a token" in page


def test_a_resolved_recipe_repeats_the_run(run: fathom.api.Run, tmp_path: Path) -> None:
    again = fathom.fit(recipe=run.path / "recipe.yaml", out=tmp_path / "again", quiet=True)
    assert again.metrics["test"]["gpt2"]["cross_entropy"] == run.metrics["test"]["gpt2"]["cross_entropy"]


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text(
        "Only a few words stand in this file, which is far too little to learn from it anything at all."
    )
    with pytest.raises(UserError, match="at least 2,000"):
        fathom.fit(tmp_path / "note.txt", quiet=True, out=tmp_path / "run")


def test_empty_documents_are_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"{i},{line}" for i, line in enumerate(story(300).splitlines())]
    lines[4] = "4,"
    (tmp_path / "t.csv").write_text("id,note\n" + "\n".join(lines) + "\n")
    asked: dict[str, Any] = {"task": "language", "target": "note", "model__name": "none", "baselines": {"constant": {}}}
    fathom.fit(tmp_path / "t.csv", out=tmp_path / "run", **asked)
    said = capsys.readouterr().out
    assert "1 left out, listed in left_out.csv; the first: " in said and "t.csv:6: it is empty" in said


def test_a_column_of_a_table_is_learned_as_documents(tmp_path: Path) -> None:
    lines = story(300).splitlines()
    (tmp_path / "t.csv").write_text("id,note\n" + "".join(f"{i},{line}\n" for i, line in enumerate(lines)))
    asked: dict[str, Any] = {"task": "language", "target": "note", "model__name": "none"}
    found = fathom.fit(tmp_path / "t.csv", out=tmp_path / "run", quiet=True, **asked)
    text = found.generate("my aunt ", new_tokens=400)
    assert len(text) < 60, "a document ends"
    (tmp_path / "other.txt").write_text(story(40, seed=1))
    other = found.predict(tmp_path / "other.txt").values
    assert len(other) > 1 and np.isfinite(other.astype(float)).all()
    assert len(found.predict("my aunt waits here. " * 50)) == 1
    asked["target"] = "2"
    assert fathom.fit(tmp_path / "t.csv", out=tmp_path / "two", quiet=True, **asked).metrics["target"] == "note"
    with pytest.raises(UserError, match="Did you mean 'note'"):
        fathom.fit(tmp_path / "t.csv", out=tmp_path / "x", quiet=True, task="language", target="notes")


# Hidden tokens


def test_a_model_that_sees_both_sides_is_refused_for_the_next_token(book: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"task": "language", "model": "bert", "model__depth": 1, "baselines": {}, "quiet": True}
    with pytest.raises(UserError, match=r"text\.masked=0\.15"):
        fathom.fit(book, out=tmp_path / "run", **asked)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["gpt2", "llama", "lstm", "mamba", "jamba"])
def test_models_that_look_back_only_are_taken(name: str) -> None:
    about = {"text": {"form": "stream", "vocabulary": 20, "length": 16, "continues": True}}
    refuse_foresight(build(name, about, 20, {"depth": 1}), name, 20, 16)


def test_hidden_tokens_are_told_from_both_sides(book: Path, tmp_path: Path) -> None:
    run = fathom.fit(
        book,
        task="language",
        out=tmp_path / "run",
        quiet=True,
        model="bert",
        model__depth=2,
        model__width=64,
        model__dropout=0.0,
        threads=1,
        text__masked=0.15,
        text__context=16,
        train__steps=400,
        train__batch_size=16,
        train__precision="fp32",
        train__patience=100,
    )
    test = run.metrics["test"]
    assert set(test) == {"constant", "bert"}
    assert test["bert"]["cross_entropy"] < 0.6 * test["constant"]["cross_entropy"]
    with pytest.raises(UserError, match="cannot write on"):
        run.generate("the cat")


def test_as_many_tokens_are_hidden_in_training_as_were_asked_for(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fathom.objectives.masked_token import MaskedToken

    shares = []
    hide = MaskedToken.hide

    def watched(self: MaskedToken, tokens: Tensor) -> tuple[Tensor, Tensor]:
        seen, chosen = hide(self, tokens)
        shares.append(float(chosen.float().mean()))
        return seen, chosen

    monkeypatch.setattr(MaskedToken, "hide", watched)
    options = {"model": "bert", "model__depth": 1, "model__width": 32, "text__masked": 0.5, "text__context": 16}
    fathom.fit(book, task="language", out=tmp_path / "run", quiet=True, threads=1, train__steps=3, **options)
    assert shares and all(share == 0.5 for share in shares)


def test_each_token_is_hidden_once_and_scored_from_the_others() -> None:
    examples = examples_of([[3, 4, 5], [6, 7, 8, 3]], context=4)
    hidden_at: list[tuple[int, int]] = []

    class Watching(nn.Module):
        """Gives 2 to every logit of the token that stands there in plain sight, else all alike."""

        def forward(self, tokens: Tensor) -> Tensor:
            hidden_at.extend((int(tokens.shape[1]), place) for place in (tokens[0] == 2).nonzero().flatten().tolist())
            return 2.0 * nn.functional.one_hot(tokens, 9)

    spec = {"mask": 2, "masked": 0.5}
    found = MaskedModel(Watching(), {"about": examples.about, "spec": spec}, CPU).predict(examples)
    # The mask itself has the large logit wherever a token is hidden.
    each = -np.log(8 + np.exp(2))
    np.testing.assert_allclose(found, [3 * each, 4 * each], rtol=1e-6)
    assert sorted(hidden_at) == [(3, 0), (3, 1), (3, 2), (4, 0), (4, 1), (4, 2), (4, 3)]
