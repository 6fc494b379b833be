"""Random bits that are computed from where they are needed: of :mod:`fastmlp.dropout` and :mod:`fastmlp.shuffle`.

The hash of 32 bits is that of Wellons, *Hash Prospector* (2018), "lowbias32"; where digits have 64 bits, with zeros above them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.kernels.jit import formula

_32, _33 = np.uint64(32), np.uint64(33)
_ROW, _LAYER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)  # odd
_MIX_1, _MIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_UNIT = np.uint32(0x9E3779B1)
_MULTIPLIER_1_32, _MULTIPLIER_2_32 = np.uint32(0x21F0AAAD), np.uint32(0x735A2D97)
_MULTIPLIER_1_64, _MULTIPLIER_2_64 = np.uint64(0x21F0AAAD), np.uint64(0x735A2D97)
_SHIFT_1_32, _SHIFT_2_32 = np.uint32(16), np.uint32(15)
_MASK = np.uint64(0xFFFFFFFF)


@formula
def row_key(key: Any, layer: Any, position: Any) -> Any:
    """64 bits for one layer and one sample of an epoch: the finalizer of Appleby's MurmurHash3 (2011); uint64 throughout."""
    x = key + position * _ROW + layer * _LAYER
    x = (x ^ (x >> _33)) * _MIX_1
    x = (x ^ (x >> _33)) * _MIX_2
    return x ^ (x >> _33)


@formula
def below(random: Any, n: Any) -> Any:
    """random * n / 2^64, rounded down, of 64 random bits: a number below n, without a product of 128 bits. uint64; n below 2^32.

    Lemire, *Fast Random Integer Generation in an Interval* (2019), without the division that makes all numbers exactly as likely:
    their probabilities differ by 2^-64 at most.
    """
    return ((random >> _32) * n + (((random & _MASK) * n) >> _32)) >> _32


@formula
def unit_hash(low: Any, high: Any, unit: Any) -> Any:
    """32 random bits for a unit; ``low`` and ``high`` are the halves of the row's key. uint32 throughout."""
    x = np.uint32(np.uint32(unit * _UNIT) + low)
    x = np.uint32(np.uint32(x ^ (x >> _SHIFT_1_32)) * _MULTIPLIER_1_32)
    x = np.uint32(np.uint32(np.uint32(x ^ (x >> _SHIFT_2_32)) ^ high) * _MULTIPLIER_2_32)
    x = np.uint32(np.uint32(x ^ (x >> _SHIFT_2_32)) * _MULTIPLIER_1_32)
    return np.uint32(x ^ (x >> _SHIFT_1_32))


@formula
def add_hashes(left: Any, right: Any, key_1: Any, key_2: Any, ones: Any, radix: Any) -> Any:
    """Add a hash of each digit to the other one: to the left, modulo ``ones`` + 1, and then to the right, modulo ``radix``.

    All are uint32, ``radix`` below 2^31. A product is cut at once to the 32 bits that count: multiplications of vectors of 64 bits
    take a processor thrice as long.
    """
    x = right ^ key_1
    x = np.uint32(((x ^ (x >> _SHIFT_1_32)) * _MULTIPLIER_1_64) & _MASK)
    x = np.uint32(((x ^ (x >> _SHIFT_2_32)) * _MULTIPLIER_2_64) & _MASK)
    left = np.uint32(np.uint32(left + np.uint32((x ^ (x >> _SHIFT_2_32)) & ones)) & ones)
    x = left ^ key_2
    x = np.uint32(((x ^ (x >> _SHIFT_1_32)) * _MULTIPLIER_1_64) & _MASK)
    x = np.uint32(((x ^ (x >> _SHIFT_2_32)) * _MULTIPLIER_2_64) & _MASK)
    right = np.uint32(right + np.uint32((np.uint64(np.uint32(x ^ (x >> _SHIFT_2_32))) * np.uint64(radix)) >> _32))
    return left, np.uint32(right - radix * (right >= radix))
