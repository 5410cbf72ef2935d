"""A JetStream stream as the gateway uses it: append, read directly, delete. No consumers.

The server syncs every message before it acknowledges it (`sync_interval: always`). Reads are NATS's direct ones
(ADR-31), in batches where there are many. Everything raises UnloggedError when the server is away, and at once when
that is known: another region may take the write meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from nearpoint.gateway.entries import UnloggedError

if TYPE_CHECKING:
    from nats.aio.client import Client as NatsClient

TIMEOUT_S = 5.0
PAGE_ROWS = 1000
AT_ONCE = 64
START_TRIES = 100
_GONE = frozenset({10037, 10057})  # JetStream: no message found, and what a file store says of a sequence it never had


class Message(NamedTuple):
    """A message of a stream."""

    sequence: int
    subject: str
    data: bytes


class Stream:
    """One stream, with all subjects under `prefix`. `settings` go beyond the usual ones of its configuration."""

    def __init__(self, client: NatsClient, name: str, prefix: str, **settings: Any) -> None:
        self.name = name
        self.prefix = prefix
        self._client = client
        self._settings = settings
        self._places = asyncio.Semaphore(AT_ONCE)

    async def start(self) -> int:
        """Make it if it is not there; its last sequence. A JetStream that is starting is waited for."""
        config = {
            "name": self.name,
            "subjects": [f"{self.prefix}.>"],
            "retention": "limits",
            "storage": "file",
            "num_replicas": 1,
            "allow_direct": True,
            **self._settings,
        }
        for attempt in range(START_TRIES):
            try:
                answer = await self._api(f"STREAM.CREATE.{self.name}", config)
                if "error" in answer and "already in use" in str(answer["error"].get("description")):
                    answer = await self._api(f"STREAM.UPDATE.{self.name}", config)
                if "error" not in answer:
                    break
                raise UnloggedError(str(answer["error"]))
            except UnloggedError:
                if attempt == START_TRIES - 1:
                    raise
                await asyncio.sleep(0.1)
        # A stream that becomes empty gives up its file and makes a new one for the next message, which takes as long as
        # several messages. So one message stays.
        if await self.newest("anchor") is None:
            await self.append("anchor", b"-")
        return int((await self._api(f"STREAM.INFO.{self.name}", {}))["state"]["last_seq"])

    async def append(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> int:
        """The sequence of the new message, which is on disk."""
        message = await self._request(f"{self.prefix}.{subject}", data, headers)
        return int(_checked(orjson.loads(message.data))["seq"])

    async def delete(self, sequence: int) -> bool:
        """Whether it was still there."""
        answer = await self._api(f"STREAM.MSG.DELETE.{self.name}", {"seq": sequence, "no_erase": True})
        if answer.get("error", {}).get("err_code") in _GONE:
            return False
        _checked(answer)
        return True

    async def purge(self, subject: str, below: int | None = None) -> None:
        """Delete all of a subject, or what comes before a sequence."""
        wanted: dict[str, Any] = {"filter": f"{self.prefix}.{subject}"}
        _checked(await self._api(f"STREAM.PURGE.{self.name}", wanted if below is None else wanted | {"seq": below}))

    async def newest(self, subject: str) -> Message | None:
        """The last message of a subject."""
        return await self._get({"last_by_subj": f"{self.prefix}.{subject}"})

    async def at(self, sequence: int) -> Message | None:
        """The message of that sequence."""
        return await self._get({"seq": sequence})

    async def page(self, subject: str, after: int, limit: int = PAGE_ROWS) -> list[Message]:
        """The messages of a subject (with wildcards) behind a sequence, in order."""
        self._check_connected()
        found: list[Message] = []
        try:
            inbox = self._client.new_inbox()
            subscription = await self._client.subscribe(inbox)
            try:
                wanted = {"seq": after + 1, "next_by_subj": f"{self.prefix}.{subject}", "batch": limit}
                await self._client.publish(f"$JS.API.DIRECT.GET.{self.name}", orjson.dumps(wanted), reply=inbox)
                while True:
                    message = _read(await subscription.next_msg(timeout=TIMEOUT_S), self.name)
                    if message is None:
                        return found
                    found.append(message)
            finally:
                await subscription.unsubscribe()
        except Exception as error:
            raise _unlogged(error) from error

    async def _get(self, wanted: dict[str, Any]) -> Message | None:
        return _read(await self._request(f"$JS.API.DIRECT.GET.{self.name}", orjson.dumps(wanted)), self.name)

    async def _api(self, call: str, wanted: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = orjson.loads((await self._request(f"$JS.API.{call}", orjson.dumps(wanted))).data)
        return answer

    def _check_connected(self) -> None:
        if not self._client.is_connected:
            raise UnloggedError("NATS is not connected")

    async def _request(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> Any:
        self._check_connected()
        try:
            async with self._places:
                return await self._client.request(subject, data, timeout=TIMEOUT_S, headers=headers)
        except Exception as error:
            raise _unlogged(error) from error


def _read(message: Any, stream: str) -> Message | None:
    """A message of a direct read; None where there is none, or no more."""
    headers = message.headers or {}
    if "Nats-Sequence" in headers and "Nats-Subject" in headers:
        return Message(int(headers["Nats-Sequence"]), headers["Nats-Subject"], message.data)
    if headers.get("Status") in ("204", "404"):
        return None
    raise UnloggedError(f"{stream} answers {headers.get('Status')}")


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise UnloggedError(str(answer["error"].get("description")))
    return answer


def _unlogged(error: Exception) -> UnloggedError:
    return error if isinstance(error, UnloggedError) else UnloggedError(str(error) or type(error).__name__)
