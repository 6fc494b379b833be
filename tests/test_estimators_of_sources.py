"""Estimators trained from sources that are larger than the buffer: what they learn and report is what they do from memory."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import mean_gamma_deviance, mean_poisson_deviance

from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.data import TableError, cached, from_blocks, from_files, from_npy
from fastmlp.data.stream import Stream
from fastmlp.estimators.samples import open_source

ROWS = 1501
BLOCK = 200
BUFFER = 20_000
"""Bytes, for less than a third of the rows."""
OPTIONS = {"hidden_layer_sizes": (8,), "batch_size": 32, "max_iter": 4, "tol": 0, "random_state": 0, "shuffle": False}
LABELS = np.array(["a", "b", "c"])


@pytest.fixture
def x(rng):
    x = rng.normal(size=(ROWS, 4))
    return x[np.argsort(x[:, 0])]


@pytest.fixture
def labels(x):
    """Of three classes, in order: most blocks have one of them only."""
    return np.digitize(x[:, 0], [-0.5, 1.5])


@pytest.fixture
def weight(rng):
    return rng.random(ROWS)


def blocks(*arrays):
    return [tuple(array[start : start + BLOCK] for array in arrays) for start in range(0, ROWS, BLOCK)]


def fitted(model, *data, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a few epochs are enough here
        return model.fit(*data, **more)


def assert_same(one, other):
    """Both have learned the same to the bit, and report the same."""
    for mine, theirs in zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        assert np.array_equal(mine, theirs)
    for name in ("loss_curve_", "validation_loss_curve_", "validation_scores_"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert (mine is None) == (theirs is None)
        assert mine is None or mine == pytest.approx(theirs, rel=1e-9)


def streams(model):
    """Whether its rows were more than the buffer holds."""
    return model.reading_ is not None and model.reading_.passes == model.n_iter_


class TestLosses:
    @pytest.mark.parametrize("outputs", [1, 2])
    @pytest.mark.parametrize("weighted", [True, False])
    @pytest.mark.parametrize("loss", ["poisson", "gamma"])
    def test_of_numbers_above_zero(self, x, weight, loss, weighted, outputs):
        """What is reported is half of the deviance, whose part without predictions is summed while rows go by."""
        y = np.exp(x[:, :outputs]).squeeze()
        model = MLPRegressor(loss, **OPTIONS)
        streamed = fitted(model, blocks(x, y, weight) if weighted else blocks(x, y), buffer_bytes=BUFFER)
        assert streams(streamed)
        assert_same(streamed, fitted(MLPRegressor(loss, **OPTIONS), x, y, weight if weighted else None))
        assert 0 < streamed.loss_ < 2

    @pytest.mark.parametrize(
        ("loss", "low", "message"),
        [("poisson", -1.0, "out of the valid range"), ("gamma", 0.0, "y must be above 0 for loss='gamma'")],
    )
    def test_a_target_out_of_their_range(self, x, loss, low, message):
        y = np.ones(ROWS)
        y[BLOCK + 7] = low
        with pytest.raises(ValueError, match=f"block 1: .*{message}"):
            MLPRegressor(loss, **OPTIONS).fit(blocks(x, y), buffer_bytes=BUFFER)

    def test_of_a_table_that_is_prepared(self, x, tmp_path):
        pandas = pytest.importorskip("pandas")
        y = np.round(np.exp(x[:, 0]), 1)
        pandas.DataFrame(x, columns=list("abcd")).assign(y=y).to_csv(tmp_path / "t.csv", index=False)
        source = from_files(tmp_path / "t.csv", target="y")
        for scaled in (source.prepared(), cached(source.prepared())):
            with pytest.raises(ValueError, match=r"loss='poisson' is for targets as they are, but .* scales them; .*scale=False"):
                MLPRegressor("poisson", **OPTIONS).fit(scaled)
        streamed = fitted(MLPRegressor("poisson", **OPTIONS), source.prepared(scale=False), buffer_bytes=BUFFER)
        expected = fitted(MLPRegressor("poisson", **OPTIONS), x.astype(np.float32), y)
        assert streams(streamed)
        assert streamed.loss_curve_ == pytest.approx(expected.loss_curve_, rel=1e-5)


class TestWeights:
    @pytest.mark.parametrize("given", ["balanced", {"c": 5.0}, {"a": 0.5, "b": 2.0, "c": 3.0}])
    @pytest.mark.parametrize("weighted", [True, False])
    def test_of_classes(self, x, labels, weight, given, weighted):
        """Also where a block has not all of those that have a weight."""
        y = LABELS[labels]
        streamed = MLPClassifier(class_weight=given, **OPTIONS)
        fitted(streamed, blocks(x, y, weight) if weighted else blocks(x, y), buffer_bytes=BUFFER)
        assert streams(streamed)
        memory = MLPClassifier(class_weight=given, **OPTIONS)
        assert_same(streamed, fitted(memory, x, y, weight if weighted else None))

    def test_of_a_class_that_does_not_occur(self, x, labels):
        y = LABELS[labels]
        source = from_blocks(blocks(x, y), classes=["z", "c", "b", "a"])
        weights = MLPClassifier(class_weight="balanced", **OPTIONS)
        weights._learn_targets(source)
        by_class = weights._weighting(source)(weights.classes_, None)
        assert by_class == pytest.approx([*(ROWS / 3 / np.bincount(labels)), 1])

    def test_of_a_class_that_there_is_not(self, x, labels):
        with pytest.raises(ValueError, match="are not in class_weight"):
            MLPClassifier(class_weight={"d": 2.0}).fit(blocks(x, LABELS[labels]))

    def test_of_classes_in_blocks_that_go_on(self, x, labels):
        """``partial_fit`` meets the same blocks."""
        model = MLPClassifier(class_weight={"c": 5.0}, **OPTIONS)
        model.partial_fit(x[:BLOCK], LABELS[labels[:BLOCK]], classes=LABELS)
        assert set(labels[:BLOCK]) == {0}


class TestValidation:
    @pytest.mark.parametrize("rows", ["source", "memory"])
    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    @pytest.mark.parametrize("classes", [2, 3])
    def test_rows_of_a_classifier_from_a_source(self, x, labels, weight, rows, smoothing, classes):
        y = LABELS[np.minimum(labels, classes - 1)]
        options = OPTIONS | {"early_stopping": True, "label_smoothing": smoothing, "class_weight": {"a": 2.0}}
        data, more = ((blocks(x, y),), {"buffer_bytes": BUFFER}) if rows == "source" else ((x, y), {})
        ours = fitted(MLPClassifier(**options), *data, X_val=blocks(x[::-1], y[::-1], weight), **more)
        theirs = fitted(MLPClassifier(**options), *data, X_val=x[::-1], y_val=y[::-1], sample_weight_val=weight, **more)
        assert_same(ours, theirs)

    def test_rows_of_a_regressor_from_a_source(self, x, tmp_path):
        np.save(tmp_path / "x.npy", x)
        np.save(tmp_path / "y.npy", np.exp(x[:, 0]))
        source = from_npy(tmp_path / "x.npy", tmp_path / "y.npy")
        options = OPTIONS | {"early_stopping": True, "scoring": "neg_mean_absolute_error"}
        ours = fitted(MLPRegressor("gamma", **options), source, X_val=source, buffer_bytes=BUFFER)
        assert_same(ours, fitted(MLPRegressor("gamma", **options), source, X_val=x, y_val=np.exp(x[:, 0]), buffer_bytes=BUFFER))

    def test_rows_of_a_source_with_classes_of_its_own(self, x, labels):
        """Some of those to train on are the same by their names; another one is none."""
        y, later = LABELS[labels], labels > 0
        source, some = from_blocks(blocks(x, y), classes=LABELS), from_blocks([(x[later], y[later])], classes=["b", "c"])
        ours = fitted(MLPClassifier(**OPTIONS), source, X_val=some)
        assert_same(ours, fitted(MLPClassifier(**OPTIONS), source, X_val=x[later], y_val=y[later]))
        for other in ("bb", "d"):  # between two of them, and after the last
            with pytest.raises(ValueError, match=f"block 0: .*{other}"):
                MLPClassifier(**OPTIONS).fit(source, X_val=from_blocks([(x[:2], ["b", other])], classes=["b", other]))

    def test_rows_of_a_source_beside_labels_that_are_objects(self, x, labels):
        """As pandas has them."""
        y, some = LABELS[labels].astype(object), labels != 1
        options = OPTIONS | {"early_stopping": True}
        ours = fitted(MLPClassifier(**options), x, y, X_val=[(x[some], y[some])])
        assert_same(ours, fitted(MLPClassifier(**options), x, y, X_val=x[some], y_val=y[some]))
        with pytest.raises(TableError, match="block 0: the target is d in row 1, which is none of the 3 classes"):
            MLPClassifier(**options).fit(x, y, X_val=[(x[:2], ["a", "d"])])

    @pytest.mark.parametrize(("loss", "deviance"), [("poisson", mean_poisson_deviance), ("gamma", mean_gamma_deviance)])
    def test_the_loss_is_half_of_the_deviance(self, x, weight, loss, deviance):
        y = np.exp(x[:, 0])
        model = fitted(MLPRegressor(loss, **OPTIONS), blocks(x, y), X_val=blocks(x, y, weight), buffer_bytes=BUFFER)
        expected = deviance(y, model.predict(x), sample_weight=weight) / 2
        assert model.validation_loss_curve_[-1] == pytest.approx(expected)

    def test_what_does_not_fit(self, x, labels):
        model, source = MLPClassifier(early_stopping=True, **OPTIONS), from_blocks(blocks(x, labels))
        for more, message in [
            ({}, r"early_stopping on a source needs validation rows: fit\(source, X_val=..., y_val=...\), or another source"),
            ({"X_val": source, "y_val": labels}, "y_val must be None where X_val is a source"),
            ({"X_val": source, "sample_weight_val": labels}, "sample_weight_val must be None where X_val is a source"),
            ({"X_val": blocks(x[:, :3], labels)}, "block 0: X_val has 3 features, but the network takes 4"),
            ({"X_val": blocks(x, labels + 1)}, "block .: the target is 3 in row"),
            ({"y": labels}, "y must be None where X is a source"),
            ({"sample_weight": labels}, "sample_weight must be None where X is a source"),
        ]:
            with pytest.raises(ValueError, match=message) as caught:
                model.fit(source, **more)
            assert str(caught.value).count("block") <= 1


class TestLbfgs:
    @pytest.mark.parametrize("loss", ["squared_error", "poisson"])
    def test_sums_over_blocks(self, x, weight, loss):
        y = np.exp(x[:, :2])
        options = OPTIONS | {"solver": "lbfgs", "max_iter": 30, "alpha": 0.1}
        source = from_blocks(blocks(x, y, weight))
        model = MLPRegressor(loss, **options)
        assert isinstance(opened(model, source, BUFFER), Stream)
        streamed, whole = fitted(model, source, buffer_bytes=BUFFER), fitted(MLPRegressor(loss, **options), x, y, weight)
        assert streamed.loss_curve_ == pytest.approx(whole.loss_curve_, rel=1e-4)
        assert np.allclose(streamed.predict(x), whole.predict(x), atol=0.02)
        assert streamed.reading_ is None

    def test_in_the_buffer_it_is_that_from_memory(self, x, labels):
        options = OPTIONS | {"solver": "lbfgs", "max_iter": 20}
        assert_same(fitted(MLPClassifier(**options), blocks(x, labels)), fitted(MLPClassifier(**options), x, labels))

    def test_blocks_that_end_early_are_noticed(self, x, labels):
        class Ends:
            passes = 0

            def __iter__(self):
                self.passes += 1
                return iter(blocks(x, labels)[: None if self.passes < 8 else 3])

        with pytest.raises(TableError, match=f"has only {3 * BLOCK} rows in this pass over it, but {ROWS} before"):
            fitted(MLPClassifier(**OPTIONS | {"solver": "lbfgs"}), Ends(), buffer_bytes=BUFFER)


def opened(model, source, buffer_bytes):
    """The feed that a fit has, after one."""
    fitted(model, source, buffer_bytes=buffer_bytes)
    return open_source(model, source, "X", model._weighting(source), buffer_bytes)


def test_what_is_no_class_for_each_row(x):
    for y, message in [
        ((x[:, :3] > 0).astype(int), r"block 0: the targets of a source must be one class for each row, got the shape \(200, 3\)"),
        (x[:, 0], "Unknown label type: continuous"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            MLPClassifier(**OPTIONS).fit(blocks(x, y), buffer_bytes=BUFFER)
        assert str(caught.value).count("block") <= 1


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize(("kind", "name"), [("M8[s]", "dates"), ("m8[s]", "durations"), (complex, "complex numbers")])
def test_targets_of_a_regressor_that_are_no_numbers(x, kind, name, solver):
    """NumPy would cast them: dates to seconds, complex numbers to their real parts."""
    with pytest.raises(TypeError, match=f"block 0: y must be an array of real numbers, got {name}"):
        MLPRegressor(solver=solver).fit([(x, np.arange(len(x)).astype(kind))])


@pytest.mark.parametrize("values", [[b"a", b"b"], [{"u": 0}, {"u": 1}], [[0.0], [1.0]]])
def test_targets_of_a_file_that_are_no_classes(tmp_path, values):
    """What Python prints of each would be one."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"x": np.arange(20.0), "y": arrow.array(values * 10)}), tmp_path / "t.parquet")
    source = from_files(tmp_path / "t.parquet", "y")
    for model in (MLPClassifier(), MLPRegressor()):
        with pytest.raises(ValueError, match=r"The target 'y' is of the type .*; it must be of numbers, text or truth values"):
            model.fit(source)


