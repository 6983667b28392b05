"""A mode of torch that is put on and taken off at any time, not in the order of `with` blocks.

What a reader would get wrong: others may stand above it when it ends; they stay.
"""

from __future__ import annotations

from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode


class Mode(TorchFunctionMode):
    def begin(self) -> None:
        _push_mode(self)

    def end(self) -> None:
        """Off again, also where somebody has put a mode of torch above it; a second time nothing happens."""
        if all(one is not self for one in _get_current_function_mode_stack()):
            return
        above = []
        while (top := _pop_mode()) is not self:
            above.append(top)
        for one in reversed(above):
            _push_mode(one)
