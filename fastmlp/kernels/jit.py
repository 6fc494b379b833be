"""The one place that sets numba's options, each with its reason; numba itself is imported when a kernel is first used.

Seven decorators, by who calls the function:

- :func:`kernel`: called from Python; kept in the on-disk cache (:mod:`fastmlp.kernels.cache`).
- :func:`device`: called from kernels only; loops.
- :func:`part`: called from kernels only; calls of device functions. Compiles faster (:mod:`fastmlp.kernels.pipeline`).
- :func:`formula`: single numbers in and out; always inlined, as loops over them need it.
- :func:`rolled_kernel` and :func:`rolled_part`: a kernel that has formulas in it, and what that calls.
- :func:`elementary`: a formula that is exact in the order of its floating-point operations.

And :func:`callback`, for what is called by its address.

Options shared by all
---------------------
``nogil``
    Threads of a team run the same kernel side by side; see :mod:`fastmlp.kernels.team`.
``_nrt=False``
    The kernels hold no references and cannot allocate: an allocation in one is a compile error, and passing an array
    costs no atomic reference count (which two threads would fight over).
``error_model="numpy"``
    A division by zero gives inf or nan as in NumPy; the test for it would stop the vectoriser.
``fastmath``
    A named set. Never ``nnan`` or ``ninf``: a diverging network must be seen to diverge.
``no_cpython_wrapper``, ``no_cfunc_wrapper``
    Device functions need neither; leaving them out saves about a third of the compile time. They must then never be
    called from Python except with ``NUMBA_DISABLE_JIT=1``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np

from fastmlp.interrupts import undisturbed

P = ParamSpec("P")
R = TypeVar("R")

FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}
"""Signed zeros ignored, reciprocals, fused multiply-add, approximate functions, reordering of sums."""

_EXACT_ORDER = {"nsz", "contract"}
"""For range reductions, which a reordered sum would destroy."""

_OPTIONS: dict[str, Any] = {"nogil": True, "_nrt": False, "error_model": "numpy"}
_NO_WRAPPERS: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

_lock = threading.RLock()
_forks_are_safe = False
_before_first_compilation: list[Callable[[], None]] = []


class Kernel(Generic[P, R]):
    """A function that numba compiles when it is first needed, not when it is defined.

    Modules that hold such functions (the tables of activations, losses and optimizers) can therefore be imported without
    importing numba. Inside compiled code it behaves as the numba dispatcher that it stands for.
    """

    def __init__(self, function: Callable[P, R], compiler: str, *, cache: bool = False, **options: Any) -> None:
        self.py_func = function
        self._options = _OPTIONS | options
        self._cache = cache
        self._compiler = compiler
        self._dispatcher: Any = None
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__

    @property
    def dispatcher(self) -> Any:
        """numba's dispatcher; the plain function where numba's compiler is switched off."""
        if self._dispatcher is None:
            with _lock:
                if self._dispatcher is None:
                    self._dispatcher = self._make_dispatcher()
        return self._dispatcher

    def _make_dispatcher(self) -> Any:
        import numba

        if numba.config.DISABLE_JIT:
            return self.py_func
        _prepare()
        from fastmlp.kernels.pipeline import COMPILERS

        dispatcher = numba.njit(pipeline_class=COMPILERS[self._compiler], **self._options)(self.py_func)
        dispatcher.compile = partial(_compile, dispatcher.compile)  # also for other types, when a call comes with them
        if self._cache:
            from fastmlp.kernels.cache import KernelCache

            dispatcher._cache = KernelCache(self.py_func)
        return dispatcher

    @property
    def _numba_type_(self) -> Any:
        """The type of the dispatcher; numba asks a global for it when compiled code names that global."""
        return self.dispatcher._numba_type_

    def compiled_for(self, *examples: Any) -> Callable[..., R]:
        """The machine code for arguments of the examples' types, to be called with no others: it does not look at them.

        numba's dispatcher does at each call, which takes a microsecond for thirty arguments.
        """
        if self._dispatcher is None:
            undisturbed(lambda: self.dispatcher)
        if self._dispatcher is self.py_func:
            plain: Callable[..., R] = np.errstate(over="ignore")(self.py_func)  # of hashes
            return plain
        types = tuple(map(_type_of, examples))
        if types not in self._dispatcher.overloads:
            self._dispatcher.compile(types)
        code: Callable[..., R] = self._dispatcher.overloads[types].entry_point
        return code

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the compiled function."""
        if self._dispatcher is None:
            self.compiled_for(*args, *kwargs.values())
        result: R = self._dispatcher(*args, **kwargs)
        return result


_types: dict[tuple[Any, ...], Any] = {}
"""numba's types of arrays of each kind seen so far."""


def _type_of(example: Any) -> Any:
    """numba's type of an argument, which takes it long to find for an array of records."""
    from numba import typeof

    if not isinstance(example, np.ndarray):
        return typeof(example)
    kind = type(example), example.dtype, example.ndim, example.flags.num
    found = _types.get(kind)
    if found is None:
        found = _types[kind] = typeof(example)
    return found


