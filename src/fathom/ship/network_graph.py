"""A network of a run, with all its members, as one program: from encoded inputs to probabilities or numbers.

Scaling, views of pictures, the reading of the outputs and the mean over members are inside. What a reader would get
wrong: the example that is traced has three rows and texts of a few tokens, yet the program holds for any number of
rows and any length.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.batches import Tensors
from fathom.data import Examples
from fathom.errors import UserError
from fathom.network import Network
from fathom.ship.standalone.predictor import input_names

ROWS = 3  # of the example that is traced: 1 could be taken for a constant
OPSET = 20
OUTPUT = "answers"
MOST_UNROLLED = 64  # tokens: a graph with the steps of longer texts one by one would be too large
CPU = torch.device("cpu")


class Answers(nn.Module):
    """The members' mean: probabilities float64 [N, C], numbers [N], or numbers with their ends [N, 3]."""

    def __init__(self, networks: Sequence[Network], names: Sequence[str]) -> None:
        super().__init__()
        self.models = nn.ModuleList(network.model for network in networks)
        self.networks, self.names = list(networks), list(names)

    def forward(self, *inputs: Tensor) -> Tensor:
        given = inputs[0] if len(inputs) == 1 else dict(zip(self.names, inputs, strict=True))
        found = [network.decoded(given) for network in self.networks]
        return torch.stack(found).mean(dim=0) if len(found) > 1 else found[0]


def traced(networks: Sequence[Network], examples: Examples, name: str) -> tuple[torch.export.ExportedProgram, bool]:
    """The program for any number of rows, traced on some of the examples, and whether it reads texts whole only.

    Raises UserError where torch.export cannot follow the model `name`.
    """
    lengths = [about["length"] for about in examples.about.values() if about["form"] == "tokens"]
    try:
        return _traced(networks, examples, {}), False
    except Exception as error:
        # Recurrent layers are traced step by step, for one length: texts are then padded to their longest.
        if not lengths or max(lengths) > MOST_UNROLLED:
            raise UserError(_refusal(name, error)) from error
    try:
        whole = {one: about["length"] for one, about in examples.about.items() if about["form"] == "tokens"}
        return _traced(networks, examples, whole), True
    except Exception as error:
        raise UserError(_refusal(name, error)) from error


def _traced(networks: Sequence[Network], examples: Examples, whole: Mapping[str, int]) -> torch.export.ExportedProgram:
    """Texts named in `whole` have that length; others any."""
    names = list(examples.inputs)
    gathered = Tensors(examples, CPU).gather(np.resize(np.arange(len(examples)), ROWS))
    inputs = [gathered] if isinstance(gathered, Tensor) else [gathered[one] for one in names]
    shapes: list[dict[int, Any]] = [{0: torch.export.Dim.DYNAMIC} for _ in names]
    for place, name in enumerate(names):
        if examples.about[name]["form"] == "tokens":
            # A text of one token would be traced as if all had one.
            longer = whole.get(name, 3) - inputs[place].shape[1]
            inputs[place] = F.pad(inputs[place], (0, max(0, longer)))
            shapes[place] |= {} if name in whole else {1: torch.export.Dim.DYNAMIC}
    model = Answers([_on_cpu(network) for network in networks], names).eval()
    with torch.no_grad(), _quiet():
        return torch.export.export(model, tuple(inputs), dynamic_shapes=(tuple(shapes),))


def save(program: torch.export.ExportedProgram, path: Path) -> None:
    """The program as a .pt2 file, which torch.export.load reads."""
    with _quiet():
        torch.export.save(program, path)


def as_onnx(program: torch.export.ExportedProgram, examples: Examples, name: str) -> bytes:
    """The program as an ONNX model. Raises UserError where an operation has no counterpart."""
    try:
        with _quiet():
            found = torch.onnx.export(
                program.run_decompositions(IN_DOUBLE),
                dynamo=True,
                opset_version=OPSET,
                input_names=input_names(examples),
                output_names=[OUTPUT],
                verbose=False,
            )
    except Exception as error:
        raise UserError(_refusal(name, error)) from error
    assert found is not None, "dynamo=True gives a program"
    return bytes(found.model_proto.SerializeToString())


def _on_cpu(network: Network) -> Network:
    network.model.to(CPU)
    network.device = CPU
    return network


def _refusal(name: str, error: Exception) -> str:
    while error.__cause__ is not None:  # the outer ones say only how far it came
        error = error.__cause__  # type: ignore[assignment]
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return (
        f"'{name}' cannot be exported: PyTorch's exporter does not follow it ({first[:200]}). Export another model of "
        "the run with --model NAME; boosted trees, linear models and the networks that Fathom chooses by itself can be."
    )


def _softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    return (torch.relu(beta * x) + torch.log1p(torch.exp(-(beta * x).abs()))) / beta


# What ONNX Runtime has in float32 only, in terms of what it has in float64.
IN_DOUBLE = {torch.ops.aten.softplus.default: _softplus}


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters tell of every step; what matters is compared afterwards."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
