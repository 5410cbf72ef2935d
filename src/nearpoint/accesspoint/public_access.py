"""Block Public Access, where a request would make an object public (S3 User Guide, "Blocking public access").

What the other settings ask for holds here by itself: nobody is served without credentials of the account.
"""

from __future__ import annotations

from collections.abc import Callable

from nearpoint.awsproto import xml
from nearpoint.awsproto.errors import AwsError
from nearpoint.wire.message import Request

_PUBLIC = frozenset({"public-read", "public-read-write", "authenticated-read"})
_GROUPS = ("acs.amazonaws.com/groups/global/allusers", "acs.amazonaws.com/groups/global/authenticatedusers")


def refuse_public_acl(request: Request, blocks: Callable[[str], bool]) -> None:
    """Raises AccessDenied for a canned ACL or a grant to everybody, where `blocks("BlockPublicAcls")`."""
    for name, value in request.headers:
        lowered = name.lower()
        if (
            (lowered == "x-amz-acl" and value.strip().lower() in _PUBLIC)
            or (lowered.startswith("x-amz-grant-") and _names_everybody(value))
        ) and blocks("BlockPublicAcls"):
            raise AwsError("AccessDenied")


def refuse_public_grants(document: xml.Node | None, blocks: Callable[[str], bool]) -> None:
    """The same for the document of a request, if it is an ACL."""
    waiting = [] if document is None or document.tag != "AccessControlPolicy" else [document]
    while waiting:
        node = waiting.pop()
        if node.tag == "URI" and _names_everybody(node.text) and blocks("BlockPublicAcls"):
            raise AwsError("AccessDenied")
        waiting += node.children


def _names_everybody(text: str) -> bool:
    return any(group in text.lower() for group in _GROUPS)
