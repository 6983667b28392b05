"""D6: labels that are wrong, by what models say of rows they have not seen.

What a reader would get wrong: a model that errs is no proof of wrong labels; some data is hard. But where data is hard,
the surer a model is the less it errs, and of what it is surest it errs hardly ever. Labels that were mixed up at random
are otherwise: the model errs as often where it is sure as where it is a little less so, because no reader can know
them. That plateau is tested. Which rows they are is told by models that learn without the rows under suspicion.

Source: Liu and Tao 2016, "Classification with Noisy Labels by Importance Reweighting": where the classes are sure, the
labels that contradict them tell the rate of noise, and rows are weighted by how far their label is believed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

from fathom.doctor.finding import Finding
from fathom.doctor.parts.given import Given
from fathom.doctor.parts.out_of_fold import Learner

LEAST_ROWS = 300
SUREST, NEXT = 0.1, 0.5  # shares of the rows, by how sure the model is
FLOOR = 0.04  # of the surest rows: fewer errors are no noise worth a word
PLATEAU, PEAK = 0.7, 0.6  # of the error among the next: so much is that of the surest, and of the surer half of them
SURE = 0.5  # of the error of always naming the largest class: above, the model is sure nowhere
TRUSTED = (0.2, 0.5)  # probability of a row's own label: none of its weight up to here, all of it from there


def find_label_noise(given: Given, learner: Learner, predicted: np.ndarray, level: float) -> Iterator[Finding]:
    """`predicted` are held-out probabilities [n, C] of the learner's rows."""
    labels = learner.targets
    if learner.is_number or len(labels) < LEAST_ROWS:
        return
    surest, following = error_by_sureness(predicted, labels)
    peak, guessing = surest[: len(surest) // 2].mean(), 1 - np.bincount(labels).max() / len(labels)
    is_flat = surest.mean() >= PLATEAU * following.mean() and peak >= PEAK * following.mean()
    if _lower(surest, level) < FLOOR or not is_flat or surest.mean() > SURE * guessing:
        return
    cleaned = without_suspects(learner, predicted)
    # Among the surest rows so many labels are wrong at least, and chance put no more of them there than elsewhere.
    flagged = suspects(cleaned, labels)[: round(_lower(surest, 0.05) * len(labels))]
    share = len(flagged) / len(labels)
    rows = learner.rows[flagged]
    shown = [
        f"{given.places[row]} ('{given.task.classes[labels[at]]}', rather '{given.task.classes[cleaned[at].argmax()]}')"
        for row, at in zip(rows[:3], flagged[:3], strict=True)
    ]
    yield Finding(
        "D6",
        seen=f"{len(flagged):,} of {len(labels):,} labels look wrong ({share:.0%}). Even where a model that has not "
        f"seen a row is surest, {surest.mean():.0%} of the labels contradict it. First: {'; '.join(shown)}",
        cause="Labels were mixed up, or given carelessly.",
        remedy="Read the rows that are listed, the likeliest first, and mend their labels; more than half of them "
        "should be wrong, not all. Test rows first of all.",
        by="test",
        confidence=1 - level,
        evidence={
            "rows": rows.tolist(),
            "places": given.told_places(rows),
            "rather": [given.task.classes[at] for at in cleaned[flagged].argmax(axis=1)],
            "error_of_the_surest": float(surest.mean()),
            "error_of_the_next": float(following.mean()),
        },
    )


def error_by_sureness(predicted: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether the label contradicts the likeliest class, bool, for the surest tenth of rows, surest first, and for
    the others of the surer half."""
    sureness = predicted.max(axis=1)
    order = np.argsort(-sureness, kind="stable")
    wrong = (predicted.argmax(axis=1) != labels)[order]
    first, then = int(SUREST * len(wrong)), int(NEXT * len(wrong))
    return wrong[:first], wrong[first:then]


def _lower(wrong: np.ndarray, level: float) -> float:
    """What the share of errors is at least."""
    return float(stats.binomtest(int(wrong.sum()), len(wrong), alternative="greater").proportion_ci(1 - level).low)


def without_suspects(learner: Learner, predicted: np.ndarray) -> np.ndarray:
    """Held-out probabilities [n, C] of models that trust a row as far as models without it believe its label.

    Once, not again and again: each round listens to the labels that it is to judge a little more.
    """
    believed = predicted[np.arange(len(learner.targets)), learner.targets]
    return learner.predict(weights=np.clip((believed - TRUSTED[0]) / (TRUSTED[1] - TRUSTED[0]), 0, 1))


def suspects(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Places of labels for which another class is likelier, those that are believed least first."""
    at = np.arange(len(labels))
    flagged = np.flatnonzero(predicted.argmax(axis=1) != labels)
    margin = (predicted[at, labels] - predicted.max(axis=1))[flagged]
    return flagged[np.argsort(margin, kind="stable")]
