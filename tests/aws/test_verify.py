"""What `verify` concludes from what viewers see: moto's buckets behind a distribution that is played here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest

from nearpoint.aws import verify as verifying
from nearpoint.aws.clients import Clients
from nearpoint.aws.markers import Marker, region_of
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


def run(clients: Clients, viewer: Played, watcher: Watch, monkeypatch: pytest.MonkeyPatch, caches: Any) -> Report:
    found = verifying._Deployment(origin="https://d.example", access_point_arn=None, caches=caches, data=DATA)
    monkeypatch.setattr(verifying, "_find", lambda clients, name: found)
    report = verify(clients, "app", [viewer], watcher(), failover=False)  # type: ignore[list-item]
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


def test_a_copy_of_one_of_three_regions_is_not_guessed(
    clients: Clients, watcher: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = Played(clients, "eu-west-1")
    viewer.headers = {"x-amz-replication-status": "REPLICA"}
    report = run(clients, viewer, watcher, monkeypatch, True)
    assert (report.checks[0].verdict, report.right) == ("unknown", True)


@pytest.mark.parametrize(
    ("regions", "headers", "region"),
    [
        (("a", "b"), {}, "b"),
        (("a", "b"), {"x-amz-replication-status": "COMPLETED"}, "b"),
        (("a", "b"), {"x-amz-replication-status": "REPLICA"}, "a"),
        (("a", "b", "c"), {"x-amz-replication-status": "REPLICA"}, None),
        (("a", "b", "c"), {"x-amz-replication-status": "REPLICA", "x-nearpoint-region": "c"}, "c"),
    ],
)
def test_who_answered(regions: tuple[str, ...], headers: dict[str, str], region: str | None) -> None:
    marker = Marker(key="k", bodies={each: f"of {each}" for each in regions})
    answer = Answer(status=200, headers=headers, body="of b", first_byte_ms=1.0)
    assert region_of(answer, marker) == region
