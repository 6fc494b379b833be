"""What takes long to make, kept for whoever needs one of its kind next."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Pool(Generic[K, V]):
    """Values by kind, each lent to one user at a time.

    Threads may share a pool: taking and giving back are a single operation on a dictionary each, so no two get the same value.

    Parameters
    ----------
    most : int
        So many kinds are kept; those that were given back longest ago go first.
    """

    def __init__(self, most: int) -> None:
        self._most, self._kept = most, dict[K, V]()

    def take(self, kind: K) -> V | None:
        """A value of a kind, which nobody else gets until it is given back; None if there is none."""
        return self._kept.pop(kind, None)

    def give_back(self, kind: K, value: V) -> None:
        """Keep a value for the next user; one of its kind that somebody else gave back meanwhile is dropped."""
        self._kept.pop(kind, None)  # so that it is the last to go
        self._kept[kind] = value
        if len(self._kept) > self._most:
            for oldest in list(self._kept)[: -self._most]:  # a copy: other threads do the same
                self._kept.pop(oldest, None)
