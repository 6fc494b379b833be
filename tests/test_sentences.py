"""What is said about mistakes from Python that other tests do not look at: one sentence with what was given and what to do."""

from __future__ import annotations

import numpy as np
import pytest

from fastmlp import ACTIVATIONS, LOSSES, MLP, MLPClassifier, make_activation
from fastmlp.callbacks import Checkpoint
from fastmlp.data import cached, from_files, from_npy
from fastmlp.data.files import Csv, TableError, read_table
from fastmlp.data.model import TableModel
from fastmlp.exceptions import DivergenceError
from fastmlp.schedules import Cosine

X, Y = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 2


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With a table of three columns, and one of numbers."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{a},{'xy'[a % 2]},{'no' if a < 30 else 'yes'}" for a in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c", *rows]) + "\n")
    np.save("x.npy", X)
    np.save("y.npy", Y)
    np.save("objects.npy", X.astype(object))
    return tmp_path


def soft_sign(z):
    return z / (1 + abs(z))


def network(**options):
    return MLP((2, 4, 2), ("relu", "softmax"), "cross_entropy", random_state=0, **options)


MISTAKES = {
    "a schedule's number": (lambda: Cosine("a"), "cosine schedule: final must be a number at least 0 and at most 1, got 'a'"),
    "a schedule's range": (lambda: Cosine(2), "final must be a number at least 0 and at most 1, got 2"),
    "no parameter": (lambda: ACTIVATIONS["relu"](0.2), "relu has no parameter; give it by its name, 'relu'"),
    "nor one of a loss": (lambda: LOSSES["squared_error"](2.0), "squared_error has no parameter"),
    "predictions of a source": (lambda: network().predict(from_npy("x.npy", "y.npy")), "x must be an array or a table; only fit"),
    "a name of a file": (lambda: network().fit("t.csv", epochs=1, batch_size=3), "the name of a file: give fastmlp.data.from"),
    "a task": (lambda: from_files("t.csv", "c").prepared(task="foo"), "task must be 'classification' or 'regression', or None"),
    "text as numbers": (lambda: from_files("t.csv", "c").prepared(task="regression"), "predicted as numbers; leave the task out"),
    "two scales": (lambda: from_files("t.csv", "c").prepared(scale=False, shared_scale=True), "shared_scale=True scales numbers"),
    "how a file is written": (lambda: from_files("t.csv", "c", csv=";"), r"csv must be a fastmlp.data.files.Csv, .* got ';'"),
    "a separator": (lambda: Csv(";;"), "separator must be one character, got ';;'"),
    "a decimal point": (lambda: Csv(decimal="x"), "decimal must be '.' or ',', got 'x'"),
    "no array": (lambda: from_npy("t.csv", "y.npy"), "t.csv is not a .npy file; fastmlp.data.from_files reads CSV and Parquet"),
    "an array of objects": (lambda: from_npy("objects.npy", "y.npy"), r"usable .npy file: .*Python objects in dtype\.$"),
    "a cache": (lambda: cached(from_files("t.csv", "c"), "none"), "cached needs a folder that is there, got 'none'"),
    "softmax inside": (lambda: MLPClassifier((5,), "softmax").fit(X, Y), "of the hidden layers, for which there is no softmax"),
    "features": (lambda: MLPClassifier().fit(X, Y, X_val=X[:, :1], y_val=Y), "X_val, y_val: X has 1 features"),
    "shuffle": (lambda: network().fit(X, Y, epochs=1, batch_size=3, shuffle="no"), "shuffle must be True or False, got 'no'"),
    "no preparation": (lambda: TableModel(network(), None), r"what prepared\(\) has learned .* got NoneType"),
    "another network": (lambda: TableModel(network(), prepared()), "becomes 3 numbers and 2 outputs, but the network has 2 and 2"),
    "a list": (lambda: TableModel(MLP((3, 2), "softmax"), prepared()).predictions([[1]]), "Rows must be a table of pandas, polars"),
}  # fmt: skip


