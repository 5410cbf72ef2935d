"""The data folder: secrets readable by the owner alone, one world at a time, settings that only grow."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from nearpoint.world.layout import (
    Layout,
    StoreAccess,
    WorldError,
    is_running,
    load_world,
    open_world,
    save_world,
    take_lock,
)
from nearpoint.world.processes import plan, socket_names


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "data")
    made.make()
    return made


def test_secrets_are_random_private_and_kept(layout: Layout) -> None:
    world = open_world(layout, regions=("us-east-1",), edges=("FRA",), stores={})
    other = open_world(layout, regions=("us-east-1",), edges=("FRA",), stores={})
    assert world.secret_key != other.secret_key
    save_world(layout, world)
    assert stat.S_IMODE(layout.world_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(layout.data.stat().st_mode) == 0o700
    assert load_world(layout) == world
    secrets = (world.secret_key, world.session_secret, world.nats_password, world.admin_token)
    shown = repr((world, StoreAccess(access_key_id="own", secret_key=world.secret_key)))
    assert not [secret for secret in secrets if secret in shown]


def test_regions_and_edges_are_added_never_removed(layout: Layout) -> None:
    own = StoreAccess(access_key_id="a", secret_key="b", endpoint="http://127.0.0.1:8333")
    save_world(layout, open_world(layout, regions=("us-east-1", "eu-west-1"), edges=("FRA",), stores={}))
    before = load_world(layout)
    after = open_world(layout, regions=("ap-northeast-1",), edges=(), stores={"eu-west-1": own})
    assert before is not None
    assert after.regions == ("us-east-1", "eu-west-1", "ap-northeast-1")
    assert after.edges == ("FRA",)
    assert after.stores["us-east-1"] == before.stores["us-east-1"]
    assert after.stores["eu-west-1"] == own
    assert after.locations == ("us-east-1", "eu-west-1", "ap-northeast-1", "FRA")


def test_a_folder_serves_one_world_at_a_time(layout: Layout) -> None:
    assert not is_running(layout)
    lock = take_lock(layout)
    assert is_running(layout)
    with pytest.raises(WorldError, match="already running"):
        take_lock(layout)
    os.close(lock)
    assert not is_running(layout)


def test_a_damaged_file_is_one_clear_line(layout: Layout) -> None:
    layout.world_file.write_text("{")
    with pytest.raises(WorldError, match=r"world\.json is damaged"):
        load_world(layout)


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorldError, match="cannot be used"):
        Layout(tmp_path / "file" / "data").make()


def test_every_socket_has_one_process_and_secrets_go_where_they_are_needed(layout: Layout) -> None:
    own = StoreAccess(access_key_id="a", secret_key="b", endpoint="http://127.0.0.1:8333")
    world = open_world(layout, regions=("us-east-1", "eu-west-1"), edges=("FRA", "SIN"), stores={"eu-west-1": own})
    ports = {name: 1024 + at for at, name in enumerate([*socket_names(world), "nats"])}
    specs = plan(layout, world, ports, nats_executable="nats-server", node_workers=2)
    served = [name for spec in specs for name in spec.sockets.values()]
    assert sorted([*served, "admin"]) == sorted(socket_names(world))
    assert [spec.name for spec in specs] == [
        *("nats", "control", "node-1", "node-2", "links", "replication", "store-us-east-1", "gateway-eu-west-1")
    ]
    by_name = {spec.name: spec for spec in specs}
    assert world.secret_key not in repr(by_name["links"])
    assert world.secret_key not in repr(by_name["store-us-east-1"])
    gateway = f"http://127.0.0.1:{ports['gateway.eu-west-1']}"
    assert by_name["links"].config["stores"]["eu-west-1"] == gateway
    assert by_name["gateway-eu-west-1"].config["store"]["endpoint"] == "http://127.0.0.1:8333"
