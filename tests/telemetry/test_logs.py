"""Log lines: JSON where no terminal reads them, and never the reason that something fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import structlog
from nearpoint.telemetry import logs
logs.configure("test")
log = structlog.get_logger("nearpoint.test")
log.info("über", at=1)
try:
    raise ValueError("on purpose")
except ValueError:
    log.exception("failed")
log.debug("not seen")
print("went on")
"""


def test_lines_are_json() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    first, second = map(json.loads, ran.stderr.splitlines())
    assert (first["event"], first["level"], first["process"], first["at"]) == ("über", "info", "test", 1)
    assert "ValueError: on purpose" in second["exception"]
    assert ran.stdout == b"went on\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_costs_the_line_alone() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    ran = subprocess.run([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=full, check=True)
    os.close(full)
    assert ran.stdout == b"went on\n"
