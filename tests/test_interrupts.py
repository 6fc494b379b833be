"""Signals and forks in the middle of what must not be left half done: compiling kernels, and loading them."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest

from fastmlp import MLP
from fastmlp.interrupts import undisturbed
from tests.test_invariants import run_python


class TestUndisturbed:
    def test_returns_what_the_function_does(self):
        assert undisturbed(lambda a, b: a - b, 5, b=3) == 2

    def test_raises_what_the_function_does(self):
        with pytest.raises(KeyError, match="nothing"):
            undisturbed(lambda: {}["nothing"])

    def test_runs_where_no_signal_handler_does(self):
        assert undisturbed(threading.current_thread) is not threading.main_thread()

    def test_needs_no_thread_of_its_own_elsewhere(self):
        seen = []
        thread = threading.Thread(target=lambda: seen.append(undisturbed(threading.current_thread)))
        thread.start()
        thread.join()
        assert seen == [thread]

    def test_where_there_can_be_no_thread(self, monkeypatch):
        def start(thread):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", start)
        assert undisturbed(threading.current_thread) is threading.main_thread()

    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there is no timer on this system")
    def test_an_interrupt_comes_at_once_and_the_function_to_its_end(self):
        may_end, ended = threading.Event(), threading.Event()

        def work():
            may_end.wait(60)
            ended.set()

        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(KeyboardInterrupt):
                undisturbed(work)
            assert not ended.is_set()
        finally:
            may_end.set()
            signal.signal(signal.SIGALRM, before)
        assert ended.wait(60)


def test_an_interrupted_function_ends_before_the_process(tmp_path):
    printed = run_python(f"""
        import _thread, pathlib, threading, time
        from fastmlp.interrupts import undisturbed

        def work():
            threading.Timer(0.3, _thread.interrupt_main).start()  # as Ctrl-C does, on every system
            time.sleep(1.5)
            pathlib.Path({str(tmp_path / "done")!r}).touch()

        try:
            undisturbed(work)
        except KeyboardInterrupt:
            print("interrupted")
    """)
    assert printed.strip() == "interrupted"
    assert (tmp_path / "done").exists()


def test_a_module_may_train_with_its_own_function_while_it_is_imported(tmp_path):
    """numba imports the module of a function that it compiles, and would wait for ever in another thread."""
    (tmp_path / "trains_at_once.py").write_text(
        "from fastmlp import MLP\n"
        "def own(z):\n    return z / (1 + abs(z))\n"
        "network = MLP((2, 3, 1), [own, 'identity'], random_state=0)\n"
        "network.fit([[0.0, 1.0], [1.0, 0.0]], [[0.0], [1.0]], epochs=1, batch_size=2)\n"
    )
    printed = run_python(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from trains_at_once import network; print(network.sizes)"
    )
    assert printed.strip() == "(2, 3, 1)"


def test_kernels_are_compiled_and_loaded_where_no_signal_handler_runs():
    printed = run_python("""
        import threading
        import numpy as np
        from fastmlp import MLP
        from fastmlp.engine import Engine  # not the first import of numba, but the kernels
        from fastmlp.kernels.cache import KernelCache

        where, load = [], KernelCache.load_overload

        def load_overload(self, *arguments):
            where.append(threading.current_thread() is threading.main_thread())
            return load(self, *arguments)

        KernelCache.load_overload = load_overload
        MLP((2, 3, 1)).fit(np.ones((70_000, 2)), np.ones(70_000), epochs=1, batch_size=70_000)
        print(len(where) > 3, any(where))
        where.clear()
        MLP((2, 3, 1), dtype="float64").fit(np.ones((70_000, 2)), np.ones(70_000), epochs=1, batch_size=70_000)
        print(len(where) > 0, any(where))
    """)
    assert printed.split() == ["True", "False"] * 2


def test_a_call_with_other_types_compiles_where_no_signal_handler_runs():
    printed = run_python("""
        import threading
        from fastmlp.kernels.cache import KernelCache
        from fastmlp.kernels.jit import kernel

        @kernel
        def twice(x):
            return 2 * x

        print(twice(1))
        where, load = [], KernelCache.load_overload

        def load_overload(self, *arguments):  # what is not there is compiled
            where.append(threading.current_thread() is threading.main_thread())
            return load(self, *arguments)

        KernelCache.load_overload = load_overload
        print(twice(1.5), where)
    """)
    assert printed.split() == ["2", "3.0", "[False]"]


def test_a_function_of_numba_s_own_may_call_a_kernel():
    """It is compiled under a lock that another thread would wait for."""
    printed = run_python("""
        import numba
        from fastmlp.kernels.jit import kernel

        @kernel
        def twice(x):
            return 2 * x

        @numba.njit
        def four_times(x):
            return twice(twice(x))

        print(four_times(1), twice(1), four_times(1.5))
    """)
    assert printed.split() == ["4", "2", "6.0"]


@pytest.mark.parametrize("call", ["engine", "predict(x)", "train_step(x, y, 0.1)", "fit(x, y, epochs=1, batch_size=1)"])
def test_numba_is_imported_where_no_signal_handler_runs(call):
    printed = run_python(f"""
        import builtins, threading
        import numpy as np
        from fastmlp import MLP

        x, y = np.ones((2, 2)), np.ones(2)
        where, imported = [], builtins.__import__

        def import_(name, *arguments, **options):
            if name == "numba":
                where.append(threading.current_thread() is threading.main_thread())
            return imported(name, *arguments, **options)

        builtins.__import__ = import_
        MLP((2, 3, 1)).{call}
        print(where[0])
    """)
    assert printed.split() == ["False"]


def test_who_comes_while_another_thread_imports_the_engine_waits_for_it():
    printed = run_python("""
        import sys, threading, time
        import numpy as np
        from fastmlp import MLP

        x = np.ones((1, 2))
        thread = threading.Thread(target=MLP((2, 3, 1)).predict, args=(x,))
        thread.start()
        while "fastmlp.engine" not in sys.modules:
            time.sleep(1e-4)
        print(MLP((2, 3, 1)).predict(x).shape == (1, 1))
        thread.join()
    """)
    assert printed.split() == ["True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_waits_for_whoever_compiles():
    """The child has the compiler's lock, but not the thread that would release it."""
    from numba.core.compiler_lock import global_compiler_lock

    MLP((2, 3, 1)).predict(np.ones((1, 2)))
    has_lock, may_go = threading.Event(), threading.Event()

    def compile_():
        with global_compiler_lock:
            has_lock.set()
            may_go.wait(0.3)

    thread = threading.Thread(target=compile_)
    thread.start()
    has_lock.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # rather than waiting for ever
        with global_compiler_lock:
            os._exit(0)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
