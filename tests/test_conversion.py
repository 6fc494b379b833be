"""A network that goes elsewhere computes the same there."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import sklearn
from sklearn import neural_network
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning

from fastmlp import ACTIVATIONS, LOSSES, MLP, MLPClassifier, MLPRegressor, ReferenceMLP, io, make_activation
from fastmlp.callbacks import Checkpoint
from fastmlp.data.files import read_table

HIDDEN = [name for name, entry in ACTIVATIONS.items() if not entry.by_row]


def network(name, dtype="float32", kind=MLP):
    """A hidden layer with an activation, one with tanh, so that exponentials do not grow, and an output layer with it."""
    hidden = "tanh" if ACTIVATIONS[name].by_row else name
    net = kind((5, 12, 7, 3), (hidden, "tanh", name), dtype=dtype, random_state=0)
    rng = np.random.default_rng(1)
    for bias in net.b:
        bias[:] = rng.normal(size=bias.shape)
    return net


def samples(dtype="float32", rows=40):
    return (np.random.default_rng(2).normal(size=(rows, 5)) * 2).astype(dtype)


def fitted(kind, *, classes=3, **options):
    x, y = load_iris(return_X_y=True)
    if issubclass(kind, neural_network.MLPRegressor | MLPRegressor):
        x, y = load_diabetes(return_X_y=True)
        y = (y - y.mean()) / y.std()
    options = {"max_iter": 20, "random_state": 0, "hidden_layer_sizes": (9, 4)} | options
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keep = y < classes if classes < 3 else slice(None)
        return kind(**options).fit(x[keep], y[keep]), x


class TestNumpySource:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("name", ACTIVATIONS)
    def test_predicts_the_same(self, tmp_path, name, dtype):
        net, x = network(name, dtype), samples(dtype)
        path = tmp_path / "model.py"
        io.to_numpy_source(net, path)
        namespace = {}
        exec(compile(path.read_text(), str(path), "exec"), namespace)
        tolerance = 2e-6 if dtype == "float32" else 1e-13
        outputs = namespace["predict"](x)
        assert outputs.dtype == net.dtype
        np.testing.assert_allclose(outputs, net.predict(x), rtol=tolerance, atol=tolerance)

    @pytest.mark.parametrize("name", ["sigmoid", "silu"])
    def test_as_close_to_zero(self, tmp_path, name):
        net, x = MLP((1, 1), name, dtype="float64"), np.array([[-300.0]])
        net.w[0] = [[1]]
        io.to_numpy_source(net, tmp_path / "model.py")
        exec((tmp_path / "model.py").read_text(), namespace := {})
        np.testing.assert_allclose(namespace["predict"](x), net.predict(x), rtol=1e-12, atol=0)

    def test_needs_numpy_only(self, tmp_path):
        path = tmp_path / "model.py"
        net, x = network("relu"), samples()
        io.to_numpy_source(net, path)
        np.save(tmp_path / "x.npy", x)
        code = (
            "import sys; sys.modules.update(dict.fromkeys(['fastmlp', 'numba', 'sklearn', 'scipy']));"  # which cannot be imported
            "import numpy as np, model; np.save('out.npy', model.predict(np.load('x.npy')))"
        )
        subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True)
        np.testing.assert_allclose(np.load(tmp_path / "out.npy"), net.predict(x), rtol=1e-5, atol=1e-6)

    def test_wrong_samples(self, tmp_path):
        io.to_numpy_source(network("relu"), tmp_path / "model.py")
        namespace = {}
        exec((tmp_path / "model.py").read_text(), namespace)
        with pytest.raises(ValueError, match="x must have 5 features, got 4"):
            namespace["predict"](np.zeros((2, 4)))

    def test_of_an_estimator(self, tmp_path):
        model, x = fitted(MLPClassifier)
        io.to_numpy_source(model, tmp_path / "model.py")
        namespace = {}
        exec((tmp_path / "model.py").read_text(), namespace)
        np.testing.assert_allclose(namespace["predict"](x), model.predict_proba(x), rtol=1e-9, atol=1e-12)


class TestOnnx:
    @pytest.fixture(autouse=True)
    def needed(self):
        pytest.importorskip("onnx", exc_type=ImportError)

    @staticmethod
    def run(path, x):
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (outputs,) = session.run(None, {"x": x})
        return outputs

    @pytest.mark.parametrize("name", ACTIVATIONS)
    def test_onnx_runtime_predicts_the_same(self, tmp_path, name):
        net, x = network(name), samples()
        io.to_onnx(net, tmp_path / "model.onnx")
        outputs = self.run(tmp_path / "model.onnx", x)
        assert outputs.dtype == np.float32
        expected = net.predict(x)
        # Relative to the outputs: those of exponentials are large.
        np.testing.assert_allclose(outputs, expected, rtol=1e-6, atol=1e-6 * max(1.0, float(np.abs(expected).max())))

    @pytest.mark.parametrize("name", LOSSES)
    def test_the_output_that_belongs_to_each_loss(self, tmp_path, name):
        """After some training: the link is in the graph, whatever the loss needs it for."""
        x = samples()
        net = MLP((5, 9, 1), ("tanh", LOSSES[name].canonical or "identity"), name, random_state=0)
        y = np.random.default_rng(3).uniform(0.1, 0.9, size=(len(x), 1))
        net.fit(x, y if net._activations[-1].name != "softmax" else np.ones_like(y), epochs=5, batch_size=8, learning_rate=0.01)
        io.to_onnx(net, tmp_path / "model.onnx")
        np.testing.assert_allclose(self.run(tmp_path / "model.onnx", x), net.predict(x), rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("scale", [0.01, 1, 10, 60])
    @pytest.mark.parametrize("name", ACTIVATIONS)
    def test_near_zero_and_far_from_it(self, tmp_path, name, scale):
        """The activation alone, of numbers of many sizes."""
        net = MLP((6, 6), name, random_state=0)
        net.w[0][:] = np.eye(6)
        x = (np.random.default_rng(0).normal(size=(1000, 6)) * scale).clip(-300, 60).astype(np.float32)
        io.to_onnx(net, tmp_path / "model.onnx")
        np.testing.assert_allclose(self.run(tmp_path / "model.onnx", x), net.predict(x), rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize(
        "entry", [ACTIVATIONS["leaky_relu"](0.3), ACTIVATIONS["leaky_relu"](1.7), ACTIVATIONS["elu"](0.4), ACTIVATIONS["selu"]],
        ids=lambda entry: f"{entry.name} {entry.parameter}",
    )  # fmt: skip
    def test_slopes_have_the_digits_of_the_network(self, tmp_path, entry):
        """Attributes of an operator are float32, whatever it computes in."""
        from onnx.reference import ReferenceEvaluator

        net, x = MLP((6, 6), [entry], dtype="float64", random_state=0), np.random.default_rng(0).normal(size=(100, 6)) * 3
        net.w[0][:] = np.eye(6)
        x[0] = 0
        io.to_onnx(net, tmp_path / "model.onnx")
        (outputs,) = ReferenceEvaluator(str(tmp_path / "model.onnx")).run(None, {"x": x})
        np.testing.assert_allclose(outputs, net.predict(x), rtol=1e-13, atol=1e-15)
        if entry.name == "leaky_relu":
            np.testing.assert_array_equal(self.run(tmp_path / "model.onnx", x), outputs)

    @pytest.mark.parametrize("entry", [ACTIVATIONS["leaky_relu"](0.3), ACTIVATIONS["elu"](0.4)], ids=lambda entry: entry.name)
    def test_slopes_and_scales(self, tmp_path, entry):
        net, x = MLP((5, 12, 3), entry, random_state=0), samples()
        io.to_onnx(net, tmp_path / "model.onnx")
        np.testing.assert_allclose(self.run(tmp_path / "model.onnx", x), net.predict(x), rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("name", ACTIVATIONS)
    def test_every_number_is_of_the_dtype(self, tmp_path, name, dtype):
        import onnx

        io.to_onnx(network(name), tmp_path / "model.onnx", dtype=dtype)
        graph = onnx.load(tmp_path / "model.onnx").graph
        kind = {"float32": onnx.TensorProto.FLOAT, "float64": onnx.TensorProto.DOUBLE}[dtype]
        ends = {one.type.tensor_type.elem_type for one in (*graph.input, *graph.output)}
        assert ends == {one.data_type for one in graph.initializer} == {kind}

    @pytest.mark.parametrize("name", ["identity", "sigmoid", "tanh", "relu", "softmax"])
    def test_float64(self, tmp_path, name):
        net, x = network(name, "float64"), samples("float64")
        io.to_onnx(net, tmp_path / "model.onnx")
        np.testing.assert_allclose(self.run(tmp_path / "model.onnx", x), net.predict(x), rtol=1e-12, atol=1e-12)
        io.to_onnx(net, tmp_path / "narrow.onnx", dtype="float32")
        outputs = self.run(tmp_path / "narrow.onnx", x.astype("float32"))
        np.testing.assert_allclose(outputs, net.predict(x), rtol=1e-5, atol=1e-5)

    def test_versions_are_pinned_and_rows_are_free(self, tmp_path):
        import onnx

        io.to_onnx(network("relu"), tmp_path / "model.onnx")
        model = onnx.load(tmp_path / "model.onnx")
        assert (model.opset_import[0].version, model.ir_version) == (17, 8)
        for rows in (1, 33):
            assert self.run(tmp_path / "model.onnx", samples(rows=rows)).shape == (rows, 3)

    def test_of_an_estimator(self, tmp_path):
        model, x = fitted(MLPRegressor)
        io.to_onnx(model, tmp_path / "model.onnx", dtype="float32")
        np.testing.assert_allclose(
            self.run(tmp_path / "model.onnx", x.astype("float32"))[:, 0], model.predict(x), rtol=1e-4, atol=1e-4
        )

    @pytest.mark.parametrize("parameters", ["w", "b"])
    def test_a_number_that_float32_cannot_hold(self, tmp_path, parameters):
        net = network("relu", "float64")
        getattr(net, parameters)[1][0, 0] = 1e300
        path = tmp_path / "model.onnx"
        path.write_text("before")
        with pytest.raises(ValueError, match="Layer 1 has a weight or bias that float32 cannot hold; leave dtype out"):
            io.to_onnx(net, path, dtype="float32")
        assert path.read_text() == "before"
        io.to_onnx(net, path)

    def test_wrong_dtype(self, tmp_path):
        with pytest.raises(ValueError, match="dtype must be 'float32' or 'float64', got 'float16'"):
            io.to_onnx(network("relu"), tmp_path / "model.onnx", dtype="float16")


class TestTorch:
    @pytest.fixture(autouse=True)
    def torch(self):
        return pytest.importorskip("torch")

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("name", ACTIVATIONS)
    def test_there_and_back(self, torch, name, dtype):
        net, x = network(name, dtype), samples(dtype)
        module = io.to_torch(net)
        with torch.inference_mode():
            outputs = module(torch.from_numpy(x)).numpy()
        tolerance = 2e-6 if dtype == "float32" else 1e-12
        expected = net.predict(x)
        np.testing.assert_allclose(outputs, expected, rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(expected).max())))
        back = io.from_torch(module)
        assert back.dtype == net.dtype
        np.testing.assert_array_equal(back.theta, net.theta)
        np.testing.assert_array_equal(back.predict(x), expected)

    def test_what_is_left_out_and_put_in(self, torch):
        nn = torch.nn
        net = io.from_torch(nn.Sequential(nn.Flatten(), nn.Linear(5, 4, bias=False), nn.Dropout(0.5), nn.Tanh(), nn.Linear(4, 2)))
        assert net.sizes == (5, 4, 2)
        assert [entry.name for entry in net._activations] == ["tanh", "identity"]
        assert not net.b[0].any()

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda nn: nn.Linear(2, 2), "must be a torch.nn.Sequential, got Linear"),
            (lambda nn: nn.Sequential(), "must have a Linear layer"),
            (lambda nn: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), "Layer 1 is BatchNorm1d.*for which fastmlp has nothing"),
            (lambda nn: nn.Sequential(nn.Linear(2, 2), nn.GELU("tanh")), "Layer 1 is GELU"),
            (lambda nn: nn.Sequential(nn.Linear(2, 2), nn.Softplus(threshold=1)), "Layer 1 is Softplus"),
            (lambda nn: nn.Sequential(nn.Linear(2, 2), type("Own", (nn.LeakyReLU,), {})()), "Layer 1 is Own"),
            (lambda nn: nn.Sequential(type("Own", (nn.Linear,), {})(2, 2)), "Layer 0 is Own"),
            (lambda nn: type("Own", (nn.Sequential,), {})(nn.Linear(2, 2)), "must be a torch.nn.Sequential, got Own"),
            (
                lambda nn: nn.Sequential(nn.Flatten(0), nn.Linear(2, 2)),
                r"Layer 0 is Flatten\(start_dim=0.*, where there has",
            ),
            (lambda nn: nn.Sequential(nn.Linear(2, 2), nn.Flatten(1, 2)), r"Layer 1 is Flatten.*for which fastmlp has nothing"),
            (
                lambda nn: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()),
                r"has parameters of torch.float32 and torch.float64; give it one dtype first, such as by module.double\(\)",
            ),
            (lambda nn: nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), r"Layer 0 is ReLU\(\), where there has to be a Linear layer"),
        ],
    )
    def test_what_cannot_be_read(self, torch, make, message):
        with pytest.raises(TypeError, match=message):
            io.from_torch(make(torch.nn))

    @pytest.mark.parametrize(
        "alter",
        [
            lambda module: module[0].register_forward_hook(lambda layer, args, output: 2 * output),
            lambda module: module[1].register_forward_hook(lambda layer, args, output: 2 * output),
            lambda module: module[1].register_forward_pre_hook(lambda layer, args: (2 * args[0],)),
            lambda module: setattr(module[1], "forward", lambda z: 2 * z),
            lambda module: module.register_forward_hook(lambda layer, args, output: 2 * output),
            lambda module: module.register_forward_pre_hook(lambda layer, args: (2 * args[0],)),
        ],
    )
    def test_a_hook_may_compute_anything(self, torch, alter):
        module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
        alter(module)
        with pytest.raises(TypeError, match=r"hook, or a forward of its own, which may change what it computes; remove it first"):
            io.from_torch(module)

    @pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
    @pytest.mark.parametrize("what", ["weight_norm", "prune"])
    def test_weights_that_a_hook_computes(self, torch, what):
        """What is in them is of the last call."""
        from torch.nn.utils import prune, remove_weight_norm, weight_norm

        linear = torch.nn.Linear(3, 2)
        weight_norm(linear) if what == "weight_norm" else prune.l1_unstructured(linear, "weight", 2)
        with torch.no_grad():
            (linear.weight_v if what == "weight_norm" else linear.weight_orig).mul_(3).add_(1)
        module = torch.nn.Sequential(torch.nn.Linear(3, 3), linear)
        with pytest.raises(TypeError, match=r"Layer 1 is Linear.*hook.*remove it first, by .*remove_weight_norm or .*prune"):
            io.from_torch(module)
        x = samples()[:, :3]
        with torch.inference_mode():
            expected = module(torch.from_numpy(x)).numpy()
        remove_weight_norm(linear) if what == "weight_norm" else prune.remove(linear, "weight")
        np.testing.assert_allclose(io.from_torch(module).predict(x), expected, rtol=1e-5, atol=1e-5)


class TestSklearn:
    @pytest.mark.parametrize("classes", [2, 3])
    @pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
    def test_classifiers(self, activation, classes):
        theirs, x = fitted(neural_network.MLPClassifier, activation=activation, classes=classes)
        ours = io.from_sklearn(theirs)
        np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))
        assert ours.n_iter_ == theirs.n_iter_
        assert ours.loss_curve_ == theirs.loss_curve_
        back = io.to_sklearn(ours)
        assert type(back) is neural_network.MLPClassifier
        np.testing.assert_array_equal(back.predict_proba(x), theirs.predict_proba(x))

    def test_regressors(self):
        theirs, x = fitted(neural_network.MLPRegressor)
        ours = io.from_sklearn(theirs)
        np.testing.assert_allclose(ours.predict(x), theirs.predict(x), rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(io.to_sklearn(ours).predict(x), theirs.predict(x))

    def test_ours_trained_otherwise(self):
        model, x = fitted(MLPRegressor, loss="huber", optimizer="adamw", dropout=0.1)
        np.testing.assert_allclose(io.to_sklearn(model).predict(x), model.predict(x), rtol=1e-9, atol=1e-12)

    def test_a_copy(self):
        theirs, x = fitted(neural_network.MLPClassifier)
        before = theirs.predict_proba(x)
        ours = io.from_sklearn(theirs)
        ours.partial_fit(*load_iris(return_X_y=True))
        np.testing.assert_array_equal(theirs.predict_proba(x), before)

    @pytest.mark.parametrize("convert", [io.from_sklearn, io.to_sklearn])
    def test_random_numbers_are_not_shared(self, convert):
        """Nothing is drawn from the given estimator's, then or later."""
        kind = neural_network.MLPRegressor if convert is io.from_sklearn else MLPRegressor
        model, _ = fitted(kind, random_state=np.random.RandomState(0))
        before = model.random_state.get_state()[1:3]
        made = convert(model)
        made.random_state.rand(1000)
        np.testing.assert_equal(model.random_state.get_state()[1:3], before)

    def test_random_numbers_of_numpy_stay(self):
        model, _ = fitted(neural_network.MLPRegressor, random_state=None)
        before = np.random.get_state()[1:3]  # noqa: NPY002  # it is the one that is asked about
        assert io.from_sklearn(model).random_state is None
        np.testing.assert_equal(np.random.get_state()[1:3], before)  # noqa: NPY002

    def test_a_class_with_one_more_parameter(self):
        class More(neural_network.MLPRegressor):
            def __init__(self, more=1, hidden_layer_sizes=(3,), max_iter=200, random_state=None):
                super().__init__(hidden_layer_sizes=hidden_layer_sizes, max_iter=max_iter, random_state=random_state)
                self.more = more

        model, x = fitted(More, more=2)
        np.testing.assert_allclose(io.from_sklearn(model).predict(x), model.predict(x), rtol=1e-9, atol=1e-12)

    def test_strings_and_labels(self):
        x, y = load_iris(return_X_y=True)
        names = np.array(["a", "b", "c"])[y]
        theirs = neural_network.MLPClassifier(max_iter=500, random_state=0).fit(x, names)
        np.testing.assert_array_equal(io.from_sklearn(theirs).predict(x), theirs.predict(x))

    @pytest.mark.parametrize("activation", ["gelu", ["relu", "tanh"]])
    def test_what_scikit_learn_cannot_compute(self, activation):
        model, _ = fitted(MLPClassifier, activation=activation)
        with pytest.raises(ValueError, match="scikit-learn has one of identity, logistic, tanh, relu for all of them"):
            io.to_sklearn(model)

    def test_a_function_of_one_s_own_with_a_name_that_scikit_learn_has(self):
        model, _ = fitted(MLPClassifier, activation=make_activation(lambda z: 0.5 * z, lambda z: 0.5, name="relu"))
        with pytest.raises(ValueError, match="'relu' is a function of your own, which an estimator of scikit-learn cannot hold"):
            io.to_sklearn(model)

    def test_a_loss_that_an_older_scikit_learn_does_not_have(self, monkeypatch):
        class Older(neural_network.MLPRegressor):
            def __init__(self, hidden_layer_sizes=(100,), activation="relu", random_state=None):
                super().__init__(hidden_layer_sizes=hidden_layer_sizes, activation=activation, random_state=random_state)

        monkeypatch.setattr("fastmlp.io.sklearn._PAIRS", ((Older, MLPRegressor),))
        x = np.random.default_rng(0).normal(size=(60, 3))
        model = MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", random_state=0).fit(x, x[:, 0])
        np.testing.assert_allclose(io.to_sklearn(model).predict(x), model.predict(x), rtol=1e-9)
        with pytest.raises(ValueError, match=r"outputs are exponential, .* which scikit-learn has from 1\.7 on"):
            io.to_sklearn(model.set_params(loss="poisson").fit(x, abs(x[:, 0])))

    def test_a_class_made_from_ours(self):
        class Mine(MLPClassifier):
            pass

        model, x = fitted(Mine)
        np.testing.assert_array_equal(io.to_sklearn(model).predict(x), model.predict(x))

    def test_parameters_that_are_not_finite(self):
        model, _ = fitted(MLPClassifier)
        model.coefs_[0][0, 0] = np.nan
        with pytest.raises(ValueError, match="Layer 0 has parameters that are nan or infinite"):
            io.to_sklearn(model)

    def test_other_things(self):
        for convert in (io.from_sklearn, io.to_sklearn):
            with pytest.raises(TypeError, match=r"got int\."):
                convert(3)


