"""MLPClassifier and MLPRegressor beside scikit-learn's, and what they have beyond them."""

from __future__ import annotations

import copy
import pickle
import warnings

import joblib
import numpy as np
import pytest
from scipy import sparse
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, make_classification, make_multilabel_classification, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastmlp
from fastmlp import ACTIVATIONS, LOSSES, MLPClassifier, MLPRegressor
from fastmlp.callbacks import Callback
from fastmlp.exceptions import DivergenceError


@parametrize_with_checks([MLPClassifier(max_iter=100), MLPRegressor(max_iter=100)])
def test_scikit_learn_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks train on a handful of rows, and ignore what they warn of
        check(estimator)


# --- parity -------------------------------------------------------------------------------------------------------------------

SOLVERS = {
    "adam": {"solver": "adam"},
    "sgd": {"solver": "sgd", "momentum": 0, "learning_rate_init": 0.1},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False, "learning_rate_init": 0.01},
    "nesterov": {"solver": "sgd", "learning_rate_init": 0.01},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1, "power_t": 0.2},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 2, "learning_rate_init": 0.01},
}


class InterruptInThirdEpoch(Callback):
    def on_epoch_end(self, run):
        if run.epoch == 3:
            raise KeyboardInterrupt


def data(task):
    if task == "binary":
        x, y = make_classification(250, 8, random_state=0)
        return x, np.array(["no", "yes"])[y]
    if task == "multiclass":
        return make_classification(250, 8, n_informative=5, n_classes=4, random_state=0)
    if task == "multilabel":
        return make_multilabel_classification(250, 8, n_classes=3, random_state=0)
    x, y = make_regression(250, 8, random_state=0)
    y = y / y.std()
    return (x, np.round(np.exp(y / 2))) if task == "poisson" else (x, y)


def pair(task, **options):
    name = "MLPRegressor" if task in ("regression", "poisson") else "MLPClassifier"
    if task == "poisson":
        options["loss"] = "poisson"
    return getattr(fastmlp, name)(**options), getattr(theirs, name)(**options)


