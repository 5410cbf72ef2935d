"""What `verify` concludes from what viewers see: moto's buckets behind a distribution that is played here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import boto3
import pytest

from nearpoint.aws import verify as verifying
from nearpoint.aws.clients import Clients
from nearpoint.aws.markers import Marker, candidates
from nearpoint.aws.record import DataBucket
from nearpoint.aws.verify import Report, verify
from nearpoint.aws.viewer import Answer

moto = pytest.importorskip("moto")

REGIONS = ("us-east-1", "eu-west-1", "ap-south-1")
DATA = tuple(DataBucket(name=f"data-{region}", region=region, parameter=region, made=True) for region in REGIONS)
Watch = Callable[..., Any]


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with moto.mock_aws():
        clients = Clients(target="aws", session=boto3.Session(region_name="us-east-1"))
        for bucket in DATA:
            where = {"CreateBucketConfiguration": {"LocationConstraint": bucket.region}}
            given = {} if bucket.region == "us-east-1" else where
            clients.client("s3", bucket.region).create_bucket(Bucket=bucket.name, **given)
        yield clients


class Played:
    """A viewer whose CloudFront answers from one region's bucket, and keeps answers or does not."""

    def __init__(self, clients: Clients, region: str, *, keeps: bool = True, status: int = 200) -> None:
        self.place = "here"
        self._clients = clients
        self._region = region
        self._keeps = keeps
        self._status = status
        self._kept: dict[str, str] = {}
        self.headers: dict[str, str] = {}

    def get(self, url: str) -> Answer:
        key = url.removeprefix("https://d.example/")
        hit = key in self._kept
        s3 = self._clients.client("s3", self._region)
        body = self._kept.get(key) or s3.get_object(Bucket=f"data-{self._region}", Key=key)["Body"].read().decode()
        if self._keeps:
            self._kept[key] = body
        cache = f"{'Hit' if hit else 'Miss'} from cloudfront"
        return Answer(status=self._status, headers={"x-cache": cache} | self.headers, body=body, first_byte_ms=1.0)


def run(
    clients: Clients,
    viewer: Played,
    watcher: Watch,
    monkeypatch: pytest.MonkeyPatch,
    caches: Any,
    *,
    access_point_arn: str | None = None,
) -> Report:
    found = verifying._Deployment(
        origin="https://d.example", access_point_arn=access_point_arn, caches=caches, data=DATA
    )
    monkeypatch.setattr(verifying, "_find", lambda clients, name: found)
    report = verify(clients, "app", [viewer], watcher(), failover=bool(access_point_arn))  # type: ignore[list-item]
    for bucket in DATA:  # whatever was seen, nothing of it stays
        assert "Contents" not in clients.client("s3", bucket.region).list_objects_v2(Bucket=bucket.name)
    return report


@pytest.mark.parametrize(
    ("region", "keeps", "caches", "verdict"),
    [
        ("eu-west-1", True, True, "right"),
        ("us-east-1", False, False, "right"),
        ("us-east-1", True, False, "wrong"),
        ("us-east-1", False, True, "wrong"),
        ("us-east-1", False, None, "unknown"),
    ],
)
def test_region_and_cache(
    clients: Clients,
    watcher: Watch,
    monkeypatch: pytest.MonkeyPatch,
    region: str,
    keeps: bool,
    caches: Any,
    verdict: str,
) -> None:
    report = run(clients, Played(clients, region, keeps=keeps), watcher, monkeypatch, caches)
    found = report.as_json
    assert [(each["place"], each["region"], each["status"]) for each in found["answers"]] == [("here", region, 200)]
    by_name = {each["name"]: each["verdict"] for each in found["checks"]}
    assert by_name["here gets a bucket's marker"] == "right"
    assert next(each for name, each in by_name.items() if name.startswith("what was asked for before")) == verdict
    assert by_name["us-east-1 copies to the others"] == "unknown"
    assert found["right"] == (verdict != "wrong")


