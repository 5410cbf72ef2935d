"""`nearpoint verify`: whether a deployment does what it is for, told from outside.

Markers go into the buckets, viewers ask CloudFront for them, and each check says what was expected and what was seen.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from nearpoint.aws import record
from nearpoint.aws.clients import HOME_REGION, Clients
from nearpoint.aws.deploy import Reporter
from nearpoint.aws.errors import DeployError
from nearpoint.aws.explain import code_of, explained
from nearpoint.aws.markers import Markers, Sighting
from nearpoint.aws.record import DataBucket
from nearpoint.aws.replication import is_replicated
from nearpoint.aws.stacks import UPDATABLE, Stack
from nearpoint.aws.viewer import Viewer

Verdict = Literal["right", "wrong", "unknown"]
DISTRIBUTION, ACCESS_POINT = "AWS::CloudFront::Distribution", "AWS::S3::MultiRegionAccessPoint"
CONTROL_REGION = "us-west-2"  # the one that serves an access point's own control calls, wherever its buckets are
# S3 User Guide, "Failover controls": within two minutes.
DIAL_TIMEOUT_S = {"local": 10.0, "aws": 180.0}
SETTLE_S = 10.0
VIEWERS_AT_ONCE = 8
ASKED_MAX = 3  # with a new marker each, where a copy came that several regions have
REPLICATION_TIMEOUT_S = {"local": 30.0, "aws": 120.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """`seen` says what came, `name` what should have."""

    name: str
    verdict: Verdict
    seen: str


@dataclass(slots=True)
class Report:
    """What was seen. `right` where nothing was wrong."""

    stack: str
    checks: list[Check] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return bool(self.checks) and all(check.verdict != "wrong" for check in self.checks)

    def add(self, name: str, right: bool | None, seen: str) -> None:
        """Take down a check; None: it could not be told."""
        verdict: Verdict = "unknown" if right is None else "right" if right else "wrong"
        self.checks.append(Check(name=name, verdict=verdict, seen=seen))

    @property
    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "stack": self.stack,
            "right": self.right,
            "answers": [
                {
                    "place": each.place,
                    "region": each.region,
                    "candidates": list(each.candidates),
                    "status": each.answer.status,
                    "cache": each.answer.headers.get("x-cache", ""),
                    "first_byte_ms": round(each.answer.first_byte_ms, 1),
                }
                for each in self.sightings
            ],
            "checks": [{"name": each.name, "verdict": each.verdict, "seen": each.seen} for each in self.checks],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Deployment:
    origin: str
    access_point_arn: str | None
    caches: bool | None
    data: tuple[DataBucket, ...]


def verify(
    clients: Clients,
    name: str,
    viewers: Sequence[Viewer],
    reporter: Reporter,
    *,
    failover: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> Report:
    """Look, from each viewer's place. Markers are taken away again, dials put back. Raises DeployError where there is
    nothing to look at."""
    report = Report(name)
    deployment = _find(clients, name)
    copied = clients.target == "local" and any(is_replicated(clients, bucket) for bucket in deployment.data)
    settle_s = SETTLE_S if copied else 0.0
    markers = Markers(clients, deployment.data, secrets.token_hex(6), settle_s=settle_s, sleep=sleep)
    try:
        reporter.step(f"ask {deployment.origin} from {', '.join(viewer.place for viewer in viewers)}")
        with ThreadPoolExecutor(VIEWERS_AT_ONCE) as pool:
            for sighting in pool.map(lambda viewer: _ask(viewer, deployment, markers), viewers):
                _take_down(sighting, report)
        _caching(viewers[0], deployment, markers, report)
        answered = report.sightings[0].region
        if failover and answered is not None and deployment.access_point_arn is not None:
            reporter.step(f"the dial of {answered} to 0, and back")
            _failover(clients, viewers[0], deployment, markers, answered, report, sleep)
        else:
            why = "the stack has no access point" if answered else f"who answers is not known: {report.checks[0].seen}"
            why = why if failover else "it was not asked for (--failover)"
            report.add("failover by dial", None, f"not tried: {why}")
        reporter.step("replication")
        _replication(clients, deployment, markers, report, sleep)
    finally:
        markers.remove()
    return report


def _find(clients: Clients, name: str) -> _Deployment:
    clients.identity()
    known, stack = record.read(clients, name), Stack(clients, name)
    found = stack.describe()
    if found is None or known is None:
        account_id = clients.identity().account_id
        raise DeployError(
            f"There is no deployment {name} in account {account_id}; `nearpoint deploy --stack {name}` makes one.",
            refused=True,
        )
    if found["StackStatus"] not in UPDATABLE:
        raise DeployError(f"The stack {name} is in {found['StackStatus']}; `nearpoint deploy` goes on with it.")
    if not known.data:
        raise DeployError(f"The deployment {name} has no data buckets to put markers into.")
    ids = {each["type"]: each["physical_id"] for each in stack.resources()}
    if DISTRIBUTION not in ids:
        raise DeployError(f"The stack {name} has no distribution to ask.")
    try:
        distribution = clients.client("cloudfront").get_distribution(Id=ids[DISTRIBUTION])["Distribution"]
        alias = None
        if ACCESS_POINT in ids:
            point = clients.client("s3control", CONTROL_REGION).get_multi_region_access_point(
                AccountId=clients.identity().account_id, Name=ids[ACCESS_POINT]
            )
            alias = point["AccessPoint"]["Alias"]
        caches = _caches(clients, distribution["DistributionConfig"]["DefaultCacheBehavior"])
    except (ClientError, BotoCoreError) as error:
        raise explained(error) from error
    account_id = clients.identity().account_id
    return _Deployment(
        origin=f"https://{distribution['DomainName']}",
        access_point_arn=None if alias is None else f"arn:aws:s3::{account_id}:accesspoint/{alias}",
        caches=caches,
        data=known.data,
    )


def _caches(clients: Clients, behavior: Mapping[str, Any]) -> bool | None:
    """Whether the behavior keeps what says max-age=60; None where that can't be told."""
    if "CachePolicyId" not in behavior:
        return bool(behavior.get("MaxTTL", 31_536_000) > 0)
    try:
        policy = clients.client("cloudfront").get_cache_policy(Id=behavior["CachePolicyId"])
    except ClientError as error:
        if code_of(error) in ("NoSuchCachePolicy", "NotImplemented", "AccessDenied"):
            return None
        raise
    return bool(policy["CachePolicy"]["CachePolicyConfig"].get("MaxTTL", 31_536_000) > 0)


