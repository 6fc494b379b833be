"""The engine's promises that no other test module keeps; numbers are those of the list in CONTRIBUTING.md."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from fastmlp import ACTIVATIONS, LOSSES, MLP, OPTIMIZERS
from fastmlp.kernels import jit

ROOT = Path(__file__).parent.parent


def run_python(code, **environment):
    """Run code in a fresh process; what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestNoAllocation:
    """Invariant 1."""

    def test_numba_allocates_nothing_over_a_thousand_steps(self):
        printed = run_python("""
            import numpy as np
            from numba.core.runtime import _nrt_python, rtsys
            from fastmlp import MLP

            _nrt_python.memsys_enable_stats()
            rng = np.random.default_rng(0)
            x, y = rng.normal(size=(1000, 5)), rng.random((1000, 3))
            net = MLP((5, 20, 3), "tanh")
            net.fit(x, y, epochs=1, batch_size=1, optimizer="adam").predict(x)
            before = rtsys.get_allocation_stats()
            net.fit(x, y, epochs=1, batch_size=1, optimizer="adam").predict(x)
            print(rtsys.get_allocation_stats() == before)
        """)
        assert printed.strip() == "True"

    def test_a_kernel_that_allocates_does_not_compile(self):
        from numba.core.errors import TypingError

        @jit.kernel
        def allocates(n):
            return np.zeros(n)

        with pytest.raises(TypingError, match="zeros"):
            allocates(3)


def _kernels_of_training():
    """For batches, one sample a step, and the same of a narrow network, used once."""
    net = MLP((2, 2))
    x = np.zeros((4, 2))
    net.fit(x, x, epochs=1, batch_size=2).fit(x, x, epochs=1, batch_size=1).fit(x, x, epochs=1, batch_size=1, sample_weight=[1] * 4)
    net.predict(x)
    assert len(net.engine.compiled) == 3
    return [kernel for kernel, *_ in net.engine.compiled]


class TestSignatures:
    """Invariant 3: flat arrays and numbers, and one compilation per dtype for networks of any shape."""

    def test_nothing_recompiles(self):
        from fastmlp.kernels.epoch import run_chunks
        from fastmlp.kernels.online import run_rows
        from fastmlp.kernels.predict import predict_rows

        rng = np.random.default_rng(0)
        for dtype in ("float32", "float64"):
            for number, name in enumerate([*ACTIVATIONS, *LOSSES, *OPTIMIZERS]):
                sizes = (3, *[5 + number] * (number % 2), 2)
                activation = name if name in ACTIVATIONS and name != "softmax" else "sigmoid"
                x, y = 0.01 * rng.normal(size=(20, 3)), rng.random((20, 2))
                if number % 2:
                    x = np.asfortranarray(x)
                    x.flags.writeable = False
                net = MLP(sizes, activation, name if name in LOSSES else "huber", dtype=dtype, n_threads=1 + number % 2)
                net.fit(
                    x, y, epochs=1, batch_size=1 + number, optimizer=name if name in OPTIMIZERS else "sgd", learning_rate=1e-9,
                    sample_weight=rng.random(20) if number % 2 else None, shuffle=bool(number % 3),
                )  # fmt: skip
                net.predict(x[:1])
                net.backprop(x, y)
                net.fit(x, y, epochs=1, batch_size=1, learning_rate=1e-9, sample_weight=np.ones(20))
        net = MLP((3, 4), "softmax", "cross_entropy")
        net.fit(np.zeros((5, 3)), [0, 1, 2, 3, 0], epochs=1, batch_size=2)
        assert [len(one.dispatcher.signatures) for one in (run_rows, predict_rows)] == [2, 2]
        # This one has kinds besides, for sparse samples and for large layers, which other tests may have needed.
        names = list(inspect.signature(run_chunks.py_func).parameters)
        kinds = [
            tuple(str(signature[names.index(name)]) for name in ("parameters", "indices", "transposed", "packed"))
            for signature in run_chunks.dispatcher.signatures
        ]
        assert sum(kind[1] == kind[3] == "none" for kind in kinds) == 2
        assert len(set(kinds)) == len(kinds) <= 6

    def test_nor_does_a_narrow_network_of_another_shape(self):
        for dtype in ("float32", "float64"):
            for sizes in ((2, 3, 2), (5, 17, 4), (3, 2, 2, 2), (1, 1, 1)):
                net = MLP(sizes, "tanh", dtype=dtype).fit(np.zeros((5, sizes[0])), np.zeros((5, sizes[-1])), epochs=1, batch_size=1)
        assert len(net.engine.records.narrow_kernel().dispatcher.signatures) == 2

    def test_arguments_are_flat_arrays_and_numbers(self):
        from numba import types

        from fastmlp.kernels.predict import predict_rows

        for one in (*_kernels_of_training(), predict_rows):
            for argument in one.dispatcher.signatures[0]:
                flat = isinstance(argument, types.Array) and argument.ndim == 1
                assert flat or isinstance(argument, types.Number | types.Boolean | types.NoneType), argument

    def test_data_of_the_caller_cannot_be_written_to(self):
        for one in _kernels_of_training():
            names = one.py_func.__code__.co_varnames
            arguments = dict(zip(names, one.dispatcher.signatures[0], strict=False))
            assert not any(arguments[name].mutable for name in ("x", "y", "labels", "weights", "order"))
            assert arguments["parameters"].mutable


