"""GGUF files: every quantization, tokenizers, and what is said of files that cannot be read."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from fathom.errors import UserError
from fathom.gguf_file import read_gguf
from fathom.gguf_tokenizer import CUTTINGS
from fathom.network import build
from fathom.pretrained import from_pretrained
from fathom.weights import llama
from fathom.weights.parts import llama_gguf
from fathom.weights.parts.blueprint import Blueprint

gguf = pytest.importorskip("gguf")

from tests.parity.gguf_files import Kind, as_neighbours, stored  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*holds no tokenizer")

WIDTH = 256  # the K-quants have blocks of 256 weights
SETTINGS: dict[str, Any] = {
    "block_count": 1,
    "context_length": 32,
    "embedding_length": WIDTH,
    "feed_forward_length": WIDTH,
    "head_count": 4,
    "head_count_kv": 2,
    "layer_norm_rms_eps": 1e-5,
}
MATRICES = {
    "token_embd": (8, WIDTH),
    "blk.0.attn_q": (WIDTH, WIDTH),
    "blk.0.attn_k": (WIDTH // 2, WIDTH),
    "blk.0.attn_v": (WIDTH // 2, WIDTH),
    "blk.0.attn_output": (WIDTH, WIDTH),
    "blk.0.ffn_gate": (WIDTH, WIDTH),
    "blk.0.ffn_up": (WIDTH, WIDTH),
    "blk.0.ffn_down": (WIDTH, WIDTH),
}
NORMS = ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm")
FLAT = ("rope_freqs.weight", np.ones(32, np.float32))  # frequencies that are left as they are


def file_of(
    path: Path,
    *,
    architecture: str = "llama",
    kind: Any = Kind.F32,
    without: tuple[str, ...] = (),
    more: Callable[[Any], None] = lambda writer: None,
    **changes: Any,
) -> Path:
    """A small file of a llama with one block. `without` leaves out settings and tensors by name."""
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in (SETTINGS | changes).items():
        if name not in without:
            getattr(writer, f"add_{name}")(value)
    more(writer)
    for name, blocks in matrices(kind).items():
        if name not in without:
            writer.add_tensor(f"{name}.weight", blocks, raw_dtype=kind)
    for name in NORMS:
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def matrices(kind: Any) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: stored(random.normal(size=shape).astype(np.float32), kind) for name, shape in MATRICES.items()}


KINDS = [Kind.F32, Kind.F16, Kind.BF16, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0]
KINDS += [Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_quantization_is_read_as_its_package_dequantizes_it(kind: Any, tmp_path: Path) -> None:
    found = from_pretrained(file_of(tmp_path / "model.gguf", kind=kind)).model.state_dict()
    expected = {name: gguf.dequantize(blocks, kind) for name, blocks in matrices(kind).items()}
    assert all(np.isfinite(values).all() and values.std() > 0 for values in expected.values())
    for ours, theirs in (("perceptron.gate", "blk.0.ffn_gate"), ("attention.value", "blk.0.attn_v")):
        assert np.array_equal(found[f"blocks.0.{ours}.weight"].numpy(), expected[theirs])
    assert np.array_equal(found["embed.weight"].numpy(), expected["token_embd"])
    for ours, theirs, heads in (("query", "blk.0.attn_q", 4), ("key", "blk.0.attn_k", 2)):
        assert np.array_equal(
            as_neighbours(found[f"blocks.0.attention.{ours}.weight"].numpy(), heads), expected[theirs]
        )
    assert all(tensor.dtype == torch.float32 for tensor in found.values())


def test_a_tensor_is_dequantized_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file_of(tmp_path / "model.gguf", kind=Kind.Q8_0)
    tensors = read_gguf(path).tensors
    asked = []
    monkeypatch.setattr("gguf.dequantize", lambda data, kind: asked.append(kind) or np.zeros((1, 1)))
    assert "token_embd.weight" in tensors and len(tensors) == len(MATRICES) + len(NORMS) and not asked
    assert tensors["token_embd.weight"].shape == (1, 1) and len(asked) == 1


def said(**values: Any) -> Callable[[Any], None]:
    def add(writer: Any) -> None:
        for name, value in values.items():
            key = name.replace("__", ".")
            kind = {bool: "bool", int: "uint32", float: "float32", str: "string", list: "array"}[type(value)]
            getattr(writer, f"add_{kind}")(key, value)

    return add


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"architecture": "gemma"}, "architecture 'gemma'"),
        ({"without": ("block_count",)}, r"\(llama\) does not say 'block_count'"),
        ({"without": ("blk.0.attn_k",)}, r"1 missing \(blk.0.attn_k.weight\)"),
        ({"architecture": "qwen2"}, r"3 missing \(blk.0.attn_q.bias"),
        ({"head_count_kv": [2, 4]}, r"attention.head_count_kv=\[2, 4\]; expected one number"),
        ({"feed_forward_length": 128}, r"ffn_gate.weight in .* has the shape \[256, 256\]; its settings ask for"),
        ({"head_count_kv": 1}, r"attn_k.weight in .* has the shape"),
        ({"more": said(llama__rope__scaling__type="yarn")}, "rope.scaling.type=yarn"),
        ({"more": said(llama__rope__dimension_count=32)}, "rope.dimension_count=32"),
        ({"more": lambda w: said(llama__rope__scaling__factor=2.0)(w) or w.add_tensor(*FLAT)}, "positions twice"),
        ({"more": said(llama__attention__causal=False)}, "attention.causal=False"),
        ({"more": said(llama__logit_scale=0.5)}, "logit_scale=0.5"),
        ({"more": said(split__count=3, split__no=1)}, "part 2 of 3"),
        ({"more": lambda w: w.add_tensor("stranger", np.ones(4, np.float32))}, r"1 left over \(stranger\)"),
        ({"more": lambda w: w.add_tensor("rope_freqs.weight", np.ones(32, np.float32) * 3)}, "not that of Llama 3"),
        ({"more": lambda w: w.add_tensor("stranger", np.ones(4, np.int32))}, "type I32"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        from_pretrained(file_of(tmp_path / "model.gguf", **changes))


@pytest.mark.parametrize(
    ("settings", "scaling", "factor"),
    [
        ({"factor": 2.0}, "linear", 2.0),  # without a type, llama.cpp takes the linear one
        ({"type": "linear", "factor": 2.0}, "linear", 2.0),
        ({"type": "none", "factor": 2.0}, "none", None),
        ({"type": "linear"}, "none", None),
        ({}, "none", None),
    ],
)
def test_a_factor_alone_scales_the_positions(
    settings: dict[str, Any], scaling: str, factor: float | None, tmp_path: Path
) -> None:
    more = said(**{f"llama__rope__scaling__{name}": value for name, value in settings.items()})
    options = from_pretrained(file_of(tmp_path / "model.gguf", more=more)).blueprint.options
    assert (options["rope_scaling"], options.get("rope_factor")) == (scaling, factor)


def test_an_expert_is_dequantized_without_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(4, 8, WIDTH)).astype(np.float32)
    add = lambda w: w.add_tensor("blk.0.ffn_up_exps.weight", stored(values, Kind.Q8_0), raw_dtype=Kind.Q8_0)  # noqa: E731
    tensors = read_gguf(file_of(tmp_path / "model.gguf", more=add)).tensors
    whole = tensors["blk.0.ffn_up_exps.weight"]
    blueprint = Blueprint("llama", {}, 8, {"experts": 4, "heads": 4, "key_heads": 2})
    cut = llama_gguf.tidied(tensors, blueprint)
    sizes: list[int] = []
    dequantize = gguf.dequantize
    monkeypatch.setattr("gguf.dequantize", lambda data, kind: sizes.append(data.size) or dequantize(data, kind))
    for number in range(4):
        assert torch.equal(cut[f"blk.0.ffn_up.{number}.weight"], whole[number])
    assert sum(sizes) == stored(values, Kind.Q8_0).size


def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    """Also within the head of the file, whose reader answers with whatever fails first."""
    whole = file_of(
        tmp_path / "model.gguf", kind=Kind.Q4_0, more=vocabulary(trained("gpt-2"), pre="gpt-2")
    ).read_bytes()
    path = tmp_path / "cut.gguf"
    for length in [0, 3, 4, 6, 20, 30, 100, 300, *range(700, len(whole) - 32, 9_001)]:
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.gguf"):
            from_pretrained(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("Once upon a time there was a file.")
    for name in ("text.gguf", "absent.gguf"):
        with pytest.raises(UserError, match=name):
            from_pretrained(tmp_path / name)
    file_of(tmp_path / "one.gguf")
    with pytest.raises(UserError, match="holds 2 .gguf files"):
        from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="model_type"):
        from_pretrained(tmp_path)


def test_a_file_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    path = file_of(tmp_path / "model.gguf").rename(tmp_path / "sha256-1234")
    assert from_pretrained(path).blueprint.model == "llama"


def test_without_the_package_the_error_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file_of(tmp_path / "model.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"pip install 'fathom-dl\[gguf\]'"):
        from_pretrained(path)


def test_the_blueprint_is_the_one_of_the_hubs_folder(tmp_path: Path) -> None:
    loaded = from_pretrained(file_of(tmp_path / "model.gguf", more=said(llama__rope__freq_base=5e5)))
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 8,
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32,
        "rms_norm_eps": 1e-5,
        "rope_theta": 5e5,
        "tie_word_embeddings": True,
    }
    assert loaded.blueprint == llama.read(config)
    again = build("llama", loaded.blueprint.inputs, 8, loaded.blueprint.options)
    assert again.state_dict().keys() == loaded.model.state_dict().keys()


CORPUS = [
    "The quick brown fox jumps over the lazy dog, 12345 times in 1999 or 2024.",
    "It's what we'd've said: don't! I'LL see you at 10:30, naïve café, Grüße.",
    "def add(a, b):\n    return a + b\n\n\nprint(add(1, 22))  # 333\r\n\tdone",
    "日本語のテキスト русский текст ١٢٣ ½ ²³ 🙂👩‍👩‍👧",
] * 3
VARIED = [
    *CORPUS[:4],
    "<|start|>quick<|end|> <think> fox</think>",
    "  two   spaces\n\n\n  and lines \u00a0\u2003 x  ",
    "e\u0301 cafe\u0301 A\u030a",
    "1234567 12 3.14159 x1y22z333",
    "THE'LL we'Re 'S a zebra",
    "",
]
# As in the published tokenizer.json of GPT-2, SmolLM2, Llama 3 and Qwen2.
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN_2 = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")


LIKE_LLAMA = ("llama-bpe", "llama-v3", "llama3")  # one rule under three names


def cutting(name: str) -> Any:
    if name in ("gpt-2", "smollm"):
        whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        digits = pre_tokenizers.Digits(individual_digits=True)
        return whole if name == "gpt-2" else pre_tokenizers.Sequence([digits, whole])
    pattern = LLAMA_3 if name in LIKE_LLAMA else QWEN_2
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def trained(name: str) -> Tokenizer:
    """A small tokenizer of that kind, with two control tokens and one that is matched whole.

    Its merges come from texts that were cut as GPT-2's are, so that every other rule forbids some of them, and no merge
    leads to one of its words.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = cutting("gpt-2")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|start|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    described = json.loads(tokenizer.to_str())
    described["model"]["vocab"]["Ġzebra"] = tokenizer.get_vocab_size()
    described["model"]["ignore_merges"] = name in LIKE_LLAMA
    tokenizer = Tokenizer.from_str(json.dumps(described))
    tokenizer.pre_tokenizer = cutting(name)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    if name == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    return tokenizer


