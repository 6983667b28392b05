"""What the doctor says: a finding of the catalogue, with what was seen, its cause, a remedy and how sure it is.

Three kinds of evidence, best first: an exact invariant is broken ("exact"), a calibrated test rejects chance ("test"),
an experiment on a copy of the model shows the difference ("experiment"). What a reader would get wrong: a symptom whose
cause is known is no finding of its own; it is attached to the cause (`in_order_of_blame`).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
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
    "T7": Entry(
        "rows that are not shuffled",
        "Rows of one kind come together. Each step unlearns what the last one taught.",
        40,
    ),
    "T2": Entry(
        "a loss that jumps and comes back",
        "One batch, or one step, was unlike all others. A few rows that are wrong can undo what many have taught.",
        41,
    ),
    "T1": Entry(
        "a training that breaks down",
        "A number became infinite or NaN (not a number), or the loss runs away. What was learned is lost with it.",
        42,
    ),
    "T4": Entry(
        "dead or stuck units",
        "Many units of a layer say the same of every row. They learn nothing more, and the layer is narrower for it.",
        43,
    ),
    "T3": Entry(
        "gradients that vanish",
        "What the layers near the input get back is next to nothing, so they stay as they were made at random.",
        44,
    ),
    "T5": Entry(
        "nothing is learned",
        "The model is no better than one that says the same of every row.",
        45,
    ),
    "T6": Entry(
        "overfitting",
        "The model goes on getting better on rows it learns from, and gets worse on rows it is judged by.",
        46,
    ),
    "T8": Entry(
        "a batch size that does not suit the noise",
        "With much smaller batches steps are mostly chance, with much larger ones most rows add nothing. Advice, no "
        "fault.",
        47,
    ),
    "A1": Entry(
        "too good to be true",
        "The model does better on rows it never saw than on those it learned from. That is a sign of test rows that "
        "are easier, or known.",
        50,
    ),
    "A2": Entry(
        "worse than a simple model, or failing on a group",
        "A far simpler model does better, or on rows of one kind the model fails without knowing it.",
        51,
    ),
    "A3": Entry(
        "probabilities that do not mean what they say",
        "Where the model says 90 %, clearly more or fewer than 90 of 100 answers are right.",
        52,
    ),
    "P1": Entry(
        "new data is of another kind",
        "The rows that are to be answered are written otherwise, or are others, than those the model was made with.",
        60,
    ),
    "P2": Entry(
        "the answers have become worse",
        "On new rows whose truth is known the model is wrong more often than it was when it was made.",
        61,
    ),
    "D1": Entry(
        "values that are no numbers, or always the same",
        "A column holds infinite values, words among its numbers, or one value only where the model learns. What it "
        "says there is lost.",
        21,
    ),
    "D2": Entry(
        "the same row more than once",
        "A row that a model has learned by heart comes again in the test. It is right there without having understood "
        "anything, and looks better than it is.",
        22,
    ),
    "D3": Entry(
        "rows that belong together stand on both sides",
        "Rows of one person, place or day are alike. Where some train and others test, the test is easier than the use "
        "will be.",
        23,
    ),
    "D4": Entry(
        "target leakage",
        "A column says what is to be predicted, in other words. When predictions are needed it will not be known yet.",
        24,
    ),
    "D5": Entry(
        "prepared with the test rows",
        "Numbers were scaled by a mean or a range that the test rows helped to make. So the training has seen a little "
        "of the test.",
        25,
    ),
    "D6": Entry(
        "labels that are wrong",
        "Some rows have the answer of another class. A model learns these too, and is judged by them.",
        26,
    ),
    "D7": Entry(
        "a class with too few rows",
        "One class is so rare that a model does well without ever naming it, or that nobody can tell how well it is "
        "found.",
        27,
    ),
    "D8": Entry(
        "training and test rows differ",
        "The rows that test are of another kind than those that train. The score then says little about either.",
        28,
    ),
    "D9": Entry(
        "the columns say nothing about the target",
        "Nothing in a row tells its target better than a guess does: perhaps rows and targets were mixed up.",
        29,
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


def drop_options(columns: Iterable[str]) -> str:
    """What to type to leave columns out: "--drop after --drop 'paid on'"."""
    return " ".join(f"--drop {shlex.quote(name)}" for name in columns)


def in_order_of_blame(findings: Iterable[Finding]) -> list[Finding]:
    """Causes first; what a known cause explains stands among its symptoms."""
    ordered = sorted(findings, key=lambda one: (CATALOGUE[one.id].rank, one.step or 0))
    causes = [_root(one, ordered) for one in ordered]
    symptoms: dict[int, list[Finding]] = {id(cause): [] for cause in causes}
    for one, cause in zip(ordered, causes, strict=True):
        if one is not cause:
            symptoms[id(cause)].append(one)
    return [replace(one, symptoms=(*one.symptoms, *symptoms[id(one)])) for one in ordered if id(one) in symptoms]


def _root(one: Finding, ordered: Sequence[Finding]) -> Finding:
    """What explains a finding and is explained by none; of some that explain each other the first."""
    seen: list[Finding] = []
    while not any(one is other for other in seen):
        seen.append(one)
        one = next((other for other in ordered if other.id in one.symptom_of), one)
    return min(seen[next(i for i, other in enumerate(seen) if other is one) :], key=lambda o: CATALOGUE[o.id].rank)
