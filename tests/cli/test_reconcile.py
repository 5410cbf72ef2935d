"""`nearpoint reconcile` waits its turn."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from nearpoint.cli.reconcile import _alone
from nearpoint.replication.sweep import only_one


def test_a_repair_waits_for_the_one_that_is_under_way_and_a_check_does_not(tmp_path: Path) -> None:
    order: list[str] = []
    begun = threading.Event()

    def other() -> None:
        with only_one(tmp_path):
            begun.set()
            time.sleep(0.3)
            order.append("other")

    running = threading.Thread(target=other)
    running.start()
    begun.wait()
    with _alone(tmp_path, repair=False):
        order.append("check")
    with _alone(tmp_path, repair=True):
        order.append("repair")
    running.join()
    assert order == ["check", "other", "repair"]
