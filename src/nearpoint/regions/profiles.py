"""Credentials from AWS profiles, by way of botocore: loaded when first asked for, renewed when they expire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileCredentials:
    """What an AWS profile comes to at the moment."""

    access_key_id: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


# Raises LookupError with a sentence for a profile that is not there or has no credentials.
FindProfile = Callable[[str], ProfileCredentials]


class Profiles:
    """Finds the credentials of profiles; sessions stay open, so that what expires is renewed."""

    def __init__(self) -> None:
        self._credentials: dict[str, Any] = {}

    def __call__(self, name: str) -> ProfileCredentials:
        from botocore.exceptions import BotoCoreError

        try:
            if name not in self._credentials:
                from botocore.session import Session

                self._credentials[name] = Session(profile=name).get_credentials()
            credentials = self._credentials[name]
            if credentials is None:
                raise LookupError(f"the AWS profile {name!r} has no credentials")
            frozen = credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise LookupError(f"the AWS profile {name!r} cannot be used: {error}") from None
        return ProfileCredentials(
            access_key_id=frozen.access_key, secret_key=frozen.secret_key, session_token=frozen.token
        )
