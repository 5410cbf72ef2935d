"""Invalidation of a stand-alone edge: what is taken, how it is written down, how each worker reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from nearpoint.edge import purge
from nearpoint.edge.purge import Journal, Purge, check_paths
from nearpoint.wire.message import BytesBody, Headers, Request


@pytest.mark.parametrize(
    "given",
    [None, [], {}, "/a", ["a"], [""], [1], ["/a*b"], ["/a\n"], ["#"], ["#a,b"], ["/" + "x" * 4000], ["/a"] * 3001],
)
def test_what_is_no_list_of_paths(given: Any) -> None:
    with pytest.raises(ValueError):
        check_paths(given)


def test_each_worker_reads_what_is_new_to_it(tmp_path: Path) -> None:
    one, two = Journal(tmp_path / "j"), Journal(tmp_path / "j")
    assert one.news() == []
    one.add("1", 5.0, ["/a/*", "#Red"])
    (found,) = two.news()
    assert (found.id, found.at, found.exact, found.prefixes) == ("1", 5.0, frozenset({"#red"}), ("/a/",))
    assert two.news() == []
    two.add("2", 6.0, ["/b"])
    assert [each.id for each in one.news()] == ["1", "2"]
    with (tmp_path / "j").open("ab") as file:
        file.write(b'{"id": "3"')  # being written
    assert one.news() == []


def test_a_full_journal_begins_anew_with_everything_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "JOURNAL_BYTES_MAX", 200)
    one, two = Journal(tmp_path / "j"), Journal(tmp_path / "j")
    for number in range(20):
        one.add(str(number), float(number), [f"/{number}"])
        news = two.news()
        assert news[-1].id == str(number)
        assert news[-1].exact or news[-1].prefixes == ("/",)
    assert (tmp_path / "j").stat().st_size <= 200


@pytest.mark.parametrize(
    ("method", "content_type", "body", "status"),
    [
        ("POST", "application/json", b'{"paths": ["/a", "#t"]}', 200),
        ("POST", "application/json; charset=utf-8", b'{"paths": ["/*"]}', 200),
        ("GET", "application/json", b"", 405),
        ("POST", "text/plain", b'{"paths": ["/a"]}', 415),
        ("POST", "", b'{"paths": ["/a"]}', 415),
        ("POST", "application/json", b"[]", 400),
        ("POST", "application/json", b'{"paths": ["a"]}', 400),
        ("POST", "application/json", b"{", 400),
        ("POST", "application/json", b" " * 1_100_000, 413),
    ],
)
async def test_what_the_admin_address_takes(
    tmp_path: Path, method: str, content_type: str, body: bytes, status: int
) -> None:
    journal = Journal(tmp_path / "j")
    handler = Purge(journal, clock=lambda: 7.0, random_hex=lambda: "abc").handle
    headers = Headers([("Content-Type", content_type)] if content_type else [])
    response = await handler(Request(method, "/-/invalidate", headers, body))
    assert response.status == status
    assert isinstance(response.body, BytesBody)
    said = orjson.loads(response.body.data)
    news = journal.news()
    assert (said.get("id"), len(news)) == (("purge-abc", 1) if status == 200 else (None, 0))
