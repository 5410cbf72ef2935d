"""A world's data folder: where its files are, and the settings that outlive a run.

world.json   settings and secrets (0600)         ca/       the local certificate authority and the trust bundle
state/       JetStream                           stores/   one folder a region
packages/    function packages by SHA-256        cache/    unpacked functions, last snapshots, what edges keep, access
certificates/ the user's own, for custom domains           logs that are not delivered yet: may be deleted
replication/ how far comparisons of regions are, and when the next one is: may be deleted
logs/        one file a process, functions/      run/      what the running processes were given; lock
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from pathlib import Path

import msgspec
from msgspec import Struct

ACCOUNT_ID = "123456789012"


class WorldError(Exception):
    """Why a world cannot be used, in one line for the user."""


class StoreAccess(Struct, frozen=True, kw_only=True):
    """How a region's store is reached. `endpoint` is an address of your own S3 store, or None for the embedded one."""

    access_key_id: str
    secret_key: str
    endpoint: str | None = None

    def __repr__(self) -> str:  # what may come into a log says no secret
        return f"StoreAccess(access_key_id={self.access_key_id!r}, endpoint={self.endpoint!r})"


class World(Struct, frozen=True, kw_only=True):
    """Settings and secrets of one world. `ports` are those of the last run, tried again first."""

    account_id: str
    access_key_id: str
    secret_key: str
    session_secret: str
    nats_password: str
    admin_token: str
    regions: tuple[str, ...]
    edges: tuple[str, ...]
    stores: dict[str, StoreAccess]
    ports: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"World(account_id={self.account_id!r}, regions={self.regions!r}, edges={self.edges!r})"

    @property
    def locations(self) -> tuple[str, ...]:
        """Where nodes stand: every region and every edge city."""
        return (*self.regions, *(edge for edge in self.edges if edge not in self.regions))


FREE_BYTES_MIN = 64 * 1024 * 1024  # what a world writes before it has anything to keep, with room to go on


class Layout:
    """The paths inside one data folder."""

    def __init__(self, data: Path) -> None:
        self.data = data.absolute()
        self.world_file = self.data / "world.json"
        self.ca = self.data / "ca"
        self.certificates = self.data / "certificates"  # the user's own, for custom domains
        self.trust_bundle = self.ca / "bundle.pem"
        self.state = self.data / "state"
        self.packages = self.data / "packages"
        self.cache = self.data / "cache"
        self.metrics = self.cache / "metrics"
        self.logs = self.data / "logs"
        self.function_logs = self.logs / "functions"
        self.run = self.data / "run"
        self.replication = self.data / "replication"
        self.lock = self.run / "lock"

    def store(self, region: str) -> Path:
        return self.data / "stores" / region

    def make(self) -> None:
        """Create the folders, readable by the owner alone. Raises WorldError when that is not possible."""
        try:
            for path in (
                self.data,
                self.ca,
                self.certificates,
                self.state,
                self.packages,
                self.cache,
                self.function_logs,
                self.run,
                self.replication,
            ):
                path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise WorldError(f"The data folder {self.data} cannot be used: {error.strerror}.") from error
        if not os.access(self.run, os.W_OK):
            raise WorldError(f"The data folder {self.data} cannot be written to.")

    def check_space(self) -> None:
        """Raises WorldError when the disk is too full to start on: nothing has been written yet that could be torn."""
        found = os.statvfs(self.data)
        free = found.f_bavail * found.f_frsize
        if free < FREE_BYTES_MIN:
            raise WorldError(
                f"The disk of {self.data} is full: {free // 1024**2} MB are free,"
                f" a world needs {FREE_BYTES_MIN // 1024**2}."
            )


def write_private(path: Path, content: bytes) -> None:
    """Replace the file as a whole, readable by the owner alone."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_world(layout: Layout) -> World | None:
    """The settings of this folder, or None before the first run. Raises WorldError when they cannot be read."""
    try:
        content = layout.world_file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise WorldError(f"{layout.world_file} cannot be read: {error.strerror}.") from error
    try:
        return msgspec.json.decode(content, type=World)
    except msgspec.MsgspecError as error:
        raise WorldError(
            f"{layout.world_file} is damaged ({error}). Restore it, or use another --data folder."
        ) from error


def save_world(layout: Layout, world: World) -> None:
    """Keep the settings. Raises WorldError when the disk does not take them."""
    try:
        write_private(layout.world_file, msgspec.json.format(msgspec.json.encode(world)))
    except OSError as error:
        raise WorldError(f"{layout.world_file} cannot be written: {error.strerror}.") from error


def _embedded_store() -> StoreAccess:
    return StoreAccess(access_key_id=_access_key_id(), secret_key=secrets.token_urlsafe(30))


def _access_key_id() -> str:
    return "AKIA" + "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(16))


def open_world(
    layout: Layout, *, regions: tuple[str, ...], edges: tuple[str, ...], stores: dict[str, StoreAccess]
) -> World:
    """The world of this folder, made when there is none.

    Regions and edges are added to those it has, never removed; `stores` names the regions on a store of your own.
    """
    world = load_world(layout)
    if world is None:
        world = World(
            account_id=ACCOUNT_ID,
            access_key_id=_access_key_id(),
            secret_key=secrets.token_urlsafe(30),
            session_secret=secrets.token_hex(32),
            nats_password=secrets.token_urlsafe(24),
            admin_token=secrets.token_urlsafe(24),
            regions=(),
            edges=(),
            stores={},
        )
    all_regions = tuple(dict.fromkeys((*world.regions, *regions, *stores)))
    all_stores = {region: stores.get(region) or world.stores.get(region) or _embedded_store() for region in all_regions}
    all_edges = tuple(dict.fromkeys((*world.edges, *edges)))
    return msgspec.structs.replace(world, regions=all_regions, edges=all_edges, stores=all_stores)


def take_lock(layout: Layout) -> int:
    """Hold the folder for this process. Raises WorldError when a running world holds it. Returns the descriptor."""
    try:
        descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise WorldError(f"The data folder {layout.data} cannot be used: {error.strerror}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise WorldError(
            f"A world is already running on {layout.data}. Stop it with `nearpoint down`, or use another --data folder."
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def is_running(layout: Layout) -> bool:
    """Whether some process holds the folder."""
    try:
        descriptor = os.open(layout.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def supervisor_pid(layout: Layout) -> int | None:
    """The process that holds the folder, or None when nobody does (or it has only just begun to)."""
    if not is_running(layout):
        return None
    with contextlib.suppress(OSError, ValueError):
        return int(layout.lock.read_bytes())
    return None
