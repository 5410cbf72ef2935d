"""Workers that end by themselves are replaced, unless they can't live."""

from __future__ import annotations

import signal
import subprocess
import sys

SCRIPT = """
import sys, time
from nearpoint.cli import workers
workers.RESTARTS_WITHIN_S = float(sys.argv[1])
def work(number, sockets, alive):
    time.sleep(0.03)
    return 3
sys.exit(workers.run_workers("test", [(), ()], work))
"""


def started(within_s: float) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(within_s)], stderr=subprocess.PIPE, text=True)


def test_workers_that_end_now_and_then_are_replaced_for_ever() -> None:
    with started(0.001) as process:
        assert process.stderr is not None
        for _ in range(20):
            assert process.stderr.readline().endswith("ended (3), a new one begins\n")
        process.send_signal(signal.SIGTERM)
        assert "again and again" not in process.stderr.read()
    assert process.returncode == 0


def test_workers_that_end_at_once_are_given_up() -> None:
    with started(60) as process:
        assert process.stderr is not None
        lines = process.stderr.readlines()
    assert (process.returncode, len(lines)) == (1, 6)
    assert lines[-1] == "nearpoint test: workers end again and again\n"
