"""Training on rows that do not fit into memory: two halves of a buffer, one read by a thread while the other is trained on.

An epoch goes through the blocks of a source in an order that is a function of a seed, a few of them in turn, and through the rows
of each half in an order that is, too; the first parts of an epoch are smaller than a half, so that training can begin soon. How
fast the thread is decides on nothing. A part is of whole minibatches, so that only the last one of an epoch is smaller, as in
memory. Pieces are checked and converted one by one on their way into the half: what is taken beside the buffer is some pieces.
"""

from __future__ import annotations

import copy
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from fastmlp.data.errors import TableError
from fastmlp.data.sources import Piece, Source, is_awaited
from fastmlp.dropout import draw_key
from fastmlp.feed import Feed, InMemory, LossOffset, Reading
from fastmlp.interrupts import LOOK_SECONDS
from fastmlp.shuffle import Order
from fastmlp.trainer import ConstantRates, Rates, Totals, Trainer
from fastmlp.validation import Data, check_weight

Array = np.ndarray[Any, np.dtype[Any]]
Convert = Callable[[Piece], Data]

_LEAVE_SECONDS = 5.0
"""A thread that waits for somebody else's iterator is left to itself after this."""

_FIRST_SHARES = (1 / 8, 1 / 4, 1 / 2)
"""Of a half: the first parts of a pass, each of which can be read while the one before it is trained on."""

_BLOCKS, _ROWS = 0, 1  # what random numbers of an epoch are for


def open_feed(
    source: Source, convert: Convert, *, batch_size: int, shuffle: bool, buffer_bytes: int, loss_offset: LossOffset | None = None
) -> Feed:
    """Rows of a source for a training: all of them in memory, if the buffer has room for them; else a stream.

    Parameters
    ----------
    source : Source
    convert : callable
        ``convert(piece)``: checked rows as the network takes them; its errors say what is wrong with them.
    batch_size : int
    shuffle : bool
    buffer_bytes : int
    loss_offset : callable, optional
        ``loss_offset(data)``: what is added to the summed loss of some rows; see :data:`fastmlp.feed.LossOffset`.
    """
    source.use_buffer(0)  # a few rows tell what all are like
    like = next(_converted(source, convert, np.arange(source.n_blocks), mixed=1), None)
    source.use_buffer(buffer_bytes)
    if like is None:
        raise TableError(f"{source!r} has no rows.")
    if source.rows < like.rows:
        raise TableError(
            f"{source!r} has {source.rows} rows in all, but its first block had {like.rows}; it must give the same rows each time, "
            "which an iterator that cannot begin anew does not."
        )
    room = buffer_bytes // _row_bytes(like)
    if source.rows <= room:
        data = _read_whole(source, convert, like)
        if data.weight is not None and not data.weight.any():
            raise _no_weight(source)
        if data.weight is not None:
            check_weight(data.weight, data.rows, data.weight.dtype)  # of all rows, which no piece tells
        return InMemory(data, shuffle, loss_offset)
    return Stream(source, convert, like, room, min(batch_size, source.rows), shuffle, loss_offset)


def _row_bytes(data: Data) -> int:
    return sum(array.nbytes for array in (data.x, data.y, data.labels, data.weight) if array is not None) // data.rows


def _in_turn(source: Source, blocks: Array, mixed: int) -> Iterator[Piece]:
    """Pieces of ``mixed`` blocks in turn; where one ends, the next begins."""
    waiting = deque(int(block) for block in blocks)
    begun: deque[Iterator[Piece]] = deque()
    while waiting or begun:
        if waiting and len(begun) < mixed:
            begun.append(source.pieces(waiting.popleft()))
            if waiting and len(begun) < mixed:
                continue
        pieces = begun.popleft()
        piece = next(pieces, None)
        if piece is not None:
            begun.append(pieces)
            yield piece


