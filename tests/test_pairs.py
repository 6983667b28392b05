"""Pictures and captions: folders and tables of both, who comes first for whom, batches, a whole run that matches."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from PIL import Image, ImageDraw
from sklearn.cross_decomposition import CCA

import fathom
from fathom import pairs, styles
from fathom.baselines import canonical_correlation
from fathom.baselines.parts import matching
from fathom.baselines.parts.matching import SameOrder, Sides, ranks, sides
from fathom.batches import Tensors
from fathom.cli import main
from fathom.data import Examples, Ragged, Task
from fathom.errors import UserError
from fathom.evaluate import evaluate
from fathom.measures import mean_reciprocal_rank, recall_at_1, recall_at_5
from fathom.network import build
from fathom.objectives.contrastive import Contrastive
from fathom.pair_network import Matcher
from fathom.sources.parts.choose import choose, open_any

CPU = torch.device("cpu")
COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 220), "yellow": (230, 210, 40)}
PLACES = {"at the top left": (1, 1), "at the top right": (13, 1), "at the bottom left": (1, 13)}
SHAPES = ("square", "circle", "bar")


def scene(rng: np.random.Generator) -> tuple[Image.Image, str]:
    """A shape of 9 pixels in one of three places of a dark picture, and a sentence that says what and where."""
    colour, shape, place = (str(rng.choice(list(choices))) for choices in (COLOURS, SHAPES, PLACES))
    image = Image.new("RGB", (24, 24), tuple(int(shade) for shade in rng.integers(0, 60, 3)))
    x, y = (side + int(rng.integers(-1, 2)) for side in PLACES[place])
    box = (x, y + 3, x + 9, y + 6) if shape == "bar" else (x, y, x + 9, y + 9)
    draw = ImageDraw.Draw(image)
    (draw.ellipse if shape == "circle" else draw.rectangle)(box, fill=COLOURS[colour])
    return image, f"a {colour} {shape} {place}"


def write(folder: Path, rows: int = 40, *, seed: int = 0, more: str = "", several: int = 1) -> Path:
    """photos.csv and the pictures that it names; each picture has `several` captions."""
    rng = np.random.default_rng(seed)
    (folder / "pictures").mkdir(parents=True)
    lines = [f"photo,caption{',' + more if more else ''}\n"]
    for row in range(rows):
        image, caption = scene(rng)
        image.save(folder / "pictures" / f"{row}.png")
        beside = f",a note on it number {row}" if more else ""
        lines += [f"pictures/{row}.png,{caption}{' once more' * i}{beside}\n" for i in range(several)]
    (folder / "photos.csv").write_text("".join(lines))
    return folder / "photos.csv"


def write_beside(folder: Path, rows: int, *, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for row in range(rows):
        image, caption = scene(rng)
        image.save(folder / f"{row}.png")
        (folder / f"{row}.txt").write_text(caption + "\n")
    return folder


def fit(data: Any, out: Path, **keys: Any) -> fathom.api.Run:
    return fathom.fit(data, out=out, quiet=True, threads=1, budget=1000, **keys)


# Folders


def test_a_picture_and_the_text_of_its_name_are_a_pair(tmp_path: Path) -> None:
    table = open_any(write_beside(tmp_path / "set", 5))
    assert (table.task, table.target, table.parts) == ("pair", "caption", None)
    assert table.columns["caption"][3] == (tmp_path / "set" / "3.txt").read_text().strip()
    assert table.columns["image"][3].path.endswith("3.png")
    assert table.summary == "5 captions of 5 images"


def test_each_line_of_a_text_is_a_caption(tmp_path: Path) -> None:
    folder = write_beside(tmp_path / "set", 3)
    (folder / "1.txt").write_text("a first line\n\n  a third line  \n")
    table = open_any(folder)
    assert list(table.columns["caption"][1:3]) == ["a first line", "a third line"]
    assert table.places[2].endswith("1.txt:3")
    assert table.columns["image"][1] == table.columns["image"][2]


def test_folders_called_train_and_test_are_official_parts(tmp_path: Path) -> None:
    for seed, part in enumerate(("train", "val", "test")):
        write_beside(tmp_path / "set" / part, 4 - seed, seed=seed)
    table = open_any(tmp_path / "set")
    assert table.parts is not None
    assert [int((table.parts == part).sum()) for part in ("train", "validate", "test")] == [4, 3, 2]


def test_what_has_no_partner_is_left_out_and_listed(tmp_path: Path) -> None:
    folder = write_beside(tmp_path / "set", 12)
    (folder / "3.txt").unlink()
    (folder / "5.png").unlink()
    (folder / "7.txt").write_text("\n")
    table = open_any(folder)
    assert len(table) == 9
    whys = {Path(left.where).name: left.why for left in table.left_out}
    assert whys == {"3.png": "it has no caption", "5.txt": "it has no picture", "7.txt": "it is empty"}


def test_texts_of_numbers_are_no_captions(tmp_path: Path) -> None:
    """Detectors are taught by a file of boxes beside each picture."""
    for kind in ("cat", "dog"):
        folder = write_beside(tmp_path / "set" / kind, 3)
        for path in folder.glob("*.txt"):
            path.write_text("0 0.51 0.32 0.20 0.11\n1 0.12 0.40 0.33 0.20\n")
    assert choose(tmp_path / "set")[0] == "folder"


def test_an_archive_is_read_where_it_is(tmp_path: Path) -> None:
    folder = write_beside(tmp_path / "set", 4)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    opened, plain = open_any(tmp_path / "set.zip"), open_any(folder)
    assert list(opened.columns["caption"]) == list(plain.columns["caption"])
    assert opened.columns["image"][2].read() == plain.columns["image"][2].read()


# What a run is refused for


def test_a_table_is_a_task_of_pairs_only_where_that_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(UserError, match="--task pair"):
        fit(path, tmp_path / "run")


def test_two_texts_are_asked_about(tmp_path: Path) -> None:
    path = write(tmp_path, more="remark")
    with pytest.raises(UserError, match=r"2 could be meant \(caption, remark\).*--target NAME"):
        fit(path, tmp_path / "run", task="pair")
    run = fit(path, tmp_path / "run", task="pair", target="caption", model="none")
    assert run.metrics["target"] == "caption"


def test_no_text_and_no_pictures_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a")
    (tmp_path / "a" / "bare.csv").write_text("photo,size\n" + "".join(f"pictures/{i}.png,{i}\n" for i in range(40)))
    (tmp_path / "words.csv").write_text(
        "title,caption\n" + "".join(f"day {i},a day like {i} others\n" for i in range(40))
    )
    with pytest.raises(UserError, match="no column holds pictures.*Columns: title, caption"):
        fit(tmp_path / "words.csv", tmp_path / "run", task="pair")
    with pytest.raises(UserError, match="'size' holds no texts"):
        fit(tmp_path / "a" / "bare.csv", tmp_path / "run", task="pair", target="size")


def test_missing_pictures_are_left_out_or_where_most_are_missing_refused(tmp_path: Path) -> None:
    path = write(tmp_path, 60)
    (tmp_path / "pictures" / "7.png").unlink()
    run = fit(path, tmp_path / "run", task="pair", model="none")
    (lost,) = run.folder.read_rows("left_out.csv")
    assert lost["where"].endswith("photos.csv:9")
    assert "7.png does not exist" in lost["why"]
    for row in range(10, 60):
        (tmp_path / "pictures" / f"{row}.png").unlink()
    with pytest.raises(UserError, match=r"of 60 pictures in 'photo' cannot be read; .*csv:2: 'pictures/0.png'"):
        fit(path, tmp_path / "other", task="pair")


def test_one_caption_for_all_and_another_model_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(UserError, match="'fused' does not match pictures with texts"):
        fit(path, tmp_path / "run", task="pair", model="fused")
    path.write_text("photo,caption\n" + "".join(f"pictures/{i}.png,a nice day\n" for i in range(40)))
    with pytest.raises(UserError, match="Every picture has the same caption"):
        fit(path, tmp_path / "run", task="pair")


# Who comes first


def every_its_own(rows: int) -> Sides:
    own = np.arange(rows)
    return Sides(own, own, own, own)


def test_ranks_are_those_of_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    pictures, captions = rng.normal(size=(30, 8)), rng.normal(size=(30, 8))
    captions += pictures
    found = ranks(pictures, captions, every_its_own(30))
    similarity = pictures @ captions.T
    for row in range(30):
        assert found[row, 0] == 1 + list(np.argsort(-similarity[row])).index(row)
        assert found[row, 1] == 1 + list(np.argsort(-similarity[:, row])).index(row)
    monkeypatch.setattr(matching, "SIMILARITIES_AT_A_TIME", 70)
    assert np.array_equal(ranks(pictures, captions, every_its_own(30)), found)


def test_any_caption_of_a_picture_is_right_and_the_first_counts() -> None:
    # Rows 0 and 1 are one picture with two captions; rows 2 and 3 two pictures with one caption.
    found = Sides(np.array([0, 0, 1, 2]), np.array([0, 1, 2, 2]), np.array([0, 2, 3]), np.array([0, 1, 2]))
    pictures = np.array([[3.0, 1.0, 2.0], [0.0, 2.0, 1.0], [0.0, 0.5, 2.5]])  # similarity to captions 0, 1, 2
    assert ranks(pictures, np.eye(3), found).tolist() == [[1, 1], [1, 2], [2, 1], [1, 1]]


def test_nothing_known_ranks_exactly_as_chance_does() -> None:
    for vectors in (np.zeros((40, 3)), np.full((40, 3), np.nan)):
        found = ranks(vectors, vectors, every_its_own(40))
        assert sorted(found[:, 0]) == sorted(found[:, 1]) == list(range(1, 41))
        captions = np.full(40, "", object)
        assert recall_at_5.measure(found, captions) == 5 / 40
        assert mean_reciprocal_rank.measure(found, captions) == pytest.approx((1 / np.arange(1, 41)).mean())


def test_the_same_pixels_are_the_same_picture() -> None:
    examples = examples_of(["a cat", "a dog", "a cat", "two cats"], shades=[1, 2, 1, 3])
    assert sides(examples).picture_of.tolist() == [0, 1, 0, 2]
    assert sides(examples).caption_of.tolist() == [0, 1, 0, 2]
    assert SameOrder().predict(examples).shape == (4, 2)


def test_without_a_penalty_the_correlations_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5))
    y = np.column_stack(
        [x[:, 0] + rng.normal(size=300), x[:, 1] - x[:, 2] + rng.normal(size=300), rng.normal(size=300)]
    )
    made = canonical_correlation.Views.of(x, sp.csr_matrix(y)).projections(1e-12, 0.0)
    ours = x @ made.picture_matrix, y @ made.caption_matrix
    theirs = CCA(n_components=3, max_iter=5000, tol=1e-10).fit(x, y).transform(x, y)
    for one in range(3):
        own, known = (np.corrcoef(a[:, one], b[:, one])[0, 1] for a, b in (ours, theirs))
        assert own == pytest.approx(known, abs=1e-4)


# Batches and the network


def examples_of(captions: list[str], *, shades: list[int] | None = None) -> Examples:
    """Pictures of 8 x 8 pixels in one shade, and captions of as many tokens as words."""
    shades = list(range(len(captions))) if shades is None else shades
    pixels = np.stack([np.full((8, 8, 3), shade, np.uint8) for shade in shades])
    known = {word: i for i, word in enumerate(sorted({w for line in captions for w in line.split()}), 2)}
    rows = [[1, *(known[word] for word in line.split())] for line in captions]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    tokens = Ragged(np.array([token for row in rows for token in row], np.int32), starts)
    about = {
        "photo": {"form": "pixels", "height": 8, "width": 8, "channels": 3, "mean": [0.1] * 3, "std": [0.1] * 3,
                  "mirror": True, "why_mirror": "made for a test"},
        "caption": {"form": "tokens", "vocabulary": len(known) + 2, "length": max(map(len, rows))},
    }  # fmt: skip
    inputs = {"photo": pixels, "caption": tokens}
    return Examples(inputs, about, {"caption": np.array(captions, object)}, len(captions))


def clip(examples: Examples) -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(0)
    style = styles.pair(examples.about, len(examples), Task("pair", "caption"))
    usual = style.options | style.sizes[-1].options
    model = build("clip", examples.about, 16, usual | {"width": 32, "text_width": 32})
    return model, {"about": examples.about, "objective": "contrastive", "spec": {"width": 16}}


CAPTIONS = ["a cat", "a black dog", "a dog and two cats", "a house", "a black house", "two cats and a house", "a dog"]


def test_batches_are_of_one_size_and_follow_from_seed_and_epoch() -> None:
    examples = examples_of([f"picture {i}" for i in range(23)])
    made = pairs.batches_of(Tensors(examples, CPU), pairs.ids_of(examples), np.arange(3, 23), 8, seed=5)
    batches = list(made.epoch(2))
    assert made.per_epoch == len(batches) == 2
    assert all(batch.targets.shape == (8, 2) for batch in batches)
    again, other = list(made.epoch(2, skip=1)), list(made.epoch(3))
    assert torch.equal(again[0].targets, batches[1].targets)
    assert not torch.equal(other[0].targets, batches[0].targets)
    rows = torch.cat([batch.targets[:, 0] for batch in batches])
    assert len(set(rows.tolist())) == 16
    assert int(rows.min()) >= 3


def test_a_batch_is_not_sorted_by_the_length_of_captions() -> None:
    examples = examples_of(["word " * (1 + i % 8) + str(i) for i in range(64)])
    made = pairs.batches_of(Tensors(examples, CPU), pairs.ids_of(examples), np.arange(64), 16, seed=0)
    for batch in made.epoch(0):
        assert isinstance(batch.inputs, dict)
        assert len(set((batch.inputs["caption"] != 0).sum(dim=1).tolist())) > 4


def test_rows_that_share_a_picture_or_a_caption_are_right_for_each_other() -> None:
    vectors = torch.tensor([[[4.0, 0.0], [0.0, 4.0]], [[0.0, 4.0], [4.0, 0.0]]])  # each fits the other's caption
    apart, shared = torch.tensor([[0, 0], [1, 1]]), torch.tensor([[0, 0], [1, 0]])
    crossed, alike = (float(Contrastive().total(vectors, ids)) / 2 for ids in (apart, shared))
    assert crossed == pytest.approx(16.0, abs=1e-4)
    assert alike == pytest.approx(8.0, abs=1e-4)
    assert float(Contrastive().total(vectors, apart[:, 0])) == float(Contrastive().total(vectors, apart))


def test_the_loss_of_one_batch_is_the_objectives_and_ranks_are_the_models() -> None:
    examples = examples_of(CAPTIONS)
    model, config = clip(examples)
    matcher = Matcher(model, config, CPU)
    inputs = Tensors(examples, CPU).gather(np.arange(7))
    with torch.no_grad():
        raw, similarity = model(inputs), model.similarity(inputs["photo"], inputs["caption"])
    loss, found = matcher.loss_and_ranks(examples, 7)
    assert loss == pytest.approx(float(Contrastive().total(raw, torch.arange(7))) / 7, rel=1e-5)
    expected = 1 + (similarity > similarity.diagonal()[:, None]).sum(dim=1)
    assert found[:, 0].tolist() == expected.tolist()
    assert np.array_equal(matcher.predict(examples), found)


def test_captions_are_read_to_their_last_token_whatever_is_padded() -> None:
    """The highest id, which CLIP's own vocabulary gives to the end of a text, is any word here."""
    examples = examples_of(["a zebra and a cat", "a zebra and a dog", "a dog"])
    model, config = clip(examples)
    vectors = Matcher(model, config, CPU).caption_vectors(examples, np.arange(3))
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
    alone = Matcher(model, config, CPU).caption_vectors(examples, np.array([2]))
    assert np.allclose(alone[0], vectors[2], atol=1e-6)


