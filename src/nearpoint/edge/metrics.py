"""What an edge counts. Labels are names of a few: never a host, a path or an address."""

from __future__ import annotations

from nearpoint.edge.config import Behavior, Distribution
from nearpoint.edge.tiers import Tiers
from nearpoint.telemetry.metrics import Counter, Family, Histogram, Registry

REQUESTS = Family(name="nearpoint_requests_total", help="Requests answered, by X-Cache's first word.")
RESPONSE_BYTES = Family(name="nearpoint_response_bytes_total", help="Bytes of answers, as they began.")
ORIGIN_SECONDS = Family(
    name="nearpoint_origin_seconds", help="From asking an origin until its answer began.", kind="histogram"
)
ORIGIN_FAILURES = Family(name="nearpoint_origin_failures_total", help="Requests to origins that failed, by reason.")
FUNCTION_SECONDS = Family(name="nearpoint_function_seconds", help="How long functions took.", kind="histogram")
FUNCTION_FAILURES = Family(name="nearpoint_function_failures_total", help="Functions that failed, by reason.")
SHIELD_REQUESTS = Family(
    name="nearpoint_shield_requests_total",
    help="What other edges asked this one as the shield of an origin, by result.",
)
NOT_STORED = Family(name="nearpoint_not_stored_total", help="Answers of origins that were not kept, by reason.")
MEMORY_BYTES = Family(name="nearpoint_memory_cache_bytes", help="What the workers have in memory.", kind="gauge")
MEMORY_EVICTIONS = Family(name="nearpoint_memory_cache_evictions_total", help="Answers that had to leave memory.")
DISK_BYTES = Family(name="nearpoint_disk_cache_bytes", help="The shared store's size.", kind="gauge", largest=True)
DISK_RECORDS = Family(
    name="nearpoint_disk_cache_records", help="Answers in the shared store.", kind="gauge", largest=True
)
DISK_EVICTIONS = Family(
    name="nearpoint_disk_cache_evictions_total", help="What had to leave the shared store.", largest=True
)
DISK_REFUSED = Family(name="nearpoint_disk_cache_refused_total", help="What could not be written to the store.")

WORKER_READY = Family(name="nearpoint_worker_ready", help="Workers that serve.", kind="gauge")

FAMILIES = (
    WORKER_READY,
    REQUESTS,
    RESPONSE_BYTES,
    ORIGIN_SECONDS,
    ORIGIN_FAILURES,
    FUNCTION_SECONDS,
    FUNCTION_FAILURES,
    SHIELD_REQUESTS,
    NOT_STORED,
    MEMORY_BYTES,
    MEMORY_EVICTIONS,
    DISK_BYTES,
    DISK_RECORDS,
    DISK_EVICTIONS,
    DISK_REFUSED,
)


class EdgeMetrics:
    """The numbers of one edge, or of several in one process that share a registry."""

    def __init__(self, registry: Registry | None = None) -> None:
        self.registry = registry if registry is not None else Registry()
        self._requests: dict[tuple[str, str, str], Counter] = {}
        self._bytes: dict[tuple[str, str], Counter] = {}
        self._not_stored: dict[str, Counter] = {}
        self._origins: dict[str, Histogram] = {}
        self._functions: dict[str, Histogram] = {}

    def requests(self, distribution: Distribution | None, behavior: Behavior | None, result: str) -> Counter:
        """Requests with this result."""
        name = (distribution.id if distribution else "-", behavior.name if behavior else "-", result)
        found = self._requests.get(name)
        if found is None:
            labels = dict(zip(("distribution", "behavior", "result"), name, strict=True))
            found = self._requests[name] = self.registry.counter(REQUESTS, **labels)
        return found

    def bytes(self, distribution: Distribution | None, behavior: Behavior | None) -> Counter:
        """Bytes of answers."""
        name = (distribution.id if distribution else "-", behavior.name if behavior else "-")
        found = self._bytes.get(name)
        if found is None:
            found = self.registry.counter(RESPONSE_BYTES, distribution=name[0], behavior=name[1])
            self._bytes[name] = found
        return found

    def not_stored(self, reason: str) -> None:
        """An answer was not kept."""
        found = self._not_stored.get(reason)
        if found is None:
            found = self._not_stored[reason] = self.registry.counter(NOT_STORED, reason=reason)
        found.add()

    def origin(self, distribution: Distribution, taken_s: float, failure: str | None) -> None:
        """An origin was asked."""
        found = self._origins.get(distribution.id)
        if found is None:
            found = self._origins[distribution.id] = self.registry.histogram(
                ORIGIN_SECONDS, distribution=distribution.id
            )
        found.observe(taken_s)
        if failure is not None:
            self.origin_failed(distribution, failure)

    def shield(self, distribution: Distribution, result: str) -> None:
        """Another edge has been answered."""
        self.registry.counter(SHIELD_REQUESTS, distribution=distribution.id, result=result).add()

    def origin_failed(self, distribution: Distribution, reason: str) -> None:
        """An origin, or its shield, could not be asked."""
        self.registry.counter(ORIGIN_FAILURES, distribution=distribution.id, reason=reason).add()

    def function(self, trigger: str, failure: str | None, taken_s: float) -> None:
        """A function ran."""
        found = self._functions.get(trigger)
        if found is None:
            found = self._functions[trigger] = self.registry.histogram(FUNCTION_SECONDS, trigger=trigger)
        found.observe(taken_s)
        if failure is not None:
            self.registry.counter(FUNCTION_FAILURES, trigger=trigger, reason=failure).add()

    def measure(self, tiers: Tiers, location: str) -> None:
        """Note how much the cache holds."""
        registry = self.registry
        registry.counter(MEMORY_BYTES, location=location).set(tiers.memory.used_bytes)
        registry.counter(MEMORY_EVICTIONS, location=location).set(tiers.memory.evictions)
        if tiers.store is not None:
            totals = tiers.store.totals
            registry.counter(DISK_BYTES, location=location).set(totals.used_bytes)
            registry.counter(DISK_RECORDS, location=location).set(totals.records)
            registry.counter(DISK_EVICTIONS, location=location).set(totals.evictions)
            registry.counter(DISK_REFUSED, location=location).set(tiers.store.refused)
