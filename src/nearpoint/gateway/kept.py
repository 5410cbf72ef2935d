"""What the gateway keeps beside the store: marks of keys, the replication rules of buckets, which buckets take part.

One JetStream stream with the last message of each subject, in digests of names. The mark of a delete goes after its
retention (the others stay until the key's next one): what comes back from elsewhere later than that is as new.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import orjson
import structlog
from msgspec import Struct

from nearpoint.gateway.entries import UnloggedError
from nearpoint.gateway.stamps import Mark
from nearpoint.regions.rules import Rule, compile_rules

if TYPE_CHECKING:
    from nats.aio.client import Client as NatsClient

log = structlog.get_logger("nearpoint.gateway")

RETENTION_S = 30 * 86_400  # as long as the embedded store remembers what was removed for good
TIMEOUT_S = 5.0
START_TRIES = 100


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
        self._client = client
        self._stream = f"nearpoint-kept-{region}"
        self._prefix = f"nearpoint-kept.{region}"
        self._marks = msgspec.json.Decoder(Mark)
        self._settings: dict[str, BucketSettings] = {}
        self._rules: dict[str, tuple[Rule, ...]] = {}

    async def start(self) -> None:
        """Make the stream if it is not there, and read the settings."""
        config = {
            "name": self._stream,
            "subjects": [f"{self._prefix}.>"],
            "retention": "limits",
            "storage": "file",
            "max_msgs_per_subject": 1,
            "allow_direct": True,
            "allow_msg_ttl": True,
            "num_replicas": 1,
        }
        for attempt in range(START_TRIES):
            try:
                answer = await self._ask(f"$JS.API.STREAM.CREATE.{self._stream}", orjson.dumps(config))
                if "error" not in answer or "already in use" in str(answer["error"].get("description")):
                    break
                raise UnloggedError(str(answer["error"]))
            except UnloggedError:
                if attempt == START_TRIES - 1:
                    raise
                await asyncio.sleep(0.1)
        after = 0
        decode = msgspec.json.Decoder(BucketSettings).decode
        while True:
            request = orjson.dumps({"seq": after + 1, "next_by_subj": f"{self._prefix}.bucket.*"})
            message = await self._request(f"$JS.API.DIRECT.GET.{self._stream}", request)
            headers = message.headers or {}
            if "Nats-Sequence" not in headers:
                return
            after = int(headers["Nats-Sequence"])
            if message.data:
                self._take(decode(message.data))

    async def get(self, bucket: str, key: str) -> Mark | None:
        subject = f"{self._prefix}.mark.{_token(bucket, key)}"
        message = await self._request(f"$JS.API.DIRECT.GET.{self._stream}.{subject}", b"")
        headers = message.headers or {}
        if headers.get("Status") == "404" or not message.data:
            return None
        if "Nats-Sequence" not in headers:
            raise UnloggedError(f"{self._stream} answers {headers.get('Status')}")
        try:
            return self._marks.decode(message.data)
        except msgspec.MsgspecError as error:
            log.error("a mark cannot be read", bucket=bucket, key=key, error=str(error))
            return None

    async def put(self, bucket: str, key: str, mark: Mark) -> None:
        headers = {"Nats-TTL": str(RETENTION_S)} if mark.deleted else None
        await self._append(f"mark.{_token(bucket, key)}", msgspec.json.encode(mark), headers)

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
        await self._append(f"bucket.{_token(bucket)}", msgspec.json.encode(settings), None)
        self._take(settings)

    async def forget(self, bucket: str) -> None:
        """The bucket is no more. Raises UnloggedError."""
        if bucket in self._settings:
            await self._append(f"bucket.{_token(bucket)}", b"", None)
            self._settings.pop(bucket, None)
            self._rules.pop(bucket, None)

    def _take(self, settings: BucketSettings) -> None:
        self._settings[settings.bucket] = settings
        self._rules[settings.bucket] = () if settings.configuration is None else compile_rules(settings.configuration)

    async def _append(self, subject: str, data: bytes, headers: dict[str, str] | None) -> None:
        answer = await self._ask(f"{self._prefix}.{subject}", data, headers)
        if "error" in answer:
            raise UnloggedError(str(answer["error"].get("description")))

    async def _ask(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = orjson.loads((await self._request(subject, data, headers)).data)
        return answer

    async def _request(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> Any:
        if not self._client.is_connected:
            raise UnloggedError("NATS is not connected")
        try:
            return await self._client.request(subject, data, timeout=TIMEOUT_S, headers=headers)
        except Exception as error:
            raise UnloggedError(str(error) or type(error).__name__) from error


def _token(*parts: str) -> str:
    text = "\0".join(parts).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=16).hexdigest()
