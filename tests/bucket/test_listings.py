"""Listings over the wire."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest


def _fill(s3: Any, bucket: str, keys: list[str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket=bucket, Key=key, Body=key.encode()), keys))


def _keys(page: dict[str, Any]) -> list[str]:
    return [item["Key"] for item in page.get("Contents", [])]


def _prefixes(page: dict[str, Any]) -> list[str]:
    return [item["Prefix"] for item in page.get("CommonPrefixes", [])]


KEYS = ["a", "a/", "a/1", "a/2", "b/x/1", "b/x/2", "b/y", "c d+e", "ä", "日本/1", "🙂"]


@pytest.fixture(scope="module")
def filled(s3: Any) -> str:
    s3.create_bucket(Bucket="listing-bucket")
    _fill(s3, "listing-bucket", KEYS)
    return "listing-bucket"


def test_order_is_that_of_utf8(s3: Any, filled: str) -> None:
    assert _keys(s3.list_objects_v2(Bucket=filled)) == sorted(KEYS, key=str.encode)
    assert _keys(s3.list_objects(Bucket=filled)) == sorted(KEYS, key=str.encode)


def test_prefix_and_delimiter(s3: Any, filled: str) -> None:
    page = s3.list_objects_v2(Bucket=filled, Delimiter="/")
    assert _prefixes(page) == ["a/", "b/", "日本/"]
    assert _keys(page) == ["a", "c d+e", "ä", "🙂"]
    assert page["KeyCount"] == 7
    page = s3.list_objects_v2(Bucket=filled, Delimiter="/", Prefix="b/")
    assert (_prefixes(page), _keys(page)) == (["b/x/"], ["b/y"])
    page = s3.list_objects_v2(Bucket=filled, Delimiter="/", Prefix="a/")
    assert (_prefixes(page), _keys(page)) == ([], ["a/", "a/1", "a/2"])
    assert _prefixes(s3.list_objects_v2(Bucket=filled, Delimiter="d+")) == ["c d+"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("delimiter", ["", "/"])
def test_paging_shows_everything_once(s3: Any, filled: str, size: int, delimiter: str) -> None:
    arguments = {"Bucket": filled, "Delimiter": delimiter, "PaginationConfig": {"PageSize": size}}
    for name in ("list_objects_v2", "list_objects"):
        keys: list[str] = []
        prefixes: list[str] = []
        for page in s3.get_paginator(name).paginate(**arguments):
            keys += _keys(page)
            prefixes += _prefixes(page)
        whole = s3.list_objects_v2(Bucket=filled, Delimiter=delimiter)
        assert (keys, prefixes) == (_keys(whole), _prefixes(whole)), name


def test_starting_points(s3: Any, filled: str) -> None:
    assert _keys(s3.list_objects_v2(Bucket=filled, StartAfter="b/y"))[0] == "c d+e"
    assert _keys(s3.list_objects_v2(Bucket=filled, StartAfter="b/x/1"))[0] == "b/x/2"
    assert _keys(s3.list_objects(Bucket=filled, Marker="ä"))[0] == "日本/1"
    assert _prefixes(s3.list_objects(Bucket=filled, Marker="a/", Delimiter="/")) == ["b/", "日本/"]


def test_nothing_and_limits(s3: Any, filled: str, refused: Any) -> None:
    page = s3.list_objects_v2(Bucket=filled, MaxKeys=0)
    assert (page["KeyCount"], page["IsTruncated"]) == (0, False)
    assert s3.list_objects_v2(Bucket=filled, MaxKeys=5000)["MaxKeys"] == 1000
    assert "Contents" not in s3.list_objects_v2(Bucket=filled, Prefix="zzz")
    assert refused(s3.list_objects_v2, Bucket=filled, ContinuationToken="no token") == ("InvalidArgument", 400)
    assert refused(s3.list_objects_v2, Bucket=filled, MaxKeys=-1) == ("InvalidArgument", 400)


def test_what_an_entry_says(s3: Any, filled: str) -> None:
    entry = s3.list_objects_v2(Bucket=filled, Prefix="c d+e", FetchOwner=True)["Contents"][0]
    assert (entry["Size"], entry["StorageClass"], entry["ChecksumAlgorithm"]) == (5, "STANDARD", ["CRC32"])
    assert entry["Owner"]["ID"]
    assert entry["ETag"] == s3.head_object(Bucket=filled, Key="c d+e")["ETag"]


def test_more_than_a_page_of_common_prefixes(s3: Any, bucket: str) -> None:
    keys = [f"{at:04}/{inner}" for at in range(120) for inner in range(12)]
    _fill(s3, bucket, keys)
    prefixes: list[str] = []
    pages = list(
        s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": 50})
    )
    for page in pages:
        prefixes += _prefixes(page)
    assert prefixes == [f"{at:04}/" for at in range(120)]
    assert [len(_prefixes(page)) for page in pages] == [50, 50, 20]
    assert len(_keys(s3.list_objects_v2(Bucket=bucket))) == 1000
