"""A training that is killed over and over; imported once, with its kernels, by the process that the others are forked from."""

from __future__ import annotations

import numpy as np

from fastmlp.callbacks import Callback, Checkpoint
from tests.test_resume import fit, network


class Say(Callback):
    """Says that the training has begun, and that an epoch is kept: behind :class:`Checkpoint` among the callbacks."""

    def __init__(self, say):
        self._say = say

    def on_train_begin(self, run):
        self._say.send("begun")

    def on_epoch_end(self, run):
        self._say.send("epoch")


def train_to_the_end(folder, say):
    """Goes on from the checkpoint, if there is one, and writes the parameters at the end."""
    path = folder / "checkpoint.safetensors"
    net = fit(network(), epochs=400, callbacks=[Checkpoint(path), Say(say)], resume=path if path.exists() else None)
    np.save(folder / "theta.npy", net.theta)


if __name__ != "__main__":
    warm = network()
    warm.n_threads = 1  # no threads before the fork
    fit(warm, epochs=1)
