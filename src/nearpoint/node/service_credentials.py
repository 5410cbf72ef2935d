"""Temporary credentials for requests that the edge signs as the service it is, one set for each distribution."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from nearpoint.signing import Credentials
from nearpoint.state.resources import Snapshot
from nearpoint.state.sessions import mint_for_service

SERVICE = "cloudfront.amazonaws.com"
LIFETIME_S = 3600
RENEWED_BEFORE_S = 900  # longer than the clock skew that a verifier allows
KEPT_MAX = 1000


class ServiceCredentials:
    """The edge's `OriginCredentials`. Anybody who has the snapshot can verify them."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        *,
        clock: Callable[[], float] = time.time,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._snapshot = snapshot
        self._clock = clock
        self._random_bytes = random_bytes
        self._kept: dict[tuple[str, str], tuple[Credentials, float]] = {}

    def __call__(self, distribution_id: str, /) -> Credentials:
        """The credentials of a distribution, good for at least RENEWED_BEFORE_S."""
        snapshot, now = self._snapshot(), self._clock()
        kept = self._kept.get((snapshot.session_secret, distribution_id))
        if kept is not None and now < kept[1]:
            return kept[0]
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        made = Credentials(
            *mint_for_service(
                snapshot.session_secret,
                service=SERVICE,
                source_arn=f"arn:aws:cloudfront::{snapshot.account_id}:distribution/{distribution_id}",
                expires_at=int(now) + LIFETIME_S,
                random_bytes=self._random_bytes(10),
            )
        )
        self._kept[snapshot.session_secret, distribution_id] = (made, now + LIFETIME_S - RENEWED_BEFORE_S)
        return made
