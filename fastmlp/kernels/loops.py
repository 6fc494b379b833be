"""Loops over flat arrays, made of formulas: each is compiled by itself and called by its address.

A formula of the tables (activations, losses, optimizers) is for one number; the loop that is made of it here becomes vector
instructions. Kernels know it by its address, which is data like everything else that differs between networks. So the first
training of all waits for the formulas that it needs and no others, and a person's own functions go the same way as those of
the tables, at the same speed (but for online learning, where those of the tables may be :mod:`~fastmlp.kernels.narrow`).

What is called by an address takes pointers, and then numbers: see :func:`call_loop`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types

from fastmlp.kernels.jit import Kernel, callback
from fastmlp.kernels.plan import ZERO
from fastmlp.kernels.simd.emit import data_pointer, intrinsic

_python_functions: list[Callable[..., Any]] = [lambda *arguments: None]
"""With numba's compiler switched off, an address is a place in this list."""


def _call_python(address, arguments):
    n_arrays = sum(isinstance(argument, np.ndarray) for argument in arguments)
    arrays = [arguments[place][arguments[place + 1] :] for place in range(0, 2 * n_arrays, 2)]
    _python_functions[address](*arrays, *arguments[2 * n_arrays :])


@intrinsic(_call_python)
def call_loop(typingctx, address, arguments):
    """``call_loop(address, (array, offset, ..., number, ...))``: a loop with pointers into arrays, then int64s and float64s."""
    n_arrays = sum(isinstance(argument, types.Array) for argument in arguments)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = [builder.extract_value(args[1], place) for place in range(len(arguments))]
        pointers = [
            builder.gep(data_pointer(context, builder, arguments[place], values[place]), [values[place + 1]])
            for place in range(0, 2 * n_arrays, 2)
        ]
        operands = pointers + values[2 * n_arrays :]
        function = ir.FunctionType(ir.IntType(64), [operand.type for operand in operands])
        builder.call(builder.inttoptr(args[0], ir.PointerType(function)), operands)
        return context.get_dummy_value()

    return types.void(types.int64, arguments), codegen


# One name for each kind of loop; its arguments are those of the loop that the function of the same name below makes.
activate = activate_and_slope = loss_and_slope = logit_terms = update = call_loop


# --- the kinds of loops -------------------------------------------------------------------------------------------------------


def activate_loop(value: Kernel[..., Any]) -> Callable[..., int]:
    """The loop over an activation."""

    def loop(z, count, parameter):
        """z = f(z)."""
        p = type(z[0])(parameter)
        for q in range(count):
            z[q] = value(z[q], p)
        return ZERO

    return loop


def activate_and_slope_loop(value: Kernel[..., Any], derivative: Kernel[..., Any]) -> Callable[..., int]:
    """The loop over an activation and its derivative."""

    def loop(z, slope, count, parameter):
        """slope = f'(z), z = f(z)."""
        p = type(z[0])(parameter)
        for q in range(count):
            x = z[q]
            a = value(x, p)
            slope[q] = derivative(x, a, p)
            z[q] = a
        return ZERO

    return loop


def loss_and_slope_loop(value: Kernel[..., Any], derivative: Kernel[..., Any]) -> Callable[..., int]:
    """The loop over a loss and its derivative."""

    def loop(a, y, terms, count, parameter):
        """terms = loss of each output by itself, y = dLoss/da."""
        p = type(a[0])(parameter)
        for q in range(count):
            output, target = a[q], y[q]
            terms[q] = value(output, target, p)
            y[q] = derivative(output, target, p)
        return ZERO

    return loop


def logit_terms_loop(value: Kernel[..., Any]) -> Callable[..., int]:
    """The loop over a loss of logits."""

    def loop(z, y, terms, count, parameter):
        """terms = loss of each output by itself, from the logits."""
        for q in range(count):
            terms[q] = value(z[q], y[q])
        return ZERO

    return loop


