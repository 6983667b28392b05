"""What is special about GPT-2 and the Llama family; what all models share is in contracts/test_models.py."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from fathom.errors import UserError
from fathom.models import gpt2, llama
from fathom.models.parts.moe import MixtureOfExperts
from fathom.network import build
from fathom.pretrained import save_pretrained
from fathom.weights import gpt2 as gpt2_weights
from fathom.weights import llama as llama_weights
from fathom.weights.parts.blueprint import Blueprint
from tests.parity.common import inside_of, randomise, token_ids

VOCABULARY = 40


def text(form: str = "stream", vocabulary: int = VOCABULARY, length: int = 16, **more: Any) -> dict[str, Any]:
    return {"text": {"form": form, "vocabulary": vocabulary, "length": length, **more}}


def num_parameters(name: str, vocabulary: int, length: int, **options: Any) -> int:
    """Counted without memory for them."""
    with torch.device("meta"):
        model = build(name, text(vocabulary=vocabulary, length=length), vocabulary, options)
    return sum(p.numel() for p in model.parameters())


# As counted from the files that their authors published.
PUBLISHED = {
    "gpt2": ("gpt2", 50257, 124_439_808),
    "gpt2-medium": ("gpt2", 50257, 354_823_168),
    "gpt2-large": ("gpt2", 50257, 774_030_080),
    "gpt2-xl": ("gpt2", 50257, 1_557_611_200),
    "llama-7b": ("llama", 32000, 6_738_415_616),
    "llama-3-8b": ("llama", 128256, 8_030_261_248),
    "llama-3.2-1b": ("llama", 128256, 1_235_814_400),
    "mistral-7b": ("llama", 32000, 7_241_732_096),
    "mixtral-8x7b": ("llama", 32000, 46_702_792_704),
    "smollm2-135m": ("llama", 49152, 134_515_008),
    "smollm2-360m": ("llama", 49152, 361_821_120),
    "smollm2-1.7b": ("llama", 49152, 1_711_376_384),
    "qwen2-0.5b": ("llama", 151936, 494_032_768),
    "qwen2-1.5b": ("llama", 151936, 1_543_714_304),
    "qwen3-0.6b": ("llama", 151936, 596_049_920),
    "qwen3-1.7b": ("llama", 151936, 1_720_574_976),
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes_have_their_numbers_of_parameters(size: str) -> None:
    name, vocabulary, count = PUBLISHED[size]
    assert num_parameters(name, vocabulary, 1024, size=size) == count


def test_every_published_size_is_counted() -> None:
    assert set(PUBLISHED) == set(gpt2.SIZES) | set(llama.SIZES)


def test_options_count_more_than_the_size() -> None:
    twelve = num_parameters("gpt2", 50257, 1024, size="gpt2")
    six = num_parameters("gpt2", 50257, 1024, size="gpt2", depth=6)
    block = 12 * 768**2 + 13 * 768
    assert twelve - six == 6 * block


def test_small_setting_of_nanogpt() -> None:
    """Its readme's for a processor: 4 layers, 4 heads, 128 wide, context 64, 65 characters, no biases."""
    model = build("gpt2", text(vocabulary=65, length=64), 65, {"depth": 4, "heads": 4, "width": 128, "bias": False})
    assert sum(p.numel() for p in model.parameters()) == 4 * (12 * 128**2 + 2 * 128) + (65 + 64 + 1) * 128
    assert not [name for name, _ in model.named_parameters() if name.endswith("bias")]


@pytest.mark.parametrize("module", [gpt2, llama])
def test_dial(module: ModuleType) -> None:
    model = module.build(text(), VOCABULARY, depth=3)
    assert len(model.blocks) == 3
    assert model.embed.weight.shape == (VOCABULARY, 192)


