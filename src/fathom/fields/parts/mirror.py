"""Whether a picture may be mirrored: measured, not believed. A mirrored 2 is no 2; a mirrored dog is a dog.

A small linear model is asked which of a picture and its mirror image is the original. Where it cannot tell, mirrored
pictures look like other pictures of the same data.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

MOST = 2_000
_FEWEST = 40
_LIMIT = 0.65
_FOLDS = 4
_SEED = 0


def may_mirror(pixels: np.ndarray) -> tuple[bool, str]:
    """From uint8 [N, height, width, channels] training pictures: the answer, and why. Deterministic."""
    if len(pixels) < _FEWEST:
        return False, f"not mirrored: {len(pixels)} pictures are too few to measure whether left and right matter"
    share, error = _told_apart(pixels)
    text = f"mirrored pictures are told from originals {share:.0%} of the time"
    if share > _LIMIT and share - 2 * error > 0.5:
        return False, f"not mirrored: {text}"
    return True, f"mirrored: {text}, where guessing gives 50 %"


def _told_apart(pixels: np.ndarray) -> tuple[float, float]:
    """The cross-validated share of pictures told from their mirror image, and its standard error."""
    from sklearn.linear_model import LogisticRegression  # 0.5 s, paid only by pictures
    from sklearn.model_selection import cross_val_predict

    rows = np.linspace(0, len(pixels) - 1, min(MOST, len(pixels))).astype(np.int64)
    side = 16 if len(rows) >= 500 else 8
    gray = np.stack([_small_gray(pixels[row], side) for row in rows])
    # A linear model without a constant sees only picture minus mirror image, whose halves repeat each other. So each
    # picture is one row, original or mirrored by lot, and never stands in two folds.
    halves = (gray - gray[:, :, ::-1])[:, :, : side // 2].reshape(len(rows), -1)
    lot = np.random.default_rng(_SEED).random(len(rows)) < 0.5
    signed = np.where(lot, 1.0, -1.0)[:, None] * halves
    if not signed.any():
        return 0.5, 0.0
    model = LogisticRegression(fit_intercept=False, C=0.1, max_iter=200)
    right = float((cross_val_predict(model, signed / (signed.std() + 1e-12), lot, cv=_FOLDS) == lot).mean())
    return right, float(np.sqrt(0.25 / len(rows)))


def _small_gray(picture: np.ndarray, side: int) -> np.ndarray:
    image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).convert("L")
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), dtype=np.float64) / 255
