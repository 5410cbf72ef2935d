"""Which processes make up a world, and what each is given. Pure: paths, ports and descriptors come in, specs go out."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import Any

from nearpoint.world.geography import PLACES, POPS, REGIONS, nearest, rtt_ms
from nearpoint.world.layout import Layout, World
from nearpoint.world.whereabouts import whereabouts

Ports = dict[str, int]
FOREIGN_SIGNING_REGION = "us-east-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """A child: its command (`{config}` stands for its configuration file), configuration and sockets.

    `sockets` maps the name that the child knows a listening socket by to its name in `socket_names`.
    """

    name: str
    command: tuple[str, ...]
    config: dict[str, Any] = field(default_factory=dict)
    sockets: dict[str, str] = field(default_factory=dict)
    channel: bool = True
    config_text: str | None = None


def socket_names(world: World) -> list[str]:
    """Every listening socket of the world. The supervisor opens them, so that a child that dies loses no connection."""
    names = ["proxy", "admin", "control.https", "control.http", "replication"]
    names += [_store_socket(world, region) for region in world.regions]
    names += [f"relay.{location}.{region}" for location in world.locations for region in world.regions]
    names += [f"shield.{a}.{b}" for b in sorted(set(shields(world).values())) for a in world.locations if a != b]
    names += [f"node.{location}.{scheme}" for location in world.locations for scheme in ("https", "http")]
    return names


def embedded_regions(world: World) -> list[str]:
    """The regions whose store is a child of this world."""
    return [region for region in world.regions if world.stores[region].endpoint is None]


def shields(world: World) -> dict[str, str]:
    """The location that is the origin shield in each of the world's regions: the nearest."""
    return {region: nearest(PLACES[region], tuple(world.locations)) for region in world.regions}


def _shield_ways(world: World, ports: Ports, location: str) -> dict[str, int | None]:
    """For each AWS Region the port that leads to its shield, which is that of the nearest region of this world."""
    standing = shields(world)
    ways: dict[str, int | None] = {}
    for region, place in REGIONS.items():
        there = standing[nearest(place, tuple(world.regions))]
        ways[region] = None if there == location else ports[f"shield.{location}.{there}"]
    return ways


def _store_socket(world: World, region: str) -> str:
    return f"{'store' if world.stores[region].endpoint is None else 'gateway'}.{region}"


def store_endpoint(world: World, ports: Ports, region: str) -> str:
    """The address of a region's store: the embedded one, or the gateway of the one that was given."""
    return f"http://127.0.0.1:{ports[_store_socket(world, region)]}"


def signing_region(world: World, region: str) -> str:
    """An embedded store knows its own region's name; others are asked as S3 of us-east-1, which most expect."""
    return region if world.stores[region].endpoint is None else FOREIGN_SIGNING_REGION


def nats_url(world: World, ports: Ports) -> str:
    """Where NATS listens, with its password: never to be logged."""
    return f"nats://nearpoint:{world.nats_password}@127.0.0.1:{ports['nats']}"


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


def pop_name(location: str) -> str:
    """What X-Amz-Cf-Pop says there: the airport code of the city, in CloudFront's form."""
    code = location if location in POPS else nearest(PLACES[location], tuple(POPS))
    return f"{code}50-P1"


def _python(module: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, "--config", "{config}")


def _nats(layout: Layout, world: World, ports: Ports, executable: str) -> ProcessSpec:
    text = f"""\
listen: "127.0.0.1:{ports["nats"]}"
server_name: "nearpoint"
logtime_utc: true
max_payload: 8MB
authorization {{ user: "nearpoint", password: "{world.nats_password}" }}
jetstream {{ store_dir: {json.dumps(str(layout.state))}, sync_interval: always, max_memory_store: 64MB }}
"""
    return ProcessSpec(name="nats", command=(executable, "-c", "{config}"), channel=False, config_text=text)


def _stores(layout: Layout, world: World) -> list[ProcessSpec]:
    return [
        ProcessSpec(
            name=f"store-{region}",
            command=_python("nearpoint.bucket"),
            config={
                "region": region,
                "folder": str(layout.store(region)),
                "account_id": world.account_id,
                "access_key_id": world.stores[region].access_key_id,
                "secret_key": world.stores[region].secret_key,
            },
            sockets={"http": f"store.{region}"},
        )
        for region in embedded_regions(world)
    ]


def _gateways(world: World, ports: Ports) -> list[ProcessSpec]:
    """One in front of each store that is not this world's own."""
    specs = []
    for region, access in world.stores.items():
        if access.endpoint is not None and region in world.regions:
            store = {
                "endpoint": access.endpoint,
                "access_key_id": access.access_key_id,
                "secret_key": access.secret_key,
                "signing_region": FOREIGN_SIGNING_REGION,
            }
            specs.append(
                ProcessSpec(
                    name=f"gateway-{region}",
                    command=_python("nearpoint.gateway"),
                    config={"region": region, "store": store, "nats_url": nats_url(world, ports)},
                    sockets={"http": f"gateway.{region}"},
                )
            )
    return specs


