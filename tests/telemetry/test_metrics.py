"""Counters in shared files, and the text that Prometheus scrapes."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from nearpoint.telemetry.metrics import SLOTS_MAX, Family, Registry, read, render

REQUESTS = Family(name="nearpoint_requests_total", help="Requests.")
BYTES = Family(name="nearpoint_store_bytes", help="Bytes.", kind="gauge", largest=True)
SECONDS = Family(name="nearpoint_origin_seconds", help="How long.", kind="histogram")
FAMILIES = (REQUESTS, BYTES, SECONDS)


def shown(folder: Path) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = render(read(folder), FAMILIES).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_processes_are_added_up_and_gauges_are_not(tmp_path: Path) -> None:
    for number in range(3):
        registry = Registry(tmp_path / f"{number}.metrics")
        registry.counter(REQUESTS, result="Hit").add()
        registry.counter(REQUESTS, result="Hit").add(2)
        registry.counter(REQUESTS, result='o"d\\d').add()
        registry.counter(BYTES).set(100 + number)
    assert shown(tmp_path) == {
        ("nearpoint_requests_total", (("result", "Hit"),)): 9,
        ("nearpoint_requests_total", (("result", 'o"d\\d'),)): 3,
        ("nearpoint_store_bytes", ()): 102,
    }


def test_a_process_that_is_started_again_goes_on(tmp_path: Path) -> None:
    for _ in range(3):
        Registry(tmp_path / "1.metrics").counter(REQUESTS, result="Hit").add()
    assert list(shown(tmp_path).values()) == [3]


def test_histograms(tmp_path: Path) -> None:
    for number in range(2):
        histogram = Registry(tmp_path / f"{number}.metrics").histogram(SECONDS, (0.1, 1.0), distribution="E1")
        for value in (0.05, 0.1, 0.5, 7.0):
            histogram.observe(value)
    labels = (("distribution", "E1"),)
    numbers = shown(tmp_path)
    assert numbers["nearpoint_origin_seconds_count", labels] == 8
    assert abs(numbers["nearpoint_origin_seconds_sum", labels] - 15.3) < 1e-9
    buckets = [numbers["nearpoint_origin_seconds_bucket", (*labels, ("le", le))] for le in ("0.1", "1", "+Inf")]
    assert buckets == [4, 6, 8]


def test_too_many_names_cost_their_names_only(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "1.metrics")
    for number in range(SLOTS_MAX + 10):
        registry.counter(REQUESTS, result=str(number)).add()
    registry.counter(REQUESTS, result="x" * 400).add()
    assert len(shown(tmp_path)) == SLOTS_MAX - 1


def test_what_is_no_file_of_ours_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "other.metrics").write_bytes(b"short")
    assert read(tmp_path) == []