def fitted(task, weight=None, **options):
    x, y = data(task)
    estimators = pair(task, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for estimator in estimators:
            estimator.fit(x, y, sample_weight=weight)
    return x, y, *estimators


TASKS = ["binary", "multiclass", "multilabel", "regression", "poisson"]


class TestParity:
    @pytest.mark.parametrize("task", TASKS)
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_parameters_follow(self, task, solver):
        options = {"hidden_layer_sizes": (11, 5), "activation": "tanh", "batch_size": 64, "alpha": 0.05, "max_iter": 10}
        x, y, ours, sklearns = fitted(task, shuffle=False, random_state=3, **options, **SOLVERS[solver])
        for mine, other in zip([*ours.coefs_, *ours.intercepts_], [*sklearns.coefs_, *sklearns.intercepts_], strict=True):
            assert mine.dtype == other.dtype
            np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(ours.loss_curve_, sklearns.loss_curve_, rtol=1e-3)  # theirs has the penalty of every step
        np.testing.assert_allclose(ours.loss_curve_[0], sklearns.loss_curve_[0], rtol=3e-4)
        if y.dtype.kind != "f":
            np.testing.assert_array_equal(ours.predict(x), sklearns.predict(x))
        for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
            assert getattr(ours, name) == getattr(sklearns, name), name

    @pytest.mark.parametrize("task", TASKS)
    def test_losses_at_the_default_penalty(self, task):
        _, _, ours, sklearns = fitted(task, shuffle=False, random_state=3, batch_size=64, max_iter=10)
        np.testing.assert_allclose(ours.loss_curve_, sklearns.loss_curve_, rtol=1e-6)
        assert ours.best_loss_ == min(ours.loss_curve_)

    @pytest.mark.parametrize(("batch_size", "rtol"), [(250, 1e-9), (125, 3e-3)])
    def test_losses_at_a_strong_penalty(self, batch_size, rtol):
        """That of the last step's weights is of those before it, by which a training ends where theirs does."""
        options = {"batch_size": batch_size, "alpha": 5.0, "solver": "sgd", "learning_rate_init": 0.05, "n_iter_no_change": 2}
        _, _, ours, sklearns = fitted("regression", shuffle=False, random_state=3, max_iter=100, **options)
        assert ours.n_iter_ == sklearns.n_iter_
        np.testing.assert_allclose(ours.loss_curve_, sklearns.loss_curve_, rtol=rtol)

    @pytest.mark.parametrize("task", TASKS)
    def test_initial_weights_are_theirs(self, task):
        for activation in ("relu", "logistic"):
            _, _, ours, sklearns = fitted(task, activation=activation, max_iter=1, learning_rate_init=1e-9, random_state=5)
            for mine, other in zip(ours.coefs_, sklearns.coefs_, strict=True):
                np.testing.assert_allclose(mine, other, atol=1e-6)

    @pytest.mark.parametrize("task", TASKS)
    def test_sample_weights(self, task):
        weight = np.random.default_rng(0).uniform(0.1, 2, 250)
        _, _, ours, sklearns = fitted(task, weight, shuffle=False, random_state=3, alpha=0.1, max_iter=5)
        for mine, other in zip(ours.coefs_, sklearns.coefs_, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-6)

    def test_losses_by_sample_weights(self):
        """Over all rows at once, so that the way in which they are divided does not count."""
        weight = np.random.default_rng(0).uniform(0.1, 2, 250)
        options = {"alpha": 0, "learning_rate_init": 1e-12, "max_iter": 1, "random_state": 3}
        at_once, divided = (fitted("regression", weight, batch_size=rows, **options)[2:] for rows in (250, 50))
        assert divided[0].loss_ == pytest.approx(at_once[0].loss_, rel=1e-9)
        assert at_once[1].loss_ == pytest.approx(at_once[0].loss_, rel=1e-9)
        assert divided[1].loss_ != pytest.approx(at_once[1].loss_, rel=1e-4)

    @pytest.mark.parametrize("task", TASKS)
    def test_lbfgs(self, task):
        options = {"solver": "lbfgs", "random_state": 1, "alpha": 1.0, "hidden_layer_sizes": (4,), "max_iter": 1000, "tol": 1e-6}
        options["activation"] = "identity"  # has no other minima to end in
        _, _, ours, sklearns = fitted(task, **options)
        assert ours.loss_ == pytest.approx(sklearns.loss_, rel=1e-4)
        assert ours.loss_curve_[-1] == pytest.approx(ours.loss_)
        assert ours.loss_curve_[0] > ours.loss_
        assert not hasattr(ours, "partial_fit")

    def test_squared_error_of_several_outputs_has_its_own_gradient(self):
        x, y = make_regression(60, 4, n_targets=3, random_state=0)
        ours, sklearns = pair("regression", solver="sgd", momentum=0, shuffle=False, alpha=0, random_state=1, max_iter=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            ours.set_params(learning_rate_init=3e-4).fit(x, y)
            sklearns.set_params(learning_rate_init=1e-4).fit(x, y)
        assert ours.loss_ == pytest.approx(sklearns.loss_)  # the same mean over the outputs...
        for mine, other in zip(ours.coefs_, sklearns.coefs_, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-9)  # ...and a third of their gradient

    @pytest.mark.parametrize("task", TASKS)
    def test_early_stopping(self, task):
        options = {"early_stopping": True, "random_state": 2, "max_iter": 30, "n_iter_no_change": 3, "shuffle": False}
        _, _, ours, sklearns = fitted(task, **options)
        np.testing.assert_allclose(ours.validation_scores_, sklearns.validation_scores_, rtol=1e-6)
        for mine, other in zip(ours.coefs_, sklearns.coefs_, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)
        assert len(ours.validation_scores_) == ours.n_iter_
        assert ours.best_validation_score_ == max(ours.validation_scores_)
        assert ours.n_iter_ == sklearns.n_iter_
        assert ours.best_loss_ is None
        assert len(ours.validation_loss_curve_) == ours.n_iter_

    def test_warnings(self):
        x, y = data("binary")
        for estimator in pair("binary", max_iter=2):
            with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
                estimator.fit(x, y)
            with pytest.warns(UserWarning, match="clipped"):
                estimator.set_params(batch_size=1000).partial_fit(x, y, classes=["no", "yes"])

    def test_warnings_of_l_bfgs(self):
        x, y = data("binary")
        for estimator in pair("binary", solver="lbfgs", max_iter=2):
            with pytest.warns(ConvergenceWarning, match=r"\n\nIncrease the number of iterations .*\(max_iter"):
                estimator.fit(x, y)
        with pytest.warns(ConvergenceWarning, match=r"LIMIT\n\nYou might also want to scale"):
            MLPClassifier(solver="lbfgs", max_fun=2).fit(x, y)

    def test_verbose(self, capsys):
        x, y = data("binary")
        printed = []
        for estimator in pair("binary", max_iter=3, tol=10.0, n_iter_no_change=1, verbose=True, random_state=0, shuffle=False):
            estimator.fit(x, y)
            printed.append(capsys.readouterr().out)
        assert printed[0].splitlines()[0] == printed[1].splitlines()[0]
        assert printed[0].splitlines()[-1] == printed[1].splitlines()[-1]

    @pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
    def test_parameters_and_defaults_are_theirs(self, estimator):
        mine, other = estimator().get_params(), getattr(theirs, estimator.__name__)().get_params()
        assert other.items() <= mine.items()

    def test_scores_on_digits(self):
        x, y = load_digits(return_X_y=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            scores = [
                cross_val_score(estimator, x, y, cv=3).mean() for estimator in pair("multiclass", random_state=0, max_iter=30)
            ]
        assert scores[0] == pytest.approx(scores[1], abs=0.02)


# --- data and protocols -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix, sparse.csc_array, sparse.coo_array])
def test_containers_and_dtypes(container, dtype):
    x, y = data("multiclass")
    x = x.astype(dtype) * (np.abs(x) > 0.5)
    ours = MLPClassifier(random_state=0, max_iter=40, tol=0.0, n_iter_no_change=50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours.fit(container(x), y)
        expected = clone(ours).fit(x, y)
    assert {array.dtype for array in [*ours.coefs_, *ours.intercepts_, ours.predict_proba(container(x))]} == {np.dtype(dtype)}
    np.testing.assert_allclose(ours.predict_proba(container(x)), expected.predict_proba(x), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("round_trip", [lambda e: pickle.loads(pickle.dumps(e)), "joblib"])
def test_pickle(round_trip, tmp_path):
    x, y = data("binary")
    ours = MLPClassifier(random_state=0, max_iter=5, tol=10.0, n_iter_no_change=2).fit(x, y)
    if round_trip == "joblib":
        joblib.dump(ours, tmp_path / "model")
        again = joblib.load(tmp_path / "model")
    else:
        again = round_trip(ours)
    np.testing.assert_array_equal(again.predict_proba(x), ours.predict_proba(x))
    np.testing.assert_array_equal(again.partial_fit(x, y).coefs_[0], ours.partial_fit(x, y).coefs_[0])
    assert "_network" not in ours.__getstate__()


def test_weights_that_are_assigned_are_used():
    x, y = data("regression")
    ours = MLPRegressor(random_state=0, max_iter=3, tol=10.0, n_iter_no_change=1).fit(x, y)
    before = ours.predict(x)
    ours.coefs_[-1] = ours.coefs_[-1] * 2
    ours.intercepts_[-1] *= 2
    np.testing.assert_allclose(ours.predict(x), 2 * before, rtol=1e-12)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(ours)).predict(x), 2 * before, rtol=1e-12)
    swapped = MLPRegressor(hidden_layer_sizes=(4, 4), random_state=0).build(x.shape[1], 1)
    first, second = (intercept.copy() for intercept in swapped.intercepts_[:2])
    swapped.intercepts_[0], swapped.intercepts_[1] = swapped.intercepts_[1], swapped.intercepts_[0]
    swapped.predict(x)
    np.testing.assert_array_equal(swapped._network.b[0][0], second)
    np.testing.assert_array_equal(swapped._network.b[1][0], first)
    swapped.intercepts_[0] = np.zeros(4)
    swapped.partial_fit(x, y)
    assert swapped.intercepts_[0].any()  # what is learned stays
    assert swapped._synchronized().b[0].any()
    ours = MLPRegressor(random_state=0).build(x.shape[1], 1)
    before, was = ours.predict(x), ours.intercepts_[-1].copy()
    ours.intercepts_[-1] = ours.coefs_[-1][0]  # a part of another of the network's arrays
    np.testing.assert_allclose(ours.predict(x), before - was + ours.coefs_[-1][0], rtol=1e-12)


@pytest.mark.parametrize("hidden", [3, 4])
@pytest.mark.parametrize("activation", ["sigmoid", ["logistic"], ["sigmoid"], ACTIVATIONS["sigmoid"]], ids=str)
def test_names_of_an_activation_begin_with_the_same_weights(activation, hidden):
    expected = MLPClassifier((hidden,), "logistic", random_state=0).build(4, 3)
    ours = MLPClassifier((hidden,), activation, random_state=0).build(4, 3)
    for one, other in zip(ours.coefs_, expected.coefs_, strict=True):
        np.testing.assert_array_equal(one, other)


def test_threads_may_be_set_later():
    x, y = data("multiclass")
    ours = quiet(MLPClassifier(max_iter=2, random_state=0), x, y).set_params(n_threads=1)
    ours.partial_fit(x, y)
    assert ours._network.n_threads == 1


def test_grid_search_over_a_pipeline():
    x, y = data("multiclass")
    search = GridSearchCV(
        make_pipeline(StandardScaler(), MLPClassifier(max_iter=500, random_state=0, learning_rate_init=0.01, tol=1e-3)),
        {"mlpclassifier__alpha": [1e-4, 1e-1], "mlpclassifier__hidden_layer_sizes": [(5,), (20,)]},
        cv=2, n_jobs=2,
    )  # fmt: skip
    search.fit(x, y)
    assert search.best_score_ > 0.5


# --- beyond scikit-learn --------------------------------------------------------------------------------------------------------


def quiet(estimator, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(*args, **kwargs)


class TestRowsToPredict:
    """A few plain rows are looked at sooner than scikit-learn does, and are refused as it does."""

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda x: np.where(x == x.max(), np.nan, x), "Input X contains NaN"),
            (lambda x: np.where(x == x.max(), np.inf, x), "Input X contains infinity"),
            (lambda x: x[:, 1:], "X has 7 features, but MLPClassifier is expecting 8"),
            (lambda x: x[0], "Expected 2D array, got 1D array"),
            (lambda x: x[:0], "Found array with 0 sample"),
            (lambda x: x + 1j, "Complex data not supported"),
        ],
    )
    @pytest.mark.parametrize("rows", [3, 2000])
    def test_refused(self, rows, change, message):
        x, y = data("multiclass")
        ours = quiet(MLPClassifier(max_iter=2, random_state=0), x, y)
        with pytest.raises(ValueError, match=message):
            ours.predict(change(np.resize(x, (rows, 8))))

    @pytest.mark.parametrize("form", [lambda x: x.astype(">f8"), np.asfortranarray, lambda x: x[::-1][::-1], lambda x: x * 1e160])
    @pytest.mark.parametrize("task", ["multiclass", "regression"])
    def test_taken(self, task, form):
        x, y = data(task)
        ours = quiet(pair(task, max_iter=2, random_state=0)[0], x, y)
        given = form(x[:7])
        expected = ours._synchronized().predict(np.ascontiguousarray(given, np.float64))
        np.testing.assert_array_equal(ours.predict(given), ours._predictions(expected))

    def test_names_are_missed(self):
        pandas = pytest.importorskip("pandas")
        x, y = data("multiclass")
        ours = quiet(MLPClassifier(max_iter=2, random_state=0), pandas.DataFrame(x, columns=list("abcdefgh")), y)
        with pytest.warns(UserWarning, match="X does not have valid feature names"):
            ours.predict(x[:3])


class TestPartialFit:
    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("task", ["multiclass", "regression"])
    def test_equals_fit(self, task, solver):
        x, y = data(task)
        options = {"batch_size": 32, "random_state": 4, "n_iter_no_change": np.inf, **SOLVERS[solver]} | {
            "n_iter_no_change": np.inf
        }
        at_once = quiet(pair(task, max_iter=6, **options)[0], x, y)
        by_call, by_epochs = (pair(task, max_iter=6, **options)[0] for _ in range(2))
        classes = {"classes": np.unique(y)} if task == "multiclass" else {}
        for _ in range(6):
            by_call.partial_fit(x, y, **classes)
        by_epochs.partial_fit(x, y, **classes, epochs=2).partial_fit(x, y, epochs=4)
        for other in (by_call, by_epochs):
            assert other.loss_curve_ == at_once.loss_curve_
            for mine, expected in zip(other.coefs_, at_once.coefs_, strict=True):
                np.testing.assert_array_equal(mine, expected)

    def test_is_theirs_where_the_rate_falls(self):
        """After each epoch, also those after which a fit would have ended."""
        x, y = data("multiclass")
        options = {"batch_size": 64, "shuffle": False, "random_state": 3, "tol": 10.0, "n_iter_no_change": 1}
        ours, sklearns = pair("multiclass", **options, **SOLVERS["invscaling"])
        for _ in range(8):
            for estimator in (ours, sklearns):
                estimator.partial_fit(x, y, classes=np.unique(y))
        for mine, other in zip(ours.coefs_, sklearns.coefs_, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("y", [[0, 1, 7], [-1, 0, 1], [0.0, 1.0, 2.5], ["0", "1", "x"], "the other task's"])
    @pytest.mark.parametrize("task", ["multiclass", "multilabel"])
    def test_other_targets_than_those_of_the_first_call(self, task, y):
        x, first = data(task)
        ours = MLPClassifier(random_state=0).partial_fit(x, first, classes=np.arange(3 if task == "multilabel" else 4))
        if y == "the other task's":
            y = [0, 1, 2] if task == "multilabel" else [[1, 0, 0], [0, 1, 0], [1, 1, 0]]
        with pytest.raises((ValueError, TypeError)):
            ours.partial_fit(x[:3], np.array(y))

    def test_early_stopping(self):
        x, y = data("binary")
        ours = MLPClassifier(early_stopping=True, random_state=0)
        for _ in range(3):
            ours.partial_fit(x[:200], y[:200], classes=["no", "yes"], X_val=x[200:], y_val=y[200:])
        assert len(ours.validation_scores_) == 3
        assert ours.score(x[200:], y[200:]) == max(ours.validation_scores_)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("form", [lambda y: (255 * y).astype(np.uint8), lambda y: 2.0 * y, lambda y: sparse.csr_array(-y)])
def test_a_label_is_there_by_any_number_but_0(form, early_stopping):
    x, y = data("multilabel")
    options = {"max_iter": 5, "random_state": 0, "early_stopping": early_stopping}
    expected, ours = (quiet(MLPClassifier(**options), x, targets) for targets in (y, form(y)))
    np.testing.assert_array_equal(ours.coefs_[0], expected.coefs_[0])
    assert ours.loss_curve_ == expected.loss_curve_
    assert ours.validation_scores_ == expected.validation_scores_
    ours.partial_fit(x, form(y), classes=np.arange(3))
    np.testing.assert_array_equal(ours.coefs_[0], expected.partial_fit(x, y, classes=np.arange(3)).coefs_[0])


def test_targets_keep_their_number():
    x, y = np.random.default_rng(0).normal(size=(2, 50, 3))
    two, one = y[:, :2], y[:, 0]
    message = r"y has {} target\(s\) for each row, but the network was made for {}; give as many"
    reg = MLPRegressor(random_state=0).partial_fit(x, two)
    with pytest.raises(ValueError, match=message.format(1, 2)):
        reg.partial_fit(x, one)
    with pytest.raises(ValueError, match=message.format(1, 2)):
        MLPRegressor(random_state=0).fit(x, two, X_val=x, y_val=one)
    reg = quiet(MLPRegressor(random_state=0, warm_start=True, max_iter=2), x, one)
    with pytest.raises(ValueError, match=message.format(2, 1)):
        quiet(reg, x, two)


def test_warm_start_keeps_the_optimizer():
    x, y = data("regression")
    options = {"random_state": 4, "n_iter_no_change": np.inf}
    once = quiet(MLPRegressor(max_iter=6, **options), x, y)
    twice = quiet(quiet(MLPRegressor(max_iter=3, warm_start=True, **options), x, y), x, y)
    for mine, expected in zip(twice.coefs_, once.coefs_, strict=True):
        np.testing.assert_array_equal(mine, expected)


class TestValidation:
    def test_own_rows(self):
        x, y = data("regression")
        ours = quiet(MLPRegressor(random_state=0, max_iter=8), x[:200], y[:200], X_val=x[200:], y_val=y[200:])
        assert len(ours.validation_loss_curve_) == 8
        expected = 0.5 * np.mean((ours.predict(x[200:]) - y[200:]) ** 2)
        assert ours.validation_loss_curve_[-1] == pytest.approx(expected, rel=1e-9)

    def test_in_a_pipeline(self):
        import sklearn

        x, y = data("regression")
        with sklearn.config_context(enable_metadata_routing=True):
            estimator = MLPRegressor(random_state=0, max_iter=8).set_fit_request(X_val=True, y_val=True)
            pipeline = make_pipeline(StandardScaler(), estimator)
            pipeline.set_params(transform_input=["X_val"])
            quiet(pipeline, x[:200], y[:200], X_val=x[200:], y_val=y[200:])
        expected = 0.5 * np.mean((pipeline.predict(x[200:]) - y[200:]) ** 2)
        assert estimator.validation_loss_curve_[-1] == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("what", ["sample_weight", "y", "X"])
    def test_a_row_that_is_refused_has_the_number_that_it_was_given_with(self, what):
        x, y = data("regression")
        given = {"X": x.copy(), "y": y.copy(), "sample_weight": np.ones(len(x))}
        model = MLPRegressor(early_stopping=True, warm_start=True, random_state=0).build(x.shape[1], 1, dtype="float32")
        given[what][57] = -1 if what == "sample_weight" else 1e200  # infinite in float32
        with pytest.raises(ValueError, match=rf"{what} must .* in row 57\b"):
            model.fit(**given)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"sample_weight_val": [1, 1, -1]}, "sample_weight must not be negative, got -1 in row 2"),
            ({"sample_weight_val": [1, 1]}, r"sample_weight.shape == \(2,\), expected \(3,\)"),
            ({"sample_weight_val": [0, 0, 0]}, "."),
            ({"y_val": [0, 1e200, 0]}, "y must hold finite numbers in the range of float32, got inf in row 1"),
        ],
    )
    def test_what_is_wrong_with_own_rows_is_told_of_them(self, given, message):
        x, y = data("regression")
        with pytest.raises(ValueError, match=f"^X_val, y_val: .*{message}"):
            MLPRegressor().fit(x.astype(np.float32), y, np.ones(len(x)), **{"X_val": x[:3], "y_val": y[:3]} | given)

    def test_the_best_weights_are_kept(self):
        x, y = data("multiclass")
        ours = MLPClassifier(early_stopping=True, scoring="neg_log_loss", random_state=0, max_iter=100, n_iter_no_change=5)
        quiet(ours, x[:150], y[:150], X_val=x[150:], y_val=y[150:])
        probabilities = ours.predict_proba(x[150:])
        assert np.log(probabilities[np.arange(100), y[150:]]).mean() == pytest.approx(max(ours.validation_scores_), rel=1e-9)
        assert ours.validation_scores_[-1] <= max(ours.validation_scores_)

    @pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
    @pytest.mark.parametrize("form", [np.asarray, np.ndarray.tolist, lambda y: y.reshape(len(y), -1)])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_the_score_is_scikit_learn_s_accuracy(self, task, form, weighted):
        x, y = data(task)
        weight = np.linspace(0, 3, 100) if weighted else None
        ours = MLPClassifier(early_stopping=True, random_state=0, max_iter=1, learning_rate_init=0.05)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a column of targets, and that one epoch is not enough
            ours.fit(x[:150], y[:150], X_val=x[150:], y_val=form(y[150:]), sample_weight_val=weight)
        expected = accuracy_score(y[150:], ours.predict(x[150:]), sample_weight=weight)
        assert ours.validation_scores_ == pytest.approx([expected], rel=1e-12)

    @pytest.mark.parametrize(
        "form",
        [
            np.asarray, np.ndarray.tolist, np.zeros_like, lambda y: y.reshape(-1, 1), lambda y: y + 1e6,
            lambda y: np.column_stack([y, y**2]),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("weighted", [False, True])
    def test_the_score_is_scikit_learn_s_r2(self, form, weighted):
        x, y = data("regression")
        weight = np.linspace(0, 3, 50) if weighted else None
        ours = MLPRegressor(early_stopping=True, random_state=0, max_iter=1, learning_rate_init=0.05)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a column of targets, and that one epoch is not enough
            ours.fit(x[:200], form(y[:200]), X_val=x[200:], y_val=form(y[200:]), sample_weight_val=weight)
        expected = r2_score(form(y[200:]), ours.predict(x[200:]), sample_weight=weight)
        assert ours.validation_scores_ == pytest.approx([expected], rel=1e-9)

    @pytest.mark.parametrize(("dtype", "scale", "shift"), [("float16", 500, 0), ("float32", 1e20, 0), ("float32", 1, 1e7)])
    def test_so_it_is_for_targets_of_few_digits(self, dtype, scale, shift):
        x, y = data("regression")
        y = (y / y.std() * scale + shift).astype(dtype)
        ours = MLPRegressor(early_stopping=True, random_state=0, max_iter=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", ConvergenceWarning)
            ours.fit(x[:200], y[:200], X_val=x[200:], y_val=y[200:])
        expected = r2_score(y[200:].astype("float64"), ours.predict(x[200:]))
        assert ours.validation_scores_ == pytest.approx([expected], rel=1e-9)

    def test_half_of_it(self):
        x, y = data("regression")
        with pytest.raises(ValueError, match="X_val was given without y_val"):
            MLPRegressor().fit(x, y, X_val=x)
        for name in ("y_val", "sample_weight_val"):
            for fit in (MLPRegressor().fit, MLPRegressor().partial_fit):
                with pytest.raises(ValueError, match=f"{name} was given without X_val"):
                    fit(x, y, **{name: y})

    @pytest.mark.parametrize("scoring", [None, lambda model, x, y: np.nan])
    def test_a_score_that_cannot_be_computed_is_an_error(self, scoring):
        x, y = data("regression")
        options = {"early_stopping": True, "scoring": scoring, "random_state": 0}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn's, that R2 needs two rows
            with pytest.raises(ValueError, match=r"score is nan after epoch 1: it cannot be computed from these 1 validation rows"):
                MLPRegressor(**options).fit(x, y, X_val=x[:1], y_val=y[:1])

    def test_its_loss_in_each_iteration_of_l_bfgs(self):
        x, y = data("regression")
        ours = quiet(MLPRegressor(solver="lbfgs", random_state=0, max_iter=8), x[:200], y[:200], X_val=x[200:], y_val=y[200:])
        assert len(ours.validation_loss_curve_) == 8
        expected = 0.5 * np.mean((ours.predict(x[200:]) - y[200:]) ** 2)
        assert ours.validation_loss_curve_[-1] == pytest.approx(expected, rel=1e-9)


class TestWeights:
    @pytest.mark.parametrize(
        ("task", "class_weight"), [*((task, None) for task in TASKS), *((task, "balanced") for task in TASKS[:3])]
    )
    def test_a_weight_of_two_is_a_row_that_is_there_twice(self, task, class_weight):
        x, y = data(task)
        weight = np.random.default_rng(0).integers(0, 3, len(x))
        options = {"batch_size": 600, "max_iter": 20, "random_state": 0, "alpha": 0.1, "n_iter_no_change": np.inf}
        model = pair(task, **options)[0]
        if class_weight is not None:
            model.set_params(class_weight=class_weight)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            weighted = clone(model).fit(x, y, sample_weight=weight)
            repeated = clone(model).fit(np.repeat(x, weight, axis=0), np.repeat(y, weight, axis=0))
        for mine, expected in zip(weighted.coefs_, repeated.coefs_, strict=True):
            np.testing.assert_allclose(mine, expected, rtol=1e-7, atol=1e-9)
        assert weighted.loss_ == pytest.approx(repeated.loss_, rel=1e-9)

    @pytest.mark.parametrize("task", ["binary", "multiclass"])
    def test_class_weight(self, task):
        from sklearn.utils import compute_sample_weight

        x, y = data(task)
        by_class = dict(zip(np.unique(y), [3.0, 1.0, 0.5, 2.0], strict=False))
        for class_weight in ("balanced", by_class):
            ours = quiet(MLPClassifier(class_weight=class_weight, max_iter=5, random_state=0), x, y)
            expected = quiet(MLPClassifier(max_iter=5, random_state=0), x, y, sample_weight=compute_sample_weight(class_weight, y))
            np.testing.assert_array_equal(ours.coefs_[0], expected.coefs_[0])
        with pytest.raises(ValueError, match="all rows at once"):
            MLPClassifier(class_weight="balanced").partial_fit(x, y, classes=np.unique(y))

    def test_balanced_labels(self):
        from sklearn.utils import compute_sample_weight

        x, y = data("multilabel")
        y[:, 1] = 1  # always there, which is no reason to weigh it
        ours = quiet(MLPClassifier(class_weight="balanced", max_iter=5, random_state=0), x, y)
        expected = quiet(MLPClassifier(max_iter=5, random_state=0), x, y, sample_weight=compute_sample_weight("balanced", y))
        np.testing.assert_array_equal(ours.coefs_[0], expected.coefs_[0])

    @pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
    def test_label_smoothing(self, task):
        x, y = data(task)
        sharp, smooth = (
            quiet(MLPClassifier(label_smoothing=share, max_iter=300, alpha=0, random_state=0), x, y) for share in (0.0, 0.4)
        )
        assert smooth.predict_proba(x).max() < sharp.predict_proba(x).max()
        assert smooth.predict_proba(x).max() < 0.95
        assert smooth.score(x, y) > 0.7


class TestMore:
    @pytest.mark.parametrize("optimizer", fastmlp.OPTIMIZERS)
    def test_optimizers_and_schedules(self, optimizer):
        x, y = data("regression")
        rate = 0.05 if optimizer in ("sgd", "momentum", "nesterov", "adagrad") else 0.005
        ours = MLPRegressor(
            optimizer=optimizer, learning_rate_schedule="cosine", learning_rate_init=rate, max_grad_norm=1.0,
            activation=["gelu", "softplus"], hidden_layer_sizes=(20, 10), max_iter=60, random_state=0,
        )  # fmt: skip
        quiet(ours, x, y)
        assert ours.score(x, y) > 0.5

    @pytest.mark.parametrize("loss", ["absolute_error", "huber", "log_cosh", "pinball"])
    @pytest.mark.parametrize("outputs", [1, 2])
    def test_losses(self, loss, outputs):
        x, y = make_regression(200, 5, n_targets=outputs, random_state=0)
        y = y / y.std()
        ours = quiet(MLPRegressor(loss=loss, learning_rate_init=0.01, random_state=0, max_iter=150), x, y)
        assert ours.score(x, y) > 0.9
        assert ours.predict(x).shape == y.shape

    def test_quantiles(self):
        rng = np.random.default_rng(0)
        x = rng.uniform(size=(2000, 1))
        y = rng.normal(size=2000)
        for quantile in (0.1, 0.8):
            ours = quiet(
                MLPRegressor(loss="pinball", quantile=quantile, learning_rate_init=0.01, max_iter=40, random_state=0), x, y
            )
            assert np.mean(y < ours.predict(x)) == pytest.approx(quantile, abs=0.05)

    def test_hidden_layers_as_features(self):
        x, y = data("regression")
        ours = quiet(MLPRegressor(hidden_layer_sizes=(7, 4), activation="tanh", max_iter=3, random_state=0), x, y)
        first = np.tanh(x @ ours.coefs_[0] + ours.intercepts_[0])
        np.testing.assert_allclose(ours.transform(x, layer=0), first, rtol=1e-9)
        last = np.tanh(first @ ours.coefs_[1] + ours.intercepts_[1])
        np.testing.assert_allclose(ours.transform(x), last, rtol=1e-9)
        with pytest.raises(ValueError, match="layer must be from -2 to 1"):
            ours.transform(x, layer=2)

    @pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
    def test_a_network_before_any_data(self, task):
        x, y = data(task)
        if task == "binary":
            y = (y == "yes").astype(int)
        built = pair(task, random_state=3)[0].build(8, {"binary": 2, "multiclass": 4, "regression": 1}[task])
        assert built.predict(x).shape == y.shape
        expected = pair(task, random_state=3)[0].partial_fit(x, y, **({} if task == "regression" else {"classes": np.unique(y)}))
        for mine, other in zip(built.partial_fit(x, y).coefs_, expected.coefs_, strict=True):
            np.testing.assert_array_equal(mine, other)

    @pytest.mark.parametrize(
        ("estimator", "sizes", "message"),
        [(MLPClassifier(), (3, 1), "at least 2 classes, got 1"), (MLPRegressor(), (0, 1), "n_features must be")],
    )
    def test_a_network_that_cannot_be(self, estimator, sizes, message):
        with pytest.raises(ValueError, match=message):
            estimator.build(*sizes)

    def test_callbacks_and_time_limit(self):
        x, y = data("regression")

        class Count(Callback):
            epochs = 0

            def on_epoch_end(self, run):
                self.epochs += 1
                run.stop = self.epochs == 4

        count = Count()
        assert MLPRegressor(callbacks=[count]).fit(x, y).n_iter_ == count.epochs == 4
        assert MLPRegressor(max_time=1e-9).fit(x, y).n_iter_ == 1

    def test_ctrl_c_keeps_what_was_learned(self):
        x, y = data("regression")

        ours = MLPRegressor(callbacks=[InterruptInThirdEpoch()], random_state=0)
        with pytest.warns(UserWarning, match="interrupted"):
            ours.fit(x, y)
        assert ours.n_iter_ == 3
        assert np.isfinite(ours.predict(x)).all()

    def test_divergence_names_the_epoch_and_a_rate(self):
        x, y = load_diabetes(return_X_y=True)
        with pytest.raises(DivergenceError, match=r"epoch \d of 200.*Try a lower rate, such as 1\."):
            MLPRegressor(solver="sgd", learning_rate_init=10.0, random_state=0).fit(x * 1e3, y)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"hidden_layer_sizes": (5, 0)}, "hidden_layer_sizes must be > 0"),
            ({"activation": ["relu", "tanh"]}, "one for each of the 1 hidden layers, got 2"),
            ({"activation": "rleu"}, "'activation' parameter of MLPRegressor must be"),
            ({"optimizer": "adamm"}, "'optimizer' parameter of MLPRegressor must be"),
            ({"learning_rate_init": -1.0}, "'learning_rate_init' parameter of MLPRegressor must be a float in the range"),
            ({"early_stopping": True, "validation_fraction": 0.001}, "validation set is too small"),
        ],
    )
    def test_bad_parameters(self, options, message):
        x, y = data("regression")
        with pytest.raises(ValueError, match=message):
            MLPRegressor(**options).fit(x, y)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_targets_that_the_dtype_cannot_hold(solver):
    x, y = data("regression")
    with pytest.raises(ValueError, match="y must hold finite numbers in the range of float32"):
        MLPRegressor(solver=solver).fit(x.astype(np.float32), y * 1e60)
    with pytest.raises(ValueError, match=r"lower rate|too large; scale them first"):
        MLPRegressor(solver=solver).fit(x.astype(np.float32), y * 1e30)