# A whole run


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("photos"), 300, several=2)


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> fathom.api.Run:
    return fit(
        table,
        tmp_path_factory.mktemp("matched") / "run",
        task="pair",
        recipe={"model": {"name": "clip", "options": {"patch": 8, "depth": 1, "text_depth": 1}}},
        train__steps=130,
        train__precision="fp32",
        train__learning_rate=0.004,
        train__augment={},
    )


def test_learns_to_match_far_better_than_chance(run: fathom.api.Run) -> None:
    scores = run.metrics["test"]
    assert set(scores) == {"constant", "canonical_correlation", "clip"}
    assert run.metrics["metric"] == "recall_at_1"
    assert run.metrics["among"]["pictures"] == 45
    assert scores["constant"]["recall_at_1"] < 0.15
    assert scores["clip"]["recall_at_1"] > 0.4
    assert scores["clip"]["recall_at_5"] > 0.7
    both = [scores["clip"][name] for name in ("caption_recall", "picture_recall")]
    assert scores["clip"]["recall_at_1"] == pytest.approx(np.mean(both))


def test_captions_of_one_picture_stay_on_one_side_and_are_resampled_together(run: fathom.api.Run) -> None:
    split = run.folder.read_table("split.parquet")
    part = dict(zip(split["row"], split["part"], strict=True))
    assert len(part) == 600
    assert all(part[row] == part[row + 1] for row in range(0, 600, 2))
    kept = run.folder.read_table("predictions.parquet")
    found = np.column_stack([kept["clip:rank of its caption"], kept["clip:rank of its picture"]])
    pictures = kept["row"] // 2
    together, apart = (
        evaluate(found, kept["truth"], Task("pair", "caption"), units=units)["recall_at_1"]["interval"]
        for units in (pictures, None)
    )
    assert run.metrics["test"]["clip"]["interval"] == together != apart


