"""Cache tags: the names that an origin gives an answer, by which it can be invalidated.

CloudFront Developer Guide, "Invalidating content by cache tags": comma-separated in the field that CacheTagConfig
names, visible ASCII, compared without case. What is beyond the bounds is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from nearpoint.edge.properties import ConfigError, required_text

TAGS_MAX = 50  # of one answer
TAG_CHARACTERS_MAX = 256
_TAG = re.compile(rf"[!-+\--~]{{1,{TAG_CHARACTERS_MAX}}}")


def is_tag(text: str) -> bool:
    """Whether this can be a tag: visible ASCII without commas, not too long."""
    return _TAG.fullmatch(text) is not None


def read_tags(values: Iterable[str]) -> frozenset[str]:
    """The tags in a field's values, in lower case."""
    tags: list[str] = []
    for value in values:
        for item in value.split(","):
            tag = item.strip(" \t")
            if is_tag(tag):
                tags.append(tag.lower())
            if len(tags) >= TAGS_MAX:
                return frozenset(tags)
    return frozenset(tags)


def stored_tags(fields: bytes, field_name: bytes) -> frozenset[str]:
    """The tags of an answer from its fields as they go on the wire. `field_name` is in lower case."""
    lines = fields.lower().split(b"\r\n")
    start = field_name + b": "
    return read_tags(line[len(start) :].decode("latin-1") for line in lines if line.startswith(start))


def is_tag_field(name: str) -> bool:
    """Whether this can be the name of a header."""
    return re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}", name) is not None


def compile_tag_field(config: Mapping[str, Any]) -> str:
    """The field that a DistributionConfig's CacheTagConfig names, in lower case; empty: none. Raises ConfigError."""
    tags = config.get("CacheTagConfig")
    if not tags:
        return ""
    name = required_text(tags, "HeaderName", "CacheTagConfig")
    if not is_tag_field(name):
        raise ConfigError("CacheTagConfig.HeaderName", f"{name!r} is not the name of a header")
    return name.lower()