def _said(sighting: Sighting) -> str:
    answer = sighting.answer
    if sighting.candidates:
        return f"{answer.status} from {' or '.join(sighting.candidates)} in {answer.first_byte_ms:.0f} ms"
    return f"{answer.status}: {answer.body.strip()[:120]}"


def _ask(viewer: Viewer, deployment: _Deployment, markers: Markers) -> Sighting:
    for _ in range(ASKED_MAX):  # a region that is asked soon enough still has its own marker
        sighting = markers.look(viewer, deployment.origin, markers.put())
        if len(sighting.candidates) < 2:
            break
    return sighting


def _take_down(sighting: Sighting, report: Report) -> None:
    report.sightings.append(sighting)
    report.add(f"{sighting.place} gets a bucket's marker", bool(sighting.candidates), _said(sighting))
    told = sighting.answer.headers.get("x-nearpoint-region")  # the local world says who answered
    if sighting.candidates and told is not None:
        report.add(f"{sighting.place}'s answer names its region", told == sighting.region, told)


def _caching(viewer: Viewer, deployment: _Deployment, markers: Markers, report: Report) -> None:
    made = markers.put()
    first = markers.look(viewer, deployment.origin, made)
    if not first.candidates:
        report.add("what was asked for before is kept", None, _said(first))
        return
    again = viewer.get(f"{deployment.origin}/{made.key}")
    seen = [answer.headers.get("x-cache", "no X-Cache") for answer in (first.answer, again)]
    hit = seen[1].lower().startswith("hit")
    # Against the first answer, not against what was put there: a copy from another region may have come in between.
    whole = again.status == 200 and again.body == first.answer.body
    expected = {True: "kept", False: "not kept (TTL 0)", None: "kept or not"}[deployment.caches]
    right = None if deployment.caches is None else whole and hit == deployment.caches
    report.add(f"what was asked for before is {expected}", right, ", then ".join(seen))