@pytest.mark.parametrize(("name", "options"), [("gpt2", {}), ("llama", {}), ("llama", {"experts": 2})])
def test_start_is_the_published_one(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = build(name, text(vocabulary=400, length=200), 400, {"depth": 8, "width": 128} | options)
    for key, parameter in model.named_parameters():
        if key.endswith("bias"):
            assert not parameter.any()
        elif parameter.dim() == 1:
            assert (parameter == 1).all()
        elif "router" not in key:
            last = key.endswith(("project_out.weight", "contract.weight"))
            wanted = 0.02 / math.sqrt(16) if last else 0.02
            assert float(parameter.detach().std()) == pytest.approx(wanted, rel=0.05), key


@pytest.mark.parametrize("module", [gpt2, llama])
def test_tied_output_is_the_embedding(module: ModuleType) -> None:
    assert "head.project.weight" not in module.build(text(), VOCABULARY).state_dict()
    for inputs, outputs, options in (
        (text(), VOCABULARY, {"tied": False}),
        (text(), 7, {}),
        (text("tokens"), VOCABULARY, {}),
    ):
        assert module.build(inputs, outputs, **options).head.project.weight.shape[0] == outputs
    model = module.build(text(), VOCABULARY).eval()
    tokens = token_ids(rows=2, length=5, vocabulary=VOCABULARY)
    torch.testing.assert_close(model(tokens), model.hidden(tokens) @ model.embed.weight.T)


@pytest.mark.parametrize("module", [gpt2, llama])
def test_without_head_the_answers_are_the_states(module: ModuleType) -> None:
    model = module.build(text(), 64, depth=1, head=False).eval()
    tokens = token_ids(rows=2, length=5, vocabulary=VOCABULARY)
    assert torch.equal(model(tokens), model.hidden(tokens))
    with pytest.raises(UserError, match="64 numbers; 3 outputs"):
        module.build(text(), 3, depth=1, head=False)


@pytest.mark.parametrize("module", [gpt2, llama])
@pytest.mark.parametrize("form", ["stream", "tokens"])
@torch.no_grad()
def test_padding_on_either_side_is_not_seen(module: ModuleType, form: str) -> None:
    model = randomise(module.build(text(form), 5, depth=1))
    tokens = token_ids(rows=1, length=5, vocabulary=VOCABULARY)
    alone = model(tokens)
    for left in (False, True):
        padded = nn.functional.pad(tokens, (4, 0) if left else (0, 4), value=9)
        inside = inside_of([5], 9, left=left)
        found = model(padded, inside)
        torch.testing.assert_close(found if form == "tokens" else found[inside][None], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "llama", "mamba", "mamba2", "mamba3", "jamba"])
