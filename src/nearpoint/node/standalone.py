"""One location's access points over the stores of `nearpoint.toml`, without a control plane.

The file becomes a snapshot; a changed file becomes the next one. When stores have changed, new ones are measured before
they take over, and what is under way ends on the old ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from nearpoint.accesspoint.health import State
from nearpoint.accesspoint.routes import Address, address_of
from nearpoint.accesspoint.server import AccessPointNode
from nearpoint.node.bucket_list import answer_list_buckets
from nearpoint.policy.document import MalformedPolicyError, PolicyKind, parse_policy
from nearpoint.regions.settings import ClientKey, Settings, SettingsError
from nearpoint.regions.settings_file import Mistake
from nearpoint.regions.store import Store
from nearpoint.state.resources import AccessKey, AccessPoint, Member, Role, Snapshot, StoreLimits
from nearpoint.wire.client import Client
from nearpoint.wire.message import Request, Response

MEASURE_S = 2.0  # for new stores, before they take over all the same
RETIRE_S = 60.0  # for requests under way on stores that have been replaced


def _now() -> datetime:
    return datetime.now(UTC)


def check_policies(settings: Settings) -> None:
    """Raises SettingsError for a policy file that holds no policy of its kind."""
    wanted: list[tuple[str, int, PolicyKind, dict[str, Any] | None]] = [
        *(("access-points", at, "resource", one.policy) for at, one in enumerate(settings.access_points)),
        *(("access-keys", at, "identity", key.policy) for at, key in enumerate(settings.access_keys)),
    ]  # fmt: skip
    mistakes = []
    for table, at, kind, policy in wanted:
        if policy is None:
            continue
        try:
            parse_policy(policy, kind=kind)
        except MalformedPolicyError as error:
            mistakes.append(Mistake(line=None, path=f"{table}[{at}].policy", text=f"not a policy: {error}"))
    if mistakes:
        raise SettingsError(settings.file, tuple(mistakes))


def limits_for(settings: Settings, known: Mapping[str, StoreLimits]) -> dict[str, StoreLimits]:
    """The limits of every bucket behind the access points, as far as they are known of these very stores."""
    if not settings.probe_at_start:
        return {}
    endpoints = {region.spec.region: region.spec.endpoint for region in settings.regions}
    found = {}
    for region, bucket in {(region, bucket) for one in settings.access_points for region, bucket, _ in one.members}:
        limits = known.get(f"{region}/{bucket}")
        if limits is None or limits.endpoint != endpoints[region]:
            limits = StoreLimits(region=region, bucket=bucket, endpoint=endpoints[region], is_known=False)
        found[limits.id] = limits
    return found


def snapshot_of(
    settings: Settings, *, generation: int, session_secret: str, limits: Mapping[str, StoreLimits] | None = None
) -> Snapshot:
    """What nodes run by. Keys without a user are the account root's; a user's policy is kept under the user's ARN.

    `limits` are what is known of the stores. Nobody issues session tokens here; `session_secret` has to be one that
    nobody knows, or somebody could.
    """
    account = settings.account_id

    def principal(key: ClientKey) -> str:
        return f"arn:aws:iam::{account}:root" if key.user is None else f"arn:aws:iam::{account}:user/{key.user}"

    return Snapshot(
        generation=generation,
        account_id=account,
        session_secret=session_secret,
        access_keys={
            key.access_key_id: AccessKey(
                access_key_id=key.access_key_id, secret_key=key.secret_key, principal_arn=principal(key)
            )
            for key in settings.access_keys
        },
        roles={
            principal(key): Role(
                name=key.user,
                role_id=key.user,
                arn=principal(key),
                created_at=0.0,
                trust={},
                inline_policies={"policy": key.policy},
            )
            for key in settings.access_keys
            if key.user is not None and key.policy is not None
        },
        access_points={
            one.alias: AccessPoint(
                alias=one.alias,
                name=one.name,
                account_id=account,
                created_at=0.0,
                members=tuple(
                    Member(region=region, bucket=bucket, dial_percent=dial) for region, bucket, dial in one.members
                ),
                policy=one.policy,
                read_fallback=not one.aws_parity,
                hedge_reads=one.hedge_reads,
                affinity=one.affinity,
            )
            for one in settings.access_points
        },
        store_limits=limits_for(settings, limits or {}),
    )


class _Running:
    """Settings in force: the node over their stores, and the task that measures them."""

    def __init__(self, settings: Settings, generation: int, limits: Mapping[str, StoreLimits]) -> None:
        self.settings = settings
        self.snapshot = snapshot_of(
            settings, generation=generation, session_secret=secrets.token_hex(32), limits=limits
        )
        self.domains = _domains(settings)
        self.client = Client()
        self.stores = {region.spec.region: Store(region.spec, self.client, clock=_now) for region in settings.regions}
        self.node = AccessPointNode(
            settings.location, lambda: self.snapshot, self.stores, find_address=self.find_address
        )
        self.measuring = asyncio.create_task(self.node.run())

    def find_address(self, host: str, path: str) -> Address | None:
        """The access point of a Host and path: AWS's names and the owner's domains."""
        alias = self.domains.get(host)
        return address_of(host, path) if alias is None else Address(alias=alias, path=path)

    def take(self, settings: Settings, limits: Mapping[str, StoreLimits]) -> None:
        """Go on with other settings over the same stores, or with more knowledge of these."""
        before = self.snapshot
        self.snapshot = snapshot_of(
            settings, generation=before.generation + 1, session_secret=before.session_secret, limits=limits
        )
        self.domains = _domains(settings)
        self.settings = settings

    async def close(self) -> None:
        self.measuring.cancel()
        await asyncio.gather(self.measuring, return_exceptions=True)
        await self.client.close()


def _domains(settings: Settings) -> dict[str, str]:
    return {domain: one.alias for one in settings.access_points for domain in one.domains}


class Standalone:
    """`handle` is an Exchange; make it inside a running loop."""

    def __init__(self, settings: Settings) -> None:
        self._limits: dict[str, StoreLimits] = {}
        self._running = _Running(settings, 1, self._limits)
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._running.settings

    @property
    def stores(self) -> dict[str, Store]:
        """The stores in use, by region."""
        return self._running.stores

    async def handle(self, request: Request) -> Response:
        """Answer one request: about an access point, or `GET /` on any other name, which lists them all."""
        running = self._running
        if request.method == "GET" and request.path == "/" and running.find_address(request.host, "/") is None:
            return answer_list_buckets(request, running.snapshot, _now())
        return await running.node.handle(request)

    async def replace(self, settings: Settings) -> bool:
        """Go over to other settings. True when that meant other stores: they have been measured first."""
        before = self._running
        if [region.spec for region in settings.regions] == [region.spec for region in before.settings.regions]:
            before.take(settings, self._limits)
            return False
        after = _Running(settings, before.snapshot.generation + 1, self._limits)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MEASURE_S):
                while not after.node.is_measured:  # noqa: ASYNC110 - probes come in all the time
                    await asyncio.sleep(0.02)
        self._running = after
        before.measuring.cancel()
        task = asyncio.create_task(_later(RETIRE_S, before.close))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        return True

    def know(self, found: Iterable[StoreLimits]) -> None:
        """Mind from now on what has been found out about stores."""
        self._limits |= {one.id: one for one in found}
        self._running.take(self._running.settings, self._limits)

    def blocks(self) -> list[str]:
        """What keeps the access points from being served, a sentence each; nothing when they are."""
        running = self._running
        seen = {one.region: one for one in running.node.fleet.report()}
        states = running.node.fleet.states
        if not running.node.is_measured:
            return [
                f"region {region} has not been measured"
                for region, one in seen.items()
                if one.rtt_ms_p50 is None and states[region] is State.HEALTHY
            ] or ["regions are being measured"]
        found = [
            f"what the store of {one.region} does is being found out"
            for one in running.snapshot.store_limits.values()
            if not one.is_known and states[one.region] is not State.EJECTED
        ]
        for one in running.settings.access_points:
            active = [region for region, _, dial in one.members if dial]
            if all(states[region] is State.EJECTED for region in active):
                why = ", ".join(f"{region}: {seen[region].reason or 'ejected'}" for region in active)
                found.append(f"access point {one.name}: no active region answers ({why})")
        return found

    def report(self) -> dict[str, Any]:
        """What is measured and chosen."""
        return self._running.node.report()

    async def close(self) -> None:
        """End everything."""
        for task in self._retiring:
            task.cancel()
        await self._running.close()


async def _later(delay_s: float, close: Callable[[], Any]) -> None:
    try:
        await asyncio.sleep(delay_s)
    finally:
        await close()
