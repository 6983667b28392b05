"""A training at its end is asked whether a linear model does better on the rows it was trained on."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from torch import Tensor, nn
from torch.nn import functional as F

import fathom
from fathom.doctor.behind_linear import _linear, find_behind_linear

Batch = tuple[Tensor, Tensor]


def classes(form: str = "numbers") -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    if form == "words":
        x = torch.randint(1, 40, (320, 12), generator=generator)
        y = ((x < 8).sum(dim=1) > (x > 32).sum(dim=1)).long()
    else:
        x = (
            torch.randn(320, 1, 6, 6, generator=generator)
            if form == "pictures"
            else torch.randn(320, 6, generator=generator)
        )
        y = x.flatten(1)[:, :3].argmax(dim=1)
    return list(zip(x.split(32), y.split(32), strict=True))


def numbers() -> list[Batch]:
    return [(x, x.flatten(1)[:, 0] - 0.5 * x.flatten(1)[:, 1] + 3) for x, _ in classes()]


def loss(model: nn.Module, batch: Batch) -> Tensor:
    out, y = model(batch[0]), batch[1]
    return F.mse_loss(out[:, 0], y) if y.is_floating_point() else F.cross_entropy(out, y)


def net(inputs: int, outputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, outputs))


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.head = nn.EmbeddingBag(40, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.words(x))


def trained(model: nn.Module, data: list[Batch], *, sign: float = 1.0, steps: int = 200, **more: Any) -> fathom.watch:
    """With `sign` -1 the gradients of the first layer have the wrong sign: no finding of the catalogue names it."""
    next(p for p in model.parameters() if p.dim() > 1).register_hook(lambda g: sign * g)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    doctor = fathom.watch(model, optimizer, say=None, data=data, loss=loss, **{"steps": steps} | more)
    for batch in itertools.islice(itertools.cycle(data), steps):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    doctor.close()
    return doctor


CASES = {
    "classes": lambda: (net(6, 3), classes()),
    "pictures": lambda: (net(36, 3), classes("pictures")),
    "words": lambda: (Words(), classes("words")),
    "numbers": lambda: (net(6, 1), numbers()),
}


@pytest.mark.parametrize("name", CASES)
def test_a_model_that_something_keeps_from_learning_is_told_at_the_end(name: str) -> None:
    assert trained(*CASES[name]()).findings == []
    model, data = CASES[name]()
    doctor = trained(model, data, sign=-1.0 if name != "words" else -20.0, curriculum=True)
    told = [one for one in doctor.findings if one.id == "T5"]
    assert len(told) == 1 and told[0].evidence["linear"] > told[0].evidence["own"] + 0.1, doctor.findings
    assert "a linear model on rows that it has not seen" in told[0].seen


def test_members_are_averaged_and_modes_and_random_numbers_stay() -> None:
    class Members(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = net(6, 3), net(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.one(x), -self.one(x)], dim=1)  # which know nothing together

    model, data = Members(), classes()
    model.other.eval()
    random = torch.get_rng_state()
    (one,) = find_behind_linear(model, data)
    assert one.evidence["own"] < 0.6 < one.evidence["linear"]
    assert model.one.training and not model.other.training and torch.equal(torch.get_rng_state(), random)


def test_what_is_broken_off_or_of_another_form_is_not_asked() -> None:
    model, data = net(6, 3), classes()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def after(steps: int, error: bool = False) -> list[str]:
        doctor = fathom.watch(model, optimizer, say=None, data=data, loss=loss, steps=20, curriculum=True)
        try:
            with doctor:
                for x, y in data[:steps] * (2 if steps == 10 else 1):
                    optimizer.zero_grad()
                    (0 * loss(model, (x, y))).backward()
                    optimizer.step()
                if error:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        return [one.id for one in doctor.findings if "linear" in one.evidence]

    assert after(10) == ["T5"] and after(10, error=True) == [] and after(3) == []
    for other in (
        [{"x": x, "y": y} for x, y in data],
        [(x, F.one_hot(y).float()) for x, y in data],
        [(x, y.where(y > 0, -100)) for x, y in data],
        [(x, y * 0) for x, y in data],
        [(x / 0, y) for x, y in data],
        data[:2],
        iter(data),
    ):
        assert list(find_behind_linear(model, other)) == []
    assert list(find_behind_linear(nn.Linear(5, 3), data)) == [], "a model that cannot read them alone"


def test_each_row_is_told_by_a_fit_without_it() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 5)), random.normal(size=(40, 2))
    y[:, 0] += x[:, 0]
    x = (x - x.mean(axis=0)) / x.std(axis=0, ddof=1)
    ours = _linear(torch.from_numpy(x), torch.from_numpy(y)).numpy()
    losses = []
    for penalty in 10.0 ** np.arange(-3, 5):
        theirs = cross_val_predict(Ridge(alpha=penalty * x.shape[1]), x, y, cv=LeaveOneOut())
        losses.append(((theirs - y) ** 2).mean())
    # The mean of all answers is taken off once here, and by each fit there.
    assert ((ours - y) ** 2).mean() == pytest.approx(min(losses), rel=0.02)
