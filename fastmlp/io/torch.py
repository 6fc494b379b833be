"""Networks from and to PyTorch."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from fastmlp.activations import ACTIVATIONS, Activation
from fastmlp.io.extras import require
from fastmlp.io.models import layers_of
from fastmlp.losses import LOSSES
from fastmlp.mlp import MLP


@cache
def _exponential() -> Any:
    """The class of a module that torch.nn has not; made when it is asked for, so that PyTorch is not imported before."""
    torch = require("torch", "torch")

    class Exponential(torch.nn.Module):  # type: ignore[misc,name-defined,unused-ignore]
        def forward(self, z: Any) -> Any:
            return torch.exp(z)

    Exponential.__qualname__ = "Exponential"  # by which pickle asks this module for it
    return Exponential


def __getattr__(name: str) -> Any:
    """The class by its name, for pickle."""
    if name == "Exponential":
        return _exponential()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _modules(torch: Any) -> dict[str, Any]:
    """A function that makes the module of each activation, given its parameter."""
    nn = torch.nn
    return {
        "identity": lambda parameter: nn.Identity(),
        "sigmoid": lambda parameter: nn.Sigmoid(),
        "tanh": lambda parameter: nn.Tanh(),
        "relu": lambda parameter: nn.ReLU(),
        "leaky_relu": lambda parameter: nn.LeakyReLU(parameter),
        "elu": lambda parameter: nn.ELU(parameter),
        "selu": lambda parameter: nn.SELU(),
        "softplus": lambda parameter: nn.Softplus(threshold=40),  # beyond which its formula is exact, in float64, too
        "gelu": lambda parameter: nn.GELU(),
        "silu": lambda parameter: nn.SiLU(),
        "mish": lambda parameter: nn.Mish(),
        "exponential": lambda parameter: _exponential()(),
        "softmax": lambda parameter: nn.Softmax(dim=1),
    }


def to_torch(model: Any) -> Any:
    """The same network as a ``torch.nn.Sequential`` of ``Linear`` layers and activations; parameters are copied.

    Parameters
    ----------
    model : MLP, ReferenceMLP, MLPClassifier or MLPRegressor

    Returns
    -------
    torch.nn.Sequential
        In the network's dtype. It ends with the last activation: a softmax, where there is one, is part of it.

    Raises
    ------
    ValueError
        If an activation is a function of your own, or a parameter is not finite.
    ImportError
        If PyTorch is not installed.
    """
    torch = require("torch", "torch")
    modules = _modules(torch)
    made = []
    for layer in layers_of(model, "a PyTorch module"):
        fan_in, fan_out = layer.weight.shape
        dtype = getattr(torch, layer.weight.dtype.name)
        linear = torch.nn.utils.skip_init(torch.nn.Linear, fan_in, fan_out, dtype=dtype)  # which would draw random numbers
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(layer.weight.T.copy()))
            linear.bias.copy_(torch.from_numpy(layer.bias))
        made += [linear, modules[layer.activation](layer.parameter)]
    return torch.nn.Sequential(*made)


def from_torch(module: Any, loss: Any = "squared_error") -> MLP:
    """An :class:`fastmlp.MLP` from a ``torch.nn.Sequential`` of ``Linear`` layers and activations; parameters are copied.

    Parameters
    ----------
    module : torch.nn.Sequential
        ``Flatten()`` at the front and ``Dropout`` anywhere are left out; a ``Linear`` that no activation follows gets the identity.
    loss : str or Loss, default "squared_error"
        A module does not say what it was trained for.

    Returns
    -------
    MLP
        In the dtype of the module's parameters.

    Raises
    ------
    TypeError
        For anything that is not such a chain; it names the layer.
    ValueError
        For a classification loss where the chain ends with a Linear layer: PyTorch's take logits, those here probabilities; for
        parameters of another dtype than float32 and float64, or that are not finite.
    ImportError
        If PyTorch is not installed.
    """
    torch = require("torch", "torch")
    nn = torch.nn
    names = {
        nn.Identity: "identity", nn.Sigmoid: "sigmoid", nn.Tanh: "tanh", nn.ReLU: "relu", nn.SELU: "selu", nn.SiLU: "silu",
        nn.Mish: "mish",
    }  # fmt: skip
    if type(module) is not nn.Sequential:  # of a class made from it, nobody knows what it computes; nor below
        raise TypeError(f"module must be a torch.nn.Sequential, got {type(module).__name__}.")
    if _is_altered(module):
        raise TypeError("module has a hook, or a forward of its own, which may change what it computes; remove it first.")
    linears: list[Any] = []
    activations: list[Activation] = []
    for number, layer in enumerate(module):
        if type(layer) is nn.Linear and layer._forward_pre_hooks:  # of weight_norm or prune: weight is of the last call, if any
            raise TypeError(
                f"Layer {number} is {_in_a_line(layer)} with a hook that may compute its weight at each call; remove it first, "
                "by torch.nn.utils.remove_weight_norm or torch.nn.utils.prune.remove."
            )
        if _is_altered(layer):
            raise TypeError(
                f"Layer {number} is {_in_a_line(layer)} with a hook, or a forward of its own, which may change what it computes; "
                "remove it first."
            )
        if type(layer) is nn.Linear:
            if len(linears) > len(activations):
                activations.append(ACTIVATIONS["identity"])
            linears.append(layer)
            continue
        if type(layer) is nn.Dropout or (type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1)):
            continue
        if len(activations) == len(linears):
            raise TypeError(f"Layer {number} is {_in_a_line(layer)}, where there has to be a Linear layer.")
        activations.append(_entry(nn, names, layer, number))
    if not linears:
        raise TypeError("module must have a Linear layer, and has none.")
    found = LOSSES.find(loss, "loss")
    if len(linears) > len(activations):
        if found.classification:
            raise ValueError(
                f"The module ends with a Linear layer, but {found.name} is of probabilities, not of logits as in PyTorch; "
                "append a torch.nn.Softmax(dim=1) or Sigmoid(), or an Identity() if logits are meant. No parameter changes by that."
            )
        activations.append(ACTIVATIONS["identity"])
    sizes = [linears[0].in_features, *(linear.out_features for linear in linears)]
    for before, linear in pairwise(linears):
        if linear.in_features != before.out_features:
            raise TypeError(f"{_in_a_line(linear)} comes after {_in_a_line(before)}, whose outputs it cannot take.")
    if not all(torch.isfinite(parameter).all() for linear in linears for parameter in linear.parameters()):
        raise ValueError("module has parameters that are nan or infinite; assign others first.")
    dtypes = sorted({str(parameter.dtype) for linear in linears for parameter in linear.parameters()})
    if len(dtypes) > 1:
        raise TypeError(f"module has parameters of {' and '.join(dtypes)}; give it one dtype first, such as by module.double().")
    dtype = str(linears[0].weight.dtype).removeprefix("torch.")
    network = MLP(sizes, activations, found, dtype=dtype, initializer="zeros")
    for number, linear in enumerate(linears):
        network.w[number] = np.ascontiguousarray(linear.weight.detach().numpy().T)
        if linear.bias is not None:
            network.b[number] = linear.bias.detach().numpy()[None, :]
    return network


def _is_altered(module: Any) -> bool:
    """Whether a call may compute something else than the module's class does."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _entry(nn: Any, names: dict[Any, str], layer: Any, number: int) -> Activation:
    if type(layer) in names:
        return ACTIVATIONS[names[type(layer)]]
    if type(layer) is _exponential():
        return ACTIVATIONS["exponential"]
    if type(layer) is nn.LeakyReLU:
        return ACTIVATIONS["leaky_relu"](layer.negative_slope)
    if type(layer) is nn.ELU:
        return ACTIVATIONS["elu"](layer.alpha)
    if type(layer) is nn.GELU and layer.approximate == "none":
        return ACTIVATIONS["gelu"]
    if type(layer) is nn.Softplus and layer.beta == 1 and layer.threshold >= 20:
        return ACTIVATIONS["softplus"]
    if type(layer) is nn.Softmax and layer.dim in (1, -1):
        return ACTIVATIONS["softmax"]
    raise TypeError(f"Layer {number} is {_in_a_line(layer)}, for which fastmlp has nothing.")


def _in_a_line(layer: Any) -> str:
    return " ".join(str(layer).split())
