"""First weights: of an odd size, made anew, and whether anything shows that they were trained."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fathom
from fathom.doctor.bad_start import find_bad_start
from fathom.doctor.finding import Finding
from fathom.doctor.mend import Mend
from fathom.doctor.parts.first_weights import HEAD, LAYERS, restarted, sizes
from fathom.doctor.parts.trial import Trial
from fathom.doctor.parts.untrained import are_untrained

FEATURES, CLASSES = 8, 3
Batch = tuple[Tensor, Tensor]


def rows(count: int = 640, size: int = 64) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, FEATURES, generator=generator)
    return list(zip(x.split(size), x[:, :CLASSES].argmax(dim=1).split(size), strict=True))


def net(depth: int, activation: type[nn.Module] = nn.ReLU, *, scale: float = 1.0, norm: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(FEATURES, 32), activation()]
    for _ in range(depth - 1):
        layers += [nn.Linear(32, 32), *([nn.LayerNorm(32)] if norm else []), activation()]
    model = nn.Sequential(*layers, nn.Linear(32, CLASSES))
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, LAYERS):
                part.weight.mul_(scale)
    return model


def loss(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def trial(model: nn.Module, rate: float = 3e-3) -> Trial:
    return Trial(model, [torch.optim.AdamW(model.parameters(), lr=rate)], loss, rows()[:4])


def outputs(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What each layer makes of the rows."""
    found: dict[str, Tensor] = {}
    for name, part in model.named_modules():
        if isinstance(part, LAYERS):
            part.register_forward_hook(lambda part, given, made, name=name: found.__setitem__(name, made.detach()))
    model(x)
    return found


def test_weights_made_anew_give_each_layer_mean_zero_and_deviation_one() -> None:
    for activation in (nn.Sigmoid, nn.ReLU):
        model = net(12, activation)
        given = trial(model)
        restarted(model, given)
        *inner, head = outputs(model, torch.cat([x for x, _ in given.batches])).values()
        for made in inner:
            assert float(made.mean(dim=0).abs().max()) < 1e-4 and float(made.std()) == pytest.approx(1, abs=0.01)
        assert float(head.std()) == pytest.approx(HEAD, abs=0.01)


