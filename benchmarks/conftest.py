"""Benchmarks run once each, as tests, unless they are asked for: ``--benchmark-enable`` or ``--benchmark-only``."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Before pytest-benchmark looks at its options."""
    if not config.option.benchmark_only and not config.option.benchmark_enable:
        config.option.benchmark_disable = True