def test_ranks_of_the_test_rows_are_kept(run: fathom.api.Run) -> None:
    kept = run.folder.read_table("predictions.parquet")
    found = np.column_stack([kept["clip:rank of its caption"], kept["clip:rank of its picture"]])
    assert recall_at_1.measure(found, kept["truth"]) == run.metrics["test"]["clip"]["recall_at_1"]


def test_the_recipe_repeats_the_run_to_the_last_bit(run: fathom.api.Run, tmp_path: Path) -> None:
    again = fathom.fit(recipe=run.path / "recipe.yaml", out=tmp_path / "again", quiet=True)
    one, other = (r.folder.read_tensors("model.safetensors") for r in (run, again))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    one, other = (r.folder.read_table("predictions.parquet") for r in (run, again))
    assert all(np.array_equal(values, other[name]) for name, values in one.items())


def test_a_picture_is_named_by_the_training_caption_that_fits_best(run: fathom.api.Run, table: Path) -> None:
    known = set(run.folder.read_table("captions.parquet")["caption"])
    captions = [line.split(",")[1] for line in table.read_text().splitlines()[1:]]
    split = run.folder.read_table("split.parquet")
    assert known == {captions[row] for row, part in zip(split["row"], split["part"], strict=True) if part == "train"}
    found = run.predict(table.parent / "pictures", candidate="canonical_correlation")
    assert len(found) == 300
    assert set(found.values) <= known
    assert found.similarity is not None
    names = [int(Path(found.columns["row"][i]).stem) for i in range(300)]
    same = [found.values[i].startswith(captions[2 * name]) for i, name in enumerate(names)]
    assert np.mean(same) > 0.8
    alone = run.predict(table.parent / "pictures" / "7.png", candidate="canonical_correlation")
    assert alone.values[0] == found.values[names.index(7)]