@torch.no_grad()
def test_padding_on_either_side_is_told_by_the_ids_alone(name: str) -> None:
    model = randomise(build(name, text("tokens"), 5, {"width": 64}))
    tokens = token_ids(rows=1, length=5, vocabulary=VOCABULARY)
    for sides in ((4, 0), (0, 4)):
        torch.testing.assert_close(model(nn.functional.pad(tokens, sides)), model(tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("module", [gpt2, llama])
@torch.no_grad()
def test_input_says_which_id_is_padding(module: ModuleType) -> None:
    tokens = torch.tensor([[5, 0, 6, 7, 7], [0, 3, 4, 0, 7]])
    inside = {
        7: tokens != 7,
        None: torch.ones_like(tokens, dtype=torch.bool),
        0: torch.tensor([[1, 0, 1, 1, 1]] * 2) > 0,
    }
    inside[0][1] = torch.tensor([False, True, True, False, True])
    for padding, wanted in inside.items():
        model = randomise(module.build(text("tokens", padding=padding), 5, depth=1))
        torch.testing.assert_close(model(tokens), model(tokens, wanted), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_future_is_not_seen_and_the_window_bounds_the_past() -> None:
    """Through two blocks with a window of 3 a position hears of 4 before it: 2 and 2 again."""
    tokens = token_ids(rows=1, length=12, vocabulary=VOCABULARY)
    changed = tokens.clone()
    changed[0, 5] = (changed[0, 5] + 1) % VOCABULARY
    for options, last in (({"window": 3}, 9), ({"window": 3, "window_from": 1}, 11), ({}, 11)):
        model = randomise(llama.build(text(), VOCABULARY, depth=2, **options))
        differs = (model(tokens) - model(changed)).abs().amax(dim=-1)[0] > 1e-4
        assert differs.nonzero().flatten().tolist() == list(range(5, last + 1))


@torch.no_grad()
def test_gpt2_refuses_more_tokens_than_positions() -> None:
    model = randomise(gpt2.build(text(length=6), VOCABULARY, depth=1))
    tokens = token_ids(rows=2, length=7, vocabulary=VOCABULARY)
    for inside in (None, inside_of([7, 3], 7), inside_of([7, 3], 7, left=True)):
        with pytest.raises(UserError, match="6 tokens at most; found 7"):
            model(tokens, inside)
    with pytest.raises(UserError, match="6 tokens at most; found 7"):
        gpt2.build(text("tokens", length=6), 3, depth=1)(tokens)
    for left in (False, True):  # padding alone may be more
        inside = inside_of([6, 6], 7, left=left)
        kept = slice(1, 7) if left else slice(0, 6)
        torch.testing.assert_close(model(tokens, inside)[:, kept], model(tokens[:, kept]), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_mixture_is_exported_for_any_number_of_rows() -> None:
    model = randomise(llama.build(text(), VOCABULARY, depth=1, experts=3))
    shapes = ({0: torch.export.Dim("rows", min=2)},)
    tokens = token_ids(rows=4, length=6, vocabulary=VOCABULARY)
    exported = torch.export.export(model, (tokens,), dynamic_shapes=shapes).module()
    other = token_ids(rows=3, length=6, vocabulary=VOCABULARY, seed=1)
    torch.testing.assert_close(exported(other), model(other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@torch.no_grad()
def test_16_bits_are_near_32(name: str) -> None:
    options = {"experts": 3, "norm_queries": True, "window": 4} if name == "llama" else {}
    model = randomise(build(name, text(), VOCABULARY, {"depth": 1} | options))
    tokens = token_ids(rows=2, length=9, vocabulary=VOCABULARY)
    wanted = model(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(tokens)
    narrow = model.to(torch.bfloat16)(tokens)
    for found in (mixed, narrow):
        assert found.dtype == torch.bfloat16
        # Now and then the router's second choice is another: the typical error counts, not the largest.
        assert float((found.float() - wanted).abs().median()) < 0.02 * float(wanted.std())


def test_every_mixture_has_a_loss_to_collect() -> None:
    model = llama.build(text(), VOCABULARY, depth=2, experts=3, balance=1.0).train()
    model(token_ids(rows=2, length=6, vocabulary=VOCABULARY))
    losses = [part.auxiliary_loss() for part in model.modules() if hasattr(part, "auxiliary_loss")]
    assert len(losses) == 2
    torch.stack(losses).sum().backward()
    assert all(m.router.weight.grad.any() for m in model.modules() if isinstance(m, MixtureOfExperts))


@pytest.mark.parametrize(
    ("module", "options", "told"),
    [
        (gpt2, {"size": "gpt2-larg"}, "Did you mean 'gpt2-large'"),
        (llama, {"size": "smollm2"}, "Did you mean 'smollm2"),
        (gpt2, {"width": 10, "heads": 3}, r"model.heads=3: expected a divisor of the width, 10. Type model.heads="),
        (llama, {"width": 10, "heads": 3}, "model.heads=3"),
        (llama, {"heads": 4, "key_heads": 3}, r"a divisor of the 4 heads. Type model.key_heads=2\."),
        (llama, {"head_width": 7}, "model.head_width=7: expected an even number.* Type model.head_width=8"),
        (llama, {"window": -1}, "model.window=-1"),
        (llama, {"window": 4, "window_from": -3}, "model.window_from=-3"),
        (llama, {"experts": -1}, "model.experts=-1: expected 0 or more"),
        (llama, {"norm_eps": -1.0}, "model.norm_eps=-1.0"),
        (llama, {"rope_base": -1.0}, "model.rope_base=-1.0"),
        (llama, {"rope_scaling": "linear", "rope_factor": 0.0}, "model.rope_factor=0.0"),
        (llama, {"rope_scaling": "llama3", "rope_low": 4.0, "rope_high": 4.0}, "less than model.rope_high=4.0"),
        (llama, {"rope_scaling": "yarn"}, "model.rope_scaling=yarn"),
        (llama, {"experts": 2, "experts_used": 3}, "model.experts_used=3"),
        (gpt2, {"depth": 0}, "model.depth=0"),
        (gpt2, {"norm_eps": -1.0}, "model.norm_eps=-1.0"),
        (gpt2, {"dropout": 1.0}, "model.dropout=1.0"),
        (gpt2, {"activation": "gelutanh"}, "Did you mean 'gelu_tanh'"),
    ],
)
def test_bad_options_are_refused_by_name(module: ModuleType, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        module.build(text(), VOCABULARY, **options)


LLAMA_CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 9,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}


def test_old_and_new_ways_to_write_rotation_are_read_alike() -> None:
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
    old = {"rope_theta": 5e5, "rope_scaling": {"type": "llama3", **scaling}}
    new = {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **scaling}}
    found = [llama_weights.read(LLAMA_CONFIG | rope).options for rope in (old, new)]
    assert found[0] == found[1]
    assert found[0]["rope_base"] == 5e5
    assert found[0]["rope_length"] == 16


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_type 'yarn'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor=0.5"),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}}}, "full_attention apart"),
        ({"is_causal": False}, "is_causal=False"),
        ({"architectures": ["LlamaForTokenClassification"]}, "LlamaForTokenClassification"),
        ({"hidden_act": "xielu"}, "xielu"),
        ({"model_type": "mistral", "architectures": ["MistralModel"], "attention_bias": True}, "attention_bias=True"),
        (
            {"model_type": "qwen3", "architectures": ["Qwen3Model"], "use_sliding_window": True, "sliding_window": 4}
            | {"layer_types": ["sliding_attention", "full_attention"]},
            "with and without a window",
        ),
    ],
)
def test_settings_that_we_lack_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        llama_weights.read(LLAMA_CONFIG | settings)


@pytest.mark.parametrize(
    ("kind", "said", "key_heads"),
    [
        ("llama", {}, 16),
        ("mistral", {}, 8),
        ("mixtral", {}, 8),
        ("qwen2", {}, 32),
        ("mistral", {"num_key_value_heads": None}, 16),
        ("qwen3", {"num_key_value_heads": 4}, 4),
    ],
)
def test_heads_of_keys_that_nobody_names_are_not_null(kind: str, said: dict[str, Any], key_heads: int) -> None:
    config = LLAMA_CONFIG | {"model_type": kind, "hidden_size": 64, "num_attention_heads": 16, "architectures": None}
    assert llama_weights.read(config | said).options["key_heads"] == key_heads


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, "llama"),
        ({"window": 4}, "mistral"),
        ({"query_bias": True}, "qwen2"),
        ({"norm_queries": True}, "qwen3"),
        ({"experts": 4}, "mixtral"),
        ({"query_bias": True, "output_bias": True}, "llama"),
    ],
)
def test_layout_follows_from_what_a_model_has(options: dict[str, Any], kind: str) -> None:
    sizes = {"depth": 1, "width": 8, "heads": 2, "key_heads": 1, "head_width": 4, "hidden": 12}
    blueprint = Blueprint("llama", text(), VOCABULARY, sizes | options)
    config = llama_weights.write(blueprint)
    assert config["model_type"] == kind
    assert sizes.items() | options.items() <= llama_weights.read(config).options.items()
    model = build(blueprint.model, blueprint.inputs, blueprint.outputs, blueprint.options)
    assert set(llama_weights.names(blueprint)) == set(model.state_dict())


def test_what_a_layout_cannot_say_is_refused(tmp_path: Path) -> None:
    sizes = {"depth": 1, "width": 8, "heads": 2, "key_heads": 1, "head_width": 4, "hidden": 12}
    both = Blueprint("llama", text(), VOCABULARY, sizes | {"norm_queries": True, "experts": 2})
    with pytest.raises(UserError, match="mixtral cannot say norm_queries=True"):
        save_pretrained(build("llama", text(), VOCABULARY, both.options), both, tmp_path / "there")
    sizes = {"depth": 1, "width": 8, "heads": 2, "hidden": 32}
    with pytest.raises(UserError, match="always has biases"):
        gpt2_weights.write(Blueprint("gpt2", text(), VOCABULARY, sizes | {"bias": False}))
    with pytest.raises(UserError, match="has 3 outputs"):
        gpt2_weights.write(Blueprint("gpt2", text(), 3, sizes))
