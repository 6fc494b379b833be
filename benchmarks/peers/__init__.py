"""Who trains. To add a peer, write a file with a :class:`~benchmarks.peers.peer.Peer` and name it in the table."""

from __future__ import annotations

from benchmarks.peers import fastmlp, null, reference
from benchmarks.peers.peer import Peer

BASELINE = reference.PEER.name
"""Whose time is divided by the others', and whose loss is the right one."""

PEERS: dict[str, Peer] = {peer.name: peer for peer in (reference.PEER, fastmlp.ONE_THREAD, fastmlp.PEER, null.PEER)}
"""All peers, by name, in the order in which they take their turns."""
