"""What the doctor says: a finding of the catalogue, with what was seen, its cause, a remedy and how sure it is.

Three kinds of evidence, best first: an exact invariant is broken ("exact"), a calibrated test rejects chance ("test"),
an experiment on a copy of the model shows the difference ("experiment"). What a reader would get wrong: a symptom whose
cause is known is no finding of its own; it is attached to the cause (`in_order_of_blame`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

Evidence = Literal["exact", "test", "experiment"]
PAGES = "docs/doctor"


class Entry(NamedTuple):
    """A line of the catalogue."""

    name: str
    meaning: str  # in a beginner's words
    rank: int  # in the order of blame: causes come before what follows from them


CATALOGUE: dict[str, Entry] = {
    "F1": Entry(
        "loss and last activation do not fit",
        "The loss expects one kind of number and gets another. It falls, but slowly, and not as far as it could.",
        10,
    ),
    "F4": Entry(
        "parameters that are never trained",
        "Some weights of the model stay as they were made at random, because no optimizer moves them or no gradient "
        "reaches them.",
        11,
    ),
    "F5": Entry(
        "gradients are never reset",
        "Each step moves along the gradients of all batches so far, not of the last. Training runs away or circles.",
        12,
    ),
    "F6": Entry(
        "training and evaluation mode are mixed up",
        "Dropout and batch normalisation work differently while a model is trained and while it is used. In the wrong "
        "mode it is trained without them, or judged with noise.",
        13,
    ),
    "F7": Entry(
        "batches too small for batch norm",
        "Batch norm takes mean and spread from the rows of a batch. From a handful of rows both are guesses, and each "
        "step is shaken by which rows happen to be together.",
        14,
    ),
    "F3": Entry(
        "inputs that are not normalised",
        "Some inputs are numbers thousands of times larger than others. One learning rate cannot suit all of them.",
        15,
    ),
    "F8": Entry(
        "a bad start",
        "The first weights let signals grow or die from layer to layer, or are all alike: learning cannot begin.",
        16,
    ),
    "F2": Entry(
        "a first loss far too high",
        "Before it has learned anything the model is already sure of its answers. The first steps only undo that.",
        17,
    ),
    "F10": Entry(
        "learning rate out of range",
        "The steps are so large that they overshoot, or so small that they get nowhere.",
        18,
    ),
    "F9": Entry(
        "one small batch cannot be learned",
        "A healthy network learns a few rows by heart within moments. This one cannot, so something between its input "
        "and its answer is broken.",
        19,
    ),
    "T1": Entry(
        "numbers that are not finite",
        "A number became infinite, or NaN (not a number). One step with it ruins all weights, and nothing is learned.",
        20,
    ),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `seen` says it with numbers, `evidence` has all of them."""

    id: str
    seen: str
    cause: str
    remedy: str
    by: Evidence
    confidence: float = 1.0  # of an exact invariant 1; of a test 1 - its error
    step: int | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    symptom_of: tuple[str, ...] = ()  # findings that explain this one
    symptoms: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        assert self.id in CATALOGUE, f"{self.id} is not in the catalogue"

    @property
    def name(self) -> str:
        return CATALOGUE[self.id].name

    @property
    def text(self) -> str:
        """What a person reads first."""
        when = "" if self.step is None else f" (step {self.step:,})"
        return f"{self.seen}{when}. {self.cause} {self.remedy}"

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "text": self.text,
            "seen": self.seen,
            "meaning": CATALOGUE[self.id].meaning,
            "cause": self.cause,
            "remedy": self.remedy,
            "by": self.by,
            "confidence": self.confidence,
            "step": self.step,
            "page": f"{PAGES}/{self.id}.md",
            "evidence": self.evidence,
            "symptoms": [one.to_json() for one in self.symptoms],
        }


def in_order_of_blame(findings: Iterable[Finding]) -> list[Finding]:
    """Causes first; what a known cause explains stands among its symptoms."""
    ordered = sorted(findings, key=lambda one: (CATALOGUE[one.id].rank, one.step or 0))
    causes: list[Finding] = []
    for one in ordered:
        at = next((i for i, cause in enumerate(causes) if one.symptom_of and cause.id in one.symptom_of), None)
        if at is None:
            causes.append(one)
        else:
            causes[at] = replace(causes[at], symptoms=(*causes[at].symptoms, one))
    return causes
