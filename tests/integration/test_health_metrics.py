# SPDX-License-Identifier: GPL-3.0-or-later
"""Health, statistics and metrics by ansible-playbook, of storage nodes and of a compute node."""

from __future__ import annotations

from contextlib import closing

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._drive_health import THRESHOLDS
from ansible_collections.excloud.diskengine.plugins.module_utils._health import read_health
from ansible_collections.excloud.diskengine.plugins.module_utils._rpc import Client
from prometheus_client.parser import text_string_to_metric_families
from support.ansible import play, run_playbook
from support.documented import differences, own_keys, returned
from support.estate import make_estate, serial
from support.targets import free_port, is_real

NQN = "nqn.2024-01.io.excloud:health."


def attach_self(target, controllers):
    """Give a target that many controllers of its own subsystems, over TCP on loopback."""
    address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(free_port())}
    target.call("nvmf_create_transport", {"trtype": "TCP"})
    for number in range(controllers):
        nqn = {"nqn": f"{NQN}{number}"}
        target.call("nvmf_create_subsystem", {**nqn, "allow_any_host": True})
        target.call("nvmf_subsystem_add_listener", {**nqn, "listen_address": address})
        params = {"name": f"nvme{number}", "subnqn": nqn["nqn"], **address}
        target.call("bdev_nvme_attach_controller", params)


def entry_point(name, **variables):
    """A task that runs an entry point of the role."""
    include = {"name": "excloud.diskengine.storage_node", "tasks_from": name}
    return {"name": name, "ansible.builtin.include_role": include, "vars": variables}


def run(target, *tasks, dsn="", **options):
    """Run tasks on the host storage-1."""
    settings = {"storage_node_socket": target.socket, "storage_node_dsn": dsn}
    defaults = {"group/excloud.diskengine.spdk": {"socket": target.socket}}
    return run_playbook(
        play(*tasks, hosts="storage-1", module_defaults=defaults),
        {"all": {"hosts": {"storage-1": settings}}},
        **options,
    )


