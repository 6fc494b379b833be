"""Moving numbers, asking for them in advance, and arrays that are elsewhere than numba knows."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastmlp.kernels.plan import NARROW_LAYERS, NARROW_WIDTH
from fastmlp.kernels.simd.emit import I32, I64, Vectors, call, const, data_pointer, intrinsic
from fastmlp.kernels.simd.machine import MACHINE

index = np.uint64
"""Every subscript of a hot loop is an unsigned integer: numba's test for a negative one stops the vectoriser."""


def _lanes_python(array):
    return MACHINE.vector_bytes // array.itemsize


@intrinsic(_lanes_python)
def lanes(typingctx, array):
    """Elements of an array that a vector register holds."""
    count = MACHINE.vector_bytes // (array.dtype.bitwidth // 8)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return const(count)

    return types.intp(array), codegen


def _copy_python(source, s0, target, t0, count):
    target[t0 : t0 + count] = source[s0 : s0 + count]


@intrinsic(_copy_python)
def copy(typingctx, source, s0, target, t0, count):
    """target (count,) at t0 = source at s0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, s0, target, t0, count = args
        lanes = Vectors(context, builder, signature.args[0]).lanes
        source = builder.gep(data_pointer(context, builder, signature.args[0], source), [s0])
        target = builder.gep(data_pointer(context, builder, signature.args[2], target), [t0])

        def move(offset: Any, width: int) -> None:
            vectors = Vectors(context, builder, signature.args[0], width)
            vectors.store(vectors.load(source, offset), target, offset)

        with builder.if_else(builder.icmp_signed(">=", count, const(lanes))) as (whole, short):
            with whole:  # the last vector ends with the row, and may overlap the one before
                last = builder.sub(count, const(lanes))
                with cgutils.for_range_slice(builder, const(0), last, const(lanes), I64) as (offset, _):
                    move(offset, lanes)
                move(last, lanes)
            with short:
                width, offset = lanes // 2, const(0)
                while width:
                    bit = builder.and_(count, const(width))
                    with builder.if_then(builder.icmp_unsigned("!=", bit, const(0))):
                        move(offset, width)
                    offset = builder.add(offset, bit)
                    width //= 2
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp, types.intp), codegen


def _prefetch(write: bool) -> Any:
    """A function that asks for the cache line of an element, to be read soon, or to be written."""

    @intrinsic(lambda array, index: None)
    def prefetch(typingctx, array, index):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            element = builder.gep(data_pointer(context, builder, signature.args[0], args[0]), [args[1]])
            access, second_level, data = (ir.Constant(I32, value) for value in (int(write), 2, 1))
            byte = builder.bitcast(element, ir.PointerType(ir.IntType(8)))
            call(builder, "llvm.prefetch.p0", ir.VoidType(), [byte, access, second_level, data])
            return context.get_dummy_value()

        return types.void(array, types.intp), codegen

    return prefetch


prefetch = _prefetch(write=False)
prefetch_to_write = _prefetch(write=True)


@intrinsic(lambda address, like: like)
def array_at(typingctx, address, like):
    """An array like another, but elsewhere in memory: at an address, and of any length.

    In plain Python there is only one thread, and nothing moves.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(like)(context, builder, args[1])
        array.data = builder.inttoptr(args[0], array.data.type)
        array.nitems = const(2**62)  # nobody says how long it is: numba's check of bounds, where it is on, has to let all pass
        array.shape = cgutils.pack_array(builder, [array.nitems])
        return array._getvalue()

    return like(types.int64, like), codegen


@intrinsic(lambda array, like: array)
def as_type_of(typingctx, array, like):
    """An array that may only be read, as the type of one that may be written: numba compiles a callee for each of the two types."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        result = context.make_array(like)(context, builder, args[1])
        result.data = data_pointer(context, builder, signature.args[0], args[0])
        return result._getvalue()

    return like(array, like), codegen


@intrinsic(lambda like: np.zeros(NARROW_LAYERS * NARROW_WIDTH, like.dtype))
def room_on_stack(typingctx, like):
    """An array like another, of NARROW_LAYERS * NARROW_WIDTH elements that live until the kernel ends; each call has its own."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(like)(context, builder, args[0])
        count = NARROW_LAYERS * NARROW_WIDTH
        room = cgutils.alloca_once(builder, ir.ArrayType(array.data.type.pointee, count))
        room.align = 64
        array.data = builder.bitcast(room, array.data.type)
        array.nitems = const(count)
        array.shape = cgutils.pack_array(builder, [array.nitems])
        return array._getvalue()

    return like(like), codegen
