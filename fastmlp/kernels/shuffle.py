"""Random orders of rows, drawn as a whole or computed where they are needed; :mod:`fastmlp.shuffle` says when, and how."""

from __future__ import annotations

import numpy as np

from fastmlp.kernels.hashes import add_hashes, below, row_key
from fastmlp.kernels.jit import device, formula, kernel
from fastmlp.kernels.simd import index, room_on_stack


@kernel
def draw_order(key, out):
    """out (rows,) = a random permutation of 0 .. rows - 1, by Fisher and Yates, from the inside out. key (1,): random bits.

    Each row number goes to a random place among those before it, and what was there to the end.
    """
    for i in range(len(out)):
        place = index(below(row_key(key[0], np.uint64(0), np.uint64(i)), np.uint64(i + 1)))
        out[index(i)] = out[place]
        out[place] = i


@formula
def _rounds(left, right, k0, k1, k2, k3, k4, k5, k6, k7, ones, radix):
    """Where a bijection sends the position of these digits, as digits."""
    left, right = add_hashes(left, right, k0, k1, ones, radix)
    left, right = add_hashes(left, right, k2, k3, ones, radix)
    left, right = add_hashes(left, right, k4, k5, ones, radix)
    return add_hashes(left, right, k6, k7, ones, radix)


@device
def _digits(keys, left, right, ones, radix, lefts, rights, n):
    """lefts and rights (n,): where the positions (left, right), (left + 1, right), ... are sent.

    In digits of 32 bits, of which a vector holds twice as many as of positions: that takes half the time.
    """
    k0, k1, k2, k3, k4, k5, k6, k7 = keys[0], keys[1], keys[2], keys[3], keys[4], keys[5], keys[6], keys[7]
    for i in range(n):
        a, b = _rounds(np.uint32(left + np.uint32(i)), right, k0, k1, k2, k3, k4, k5, k6, k7, ones, radix)
        lefts[index(i)] = a
        rights[index(i)] = b


@device
def _join(bits, lefts, rights, out, first, n):
    """out (n,) at first = the positions of digits lefts and rights (n,)."""
    for i in range(n):
        out[index(first + i)] = (np.uint64(rights[index(i)]) << bits) | np.uint64(lefts[index(i)])


@device
def _walk(keys, bits, ones, radix, rows, out):
    """out (count,): positions that are not below ``rows`` are sent on until they are."""
    k0, k1, k2, k3, k4, k5, k6, k7 = keys[0], keys[1], keys[2], keys[3], keys[4], keys[5], keys[6], keys[7]
    for i in range(len(out)):
        while out[index(i)] >= rows:
            position = np.uint64(out[index(i)])
            left, right = np.uint32(position & np.uint64(ones)), np.uint32(position >> bits)
            left, right = _rounds(left, right, k0, k1, k2, k3, k4, k5, k6, k7, ones, radix)
            out[index(i)] = (np.uint64(right) << bits) | np.uint64(left)


@kernel
def fill_order(keys, bits, radix, rows, first, out):
    """out (count,) = rows of the data at positions first, first + 1, ... of the epoch; all of them below ``rows``."""
    ones = np.uint32((np.uint64(1) << np.uint64(bits)) - np.uint64(1))
    lefts, rights = room_on_stack(keys), room_on_stack(keys)
    start = 0
    while start < len(out):
        position = np.uint64(first + start)
        left = np.uint32(position & ones)
        n = min(len(lefts), len(out) - start, int(np.int64(ones - left)) + 1)  # up to where the right digit changes
        _digits(keys, left, np.uint32(position >> np.uint64(bits)), ones, np.uint32(radix), lefts, rights, n)
        _join(np.uint64(bits), lefts, rights, out, start, n)
        start += n
    _walk(keys, np.uint64(bits), ones, np.uint32(radix), rows, out)
