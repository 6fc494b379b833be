"""A person's own activation or loss: one Python function of single numbers, checked, and then as good as an entry of the tables.

Nothing of this library is compiled again for it: its loops are compiled by themselves, and the kernels call them by address
(:mod:`fastmlp.kernels.loops`).
"""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable, Hashable, Iterable
from functools import lru_cache
from numbers import Real
from typing import Any

import numpy as np

from fastmlp.activations import Activation
from fastmlp.kernels import elementary
from fastmlp.kernels.jit import formula
from fastmlp.losses import Loss
from fastmlp.parameters import INITIALIZERS

Array = np.ndarray[Any, np.dtype[Any]]
Function = Callable[..., float]

_STEP = 6e-6
"""Of a central difference in float64, about the cube root of its precision: error of the formula and of rounding are then alike."""
_CHECK_STEP = 1e-3
_TOLERANCE = 1e-5
"""By how much a derivative may differ from the slope, relative to the larger of the slope and 1."""

_Z = np.linspace(-6.0, 6.0, 41) + 0.0137  # not where a function is likely to have a kink
_A, _Y = np.linspace(-3.0, 3.0, 13) + 0.0137, np.linspace(-2.5, 2.5, 11) + 0.0071
_PAIRS = [*((a, y) for a in _A for y in _Y), *((a, y) for a in (0.13, 0.52, 0.91) for y in (0.0, 0.37, 1.0))]
_LEAST_POINTS = 9
"""A loss may be defined for probabilities only, say; but for so many pairs of numbers at least."""


def make_activation(
    function: Function, derivative: Function | None = None, *, name: str | None = None, initializer: str = "glorot"
) -> Activation:
    """An activation from a function of one number.

    Parameters
    ----------
    function : callable
        ``function(z)``: a Python function that numba can compile, of one float: arithmetic, comparisons, :mod:`math`.
    derivative : callable, optional
        ``derivative(z)``: its slope. Without, the slope is computed from two more values of the function in each place.
    name : str, optional
        The function's own name unless given.
    initializer : str, default "glorot"
        A name of :data:`fastmlp.INITIALIZERS`; "he" for functions that are 0 for half of their inputs.

    Returns
    -------
    Activation
        To be given as any other: ``MLP(sizes, [make_activation(f), "softmax"], ...)``.

    Raises
    ------
    ValueError
        Where the function is not finite, has no slope, or has another one than ``derivative`` says.

    Examples
    --------
    >>> import math
    >>> from fastmlp import MLP, make_activation
    >>> def bump(z):
    ...     return math.exp(-z * z)
    >>> net = MLP((2, 8, 1), [make_activation(bump), "sigmoid"], "binary_cross_entropy", random_state=0)
    >>> net = net.fit([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0], epochs=500, batch_size=4, learning_rate=0.1)
    >>> (net.predict([[0, 0], [0, 1]]) > 0.5).ravel()
    array([False,  True])
    """
    initializer = INITIALIZERS.find(initializer, "initializer").name
    function, derivative = _plain(function), _plain(derivative)
    return _make_activation(function, derivative, name or _name_of(function), initializer, _constants(function, derivative))


def make_loss(
    function: Function, derivative: Function | None = None, *, name: str | None = None, classification: bool = False
) -> Loss:
    """A loss from a function of one prediction and one target; that of a sample is the sum over its outputs.

    Parameters
    ----------
    function : callable
        ``function(a, y)``: a Python function that numba can compile, of two floats.
    derivative : callable, optional
        ``derivative(a, y)``: its slope by the prediction a. Without, it is computed from two more values of the function.
    name : str, optional
        The function's own name unless given.
    classification : bool, default False
        Whether class labels are accepted as targets; they become 0 and 1.

    Returns
    -------
    Loss
        To be given as any other: ``MLP(sizes, activations, make_loss(f))``.

    Raises
    ------
    ValueError
        Where the function is hardly anywhere finite, has no slope, or has another one than ``derivative`` says.

    Examples
    --------
    >>> import math
    >>> from fastmlp import MLPRegressor, make_loss
    >>> def cauchy(a, y):
    ...     return math.log(1 + (a - y) ** 2)
    >>> reg = MLPRegressor(make_loss(cauchy, lambda a, y: 2 * (a - y) / (1 + (a - y) ** 2)))
    """
    function, derivative = _plain(function), _plain(derivative)
    return _make_loss(function, derivative, name or _name_of(function), classification, _constants(function, derivative))


