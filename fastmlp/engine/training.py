"""A training by the kernels, as the network sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastmlp.engine.session import Coefficients
from fastmlp.kernels import plan
from fastmlp.parameters import pack, unpack
from fastmlp.shuffle import Order
from fastmlp.trainer import PLAIN_DESCENT, ConstantRates, Rates, Recipe, Totals, Trainer
from fastmlp.validation import Data

if TYPE_CHECKING:
    from fastmlp.engine.engine import Engine

Array = np.ndarray[Any, np.dtype[Any]]


_STEPS_AHEAD = 256
"""So many steps' coefficients are made at once."""


class CompiledTrainer(Trainer):
    """A training of one network by the kernels."""

    def __init__(self, engine: Engine, buffer: Array, data: Data, batch_size: int, recipe: Recipe, *, mean: bool) -> None:
        self._recipe, self._layout = recipe, engine.shape.layout
        self._rows, self._batch_size = data.rows, batch_size
        self._steady: tuple[float, Array] | None = None  # a rate, and the coefficients that do not depend on the number of steps
        self._ahead: tuple[float, int, Array] | None = None  # a rate, a step, and the coefficients of it and those that follow
        self.steps = 0
        self.session = engine.session(
            data, batch_size, plan.TRAINS, mean=mean, update=engine.records.update_address(recipe.optimizer),
            n_states=recipe.optimizer.n_states, l2=recipe.l2, max_norm=recipe.max_grad_norm,
            l2_by_weight=recipe.l2_by_weight, loss_scale=recipe.loss_scale, dropout=recipe.dropout,
            still=recipe.optimizer.still and recipe.weight_decay == 0, plain=recipe.optimizer.plain and recipe.weight_decay == 0,
        ).on(buffer, data)  # fmt: skip

    def __enter__(self) -> Self:
        self.session.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.session.__exit__(*error)

    def take(self, data: Data) -> None:
        """Go on with other rows, of the same kind and in any number."""
        self._rows = data.rows
        self.session.replace(data)

    def leave_room(self, somebody_works: Callable[[], bool]) -> None:
        """Leave a processor to somebody else whenever this says so."""
        self.session.somebody_works = somebody_works

    def state(self) -> list[Array]:
        """The optimizer's state: flat arrays laid out as ``theta``, copies."""
        return [pack(*self._layout.views(state)) for state in self._used_states()]

    def load_state(self, steps: int, arrays: Sequence[Array]) -> None:
        """Go on where another training was after ``steps`` steps."""
        self.steps = steps
        for state, array in zip(self._used_states(), arrays, strict=True):
            unpack(array, self._layout, state)

    def scale_state(self, factor: float) -> None:
        """Multiply the optimizer's state."""
        for state in self._used_states():
            state *= state.dtype.type(factor)

    def _used_states(self) -> list[Array]:
        return self.session.states[: self._recipe.optimizer.n_states]

    def coefficients(self, rates: Rates) -> Coefficients:
        """Coefficients of the next steps, as a :class:`Session` takes them."""
        steady = self._recipe.optimizer.steady
        if steady and isinstance(rates, ConstantRates):
            row = self.row(rates.rate)
            return lambda first, last: row

        before = self.steps
        if isinstance(rates, ConstantRates):
            return lambda first, last: self._at_one_rate(rates.rate, before + first + 1, last - first)

        def table(first: int, last: int) -> Array:
            of_steps = rates[first:last]
            if steady and of_steps.min() == of_steps.max():  # as in an epoch of the schedule "step"
                return self.row(of_steps.item(0))
            return self._table(before + first + 1, of_steps)

        return table

    def row(self, rate: float) -> Array:
        """Coefficients of any step at this rate, of an optimizer whose own do not depend on the number of steps."""
        if self._steady is None or self._steady[0] != rate:
            self._steady = rate, self._table(1, np.array([rate]))
        return self._steady[1]

    def _at_one_rate(self, rate: float, first_step: int, steps: int) -> Array:
        """Coefficients of some steps at one rate; made for many at once, because those of one step take nearly as long."""
        if self._ahead is not None:
            rate_ahead, first_ahead, table = self._ahead
            start = first_step - first_ahead
            if rate == rate_ahead and start >= 0 and start + steps <= len(table):
                return table[start : start + steps]
        table = self._table(first_step, np.full(max(steps, _STEPS_AHEAD), rate))
        self._ahead = rate, first_step, table
        return table[:steps]

    def _table(self, first_step: int, rates: Array) -> Array:
        table = np.empty((len(rates), plan.STEP_COLUMNS))
        table[:, : plan.SHRINK] = self._recipe.optimizer.coefficient_table(first_step, rates)
        table[:, plan.SHRINK] = 1 - rates * self._recipe.weight_decay
        return table

    def totals(self, rows: int) -> Totals:
        """What there is to report after so many rows of an epoch."""
        sums = self.session.sums
        return Totals(rows, sums.item(plan.LOSS_SUM), sums.item(plan.WEIGHT_SUM))

    def epoch(self, order: Order | None, rates: Rates, dropout_key: int = 0) -> Iterator[Totals]:
        """Train on all rows once."""
        before = self.steps
        for rows in self.session.run(order, self.coefficients(rates), dropout_key):
            # Whoever is interrupted now has made so many; by Ctrl-C in the middle of a call, some more.
            self.steps = before + (len(rates) if rows == self._rows else rows // self._batch_size)
            yield self.totals(rows)
        self.steps = before + len(rates)


class PreparedStep:
    """A step of plain gradient descent from all of small data, to be made again and again."""

    def __init__(self, engine: Engine, buffer: Array, data: Data, *, mean: bool) -> None:
        self._trainer = CompiledTrainer(engine, buffer, data, data.rows, PLAIN_DESCENT, mean=mean)
        self._call = self._trainer.session.prepared(self._trainer.coefficients(ConstantRates(1.0)))

    def make(self, buffer: Array, data: Data, rate: float) -> Totals:
        """Change the parameters in buffer by the gradient from data, of the shape of those that this was made for."""
        session = self._trainer.session
        session.put_steps(self._trainer.row(rate))
        self._call.run(buffer, data)
        return self._trainer.totals(data.rows)