def test_pictures_are_settled_by_channel_and_what_is_zero_shared_or_a_norm_stays() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)
            self.branch, self.words = nn.Linear(8, 8), nn.Embedding(5, 8)
            self.tied, self.head = nn.Linear(8, 5), nn.Linear(5, CLASSES)
            nn.init.zeros_(self.branch.weight)
            self.tied.weight = self.words.weight

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.conv(x)).mean(dim=(2, 3))
            return self.head(self.tied(x + self.branch(x)))

    torch.manual_seed(0)
    model = Net()
    before = copy.deepcopy(model.state_dict())
    data = [(3 + torch.randn(32, 1, 6, 6), torch.randint(CLASSES, (32,))) for _ in range(4)]
    random = torch.get_rng_state()
    restarted(model, Trial(model, [], loss, data))
    assert torch.equal(torch.get_rng_state(), random), "nobody notices"
    after = model.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        "conv.weight", "conv.bias", "head.weight", "head.bias"
    }  # fmt: skip
    made = outputs(model, torch.cat([x for x, _ in data]))["conv"]
    assert float(made.mean(dim=(0, 2, 3)).abs().max()) < 1e-3 and float(made.std()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("scale", [6.0, 0.1])
def test_first_weights_of_an_odd_size_are_told_where_a_copy_learns_much_better_without(scale: float) -> None:
    (one,) = find_bad_start(trial(net(3, scale=scale), rate=1e-3))
    assert one.id == "F8" and one.by == "experiment" and ("large" if scale > 1 else "small") in one.cause
    own, anew = (sum(one.evidence[name][-12:]) for name in ("plain", "anew"))
    assert anew < 0.7 * own and len(one.evidence["anew"]) == 120


def test_sizes_that_are_usual_or_do_no_harm_are_left_in_peace() -> None:
    for activation in (nn.ReLU, nn.Tanh, nn.GELU):
        assert list(find_bad_start(trial(net(3, activation)))) == []
    he = net(3)
    for part in he.modules():
        if isinstance(part, nn.Linear):
            nn.init.kaiming_normal_(part.weight)
    assert 1.3 < sizes(he)["2"] < 1.5 and list(find_bad_start(trial(he))) == []
    of_bert = net(3)
    for part in of_bert.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
    assert sizes(of_bert)["2"] < 0.25 and list(find_bad_start(trial(of_bert))) == [], "as is usual for transformers"
    normed = net(4, scale=0.2, norm=True)  # norms undo the size
    assert sizes(normed)["2"] < 0.25 and list(find_bad_start(trial(normed))) == []


def watched(model: nn.Module, rate: float = 3e-3, steps: int = 120, **more: Any) -> tuple[fathom.watch, float]:
    """A training that is mended, and its last losses."""
    optimizer, data = torch.optim.AdamW(model.parameters(), lr=rate), rows()
    torch.manual_seed(1)
    given = {"data": data, "loss": loss} | more
    doctor, losses = fathom.watch(model, optimizer, fix=True, say=None, steps=steps, **given), []
    for batch in itertools.islice(itertools.cycle(data), steps):
        value = loss(model, batch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    doctor.close()
    return doctor, sum(losses[-10:]) / 10


def test_deep_sigmoids_learn_with_weights_made_anew() -> None:
    plain = trial(net(10, nn.Sigmoid)).run(120).last(10)
    doctor, mended = watched(net(10, nn.Sigmoid))
    assert [one.id for one in doctor.mended] == ["F8"] and plain > 0.9 and mended < 0.4


def silent(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for part in list(model.modules()):
            if isinstance(part, nn.Linear) and part.out_features > CLASSES:
                part.bias.sub_(6.0)
    return model


def told_late(model: nn.Module) -> tuple[Mend, list[str], list[float]]:
    """What is done about units that are dead after ten steps, and the losses."""
    said: list[str] = []
    optimizer, data = torch.optim.AdamW(model.parameters(), lr=3e-3), rows()
    mend, losses = Mend(model, [optimizer], say=said.append, data=data, loss=loss), []
    mend.start()
    for step, batch in enumerate(itertools.islice(itertools.cycle(data), 200)):
        value = loss(model, batch)
        optimizer.zero_grad()
        if step == 10:
            weight = next(model.parameters())
            before = weight.detach().clone()
            begins = mend.found(Finding("T4", seen="", cause="", remedy="", by="test"))
            assert begins == bool(mend.mended), "losses before are those of other weights"
            assert torch.equal(weight, before) and weight.grad is None, "the graph of this step needs them still"
            assert mend.step == 10, "experiments on copies are nobody's steps"
        value.backward()
        optimizer.step()
        losses.append(value.item())
    mend.close()
    return mend, said, losses


def test_units_that_are_dead_are_made_anew_in_the_middle_of_a_training() -> None:
    plain = trial(silent(net(3))).run(200).last(10)
    mend, said, losses = told_late(silent(net(3)))
    assert [(one.id, one.step, one.is_kept) for one in mend.mended] == [("T4", 10, True)] and "made anew" in said[0]
    assert plain > 0.9 and sum(losses[-10:]) / 10 < 0.3


def test_a_model_of_which_no_copy_can_be_made_is_left_as_it_is() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = silent(net(3))

        def forward(self, x: Tensor) -> Tensor:
            self.last = self.inside(x)
            return self.last

    mend, said, _ = told_late(Keeps())
    assert mend.mended == [] and said[0].startswith("T4 not mended: no copy of the model can be made")


# Whether weights were trained


def trained(model: nn.Module, steps: int, data: list[Any]) -> nn.Module:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for batch in itertools.islice(itertools.cycle(data), steps):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    return model


def wide() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, CLASSES))
    nn.init.kaiming_normal_(model[2].weight)
    return model


def everything(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def test_weights_as_they_are_drawn_are_known() -> None:
    torch.manual_seed(0)
    for model in (
        net(4, norm=True),
        nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3)),
        nn.LSTM(16, 32, num_layers=2),
        nn.TransformerEncoderLayer(32, 4, 64),
        nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 32)),
        wide(),
    ):
        assert are_untrained(model, everything(model)), model


def test_what_training_leaves_in_weights_shows() -> None:
    for steps in (10, 30, 300):
        assert not are_untrained(trained(net(2), steps, rows()), ["0.weight", "2.weight"]), steps
    assert not are_untrained(trained(wide(), 30, rows()), ["2.weight"]), "by its singular values"
    small = net(2)
    nn.init.normal_(small[2].weight)
    assert not are_untrained(small, ["2.weight"]), "nothing is known of few numbers drawn by another law"
    assert not are_untrained(small, ["0.bias"]), "nothing can be told of it"
    norm = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32))
    nn.init.normal_(norm[1].weight)
    assert not are_untrained(norm, ["0.weight", "1.weight"])
    lost = nn.Linear(64, 64)
    nn.init.constant_(lost.weight, float("nan"))
    assert not are_untrained(lost, ["weight"])
