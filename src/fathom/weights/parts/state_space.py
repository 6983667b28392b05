"""Names that Mamba's layer has in the other library's files, alone (mamba.py) and among others (jamba.py).

What a reader would get wrong: the settings that say how weights start (`time_step_*`, `initializer_range`,
`rescale_prenorm_residual`) and how they are computed (`residual_in_fp32`, `use_mambapy`, `chunk_size`) change no answer
of trained weights, so nothing here reads them.

    >>> selective_names(bias=False, conv_bias=True, norms=False)["log_decay"]
    'A_log'
"""

from __future__ import annotations

from fathom.errors import UserError
from fathom.weights.parts.blueprint import Blueprint


def selective_names(*, bias: bool, conv_bias: bool, norms: bool) -> dict[str, str]:
    """Ours → theirs, within one layer."""
    found = {
        "project_in.weight": "in_proj.weight",
        "conv.weight": "conv1d.weight",
        "select.weight": "x_proj.weight",
        "step.weight": "dt_proj.weight",
        "step.bias": "dt_proj.bias",
        "log_decay": "A_log",
        "skip": "D",
        "project_out.weight": "out_proj.weight",
    }
    if conv_bias:
        found["conv.bias"] = "conv1d.bias"
    if bias:
        found |= {"project_in.bias": "in_proj.bias", "project_out.bias": "out_proj.bias"}
    if norms:
        found |= {
            "step_norm.weight": "dt_layernorm.weight",
            "input_norm.weight": "b_layernorm.weight",
            "output_norm.weight": "c_layernorm.weight",
        }
    return found


def refuse_classifier(blueprint: Blueprint) -> None:
    if blueprint.form == "tokens":
        raise UserError(
            f"{blueprint.model} has no classifier in this layout, only a language model. This one can be kept in a run "
            "folder."
        )
