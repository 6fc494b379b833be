"""Small blocks of numbers at once: transposed, repeated, summed, and products with few outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastmlp.kernels.plan import LINE_BYTES, PANEL_ROWS, TRANSPOSE
from fastmlp.kernels.simd.emit import I32, I64, Vectors, const, data_pointer, intrinsic
from fastmlp.kernels.simd.machine import MACHINE


def _transpose_block_python(a, a0, ld_a, b, b0, ld_b):
    for i in range(TRANSPOSE):
        for j in range(TRANSPOSE):
            b[b0 + j * ld_b + i] = a[a0 + i * ld_a + j]


@intrinsic(_transpose_block_python)
def transpose_block(typingctx, a, a0, ld_a, b, b0, ld_b):
    """b (TRANSPOSE, TRANSPOSE) at b0 = the transpose of a at a0."""
    signature = types.void(a, types.intp, types.intp, b, types.intp, types.intp)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, a0, ld_a, b, b0, ld_b = args
        vectors = Vectors(context, builder, signature.args[0], TRANSPOSE)
        source = data_pointer(context, builder, signature.args[0], a)
        target = data_pointer(context, builder, signature.args[3], b)
        rows = [vectors.load(source, builder.add(a0, builder.mul(ld_a, const(i)))) for i in range(TRANSPOSE)]

        def choose(x: Any, y: Any, picks: list[int]) -> Any:
            return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, TRANSPOSE), picks))

        half = TRANSPOSE // 2
        while half:  # swap the off-diagonal quarters of ever smaller squares
            for i in range(TRANSPOSE):
                if not i & half:
                    upper, lower = rows[i], rows[i + half]
                    places = range(TRANSPOSE)
                    rows[i] = choose(upper, lower, [j if not j & half else j - half + TRANSPOSE for j in places])
                    rows[i + half] = choose(upper, lower, [j + half if not j & half else j + TRANSPOSE for j in places])
            half //= 2
        for i in range(TRANSPOSE):
            vectors.store(rows[i], target, builder.add(b0, builder.mul(ld_b, const(i))))
        return context.get_dummy_value()

    return signature, codegen


def _fold(reduce: str, python: Any) -> Any:
    """A function that reduces the rows of a block to one: out (PANEL_ROWS,) at o0 of block (rows, PANEL_ROWS) at b0."""

    def fold_python(block, b0, rows, out, o0):
        out[o0 : o0 + PANEL_ROWS] = python(block[b0 : b0 + rows * PANEL_ROWS].reshape(rows, PANEL_ROWS), axis=0)

    @intrinsic(fold_python)
    def fold(typingctx, block, b0, rows, out, o0):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            block, b0, rows, out, o0 = args
            vectors = Vectors(context, builder, signature.args[0], PANEL_ROWS)
            block = data_pointer(context, builder, signature.args[0], block)
            total = cgutils.alloca_once(builder, vectors.type)
            builder.store(vectors.load(block, b0), total)
            with cgutils.for_range_slice(builder, const(1), rows, const(1), I64) as (row, _):
                value = vectors.load(block, builder.add(b0, builder.mul(row, const(PANEL_ROWS))))
                so_far = builder.load(total)
                if reduce == "sum":
                    builder.store(builder.fadd(so_far, value), total)
                else:  # "not less" also picks a nan
                    less = builder.fcmp_ordered("<", value, so_far)
                    builder.store(builder.select(less, so_far, value), total)
            vectors.store(builder.load(total), data_pointer(context, builder, signature.args[3], out), o0)
            return context.get_dummy_value()

        return types.void(block, types.intp, types.intp, out, types.intp), codegen

    return fold


fold_sum = _fold("sum", np.sum)
fold_max = _fold("max", np.max)


def _repeat_row_python(row, r0, rows, block, b0):
    block[b0 : b0 + rows * PANEL_ROWS] = np.tile(row[r0 : r0 + PANEL_ROWS], rows)


@intrinsic(_repeat_row_python)
def repeat_row(typingctx, row, r0, rows, block, b0):
    """block (rows, PANEL_ROWS) at b0 = row (PANEL_ROWS,) at r0, again and again."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        row, r0, rows, block, b0 = args
        vectors = Vectors(context, builder, signature.args[0], PANEL_ROWS)
        value = vectors.load(data_pointer(context, builder, signature.args[0], row), r0)
        block = data_pointer(context, builder, signature.args[3], block)
        with cgutils.for_range_slice(builder, const(0), rows, const(1), I64) as (number, _):
            vectors.store(value, block, builder.add(b0, builder.mul(number, const(PANEL_ROWS))))
        return context.get_dummy_value()

    return types.void(row, types.intp, types.intp, block, types.intp), codegen


_PHASES = 4
"""Sums that :func:`column_sums` keeps of a column, so that none waits for its last addition."""


def _column_sums_python(columns, block, b0, ld_b, rows, initial, i0, out, o0):
    total = initial[i0 : i0 + columns].copy()
    for k in range(rows):
        total += block[b0 + k * ld_b : b0 + k * ld_b + columns]
    out[o0 : o0 + columns] = total


