"""Networks as ONNX graphs, for every runtime that reads them."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from fastmlp.activations import SELU_ALPHA, SELU_SCALE
from fastmlp.files import replace_file
from fastmlp.io.extras import require
from fastmlp.io.models import Array, Layer, layers_of
from fastmlp.validation import check_dtype

OPSET, IR_VERSION = 17, 8
"""Of 2022: every runtime of today reads them."""


def to_onnx(model: Any, path: str | os.PathLike[str], *, dtype: str | None = None) -> None:
    """Write a network as an ONNX file: a ``Gemm`` for each layer, and its activation.

    Parameters
    ----------
    model : MLP, ReferenceMLP, MLPClassifier or MLPRegressor
        An estimator's network is written: for two classes its one output is the probability of the second.
    path : str or path-like
        Replaced if it is there. The input is called ``x`` and has any number of rows; the output is called ``outputs``.
    dtype : {"float32", "float64"}, optional
        Of input, parameters and output; the network's own if it is not given. ONNX Runtime knows only some activations in float64.

    Raises
    ------
    ValueError
        If an activation is a function of your own, or a parameter is not finite, or not in ``dtype``.
    ImportError
        If ``onnx`` is not installed: ``pip install 'fastmlp[onnx]'``.
    """
    require("onnx", "onnx")
    from onnx import checker, helper, numpy_helper

    layers = layers_of(model, "an ONNX file")
    kind = layers[0].weight.dtype if dtype is None else check_dtype(dtype)
    nodes: list[Any] = []
    constants: list[Any] = []
    name = "x"
    for number, layer in enumerate(layers):
        weight, bias, z = f"layers.{number}.weight", f"layers.{number}.bias", f"z{number}"
        constants += [
            numpy_helper.from_array(_cast(layer.weight, kind, number), weight),
            numpy_helper.from_array(_cast(layer.bias, kind, number), bias),
        ]
        nodes.append(helper.make_node("Gemm", [name, weight, bias], [z]))
        name = "outputs" if number == len(layers) - 1 else f"a{number}"
        made, more = _activation(layer, z, name, kind)
        nodes += made
        constants += more
    element = helper.np_dtype_to_tensor_dtype(kind)
    graph = helper.make_graph(
        nodes, "mlp",
        [helper.make_tensor_value_info("x", element, ["rows", layers[0].weight.shape[0]])],
        [helper.make_tensor_value_info("outputs", element, ["rows", layers[-1].weight.shape[1]])],
        constants,
    )  # fmt: skip
    made_model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="fastmlp"
    )
    checker.check_model(made_model, full_check=True)
    replace_file(path, made_model.SerializeToString())


def _cast(array: Array, kind: np.dtype[Any], number: int) -> Array:
    """Weights or biases of a layer in another dtype, if it can hold them."""
    with np.errstate(over="ignore"):  # a sentence follows
        cast = array.astype(kind)
    if not np.isfinite(cast).all():
        raise ValueError(f"Layer {number} has a weight or bias that {kind.name} cannot hold; leave dtype out.")
    return cast


def _activation(layer: Layer, z: str, out: str, kind: np.dtype[Any]) -> tuple[list[Any], list[Any]]:
    """Nodes from z to ``out``, and the constants that they need."""
    from onnx import helper, numpy_helper

    def constant(name: str, value: float) -> Any:
        return numpy_helper.from_array(np.array(value, kind), f"{out}.{name}")

    def node(operator: str, inputs: list[str], output: str) -> Any:
        return helper.make_node(operator, inputs, [output])

    if kind == np.float64 and layer.activation in ("leaky_relu", "elu", "selu"):  # attributes would be rounded to float32
        below, scaled, above, is_above = (f"{out}.{part}" for part in ("below", "scaled", "above", "is_above"))
        slope, scale = (SELU_ALPHA * SELU_SCALE, SELU_SCALE) if layer.activation == "selu" else (layer.parameter, 1.0)
        return [
            node("Identity" if layer.activation == "leaky_relu" else "Elu", [z], below),
            node("Mul", [below, f"{out}.slope"], scaled),
            node("Mul", [z, f"{out}.scale"], above),
            node("Greater", [z, f"{out}.zero"], is_above),
            node("Where", [is_above, above, scaled], out),
        ], [constant("slope", slope), constant("scale", scale), constant("zero", 0.0)]
    single: dict[str, tuple[str, dict[str, Any]]] = {
        "identity": ("Identity", {}),
        "sigmoid": ("Sigmoid", {}),
        "tanh": ("Tanh", {}),
        "relu": ("Relu", {}),
        "leaky_relu": ("LeakyRelu", {"alpha": layer.parameter}),
        "elu": ("Elu", {"alpha": layer.parameter}),
        "selu": ("Selu", {"alpha": SELU_ALPHA, "gamma": SELU_SCALE}),
        "softplus": ("Softplus", {}),
        "exponential": ("Exp", {}),
        "softmax": ("Softmax", {"axis": 1}),
    }
    if layer.activation in single:
        operator, attributes = single[layer.activation]
        return [helper.make_node(operator, [z], [out], **attributes)], []
    if layer.activation == "silu":  # not z * Sigmoid(z): far below 0, z enlarges the error of a runtime's sigmoid
        negative, power, divisor = f"{out}.negative", f"{out}.power", f"{out}.divisor"
        return [
            node("Neg", [z], negative),
            node("Exp", [negative], power),
            node("Add", [power, f"{out}.one"], divisor),
            node("Div", [z, divisor], out),
        ], [constant("one", 1.0)]
    if layer.activation == "mish":
        inner, gate = f"{out}.inner", f"{out}.gate"
        return [node("Softplus", [z], inner), node("Tanh", [inner], gate), node("Mul", [z, gate], out)], []
    assert layer.activation == "gelu"
    constants = [constant("scale", 1 / math.sqrt(2)), constant("one", 1.0), constant("half", 0.5)]
    scaled, error, above, half = (f"{out}.{part}" for part in ("scaled", "erf", "above", "halved"))
    return [
        node("Mul", [z, f"{out}.scale"], scaled),
        node("Erf", [scaled], error),
        node("Add", [error, f"{out}.one"], above),
        node("Mul", [z, f"{out}.half"], half),
        node("Mul", [half, above], out),
    ], constants