def metrics(path):
    """Every sample in a file: {(name, values of its labels in their order): value}."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(path.read_text(encoding="utf-8"))
        for sample in family.samples
    }


def health_column(conn):
    return dict(conn.execute("SELECT serial, health FROM diskengine.disk").fetchall())


def test_health_of_disks_goes_to_their_rows(make_site):
    """On any target: a disk that is not there is unknown, a controller of a remote one is none, and states stay."""
    site = make_site(disks_per_node=2, lvols=2)
    names = [serial("storage-1", number) for number in range(2)]
    attach_self(site.target, 2)
    site.conn.execute("UPDATE diskengine.disk SET state = 'RETIRED', health = 'ok' WHERE serial = %s", [names[1]])
    before = site.conn.execute("SELECT id, state, revision FROM diskengine.disk ORDER BY id").fetchall()
    site.target.call("bdev_nvme_disable_controller", {"name": "nvme1"})
    task = entry_point("health")
    check = run(site.target, task, dsn=site.dsn, check=True)
    assert check.rc == 0, check.output
    assert set(health_column(site.conn).values()) == {None, "ok"}
    done = run(site.target, task, task, dsn=site.dsn)
    assert done.rc == 0, done.output
    assert done.changed == check.changed == {"storage-1": 1}
    assert health_column(site.conn) == {names[0]: "unknown", names[1]: "ok"}
    assert site.conn.execute("SELECT id, state, revision FROM diskengine.disk ORDER BY id").fetchall() == before
    health = done.results("Read the health of the drives")[0]
    documented = returned("spdk_health_info")
    assert not differences(documented, own_keys("spdk_health_info", health), failed=False, check=False, where="health")
    first, second = health["controllers"]
    assert (first["health"], first["usable_paths"], first["bdf"], first["log"]) == ("ok", 1, "", None)
    assert (second["health"], second["paths"][0]["state"]) == ("critical", "disabled")
    asked = {call["method"] for call in site.target.recorder.requests}
    assert "bdev_nvme_get_controller_health_info" not in asked  # a node that hangs would keep the answer
    assert site.mutations() == []


@pytest.mark.skipif(is_real(), reason="needs local drives, which only the simulator has without hardware")
def test_health_of_local_drives(make_target, conn, dsn):
    drives = [f"0000:0{number}:00.0" for number in range(1, 4)]
    target = make_target([option for bdf in drives for option in ("--nvme", f"{bdf}=64MiB")])
    estate = make_estate(conn, nodes=1, disks_per_node=3, lvols=0)
    for bdf, disk in zip(drives, estate.disks.values()):
        (bdev,) = target.call("bdev_nvme_attach_controller", {"name": bdf[:7], "trtype": "PCIe", "traddr": bdf})
        data = target.call("bdev_get_bdevs", {"name": bdev})[0]["driver_specific"]["nvme"][0]["ctrlr_data"]
        identity = {"id": disk, "serial": data["serial_number"], "bdf": bdf}
        conn.execute("UPDATE diskengine.disk SET serial = %(serial)s, bdf = %(bdf)s WHERE id = %(id)s", identity)
    target.control("health", drive=drives[1], log={"temperature_celsius": 61, "percentage_used": 70})
    target.control("remote_call", method="nvmf_delete_subsystem", params={"nqn": data["subnqn"]})  # the last one dies
    sooner = entry_point("health", storage_node_health_thresholds={"temperature_warning": 60})
    done = run(target, entry_point("health"), sooner, dsn=dsn)
    assert done.rc == 0, done.output
    records = done.results("Record the health of the disks")
    assert [[row["outcome"] for row in record["results"]] for record in records] == [
        ["changed", "changed", "changed"],
        ["unchanged", "changed", "unchanged"],
    ]
    rows = conn.execute("SELECT state, health FROM diskengine.disk ORDER BY id").fetchall()
    assert rows == [("NEW", "ok"), ("NEW", "warning"), ("NEW", "critical")]
    (ailing,) = done.results("Report the drives that need attention")[1:]
    assert "the temperature is 61 degrees Celsius, warning from 60 degrees Celsius on" in str(ailing["msg"])
    target.kill()
    gone = run(target, entry_point("health"), dsn=dsn)
    assert gone.rc != 0 and "Traceback" not in gone.output
    assert "something else serves this socket" in gone.failure
    assert set(health_column(conn).values()) == {"unknown"}


def test_metrics_of_a_target(target, tmp_path):
    target.call("bdev_lvol_create", {"lvs_name": "lvs-0", "lvol_name": "7", "size_in_mib": 12})
    attach_self(target, 1)
    path = tmp_path / "collected" / "diskengine.prom"
    write = entry_point("metrics", storage_node_metrics_path=str(path), storage_node_metrics_drift={"missing": 2})
    check = run(target, write, check=True, diff=True)
    assert check.rc == 0, check.output
    assert check.result("Write the metrics")["changed"] and not path.parent.exists()
    assert 'diskengine_target_up{node="storage-1"} 1' in check.result("Write the metrics")["diff"]["after"]
    statistics = {"excloud.diskengine.spdk_iostat_info": {"bdevs": ["disk-lvs-0", "lvs-0/7"]}}
    done = run(target, write, {"name": "Statistics", **statistics})
    assert done.rc == 0, done.output
    assert target.recorder.mutations == []
    found = metrics(path)
    assert len(found) == done.result("Write the metrics")["samples"]
    (lvol,) = target.call("bdev_lvol_get_lvols")
    (store,) = target.call("bdev_lvol_get_lvstores")
    labels = ("storage-1", "lvs-0", store["uuid"], "disk-lvs-0")
    for family, clusters in (("size", store["total_data_clusters"]), ("free", store["free_clusters"]), ("used", 3)):
        assert found[(f"diskengine_lvstore_{family}_bytes", *labels)] == clusters * store["cluster_size"]
    assert found[("diskengine_lvstore_lvols", *labels)] == 1
    assert found["diskengine_nvme_health", "storage-1", "nvme0", "", "", "ok"] == 1
    assert found["diskengine_drift_objects", "storage-1", "missing"] == 2
    disk, volume = done.result("Statistics")["bdevs"]
    for bdev, lvstore, name in ((disk, "", ""), (volume, "lvs-0", "7")):
        for operation in ("read", "write", "unmap", "copy"):
            where = ("storage-1", bdev["name"], lvstore, name, operation)
            assert found[("diskengine_bdev_bytes_total", *where)] == bdev[operation]["bytes"]
            assert found[("diskengine_bdev_operation_seconds_total", *where)] == bdev[operation]["seconds"]
    assert volume["name"] == lvol["uuid"]
    # What a real program did to create the lvstore shows; nothing is simulated of that.
    assert (disk["write"]["operations"] > 0) == (0 < disk["write"]["seconds"] < 60) == is_real()


def test_a_target_that_is_gone_or_not_started(make_target, tmp_path):
    waiting = make_target(["--wait-for-rpc"])
    path = tmp_path / "diskengine.prom"
    metrics_of = {"path": str(path), "node": "n"}
    tasks = [
        {"name": module, f"excloud.diskengine.{module}": options, "ignore_errors": True}
        for module, options in (
            ("spdk_health_info", {}),
            ("spdk_iostat_info", {}),
            ("spdk_metrics", metrics_of),
            ("spdk_metrics", {**metrics_of, "socket": str(tmp_path / "none")}),
        )
    ]
    done = run(waiting, *tasks)
    assert "Traceback" not in done.output
    messages = [result["msg"] for result in done.results()]
    assert ["waits for framework_start_init" in message for message in messages] == [True, True, True, False]
    assert "there is no socket" in messages[-1]
    assert metrics(path) == {("diskengine_target_up", "n"): 0}


class Ward:
    """A compute node with two volumes, each a mirror behind a vhost controller."""

    def __init__(self, fleet, path):
        self.fleet, self.target, self.path = fleet, fleet.compute, path
        done = fleet.site()
        assert done.rc == 0, done.output
        self.legs = fleet.rows("v_lvol")
        self.first, self.second = fleet.estate.volumes

    def look(self):
        """Run both entry points; return the health of the volumes by id, what the module returned, and the metrics."""
        self.fleet.clear()
        role = {"name": "excloud.diskengine.compute_node"}
        tasks = [
            {"name": entry, "ansible.builtin.include_role": {**role, "tasks_from": entry}}
            for entry in ("health", "metrics")
        ]
        settings = {"dsn": self.fleet.dsn, "socket": self.target.socket, "metrics_path": str(self.path)}
        hosts = {"compute-1": {f"compute_node_{name}": value for name, value in settings.items()}}
        done = run_playbook(play(*tasks, hosts="compute-1"), {"all": {"hosts": hosts}})
        assert done.rc == 0 and not self.fleet.sent(), done.output
        health = done.result("Read the health of mirrors, paths and vhost controllers")
        documented = returned("spdk_health_info")
        own = own_keys("spdk_health_info", health)
        assert not differences(documented, own, failed=False, check=False, where="health")
        volumes = done.result("Keep the health of the volumes")["ansible_facts"]["compute_node_volumes"]
        return {each["volume"]: each for each in volumes}, health, metrics(self.path)

    def now(self, kind):
        """What the module would say of this kind at once, by name."""
        with Client(self.target.direct, 60) as client:
            return {each["name"]: each for each in read_health(client, THRESHOLDS)[kind]}

    def export(self, verb, leg):
        """Add or remove the listener of a leg."""
        (listener,) = leg["listeners"]
        address = {name: str(listener[name]) for name in ("trtype", "adrfam", "traddr", "trsvcid")}
        method = f"nvmf_subsystem_{verb}_listener"
        self.fleet.targets[leg["node"]].call(method, {"nqn": leg["nqn"], "listen_address": address})

    def legs_of(self, volume):
        return [leg for leg in self.legs if leg["volume_id"] == volume]

    def raids(self):
        return {each["name"]: each for each in self.target.call("bdev_raid_get_bdevs", {"category": "all"})}

    def states(self):
        return [path["state"] for each in self.target.call("bdev_nvme_get_controllers") for path in each["ctrlrs"]]


def test_health_of_a_compute_node(make_fleet, tmp_path):
    """Each condition that a mirror, a path and a vhost controller can be in, as facts and for Prometheus."""
    ward = Ward(make_fleet(2), tmp_path / "node.prom")
    target, fleet = ward.target, ward.fleet
    first, second = (f"raid_{volume}" for volume in (ward.first, ward.second))
    with closing(fleet.connect(fleet.estate.mappings[0])):
        volumes, health, found = ward.look()
    assert [(each["condition"], each["health"], each["reasons"]) for each in volumes.values()] == [
        ("in_sync", "ok", []),
        ("in_sync", "ok", []),
    ]
    assert [each["usable_paths"] for each in health["controllers"]] == [1, 1, 1, 1]
    assert [len(each["sessions"]) for each in health["vhosts"]] == [1, 0]
    assert found["diskengine_vhost_sessions", "compute-1", f"vhost{fleet.estate.mappings[0]}"] == 1
    assert found["diskengine_raid_condition", "compute-1", first, "raid1", "in_sync"] == 1

    # A leg is taken out and comes back, slowly. Its name and UUID are forgotten meanwhile; the rows know it.
    target.call("bdev_raid_set_options", {"process_max_bandwidth_mb_sec": 1})
    lost = ward.raids()[first]["base_bdevs_list"][1]["name"]
    target.call("bdev_raid_remove_base_bdev", {"name": lost})
    fleet.until(lambda: ward.raids()[first]["num_base_bdevs_operational"] == 1)
    volumes, health, found = ward.look()
    (leg,) = [each for each in volumes[ward.first]["legs"] if not each["present"]]
    assert (leg["bdev"], volumes[ward.first]["condition"]) == (lost, "degraded")
    assert volumes[ward.second]["health"] == "ok"
    assert volumes[ward.first]["reasons"][0].endswith(f"; it lacks lvol {leg['lvol_id']} on {leg['node']}")
    assert found["diskengine_raid_members_present", "compute-1", first, "raid1"] == 1
    target.call("bdev_raid_add_base_bdev", {"raid_bdev": first, "base_bdev": lost})
    rebuilt = ward.now("raids")[first]
    assert (rebuilt["condition"], rebuilt["health"], rebuilt["rebuilding"]) == ("rebuilding", "warning", lost)
    assert 0 <= rebuilt["percent"] < 100 and rebuilt["reasons"][0].endswith(f"({rebuilt['percent']} %)")

    # A path that is lost is seen while the mirror still counts on it. Both legs at once, and it is stuck.
    one, other = ward.legs_of(ward.second)
    ward.export("remove", one)
    fleet.until(lambda: "reconnect_is_delayed" in ward.states())
    waits = ward.now("raids")[second]
    assert (waits["condition"], waits["health"]) == ("in_sync", "warning")
    assert [each["usable_paths"] for each in ward.now("controllers").values()].count(0) == 1
    ward.export("remove", other)
    fleet.until(lambda: ward.states().count("deleting") == 2)

    # A controller is disabled, and one whose path has no time to come back has failed.
    storage, nqn = fleet.targets["storage-1"], {"nqn": f"{NQN}far"}
    address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(free_port())}
    storage.call("nvmf_create_subsystem", {**nqn, "allow_any_host": True})
    storage.call("nvmf_subsystem_add_listener", {**nqn, "listen_address": address})
    target.call("bdev_nvme_attach_controller", {"name": "far", "subnqn": nqn["nqn"], **address})
    storage.call("nvmf_delete_subsystem", nqn)
    disabled = lost.removesuffix("n1")
    target.call("bdev_nvme_disable_controller", {"name": disabled})
    fleet.until(lambda: {"failed", "disabled"} <= set(ward.states()))
    volumes, health, found = ward.look()
    states = {each["name"]: (each["state"], each["health"]) for each in health["controllers"]}
    assert states["far"] == ("failed", "critical") and states[disabled] == ("disabled", "critical")
    assert volumes[ward.first]["health"] == "critical"
    stuck = volumes[ward.second]
    assert (stuck["condition"], stuck["health"]) == ("stalled", "critical")
    assert stuck["reasons"][0].startswith("its mirror is stalled: no member of it can be reached")
    assert sorted(stuck["reasons"][1:]) == sorted(
        f"lvol {leg['id']} on {leg['node']} has 0 usable of 1 paths" for leg in (one, other)
    )
    assert found["diskengine_raid_condition", "compute-1", second, "raid1", "stalled"] == 1
    ups = {key[2]: value for key, value in found.items() if key[0] == "diskengine_nvme_path_up"}
    assert sorted(ups.values()) == [0, 0, 0, 0, 1] and ups["far"] == ups[disabled] == 0
    if target.is_running():
        target.kill()  # it would not end by itself
