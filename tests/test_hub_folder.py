"""What a folder of trained weights may be called and hold, and what is said of it: settings, tokenizers, names."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from fathom import hub_folder
from fathom.errors import UserError
from fathom.network import build
from fathom.pretrained import from_pretrained, save_pretrained
from fathom.weights import bert, gpt2, jamba, mamba2, mobilenet_v1, t5, vit
from fathom.weights import clip as clip_weights
from fathom.weights import llama as llama_weights
from fathom.weights.parts.blueprint import Blueprint

LLAMA = llama_weights.EXAMPLES[0]


def saved(blueprint: Blueprint, folder: Path) -> Path:
    model = build(blueprint.model, blueprint.inputs, blueprint.outputs, blueprint.options)
    return save_pretrained(model, blueprint, folder / "there")


def said(folder: Path, name: str = "config.json", **changes: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# Settings


def test_settings_that_nothing_reads_are_told_of(tmp_path: Path) -> None:
    folder = saved(LLAMA, tmp_path)
    said(folder, logit_scale=0.5, attention_multiplier=2.0, embedding_multiplier=None, use_cache=False)
    with pytest.warns(UserWarning, match="nothing here reads"):
        loaded = from_pretrained(folder)
    (note,) = loaded.notes
    assert "config.json says logit_scale=0.5, attention_multiplier=2.0, which" in note


@pytest.mark.parametrize("name", ["quantization_config", "compression_config"])
def test_weights_that_are_quantized_are_refused(name: str, tmp_path: Path) -> None:
    folder = saved(LLAMA, tmp_path)
    said(folder, **{name: {"quant_method": "gptq", "bits": 4}})
    with pytest.raises(UserError, match=rf"{name}=\{{'quant_method': 'gptq'.*quantized"):
        from_pretrained(folder)


# As their authors wrote them, besides what is read.
PUBLISHED: list[tuple[Blueprint, dict[str, Any]]] = [
    (gpt2.EXAMPLES[0], {"n_ctx": 16, "summary_type": "cls_index", "task_specific_params": {"text-generation": {}}}),
    (bert.EXAMPLES[2], {"gradient_checkpointing": False, "directionality": "bidi", "pooler_fc_size": 768}),
    (t5.EXAMPLES[0], {"output_past": True, "task_specific_params": {"summarization": {}}, "is_gated_act": False}),
    (LLAMA, {"pretraining_tp": 2, "_name_or_path": "here", "torch_dtype": "bfloat16", "transformers_version": "4.31"}),
]


@pytest.mark.parametrize(("blueprint", "more"), PUBLISHED)
def test_settings_without_effect_are_no_news(blueprint: Blueprint, more: dict[str, Any], tmp_path: Path) -> None:
    folder = saved(blueprint, tmp_path)
    said(folder, **more)
    assert from_pretrained(folder).notes == ()


def test_an_old_name_of_a_class_hides_no_setting(tmp_path: Path) -> None:
    folder = saved(bert.EXAMPLES[2], tmp_path)
    said(folder, architectures=["BertForPreTraining"])
    assert from_pretrained(folder).notes == ()


@pytest.mark.parametrize(
    ("blueprint", "changes"),
    [
        (LLAMA, {"num_attention_heads": 0, "head_dim": None}),
        (LLAMA, {"hidden_size": "24"}),
        (LLAMA, {"rope_scaling": {"rope_type": "linear"}}),
        (LLAMA, {"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}),
        (LLAMA, {"rope_scaling": "linear"}),
        (LLAMA, {"architectures": {"a": 1}}),
        (LLAMA, {"architectures": [7]}),
        (LLAMA, {"model_type": ["llama"]}),
        (mamba2.EXAMPLES[0], {"time_step_limit": None}),
        (vit.EXAMPLES[0], {"image_size": "large"}),
        (jamba.EXAMPLES[0], {"num_attention_heads": 0}),
        (t5.EXAMPLES[0], {"feed_forward_proj": None}),
        (clip_weights.EXAMPLES[0], {"vision_config": 3}),
        (bert.EXAMPLES[3], {"id2label": [1, 2]}),
    ],
)
def test_settings_of_the_wrong_kind_are_refused_with_the_file(
    blueprint: Blueprint, changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = saved(blueprint, tmp_path)
    said(folder, **changes)
    with pytest.raises(UserError, match=r"config\.json"):
        from_pretrained(folder)


@pytest.mark.parametrize(
    "changes", [{"rescale_factor": "x"}, {"image_mean": [None]}, {"rescale_factor": 0}, {"image_std": {}}]
)
def test_a_preprocessor_of_the_wrong_kind_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    folder = saved(mobilenet_v1.EXAMPLES[0], tmp_path)
    said(folder, "preprocessor_config.json", **changes)
    with pytest.raises(UserError, match="preprocessor"):
        from_pretrained(folder)


@pytest.mark.parametrize("blueprint", [LLAMA, gpt2.EXAMPLES[0], jamba.EXAMPLES[0], t5.EXAMPLES[0]])
def test_a_decoder_that_looks_both_ways_is_refused(blueprint: Blueprint, tmp_path: Path) -> None:
    folder = saved(blueprint, tmp_path)
    said(folder, is_causal=False)
    with pytest.raises(UserError, match="is_causal=False"):
        from_pretrained(folder)


@pytest.mark.parametrize("blueprint", [LLAMA, gpt2.EXAMPLES[0], jamba.EXAMPLES[0], mamba2.EXAMPLES[0]])
def test_ids_of_start_end_and_padding_are_carried(blueprint: Blueprint, tmp_path: Path) -> None:
    folder = saved(blueprint, tmp_path)
    unknown = json.loads((folder / "config.json").read_text())
    ids = {"bos_token_id": 48, "eos_token_id": [49, 3], "pad_token_id": 0}
    assert {name: unknown[name] for name in ids} == dict.fromkeys(ids)
    said(folder, **ids)
    loaded = from_pretrained(folder)
    (about,) = loaded.blueprint.inputs.values()
    assert (about["start"], about["end"], about["padding"]) == (48, [49, 3], 0)
    written = json.loads((loaded.save_pretrained(tmp_path / "back") / "config.json").read_text())
    assert {name: written[name] for name in ids} == ids


# Tokenizers


@pytest.mark.parametrize("files", [["vocab.txt"], ["merges.txt", "vocab.json"], ["tokenizer.model"]])
def test_a_tokenizer_in_older_files_is_told_of(files: list[str], tmp_path: Path) -> None:
    folder = saved(LLAMA, tmp_path)
    for name in files:
        (folder / name).write_text("")
    with pytest.warns(UserWarning, match=rf"no tokenizer\.json, and its tokenizer in {', '.join(files)} is not read"):
        loaded = from_pretrained(folder)
    assert loaded.tokenizer is None and len(loaded.notes) == 1
    Tokenizer(models.WordLevel({"a": 0}, "a")).save(str(folder / "tokenizer.json"))
    loaded = from_pretrained(folder)
    assert loaded.tokenizer is not None and loaded.notes == ()


def test_a_damaged_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    folder = saved(LLAMA, tmp_path)
    for content in ("{", "[]", '{"model": {"type": "BPE"}}'):
        (folder / "tokenizer.json").write_text(content)
        with pytest.raises(UserError, match=r"tokenizer\.json is damaged"):
            from_pretrained(folder)


# Names


@pytest.mark.parametrize(
    "name", ["./missing", "../missing", ".missing", "/missing/there", "runs/x.", "a--b", "x" * 300]
)
def test_a_name_that_is_no_folder_and_none_of_the_hub_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="folder"):
        from_pretrained(name)


def test_weights_that_stand_there_a_second_time_are_not_fetched() -> None:
    def fetched(name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in hub_folder.FILES)

    assert not fetched("consolidated.safetensors") and not fetched("consolidated-00001-of-00002.safetensors")
    for name in ("model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json"):
        assert fetched(name)
    assert fetched("tokenizer.json") and fetched("config.json") and not fetched("pytorch_model.bin")


# What a folder cannot hold


PHOTO = {"form": "pixels", "height": 8, "width": 8, "channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3}


def test_what_matters_for_further_training_only_is_told_of_when_it_is_lost(tmp_path: Path) -> None:
    blueprint = Blueprint("vit", {"photo": PHOTO | {"mirror": True}}, 3, vit.SMALL | {"drop_path": 0.2})
    with pytest.warns(UserWarning, match=r"vit cannot say drop_path=0.2, mirror=True, which matters for further"):
        folder = saved(blueprint, tmp_path)
    assert from_pretrained(folder).blueprint.outputs == 3


@pytest.mark.parametrize("mirror", [True, False])
@pytest.mark.parametrize("blueprint", [mobilenet_v1.EXAMPLES[0], clip_weights.EXAMPLES[0]])
def test_mirroring_is_told_of_only_where_it_is_lost(
    blueprint: Blueprint, mirror: bool, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    inputs = {n: a | ({"mirror": mirror} if a["form"] == "pixels" else {}) for n, a in blueprint.inputs.items()}
    folder = saved(Blueprint(blueprint.model, inputs, blueprint.outputs, blueprint.options), tmp_path)
    told = [str(warning.message) for warning in recwarn if "mirror" in str(warning.message)]
    again = {about["form"]: about for about in from_pretrained(folder).blueprint.inputs.values()}
    assert bool(told) == (again["pixels"]["mirror"] != mirror)


def test_options_with_an_effect_that_a_layout_cannot_say_are_refused(tmp_path: Path) -> None:
    blueprint = Blueprint("clip", clip_weights.EXAMPLES[0].inputs, 6, clip_weights.SMALL | {"end": 2})
    with pytest.raises(UserError, match=r"model\.end=2: in this layout that eos_token_id stands for the highest id"):
        saved(blueprint, tmp_path)
    sizes = {"depth": 1, "width": 8, "heads": 2, "key_heads": 1, "head_width": 4, "hidden": 12}
    with pytest.raises(UserError, match="qwen2 cannot say window_from=1"):
        saved(Blueprint("llama", LLAMA.inputs, 50, sizes | {"query_bias": True, "window_from": 1}), tmp_path)
