"""Matches a pattern that somebody else wrote, in a process of its own that is given two seconds.

A regular expression can run for ever on a short text, and nothing inside the same process can stop it.
"""

from __future__ import annotations

import subprocess
import sys

from nearpoint.stack.errors import TemplateError

TIMEOUT_S = 2.0
_PROGRAM = "import re, sys; sys.exit(0 if re.fullmatch(sys.argv[1], sys.argv[2]) else 3)"


def matches_in_time(pattern: str, text: str) -> bool:
    """As `parameters.matches`; blocks. Raises TemplateError when the answer takes too long."""
    if "\x00" in pattern + text:
        return False
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, pattern, text],
            timeout=TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except (subprocess.TimeoutExpired, OSError):
        raise TemplateError(f"Template format error: AllowedPattern {pattern[:80]} takes too long to match") from None
    return done.returncode == 0
