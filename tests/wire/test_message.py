"""Header fields: whatever was looked up and changed in between, the answers are those of the fields in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nearpoint.wire.message import Headers

NAMES = st.sampled_from(["A", "a", "b", "Content-Length", "content-length"])
FIELDS = st.tuples(NAMES, st.sampled_from(["1", "2", ""]))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), FIELDS),
        st.tuples(st.just("set"), FIELDS),
        st.tuples(st.just("remove"), FIELDS),
        st.tuples(st.just("look up"), FIELDS),
        st.tuples(st.just("contains"), FIELDS),
    ),
    max_size=12,
)


@given(st.lists(FIELDS, max_size=4), STEPS)
def test_lookups_agree_with_the_fields(items: list[tuple[str, str]], steps: list[tuple[str, tuple[str, str]]]) -> None:
    headers = Headers(items)
    for step, (name, value) in steps:
        have = [(one, each) for one, each in headers if one.lower() == name.lower()]
        if step == "add":
            headers.add(name, value)
            assert list(headers)[-1] == (name, value)
        elif step == "set":
            headers.set(name, value)
            assert headers.get_all(name) == [value]
        elif step == "remove":
            headers.remove(name)
            assert name not in headers
        elif step == "contains":
            assert (name in headers) == bool(have)
        else:
            assert headers.get_all(name) == [each for _, each in have]
            assert headers.get(name) == (have[0][1] if have else None)
        expected: dict[str, list[str]] = {}
        for one, each in headers:
            expected.setdefault(one.lower(), []).append(each)
        if step == "look up":
            assert dict(headers.by_name()) == expected
    assert dict(headers.by_name()) == dict(Headers(headers).by_name())
