"""Access control lists: what a request asks to grant, as the grants that GetObjectAcl and GetBucketAcl show.

They are kept and given back. Nobody reads an object because of them: a store serves the holder of its access key alone,
and who that is decided by policies (S3 User Guide, "Access control list overview").
"""

from __future__ import annotations

import re
from typing import Any

from nearpoint.awsproto.errors import AwsError
from nearpoint.wire.message import Headers

Grants = list[dict[str, Any]]

GRANTS_MAX = 100  # S3 User Guide, "ACL overview"
_GROUPS = "http://acs.amazonaws.com/groups/"
ALL_USERS = f"{_GROUPS}global/AllUsers"
AUTHENTICATED_USERS = f"{_GROUPS}global/AuthenticatedUsers"
_LOG_DELIVERY = f"{_GROUPS}s3/LogDelivery"
_KNOWN_GROUPS = (ALL_USERS, AUTHENTICATED_USERS, _LOG_DELIVERY)

# What a canned ACL grants beside the owner's full control. Here the bucket's owner owns every object, too.
_CANNED: dict[str, tuple[tuple[str, str], ...]] = {
    "private": (),
    "public-read": ((ALL_USERS, "READ"),),
    "public-read-write": ((ALL_USERS, "READ"), (ALL_USERS, "WRITE")),
    "authenticated-read": ((AUTHENTICATED_USERS, "READ"),),
    "aws-exec-read": (),
    "bucket-owner-read": (),
    "bucket-owner-full-control": (),
    "log-delivery-write": ((_LOG_DELIVERY, "WRITE"), (_LOG_DELIVERY, "READ_ACP")),
}
_OF_BUCKETS_ALONE, _OF_OBJECTS_ALONE = ("log-delivery-write",), ("bucket-owner-read", "bucket-owner-full-control")
_PERMISSIONS = ("FULL_CONTROL", "READ", "READ_ACP", "WRITE", "WRITE_ACP")
_GRANT_PREFIX = "x-amz-grant-"
_CANONICAL_ID = re.compile(r"[0-9a-f]{64}")
_GRANTEE = re.compile(r'\s*(id|uri|emailAddress)\s*=\s*"?([^",]+)"?\s*', re.IGNORECASE)


def is_asked(headers: Headers) -> bool:
    """Whether a request's header names an ACL or a grant."""
    return "x-amz-acl" in headers or any(name.lower().startswith(_GRANT_PREFIX) for name, _ in headers)


def private(owner: dict[str, str]) -> Grants:
    """The grants of what nothing was asked for."""
    return [_grant({"Type": "CanonicalUser"} | owner, "FULL_CONTROL")]


def of_headers(headers: Headers, owner: dict[str, str], *, of_bucket: bool = False) -> Grants | None:
    """The grants that a request's header asks for, None when it asks for none.

    Raises AwsError: InvalidArgument for an ACL or grantee that is not known, InvalidRequest for both kinds at once.
    """
    canned = headers.get("x-amz-acl")
    fields = [(name.lower(), value) for name, value in headers if name.lower().startswith(_GRANT_PREFIX)]
    if canned is not None and fields:
        raise AwsError("InvalidRequest", "Specifying both Canned ACLs and Header Grants is not allowed")
    if canned is not None:
        if canned not in _CANNED or canned in (_OF_OBJECTS_ALONE if of_bucket else _OF_BUCKETS_ALONE):
            raise AwsError("InvalidArgument", extra={"ArgumentName": "x-amz-acl", "ArgumentValue": canned})
        return private(owner) + [_grant({"Type": "Group", "URI": uri}, what) for uri, what in _CANNED[canned]]
    if not fields:
        return None
    grants: Grants = []
    for name, value in fields:
        permission = name.removeprefix(_GRANT_PREFIX).replace("-", "_").upper()
        if permission not in _PERMISSIONS:
            raise AwsError("InvalidArgument", extra={"ArgumentName": name, "ArgumentValue": value})
        for one in value.split(","):
            match = _GRANTEE.fullmatch(one)
            if match is None:
                raise AwsError(
                    "InvalidArgument",
                    "Argument format not recognized",
                    extra={"ArgumentName": name, "ArgumentValue": value},
                )
            grants.append(_grant(_grantee(match[1].lower(), match[2].strip(), owner), permission))
    return _bounded(grants)


def of_document(policy: dict[str, Any], owner: dict[str, str]) -> Grants:
    """The grants of an AccessControlPolicy as it was read from XML. Raises AwsError."""
    given = policy.get("Owner", {}).get("ID")
    if given is None or "Grants" not in policy:
        raise AwsError("MalformedACLError")
    if given != owner["ID"]:
        raise AwsError("AccessDenied")
    grants: Grants = []
    for grant in policy["Grants"]:
        grantee, permission = grant.get("Grantee", {}), grant.get("Permission")
        if permission not in _PERMISSIONS:
            raise AwsError("MalformedACLError")
        named = [name for name in ("ID", "URI", "EmailAddress") if name in grantee]
        if len(named) != 1:
            raise AwsError("MalformedACLError")
        grants.append(_grant(_grantee(named[0].lower(), str(grantee[named[0]]), owner), permission))
    return _bounded(grants)


def is_public(grants: Grants) -> bool:
    """Whether everybody, or everybody with an account, is granted anything (S3 User Guide, "The meaning of public")."""
    return any(grant["Grantee"].get("URI") in (ALL_USERS, AUTHENTICATED_USERS) for grant in grants)


def _grant(grantee: dict[str, str], permission: str) -> dict[str, Any]:
    return {"Grantee": grantee, "Permission": permission}


def _grantee(kind: str, value: str, owner: dict[str, str]) -> dict[str, str]:
    if kind == "uri":
        if value not in _KNOWN_GROUPS:
            raise AwsError("InvalidArgument", "Invalid group uri", extra={"ArgumentName": kind, "ArgumentValue": value})
        return {"Type": "Group", "URI": value}
    if kind == "emailaddress":
        raise AwsError(
            "UnresolvableGrantByEmailAddress",
            "The e-mail address you provided does not match any account on record",
            status=400,
            extra={"EmailAddress": value},
        )
    if value == owner["ID"]:
        return {"Type": "CanonicalUser"} | owner
    if _CANONICAL_ID.fullmatch(value) is None:
        raise AwsError("InvalidArgument", "Invalid id", extra={"ArgumentName": "id", "ArgumentValue": value})
    return {"Type": "CanonicalUser", "ID": value}


def _bounded(grants: Grants) -> Grants:
    if len(grants) > GRANTS_MAX:
        raise AwsError("MalformedACLError")
    return grants