def test_predictions_of_a_source(x, labels):
    model = fitted(MLPClassifier(**OPTIONS), x, labels)
    with pytest.raises(TypeError, match=r"Predictions are made of arrays and tables, got from_blocks\(...\)"):
        model.predict(from_blocks(blocks(x, labels)))
    with pytest.raises(TypeError, match=r"made of arrays and tables, got from_blocks\(...\)"):
        model.transform(from_blocks(blocks(x, labels)))


@pytest.mark.parametrize("with_targets", [False, True])
def test_partial_fit_is_given_no_source(x, labels, with_targets):
    source, y = from_blocks(blocks(x, labels)), labels if with_targets else None
    for fit in (partial(MLPClassifier().partial_fit, classes=np.unique(labels)), MLPRegressor().partial_fit):
        with pytest.raises(TypeError, match=r"partial_fit takes arrays and tables, got from_blocks\(...\); give fit the source"):
            fit(source, y)


def test_validation_tables_that_mean_something_else(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    n = np.arange(200.0)
    parquet.write_table(arrow.table({"a": n, "b": n % 7, "y": n}), tmp_path / "a.parquet")
    parquet.write_table(arrow.table({"b": n % 7, "a": 1000 + n, "y": 50 + n}), tmp_path / "b.parquet")
    train, other = (from_files(tmp_path / f"{name}.parquet", "y") for name in "ab")
    model = MLPRegressor(early_stopping=True, max_iter=2, random_state=0)
    with pytest.raises(ValueError, match=r"X_val has the columns b, a, but X has a, b; give the same, in this order"):
        model.fit(train, X_val=other)
    with pytest.raises(ValueError, match=r"X_val has the columns b, a, but X has a, b"):
        model.fit(cached(train), X_val=cached(other))
    with pytest.raises(ValueError, match=r"prepare it as X: prepared\(X\.preparation\)"):
        model.fit(train.prepared(), X_val=other.prepared())
    for pair in (train.prepared(), other), (train, other.prepared()):
        with pytest.raises(ValueError, match="one has been prepared, and the other has not"):
            model.fit(pair[0], X_val=pair[1])
    with pytest.warns(ConvergenceWarning):
        model.fit(train.prepared(scale=False), X_val=train.share(0, 0.5, 0).prepared(scale=False))
    learned = train.prepared()
    with pytest.warns(ConvergenceWarning):
        model.fit(learned, X_val=other.prepared(learned.preparation))
    assert len(model.validation_scores_) == 2


def test_validation_blocks_of_tables_in_another_order():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0, 3.0], "b": [3.0, 4.0, 5.0]})
    with pytest.raises(ValueError, match=r"X_val has the columns b, a, but X has a, b"):
        MLPRegressor().fit([(frame, frame["a"])], X_val=[(frame[["b", "a"]], frame["a"])])


