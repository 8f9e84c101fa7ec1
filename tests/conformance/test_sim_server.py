# SPDX-License-Identifier: GPL-3.0-or-later
"""What the recordings do not show of the server: faults, call log, state file, releases, crashes."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from sim_process import Sim
from spdk_sim.catalogue import RELEASES

VERSION = ("spdk_get_version", None)


def fault(**rule: Any) -> list[str]:
    """The option for one fault rule."""
    return ["--fault", json.dumps(rule)]


def test_call_log_has_every_request_in_order_of_arrival(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Sim(tmp_path, "--call-log", str(log)) as sim:
        client = sim.client()
        client.result("spdk_get_version")
        client.all_at_once([("nope", {"a": 1}), ("bdev_get_bdevs", {})])
        client.send(b'[{"id":9,"method":"spdk_get_version"},{"id":10,"method":"framework_wait_init"}]')
        assert len(client.answer()) == 2
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines == [
        {"n": 1, "method": "spdk_get_version", "params": None, "batch": False},
        {"n": 2, "method": "nope", "params": {"a": 1}, "batch": False},
        {"n": 3, "method": "bdev_get_bdevs", "params": {}, "batch": False},
        {"n": 4, "method": "spdk_get_version", "params": None, "batch": True},
        {"n": 5, "method": "framework_wait_init", "params": None, "batch": True},
    ]


def test_delay_of_one_method(tmp_path: Path) -> None:
    with Sim(tmp_path, *fault(action="delay", method="bdev_get_bdevs", ms=200)) as sim:
        client = sim.client()
        began = time.monotonic()
        arrived = client.all_at_once([("bdev_get_bdevs", None), VERSION])
        assert [position for position, _answer in arrived] == [1, 0]
        assert time.monotonic() - began >= 0.2


def test_error_for_one_call(tmp_path: Path) -> None:
    rule = fault(action="error", method="bdev_malloc_create", call=2, code=-12, message="Cannot allocate memory")
    with Sim(tmp_path, *rule) as sim:
        client = sim.client()
        answers = []
        for name in "abc":
            params = {"name": name, "num_blocks": 8, "block_size": 512}
            answers.append(client.call("bdev_malloc_create", params).get("error"))
        assert answers == [None, {"code": -12, "message": "Cannot allocate memory"}, None]
        assert [bdev["name"] for bdev in client.result("bdev_get_bdevs")] == ["a", "c"]


def test_dropped_connection_means_executed_but_not_answered(tmp_path: Path) -> None:
    with Sim(tmp_path, *fault(action="drop", call=2)) as sim:
        client = sim.client()
        client.result("spdk_get_version")
        client.send(client.request("bdev_malloc_create", {"name": "a", "num_blocks": 8, "block_size": 512}))
        with pytest.raises(EOFError):
            client.answer()
        assert sim.client().result("bdev_get_bdevs")[0]["name"] == "a"


def test_hanging_call_is_neither_executed_nor_answered(tmp_path: Path) -> None:
    with Sim(tmp_path, *fault(action="hang", method="bdev_malloc_create", call=1)) as sim:
        client = sim.client()
        create = ("bdev_malloc_create", {"name": "a", "num_blocks": 8, "block_size": 512})
        client.send(client.request(*create))
        assert client.result("bdev_get_bdevs") == []
        assert client.result(*create) == "a"


@pytest.mark.parametrize(("when", "survives"), [("before", []), ("after", ["v"])])
def test_death_at_a_call(tmp_path: Path, when: str, survives: list[str]) -> None:
    state = ["--state", str(tmp_path / "state"), "--malloc", "disk1=64MiB"]
    with Sim(tmp_path, *state, *fault(action="die", method="bdev_lvol_create", call=1, when=when)) as sim:
        client = sim.client()
        client.result("bdev_lvol_create_lvstore", {"bdev_name": "disk1", "lvs_name": "L"})
        client.send(client.request("bdev_lvol_create", {"lvs_name": "L", "lvol_name": "v", "size_in_mib": 4}))
        with pytest.raises(EOFError):
            client.answer()
        assert sim.wait()[0] == 137
        sim.arguments = sim.arguments[: sim.arguments.index("--fault")]
        sim.start()
        assert [lvol["name"] for lvol in sim.client().result("bdev_lvol_get_lvols")] == survives


def test_faults_change_while_it_runs(tmp_path: Path) -> None:
    with Sim(tmp_path, "--control", str(tmp_path / "c")) as sim:
        client = sim.client()
        client.result("spdk_get_version")
        sim.control(op="fault", rule={"action": "error", "method": "spdk_get_version", "call": 2, "times": 100})
        assert client.call("spdk_get_version")["error"] == {"code": -32603, "message": "Internal error"}
        sim.control(op="clear")
        client.result("spdk_get_version")
        assert sim.control(op="calls") == {"calls": 3, "by_method": {"spdk_get_version": 3}}


def test_state_survives_sigkill_and_the_rest_does_not(tmp_path: Path) -> None:
    with Sim(tmp_path, "--state", str(tmp_path / "state"), "--malloc", "disk1=1GiB,4096") as sim:
        client = sim.client()
        uuid = client.result("bdev_get_bdevs")[0]["uuid"]
        client.result("bdev_malloc_create", {"name": "ram", "num_blocks": 65536, "block_size": 4096})
        for store, bdev in (("L", "disk1"), ("R", "ram")):
            client.result("bdev_lvol_create_lvstore", {"bdev_name": bdev, "lvs_name": store})
        for name in "abc":
            client.result("bdev_lvol_create", {"lvs_name": "L", "lvol_name": name, "size_in_mib": 8})
        client.result("bdev_lvol_snapshot", {"lvol_name": "L/a", "snapshot_name": "s"})
        client.result("bdev_lvol_delete", {"name": "L/b"})
        client.result("bdev_lvol_set_read_only", {"name": "L/c"})
        client.result("nvmf_create_transport", {"trtype": "TCP"})
        client.result("nvmf_create_subsystem", {"nqn": "nqn.2016-06.io.spdk:x"})
        before = client.result("bdev_lvol_get_lvols", {"lvs_name": "L"})
        store = client.result("bdev_lvol_get_lvstores", {"lvs_name": "L"})
        for _time in range(2):
            sim.kill()
            sim.start()
            client = sim.client()
            assert client.result("bdev_lvol_get_lvols") == before
            assert client.result("bdev_lvol_get_lvstores") == store
            assert client.result("bdev_get_bdevs")[0]["uuid"] == uuid
            assert client.result("nvmf_get_transports") == []
            assert len(client.result("nvmf_get_subsystems")) == 1
            assert not client.result("bdev_get_bdevs", {"name": "L/c"})[0]["supported_io_types"]["write"]
            assert (
                client.result("bdev_get_bdevs", {"name": "L/a"})[0]["driver_specific"]["lvol"]["base_snapshot"] == "s"
            )


def test_a_state_file_cut_off_in_the_middle_of_a_line_is_read_up_to_there(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Sim(tmp_path, "--state", str(state), "--malloc", "disk1=64MiB") as sim:
        client = sim.client()
        client.result("bdev_lvol_create_lvstore", {"bdev_name": "disk1", "lvs_name": "L"})
        for name in "ab":
            client.result("bdev_lvol_create", {"lvs_name": "L", "lvol_name": name, "size_in_mib": 4})
        sim.kill()
        state.write_bytes(state.read_bytes()[:-5])
        sim.start()
        assert [lvol["name"] for lvol in sim.client().result("bdev_lvol_get_lvols")] == ["a"]


def test_store_replaced_on_the_same_disk_does_not_inherit_lvols(tmp_path: Path) -> None:
    with Sim(tmp_path, "--state", str(tmp_path / "state"), "--malloc", "disk1=64MiB") as sim:
        client = sim.client()
        for name in ("old", "new"):
            client.result("bdev_lvol_create_lvstore", {"bdev_name": "disk1", "lvs_name": name})
            client.result("bdev_lvol_create", {"lvs_name": name, "lvol_name": name, "size_in_mib": 4})
            if name == "old":
                client.result("bdev_lvol_delete_lvstore", {"lvs_name": name})
        sim.kill()
        sim.start()
        assert [lvol["alias"] for lvol in sim.client().result("bdev_lvol_get_lvols")] == ["new/new"]


def test_raid_superblocks_survive(tmp_path: Path) -> None:
    disks = ["--malloc", "d0=64MiB", "--malloc", "d1=64MiB"]
    with Sim(tmp_path, "--state", str(tmp_path / "state"), *disks) as sim:
        client = sim.client()
        params = {"name": "r", "raid_level": "raid1", "base_bdevs": ["d0", "d1"], "superblock": True}
        client.result("bdev_raid_create", params)
        before = client.result("bdev_raid_get_bdevs", {"category": "all"})
        client.result("bdev_lvol_create_lvstore", {"bdev_name": "r", "lvs_name": "L"})
        sim.kill()
        sim.start()
        client = sim.client()
        assert client.result("bdev_raid_get_bdevs", {"category": "all"}) == before
        assert client.result("bdev_lvol_get_lvstores")[0]["base_bdev"] == "r"


def test_disks_of_the_command_line_appear_after_framework_start_init(tmp_path: Path) -> None:
    with Sim(tmp_path, "--wait-for-rpc", "--malloc", "disk1=64MiB") as sim:
        client = sim.client()
        assert client.call("bdev_get_bdevs")["error"]["code"] == -1
        client.result("framework_start_init")
        assert client.result("bdev_get_bdevs")[0]["name"] == "disk1"


CRASHES = {
    "delete lvol and store": (
        139,
        "rule 3",
        [("bdev_lvol_delete", {"name": "L/v"}), ("bdev_lvol_delete_lvstore", {"lvs_name": "L"})],
    ),
    "resize and delete": (
        134,
        "rule 4",
        [("bdev_lvol_resize", {"name": "L/v", "size_in_mib": 16}), ("bdev_lvol_delete", {"name": "L/v"})],
    ),
}


@pytest.mark.parametrize("what", CRASHES)
def test_what_kills_the_real_target_kills_the_simulator(tmp_path: Path, what: str) -> None:
    status, rule, requests = CRASHES[what]
    with Sim(tmp_path, "--malloc", "disk1=64MiB") as sim:
        client = sim.client()
        client.result("bdev_lvol_create_lvstore", {"bdev_name": "disk1", "lvs_name": "L"})
        client.result("bdev_lvol_create", {"lvs_name": "L", "lvol_name": "v", "size_in_mib": 4})
        with pytest.raises(EOFError):
            client.all_at_once(requests)
        ended, text = sim.wait()
        assert ended == status and rule in text


@pytest.mark.parametrize("release", RELEASES)
def test_release_is_announced(tmp_path: Path, release: str) -> None:
    year, month = map(int, release.split("."))
    with Sim(tmp_path, "--release", release) as sim:
        fields = sim.client().result("spdk_get_version")["fields"]
        assert (fields["major"], fields["minor"]) == (year, month)


def test_releases_before_26_05_have_no_batches_and_small_buffers(tmp_path: Path) -> None:
    with Sim(tmp_path, "--release", "26.01") as sim:
        client = sim.client()
        client.send(b'[{"id":1,"method":"spdk_get_version"}]')
        assert client.answer()["error"] == {"code": -32600, "message": "Invalid request"}
        client.send(b'{"id":1,"method":"bdev_get_bdevs","params":{"name":"%s"}}' % (b"x" * 2**15))
        with pytest.raises(EOFError):
            client.answer()


def test_large_estate_is_answered_quickly(tmp_path: Path) -> None:
    """1,000 lvols and as many subsystems; the bound is far above what it takes and far below anything quadratic."""
    with Sim(tmp_path, "--malloc", "disk1=100GiB", "--state", str(tmp_path / "state")) as sim:
        client = sim.client()
        client.result("bdev_lvol_create_lvstore", {"bdev_name": "disk1", "lvs_name": "L"})
        for start in range(0, 1000, 50):
            numbers = range(start, start + 50)
            client.all_at_once(
                [("bdev_lvol_create", {"lvs_name": "L", "lvol_name": str(n), "size_in_mib": 4}) for n in numbers]
                + [("nvmf_create_subsystem", {"nqn": f"nqn.2016-06.io.spdk:{n}"}) for n in numbers]
            )
        began = time.monotonic()
        assert len(client.result("bdev_get_bdevs")) == 1001
        assert len(client.result("nvmf_get_subsystems")) == 1001
        assert time.monotonic() - began < 2


def test_local_drive_keeps_its_store_over_a_restart(tmp_path: Path) -> None:
    attach = ("bdev_nvme_attach_controller", {"name": "disk1", "trtype": "PCIe", "traddr": "0000:81:00.0"})
    with Sim(tmp_path, "--nvme", "0000:81:00.0=1GiB", "--state", str(tmp_path / "state")) as sim:
        client = sim.client()
        assert client.result(*attach) == ["disk1n1"]
        trid = {"trtype": "PCIe", "traddr": "0000:81:00.0"}
        assert client.result("bdev_nvme_get_controllers")[0]["ctrlrs"][0]["trid"] == trid
        assert client.call(attach[0], attach[1] | {"name": "x", "traddr": "0000:82:00.0"})["error"]["code"] == -19
        client.result("bdev_lvol_create_lvstore", {"bdev_name": "disk1n1", "lvs_name": "L"})
        client.result("bdev_lvol_create", {"lvs_name": "L", "lvol_name": "v", "size_in_mib": 4})
        serial = client.result("bdev_nvme_get_controller_health_info", {"name": "disk1"})["serial_number"]
        sim.kill()
        sim.start()
        client = sim.client()
        assert client.result("bdev_get_bdevs") == []
        client.result(*attach)
        assert [lvol["alias"] for lvol in client.result("bdev_lvol_get_lvols")] == ["L/v"]
        assert client.result("bdev_nvme_get_controller_health_info", {"name": "disk1"})["serial_number"] == serial


def test_drive_without_an_address_kills_it(tmp_path: Path) -> None:
    with Sim(tmp_path) as sim:
        client = sim.client()
        with pytest.raises(EOFError):
            client.call("bdev_nvme_attach_controller", {"name": "d", "trtype": "PCIe", "traddr": ""})
        status, text = sim.wait()
        assert status == 139 and "17.2" in text


def test_remote_subsystems(tmp_path: Path) -> None:
    nqn = "nqn.2016-06.io.spdk:remote"
    address = {"trtype": "RDMA", "adrfam": "IPv4", "traddr": "192.0.2.1", "trsvcid": "4420"}
    table = tmp_path / "remote.json"
    table.write_text(json.dumps([{"nqn": nqn, "addresses": [address], "namespaces": [{"size": 2**30}]}]))
    options = ["--nvme-remote", str(table), "--control", str(tmp_path / "c"), "--state", str(tmp_path / "state")]
    attach = ("bdev_nvme_attach_controller", address | {"name": "R", "subnqn": nqn})
    with Sim(tmp_path, *options) as sim:
        client = sim.client()
        assert client.result(*attach) == ["Rn1"]
        params = {"name": "m", "raid_level": "raid1", "base_bdevs": ["Rn1", "missing"], "superblock": True}
        client.result("bdev_raid_create", params)
        sim.control(
            op="remote_call", method="nvmf_subsystem_remove_listener", params={"nqn": nqn, "listen_address": address}
        )
        assert client.result("bdev_nvme_get_controllers")[0]["ctrlrs"][0]["state"] == "failed"
        sim.control(
            op="remote_call", method="nvmf_subsystem_add_listener", params={"nqn": nqn, "listen_address": address}
        )
        assert client.result("bdev_nvme_get_controllers")[0]["ctrlrs"][0]["state"] == "enabled"
        second = {"nqn": f"{nqn}2", "addresses": [address], "namespaces": []}
        sim.control(op="remote", subsystems=[second])
        assert client.result(attach[0], attach[1] | {"name": "S", "subnqn": second["nqn"]}) == []


def test_vhost_sockets_are_real_with_a_directory(tmp_path: Path) -> None:
    with Sim(tmp_path, "-S", str(tmp_path), "--malloc", "disk1=64MiB") as sim:
        client = sim.client()
        client.result("vhost_create_blk_controller", {"ctrlr": "v0", "dev_name": "disk1"})
        virtual_machine = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        virtual_machine.connect(str(tmp_path / "v0"))
        while not client.result("vhost_get_controllers")[0]["sessions"]:
            pass
        client.send(client.request("vhost_delete_controller", {"ctrlr": "v0"}))
        assert client.result("vhost_get_controllers", {"name": "v0"})
        virtual_machine.close()
        assert client.answer() == {"jsonrpc": "2.0", "id": client.number - 1, "result": True}
        assert client.result("vhost_get_controllers") == []
        assert not (tmp_path / "v0").exists()
