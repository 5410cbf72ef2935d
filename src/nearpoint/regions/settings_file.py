"""`nearpoint.toml` as it is written: its tables, read strictly. What they mean together is `settings`' affair.

An unknown key, a missing one and a value of the wrong type are mistakes, shown with line and path.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from nearpoint.regions.catalog import Addressing
from nearpoint.regions.toml_lines import Lines, TomlPath, parse_path, show_path


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """A table of the file."""


class Listen(_Table, frozen=True, kw_only=True):
    """`[listen]`. `admin` empty: no admin port."""

    http: tuple[str, ...] = ("127.0.0.1:8600",)
    https: tuple[str, ...] = ()
    admin: str = "127.0.0.1:8601"
    certificate: str | None = None
    key: str | None = None


class TimeoutsTable(_Table, frozen=True, kw_only=True):
    """`[timeouts]`, seconds."""

    header: float = 10.0
    idle: float = 60.0
    body: float = 30.0
    write: float = 60.0
    drain: float = 10.0
    probe: float = 10.0


class CredentialsTable(_Table, frozen=True, kw_only=True):
    """`credentials` of a region: literal, by environment variable, or an AWS profile."""

    access_key_id: str | None = None
    secret_key: str | None = None
    session_token: str | None = None
    access_key_id_env: str | None = None
    secret_key_env: str | None = None
    session_token_env: str | None = None
    profile: str | None = None


class RegionTable(_Table, frozen=True, kw_only=True):
    """`[[regions]]`."""

    name: str
    endpoint: str
    credentials: CredentialsTable
    addressing: Addressing = "path"
    signing_region: str | None = None
    location: str = ""


class MemberTable(_Table, frozen=True, kw_only=True):
    """A member of an access point."""

    region: str
    bucket: str
    dial: int = 100


class AccessPointTable(_Table, frozen=True, kw_only=True):
    """`[[access-points]]`."""

    name: str
    members: tuple[MemberTable, ...]
    alias: str | None = None
    aws_parity: bool = False
    hedge_reads: bool = False
    affinity: bool = True
    domains: tuple[str, ...] = ()
    policy: str | None = None


class AccessKeyTable(_Table, frozen=True, kw_only=True):
    """`[[access-keys]]`: a key pair that clients sign with."""

    access_key_id: str | None = None
    access_key_id_env: str | None = None
    secret_key: str | None = None
    secret_key_env: str | None = None
    user: str | None = None
    policy: str | None = None


class File(_Table, frozen=True, kw_only=True):
    """The whole file as written."""

    regions: tuple[RegionTable, ...]
    access_points: tuple[AccessPointTable, ...]
    access_keys: tuple[AccessKeyTable, ...]
    account_id: str = "123456789012"
    location: str = "local"
    probe_at_start: bool = True
    listen: Listen = Listen()
    timeouts: TimeoutsTable = TimeoutsTable()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One thing that is wrong, and where. `line` is None where the file has no line for it."""

    line: int | None
    path: str
    text: str


class SettingsError(ValueError):
    """The file cannot be used. `mistakes` has everything that was found; the text shows them a line each."""

    def __init__(self, file: Path, mistakes: tuple[Mistake, ...]) -> None:
        self.file = file
        self.mistakes = mistakes
        lines = []
        for each in mistakes:
            where = str(file) if each.line is None else f"{file}:{each.line}"
            lines.append(f"{where}: {each.path}: {each.text}" if each.path else f"{where}: {each.text}")
        super().__init__("\n".join(lines))


def read(text: str, file: Path) -> File:
    """The file as written. Raises SettingsError: not TOML, an unknown or missing key, a value of the wrong type."""
    try:
        return msgspec.convert(tomllib.loads(text), File)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column \d+\)", str(error))
        mistake = Mistake(line=int(found[1]) if found else None, path="", text=f"not TOML: {error}")
    except msgspec.ValidationError as error:
        mistake = _shape_mistake(str(error), Lines(text))
    raise SettingsError(file, (mistake,))


def _shape_mistake(text: str, lines: Lines) -> Mistake:
    what, _, where = text.partition(" - at `")
    path = parse_path(where.rstrip("`"))
    field_name = re.search(r"(unknown|required) field `([^`]*)`", what)
    if field_name is not None and field_name[1] == "unknown":
        path = (*path, field_name[2])
        close = difflib.get_close_matches(field_name[2], _fields_at(path[:-1]), n=1)
        what = "there is no such key" + (f"; did you mean {close[0]!r}?" if close else "")
    elif field_name is not None:
        what = f"{field_name[2]!r} is missing"
    return Mistake(line=lines.find(path), path=show_path(path), text=what[:1].lower() + what[1:])


TABLES: Mapping[tuple[str, ...], type[Struct]] = {
    (): File,
    ("listen",): Listen,
    ("timeouts",): TimeoutsTable,
    ("regions",): RegionTable,
    ("regions", "credentials"): CredentialsTable,
    ("access-points",): AccessPointTable,
    ("access-points", "members"): MemberTable,
    ("access-keys",): AccessKeyTable,
}


def _fields_at(path: TomlPath) -> tuple[str, ...]:
    table = TABLES.get(tuple(part for part in path if isinstance(part, str)))
    return () if table is None else table.__struct_encode_fields__
