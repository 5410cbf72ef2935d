"""Block Public Access, where a request would make an object public (S3 User Guide, "Blocking public access").

What the other settings ask for holds here by itself: nobody is served without credentials of the account.
"""

from __future__ import annotations

from collections.abc import Callable

from nearpoint.awsproto.errors import AwsError
from nearpoint.wire.message import Headers

_PUBLIC = frozenset({"public-read", "public-read-write", "authenticated-read"})
_GROUPS = ("acs.amazonaws.com/groups/global/allusers", "acs.amazonaws.com/groups/global/authenticatedusers")


def refuse_public_acl(headers: Headers, blocks: Callable[[str], bool]) -> None:
    """Raises AccessDenied for a canned ACL or a grant to everybody, where `blocks("BlockPublicAcls")`."""
    for name, value in headers:
        lowered = name.lower()
        if (
            (lowered == "x-amz-acl" and value.strip().lower() in _PUBLIC)
            or (lowered.startswith("x-amz-grant-") and any(group in value.lower() for group in _GROUPS))
        ) and blocks("BlockPublicAcls"):
            raise AwsError("AccessDenied")