def prepared():
    return from_files("t.csv", "c").prepared().preparation


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("mistake", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(mistake, message):
    with pytest.raises((ValueError, TypeError, OSError), match=message) as caught:
        mistake()
    assert "\n" not in str(caught.value)


def test_parameters_that_are_not_finite():
    for call in (lambda net: net.fit(X, Y, epochs=1, batch_size=3), lambda net: net.train_step(X, Y, 0.1)):
        net = network()
        net.w[0][0, 0] = np.nan
        with pytest.raises(ValueError, match="has parameters that are not finite, from which nothing can be learned") as caught:
            call(net)
        assert not isinstance(caught.value, DivergenceError)


def test_a_checkpoint_of_a_function_is_refused_before_the_first_epoch(tmp_path):
    net = MLP((2, 4, 2), [make_activation(soft_sign), "softmax"], "cross_entropy", random_state=0)
    theta = net.theta
    with pytest.raises(ValueError, match="'soft_sign' is a function of your own, and a file holds no code"):
        net.fit(X, Y, epochs=1, batch_size=3, callbacks=[Checkpoint(tmp_path / "c.safetensors", every=100)])
    assert np.array_equal(net.theta, theta)


def test_all_names_are_exported():
    import fastmlp

    names = {}
    exec("from fastmlp import *", names)
    assert {name for name in names if name != "__builtins__"} == set(fastmlp.__all__)
    assert {"MLPClassifier", "MLPRegressor", "MLP"} <= set(names)


@pytest.mark.usefixtures("folder")
class TestTableModel:
    def test_one_output_is_the_probability_of_the_second_class(self):
        source = from_files("t.csv", "c").prepared()
        net = MLP((source.n_features, 8, 1), ("tanh", "sigmoid"), "binary_cross_entropy", random_state=0)
        net.fit(source, epochs=300, batch_size=20, optimizer="adam", learning_rate=0.01)
        model = TableModel(net, source.preparation)
        table = read_table("t.csv", source.preparation.types)
        outputs = model.outputs(table)
        np.testing.assert_array_equal(outputs[:, 1:], net.predict(source.preparation.rows(table)))
        np.testing.assert_allclose(outputs.sum(axis=1), 1)
        assert set(model.predictions(table)) == {"no", "yes"}
        model.save("m.safetensors")
        np.testing.assert_array_equal(TableModel.load("m.safetensors").outputs(table), outputs)

    @pytest.mark.parametrize("library", ["pandas", "polars"])
    def test_tables_of_others(self, library):
        frames = pytest.importorskip(library)
        source = from_files("t.csv", "c").prepared()
        model = TableModel(MLP((source.n_features, 2), "softmax", "cross_entropy", random_state=0), source.preparation)
        expected = model.predictions(read_table("t.csv", source.preparation.types))
        np.testing.assert_array_equal(model.predictions(frames.read_csv("t.csv")), expected)

    def test_a_model_without_history(self, monkeypatch):
        from fastmlp.__main__ import main

        source = from_files("t.csv", "c").prepared()
        TableModel(MLP((source.n_features, 2), "softmax", "cross_entropy"), source.preparation).save("m.safetensors")
        monkeypatch.setattr("sys.argv", ["fastmlp", "info", "m.safetensors"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code

    def test_a_file_of_another_network(self):
        source = from_files("t.csv", "c").prepared()
        model = TableModel(MLP((source.n_features, 2), "softmax", "cross_entropy"), source.preparation)
        model.network = MLP((7, 2), "softmax", "cross_entropy")
        model.save("m.safetensors")
        with pytest.raises(
            TableError, match=r"m.safetensors: The table becomes 3 numbers and 2 outputs, but the network has 7 and 2"
        ):
            TableModel.load("m.safetensors")


def test_logits_of_pytorch():
    torch = pytest.importorskip("torch")
    from fastmlp.io import from_torch

    layers = [torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)]
    with pytest.raises(ValueError, match=r"cross_entropy is of probabilities, .* append a torch.nn.Softmax\(dim=1\)"):
        from_torch(torch.nn.Sequential(*layers), "cross_entropy")
    assert from_torch(torch.nn.Sequential(*layers, torch.nn.Softmax(dim=1)), "cross_entropy").activation == ("relu", "softmax")
    assert from_torch(torch.nn.Sequential(*layers, torch.nn.Identity()), "cross_entropy").activation == ("relu", "identity")
    with pytest.raises(TypeError, match=r"^Layer 0 is Sequential\(.*\), where there has to be a Linear layer\.$"):
        from_torch(torch.nn.Sequential(torch.nn.Sequential(*layers), torch.nn.ReLU()))
