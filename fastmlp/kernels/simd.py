"""What numba cannot say: the register tile and a few single instructions, as LLVM intrinsics.

Each takes whole flat arrays and offsets (in elements), never addresses or slices, and has a plain Python twin that runs
with ``NUMBA_DISABLE_JIT=1``. The width of a vector and the shape of the tile follow the features of the processor that
numba compiles for, so ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` choose them too.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from fastmlp.kernels.plan import NARROW_LAYERS, NARROW_WIDTH, PANEL_ROWS, TRANSPOSE

_I64, _I32 = ir.IntType(64), ir.IntType(32)


class Machine(NamedTuple):
    """The processor, as far as the kernels care."""

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
TILE_ROWS = MACHINE.tile_rows
TILE_VECTORS = MACHINE.tile_vectors


def data_pointer(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    """Pointer to the first element of an array argument."""
    return context.make_array(array_type)(context, builder, array).data


def _vector_at(builder: Any, pointer: Any, offset: Any, vector: Any) -> Any:
    return builder.bitcast(builder.gep(pointer, [offset]), ir.PointerType(vector))


def _tile_loop(builder: Any, element: Any, rows: int, vectors: int, operands: tuple[Any, ...]) -> None:
    """Emit C[rows, vectors * lanes] = I + A[rows, depth] @ B[depth, vectors * lanes], accumulated in registers.

    Where ``scaled``, C is multiplied by the result, element by element, instead of replaced. A's element (i, k) is at
    ``a + i * a_row + k * a_column``: it is only ever broadcast, so A and its transpose cost the same. The initial value I has
    ``ld_i`` elements between rows: 0 repeats one row (a bias).
    """
    a, a_row, a_column, b, ld_b, initial, ld_i, c, ld_c, depth, scaled = operands
    lanes = MACHINE.vector_bytes // (4 if element == ir.FloatType() else 8)
    align = 4 if element == ir.FloatType() else 8
    vector = ir.VectorType(element, lanes)

    def const(value: int) -> Any:
        return ir.Constant(_I64, value)

    def load(pointer: Any, offset: Any) -> Any:
        value = builder.load(_vector_at(builder, pointer, offset, vector))
        value.align = align
        return value

    fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f{8 * align}")

    def multiply_add(x: Any, y: Any, z: Any) -> Any:
        if MACHINE.fma:
            return builder.call(fma, [x, y, z])
        return builder.fadd(builder.fmul(x, y), z)

    a_rows = [builder.gep(a, [builder.mul(a_row, const(i))]) for i in range(rows)]
    start = [
        [load(initial, builder.add(builder.mul(ld_i, const(i)), const(j * lanes))) for j in range(vectors)] for i in range(rows)
    ]
    entry = builder.block
    head, body, end = (builder.append_basic_block(f"tile.{name}") for name in ("head", "body", "end"))
    builder.branch(head)

    builder.position_at_end(head)
    k = builder.phi(_I64)
    k.add_incoming(const(0), entry)
    accumulators = [[builder.phi(vector) for _ in range(vectors)] for _ in range(rows)]
    for i in range(rows):
        for j in range(vectors):
            accumulators[i][j].add_incoming(start[i][j], entry)
    builder.cbranch(builder.icmp_signed("<", k, depth), body, end)

    builder.position_at_end(body)
    b_row = builder.gep(b, [builder.mul(k, ld_b)])
    b_vectors = [load(b_row, const(j * lanes)) for j in range(vectors)]
    column = builder.mul(k, a_column)
    undefined = ir.Constant(vector, ir.Undefined)
    zeros = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
    for i in range(rows):
        scalar = builder.load(builder.gep(a_rows[i], [column]))
        broadcast = builder.shuffle_vector(builder.insert_element(undefined, scalar, ir.Constant(_I32, 0)), undefined, zeros)
        for j in range(vectors):
            accumulators[i][j].add_incoming(multiply_add(broadcast, b_vectors[j], accumulators[i][j]), body)
    k.add_incoming(builder.add(k, const(1)), body)
    builder.branch(head)

    builder.position_at_end(end)
    places = [
        [_vector_at(builder, c, builder.add(builder.mul(ld_c, const(i)), const(j * lanes)), vector) for j in range(vectors)]
        for i in range(rows)
    ]
    with builder.if_else(scaled) as (then, otherwise):
        with then:
            for i in range(rows):
                for j in range(vectors):
                    factor = builder.load(places[i][j])
                    factor.align = align
                    builder.store(builder.fmul(accumulators[i][j], factor), places[i][j]).align = align
        with otherwise:
            for i in range(rows):
                for j in range(vectors):
                    builder.store(accumulators[i][j], places[i][j]).align = align


TILE_ROW_CHOICES = tuple(rows for rows in (8, 5, 4, 2, 1) if rows <= TILE_ROWS)

SINGLE_ROW_VECTORS = 8
"""Vectors of accumulators for one row alone: enough of them that none waits for its last multiply-add."""


def _most_vectors(rows: int) -> int:
    return SINGLE_ROW_VECTORS if rows == 1 else TILE_VECTORS


@intrinsic
def _tile(typingctx, rows, vectors, a, a0, a_row, a_column, b, b0, ld_b, initial, i0, ld_i, c, c0, ld_c, depth, scaled):
    integer = types.intp
    signature = types.void(
        integer, integer, a, integer, integer, integer, b, integer, integer,
        initial, integer, integer, c, integer, integer, integer, types.boolean,
    )  # fmt: skip

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows, vectors, a, a0, a_row, a_column, b, b0, ld_b, initial, i0, ld_i, c, c0, ld_c, depth, scaled = args
        element = context.get_data_type(signature.args[2].dtype)
        a, b, initial, c = (
            builder.gep(data_pointer(context, builder, signature.args[n], args[n]), [offset])
            for n, offset in ((2, a0), (6, b0), (9, i0), (12, c0))
        )
        operands = (a, a_row, a_column, b, ld_b, initial, ld_i, c, ld_c, depth, scaled)
        done = builder.append_basic_block("tile.done")
        code = builder.add(builder.mul(rows, ir.Constant(_I64, 16)), vectors)
        switch = builder.switch(code, done)
        for n_rows in TILE_ROW_CHOICES:
            for n_vectors in range(1, _most_vectors(n_rows) + 1):
                case = builder.append_basic_block(f"tile.{n_rows}x{n_vectors}")
                switch.add_case(ir.Constant(_I64, 16 * n_rows + n_vectors), case)
                builder.position_at_end(case)
                _tile_loop(builder, element, n_rows, n_vectors, operands)
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, codegen


def _tile_python(rows, vectors, a, a0, a_row, a_column, b, b0, ld_b, initial, i0, ld_i, c, c0, ld_c, depth, scaled):
    columns = vectors * (MACHINE.vector_bytes // a.itemsize)
    for i in range(rows):
        total = initial[i0 + i * ld_i : i0 + i * ld_i + columns].copy()
        for k in range(depth):
            total += a[a0 + i * a_row + k * a_column] * b[b0 + k * ld_b : b0 + k * ld_b + columns]
        c[c0 + i * ld_c : c0 + i * ld_c + columns] = total * c[c0 + i * ld_c : c0 + i * ld_c + columns] if scaled else total


@intrinsic
def _lanes(typingctx, array):
    count = MACHINE.vector_bytes // (array.dtype.bitwidth // 8)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(_I64, count)

    return types.intp(array), codegen


def _lanes_python(array):
    return MACHINE.vector_bytes // array.itemsize


@intrinsic
def _transpose_block(typingctx, a, a0, ld_a, b, b0, ld_b):
    signature = types.void(a, types.intp, types.intp, b, types.intp, types.intp)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, a0, ld_a, b, b0, ld_b = args
        element = context.get_data_type(signature.args[0].dtype)
        align = 4 if element == ir.FloatType() else 8
        vector = ir.VectorType(element, TRANSPOSE)
        source = data_pointer(context, builder, signature.args[0], a)
        target = data_pointer(context, builder, signature.args[3], b)
        rows = []
        for i in range(TRANSPOSE):
            offset = builder.add(a0, builder.mul(ld_a, ir.Constant(_I64, i)))
            rows.append(builder.load(_vector_at(builder, source, offset, vector)))
            rows[-1].align = align

        def choose(x: Any, y: Any, picks: list[int]) -> Any:
            return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(_I32, TRANSPOSE), picks))

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
            offset = builder.add(b0, builder.mul(ld_b, ir.Constant(_I64, i)))
            builder.store(rows[i], _vector_at(builder, target, offset, vector)).align = align
        return context.get_dummy_value()

    return signature, codegen


def _transpose_block_python(a, a0, ld_a, b, b0, ld_b):
    for i in range(TRANSPOSE):
        for j in range(TRANSPOSE):
            b[b0 + j * ld_b + i] = a[a0 + i * ld_a + j]


@intrinsic
def _copy(typingctx, source, s0, target, t0, count):
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, s0, target, t0, count = args
        element = context.get_data_type(signature.args[0].dtype)
        align = 4 if element == ir.FloatType() else 8
        lanes = MACHINE.vector_bytes // align
        source = builder.gep(data_pointer(context, builder, signature.args[0], source), [s0])
        target = builder.gep(data_pointer(context, builder, signature.args[2], target), [t0])

        def move(offset: Any, width: int) -> None:
            vector = ir.VectorType(element, width)
            value = builder.load(_vector_at(builder, source, offset, vector))
            value.align = align
            builder.store(value, _vector_at(builder, target, offset, vector)).align = align

        def const(value: int) -> Any:
            return ir.Constant(_I64, value)

        with builder.if_else(builder.icmp_signed(">=", count, const(lanes))) as (whole, short):
            with whole:  # the last vector ends with the row, and may overlap the one before
                last = builder.sub(count, const(lanes))
                with cgutils.for_range_slice(builder, const(0), last, const(lanes), _I64) as (offset, _):
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


def _copy_python(source, s0, target, t0, count):
    target[t0 : t0 + count] = source[s0 : s0 + count]


def _prefetch(write: bool) -> Any:
    """A function that asks for the cache line of an element, to be read soon, or to be written."""

    @intrinsic
    def prefetch(typingctx, array, index):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            byte = ir.PointerType(ir.IntType(8))
            pointer = builder.bitcast(builder.gep(data_pointer(context, builder, signature.args[0], args[0]), [args[1]]), byte)
            function = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
            access, second_level, data = (ir.Constant(_I32, value) for value in (int(write), 2, 1))
            prefetch = cgutils.get_or_insert_function(builder.module, function, "llvm.prefetch.p0")
            builder.call(prefetch, [pointer, access, second_level, data])
            return context.get_dummy_value()

        return types.void(array, types.intp), codegen

    def prefetch_python(array, index):
        return None

    return prefetch_python if config.DISABLE_JIT else prefetch


prefetch = _prefetch(write=False)
prefetch_to_write = _prefetch(write=True)

LINE_BYTES = 64


def _fold(reduce: str, python: Any) -> Any:
    """A function that reduces the rows of a block to one: out (PANEL_ROWS,) at o0 of block (rows, PANEL_ROWS) at b0."""

    @intrinsic
    def fold(typingctx, block, b0, rows, out, o0):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            block, b0, rows, out, o0 = args
            element = context.get_data_type(signature.args[0].dtype)
            align = 4 if element == ir.FloatType() else 8
            vector = ir.VectorType(element, PANEL_ROWS)
            block = data_pointer(context, builder, signature.args[0], block)
            first = builder.load(_vector_at(builder, block, b0, vector))
            first.align = align
            total = cgutils.alloca_once(builder, vector)
            builder.store(first, total)
            one, step = ir.Constant(_I64, 1), ir.Constant(_I64, PANEL_ROWS)
            with cgutils.for_range_slice(builder, one, rows, one, _I64) as (row, _):
                value = builder.load(_vector_at(builder, block, builder.add(b0, builder.mul(row, step)), vector))
                value.align = align
                so_far = builder.load(total)
                if reduce == "sum":
                    builder.store(builder.fadd(so_far, value), total)
                else:  # "not less" also picks a nan
                    less = builder.fcmp_ordered("<", value, so_far)
                    builder.store(builder.select(less, so_far, value), total)
            place = _vector_at(builder, data_pointer(context, builder, signature.args[3], out), o0, vector)
            builder.store(builder.load(total), place).align = align
            return context.get_dummy_value()

        return types.void(block, types.intp, types.intp, out, types.intp), codegen

    def fold_python(block, b0, rows, out, o0):
        out[o0 : o0 + PANEL_ROWS] = python(block[b0 : b0 + rows * PANEL_ROWS].reshape(rows, PANEL_ROWS), axis=0)

    return fold_python if config.DISABLE_JIT else fold


fold_sum = _fold("sum", np.sum)
fold_max = _fold("max", np.max)


@intrinsic
def _repeat_row(typingctx, row, r0, rows, block, b0):
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        row, r0, rows, block, b0 = args
        element = context.get_data_type(signature.args[0].dtype)
        align = 4 if element == ir.FloatType() else 8
        vector = ir.VectorType(element, PANEL_ROWS)
        value = builder.load(_vector_at(builder, data_pointer(context, builder, signature.args[0], row), r0, vector))
        value.align = align
        block = data_pointer(context, builder, signature.args[3], block)
        zero, one, step = (ir.Constant(_I64, number) for number in (0, 1, PANEL_ROWS))
        with cgutils.for_range_slice(builder, zero, rows, one, _I64) as (number, _):
            place = _vector_at(builder, block, builder.add(b0, builder.mul(number, step)), vector)
            builder.store(value, place).align = align
        return context.get_dummy_value()

    return types.void(row, types.intp, types.intp, block, types.intp), codegen


def _repeat_row_python(row, r0, rows, block, b0):
    block[b0 : b0 + rows * PANEL_ROWS] = np.tile(row[r0 : r0 + PANEL_ROWS], rows)


PHASES = 4
"""Sums that :func:`column_sums` keeps of a column, so that none waits for its last addition."""


@intrinsic
def _column_sums(typingctx, columns, block, b0, ld_b, rows, initial, i0, out, o0):
    integer = types.intp
    signature = types.void(integer, block, integer, integer, integer, initial, integer, out, integer)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        columns, block, b0, ld_b, rows, initial, i0, out, o0 = args
        element = context.get_data_type(signature.args[1].dtype)
        align = 4 if element == ir.FloatType() else 8
        lanes = MACHINE.vector_bytes // align
        vector = ir.VectorType(element, lanes)
        block, initial, out = (
            data_pointer(context, builder, signature.args[n], array) for n, array in ((1, block), (5, initial), (7, out))
        )

        def const(value: int) -> Any:
            return ir.Constant(_I64, value)

        def load(array: Any, offset: Any) -> Any:
            value = builder.load(_vector_at(builder, array, offset, vector))
            value.align = align
            return value

        whole = builder.and_(rows, const(-PHASES))
        with cgutils.for_range_slice(builder, const(0), columns, const(lanes), _I64) as (column, _):
            sums = [cgutils.alloca_once(builder, vector) for _ in range(PHASES)]
            builder.store(load(initial, builder.add(i0, column)), sums[0])
            for one in sums[1:]:
                builder.store(ir.Constant(vector, [0.0] * lanes), one)
            top = builder.add(b0, column)

            def add_row(row: Any, one: Any, top: Any = top) -> None:
                value = load(block, builder.add(top, builder.mul(row, ld_b)))
                builder.store(builder.fadd(builder.load(one), value), one)

            with cgutils.for_range_slice(builder, const(0), whole, const(PHASES), _I64) as (row, _):
                for phase, one in enumerate(sums):
                    add_row(builder.add(row, const(phase)), one)
            with cgutils.for_range_slice(builder, whole, rows, const(1), _I64) as (row, _):
                add_row(row, sums[0])
            total = builder.load(sums[0])
            for one in sums[1:]:
                total = builder.fadd(total, builder.load(one))
            builder.store(total, _vector_at(builder, out, builder.add(o0, column), vector)).align = align
        return context.get_dummy_value()

    return signature, codegen


def _column_sums_python(columns, block, b0, ld_b, rows, initial, i0, out, o0):
    total = initial[i0 : i0 + columns].copy()
    for k in range(rows):
        total += block[b0 + k * ld_b : b0 + k * ld_b + columns]
    out[o0 : o0 + columns] = total


# C (rows, count) = bias + A @ W^T, each element a sum along rows of A (rows, depth) and W (count, depth); the rest of the cache
# line in which a row of C begins becomes zero.
@intrinsic
def _dot_products(typingctx, count, rows, depth, a, a0, ld_a, w, w0, ld_w, bias, b0, c, c0, ld_c):
    integer = types.intp
    signature = types.void(integer, integer, integer, a, integer, integer, w, integer, integer, bias, integer, c, integer, integer)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        count, rows, depth, a, a0, ld_a, w, w0, ld_w, bias, b0, c, c0, ld_c = args
        element = context.get_data_type(signature.args[3].dtype)
        align = 4 if element == ir.FloatType() else 8
        lanes = MACHINE.vector_bytes // align
        vector = ir.VectorType(element, lanes)
        a, w, bias, c = (
            data_pointer(context, builder, signature.args[n], array) for n, array in ((3, a), (6, w), (9, bias), (11, c))
        )
        name = f"v{lanes}f{8 * align}"
        fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.{name}")
        add_up = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(element, [element, vector]), f"llvm.vector.reduce.fadd.{name}"
        )

        def const(value: int) -> Any:
            return ir.Constant(_I64, value)

        def load(array: Any, offset: Any) -> Any:
            value = builder.load(_vector_at(builder, array, offset, vector))
            value.align = align
            return value

        zeros = ir.Constant(vector, [0.0] * lanes)
        whole = builder.and_(depth, const(-lanes))
        numbers = ir.VectorType(_I64, lanes)
        left = builder.insert_element(ir.Constant(numbers, ir.Undefined), builder.sub(depth, whole), ir.Constant(_I32, 0))
        left = builder.shuffle_vector(
            left, ir.Constant(numbers, ir.Undefined), ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
        )
        is_input = builder.icmp_signed("<", ir.Constant(numbers, list(range(lanes))), left)
        with cgutils.for_range_slice(builder, const(0), rows, const(1), _I64) as (row, _):
            a_row = builder.add(a0, builder.mul(row, ld_a))
            c_row = builder.add(c0, builder.mul(row, ld_c))
            for part in range(0, LINE_BYTES // align, lanes):
                builder.store(zeros, _vector_at(builder, c, builder.add(c_row, const(part)), vector)).align = align
            with cgutils.for_range_slice(builder, const(0), count, const(1), _I64) as (output, _):
                w_row = builder.add(w0, builder.mul(output, ld_w))
                total = cgutils.alloca_once(builder, vector)
                builder.store(zeros, total)

                def add_products(x: Any, k: Any, w_row: Any = w_row, total: Any = total) -> None:
                    y, before = load(w, builder.add(w_row, k)), builder.load(total)
                    new = builder.call(fma, [x, y, before]) if MACHINE.fma else builder.fadd(builder.fmul(x, y), before)
                    builder.store(new, total)

                with cgutils.for_range_slice(builder, const(0), whole, const(lanes), _I64) as (k, _):
                    add_products(load(a, builder.add(a_row, k)), k)
                with builder.if_then(builder.icmp_signed("<", whole, depth)):
                    # What pads a row of a need not be finite: an activation of a person's own may not be, at 0.
                    add_products(builder.select(is_input, load(a, builder.add(a_row, whole)), zeros), whole)
                start = builder.load(builder.gep(bias, [builder.add(b0, output)]))
                result = builder.call(add_up, [start, builder.load(total)], fastmath=("reassoc",))
                builder.store(result, builder.gep(c, [builder.add(c_row, output)]))
        return context.get_dummy_value()

    return signature, codegen


def _dot_products_python(count, rows, depth, a, a0, ld_a, w, w0, ld_w, bias, b0, c, c0, ld_c):
    for i in range(rows):
        c[c0 + i * ld_c : c0 + i * ld_c + LINE_BYTES // c.itemsize] = 0
        for j in range(count):
            c[c0 + i * ld_c + j] = bias[b0 + j] + a[a0 + i * ld_a :][:depth] @ w[w0 + j * ld_w :][:depth]


# --- single rows --------------------------------------------------------------------------------------------------------------


def _row(emit: Any, sparse: bool) -> Any:
    """Emit a switch over numbers of vectors, and in each case a loop over the numbers of a row of data.

    ``emit(builder, element, lanes, vectors, operands, loop)`` emits the case; ``loop(body)`` its loop, which calls
    ``body(value, column)`` with each number, in all lanes of a vector, and its column, which ``indices`` say if it is ``sparse``.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = list(signature.args)
        vectors, values, *args = args
        indices = args.pop(0) if sparse else None
        first, count, *operands = args
        element = context.get_data_type(kinds[1].dtype)
        align = 4 if element == ir.FloatType() else 8
        lanes = MACHINE.vector_bytes // align
        vector = ir.VectorType(element, lanes)
        values = builder.gep(data_pointer(context, builder, kinds[1], values), [first])
        if sparse:
            indices = builder.gep(data_pointer(context, builder, kinds[2], indices), [first])
        operands = [
            data_pointer(context, builder, kind, operand) if isinstance(kind, types.Array) else operand
            for kind, operand in zip(kinds[-len(operands) :], operands, strict=True)
        ]
        undefined = ir.Constant(vector, ir.Undefined)
        zeros = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
        done = builder.append_basic_block("row.done")
        switch = builder.switch(vectors, done)
        for n_vectors in range(1, SINGLE_ROW_VECTORS + 1):
            case = builder.append_basic_block(f"row.{n_vectors}")
            switch.add_case(ir.Constant(_I64, n_vectors), case)
            builder.position_at_end(case)

            def loop(body: Any) -> None:
                with cgutils.for_range(builder, count, intp=_I64) as place:
                    scalar = builder.load(builder.gep(values, [place.index]))
                    value = builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
                    column = builder.sext(builder.load(builder.gep(indices, [place.index])), _I64) if sparse else place.index
                    body(builder.shuffle_vector(value, undefined, zeros), column)

            emit(builder, vector, align, lanes, n_vectors, operands, loop)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return codegen


