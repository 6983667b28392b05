"""The scans of Mamba and Mamba-2 compute their recurrences, forwards and backwards, in memory linear in the length.

What a reader would get wrong: agreement is asked for in float64, where two right forms differ by rounding only. A step
too many or an input left out would show at once.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from fathom.models.parts import scan as scan_file
from fathom.models.parts.scan import SEGMENT, scan, scan_in_rounds, scan_step_by_step
from fathom.models.parts.ssd import ssd, ssd_step_by_step
from fathom.models.parts.state_space import FIRST_STEPS, causal_conv, first_step_bias, zero_outside

Form = Callable[..., tuple[Tensor, Tensor]]
LENGTHS = [1, 5, SEGMENT, SEGMENT + 1, 2 * SEGMENT + 3]


def scan_inputs(T: int, *, R: int = 2, D: int = 3, N: int = 4, kind: torch.dtype = torch.float64) -> list[Tensor]:
    """x, dt, A, B, C and the state before, all of which have gradients."""
    random = torch.Generator().manual_seed(T)
    draw = lambda *shape: torch.randn(shape, generator=random, dtype=kind)  # noqa: E731
    given = [draw(R, T, D), F.softplus(draw(R, T, D)), -draw(D, N).exp(), draw(R, T, N), draw(R, T, N), draw(R, N, D)]
    return [tensor.requires_grad_() for tensor in given]


def ssd_inputs(
    T: int, *, R: int = 2, H: int = 4, P: int = 3, G: int = 2, N: int = 5, kind: torch.dtype = torch.float64
) -> list[Tensor]:
    random = torch.Generator().manual_seed(T)
    draw = lambda *shape: torch.randn(shape, generator=random, dtype=kind)  # noqa: E731
    given = [draw(R, T, H, P), F.softplus(draw(R, T, H)), -draw(H).exp()]
    given += [draw(R, T, G, N), draw(R, T, G, N), draw(R, H, N, P)]
    return [tensor.requires_grad_() for tensor in given]


def copied(given: list[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone().requires_grad_() for tensor in given]


def assert_agree(form: Form, reference: Form, given: list[Tensor]) -> None:
    """Outputs, the last state, and the gradients of all inputs from both."""
    other = copied(given)
    found, wanted = form(*given), reference(*other)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    weights = [torch.randn_like(part) for part in wanted]
    for parts in (found, wanted):
        sum((part * weight).sum() for part, weight in zip(parts, weights, strict=True)).backward()
    for ours, theirs in zip(given, other, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("T", LENGTHS)
def test_scan_is_the_recurrence(T: int) -> None:
    assert_agree(scan, scan_step_by_step, scan_inputs(T))


@pytest.mark.parametrize("T", [1, 2, 7, 16])
def test_scan_in_rounds_is_the_recurrence(T: int) -> None:
    assert_agree(scan_in_rounds, scan_step_by_step, scan_inputs(T))


@pytest.mark.parametrize("chunk", [1, 4, 64])
@pytest.mark.parametrize("T", [1, 4, 11])
def test_ssd_is_the_recurrence(T: int, chunk: int) -> None:
    assert_agree(lambda *given: ssd(*given, chunk=chunk), ssd_step_by_step, ssd_inputs(T))


def test_ssd_is_the_scan_where_all_numbers_of_a_head_decay_alike() -> None:
    x, dt, A, B, C, _ = ssd_inputs(9, H=1, G=1, P=1)
    y, _ = ssd(x, dt, A, B, C, chunk=4)
    same, _ = scan(x[..., 0], dt, A.expand(5)[None], B[:, :, 0], C[:, :, 0])
    torch.testing.assert_close(y[..., 0], same)


def test_scan_passes_the_numerical_check_of_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_file, "SEGMENT", 2)
    assert torch.autograd.gradcheck(scan, scan_inputs(5, R=1, D=2, N=2))


def test_ssd_passes_the_numerical_check_of_its_gradient() -> None:
    given = ssd_inputs(5, R=1, H=2, P=2, G=1, N=2)
    assert torch.autograd.gradcheck(lambda *given: ssd(*given, chunk=2), given)


def test_scan_refuses_a_second_derivative() -> None:
    x, *others = scan_inputs(3)
    (gradient,) = torch.autograd.grad(scan(x, *others)[0].square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("form", "make"), [(scan, scan_inputs), (lambda *given: ssd(*given, chunk=4), ssd_inputs)], ids=["scan", "ssd"]
)
def test_going_on_from_a_state_equals_the_whole(form: Form, make: Callable[[int], list[Tensor]]) -> None:
    x, dt, A, B, C, _ = make(2 * SEGMENT + 5)
    whole, last = form(x, dt, A, B, C)
    pieces, state = [], None
    for part in (slice(0, 3), slice(3, 4), slice(4, SEGMENT + 6), slice(SEGMENT + 6, None)):
        y, state = form(x[:, part], dt[:, part], A, B[:, part], C[:, part], state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)
    torch.testing.assert_close(state, last)


@pytest.mark.parametrize(("form", "make"), [(scan, scan_inputs), (ssd, ssd_inputs)], ids=["scan", "ssd"])
def test_a_step_of_zero_leaves_the_state_as_it_was(form: Form, make: Callable[[int], list[Tensor]]) -> None:
    x, dt, A, B, C, before = make(6)
    _, after = form(x, torch.zeros_like(dt), A, B, C, before)
    assert torch.equal(after, before)


def saved_bytes(form: Form, given: list[Tensor]) -> int:
    """What autograd keeps for the backward pass, tensors that share memory counted once."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        memory = tensor.untyped_storage()
        kept[memory.data_ptr()] = memory.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = form(*given)  # held until all is counted, so that no memory is used twice
    del outputs
    return sum(kept.values())