def _converted(source: Source, convert: Convert, blocks: Array, mixed: int) -> Iterator[Data]:
    """The same as a network takes them; errors say where."""
    for piece in _in_turn(source, blocks, mixed):
        if len(piece.x) == 0:
            continue
        try:
            data = convert(piece)
        except TableError:  # which says where
            raise
        except (ValueError, TypeError) as error:
            raise type(error)(f"{piece.where}: {error}") from None
        yield data


def _read_whole(source: Source, convert: Convert, like: Data) -> Data:
    """All rows, in their own order."""
    room, filled = _Room(source.rows, like), 0
    for data in _converted(source, convert, np.arange(source.n_blocks), mixed=1):
        if room.put(filled, room.rows, data, 0) < data.rows:
            raise _other_rows(source, filled + data.rows)
        filled += data.rows
    if filled < source.rows:
        raise _other_rows(source, filled)
    return room.part(filled)


def _no_weight(source: Source) -> TableError:
    return TableError(f"{source!r} has a weight of zero for every row; at least one must have more.")


def _other_rows(source: Source, rows: int) -> TableError:
    than = "only " if rows < source.rows else "more than "
    return TableError(
        f"{source!r} has {than}{min(rows, source.rows)} rows in this pass over it, but {source.rows} before; it must give the same "
        "rows each time, which an iterator that cannot begin anew does not."
    )


class _Room:
    """Memory for rows.

    Parameters
    ----------
    rows : int
    like : Data
        Rows of the kind that will come.
    """

    def __init__(self, rows: int, like: Data) -> None:
        self.rows = rows
        self._arrays = [
            None if array is None else np.zeros((rows, *array.shape[1:]), array.dtype)
            for array in (like.x, like.y, like.labels, like.weight)
        ]

    def put(self, place: int, stop: int, data: Data, first: int) -> int:
        """Copy rows ``first`` and on to ``place`` and on, as many as there is room for before ``stop``; their number."""
        count = min(stop - place, data.rows - first)
        for room, array, name in zip(self._arrays, (data.x, data.y, data.labels, data.weight), Data.__annotations__, strict=True):
            if (room is None) != (array is None):
                what = "class labels as targets" if name in ("y", "labels") else name
                raise TableError(f"Some blocks have {what} and others have not; all must have the same.")
            if room is not None and array is not None:
                room[place : place + count] = array[first : first + count]
        return count

    def part(self, rows: int) -> Data:
        """The first rows."""
        return Data(*(None if array is None else array[:rows] for array in self._arrays))


class _LeaveError(Exception):
    """The training has ended."""


@dataclass(frozen=True)
class _Part:
    """Rows that have been read."""

    room: _Room
    rows: int


