"""How kernels are compiled: by numba's own compiler, with less work for LLVM.

numba optimises every function together with all that it calls, and turns it into machine code, should it be called from
Python: what lies five calls deep is done five times. Here only a kernel is called from Python, so:

- a device function, a loop, is optimised by itself, which is where it becomes vector instructions, and goes into its
  callers like that;
- a part, and a formula, is only tidied by itself;
- a callback, a loop over a formula, is optimised and becomes machine code by itself, and kernels call it by its address;
- a rolled kernel, and its rolled parts, have loops as long as a vector register, which LLVM would unroll before it looks for
  vector instructions: it is told not to, and then optimises the kernel with all that is in it;
- any other kernel, with all of them in it, is optimised at the level that inlines and tidies, without looking for vector
  instructions again, nor unrolling loops again, and becomes machine code.

What a plain function of plain numbers gives is asked of numba once (:class:`_TypingContext`), not thousands of times.

The first training of all waits for this: 25 s if numba does it in its own way, 8 s like this (a core of an Intel Xeon).
"""

from __future__ import annotations

import gc
from types import BuiltinFunctionType
from typing import Any, ClassVar

from llvmlite import binding
from numba.core import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.typed_passes import NopythonRewrites
from numba.core.typing import Context
from numba.core.untyped_passes import InlineClosureLikes


class _NoEnvironment:
    """Takes the place of the code generator where numba sets a function's environment: this has no machine code, so no need."""

    @staticmethod
    def set_env(env_name: str, env: object) -> None:
        pass


class _Library(JITCodeLibrary):
    """Loops become vectors of 64 bytes where the processor has them, as the register tile does in any case.

    For many processors LLVM rather takes half of that: the first that had such vectors became slower by a few of them.
    """

    _of_functions: ClassVar[dict[str, Any]] = {"speed": 1}  # only tidied: the optimisation of the whole does the rest
    _of_whole: ClassVar[dict[str, Any]] = {"speed": 3, "vectors": True}

    def add_ir_module(self, module: Any) -> None:
        """See the base class."""
        for function in module.functions:
            set.add(function.attributes, '"prefer-vector-width"="512"')  # llvmlite's own method only takes names that it knows
        super().add_ir_module(module)

    def _passes(self, kind: str, speed: int, *, vectors: bool = False, unroll: bool = True) -> tuple[Any, Any]:
        """LLVM's passes over a function or a module: whether loops become vector instructions, and are unrolled."""
        options = binding.create_pipeline_tuning_options(speed_level=speed)
        options.loop_vectorization, options.slp_vectorization = vectors, False
        options.loop_unrolling = options.loop_interleaving = unroll
        builder = binding.create_pass_builder(self._codegen._tm, options)
        return getattr(builder, f"get{kind}PassManager")(), builder

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout
        passes, builder = self._passes("Function", **self._of_functions)
        for function in ll_module.functions:
            passes.run(function, builder)

    def _optimize_final_module(self) -> None:
        passes, builder = self._passes("Module", **self._of_whole)
        passes.run(self._final_module, builder)


class _DeviceLibrary(_Library):
    codegen = _NoEnvironment

    def _finalize_final_module(self) -> None:
        self._verify_declare_only_symbols()
        for function in self._final_module.functions:  # so that several callers may contain it
            if not function.is_declaration and function.linkage == binding.Linkage.external:
                function.linkage = "linkonce_odr"
        self._shared_module = self._final_module
        self._finalized = True


class _PartLibrary(_DeviceLibrary):
    def _optimize_final_module(self) -> None:
        pass


class _KernelLibrary(_Library):
    _of_whole: ClassVar[dict[str, Any]] = {"speed": 1, "unroll": False}

    def _optimize_final_module(self) -> None:
        for function in self._final_module.functions:  # nobody else calls them, so what they make no use of need not be passed
            if not function.is_declaration and function.linkage == binding.Linkage.linkonce_odr:
                function.linkage = "internal"
        super()._optimize_final_module()


class _RolledLibrary(_KernelLibrary):
    """Loops are not unrolled, so that short ones, too, become vector instructions."""

    _of_functions: ClassVar[dict[str, Any]] = {"speed": 3, "vectors": True, "unroll": False}
    _of_whole = _of_functions


class _RolledPartLibrary(_PartLibrary, _RolledLibrary):
    pass


_NEEDLESS = (InlineClosureLikes, NopythonRewrites)
"""numba's passes for closures, comprehensions and expressions of whole arrays, none of which kernels have; 4% of its time."""


class _TypingContext(Context):
    """A view of numba's typing context that keeps what plain functions give: kernels add the same two types over and over.

    numba asks each definition that it has anew, which takes 9% of its time.
    """

    _resolved: ClassVar[dict[Any, Any]] = {}

    def __init__(self, context: Context) -> None:
        self.__dict__ = context.__dict__

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        """See the base class."""
        if kws or not isinstance(func, (types.Function, types.NumberClass, BuiltinFunctionType)):
            return super().resolve_function_type(func, args, kws)
        signature = self._resolved.get((func, args))
        if signature is None:
            signature = self._resolved[func, args] = super().resolve_function_type(func, args, kws)
        return signature


class _Compiler(Compiler):
    library: type[JITCodeLibrary]
    is_ours = True

    def define_pipelines(self) -> list[Any]:
        """See the base class."""
        managers: list[Any] = super().define_pipelines()
        for manager in managers if self.is_ours else ():
            manager.passes = [entry for entry in manager.passes if entry[0] not in _NEEDLESS]
            manager.finalize()
        return managers

    def _compile_bytecode(self) -> Any:
        library = self.library(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        library.enable_object_caching()  # as in the library that it replaces
        self.state.library = library
        if self.is_ours:
            self.state.typingctx = _TypingContext(self.state.typingctx)
        # The compiler's objects live as long as it runs; looking for garbage among them takes 4% of its time.
        collects = gc.isenabled()
        gc.disable()
        try:
            return super()._compile_bytecode()
        finally:
            if collects:
                gc.enable()


def _compiler(library: type[JITCodeLibrary], *, is_ours: bool = True) -> type[Compiler]:
    return type("_Compiler", (_Compiler,), {"library": library, "is_ours": is_ours})


COMPILERS = {
    "kernel": _compiler(_KernelLibrary),
    "device": _compiler(_DeviceLibrary),
    "part": _compiler(_PartLibrary),
    "formula": _compiler(_PartLibrary, is_ours=False),  # a person may have written it
    "rolled kernel": _compiler(_RolledLibrary),
    "rolled part": _compiler(_RolledPartLibrary),
    "callback": _compiler(_Library),
}
"""numba's compiler for each kind of function."""