def test_messages_about_small_mistakes():
    x, y = data("multiclass")
    with pytest.raises(ValueError, match="class_weight of 1 must be a finite number at least 0, got -1"):
        MLPClassifier(class_weight={1: -1}).fit(x, y)
    for class_weight, targets in (([{0: 1, 1: 2}], y), (["balanced", None], np.eye(4, dtype=int)[y])):
        with pytest.raises(ValueError, match="class_weight must be a dict or 'balanced', or, where there are"):
            MLPClassifier(class_weight=class_weight).fit(x, targets)
    for argument, given in (("X", ("t.csv",)), ("X_val", (x, y))):
        with pytest.raises(TypeError, match=rf"^{argument} must be rows or a source of them, got the name of a file: give"):
            MLPClassifier().fit(*given, X_val="t.csv")
    with pytest.raises(ValueError, match=r"epochs must be a whole number, at least 1, got 1\.5"):
        MLPClassifier().partial_fit(x, y, classes=range(4), epochs=1.5)
    without_hidden = quiet(MLPClassifier((), max_iter=1), x, y)
    for use in (lambda: without_hidden.transform(x), without_hidden.get_feature_names_out):
        with pytest.raises(ValueError, match="a hidden layer makes of X, but this network has none"):
            use()
    with pytest.raises(ValueError, match=r"must be > 0, and whole numbers, got \[3\.5\]"):
        MLPClassifier((3.5,)).fit(x, y)


