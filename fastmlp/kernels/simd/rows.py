"""Products with a single row of data, dense or sparse: each of its numbers, times a row of a matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types
from numba.core import cgutils

from fastmlp.kernels.simd.emit import I64, Vectors, const, data_pointer, intrinsic
from fastmlp.kernels.simd.machine import MACHINE
from fastmlp.kernels.simd.tile import SINGLE_ROW_VECTORS


def _row(emit: Callable[..., None], sparse: bool) -> Any:
    """Emit a switch over numbers of vectors, and in each case a loop over the numbers of a row of data.

    ``emit(builder, vectors, n_vectors, operands, loop)`` emits the case; ``loop(body)`` its loop, which calls
    ``body(value, column)`` with each number, in all lanes of a vector, and its column, which ``indices`` say if it is ``sparse``.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = list(signature.args)
        n, values, *args = args
        indices = args.pop(0) if sparse else None
        first, count, *operands = args
        vectors = Vectors(context, builder, kinds[1])
        values = builder.gep(data_pointer(context, builder, kinds[1], values), [first])
        if sparse:
            indices = builder.gep(data_pointer(context, builder, kinds[2], indices), [first])
        operands = [
            data_pointer(context, builder, kind, operand) if isinstance(kind, types.Array) else operand
            for kind, operand in zip(kinds[-len(operands) :], operands, strict=True)
        ]
        done = builder.append_basic_block("row.done")
        switch = builder.switch(n, done)
        for n_vectors in range(1, SINGLE_ROW_VECTORS + 1):
            case = builder.append_basic_block(f"row.{n_vectors}")
            switch.add_case(const(n_vectors), case)
            builder.position_at_end(case)

            def loop(body: Callable[[Any, Any], None]) -> None:
                with cgutils.for_range(builder, count, intp=I64) as place:
                    scalar = builder.load(builder.gep(values, [place.index]))
                    column = builder.sext(builder.load(builder.gep(indices, [place.index])), I64) if sparse else place.index
                    body(vectors.broadcast(scalar), column)

            emit(builder, vectors, n_vectors, operands, loop)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return codegen


def _emit_product(builder: Any, vectors: Vectors, n_vectors: int, operands: Any, loop: Any) -> None:
    b, b0, ld_b, initial, i0, c, c0 = operands
    places = [const(j * vectors.lanes) for j in range(n_vectors)]
    sums = [cgutils.alloca_once(builder, vectors.type) for _ in places]
    for one, place in zip(sums, places, strict=True):
        builder.store(vectors.load(initial, builder.add(i0, place)), one)

    def body(value: Any, column: Any) -> None:
        row = builder.add(b0, builder.mul(column, ld_b))
        for one, place in zip(sums, places, strict=True):
            weights = vectors.load(b, builder.add(row, place))
            builder.store(vectors.multiply_add(value, weights, builder.load(one)), one)

    loop(body)
    for one, place in zip(sums, places, strict=True):
        vectors.store(builder.load(one), c, builder.add(c0, place))


def _emit_outer(builder: Any, vectors: Vectors, n_vectors: int, operands: Any, loop: Any) -> None:
    d, d0, g, g0, ld_g = operands
    places = [const(j * vectors.lanes) for j in range(n_vectors)]
    deltas = [vectors.load(d, builder.add(d0, place)) for place in places]

    def body(value: Any, column: Any) -> None:
        row = builder.add(g0, builder.mul(column, ld_g))
        for delta, place in zip(deltas, places, strict=True):
            offset = builder.add(row, place)
            vectors.store(vectors.multiply_add(value, delta, vectors.load(g, offset)), g, offset)

    loop(body)


def _sparse_product_python(vectors, values, indices, first, count, b, b0, ld_b, initial, i0, c, c0):
    columns = vectors * (MACHINE.vector_bytes // values.itemsize)
    total = initial[i0 : i0 + columns].copy()
    for k in range(first, first + count):
        row = b0 + indices[k] * ld_b
        total += values[k] * b[row : row + columns]
    c[c0 : c0 + columns] = total


@intrinsic(_sparse_product_python)
def sparse_product(typingctx, vectors, values, indices, first, count, b, b0, ld_b, initial, i0, c, c0):
    """c at c0 = initial at i0 + values first .. first + count, each times the row of b that its index says."""
    integer = types.intp
    signature = types.void(
        integer, values, indices, integer, integer, b, integer, integer, initial, integer, c, integer
    )  # fmt: skip
    return signature, _row(_emit_product, sparse=True)


def _sparse_outer_python(vectors, values, indices, first, count, d, d0, g, g0, ld_g):
    columns = vectors * (MACHINE.vector_bytes // values.itemsize)
    for k in range(first, first + count):
        row = g0 + indices[k] * ld_g
        g[row : row + columns] += values[k] * d[d0 : d0 + columns]


@intrinsic(_sparse_outer_python)
def sparse_outer(typingctx, vectors, values, indices, first, count, d, d0, g, g0, ld_g):
    """Add to the row of g that each index says: d at d0, times the value."""
    integer = types.intp
    signature = types.void(integer, values, indices, integer, integer, d, integer, g, integer, integer)
    return signature, _row(_emit_outer, sparse=True)


def _row_product_python(vectors, values, first, count, b, b0, ld_b, initial, i0, c, c0):
    columns = vectors * (MACHINE.vector_bytes // values.itemsize)
    total = initial[i0 : i0 + columns].copy()
    for k in range(count):
        total += values[first + k] * b[b0 + k * ld_b : b0 + k * ld_b + columns]
    c[c0 : c0 + columns] = total


@intrinsic(_row_product_python)
def row_product(typingctx, vectors, values, first, count, b, b0, ld_b, initial, i0, c, c0):
    """c at c0 = initial at i0 + values first .. first + count @ b (count rows) at b0."""
    integer = types.intp
    signature = types.void(integer, values, integer, integer, b, integer, integer, initial, integer, c, integer)
    return signature, _row(_emit_product, sparse=False)


def _outer_python(vectors, values, first, count, d, d0, g, g0, ld_g):
    columns = vectors * (MACHINE.vector_bytes // values.itemsize)
    for k in range(count):
        g[g0 + k * ld_g : g0 + k * ld_g + columns] += values[first + k] * d[d0 : d0 + columns]


@intrinsic(_outer_python)
def outer(typingctx, vectors, values, first, count, d, d0, g, g0, ld_g):
    """Add to g (count rows) at g0 the outer product of values first .. first + count and d at d0."""
    integer = types.intp
    return types.void(integer, values, integer, integer, d, integer, g, integer, integer), _row(_emit_outer, sparse=False)
