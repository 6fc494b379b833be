"""What is kept for its next user."""

from __future__ import annotations

import threading
import time

from fastmlp.pool import Pool


def test_a_value_is_lent_to_one_user_at_a_time():
    pool = Pool[str, int](2)
    assert pool.take("a") is None
    pool.give_back("a", 1)
    assert (pool.take("a"), pool.take("a")) == (1, None)


def test_kinds_that_were_given_back_longest_ago_go_first():
    pool = Pool[str, int](2)
    for kind, value in (("a", 1), ("b", 2)):
        pool.give_back(kind, value)
    pool.give_back("a", pool.take("a"))  # used since
    pool.give_back("c", 3)
    assert (pool.take("b"), pool.take("a"), pool.take("c")) == (None, 1, 3)
    for kind, value in (("a", 1), ("b", 2), ("a", 4), ("c", 3)):  # the second of a kind, too
        pool.give_back(kind, value)
    assert (pool.take("b"), pool.take("a"), pool.take("c")) == (None, 4, 3)


def test_threads_never_have_the_same_value():
    pool, values, errors = Pool[int, list[int]](3), [[0] for _ in range(6)], []

    def use(first):
        for turn in range(3000):
            kind = (first + turn) % 6
            value = pool.take(kind) or [0]
            value[0] += 1
            time.sleep(0)  # another thread's turn
            if value[0] != 1:
                errors.append(kind)
            value[0] -= 1
            pool.give_back(kind, value)

    for kind, value in enumerate(values):
        pool.give_back(kind, value)
    threads = [threading.Thread(target=use, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sum(pool.take(kind) is not None for kind in range(6)) == 3
