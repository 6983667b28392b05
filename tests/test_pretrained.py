"""Folders of trained weights as others write them: old names, shards, copies, labels, pixels; and as we write them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fathom.errors import UserError
from fathom.network import build
from fathom.pretrained import Pretrained, family_of, from_pretrained, save_pretrained
from fathom.weights import bert, efficientnet, gpt2, resnet, vit
from fathom.weights import llama as llama_weights
from fathom.weights.parts.blueprint import Blueprint
from fathom.weights.parts.preprocessor import pixel_scaling
from tests.parity.common import assert_same, brought_over, randomise, token_ids

TOKENS = token_ids(rows=2, length=7, vocabulary=50)


@pytest.fixture
def transformers() -> Any:
    return pytest.importorskip("transformers")


def saved(blueprint: Blueprint, folder: Path) -> tuple[nn.Module, Path]:
    """A randomised model of that blueprint and its folder."""
    model = randomise(build(blueprint.model, blueprint.inputs, blueprint.outputs, blueprint.options))
    return model, save_pretrained(model, blueprint, folder / "there")


def renamed(folder: Path, change: Any) -> None:
    """Rewrite the folder's tensors: `change` takes and gives a dictionary."""
    path = folder / "model.safetensors"
    save_file({name: tensor.clone() for name, tensor in change(load_file(path)).items()}, path)


