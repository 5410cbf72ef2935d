"""The state table (state by frame), the sender's turns and windows, budgets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.wire import http2_frames as frames
from nearpoint.wire.http2_fields import Head
from nearpoint.wire.http2_flow import Sender
from nearpoint.wire.http2_frames import Code, ConnectionFault
from nearpoint.wire.http2_streams import TABLE, Budget, State, Stream, Verdict, reset_code

D, H, R, W = frames.DATA, frames.HEADERS, frames.RST_STREAM, frames.WINDOW_UPDATE


@pytest.mark.parametrize(
    ("state", "kind", "verdict"),
    [
        (State.IDLE, D, Verdict.CONNECTION_PROTOCOL),
        (State.IDLE, H, Verdict.TAKE),
        (State.IDLE, R, Verdict.CONNECTION_PROTOCOL),
        (State.IDLE, W, Verdict.CONNECTION_PROTOCOL),
        (State.OPEN, D, Verdict.TAKE),
        (State.OPEN, H, Verdict.TAKE),
        (State.OPEN, R, Verdict.TAKE),
        (State.OPEN, W, Verdict.TAKE),
        (State.HALF_CLOSED_REMOTE, D, Verdict.STREAM_CLOSED),
        (State.HALF_CLOSED_REMOTE, H, Verdict.STREAM_CLOSED),
        (State.HALF_CLOSED_REMOTE, R, Verdict.TAKE),
        (State.HALF_CLOSED_REMOTE, W, Verdict.TAKE),
        (State.HALF_CLOSED_LOCAL, D, Verdict.TAKE),
        (State.HALF_CLOSED_LOCAL, H, Verdict.TAKE),
        (State.HALF_CLOSED_LOCAL, R, Verdict.TAKE),
        (State.HALF_CLOSED_LOCAL, W, Verdict.IGNORE),
        (State.RESET, D, Verdict.IGNORE),
        (State.RESET, H, Verdict.IGNORE),
        (State.RESET, R, Verdict.IGNORE),
        (State.RESET, W, Verdict.IGNORE),
        (State.CLOSED, D, Verdict.STREAM_CLOSED),
        (State.CLOSED, H, Verdict.CONNECTION_CLOSED),
        (State.CLOSED, R, Verdict.IGNORE),
        (State.CLOSED, W, Verdict.IGNORE),
    ],
)
def test_state_by_frame(state: State, kind: int, verdict: Verdict) -> None:
    assert TABLE[state, kind] is verdict


def test_the_table_is_whole() -> None:
    assert set(TABLE) == {(state, kind) for state in State for kind in (D, H, R, W)}
    assert reset_code(Verdict.CONNECTION_PROTOCOL) is Code.PROTOCOL_ERROR
    assert reset_code(Verdict.CONNECTION_CLOSED) is Code.STREAM_CLOSED


def stream(sender: Sender, stream_id: int) -> Stream:
    return Stream(stream_id, Head(b"GET", b"/", []), State.HALF_CLOSED_REMOTE, sender.initial_window, 0.0)


def sent(sender: Sender) -> list[tuple[int, int, bool]]:
    """(stream, bytes, end) of what the sender made."""
    data, found = sender.take(), []
    while data:
        high, low, kind, flags, stream_id = frames.FRAME.unpack_from(data)
        size = high << 8 | low
        assert kind == frames.DATA
        found.append((stream_id, size, bool(flags)))
        data = data[9 + size :]
    return found


def test_streams_take_turns() -> None:
    sender = Sender()
    one, three = stream(sender, 1), stream(sender, 3)
    for each in (one, three):
        sender.push(each, b"x" * 20_000)
        sender.end(each)
    sender.pump(10**6, 1.0)
    assert sent(sender) == [(1, 16_384, False), (3, 16_384, False), (1, 3_616, True), (3, 3_616, True)]
    assert sender.finished == [one, three]
    assert sender.window == 65_535 - 40_000


def test_windows() -> None:
    sender = Sender()
    one, three = stream(sender, 1), stream(sender, 3)
    sender.open_window(None, 100_000)
    sender.push(one, b"x" * 70_000)
    sender.pump(10**6, 1.0)
    assert sum(size for _, size, _ in sent(sender)) == 65_535  # of the stream
    sender.set_initial_window(10, [one, three])
    assert (one.window, three.window) == (10 - 65_535, 10)
    sender.push(three, b"y" * 11)
    sender.end(three)
    sender.open_window(one, 65_525)
    sender.pump(10**6, 1.0)
    assert sent(sender) == [(3, 10, False)]
    sender.open_window(one, 1)
    sender.set_initial_window(11, [one, three])
    sender.end(one)
    sender.pump(10**6, 1.0)
    assert sent(sender) == [(1, 2, False), (3, 1, True)]
    sender.open_window(one, 10_000)
    sender.pump(10**6, 1.0)
    assert sent(sender)[-1] == (1, 70_000 - 65_537, True)


def test_windows_that_are_too_large() -> None:
    sender = Sender()
    one = stream(sender, 1)
    with pytest.raises(OverflowError):
        sender.open_window(one, 2**31 - 1)
    with pytest.raises(ConnectionFault) as caught:
        sender.open_window(None, 2**31 - 1)
    assert caught.value.code is Code.FLOW_CONTROL_ERROR
    three = stream(sender, 3)
    sender.open_window(three, 1)
    with pytest.raises(ConnectionFault) as caught:
        sender.set_initial_window(2**31 - 1, [three])
    assert caught.value.code is Code.FLOW_CONTROL_ERROR


def test_an_end_without_data_and_a_dropped_stream() -> None:
    sender = Sender()
    one, three = stream(sender, 1), stream(sender, 3)
    sender.end(one)
    assert sent(sender) == [(1, 0, True)]
    sender.push(three, b"abc")
    sender.drop(three)
    sender.pump(10**6, 1.0)
    assert sent(sender) == []


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("push"), st.integers(0, 3), st.integers(1, 50_000)),
            st.tuples(st.just("open"), st.integers(0, 3), st.integers(1, 50_000)),
            st.tuples(st.just("connection"), st.just(0), st.integers(1, 50_000)),
            st.tuples(st.just("initial"), st.just(0), st.integers(0, 100_000)),
            st.tuples(st.just("pump"), st.just(0), st.integers(1, 100_000)),
        ),
        max_size=40,
    )
)
def test_never_more_than_the_windows_and_nothing_is_lost(script: list[tuple[str, int, int]]) -> None:
    sender = Sender()
    streams = [stream(sender, 2 * number + 1) for number in range(4)]
    pushed, got = dict.fromkeys((1, 3, 5, 7), 0), dict.fromkeys((1, 3, 5, 7), 0)
    allowed, allowed_all, initial = dict.fromkeys((1, 3, 5, 7), 65_535), 65_535, 65_535

    def pump(most: int) -> None:
        sender.pump(most, 0.0)
        for stream_id, size, _ in sent(sender):
            got[stream_id] += size
            assert got[stream_id] <= allowed[stream_id]
        assert sum(got.values()) <= allowed_all

    for action, number, amount in script:
        each = streams[number]
        if action == "push":
            sender.push(each, b"x" * amount)
            pushed[each.id] += amount
        elif action == "open":
            sender.open_window(each, amount)
            allowed[each.id] += amount
        elif action == "connection":
            sender.open_window(None, amount)
            allowed_all += amount
        elif action == "initial":
            for stream_id in allowed:
                allowed[stream_id] += amount - initial
            initial = amount
            sender.set_initial_window(amount, streams)
        else:
            pump(amount)
    sender.open_window(None, 10_000_000)
    allowed_all += 10_000_000
    for each in streams:
        sender.open_window(each, 10_000_000)
        allowed[each.id] += 10_000_000
    pump(10**9)
    assert got == pushed
    assert all(each.pending_bytes == 0 for each in streams)


def test_a_budget() -> None:
    budget = Budget(3, 1.0)
    assert [budget.spend(0.0) for _ in range(4)] == [True, True, True, False]
    assert budget.spend(2.0)
    assert not budget.spend(2.0)
    budget.earn(1)
    assert not budget.spend(2.0)
    budget.earn(100)
    assert budget.spend(2.0)