def _multiply_add(builder: Any, vector: Any, align: int, x: Any, y: Any, z: Any) -> Any:
    if not MACHINE.fma:
        return builder.fadd(builder.fmul(x, y), z)
    name = f"llvm.fma.v{vector.count}f{8 * align}"
    return builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name), [x, y, z])


def _emit_product(builder: Any, vector: Any, align: int, lanes: int, vectors: int, operands: Any, loop: Any) -> None:
    b, b0, ld_b, initial, i0, c, c0 = operands

    def place(array: Any, start: Any, j: int) -> Any:
        return _vector_at(builder, array, builder.add(start, ir.Constant(_I64, j * lanes)), vector)

    sums = [cgutils.alloca_once(builder, vector) for _ in range(vectors)]
    for j in range(vectors):
        start = builder.load(place(initial, i0, j))
        start.align = align
        builder.store(start, sums[j])

    def body(value: Any, column: Any) -> None:
        row = builder.add(b0, builder.mul(column, ld_b))
        for j in range(vectors):
            weights = builder.load(place(b, row, j))
            weights.align = align
            builder.store(_multiply_add(builder, vector, align, value, weights, builder.load(sums[j])), sums[j])

    loop(body)
    for j in range(vectors):
        builder.store(builder.load(sums[j]), place(c, c0, j)).align = align


