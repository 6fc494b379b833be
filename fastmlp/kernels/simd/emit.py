"""How instructions are emitted: what all intrinsics share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba.extending
from llvmlite import ir
from numba import config
from numba.core import cgutils

from fastmlp.kernels.simd.machine import MACHINE

I64, I32 = ir.IntType(64), ir.IntType(32)


def intrinsic(twin: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function that types a call and emits its instructions; with numba switched off, ``twin`` stands in its place.

    Parameters
    ----------
    twin : callable
        The same in plain Python, on the same arguments.
    """

    def decorate(define: Callable[..., Any]) -> Any:
        return twin if config.DISABLE_JIT else numba.extending.intrinsic(define)

    return decorate


def const(value: int) -> Any:
    """An int64."""
    return ir.Constant(I64, value)


def data_pointer(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    """Pointer to the first element of an array argument."""
    return context.make_array(array_type)(context, builder, array).data


def call(builder: Any, name: str, result: Any, arguments: list[Any], **options: Any) -> Any:
    """Call a function by name, such as one of LLVM's own."""
    function = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), arguments, **options)


class Vectors:
    """Vectors of numbers of one kind, for which code is emitted.

    Parameters
    ----------
    context, builder
        Of numba and LLVM.
    array_type : numba.types.Array
        Of an array with such numbers.
    lanes : int, optional
        Numbers in a vector; as many as a register holds unless given.
    """

    def __init__(self, context: Any, builder: Any, array_type: Any, lanes: int | None = None) -> None:
        self._context, self._builder = context, builder
        self.element = context.get_data_type(array_type.dtype)
        self.align = array_type.dtype.bitwidth // 8
        self.lanes = lanes or MACHINE.vector_bytes // self.align
        self.type = ir.VectorType(self.element, self.lanes)
        self.zeros = ir.Constant(self.type, [0.0] * self.lanes)
        self._name = f"v{self.lanes}f{8 * self.align}"

    def place(self, pointer: Any, offset: Any) -> Any:
        """Pointer to the vector that begins at an element."""
        return self._builder.bitcast(self._builder.gep(pointer, [offset]), ir.PointerType(self.type))

    def load(self, pointer: Any, offset: Any) -> Any:
        """The vector that begins at an element, which may stand anywhere."""
        value = self._builder.load(self.place(pointer, offset))
        value.align = self.align
        return value

    def store(self, value: Any, pointer: Any, offset: Any) -> None:
        """Write a vector to an element and on."""
        self._builder.store(value, self.place(pointer, offset)).align = self.align

    def multiply_add(self, x: Any, y: Any, z: Any) -> Any:
        """x * y + z, in one instruction if the processor has it."""
        if MACHINE.fma:
            return call(self._builder, f"llvm.fma.{self._name}", self.type, [x, y, z])
        return self._builder.fadd(self._builder.fmul(x, y), z)

    def broadcast(self, scalar: Any) -> Any:
        """A number in all lanes."""
        undefined = ir.Constant(self.type, ir.Undefined)
        first = self._builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
        return self._builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes))

    def reduce(self, operation: str, value: Any, *start: Any) -> Any:
        """All lanes as one number, in any order."""
        return call(
            self._builder, f"llvm.vector.reduce.{operation}.{self._name}", self.element, [*start, value], fastmath=("reassoc",)
        )
