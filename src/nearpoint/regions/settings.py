"""`nearpoint.toml`, checked and resolved: the stores, the access points over them, and who may use them.

`load` reads the file (`settings_file`), checks what its parts say of each other, and fetches secrets and policies from
where it says they are. All mistakes are reported together. The keys: docs/reference/nearpoint-toml.md.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nearpoint.regions.catalog import CatalogError, StoreSpec
from nearpoint.regions.profiles import FindProfile, ProfileCredentials, Profiles
from nearpoint.regions.settings_file import (
    AccessKeyTable,
    AccessPointTable,
    CredentialsTable,
    File,
    MemberTable,
    Mistake,
    RegionTable,
    SettingsError,
    TimeoutsTable,
    read,
)
from nearpoint.regions.toml_lines import Lines, TomlPath, show_path
from nearpoint.wire.listen import parse_listen

__all__ = ["AccessPointSettings", "ClientKey", "Region", "Settings", "SettingsError", "load", "renewed"]

SETTINGS_BYTES_MAX = 1_048_576
POLICY_BYTES_MAX = 20_480  # of an access point policy (S3 User Guide, "Multi-Region Access Point restrictions")
REGIONS_MAX = 17  # of one access point (S3 User Guide, as above)

_ACCOUNT = re.compile(r"[0-9]{12}")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_NAME = re.compile(r"[a-z0-9][-a-z0-9]{1,48}[a-z0-9]")
_ALIAS = re.compile(r"[a-z][a-z0-9]{0,62}\.mrap")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_DOMAIN = re.compile(r"(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{3,128}")
_USER = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_SECRET_IN_FILE = re.compile(r"\bsecret-key\s*=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A store as it is used. `profile` names the AWS profile its credentials come from; they may change."""

    spec: StoreSpec
    location: str
    profile: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPointSettings:
    """An access point. `members` are (region, bucket, dial percent).

    `aws_parity`: nothing that AWS does not do; a key that the chosen region has not is a 404. `hedge_reads`: a second
    region is asked when the first is slow. `affinity`: a client stays at the region it names.
    """

    name: str
    alias: str
    members: tuple[tuple[str, str, int], ...]
    aws_parity: bool
    hedge_reads: bool
    affinity: bool
    domains: tuple[str, ...]
    policy: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientKey:
    """A key pair of clients. Without `user` it is the account root's."""

    access_key_id: str
    secret_key: str = field(repr=False)
    user: str | None
    policy: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of the file, checked and resolved. Addresses are (host, port); paths are absolute."""

    file: Path
    account_id: str
    location: str
    probe_at_start: bool
    http: tuple[tuple[str, int], ...]
    https: tuple[tuple[str, int], ...]
    admin: tuple[str, int] | None
    certificate: Path | None
    key: Path | None
    timeouts: TimeoutsTable
    regions: tuple[Region, ...]
    access_points: tuple[AccessPointSettings, ...]
    access_keys: tuple[ClientKey, ...]
    warnings: tuple[str, ...] = ()


def load(file: Path, *, environ: Mapping[str, str] | None = None, find_profile: FindProfile | None = None) -> Settings:
    """Read and resolve a file. Raises SettingsError, and OSError when it cannot be read."""
    with file.open("rb") as opened:
        data = opened.read(SETTINGS_BYTES_MAX + 1)
        is_public = bool(os.fstat(opened.fileno()).st_mode & 0o007)
    if len(data) > SETTINGS_BYTES_MAX:
        raise SettingsError(file, (Mistake(line=None, path="", text="larger than 1 MiB"),))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError(file, (Mistake(line=None, path="", text=f"not UTF-8 at byte {error.start}"),)) from None
    resolver = _Resolver(
        file.absolute(),
        Lines(text),
        os.environ if environ is None else environ,
        Profiles() if find_profile is None else find_profile,
    )
    settings = resolver.resolve(read(text, file))
    if resolver.mistakes:
        raise SettingsError(file, tuple(resolver.mistakes))
    if is_public and _SECRET_IN_FILE.search(text):
        resolver.warnings.append(f"{file} holds secrets and everybody on this machine may use it: chmod 600 {file}")
    return replace(settings, warnings=tuple(resolver.warnings))


def renewed(settings: Settings, find_profile: FindProfile) -> Settings:
    """The settings with what their AWS profiles come to now. Raises LookupError."""
    regions = []
    for region in settings.regions:
        if region.profile is not None:
            now = find_profile(region.profile)
            spec = replace(
                region.spec,
                access_key_id=now.access_key_id,
                secret_key=now.secret_key,
                session_token=now.session_token,
            )
            region = replace(region, spec=spec)  # noqa: PLW2901
        regions.append(region)
    return replace(settings, regions=tuple(regions))


class _Resolver:
    """Turns the tables into settings and gathers what is wrong. With mistakes, what it returned is of no use."""

    def __init__(self, file: Path, lines: Lines, environ: Mapping[str, str], find_profile: FindProfile) -> None:
        self.mistakes: list[Mistake] = []
        self.warnings: list[str] = []
        self._file = file
        self._lines = lines
        self._environ = environ
        self._find_profile = find_profile

    def _wrong(self, path: TomlPath, text: str) -> None:
        self.mistakes.append(Mistake(line=self._lines.find(path), path=show_path(path), text=text))

    def resolve(self, given: File) -> Settings:
        if _ACCOUNT.fullmatch(given.account_id) is None:
            self._wrong(("account-id",), f"{given.account_id!r} is not 12 digits")
        for name in TimeoutsTable.__struct_fields__:
            if not 0 < getattr(given.timeouts, name) <= 3600:
                self._wrong(("timeouts", name), "has to be more than 0 and at most 3600 seconds")
        http = self._addresses(given.listen.http, "http")
        https = self._addresses(given.listen.https, "https")
        admin = self._addresses((given.listen.admin,) if given.listen.admin else (), "admin")
        if not http and not https:
            self._wrong(("listen",), "has neither http nor https addresses")
        certificate = self._readable(given.listen.certificate, ("listen", "certificate"))
        key = self._readable(given.listen.key, ("listen", "key"))
        if (certificate is None) != (key is None) or (https and certificate is None):
            self._wrong(("listen", "https"), "https needs both a certificate and a key file")
        regions = tuple(self._region(table, at) for at, table in enumerate(given.regions))
        if not regions:
            self._wrong(("regions",), "at least one region is needed")
        self._check_unique("regions", "name", [table.name for table in given.regions])
        names = {table.name for table in given.regions}
        access_points = tuple(self._access_point(table, at, names) for at, table in enumerate(given.access_points))
        if not access_points:
            self._wrong(("access-points",), "at least one access point is needed")
        self._check_unique("access-points", "name", [one.name for one in access_points])
        self._check_unique("access-points", "alias", [one.alias for one in access_points])
        self._check_domains(given.access_points)
        access_keys = tuple(self._access_key(table, at) for at, table in enumerate(given.access_keys))
        if not access_keys:
            self._wrong(("access-keys",), "without an access key nobody can sign a request")
        self._check_unique("access-keys", "access-key-id", [one.access_key_id for one in access_keys])
        self._check_users(access_keys)
        return Settings(
            file=self._file,
            account_id=given.account_id,
            location=given.location,
            probe_at_start=given.probe_at_start,
            http=http,
            https=https,
            admin=admin[0] if admin else None,
            certificate=certificate,
            key=key,
            timeouts=given.timeouts,
            regions=tuple(region for region in regions if region is not None),
            access_points=access_points,
            access_keys=access_keys,
        )

    def _addresses(self, texts: tuple[str, ...], name: str) -> tuple[tuple[str, int], ...]:
        made = []
        for text in texts:
            try:
                made.append(parse_listen(text))
            except ValueError as error:
                self._wrong(("listen", name), str(error))
        return tuple(made)

    def _check_unique(self, table: str, key: str, values: list[str]) -> None:
        for at, value in enumerate(values):
            if value and value in values[:at]:
                self._wrong((table, at, key), f"{value!r} is given twice")

    def _path(self, name: str) -> Path:
        return self._file.parent / Path(name).expanduser()

    def _readable(self, name: str | None, path: TomlPath) -> Path | None:
        if name is None:
            return None
        made = self._path(name)
        if not os.access(made, os.R_OK) or made.is_dir():
            self._wrong(path, f"{made} is not a file that can be read")
        return made

    def _secret(self, table: CredentialsTable | AccessKeyTable, name: str, path: TomlPath) -> str:
        """A value given as `NAME` or by the environment variable `NAME-env`; empty where neither works."""
        literal: str | None = getattr(table, name)
        variable: str | None = getattr(table, f"{name}_env")
        key = name.replace("_", "-")
        if (literal is None) == (variable is None):
            self._wrong(path, f"needs {key} or {key}-env" + ("" if literal is None else ", not both"))
            return ""
        if variable is not None:
            literal = self._environ.get(variable, "")
            if not literal:
                self._wrong((*path, f"{key}-env"), f"the environment variable {variable} is not set")
        elif not literal:
            self._wrong((*path, key), "is empty")
        return literal or ""

    def _credentials(self, table: CredentialsTable, path: TomlPath) -> ProfileCredentials | None:
        if table.profile is not None:
            others = [name for name in table.__struct_fields__ if name != "profile" and getattr(table, name)]
            if others:
                self._wrong(path, "a profile brings its own keys: leave the others out")
                return None
            try:
                return self._find_profile(table.profile)
            except LookupError as error:
                self._wrong((*path, "profile"), str(error.args[0]))
                return None
        if all(getattr(table, name) is None for name in table.__struct_fields__):
            self._wrong(path, "needs access-key-id and secret-key, their -env forms, or a profile")
            return None
        token = table.session_token
        if token is not None or table.session_token_env is not None:
            token = self._secret(table, "session_token", path)
        return ProfileCredentials(
            access_key_id=self._secret(table, "access_key_id", path),
            secret_key=self._secret(table, "secret_key", path),
            session_token=token,
        )

    def _region(self, table: RegionTable, at: int) -> Region | None:
        path: TomlPath = ("regions", at)
        if _REGION.fullmatch(table.name) is None:
            self._wrong((*path, "name"), f"{table.name!r} is not a name of lower-case letters, digits and hyphens")
        credentials = self._credentials(table.credentials, (*path, "credentials"))
        if credentials is None:
            return None
        try:
            spec = StoreSpec(
                region=table.name,
                endpoint=table.endpoint,
                access_key_id=credentials.access_key_id,
                secret_key=credentials.secret_key,
                session_token=credentials.session_token,
                signing_region=table.signing_region or table.name,
                addressing=table.addressing,
            )
        except CatalogError as error:
            self._wrong((*path, "endpoint"), str(error).partition(": ")[2])
            return None
        return Region(spec=spec, location=table.location, profile=table.credentials.profile)

    def _access_point(self, table: AccessPointTable, at: int, regions: set[str]) -> AccessPointSettings:
        path: TomlPath = ("access-points", at)
        if _NAME.fullmatch(table.name) is None:
            self._wrong((*path, "name"), f"{table.name!r} is not 3 to 50 lower-case letters, digits and hyphens")
        alias = alias_of(table.name) if table.alias is None else table.alias
        if _ALIAS.fullmatch(alias) is None:
            where = "name" if table.alias is None else "alias"
            self._wrong((*path, where), f"{alias!r} is not an alias: a letter, letters and digits, and `.mrap`")
        if not 1 <= len(table.members) <= REGIONS_MAX:
            self._wrong((*path, "members"), f"has to have 1 to {REGIONS_MAX} members")
        for number, member in enumerate(table.members):
            self._check_member(member, (*path, "members", number), regions)
        for number, member in enumerate(table.members):
            if member.region in [other.region for other in table.members[:number]]:
                self._wrong((*path, "members", number, "region"), f"{member.region!r} has a member already")
        if table.aws_parity and table.hedge_reads:
            self._wrong((*path, "hedge-reads"), "AWS does not hedge: leave out aws-parity or this")
        if table.members and not any(member.dial for member in table.members):
            self._wrong((*path, "members"), "every dial is 0: no region would answer")
        return AccessPointSettings(
            name=table.name,
            alias=alias,
            members=tuple((member.region, member.bucket, member.dial) for member in table.members),
            aws_parity=table.aws_parity,
            hedge_reads=table.hedge_reads,
            affinity=table.affinity and not table.aws_parity,
            domains=tuple(domain.lower() for domain in table.domains),
            policy=self._policy(table.policy, (*path, "policy")),
        )

    def _check_member(self, member: MemberTable, path: TomlPath, regions: set[str]) -> None:
        if member.region not in regions:
            known = ", ".join(sorted(regions)) or "none"
            self._wrong((*path, "region"), f"there is no region {member.region!r} in this file; there are: {known}")
        if _BUCKET.fullmatch(member.bucket) is None:
            self._wrong((*path, "bucket"), f"{member.bucket!r} is not a bucket name")
        if not 0 <= member.dial <= 100:
            self._wrong((*path, "dial"), f"{member.dial} is not between 0 and 100")

    def _check_domains(self, tables: tuple[AccessPointTable, ...]) -> None:
        seen: set[str] = set()
        for at, table in enumerate(tables):
            for domain in table.domains:
                path: TomlPath = ("access-points", at, "domains")
                if _DOMAIN.fullmatch(domain.lower()) is None:
                    self._wrong(path, f"{domain!r} is not a host name")
                if domain.lower() in seen:
                    self._wrong(path, f"{domain!r} is given twice")
                seen.add(domain.lower())

    def _policy(self, name: str | None, path: TomlPath) -> dict[str, Any] | None:
        """The JSON of a policy file. Whether it is a policy is decided where policies are known."""
        if name is None:
            return None
        file = self._path(name)
        try:
            with file.open("rb") as opened:
                data = opened.read(POLICY_BYTES_MAX + 1)
            if len(data) > POLICY_BYTES_MAX:
                self._wrong(path, f"{file} is larger than {POLICY_BYTES_MAX} bytes")
                return None
            value = json.loads(data)
        except OSError as error:
            self._wrong(path, f"{file}: {error.strerror or error}")
            return None
        except ValueError as error:
            self._wrong(path, f"{file} is not JSON: {error}")
            return None
        if not isinstance(value, dict):
            self._wrong(path, f"{file} is not a policy: a JSON object is wanted")
            return None
        return value

    def _access_key(self, table: AccessKeyTable, at: int) -> ClientKey:
        path: TomlPath = ("access-keys", at)
        access_key_id = self._secret(table, "access_key_id", path)
        secret_key = self._secret(table, "secret_key", path)
        if access_key_id and _KEY_ID.fullmatch(access_key_id) is None:
            self._wrong((*path, "access-key-id"), "has to be 3 to 128 letters, digits, `.`, `_` and `-`")
        if table.user is not None and _USER.fullmatch(table.user) is None:
            self._wrong((*path, "user"), f"{table.user!r} is not a user name (letters, digits and _+=,.@-)")
        if table.policy is not None and table.user is None:
            self._wrong((*path, "policy"), "a policy needs a user: the account root may do everything")
        return ClientKey(
            access_key_id=access_key_id,
            secret_key=secret_key,
            user=table.user,
            policy=self._policy(table.policy, (*path, "policy")),
        )

    def _check_users(self, keys: tuple[ClientKey, ...]) -> None:
        policies: dict[str, dict[str, Any] | None] = {}
        for at, key in enumerate(keys):
            if key.user is not None and policies.setdefault(key.user, key.policy) != key.policy:
                self._wrong(("access-keys", at, "policy"), f"user {key.user!r} has another policy with another key")


def alias_of(name: str) -> str:
    """The alias that an access point has when the file gives none: its name without hyphens, and `.mrap`."""
    return name.replace("-", "") + ".mrap"