class _Reader(threading.Thread):
    """Reads passes over a source, one after the other, into rooms that are given back to it.

    Parameters
    ----------
    source, convert
        See :func:`open_feed`.
    rooms : list of _Room
        All of one size, in rows a multiple of ``batch_size``.
    batch_size : int
    shuffle : bool
        Whether blocks are read in a random order.
    """

    def __init__(self, source: Source, convert: Convert, rooms: list[_Room], batch_size: int, shuffle: bool) -> None:
        super().__init__(name="fastmlp-reader", daemon=True)
        self._source, self._convert, self._shuffle = source, convert, shuffle
        self._room_rows, self._batch_size = rooms[0].rows, batch_size
        self._seeds: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._free: queue.SimpleQueue[_Room | None] = queue.SimpleQueue()
        self._parts: queue.SimpleQueue[_Part | BaseException | None] = queue.SimpleQueue()
        self._leaves, self._drops = threading.Event(), threading.Event()
        self.waited, self._works, self._needs_room, self._is_awaited = 0.0, False, False, False
        for room in rooms:
            self._free.put(room)

    def read(self, seed: int) -> None:
        """Ask for a pass, in the order of this seed; it follows those that have been asked for."""
        self._seeds.put(seed)

    def drop(self) -> None:
        """Read no further in the pass that was asked for last, of which no part has been taken; its rooms are given back."""
        self._drops.set()
        while (part := self.next_part()) is not None:
            self.give_back(part.room)
        self._drops.clear()

    def works(self) -> bool:
        """Whether the thread is reading, rather than waiting."""
        return self._works

    def give_back(self, room: _Room) -> None:
        """These rows have been used."""
        if self._needs_room:
            self._works = True  # from now on, not only when it gets to run
        self._free.put(room)

    def next_part(self) -> _Part | None:
        """Wait for rows; None at the end of a pass. Errors of the thread are raised here."""
        while True:
            self._is_awaited = self._parts.empty()
            try:
                part = self._parts.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue
            finally:
                self._is_awaited = False
            if isinstance(part, BaseException):
                raise part
            return part

    def leave(self, seconds: float) -> None:
        """End the thread, and wait for it, so long at most."""
        self._leaves.set()
        self._seeds.put(None)
        self._free.put(None)
        if self.ident is not None and seconds > 0:
            self.join(seconds)

    def run(self) -> None:
        """The thread."""
        is_awaited.set(lambda: self._is_awaited)
        try:
            while (seed := self._seeds.get()) is not None and not self._leaves.is_set():
                self._read_pass(seed)
        except _LeaveError:
            pass
        except BaseException as error:
            self._works = False
            self._parts.put(error)

    def _read_pass(self, seed: int) -> None:
        self._works = True
        source = self._source
        blocks = np.arange(source.n_blocks)
        if self._shuffle:
            np.random.default_rng([seed, _BLOCKS]).shuffle(blocks)
        sizes = self._sizes()
        room, size, filled, total = None, 0, 0, 0
        for data in _converted(source, self._convert, blocks, source.mixed_blocks if self._shuffle else 1):
            total, first = total + data.rows, 0
            if total > source.rows:
                raise _other_rows(source, total)
            while first < data.rows:
                if room is None:
                    room, size = self._next_room(), next(sizes)
                count = room.put(filled, size, data, first)
                filled, first = filled + count, first + count
                if filled == size:
                    self._put(_Part(room, filled))
                    room, filled = None, 0
            if self._leaves.is_set():
                raise _LeaveError
            if self._drops.is_set():
                break
        else:
            if total < source.rows:
                raise _other_rows(source, total)
        self._works = False
        if room is not None:
            self._put(_Part(room, filled))
        self._put(None)

    def _put(self, part: _Part | None) -> None:
        self._is_awaited = False  # from now on, not only when whoever has waited gets to run
        self._parts.put(part)

    def _sizes(self) -> Iterator[int]:
        """Rows of the parts of a pass: the first are smaller, so that a training need not wait for a whole half of the buffer."""
        most = self._room_rows
        for share in _FIRST_SHARES:
            yield max(1, int(most * share) // self._batch_size) * self._batch_size
        while True:
            yield most

    def _next_room(self) -> _Room:
        began = time.perf_counter()
        self._works, self._needs_room = False, True
        room = self._free.get()
        self._works, self._needs_room = True, False
        self.waited += time.perf_counter() - began
        if room is None or self._leaves.is_set():
            raise _LeaveError
        return room


def _rates_of_steps(rates: Rates, first: int, steps: int) -> Rates:
    """Learning rates of some steps of an epoch."""
    return ConstantRates(rates.rate, steps) if isinstance(rates, ConstantRates) else _RatesOfSteps(rates, first, steps)


class _RatesOfSteps:
    """The same, where they are not all alike."""

    def __init__(self, rates: Rates, first: int, steps: int) -> None:
        self._rates, self._first, self._steps = rates, first, steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, steps: slice, /) -> Array:
        start, stop, _ = steps.indices(self._steps)
        return self._rates[self._first + start : self._first + stop]


