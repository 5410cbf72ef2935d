"""What commands show: lines that fit a terminal, and nothing raw."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from nearpoint.cli.console import CommandError, Exit, counted
from nearpoint.cli.demo import nearest
from nearpoint.cli.inspect import silent_stores
from nearpoint.cli.reconcile import KEYS_MAX, _show_differences
from nearpoint.cli.replication import _figures, _place
from nearpoint.cli.target import sentences
from nearpoint.replication.reconcile import Difference

PAIR: dict[str, Any] = {
    "pending": 0, "pending_bytes": 0, "oldest_s": None, "copied": 1_204, "lag_ms_p50": 87.2, "lag_ms_p99": 169.4,
    "failed": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "rate", "said"),
    [
        ({}, None, "0 pending, 1,204 copied (p50 87 ms, p99 169 ms)"),
        ({"lag_ms_p99": 1_321_576.0}, None, "0 pending, 1,204 copied (p50 87 ms, p99 22 m)"),
        ({"lag_ms_p50": None, "copied": 0}, None, "0 pending, 0 copied"),
        ({"pending": None, "failed": None, "lag_ms_p50": None}, None, "? pending, 1,204 copied"),
        (
            {"pending": 30, "pending_bytes": 2_500, "oldest_s": 0.61, "failed": 2, "lag_ms_p50": None}, 10.0,
            "30 pending (2.5 KB, oldest 0.6 s), 1,204 copied, 10/s, 3 s left, [red]2 failed[/]",
        ),
        ({"lag_ms_p50": None}, 0.0, "0 pending, 1,204 copied, 0/s"),
    ],
)  # fmt: skip
def test_how_copying_stands_in_a_line(changes: dict[str, Any], rate: float | None, said: str) -> None:
    assert _figures(PAIR | changes, rate) == said


def test_a_bucket_whose_name_has_its_region_is_not_said_twice() -> None:
    assert _place("app-1-us-east-1", "us-east-1") == "app-1-us-east-1"
    assert _place("mine", "us-east-1") == "mine (us-east-1)"
    assert _place("mine", None) == "mine (?)"


def test_counted() -> None:
    assert [counted(number, "key") for number in (0, 1, 2_000)] == ["0 keys", "1 key", "2,000 keys"]


def test_differences_are_listed_under_what_they_have_in_common(capsys: pytest.CaptureFixture[str]) -> None:
    keys = [f"key{number}" for number in range(KEYS_MAX + 2)]
    _show_differences([
        *(Difference(bucket="a", destination="b", key=key, version="v", what="missing", why="no rule") for key in keys),
        Difference(
            bucket="b", destination="a", key="\x1b[2J[red]", version="v", what="amended", why="late", outcome="applied"
        ),
    ])  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "b lacks of a (missing, no rule)"
    assert lines[1 : KEYS_MAX + 1] == [f"  {key}  v" for key in keys[:KEYS_MAX]]
    assert lines[KEYS_MAX + 1 :] == ["  … and 2 more", "a lacks of b (amended, late, applied)", "  '\\x1b[2J[red]'  v"]


def test_what_aws_clients_raise_is_a_sentence_with_its_exit_code() -> None:
    with pytest.raises(CommandError, match=r"x\.example") as caught, sentences():
        raise EndpointConnectionError(endpoint_url="https://x.example")
    assert caught.value.code is Exit.UNREACHABLE


class _World:
    """As much of a WorldClient as is asked."""

    def __init__(self, rtt_ms: float | None) -> None:
        store = type("Store", (), {"endpoint": "http://127.0.0.1:1"})
        own = type("Store", (), {"endpoint": None})
        self.world = type("World", (), {"regions": ("r1", "r2"), "stores": {"r1": store, "r2": own}})
        self._regions = {"r1": {"rtt_ms": rtt_ms}, "r2": {"rtt_ms": None}}

    def ask(self, method: str, path: str) -> dict[str, Any]:
        return {"FRA": {"regions": self._regions}}


def test_a_store_of_ones_own_that_never_answered_is_named() -> None:
    assert list(silent_stores(_World(None))) == ["The store of r1 does not answer at http://127.0.0.1:1."]  # type: ignore[arg-type]
    assert list(silent_stores(_World(1.5))) == []  # type: ignore[arg-type]


def test_the_demo_takes_either_of_two_regions_that_are_about_as_near() -> None:
    assert (nearest("FRA"), nearest("SFO")) == (["eu-west-1"], ["us-east-1"])
    assert nearest("SYD") == ["us-east-1", "eu-west-1"]
