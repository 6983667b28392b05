"""Trainings that are under way, in `last/`: the last two states of each fold, checked on reading.

    last/fold-0-step-40.json                    where it stands, and the checksum of its tensors
    last/fold-0-step-40-1a2b3c4d.safetensors    its tensors; the name holds their checksum

What a reader would get wrong: tensors are never written over. The same step kept again, as its training ends, has other
weights and so another name; the position is written last, and until then the earlier one and its tensors are whole.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

from fathom.checksums import checksum
from fathom.errors import UserError
from fathom.run import RunFolder, packed, reading, seen
from fathom.training import Checkpoint, Epoch, Progress, State

GROUPS = ("weights", "average", "best", "optimizer", "random", "stretch")
GENERATIONS = 2
POSITION = re.compile(r"fold-(\d+)-step-(\d+)\.json")


def save_checkpoint(folder: RunFolder, fold: int, saved: Checkpoint) -> None:
    """Keep a training that is under way, and the state before it."""
    groups: dict[str, State] = {group: getattr(saved, group) for group in GROUPS}
    content = packed({f"{group}/{key}": value for group, state in groups.items() for key, value in state.items()})
    step, written = saved.progress.step, checksum(content)
    folder.write_bytes(_tensors_at(fold, step, written["crc32"]), content)
    position = dataclasses.asdict(saved.progress) | {"average_steps": saved.average_steps}
    folder.write_record(f"last/fold-{fold}-step-{step}.json", position | {"run": folder.run_id, "tensors": written})
    # Later ones are those that could not be read when this training was taken up.
    _forget(folder, fold, [one for one in steps_kept(folder, fold) if one <= step][:GENERATIONS])


def load_checkpoint(folder: RunFolder, fold: int, say: Callable[[str], None] = lambda text: None) -> Checkpoint | None:
    """The training of that fold as it was kept last; None where it begins anew.

    A state that is damaged, or of another run, is told through `say`, and the one before it is taken.
    """
    for step in steps_kept(folder, fold):
        try:
            return read_state(folder, fold, step)
        except UserError as error:
            say(seen(error))
        except FileNotFoundError as error:
            say(f"{error.filename} is missing.")
    return None


def keep_last_only(folder: RunFolder) -> None:
    """The run is at its end: of each fold the last state is enough."""
    for fold in {int(found[1]) for path in _inside(folder) if (found := POSITION.fullmatch(path.name))}:
        _forget(folder, fold, steps_kept(folder, fold)[:1])


def read_state(folder: RunFolder, fold: int, step: int) -> Checkpoint:
    from safetensors.torch import load

    name = f"last/fold-{fold}-step-{step}.json"
    position = folder.read_record(name)
    if position.pop("run") != folder.run_id:
        raise UserError(f"{folder.inside(name)} is of another run.")
    position.pop("checksum")
    kept, average_steps = position.pop("tensors"), position.pop("average_steps")
    with reading(folder.inside(name)):
        crc32 = f"{int(kept['crc32'], 16):08x}"  # it is a part of a path
    content = folder.verify(_tensors_at(fold, step, crc32), kept)
    states: dict[str, State] = {group: {} for group in GROUPS}
    with reading(folder.inside("last")):
        for key, value in load(content).items():
            group, _, inner = key.partition("/")
            states[group][inner] = value
        position["story"] = [Epoch(*line) for line in position["story"]]
        progress = Progress(**position)
        if progress.step != step:
            raise ValueError(f"{name} says that it stands at step {progress.step}")
    return Checkpoint(
        progress,
        states["weights"],
        states["average"],
        average_steps,
        states["best"],
        states["optimizer"],
        states["random"],
        states["stretch"],
    )


def _inside(folder: RunFolder) -> list[Path]:
    return list(folder.inside("last").glob("*"))


def steps_kept(folder: RunFolder, fold: int) -> list[int]:
    """At which steps that fold was kept, the last first."""
    found = [POSITION.fullmatch(path.name) for path in _inside(folder)]
    return sorted((int(one[2]) for one in found if one and int(one[1]) == fold), reverse=True)


def _tensors_at(fold: int, step: int, crc32: str) -> str:
    return f"last/fold-{fold}-step-{step}-{crc32}.safetensors"


def _forget(folder: RunFolder, fold: int, steps: list[int]) -> None:
    """Remove what is kept of that fold but for those steps, positions first: none may stand without its tensors."""
    kept = set()
    for step in steps:
        name = f"last/fold-{fold}-step-{step}.json"
        kept |= {folder.inside(name), folder.inside(_tensors_at(fold, step, _crc32(folder, name)))}
    ours = re.compile(rf"fold-{fold}(-.*)?\.(json|safetensors)")
    others = [path for path in _inside(folder) if ours.fullmatch(path.name) and path not in kept]
    for path in sorted(others, key=lambda path: path.suffix):  # .json before .safetensors
        path.unlink()


def _crc32(folder: RunFolder, name: str) -> str:
    """Which tensors a position stands for; "" where it cannot be read, and will not be."""
    try:
        return str(folder.read_record(name)["tensors"]["crc32"])
    except UserError:
        return ""
