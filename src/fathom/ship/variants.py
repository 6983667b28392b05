"""Smaller weights of an exported network, with what they cost in the run's metric and bring in speed, measured.

fp16 and bf16 are how weights are kept; they are widened again when the model is loaded, so that the file is half as
large and no slower. int8 is ONNX Runtime's dynamic quantisation: it also computes with integers. What a reader would
get wrong: whether that is quicker depends on the processor and on the layers, so it is timed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fathom.candidates import seconds_per_row
from fathom.data import Examples, Table
from fathom.errors import UserError
from fathom.reference import spaced
from fathom.rooms import find
from fathom.ship.predict import Model
from fathom.ship.standalone import predictor as standalone
from fathom.show import shown

MOST_LOSS = 0.005  # of the metric
MOST_ROWS = 5_000
SMALLEST = 1_024  # numbers: smaller tensors are scales and edges, and save nothing
LARGEST = {"fp16": 65_504.0, "bf16": np.inf}
Say = Callable[[str, str], None]


class Opened:
    """An export as something that predicts encoded rows."""

    def __init__(self, folder: Path) -> None:
        self.predictor = standalone.Predictor(folder)

    def predict(self, examples: Examples) -> np.ndarray:
        """Probabilities [N, C], or numbers [N]."""
        parts = np.array_split(np.arange(len(examples)), max(1, len(examples) // standalone.ROWS_AT_A_TIME))
        raw = np.concatenate([self.predictor.raw(examples.take(rows)) for rows in parts])
        return raw[:, 0] if raw.ndim == 2 and not self.predictor.classes else raw


def make_variant(
    folder: Path,
    model: Model,
    models: Sequence[dict[str, Any]],
    table: Table,
    is_test: bool,
    weights: str,
    most_loss: float | None,
    say: Say,
) -> dict[str, Any]:
    """Write the networks' weights anew in `folder`, and what was measured before and after.

    Raises UserError where there is no network, no row with a target, or more is lost than `most_loss`, a share of the
    metric (MOST_LOSS).
    """
    files = [folder / one["file"] for one in models if one.get("reads") in ("inputs", "whole texts")]
    if not files:
        raise UserError(f"weights={weights} is for networks, and {models[0]['name']} is none. Leave it out.")
    examples, targets = _labelled(model, table)
    measure = find("measures", model.metrics["metric"])
    before = _measured(folder, examples, targets, measure)
    size = sum(file.stat().st_size for file in files)
    try:
        for file in files:
            (_to_int8 if weights == "int8" else _to_halves)(file, weights)
        after = _measured(folder, examples, targets, measure)
    except Exception as error:
        raise UserError(
            f"ONNX Runtime makes no {weights} weights of this network that it can run: {str(error)[:300]} "
            "Choose others, such as --weights fp16."
        ) from error
    worse = (before[0] - after[0]) * (1 if measure.HIGHER_IS_BETTER else -1)
    share = max(0.0, worse) / max(abs(before[0]), 1e-12)
    smaller = size / sum(file.stat().st_size for file in files)
    told = (
        f"{weights} weights: {measure.LABEL} {shown(measure, after[0])} instead of {shown(measure, before[0])} on "
        f"{len(targets):,} {'test' if is_test else 'given'} rows; {before[1] / after[1]:.2f} times as fast, "
        f"{smaller:.2f} times smaller"
    )
    say("Weights", told)
    allowed = MOST_LOSS if most_loss is None else most_loss
    if not share <= allowed:
        raise UserError(
            f"The export was not written: {told}. That costs {share:.2%} of the metric, where {allowed:.2%} is "
            f"allowed. Allow it with --most-loss {share + 0.001:.3f}, or keep another kind of weights."
        )
    return {
        "kind": weights, "metric": model.metrics["metric"], "rows": len(targets), "test_rows": is_test,
        "before": before[0], "after": after[0], "loss_share": share, "speed_ratio": before[1] / after[1],
        "size_ratio": smaller, "told": told + ".",
    }  # fmt: skip


def _labelled(model: Model, table: Table) -> tuple[Examples, np.ndarray]:
    target = model.task.target
    rows = np.empty(0, np.int64)
    if target in table.columns:
        targets, known = model.targets(table.columns[target])
        rows = spaced(np.flatnonzero(known), MOST_ROWS)
    if not len(rows):
        raise UserError(
            f"What smaller weights cost is measured on rows with a known '{target}': give some, --rows DATA."
        )
    return model.examples(table.take(rows)), targets[rows]


def _measured(folder: Path, examples: Examples, targets: np.ndarray, measure: Any) -> tuple[float, float]:
    """The metric, and seconds that a row takes."""
    opened = Opened(folder)
    return float(measure.measure(opened.predict(examples), targets)), seconds_per_row(opened, examples)


def _to_int8(file: Path, kind: str) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(str(file))
    graph = model.graph
    # What the exporter noted of shapes in between does not hold for the nodes that are put in.
    del graph.value_info[:]
    onnx.save(model, str(file))
    dimensions = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    has_convolutions = any(node.op_type == "Conv" for node in graph.node)
    # ONNX Runtime multiplies stacks of matrices by one scale only, and folds integers that have no sign.
    stacks = [node.name for node in graph.node if node.op_type == "MatMul" and dimensions.get(node.input[1], 0) > 2]
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it advises to prepare the model, which the exporter has done
    try:
        quantize_dynamic(
            str(file),
            str(file),
            weight_type=QuantType.QUInt8 if has_convolutions else QuantType.QInt8,
            per_channel=not has_convolutions,
            nodes_to_exclude=stacks,
        )
    finally:
        logging.root.setLevel(level)


def _to_halves(file: Path, kind: str) -> None:
    """Large float32 weights as 16 bits, each widened by a node of its own."""
    import ml_dtypes
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(file))
    half = np.dtype(np.float16 if kind == "fp16" else ml_dtypes.bfloat16)
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < SMALLEST or np.abs(values).max() > LARGEST[kind]:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(half), f"{name} in 16 bits"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    onnx.checker.check_model(model)
    onnx.save(model, str(file))
