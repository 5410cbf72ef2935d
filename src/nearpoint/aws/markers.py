"""Markers: small objects, one key in all buckets, each bucket's with a content of its own. So the content tells who
answered.

Where buckets copy to each other, the last marker soon stands in all of them, but S3 calls a copy a REPLICA: then it was
another region than the content says that answered. Of two others it can have been either, unless only one of them has
that version: a copy keeps its id (S3 User Guide, "What does Amazon S3 replicate?"). Different keys would not do: an
access point may look for a key that is missing in one region in another.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from nearpoint.aws.clients import Clients
from nearpoint.aws.explain import code_of, explained
from nearpoint.aws.record import DataBucket
from nearpoint.aws.viewer import Answer, Viewer

PREFIX = "nearpoint-verify"
MAX_AGE_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """One key, and the content that each bucket's region has under it."""

    key: str
    bodies: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What a viewer saw. `candidates`: the regions that may have answered; none where no marker came."""

    place: str
    candidates: tuple[str, ...]
    answer: Answer

    @property
    def region(self) -> str | None:
        """The region that answered; None where that can't be told."""
        return self.candidates[0] if len(self.candidates) == 1 else None


class Markers:
    """Puts markers under a name of this run, and takes all of them away again. Several threads may put and look."""

    def __init__(
        self,
        clients: Clients,
        data: Sequence[DataBucket],
        run: str,
        *,
        settle_s: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`settle_s`: how long to wait for the last bucket's marker to stand in all of them, where they copy to each
        other; the local world reads a key that is on its way where it comes from."""
        self._settle_s = settle_s
        self._sleep = sleep
        self._clients = clients
        self._data = data
        self._prefix = f"{PREFIX}/{run}/"
        self._rounds = itertools.count(1)
        for bucket in data:  # made here: boto3 makes clients in one thread at a time only
            clients.client("s3", bucket.region)

    def put(self) -> Marker:
        """A new marker in every bucket, under a key that nobody has asked for yet. Raises DeployError."""
        key = self._fresh_key()
        bodies = {bucket.region: f"marker of {bucket.region}, {key}\n" for bucket in self._data}
        for bucket in self._data:
            self._put(bucket, key, bodies[bucket.region])
        self._settle(key, bodies[self._data[-1].region])
        return Marker(key=key, bodies=bodies)

    def _settle(self, key: str, newest: str) -> None:
        until = time.monotonic() + self._settle_s
        for bucket in self._data[:-1]:
            s3, pauses_s = self._clients.client("s3", bucket.region), self._clients.pauses_s()
            while time.monotonic() < until:
                try:
                    if s3.get_object(Bucket=bucket.name, Key=key)["Body"].read() == newest.encode():
                        break
                except (ClientError, BotoCoreError) as error:
                    raise explained(error) from error
                self._sleep(next(pauses_s))

    def put_in(self, bucket: DataBucket) -> str:
        """A new object in that bucket alone; answers its key. Raises DeployError."""
        key = self._fresh_key()
        self._put(bucket, key, f"copied from {bucket.region}\n")
        return key

    def _fresh_key(self) -> str:
        return f"{self._prefix}{next(self._rounds)}"

    def _put(self, bucket: DataBucket, key: str, body: str) -> None:
        try:
            self._clients.client("s3", bucket.region).put_object(
                Bucket=bucket.name,
                Key=key,
                Body=body.encode(),
                ContentType="text/plain",
                CacheControl=f"max-age={MAX_AGE_S}",
            )
        except (ClientError, BotoCoreError) as error:
            raise explained(error) from error

    def look(self, viewer: Viewer, origin: str, marker: Marker) -> Sighting:
        """Ask for the marker once. `origin` is `https://HOST`."""
        answer = viewer.get(f"{origin}/{marker.key}")
        found = candidates(answer, marker)
        if len(found) > 1 and (version := answer.headers.get("x-amz-version-id")):
            found = tuple(region for region in found if self._has(region, marker.key, version)) or found
        return Sighting(place=viewer.place, candidates=found, answer=answer)

    def _has(self, region: str, key: str, version: str) -> bool:
        """Whether the region's bucket has that version; where it does not say, it may."""
        (bucket,) = [each for each in self._data if each.region == region]
        try:
            self._clients.client("s3", region).head_object(Bucket=bucket.name, Key=key, VersionId=version)
        except ClientError as error:
            return code_of(error) not in ("404", "NoSuchVersion", "NoSuchKey")
        except BotoCoreError:
            return True
        return True

    def remove(self) -> None:
        """Every version of every marker of this run, in every bucket, copies too. Raises DeployError."""
        for bucket in self._data:
            s3 = self._clients.client("s3", bucket.region)
            try:
                for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket.name, Prefix=self._prefix):
                    found = [
                        {"Key": each["Key"], "VersionId": each["VersionId"]}
                        for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
                    ]
                    if found:
                        s3.delete_objects(Bucket=bucket.name, Delete={"Objects": found, "Quiet": True})
            except (ClientError, BotoCoreError) as error:
                raise explained(error) from error


def candidates(answer: Answer, marker: Marker) -> tuple[str, ...]:
    """The regions that may have given the answer, by what it says itself; none where it is not the marker."""
    owner = next((region for region, body in marker.bodies.items() if body == answer.body), None)
    if answer.status != 200 or owner is None:
        return ()
    if answer.headers.get("x-amz-replication-status", "").upper() != "REPLICA":
        return (owner,)
    others = tuple(region for region in marker.bodies if region != owner)
    told = answer.headers.get("x-nearpoint-region")  # the local world says who answered; S3 does not
    return (told,) if told in others else others
