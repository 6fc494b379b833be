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

    def add_ir_module(self, module: Any) -> None:
        """See the base class."""
        for function in module.functions:
            set.add(function.attributes, '"prefer-vector-width"="512"')  # llvmlite's own method only takes names that it knows
        super().add_ir_module(module)

    def _optimize_functions(self, ll_module: Any) -> None:
        """Tidy what goes into a library; the optimisation of the whole does the rest."""
        ll_module.data_layout = self._codegen._data_layout
        passes, builder = self._codegen._function_pass_manager(opt=1, loop_vectorize=False, slp_vectorize=False)
        for function in ll_module.functions:
            passes.run(function, builder)


class _DeviceLibrary(_Library):
    codegen = _NoEnvironment

    def _optimize_final_module(self) -> None:
        passes, builder = self._codegen._module_pass_manager()
        passes.run(self._final_module, builder)

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


def _make_internal(module: Any) -> None:
    """Nobody outside calls what a kernel contains, so what it makes no use of need not be passed."""
    for function in module.functions:
        if not function.is_declaration and function.linkage == binding.Linkage.linkonce_odr:
            function.linkage = "internal"


class _KernelLibrary(_Library):
    def _optimize_final_module(self) -> None:
        _make_internal(self._final_module)
        options = binding.create_pipeline_tuning_options(speed_level=1)
        options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = options.loop_interleaving = False
        builder = binding.create_pass_builder(self._codegen._tm, options)
        builder.getModulePassManager().run(self._final_module, builder)


class _RolledLibrary(_Library):
    """Loops are not unrolled, so that short ones, too, become vector instructions."""

    def _passes(self, kind: str) -> Any:
        options = binding.create_pipeline_tuning_options(speed_level=3)
        options.loop_vectorization, options.slp_vectorization = True, False
        options.loop_unrolling = options.loop_interleaving = False
        builder = binding.create_pass_builder(self._codegen._tm, options)
        return getattr(builder, f"get{kind}PassManager")(), builder

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout
        for function in ll_module.functions:
            passes, builder = self._passes("Function")
            passes.run(function, builder)

    def _optimize_final_module(self) -> None:
        _make_internal(self._final_module)
        passes, builder = self._passes("Module")
        passes.run(self._final_module, builder)


class _RolledPartLibrary(_PartLibrary, _RolledLibrary):
    pass


class _CallbackLibrary(_Library):
    def _optimize_final_module(self) -> None:
        passes, builder = self._codegen._module_pass_manager()
        passes.run(self._final_module, builder)


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
        if kws or not isinstance(func, (types.Function, BuiltinFunctionType)):
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
    "callback": _compiler(_CallbackLibrary),
}
"""numba's compiler for each kind of function."""
