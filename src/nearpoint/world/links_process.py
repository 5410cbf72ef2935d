"""The process of all links: a relay for each location and region, and the location proxy."""

from __future__ import annotations

import asyncio
import re
import urllib.parse
from functools import partial
from typing import Any

from nearpoint.telemetry.child import Child, Message, run_child
from nearpoint.world.geography import PLACES, find_place, nearest, rtt_ms
from nearpoint.world.links import Path, Relay
from nearpoint.world.proxy import Destination, Local, Outside, ProxyConnection, Unknown

LOOPBACK = "127.0.0.1"
AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
ACCESS_POINTS = "accesspoint.s3-global.amazonaws.com"  # by itself, an S3 endpoint whose buckets are the aliases
EDGE_SUFFIXES = (".cloudfront.net", f".{ACCESS_POINTS}")
# bucket.s3.REGION.amazonaws.com, s3.REGION.…, s3.dualstack.REGION.…, s3-REGION.… (AWS General Reference, S3 endpoints)
S3_REGION = re.compile(r"(?:^|\.)s3[.-](?:dualstack\.)?([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com$")


class Links:
    """Which way leads where. Faults apply to every path into their region."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._locations: tuple[str, ...] = tuple(config["locations"])
        self._regions: tuple[str, ...] = tuple(config["regions"])
        self._nodes: dict[str, dict[str, int]] = config["nodes"]
        self._control: dict[str, int] = config["control"]
        stores = {region: urllib.parse.urlsplit(url) for region, url in config["stores"].items()}
        self._stores = {region: (url.hostname or LOOPBACK, url.port or 80) for region, url in stores.items()}
        self.relays = {
            (location, region): Relay(
                Path(config["rtt_ms"][location][region]), partial(self._stores.__getitem__, region)
            )
            for location in self._locations
            for region in self._regions
        }
        # From one edge to another, which is the shield of an origin.
        self.shields = {
            (a, b): Relay(Path(rtt_ms(PLACES[a], PLACES[b])), partial(self._plain_port, b))
            for a, b in config["shields"]
        }
        # From where a client stands to the nearest edge, and to a region's S3 endpoint: made when first used.
        self._client_paths: dict[tuple[str, str], Path] = {}
        self._faults: dict[str, str] = {}
        self._edge_names: frozenset[str] = frozenset()

    def _plain_port(self, location: str) -> tuple[str, int]:
        return LOOPBACK, self._nodes[location]["http"]

    def set_faults(self, faults: dict[str, str]) -> None:
        """The regions that are broken now, and how; all others are whole."""
        self._faults = faults
        paths = [(region, relay.path) for (_, region), relay in self.relays.items()]
        paths += [(to, path) for (_, to), path in self._client_paths.items() if to in self._regions]
        for region, path in paths:
            if path.fault != faults.get(region):
                path.set_fault(faults.get(region))

    def set_edge_names(self, names: list[str]) -> None:
        """The custom domains that lead to the edge: names, or `*.` and a domain for all below it."""
        self._edge_names = frozenset(names)

    def _leads_to_edge(self, host: str) -> bool:
        names = self._edge_names
        if host.endswith(EDGE_SUFFIXES) or host == ACCESS_POINTS or host in names:
            return True
        labels = host.split(".")
        return any("*." + ".".join(labels[at:]) in names for at in range(1, len(labels)))

    def _path(self, place: str, to: str) -> Path:
        if (place, to) not in self._client_paths:
            path = Path(rtt_ms(PLACES[place], PLACES[to]))
            path.fault = self._faults.get(to) if to in self._regions else None
            self._client_paths[place, to] = path
        return self._client_paths[place, to]

    def resolve(self, location: str, host: str, tls: bool) -> Destination:
        """Where a name leads for a client at `location`. Every name of AWS ends here."""
        edge_name = self._leads_to_edge(host)
        if not (edge_name or host.endswith(AWS_DOMAINS) or host in ("amazonaws.com", "cloudfront.net")):
            return Outside()
        place = find_place(location)
        if place is None:
            return Unknown(message=f"No such place: {location}. Try one of: {', '.join(self._locations)}.")
        scheme = "https" if tls else "http"
        if edge_name:
            edge = place.name if place.name in self._locations else nearest(place, self._locations)
            path = self._near(place.name) if edge == place.name else self._edge_path(place.name, edge)
            return Local(address=(LOOPBACK, self._nodes[edge][scheme]), path=path)
        region = S3_REGION.search(host)
        if region is not None and region[1] in self._regions:
            return Local(address=(LOOPBACK, self._control[scheme]), path=self._path(place.name, region[1]))
        return Local(address=(LOOPBACK, self._control[scheme]), path=self._near(place.name))

    def _edge_path(self, place: str, edge: str) -> Path:
        key = (place, "edge:" + edge)
        if key not in self._client_paths:
            self._client_paths[key] = Path(rtt_ms(PLACES[place], PLACES[edge]))
        return self._client_paths[key]

    def _near(self, place: str) -> Path:
        """To something that is at hand: an edge in the same city, the control plane (whose distance nobody drills)."""
        key = (place, "near")
        if key not in self._client_paths:
            self._client_paths[key] = Path(0.0)
        return self._client_paths[key]


async def main(child: Child) -> None:
    """Relay, with the distances of the world, until the supervisor says stop."""
    links = Links(child.config)
    loop = asyncio.get_running_loop()

    def heard(message: Message) -> None:
        if "faults" in message:
            links.set_faults(message["faults"])
        if "edge_names" in message:
            links.set_edge_names(message["edge_names"])

    child.on_message(heard)
    for (location, region), relay in links.relays.items():
        await relay.start(child.listener(f"relay.{location}.{region}"))
    for (a, b), relay in links.shields.items():
        await relay.start(child.listener(f"shield.{a}.{b}"))
    server = await loop.create_server(lambda: ProxyConnection(links.resolve), sock=child.listener("proxy"))
    child.ready()
    await child.stopping.wait()
    server.close()


if __name__ == "__main__":
    run_child("links", main)
