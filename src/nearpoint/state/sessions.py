"""Temporary credentials that any node can check by itself.

The session token says who and until when and is sealed with the world's session secret; the secret key follows from
the token, so nothing has to be stored or sent around. In the style of STS: an access key id that starts with `ASIA`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

import msgspec
from msgspec import Struct

from nearpoint.state.resources import Snapshot

ROOT_SUFFIX = ":root"


class Session(Struct, frozen=True, kw_only=True):
    """Who a session token stands for: a role's session, or a service of AWS that acts for a resource.

    `expires_at` is in Unix seconds.
    """

    access_key_id: str
    role_arn: str
    session_name: str
    expires_at: int
    service: str = ""  # `cloudfront.amazonaws.com`; then `source_arn` is the resource's, and there is no role
    source_arn: str = ""


class Identity(Struct, frozen=True, kw_only=True):
    """The secret behind an access key id, and whose it is.

    `principal_arn` is the account root, a user, or the assumed-role ARN; `role_arn` is set for a role's session.
    `service` is set for a service that acts for a resource: `principal_arn` is then the resource's ARN (the condition
    key aws:SourceArn), and only a resource policy can let it in.
    """

    access_key_id: str
    secret_key: str
    principal_arn: str
    role_arn: str | None = None
    session_token: str | None = None
    expires_at: int | None = None
    service: str | None = None

    def __repr__(self) -> str:  # what may come into a log says no secret
        return f"Identity(access_key_id={self.access_key_id!r}, principal_arn={self.principal_arn!r})"


def _mac(session_secret: str, purpose: bytes, data: bytes) -> bytes:
    return hmac.new(session_secret.encode(), purpose + b"\0" + data, hashlib.sha256).digest()


def _secret_key(session_secret: str, payload: bytes) -> str:
    return base64.b64encode(_mac(session_secret, b"secret-key", payload)[:30]).decode()


def mint(
    session_secret: str, *, role_arn: str, session_name: str, expires_at: int, random_bytes: bytes
) -> tuple[str, str, str]:
    """A new session's access key id, secret key and session token. `random_bytes`: at least 10."""
    session = Session(
        access_key_id=_access_key_id(random_bytes), role_arn=role_arn, session_name=session_name, expires_at=expires_at
    )
    return _sealed(session_secret, session)


def mint_for_service(
    session_secret: str, *, service: str, source_arn: str, expires_at: int, random_bytes: bytes
) -> tuple[str, str, str]:
    """The same for a service principal that acts for the resource `source_arn`."""
    session = Session(
        access_key_id=_access_key_id(random_bytes),
        role_arn="",
        session_name="",
        expires_at=expires_at,
        service=service,
        source_arn=source_arn,
    )
    return _sealed(session_secret, session)


def _access_key_id(random_bytes: bytes) -> str:
    return "ASIA" + base64.b32encode(random_bytes[:10]).decode()


def _sealed(session_secret: str, session: Session) -> tuple[str, str, str]:
    payload = msgspec.json.encode(session)
    token = base64.urlsafe_b64encode(_mac(session_secret, b"token", payload) + payload).decode()
    return session.access_key_id, _secret_key(session_secret, payload), token


def assumed_role_arn(role_arn: str, session_name: str) -> str:
    """`arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION` for a role's ARN (IAM User Guide, identifiers)."""
    account = role_arn.split(":")[4]
    return f"arn:aws:sts::{account}:assumed-role/{role_arn.rsplit('/', 1)[1]}/{session_name}"


def find_identity(snapshot: Snapshot, access_key_id: str, session_token: str | None) -> Identity | None:
    """Who signs with this access key id (and token), or None when nobody we know does.

    An expired session is returned all the same: the caller answers ExpiredToken by `expires_at`.
    """
    if session_token is None:
        key = snapshot.access_keys.get(access_key_id)
        if key is None:
            return None
        return Identity(access_key_id=access_key_id, secret_key=key.secret_key, principal_arn=key.principal_arn)
    try:
        sealed = base64.urlsafe_b64decode(session_token.encode())
        payload = sealed[32:]
        if not hmac.compare_digest(sealed[:32], _mac(snapshot.session_secret, b"token", payload)):
            return None
        session = msgspec.json.decode(payload, type=Session)
    except (ValueError, msgspec.MsgspecError):
        return None
    if session.access_key_id != access_key_id:
        return None
    return Identity(
        access_key_id=access_key_id,
        secret_key=_secret_key(snapshot.session_secret, payload),
        principal_arn=session.source_arn or assumed_role_arn(session.role_arn, session.session_name),
        role_arn=session.role_arn or None,
        session_token=session_token,
        expires_at=session.expires_at,
        service=session.service or None,
    )
