"""Near-duplicates are found, however many there are of one."""

from __future__ import annotations

import time

from qk_tasks.pairs.duplicates import NEAR, groups


def test_many_equal_photographs_take_no_long_comparison() -> None:
    start = time.perf_counter()
    group = groups({f"p{k:05d}": [7] for k in range(20_000)})
    assert len(group) == 20_000 and set(group.values()) == {"p00000"}
    assert time.perf_counter() - start < 10  # each with each: minutes


def test_a_chain_of_near_photographs_is_one_group_named_by_its_least() -> None:
    far, near = (1 << 2 * NEAR) - 1, (1 << NEAR) - 1
    prints = {"d": [0], "c": [near], "b": [far, 1 << 100], "a": [far], "alone": [(1 << 128) - 1]}
    assert groups(prints) == dict.fromkeys("abcd", "a")
