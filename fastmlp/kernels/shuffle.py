"""A stretch of a random order of rows, computed; the formula is described in :mod:`fastmlp.shuffle`."""

from __future__ import annotations

import numpy as np

from fastmlp.kernels.hashes import add_hashes
from fastmlp.kernels.jit import device, formula, kernel
from fastmlp.kernels.simd import index


@formula
def _permuted(position, k0, k1, k2, k3, k4, k5, k6, k7, bits, ones, radix):
    """Where a bijection of 0 .. radix * 2^bits sends a position."""
    left, right = np.uint32(position & ones), np.uint32(position >> bits)
    left, right = add_hashes(left, right, k0, k1, ones, radix)
    left, right = add_hashes(left, right, k2, k3, ones, radix)
    left, right = add_hashes(left, right, k4, k5, ones, radix)
    left, right = add_hashes(left, right, k6, k7, ones, radix)
    return (np.uint64(right) << bits) | np.uint64(left)


@device
def _fill(keys, bits, ones, radix, first, out):
    k0, k1, k2, k3, k4, k5, k6, k7 = keys[0], keys[1], keys[2], keys[3], keys[4], keys[5], keys[6], keys[7]
    for i in range(len(out)):
        out[index(i)] = _permuted(np.uint64(first + i), k0, k1, k2, k3, k4, k5, k6, k7, bits, ones, radix)


@device
def _walk(keys, bits, ones, radix, rows, out):
    k0, k1, k2, k3, k4, k5, k6, k7 = keys[0], keys[1], keys[2], keys[3], keys[4], keys[5], keys[6], keys[7]
    for i in range(len(out)):
        while out[index(i)] >= rows:
            out[index(i)] = _permuted(np.uint64(out[index(i)]), k0, k1, k2, k3, k4, k5, k6, k7, bits, ones, radix)


@kernel
def fill_order(keys, bits, radix, rows, first, out):
    """out (count,) = rows of the data at positions first, first + 1, ... of the epoch; all of them below ``rows``."""
    ones = np.uint32((np.uint64(1) << np.uint64(bits)) - np.uint64(1))
    _fill(keys, np.uint64(bits), ones, np.uint32(radix), first, out)
    _walk(keys, np.uint64(bits), ones, np.uint32(radix), rows, out)
