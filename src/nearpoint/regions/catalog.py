"""Which store stands in which region, and how to reach it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self
from urllib.parse import urlsplit

Addressing = Literal["path", "virtual"]
StoreKind = Literal["embedded", "gateway", "s3"]


class CatalogError(ValueError):
    """A store's description that cannot be used; the text says which part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSpec:
    """One region's store: any S3 endpoint.

    `endpoint` is `http[s]://host[:port][/prefix]`; `signing_region` is the name that the store expects in SigV4
    scopes; `addressing` puts the bucket in the path or in front of the host. `kind` is this program's own store, the
    gateway before one of another maker, or such a store itself. Raises CatalogError for an endpoint that is not a URL
    of that form.
    """

    region: str
    endpoint: str
    access_key_id: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    signing_region: str = "us-east-1"
    addressing: Addressing = "path"
    kind: StoreKind = "s3"

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.endpoint)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError as error:
            raise CatalogError(f"region {self.region}: endpoint {self.endpoint!r}: {error}") from None
        if not usable or parts.query or parts.fragment or parts.username is not None:
            raise CatalogError(
                f"region {self.region}: endpoint {self.endpoint!r} is not http[s]://host[:port][/prefix]"
            )

    @classmethod
    def of_config(cls, region: str, given: Mapping[str, Any]) -> Self:
        """As a process of a world is told of it in its configuration file."""
        return cls(
            region=region,
            endpoint=given["endpoint"],
            access_key_id=given["access_key_id"],
            secret_key=given["secret_key"],
            signing_region=given["signing_region"],
            kind=given.get("kind", "s3"),
        )
