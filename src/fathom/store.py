"""Networks in the run folder: safetensors and JSON, read back exactly.

`model.safetensors` holds every fold's network under its number ('0.stem.weight'); `config.json` says how to build them.
Trainings that are under way stand in `last/` (states.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fathom import rooms
from fathom.candidates import Candidate, Ensemble, load_baseline
from fathom.compute import pick_device
from fathom.errors import UserError
from fathom.network import ROWS_AT_A_TIME, Network, build
from fathom.pair_network import Matcher
from fathom.run import RunFolder, reading
from fathom.text_networks import LanguageModel, MaskedModel, Translator
from fathom.training import State

AnyNetwork = Network | LanguageModel | MaskedModel | Translator | Matcher


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
        rows_at_a_time=config.get("rows_at_a_time") or ROWS_AT_A_TIME,
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
