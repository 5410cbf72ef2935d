"""What a foreign store knows of a key, and what becomes of a version that arrives for it (pure).

The stamp of an object stands in its metadata, in the one field `x-amz-meta-nearpoint`, which clients never see. What an
object cannot hold is a `Mark` beside the store: the stamp of a delete, of a multipart upload (its metadata is fixed
when it begins, its time when it is completed), of a change of tags, of an object that was written behind Nearpoint's
back. A mark is about the last write of its kind to its key and is passed over when the object is another one.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from nearpoint.regions.version import Stamp, clamped_us, next_time_us

FIELD = "x-amz-meta-nearpoint"
# The fields that describe content and are the same in every region.
DESCRIBING = re.compile(r"cache-control|content-(disposition|encoding|language|type)|expires|x-amz-meta-.+")
Role = Literal["logged", "upload", "quiet", "replica"]
_ROLES: dict[str, Role] = {"L": "logged", "U": "upload", "Q": "quiet", "R": "replica"}
_LETTERS = {role: letter for letter, role in _ROLES.items()}
_NOTE = re.compile(
    r"1 ([LUQR]) (\d{1,17}) ([a-z0-9-]{1,40}) ([0-9A-Za-z-]{1,80}) ([0-9A-Za-z._-]{1,100}) ([0-9a-f]{8})"
)


def bare(etag: str | None) -> str:
    """An entity tag without its quotes; empty for None."""
    return "" if etag is None else etag.strip('"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What an object's metadata says of its write.

    `role`: whether it is in the log (an upload is, too: its time is that of its completion), is of no rule's concern,
    or came from another region. `etag` and `version` are empty unless it came from elsewhere.
    """

    role: Role
    time_us: int
    region: str
    etag: str = ""
    version: str = ""

    def pack(self, key: str) -> str:
        """The field's value. It is bound to the key: a copy made behind our back is not taken for the original."""
        parts = (_LETTERS[self.role], str(self.time_us), self.region, self.etag, self.version, _digest(key))
        return " ".join(("1", *(part or "-" for part in parts)))

    @staticmethod
    def read(text: str | None, key: str) -> Note | None:
        """From `pack`; None for what is not a note about this key."""
        found = None if text is None else _NOTE.fullmatch(text)
        if found is None or found[6] != _digest(key):
            return None
        region, etag, version = ("" if part == "-" else part for part in found.group(3, 4, 5))
        return Note(role=_ROLES[found[1]], time_us=int(found[2]), region=region, etag=etag, version=version)