def test_an_error_is_wrong_and_said(clients: Clients, watcher: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    report = run(clients, Played(clients, "us-east-1", status=403), watcher, monkeypatch, True)
    assert not report.right
    assert report.checks[0].seen.startswith("403: marker of us-east-1")


class Copied(Played):
    """A viewer who gets eu-west-1's marker as the copy that `region` has of it, in the first `copies` answers; then the
    region's own."""

    def __init__(self, clients: Clients, region: str, *, copies: int, says_version: bool) -> None:
        super().__init__(clients, region)
        self.copies = copies
        self._says_version = says_version

    def get(self, url: str) -> Answer:
        if self.copies <= 0:
            return super().get(url)
        self.copies -= 1
        key = url.removeprefix("https://d.example/")
        source = self._clients.client("s3", "eu-west-1")
        body = source.get_object(Bucket="data-eu-west-1", Key=key)["Body"].read()
        copy = self._clients.client("s3", self._region).put_object(Bucket=f"data-{self._region}", Key=key, Body=body)
        headers = {"x-cache": "Miss from cloudfront", "x-amz-replication-status": "REPLICA"}
        if self._says_version:
            headers["x-amz-version-id"] = copy["VersionId"]
        return Answer(status=200, headers=headers, body=body.decode(), first_byte_ms=1.0)


def first(report: Report) -> tuple[str, str | None, list[str]]:
    """The verdict on the first answer, and what the report says of who gave it."""
    answer = report.as_json["answers"][0]
    return report.checks[0].verdict, answer["region"], answer["candidates"]


@pytest.mark.parametrize(
    ("copies", "says_version", "told"),
    [
        (1, False, ("right", "us-east-1", ["us-east-1"])),  # asked once more, it gave its own
        (9, True, ("right", "us-east-1", ["us-east-1"])),  # no other bucket has that version
        (9, False, ("right", None, ["us-east-1", "ap-south-1"])),
    ],
)
def test_a_copy_that_several_regions_may_have_given(
    clients: Clients, watcher: Watch, monkeypatch: pytest.MonkeyPatch, copies: int, says_version: bool, told: Any
) -> None:
    for bucket in DATA:
        clients.client("s3", bucket.region).put_bucket_versioning(
            Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"}
        )
    viewer = Copied(clients, "us-east-1", copies=copies, says_version=says_version)
    report = run(clients, viewer, watcher, monkeypatch, None)
    assert first(report) == told
    assert report.checks[0].seen == f"200 from {' or '.join(told[2])} in 1 ms"


@pytest.mark.parametrize(
    ("copied_from", "moved", "seen"),
    [
        (None, "right", "200 from eu-west-1"),
        ("us-east-1", "right", "200 from eu-west-1 or ap-south-1"),  # any region but the one that was turned off
        ("ap-south-1", "unknown", "200 from us-east-1 or eu-west-1"),
    ],
)
def test_failover_where_only_candidates_are_known(
    clients: Clients,
    watcher: Watch,
    monkeypatch: pytest.MonkeyPatch,
    copied_from: str | None,
    moved: str,
    seen: str,
) -> None:
    viewer = Played(clients, "us-east-1")

    @contextmanager
    def dialled(_: Clients, arn: str, bucket: DataBucket) -> Iterator[None]:
        assert (arn, bucket) == ("arn", DATA[0])
        viewer._region = copied_from or "eu-west-1"
        viewer.headers = {"x-amz-replication-status": "REPLICA"} if copied_from else {}
        yield
        viewer._region, viewer.headers = "us-east-1", {}

    monkeypatch.setattr(verifying, "_dialled", dialled)
    monkeypatch.setitem(verifying.DIAL_TIMEOUT_S, "aws", 0.0)
    report = run(clients, viewer, watcher, monkeypatch, True, access_point_arn="arn")
    by_name = {each.name: each for each in report.checks}
    away = by_name["with us-east-1's dial at 0 another region answers"]
    assert (away.verdict, away.seen.partition(" in ")[0]) == (moved, seen)
    assert by_name["with its dial back us-east-1 answers again"].verdict == "right"


@pytest.mark.parametrize(
    ("regions", "headers", "found"),
    [
        ("ab", {}, "b"),
        ("ab", {"x-amz-replication-status": "COMPLETED"}, "b"),
        ("ab", {"x-amz-replication-status": "REPLICA"}, "a"),
        ("abc", {"x-amz-replication-status": "REPLICA"}, "ac"),
        ("abc", {"x-amz-replication-status": "REPLICA", "x-nearpoint-region": "c"}, "c"),
        ("abc", {"x-amz-replication-status": "REPLICA", "x-nearpoint-region": "nowhere"}, "ac"),
    ],
)
def test_who_answered(regions: str, headers: dict[str, str], found: str) -> None:
    marker = Marker(key="k", bodies={each: f"of {each}" for each in regions})
    answer = Answer(status=200, headers=headers, body="of b", first_byte_ms=1.0)
    assert candidates(answer, marker) == tuple(found)
    for other in (replace(answer, status=403), replace(answer, body="something else")):
        assert candidates(other, marker) == ()
