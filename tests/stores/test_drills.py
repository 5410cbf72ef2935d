"""Fault drills over real stores: whatever happens to the path to one of them, every read gets the whole object.

The access point reaches each store through a relay that can be told to fail. What fails when comes from a seed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

BODIES = {"small": b"small and the same everywhere", "large": bytes(range(256)) * 8192}
FAULTS = ("refuse", "black hole", "cut", "slow", None)


class Relay:
    """A TCP relay to a port of this machine. `fault` is one of FAULTS; `cut` ends answers in the middle."""

    def __init__(self, port: int) -> None:
        self.fault: str | None = None
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def fail(self, fault: str | None) -> None:
        """From now on; connections that are refused or cut end at once."""
        self.fault = fault
        if fault in ("refuse", "cut"):
            for each in list(self._open):
                _hang_up(each)

    def close(self) -> None:
        self._closed = True
        self._listener.close()
        for each in list(self._open):
            _hang_up(each)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.fault == "refuse":
                _hang_up(client)
                continue
            try:
                store = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                _hang_up(client)
                continue
            self._open |= {client, store}
            for one, other, is_answer in ((client, store, False), (store, client, True)):
                threading.Thread(target=self._carry, args=(one, other, is_answer), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        carried = 0
        with contextlib.suppress(OSError):
            source.settimeout(None)
            while data := source.recv(65_536):
                while self.fault == "black hole" and not self._closed:
                    time.sleep(0.02)
                if self.fault == "slow":
                    time.sleep(0.3)
                carried += len(data)
                if is_answer and self.fault == "cut" and carried > 300_000:
                    break
                target.sendall(data)
        for each in (source, target):
            self._open.discard(each)
            _hang_up(each)


def _hang_up(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


@pytest.fixture
def relays(near: Any, weed: Any) -> Iterator[list[tuple[Any, Relay]]]:
    """The embedded store and SeaweedFS, each behind a relay, with the same objects."""
    made = []
    for store in (near, weed):
        for name, body in BODIES.items():
            store.client().put_object(Bucket=store.bucket, Key=f"drill/{name}", Body=body)
        relay = Relay(int(store.endpoint.rpartition(":")[2]))
        made.append((dataclasses.replace(store, endpoint=f"http://127.0.0.1:{relay.port}"), relay))
    yield made
    for _, relay in made:
        relay.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_reads_survive_whatever_happens_to_one_path(
    relays: Any, tmp_path: Any, make_settings: Any, start_front: Any, seed: int
) -> None:
    text = make_settings({"both": [store for store, _ in relays]})
    with start_front(tmp_path, text, "--workers", "2") as front, ThreadPoolExecutor(4) as readers:
        s3 = front.client(config={"connect_timeout": 10, "read_timeout": 20, "max_pool_connections": 8})
        done = threading.Event()

        def read(number: int) -> list[str]:
            lots, regions = random.Random(f"{seed} {number}"), []
            while not done.is_set():
                name = lots.choice(list(BODIES))
                got = s3.get_object(Bucket="both.mrap", Key=f"drill/{name}")
                assert got["Body"].read() == BODIES[name]
                regions.append(got["ResponseMetadata"]["HTTPHeaders"]["x-nearpoint-region"])
            return regions

        reading = [readers.submit(read, number) for number in range(4)]
        lots = random.Random(seed)
        try:
            for _ in range(8):
                _, relay = lots.choice(relays)
                relay.fail(lots.choice(FAULTS))
                time.sleep(lots.uniform(0.1, 0.6))
                relay.fail(None)
                time.sleep(lots.uniform(0.0, 1.0))  # one path at a time: the one before has to be found well again
        finally:
            done.set()
        regions = [region for each in reading for region in each.result(60)]
        assert len(regions) > 20
        assert "Traceback" not in front.log.read_text()


def test_a_download_goes_on_when_its_path_is_cut(
    relays: Any, tmp_path: Any, make_settings: Any, start_front: Any
) -> None:
    with start_front(tmp_path, make_settings({"both": [store for store, _ in relays]})) as front:
        wanted = [""]

        def stay(request: Any, **_: Any) -> None:
            request.headers["x-nearpoint-prefer-region"] = wanted[0]

        s3 = front.client()
        s3.meta.events.register("before-sign.s3", stay)
        for store, relay in relays:
            wanted[0] = store.region
            got = s3.get_object(Bucket="both.mrap", Key="drill/large")
            first = got["Body"].read(200_000)
            assert got["ResponseMetadata"]["HTTPHeaders"]["x-nearpoint-region"] == store.region
            relay.fail("cut")
            assert first + got["Body"].read() == BODIES["large"]
            relay.fail(None)
        front.wait_ready()


def test_a_dial_of_zero_is_in_force_in_every_worker_at_once(
    relays: Any, tmp_path: Any, make_settings: Any, start_front: Any
) -> None:
    import signal

    (near, _), (far, _) = relays
    text = make_settings({"both": [near, far]})
    with start_front(tmp_path, text, "--workers", "2") as front:
        s3 = front.client()
        for gone, left in ((near, far), (far, near)):
            member = f'bucket = "{gone.bucket}"'
            front.config.write_text(text.replace(member, f"{member}, dial = 0"))
            before = front.log.read_text().count("running by the changed file")
            front.process.send_signal(signal.SIGHUP)
            until = time.monotonic() + 20
            while front.log.read_text().count("running by the changed file") < before + 2:
                assert time.monotonic() < until
                time.sleep(0.02)
            answers = [s3.get_object(Bucket="both.mrap", Key="drill/small") for _ in range(12)]
            regions = {each["ResponseMetadata"]["HTTPHeaders"]["x-nearpoint-region"] for each in answers}
            assert regions == {left.region}
            s3.close()
            s3 = front.client()
