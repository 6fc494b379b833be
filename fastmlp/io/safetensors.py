"""Networks as ``.safetensors`` files: plain (fan_in, fan_out) arrays under readable names, and the rest as JSON metadata.

Nothing in such a file can run code. A file is written beside its place and renamed into it, so there is never half a model.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.activations import ACTIVATIONS
from fastmlp.io.extras import require
from fastmlp.losses import LOSSES
from fastmlp.mlp import MLP
from fastmlp.network import Network

FORMAT_VERSION = 1
_KEY = "fastmlp"


def _names(layer: int) -> tuple[str, str]:
    return f"layers.{layer}.weight", f"layers.{layer}.bias"


def save(network: Network, path: str | os.PathLike[str]) -> None:
    """Write a network to a ``.safetensors`` file, replacing what is there.

    Parameters
    ----------
    network : Network
    path : str or path-like

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
    target = Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(numpy_format.save(tensors, {_KEY: json.dumps(description)}))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


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
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)!r} is not a usable fastmlp model: {error}") from error
    return network


def _umask() -> int:
    """Permissions that new files do not have, which can only be asked for by setting them."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
