"""Networks as ``.safetensors`` files: plain (fan_in, fan_out) arrays under readable names, and the rest as JSON metadata.

Nothing in such a file can run code. A file is written beside its place and renamed into it, so there is never half a model.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.activations import ACTIVATIONS
from fastmlp.io.extras import require
from fastmlp.io.files import replace_file
from fastmlp.losses import LOSSES
from fastmlp.mlp import MLP
from fastmlp.network import Network
from fastmlp.training_state import TrainingState

FORMAT_VERSION = 1
_KEY = "fastmlp"


def _names(layer: int) -> tuple[str, str]:
    return f"layers.{layer}.weight", f"layers.{layer}.bias"


def save(
    network: Network,
    path: str | os.PathLike[str],
    *,
    training: TrainingState | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write a network to a ``.safetensors`` file, replacing what is there.

    Parameters
    ----------
    network : Network
    path : str or path-like
    training : TrainingState, optional
        What ``fit(resume=path)`` needs to go on.
    more : mapping of str to what JSON knows, optional
        To keep beside the network's own description.

    Raises
    ------
    OSError
        Where the file cannot be written; what was there before stays.
    """
    numpy_format = require("safetensors.numpy", "cli")
    for entry in (*network._activations, network._loss):
        if entry.source is not None:
            raise ValueError(
                f"{entry.name!r} is a function of your own, and a file holds no code; keep network.theta, and make the network "
                "with that function again."
            )
    tensors: dict[str, Any] = {}
    for layer, arrays in enumerate(zip(network.w, network.b, strict=True)):
        tensors.update(zip(_names(layer), (array.copy() for array in arrays), strict=True))
    description = {
        "format": FORMAT_VERSION,
        "sizes": network.sizes,
        "activation": [(entry.name, entry.parameter) for entry in network._activations],
        "loss": (network._loss.name, network._loss.parameter),
        "dtype": network.dtype.name,
        "reduction": network.reduction,
    }
    if training is not None:
        tensors.update({_state_name(number): state for number, state in enumerate(training.optimizer)})
        description["training"] = {
            "epoch": training.epoch, "steps": training.steps, "optimizer_states": len(training.optimizer),
            "generator": training.generator, "loss_curve": training.loss_curve, "options": training.options,
        }  # fmt: skip
    if more:
        description["more"] = dict(more)  # in one entry: the order of several would not be the same twice
    replace_file(path, numpy_format.save(tensors, {_KEY: json.dumps(description)}))


def _state_name(number: int) -> str:
    return f"training.optimizer.{number}"


def load(path: str | os.PathLike[str]) -> MLP:
    """Read a network that :func:`save` has written.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    MLP

    Raises
    ------
    FileNotFoundError
    ValueError
        For a file that is damaged, is no network of this library, or was written by a newer version of it.
    """
    return _read(path)[0]


def load_with_metadata(path: str | os.PathLike[str]) -> tuple[MLP, dict[str, Any]]:
    """The same, and what was kept beside the network's own description."""
    network = load(path)
    with require("safetensors", "cli").safe_open(path, framework="numpy") as file:
        return network, {str(name): text for name, text in _description(file.metadata(), path).get("more", {}).items()}


def load_training(path: str | os.PathLike[str]) -> tuple[MLP, TrainingState]:
    """Read a network together with what its training needs to go on.

    Raises
    ------
    FileNotFoundError
    ValueError
        As for :func:`load`, and for a model that no training has written.
    """
    network, state = _read(path, with_training=True)
    assert state is not None
    return network, state


def _read(path: str | os.PathLike[str], *, with_training: bool = False) -> tuple[MLP, TrainingState | None]:
    safetensors = require("safetensors", "cli")
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {os.fspath(path)!r}.")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            description = _description(file.metadata(), path)
            _check_shapes(file, description["sizes"])
            network = _empty_network(description)
            for layer in range(len(network.w)):
                weight, bias = _names(layer)
                network.w[layer] = file.get_tensor(weight)
                network.b[layer] = file.get_tensor(bias)
                if not (np.isfinite(network.w[layer]).all() and np.isfinite(network.b[layer]).all()):
                    raise ValueError(f"layer {layer} has parameters that are not finite.")
            return network, _training(file, description, network) if with_training else None
    except (safetensors.SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)!r} is not a usable fastmlp {_kind(with_training)}: {error}") from error


def _kind(with_training: bool) -> str:
    return "checkpoint" if with_training else "model"


def _training(file: Any, description: dict[str, Any], network: MLP) -> TrainingState:
    if "training" not in description:
        raise ValueError(
            "it is a model without the state of a training; only what Checkpoint has written in MLP.fit can be resumed."
        )
    training = description["training"]
    states = []
    for number in range(training["optimizer_states"]):
        name = _state_name(number)
        if list(file.get_slice(name).get_shape()) != [network.theta.size]:
            raise ValueError(f"{name} does not have a number for each of the network's {network.theta.size} parameters.")
        states.append(file.get_tensor(name))
    generator = np.random.default_rng()
    generator.bit_generator.state = training["generator"]  # which checks it
    return TrainingState(
        int(training["epoch"]), int(training["steps"]), states, training["generator"],
        [float(loss) for loss in training["loss_curve"]], dict(training["options"]),
    )  # fmt: skip


def _check_shapes(file: Any, sizes: list[int]) -> None:
    """Before memory is asked for: a damaged header may say anything."""
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        for name, expected in zip(_names(layer), ([fan_in, fan_out], [1, fan_out]), strict=True):
            found = list(file.get_slice(name).get_shape())
            if found != expected:
                raise ValueError(f"{name} has the shape {found}, but the sizes of the network ask for {expected}.")


def _description(metadata: dict[str, str] | None, path: str | os.PathLike[str]) -> dict[str, Any]:
    if not metadata or _KEY not in metadata:
        raise ValueError("it holds no description of a network.")
    description: dict[str, Any] = json.loads(metadata[_KEY])
    if description["format"] > FORMAT_VERSION:
        raise ValueError(f"its format is {description['format']}, and this version reads up to {FORMAT_VERSION}; update fastmlp.")
    return description


def _empty_network(description: dict[str, Any]) -> MLP:
    loss, loss_parameter = description["loss"]
    return MLP(
        description["sizes"],
        [ACTIVATIONS[name](parameter) for name, parameter in description["activation"]],
        LOSSES[loss](loss_parameter),
        dtype=description["dtype"],
        reduction=description["reduction"],
        initializer="zeros",
    )
