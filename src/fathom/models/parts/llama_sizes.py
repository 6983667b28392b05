"""Published models of the Llama family, as options of models/llama.py. What is not said here is its default.

The figures are those of the papers' tables and of the published config.json files. What a reader would get wrong: the
vocabulary is no part of a size. It belongs to the input, and with it go the published numbers of parameters; the
published ones stand beside.

    >>> SIZES["smollm2-135m"]["depth"]
    30
"""

from __future__ import annotations

from typing import Any

_LLAMA_3: dict[str, Any] = {"rope_base": 500_000.0, "norm_eps": 1e-5}
_QWEN_2: dict[str, Any] = {"rope_base": 1_000_000.0, "query_bias": True}
_QWEN_3: dict[str, Any] = {"rope_base": 1_000_000.0, "norm_queries": True, "head_width": 128}

SIZES: dict[str, dict[str, Any]] = {
    # arXiv:2302.13971, table 2
    "llama-7b": {"depth": 32, "width": 4096, "heads": 32, "hidden": 11008, "tied": False},
    # arXiv:2407.21783, table 3
    "llama-3-8b": _LLAMA_3 | {"depth": 32, "width": 4096, "heads": 32, "key_heads": 8, "hidden": 14336, "tied": False},
    "llama-3.2-1b": _LLAMA_3
    | {"depth": 16, "width": 2048, "heads": 32, "key_heads": 8, "hidden": 8192}
    | {"rope_scaling": "llama3", "rope_factor": 32.0},
    # arXiv:2310.06825, table 1
    "mistral-7b": {"depth": 32, "width": 4096, "heads": 32, "key_heads": 8, "hidden": 14336, "tied": False}
    | {"norm_eps": 1e-5, "window": 4096},
    # arXiv:2401.04088, table 1
    "mixtral-8x7b": {"depth": 32, "width": 4096, "heads": 32, "key_heads": 8, "hidden": 14336, "tied": False}
    | {"norm_eps": 1e-5, "rope_base": 1_000_000.0, "experts": 8, "experts_used": 2, "balance": 0.02},
    # arXiv:2502.02737
    "smollm2-135m": {"depth": 30, "width": 576, "heads": 9, "key_heads": 3, "hidden": 1536}
    | {"norm_eps": 1e-5, "rope_base": 100_000.0},
    "smollm2-360m": {"depth": 32, "width": 960, "heads": 15, "key_heads": 5, "hidden": 2560}
    | {"norm_eps": 1e-5, "rope_base": 100_000.0},
    "smollm2-1.7b": {"depth": 24, "width": 2048, "heads": 32, "hidden": 8192}
    | {"norm_eps": 1e-5, "rope_base": 130_000.0},
    # arXiv:2407.10671, table 1
    "qwen2-0.5b": _QWEN_2 | {"depth": 24, "width": 896, "heads": 14, "key_heads": 2, "hidden": 4864},
    "qwen2-1.5b": _QWEN_2 | {"depth": 28, "width": 1536, "heads": 12, "key_heads": 2, "hidden": 8960},
    # arXiv:2505.09388, table 1
    "qwen3-0.6b": _QWEN_3 | {"depth": 28, "width": 1024, "heads": 16, "key_heads": 8, "hidden": 3072},
    "qwen3-1.7b": _QWEN_3 | {"depth": 28, "width": 2048, "heads": 16, "key_heads": 8, "hidden": 6144},
}

VOCABULARIES: dict[str, int] = dict.fromkeys(SIZES, 32_000)
VOCABULARIES |= {size: 128_256 for size in SIZES if size.startswith("llama-3")}
VOCABULARIES |= {size: 49_152 for size in SIZES if size.startswith("smollm2")}
VOCABULARIES |= {size: 151_936 for size in SIZES if size.startswith("qwen")}
