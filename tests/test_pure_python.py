"""The kernels as plain Python, with ``NUMBA_DISABLE_JIT=1``: what a debugger or a coverage tool can step through.

Everything runs so but two things. The team of threads: a barrier needs atomic instructions, which Python does not have,
so one thread is used whatever was asked for. And flushing denormals to zero: Python has no access to the processor's
floating-point mode.
"""

from __future__ import annotations

import numpy as np

from fastmlp import ACTIVATIONS, LOSSES, OPTIMIZERS
from fastmlp.kernels import plan
from tests.test_invariants import run_python


def test_kernels_run_as_plain_python_and_agree_with_the_reference():
    printed = run_python(
        """
        import numba, numpy as np
        from fastmlp import ACTIVATIONS, LOSSES, MLP, OPTIMIZERS, ReferenceMLP

        assert numba.config.DISABLE_JIT
        rng = np.random.default_rng(0)
        cases = [(name, "huber", "sgd") for name in ACTIVATIONS] + [("tanh", name, "adam") for name in LOSSES]
        cases += [("sigmoid", "squared_error", name) for name in OPTIMIZERS]
        cases += [("softmax", "cross_entropy", "sgd"), ("sigmoid", "binary_cross_entropy", "sgd")]
        cases += [("exponential", "poisson", "sgd")]
        options = {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3, "max_grad_norm": 0.5}
        count = 0
        for dtype, tolerance in (("float32", 1e-4), ("float64", 1e-9)):
            for output, loss, optimizer in cases:
                x, y, weight = rng.normal(size=(7, 3)), rng.random((7, 2)), rng.random(7)
                nets = []
                for kind in (MLP, ReferenceMLP):
                    net = kind((3, 9, 2), ("tanh", output), loss, dtype=dtype, random_state=1, n_threads=3)
                    nets.append(net.fit(x, y, optimizer=optimizer, sample_weight=weight, **options))
                np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=tolerance, atol=tolerance)
                np.testing.assert_allclose(nets[0].predict(x), nets[1].predict(x), rtol=tolerance, atol=tolerance)
                np.testing.assert_allclose(nets[0].eval_loss(x, y), nets[1].eval_loss(x, y), rtol=tolerance)
                ours, theirs = (net.loss_and_grad(net.theta, x, y)[1] for net in nets)
                np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * abs(theirs).max())
                for net in nets:
                    net.fit(x, y, epochs=1, batch_size=1, learning_rate=1e-3)
                    net.fit(x, y, epochs=1, batch_size=4, learning_rate=1e-3, dropout=0.3)
                np.testing.assert_allclose(nets[0].theta, nets[1].theta, rtol=tolerance, atol=tolerance)
                count += 1
        print(count)
        """,
        NUMBA_DISABLE_JIT="1",
    )
    assert int(printed) == 2 * (len(ACTIVATIONS) + len(LOSSES) + len(OPTIMIZERS) + 3)


def test_no_field_is_called_like_an_attribute_of_numpy_s_records():
    """The kernels would find that: a method counts as true."""
    names = [name for record in (plan.LAYER, plan.BLOCK, plan.JOB) for name in record.names]
    assert not [name for name in names if hasattr(np.record, name)]


def test_every_sample_is_asked_for_before_it_is_gathered():
    """What a processor makes of a prefetch cannot be seen; that each sample but the first ones is asked for once can be."""
    printed = run_python(
        """
        import numpy as np
        from fastmlp import MLP
        from fastmlp.engine import limits
        from fastmlp.kernels import chunk, slots

        limits.CACHE_BYTES = 0
        asked = []

        def prefetch_samples(job, samples, position, rows, first, last):
            asked.extend(range(position, position + rows))

        chunk.prefetch_samples = slots.prefetch_samples = prefetch_samples
        x = np.random.default_rng(0).normal(size=(700, 28))
        for sizes, batch_size, first in (((28, 64, 64, 2), 256, 64), ((28, 8, 2), 50, 50)):
            asked.clear()
            MLP(sizes, random_state=0, n_threads=1).fit(x, np.zeros((700, 2)), epochs=1, batch_size=batch_size)
            print(asked == list(range(first, 700)))
        """,
        NUMBA_DISABLE_JIT="1",
    )
    assert printed.split() == ["True", "True"]
