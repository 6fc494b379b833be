"""Compile the parts of a kernel without optimising each by itself.

numba runs LLVM's optimiser over every function together with all that it calls, so what lies five calls deep is
optimised five times. A part is never run by itself, and has no loops that matter: it is optimised once, inside the
kernel. Device functions, which are loops, are still optimised by themselves first; without that, LLVM does not turn all
of them into vector instructions.
"""

from __future__ import annotations

from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler


class _PartLibrary(JITCodeLibrary):
    """Code to be linked into that of a kernel, and optimised there."""

    def _optimize_final_module(self) -> None:
        pass


class PartCompiler(Compiler):
    """numba's own compiler, with another kind of library to compile into."""

    def _compile_bytecode(self) -> Any:
        self.state.library = _PartLibrary(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        return super()._compile_bytecode()
