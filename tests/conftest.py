"""What all tests share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from fastmlp import MLP, ReferenceMLP

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
