"""A training that diverges, or ends in between, leaves parameters that are finite."""

from __future__ import annotations

import numpy as np
import pytest

from fastmlp import MLP
from fastmlp import safeguard as safeguard_module
from fastmlp.callbacks import Callback
from fastmlp.exceptions import DivergenceError
from fastmlp.safeguard import Safeguard


class Spoils(Callback):
    """Makes a parameter nan when the network reports, and whatever else is told."""

    def __init__(self, then=lambda: None):
        self.then, self.n_reports = then, 0

    def on_rows(self, run):
        self.n_reports += 1
        run.network.w[0][0, 0] = np.nan
        self.then()


@pytest.fixture
def rare(monkeypatch):
    """Any number of parameters counts as many, and only the ends of epochs are looked at."""
    monkeypatch.setattr(safeguard_module, "_FEW_BYTES", 0)
    monkeypatch.setattr(safeguard_module, "_LOOK_SECONDS", 1e9)


def test_many_parameters_are_looked_at_at_the_end_of_an_epoch_and_where_the_loss_says_so(rare):
    buffer = np.ones(3)
    safeguard = Safeguard(buffer)
    buffer[:] = 2, np.nan, 2
    assert safeguard.is_well(1.0, ends=False)
    assert not safeguard.is_well(1.0, ends=True)
    assert not safeguard.is_well(np.inf, ends=False)
    assert safeguard.bring_back()
    assert buffer.tolist() == [1, 1, 1]
    buffer[:] = 3
    assert safeguard.is_well(1.0, ends=True)
    buffer[:] = 4
    assert safeguard.is_well(1.0, ends=False)
    assert not safeguard.settle()
    buffer[0] = np.inf
    assert safeguard.settle()
    assert buffer.tolist() == [3, 3, 3]


def test_many_parameters_are_looked_at_after_a_while(monkeypatch):
    monkeypatch.setattr(safeguard_module, "_FEW_BYTES", 0)
    monkeypatch.setattr(safeguard_module, "_LOOK_SECONDS", 0.0)
    buffer = np.ones(3)
    safeguard = Safeguard(buffer)
    buffer[0] = np.nan
    assert not safeguard.is_well(1.0, ends=False)


def test_few_parameters_are_always_looked_at():
    buffer = np.ones(3)
    safeguard = Safeguard(buffer)
    buffer[0] = np.nan
    assert not safeguard.is_well(1.0, ends=False)


@pytest.mark.parametrize("is_rare", [False, True])
def test_a_network_that_diverges_has_its_last_finite_parameters(kind, is_rare, request):
    if is_rare:
        request.getfixturevalue("rare")
    net = kind((2, 3, 1), ("tanh", "identity"), dtype="float64", random_state=0)
    before = net.theta
    with pytest.raises(DivergenceError):
        net.fit(np.eye(2), [1, 2], epochs=3, batch_size=1, callbacks=[Spoils()])
    assert np.isfinite(net.theta).all()
    assert not np.array_equal(net.theta, before)


@pytest.mark.parametrize("is_rare", [False, True])
def test_a_training_that_is_interrupted_between_two_looks_does_too(kind, is_rare, request):
    if is_rare:
        request.getfixturevalue("rare")

    def interrupt():
        raise KeyboardInterrupt

    net = kind((2, 3, 1), ("tanh", "identity"), dtype="float64", random_state=0)
    with pytest.raises(KeyboardInterrupt):
        net.fit(np.eye(2), [1, 2], epochs=3, batch_size=1, callbacks=[Spoils(interrupt)])
    assert np.isfinite(net.theta).all()


def test_an_estimator_that_is_interrupted_between_two_looks_does_too(rare):
    pytest.importorskip("sklearn")
    from fastmlp import MLPRegressor

    def interrupt():
        raise KeyboardInterrupt

    model = MLPRegressor(hidden_layer_sizes=(3,), max_iter=3, batch_size=10, callbacks=[Spoils(interrupt)], random_state=0)
    x = np.random.default_rng(0).normal(size=(40, 2))
    with pytest.warns(UserWarning, match="interrupted by user"):
        model.fit(x, x.sum(axis=1))
    assert all(np.isfinite(coefs).all() for coefs in model.coefs_)
    assert model._optimizer_state == {}


def test_a_large_network_is_not_looked_at_at_each_report(monkeypatch):
    """Its parameters take 4 MB; to copy them at each report would take as long as training on so few rows."""
    monkeypatch.setattr("fastmlp.engine.limits.CALL_SECONDS", 1e-9)
    kept, keep = [], Safeguard.keep
    monkeypatch.setattr(Safeguard, "keep", lambda safeguard: kept.append(1) or keep(safeguard))
    reports = Spoils()
    reports.on_rows = lambda run: setattr(reports, "n_reports", reports.n_reports + 1)
    net = MLP((1000, 1000, 1), random_state=0, n_threads=1)
    net.fit(np.ones((512, 1000), np.float32), np.ones(512), epochs=2, batch_size=64, learning_rate=1e-6, callbacks=[reports])
    assert reports.n_reports == 2 * 8
    assert 3 <= len(kept) <= 3 + 4  # at the beginning, at the end of each epoch, and perhaps after a second