def update_loop(step: Kernel[..., Any], n_states: int) -> Callable[..., int]:
    """The loop over an optimizer's step, which has so many numbers of state."""

    def loop(w, g, s1, s2, c, count, shrink, l2):
        """w, s1, s2 = step(w * shrink, gradient + l2 * w, s1, s2, c0, ...); state that the rule does not have is not touched."""
        real = type(w[0])
        zero, kept, penalty = real(0), real(shrink), real(l2)
        c0, c1, c2, c3 = real(c[0]), real(c[1]), real(c[2]), real(c[3])
        c4, c5, c6, c7 = real(c[4]), real(c[5]), real(c[6]), real(c[7])
        for q in range(count):
            x = w[q]
            slope = g[q] + penalty * x
            if n_states == 0:
                new, _, _ = step(x * kept, slope, zero, zero, c0, c1, c2, c3, c4, c5, c6, c7)
            elif n_states == 1:
                new, s1[q], _ = step(x * kept, slope, s1[q], zero, c0, c1, c2, c3, c4, c5, c6, c7)
            else:
                new, s1[q], s2[q] = step(x * kept, slope, s1[q], s2[q], c0, c1, c2, c3, c4, c5, c6, c7)
            w[q] = new
        return ZERO

    return loop


# --- compilation --------------------------------------------------------------------------------------------------------------

_N_POINTERS = {activate_loop: 1, activate_and_slope_loop: 2, loss_and_slope_loop: 3, logit_terms_loop: 3, update_loop: 4}
"""Arguments of each kind of loop that point to numbers of the network's dtype."""


@dataclass(frozen=True)
class Loop:
    """A loop to compile.

    Parameters
    ----------
    make : callable
        One of the functions above.
    formulas : tuple
        What it is called with.
    name : str or None
        Under which it is kept on disk; None for what is made of a person's own functions, which have no lasting name.
    """

    make: Callable[..., Callable[..., int]]
    formulas: tuple[Any, ...]
    name: str | None

    def signature(self, dtype: np.dtype[Any]) -> Any:
        """Of the compiled loop."""
        numbers: tuple[Any, ...] = types.int64, types.float64
        if self.make is update_loop:
            numbers = types.CPointer(types.float64), types.int64, types.float64, types.float64
        pointer = types.CPointer(types.float32 if dtype.itemsize == 4 else types.float64)
        return types.int64(*[pointer] * _N_POINTERS[self.make], *numbers)


@lru_cache(maxsize=1024)
def compile_loop(loop: Loop, dtype: np.dtype[Any]) -> Any:
    """Compile a loop for a dtype, or load it from the cache; what has an ``address`` that is good for as long as it lives.

    Raises
    ------
    TypeError
        Where numba cannot compile the functions.
    """
    function = loop.make(*loop.formulas)
    if config.DISABLE_JIT:
        return _PythonFunction(function)
    try:
        made = callback(function, loop.signature(dtype), loop.name and f"{loop.make.__name__}_{loop.name}")
    except Exception as error:  # mostly NumbaError, but the compiler may stumble in its own ways
        reason = next((line for line in str(error).splitlines() if line.strip() and "pipeline" not in line), str(error))
        raise TypeError(
            f"numba cannot compile the function ({reason.strip()}). It has to be made of arithmetic, comparisons and functions "
            "of the math module, on floats."
        ) from error
    # What an exception says is unpickled, and to print takes the interpreter's lock, which a thread of a team must not wait for.
    if loop.name is None and "numba_unpickle" in made.inspect_llvm():
        raise TypeError(
            "the function prints, or raises an error, for which a kernel has no place; leave out print, raise and assert."
        )
    return made


class _PythonFunction:
    """What has an address where nothing is compiled."""

    def __init__(self, loop: Callable[..., int]) -> None:
        self.address = len(_python_functions)
        _python_functions.append(loop)