@lru_cache(maxsize=64)  # so that asking twice for the same function compiles it once
def _make_activation(
    function: Function, derivative: Function | None, name: str, initializer: str, constants: tuple[Hashable, ...]
) -> Activation:
    _check(f"activation {name!r}", function, derivative, [(z,) for z in _Z], len(_Z))
    compiled = formula(_with_elementary(function, 1))

    @formula
    def value(z, parameter):  # type: ignore[no-untyped-def]
        return type(z)(compiled(z))

    @formula
    def slope(z, a, parameter):  # type: ignore[no-untyped-def]
        x = np.float64(z)
        step = _STEP * max(1.0, abs(x))
        return type(z)((compiled(x + step) - compiled(x - step)) / (2 * step))

    if derivative is not None:
        given = formula(_with_elementary(derivative, 1))

        @formula
        def slope(z, a, parameter):  # type: ignore[no-untyped-def]
            return type(z)(given(z))

    on_arrays = _on_arrays(function)
    return Activation(
        name,
        "given",
        lambda z, p: on_arrays(z),
        _slope_on_arrays(function, derivative, lambda z, a, p: (z,)),
        value,
        slope,
        initializer=initializer,
        source=(function, derivative),
    )


@lru_cache(maxsize=64)
def _make_loss(
    function: Function, derivative: Function | None, name: str, classification: bool, constants: tuple[Hashable, ...]
) -> Loss:
    _check(f"loss {name!r}", function, derivative, _PAIRS, _LEAST_POINTS)
    compiled = formula(_with_elementary(function, 2))

    @formula
    def value(a, y, parameter):  # type: ignore[no-untyped-def]
        return type(a)(compiled(a, y))

    @formula
    def slope(a, y, parameter):  # type: ignore[no-untyped-def]
        x, target = np.float64(a), np.float64(y)
        step = _STEP * max(1.0, abs(x))
        return type(a)((compiled(x + step, target) - compiled(x - step, target)) / (2 * step))

    if derivative is not None:
        given = formula(_with_elementary(derivative, 2))

        @formula
        def slope(a, y, parameter):  # type: ignore[no-untyped-def]
            return type(a)(given(a, y))

    on_arrays = _on_arrays(function)
    return Loss(
        name,
        "given",
        lambda a, y, p: on_arrays(a, y),
        _slope_on_arrays(function, derivative, lambda a, y, p: (a, y)),
        value,
        slope,
        classification=classification,
        source=(function, derivative),
    )


# --- the functions, compiled ----------------------------------------------------------------------------------------------------


@formula
def _log(x, base=None):  # type: ignore[no-untyped-def]
    if base is None:
        return elementary.log(x)
    return elementary.log(x) / elementary.log(base)


_ELEMENTARY: dict[Any, Any] = {
    math.exp: elementary.exp, math.log: _log, math.tanh: elementary.tanh, math.erf: elementary.erf,
    np.exp: elementary.exp, np.log: elementary.log, np.tanh: elementary.tanh,
}  # fmt: skip


def _elementary(value: Any) -> Any:
    return _ELEMENTARY.get(value, value) if isinstance(value, types.BuiltinFunctionType | np.ufunc) else value


def _elementary_module(module: types.ModuleType) -> types.ModuleType:
    ours = types.ModuleType(module.__name__)
    ours.__dict__.update({name: _elementary(value) for name, value in vars(module).items()})
    return ours


_MODULES = {module.__name__: _elementary_module(module) for module in (math, np)}


def _with_elementary(function: Any, n_numbers: int) -> Any:
    """A Python function of so many numbers that calls the kernels' own functions where it calls those of math or NumPy.

    Ours become vector instructions, which is four times as fast.
    """
    if isinstance(function, types.BuiltinFunctionType | np.ufunc):  # which cannot be compiled, but called
        called = _elementary(function)
        return (lambda z: called(z)) if n_numbers == 1 else (lambda a, y: called(a, y))
    if not isinstance(function, types.FunctionType):
        return function
    names, used = {}, _names_in(function.__code__)
    for name, value in function.__globals__.items():
        if name in used:
            names[name] = _MODULES[value.__name__] if value is math or value is np else _elementary(value)
    return types.FunctionType(
        function.__code__, function.__globals__ | names, function.__name__, function.__defaults__, function.__closure__
    )


# --- the functions in plain Python --------------------------------------------------------------------------------------------


def _names_in(code: types.CodeType) -> list[str]:
    """Names of what a function, or one within it, takes from its module, or of attributes."""
    within = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return [*code.co_names, *(name for inner in within for name in _names_in(inner))]


def _constants(*functions: Any) -> tuple[Hashable, ...]:
    """What functions take from outside: it is compiled into them, and with anything else it is another function."""
    found: list[Any] = []
    for function in functions:
        if isinstance(function, types.FunctionType):
            names = _names_in(function.__code__)
            outside = [function.__globals__.get(name) for name in names]
            outside += inspect.getclosurevars(function).nonlocals.values()
            outside += function.__defaults__ or ()
            modules: list[types.ModuleType] = []
            for value in outside:  # to which comes what modules have, other modules among it
                if isinstance(value, types.ModuleType) and value not in modules:
                    modules.append(value)
                    outside += [vars(value).get(name) for name in names]
            found += outside
    return tuple(map(_key, found))


