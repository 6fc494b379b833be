"""Loops over a person's own functions: compiled by themselves and called by address, so that the kernels stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, cfunc, config, types
from numba.extending import intrinsic

from fastmlp.kernels.jit import FASTMATH, Kernel, device
from fastmlp.kernels.plan import ZERO
from fastmlp.kernels.simd import data_pointer

_python_functions: list[Callable[..., Any]] = [lambda *arguments: None]
"""With numba's compiler switched off, an address is a place in this list."""


@intrinsic
def _call_address(typingctx, address, p, p0, q, q0, r, r0, count, parameter):
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointers = [
            builder.gep(data_pointer(context, builder, signature.args[place], args[place]), [args[place + 1]])
            for place in (1, 3, 5)
        ]
        i64, f64 = ir.IntType(64), ir.DoubleType()
        function = ir.FunctionType(i64, [pointer.type for pointer in pointers] + [i64, f64])
        builder.call(builder.inttoptr(args[0], ir.PointerType(function)), [*pointers, args[7], args[8]])
        return context.get_dummy_value()

    numbers = types.int64, types.float64
    return types.void(types.int64, p, types.int64, q, types.int64, r, types.int64, *numbers), codegen


def _call_python(address, p, p0, q, q0, r, r0, count, parameter):
    _python_functions[address](p[p0:], q[q0:], r[r0:], count, parameter)


call_address = _call_python if config.DISABLE_JIT else _call_address
"""Call the function at an address with pointers to p[p0], q[q0] and r[r0], a count and a parameter."""


@device
def own_activate(z, z0, count, parameter, address):
    """z = f(z), of a function that was compiled by itself."""
    call_address(address, z, z0, z, z0, z, z0, count, parameter)


@device
def own_activate_and_slope(z, z0, slope, s0, count, parameter, address):
    """slope = f'(z), z = f(z)."""
    call_address(address, z, z0, slope, s0, slope, s0, count, parameter)


@device
def own_loss_and_slope(a, a0, y, y0, terms, t0, count, parameter, address):
    """terms = loss of each output by itself, y = dLoss/da."""
    call_address(address, a, a0, y, y0, terms, t0, count, parameter)


@lru_cache(maxsize=256)
def compile_loop(make_loop: Callable[..., Kernel[..., Any]], formulas: Sequence[Kernel[..., Any]], dtype: np.dtype[Any]) -> Any:
    """Compile a loop that one of :mod:`fastmlp.kernels.ladders` makes of formulas; what has an ``address``.

    Raises
    ------
    TypeError
        Where numba cannot compile the functions.
    """
    loop = make_loop(*formulas)
    n_arrays = loop.py_func.__code__.co_varnames.index("count") // 2
    if n_arrays == 1:

        def call(p, q, r, count, parameter):
            loop(carray(p, (count,)), ZERO, count, parameter, ZERO)
            return ZERO

    elif n_arrays == 2:

        def call(p, q, r, count, parameter):
            loop(carray(p, (count,)), ZERO, carray(q, (count,)), ZERO, count, parameter, ZERO)
            return ZERO

    else:

        def call(p, q, r, count, parameter):
            loop(carray(p, (count,)), ZERO, carray(q, (count,)), ZERO, carray(r, (count,)), ZERO, count, parameter, ZERO)
            return ZERO

    if config.DISABLE_JIT:
        return _PythonFunction(loop.py_func, n_arrays)
    pointer = types.CPointer(types.float32 if dtype.itemsize == 4 else types.float64)
    signature = types.int64(pointer, pointer, pointer, types.int64, types.float64)
    try:
        return cfunc(signature, error_model="numpy", fastmath=FASTMATH)(call)
    except Exception as error:  # mostly NumbaError, but the compiler may stumble in its own ways
        reason = next((line for line in str(error).splitlines() if line.strip() and "pipeline" not in line), str(error))
        raise TypeError(
            f"numba cannot compile the function ({reason.strip()}). It has to be made of arithmetic, comparisons and functions "
            "of the math module, on floats."
        ) from error


class _PythonFunction:
    """What has an address where nothing is compiled."""

    def __init__(self, loop: Callable[..., Any], n_arrays: int) -> None:
        def call(p, q, r, count, parameter):
            arrays = [item for array in (p, q, r)[:n_arrays] for item in (array, 0)]
            loop(*arrays, count, parameter, 0)

        self.address = len(_python_functions)
        _python_functions.append(call)
