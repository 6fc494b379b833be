"""Networks as ``.safetensors`` files: plain (fan_in, fan_out) arrays under readable names, and the rest as JSON metadata.

Nothing in such a file can run code. A file is written beside its place and renamed into it, so there is never half a model, and
a checksum over all that is in it tells damage that would leave another model.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.activations import ACTIVATIONS
from fastmlp.files import no_file, replace_file
from fastmlp.io.extras import require
from fastmlp.losses import LOSSES
from fastmlp.mlp import MLP
from fastmlp.network import Network
from fastmlp.optimizers import OPTIMIZERS
from fastmlp.training_state import TrainingState

Array = np.ndarray[Any, np.dtype[Any]]

FORMAT_VERSION = 2
"""Files of format 1 have no checksum, and are otherwise the same."""
_KEY, _CHECKSUM = "fastmlp", "sha256"
_SAFETENSORS_DTYPES = {"float32": "F32", "float64": "F64"}
_MOST_STEPS = 2**53
"""Or epochs: beyond it, float64, in which optimizers compute with their number, cannot tell one from the next."""


@dataclass(frozen=True)
class Contents:
    """What is in a file.

    Parameters
    ----------
    network : MLP
    more : dict
        What was kept beside the network's own description.
    arrays : dict of str to ndarray
        What was kept beside its parameters.
    training : TrainingState or None
        If it was asked for.
    """

    network: MLP
    more: dict[str, Any]
    arrays: dict[str, Array]
    training: TrainingState | None


def _names(layer: int) -> tuple[str, str]:
    return f"layers.{layer}.weight", f"layers.{layer}.bias"


def _state_name(number: int) -> str:
    return f"training.optimizer.{number}"


_MORE = "more."
"""Before the names of further arrays."""


def save(
    network: Network,
    path: str | os.PathLike[str],
    *,
    training: TrainingState | None = None,
    more: Mapping[str, Any] | None = None,
    arrays: Mapping[str, Array] | None = None,
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
    arrays : mapping of str to ndarray, optional
        To keep beside its parameters.

    Raises
    ------
    OSError
        Where the file cannot be written; what was there before stays.
    TypeError
        For anything but a network.
    ValueError
        If an activation or the loss is a function of your own, or a parameter is not finite.
    """
    if not isinstance(network, Network):
        raise TypeError(
            f"save writes an MLP or a ReferenceMLP, got {type(network).__name__}; an estimator is kept by pickle or joblib, or "
            "moved elsewhere by to_onnx."
        )
    _check_parameters(network, path)
    numpy_format = require("safetensors.numpy", "cli")
    check_functions(network)
    tensors: dict[str, Array] = {
        f"{_MORE}{name}": np.array(array, array.dtype.newbyteorder("="), order="C") for name, array in (arrays or {}).items()
    }
    for layer, pair in enumerate(zip(network.w, network.b, strict=True)):
        tensors.update(zip(_names(layer), (array.copy() for array in pair), strict=True))
    description: dict[str, Any] = {
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
        description["more"] = dict(more)
    description = json.loads(json.dumps(description))  # as it will be read: two names may have become one text
    description[_CHECKSUM] = _checksum(description, tensors)
    # In one entry: the order of several would not be the same twice.
    replace_file(path, numpy_format.save(tensors, {_KEY: json.dumps(description)}))


def _check_parameters(network: Network, path: str | os.PathLike[str]) -> None:
    """Refuse what :func:`load` would not read, while the file of before is still there."""
    if not all(np.isfinite(array).all() for array in (*network.w, *network.b)):
        raise ValueError(
            f"The network has parameters that are nan or infinite, which no file is for; {os.fspath(path)} is as it was."
        )


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
    return read(path).network


def load_training(path: str | os.PathLike[str]) -> tuple[MLP, TrainingState]:
    """Read a network together with what its training needs to go on.

    Raises
    ------
    FileNotFoundError
    ValueError
        As for :func:`load`, and for a model that no training has written.
    """
    contents = read(path, with_training=True)
    assert contents.training is not None
    return contents.network, contents.training


def read(path: str | os.PathLike[str], *, with_training: bool = False) -> Contents:
    """Read everything; see :func:`load` and :func:`load_training` for what is raised."""
    safetensors = require("safetensors", "cli")
    if not Path(path).is_file():
        raise FileNotFoundError(no_file(path))
    what = f"{os.fspath(path)!r} is not a usable fastmlp {'checkpoint' if with_training else 'model'}"
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            description = _description(file.metadata())
            _check_shapes(file, description)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
        _check_checksum(description, tensors)
        network = _network(description, tensors)
        arrays = {name.removeprefix(_MORE): array for name, array in tensors.items() if name.startswith(_MORE)}
        training = _training(description, tensors, network) if with_training else None
        return Contents(network, dict(description.get("more", {})), arrays, training)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{what}: it is damaged, or no .safetensors file ({in_short(error)}).") from error
    except ValueError as error:
        raise ValueError(f"{what}: {in_short(error)}") from error
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError) as error:
        raise ValueError(f"{what}: its description is damaged ({type(error).__name__}: {in_short(error)}).") from error


