"""The log of writes that replication reads: rows of the write's own transaction, only where a rule wants them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

from nearpoint.bucket import schema

ROLE = "arn:aws:iam::123456789012:role/r"


def _rule(destination: str, priority: int = 1, **members: Any) -> dict[str, Any]:
    return {
        "Status": "Enabled",
        "Priority": priority,
        "Filter": {},
        "DeleteMarkerReplication": {"Status": "Enabled"},
        "Destination": {"Bucket": f"arn:aws:s3:::{destination}"},
    } | members


def _replicate(s3: Any, bucket: str, *rules: dict[str, Any]) -> None:
    s3.put_bucket_replication(Bucket=bucket, ReplicationConfiguration={"Role": ROLE, "Rules": list(rules)})


def _outbox(store: Any, bucket: str) -> list[tuple[Any, ...]]:
    db = schema.open_reader(store.folder / "data" / "metadata.db")
    try:
        return schema.fetch_all(
            db,
            "SELECT destination, key, version, operation, etag, size FROM outbox WHERE bucket = ? ORDER BY sequence",
            (bucket,),
        )
    finally:
        db.close()


def test_a_row_for_each_write_and_destination(running: Any, s3: Any, versioned: str) -> None:
    s3.put_object(Bucket=versioned, Key="before", Body=b"")
    assert _outbox(running, versioned) == []
    _replicate(s3, versioned, _rule("other"), _rule("logs", 2, Filter={"Prefix": "logs/"}))
    put = s3.put_object(Bucket=versioned, Key="k", Body=b"xyz")
    log = s3.put_object(Bucket=versioned, Key="logs/1", Body=b"")
    s3.put_object_tagging(Bucket=versioned, Key="k", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    s3.put_object_tagging(Bucket=versioned, Key="before", Tagging={"TagSet": []})
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    etag, empty = put["ETag"].strip('"'), log["ETag"].strip('"')
    assert _outbox(running, versioned) == [
        ("other", b"k", put["VersionId"], "put", etag, 3),
        ("logs", b"logs/1", log["VersionId"], "put", empty, 0),
        ("other", b"logs/1", log["VersionId"], "put", empty, 0),
        ("other", b"k", put["VersionId"], "amend", etag, 0),
        ("other", b"k", marker, "marker", "", 0),
    ]
    # A version that is gone is owed to nobody.
    s3.delete_object(Bucket=versioned, Key="k", VersionId=put["VersionId"])
    assert [row[1:4] for row in _outbox(running, versioned) if row[1] == b"k"] == [(b"k", marker, "marker")]
    assert s3.head_object(Bucket=versioned, Key="logs/1")["ReplicationStatus"] == "PENDING"
    assert "ReplicationStatus" not in s3.head_object(Bucket=versioned, Key="before")
    # Nor is what no rule leads to any more.
    _replicate(s3, versioned, _rule("logs"))
    assert {row[0] for row in _outbox(running, versioned)} == {"logs"}
    assert s3.get_object(Bucket=versioned, Key="logs/1")["ReplicationStatus"] == "PENDING"
    s3.delete_bucket_replication(Bucket=versioned)
    assert _outbox(running, versioned) == []
    assert s3.get_object(Bucket=versioned, Key="logs/1")["ReplicationStatus"] == "FAILED"


def test_a_configuration_is_checked(s3: Any, bucket: str, refused: Any) -> None:
    def put(*rules: dict[str, Any]) -> tuple[str, int]:
        configuration = {"Role": ROLE, "Rules": list(rules)}
        found: tuple[str, int] = refused(
            s3.put_bucket_replication, Bucket=bucket, ReplicationConfiguration=configuration
        )
        return found

    assert put(_rule("other")) == ("InvalidRequest", 400)  # not versioned
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert put(_rule(bucket)) == ("InvalidRequest", 400)
    assert put(_rule("b", ID="x"), _rule("c", 2, ID="x")) == ("InvalidArgument", 400)
    tagged = {"Tag": {"Key": "a", "Value": "b"}}
    assert put(_rule("b", Filter=tagged)) == ("InvalidRequest", 400)
    _replicate(s3, bucket, _rule("b"))
    suspend = {"Status": "Suspended"}
    assert refused(s3.put_bucket_versioning, Bucket=bucket, VersioningConfiguration=suspend)[0] == "InvalidBucketState"


def test_a_store_of_format_1_is_brought_to_this_one(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    schema.open_writer(path).close()
    db = apsw.Connection(str(path))
    for column in ("origin", "replication", "amended", "amended_in"):
        if column == "origin":
            db.execute("DROP INDEX history")
        db.execute(f"ALTER TABLE object DROP COLUMN {column}")
    db.execute("CREATE INDEX history ON object (bucket, key, stamp DESC, version)")
    db.execute("DROP TABLE outbox; DROP TABLE removed")
    db.execute("CREATE TABLE outbox (sequence INTEGER PRIMARY KEY AUTOINCREMENT, bucket TEXT)")
    db.execute(
        "INSERT INTO object (bucket, key, stamp, version, listed, marker, size, etag, part_count, head, storage_class, "
        "checksum) VALUES (1, x'6b', 5, 'v', 1, 0, 0, 'e', 0, x'', 'STANDARD', '')"
    )
    db.execute("PRAGMA user_version = 1").fetchall()
    db.close()
    opened = schema.open_writer(path)
    assert schema.fetch_all(opened, "SELECT key, stamp, origin, replication, amended, amended_in FROM object") == [
        (b"k", 5, "", "", 0, "")
    ]
    assert schema.fetch_all(opened, "SELECT * FROM outbox") == []
    opened.close()
