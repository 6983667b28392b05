"""Beam search: several texts are written side by side and the most probable kept, by models that read one and write
another.

What a reader would get wrong: scores are sums of log-probabilities over length to the power `length_power`, since a
longer text is always less probable (Wu et al. 2016, arXiv:1609.08144, equation 14 in a simpler form). With one beam the
most probable token is taken each time.

Shapes: B rows, K beams, V tokens of the vocabulary.
"""

from __future__ import annotations

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
    new_tokens: int,
    beams: int = 5,
    length_power: float = 1.0,
) -> list[list[int]]:
    """The tokens written for each row, without `first` and `stop`, at most `new_tokens`.

    `model` takes {**source, target: int64 [rows, T]} and a cache, and answers with logits at each position.
    """
    (rows,) = {len(value) for value in source.values()}
    device = next(iter(source.values())).device
    wide = {name: value.repeat_interleave(beams, dim=0) for name, value in source.items()}
    cache = Cache()
    written = torch.full((rows * beams, 1), first, device=device)
    # All beams of a row begin alike; only the first may go on, or all would be the same.
    scores = torch.full((rows, beams), float("-inf"), device=device)
    scores[:, 0] = 0.0
    finished = _Finished(rows, length_power)
    for step in range(1, new_tokens + 1):
        logits = model({**wide, target: written[:, -1:]}, cache=cache)[:, -1].float()
        steps = torch.log_softmax(logits, dim=-1)
        num_tokens = steps.shape[-1]
        every = (scores[:, :, None] + steps.view(rows, beams, -1)).flatten(1)
        # Twice as many as beams: at most half of them end here, so that enough go on.
        best, places = every.topk(2 * beams, dim=1)
        origin, token = places // num_tokens, places % num_tokens
        ends = token == stop
        finished.add(best, origin, ends, written.view(rows, beams, -1), step, beams)
        alive = best.masked_fill(ends, float("-inf"))
        scores, order = alive.topk(beams, dim=1)
        if finished.is_done(scores, step):
            break
        kept = origin.gather(1, order) + beams * torch.arange(rows, device=device)[:, None]
        written = torch.cat([written[kept.flatten()], token.gather(1, order).view(-1, 1)], dim=1)
        cache.reorder(kept.flatten())
    return finished.best(scores, written.view(rows, beams, -1))


class _Finished:
    """The best text that has ended, for each row."""

    def __init__(self, rows: int, length_power: float) -> None:
        self.length_power = length_power
        self.scores = [float("-inf")] * rows
        self.texts: list[list[int]] = [[] for _ in range(rows)]

    def add(self, best: Tensor, origin: Tensor, ends: Tensor, written: Tensor, step: int, beams: int) -> None:
        """Texts that end with this step. Only those among the best `beams` count, as if they were still beams."""
        for row, place in ends[:, :beams].nonzero().tolist():
            score = float(best[row, place]) / step**self.length_power
            if score > self.scores[row]:
                self.scores[row] = score
                self.texts[row] = written[row, int(origin[row, place]), 1:].tolist()

    def is_done(self, scores: Tensor, step: int) -> bool:
        """Whether no beam that goes on can still overtake, in any row: each step only lowers a sum."""
        hope = scores.max(dim=1).values / (step + 1) ** self.length_power
        return all(found >= best for found, best in zip(self.scores, hope.tolist(), strict=True))

    def best(self, scores: Tensor, written: Tensor) -> list[list[int]]:
        """For rows in which nothing has ended, the best as far as it came."""
        place = scores.argmax(dim=1).tolist()
        return [
            text if score > float("-inf") else written[row, place[row], 1:].tolist()
            for row, (text, score) in enumerate(zip(self.texts, self.scores, strict=True))
        ]
