"""Learning-rate schedules at the points that define them."""

from __future__ import annotations

import numpy as np
import pytest

from fastmlp import MLP, SCHEDULES
from fastmlp.schedules import Constant, Cosine, Exponential, InverseScaling, OneCycle, Schedule, Step, WarmUp
from fastmlp.trainer import PLAIN_DESCENT, scheduled


def factors(schedule, total=100, per_epoch=10):
    return schedule.factor(np.arange(total, dtype=float), total, per_epoch)


def test_constant():
    assert (factors(Constant()) == 1).all()


def test_step():
    f = factors(Step(epochs=3, gamma=0.5))
    assert (f[:30] == 1).all()
    assert (f[30:60] == 0.5).all()
    assert f[99] == 0.125


def test_exponential():
    f = factors(Exponential(0.9))
    assert f[0] == 1
    assert f[10] == pytest.approx(0.9)
    assert f[95] == pytest.approx(0.9**9.5)


def test_cosine():
    f = factors(Cosine(final=0.1))
    assert f[0] == 1
    assert f[50] == pytest.approx(0.55)
    assert 0.1 < f[99] < 0.101
    assert (np.diff(f) < 0).all()


def test_one_cycle():
    f = factors(OneCycle(rise=0.3, start=0.1, final=0.001))
    assert f[0] == pytest.approx(0.1)
    assert f[30] == pytest.approx(1)
    assert f.argmax() == 30
    assert f[99] < 0.002
    assert (np.diff(f[:30]) > 0).all()
    assert (np.diff(f[31:]) < 0).all()


def test_warm_up():
    f = factors(WarmUp(0.2))
    np.testing.assert_allclose(f[:20], np.arange(1, 21) / 20)
    assert (f[20:] == 1).all()
    np.testing.assert_allclose(factors(WarmUp(0.2, Cosine()))[40:], factors(Cosine())[40:])


def test_inverse_scaling():
    f = factors(InverseScaling(0.5))
    assert f[0] == 1
    assert f[30] == pytest.approx(0.5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_any_part_is_part_of_the_whole(name):
    schedule = SCHEDULES[name]
    steps = np.arange(40, 60, dtype=float)
    assert np.array_equal(schedule.factor(steps, 100, 10), factors(schedule)[40:60])
    assert np.isfinite(schedule.factor(np.arange(3.0), 1, 1)).all()
    assert (factors(schedule) >= 0).all()
    assert (factors(schedule) <= 1).all()


class TestOwn:
    """A class of a person's own."""

    @staticmethod
    def fit(kind, returned, optimizer="sgd"):
        class Own(Schedule):
            def factor(self, step, total_steps, steps_per_epoch):
                return returned(step)

        x, y = np.ones((60, 2)), np.ones(60)
        return kind((2, 1), "identity", dtype="float64", random_state=0).fit(
            x, y, epochs=2, batch_size=6, schedule=Own(), optimizer=optimizer, learning_rate=0.01
        )

    @pytest.mark.parametrize("optimizer", ["sgd", "adam"])
    def test_of_ones(self, kind, optimizer):
        constant = kind((2, 1), "identity", dtype="float64", random_state=0)
        constant.fit(np.ones((60, 2)), np.ones(60), epochs=2, batch_size=6, optimizer=optimizer, learning_rate=0.01)
        for ones in (np.ones_like, lambda step: [1] * len(step)):
            assert np.array_equal(self.fit(kind, ones, optimizer).theta, constant.theta)

    @pytest.mark.parametrize("optimizer", ["sgd", "adam"])
    @pytest.mark.parametrize(
        "returned",
        [
            lambda step: np.array([1.0, 0.5]), lambda step: 1.0, lambda step: step[:, None], lambda step: step * np.nan,
            lambda step: -step - 1, lambda step: step / 0.0, lambda step: ["a"] * len(step), lambda step: None,
        ],
    )  # fmt: skip
    @pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
    def test_of_anything_else(self, kind, optimizer, returned):
        with pytest.raises(ValueError, match="The schedule Own must return an array with a finite number, at least 0, for each of"):
            self.fit(kind, returned, optimizer)


@pytest.mark.parametrize(("schedule", "rows"), [("constant", 1), ("step", 1), ("cosine", 50)])
def test_steps_at_one_rate_share_their_coefficients(schedule, rows):
    """One row for all of them costs a third of one for each, where a step is of one sample."""
    net = MLP((2, 1), "identity", random_state=0)
    data = net._check_data(np.ones((50, 2)), np.ones(50), None)
    with net._trainer(data, 1, PLAIN_DESCENT) as trainer:
        assert len(trainer.coefficients(scheduled(0.1, SCHEDULES[schedule], 0, 50, 500))(0, 50)) == rows


def test_numbers_are_python_s_own():
    """A checkpoint has what repr shows."""
    assert repr(Cosine(final=np.float64(0.5))) == repr(Cosine(final=0.5))
    assert repr(WarmUp(np.float32(0.5), Step(np.int64(3)))) == repr(WarmUp(0.5, Step(3)))


def test_one_cycle_may_begin_and_end_at_0():
    f = factors(OneCycle(start=0, final=0))
    assert f[0] == 0
    assert f[-1] < 1e-3
