"""ONNX Runtime, which predicts but does not train."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..problems import Array, Task
from .peer import Peer

_OPERATORS = {"relu": "Relu", "leaky_relu": "LeakyRelu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softmax": "Softmax"}


def _model(task: Task) -> Any:
    """The network as an ONNX graph: a Gemm for each layer, and its activation."""
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes, constants, name = [], [], "x"
    for number, ((w, b), activation) in enumerate(zip(task.layers(), task.problem.activation, strict=True)):
        constants += [numpy_helper.from_array(w, f"w{number}"), numpy_helper.from_array(b, f"b{number}")]
        nodes.append(helper.make_node("Gemm", [name, f"w{number}", f"b{number}"], [f"z{number}"]))
        name = f"z{number}"
        if activation != "identity":
            nodes.append(helper.make_node(_OPERATORS[activation], [name], [f"a{number}"]))
            name = f"a{number}"
    sizes = task.problem.sizes
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(task.problem.dtype))
    assert kind in (TensorProto.FLOAT, TensorProto.DOUBLE)
    graph = helper.make_graph(
        nodes, "mlp",
        [helper.make_tensor_value_info("x", kind, ["rows", sizes[0]])],
        [helper.make_tensor_value_info(name, kind, ["rows", sizes[-1]])],
        constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model


def _predictor(task: Task, threads: int | None) -> Callable[[Array], Array]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0  # 0: as many as it likes
    session = onnxruntime.InferenceSession(_model(task).SerializeToString(), options, providers=["CPUExecutionProvider"])

    def predict(x: Array) -> Array:
        outputs: Array = session.run(None, {"x": x})[0]
        return outputs

    return predict


PEER = Peer(
    "onnx_runtime",
    "ONNX Runtime",
    "All graph optimizations are on (the default); one Gemm for each layer, weights as constants; numbers of threads as for "
    "the others.",
    None,
    packages=("onnx", "onnxruntime"),
    predictor=_predictor,
)
