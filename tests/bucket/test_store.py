"""The shells below the operations: writer, content files, sweep, lock, versions of SQLite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from nearpoint.awsproto import AwsError
from nearpoint.bucket import schema
from nearpoint.bucket.disk import Disk
from nearpoint.bucket.store import Store
from nearpoint.bucket.writer import Transaction


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path, "us-east-1")
    yield store
    await store.close()


def _insert(name: str):  # type: ignore[no-untyped-def]
    def change(tx: Transaction) -> str:
        tx.db.execute("INSERT INTO bucket (name, created) VALUES (?, ?)", (name, tx.now_us))
        return name

    return change


def _names(store: Store) -> list[str]:
    return [name for (name,) in schema.fetch_all(store.db, "SELECT name FROM bucket ORDER BY name")]


async def test_changes_are_seen_when_their_future_is_done(store: Store) -> None:
    assert await asyncio.gather(*(store.writer.submit(_insert(f"b{at:03}")) for at in range(300)))
    assert len(_names(store)) == 300


async def test_a_refusal_hurts_nobody_else_in_the_group(store: Store) -> None:
    def refuse(tx: Transaction) -> None:
        raise AwsError("PreconditionFailed")

    outcomes = await asyncio.gather(
        store.writer.submit(_insert("a")),
        store.writer.submit(refuse),
        store.writer.submit(_insert("b")),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], AwsError)
    assert _names(store) == ["a", "b"]


async def test_a_change_that_breaks_is_undone_alone(store: Store) -> None:
    def half(tx: Transaction) -> None:
        _insert("half")(tx)
        raise ValueError("a bug")

    def late(tx: Transaction) -> None:
        _insert("late")(tx)
        raise AwsError("PreconditionFailed")

    outcomes = await asyncio.gather(
        store.writer.submit(_insert("a")),
        store.writer.submit(half),
        store.writer.submit(late),
        store.writer.submit(_insert("b")),
        return_exceptions=True,
    )
    assert [getattr(outcome, "code", outcome) for outcome in outcomes] == ["a", "InternalError", "InternalError", "b"]
    assert _names(store) == ["a", "b"]


async def test_a_full_disk_refuses_writes_and_damages_nothing(store: Store) -> None:
    await store.writer.submit(_insert("before"))
    [(pages,)] = await store.writer.submit(lambda tx: schema.fetch_all(tx.db, "PRAGMA page_count"))
    await store.writer.submit(lambda tx: tx.db.execute(f"PRAGMA max_page_count = {pages + 2}").fetchall())

    def large(tx: Transaction) -> None:
        tx.db.execute("INSERT INTO content (id, size, data) VALUES (1, 1, ?)", (b"x" * 100_000,))

    small, refused = await asyncio.gather(
        store.writer.submit(_insert("small")), store.writer.submit(large), return_exceptions=True
    )
    assert small == "small"
    assert isinstance(refused, AwsError)
    assert (refused.code, refused.status) == ("ServiceUnavailable", 503)
    assert _names(store) == ["before", "small"]
    assert schema.fetch_all(store.db, "PRAGMA integrity_check") == [("ok",)]


async def test_files_of_a_change_that_fails_are_removed(store: Store) -> None:
    number = store.disk.number()
    store.disk.path(number).write_bytes(b"x")

    def refuse(tx: Transaction) -> None:
        raise AwsError("PreconditionFailed")

    with pytest.raises(AwsError):
        await store.writer.submit(refuse, (number,))
    await asyncio.get_running_loop().run_in_executor(store.pool, lambda: None)
    for _ in range(100):
        if not store.disk.path(number).exists():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the file is still there")


async def test_files_being_read_wait_for_their_readers(store: Store) -> None:
    number = store.disk.number()
    store.disk.hold([number])
    store.disk.hold([number])
    assert store.disk.doom([number]) == []
    assert store.disk.release([number]) == []
    assert store.disk.release([number]) == [number]
    assert store.disk.doom([number]) == [number]


async def test_a_folder_belongs_to_one_store(store: Store, tmp_path: Path) -> None:
    with pytest.raises(schema.StoreUnusableError, match="running"):
        Store(tmp_path, "us-east-1")


async def test_orphans_of_earlier_boots_are_swept_and_nothing_else(tmp_path: Path) -> None:
    store = Store(tmp_path, "us-east-1")
    known, orphan = store.disk.number(), store.disk.number()
    for number in (known, orphan):
        store.disk.path(number).write_bytes(b"x")
    await store.writer.submit(lambda tx: tx.db.execute("INSERT INTO content VALUES (?, 1, NULL)", (known,)))
    assert await store.swept() == 0
    await store.close()
    again = Store(tmp_path, "us-east-1")
    writing = again.disk.number()
    again.disk.path(writing).write_bytes(b"x")
    assert await again.swept() == 1
    assert not again.disk.path(orphan).exists()
    assert again.disk.path(known).exists()
    assert again.disk.path(writing).exists()
    await again.close()


def test_numbers_are_never_used_again(tmp_path: Path) -> None:
    first = Disk(tmp_path, 1)
    numbers = {first.number() for _ in range(10)}
    assert not numbers & {Disk(tmp_path, 2).number() for _ in range(10)}


@pytest.mark.parametrize("version", ["3.40.1", "3.51.2", "3.7.0"])
def test_an_sqlite_that_corrupts_is_refused(version: str) -> None:
    with pytest.raises(schema.StoreUnusableError, match=version.replace(".", r"\.")):
        schema.check_sqlite(version)


@pytest.mark.parametrize("version", ["3.51.3", "3.54.1", "4.0.0"])
def test_a_sound_sqlite_is_taken(version: str) -> None:
    schema.check_sqlite(version)


async def test_a_store_of_another_format_is_refused(tmp_path: Path) -> None:
    db = apsw.Connection(str(tmp_path / "metadata.db"))
    db.execute("PRAGMA user_version = 99").fetchall()
    db.close()
    with pytest.raises(schema.StoreUnusableError, match="format 99"):
        Store(tmp_path, "us-east-1")


def test_plans_do_not_depend_on_bound_values(tmp_path: Path) -> None:
    writing = schema.open_writer(tmp_path / "m.db")
    reading = schema.open_reader(tmp_path / "m.db")
    for db in (writing, reading):
        assert db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, -1)
        db.close()