def test_import_is_lazy():
    assert "MLPClassifier" in dir(fastmlp)
    with pytest.raises(AttributeError, match="no attribute 'MLPTransformer'"):
        fastmlp.MLPTransformer  # noqa: B018


class TestCallbacks:
    """scikit-learn's protocol, and our own."""

    @pytest.mark.parametrize("way", ["set_callbacks", "parameter"])
    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_scoring_monitor(self, way, solver):
        monitor = pytest.importorskip("sklearn.callback").ScoringMonitor(scoring="accuracy")
        x, y = data("multiclass")
        estimator = MLPClassifier(solver=solver, max_iter=6, random_state=0, tol=0)
        estimator = estimator.set_callbacks(monitor) if way == "set_callbacks" else estimator.set_params(callbacks=[monitor])
        quiet(estimator, x, y)
        log = monitor.get_logs().data
        epochs = [row for row in log if row["task_name"] == "epoch"]
        assert [row["task_id"] for row in epochs] == list(range(estimator.n_iter_))
        scores = [row["accuracy"] for row in epochs]
        assert scores[-1] == estimator.score(x, y)
        assert scores[0] == quiet(clone(estimator).set_params(max_iter=1, callbacks=()), x, y).score(x, y)
        assert len(set(scores)) > 1

    def test_progress_bar(self, capsys):
        pytest.importorskip("rich")
        bar = pytest.importorskip("sklearn.callback").ProgressBar()
        x, y = data("multiclass")
        quiet(make_pipeline(StandardScaler(), MLPClassifier(max_iter=3, random_state=0)).set_callbacks(bar), x, y)
        printed = capsys.readouterr().out
        assert "MLPClassifier" in printed
        assert "100%" in printed

    def test_an_inner_estimator_cannot_have_a_progress_bar_of_its_own(self):
        bar = pytest.importorskip("sklearn.callback").ProgressBar()
        x, y = data("multiclass")
        inner = quiet(MLPClassifier(random_state=0, max_iter=3), x, y)
        expected = inner.predict_proba(x)
        with pytest.raises(TypeError, match="set it on the outermost one with set_callbacks"):
            make_pipeline(StandardScaler(), inner.set_params(callbacks=[bar])).fit(x, y)
        np.testing.assert_array_equal(inner.predict_proba(x), expected)

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_a_callback_can_stop(self, solver):
        pytest.importorskip("sklearn.callback")

        class Third:
            def setup(self, estimator, context): ...

            def teardown(self, estimator, context): ...

            def on_fit_task_begin(self, estimator, context): ...

            def on_fit_task_end(self, estimator, context):
                return context.task_name == "epoch" and context.task_id == 2

        x, y = data("multiclass")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert MLPClassifier(solver=solver, random_state=0).set_callbacks(Third()).fit(x, y).n_iter_ == 3

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_those_that_have_begun_end(self, solver):
        ended = []

        class First(Callback):
            def on_train_end(self, run):
                ended.append("first")

        class Broken(Callback):
            def on_train_begin(self, run):
                raise OSError("there is no disk")

        x, y = data("multiclass")
        with pytest.raises(OSError, match="there is no disk"):
            MLPClassifier(solver=solver, callbacks=[First(), Broken()]).fit(x, y)
        assert ended == ["first"]

    def test_own_ones(self, tmp_path):
        from fastmlp.callbacks import Checkpoint, History, TimeLimit
        from fastmlp.io.safetensors import load

        x, y = data("multiclass")
        history = History()
        path = tmp_path / "model.safetensors"
        callbacks = [history, Checkpoint(path, every=2), Checkpoint(tmp_path / "{epoch}.safetensors", every=2), TimeLimit(1e-9)]
        first = quiet(MLPClassifier(random_state=0, max_iter=5, callbacks=callbacks), x, y)
        assert first.n_iter_ == 1
        quiet(MLPClassifier(random_state=0, max_iter=5, callbacks=callbacks[:3]), x, y)
        assert [record["epoch"] for record in history.records] == [1, 2, 3, 4, 5]
        assert all(record["rows_per_second"] > 0 for record in history.records)
        assert sorted(file.name for file in tmp_path.iterdir()) == [
            *(f"{n}.safetensors" for n in (1, 2, 4, 5)),
            "model.safetensors",
        ]
        np.testing.assert_array_equal(load(path).theta, load(tmp_path / "5.safetensors").theta)
        with pytest.raises(OSError, match="Checkpoint cannot write to"):
            quiet(MLPClassifier(callbacks=[Checkpoint(tmp_path / "none" / "a.safetensors")]), x, y)

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_max_time(self, solver):
        x, y = data("multiclass")
        assert quiet(MLPClassifier(solver=solver, random_state=0, max_time=1e-9), x, y).n_iter_ == 1

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    @pytest.mark.parametrize("loss", ["squared_error", "poisson"])
    def test_the_loss_of_an_epoch_is_the_reported_one(self, loss, solver):
        """With the penalty, as a mean over the outputs, and as a deviance."""
        from fastmlp.callbacks import History

        x, y = data("regression")
        y = np.abs(np.column_stack([y, y**2]))
        history = History()
        ours = quiet(MLPRegressor(loss, solver=solver, alpha=0.1, max_iter=4, random_state=0, callbacks=[history]), x, y)
        assert [record["loss"] for record in history.records] == ours.loss_curve_

    def test_iterations_of_l_bfgs_are_epochs_to_them(self, tmp_path):
        from fastmlp.callbacks import Checkpoint, History
        from fastmlp.io.safetensors import load

        x, y = data("multiclass")
        callbacks = [history := History(), Checkpoint(tmp_path / "{epoch}.safetensors")]
        ours = quiet(MLPClassifier(solver="lbfgs", random_state=0, max_iter=4, callbacks=callbacks), x, y)
        assert [record["loss"] for record in history.records] == ours.loss_curve_
        assert len(list(tmp_path.iterdir())) == 4
        for made, expected in zip(load(tmp_path / "4.safetensors").w, ours.coefs_, strict=True):
            np.testing.assert_array_equal(made, expected)

    def test_ctrl_c_in_l_bfgs_keeps_the_last_iteration(self):
        x, y = data("multiclass")

        ours = MLPClassifier(solver="lbfgs", random_state=0, callbacks=[InterruptInThirdEpoch()])
        with pytest.warns(UserWarning, match="interrupted"):
            ours.fit(x, y)
        assert ours.n_iter_ == 3
        third = quiet(MLPClassifier(solver="lbfgs", random_state=0, max_iter=3), x, y)
        np.testing.assert_array_equal(ours.coefs_[0], third.coefs_[0])

    @pytest.mark.parametrize("round_trip", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
    def test_an_estimator_with_a_progress_bar_can_be_copied(self, round_trip):
        from fastmlp.callbacks import Progress

        x, y = data("multiclass")
        ours = quiet(MLPClassifier(max_iter=2, callbacks=[Progress()], random_state=0), x, y)
        assert quiet(round_trip(ours), x, y).n_iter_ == 2


class TestDropout:
    def test_it_is_used(self):
        x, y = data("multiclass")
        with_, without = (quiet(MLPClassifier(dropout=rate, random_state=0, max_iter=5), x, y) for rate in (0.5, 0.0))
        assert with_.loss_curve_[-1] > without.loss_curve_[-1]
        assert not np.allclose(with_.coefs_[0], without.coefs_[0])

    def test_each_epoch_leaves_out_others(self):
        x, y = data("multiclass")
        ours = quiet(MLPClassifier(dropout=0.5, random_state=0, max_iter=5, learning_rate_init=1e-12, shuffle=False), x, y)
        assert len({round(loss, 6) for loss in ours.loss_curve_}) == 5

    def test_partial_fit_goes_on_where_fit_would(self):
        x, y = data("regression")
        options = {"dropout": [0.3, 0.1], "hidden_layer_sizes": (20, 10), "random_state": 0}
        whole = quiet(MLPRegressor(max_iter=6, **options), x, y)
        parts = MLPRegressor(max_iter=6, **options)
        for _ in range(3):
            parts.partial_fit(x, y, epochs=2)
        for mine, expected in zip(parts.coefs_, whole.coefs_, strict=True):
            np.testing.assert_array_equal(mine, expected)

    @pytest.mark.parametrize(
        "option", [{"dropout": [0.1]}, {"weight_decay": 0.1}, {"max_grad_norm": 1.0}, {"learning_rate_schedule": "cosine"}]
    )
    def test_what_l_bfgs_has_no_use_for(self, option):
        x, y = data("regression")
        with pytest.raises(ValueError, match=f"{next(iter(option))}=.*needs solver='adam', solver='sgd' or an optimizer"):
            MLPRegressor(solver="lbfgs", **option).fit(x, y)

    def test_errors(self):
        x, y = data("regression")
        with pytest.raises(ValueError, match="'dropout' parameter of MLPRegressor must be"):
            MLPRegressor(dropout=1.0).fit(x, y)
        with pytest.raises(ValueError, match="dropout must be one number or one for each of the 1 hidden layers"):
            MLPRegressor(dropout=[0.1, 0.2]).fit(x, y)


def test_gamma_loss():
    """Of the right scale where the spread of targets grows with their mean; half of the deviance that scikit-learn reports."""
    from sklearn.metrics import mean_gamma_deviance

    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 3))
    y = rng.gamma(2.0, np.exp(x @ [0.5, -1.0, 0.3]) / 2)
    ours = quiet(MLPRegressor("gamma", (20,), alpha=0, random_state=0, learning_rate_init=0.01, max_iter=100), x, y)
    deviance = mean_gamma_deviance(y, ours.predict(x))
    assert ours.out_activation_ == "exp"
    assert deviance < 0.6 * mean_gamma_deviance(y, np.full(500, y.mean()))
    assert ours.loss_ == pytest.approx(deviance / 2, rel=0.03)
    with pytest.raises(ValueError, match=r"y must be above 0 for loss='gamma', got 0\."):
        ours.fit(x, y * 0)


