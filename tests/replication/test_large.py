"""Large objects go in pieces, over several connections, and arrive as what they were."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.replication import large
from nearpoint.replication.large import pieces_of
from nearpoint.wire.message import Headers, Request, Response, read_all

US, EU = "us-east-1", "eu-west-1"
MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "LARGE_BYTES", MIB)
    monkeypatch.setattr("nearpoint.replication.copier.LARGE_BYTES", MIB)
    monkeypatch.setattr(large.pieces_of, "__defaults__", (300_001,))


class Seen:
    """What goes to a region's own calls; `refuse` answers some of them."""

    def __init__(self, region: Any) -> None:
        self.calls: list[str] = []
        self.refused: dict[str, list[int]] = {}
        region.fault = self._look

    async def _look(self, request: Request) -> Response | None:
        call = f"{request.method} {request.path.removeprefix('/-/')}"
        self.calls.append(call)
        statuses = self.refused.get(call, [])
        if not statuses:
            return None
        status = statuses.pop(0)
        code = {405: "MethodNotAllowed", 503: "SlowDown"}[status]
        await read_all(request.body, 1 << 30)
        return Response(status, Headers(), f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode())


async def put(region: Any, bucket: str, key: str, size: int) -> bytes:
    data = os.urandom(size)
    answer = await region.ask("PUT", bucket, key, data, x_amz_meta_a="b", x_amz_checksum_algorithm="SHA256")
    assert answer.status == 200
    return data


async def test_one_in_pieces_and_one_uploaded_in_parts(pair: Any) -> None:
    whole = await put(pair[US], "aaa", "whole", 2 * MIB + 17)
    upload = (await pair[US].ask("POST", "aaa", "parts", query="uploads")).body.decode()
    upload = upload.partition("<UploadId>")[2].partition("<")[0]
    parts, listed = [os.urandom(5 * MIB), os.urandom(70_000)], ""
    for number, part in enumerate(parts, 1):
        answer = await pair[US].ask("PUT", "aaa", "parts", part, query=f"partNumber={number}&uploadId={upload}")
        listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{answer.header('etag')}</ETag></Part>"
    done = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    assert (await pair[US].ask("POST", "aaa", "parts", done, query=f"uploadId={upload}")).status == 200
    seen = Seen(pair[EU])
    pair.copy()
    await pair.settled()
    assert seen.calls.count("PUT pieces") == 7 + 18 + 1
    for key, data in (("whole", whole), ("parts", b"".join(parts))):
        assert (await pair[EU].ask("GET", "bbb", key)).body == data
    assert await pair[US].history("aaa") == await pair[EU].history("bbb")
    second = await pair[EU].ask("GET", "bbb", "parts", query="partNumber=2")
    assert second.body == parts[1]


async def test_a_piece_that_fails_is_sent_again_and_nothing_else(pair: Any) -> None:
    data = await put(pair[US], "aaa", "k", 2 * MIB)
    seen = Seen(pair[EU])
    seen.refused["PUT pieces"] = [503, 503]
    pair.copy()
    await pair.settled()
    assert seen.calls.count("PUT pieces") == 7 + 2
    assert (await pair[EU].ask("GET", "bbb", "k")).body == data


async def test_a_staging_that_is_lost_is_no_version_that_is_lost(pair: Any) -> None:
    data = await put(pair[US], "aaa", "k", 2 * MIB)
    seen = Seen(pair[EU])
    seen.refused["PUT versions"] = []
    lost = False
    look = pair[EU].fault

    async def lose(request: Request) -> Response | None:
        nonlocal lost
        if "staged=" in request.query and request.path.endswith("versions") and not lost:
            lost = True
            request.target = request.target.replace("staged=", "staged=not")
        return await look(request)

    pair[EU].fault = lose  # as a store that starts anew between the pieces and the version
    pair.copy()
    await pair.settled()
    assert lost
    assert (await pair[EU].ask("GET", "bbb", "k")).body == data


async def test_a_store_that_takes_content_whole_only_gets_it_whole(pair: Any) -> None:
    data = await put(pair[US], "aaa", "k", 2 * MIB)
    seen = Seen(pair[EU])
    seen.refused["PUT pieces"] = [405] * 100
    pair.copy()
    await pair.settled()
    assert (await pair[EU].ask("GET", "bbb", "k")).body == data


async def test_what_the_destination_has_is_not_sent_again(pair: Any) -> None:
    await put(pair[US], "aaa", "k", 2 * MIB)
    pair.copy()
    await pair.settled()
    rows = (await pair[US].peer.history("aaa", "", 10))[0]
    await pair.stop_copying()

    def log_again(tx: Any) -> None:
        tx.db.execute(
            "INSERT INTO outbox (bucket, destination, key, version, operation, etag, size, written) "
            "VALUES ('aaa', 'bbb', ?, ?, 'put', '', ?, ?)",
            (b"k", rows[0].id, 2 * MIB, tx.now_us),
        )

    await pair[US].embedded.writer.submit(log_again)
    seen = Seen(pair[EU])
    pair.copy()
    await pair.settled()
    assert "PUT pieces" not in seen.calls


async def test_content_that_was_changed_on_its_way_is_not_taken(pair: Any) -> None:
    await put(pair[US], "aaa", "k", MIB)
    peer, good = pair[EU].peer, os.urandom(MIB)
    version = (await pair[US].peer.history("aaa", "", 10))[0][0].id
    await pair[EU].store.send("PUT", "-", "pieces", query=f"staged=s&part=0&size={MIB}&offset=0", body=good)
    from nearpoint.replication.window import Row

    row = Row(1, "k", version, "put", MIB, 0, content=False)
    body = await pair[US].peer.fetch("aaa", [row])
    [outcome] = await peer.deliver("bbb", body, "s")
    assert outcome["outcome"] == "refused"
    assert "BadDigest" in outcome["reason"]
    assert (await pair[EU].ask("GET", "bbb", "k")).status == 404


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [
        ("staged=s&part=0&size=10&offset=0", b"x" * 11, 400),
        ("staged=s&part=0&size=10&offset=9", b"xx", 400),
        ("staged=s&part=-1&size=10&offset=0", b"x", 400),
        ("staged=s&part=0&size=10&offset=-1", b"x", 400),
        ("staged=s&part=10000&size=10&offset=0", b"x", 400),
        ("staged=s&part=0&size=x&offset=0", b"x", 400),
        ("part=0&size=1&offset=0", b"x", 400),
        (f"staged={'s' * 65}&part=0&size=1&offset=0", b"x", 503),
        ("staged=s&part=0&size=10&offset=0", b"", 400),
    ],
)
async def test_pieces_that_are_none(pair: Any, query: str, body: bytes, status: int) -> None:
    assert (await pair[EU].ask("PUT", "-", "pieces", body, query=query)).status == status


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(1, 20))
def test_pieces_are_all_of_it_once(sizes: list[int], piece: int) -> None:
    data = hashlib.sha256(bytes(sizes)).digest() * 20
    parts = [bytearray(size) for size in sizes]
    for each in pieces_of(sizes, piece):
        assert 0 < each.length <= piece
        assert each.size == sizes[each.part]
        parts[each.part][each.offset : each.offset + each.length] = data[each.start : each.start + each.length]
    assert b"".join(parts) == data[: sum(sizes)]