def test_texts_that_name_classes_make_a_classifier(run: fathom.api.Run, tmp_path: Path) -> None:
    fresh = write(tmp_path, 60, seed=9)
    captions = [line.split(",")[1] for line in fresh.read_text().splitlines()[1:]]
    texts = [f"a {colour} {shape} {place}" for colour in COLOURS for shape in SHAPES for place in PLACES]
    found = run.match(fresh, texts, candidate="clip")
    assert found.shape == (60, 36)
    assert np.abs(found).max() <= 1 + 1e-6
    best = found.reshape(60, 4, 9).mean(axis=2).argmax(axis=1)  # several texts for a class
    right = [captions[row].split()[1] == list(COLOURS)[colour] for row, colour in enumerate(best)]
    assert np.mean(right) > 0.8


def test_new_pairs_are_evaluated_among_themselves(run: fathom.api.Run, tmp_path: Path) -> None:
    found = run.evaluate(write(tmp_path, 30, seed=5), candidate="clip")
    assert found["rows"] == found["among"]["pictures"] == 30
    assert found["measures"]["recall_at_1"]["value"] > 0.4


def test_what_compares_nothing_cannot_name_a_picture(run: fathom.api.Run, table: Path) -> None:
    with pytest.raises(UserError, match="orders by lot"):
        run.predict(table.parent / "pictures" / "7.png", candidate="constant")


