"""A viewer: asks over HTTPS, from where it stands, and takes down what it got."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import urllib3

from nearpoint.aws.https import pool

BODY_BYTES_MAX = 65_536
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a viewer got; status 0 and the error's name as the body where nothing came. Header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: str
    first_byte_ms: float


class Viewer:
    """Stands at `place`; in the local world behind its proxy, whose user names the place; on AWS wherever this runs."""

    def __init__(self, place: str, *, proxy_url: str | None = None, ca_bundle: str | None = None) -> None:
        self.place = place
        self._pool = pool(
            proxy_url=proxy_url,
            ca_bundle=ca_bundle,
            connect_timeout_s=CONNECT_TIMEOUT_S,
            read_timeout_s=READ_TIMEOUT_S,
        )

    def get(self, url: str) -> Answer:
        """GET the address, redirects not followed."""
        started = time.monotonic()
        try:
            response = self._pool.request("GET", url, preload_content=False, redirect=False)
            first_byte_ms = (time.monotonic() - started) * 1000
            body = response.read(BODY_BYTES_MAX).decode("utf-8", "replace")
            response.drain_conn()
            response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            return Answer(status=0, headers={}, body=type(error).__name__, first_byte_ms=0.0)
        return Answer(
            status=response.status,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=body,
            first_byte_ms=first_byte_ms,
        )
