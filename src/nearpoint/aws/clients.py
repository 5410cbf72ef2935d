"""AWS clients of a target: the local world through its proxy and authority, or AWS with a profile's credentials."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from nearpoint.aws import accounts
from nearpoint.aws.accounts import Accounts
from nearpoint.aws.errors import DeployError
from nearpoint.aws.explain import explained

Target = Literal["local", "aws"]
HOME_REGION = "us-east-1"  # CloudFront, IAM and every function at the edge are there
PARTITION = "aws"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who calls: account and ARN."""

    account_id: str
    arn: str


@dataclass(slots=True, kw_only=True)
class Clients:
    """boto3 clients by service and region, each made once.

    `proxy_url` and `ca_bundle` lead into a local world; None for AWS. `accounts`: those that stacks were deployed into
    from here.
    """

    target: Target
    session: boto3.Session
    proxy_url: str | None = None
    ca_bundle: str | None = None
    accounts: Accounts = field(default_factory=lambda: Accounts(None))
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)
    _identity: Identity | None = None

    def client(self, service: str, region: str = HOME_REGION) -> Any:
        """The client of a service at a region."""
        known = self._clients.get((service, region))
        if known is None:
            proxies = None if self.proxy_url is None else {"http": self.proxy_url, "https": self.proxy_url}
            known = self._clients[service, region] = self.session.client(
                service,  # type: ignore[call-overload]
                region_name=region,
                verify=self.ca_bundle,
                config=Config(retries={"mode": "standard", "max_attempts": 6}, connect_timeout=10, proxies=proxies),
            )
        return known

    def identity(self) -> Identity:
        """Who calls. Raises DeployError for credentials that are missing, wrong, expired, or of another partition."""
        if self._identity is None:
            try:
                answer = self.client("sts").get_caller_identity()
            except (ClientError, BotoCoreError) as error:
                raise explained(error) from error
            partition = answer["Arn"].split(":")[1]
            if partition != PARTITION:
                raise DeployError(
                    f"These credentials belong to the partition {partition}, which has neither Lambda@Edge nor "
                    "Multi-Region Access Points; use an account of the partition aws."
                )
            self._identity = Identity(account_id=answer["Account"], arn=answer["Arn"])
        return self._identity

    def check_account(self, wanted: str | None, stack: str | None = None) -> None:
        """Raises DeployError, `refused`, where the credentials are not those of the account `wanted`; or, where none
        is named, not of an account that the stack was deployed into from here."""
        found = self.identity()
        if wanted is not None and wanted != found.account_id:
            raise DeployError(
                f"--account says {wanted}, and these credentials are of account {found.account_id} ({found.arn}). "
                "Nothing was done. Name the profile that is meant with --profile.",
                refused=True,
            )
        known = self.accounts.of(stack) if wanted is None and stack is not None else []
        if known and found.account_id not in known:
            raise DeployError(
                f"The stack {stack} was deployed from here into account {' and '.join(known)}, and these credentials "
                f"are of account {found.account_id} ({found.arn}). Nothing was done. Name the profile that is meant "
                f"with --profile; or, if it is this account, say --account {found.account_id}.",
                refused=True,
            )

    @property
    def pause_s_max(self) -> float:
        """How long to wait at most before looking again."""
        return 0.3 if self.target == "local" else 3.0

    def pauses_s(self) -> Iterator[float]:
        """How long to wait before each look: much is done soon, and what is not takes its time."""
        pause_s = 0.1
        while True:
            yield min(pause_s, self.pause_s_max)
            pause_s = min(pause_s * 1.5, self.pause_s_max)


def aws_clients(profile: str | None) -> Clients:
    """Of AWS, with the profile's credentials or the environment's. Raises DeployError for a profile that is not
    there."""
    try:
        return Clients(target="aws", session=boto3.Session(profile_name=profile), accounts=accounts.of_this_user())
    except BotoCoreError as error:
        raise explained(error) from error


def local_clients(*, access_key_id: str, secret_key: str, proxy_url: str, ca_bundle: str) -> Clients:
    """Of a local world. Nothing of the user's own AWS configuration is looked at."""
    session = boto3.Session(access_key_id, secret_key, region_name=HOME_REGION)
    return Clients(target="local", session=session, proxy_url=proxy_url, ca_bundle=ca_bundle)
