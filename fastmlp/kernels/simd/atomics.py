"""Memory shared between threads, and ways to wait for each other. No twins: in plain Python there is only one thread."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastmlp.kernels.simd.emit import I32, call, data_pointer
from fastmlp.kernels.simd.machine import MACHINE


@intrinsic
def atomic_load(typingctx, array, index):
    """Read an int64 element and all that was written before it was."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.gep(data_pointer(context, builder, signature.args[0], args[0]), [args[1]])
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(array, types.intp), codegen


@intrinsic
def atomic_store(typingctx, array, index, value):
    """Write an int64 element, so that who reads it with :func:`atomic_load` sees all that was written before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.gep(data_pointer(context, builder, signature.args[0], args[0]), [args[1]])
        builder.store_atomic(args[2], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), codegen


@intrinsic
def atomic_add(typingctx, array, index, value):
    """Add to an int64 element in one indivisible step; returns what stood there before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.gep(data_pointer(context, builder, signature.args[0], args[0]), [args[1]])
        return builder.atomic_rmw("add", pointer, args[2], "monotonic")

    return types.int64(array, types.intp, types.int64), codegen


@intrinsic
def compare_exchange(typingctx, array, index, expected, new):
    """Write ``new`` where ``expected`` stands, in one indivisible step; returns whether it stood there."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.gep(data_pointer(context, builder, signature.args[0], args[0]), [args[1]])
        return builder.extract_value(builder.cmpxchg(pointer, args[2], args[3], "seq_cst", "seq_cst"), 1)

    return types.boolean(array, types.intp, types.int64, types.int64), codegen


@intrinsic
def pause(typingctx):
    """Tell the processor that this is a spin."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if MACHINE.x86:
            call(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
        elif MACHINE.arm:
            call(builder, "llvm.aarch64.hint", ir.VoidType(), [ir.Constant(I32, 1)])
        return context.get_dummy_value()

    return types.void(), codegen


_YIELD = "fastmlp_yield"
_yield_function = ctypes.windll.kernel32.SwitchToThread if os.name == "nt" else ctypes.CDLL(None).sched_yield  # type: ignore[attr-defined,unused-ignore]
llvm.add_symbol(_YIELD, ctypes.cast(_yield_function, ctypes.c_void_p).value)


@intrinsic
def yield_processor(typingctx):
    """Let another thread of the machine run."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call(builder, _YIELD, I32, [])
        return context.get_dummy_value()

    return types.void(), codegen