def test_skops():
    io = pytest.importorskip("skops.io")
    x, y = data("multiclass")
    ours = quiet(MLPClassifier((7,), max_iter=5, random_state=0), x, y)
    content = io.dumps(ours)
    untrusted = io.get_untrusted_types(data=content)
    assert all(name.startswith("fastmlp.") for name in untrusted), untrusted
    again = io.loads(content, trusted=untrusted)
    np.testing.assert_array_equal(again.predict_proba(x), ours.predict_proba(x))
    again.partial_fit(x, y)


def test_representation_in_a_notebook():
    html = MLPClassifier(hidden_layer_sizes=(7,), dropout=0.25)._repr_html_()
    assert "MLPClassifier" in html
    assert "hidden_layer_sizes" in html
    assert "0.25" in html


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
def test_everything_is_documented(estimator):
    """In numpydoc's form: every parameter, and every attribute of a fitted estimator."""
    import inspect
    import re

    text = inspect.cleandoc(estimator.__doc__)
    assert not re.search(r"\{\w+\}", text)
    parameters, attributes = text.split("Attributes\n----------\n")
    entries = {name for line in re.findall(r"^(\w[\w, ]*) : ", parameters, re.M) for name in line.split(", ")}
    assert entries == set(inspect.signature(estimator).parameters)
    x, y = data("multiclass")
    found = {name for name in vars(quiet(estimator(max_iter=1), x, y)) if name.endswith("_") and not name.startswith("_")}
    described = {name for line in re.findall(r"^(\w[\w, ]*) : ", attributes, re.M) for name in line.split(", ")}
    assert found <= described
    assert described - found <= {"feature_names_in_", "classes_"}