def in_short(error: Exception) -> str:
    """One line that fits on a screen, whatever the file has put into it."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}..."


def check_functions(network: Network) -> None:
    """Refuse a network that no file can hold: one with a function of one's own."""
    for entry in (*network._activations, network._loss):
        if entry.source is not None:
            raise ValueError(
                f"{entry.name!r} is a function of your own, and a file holds no code; keep network.theta, and make the network "
                "with that function again."
            )


def _checksum(description: Mapping[str, Any], tensors: Mapping[str, Array]) -> str:
    """Of all that a file holds but the checksum itself."""
    digest = hashlib.sha256(json.dumps(description).encode())
    for name, array in sorted(tensors.items()):
        digest.update(f"{name} {array.dtype.name} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).data)
    return digest.hexdigest()


def _check_checksum(description: dict[str, Any], tensors: Mapping[str, Array]) -> None:
    if description["format"] == 1:
        return
    stored = description.pop(_CHECKSUM, None)
    if stored != _checksum(description, tensors):
        raise ValueError("its content does not match its checksum; it has been damaged or changed.")


def _description(metadata: dict[str, str] | None) -> dict[str, Any]:
    if not metadata or _KEY not in metadata:
        raise ValueError("it holds no description of a network.")
    description: dict[str, Any] = json.loads(metadata[_KEY])
    version = description["format"]
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ValueError(f"its format is {version!r}, which there has never been.")
    if version > FORMAT_VERSION:
        raise ValueError(f"its format is {version}, and this version reads up to {FORMAT_VERSION}; update fastmlp.")
    return description


def _check_shapes(file: Any, description: dict[str, Any]) -> None:
    """Before memory is asked for: a damaged header may say anything."""
    dtype = description["dtype"]
    if dtype not in _SAFETENSORS_DTYPES:
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}.")
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(description["sizes"])):
        for name, expected in zip(_names(layer), ([fan_in, fan_out], [1, fan_out]), strict=True):
            found = file.get_slice(name)
            if list(found.get_shape()) != expected:
                raise ValueError(
                    f"{name} has the shape {list(found.get_shape())}, but the sizes of the network ask for {expected}."
                )
            if found.get_dtype() != _SAFETENSORS_DTYPES[dtype]:
                raise ValueError(f"{name} is of the type {found.get_dtype()}, but the network is of {dtype}.")


def _network(description: dict[str, Any], tensors: Mapping[str, Array]) -> MLP:
    loss, loss_parameter = description["loss"]
    network = MLP(
        description["sizes"],
        [ACTIVATIONS[name](parameter) for name, parameter in description["activation"]],
        LOSSES[loss](loss_parameter),
        dtype=description["dtype"],
        reduction=description["reduction"],
        initializer="zeros",
    )
    for layer in range(len(network.w)):
        weight, bias = (tensors[name] for name in _names(layer))
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise ValueError(f"layer {layer} has parameters that are not finite.")
        network.w[layer], network.b[layer] = weight, bias
    return network


def _training(description: dict[str, Any], tensors: Mapping[str, Array], network: MLP) -> TrainingState:
    if "training" not in description:
        raise ValueError(
            "it is a model without the state of a training; only what Checkpoint has written in MLP.fit can be resumed."
        )
    training = description["training"]
    options = dict(training["options"])
    wanted = OPTIMIZERS[options["optimizer"]].n_states
    if training["optimizer_states"] != wanted:
        raise ValueError(f"{options['optimizer']} has {wanted} numbers for each parameter, not {training['optimizer_states']!r}.")
    states = [tensors[_state_name(number)] for number in range(wanted)]
    for number, state in enumerate(states):
        if state.shape != network.theta.shape or state.dtype != network.dtype:
            raise ValueError(
                f"{_state_name(number)} is {state.shape} of {state.dtype}, but the network has {network.theta.size} parameters of "
                f"{network.dtype}."
            )
    epochs = options.get("epochs", training["epoch"])  # which earlier versions did not write
    if isinstance(epochs, bool) or not isinstance(epochs, int):
        raise ValueError(f"epochs must be a whole number, got {epochs!r}.")
    for name in ("epoch", "steps"):
        if isinstance(training[name], bool) or not isinstance(training[name], int) or not 0 <= training[name] <= _MOST_STEPS:
            raise ValueError(f"{name} must be a whole number from 0 to {_MOST_STEPS}, got {training[name]!r}.")
    whole = TrainingState(
        training["epoch"], training["steps"], states, training["generator"],
        [float(loss) for loss in training["loss_curve"]], options,
    )  # fmt: skip
    whole.make_generator()  # which checks it
    return whole
