"""Linear models and boosted trees as ONNX graphs, in float64 as they predict here.

Inputs are "numbers" float32 [N, F] with NaN where missing and "categories" int64 [N, G]; the output is probabilities
float64 [N, C] or numbers float64 [N]. What a reader would get wrong: a split of a tree by categories asks a number that
is looked up: -1 where the code belongs to the split's categories, else 0. ONNX has a split by membership, but ONNX
Runtime unrolls it, and takes seconds to load what takes tenths this way.
"""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fathom.baselines import boosted_trees, linear
from fathom.baselines.parts.linear_design import CUT
from fathom.data import Task

OPSETS = (helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 5))
IR_VERSION = 10  # what ONNX Runtime has read since 1.18
OUTPUT = "answers"
LESS_OR_EQUAL = 0  # a mode of splits
Members = list[linear.Fitted] | list[boosted_trees.Fitted]


class Graph:
    """A graph in the making: every call adds a node and gives the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any, kind: Any = np.float64) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def __call__(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], domain=domain, **attributes))
        return name

    def as_double(self, value: str) -> str:
        return self("Cast", value, to=TensorProto.DOUBLE)


def build(members: Members, task: Task, num_numbers: int, num_categories: int) -> onnx.ModelProto:
    """One graph for all members (one for each fold): the mean of what they say."""
    graph = Graph()
    found = []
    for member in members:
        add: Any = _add_linear if isinstance(member, linear.Fitted) else _add_trees
        found.append(add(graph, member, task, num_numbers, num_categories))
    # ONNX Runtime has no Mean of float64.
    answer = graph("Div", graph("Sum", *found), graph.constant(len(found))) if len(found) > 1 else found[0]
    if task.kind == "regress":
        answer = graph("Squeeze", answer, graph.constant([1], np.int64))
    answer = graph("Identity", answer)
    graph.nodes[-1].output[0] = OUTPUT
    shape: list[Any] = ["rows", task.num_outputs] if task.kind == "classify" else ["rows"]
    inputs = [helper.make_tensor_value_info("numbers", TensorProto.FLOAT, ["rows", num_numbers])] if num_numbers else []
    if num_categories:
        inputs.append(helper.make_tensor_value_info("categories", TensorProto.INT64, ["rows", num_categories]))
    outputs = [helper.make_tensor_value_info(OUTPUT, TensorProto.DOUBLE, shape)]
    whole = helper.make_graph(graph.nodes, "model", inputs, outputs, graph.constants)
    model = helper.make_model(whole, opset_imports=OPSETS, ir_version=IR_VERSION, producer_name="fathom")
    onnx.checker.check_model(model)
    return model


def _add_linear(graph: Graph, fitted: linear.Fitted, task: Task, num_numbers: int, num_categories: int) -> str:
    """`Design.matrix` times the weights, block by block."""
    design, weights, done = fitted.design, fitted.weights, 0
    terms: list[str] = []

    def block(columns: int) -> str:
        nonlocal done
        done += columns
        return graph.constant(weights[done - columns : done])

    if num_numbers:
        numbers = graph.as_double("numbers")
        missing = graph("IsNaN", numbers)
        filled = graph("Where", missing, graph.constant(design.median), numbers)
        straight = graph("Div", graph("Sub", filled, graph.constant(design.mean)), graph.constant(design.std))
        straight = graph("Max", graph("Min", straight, graph.constant(CUT)), graph.constant(-CUT))
        terms.append(graph("MatMul", straight, block(num_numbers)))
        if len(design.flagged):
            flags = graph("Gather", graph.as_double(missing), graph.constant(design.flagged, np.int64), axis=1)
            terms.append(graph("MatMul", flags, block(len(design.flagged))))
        edges = [(column, np.unique(of)) for column, of in enumerate(design.edges)]
        edges = [(column, of) for column, of in edges if len(of) > 2]
        if edges:
            of_columns = np.concatenate([np.full(len(of) - 1, column) for column, of in edges])
            below = graph("Gather", filled, graph.constant(of_columns, np.int64), axis=1)
            below = graph("Sub", below, graph.constant(np.concatenate([of[:-1] for _, of in edges])))
            below = graph("Div", below, graph.constant(np.concatenate([np.diff(of) for _, of in edges])))
            below = graph("Max", graph("Min", below, graph.constant(1.0)), graph.constant(0.0))
            terms.append(graph("MatMul", below, block(len(of_columns))))
    if num_categories:
        known = graph.constant(np.diff(design.first_code), np.int64)
        # A code beyond the training's is unseen: it reads as 0.
        codes = graph("Where", graph("Less", "categories", known), "categories", graph.constant(0, np.int64))
        places = graph("Add", codes, graph.constant(design.first_code[:-1], np.int64))
        columns = graph("Gather", graph.constant(design.place, np.int64), places)
        rows = graph("Gather", block(int(design.place.max()) + 1), columns, axis=0)  # [N, G, outputs]
        terms.append(graph("ReduceSum", rows, graph.constant([1], np.int64), keepdims=0))
    assert done == len(weights), "every weight has its column"
    scores = graph("Sum", *terms, graph.constant(fitted.bias))
    return graph("Softmax", scores, axis=1) if task.kind == "classify" else scores


def _add_trees(graph: Graph, fitted: boosted_trees.Fitted, task: Task, num_numbers: int, num_categories: int) -> str:
    told = lightgbm.Booster(model_str=fitted.text).dump_model()
    outputs = told["num_tree_per_iteration"]
    trees = _Trees(num_numbers, outputs)
    for number, tree in enumerate(told["tree_info"]):
        trees.add(tree["tree_structure"], number % outputs)
    columns = [graph.as_double("numbers")] if num_numbers else []
    columns += [_membership(graph, place, sets) for place, sets in sorted(trees.sets.items())]
    scores = graph.constant(trees.constants[None])
    if trees.roots:
        table = graph("Concat", *columns, axis=1) if len(columns) > 1 else columns[0]
        grown = graph("TreeEnsemble", table, domain="ai.onnx.ml", **trees.attributes())
        scores = graph("Add", grown, scores)
    else:  # no tree split anything: one answer for as many rows as there are
        scores = graph("Add", graph("Mul", _zeros(graph, num_numbers), scores), scores)
    if task.kind == "regress":
        if not fitted.settings["log_target"]:
            return scores
        return graph("Sub", graph("Exp", scores), graph.constant(1.0))
    if outputs > 1:
        return graph("Softmax", scores, axis=1)
    second = graph("Sigmoid", graph("Mul", scores, graph.constant(_slope(told["objective"]))))
    return graph("Concat", graph("Sub", graph.constant(1.0), second), second, axis=1)


def _zeros(graph: Graph, num_numbers: int) -> str:
    """0 for each row, [N, 1]."""
    rows = graph("Shape", "numbers" if num_numbers else "categories", end=1)
    shape = graph("Concat", rows, graph.constant([1], np.int64), axis=0)
    return graph("ConstantOfShape", shape, value=numpy_helper.from_array(np.zeros(1)))


def _slope(objective: str) -> float:
    """LightGBM's "binary sigmoid:1"."""
    return float(objective.partition("sigmoid:")[2] or 1)