def _compile(compiler: Callable[..., Any], *args: Any) -> Any:
    """Compile where no signal handler runs."""
    from numba.core.compiler_lock import global_compiler_lock

    if global_compiler_lock.is_locked():  # by this thread, which compiles what calls the kernel: no other one could compile it now
        return compiler(*args)
    return undisturbed(compiler, *args)


def _prepare() -> None:
    """Tell numba what it has to know before it compiles anything."""
    global _forks_are_safe
    with _lock:
        if not _forks_are_safe:
            _forks_are_safe = True
            _wait_for_compilers_before_forks()
        while _before_first_compilation:
            _before_first_compilation.pop()()


def _wait_for_compilers_before_forks() -> None:
    """Have a fork wait until no other thread compiles: the child would not have that thread, but its locks, for ever."""
    if not hasattr(os, "register_at_fork"):
        return
    from numba.core.compiler_lock import global_compiler_lock

    locks = global_compiler_lock, _lock  # the order in which who compiles takes them

    def acquire() -> None:
        for lock in locks:
            lock.acquire()

    def release() -> None:
        for lock in reversed(locks):
            lock.release()

    os.register_at_fork(before=acquire, after_in_parent=release, after_in_child=release)


def kernel(function: Callable[P, R]) -> Kernel[P, R]:
    """Compile a function that Python calls: cached on disk, one compilation per dtype."""
    return Kernel(function, "kernel", cache=True, fastmath=FASTMATH, no_cfunc_wrapper=True)


def device(function: Callable[P, R]) -> Kernel[P, R]:
    """Compile a function that only kernels call."""
    return Kernel(function, "device", fastmath=FASTMATH, **_NO_WRAPPERS)


def part(function: Callable[P, R]) -> Kernel[P, R]:
    """Compile a function that only kernels call and that mostly calls device functions: optimised with the kernel.

    Its own loops over elements do not become vectors: they belong into device functions.
    """
    return Kernel(function, "part", fastmath=FASTMATH, **_NO_WRAPPERS)


def formula(function: Callable[P, R]) -> Kernel[P, R]:
    """Compile a function of single numbers: always inlined into the loops over them, or those would not become vectors."""
    return Kernel(function, "formula", fastmath=FASTMATH, forceinline=True, **_NO_WRAPPERS)


def rolled_kernel(function: Callable[P, R]) -> Kernel[P, R]:
    """Compile a kernel with loops as long as a vector register, over formulas: these become vector instructions in the kernel."""
    return Kernel(function, "rolled kernel", cache=True, fastmath=FASTMATH, no_cfunc_wrapper=True)


def rolled_part(function: Callable[P, R]) -> Kernel[P, R]:
    """Compile what always becomes a part of such a kernel."""
    return Kernel(function, "rolled part", fastmath=FASTMATH, forceinline=True, **_NO_WRAPPERS)


def elementary(function: Callable[P, R]) -> Kernel[P, R]:
    """Compile a formula whose operations keep their order."""
    return Kernel(function, "part", fastmath=_EXACT_ORDER, forceinline=True, **_NO_WRAPPERS)


def callback(function: Callable[..., Any], signature: Any, name: str | None) -> Any:
    """Compile a function that kernels call by its address, the attribute ``address`` of the result.

    Kept on disk if it has a name, which must be its own: machine code knows functions by their names.
    """
    return undisturbed(_callback, function, signature, name)


def _callback(function: Callable[..., Any], signature: Any, name: str | None) -> Any:
    from numba.core.ccallback import CFunc

    _prepare()
    from fastmlp.kernels.cache import KernelCache
    from fastmlp.kernels.pipeline import COMPILERS

    if name is not None:
        function.__name__ = function.__qualname__ = name
    options = {"_nrt": False, "error_model": "numpy", "fastmath": FASTMATH}
    made: Any = CFunc(function, (signature.args, signature.return_type), {}, options, pipeline_class=COMPILERS["callback"])
    if name is not None:
        made._cache = KernelCache(function, announces=False)  # it takes a tenth of a second
    made.compile()
    return made


def per_dtype(name: str, doc: str, float32: Kernel[[Any], Any], float64: Kernel[[Any], Any]) -> Callable[[Any], Any]:
    """Join two versions of a scalar function into one name; compiled code picks by the type of the argument."""

    def function(x: Any) -> Any:
        return float32.py_func(x) if x.dtype.itemsize == 4 else float64.py_func(x)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc

    def register() -> None:
        from numba import types
        from numba.extending import overload

        def choose(x):  # numba compares its signature with that of what it returns
            if isinstance(x, types.Integer):
                return lambda x: float64(float(x))
            chosen = {types.float32: float32, types.float64: float64}.get(x)
            return chosen and chosen.py_func

        overload(function, jit_options=_OPTIONS | {"fastmath": _EXACT_ORDER, "forceinline": True})(choose)

    _before_first_compilation.append(register)
    return function
