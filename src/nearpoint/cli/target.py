"""Which AWS a command works on: the world of the data folder, or AWS itself when it is asked for by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from nearpoint.aws.clients import HOME_REGION, Clients, aws_clients, local_clients
from nearpoint.aws.errors import DeployError
from nearpoint.aws.explain import explained
from nearpoint.cli.console import CommandError, Exit
from nearpoint.cli.world_client import WorldClient
from nearpoint.world.geography import REGIONS

TARGETS = ("local", "aws")
ACCOUNT_ID = re.compile(r"[0-9]{12}")


def clients_at(client: WorldClient, location: str) -> Clients:
    """AWS clients that stand at a place of the local world."""
    return local_clients(
        access_key_id=client.world.access_key_id,
        secret_key=client.world.secret_key,
        # A dummy password: botocore drops a proxy user that has none.
        proxy_url=f"http://{location}:x@127.0.0.1:{client.world.ports['proxy']}",
        ca_bundle=str(client.layout.trust_bundle),
    )


def clients_of(target: str, *, data: Path, profile: str | None) -> Clients:
    """The clients of the target. Raises CommandError, DeployError."""
    if target not in TARGETS:
        raise CommandError(f"--target is one of {', '.join(TARGETS)}, not {target}.", Exit.USAGE)
    if target == "aws":
        return aws_clients(profile)
    if profile is not None:
        raise CommandError("--profile is for --target aws; the local world has its own credentials.", Exit.USAGE)
    client = WorldClient(data)
    place = HOME_REGION if HOME_REGION in client.world.regions else client.world.regions[0]
    return clients_at(client, place)


def check_account(clients: Clients, account: str | None, stack: str | None = None) -> None:
    """Before a command does anything on AWS: whether it is the account that is meant. Raises CommandError,
    DeployError."""
    if account is not None and clients.target == "local":
        raise CommandError("--account is for --target aws; the local world has an account of its own.", Exit.USAGE)
    if account is not None and not ACCOUNT_ID.fullmatch(account):
        raise CommandError(f"--account takes the 12 digits of an account's number, not {account!r}.", Exit.USAGE)
    if clients.target == "aws":
        clients.check_account(account, stack)


def check_world_has(regions: Sequence[str], *, data: Path) -> None:
    """Before anything is made in the local world. Raises CommandError for a region that it has not and could have."""
    there = WorldClient(data).world.regions
    missing = [region for region in regions if region in REGIONS and region not in there]
    if missing:
        raise CommandError(
            f"This world has no {', '.join(missing)}, only {', '.join(there)}. `nearpoint down`, "
            f"then `nearpoint up --regions {','.join(missing)}` adds to them.",
            Exit.USAGE,
        )


@contextmanager
def interruptible(advice: str) -> Iterator[None]:
    """Says how to go on after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        raise CommandError(f"Interrupted. {advice}", Exit.INTERRUPTED) from None


@contextmanager
def sentences() -> Iterator[None]:
    """Turns what goes wrong on the way to AWS into a line for the user and its exit code."""
    try:
        yield
    except (DeployError, ClientError, BotoCoreError) as error:
        said = error if isinstance(error, DeployError) else explained(error)
        raise CommandError(str(said), _exit_code(said)) from error


def _exit_code(error: DeployError) -> Exit:
    if error.usage:
        return Exit.USAGE
    if error.refused:
        return Exit.REFUSED
    return Exit.UNREACHABLE if error.unreachable else Exit.FAILED
