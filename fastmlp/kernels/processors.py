"""Which processor a thread runs on, where the system lets it say: Linux.

Two threads that wait for each other must not run on one processor, but a scheduler that wakes a thread likes to put it where the
one runs that has woken it, and takes tens of milliseconds to see that both go on working: all of a short training. Python's lock
wakes threads all the time. So each thread looks where it is as the last thing before it works, when it needs no lock any more.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

import numpy as np
from llvmlite import binding as llvm
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from fastmlp.kernels.jit import device
from fastmlp.kernels.plan import ALLOWED, MASK_WORDS, ONE_PLACE, PLACE, PLACES_LOCK, STATES, THREAD_STRIDE
from fastmlp.kernels.simd import atomic_store, compare_exchange, index, pause

_CURRENT, _ALLOWED, _BIND = "fastmlp_current_processor", "fastmlp_allowed_processors", "fastmlp_bind_thread"
_library = ctypes.CDLL(None) if os.name != "nt" else None
CAN_MOVE = not config.DISABLE_JIT and hasattr(_library, "sched_getcpu") and hasattr(_library, "sched_setaffinity")
if CAN_MOVE:
    for _symbol, _function in ((_CURRENT, "sched_getcpu"), (_ALLOWED, "sched_getaffinity"), (_BIND, "sched_setaffinity")):
        llvm.add_symbol(_symbol, ctypes.cast(getattr(_library, _function), ctypes.c_void_p).value)

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_BITS = 64
_ONE = np.uint64(1)


@intrinsic
def current_processor(typingctx):
    """Number of the processor that this thread runs on; -1 where the system does not say."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if not CAN_MOVE:
            return _I64(-1)
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I32, []), _CURRENT)
        return builder.sext(builder.call(function, []), _I64)

    return types.int64(), codegen


def _call_on_mask(name: str) -> Any:
    """A function that gives the system MASK_WORDS elements of an array: a bit for each processor, of this thread."""

    @intrinsic
    def call(typingctx, mask, start):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            if CAN_MOVE:
                data = context.make_array(mask)(context, builder, args[0]).data
                pointer = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
                kind = ir.FunctionType(_I32, [_I32, _I64, pointer.type])
                builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [_I32(0), _I64(8 * MASK_WORDS), pointer])
            return context.get_dummy_value()

        return types.void(mask, types.int64), codegen

    return call


_get_allowed = _call_on_mask(_ALLOWED)
_bind = _call_on_mask(_BIND)


@device
def _is_taken(sync, thread, n_threads, processor):
    for other in range(n_threads):  # which numba does not know
        if other != thread and sync[index(STATES + THREAD_STRIDE * other + PLACE)] == processor + 1:
            return True
    return False


@device
def take_place(worker):
    """Write down where this thread is; if another one of the team is there, move to where none is, without being bound to it."""
    thread, n_threads, sync = worker
    here = current_processor()
    if here < 0 or here >= _BITS * MASK_WORDS:
        return
    place = STATES + THREAD_STRIDE * thread + PLACE
    if sync[index(place)] == here + 1:  # still there, and whoever came later has seen it
        return
    while not compare_exchange(sync, PLACES_LOCK, 0, 1):
        pause()
    if _is_taken(sync, thread, n_threads, here):
        for q in range(MASK_WORDS):
            sync[index(ALLOWED + q)] = 0
        _get_allowed(sync, ALLOWED)  # now, because somebody may have changed it since the last call
        for processor in range(_BITS * MASK_WORDS):
            word = np.uint64(sync[index(ALLOWED + processor // _BITS)])
            if (word >> np.uint64(processor % _BITS)) & _ONE != 0 and not _is_taken(sync, thread, n_threads, processor):
                for q in range(MASK_WORDS):
                    sync[index(ONE_PLACE + q)] = 0
                sync[index(ONE_PLACE + processor // _BITS)] = np.int64(_ONE << np.uint64(processor % _BITS))
                _bind(sync, ONE_PLACE)
                _bind(sync, ALLOWED)
                here = np.int64(processor)
                break
    sync[index(place)] = here + 1
    atomic_store(sync, PLACES_LOCK, 0)
