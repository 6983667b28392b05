"""Beam search: several texts are written side by side and the most probable kept, by models that read one and write
another.

What a reader would get wrong: scores are sums of log-probabilities over length to the power `length_power`, since a
longer text is always less probable (Wu et al. 2016, arXiv:1609.08144, equation 14 in a simpler form). With one beam the
most probable token is taken each time.

Shapes: B rows, K beams, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fathom.models.parts.cache import Cache


def beam_search(
    model: nn.Module,
    source: dict[str, Tensor],
    target: str,
    *,
    first: int,
    stop: int,
    new_tokens: int | Sequence[int],
    beams: int = 5,
    length_power: float = 1.0,
) -> list[list[int]]:
    """The tokens written for each row, without `first` and `stop`, at most `new_tokens` (of all rows, or of each).

    A row is done when as many texts have ended as there are beams, when no beam can overtake the best of these any
    more, or at its most tokens. Rows do not depend on each other. `model` takes {**source, target: int64 [rows, T]}
    and a cache, and answers with logits at each position.
    """
    (rows,) = {len(value) for value in source.values()}
    device = next(iter(source.values())).device
    limits = [new_tokens] * rows if isinstance(new_tokens, int) else list(new_tokens)
    found = [_Ended(limit, beams, length_power) for limit in limits]
    going = list(range(rows))
    wide = {name: value.repeat_interleave(beams, dim=0) for name, value in source.items()}
    cache = Cache()
    written = torch.full((rows * beams, 1), first, device=device)
    # All beams of a row begin alike; only the first may go on, or all would be the same.
    scores = torch.full((rows, beams), float("-inf"), device=device)
    scores[:, 0] = 0.0
    for step in range(1, max(limits, default=0) + 1):
        logits = model({**wide, target: written[:, -1:]}, cache=cache)[:, -1].float()
        steps = torch.log_softmax(logits, dim=-1).view(len(going), beams, -1)
        # Twice as many as beams: at most half of them end here, so that enough go on.
        best, places = (scores[:, :, None] + steps).flatten(1).topk(2 * beams, dim=1)
        origin, token = places // steps.shape[-1], places % steps.shape[-1]
        ends = (token == stop) & best.isfinite()
        # Only texts among the best count as ended, as if they were still beams.
        for row, place in ends[:, :beams].nonzero().tolist():
            text = written.view(len(going), beams, -1)[row, int(origin[row, place]), 1:]
            found[going[row]].add(float(best[row, place]), text, step)
        scores, order = best.masked_fill(ends, float("-inf")).topk(beams, dim=1)
        kept = origin.gather(1, order) + beams * torch.arange(len(going), device=device)[:, None]
        longer = torch.cat([written[kept.flatten()], token.gather(1, order).view(-1, 1)], dim=1)
        firsts = longer.view(len(going), beams, -1)[:, 0, 1:]
        hopes = zip(going, scores[:, 0].tolist(), firsts, strict=True)
        left = [at for at, (row, total, text) in enumerate(hopes) if not found[row].is_done(total, text, step)]
        if not left:
            break
        chosen = torch.tensor(left, device=device)
        going, scores, kept = [going[place] for place in left], scores[chosen], kept[chosen].flatten()
        written = longer.view(-1, beams, step + 1)[chosen].flatten(0, 1)
        wide = {name: value[kept] for name, value in wide.items()}
        cache.reorder(kept)
    return [one.text for one in found]


class _Ended:
    """The best text of a row that has ended; where none has, the best as far as it came."""

    def __init__(self, limit: int, beams: int, length_power: float) -> None:
        self.limit, self.beams, self.length_power = limit, beams, length_power
        self.text: list[int] = []
        self.score, self.count = float("-inf"), 0

    def add(self, total: float, text: Tensor, step: int) -> None:
        """A text that ends with this step; `total` is its log-probability."""
        score = total / step**self.length_power
        self.count += 1
        if score > self.score:
            self.score, self.text = score, text.tolist()

    def is_done(self, total: float, text: Tensor, step: int) -> bool:
        """Whether to stop, `total` and `text` being those of the best beam that goes on."""
        if step >= self.limit and not self.count:
            self.text = text.tolist()
        # A sum only falls, but it may be divided by as many tokens as are allowed.
        hope = total / self.limit**self.length_power
        return step >= self.limit or self.count >= self.beams or self.score >= hope
