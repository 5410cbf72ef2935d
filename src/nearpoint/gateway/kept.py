"""What the gateway keeps beside the store: marks of keys, the replication rules of buckets, which buckets take part.

One JetStream stream with the last message of each subject, in digests of names. The mark of a delete goes after its
retention (the others stay until the key's next one): what comes back from elsewhere later than that is as new.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import structlog
from msgspec import Struct

from nearpoint.gateway.stamps import Mark
from nearpoint.gateway.stream import PAGE_ROWS, Stream
from nearpoint.regions.rules import Rule, compile_rules

if TYPE_CHECKING:
    from nats.aio.client import Client as NatsClient

log = structlog.get_logger("nearpoint.gateway")

RETENTION_S = 30 * 86_400  # as long as the embedded store remembers what was removed for good


class Marks(Protocol):
    """Marks by bucket and key. Both may raise UnloggedError."""

    async def get(self, bucket: str, key: str) -> Mark | None: ...

    async def put(self, bucket: str, key: str, mark: Mark) -> None: ...


class BucketSettings(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of a bucket that takes part in replication: its configuration, None where it only receives."""

    bucket: str
    configuration: dict[str, Any] | None = None


class Kept:
    """`Marks`, and the settings of buckets. Make it, then `start`."""

    def __init__(self, client: NatsClient, region: str) -> None:
        self._stream = Stream(
            client,
            f"nearpoint-kept-{region}",
            f"nearpoint-kept.{region}",
            max_msgs_per_subject=1,
            allow_msg_ttl=True,
        )
        self._marks = msgspec.json.Decoder(Mark)
        self._settings: dict[str, BucketSettings] = {}
        self._rules: dict[str, tuple[Rule, ...]] = {}

    async def start(self) -> None:
        """Make the stream if it is not there, and read the settings."""
        await self._stream.start()
        decode = msgspec.json.Decoder(BucketSettings).decode
        after = 0
        while True:
            page = await self._stream.page("bucket.*", after)
            for message in page:
                after = message.sequence
                if message.data:
                    self._take(decode(message.data))
            if len(page) < PAGE_ROWS:
                return

    async def get(self, bucket: str, key: str) -> Mark | None:
        message = await self._stream.newest(f"mark.{_token(bucket, key)}")
        if message is None or not message.data:
            return None
        try:
            return self._marks.decode(message.data)
        except msgspec.MsgspecError as error:
            log.error("a mark cannot be read", bucket=bucket, key=key, error=str(error))
            return None

    async def put(self, bucket: str, key: str, mark: Mark) -> None:
        headers = {"Nats-TTL": str(RETENTION_S)} if mark.deleted else None
        await self._stream.append(f"mark.{_token(bucket, key)}", msgspec.json.encode(mark), headers)

    def takes_part(self, bucket: str) -> bool:
        """Whether a bucket has rules or has received from others: only then are its writes stamped."""
        return bucket in self._settings

    def rules(self, bucket: str) -> tuple[Rule, ...]:
        """The enabled rules of a bucket."""
        return self._rules.get(bucket, ())

    def configuration(self, bucket: str) -> dict[str, Any] | None:
        """A bucket's ReplicationConfiguration as it was put."""
        found = self._settings.get(bucket)
        return None if found is None else found.configuration

    def configurations(self) -> dict[str, dict[str, Any]]:
        """The configurations of all buckets that have one."""
        return {name: each.configuration for name, each in self._settings.items() if each.configuration is not None}

    async def configure(self, bucket: str, configuration: dict[str, Any] | None) -> None:
        """Keep a configuration; None: there is none, but the bucket takes part. Raises UnloggedError."""
        settings = BucketSettings(bucket=bucket, configuration=configuration)
        await self._stream.append(f"bucket.{_token(bucket)}", msgspec.json.encode(settings))
        self._take(settings)

    async def forget(self, bucket: str) -> None:
        """The bucket is no more. Raises UnloggedError."""
        if bucket in self._settings:
            await self._stream.append(f"bucket.{_token(bucket)}", b"")
            self._settings.pop(bucket, None)
            self._rules.pop(bucket, None)

    def _take(self, settings: BucketSettings) -> None:
        self._settings[settings.bucket] = settings
        self._rules[settings.bucket] = () if settings.configuration is None else compile_rules(settings.configuration)


def _token(*parts: str) -> str:
    text = "\0".join(parts).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=16).hexdigest()
