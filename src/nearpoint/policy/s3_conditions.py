"""The condition keys of S3 that a request answers by itself.

Service Authorization Reference, "Condition keys for Amazon S3"; S3 User Guide, "Bucket policy examples using condition
keys" and "Enforce conditional writes".

What stands in a request twice has no one value. Which of the two a store takes is the store's affair, so no policy can
speak about it: `refuse_repeated` lets no such request pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from nearpoint.awsproto import xml
from nearpoint.awsproto.errors import AwsError

_PARAMETERS = {"delimiter": "delimiter", "max-keys": "max-keys", "prefix": "prefix", "versionId": "versionid"}
_CONDITIONAL = ("if-match", "if-none-match")
_LOCK = "x-amz-object-lock-"
_LOCK_KEYS = {
    f"{_LOCK}legal-hold": "s3:object-lock-legal-hold",
    f"{_LOCK}mode": "s3:object-lock-mode",
    f"{_LOCK}retain-until-date": "s3:object-lock-retain-until-date",
}
_DAY_S = 86_400


def refuse_repeated(names: Iterable[str]) -> None:
    """Raises InvalidArgument where one of these decoded query parameter names is there twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise AwsError(
                "InvalidArgument", f"The {name} parameter may be given only once.", extra={"ArgumentName": name[:100]}
            )
        seen.add(name)


def request_conditions(
    action: str, headers: Mapping[str, Sequence[str]], query: str, now: datetime
) -> dict[str, Sequence[str]]:
    """The values of S3's condition keys, which are in lower case.

    `action` is the request's (`s3:PutObject`), `headers` its fields by name in lower case, `query` its raw query
    string; neither has anything twice.
    """
    found: dict[str, Sequence[str]] = {}
    for name, values in headers.items():
        if name.startswith("x-amz-") or name in _CONDITIONAL:
            found[f"s3:{name}"] = tuple(values[:1])
    for name, key in _LOCK_KEYS.items():
        if name in headers:
            found[key] = tuple(headers[name][:1])
    if "x-amz-tagging" in headers:
        found |= _of_tags(parse_qsl(headers["x-amz-tagging"][0], keep_blank_values=True))
    names = set()
    for name, value in parse_qsl(query, keep_blank_values=True):
        names.add(name)
        if name in _PARAMETERS:
            found[f"s3:{_PARAMETERS[name]}"] = (value,)
    if action == "s3:PutObject":
        makes_part = "uploads" in names or "partNumber" in names
        found["s3:objectcreationoperation"] = ("false" if makes_part else "true",)
    return _with_days_left(found, now)


def document_conditions(document: xml.Node | None, now: datetime) -> dict[str, Sequence[str]]:
    """What the body of PutObjectTagging, PutObjectRetention or PutObjectLegalHold says."""
    if document is None:
        return {}
    found: dict[str, Sequence[str]] = {}
    if document.tag == "Tagging":
        tag_set = document.child("TagSet")
        tags = [(tag.child("Key"), tag.child("Value")) for tag in (tag_set.children if tag_set is not None else ())]
        found = _of_tags(
            [(key.text, value.text if value is not None else "") for key, value in tags if key is not None]
        )
    elif document.tag == "Retention":
        for tag, key in (("Mode", "s3:object-lock-mode"), ("RetainUntilDate", "s3:object-lock-retain-until-date")):
            node = document.child(tag)
            if node is not None:
                found[key] = (node.text.strip(),)
    elif document.tag == "LegalHold":
        status = document.child("Status")
        if status is not None:
            found["s3:object-lock-legal-hold"] = (status.text.strip(),)
    return _with_days_left(found, now)


def _of_tags(tags: Sequence[tuple[str, str]]) -> dict[str, Sequence[str]]:
    found: dict[str, Sequence[str]] = {"s3:requestobjecttagkeys": tuple(name for name, _ in tags)} if tags else {}
    for name, value in tags:
        found[f"s3:requestobjecttag/{name.lower()}"] = (value,)
    return found


def _with_days_left(found: dict[str, Sequence[str]], now: datetime) -> dict[str, Sequence[str]]:
    until = found.get("s3:object-lock-retain-until-date")
    if until is not None:
        try:
            moment = datetime.fromisoformat(until[0])
        except ValueError:
            return found  # no date, which the store refuses
        left_s = ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()
        found["s3:object-lock-remaining-retention-days"] = (str(max(0, int(left_s // _DAY_S))),)
    return found
