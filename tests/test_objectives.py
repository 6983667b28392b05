"""Facts about single objectives: what weights, focus, smoothing, heads, teachers and mixtures do to a loss."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.loop import train
from fathom.models.parts.moe import MixtureOfExperts
from fathom.objectives import classify, contrastive, distill, masked_token, next_token, regress
from fathom.objectives.parts import heads

THREE = {"classes": ["a", "b", "c"]}
NUMBER = {"mean": 10.0, "std": 4.0, "log": False}
EVERYTHING = {"label_smoothing": 0.1, "class_weights": [0.5, 1.0, 3.0], "focal": 2.0}


def logits_and_targets(rows: int = 20) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return 2 * torch.randn(rows, 3), torch.randint(3, (rows,))


@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.1}, {"class_weights": [0.5, 1.0, 3.0]}, {"focal": 2.0}, EVERYTHING], ids=str
)
@pytest.mark.parametrize("members", [0, 3])
def test_certain_probabilities_cost_what_their_classes_cost(options: dict[str, object], members: int) -> None:
    objective = classify.build(THREE, **options)
    logits, targets = logits_and_targets()
    if members:
        logits = torch.randn(20, members, 3)
    certain = F.one_hot(targets, 3).float()
    torch.testing.assert_close(objective.total(logits, certain), objective.total(logits, targets))


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=str)
def test_a_mixed_row_costs_what_its_two_classes_cost(options: dict[str, object]) -> None:
    objective = classify.build(THREE, **options)
    logits, targets = logits_and_targets()
    others = targets.roll(1)
    mixed = 0.3 * F.one_hot(targets, 3) + 0.7 * F.one_hot(others, 3)
    apart = 0.3 * objective.total(logits, targets) + 0.7 * objective.total(logits, others)
    torch.testing.assert_close(objective.total(logits, mixed), apart)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2}, {"focal": 1.5}], ids=str)
def test_a_weight_of_three_is_three_copies_of_the_row(options: dict[str, float]) -> None:
    logits, targets = logits_and_targets()
    weighted = classify.build(THREE, class_weights=[1.0, 1.0, 3.0], **options).total(logits, targets)
    copies = torch.where(targets == 2, 3, 1)
    copied = classify.build(THREE, **options).total(
        logits.repeat_interleave(copies, dim=0), targets.repeat_interleave(copies)
    )
    torch.testing.assert_close(weighted, copied)


def test_focal_loss_is_that_of_the_paper() -> None:
    """Lin et al. 2017, eq. 4, on probabilities that are easy to check."""
    p = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    objective = classify.build({"classes": ["no", "yes"]}, focal=2.0)
    expected = -(0.1**2) * math.log(0.9) - 0.8**2 * math.log(0.2)
    assert float(objective.total(p.log(), torch.tensor([0, 0]))) == pytest.approx(expected)


@pytest.mark.parametrize("focal", [0.5, 2.0])
def test_a_certain_row_has_a_slope_under_focal_loss(focal: float) -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    classify.build({"classes": ["no", "yes"]}, focal=focal).total(logits, torch.tensor([0, 0])).backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"class_weights": [1.0, 2.0]}, "3 numbers"),
        ({"class_weights": [1.0, 0.0, 1.0]}, "above 0"),
        ({"focal": -1.0}, "focal is -1"),
        ({"label_smoothing": 1.0}, "below 1"),
    ],
    ids=str,
)
def test_impossible_options_of_classes_are_refused(options: dict[str, object], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        classify.build(THREE, **options)


def test_pinball_is_least_at_the_quantile() -> None:
    torch.manual_seed(0)
    targets = torch.randn(4001).double()
    tried = torch.linspace(-3, 3, 601).double()
    for level in (0.05, 0.5, 0.8):
        losses = heads.pinball(targets[:, None] - tried, level).mean(dim=0)
        assert float(tried[losses.argmin()]) == pytest.approx(float(targets.quantile(level)), abs=0.02)


def test_quantiles_never_cross() -> None:
    torch.manual_seed(0)
    for scale in (1.0, 100.0, 1e4):
        middle, low, high = heads.quantiles(scale * torch.randn(500, 3)).unbind(dim=-1)
        assert bool((low <= middle).all() and (middle <= high).all())


@pytest.mark.parametrize("head", ["quantile", "gaussian"])
def test_heads_learn_a_spread_that_grows(head: str) -> None:
    """Targets are 10 + 4 x plus noise of deviation 1 + x: the ends must go apart as x does."""
    torch.manual_seed(0)
    x = torch.rand(4000, 1)
    spec = NUMBER | {"head": head}
    targets = 10 + 4 * x[:, 0] + (1 + x[:, 0]) * torch.randn(4000)
    model = nn.Linear(1, regress.outputs(spec))
    for _ in train(model, regress.build(spec), [(x, targets)] * 400, torch.optim.Adam(model.parameters(), lr=0.05)):
        pass
    with torch.no_grad():
        raw = model(torch.tensor([[0.0], [1.0]]))
    low, high = regress.interval(raw, spec).unbind(dim=1)
    torch.testing.assert_close(regress.decode(raw, spec), torch.tensor([10.0, 14.0]).double(), atol=0.3, rtol=0)
    torch.testing.assert_close(high - low, 2 * 1.645 * torch.tensor([1.0, 2.0]).double(), atol=0.7, rtol=0)


def test_gaussian_loss_is_the_likelihood_without_its_constant() -> None:
    torch.manual_seed(0)
    raw, targets = torch.randn(50, 2).double(), torch.randn(50).double()
    objective = regress.build({"mean": 0.0, "std": 1.0, "log": False, "head": "gaussian"}, beta=0.0)
    mean, log_variance = heads.mean_and_log_variance(raw)
    exact = -torch.distributions.Normal(mean, (0.5 * log_variance).exp()).log_prob(targets).sum()
    torch.testing.assert_close(objective.total(raw, targets), exact - 50 * 0.5 * math.log(2 * math.pi))


def test_beta_one_weighs_every_error_alike() -> None:
    """Seitzer et al. 2022, section 3: the slope on the mean is then that of the squared error."""
    targets = torch.tensor([1.0, 1.0])
    raw = torch.tensor([[0.0, 3.0], [0.0, -3.0]], requires_grad=True)
    regress.build({"mean": 0.0, "std": 1.0, "log": False, "head": "gaussian"}, beta=1.0).total(raw, targets).backward()
    assert raw.grad is not None
    torch.testing.assert_close(raw.grad[:, 0], torch.tensor([-1.0, -1.0]))


def test_members_that_disagree_make_a_gaussian_wider() -> None:
    spec = NUMBER | {"head": "gaussian"}
    alike, apart = torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)
    apart[0, :, 0] = torch.tensor([-1.0, 1.0])
    widths = [float(ends[0, 1] - ends[0, 0]) for ends in (regress.interval(raw, spec) for raw in (alike, apart))]
    assert widths[1] == pytest.approx(math.sqrt(2) * widths[0])


def test_an_interval_of_members_far_apart_on_a_logarithm_still_holds_their_mean() -> None:
    spec = {"mean": 0.0, "std": 1.0, "log": True, "head": "gaussian"}
    raw = torch.zeros(1, 16, 2).double()
    raw[0, :, 1] = -8.0
    raw[0, 0, 0] = 30.0
    low, high = regress.interval(raw, spec)[0]
    assert low <= regress.decode(raw, spec)[0] <= high


@pytest.mark.parametrize("head", ["quantile", "gaussian"])
def test_the_held_out_loss_is_the_training_loss_where_both_can_be_compared(head: str) -> None:
    torch.manual_seed(0)
    spec = {"mean": 1.0, "std": 0.5, "log": True, "head": head}
    raw, targets = torch.randn(40, regress.outputs(spec)).double(), torch.rand(40).double()
    told = regress.held_out_loss(regress.decode(raw, spec), regress.interval(raw, spec), targets, spec)
    assert told == pytest.approx(float(regress.build(spec, beta=0.0).total(raw, targets)) / 40)


def test_targets_keep_their_digits_beside_outputs_in_bf16() -> None:
    spec = {"mean": 0.0, "std": 1.0, "log": False}
    raw, targets = torch.zeros(1, 1, dtype=torch.bfloat16), torch.tensor([1.001])
    assert float(regress.build(spec).total(raw, targets)) == pytest.approx(0.5 * 1.001**2, rel=1e-6)


def test_a_teacher_that_is_followed_costs_nothing_and_trees_teach_too() -> None:
    """At any temperature: a teacher without logits is read through the logarithm of its probabilities."""
    teacher = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0]])
    logits = teacher.clamp_min(1e-7).log() + 5
    for temperature in (1.0, 4.0):
        assert float(distill.divergence(logits, teacher, temperature)) == pytest.approx(0.0, abs=1e-5)


def test_the_soft_part_at_a_high_temperature_matches_logits() -> None:
    """Hinton et al. 2015, eq. 4: T² times the divergence of centred logits tends to half their squared distance / N."""
    logits, teacher = torch.tensor([[1.0, -1.0]]).double(), torch.tensor([[0.5, 0.5]]).double()
    found = distill.divergence(logits, teacher, 1000.0)
    assert float(found) == pytest.approx(0.5 * 2 / 2, rel=1e-4)


def test_share_zero_learns_from_the_classes_alone() -> None:
    logits, truth = logits_and_targets()
    taught = {"truth": truth, "teacher": torch.full((20, 3), 1 / 3)}
    plain = classify.build(THREE, **EVERYTHING).total(logits, truth)
    torch.testing.assert_close(distill.build(THREE, share=0.0, **EVERYTHING).total(logits, taught), plain)


def test_contrast_of_two_rows_by_hand() -> None:
    raw = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 2.0]]])
    # Similarities: [[1, 1], [0, 2]]; the right answers stand on the diagonal.
    rows = math.log(2) + math.log(1 + math.exp(-2))
    columns = 2 * math.log(1 + math.exp(-1))
    loss = contrastive.build({"width": 2}).total(raw, torch.tensor([5, 9]))
    assert float(loss) == pytest.approx((rows + columns) / 2)


def test_two_captions_of_one_picture_are_both_right() -> None:
    vectors = 8 * torch.eye(3)[[0, 0, 1]]
    raw = torch.stack([vectors, vectors], dim=1)
    objective = contrastive.build({"width": 3})
    together = float(objective.total(raw, torch.tensor([4, 4, 7])))
    apart = float(objective.total(raw, torch.tensor([4, 5, 7])))
    assert together == pytest.approx(2 * math.log(2), abs=1e-4)  # either of the two, and no doubt beside
    assert apart == pytest.approx(together, abs=1e-4)  # told apart they cannot be
    slopes = []
    for ids in ([4, 4, 7], [4, 5, 7]):
        one = raw.clone()
        one[0, 1] += 0.1  # the first caption leans away from its own picture
        one.requires_grad_(True)
        objective.total(one, torch.tensor(ids)).backward()
        assert one.grad is not None
        slopes.append(float(one.grad[1, 0].norm()))
    assert slopes[0] < slopes[1]  # a second right answer is not pushed away


def test_logits_of_a_contrast_are_never_scaled_by_more_than_a_hundred() -> None:
    raw = 1e3 * torch.eye(2)[:, None].expand(2, 2, 2)
    torch.testing.assert_close(contrastive.similarity(raw), 100 * torch.eye(2))


class Mixed(nn.Module):
    """A classifier with a mixture of experts whose router starts by sending everything to the first two."""

    def __init__(self, balance: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mixture = MixtureOfExperts(8, 8, experts=4, used=1, balance=balance)
        self.head = nn.Linear(8, 3)
        with torch.no_grad():
            self.mixture.router.weight[0] += 0.5

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mixture(x))


def largest_load(balance: float) -> float:
    """The share of positions that go to the most used expert after some training."""
    model = Mixed(balance)
    torch.manual_seed(1)
    x = torch.randn(64, 8) + 0.5
    batch = (x, x[:, :3].argmax(dim=1))
    for _ in train(
        model.train(), classify.build(THREE), [batch] * 150, torch.optim.Adam(model.parameters(), lr=0.02), accumulate=2
    ):
        pass
    with torch.no_grad():
        chosen = model.mixture.router(x).argmax(dim=1)
    return float(torch.bincount(chosen, minlength=4).max()) / 64


def test_hidden_tokens_are_fifteen_in_a_hundred_and_of_these_eighty_hold_the_mask() -> None:
    torch.manual_seed(0)
    objective = masked_token.build({"vocabulary": 1000, "mask": 2})
    tokens = torch.randint(3, 1000, (500, 40))
    tokens[::2, 20:] = 0
    seen, chosen = objective.hide(tokens)
    assert chosen.sum(dim=1).tolist() == [3, 6] * 250 and not chosen[tokens == 0].any()
    assert objective.count((tokens, tokens)) == float(chosen.sum())
    assert torch.equal(seen[~chosen], tokens[~chosen])
    masked, kept = (seen[chosen] == 2).float().mean(), (seen == tokens)[chosen].float().mean()
    assert abs(float(masked) - 0.8) < 0.03 and abs(float(kept) - 0.1) < 0.03
    assert seen[chosen & (seen != 2)].min() > 2, "a random token is one of the vocabulary's"
    places = chosen[1::2].float().mean(dim=0)
    assert places.min() > 0.07 and places.max() < 0.24, "every position is hidden as often"


def test_only_hidden_tokens_cost() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(3, 20, (4, 10))
    tokens[0] = 0  # nothing to hide
    model = Table(20)
    (loss,) = masked_token.build({"vocabulary": 20, "mask": 2}, share=0.5).losses(model, (tokens, tokens))
    assert loss.count == 15
    assert (model.seen != tokens).sum() <= 15 and not model.seen[0].any()
    torch.testing.assert_close(loss.total, torch.tensor(15 * math.log(20)), rtol=1e-5, atol=1e-5)


class Table(nn.Module):
    """All tokens alike; it remembers what it saw."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, tokens: Tensor) -> Tensor:
        self.seen = tokens
        return self.logits.expand(*tokens.shape, -1)


def test_a_mixture_is_balanced_by_any_objective() -> None:
    assert largest_load(0.5) < 0.5 < largest_load(0.0)


def test_a_language_model_balances_its_mixture_too() -> None:
    mixture = MixtureOfExperts(8, 8, experts=4, used=1, balance=0.5)
    model = nn.Sequential(nn.Embedding(9, 8), mixture, nn.Linear(8, 9)).train()
    tokens = torch.randint(1, 9, (4, 6))
    (loss,) = next_token.build({"vocabulary": 9}).losses(model, (tokens, tokens))
    loss.total.backward()
    with_balance = mixture.router.weight.grad
    assert with_balance is not None
    assert float(with_balance.norm()) > 0  # one expert for each token: its own loss alone gives the router no slope
