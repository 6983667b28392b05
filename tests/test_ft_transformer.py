"""FT-Transformer: its formulas written out, the paper's defaults, and what a missing value answers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom import plan, rooms
from fathom.batches import Batch
from fathom.errors import UserError
from fathom.loop import train
from fathom.models import ft_transformer
from fathom.models.ft_transformer import Attention, FTTransformer, ReGLU
from fathom.objectives.classify import Classify
from fathom.optimizer import adamw

NUMBERS = {"form": "numbers", "names": ["age", "price"], "mean": [40.0, 9.0], "std": [10.0, 3.0]}
CATEGORIES = {"form": "categories", "names": ["colour", "shape"], "sizes": [4, 3]}
TABLE = {"numbers": NUMBERS, "categories": CATEGORIES}
ROWS = {
    "numbers": torch.tensor([[31.0, 12.0], [50.0, 6.0], [45.0, float("nan")]]),
    "categories": torch.tensor([[2, 1], [0, 2], [3, 0]]),
}
QUIET = {"drop_attention": 0.0, "dropout": 0.0}


def small(**options: Any) -> FTTransformer:
    torch.manual_seed(0)
    return ft_transformer.build(TABLE, 3, **({"depth": 2, "width": 16, "heads": 4} | QUIET | options))


def randomised(model: nn.Module) -> Any:
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data.copy_(0.4 * torch.randn_like(parameter))
    return model.double()


def as_double(rows: dict[str, Tensor]) -> dict[str, Tensor]:
    return rows | {"numbers": rows["numbers"].double()}


def bounded(z: Tensor) -> Tensor:
    return z / torch.sqrt(1 + (z / 3) ** 2)


def test_tokens_equal_their_formula() -> None:
    tokenizer = randomised(small()).tokenizer
    numbers, categories = tokenizer.columns["numbers"], tokenizer.columns["categories"]
    tokens = tokenizer(as_double(ROWS))
    assert tokens.shape == (3, 5, 16)
    for row in range(3):
        torch.testing.assert_close(tokens[row, 0], tokenizer.answer[0])
    z = bounded(torch.tensor(-0.9, dtype=torch.float64))  # (31 - 40) / 10
    torch.testing.assert_close(tokens[0, 1], numbers.bias[0] + z * numbers.weight[0])
    torch.testing.assert_close(tokens[2, 2], numbers.bias[1] + numbers.missing[1])
    table = categories.vectors.table
    torch.testing.assert_close(tokens[0, 3], categories.bias[0] + table[2])
    torch.testing.assert_close(tokens[0, 4], categories.bias[1] + table[4 + 1])
    torch.testing.assert_close(tokens[1, 3], categories.bias[0] + table[0] + table[1:4].mean(dim=0))


def test_before_training_a_missing_number_is_the_mean_and_an_unknown_category_an_average_one() -> None:
    net = small().eval()
    given = {
        "numbers": torch.tensor([[40.0, float("nan")], [float("nan"), 9.0]]),
        "categories": torch.tensor([[0, 1]] * 2),
    }
    one, other = net(given)
    torch.testing.assert_close(one, other)
    beyond = given | {"categories": torch.tensor([[7, 1]] * 2)}  # a code that training had not
    assert torch.equal(net(beyond), net(given))
    table = net.tokenizer.columns["categories"].vectors
    torch.testing.assert_close(table(torch.tensor([[0, 0]]))[0, 0], table.table[1:4].mean(dim=0))


def test_a_missing_number_learns_an_answer_of_its_own() -> None:
    torch.manual_seed(0)
    inputs = {"numbers": NUMBERS}
    net = ft_transformer.build(inputs, 2, width=16, heads=4, depth=1)
    numbers = torch.tensor([[40.0, 9.0], [float("nan"), 9.0]]).repeat(8, 1)
    batch = Batch(numbers, torch.tensor([0, 1]).repeat(8))
    for _ in train(net.train(), Classify(2), [batch] * 60, torch.optim.Adam(net.parameters(), lr=1e-2)):
        pass
    assert net.eval()(numbers).argmax(dim=1).tolist() == batch.targets.tolist()


def by_formula(net: FTTransformer, x: Tensor) -> Tensor:
    """Section 3.3, every token through every block, one head after the other."""
    for index, block in enumerate(net.blocks):
        attention, perceptron = block.attention, block.perceptron
        normed = x
        if index > 0:
            norm = block.attention_norm
            normed = F.layer_norm(x, (16,), norm.weight, norm.bias)
        query, key, value = (
            normed @ part.weight.T + part.bias for part in (attention.query, attention.key, attention.value)
        )
        heads = []
        for h in range(4):
            part = slice(4 * h, 4 * h + 4)
            weights = torch.softmax(query[..., part] @ key[..., part].transpose(1, 2) / math.sqrt(4), dim=-1)
            heads.append(weights @ value[..., part])
        out = attention.project_out
        x = x + torch.cat(heads, dim=-1) @ out.weight.T + out.bias
        norm = block.perceptron_norm
        hidden = F.layer_norm(x, (16,), norm.weight, norm.bias) @ perceptron.expand.weight.T + perceptron.expand.bias
        regulated = hidden[..., :21] * hidden[..., 21:].clamp(min=0)  # 4/3 of 16, cut
        x = x + regulated @ perceptron.contract.weight.T + perceptron.contract.bias
    answer = F.layer_norm(x[:, 0], (16,), net.norm.weight, net.norm.bias).clamp(min=0)
    return answer @ net.head.weight.T + net.head.bias


def test_the_whole_net_equals_its_formula() -> None:
    """Also: that the last block works out [CLS] alone changes nothing."""
    net = randomised(small()).eval()
    torch.testing.assert_close(net(as_double(ROWS)), by_formula(net, net.tokenizer(as_double(ROWS))))


def test_attention_equals_torchs() -> None:
    mine, theirs = randomised(Attention(16, 4, 0.0)), nn.MultiheadAttention(16, 4, batch_first=True).double()
    parts = (mine.query, mine.key, mine.value)
    theirs.in_proj_weight.data.copy_(torch.cat([part.weight for part in parts]))
    theirs.in_proj_bias.data.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj.load_state_dict(mine.project_out.state_dict())
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    torch.testing.assert_close(mine(x[:, :2], x), theirs(x[:, :2], x, x)[0])


def test_defaults_are_the_papers() -> None:
    torch.manual_seed(0)
    eight = {"form": "numbers", "names": list("abcdefgh"), "mean": [0.0] * 8, "std": [1.0] * 8}
    net = ft_transformer.build({"numbers": eight}, 1)
    assert [type(block.attention_norm) for block in net.blocks] == [nn.Identity, nn.LayerNorm, nn.LayerNorm]
    assert all(block.attention.heads == 8 and block.attention.dropout == 0.2 for block in net.blocks)
    assert all(block.perceptron.dropout.p == 0.1 and block.dropout.p == 0.0 for block in net.blocks)
    assert all(block.perceptron.contract.in_features == 256 for block in net.blocks)
    block = 4 * (192 * 192 + 192) + (192 * 512 + 512) + (256 * 192 + 192) + 2 * (2 * 192)
    columns = (1 + 8 + 8) * 192
    assert sum(p.numel() for p in net.parameters()) == 3 * block - 2 * 192 + columns + (2 * 192 + 192 + 1) + OURS


OURS = 8 * 192  # a vector of each column for missing numbers, which the paper's data has none of


def test_first_weights_are_the_papers() -> None:
    net = small(width=64)
    numbers, categories = net.tokenizer.columns["numbers"], net.tokenizer.columns["categories"]
    for drawn in (net.tokenizer.answer, numbers.weight, numbers.bias, categories.vectors.table, categories.bias):
        assert 0.8 / 8 < float(drawn.abs().max()) <= 1 / 8  # ±1/sqrt(64)
    assert not numbers.missing.any()
    for block in net.blocks:
        parts = (block.attention.query, block.attention.key, block.attention.value, block.attention.project_out)
        assert not any(part.bias.any() for part in parts)


@pytest.mark.parametrize(
    ("depth", "width", "drop_attention", "dropout"),
    [
        (1, 96, 0.1, 0.0),
        (2, 128, 0.15, 0.05),
        (3, 192, 0.2, 0.1),
        (4, 256, 0.25, 0.15),
        (5, 320, 0.3, 0.2),
        (6, 384, 0.35, 0.25),
    ],
)
def test_depth_is_the_dial(depth: int, width: int, drop_attention: float, dropout: float) -> None:
    with torch.device("meta"):
        net = ft_transformer.build({"numbers": NUMBERS}, 1, depth=depth)
    assert (len(net.blocks), net.head.in_features) == (depth, width)
    block = net.blocks[0]
    assert (block.attention.dropout, block.perceptron.dropout.p) == (drop_attention, dropout)
    assert isinstance(block.perceptron, ReGLU)


def test_what_is_dropped_and_where() -> None:
    """Hidden units of the perceptrons, and what either part of a block adds."""
    net = small(dropout=0.25, drop_residual=0.5).train()
    used: list[tuple[str, float]] = []
    for name, part in net.named_modules():
        if isinstance(part, nn.Dropout):
            part.register_forward_hook(lambda part, _, __, name=name: used.append((name, part.p)))
    net(ROWS)
    each = [("dropout", 0.5), ("perceptron.dropout", 0.25), ("dropout", 0.5)]
    assert used == [(f"blocks.{i}.{name}", share) for i in (0, 1) for name, share in each]


def test_vectors_of_columns_norms_and_biases_are_not_decayed() -> None:
    net = small()
    decayed = {id(p) for p in adamw(net, 1e-4, 1e-5).param_groups[0]["params"]}
    expected = {
        id(part.weight) for name, part in net.named_modules() if isinstance(part, nn.Linear) and "tokenizer" not in name
    }
    assert decayed == expected


@pytest.mark.parametrize("inputs", [{"numbers": NUMBERS}, {"categories": CATEGORIES}, TABLE])
def test_it_is_never_chosen_unasked(inputs: dict[str, dict[str, Any]]) -> None:
    assert ft_transformer.claims(inputs)
    order = [*plan.PREFERENCE["classify"], *rooms.names("models")]
    assert next(name for name in order if rooms.find("models", name).claims(inputs)) == "mlp"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "model.depth=0"),
        ({"width": 20}, "Type model.width=16"),
        ({"drop_attention": 1.0}, "model.drop_attention=1.0"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ft_transformer.build(TABLE, 3, **options)
