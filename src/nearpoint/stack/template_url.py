"""Where a `TemplateURL` leads: an object of S3, by host or by path (S3 User Guide, "Methods for accessing")."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from nearpoint.stack.errors import TemplateError

_S3_HOST = re.compile(r"(?:(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])\.)?s3(?:[.-][a-z0-9-]+)?\.amazonaws\.com")


def template_location(url: str) -> tuple[str, str, str | None]:
    """Bucket, key and version id of a TemplateURL. Raises ValidationError for what is no S3 object's address."""
    parts = urlsplit(url)
    host = _S3_HOST.fullmatch(parts.hostname or "")
    path = unquote(parts.path.removeprefix("/"))
    bucket, key = (host["bucket"], path) if host and host["bucket"] else path.partition("/")[::2]
    if parts.scheme != "https" or host is None or not bucket or not key:
        raise TemplateError("TemplateURL must be a supported URL.")
    version = next((each[10:] for each in parts.query.split("&") if each.startswith("versionId=")), None)
    return bucket, key, version
