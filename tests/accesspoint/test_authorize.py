"""What a view remembers of policies is told apart by everything that it depends on, and ends with its snapshot."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nearpoint.accesspoint.authorize import View
from nearpoint.accesspoint.routes import compile_routes
from nearpoint.policy.evaluate import RequestContext, decide
from nearpoint.state.resources import AccessPoint, Member, Role, Snapshot
from nearpoint.state.sessions import Identity

ACCOUNT = "123456789012"
USER = f"arn:aws:iam::{ACCOUNT}:user/reader"
POINT = AccessPoint(
    alias="abc.mrap",
    name="abc",
    account_id=ACCOUNT,
    created_at=0.0,
    members=(Member(bucket="near-bucket", region="near"),),
)


def _role(effect: str, action: str) -> Role:
    document: dict[str, Any] = {
        "Version": "2012-10-17",
        "Statement": {"Effect": effect, "Action": action, "Resource": "*"},
    }
    return Role(name="r", role_id="R", arn=USER, created_at=0.0, trust={}, inline_policies={"p": document})


def _snapshot(role: Role) -> Snapshot:
    return Snapshot(
        generation=1, account_id=ACCOUNT, session_secret="x", access_points={POINT.alias: POINT}, roles={USER: role}
    )


def _identity(**more: Any) -> Identity:
    return msgspec.structs.replace(Identity(access_key_id="A", secret_key="s", principal_arn=USER), **more)


def _may(view: View, identity: Identity, action: str = "s3:GetObject") -> bool:
    table = compile_routes(POINT)
    rules = view.rules(identity, action, table, table.arn, None)
    return decide(rules.policies, RequestContext(action=action, resource=f"{table.arn}/object/key")).allowed


@pytest.mark.parametrize("order", [1, -1])
def test_callers_of_one_arn_are_told_apart(order: int) -> None:
    view = View(_snapshot(_role("Allow", "s3:GetObject")))
    user = _identity()
    other_role = _identity(role_arn=f"arn:aws:iam::{ACCOUNT}:role/other")
    asked = [(user, True), (other_role, False)][::order]
    assert [_may(view, one) for one, _ in asked] == [expected for _, expected in asked]


def test_actions_are_told_apart() -> None:
    view = View(_snapshot(_role("Allow", "s3:GetObject")))
    assert [_may(view, _identity(), action) for action in ("s3:GetObject", "s3:PutObject")] == [True, False]


def test_a_later_snapshot_is_asked_anew() -> None:
    view = View(_snapshot(_role("Allow", "s3:*")))
    assert _may(view, _identity())
    assert not _may(view.after(_snapshot(_role("Deny", "s3:*"))), _identity())


def test_only_the_account_itself_is_its_root() -> None:
    view = View(_snapshot(_role("Deny", "s3:*")))
    root = f"arn:aws:iam::{ACCOUNT}:root"
    assert _may(view, _identity(principal_arn=root))
    assert not _may(view, _identity(principal_arn=root, role_arn=USER))
    assert not _may(view, _identity(principal_arn=root, service="cloudfront.amazonaws.com"))