def test_a_run_in_which_nothing_compares_says_so(tmp_path: Path) -> None:
    alone = fit(write_beside(tmp_path / "set", 60), tmp_path / "run", model="none", baselines={"constant": {}})
    with pytest.raises(UserError, match="orders by lot and compares nothing. The run has no other model"):
        alone.match(tmp_path / "set", ["a red bar"])


def test_the_command_prints_a_line_for_each_picture(
    run: fathom.api.Run, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["match", str(run.path), str(table.parent / "pictures" / "7.png"), "a red bar", "a blue bar"]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head == "picture\ta red bar\ta blue bar"
    assert line.split("\t")[0].endswith("7.png")
    assert all(-1 <= float(cosine) <= 1 for cosine in line.split("\t")[1:])


def test_the_page_says_among_how_many(run: fathom.api.Run) -> None:
    page = (run.path / "report.html").read_text()
    assert f"each among {run.metrics['among']['captions']} captions and 45 pictures" in page


def test_a_folder_of_pictures_with_captions_needs_no_task(tmp_path: Path) -> None:
    found = fit(write_beside(tmp_path / "set", 60), tmp_path / "run", model="none")
    assert found.metrics["task"] == "pair"
    assert found.evaluate(tmp_path / "set")["rows"] == 60
    assert "ranks of its caption, its picture" in (found.path / "report.html").read_text()