def _emit_outer(builder: Any, vector: Any, align: int, lanes: int, vectors: int, operands: Any, loop: Any) -> None:
    d, d0, g, g0, ld_g = operands
    deltas = []
    for j in range(vectors):
        delta = builder.load(_vector_at(builder, d, builder.add(d0, ir.Constant(_I64, j * lanes)), vector))
        delta.align = align
        deltas.append(delta)

    def body(value: Any, column: Any) -> None:
        row = builder.add(g0, builder.mul(column, ld_g))
        for j in range(vectors):
            place = _vector_at(builder, g, builder.add(row, ir.Constant(_I64, j * lanes)), vector)
            so_far = builder.load(place)
            so_far.align = align
            builder.store(_multiply_add(builder, vector, align, value, deltas[j], so_far), place).align = align

    loop(body)


@intrinsic
def _sparse_product(typingctx, vectors, values, indices, first, count, b, b0, ld_b, initial, i0, c, c0):
    integer = types.intp
    signature = types.void(
        integer, values, indices, integer, integer, b, integer, integer, initial, integer, c, integer
    )  # fmt: skip
    return signature, _row(_emit_product, sparse=True)


def _sparse_product_python(vectors, values, indices, first, count, b, b0, ld_b, initial, i0, c, c0):
    columns = vectors * (MACHINE.vector_bytes // values.itemsize)
    total = initial[i0 : i0 + columns].copy()
    for k in range(first, first + count):
        row = b0 + indices[k] * ld_b
        total += values[k] * b[row : row + columns]
    c[c0 : c0 + columns] = total


@intrinsic
def _sparse_outer(typingctx, vectors, values, indices, first, count, d, d0, g, g0, ld_g):
    integer = types.intp
    signature = types.void(integer, values, indices, integer, integer, d, integer, g, integer, integer)
    return signature, _row(_emit_outer, sparse=True)


def _sparse_outer_python(vectors, values, indices, first, count, d, d0, g, g0, ld_g):
    columns = vectors * (MACHINE.vector_bytes // values.itemsize)
    for k in range(first, first + count):
        row = g0 + indices[k] * ld_g
        g[row : row + columns] += values[k] * d[d0 : d0 + columns]


@intrinsic
def _row_product(typingctx, vectors, values, first, count, b, b0, ld_b, initial, i0, c, c0):
    integer = types.intp
    signature = types.void(integer, values, integer, integer, b, integer, integer, initial, integer, c, integer)
    return signature, _row(_emit_product, sparse=False)


def _row_product_python(vectors, values, first, count, b, b0, ld_b, initial, i0, c, c0):
    columns = vectors * (MACHINE.vector_bytes // values.itemsize)
    total = initial[i0 : i0 + columns].copy()
    for k in range(count):
        total += values[first + k] * b[b0 + k * ld_b : b0 + k * ld_b + columns]
    c[c0 : c0 + columns] = total


@intrinsic
def _outer(typingctx, vectors, values, first, count, d, d0, g, g0, ld_g):
    integer = types.intp
    return types.void(integer, values, integer, integer, d, integer, g, integer, integer), _row(_emit_outer, sparse=False)


def _outer_python(vectors, values, first, count, d, d0, g, g0, ld_g):
    columns = vectors * (MACHINE.vector_bytes // values.itemsize)
    for k in range(count):
        g[g0 + k * ld_g : g0 + k * ld_g + columns] += values[first + k] * d[d0 : d0 + columns]


# --- memory shared between threads -------------------------------------------------------------------------------------------


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
            function = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, function, "llvm.x86.sse2.pause"), [])
        elif MACHINE.arm:
            function = ir.FunctionType(ir.VoidType(), [_I32])
            hint = cgutils.get_or_insert_function(builder.module, function, "llvm.aarch64.hint")
            builder.call(hint, [ir.Constant(_I32, 1)])
        return context.get_dummy_value()

    return types.void(), codegen


_YIELD = "fastmlp_yield"
_yield_function = ctypes.windll.kernel32.SwitchToThread if os.name == "nt" else ctypes.CDLL(None).sched_yield  # type: ignore[attr-defined,unused-ignore]
llvm.add_symbol(_YIELD, ctypes.cast(_yield_function, ctypes.c_void_p).value)


@intrinsic
def yield_processor(typingctx):
    """Let another thread of the machine run."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I32, []), _YIELD), [])
        return context.get_dummy_value()

    return types.void(), codegen


# --- denormal numbers --------------------------------------------------------------------------------------------------------

_X86_FLUSH = 0x8040  # MXCSR: flush results to zero (bit 15), take denormal operands as zero (bit 6)
_ARM_FLUSH = 1 << 24  # FPCR.FZ


def _float_mode(builder: Any, new: Any) -> Any:
    """Emit a read of the floating-point control register (``new`` is None) or a write of it; as an int64."""
    void = ir.VoidType()
    if MACHINE.x86:
        slot = cgutils.alloca_once(builder, _I32)
        pointer = builder.bitcast(slot, ir.PointerType(ir.IntType(8)))
        name = "llvm.x86.sse.stmxcsr" if new is None else "llvm.x86.sse.ldmxcsr"
        if new is not None:
            builder.store(builder.trunc(new, _I32), slot)
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(void, [pointer.type]), name)
        builder.call(function, [pointer])
        return builder.zext(builder.load(slot), _I64)
    if MACHINE.arm:
        if new is None:
            function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I64, []), "llvm.aarch64.get.fpcr")
            return builder.call(function, [])
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(void, [_I64]), "llvm.aarch64.set.fpcr")
        builder.call(function, [new])
    return ir.Constant(_I64, 0)


@intrinsic
def _flush_denormals(typingctx):
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        before = _float_mode(builder, None)
        flush = _X86_FLUSH if MACHINE.x86 else _ARM_FLUSH
        _float_mode(builder, builder.or_(before, ir.Constant(_I64, flush)))
        return before

    return types.int64(), codegen


@intrinsic
def _restore_denormals(typingctx, mode):
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _float_mode(builder, args[0])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


def _flush_denormals_python():
    return 0


def _restore_denormals_python(mode):
    return None


# With numba's compiler switched off the kernels run on the twins; atomics and barriers have none, so only one thread can.
_PLAIN = bool(config.DISABLE_JIT)
tile: Any = _tile_python if _PLAIN else _tile
lanes: Any = _lanes_python if _PLAIN else _lanes
transpose_block: Any = _transpose_block_python if _PLAIN else _transpose_block
copy: Any = _copy_python if _PLAIN else _copy
sparse_product: Any = _sparse_product_python if _PLAIN else _sparse_product
sparse_outer: Any = _sparse_outer_python if _PLAIN else _sparse_outer
dot_products: Any = _dot_products_python if _PLAIN else _dot_products
row_product: Any = _row_product_python if _PLAIN else _row_product
outer: Any = _outer_python if _PLAIN else _outer
column_sums: Any = _column_sums_python if _PLAIN else _column_sums
repeat_row: Any = _repeat_row_python if _PLAIN else _repeat_row
flush_denormals: Any = _flush_denormals_python if _PLAIN else _flush_denormals
restore_denormals: Any = _restore_denormals_python if _PLAIN else _restore_denormals


@intrinsic
def _array_at(typingctx, address, like):
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(like)(context, builder, args[1])
        array.data = builder.inttoptr(args[0], array.data.type)
        return array._getvalue()

    return like(types.int64, like), codegen


def _array_at_python(address, like):
    return like


array_at = _array_at_python if config.DISABLE_JIT else _array_at
"""The array ``like``, but elsewhere in memory: at an address. In plain Python there is only one thread, and nothing moves."""


@intrinsic
def _as_type_of(typingctx, array, like):
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        result = context.make_array(like)(context, builder, args[1])
        result.data = data_pointer(context, builder, signature.args[0], args[0])
        return result._getvalue()

    return like(array, like), codegen


def _as_type_of_python(array, like):
    return array


as_type_of = _as_type_of_python if config.DISABLE_JIT else _as_type_of
"""An array that may only be read, as the type of one that may be written to: numba compiles a callee for each of the two types."""


@intrinsic
def _room_on_stack(typingctx, like):
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(like)(context, builder, args[0])
        count = NARROW_LAYERS * NARROW_WIDTH
        room = cgutils.alloca_once(builder, ir.ArrayType(array.data.type.pointee, count))
        room.align = 64
        array.data = builder.bitcast(room, array.data.type)
        array.nitems = ir.Constant(_I64, count)
        array.shape = cgutils.pack_array(builder, [array.nitems])
        return array._getvalue()

    return like(like), codegen


def _room_on_stack_python(like):
    return np.zeros(NARROW_LAYERS * NARROW_WIDTH, like.dtype)


room_on_stack: Any = _room_on_stack_python if config.DISABLE_JIT else _room_on_stack
"""An array like another, of NARROW_LAYERS * NARROW_WIDTH elements that live until the kernel ends; each call in it has its own."""


def _reduction(operation: str, python: Any) -> Any:
    """A function that reduces the vector at x0 of x to one number."""

    @intrinsic
    def reduce(typingctx, x, x0):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            element = context.get_data_type(signature.args[0].dtype)
            align = signature.args[0].dtype.bitwidth // 8
            vector = ir.VectorType(element, MACHINE.vector_bytes // align)
            value = builder.load(_vector_at(builder, data_pointer(context, builder, signature.args[0], args[0]), args[1], vector))
            value.align = align
            name = f"llvm.vector.reduce.{operation}.v{vector.count}f{8 * align}"
            start = [ir.Constant(element, -0.0)] if operation == "fadd" else []
            signature_ = ir.FunctionType(element, [*(one.type for one in start), vector])
            function = cgutils.get_or_insert_function(builder.module, signature_, name)
            return builder.call(function, [*start, value], fastmath=("reassoc",))

        return x.dtype(x, types.intp), codegen

    def reduce_python(x, x0):
        return python(x[x0 : x0 + MACHINE.vector_bytes // x.itemsize])

    return reduce_python if config.DISABLE_JIT else reduce


sum_of_lanes, max_of_lanes = _reduction("fadd", np.sum), _reduction("fmax", np.fmax.reduce)

index = np.uint64
"""Every subscript of a hot loop is an unsigned integer: numba's test for a negative one stops the vectoriser."""