def _key(constant: Any) -> Hashable:
    """What is the same for the same constant; None for what numba takes for none."""
    if isinstance(constant, np.ndarray):
        return constant.dtype.str, constant.shape, constant.tobytes()
    if isinstance(constant, tuple):
        return tuple(map(_key, constant))
    is_one = isinstance(constant, Real | str) or (callable(constant) and isinstance(constant, Hashable))
    return constant if is_one else None


def _name_of(function: Any) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return "own" if name == "<lambda>" else str(name)


def _quiet(function: Function) -> Callable[..., float]:
    """nan where Python raises an error for what is infinite or undefined in compiled arithmetic."""

    def quiet(*numbers: float) -> float:
        try:
            return float(function(*numbers))
        except (ArithmeticError, ValueError):
            return math.nan

    return quiet


def _on_arrays(function: Function) -> Callable[..., Array]:
    loop = np.vectorize(_quiet(function), otypes=[float])

    def on_arrays(first: Array, *others: Array) -> Array:
        values: Array = loop(first, *others).astype(first.dtype)
        return values

    return on_arrays


def _slope_on_arrays(
    function: Function, derivative: Function | None, pick: Callable[[Array, Array, float], tuple[Array, ...]]
) -> Callable[[Array, Array, float], Array]:
    """The slope by the first number; ``pick`` says which of a derivative's three arguments the functions take."""
    if derivative is not None:
        loop = _on_arrays(derivative)
        return lambda first, second, parameter: loop(*pick(first, second, parameter))

    def difference(x: float, *others: float) -> float:
        step = _STEP * max(1.0, abs(x))
        return (function(x + step, *others) - function(x - step, *others)) / (2 * step)

    differences = _on_arrays(difference)
    return lambda first, second, parameter: differences(*pick(first, second, parameter))


def _not_of(what: str, place: tuple[float, ...], error: TypeError) -> TypeError:
    numbers = "one number" if len(place) == 1 else f"{len(place)} numbers"
    return TypeError(f"{what} must be a function of {numbers} that returns one; {place} gave: {error}.")


def _plain(function: Any) -> Any:
    """The Python function of one that numba has compiled."""
    return getattr(function, "py_func", function)


def _check(what: str, function: Any, derivative: Any, points: Iterable[tuple[float, ...]], least: int) -> None:
    """Whether the function is a finite number, with a slope, which is the derivative, in ``least`` of the points."""
    for given in (function, derivative):
        if given is not None and not isinstance(given, types.FunctionType | types.BuiltinFunctionType | np.ufunc):
            raise TypeError(f"{what} must be made of functions written with def or lambda, got {given!r}; put it into one.")
    value, slope_given = _quiet(function), None if derivative is None else _quiet(derivative)
    finite = rough = 0
    for x, *others in points:
        place = tuple(float(f"{number:.4g}") for number in (x, *others))
        try:
            number = value(x, *others)
        except TypeError as error:
            raise _not_of(what, place, error) from None
        if not math.isfinite(number):
            if least > _LEAST_POINTS:
                raise ValueError(f"{what} must be finite everywhere, but for {place[0]} it is {number}.")
            continue
        finite += 1

        def centered(step: float, x: float = x, others: list[float] = others) -> float:
            return (value(x + step, *others) - value(x - step, *others)) / (2 * step)

        coarse, fine = centered(_CHECK_STEP), centered(_CHECK_STEP / 2)
        slope = (4 * fine - coarse) / 3  # Richardson's extrapolation
        scale = max(1.0, abs(slope))
        if not abs(fine - coarse) < 100 * _TOLERANCE * scale:
            rough += 1
            continue
        if slope_given is None:
            continue
        try:
            claimed = slope_given(x, *others)
        except TypeError as error:
            raise _not_of(f"the derivative of {what}", place, error) from None
        if not abs(claimed - slope) <= _TOLERANCE * scale:
            raise ValueError(
                f"{what}: the derivative is {claimed:.6g} at {place if others else place[0]}, but the slope "
                f"of the function there is {slope:.6g}; correct it, or leave it out to have the slope computed from the function."
            )
    if finite < least:
        raise ValueError(
            f"{what} must be finite for most predictions and targets, but was for {finite} of {len(list(points))} tried."
        )
    if rough > finite // 4:
        raise ValueError(
            f"{what} has no slope at {rough} of {finite} places tried; only functions that mostly have one can be learned with."
        )