@contextmanager
def _dialled(clients: Clients, arn: str, bucket: DataBucket) -> Iterator[None]:
    """The region's dial at 0 while it lasts; then as it was."""
    control, account_id = clients.client("s3control", HOME_REGION), clients.identity().account_id

    def dial(percent: int) -> None:
        update = {"Bucket": bucket.name, "Region": bucket.region, "TrafficDialPercentage": percent}
        control.submit_multi_region_access_point_routes(AccountId=account_id, Mrap=arn, RouteUpdates=[update])

    try:
        routes = control.get_multi_region_access_point_routes(AccountId=account_id, Mrap=arn)["Routes"]
        before = {each["Region"]: each["TrafficDialPercentage"] for each in routes}
        if not any(percent for region, percent in before.items() if region != bucket.region):
            raise DeployError(f"{bucket.region} is the only active region; its dial can't be turned to 0.")
        dial(0)
        try:
            yield
        finally:
            dial(before[bucket.region])
    except (ClientError, BotoCoreError) as error:
        raise explained(error) from error


def _failover(
    clients: Clients,
    viewer: Viewer,
    deployment: _Deployment,
    markers: Markers,
    region: str,
    report: Report,
    sleep: Callable[[float], None],
) -> None:
    assert deployment.access_point_arn is not None
    (bucket,) = [each for each in deployment.data if each.region == region]

    def until(wanted: Callable[[Sighting], bool]) -> tuple[Sighting, float]:
        started = time.monotonic()
        pauses_s = clients.pauses_s()
        while True:
            sighting = markers.look(viewer, deployment.origin, markers.put())
            waited_s = time.monotonic() - started
            if wanted(sighting) or waited_s > DIAL_TIMEOUT_S[clients.target]:
                return sighting, waited_s
            sleep(next(pauses_s))

    def by_another(sighting: Sighting) -> bool:
        return bool(sighting.candidates) and region not in sighting.candidates

    with _dialled(clients, deployment.access_point_arn, bucket):
        away, waited_s = until(by_another)
    seen = f"{_said(away)}, after {waited_s:.1f} s"
    report.add(f"with {region}'s dial at 0 another region answers", _verdict(by_another(away), away), seen)
    back, waited_s = until(lambda sighting: sighting.region == region)
    seen = f"{_said(back)}, after {waited_s:.1f} s"
    report.add(f"with its dial back {region} answers again", _verdict(back.region == region, back), seen)


def _verdict(right: bool, sighting: Sighting) -> bool | None:
    """Unknown where it is not right, but several regions may have answered."""
    return None if not right and len(sighting.candidates) > 1 else right


def _replication(
    clients: Clients,
    deployment: _Deployment,
    markers: Markers,
    report: Report,
    sleep: Callable[[float], None],
) -> None:
    for source in deployment.data:
        if not is_replicated(clients, source):
            report.add(f"{source.region} copies to the others", None, "its bucket has no replication rules")
            continue
        for target in deployment.data:
            if target is source:
                continue
            lag_s = _lag_s(clients, markers, source, target, sleep)
            seen = f"after {lag_s:.1f} s" if lag_s is not None else "not yet; S3 promises 15 minutes"
            # A copy that is late is no proof that none comes.
            report.add(f"{source.region} copies to {target.region}", None if lag_s is None else True, seen)


def _lag_s(
    clients: Clients, markers: Markers, source: DataBucket, target: DataBucket, sleep: Callable[[float], None]
) -> float | None:
    """How long an object put into one bucket takes to stand in the other; None where it takes too long to wait for."""
    key = markers.put_in(source)
    s3, started, pauses_s = clients.client("s3", target.region), time.monotonic(), clients.pauses_s()
    while time.monotonic() - started < REPLICATION_TIMEOUT_S[clients.target]:
        try:
            s3.head_object(Bucket=target.name, Key=key)
        except ClientError as error:
            if code_of(error) not in ("404", "NoSuchKey", "NotFound"):
                raise explained(error) from error
            sleep(next(pauses_s))
        else:
            return time.monotonic() - started
    return None
