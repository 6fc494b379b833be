"""How fast networks train: problems x peers, ``python -m benchmarks``.

A problem is an entry in :data:`benchmarks.problems.PROBLEMS`, a peer an entry in :data:`benchmarks.peers.PEERS`.
"""
