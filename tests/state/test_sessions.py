"""Temporary credentials: any node can check them, nobody can make or change one without the secret."""

from __future__ import annotations

import base64

import pytest

from nearpoint.state.resources import AccessKey, Snapshot
from nearpoint.state.sessions import find_identity, mint

ROLE = "arn:aws:iam::123456789012:role/path/edge"
SNAPSHOT = Snapshot(
    generation=1,
    account_id="123456789012",
    session_secret="secret",
    access_keys={
        "AKIAROOT": AccessKey(
            access_key_id="AKIAROOT", secret_key="root", principal_arn="arn:aws:iam::123456789012:root"
        )
    },
)


def new_session(secret: str = "secret") -> tuple[str, str, str]:
    return mint(secret, role_arn=ROLE, session_name="call", expires_at=1000, random_bytes=b"0123456789")


def test_a_minted_session_is_found_with_its_secret() -> None:
    access_key_id, secret_key, token = new_session()
    identity = find_identity(SNAPSHOT, access_key_id, token)
    assert identity is not None
    assert identity.secret_key == secret_key
    assert identity.principal_arn == "arn:aws:sts::123456789012:assumed-role/edge/call"
    assert identity.role_arn == ROLE
    assert identity.expires_at == 1000
    assert access_key_id.startswith("ASIA")
    assert len(access_key_id) == 20


def test_what_a_log_could_show_of_them_holds_no_secret() -> None:
    access_key_id, secret_key, token = new_session()
    identity = find_identity(SNAPSHOT, access_key_id, token)
    shown = repr((identity, SNAPSHOT, SNAPSHOT.access_keys))
    assert access_key_id in shown
    assert not [secret for secret in (secret_key, token, "'secret'", "'root'") if secret in shown]


def test_a_long_lived_key_is_found_without_a_token() -> None:
    identity = find_identity(SNAPSHOT, "AKIAROOT", None)
    assert identity is not None
    assert identity.secret_key == "root"
    assert identity.role_arn is None
    assert find_identity(SNAPSHOT, "AKIANOBODY", None) is None


@pytest.mark.parametrize("token", ["", "x", "aGVsbG8=", "é", base64.urlsafe_b64encode(bytes(200)).decode()])
def test_a_token_that_was_never_minted_is_nobody(token: str) -> None:
    assert find_identity(SNAPSHOT, "ASIA", token) is None


def test_any_changed_byte_or_other_world_is_nobody() -> None:
    access_key_id, _, token = new_session()
    raw = bytearray(base64.urlsafe_b64decode(token))
    for at in range(0, len(raw), 7):
        changed = bytearray(raw)
        changed[at] ^= 1
        assert find_identity(SNAPSHOT, access_key_id, base64.urlsafe_b64encode(changed).decode()) is None
    assert find_identity(SNAPSHOT, "ASIAOTHER", token) is None
    assert find_identity(SNAPSHOT, access_key_id, new_session("other")[2]) is None
