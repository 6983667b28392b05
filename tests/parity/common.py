"""Shared by the tests that compare our models with `transformers`: the same weights must give the same numbers.

A test makes a small model of the other library, hands it to `brought_over` and compares outputs and gradients; then it
goes the way back with `written_back`. What a reader would get wrong: a fresh model hides errors, since biases start at
0 and norms at 1 in both libraries, so every parameter and every running statistic is randomised first.

    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(...))
    loaded = brought_over(theirs, tmp_path)                  # randomises theirs; loaded.model has the same weights
    tokens = token_ids(rows=3, length=7, vocabulary=50)
    assert_same(loaded.model(tokens), theirs(tokens).logits)
    assert_same_gradients(loaded, theirs, loaded.model(tokens), theirs(tokens).logits, tmp_path)
    assert_same(written_back(loaded, type(theirs), tmp_path)(tokens).logits, theirs(tokens).logits)
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fathom.pretrained import Pretrained, from_pretrained


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter away from its start, signals of about the same size in every layer; the model in eval mode.

    Matrices and kernels become normal numbers over sqrt(inputs of one output), vectors move by normal numbers of 0.2,
    running means become normal, running variances lie in 0.5..1.5. Other buffers stay.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=random)
            if parameter.dim() > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.add_(0.2 * noise)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=random))
            if name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=random))
    return model.eval()


def brought_over(theirs: nn.Module, folder: Path, *, seed: int = 0) -> Pretrained:
    """Randomise their model (see `randomise`), save it as they do, and load it as ours, which knows every setting."""
    randomise(theirs, seed)
    where = Path(tempfile.mkdtemp(dir=folder))
    theirs.save_pretrained(where)
    loaded = from_pretrained(where)
    assert not any("nothing here reads" in note for note in loaded.notes), loaded.notes
    return loaded


def written_back(loaded: Pretrained, kind: Any, folder: Path, *, not_ours: Iterable[str] = ()) -> nn.Module:
    """Save our model and load it as their class `kind`, which must neither miss nor be left with any tensor.

    `not_ours` are patterns over names that theirs has beyond what is ours (a pooler that nobody asked for).
    """
    where = Path(tempfile.mkdtemp(dir=folder))
    loaded.save_pretrained(where)
    theirs, told = kind.from_pretrained(where, output_loading_info=True)
    for problem, names in told.items():
        over = [str(name) for name in names if not any(fnmatchcase(str(name), pattern) for pattern in not_ours)]
        assert not over, f"{problem}: {over}"
    return theirs.eval()


def assert_same(ours: Tensor, theirs: Tensor, *, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def assert_same_gradients(
    loaded: Pretrained,
    theirs: nn.Module,
    our_outputs: Tensor,
    their_outputs: Tensor,
    folder: Path,
    *,
    unused: Iterable[str] = (),
    tolerance: float = 1e-4,
) -> None:
    """The gradients of one random weighting of the outputs agree for every tensor that `names` maps.

    Each may differ by `tolerance` of its largest number (of a hundredth of the largest of all where it is smaller
    still: the gradient of a key's bias is nothing but rounding). Parameters of ours that match `unused` take no part
    in these outputs; all others must have a gradient.
    """
    weights = torch.randn(our_outputs.shape, generator=torch.Generator().manual_seed(1))
    _backward(loaded.model, our_outputs, weights)
    _backward(theirs, their_outputs, weights)
    found = _gradients_by_our_names(theirs, folder)
    scale = max(float(gradient.abs().max()) for gradient in found.values())
    for name, parameter in loaded.model.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in unused):
            continue
        assert parameter.grad is not None and parameter.grad.any(), f"no gradient reached {name}"
        allowed = tolerance * max(float(found[name].abs().max()), 1e-2 * scale)
        torch.testing.assert_close(
            parameter.grad, found[name], rtol=tolerance, atol=allowed, msg=lambda told, name=name: f"{name}: {told}"
        )


def _backward(model: nn.Module, outputs: Tensor, weights: Tensor) -> None:
    model.zero_grad(set_to_none=True)
    (outputs * weights).sum().backward()


def _gradients_by_our_names(theirs: Any, folder: Path) -> dict[str, Tensor]:
    """Their gradients travel as if they were weights: saved under the names of the files, which may not be those in
    memory, and read by our mapping, transposed matrices and all."""
    kept = {name: parameter.detach().clone() for name, parameter in theirs.named_parameters()}
    where = Path(tempfile.mkdtemp(dir=folder))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
        theirs.save_pretrained(where)
        for name, parameter in theirs.named_parameters():
            parameter.copy_(kept[name])
    return dict(from_pretrained(where).model.state_dict())


def token_ids(*, rows: int, length: int, vocabulary: int, seed: int = 0) -> Tensor:
    """Random ids int64 [rows, length] from 1 up: 0 is padding in most vocabularies."""
    return torch.randint(1, vocabulary, (rows, length), generator=torch.Generator().manual_seed(seed))


def inside_of(lengths: Iterable[int], length: int, *, left: bool = False) -> Tensor:
    """True for real positions, bool [rows, length]: rows of these lengths, padded on the right, or on the left."""
    real = torch.tensor(list(lengths))[:, None]
    place = torch.arange(length)
    return place >= length - real if left else place < real