@intrinsic(_column_sums_python)
def column_sums(typingctx, columns, block, b0, ld_b, rows, initial, i0, out, o0):
    """out (columns,) at o0 = initial at i0 + the sum of the rows of block (rows, columns) at b0; columns: whole vectors."""
    integer = types.intp
    signature = types.void(integer, block, integer, integer, integer, initial, integer, out, integer)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        columns, block, b0, ld_b, rows, initial, i0, out, o0 = args
        vectors = Vectors(context, builder, signature.args[1])
        block, initial, out = (
            data_pointer(context, builder, signature.args[n], array) for n, array in ((1, block), (5, initial), (7, out))
        )
        whole = builder.and_(rows, const(-_PHASES))
        with cgutils.for_range_slice(builder, const(0), columns, const(vectors.lanes), I64) as (column, _):
            sums = [cgutils.alloca_once(builder, vectors.type) for _ in range(_PHASES)]
            builder.store(vectors.load(initial, builder.add(i0, column)), sums[0])
            for one in sums[1:]:
                builder.store(vectors.zeros, one)
            top = builder.add(b0, column)

            def add_row(row: Any, one: Any, top: Any = top) -> None:
                value = vectors.load(block, builder.add(top, builder.mul(row, ld_b)))
                builder.store(builder.fadd(builder.load(one), value), one)

            with cgutils.for_range_slice(builder, const(0), whole, const(_PHASES), I64) as (row, _):
                for phase, one in enumerate(sums):
                    add_row(builder.add(row, const(phase)), one)
            with cgutils.for_range_slice(builder, whole, rows, const(1), I64) as (row, _):
                add_row(row, sums[0])
            total = builder.load(sums[0])
            for one in sums[1:]:
                total = builder.fadd(total, builder.load(one))
            vectors.store(total, out, builder.add(o0, column))
        return context.get_dummy_value()

    return signature, codegen


def _dot_products_python(count, rows, depth, a, a0, ld_a, w, w0, ld_w, bias, b0, c, c0, ld_c):
    for i in range(rows):
        c[c0 + i * ld_c : c0 + i * ld_c + LINE_BYTES // c.itemsize] = 0
        for j in range(count):
            c[c0 + i * ld_c + j] = bias[b0 + j] + a[a0 + i * ld_a :][:depth] @ w[w0 + j * ld_w :][:depth]


@intrinsic(_dot_products_python)
def dot_products(typingctx, count, rows, depth, a, a0, ld_a, w, w0, ld_w, bias, b0, c, c0, ld_c):
    """c (rows, count) at c0 = bias + a @ w^T, each element a sum along rows of a (rows, depth) and w (count, depth).

    The rest of the cache line in which a row of c begins becomes zero.
    """
    integer = types.intp
    signature = types.void(integer, integer, integer, a, integer, integer, w, integer, integer, bias, integer, c, integer, integer)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        count, rows, depth, a, a0, ld_a, w, w0, ld_w, bias, b0, c, c0, ld_c = args
        vectors = Vectors(context, builder, signature.args[3])
        lanes = vectors.lanes
        a, w, bias, c = (
            data_pointer(context, builder, signature.args[n], array) for n, array in ((3, a), (6, w), (9, bias), (11, c))
        )
        whole = builder.and_(depth, const(-lanes))
        numbers = ir.VectorType(I64, lanes)
        left = builder.insert_element(ir.Constant(numbers, ir.Undefined), builder.sub(depth, whole), ir.Constant(I32, 0))
        left = builder.shuffle_vector(left, ir.Constant(numbers, ir.Undefined), ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))
        is_input = builder.icmp_signed("<", ir.Constant(numbers, list(range(lanes))), left)
        with cgutils.for_range_slice(builder, const(0), rows, const(1), I64) as (row, _):
            a_row = builder.add(a0, builder.mul(row, ld_a))
            c_row = builder.add(c0, builder.mul(row, ld_c))
            for part in range(0, LINE_BYTES // vectors.align, lanes):
                vectors.store(vectors.zeros, c, builder.add(c_row, const(part)))
            with cgutils.for_range_slice(builder, const(0), count, const(1), I64) as (output, _):
                w_row = builder.add(w0, builder.mul(output, ld_w))
                total = cgutils.alloca_once(builder, vectors.type)
                builder.store(vectors.zeros, total)

                def add_products(x: Any, k: Any, w_row: Any = w_row, total: Any = total) -> None:
                    y = vectors.load(w, builder.add(w_row, k))
                    builder.store(vectors.multiply_add(x, y, builder.load(total)), total)

                with cgutils.for_range_slice(builder, const(0), whole, const(lanes), I64) as (k, _):
                    add_products(vectors.load(a, builder.add(a_row, k)), k)
                with builder.if_then(builder.icmp_signed("<", whole, depth)):
                    # What pads a row of a need not be finite: an activation of a person's own may not be, at 0.
                    rest = builder.select(is_input, vectors.load(a, builder.add(a_row, whole)), vectors.zeros)
                    add_products(rest, whole)
                start = builder.load(builder.gep(bias, [builder.add(b0, output)]))
                result = vectors.reduce("fadd", builder.load(total), start)
                builder.store(result, builder.gep(c, [builder.add(c_row, output)]))
        return context.get_dummy_value()

    return signature, codegen


def _reduction(operation: str, python: Any) -> Any:
    """A function that reduces the vector at x0 of x to one number."""

    def reduce_python(x, x0):
        return python(x[x0 : x0 + MACHINE.vector_bytes // x.itemsize])

    @intrinsic(reduce_python)
    def reduce(typingctx, x, x0):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vectors = Vectors(context, builder, signature.args[0])
            value = vectors.load(data_pointer(context, builder, signature.args[0], args[0]), args[1])
            start = [ir.Constant(vectors.element, -0.0)] if operation == "fadd" else []
            return vectors.reduce(operation, value, *start)

        return x.dtype(x, types.intp), codegen

    return reduce


sum_of_lanes, max_of_lanes = _reduction("fadd", np.sum), _reduction("fmax", np.fmax.reduce)
