"""A waiter is answered when there is something to tell, everybody else at once."""

from __future__ import annotations

import pytest

from nearpoint.awsapi.waiting import is_waiter


@pytest.mark.parametrize(
    ("user_agent", "waits"),
    [
        ("Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux m/D,B,Z cfg/retry-mode#legacy Botocore/1.44.5", True),
        ("aws-cli/2.30.0 md/command#cloudformation.deploy m/B", True),
        ("Boto3/1.44.5 ua/2.1 m/Z,b,D,e cfg/retry-mode#legacy", False),
        ("Boto3/1.44.5 ua/2.1 m/BA,AB", False),
        ("B m/", False),
        ("", False),
    ],
)
def test_who_waits(user_agent: str, waits: bool) -> None:
    assert is_waiter(user_agent) == waits
