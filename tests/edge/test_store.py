"""The disk tier: what is kept is found, bounded, shared, and never torn, whoever is killed when."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearpoint.edge.invalidation import compile_invalidation
from nearpoint.edge.store import lifetime
from nearpoint.edge.store.counts import Counts, number_of, slots_for
from nearpoint.edge.store.disk import DiskStore, new_body_id
from nearpoint.edge.store.record import Note, Record, key_bytes, part_key, part_of_key, read_record, record_key, seal


def record(path: str, *, body: bytes | None = b"x", variant: tuple[str | None, ...] = (), **fields: Any) -> Record:
    given: dict[str, Any] = {
        "key": key_bytes(("E1", "GET", path, "", 0, (), "")),
        "variance": ("accept-language",) if variant else (),
        "variant": variant,
        "status": 200,
        "fields": b"Content-Type: text/plain\r\n",
        "requested_at": 1.0,
        "born_at": 1.0,
        "fresh_until": 9e9,
        "stale_while_until": 9e9,
        "stale_if_error_until": float("inf"),
        "stale_when_unreachable": True,
        "size": len(body or b""),
        "body": body,
    }
    return Record(**{**given, **fields})


def language(value: str | None) -> Any:
    return lambda names: (value,) if names else ()


@pytest.fixture
def store(tmp_path: Path) -> Any:
    made = DiskStore(tmp_path / "cache", 8 << 20)
    yield made
    made.close()


def find(store: DiskStore, path: str, value: str | None = None) -> Record | None:
    return store.find(key_bytes(("E1", "GET", path, "", 0, (), "")), language(value))


def test_what_is_kept_is_found(store: DiskStore) -> None:
    store.keep(record("/a"))
    store.keep(record("/v", body=b"de", variant=("de",)))
    store.keep(record("/v", body=b"fr", variant=("fr",)))
    store.flush()
    assert find(store, "/a") == record("/a")
    assert find(store, "/b") is None
    found = [find(store, "/v", value) for value in ("de", "fr", "it")]
    assert [each and each.body for each in found] == [b"de", b"fr", None]


def test_a_newer_record_stays(store: DiskStore) -> None:
    store.keep(record("/a", body=b"new", requested_at=2.0))
    store.keep(record("/a", body=b"old", requested_at=1.0))
    store.drop(record_key(record("/a").key), 1.5)
    store.flush()
    found = find(store, "/a")
    assert found is not None
    assert found.body == b"new"
    store.drop(record_key(record("/a").key), 2.0)
    store.flush()
    assert find(store, "/a") is None
    assert store.totals.records == store.totals.used_bytes == 0


def kept_file(store: DiskStore, path: str, data: bytes, **fields: Any) -> int:
    body_id = new_body_id()
    blob = store.write_part(body_id, 0, data)
    assert blob is not None
    store.keep(record(path, body=None, body_id=body_id, size=len(data), **fields), blob)
    store.flush()
    return body_id


def files(store: DiskStore) -> list[Path]:
    return [path for path in store._bodies.rglob("*") if path.is_file()]


def test_files_come_and_go_with_their_records(store: DiskStore) -> None:
    first = kept_file(store, "/a", b"1" * 50_000)
    second = kept_file(store, "/a", b"2" * 50_000, requested_at=2.0)
    assert store.open_part(first, 0) is None
    blob = store.open_part(second, 0)
    assert blob is not None
    assert blob.read() == b"2" * 50_000
    assert len(files(store)) == 1
    store.drop(record_key(record("/a").key), 2.0)
    store.flush()
    assert not files(store)
    assert blob.read() == b"2" * 50_000  # for whoever still sends it


def test_a_part_that_another_worker_brings_or_has_left_unfinished_is_kept(store: DiskStore) -> None:
    data = random.Random(1).randbytes(50_000)
    body_id = new_body_id()
    path = store._path(part_key(body_id, 0))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data[:100])
    blob = store.write_part(body_id, 0, data)
    again = store.write_part(body_id, 0, data)
    assert blob is not None
    assert again is not None
    store.keep(record("/a", body=None, body_id=body_id, size=len(data)), again)
    store.flush()
    kept = store.open_part(body_id, 0)
    assert kept is not None
    assert blob.read() == again.read() == kept.read() == data
    assert files(store) == [path]


def test_a_file_that_is_not_what_was_written_is_not_served(store: DiskStore) -> None:
    data = random.Random(1).randbytes(50_000)
    for damage in (data[:-1], data[:-1] + bytes([data[-1] ^ 1]), None):
        body_id = kept_file(store, "/a", data)
        (path,) = files(store)
        if damage is None:
            path.unlink()
        else:
            path.write_bytes(damage)
        assert store.open_part(body_id, 0) is None
        store.drop(record_key(record("/a").key), 1.0)
        store.flush()


@given(st.binary(max_size=200), st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_record_is_none(body: bytes, at: int, change: int) -> None:
    sealed = bytearray(seal(record("/a", body=body)))
    assert read_record(bytes(sealed)) == record("/a", body=body)
    sealed[at % len(sealed)] ^= change
    assert read_record(bytes(sealed)) is None
    assert read_record(bytes(sealed[: at % len(sealed)])) is None


def test_it_stays_within_its_bounds_and_keeps_what_is_used(store: DiskStore) -> None:
    numbers = random.Random(3)
    for at in range(400):
        store.keep(record(f"/hot-{at % 20}", body=numbers.randbytes(3_000), requested_at=float(at)))
        store.flush() if at % 20 == 19 else None
        find(store, f"/hot-{at % 20}")
        for scan in range(10):
            store.keep(record(f"/scan-{at}-{scan}", body=numbers.randbytes(10_000)))
    kept_file(store, "/file", b"x" * 900_000)
    store.flush()
    totals = store.totals
    assert totals.used_bytes <= store.capacity_bytes
    assert totals.evictions > 1_000
    assert sum(find(store, f"/hot-{at}") is not None for at in range(20)) >= 18
    size = sum(path.stat().st_blocks * 512 for path in store._folder.rglob("*") if path.is_file())
    assert size < 3 * store.capacity_bytes


def test_every_file_leads_from_a_record_after_evictions(store: DiskStore) -> None:
    for at in range(60):
        kept_file(store, f"/{at}", bytes([at]) * 300_000)
    totals = store.totals
    assert totals.used_bytes <= store.capacity_bytes
    assert len(files(store)) == totals.parts > 10
    assert all(store.has_part(*part_of_key(part_key(*_named(path)))) for path in files(store))


def _named(path: Path) -> tuple[int, int]:
    body_id, _, number = path.name.partition("-")
    return int(body_id, 16), int(number)


OTHER = """
import sys
from pathlib import Path
from nearpoint.edge.store.disk import DiskStore
from nearpoint.edge.store.record import Note, key_bytes
store = DiskStore(Path(sys.argv[1]), 8 << 20)
found = store.find(key_bytes(("E1", "GET", "/a", "", 0, (), "")), lambda names: ())
store.note(Note(distribution_id="E1", id="I1", at=5.0, exact=("/a",), prefixes=()))
store.flush()
print(store.kept, found.body.decode(), flush=True)
store.close()
"""


def test_two_processes_see_the_same_and_hear_of_notes(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, 8 << 20)
    store.keep(record("/a"))
    store.flush()
    before = store.news
    other = subprocess.run([sys.executable, "-c", OTHER, str(tmp_path)], capture_output=True, text=True, check=True)
    assert other.stdout == "True x\n"
    assert store.news != before
    notes, last = store.notes(0)
    assert [note.id for note in notes] == ["I1"]
    assert store.notes(last) == ([], last)
    store.close()


def test_on_a_full_disk_nothing_is_written_to_pages_that_have_no_block(store: DiskStore, monkeypatch: Any) -> None:
    store.keep(record("/first"))
    store.flush()
    full = []

    def take_blocks(descriptor: int, at: int, size: int) -> None:
        full.append(at)
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("nearpoint.edge.store.room.take_blocks", take_blocks)
    for at in range(200):
        store.keep(record(f"/{at}", body=b"x" * 30_000))
        store.flush()
        kept_file(store, f"/file-{at}", b"x" * 40_000)
    written = (store._folder / "index" / "data.mdb").stat().st_blocks * 512
    assert full
    assert written <= max(full)  # as far as there were blocks
    assert store.refused > 0
    assert 0 < len(files(store)) == store.totals.parts
    last = next(path for path in (f"/{at}" for at in reversed(range(200))) if find(store, path) is not None)
    store.drop(record_key(record(last).key), 1.0)
    store.note(Note(distribution_id="d", id="i", at=1.0, exact=("/x",), prefixes=()))
    store.flush()
    assert find(store, last) is None
    assert len(store.notes(0)[0]) == 1


def test_a_folder_of_an_earlier_boot_is_kept_only_when_it_was_sealed(tmp_path: Path) -> None:
    assert not lifetime.prepare(tmp_path, boot="one")
    (tmp_path / lifetime.INDEX).mkdir()
    assert lifetime.prepare(tmp_path, boot="one")
    assert (tmp_path / lifetime.INDEX).exists()
    assert not lifetime.prepare(tmp_path, boot="two")
    assert not (tmp_path / lifetime.INDEX).exists()
    (tmp_path / lifetime.INDEX).mkdir()
    lifetime.seal(tmp_path)
    assert lifetime.prepare(tmp_path, boot="three")
    assert not lifetime.prepare(tmp_path, boot="four")


def test_counts_and_ghosts(tmp_path: Path) -> None:
    counts = Counts(tmp_path / "counts", 1 << 20)
    assert slots_for(1) == slots_for(1 << 20) == 1 << 14
    assert slots_for(1 << 30) == 1 << 20
    number = number_of(b"0123456789abcdef")
    for expected in (1, 2, 3, 3):
        counts.touch(number)
        assert counts.uses(number) == expected
    counts.bury(number, 100)
    assert not counts.resurrect(number ^ 1 << 40, 100, 1_000)
    assert counts.resurrect(number, 1_100, 1_000)
    assert not counts.resurrect(number, 1_100, 1_000)
    counts.bury(number, 100)
    assert not counts.resurrect(number, 1_101, 1_000)
    counts.close()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["keep", "drop", "file"]), st.integers(1, 50))))
def test_it_is_what_a_dictionary_would_be(steps: Any) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store = DiskStore(Path(folder), 64 << 20)
        model: dict[str, tuple[float, bytes]] = {}
        for name, what, at in steps:
            moment = float(at)
            if what == "drop":
                store.drop(record_key(record(f"/{name}").key), moment)
                if name in model and model[name][0] <= moment:
                    del model[name]
                continue
            data = f"{name}{at}".encode() * (20_000 if what == "file" else 1)
            if what == "file":
                kept_file(store, f"/{name}", data, requested_at=moment)
            else:
                store.keep(record(f"/{name}", body=data, requested_at=moment))
            if name not in model or model[name][0] <= moment:
                model[name] = (moment, data)
        store.flush()
        for name in "abc":
            found = find(store, f"/{name}")
            body = found and (found.body if found.body is not None else store.open_part(found.body_id, 0).read())  # type: ignore[union-attr]
            assert body == (model[name][1] if name in model else None)
        assert store.totals.records == len(model)
        assert len(files(store)) == store.totals.parts
        store.close()


WRITER = """
import os, random, sys
from pathlib import Path
from nearpoint.edge.store.disk import DiskStore, new_body_id
from nearpoint.edge.store.record import Record, key_bytes
store = DiskStore(Path(sys.argv[1]), 16 << 20)
print("ready", flush=True)
numbers = random.Random(int(sys.argv[2]))
while True:
    name = numbers.randrange(300)
    size = numbers.choice([10, 900, 5_000, 30_000, 60_000, 200_000])
    body = (b"%d," % name) * (size // 4)
    body_id, blob = 0, None
    if len(body) > 32_768:
        body_id = new_body_id()
        blob = store.write_part(body_id, 0, body)
    store.keep(Record(key=key_bytes(("E1", "GET", f"/{name}", "", 0, (), "")), variance=(), variant=(), status=200,
        fields=b"", requested_at=1.0, born_at=1.0, fresh_until=9e9, stale_while_until=9e9, stale_if_error_until=9e9,
        stale_when_unreachable=True, size=len(body), body=None if blob else body, body_id=body_id), blob)
"""


def test_kill_at_any_moment_costs_entries_never_bytes(tmp_path: Path) -> None:
    numbers = random.Random(5)
    found = 0
    for turn in range(8):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(tmp_path), str(turn * 2 + at)], stdout=subprocess.PIPE, text=True
            )
            for at in range(2)
        ]
        for each in writers:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        time.sleep(0.05 + numbers.random() * 0.3)
        for each in writers:
            os.kill(each.pid, signal.SIGKILL)
            each.wait()
            assert each.stdout is not None
            each.stdout.close()
        store = DiskStore(tmp_path, 16 << 20)
        assert store.kept == (turn > 0) or turn == 0
        for name in range(300):
            each = find(store, f"/{name}")
            if each is None:
                continue
            body = each.body
            if body is None:
                blob = store.open_part(each.body_id, 0)
                if blob is None:
                    continue
                body = blob.read()
            assert len(body) == each.size
            assert body.startswith(b"%d," % name)
            assert len(set(body.split(b",")[:-1])) <= 2
            found += 1
        store.keep(record("/after", requested_at=float(turn + 2)))
        store.flush()
        assert find(store, "/after") is not None
        store.close()
    assert found > 100


# --- with an edge in front


async def test_another_worker_and_a_restart_find_what_one_has_kept(stage: Any, answer: Any, tmp_path: Path) -> None:
    bodies = {"/small": b"s" * 900, "/file": b"f" * 90_000, "/vary": b"v"}
    fields = {"Cache_Control": "max-age=60", "ETag": '"1"'}
    stage.answer = lambda request: answer(
        bodies[request.target], **fields, **({"Vary": "X-Lang"} if request.target == "/vary" else {})
    )
    store = DiskStore(tmp_path, 64 << 20)
    await stage.open(store=store)
    for path, body in bodies.items():
        assert (await stage.get(path, x_lang="de")).body == body
    store.flush()
    await stage.edge.close()
    store.close()
    store = DiskStore(tmp_path, 64 << 20)
    await stage.open(store=store)
    for path, body in bodies.items():
        for _ in range(3):
            reply = await stage.get(path, x_lang="de")
            assert (reply.body, reply.cache, reply["etag"]) == (body, "Hit", '"1"')
    assert stage.edge.hot_hits > 0
    assert len(stage.seen) == 3
    assert (await stage.get("/vary", x_lang="fr")).cache == "Miss"
    await stage.edge.close()
    store.close()


async def test_what_is_fresher_on_disk_wins_and_an_invalidation_reaches_everybody(
    stage: Any, answer: Any, tmp_path: Path
) -> None:
    count = iter(range(100))
    stage.answer = lambda request: answer(str(next(count)).encode(), Cache_Control="max-age=60")
    store = DiskStore(tmp_path, 64 << 20)
    one = await stage.open(store=store)
    port = stage.edge_port
    two = await stage.open(store=store)
    ports = (port, stage.edge_port)

    async def ask(at: int) -> bytes:
        stage.edge_port = ports[at]
        body: bytes = (await stage.get("/a")).body
        store.flush()
        return body

    assert [await ask(0), await ask(1), await ask(1)] == [b"0", b"0", b"0"]
    stage.clock.now += 61
    assert [await ask(0), await ask(1)] == [b"1", b"1"]
    two.start()
    gone = compile_invalidation(invalidation_id="I1", at=stage.clock.now + 1, paths=["/a"])
    one.tiers.invalidate("standalone", [gone])
    one.start()
    store.flush()
    stage.clock.now += 2
    await stage.until(lambda: two.cache._invalidations)
    assert [await ask(1), await ask(0)] == [b"2", b"2"]
    await one.close()
    await two.close()
    store.close()
    store = DiskStore(tmp_path, 64 << 20)
    three = await stage.open(store=store)
    assert three.cache._invalidations
    await three.close()
    store.close()


async def test_a_full_disk_costs_nothing_but_hits(stage: Any, answer: Any, tmp_path: Path, monkeypatch: Any) -> None:
    stage.answer = lambda request: answer(b"x" * 100_000, Cache_Control="max-age=60")
    store = DiskStore(tmp_path, 64 << 20)
    await stage.open(store=store)

    def full(*_: Any) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr("nearpoint.edge.blob.Blob.write", full)
    assert [len((await stage.get("/a")).body) for _ in range(3)] == [100_000] * 3
    assert store.refused > 0
    await stage.edge.close()
    store.close()
