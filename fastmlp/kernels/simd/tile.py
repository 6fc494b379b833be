"""The register tile that all three products are made of: a block of results that stays in registers while its sums grow."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from fastmlp.kernels.simd.emit import I64, Vectors, const, data_pointer, intrinsic
from fastmlp.kernels.simd.machine import MACHINE

TILE_ROWS = MACHINE.tile_rows
TILE_VECTORS = MACHINE.tile_vectors

SINGLE_ROW_VECTORS = 8
"""Vectors of accumulators for one row alone: enough of them that none waits for its last multiply-add."""

_ROW_CHOICES = tuple(rows for rows in (8, 5, 4, 2, 1) if rows <= TILE_ROWS)

_BYTES = ir.PointerType(ir.IntType(8))


def _distances(builder: Any, distance: Any, rows: int) -> list[Any]:
    """0, 1, 2 ... times a distance in bytes, so that one pointer is enough for all rows of A.

    x86 adds to a pointer one, two or four times another register, so four registers reach eight rows. LLVM, left to itself,
    goes from each row to the next by an addition, or keeps a pointer for each row; so each odd multiple goes through an inline
    assembly of no instructions, which it cannot look into.
    """
    hide = ir.FunctionType(I64, [I64])
    odd = {i: builder.asm(hide, "", "=r,0", [builder.mul(distance, const(i))], False) for i in range(1, rows, 2)}
    distances = [const(0)]
    for i in range(1, rows):
        shift = (i & -i).bit_length() - 1
        distances.append(builder.shl(odd[i >> shift], const(shift)))
    return distances


def _emit_tile(builder: Any, number: Vectors, rows: int, vectors: int, operands: tuple[Any, ...]) -> None:
    """Emit C[rows, vectors * lanes] = I + A[rows, depth] @ B[depth, vectors * lanes], accumulated in registers.

    Where ``scaled``, C is multiplied by the result, element by element, instead of replaced. A's element (i, k) is at
    ``a + i * a_row + k * a_column``: it is only ever broadcast, so A and its transpose cost the same. The initial value I has
    ``ld_i`` elements between rows: 0 repeats one row (a bias).
    """
    a, a_row, a_column, b, ld_b, initial, ld_i, c, ld_c, depth, scaled = operands
    lanes = number.lanes
    element_bytes = const(number.align)
    to_row = _distances(builder, builder.mul(a_row, element_bytes), rows)
    to_column = builder.mul(a_column, element_bytes)
    a_bytes = builder.bitcast(a, _BYTES)
    start = [
        [number.load(initial, builder.add(builder.mul(ld_i, const(i)), const(j * lanes))) for j in range(vectors)]
        for i in range(rows)
    ]
    entry = builder.block
    head, body, end = (builder.append_basic_block(f"tile.{name}") for name in ("head", "body", "end"))
    builder.branch(head)

    builder.position_at_end(head)
    k = builder.phi(I64)
    k.add_incoming(const(0), entry)
    a_top = builder.phi(_BYTES)  # element (0, k)
    a_top.add_incoming(a_bytes, entry)
    accumulators = [[builder.phi(number.type) for _ in range(vectors)] for _ in range(rows)]
    for i in range(rows):
        for j in range(vectors):
            accumulators[i][j].add_incoming(start[i][j], entry)
    builder.cbranch(builder.icmp_signed("<", k, depth), body, end)

    builder.position_at_end(body)
    b_row = builder.gep(b, [builder.mul(k, ld_b)])
    b_vectors = [number.load(b_row, const(j * lanes)) for j in range(vectors)]
    for i in range(rows):
        element = builder.bitcast(builder.gep(a_top, [to_row[i]]), ir.PointerType(number.element))
        broadcast = number.broadcast(builder.load(element))
        for j in range(vectors):
            accumulators[i][j].add_incoming(number.multiply_add(broadcast, b_vectors[j], accumulators[i][j]), body)
    k.add_incoming(builder.add(k, const(1)), body)
    a_top.add_incoming(builder.gep(a_top, [to_column]), body)
    builder.branch(head)

    builder.position_at_end(end)
    places = [[builder.add(builder.mul(ld_c, const(i)), const(j * lanes)) for j in range(vectors)] for i in range(rows)]
    with builder.if_else(scaled) as (then, otherwise):
        with then:
            for i in range(rows):
                for j in range(vectors):
                    factor = number.load(c, places[i][j])
                    number.store(builder.fmul(accumulators[i][j], factor), c, places[i][j])
        with otherwise:
            for i in range(rows):
                for j in range(vectors):
                    number.store(accumulators[i][j], c, places[i][j])


def _tile_python(rows, vectors, a, a0, a_row, a_column, b, b0, ld_b, initial, i0, ld_i, c, c0, ld_c, depth, scaled):
    columns = vectors * (MACHINE.vector_bytes // a.itemsize)
    for i in range(rows):
        total = initial[i0 + i * ld_i : i0 + i * ld_i + columns].copy()
        for k in range(depth):
            total += a[a0 + i * a_row + k * a_column] * b[b0 + k * ld_b : b0 + k * ld_b + columns]
        c[c0 + i * ld_c : c0 + i * ld_c + columns] = total * c[c0 + i * ld_c : c0 + i * ld_c + columns] if scaled else total


@intrinsic(_tile_python)
def tile(typingctx, rows, vectors, a, a0, a_row, a_column, b, b0, ld_b, initial, i0, ld_i, c, c0, ld_c, depth, scaled):
    """c (rows, vectors * lanes) at c0 = initial + a @ b; see :func:`_emit_tile`. rows: one of 8, 5, 4, 2, 1."""
    integer = types.intp
    signature = types.void(
        integer, integer, a, integer, integer, integer, b, integer, integer,
        initial, integer, integer, c, integer, integer, integer, types.boolean,
    )  # fmt: skip

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows, vectors, a, a0, a_row, a_column, b, b0, ld_b, initial, i0, ld_i, c, c0, ld_c, depth, scaled = args
        number = Vectors(context, builder, signature.args[2])
        a, b, initial, c = (
            builder.gep(data_pointer(context, builder, signature.args[n], args[n]), [offset])
            for n, offset in ((2, a0), (6, b0), (9, i0), (12, c0))
        )
        operands = (a, a_row, a_column, b, ld_b, initial, ld_i, c, ld_c, depth, scaled)
        done = builder.append_basic_block("tile.done")
        code = builder.add(builder.mul(rows, const(16)), vectors)
        switch = builder.switch(code, done)
        for n_rows in _ROW_CHOICES:
            for n_vectors in range(1, (SINGLE_ROW_VECTORS if n_rows == 1 else TILE_VECTORS) + 1):
                case = builder.append_basic_block(f"tile.{n_rows}x{n_vectors}")
                switch.add_case(ir.Constant(I64, 16 * n_rows + n_vectors), case)
                builder.position_at_end(case)
                _emit_tile(builder, number, n_rows, n_vectors, operands)
                builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, codegen
