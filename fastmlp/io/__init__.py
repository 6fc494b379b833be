"""Where models go, and where they come from. Optional packages are imported when they are used."""

import typing

from fastmlp.io.numpy_source import to_numpy_source as to_numpy_source
from fastmlp.io.onnx import to_onnx as to_onnx
from fastmlp.io.safetensors import load as load
from fastmlp.io.safetensors import save as save
from fastmlp.io.torch import from_torch as from_torch
from fastmlp.io.torch import to_torch as to_torch

if typing.TYPE_CHECKING:
    from fastmlp.io.sklearn import from_sklearn as from_sklearn
    from fastmlp.io.sklearn import to_sklearn as to_sklearn

__all__ = ["from_sklearn", "from_torch", "load", "save", "to_numpy_source", "to_onnx", "to_sklearn", "to_torch"]

_OF_SCIKIT_LEARN = ("from_sklearn", "to_sklearn")


def __getattr__(name: str) -> typing.Any:
    """What brings scikit-learn, when somebody asks for it."""
    if name in _OF_SCIKIT_LEARN:
        from fastmlp.io import sklearn

        return getattr(sklearn, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
