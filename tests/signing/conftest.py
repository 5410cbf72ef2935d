"""What the tests of the signing room share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from nearpoint.signing import Credentials, Message

WithHeaders = Callable[[Message, list[tuple[str, str]]], Message]


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 11, 23, 12, 30, 45, tzinfo=UTC)


@pytest.fixture
def credentials() -> Credentials:
    return Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


@pytest.fixture
def with_headers() -> WithHeaders:
    """A message with these headers added, or put in the place of those it has."""

    def change(message: Message, headers: list[tuple[str, str]]) -> Message:
        replaced = {name.lower() for name, _ in headers}
        kept = [item for item in message.headers if item[0].lower() not in replaced]
        return Message(message.method, message.path, message.query, [*kept, *headers])

    return change