@pytest.mark.parametrize("convert", [io.to_numpy_source, io.to_onnx])
class TestFiles:
    def test_a_function_of_one_s_own_cannot_be_written(self, tmp_path, convert):
        if convert is io.to_onnx:
            pytest.importorskip("onnx")
        own = make_activation(lambda z: z * z * 0.5, lambda z: z)
        with pytest.raises(ValueError, match="function of your own"):
            convert(MLP((2, 3, 1), own, random_state=0), tmp_path / "model")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    @pytest.mark.parametrize("parameters", ["w", "b"])
    def test_parameters_that_are_not_finite(self, tmp_path, convert, parameters, bad):
        if convert is io.to_onnx:
            pytest.importorskip("onnx")
        net, path = network("relu"), tmp_path / "model"
        getattr(net, parameters)[1][0, 0] = bad
        path.write_text("before")
        with pytest.raises(ValueError, match=r"Layer 1 has parameters that are nan or infinite, which an? .* should not hold"):
            convert(net, path)
        assert path.read_text() == "before"

    def test_what_was_there_is_replaced_in_one_step(self, tmp_path, convert):
        if convert is io.to_onnx:
            pytest.importorskip("onnx")
        path = tmp_path / "model"
        path.write_text("before")
        convert(network("relu", kind=ReferenceMLP), path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
        assert path.read_bytes() != b"before"

    def test_a_folder_that_is_not_there_is_named(self, tmp_path, convert):
        if convert is io.to_onnx:
            pytest.importorskip("onnx")
        path = tmp_path / "missing" / "model"
        with pytest.raises(FileNotFoundError, match="missing/model"):
            convert(network("relu"), path)

    def test_other_things(self, tmp_path, convert):
        if convert is io.to_onnx:
            pytest.importorskip("onnx")
        with pytest.raises(TypeError, match="must be an MLP, a ReferenceMLP or a fitted estimator of fastmlp, got int"):
            convert(3, tmp_path / "model")


@pytest.mark.parametrize(
    ("module", "extra", "use"),
    [
        ("onnx", "onnx", lambda folder: io.to_onnx(network("relu"), folder / "model.onnx")),
        ("torch", "torch", lambda folder: io.to_torch(network("relu"))),
        ("torch", "torch", lambda folder: io.from_torch(None)),
        ("safetensors.numpy", "cli", lambda folder: io.save(network("relu"), folder / "model.safetensors")),
        ("safetensors", "cli", lambda folder: io.load(folder / "model.safetensors")),
        ("safetensors", "cli", lambda folder: network("relu").fit(
            samples(), np.zeros((40, 3)), epochs=1, batch_size=40, callbacks=[Checkpoint(folder / "checkpoint")])),
        ("pyarrow", "cli", lambda folder: read_table(folder / "table.csv")),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_with_its_extra(tmp_path, monkeypatch, module, extra, use):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"^{module.partition('.')[0]} is needed .*pip install 'fastmlp\[{extra}\]'\.$"):
        use(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_digits_go_around(tmp_path):
    """A trained network through every form it can have."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    net = MLP((64, 20, 10), ("relu", "softmax"), "cross_entropy", random_state=0)
    net.fit(x, y, epochs=15, batch_size=16, learning_rate=0.1)
    expected = net.predict(x).argmax(axis=1)
    io.to_numpy_source(net, tmp_path / "digits.py")
    namespace = {}
    exec((tmp_path / "digits.py").read_text(), namespace)
    assert (namespace["predict"](x).argmax(axis=1) == expected).mean() > 0.999
    assert (expected == y).mean() > 0.9


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_early_stopping_goes_on_at_scikit_learn(kind):
    x = np.random.default_rng(0).normal(size=(200, 3))
    options = {"early_stopping": True, "warm_start": True, "max_iter": 5, "random_state": 0}
    with pytest.warns(ConvergenceWarning):
        made = io.to_sklearn(kind(hidden_layer_sizes=(8,), **options).fit(x, (x[:, 0] > 0).astype(int)))
    made.best_validation_score_ = 2.0  # which nothing improves on
    expected = made.predict(x)
    with pytest.warns(ConvergenceWarning):
        made.fit(x, (x[:, 0] > 0).astype(int))
    np.testing.assert_array_equal(made.predict(x), expected)


def test_a_class_made_from_ours_goes_everywhere(tmp_path):
    class Mine(MLPClassifier):
        pass

    x = np.random.default_rng(0).normal(size=(60, 3))
    with pytest.warns(ConvergenceWarning):
        model = Mine((4,), max_iter=2, random_state=0).fit(x, (x[:, 0] > 0).astype(int))
    io.to_numpy_source(model, tmp_path / "net.py")
    exec((tmp_path / "net.py").read_text(), namespace := {})
    np.testing.assert_allclose(namespace["predict"](x), model._network.predict(x), rtol=1e-5, atol=1e-6)


def test_metadata_requests_are_kept():
    with sklearn.config_context(enable_metadata_routing=True):
        x = np.random.default_rng(0).normal(size=(40, 2))
        theirs = neural_network.MLPClassifier((3,), max_iter=2).set_fit_request(sample_weight=True)
        with pytest.warns(ConvergenceWarning):
            theirs.fit(x, (x[:, 0] > 0).astype(int))
        ours = io.from_sklearn(theirs)
        assert ours.get_metadata_routing().fit.requests["sample_weight"] is True
        assert io.to_sklearn(ours).get_metadata_routing().fit.requests["sample_weight"] is True


def test_nothing_is_drawn_from_pytorch_s_random_numbers():
    torch = pytest.importorskip("torch")
    before = torch.get_rng_state()
    io.to_torch(MLP((3, 4, 2), random_state=0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", ["flaot32", "float16", "", 3, object()])
def test_a_dtype_that_there_is_not(tmp_path, dtype):
    with pytest.raises(ValueError, match=r"^dtype must be 'float32' or 'float64', got "):
        io.to_onnx(MLP((2, 2)), tmp_path / "m.onnx", dtype=dtype)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda nn: nn.Sequential(nn.Linear(2, 3).bfloat16()), ValueError, "^dtype must be 'float32' or 'float64', got 'bfloat16'"),
        (lambda nn: nn.Sequential(nn.Linear(2, 3).half()), ValueError, "^dtype must be 'float32' or 'float64', got 'float16'"),
        (lambda nn: nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(4, 1)), TypeError, r"^Linear\(in_features=4.* comes after"),
    ],
)  # fmt: skip
def test_modules_that_cannot_be_taken(change, kind, message):
    torch = pytest.importorskip("torch")
    with pytest.raises(kind, match=message):
        io.from_torch(change(torch.nn))


def test_parameters_of_pytorch_that_are_not_finite():
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(2, 3))
    module[0].weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"^module has parameters that are nan or infinite"):
        io.from_torch(module)
