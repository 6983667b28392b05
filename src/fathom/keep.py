"""Judge the candidates and write what a run leaves behind: verdict, predictions, spec, split, environment."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom import answer_checks, answers, mistakes, pairs, referee, rooms
from fathom.candidates import Candidate, seconds_per_row
from fathom.contest import Contest
from fathom.data import PARTS, Table, jsonable
from fathom.decision import Candidate as Contender
from fathom.encode import Specs
from fathom.ensemble import average
from fathom.manifest import write_manifest
from fathom.prepared import Prepared
from fathom.reference import keep_reference
from fathom.show import shown, shown_interval

SPEC_VERSION = 1
# Simpler models win ties: baselines have ranks of their own below this.
NETWORK_RANK = 10


def begin_folder(contest: Contest, table: Table, prepared: Prepared, specs: Specs) -> None:
    """What is known before training: the manifest, the spec, the split, what was left out."""
    folder, divided = contest.folder, contest.divided
    folder.begin()
    write_manifest(folder, contest.recipe, table)
    folder.write_json("spec.json", spec_of(contest, table, specs))
    folder.write_table("split.parquet", _split_columns(contest, prepared))
    left_out = [*prepared.left_out, *divided.left_out]
    folder.write_rows("left_out.csv", ("where", "why"), left_out)
    folder.write_json("findings.json", [one.to_json() for one in prepared.findings])
    if contest.task.kind == "pair":
        folder.write_table("captions.parquet", {"caption": pairs.captions_to_keep(contest.targets, divided.fitting)})
    contest.save_recipe()


def spec_of(contest: Contest, table: Table, specs: Specs) -> dict[str, Any]:
    """Everything that is needed to read new data as the training data was read."""
    return {
        "version": SPEC_VERSION,
        "name": table.name,
        "task": contest.task.to_json(),
        "target": contest.target,
        "order": list(table.columns),
        "options": dict(table.options),
        "group": contest.recipe.split.group,
        "fields": specs,
    }


def _split_columns(contest: Contest, prepared: Prepared) -> dict[str, Any]:
    divided = contest.divided
    part = np.full(len(prepared.table), -1, np.int8)
    fold = np.full(len(prepared.table), -1, np.int16)
    for number, one in enumerate(divided.folds):
        part[one.train] = np.where(part[one.train] < 0, 0, part[one.train])
        fold[one.validate] = number
        part[one.validate] = 1
    part[divided.test] = 2
    used = np.flatnonzero(part >= 0)
    places = prepared.table.places
    return {
        "row": used,
        "place": [places[row] for row in used],
        "part": [PARTS[number] for number in part[used]],
        "fold": fold[used],
    }


def keep_result(contest: Contest, prepared: Prepared, candidates: list[Candidate]) -> None:
    """Let the referee judge, print the verdict, write metrics.json and predictions.parquet."""
    divided, targets = contest.divided, contest.targets
    test = contest.examples.take(divided.test)
    judged = [_judged(contest, candidate, test) for candidate in candidates]
    # Rows of one group are not independent: they are resampled together.
    units = divided.groups
    judged_units, test_units = (None, None) if units is None else (units[divided.judged], units[divided.test])
    if contest.task.kind in ("classify", "regress"):
        blend = average(
            judged, targets[divided.judged], contest.task, seed=contest.recipe.seed, validation_units=judged_units
        )
        judged += [] if blend is None else [blend]
    verdict = referee.judge(
        judged,
        targets[divided.judged],
        targets[divided.test],
        contest.task,
        contest.metric,
        seed=contest.recipe.seed,
        validation_units=judged_units,
        test_units=test_units,
        noun=_noun(contest),
    )
    metrics = verdict.to_json()
    metrics |= {
        "target": contest.task.target,
        "about": {c.name: c.about for c in candidates},
        "rows": {
            "train": int(len(divided.fitting) - (len(divided.judged) if len(divided.folds) > 1 else 0)),
            "validate": len(divided.judged),
            "test": len(divided.test),
            **({} if contest.store is None else {"further": contest.store.num_further}),
        },
        "folds": len(divided.folds),
        "looked_for": list(prepared.looked_for),
        "seconds": {c.name: c.seconds for c in candidates} | {"total": contest.budget.spent},
    }
    _print_verdict(contest, verdict)
    if contest.task.kind == "pair":
        metrics["among"] = pairs.among(test)
        contest.console.more(pairs.told_among(metrics["among"]))
    contest.folder.write_table("predictions.parquet", _prediction_columns(contest, prepared, judged, verdict))
    advised = next(one for one in judged if one.name == verdict.advised)
    contest.folder.write_json(mistakes.NAME, _mistaken(contest, prepared, advised.test))
    keep_reference(contest, prepared, candidates, advised)
    _examine(contest, metrics)
    contest.save_recipe()
    contest.folder.write_json("metrics.json", jsonable(metrics))


def _examine(contest: Contest, metrics: dict[str, Any]) -> None:
    """What the doctor says of the finished run: told, and added to findings.json."""
    if found := answer_checks.examine(contest.folder, metrics):
        for one in found:
            contest.console.stage("Doctor", f"{one.id} {one.name}: {one.text}")
        known = contest.folder.read_json("findings.json")
        contest.folder.write_json("findings.json", [*known, *(jsonable(one.to_json()) for one in found)])


def _judged(contest: Contest, candidate: Candidate, test: Any) -> Contender:
    part = None if candidate.is_network else rooms.find("baselines", candidate.name)
    return Contender(
        name=candidate.name,
        rank=NETWORK_RANK if part is None else part.RANK,
        noun=getattr(part, "NOUN", ""),
        validation=candidate.held_out(contest.examples, contest.divided.folds),
        test=candidate.predict(test),
        seconds_per_row=seconds_per_row(candidate, test),
        kind="network" if candidate.is_network else "baseline",
        validation_ends=candidate.held_out_ends(contest.examples, contest.divided.folds),
        test_ends=candidate.ends(test),
    )


def _noun(contest: Contest) -> str:
    nouns = {"translate": "text", "pair": "pair"}
    if contest.task.kind in nouns:
        return nouns[contest.task.kind]
    forms = {about["form"] for about in contest.examples.about.values()}
    return {frozenset({"pixels"}): "picture", frozenset({"tokens"}): "text", frozenset({"stream"}): "piece"}.get(
        frozenset(forms), "row"
    )


def _print_verdict(contest: Contest, verdict: referee.Verdict) -> None:
    console, measure = contest.console, rooms.find("measures", contest.metric)
    console.stage("Verdict", verdict.sentence)
    rows = [("on test rows", measure.LABEL, "95 % interval", "a row")]
    for name, scores in verdict.test.items():
        value, ends = scores[contest.metric], scores["interval"]
        cost = f"{1e3 * scores['seconds_per_row']:.3g} ms"
        mark = "→ " if name == verdict.advised else "  "
        rows.append((mark + name, shown(measure, value), shown_interval(measure, ends), cost))
    console.table(rows, right=(1, 3))
    if contest.store is not None:
        seen, of = _looked_at(contest), contest.num_trained(0)
        others = len(contest.divided.folds[0].train)
        console.more(f"the network looked at {min(seen, of):,} of {of:,} rows; the others learned from {others:,}")


def _looked_at(contest: Contest) -> int:
    """Rows that the network of the first fold was shown, those shown again among them."""
    train = contest.recipe.train
    steps = max((row[3] for row in contest.history if row[1] == 0), default=0)
    return int(steps * (train.batch_size or 0) * train.accumulate)


def _prediction_columns(
    contest: Contest, prepared: Prepared, judged: list[Contender], verdict: referee.Verdict
) -> dict[str, Any]:
    """One row for each test row: the truth, and what each candidate says."""
    rows = contest.divided.test
    specs = {name: scores.get("conformal", {}) for name, scores in verdict.validation.items()}
    test = contest.examples.take(rows)
    told = answers.columns(contest.task, judged, contest.targets[rows], test, specs)
    return {"row": rows, "place": [prepared.table.places[row] for row in rows]} | told


def _mistaken(contest: Contest, prepared: Prepared, predictions: np.ndarray) -> list[dict[str, Any]]:
    """The worst test rows of the advised model."""
    rows = contest.divided.test
    targets = contest.targets[rows]
    return [
        mistakes.record(
            prepared.table,
            contest.examples,
            int(rows[place]),
            mistakes.answer(predictions[place], targets[place], contest.task),
        )
        for place in mistakes.most_mistaken(predictions, targets, contest.task)
    ]
