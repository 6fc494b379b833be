"""What all tests share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from fastmlp import MLP, ReferenceMLP
from fastmlp.shuffle import DRAWN_ROWS

# Kernels are compiled inside the first example that needs them, so a deadline would only measure the compiler.
settings.register_profile("fastmlp", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fastmlp")


@pytest.fixture(params=[MLP, ReferenceMLP], ids=["compiled", "reference"])
def kind(request):
    """Both networks: whatever holds for one holds for the other."""
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(20)


@pytest.fixture(scope="session")
def compiled():
    """What the command line uses has been compiled, and said to be, before anybody looks at what a program says."""
    x, y = np.zeros((DRAWN_ROWS + 1, 2)), np.arange(DRAWN_ROWS + 1) % 2
    net = MLP((2, 2, 2), ("relu", "softmax"), "cross_entropy", n_threads=2)
    net.fit(x, y, epochs=1, batch_size=50, optimizer="adamw").predict(x)


@pytest.fixture
def command(compiled, tmp_path, monkeypatch, capsys):
    """The command line in this process, in an empty folder: exit code, output, errors."""
    from fastmlp.cli import app

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            app([*map(str, arguments)], prog_name="fastmlp")
        out, errors = capsys.readouterr()
        assert "Traceback" not in errors
        return end.value.code, out, errors

    return run