def test_formulas_are_chosen_outside_element_loops():
    """Invariant 4: how often a loop over a formula is called depends on the layers, not on how wide they are."""
    printed = run_python(
        """
        import json
        from fastmlp.kernels import loops

        calls = {}
        def counted(name, loop):
            def call(address, arguments):
                calls[name] = calls.get(name, 0) + 1
                loop(address, arguments)
            return call

        for name in ("activate", "activate_and_slope", "loss_and_slope", "logit_terms", "update"):
            setattr(loops, name, counted(name, getattr(loops, name)))

        import numpy as np
        from fastmlp import MLP

        counts = []
        for width in (1, 16):
            calls.clear()
            MLP((2, width, width), ("tanh", "sigmoid")).fit(
                np.ones((4, 2)), np.ones((4, width)), epochs=1, batch_size=4, optimizer="adam")
            counts.append(dict(calls))
        print(json.dumps(counts))
        """,
        NUMBA_DISABLE_JIT="1",
    )
    narrow, wide = json.loads(printed)
    assert narrow == wide
    assert narrow["update"] == 2  # one for each layer
    assert narrow["activate_and_slope"] == 2


class TestDtypes:
    """Invariant 6."""

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("given", ["float16", "float32", "float64", "int8", ">f4", "bool"])
    def test_results_are_in_the_dtype_of_the_network(self, kind, dtype, given):
        net = kind((2, 3, 1), "tanh", dtype=dtype)
        x = np.ones((4, 2)).astype(given)
        net.fit(x, np.ones(4), epochs=1, batch_size=2)
        w_grad, b_grad = net.backprop(x, np.ones(4))
        _, gradient, _ = net.loss_and_grad(net.theta, x, np.ones(4))
        assert {array.dtype for array in [*net.w, *net.b, *w_grad, *b_grad, gradient, net.theta, net.predict(x)]} == {
            np.dtype(dtype)
        }

    @pytest.mark.parametrize("entry", [*ACTIVATIONS.values(), *LOSSES.values()], ids=lambda entry: entry.name)
    def test_no_formula_widens_float32(self, entry):
        from numba import float32

        logits = getattr(entry, "compiled_logits_value", None)
        for one in (entry.compiled_value, entry.compiled_derivative, *([] if logits is None else [logits])):
            n_arguments = one.py_func.__code__.co_argcount
            dispatcher = one.dispatcher
            dispatcher.compile((float32,) * n_arguments)
            code = dispatcher.inspect_llvm((float32,) * n_arguments)
            body = [line for line in code.splitlines() if "fpext" in line or "fptrunc" in line or " double " in line]
            assert not body, body

    @pytest.mark.parametrize("name", OPTIMIZERS)
    def test_no_optimizer_widens_float32(self, name):
        from numba import float32

        dispatcher = OPTIMIZERS[name].step.dispatcher
        dispatcher.compile((float32,) * 12)
        assert "double" not in dispatcher.inspect_llvm((float32,) * 12)


class TestFloatingPoint:
    """Invariant 7."""

    def test_fastmath_never_assumes_finite_numbers(self):
        assert {"nsz", "arcp", "contract", "afn", "reassoc"} == jit.FASTMATH
        for one in (jit._EXACT_ORDER, jit.FASTMATH):
            assert not {"nnan", "ninf", "fast"} & one

    def test_sums_of_losses_are_float64(self, kind):
        rows = 2_000_000
        net = kind((1, 1), "identity", initializer="zeros")
        loss = net.eval_loss(np.zeros((rows, 1)), np.full(rows, 0.1))
        assert loss == pytest.approx(0.5 * float(np.float32(0.1) ** 2), rel=2e-7)

    def test_denormals_are_flushed_inside_and_restored_outside(self):
        net = MLP((1, 1), "identity")
        net.w[0] = [[1e-30]]
        for n_threads in (1, 2):
            net.n_threads = n_threads
            net.__dict__.pop("_engine", None)
            assert net.predict([[1e-10]]) == 0  # 1e-40 is denormal
            net.fit([[1e-10]], [[0.0]], epochs=1, batch_size=1, learning_rate=1e-30)
            assert np.float32(1e-30) * np.float32(1e-10) > 0


class TestImport:
    """Invariant 8."""

    def test_importing_compiles_nothing_and_leaves_numba_alone(self):
        printed = run_python("""
            import sys
            import fastmlp
            from fastmlp import MLP, ReferenceMLP
            net = ReferenceMLP((2, 3, 1)).fit([[0, 1]], [1], epochs=2, batch_size=1)
            ours = MLP((2, 3, 1))
            ours.w[0] = net.w[0]
            print([name for name in ("numba", "llvmlite", "sklearn", "scipy", "matplotlib", "typer") if name in sys.modules])
            ours.predict([0, 1])
            print("numba" in sys.modules)
        """)
        assert printed.split("\n")[:2] == ["[]", "True"]

    def test_public_names(self):
        import fastmlp

        public = {name for name in vars(fastmlp) if not name.startswith("_")}
        modules = {name for name in public if type(getattr(fastmlp, name)) is type(fastmlp)}
        assert public - modules == {
            "ACTIVATIONS", "INITIALIZERS", "LOSSES", "OPTIMIZERS", "SCHEDULES",
            "Activation", "Initializer", "Loss", "Optimizer", "Schedule",
            "DivergenceError", "MLP", "ReferenceMLP", "make_activation", "make_loss",
        }  # fmt: skip
