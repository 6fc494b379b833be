"""Who trains. To add a peer, write a file with a :class:`~benchmarks.peers.peer.Peer` and name it in the table."""

from __future__ import annotations

from . import fastmlp, jax_scan, keras, lightgbm, null, onnx_runtime, reference, sklearn, torch_compile, torch_eager
from .peer import Contestant, Peer

OURS = fastmlp.PEER.name
BASELINE = reference.PEER.name
"""Whose time is divided by the others', and whose loss is the right one."""

_ALL = (
    reference.PEER, fastmlp.PEER,
    sklearn.PEER, torch_eager.PEER, torch_compile.PEER, jax_scan.PEER, keras.PEER, onnx_runtime.PEER, lightgbm.PEER,
    null.PEER,
)  # fmt: skip

PEERS: dict[str, Peer] = {peer.name: peer for peer in _ALL}
"""All peers, by name, in the order in which they take their turns."""


def contestants(peers: list[Peer], threads: list[int | None]) -> list[Contestant]:
    """Every peer with every number of threads."""
    return [Contestant(peer, count) for peer in peers for count in (threads if peer.threaded else [None])]
