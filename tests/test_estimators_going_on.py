"""Estimators that are fitted again, changed in between, refused or sent elsewhere."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.utils import check_random_state

from fastmlp import MLP, OPTIMIZERS, MLPClassifier, MLPRegressor
from fastmlp.callbacks import Callback, EarlyStopping
from fastmlp.exceptions import DivergenceError
from fastmlp.parameters import Initializer
from fastmlp.schedules import Constant
from fastmlp.validation import check_dropout

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = make_classification(120, 6, n_informative=4, n_classes=3, random_state=0)
TWO = np.column_stack([2 * X[:, 0], X[:, 1] - X[:, 2]])
OPTIONS = {"random_state": 0, "max_iter": 4, "learning_rate_init": 0.05}


def classifier(**options):
    return MLPClassifier((5,), **OPTIONS | options)


def regressor(loss="squared_error", **options):
    return MLPRegressor(loss, (5,), **OPTIONS | options)


@pytest.mark.parametrize("options", [{"solver": "adam"}, {"solver": "sgd"}, {"optimizer": "rmsprop"}])
def test_after_a_divergence_it_learns_again(options):
    model = regressor(learning_rate_init=0.01, n_iter_no_change=np.inf, **options).partial_fit(X, TWO[:, 0])
    before = model.loss_
    with pytest.raises(DivergenceError):
        model.partial_fit(X, np.full(len(X), 1e200))
    model.partial_fit(X, TWO[:, 0], epochs=50)
    assert model.loss_ < 0.9 * before


@pytest.mark.parametrize(("batch_size", "steps"), [(30, 4), (50, 3)])
def test_an_interrupted_epoch_counts_its_steps(batch_size, steps):
    class Interrupt(Callback):
        def on_rows(self, run):
            raise KeyboardInterrupt

    model = classifier(batch_size=batch_size, callbacks=[Interrupt()], warm_start=True)
    with pytest.warns(UserWarning, match="interrupted by user"):
        model.fit(X, Y)
    assert np.any(model._optimizer_state["arrays"][0])
    assert model._optimizer_state["steps"] == steps


def test_nothing_to_predict_for_is_told_as_scikit_learn_does():
    with pytest.raises(ValueError, match="Expected 2D array"):
        classifier().fit(X, Y).predict(None)


class TestCopies:
    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
    @pytest.mark.parametrize("changed", [{"activation": "tanh"}, {"hidden_layer_sizes": (3, 2)}, {"activation": ["relu", "tanh"]}])
    def test_predict_what_was_fitted_whatever_is_set_since(self, copied, changed):
        model = classifier().fit(X, Y).set_params(**changed)
        assert np.array_equal(copied(model).predict_proba(X), model.predict_proba(X))

    def test_of_regressors_too(self):
        model = regressor("poisson").fit(X, abs(TWO[:, 0])).set_params(loss="squared_error")
        assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))


class TestWarmStart:
    def test_follows_the_learning_rate(self):
        model = classifier(warm_start=True, learning_rate_init=1e-6, solver="sgd").fit(X, Y)
        before = model.coefs_[0].copy()
        slow = abs(copy.deepcopy(model).fit(X, Y).coefs_[0] - before).max()
        fast = abs(model.set_params(learning_rate_init=0.1).fit(X, Y).coefs_[0] - before).max()
        assert fast > 1000 * slow

    def test_keeps_the_velocity_where_the_rate_begins_anew(self):
        model = classifier(warm_start=True, solver="sgd", learning_rate="invscaling", max_iter=1)
        losses = [model.fit(X, Y).loss_ for _ in range(10)]
        assert losses[-1] < 0.9 * losses[0]

    def test_begins_an_adaptive_rate_anew(self):
        model = classifier(warm_start=True, solver="sgd", learning_rate="adaptive", tol=1.0, n_iter_no_change=1, max_iter=100)
        model.fit(X, Y)  # until the rate has come down
        model.set_params(solver="adam", learning_rate="constant", tol=0.0, n_iter_no_change=100).fit(X, Y)
        assert model.loss_ < 0.5

    def test_follows_the_activation(self):
        model = classifier(warm_start=True).fit(X, Y).set_params(activation="tanh")
        expected = clone(model).build(6, 3)
        expected.coefs_, expected.intercepts_ = [one.copy() for one in model.coefs_], [one.copy() for one in model.intercepts_]
        assert np.abs(model.predict_proba(X) - expected.predict_proba(X)).max() > 1e-3
        model.fit(X, Y)
        assert model._network.activation[0] == "tanh"

    def test_follows_the_loss(self):
        model = regressor(warm_start=True, max_iter=50).fit(X, TWO[:, 0])
        model.set_params(loss="absolute_error").fit(X, TWO[:, 0])
        assert model.loss_ == pytest.approx(np.abs(model.predict(X) - TWO[:, 0]).mean(), rel=0.2)
        low, high = (
            regressor("pinball", quantile=0.9, warm_start=True).fit(X, TWO[:, 0]).set_params(quantile=quantile, max_iter=100)
            .fit(X, TWO[:, 0]).predict(X).mean() for quantile in (0.1, 0.9)
        )  # fmt: skip
        assert low < high - 0.5

    def test_refuses_other_sizes(self):
        model = classifier(warm_start=True).fit(X, Y)
        with pytest.raises(ValueError, match=r"hidden_layer_sizes is \[7\], but the network to go on with has \[5\]"):
            model.set_params(hidden_layer_sizes=(7,)).fit(X, Y)

    def test_goes_through_the_schedule_again(self):
        x, y = make_classification(600, 20, n_informative=10, random_state=0)
        model = classifier(warm_start=True, learning_rate_schedule="cosine", learning_rate_init=0.01).fit(x, y)
        first = model.loss_
        assert model.fit(x, y).loss_ < 0.95 * first


class TestEarlyStoppingAcrossCalls:
    def test_six_calls_are_one_fit(self):
        options = {"early_stopping": True, "n_iter_no_change": 100, "max_iter": 6}
        whole, parts = classifier(**options).fit(X, Y), classifier(**options)
        for _ in range(6):
            parts.partial_fit(X, Y, classes=[0, 1, 2])
        assert parts.validation_scores_ == whole.validation_scores_
        assert all(map(np.array_equal, parts.coefs_, whole.coefs_))

    @pytest.mark.parametrize("given", ["seed", "instance", "nothing"])
    def test_rows_to_look_at_are_not_trained_on_in_the_next_call(self, given, monkeypatch):
        random = np.random.default_rng(0)
        noise, labels = random.normal(size=(200, 50)), random.integers(0, 2, 200)
        instance = np.random.RandomState(0)
        monkeypatch.setattr(np.random.mtrand, "_rand", instance)  # which is what scikit-learn takes where nothing is given
        random_state = {"seed": 0, "instance": instance, "nothing": None}[given]
        assert check_random_state(None) is instance
        model = MLPClassifier((50,), random_state=random_state, early_stopping=True, learning_rate_init=0.01)
        for _ in range(100):
            model.partial_fit(noise, labels, classes=[0, 1])
            instance.rand()  # for something else
        assert model.best_validation_score_ < 0.85

    def test_after_a_fit_it_goes_on_from_the_best_weights(self):
        model = classifier(early_stopping=True, max_iter=20, n_iter_no_change=100, learning_rate_init=0.5).fit(X, Y)
        assert np.argmax(model.validation_scores_) < 19  # the last weights are others
        best = model.coefs_[0].copy()
        model.set_params(learning_rate_init=1e-9).partial_fit(X, Y)
        assert abs(model._last_theta - model._best_theta).max() < 1e-6
        assert np.array_equal(model.coefs_[0], best)

    def test_weights_that_a_person_sets_are_gone_on_from(self):
        model = classifier(early_stopping=True).partial_fit(X, Y, classes=[0, 1, 2])
        model.coefs_ = [np.zeros_like(coef) for coef in model.coefs_]
        model.set_params(learning_rate_init=1e-9).partial_fit(X, Y)
        assert abs(model.coefs_[0]).max() < 1e-3

    def test_after_epochs_without_it_goes_on_from_their_weights(self):
        model = classifier(early_stopping=True).partial_fit(X, Y, classes=[0, 1, 2])
        model.set_params(early_stopping=False).partial_fit(X, Y, epochs=50)
        before = model.coefs_[0].copy()
        model.set_params(early_stopping=True, learning_rate_init=1e-12).partial_fit(X, Y)
        assert abs(model.coefs_[0] - before).max() < 1e-6

    @pytest.mark.parametrize("calls", ["fit", "partial_fit"])
    def test_scores_of_another_kind_are_not_compared(self, calls):
        model = classifier(early_stopping=True, warm_start=True)
        for scoring in (None, "neg_log_loss"):  # from 0 up, and from 0 down
            model.set_params(scoring=scoring)
            for _ in range(2):
                model.fit(X, Y) if calls == "fit" else model.partial_fit(X, Y, classes=[0, 1, 2], epochs=4)
        assert len(model.validation_scores_) == 8
        assert model.best_validation_score_ == max(model.validation_scores_) < 0

    @pytest.mark.parametrize("calls", ["fit", "partial_fit"])
    def test_scores_of_other_rows_are_not_compared(self, calls):
        model = classifier(early_stopping=True, warm_start=True, max_iter=20, n_iter_no_change=20)
        for y in (Y, (Y + 1) % 3):  # by the second, the best weights of the first are bad ones
            if calls == "fit":
                model.fit(X, y, X_val=X, y_val=y)
            else:
                model.partial_fit(X, y, classes=[0, 1, 2], epochs=20, X_val=X, y_val=y)
            assert model.best_validation_score_ == model.score(X, y) > 0.5

    @pytest.mark.parametrize("first", [True, False])
    @pytest.mark.parametrize("calls", ["fit", "partial_fit"])
    def test_may_be_switched(self, first, calls):
        model = classifier(warm_start=True, early_stopping=first)
        for early_stopping in (first, not first, first):
            model.set_params(early_stopping=early_stopping)
            if calls == "fit":
                model.fit(X, Y)
            else:
                model.partial_fit(X, Y, classes=[0, 1, 2])
            assert (model.validation_scores_ is not None) == early_stopping
            assert (model.best_loss_ is None) == early_stopping


class TestScoring:
    def test_by_weights(self):
        weight = np.random.default_rng(1).uniform(0, 3, len(X))
        options = {"X_val": X, "y_val": Y, "sample_weight_val": weight}
        scores = [
            classifier(early_stopping=True, scoring=one).fit(X, Y, **options).validation_scores_ for one in (None, "accuracy")
        ]
        assert scores[0] == pytest.approx(scores[1], abs=1e-12)
        with pytest.raises(ValueError, match="takes no sample weights"):
            classifier(early_stopping=True, scoring=lambda model, x, y: 0.5).fit(X, Y, **options)
        unweighted = classifier(early_stopping=True, scoring=lambda model, x, y: accuracy_score(y, model.predict(x))).fit(X, Y)
        assert len(unweighted.validation_scores_) == unweighted.n_iter_

    def test_of_a_table_warns_of_nothing(self):
        frame = pytest.importorskip("pandas").DataFrame(X, columns=list("abcdef"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = classifier(early_stopping=True, scoring="f1_macro").fit(frame, Y)
        assert "_checked_rows" not in vars(model)
        with pytest.warns(UserWarning, match="feature names"):
            model.predict(X)


class TestRefusals:
    PARAMETERS = (
        ({"dropout": [0.1, 0.2]}, "dropout must be one number or one for each"),
        ({"callbacks": [object()]}, "callbacks must be instances"),
        ({"callbacks": [object()], "solver": "lbfgs"}, "callbacks must be instances"),
        ({"weight_decay": 0.1, "solver": "lbfgs"}, r"weight_decay=0\.1 needs"),
        ({"early_stopping": True, "scoring": "acuracy"}, "acuracy"),
        ({"early_stopping": True, "scoring": accuracy_score}, "scor"),
    )

    @pytest.mark.parametrize(("options", "message"), PARAMETERS)
    @pytest.mark.parametrize("data", [(X, Y), ([(X, Y)],)], ids=["arrays", "source"])
    def test_of_parameters_leave_it_as_it_was_too(self, options, message, data):
        model = classifier().fit(X, Y).set_params(**options)
        expected = model.predict_proba(X)
        with pytest.raises((ValueError, TypeError), match=message):
            model.fit(*data, X_val=X, y_val=Y)
        assert np.array_equal(model.predict_proba(X), expected)

    @pytest.mark.parametrize(("sizes", "dtype"), [((6, 3), "float16"), ((4, 1), "float64")])
    def test_of_a_build_leave_it_as_it_was_too(self, sizes, dtype):
        model = classifier().fit(X, np.array(["a", "b", "c"])[Y])
        expected = model.predict(X)
        with pytest.raises(ValueError, match=r"dtype must be 'float32' or 'float64'|at least 2 classes"):
            model.build(*sizes, dtype=dtype)
        assert np.array_equal(model.predict(X), expected)

    @pytest.mark.parametrize("wrong", [
        {"sample_weight": np.r_[-1.0, np.ones(119)]}, {"sample_weight": np.ones(5)}, {"X_val": X[:, :3], "y_val": Y},
    ])  # fmt: skip
    @pytest.mark.parametrize("y", [Y, np.array(["a", "b"])[(Y > 0).astype(int)]])
    def test_leave_the_model_as_it_was(self, wrong, y):
        model = classifier().fit(X, Y)
        expected = model.predict_proba(X)
        with pytest.raises(ValueError, match=r"weight|features"):
            model.fit(X, y, **wrong)
        assert np.array_equal(model.predict_proba(X), expected)
        assert model.predict(X).dtype == Y.dtype

    @pytest.mark.parametrize(("options", "wrong", "message"), [
        ({}, {"sample_weight": np.ones(5)}, "weight"), *((options, {}, message) for options, message in PARAMETERS),
    ])  # fmt: skip
    def test_of_a_first_fit_leave_it_unfitted(self, options, wrong, message):
        model = classifier(**options)
        with pytest.raises((ValueError, TypeError), match=message):
            model.fit(X, Y, **wrong)
        assert vars(model) == vars(classifier(**options))

    def test_targets_of_another_kind(self):
        model, labels = classifier().fit(X, Y), np.eye(3, dtype=int)[Y]
        with pytest.raises(ValueError, match=r"y must be one class for each sample.*\(120, 3\)"):
            model.partial_fit(X, labels)
        with pytest.raises(ValueError, match="y must be one class for each sample"):
            classifier().fit(X, Y, X_val=X, y_val=labels)
        with pytest.raises(ValueError, match="y must be an indicator for each label"):
            classifier(warm_start=True).fit(X, labels).fit(X, Y)

    def test_a_quantile_of_another_loss(self):
        with pytest.raises(ValueError, match=r"quantile=0\.9 is of loss='pinball'"):
            regressor(quantile=0.9).fit(X, TWO)

    def test_a_truth_value_as_a_size(self):
        with pytest.raises(ValueError, match="hidden_layer_sizes"):
            MLPClassifier((True,)).fit(X, Y)


class TestTransform:
    def test_tables_are_of_the_last_layer(self):
        pandas = pytest.importorskip("pandas")
        model = MLPClassifier((8, 4), **OPTIONS).set_output(transform="pandas").fit(pandas.DataFrame(X, columns=list("abcdef")), Y)
        rows = pandas.DataFrame(X, columns=list("abcdef"))
        assert list(model.transform(rows).columns) == [f"mlpclassifier{unit}" for unit in range(4)]
        assert model.transform(rows, layer=1).shape == (120, 4)
        with pytest.raises(ValueError, match=r"for layer=0, ask for an array first"):
            model.transform(rows, layer=0)
        assert model.set_output(transform="default").transform(rows, layer=0).shape == (120, 8)

    @pytest.mark.parametrize("layer", ["a", None, 1.0, True])
    def test_layers_are_numbered(self, layer):
        with pytest.raises(ValueError, match="layer must be from -1 to 0"):
            classifier().fit(X, Y).transform(X, layer=layer)


def test_lbfgs_has_a_best_loss():
    model = classifier(solver="lbfgs").fit(X, Y)
    assert model.best_loss_ == pytest.approx(min(model.loss_curve_))


class TestWhoIsTold:
    """Warnings name the line that called, and an estimator without a network says that it has none."""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"max_iter": 1}, "Maximum iterations"),
            ({"max_iter": 1, "solver": "lbfgs"}, "lbfgs failed to converge"),
            ({"max_iter": 500, "tol": 1.0, "batch_size": 1000}, "Got `batch_size` less than 1 or larger"),
        ],
    )
    def test_warnings_point_at_the_caller(self, options, message):
        x = np.random.default_rng(0).normal(size=(50, 4))
        with pytest.warns(Warning, match=message) as caught:
            MLPClassifier((4,), random_state=0, **options).fit(x, x[:, 0] > 0)
        assert [one.filename for one in caught if message in str(one.message)] == [__file__]

    def test_an_interrupt_points_at_the_caller(self):
        class Interrupt(Callback):
            def on_epoch_end(self, run):
                raise KeyboardInterrupt

        x = np.random.default_rng(0).normal(size=(50, 4))
        with pytest.warns(UserWarning, match="interrupted by user") as caught:
            MLPClassifier((4,), callbacks=[Interrupt()]).fit(x, x[:, 0] > 0)
        assert caught[0].filename == __file__

    def test_after_a_first_partial_fit_that_was_refused(self):
        x = np.random.default_rng(0).normal(size=(50, 4))
        model = MLPClassifier((4,))
        with pytest.raises(ValueError, match="has classes not in"):
            model.partial_fit(x, np.full(50, 5), classes=[0, 1])
        with pytest.raises(NotFittedError):
            model.predict(x)
        model.partial_fit(x, x[:, 0] > 0, classes=[False, True])  # other ones, as in a first call
        assert set(model.predict(x)) <= {False, True}

    def test_weights_of_the_classes_of_several_labels(self):
        x = np.random.default_rng(0).normal(size=(50, 4))
        y = (x[:, :2] > 0).astype(int)
        given = classifier(class_weight=[{0: 1, 1: 2}, {0: 3, 1: 1}]).fit(x, y)
        rows = np.where(y[:, 0], 2, 1) * np.where(y[:, 1], 1, 3)
        assert np.array_equal(given.predict_proba(x), classifier().fit(x, y, rows).predict_proba(x))


def test_no_weights_are_drawn_that_are_not_used(monkeypatch):
    model = classifier().fit(X, Y)
    data, expected = pickle.dumps(model), model.transform(X)
    drawn, draw = [], Initializer.draw
    monkeypatch.setattr(Initializer, "draw", lambda self, *given: drawn.append(self.name) or draw(self, *given))
    np.testing.assert_array_equal(pickle.loads(data).transform(X), expected)
    assert set(drawn) == {"zeros"}


def textual(z):
    return float(str(z))


class TestRefusedAsTheTrainingBegins:
    """By a callback, or by numba, which cannot compile a function: later than parameters are looked at."""

    class Refuse(Callback):
        def on_train_begin(self, run):
            raise OSError("no room")

    @pytest.mark.parametrize("options", [{"callbacks": [Refuse()]}, {"activation": textual}], ids=["callback", "function"])
    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    @pytest.mark.parametrize("data", [(X, Y), ([(X, Y)],)], ids=["arrays", "source"])
    def test_a_fit_leaves_it_as_it_was(self, options, solver, data):
        model = classifier(solver=solver).fit(*data)
        expected, before = model.predict_proba(X), (model.n_iter_, model.loss_, [*model.loss_curve_])
        with pytest.raises((OSError, TypeError), match=r"no room|numba cannot compile"):
            model.set_params(**options).fit(*data)
        assert np.array_equal(model.predict_proba(X), expected)
        assert (model.n_iter_, model.loss_, model.loss_curve_) == before
        with pytest.raises((OSError, TypeError)):
            (first := clone(model)).fit(*data)
        with pytest.raises(NotFittedError):
            first.predict(X)

    def test_a_partial_fit_that_would_go_on_from_other_weights_does_too(self):
        model = classifier(early_stopping=True, learning_rate_init=0.5, n_iter_no_change=100)
        model.partial_fit(X, Y, classes=[0, 1, 2], epochs=20)
        expected = model.predict_proba(X)
        assert not np.array_equal(model._last_theta, model._best_theta)
        with pytest.raises(OSError, match="no room"):
            model.set_params(callbacks=[self.Refuse()]).partial_fit(X, Y)
        assert np.array_equal(model.predict_proba(X), expected)


class Fail(Callback):
    """In the last epoch of a call, or an iteration."""

    def __init__(self, error, epoch=None):
        self.error, self.epoch = error, epoch

    def on_epoch_end(self, run):
        if run.epoch == (self.epoch or run.epochs):
            raise self.error


def test_after_an_error_partial_fit_goes_on_from_the_weights_there_are():
    model = classifier(early_stopping=True, scoring="neg_log_loss", learning_rate_init=0.003)
    model.partial_fit(X, Y, classes=[0, 1, 2], epochs=3)
    with pytest.raises(RuntimeError):
        model.set_params(callbacks=[Fail(RuntimeError())]).partial_fit(X, Y, epochs=20)
    before = model._network.theta
    assert np.array_equal(before, model._best_theta)  # the last epoch was the best one
    model.set_params(callbacks=(), learning_rate_init=1e-12).partial_fit(X, Y)
    assert abs(model._last_theta - before).max() < 1e-6


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_lbfgs_keeps_account_until_it_is_stopped(error):
    model = classifier(solver="lbfgs", max_iter=50, callbacks=[Fail(error(), epoch=5)])
    with pytest.warns(UserWarning, match="interrupted") if error is KeyboardInterrupt else pytest.raises(error):
        model.fit(X, Y)
    assert model.n_iter_ == len(model.loss_curve_) == 5
    assert model.loss_ == model.loss_curve_[-1]
    assert model.best_loss_ == min(model.loss_curve_)


def test_lbfgs_keeps_the_last_iteration_where_rows_cannot_be_read_any_more():
    class Rows:
        passes = 0

        def __iter__(self):
            self.passes += 1
            if self.passes > 20:
                raise OSError("disk gone")
            return iter([(X[:60], Y[:60]), (X[60:], Y[60:])])

    kept = []

    class Keep(Callback):
        def on_epoch_end(self, run):
            kept.append(run.network.theta)

    model = classifier(solver="lbfgs", max_iter=500, callbacks=[Keep()])
    with pytest.raises(OSError, match="disk gone"):
        model.fit(Rows(), buffer_bytes=1)
    assert np.array_equal(model._network.theta, kept[-1])
    assert model.n_iter_ == len(kept)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_callbacks_see_the_losses(solver):
    seen = []

    class See(Callback):
        def on_epoch_end(self, run):
            seen.append([*run.network.loss_curve_])

    model = classifier(solver=solver, max_iter=3, callbacks=[See()]).fit(X, Y)
    assert seen == [model.loss_curve_[:1], model.loss_curve_[:2], model.loss_curve_]


def test_early_stopping_by_a_callback_counts_across_calls():
    model = classifier(callbacks=[EarlyStopping(patience=3, tolerance=10.0)])
    model.partial_fit(X, Y, classes=[0, 1, 2], epochs=10)
    model.partial_fit(X, Y, epochs=10)
    assert len(model.loss_curve_) == 4 + 1


@pytest.mark.parametrize("schedule", ["constant", Constant()])
def test_lbfgs_takes_the_constant_schedule(schedule):
    classifier(solver="lbfgs", learning_rate_schedule=schedule).fit(X, Y)


@pytest.mark.parametrize("container", [tuple, np.array, "pandas", "polars"])
def test_dropout_in_any_container(container):
    if isinstance(container, str):
        container = pytest.importorskip(container).Series
    model = MLPClassifier((4, 3), dropout=container([0.1, 0.2]), max_iter=2).fit(X, Y)
    assert len(model.coefs_) == 3
    with pytest.raises(ValueError, match="dropout must be at least 0 and below 1"):
        check_dropout(np.array(1.5), 1)


def test_rows_that_weigh_nothing_are_told_of_by_what_made_them_so():
    with pytest.raises(ValueError, match="All rows have the weight 0, by their class_weight"):
        classifier(class_weight={0: 0, 1: 1}).partial_fit(X[Y == 0], Y[Y == 0], classes=[0, 1])
    for row in range(4):  # of the first rows, at least one is in either part
        with pytest.raises(ValueError, match=r"the split leaves none to (train|validate) on; give X_val"):
            classifier(early_stopping=True, validation_fraction=0.5).fit(X, Y, np.eye(len(X))[row])


@pytest.mark.parametrize(
    "fit",
    [
        lambda x, y: MLPClassifier((3,), epsilon=1e-40, max_iter=2).fit(x, y),
        lambda x, y: MLP((6, 3, 1)).fit(x, y, epochs=1, batch_size=9, optimizer=OPTIMIZERS["adam"](epsilon=1e-40)),
    ],
)
def test_an_epsilon_that_is_nothing_in_float32(fit):
    x, y = np.zeros((9, 6), np.float32), np.arange(9) % 2
    with pytest.raises(ValueError, match=r"epsilon=1e-40 is 0 in float32.*or use float64"):
        fit(x, y)
    MLP((6, 3, 1), dtype="float64").fit(x, y, epochs=1, batch_size=9, optimizer=OPTIMIZERS["adam"](epsilon=1e-40))


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_callbacks_of_scikit_learn_are_torn_down_after_a_refusal(solver):
    """Some of them have threads, for which the process would wait at its end."""
    pytest.importorskip("sklearn.callback")
    told = []

    class Theirs:
        def setup(self, estimator, context):
            told.append("setup")

        def teardown(self, estimator, context):
            told.append("teardown")

        def on_fit_task_begin(self, estimator, context): ...

        def on_fit_task_end(self, estimator, context): ...

    model = classifier(solver=solver, callbacks=[TestRefusedAsTheTrainingBegins.Refuse()]).set_callbacks(Theirs())
    with pytest.raises(OSError, match="no room"):
        model.fit(X, Y)
    assert told == ["setup", "teardown"]
    assert not {"_callback_fit_ctx", "_skl_callbacks_to_teardown"} & set(vars(model))


def test_lbfgs_that_is_interrupted_before_it_begins_has_no_loss():
    class Interrupt(Callback):
        def on_train_begin(self, run):
            raise KeyboardInterrupt

    model = classifier(solver="lbfgs").fit(X, Y)
    for one in (model, clone(model)):
        with pytest.warns(UserWarning, match="interrupted"):
            one.set_params(callbacks=[Interrupt()]).fit(X, Y)
        assert (one.n_iter_, one.loss_curve_) == (0, [])
        assert np.isnan(one.loss_)
