"""The processor's floating-point mode: numbers too small for a normalised form become zero, which is a hundred times faster."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastmlp.kernels.simd.emit import I32, I64, call, const, intrinsic
from fastmlp.kernels.simd.machine import MACHINE

_X86_FLUSH = 0x8040  # MXCSR: flush results to zero (bit 15), take denormal operands as zero (bit 6)
_ARM_FLUSH = 1 << 24  # FPCR.FZ


def _float_mode(builder: Any, new: Any) -> Any:
    """Emit a read of the floating-point control register (``new`` is None) or a write of it; as an int64."""
    if MACHINE.x86:
        slot = cgutils.alloca_once(builder, I32)
        if new is not None:
            builder.store(builder.trunc(new, I32), slot)
        pointer = builder.bitcast(slot, ir.PointerType(ir.IntType(8)))
        call(builder, "llvm.x86.sse.stmxcsr" if new is None else "llvm.x86.sse.ldmxcsr", ir.VoidType(), [pointer])
        return builder.zext(builder.load(slot), I64)
    if MACHINE.arm:
        if new is None:
            return call(builder, "llvm.aarch64.get.fpcr", I64, [])
        call(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), [new])
    return const(0)


@intrinsic(lambda: 0)
def flush_denormals(typingctx):
    """Take denormal numbers for zero from now on; returns the mode of before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        before = _float_mode(builder, None)
        _float_mode(builder, builder.or_(before, const(_X86_FLUSH if MACHINE.x86 else _ARM_FLUSH)))
        return before

    return types.int64(), codegen


@intrinsic(lambda mode: None)
def restore_denormals(typingctx, mode):
    """Return to a mode that :func:`flush_denormals` has returned."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _float_mode(builder, args[0])
        return context.get_dummy_value()

    return types.void(types.int64), codegen
