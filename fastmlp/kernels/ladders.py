"""Loops over flat arrays, made from the tables: one for each activation, loss and optimizer, and one ladder over each table.

After the last entry of a table comes what calls a person's own function, at ``address``, which all others ignore.

The code of an entry is tested once, outside the loop; inside stands the entry's formula for one number, which the
compiler turns into vector instructions. The functions made here are closures; that costs nothing, because only the
kernels that call them are kept on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from fastmlp.activations import ACTIVATIONS
from fastmlp.kernels.jit import Kernel, device
from fastmlp.kernels.own import own_activate, own_activate_and_slope, own_loss_and_slope
from fastmlp.kernels.simd import index
from fastmlp.losses import LOSSES
from fastmlp.optimizers import OPTIMIZERS


def ladder(functions: Sequence[Kernel[..., Any]]) -> Callable[..., Any]:
    """``ladder(functions)(code, arguments)`` calls ``functions[code](*arguments)``; compiled, it is a jump table."""
    if config.DISABLE_JIT:
        return lambda code, arguments: functions[code](*arguments)

    @intrinsic
    def climb(typingctx, code, arguments):
        signatures = [typingctx.resolve_function_type(f._numba_type_, tuple(arguments), {}) for f in functions]

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            values = cgutils.unpack_tuple(builder, args[1])
            done = builder.append_basic_block("ladder.done")
            switch = builder.switch(args[0], done)
            for number, (function, one) in enumerate(zip(functions, signatures, strict=True)):
                step = builder.append_basic_block(f"ladder.{number}")
                switch.add_case(number, step)
                builder.position_at_end(step)
                context.get_function(function._numba_type_, one)(builder, values)
                builder.branch(done)
            builder.position_at_end(done)
            return context.get_dummy_value()

        return types.void(code, arguments), codegen

    compiled: Callable[..., Any] = climb
    return compiled


def activate_loop(value: Kernel[..., Any]) -> Kernel[..., Any]:
    """The loop over an activation."""

    @device
    def loop(z, z0, count, parameter, address):
        """z = f(z)."""
        p = type(z[index(z0)])(parameter)
        for q in range(count):
            z[index(z0 + q)] = value(z[index(z0 + q)], p)

    return loop


def activate_and_slope_loop(value: Kernel[..., Any], derivative: Kernel[..., Any]) -> Kernel[..., Any]:
    """The loop over an activation and its derivative."""

    @device
    def loop(z, z0, slope, s0, count, parameter, address):
        """slope = f'(z), z = f(z)."""
        p = type(z[index(z0)])(parameter)
        for q in range(count):
            x = z[index(z0 + q)]
            a = value(x, p)
            slope[index(s0 + q)] = derivative(x, a, p)
            z[index(z0 + q)] = a

    return loop


def loss_and_slope_loop(value: Kernel[..., Any], derivative: Kernel[..., Any]) -> Kernel[..., Any]:
    """The loop over a loss and its derivative."""

    @device
    def loop(a, a0, y, y0, terms, t0, count, parameter, address):
        """terms = loss of each output by itself, y = dLoss/da."""
        p = type(a[index(a0)])(parameter)
        for q in range(count):
            output, target = a[index(a0 + q)], y[index(y0 + q)]
            terms[index(t0 + q)] = value(output, target, p)
            y[index(y0 + q)] = derivative(output, target, p)

    return loop


@device
def _no_logit_terms(z, z0, y, y0, terms, t0, count):
    """Never called: the job says whether there are logit terms."""
    return


def _logit_terms_loop(value: Kernel[..., Any]) -> Kernel[..., Any]:
    @device
    def loop(z, z0, y, y0, terms, t0, count):
        """terms = loss of each output by itself, from the logits."""
        for q in range(count):
            terms[index(t0 + q)] = value(z[index(z0 + q)], y[index(y0 + q)])

    return loop


def _update_loop(step: Kernel[..., Any], n_states: int) -> Kernel[..., Any]:
    """w, s1, s2 = step(w * shrink, gradient + l2 * w, s1, s2); state that the rule does not have is not touched."""

    @device
    def loop(w, w0, g, g0, s1, s2, count, shrink, l2, c0, c1, c2, c3, c4, c5, c6, c7):
        zero = type(shrink)(0)
        for q in range(count):
            i = index(w0 + q)
            x = w[i]
            slope = g[index(g0 + q)] + l2 * x
            if n_states == 0:
                new, _, _ = step(x * shrink, slope, zero, zero, c0, c1, c2, c3, c4, c5, c6, c7)
            elif n_states == 1:
                new, s1[i], _ = step(x * shrink, slope, s1[i], zero, c0, c1, c2, c3, c4, c5, c6, c7)
            else:
                new, s1[i], s2[i] = step(x * shrink, slope, s1[i], s2[i], c0, c1, c2, c3, c4, c5, c6, c7)
            w[i] = new

    return loop


_activations, _losses, _optimizers = ACTIVATIONS.values(), LOSSES.values(), OPTIMIZERS.values()

activate = ladder([*(activate_loop(entry.compiled_value) for entry in _activations), own_activate])
activate_and_slope = ladder(
    [*(activate_and_slope_loop(entry.compiled_value, entry.compiled_derivative) for entry in _activations), own_activate_and_slope]
)
loss_and_slope = ladder(
    [*(loss_and_slope_loop(entry.compiled_value, entry.compiled_derivative) for entry in _losses), own_loss_and_slope]
)
logit_terms = ladder(
    [_logit_terms_loop(entry.compiled_logits_value) if entry.compiled_logits_value else _no_logit_terms for entry in _losses]
)
update = ladder([_update_loop(entry.step, entry.n_states) for entry in _optimizers])
