"""What a training that diverges is brought back to."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from fastmlp.validation import is_finite

Array = np.ndarray[Any, np.dtype[Any]]

_FEW_BYTES = 1 << 20
"""Parameters that take no more than this are looked at whenever a training reports..."""
_LOOK_SECONDS = 1.0
"""...and others so often, and at the end of each epoch: to look at them, and to copy them, takes a tenth of the time of a step."""


class Safeguard:
    """Parameters as they were when they were last seen to be finite.

    Parameters
    ----------
    buffer : ndarray
        The parameters that are trained.
    """

    def __init__(self, buffer: Array) -> None:
        self._buffer, self._good = buffer, buffer.copy()
        self._next_look = time.monotonic() + _LOOK_SECONDS

    def keep(self) -> None:
        """Take the parameters as they are now, which are finite."""
        self._good[:] = self._buffer
        self._next_look = time.monotonic() + _LOOK_SECONDS

    def is_well(self, loss_sum: float, *, ends: bool) -> bool:
        """Whether a training that has had these losses may go on; where it ``ends`` an epoch, its parameters are looked at, too."""
        if not math.isfinite(loss_sum):
            return False
        if ends or self._buffer.nbytes <= _FEW_BYTES or time.monotonic() >= self._next_look:
            if not is_finite(self._buffer):
                return False
            self.keep()
        return True

    def bring_back(self) -> bool:
        """Give the network its last finite parameters; returns False if it has never had any."""
        self._buffer[:] = self._good
        return is_finite(self._good)

    def settle(self) -> bool:
        """Do so if those that it has are not finite, for when a training ends between two looks; returns whether they were not."""
        if is_finite(self._buffer):
            return False
        self.bring_back()
        return True