class Stream(Feed):
    """Rows of a source, part by part; see :func:`open_feed`.

    Parameters
    ----------
    source, convert, shuffle, loss_offset
        See there.
    like : Data
        Some of the rows.
    room : int
        Rows that the buffer holds, both halves together.
    batch_size : int
    """

    def __init__(
        self,
        source: Source,
        convert: Convert,
        like: Data,
        room: int,
        batch_size: int,
        shuffle: bool,
        loss_offset: LossOffset | None = None,
    ) -> None:
        self.rows = source.rows
        self._source, self._convert, self._loss_offset = source, convert, loss_offset
        self.reading: Reading = Reading()
        part_rows = max(1, room // 2 // batch_size) * batch_size
        rooms = [_Room(part_rows, like) for _ in range(2)]
        self.data = rooms[0].part(part_rows)
        self._batch_size, self._shuffle = batch_size, shuffle
        self._reader = _Reader(source, convert, rooms, batch_size, shuffle)
        self._asked_for: int | None = None

    def __enter__(self) -> Self:
        try:
            self._reader.start()
        except BaseException:  # an interrupt leaves open whether the thread runs
            self._reader.leave(0)
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._reader.leave(_LEAVE_SECONDS if error[0] is None else LOOK_SECONDS)

    def epoch(
        self, trainer: Trainer, rates: Rates, dropout: tuple[float, ...], generator: np.random.Generator, *, last: bool
    ) -> Iterator[Totals]:
        """See the base class; one number is drawn. While the last part is trained on, the first of the next epoch is read."""
        seed = _draw(generator)
        if self._asked_for != seed:
            if self._asked_for is not None:  # somebody else has drawn from the generator since
                self._reader.drop()
            self._reader.read(seed)
        self._asked_for = None if last else _draw(copy.deepcopy(generator))  # what will be drawn when the next epoch begins
        if self._asked_for is not None:
            self._reader.read(self._asked_for)
        in_epoch = np.random.default_rng([seed, _ROWS])
        trainer.leave_room(self._reader.works)
        before, steps_before, self.loss_offset = Totals(0, 0.0, 0.0), 0, 0.0
        while (part := self._next_part()) is not None:
            steps = -(-part.rows // self._batch_size)
            data = part.room.part(part.rows)
            trainer.take(data)
            self.loss_offset += 0.0 if self._loss_offset is None else self._loss_offset(data)
            order = Order(part.rows, in_epoch) if self._shuffle and steps > 1 else None
            done = Totals(0, 0.0, 0.0)
            for done in trainer.epoch(order, _rates_of_steps(rates, steps_before, steps), draw_key(dropout, in_epoch)):
                yield _sum(before, done)
            before = _sum(before, done)
            steps_before += steps
            self._reader.give_back(part.room)
        if before.weight_sum == 0:
            raise _no_weight(self._source)
        self.reading.passes += 1

    def parts(self) -> Iterator[Data]:
        """See the base class; read as they are asked for."""
        rows, weight = 0, 0.0
        for data in _converted(self._source, self._convert, np.arange(self._source.n_blocks), mixed=1):
            rows += data.rows
            weight += data.rows if data.weight is None else float(data.weight.sum(dtype=np.float64))
            yield data
        if rows != self.rows:
            raise _other_rows(self._source, rows)
        if weight == 0:
            raise _no_weight(self._source)

    def _next_part(self) -> _Part | None:
        began = time.perf_counter()
        part = self._reader.next_part()
        self.reading.training_waited += time.perf_counter() - began
        self.reading.reader_waited = self._reader.waited
        self.reading.rows += 0 if part is None else part.rows
        return part


def _sum(before: Totals, done: Totals) -> Totals:
    return Totals(before.rows + done.rows, before.loss_sum + done.loss_sum, before.weight_sum + done.weight_sum)


def _draw(generator: np.random.Generator) -> int:
    return int(generator.integers(0, 1 << 63))
