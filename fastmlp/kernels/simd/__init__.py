"""What numba cannot say: the register tile and a few single instructions, as LLVM intrinsics.

Each takes whole flat arrays and offsets (in elements), never slices, nor addresses but for ``array_at``; and has a plain Python
twin that runs with ``NUMBA_DISABLE_JIT=1``, except in ``atomics``, where a single thread needs none. The width of a vector and the
shape of the tile follow the features of the processor that numba compiles for, so ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES``
choose them too.

``machine`` is that processor, ``emit`` what all intrinsics share; ``tile`` is the heart of all products, ``rows`` the same for
single rows, ``blocks`` what is done with small blocks; ``memory`` moves numbers and asks for them; ``atomics`` is what threads
share, ``denormals`` the floating-point mode.
"""

from fastmlp.kernels.simd.atomics import atomic_add, atomic_load, atomic_store, compare_exchange, pause, yield_processor
from fastmlp.kernels.simd.blocks import (
    column_sums,
    dot_products,
    fold_max,
    fold_sum,
    max_of_lanes,
    repeat_row,
    sum_of_lanes,
    transpose_block,
)
from fastmlp.kernels.simd.denormals import flush_denormals, restore_denormals
from fastmlp.kernels.simd.emit import data_pointer
from fastmlp.kernels.simd.machine import CPU_NAME, MACHINE, Machine, detect_machine
from fastmlp.kernels.simd.memory import array_at, as_type_of, copy, index, lanes, prefetch, prefetch_to_write, room_on_stack
from fastmlp.kernels.simd.rows import outer, row_product, sparse_outer, sparse_product
from fastmlp.kernels.simd.tile import SINGLE_ROW_VECTORS, TILE_ROWS, TILE_VECTORS, tile

__all__ = [
    "CPU_NAME", "MACHINE", "SINGLE_ROW_VECTORS", "TILE_ROWS", "TILE_VECTORS", "Machine", "array_at", "as_type_of",
    "atomic_add", "atomic_load", "atomic_store", "column_sums", "compare_exchange", "copy", "data_pointer", "detect_machine",
    "dot_products", "flush_denormals", "fold_max", "fold_sum", "index", "lanes", "max_of_lanes", "outer", "pause", "prefetch",
    "prefetch_to_write", "repeat_row", "restore_denormals", "room_on_stack", "row_product", "sparse_outer", "sparse_product",
    "sum_of_lanes", "tile", "transpose_block", "yield_processor",
]  # fmt: skip