def vocabulary(tokenizer: Tokenizer, *, pre: str | None, **changes: Any) -> Callable[[Any], None]:
    """What the converter writes of a tokenizer."""
    tokens = [tokenizer.id_to_token(place) for place in range(tokenizer.get_vocab_size())]
    merges = [" ".join(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]
    kinds = [{"<|start|>": 3, "<|end|>": 3, "<think>": 4}.get(token, 1) for token in tokens]
    found: dict[str, Any] = {"tokenizer__ggml__model": "gpt2", "tokenizer__ggml__tokens": tokens}
    found |= {"tokenizer__ggml__merges": merges, "tokenizer__ggml__token_type": kinds}
    found |= {"tokenizer__ggml__bos_token_id": 0, "tokenizer__ggml__eos_token_id": 1}
    found |= {} if pre is None else {"tokenizer__ggml__pre": pre}
    return said(**{name: value for name, value in (found | changes).items() if value is not None})


@pytest.mark.parametrize("name", CUTTINGS)
def test_the_tokenizer_inside_cuts_texts_as_the_one_it_was_made_from(name: str, tmp_path: Path) -> None:
    tokenizer = trained(name)
    starts = {"tokenizer__ggml__add_bos_token": False} if name in LIKE_LLAMA else {}
    path = file_of(tmp_path / "model.gguf", more=vocabulary(tokenizer, pre=name, **starts))
    loaded = from_pretrained(path)
    assert loaded.notes == ()
    for text in VARIED:
        found, expected = loaded.tokenizer.encode(text), tokenizer.encode(text)
        assert (found.ids, found.offsets) == (expected.ids, expected.offsets), text
        assert loaded.tokenizer.decode(found.ids) == tokenizer.decode(expected.ids)
    saved = loaded.save_pretrained(tmp_path / "there")
    assert from_pretrained(saved).tokenizer.encode(VARIED[1]).ids == tokenizer.encode(VARIED[1]).ids


def test_every_rule_cuts_these_texts_in_its_own_way() -> None:
    """Else the test before this one could not tell one rule from another."""
    found = {}
    for name in ("gpt-2", "smollm", "llama-bpe", "qwen2", "deepseek-r1-qwen"):
        tokenizer = trained(name)
        found[name] = str([tokenizer.encode(text).ids for text in VARIED])
    assert len(set(found.values())) == 5


@pytest.mark.parametrize(
    ("pre", "settings", "start", "end"),
    [
        ("llama-bpe", {}, [0], []),
        ("llama-bpe", {"add_bos_token": False}, [], []),
        ("smollm", {}, [], []),
        ("smollm", {"add_bos_token": True, "add_eos_token": True}, [0], [1]),
    ],
)
def test_tokens_at_start_and_end_as_the_file_wants_them(
    pre: str, settings: dict[str, bool], start: list[int], end: list[int], tmp_path: Path
) -> None:
    changes = {f"tokenizer__ggml__{name}": value for name, value in settings.items()}
    path = file_of(tmp_path / "model.gguf", more=vocabulary(trained(pre), pre=pre, **changes))
    tokenizer = from_pretrained(path).tokenizer
    plain = tokenizer.encode("quick", add_special_tokens=False).ids
    assert tokenizer.encode("quick").ids == [*start, *plain, *end]
    assert tokenizer.encode("quick", "quick").ids == [*start, *plain, *end, *start, *plain, *end]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("more", "told", "there"),
    [
        (lambda: vocabulary(trained("gpt-2"), pre="chameleon"), "rule 'chameleon', which is not known", False),
        (lambda: said(tokenizer__ggml__model="llama"), "kind 'llama', which is not read", False),
        (lambda: said(), "holds no tokenizer", False),
        (lambda: vocabulary(trained("gpt-2"), pre="default"), "They are cut as GPT-2's are", True),
        (lambda: vocabulary(trained("gpt-2"), pre=None), "They are cut as GPT-2's are", True),
    ],
)
def test_a_tokenizer_that_is_not_read_or_was_guessed_is_told_of(
    more: Callable[[], Callable[[Any], None]], told: str, there: bool, tmp_path: Path
) -> None:
    path = file_of(tmp_path / "model.gguf", more=more())
    with pytest.warns(UserWarning, match=told):
        loaded = from_pretrained(path)
    (note,) = loaded.notes
    assert told in note
    assert (loaded.tokenizer is not None) == there
    assert loaded.model(torch.tensor([[1, 2]])).shape == (1, 2, 8), "the weights are read all the same"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"merges": ["a b c"]}, "'a b c' in tokenizer.ggml.merges"),
        ({"merges": ["q zz"]}, "'q zz' in tokenizer.ggml.merges"),
        ({"tokens": ["a", "a"]}, "a token twice"),
        ({"token_type": [1, 3]}, "2 of tokenizer.ggml.token_type"),
        ({"merges": None}, "does not say 'tokenizer.ggml.merges'"),
        ({"add_bos_token": True, "bos_token_id": 9999}, "bos_token_id=9999"),
    ],
)
def test_a_tokenizer_that_contradicts_itself_is_refused(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    more = vocabulary(trained("gpt-2"), pre="gpt-2", **{f"tokenizer__ggml__{k}": v for k, v in changes.items()})
    with pytest.raises(UserError, match=told):
        from_pretrained(file_of(tmp_path / "model.gguf", more=more))