def _links(world: World, ports: Ports) -> ProcessSpec:
    shielded = [(a, b) for b in sorted(set(shields(world).values())) for a in world.locations if a != b]
    return ProcessSpec(
        name="links",
        command=_python("nearpoint.world.links_process"),
        config={
            "locations": list(world.locations),
            "regions": list(world.regions),
            "stores": {region: store_endpoint(world, ports, region) for region in world.regions},
            "control": {scheme: ports[f"control.{scheme}"] for scheme in ("https", "http")},
            "nodes": {
                location: {scheme: ports[f"node.{location}.{scheme}"] for scheme in ("https", "http")}
                for location in world.locations
            },
            "rtt_ms": {
                location: {region: rtt_ms(PLACES[location], PLACES[region]) for region in world.regions}
                for location in world.locations
            },
            "shields": shielded,
        },
        sockets=_same(
            "proxy",
            *(f"relay.{a}.{b}" for a in world.locations for b in world.regions),
            *(f"shield.{a}.{b}" for a, b in shielded),
        ),
    )


def _stores_config(world: World, ports: Ports) -> dict[str, Any]:
    return {
        region: {
            "endpoint": store_endpoint(world, ports, region),
            "access_key_id": world.stores[region].access_key_id,
            "secret_key": world.stores[region].secret_key,
            "signing_region": signing_region(world, region),
            "kind": "embedded" if world.stores[region].endpoint is None else "gateway",
        }
        for region in world.regions
    }


def _control(layout: Layout, world: World, ports: Ports) -> ProcessSpec:
    return ProcessSpec(
        name="control",
        command=_python("nearpoint.world.control"),
        config={
            "account_id": world.account_id,
            "access_key_id": world.access_key_id,
            "secret_key": world.secret_key,
            "session_secret": world.session_secret,
            "nats_url": nats_url(world, ports),
            "ca_dir": str(layout.ca),
            "packages_dir": str(layout.packages),
            "stores": _stores_config(world, ports),
            "token": world.admin_token,
        },
        sockets={"https": "control.https", "http": "control.http"},
    )


def _nodes(layout: Layout, world: World, ports: Ports, workers: int) -> list[ProcessSpec]:
    specs = []
    names = [f"node-{number + 1}" for number in range(min(workers, len(world.locations)))]
    for number, name in enumerate(names):
        locations = world.locations[number::workers]
        specs.append(
            ProcessSpec(
                name=name,
                command=_python("nearpoint.node"),
                config={
                    "nats_url": nats_url(world, ports),
                    "ca_dir": str(layout.ca),
                    "certificates_dir": str(layout.certificates),
                    "packages_dir": str(layout.packages),
                    "cache_dir": str(layout.cache / name),
                    "others": [other for other in names if other != name],
                    "function_logs_dir": str(layout.function_logs),
                    "aws_api_port": ports["control.http"],
                    "stores": _stores_config(world, ports),
                    "locations": {
                        location: {
                            "pop": pop_name(location),
                            "where": whereabouts(PLACES[location]),
                            "shields": _shield_ways(world, ports, location),
                            "relays": {region: ports[f"relay.{location}.{region}"] for region in world.regions},
                        }
                        for location in locations
                    },
                },
                sockets=_same(*(f"node.{location}.{scheme}" for location in locations for scheme in ("https", "http"))),
            )
        )
    return specs


def _replication(layout: Layout, world: World, ports: Ports) -> ProcessSpec:
    """Copies between regions, each copier from where its region is, over the links."""
    return ProcessSpec(
        name="replication",
        command=_python("nearpoint.replication"),
        config={
            "stores": _stores_config(world, ports),
            "relays": {
                here: {there: ports[f"relay.{here}.{there}"] for there in world.regions} for here in world.regions
            },
            "token": world.admin_token,
            "folder": str(layout.replication),
        },
        sockets={"http": "replication"},
    )


def plan(layout: Layout, world: World, ports: Ports, *, nats_executable: str, node_workers: int) -> list[ProcessSpec]:
    """Every child of the world, in the order of starting. `ports` has one for each of `socket_names` and for `nats`."""
    return [
        _nats(layout, world, ports, nats_executable),
        _control(layout, world, ports),
        *_nodes(layout, world, ports, node_workers),
        _links(world, ports),
        _replication(layout, world, ports),
        *_stores(layout, world),
        *_gateways(world, ports),
    ]