@pytest.mark.parametrize("name", ["binary_cross_entropy", "cross_entropy"])
def test_targets_that_the_loss_is_not_for(name):
    with pytest.raises(ValueError, match=f"y must be from 0 to 1 for the loss {name}, got -1"):
        MLPRegressor(LOSSES[name]).fit([[0.0], [1.0]], [-1.0, 1.0])


def test_shares_have_the_output_that_belongs_to_their_loss():
    x = np.random.default_rng(0).normal(size=(300, 2))
    share = 1 / (1 + np.exp(-2 * x[:, 0]))
    model = MLPRegressor(LOSSES["binary_cross_entropy"], hidden_layer_sizes=(), max_iter=100, learning_rate_init=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, share)
    predictions = model.predict(x)
    assert predictions.min() > 0
    assert predictions.max() < 1
    assert model.score(x, share) > 0.95


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        (np.arange(20).astype("datetime64[s]"), "dates"),
        (np.arange(20).astype("timedelta64[s]"), "durations"),
        (np.arange(20).astype(str), "strings"),
        (sparse.eye(20, 2, format="csr"), "a sparse matrix"),
    ],
)
def test_targets_of_a_regressor_that_are_no_numbers(y, kind):
    with pytest.raises(TypeError, match=f"y must be an array of real numbers, got {kind}"):
        MLPRegressor().fit(np.ones((20, 2)), y)