class TestNamesOfColumns:
    @pytest.fixture
    def table(self, tmp_path):
        pd = pytest.importorskip("pandas")
        table = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 3)), columns=list("abc")).assign(y=lambda t: t.a)
        table.to_parquet(tmp_path / "t.parquet")
        table[["c", "b", "a", "y"]].to_parquet(tmp_path / "other.parquet")
        return table

    @pytest.mark.parametrize("kind", ["file", "blocks"])
    def test_are_those_of_a_fit_in_memory(self, table, tmp_path, kind):
        x = table[["a", "b", "c"]]
        source = from_files(tmp_path / "t.parquet", target="y") if kind == "file" else [(x, table.y)]
        model = fitted(MLPRegressor(max_iter=2, tol=0), source)
        assert model.feature_names_in_.tolist() == ["a", "b", "c"]
        model.predict(x)  # warns of nothing
        with pytest.raises(ValueError, match="feature names should match"):
            model.predict(x[["c", "b", "a"]])

    def test_that_are_numbers_are_none(self, table):
        x = table[["a", "b", "c"]].set_axis([0, 1, 2], axis=1)
        assert not hasattr(fitted(MLPRegressor(max_iter=2, tol=0), [(x, table.y)]), "feature_names_in_")

    def test_in_another_order_are_not_trained_on(self, table, tmp_path):
        model = fitted(MLPRegressor(max_iter=2, tol=0, warm_start=True), table[["a", "b", "c"]], table.y)
        with pytest.raises(ValueError, match="X has the columns c, b, a, but the last fit had a, b, c"):
            model.fit(from_files(tmp_path / "other.parquet", target="y"))

    def test_of_a_source_of_validation_rows_are_compared_with_those_in_memory(self, table, tmp_path):
        x, model = table[["a", "b", "c"]], MLPRegressor(max_iter=2, tol=0, random_state=0)
        for other in [(x[["c", "b", "a"]], table.y)], from_files(tmp_path / "other.parquet", target="y"):
            with pytest.raises(ValueError, match="X_val has the columns c, b, a, but X has a, b, c"):
                model.fit(x, table.y, X_val=other)
        assert not hasattr(model, "coefs_")
        fitted(model, x, table.y, X_val=from_files(tmp_path / "t.parquet", target="y"))
        assert model.validation_loss_curve_ == fitted(model, x, table.y, X_val=x, y_val=table.y).validation_loss_curve_

    def test_of_validation_rows_are_compared(self, table, tmp_path):
        model = MLPRegressor(max_iter=2, tol=0, early_stopping=True)
        with pytest.raises(ValueError, match="feature names should match"):
            model.fit(from_files(tmp_path / "t.parquet", target="y"), X_val=table[["c", "b", "a"]], y_val=table.y)
