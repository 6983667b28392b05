"""The network for tables: its embeddings, its members, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fathom.errors import UserError
from fathom.fields import number
from fathom.loop import train
from fathom.models import mlp
from fathom.models.parts.embeddings import Categories, PiecewiseLinear, Standardize
from fathom.models.parts.members import MemberDropout, MemberHeads, MemberLinear, MemberScale
from fathom.objectives import classify

NUMBERS = {
    "form": "numbers",
    "names": ["a", "b", "c"],
    "mean": [0.0, 10.0, 5.0],
    "std": [1.0, 4.0, 1.0],
    "quantiles": [[-2.0, -1.0, 0.0, 1.0, 2.0], [0.0, 10.0, 10.0, 40.0], [5.0]],
}
CATEGORIES = {"form": "categories", "names": ["k", "l"], "sizes": [4, 3]}
ABOUT: dict[str, dict[str, dict[str, Any]]] = {
    "both": {"numbers": NUMBERS, "categories": CATEGORIES},
    "numbers": {"numbers": NUMBERS},
    "categories": {"categories": CATEGORIES},
}
FORMS = pytest.mark.parametrize("form", list(ABOUT))


def rows(form: str, count: int = 64) -> Any:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(count, 3, generator=generator) * 4 + 3
    numbers[torch.rand(count, 3, generator=generator) < 0.2] = torch.nan
    categories = torch.randint(0, 3, (count, 2), generator=generator)
    given = {"numbers": numbers, "categories": categories}
    return given if form == "both" else given[form]


def small(form: str = "both", outputs: int = 2, **options: Any) -> mlp.MLP:
    torch.manual_seed(0)
    return mlp.build(ABOUT[form], outputs, **{"width": 32, "depth": 2, "members": 4} | options)


@FORMS
def test_output_has_a_row_for_each_member(form: str) -> None:
    assert small(form, 3)(rows(form)).shape == (64, 4, 3)


@FORMS
def test_every_parameter_gets_a_gradient(form: str) -> None:
    model = small(form)
    model(rows(form)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_members_differ_from_the_start_and_after_training() -> None:
    model = small()
    assert _spread_of_members(model) > 1e-3
    overfit(model, "both", 50)
    assert _spread_of_members(model) > 1e-3


def _spread_of_members(model: nn.Module) -> float:
    model.eval()
    with torch.no_grad():
        return float(model(rows("both")).std(dim=1).mean())


@FORMS
def test_overfits_one_batch(form: str) -> None:
    model = small(form, 3, dropout=0.0, width=64)
    losses = overfit(model, form, 400)
    assert losses[-1] < 0.1 < losses[0]


def overfit(model: nn.Module, form: str, steps: int) -> list[float]:
    inputs = rows(form)
    num_classes = model(inputs).shape[-1]
    # Rows of equal categories cannot be told apart: where there are categories, the classes follow them.
    targets = torch.arange(64) if form == "numbers" else (inputs["categories"] if form == "both" else inputs).sum(dim=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.train()
    batches = [(inputs, targets % num_classes)] * steps
    return [float(step.loss) for step in train(model, classify.Classify(num_classes), batches, optimizer)]


@FORMS
def test_prediction_is_repeatable_and_saved_equals_loaded(form: str, tmp_path: Path) -> None:
    model = small(form).eval()
    with torch.no_grad():
        first = model(rows(form))
        torch.testing.assert_close(model(rows(form)), first, rtol=0, atol=0)
        save_file(model.state_dict(), tmp_path / "model.safetensors")
        torch.manual_seed(9)
        other = mlp.build(ABOUT[form], 2, width=32, depth=2, members=4).eval()
        other.load_state_dict(load_file(tmp_path / "model.safetensors"))
        torch.testing.assert_close(other(rows(form)), first, rtol=0, atol=0)


def test_missing_unseen_and_extreme_values_have_a_finite_answer() -> None:
    model = small()
    numbers = torch.tensor([[torch.nan] * 3, [1e30, -1e30, 3e38], [0.0, 1e-30, torch.inf]])
    numbers[2, 2] = -3e38
    categories = torch.tensor([[0, 0], [99, -1], [3, 2]])
    for mode in (True, False):
        assert torch.isfinite(model.train(mode)({"numbers": numbers, "categories": categories})).all()


@pytest.mark.parametrize("day", [20240101.0, -3e30])
def test_a_large_number_that_never_changes_has_finite_answers(day: float) -> None:
    """From 2**24 on float32 skips whole numbers: a bin that begins there has no end at 1 more."""
    values = np.array([day] * 49 + [np.nan])
    spec = number.fit(values, name="day")
    model = mlp.build({"numbers": {"form": "numbers", **number.describe(spec)["numbers"]}}, 2)
    answers = model(torch.from_numpy(number.encode(values, spec)["numbers"]))
    assert torch.isfinite(answers).all()


def test_what_is_farther_than_float32_can_square_is_far() -> None:
    far = torch.tensor([[1e20], [-3e38], [torch.inf]])
    torch.testing.assert_close(Standardize([0.0], [1.0])(far)[0], torch.tensor([[3.0], [-3.0], [3.0]]))


def test_unknown_codes_are_read_as_code_zero() -> None:
    embed = Categories([4, 3], size=5)
    torch.testing.assert_close(embed(torch.tensor([[99, -1]])), embed(torch.tensor([[0, 0]])), rtol=0, atol=0)


def test_an_unseen_category_is_an_average_one() -> None:
    embed = Categories([4, 3], size=5)
    unseen = embed(torch.tensor([[0, 0]]))[0]
    torch.testing.assert_close(unseen[0], embed.table[1:4].mean(dim=0))
    torch.testing.assert_close(unseen[1], embed.table[5:7].mean(dim=0))


def test_numbers_are_scaled_inside_the_model() -> None:
    z, missing = Standardize([10.0], [4.0])(torch.tensor([[10.0], [14.0], [1e9], [torch.nan]]))
    torch.testing.assert_close(z[:, 0], torch.tensor([0, 1 / (1 + 1 / 9) ** 0.5, 3, 0]))
    assert missing[:, 0].tolist() == [False, False, False, True]


def test_piecewise_linear_bends_at_the_quantiles_only() -> None:
    torch.manual_seed(0)
    embed = PiecewiseLinear([0.0], [1.0], [[-2.0, -1.0, 0.0, 1.0, 2.0]], size=3, bins=48)
    nn.init.zeros_(embed.straight)  # leaves the bent part
    x = torch.tensor([-9.0, -2.0, -0.9, -0.5, -0.1, 2.0, 9.0])[:, None]
    y = embed(x)[:, 0]
    torch.testing.assert_close(y[0], y[1])  # constant outside
    torch.testing.assert_close(y[5], y[6])
    torch.testing.assert_close(y[3], (y[2] + y[4]) / 2)  # a line between -1 and 0
    assert not torch.allclose(embed(torch.zeros(1, 1)), (embed(torch.tensor([[1.0]])) + embed(-torch.ones(1, 1))) / 2)


def test_more_quantiles_than_bins_are_thinned() -> None:
    edges = [float(i) for i in range(49)]
    embed = PiecewiseLinear([0.0], [1.0], [edges], size=2, bins=8)
    assert embed.low.shape == (1, 8)
    assert embed.low[0, 0] == 0
    assert (embed.low + 1 / embed.per_width)[0, -1] == 48


def test_wide_tables_get_narrow_embeddings() -> None:
    count = 600
    about = {key: value * count for key, value in NUMBERS.items() if isinstance(value, list)}
    model = mlp.build({"numbers": {"form": "numbers", **about}}, 1)
    assert model.embedding.sizes == [4] * 3 * count
    assert model(torch.zeros(2, 3 * count)).shape == (2, 16, 1)


def test_entrance_factors_are_shared_within_a_column() -> None:
    factor = MemberScale(3, [2, 4]).factor
    assert (factor[:, :2] == factor[:, :1]).all()
    assert (factor[:, 2:] == factor[:, 2:3]).all()
    assert factor[:, [0, 2]].unique().numel() == 6


def test_member_linear_equals_separate_networks() -> None:
    torch.manual_seed(0)
    layer = MemberLinear(3, 5, 4)
    nn.init.normal_(layer.in_factor)
    nn.init.normal_(layer.out_factor)
    x = torch.randn(7, 3, 5)
    for member in range(3):
        weight = layer.out_factor[member, :, None] * layer.weight * layer.in_factor[member]
        torch.testing.assert_close(layer(x)[:, member], nn.functional.linear(x[:, member], weight, layer.bias[member]))


def test_heads_are_separate() -> None:
    heads = MemberHeads(3, 5, 2)
    x = torch.randn(4, 3, 5)
    heads(x)[:, 1].sum().backward()
    assert heads.weight.grad is not None
    assert heads.weight.grad[1].abs().sum() > 0
    assert heads.weight.grad[[0, 2]].abs().sum() == 0


def test_member_dropout_keeps_the_mean_and_differs_over_members() -> None:
    torch.manual_seed(0)
    dropout = MemberDropout(0.25)
    dropped = dropout(torch.ones(500, 4, 200))
    assert abs(float(dropped.mean()) - 1) < 0.01
    assert abs(float((dropped == 0).float().mean()) - 0.25) < 0.01
    agreement = (dropped[:, 0] == dropped[:, 1]).float().mean()
    assert abs(float(agreement) - (0.75**2 + 0.25**2)) < 0.02  # as two independent masks would
    x = torch.randn(3, 4, 5)
    assert dropout.eval()(x) is x


def test_exports() -> None:
    model = small().eval()
    inputs = rows("both")
    any_rows = {name: {0: torch.export.Dim.DYNAMIC} for name in inputs}
    exported = torch.export.export(model, (inputs,), dynamic_shapes=(any_rows,))
    few: dict[str, Tensor] = {name: values[:5] for name, values in inputs.items()}
    torch.testing.assert_close(exported.module()(few), model(few))


def test_claims_tables_and_nothing_else() -> None:
    assert mlp.claims(ABOUT["both"]) == "a table of numbers and categories"
    assert mlp.claims(ABOUT["categories"]) == "a table of categories"
    assert mlp.claims({"photo": {"form": "pixels"}}) is None
    assert mlp.claims(ABOUT["both"] | {"name": {"form": "tokens"}}) is None
    assert mlp.claims({}) is None


def test_what_makes_no_network_is_refused() -> None:
    with pytest.raises(UserError, match=r"photo \(pixels, 8 x 8\)"):
        mlp.build({"photo": {"form": "pixels", "height": 8, "width": 8}}, 2)
    with pytest.raises(UserError, match=r"model\.depth=0"):
        small(depth=0)
    with pytest.raises(UserError, match=r"model\.dropout=1\.5"):
        small(dropout=1.5)
    with pytest.raises(UserError, match=r"model\.bins=0"):
        small(bins=0)