def said(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# Old files


@torch.no_grad()
@pytest.mark.parametrize("number", [0, 3])
def test_gpt2s_first_files_lack_the_stem_of_their_names(number: int, tmp_path: Path) -> None:
    model, folder = saved(gpt2.EXAMPLES[number], tmp_path)
    renamed(folder, lambda tensors: {name.removeprefix("transformer."): t for name, t in tensors.items()})
    renamed(folder, lambda tensors: tensors | {"h.0.attn.bias": torch.ones(1, 1, 16, 16)})
    assert "wte.weight" in load_file(folder / "model.safetensors")
    assert torch.equal(from_pretrained(folder).model(TOKENS), model(TOKENS))


@torch.no_grad()
def test_berts_first_files_say_gamma_and_beta_and_number_their_positions(tmp_path: Path) -> None:
    model, folder = saved(bert.EXAMPLES[2], tmp_path)
    ends = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def aged(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        for new, old in ends.items():
            tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
        return tensors | {"bert.embeddings.position_ids": torch.arange(16)[None]}

    renamed(folder, aged)
    assert "bert.embeddings.LayerNorm.gamma" in load_file(folder / "model.safetensors")
    assert torch.equal(from_pretrained(folder).model(TOKENS), model(TOKENS))


# What a file may hold twice


COPIES = [
    (llama_weights.EXAMPLES[1], "lm_head.weight", "model.embed_tokens.weight"),
    (gpt2.EXAMPLES[0], "lm_head.weight", "transformer.wte.weight"),
    (bert.EXAMPLES[2], "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
    (bert.EXAMPLES[2], "cls.predictions.decoder.bias", "cls.predictions.bias"),
]


@torch.no_grad()
@pytest.mark.parametrize(("blueprint", "copy", "original"), COPIES)
def test_a_tied_matrix_may_stand_twice_if_both_are_equal(
    blueprint: Blueprint, copy: str, original: str, tmp_path: Path
) -> None:
    model, folder = saved(blueprint, tmp_path)
    renamed(folder, lambda tensors: tensors | {copy: tensors[original]})
    assert torch.equal(from_pretrained(folder).model(TOKENS), model(TOKENS))
    renamed(folder, lambda tensors: tensors | {copy: tensors[original] + 0.01})
    with pytest.raises(UserError) as caught:
        from_pretrained(folder)
    assert f"holds {copy} and {original}, which are one matrix" in str(caught.value)


# Shards


@torch.no_grad()
def test_shards_are_read_and_a_missing_one_is_named(transformers: Any, tmp_path: Path) -> None:
    config = transformers.GPT2Config(vocab_size=50, n_positions=16, n_embd=24, n_layer=3, n_head=3)
    theirs = randomise(transformers.GPT2LMHeadModel(config))
    theirs.save_pretrained(tmp_path / "there", max_shard_size="20KB")
    parts = sorted((tmp_path / "there").glob("model-*.safetensors"))
    assert len(parts) > 2
    assert_same(from_pretrained(tmp_path / "there").model(TOKENS), theirs(TOKENS).logits)
    parts[1].unlink()
    with pytest.raises(UserError, match=rf"no file {parts[1].name}, which model.safetensors.index.json names"):
        from_pretrained(tmp_path / "there")


def test_an_index_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    _, folder = saved(gpt2.EXAMPLES[0], tmp_path)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    for content in ("{}", '{"weight_map": ["a"]}'):
        index.write_text(content)
        with pytest.raises(UserError, match="no weight_map"):
            from_pretrained(folder)
    for name in ("a", "b"):
        save_file(tensors, folder / f"{name}.safetensors")
    index.write_text(json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}))
    with pytest.raises(UserError, match=r"b\.safetensors holds .*, which another part"):
        from_pretrained(folder)
    index.write_text(json.dumps({"weight_map": {"x": "../a.safetensors"}}))
    with pytest.raises(UserError, match="no file"):
        from_pretrained(folder)


# What config.json says


def test_architectures_of_another_family_are_called_a_contradiction(tmp_path: Path) -> None:
    _, folder = saved(llama_weights.EXAMPLES[0], tmp_path)
    for model_type, architecture, other in (
        ("llama", "GPT2LMHeadModel", "gpt2"),
        ("llama", "MistralForCausalLM", "mistral"),
        ("mamba", "Mamba2ForCausalLM", "mamba2"),
        ("bert", "DistilBertForMaskedLM", "distilbert"),
        ("efficientnet", "MobileNetV1Model", "mobilenet_v1"),
    ):
        said(folder, model_type=model_type, architectures=[architecture])
        with pytest.raises(
            UserError, match=rf"contradicts itself: model_type '{model_type}'.*'{architecture}'.*'{other}'"
        ):
            from_pretrained(folder)
    assert family_of({"model_type": "bert", "architectures": ["BertForPreTraining"]}) is bert


def test_a_setting_that_is_missing_is_named(tmp_path: Path) -> None:
    _, folder = saved(llama_weights.EXAMPLES[0], tmp_path)
    path = folder / "config.json"
    path.write_text(json.dumps({n: v for n, v in json.loads(path.read_text()).items() if n != "hidden_size"}))
    with pytest.raises(UserError, match=r"config\.json does not say 'hidden_size'"):
        from_pretrained(folder)


ROWS = {"text": {"form": "tokens", "vocabulary": 50, "length": 16, "padding": 3}}
CLASSIFIERS = [
    ("Bert", {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 24}),
    ("GPT2", {"n_embd": 24, "n_layer": 1, "n_head": 3, "n_positions": 16, "pad_token_id": 0}),
    ("ViT", {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "image_size": 32}),
    ("ConvNext", {"hidden_sizes": [8, 12], "depths": [1, 1], "num_stages": 2}),
]
PETS = {0: "dog", 1: "cat", 2: "fish & chips"}


@pytest.mark.filterwarnings("ignore:There is no preprocessor")
@pytest.mark.parametrize(("stem", "settings"), CLASSIFIERS)
def test_names_of_classes_are_kept_there_and_back(
    transformers: Any, stem: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    labels = {"id2label": PETS, "label2id": {name: place for place, name in PETS.items()}}
    config = getattr(transformers, f"{stem}Config")(**settings, **labels)
    task = "ForImageClassification" if stem in ("ViT", "ConvNext") else "ForSequenceClassification"
    loaded = brought_over(getattr(transformers, stem + task)(config), tmp_path)
    assert loaded.blueprint.classes == tuple(PETS.values())
    assert loaded.blueprint.outputs == 3
    folder = loaded.save_pretrained(tmp_path / "back")
    assert transformers.AutoConfig.from_pretrained(folder).id2label == PETS
    assert from_pretrained(folder).blueprint.classes == tuple(PETS.values())


def test_made_up_names_are_none_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    _, folder = saved(gpt2.EXAMPLES[3], tmp_path)
    assert json.loads((folder / "config.json").read_text())["id2label"]["2"] == "LABEL_2"
    assert from_pretrained(folder).blueprint.classes == ()
    said(folder, id2label={"0": "dog", "2": "cat", "3": "fish"})
    with pytest.raises(UserError, match="expected each from 0 to 2 once"):
        from_pretrained(folder)


# Pixels


def pixels(about: dict[str, Any]) -> Tensor:
    shape = (2, about["channels"], about["height"], about["width"])
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("stem", ["ViT", "ResNet"])
def test_mean_and_deviation_are_those_of_their_preprocessor_there_and_back(
    transformers: Any, stem: str, tmp_path: Path
) -> None:
    """Theirs makes what the model sees from pictures; ours takes the pictures."""
    config = transformers.ResNetConfig(embedding_size=6, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    if stem == "ViT":
        small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
        config = transformers.ViTConfig(**small, image_size=[32, 48], patch_size=8)
    config.image_size = [32, 48]
    theirs = randomise(getattr(transformers, f"{stem}ForImageClassification")(config))
    theirs.save_pretrained(tmp_path / "there")
    processor = transformers.ViTImageProcessorPil(
        size={"height": 32, "width": 48}, image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.6, 0.7]
    )
    processor.save_pretrained(tmp_path / "there")
    loaded = from_pretrained(tmp_path / "there")
    assert loaded.notes == ()
    (about,) = loaded.blueprint.inputs.values()
    given = pixels(about)
    seen = processor(list(given.permute(0, 2, 3, 1).numpy()), return_tensors="pt")["pixel_values"]
    assert_same(loaded.model(given), theirs(seen).logits)

    folder = loaded.save_pretrained(tmp_path / "back")
    assert "image_mean" not in json.loads((folder / "config.json").read_text())
    written = transformers.ViTImageProcessorPil.from_pretrained(folder)
    assert list(written.image_mean) == [0.1, 0.2, 0.3]
    seen = written(list(given.permute(0, 2, 3, 1).numpy()), return_tensors="pt")["pixel_values"]
    back = type(theirs).from_pretrained(folder)
    assert_same(back(seen).logits, loaded.model(given))
    assert from_pretrained(folder).blueprint == loaded.blueprint


def test_without_a_preprocessor_the_scaling_is_told_of(tmp_path: Path) -> None:
    _, folder = saved(vit.EXAMPLES[0], tmp_path)
    (folder / "preprocessor_config.json").unlink()
    with pytest.warns(UserWarning, match="mean 0.5, 0.5, 0.5 and deviation 0.5"):
        loaded = from_pretrained(folder)
    assert len(loaded.notes) == 1


def test_a_preprocessor_inside_a_processor_is_read_and_other_channels_are_refused(tmp_path: Path) -> None:
    _, folder = saved(resnet.EXAMPLES[0], tmp_path)
    (folder / "preprocessor_config.json").unlink()
    inside = {"image_processor": {"image_mean": 0.25, "image_std": [0.1, 0.2, 0.3]}}
    (folder / "processor_config.json").write_text(json.dumps(inside))
    (about,) = from_pretrained(folder).blueprint.inputs.values()
    assert (about["mean"], about["std"]) == ([0.25] * 3, [0.1, 0.2, 0.3])
    inside["image_processor"]["image_std"] = [0.1, 0.2]
    (folder / "processor_config.json").write_text(json.dumps(inside))
    with pytest.raises(UserError, match=r"image_std=\[0.1, 0.2\]; expected a number for each of the 3 channels"):
        from_pretrained(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"do_normalize": False},
        {"rescale_factor": 1 / 127.5, "rescale_offset": True},
        {"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False, "include_top": False},
        {"include_top": False},
        {"do_rescale": False},
    ],
)
def test_every_way_to_scale_pixels_is_one_mean_and_one_deviation(transformers: Any, settings: dict[str, Any]) -> None:
    """EfficientNet's preprocessor has all of them."""
    from transformers.models.efficientnet.image_processing_pil_efficientnet import EfficientNetImageProcessorPil

    processor = EfficientNetImageProcessorPil(
        do_resize=False, image_mean=[0.4, 0.3, 0.2], image_std=[0.5, 0.6, 0.7], **settings
    )
    picture = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    seen = processor(picture, return_tensors="pt")["pixel_values"][0]
    found = pixel_scaling(processor.to_dict())
    mean, std = (torch.tensor(found[f"image_{name}"])[:, None, None] for name in ("mean", "std"))
    assert_same((torch.from_numpy(picture).permute(2, 0, 1) / 255 - mean) / std, seen, tolerance=1e-4)


def test_efficientnets_published_preprocessor_means_imagenets_deviation(tmp_path: Path) -> None:
    _, folder = saved(efficientnet.EXAMPLES[0], tmp_path)
    published = {"image_processor_type": "EfficientNetImageProcessor", "include_top": True, "rescale_factor": 1 / 255}
    published |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.47853944, 0.4732864, 0.47434163]}
    (folder / "preprocessor_config.json").write_text(json.dumps(published))
    (about,) = from_pretrained(folder).blueprint.inputs.values()
    assert about["std"] == pytest.approx([0.229, 0.224, 0.225], abs=1e-6)


