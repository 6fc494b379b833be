"""Errors that a caller may want to tell apart from others."""

from __future__ import annotations


class DivergenceError(FloatingPointError, ValueError):
    """The loss or a parameter stopped being a finite number; the network has the last finite parameters.

    Parameters
    ----------
    message : str
    epoch : int
        The epoch in which it happened, from 1; an attribute, too.
    """

    def __init__(self, message: str, epoch: int) -> None:
        super().__init__(message)
        self.epoch = epoch

    def __reduce__(self) -> tuple[type[DivergenceError], tuple[str, int]]:
        return type(self), (str(self), self.epoch)  # of exceptions, pickle knows what was given to the base only
