"""Who trains. To add a peer, write a file with a :class:`~benchmarks.peers.peer.Peer` and name it in the table."""

from __future__ import annotations

from benchmarks.peers import fastmlp, jax, null, reference, sklearn, torch
from benchmarks.peers.peer import Peer

BASELINE = reference.PEER.name
"""Whose time is divided by the others', and whose loss is the right one."""

_ALL = (
    reference.PEER, fastmlp.ONE_THREAD, fastmlp.PEER,
    sklearn.PEER, torch.PEER, torch.ONE_THREAD, torch.COMPILED, torch.COMPILED_ONE_THREAD, jax.PEER, jax.ONE_THREAD,
    null.PEER,
)  # fmt: skip

PEERS: dict[str, Peer] = {peer.name: peer for peer in _ALL}
"""All peers, by name, in the order in which they take their turns."""

OWN_PEERS = [peer.name for peer in (reference.PEER, fastmlp.ONE_THREAD, fastmlp.PEER, null.PEER)]
"""Those that need nothing but the package itself."""
