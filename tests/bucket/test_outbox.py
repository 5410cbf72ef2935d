"""The log of writes that replication reads: one row a write, in its own transaction, only where it is wanted."""

from __future__ import annotations

from typing import Any

from nearpoint.bucket import schema


def _outbox(store: Any) -> list[tuple[Any, ...]]:
    db = schema.open_reader(store.folder / "data" / "metadata.db")
    try:
        return schema.fetch_all(db, "SELECT bucket, key, version, operation, etag, size FROM outbox ORDER BY sequence")
    finally:
        db.close()


def test_only_replicated_buckets_have_one(running: Any, s3: Any, versioned: str) -> None:
    mine = [row for row in _outbox(running) if row[0] == versioned]
    s3.put_object(Bucket=versioned, Key="before", Body=b"")
    assert mine == []
    rule = {
        "Status": "Enabled",
        "Priority": 1,
        "Filter": {},
        "DeleteMarkerReplication": {"Status": "Enabled"},
        "Destination": {"Bucket": "arn:aws:s3:::other"},
    }
    s3.put_bucket_replication(
        Bucket=versioned,
        ReplicationConfiguration={"Role": "arn:aws:iam::123456789012:role/r", "Rules": [rule]},
    )
    put = s3.put_object(Bucket=versioned, Key="k", Body=b"xyz")
    s3.put_object_tagging(Bucket=versioned, Key="k", Tagging={"TagSet": []})
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    s3.delete_object(Bucket=versioned, Key="k", VersionId=put["VersionId"])
    etag = put["ETag"].strip('"')
    assert [row for row in _outbox(running) if row[0] == versioned] == [
        (versioned, b"k", put["VersionId"], "put", etag, 3),
        (versioned, b"k", put["VersionId"], "tags", etag, 3),
        (versioned, b"k", marker, "marker", "", 0),
        (versioned, b"k", put["VersionId"], "delete", etag, 3),
    ]
    s3.delete_bucket_replication(Bucket=versioned)
    assert [row for row in _outbox(running) if row[0] == versioned] == []
