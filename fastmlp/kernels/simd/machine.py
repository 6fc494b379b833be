"""The processor that numba compiles for, as far as the kernels care."""

from __future__ import annotations

from typing import NamedTuple

from numba.core.registry import cpu_target


class Machine(NamedTuple):
    """Its vectors, and the register tile that fits it."""

    vector_bytes: int
    """Width of a vector register."""
    tile_rows: int
    """Rows of accumulators held in registers."""
    tile_vectors: int
    """Vectors of accumulators in each of them."""
    fma: bool
    """Whether a fused multiply-add is one instruction; without it, ``llvm.fma`` would be a library call."""
    x86: bool
    arm: bool


def detect_machine(triple: str, features: str) -> Machine:
    """Choose vectors and tile by target triple and LLVM's feature string (``+avx2,+fma,-avx512f``)."""
    has = {feature[1:] for feature in features.split(",") if feature.startswith("+")}
    x86 = triple.startswith(("x86_64", "i686"))
    arm = triple.startswith(("aarch64", "arm64"))
    # Accumulators + one row of B + one broadcast must fit the registers: 32 with AVX-512 and NEON, 16 otherwise.
    if "avx512f" in has and "avx512vl" in has:
        return Machine(64, 8, 3, True, x86, arm)
    if "avx2" in has and "fma" in has:
        return Machine(32, 4, 3, True, x86, arm)
    if arm:
        return Machine(16, 8, 3, True, x86, arm)
    return Machine(16, 4, 3, "fma" in has, x86, arm)


_TRIPLE, CPU_NAME, _FEATURES = cpu_target.target_context.codegen().magic_tuple()
MACHINE = detect_machine(_TRIPLE, _FEATURES)
