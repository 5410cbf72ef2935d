"""What a location takes from a snapshot, and whom it takes for another location's edge."""

from __future__ import annotations

import pytest

from nearpoint.edge.shield import HOST, TOKEN_FIELD
from nearpoint.node.location import compiled
from nearpoint.node.shields import is_from_shielded, shield_token
from nearpoint.state.resources import Distribution, Invalidation, Snapshot
from nearpoint.wire.message import Headers, Request

CONFIG = {
    "Enabled": True,
    "Origins": [{"Id": "o", "DomainName": "o.example", "S3OriginConfig": {}}],
    "DefaultCacheBehavior": {
        "TargetOriginId": "o",
        "ViewerProtocolPolicy": "allow-all",
        "ForwardedValues": {"QueryString": False},
    },
}


def snapshot(*invalidations: str, secret: str = "s") -> Snapshot:
    distribution = Distribution(
        distribution_id="E1", account_id="1", domain="d.cloudfront.net", config=CONFIG, etag="e", created_at=0,
        last_modified=0,
    )  # fmt: skip
    return Snapshot(
        generation=1,
        account_id="1",
        session_secret=secret,
        distributions={distribution.domain: distribution},
        invalidations=tuple(
            Invalidation(invalidation_id=id, distribution_id="E1", paths=("/a",), caller_reference=id, created_at=1)
            for id in invalidations
        ),
    )


def test_an_invalidation_is_read_but_once() -> None:
    def refused(id: str, error: Exception) -> None:
        raise error

    seen: set[str] = set()

    def news(*ids: str) -> list[str]:
        return [each.id for each in compiled(snapshot(*ids), refused, seen)[1].get("E1", [])]

    assert news("I1", "I2") == ["I1", "I2"]
    assert news("I1", "I2", "I3") == ["I3"]
    assert news("I3") == []
    assert seen == {"I3"}  # no more than there are


@pytest.mark.parametrize(
    ("host", "token", "secret", "admitted"),
    [
        (HOST, None, "s", True),
        (HOST, "guess", "s", False),
        (HOST, "", "s", False),
        ("d.cloudfront.net", None, "s", False),
        (HOST, None, "", False),
    ],
)
def test_another_locations_edge_shows_a_token(host: str, token: str | None, secret: str, admitted: bool) -> None:
    now = snapshot(secret=secret)
    shown = shield_token(now) if token is None else token
    assert is_from_shielded(Request("GET", "/", Headers([("Host", host), (TOKEN_FIELD, shown)])), now) is admitted
    assert not is_from_shielded(Request("GET", "/", Headers([("Host", host)])), now)