class Mark(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of a key beside the store: the stamp of a delete (`deleted`) or of the object with this entity tag,
    and when and where what hangs on that one was last amended. `version` is the id by which other regions know it,
    `layer` the store's own id of a delete marker."""

    time_us: int
    region: str
    etag: str = ""
    deleted: bool = False
    version: str = ""
    layer: str = ""
    amended_us: int = 0
    amended_in: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a key. `etag` is the store's, None without an object; `stamp` is None when nothing is known;
    `role` is None where Nearpoint did not write what is there.

    `adopted`: it was written behind Nearpoint's back, and the stamp has been made up.
    """

    etag: str | None = None
    stamp: Stamp | None = None
    version: str = ""
    role: Role | None = None
    amended: tuple[int, str] = (0, "")
    adopted: bool = False

    @property
    def is_deleted(self) -> bool:
        """Whether a delete is the newest that is known."""
        return self.etag is None and self.stamp is not None

    def next_us(self, now_us: int) -> int:
        """The time of a write that follows."""
        return next_time_us(now_us, None if self.stamp is None else max(self.stamp.time_us, self.amended[0]))


def known_of(
    key: str, *, etag: str | None, note: str | None, modified_us: int, mark: Mark | None, region: str, now_us: int
) -> Known:
    """What is known of a key: its object's entity tag (None: there is none), the note in its metadata, its
    Last-Modified, and the mark. `region` is the store's."""
    if etag is None:
        if mark is None or not mark.deleted:
            return Known()
        stamp = Stamp(mark.time_us, mark.region, "")
        return Known(stamp=stamp, version=mark.version or version_of(stamp, key))
    said = Note.read(note, key)
    if mark is not None and _is_about(mark, etag, said):
        stamp = Stamp(mark.time_us, mark.region, mark.etag)
        version = mark.version or (said.version if said else "") or version_of(stamp, key)
        role, amended = said.role if said else None, (mark.amended_us, mark.amended_in)
        return Known(etag=etag, stamp=stamp, version=version, role=role, amended=amended)
    if said is not None:
        stamp = Stamp(said.time_us, said.region, said.etag or etag)
        return Known(etag=etag, stamp=stamp, version=said.version or version_of(stamp, key), role=said.role)
    # What followed something that is known of is newer than that, whatever the store's clock says.
    time_us = next_time_us(clamped_us(modified_us, now_us), None if mark is None else mark.time_us)
    stamp = Stamp(time_us, region, etag)
    return Known(etag=etag, stamp=stamp, version=version_of(stamp, key), adopted=True)


def _is_about(mark: Mark, etag: str, said: Note | None) -> bool:
    """Whether a mark is about the object that is there."""
    if mark.deleted:
        return False
    return mark.etag == etag if said is None else mark.etag in (etag, said.etag) and mark.time_us >= said.time_us


def mark_of(known: Known, *, amended: tuple[int, str] | None = None) -> Mark:
    """The mark that keeps what is known of an object."""
    assert known.stamp is not None
    amended_us, amended_in = amended or known.amended
    return Mark(
        time_us=known.stamp.time_us,
        region=known.stamp.region,
        etag=known.stamp.etag,
        version=known.version,
        amended_us=amended_us,
        amended_in=amended_in,
    )


def later(mark: Mark, kept: Mark | None) -> Mark | None:
    """The mark to keep of a key when another one comes; None: what is kept is newer."""
    if kept is None:
        return mark
    new, old = (Stamp(each.time_us, each.region, each.etag) for each in (mark, kept))
    more = (mark.amended_us, mark.amended_in, mark.layer) > (kept.amended_us, kept.amended_in, kept.layer)
    return mark if new > old or (new == old and more) else None


def version_of(stamp: Stamp, key: str) -> str:
    """The id by which other regions know a version that was written here: it follows from the write."""
    text = f"{stamp.time_us} {stamp.region} {stamp.etag} {key}"
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


Decision = Literal["replace", "amend", "had"]


def decide(known: Known, stamp: Stamp, amended: tuple[int, str]) -> Decision:
    """What to do with a version that arrives: it takes the key's place when its stamp is greater, and nothing ever does
    otherwise; of what hangs on the same version the later amendment holds."""
    if known.stamp is None or stamp > known.stamp:
        return "replace"
    if stamp == known.stamp and amended > known.amended and known.etag is not None:
        return "amend"
    return "had"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A version of a key as the store lists it, the newest first. `stamp` is None when it is not known."""

    id: str
    stamp: Stamp | None
    noted: bool
    """Whether Nearpoint wrote it, and so may take it away."""


def misplaced(layers: list[Layer]) -> str | None:
    """The id of the version on top when it hides a newer one; None when all is as it has to be.

    Only a version that Nearpoint wrote is ever taken away, and only when one below it is known to be newer.
    """
    if not layers:
        return None
    top = layers[0]
    if not top.noted or top.stamp is None:
        return None
    return top.id if any(each.stamp is not None and each.stamp > top.stamp for each in layers[1:]) else None


def is_hidden(layers: list[Layer], mark: Mark) -> bool:
    """Whether a delete that is newer than the version on top has still to be made in the store."""
    top = layers[0].stamp if layers and layers[0].noted else None
    if not mark.deleted or top is None or not top.etag:  # a delete marker on top is as good as another
        return False
    return Stamp(mark.time_us, mark.region, "") > top


def _digest(key: str) -> str:
    return hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
