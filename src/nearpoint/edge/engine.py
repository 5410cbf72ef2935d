"""The edge. Read this first: the life of a request, phase by phase.

    receive   the distribution by Host, the behavior by path, the cache key
    refuse    what the distribution does not allow: the country, plain HTTP, the method, what is not signed     (gate)
    change    the viewer-request function may answer, or make another request of it                          (triggers)
    look up   fresh → a hit; stale → served at once or revalidated, as the origin has said
    lead      one request to the origin for all who ask at the same time; the others follow   (transfer)
    ask       the origin-request function, the origin with its attempts and time-outs, the origin-response function
    keep      store it, or name the reason why not                                  (storable, transfer)
    deliver   conditions and ranges, an error page of the distribution's own, the viewer-response function, the fields
              that viewers see

A fresh hit that has been served before does not come this way at all: `hot` answers it. Every decision is made by a
pure function in its own file; this shell carries them out.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256

from nearpoint.edge.accesslog import AccessLog
from nearpoint.edge.answers import Fields, dress, own_page, result_word
from nearpoint.edge.bounds import Bounds
from nearpoint.edge.cache import MemoryCache
from nearpoint.edge.collapse import Flight, Landing, Private, Stored
from nearpoint.edge.config import Distribution
from nearpoint.edge.deliver import from_entry, from_fill, head_bytes, viewer_response
from nearpoint.edge.entry import Entry, Parts
from nearpoint.edge.gate import refuse
from nearpoint.edge.hosts import Hosts
from nearpoint.edge.hot import HotPaths, hot_names
from nearpoint.edge.ids import request_ids
from nearpoint.edge.invalidation import Invalidation
from nearpoint.edge.metrics import EdgeMetrics
from nearpoint.edge.origin import OriginAsker
from nearpoint.edge.partfill import PartError, PartsBody
from nearpoint.edge.ports import FunctionRunner, OriginCredentials, OriginFetch, OriginShields
from nearpoint.edge.receive import go_on_with, receive, visit_of
from nearpoint.edge.shield import hop_response, read_hop
from nearpoint.edge.storable import Why
from nearpoint.edge.store.disk import DiskStore
from nearpoint.edge.tiers import Tiers
from nearpoint.edge.transfer import Transfer, may_be_stale
from nearpoint.edge.triggers import Triggers
from nearpoint.edge.viewer import Whereabouts
from nearpoint.edge.visit import ERROR, GENERATED, HIT, MISS, REDIRECT, Answer, Trouble, Visit, variant_of
from nearpoint.wire.message import Headers, Request, Response
from nearpoint.wire.server import Instant

POLL_S = 0.1  # how soon an invalidation reaches the other workers


class Edge:
    """One location's edge. `pop` is what X-Amz-Cf-Pop says, as in `FRA56-P1`; `where` its viewers are.

    `load` gives it distributions and invalidations; `handle` serves any request; `instant(scheme)` is the server's hook
    for fresh hits.
    """

    def __init__(
        self,
        *,
        fetch: OriginFetch,
        functions: FunctionRunner | None = None,
        credentials: OriginCredentials | None = None,
        shields: OriginShields | None = None,
        pop: str = "LOC50-P1",
        where: Whereabouts | None = None,
        bounds: Bounds | None = None,
        store: DiskStore | None = None,
        metrics: EdgeMetrics | None = None,
        clock: Callable[[], float] = time.time,
        random_bytes: Callable[[int], bytes] = os.urandom,
        access_log: AccessLog | None = None,
    ) -> None:
        self.bounds = bounds if bounds is not None else Bounds()
        self.pop = pop
        self.where = where
        self.via = f"1.1 {sha256(pop.encode() + random_bytes(8)).hexdigest()[:32]}.cloudfront.net (CloudFront)"
        self.results: dict[str, int] = {}  # answers by X-Cache's first word, those of the hook not counted
        self._clock = clock
        self._random_bytes = random_bytes
        self._ids = request_ids(random_bytes)
        self._access_log = access_log
        self.metrics = metrics if metrics is not None else EdgeMetrics()
        self.cache = MemoryCache(self.bounds.cache_bytes_max)
        self.tiers = Tiers(self.cache, store)
        self._hot = HotPaths(
            clock=clock,
            ids=self._ids,
            pop=pop,
            values=self.metrics.registry.values,
            log=access_log.hit if access_log is not None else None,
            used=self.tiers.used if store is not None else None,
        )
        self.cache.on_drop = self._hot.forget
        self._poll: asyncio.TimerHandle | None = None
        self._triggers = Triggers(functions, via=self.via, ran=self.metrics.function)
        self._transfer = Transfer(
            asker=OriginAsker(
                fetch=fetch,
                triggers=self._triggers,
                metrics=self.metrics,
                via=self.via,
                credentials=credentials,
                shields=shields,
                clock=clock,
            ),
            tiers=self.tiers,
            bounds=self.bounds,
            clock=clock,
            via=self.via,
            metrics=self.metrics,
        )
        self._hosts = Hosts()

    # --- what it serves

    def load(
        self,
        distributions: Iterable[Distribution],
        invalidations: Mapping[str, Iterable[Invalidation]] | None = None,
        *,
        default: Distribution | None = None,
    ) -> None:
        """Serve these distributions from now on; `default` answers for every other Host.

        `invalidations` are by distribution id; those that are known already are skipped.
        """
        hosts = Hosts(distributions, default)
        self.cache.tags_from({id: each.tag_field for id, each in hosts.by_id.items() if each.tag_field})
        news = [self.tiers.invalidate(of, listed) for of, listed in (invalidations or {}).items()]
        if hosts != self._hosts:
            self._transfer.forget_remembered()
            self._hot.clear()
        elif any(news):
            self._hot.clear()
        self._hosts = hosts

    def serves(self, host: str) -> bool:
        """Whether a distribution answers for this Host (lower case, no port)."""
        return self._hosts.find(host) is not None

    def instant(self, scheme: str) -> Instant:
        """The hook for a server whose viewers come by `http` or `https`."""
        return self._hot.instant(scheme)

    @property
    def hot_hits(self) -> int:
        """How many requests the hook has answered."""
        return self._hot.hits

    def start(self) -> None:
        """From now on look for what other workers have invalidated, and note how much the cache holds."""
        if self.tiers.poll():
            self._hot.clear()
        self._hot.tidy()
        self.metrics.measure(self.tiers, self.pop)
        self._poll = asyncio.get_running_loop().call_later(POLL_S, self.start)

    async def close(self) -> None:
        """Stop what runs in the background."""
        if self._poll is not None:
            self._poll.cancel()
        await self._transfer.close()

    # --- the phases

    async def handle(self, request: Request) -> Response:
        """Serve one request. Raises only what reading the request's body raises."""
        started_at = self._clock()
        request_id = next(self._ids).decode()
        visit = receive(request, request_id, self._hosts, now=started_at, via=self.via, where=self.where)
        if isinstance(visit, Visit):
            refusal = refuse(visit, country=self.where.country if self.where else None, via=self.via)
            if refusal is not None:
                answer = await self._with_error_page(visit, refusal)
            elif visit.behavior.functions:
                answer = await self._serve_with_functions(visit)
            else:
                answer = await self._answer(visit)
                if answer.status >= 400:
                    answer = await self._with_error_page(visit, answer)
            if visit.behavior.response_headers is not None and answer.result != REDIRECT:
                draw = int.from_bytes(self._random_bytes(4), "big") / 2**32
                dress(visit, answer, pop=self.pop, started_at=started_at, now=self._clock(), draw=draw)
        else:
            answer = visit
        self.results[answer.result] = self.results.get(answer.result, 0) + 1
        size = self._count(visit if isinstance(visit, Visit) else None, answer)
        if self._access_log is not None:
            of = visit.distribution.id if isinstance(visit, Visit) else None
            answer.body = self._access_log.answer(started_at, request, answer, request_id, of, head_bytes=size)
        return viewer_response(answer, request_id=request_id, pop=self.pop)

    def refusal(self, status: int, text: str) -> Response:
        """The page for what the server refuses before it is a request."""
        request_id = next(self._ids).decode()
        answer = own_page(status, request_id, reason="malformed", via=self.via, detail=text)
        self._count(None, answer)
        return viewer_response(answer, request_id=request_id, pop=self.pop)

    async def shield(self, request: Request) -> Response:
        """Answer the edge of another location, as the shield of an origin (`shield`); the caller has verified that it
        is one. Raises nothing."""
        started_at = self._clock()
        hop = read_hop(request)
        distribution = None if hop is None else self._hosts.by_id.get(hop.distribution_id)
        behavior = None if hop is None or distribution is None else hop.behavior_of(distribution)
        if hop is None or distribution is None or behavior is None:
            return Response(409)  # it runs by another snapshot: for a moment it goes to the origin itself
        path, _, query = hop.request.target.partition("?")
        visit = visit_of(
            hop.request, hop.request_id, distribution, path=path, query=query, behavior=behavior, inner=True
        )
        visit.shielding = True
        answer = await self._answer(visit)
        self.metrics.shield(distribution, answer.result)
        return hop_response(answer, started_at=started_at, now=self._clock())

    def _count(self, visit: Visit | None, answer: Answer) -> int:
        """Count an answer; says about how many bytes its head has."""
        size = head_bytes(answer)
        distribution, behavior = (visit.distribution, visit.behavior) if visit is not None else (None, None)
        self.metrics.requests(distribution, behavior, answer.result).add()
        self.metrics.bytes(distribution, behavior).add(size + (answer.body.length or 0))
        return size

    async def _serve_with_functions(self, visit: Visit) -> Answer:
        """The answer to a request that is not refused, as the functions for viewers leave it."""
        if "viewer-request" in visit.behavior.functions:
            changed = await self._triggers.viewer_request(visit)
            if isinstance(changed, Answer):
                return changed if changed.result == GENERATED else await self._with_error_page(visit, changed)
            go_on_with(visit, changed)
        answer = await self._answer(visit)
        if answer.status >= 400:
            return await self._with_error_page(visit, answer)
        return await self._triggers.viewer_response(visit, answer)

    async def _answer(self, visit: Visit) -> Answer:
        transfer = self._transfer
        if visit.why_not is not None:
            return await transfer.pass_on(visit, visit.why_not)
        forwarded = transfer.asker.forwarded(visit, storing=True)
        while True:
            now = self._clock()
            entry = await self.tiers.find(visit.key, lambda names: variant_of(names, forwarded), now)
            if entry is not None:
                given: Answer | None = None
                if now < entry.fresh_until:
                    given = await self._hit(visit, forwarded, entry, now)
                elif now < entry.stale_while_until:
                    if visit.key not in transfer.flights:
                        transfer.spawn(transfer.lead(visit, forwarded, entry))
                    given = await self._stale(visit, forwarded, entry, "stale-while-revalidate")
                elif now < entry.retry_at:
                    given = await self._stale(visit, forwarded, entry, "stale-if-error")
                if given is not None:
                    return given
                if entry.gone:
                    continue  # its body could not be completed
            else:
                why = transfer.remembers(visit.key, now)
                if why is not None:
                    return await transfer.pass_on(visit, why, remembered=True)
                if visit.request.method == "HEAD":
                    return await transfer.pass_on(visit, Why.METHOD)
            flight = transfer.flights.get(visit.key)
            if flight is None and entry is None:
                landing: Landing | None = await transfer.lead(visit, forwarded, None)
            else:
                try:
                    landing = await self._landing(visit, forwarded, entry, flight, now)
                except TimeoutError:
                    assert entry is not None
                    stale = await self._stale(visit, forwarded, entry, "origin-slow")
                    if stale is None:
                        continue
                    return stale
            answer = await self._settle(visit, forwarded, entry, landing, followed=flight is not None)
            if answer is not None:
                return answer

    async def _landing(
        self, visit: Visit, forwarded: Headers, entry: Entry | None, flight: Flight | None, now: float
    ) -> Landing | None:
        """What the flight for this key comes to, led by this visit if there is none.

        Raises TimeoutError when there is a stale answer to give and the origin takes too long.
        """
        transfer = self._transfer
        stand_in = entry is not None and may_be_stale(entry, now, unreachable=True)
        if flight is not None:
            left_s = max(0.0, flight.started_at + self.bounds.stale_wait_s - now)
            return await flight.wait(left_s if stand_in else None)
        if not stand_in:
            return await transfer.lead(visit, forwarded, entry)
        task = transfer.spawn(transfer.lead(visit, forwarded, entry))
        done, _ = await asyncio.wait({task}, timeout=self.bounds.stale_wait_s)
        if not done:
            raise TimeoutError
        landing: Landing = task.result()
        return landing

    async def _settle(
        self, visit: Visit, forwarded: Headers, entry: Entry | None, landing: Landing | None, *, followed: bool
    ) -> Answer | None:
        """This visit's answer from what a flight has come to; None: look again."""
        transfer, request = self._transfer, visit.request
        if landing is None:
            return None
        if isinstance(landing, Trouble):
            if entry is not None and may_be_stale(entry, self._clock(), unreachable=landing.unreachable):
                return await self._stale(visit, forwarded, entry, "stale-if-error")
            return transfer.trouble(visit, landing, "uri-miss; collapsed" if followed else "uri-miss")
        if isinstance(landing, Private):
            return await transfer.pass_on(visit, landing.why, remembered=True) if followed else landing.answer
        now = self._clock()
        what = landing.entry if isinstance(landing, Stored) else landing
        result = landing.result
        note = landing.note
        if followed:
            fresh = now < landing.entry.fresh_until if isinstance(landing, Stored) else landing.freshness.fresh_s > 0
            if what.variance and what.variant != variant_of(what.variance, forwarded):
                return await transfer.pass_on(visit, Why.VARY) if visit.key in transfer.flights else None
            if not fresh:
                return await transfer.pass_on(visit, Why.NO_FRESHNESS)
            result = HIT if result == MISS else result
            note += "; collapsed"
        result = result_word(visit, what.status, result)
        if isinstance(landing, Stored):
            answer = await self._from_entry(
                visit, forwarded, landing.entry, now=now, result=result, note=note, fields=landing.fields
            )
            if answer is not None and landing.result == MISS and not followed and answer.age_s == 0:
                answer.age_s = None
            return answer
        if not landing.fill.whole:
            return await transfer.pass_on(visit, Why.TOO_LARGE)
        answer = from_fill(request, landing.status, landing.fields, landing.fill, result=result, note=note)
        answer.requested_at, answer.fresh_until = landing.requested_at, now + landing.freshness.fresh_s
        return answer

    async def _hit(self, visit: Visit, forwarded: Headers, entry: Entry, now: float) -> Answer | None:
        """A fresh answer; the next request like this one may be answered by the hook."""
        names = hot_names(visit, entry)
        result = result_word(visit, entry.status, HIT)
        if names is not None:
            self._hot.offer(
                scheme=visit.request.scheme,
                headers=visit.request.headers,
                target=visit.request.target,
                names=names,
                entry=entry,
                standalone=visit.distribution.standalone,
                policy=visit.behavior.response_headers,
                counters=(
                    self.metrics.requests(visit.distribution, visit.behavior, result),
                    self.metrics.bytes(visit.distribution, visit.behavior),
                ),
            )
        note = f"hit; ttl={int(entry.fresh_until - now)}"
        return await self._from_entry(visit, forwarded, entry, now=now, result=result, note=note)

    async def _stale(self, visit: Visit, forwarded: Headers, entry: Entry, detail: str) -> Answer | None:
        now = self._clock()
        note = f"hit; ttl={int(entry.fresh_until - now)}; detail={detail}"
        result = result_word(visit, entry.status, HIT)
        return await self._from_entry(visit, forwarded, entry, now=now, result=result, note=note)

    async def _from_entry(
        self,
        visit: Visit,
        forwarded: Headers,
        entry: Entry,
        *,
        now: float,
        result: str,
        note: str,
        fields: Fields | None = None,
    ) -> Answer | None:
        """The answer from an entry. None: a part of it is missing and the origin has another body by now."""
        parts = self._transfer.parts_of(visit, forwarded, entry) if isinstance(entry.body, Parts) else None
        answer = from_entry(visit.request, entry, now=now, result=result, note=note, parts=parts, fields=fields)
        answer.requested_at, answer.fresh_until = entry.requested_at, entry.fresh_until
        if isinstance(answer.body, PartsBody):
            try:
                await answer.body.prepare()
            except PartError as error:
                if error.changed:
                    self.tiers.drop(entry)
                    return None
                trouble = Trouble(status=502, result=ERROR, reason=error.reason, unreachable=True)
                return self._transfer.trouble(visit, trouble, "partial")
        return answer

    async def _with_error_page(self, visit: Visit, answer: Answer) -> Answer:
        """The distribution's own page in the place of an error (CustomErrorResponses)."""
        custom = visit.distribution.errors.get(answer.status)
        if custom is None or custom.page_path is None or custom.response_status is None:
            return answer
        path, _, query = custom.page_path.partition("?")
        request = Request(
            "HEAD" if visit.request.method == "HEAD" else "GET",
            custom.page_path,
            Headers([("Host", visit.request.headers.get("host") or visit.distribution.domain)]),
            scheme=visit.request.scheme,
            client_ip=visit.request.client_ip,
        )
        page = await self._answer(
            visit_of(request, visit.request_id, visit.distribution, path=path, query=query, inner=True)
        )
        if page.status != 200:
            await page.body.close()
            return answer
        await answer.body.close()
        page.status, page.result, page.status_note = custom.response_status, ERROR, answer.status_note
        return page
