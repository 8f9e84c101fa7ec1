# SPDX-License-Identifier: GPL-3.0-or-later
"""Health, statistics and metrics by ansible-playbook, of controllers that every target can have and of drives."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.ansible import play, run_playbook
from support.documented import differences, own_keys, returned
from support.estate import make_estate, serial
from support.targets import free_port, is_real

NQN = "nqn.2024-01.io.excloud:health."
SAYS_NOTHING = "it reports neither a temperature nor its spare capacity, as a target made of software does"


def attach_self(target, *serials):
    """Give a target controllers of its own subsystems, over TCP on loopback, each with this serial number."""
    address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(free_port())}
    target.call("nvmf_create_transport", {"trtype": "TCP"})
    for number, name in enumerate(serials):
        nqn = {"nqn": f"{NQN}{number}"}
        target.call("nvmf_create_subsystem", {**nqn, "serial_number": name, "allow_any_host": True})
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
    """On any target: disks are found by serial, one that is not there is unknown, and states stay."""
    site = make_site(disks_per_node=3, lvols=2)
    names = [serial("storage-1", number) for number in range(3)]
    attach_self(site.target, names[0], names[1])
    site.conn.execute("UPDATE diskengine.disk SET state = 'FAULTY', health = 'ok' WHERE serial = %s", [names[1]])
    site.conn.execute("UPDATE diskengine.disk SET state = 'RETIRED', health = 'ok' WHERE serial = %s", [names[2]])
    before = site.conn.execute("SELECT id, state, revision FROM diskengine.disk ORDER BY id").fetchall()
    site.target.call("bdev_nvme_disable_controller", {"name": "nvme1"})
    task = entry_point("health")
    check = run(site.target, task, dsn=site.dsn, check=True)
    assert check.rc == 0, check.output
    assert set(health_column(site.conn).values()) == {None, "ok"}
    done = run(site.target, task, task, dsn=site.dsn)
    assert done.rc == 0, done.output
    assert done.changed == check.changed == {"storage-1": 1}
    # The target at the other end is one of software and says nothing; a disabled controller is not even asked.
    assert health_column(site.conn) == {names[0]: "unknown", names[1]: "unknown", names[2]: "ok"}
    assert site.conn.execute("SELECT id, state, revision FROM diskengine.disk ORDER BY id").fetchall() == before
    health = done.results("Read the health of the drives")[0]
    documented = returned("spdk_health_info")
    assert not differences(documented, own_keys("spdk_health_info", health), failed=False, check=False, where="health")
    first, second = health["controllers"]
    assert (first["serial"], first["state"], first["bdf"]) == (names[0], "enabled", "")
    assert first["reasons"] == [SAYS_NOTHING]
    assert first["log"]["temperature_celsius"] is None and first["log"]["media_errors"] == 0
    assert (second["log"], second["reasons"]) == (
        None,
        ["its health was not asked for, because the controller is in the state disabled"],
    )
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
    assert "something else serves this socket" in gone.result("Fail if the target could not be read")["msg"]
    assert set(health_column(conn).values()) == {"unknown"}


def test_metrics_of_a_target(target, tmp_path):
    target.call("bdev_lvol_create", {"lvs_name": "lvs-0", "lvol_name": "7", "size_in_mib": 12})
    attach_self(target, "SERIAL-1")
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
    assert found["diskengine_nvme_health", "storage-1", "nvme0", "", "SERIAL-1", "unknown"] == 1
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
        {"name": module, f"excloud.diskengine.spdk_{module}": options, "ignore_errors": True}
        for module, options in (
            ("health_info", {}),
            ("iostat_info", {}),
            ("metrics", metrics_of),
            ("metrics", {**metrics_of, "socket": str(tmp_path / "none")}),
        )
    ]
    done = run(waiting, *tasks)
    assert "Traceback" not in done.output
    messages = [result["msg"] for result in done.results()]
    assert ["waits for framework_start_init" in message for message in messages] == [True, True, True, False]
    assert "there is no socket" in messages[-1]
    assert metrics(path) == {("diskengine_target_up", "n"): 0}
