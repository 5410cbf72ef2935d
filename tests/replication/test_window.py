"""Which rows are copied next, how long is waited, and how lags are counted."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from nearpoint.replication.backoff import LONGEST_S, delay_s
from nearpoint.replication.lag import Lags
from nearpoint.replication.window import BATCH_BYTES_MAX, BATCH_ROWS_MAX, ROWS_MAX, Row, Window


def row(sequence: int, key: str, size: int = 1) -> Row:
    return Row(sequence=sequence, key=key, version=f"v{sequence}", operation="put", size=size, written=0)


def test_a_batch_is_bounded_and_a_large_row_goes_alone() -> None:
    window = Window()
    window.add(row(at, f"k{at}") for at in range(1, 200))
    assert len(window.take(0)) == BATCH_ROWS_MAX
    window = Window()
    window.add([row(1, "a", 10), row(2, "big", BATCH_BYTES_MAX * 9), row(3, "b", 10)])
    assert [[each.key for each in window.take(0)] for _ in range(4)] == [["a"], ["big"], ["b"], []]


def test_a_failed_row_holds_up_its_key_alone() -> None:
    window = Window()
    window.add([row(1, "a"), row(2, "b"), row(3, "a")])
    batch = window.take(0)
    assert [each.sequence for each in batch] == [1, 3, 2]
    window.settle(batch, [batch[0]], 5.0)
    window.add([row(4, "a"), row(5, "b")])
    assert [each.sequence for each in window.take(0)] == [5]
    assert window.next_retry_s() == 5.0
    assert [each.sequence for each in window.take(5.0)] == [1, 4]


def test_while_a_key_is_under_way_its_next_rows_wait() -> None:
    window = Window()
    window.add([row(1, "a")])
    batch = window.take(0)
    window.add([row(2, "a"), row(3, "b")])
    assert [each.sequence for each in window.take(0)] == [3]
    window.settle(batch)
    assert [each.sequence for each in window.take(0)] == [2]


@given(st.integers(0, 2**32), st.integers(1, 300))
def test_every_row_is_done_once_and_in_order_of_its_key(seed: int, count: int) -> None:
    chance = random.Random(seed)
    window = Window()
    log = [row(at, chance.choice("abcd"), chance.choice([0, 1, BATCH_BYTES_MAX])) for at in range(1, count + 1)]
    waiting, under_way, done, now_s = list(log), [], [], 0.0
    while waiting or window.held:
        now_s += 1
        taken = chance.randrange(0, 40)
        window.add(waiting[:taken])
        del waiting[:taken]
        if batch := window.take(now_s):
            under_way.append(batch)
        if under_way and chance.random() < 0.7:
            batch = under_way.pop(chance.randrange(len(under_way)))
            cut = chance.randrange(len(batch) + 1) if chance.random() < 0.3 else len(batch)
            window.settle(batch, batch[cut:], now_s + chance.random() * 3)
            done += batch[:cut]
    assert sorted(each.sequence for each in done) == [each.sequence for each in log]
    for key in "abcd":
        order = [each.sequence for each in done if each.key == key]
        assert order == sorted(order)
    assert (window.held, window.room, window.take(1e9)) == (0, ROWS_MAX, [])


@given(st.integers(1, 1000), st.floats(0, 1))
def test_waiting_grows_to_a_bound(failures: int, chance: float) -> None:
    assert 0 < delay_s(failures, chance) <= LONGEST_S
    assert delay_s(failures + 1, chance) >= delay_s(failures, chance)


def test_percentiles() -> None:
    lags = Lags()
    assert lags.percentile_ms(50) is None
    for at in range(1, 1001):
        lags.add(float(at))
    for percent in (50, 90, 99):
        found = lags.percentile_ms(percent)
        assert found is not None
        assert abs(found - percent * 10) <= percent * 10 * 0.1
    assert lags.percentile_ms(100) == 1000.0
    for _ in range(20):
        lags.fade()
    lags.add(5.0)
    found = lags.percentile_ms(50)
    assert found is not None
    assert found < 6