def _membership(graph: Graph, place: int, sets: dict[frozenset[int], int]) -> str:
    """-1 where the code of category `place` is in a set, else 0: float64 [N, sets]."""
    size = 1 + max(max(codes) for codes in sets)
    table = np.zeros((size + 1, len(sets)), np.int8)  # the last row is for codes that no set has
    for codes, column in sets.items():
        table[list(codes), column] = -1
    code = graph("Gather", "categories", graph.constant(place, np.int64), axis=1)
    code = graph("Min", code, graph.constant(size, np.int64))
    return graph.as_double(graph("Gather", graph.constant(table, np.int8), code, axis=0))


class _Trees:
    """Trees as the lists that ONNX's TreeEnsemble takes; the numbers come first, then the memberships."""

    def __init__(self, num_numbers: int, outputs: int) -> None:
        self.num_numbers, self.outputs = num_numbers, outputs
        self.roots: list[int] = []
        self.splits: list[list[Any]] = []  # feature, value, left, left is leaf, right, right is leaf, missing is left
        self.leaves: list[tuple[int, float]] = []  # output, weight
        self.sets: dict[int, dict[frozenset[int], int]] = {}  # category → the sets that splits ask for
        self.constants = np.zeros(outputs)  # of trees without a split

    def add(self, root: dict[str, Any], output: int) -> None:
        if "leaf_value" in root:
            self.constants[output] += root["leaf_value"]
        else:
            self.roots.append(self._node(root, output)[0])

    def _node(self, node: dict[str, Any], output: int) -> tuple[int, int]:
        """The place of a node among its kind, and whether it is a leaf."""
        if "leaf_value" in node:
            self.leaves.append((output, node["leaf_value"]))
            return len(self.leaves) - 1, 1
        place = len(self.splits)
        feature, value, missing_is_left = self._question(node)
        self.splits.append([feature, value, 0, 0, 0, 0, missing_is_left])
        for side, child in ((2, "left_child"), (4, "right_child")):
            self.splits[place][side : side + 2] = self._node(node[child], output)
        return place, 0

    def _question(self, node: dict[str, Any]) -> tuple[Any, float, int]:
        feature = node["split_feature"]
        if node["decision_type"] == "==":
            of = self.sets.setdefault(feature - self.num_numbers, {})
            codes = frozenset(map(int, node["threshold"].split("||")))
            return (feature - self.num_numbers, of.setdefault(codes, len(of))), -0.5, 0
        value = float(node["threshold"])
        # Where training had no missing value LightGBM reads one as 0.
        is_left = node["default_left"] if node["missing_type"] == "NaN" else value >= 0
        return feature, value, int(is_left)

    def attributes(self) -> dict[str, Any]:
        first, starts = self.num_numbers, {}
        for place, sets in sorted(self.sets.items()):
            starts[place], first = first, first + len(sets)
        columns = list(zip(*self.splits, strict=True))
        features = [starts[f[0]] + f[1] if isinstance(f, tuple) else f for f in columns[0]]
        return {
            "n_targets": self.outputs,
            "aggregate_function": 1,  # the sum
            "post_transform": 0,  # none
            "tree_roots": self.roots,
            "nodes_featureids": features,
            "nodes_modes": _tensor(np.full(len(features), LESS_OR_EQUAL), np.uint8),
            "nodes_splits": _tensor(columns[1], np.float64),
            "nodes_truenodeids": columns[2],
            "nodes_trueleafs": columns[3],
            "nodes_falsenodeids": columns[4],
            "nodes_falseleafs": columns[5],
            "nodes_missing_value_tracks_true": columns[6],
            "leaf_targetids": [output for output, _ in self.leaves],
            "leaf_weights": _tensor([weight for _, weight in self.leaves], np.float64),
        }


def _tensor(values: Any, kind: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, kind))