# Models that were built with one dial


TEXT = {"text": {"form": "stream", "vocabulary": 50, "length": 16}}
PAIR = {"source": {"form": "tokens", "vocabulary": 50, "length": 16}} | {"target": TEXT["text"]}
PHOTO = {"photo": {"form": "pixels", "height": 32, "width": 32, "channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3}}
TINY = {"depth": 1, "width": 32}
NARROW = {"width": 32, "heads": 2, "key_heads": 1, "hidden": 24}
DIALS: list[tuple[str, dict[str, dict[str, Any]], int, dict[str, Any]]] = [
    ("gpt2", TEXT, 50, {"depth": 1}),
    ("gpt2", TEXT, 50, {"size": "gpt2-medium", **TINY}),
    ("llama", TEXT, 50, {"depth": 2}),
    ("llama", TEXT, 50, {"size": "llama-3.2-1b", "depth": 1, **NARROW}),
    ("llama", TEXT, 50, {"size": "mixtral-8x7b", "depth": 1, **NARROW}),
    ("llama", TEXT, 50, {"size": "qwen3-0.6b", "depth": 1, **NARROW}),
    ("mamba", TEXT, 50, {"size": "130m", **TINY}),
    ("mamba2", TEXT, 50, {"depth": 2}),
    ("jamba", TEXT, 50, {"depth": 1}),
    ("jamba", TEXT, 50, {"depth": 3}),
    ("jamba", TEXT, 50, {"size": "52b", "depth": 4, **NARROW, "attention_period": 2}),
    ("bert", TEXT, 50, {"depth": 1}),
    ("bert", ROWS, 3, {"depth": 1, "width": 32}),
    ("bert", TEXT, 50, {"size": "distilbert", **TINY}),
    ("bert", TEXT, 50, {"size": "minilm-l6", **TINY}),
    ("t5", PAIR, 50, {"depth": 1}),
    ("t5", PAIR, 50, {"size": "v1_1-small", **TINY, "hidden": 40}),
    ("t5", PAIR, 50, {"size": "t5-small", **TINY, "decoder_depth": 2, "hidden": 40}),
    ("vit", PHOTO, 3, {"depth": 1}),
    ("vit", PHOTO, 3, {"size": "tiny", "depth": 1}),
    ("clip", PHOTO | {"caption": {"form": "tokens", "vocabulary": 50, "length": 16}}, 6, {"depth": 1}),
]


def answers(loaded: Pretrained | nn.Module, inputs: dict[str, dict[str, Any]]) -> Tensor:
    given = {name: pixels(about) if about["form"] == "pixels" else TOKENS for name, about in inputs.items()}
    model = loaded.model if isinstance(loaded, Pretrained) else loaded
    return model(given if len(given) > 1 else next(iter(given.values())))


@torch.no_grad()
@pytest.mark.parametrize(("name", "inputs", "outputs", "options"), DIALS)
def test_a_model_built_with_one_dial_is_saved_and_answers_alike(
    name: str, inputs: dict[str, dict[str, Any]], outputs: int, options: dict[str, Any], tmp_path: Path
) -> None:
    model, folder = saved(Blueprint(name, inputs, outputs, options), tmp_path)
    assert torch.equal(answers(from_pretrained(folder), inputs), answers(model, inputs))


@torch.no_grad()
def test_theirs_reads_what_was_built_with_a_published_size(transformers: Any, tmp_path: Path) -> None:
    options = {"size": "llama-3.2-1b", "depth": 1, **NARROW}
    model, folder = saved(Blueprint("llama", TEXT, 50, options), tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert theirs.config.rope_parameters["rope_type"] == "llama3"
    assert_same(theirs(TOKENS).logits, model(TOKENS))


def test_options_that_were_given_as_none_are_unsaid(tmp_path: Path) -> None:
    some = replace(gpt2.EXAMPLES[0], options=gpt2.EXAMPLES[0].options | {"hidden": None})
    model, folder = saved(some, tmp_path)
    assert from_pretrained(folder).blueprint.options["hidden"] == 96
    assert torch.equal(from_pretrained(folder).model(TOKENS), model(TOKENS))


def test_a_file_in_the_place_of_the_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("precious")
    with pytest.raises(UserError, match="exists"):
        saved(gpt2.EXAMPLES[0], tmp_path)
