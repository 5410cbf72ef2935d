"""Patterns of policy documents: `*`, `?` and policy variables (IAM User Guide, "Policy elements: Variables").

Matching takes time linear in text times pattern, whatever the pattern.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

# Values of the request's context by lower-case key, such as {"aws:username": ("alice",)}.
Context = Mapping[str, Sequence[str]]

_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
_LITERALS = {"*": "*", "?": "?", "$": "$"}
_ARN_PARTS = 6


def resolve(pattern: str, context: Context) -> str | None:
    """The pattern with its variables replaced, their values escaped; None when one has no value.

    `${key, 'default'}` gives a default; `${*}`, `${?}`, `${$}` stand for the characters themselves. An escaped
    character is kept behind NUL, which no value may contain.
    """
    if "${" not in pattern:
        return pattern
    missing = False

    def value_of(match: re.Match[str]) -> str:
        nonlocal missing
        name, _, default = match[1].partition(",")
        if name in _LITERALS:
            return _escape(_LITERALS[name])
        values = context.get(name.strip().lower())
        if values is not None and len(values) == 1:
            return _escape(values[0])
        default = default.strip()
        if len(default) >= 2 and default[0] == default[-1] == "'":
            return _escape(default[1:-1])
        missing = True
        return ""

    resolved = _VARIABLE.sub(value_of, pattern)
    return None if missing else resolved


def literal(pattern: str, context: Context) -> str | None:
    """The pattern with its variables replaced as plain text (operators without wildcards); None: no value."""
    resolved = resolve(pattern, context)
    return None if resolved is None else re.sub("\0(.)", r"\1", resolved, flags=re.DOTALL)


def _escape(value: str) -> str:
    return re.sub(r"([*?\0])", "\0\\1", value)


@lru_cache(maxsize=4096)
def _compiled(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    pieces = [""]
    characters = iter(pattern)
    for character in characters:
        if character == "\0":
            pieces[-1] += re.escape(next(characters, ""))
        elif character == "*":
            if pieces[-1] or len(pieces) == 1:
                pieces.append("")
        elif character == "?":
            pieces[-1] += "."
        else:
            pieces[-1] += re.escape(character)
    # The shortest text before each inner piece is as good as any (the last piece takes up the rest), so none is tried
    # twice: atomic groups.
    first, *rest = pieces
    text = first
    if rest:
        text += "".join(f"(?>.*?{piece})" for piece in rest[:-1]) + f".*{rest[-1]}"
    return re.compile(text, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def matches(pattern: str, text: str, *, ignore_case: bool = False) -> bool:
    """Whether the (resolved) pattern covers the whole text."""
    if pattern == "*":
        return True
    return _compiled(pattern, ignore_case).fullmatch(text) is not None


def arn_matches(pattern: str, arn: str) -> bool:
    """Whether an ARN pattern covers an ARN: each of the six parts by itself, missing parts stand for any."""
    if pattern == "*":
        return True
    if not pattern.startswith("arn:"):
        return matches(pattern, arn)
    parts = arn.split(":", _ARN_PARTS - 1)
    if len(parts) != _ARN_PARTS:
        return False
    wanted = pattern.split(":", _ARN_PARTS - 1)
    for want, part in zip(wanted, parts, strict=False):
        if (want != part or "\0" in want) and not matches(want, part):
            return False
    return True
