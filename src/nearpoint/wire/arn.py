"""Amazon Resource Names: `arn:partition:service:region:account:resource` (IAM User Guide, "Identify AWS resources")."""

from __future__ import annotations

from dataclasses import dataclass

_LENGTH_MAX = 2048


class MalformedArnError(ValueError):
    """A text that is no ARN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arn:
    """The parts of an ARN; `region` and `account` are empty where the service leaves them out.

    `resource` is everything after the fifth colon, colons and slashes included.
    """

    partition: str = "aws"
    service: str
    region: str = ""
    account: str = ""
    resource: str

    def __str__(self) -> str:
        return f"arn:{self.partition}:{self.service}:{self.region}:{self.account}:{self.resource}"


def parse_arn(text: str) -> Arn:
    """The parts of an ARN. Raises MalformedArnError."""
    parts = text.split(":", 5)
    if len(text) > _LENGTH_MAX or len(parts) != 6 or parts[0] != "arn" or not (parts[1] and parts[2] and parts[5]):
        raise MalformedArnError(f"not an ARN: {text[:100]!r}")
    return Arn(partition=parts[1], service=parts[2], region=parts[3], account=parts[4], resource=parts[5])
