"""Networks and checkpoints in the run folder: safetensors and JSON, read back exactly.

`model.safetensors` holds every fold's network under its number ('0.stem.weight'); `config.json` says how to build them.
`last/` holds a training that is under way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from fathom import rooms
from fathom.candidates import Candidate, Ensemble, load_baseline
from fathom.compute import pick_device
from fathom.errors import UserError
from fathom.network import Network, build
from fathom.pair_network import Matcher
from fathom.run import RunFolder, reading
from fathom.text_networks import LanguageModel, MaskedModel, Translator
from fathom.training import Checkpoint, Progress, State

AnyNetwork = Network | LanguageModel | MaskedModel | Translator | Matcher
GROUPS = ("weights", "average", "best", "optimizer", "random", "stretch")


def save_networks(folder: RunFolder, config: Mapping[str, Any], members: list[State]) -> None:
    """All folds of a network, and how to build it."""
    tensors = {f"{number}.{name}": value for number, state in enumerate(members) for name, value in state.items()}
    folder.write_tensors("model.safetensors", tensors)
    folder.write_json("config.json", dict(config) | {"members": len(members)})


def load_network(folder: RunFolder, device: str = "auto") -> Candidate:
    """The network of a finished run, one member for each fold."""
    config = folder.read_json("config.json")
    tensors = folder.read_tensors("model.safetensors")
    chosen = pick_device(device)
    members = []
    for number in range(config["members"]):
        prefix = f"{number}."
        state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        if not state:
            raise UserError(
                f"{folder.inside('model.safetensors')} does not fit config.json: it has no network {number}."
            )
        with reading(folder.inside("config.json")):
            model = build(config["name"], config["about"], config["outputs"], config["options"])
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(f"{folder.inside('model.safetensors')} does not fit config.json: {error}") from None
        with reading(folder.inside("config.json")):
            members.append(as_network(model.to(chosen), config, chosen))
    if not members:
        raise UserError(
            f"{folder.inside('config.json')} is damaged: members is {config['members']}; expected 1 or more."
        )
    return Candidate(config["name"], members, describe(config, members[0]), is_network=True)


def as_network(model: torch.nn.Module, config: Mapping[str, Any], device: torch.device) -> AnyNetwork:
    """The model as a candidate: what reads its outputs follows from the objective."""
    if config["objective"] == "next_token":
        return LanguageModel(model, config, device)
    if config["objective"] == "masked_token":
        return MaskedModel(model, config, device)
    if config["objective"] == "sequence_to_sequence":
        return Translator(model, config, device)
    if config["objective"] == "contrastive":
        return Matcher(model, config, device)
    return predictor(model, config, device)


def predictor(model: torch.nn.Module, config: Mapping[str, Any], device: torch.device) -> Network:
    """The model as a candidate for classes or numbers."""
    return Network(
        model,
        config["objective"],
        config["spec"],
        device=device,
        # bf16 is a matter of the machine that trains; predictions are made in fp32 everywhere alike.
        precision="fp32",
        views=config["views"],
        mirror=any(about.get("mirror", False) for about in config["about"].values()),
    )


def describe(config: Mapping[str, Any], network: AnyNetwork) -> str:
    count = sum(parameter.numel() for parameter in network.model.parameters())
    size = f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count:,}"
    return f"{config['name']}, {size} parameters"


def load_candidate(folder: RunFolder, name: str) -> Candidate:
    """A baseline or the network of a finished run."""
    if name in rooms.names("baselines") and folder.has(f"baseline/{name}"):
        return load_baseline(folder, name)
    return load_network(folder)


def open_candidate(folder: RunFolder, name: str) -> Candidate | Ensemble:
    """Any candidate of a finished run, an average of several included."""
    if name != "ensemble":
        return load_candidate(folder, name)
    weights: dict[str, float] = folder.read_json("metrics.json")["members"]
    if not weights:
        raise UserError(f"{folder.path} did not keep what its ensemble is made of. Name a member, or fit again.")
    return Ensemble([load_candidate(folder, member) for member in weights], list(weights.values()))


def save_checkpoint(folder: RunFolder, fold: int, saved: Checkpoint) -> None:
    """Keep a training that is under way. The position file is written last: it says which tensors are valid."""
    name = _tensors_at(fold, saved.progress.step)
    groups: dict[str, State] = {group: getattr(saved, group) for group in GROUPS}
    tensors = {f"{group}/{key}": value for group, state in groups.items() for key, value in state.items()}
    folder.write_tensors(name, tensors)
    position = dataclasses.asdict(saved.progress) | {"average_steps": saved.average_steps}
    folder.write_json(f"last/fold-{fold}.json", position)
    for earlier in folder.inside("last").glob(f"fold-{fold}-step-*.safetensors"):
        if earlier != folder.inside(name):
            earlier.unlink()


def _tensors_at(fold: int, step: int) -> str:
    return f"last/fold-{fold}-step-{step}.safetensors"


def load_checkpoint(folder: RunFolder, fold: int) -> Checkpoint | None:
    """The training of that fold as it was kept; None where it had not begun."""
    if not folder.has(f"last/fold-{fold}.json"):
        return None
    position = folder.read_json(f"last/fold-{fold}.json")
    tensors = folder.read_tensors(_tensors_at(fold, position["step"]))
    states: dict[str, State] = {group: {} for group in GROUPS}
    average_steps = position.pop("average_steps")
    with reading(folder.inside("last")):
        for key, value in tensors.items():
            group, _, name = key.partition("/")
            states[group][name] = value
        progress = Progress(**position)
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
