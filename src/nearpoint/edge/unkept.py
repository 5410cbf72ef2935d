"""Tells the operator what is not kept and why: a metric for each time, and a line in the log now and then."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from nearpoint.edge.metrics import EdgeMetrics
from nearpoint.edge.notices import Notices
from nearpoint.edge.storable import Why
from nearpoint.edge.visit import Visit

log = structlog.get_logger("nearpoint.edge")

EVERY_S = 60.0


class Unkept:
    """Counts by distribution, behavior and reason, of which there are few."""

    def __init__(self, metrics: EdgeMetrics, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._notices = Notices(EVERY_S, clock)

    def note(self, visit: Visit, why: Why) -> None:
        """An answer for this visit has not been kept."""
        self._metrics.not_stored(why.value)
        unsaid = self._notices.due((visit.distribution.id, visit.behavior.name, why))
        if unsaid is not None:
            log.info(
                "not kept",
                reason=why.value,
                distribution=visit.distribution.id,
                behavior=visit.behavior.name,
                path=visit.path[:256],
                request_id=visit.request_id,
                others_before=unsaid,
            )