@pytest.mark.parametrize(("form", "make"), [(scan, scan_inputs), (ssd, ssd_inputs)], ids=["scan", "ssd"])
def test_memory_grows_with_the_length_and_not_its_square(form: Form, make: Callable[[int], list[Tensor]]) -> None:
    once, twice, four_times = (saved_bytes(form, make(length)) for length in (256, 512, 1024))
    assert twice / once < 2.2
    assert four_times / twice < 2.2


def test_scan_keeps_no_state_for_each_position() -> None:
    given = scan_inputs(128, D=64, N=16)
    assert saved_bytes(scan, given) < saved_bytes(scan_step_by_step, given) / 8


@pytest.mark.parametrize(("form", "make"), [(scan, scan_inputs), (ssd, ssd_inputs)], ids=["scan", "ssd"])
def test_forgetting_at_once_gives_no_nan(form: Form, make: Callable[..., list[Tensor]]) -> None:
    """A large step leaves exp(-thousands) of the state: zero, also in the gradient."""
    x, dt, A, B, C, state = make(40, kind=torch.float32)
    y, last = form(x, dt + 100.0, A * 10.0, B, C, state)
    (y.sum() + last.sum()).backward()
    assert all(tensor.grad is not None and torch.isfinite(tensor.grad).all() for tensor in (x, dt, A, B, C, state))


@pytest.mark.parametrize(("form", "make"), [(scan, scan_inputs), (ssd, ssd_inputs)], ids=["scan", "ssd"])
def test_narrow_types_are_added_up_in_float32(form: Form, make: Callable[..., list[Tensor]]) -> None:
    given = make(40, kind=torch.float32)
    narrow = [tensor.detach().bfloat16() for tensor in given]
    y, state = form(*narrow)
    assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    wanted, last = form(*(tensor.float() for tensor in narrow))
    torch.testing.assert_close(y.float(), wanted, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(state, last)


def test_scan_ignores_autocast() -> None:
    given = scan_inputs(20, kind=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = scan(*given)
    assert torch.equal(y, scan(*given)[0])


def test_convolution_sees_only_what_came_before() -> None:
    torch.manual_seed(0)
    conv, x = nn.Conv1d(3, 3, 4, groups=3), torch.randn(2, 9, 3)
    whole, window = causal_conv(x, conv)
    changed = x.clone()
    changed[:, 5] += 1.0
    moved = (causal_conv(changed, conv)[0] - whole).abs().amax(dim=(0, 2)) > 0
    assert moved.tolist() == [False] * 5 + [True] * 4
    assert torch.equal(window, x[:, -3:])


def test_convolution_goes_on_even_where_the_text_is_shorter_than_its_kernel() -> None:
    torch.manual_seed(0)
    conv, x = nn.Conv1d(3, 3, 4, groups=3), torch.randn(2, 6, 3)
    pieces, window = [], None
    for t in range(6):
        y, window = causal_conv(x[:, t : t + 1], conv, window)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, dim=1), causal_conv(x, conv)[0])


def test_mask_of_all_positions_so_far_is_cut_to_the_new_ones() -> None:
    inside = torch.tensor([[False, True, True, False]])
    assert zero_outside(torch.ones(1, 2, 1), inside).flatten().tolist() == [1.0, 0.0]


def test_steps_start_between_their_limits_evenly_in_logarithm() -> None:
    torch.manual_seed(0)
    steps = F.softplus(first_step_bias(10_000).double())
    assert FIRST_STEPS[0] * 0.99 < steps.min() and steps.max() < FIRST_STEPS[1] * 1.01
    assert steps.log().mean().exp() == pytest.approx(1e-2, rel=0.05)
