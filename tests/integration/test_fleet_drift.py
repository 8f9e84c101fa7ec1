# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook drift: what it lists of storage and compute nodes, what it writes, and when it fails."""

from __future__ import annotations

import json

import pytest
from support.ansible import run_playbook

# Nobody listens on the port, and no configuration of the user is read.
UNREACHABLE = {
    "ansible_connection": "ssh",
    "ansible_host": "127.0.0.1",
    "ansible_port": 1,
    "ansible_ssh_common_args": "-F none",
}


@pytest.fixture
def compare(make_fleet):
    """A function that runs the playbook on a fleet that is as the database says, and changes nothing there."""
    fleet = make_fleet()
    assert fleet.site().rc == 0

    found = fleet.conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'diskengine'").fetchall()
    tables = [f"SELECT t::text FROM diskengine.{name} AS t ORDER BY 1" for (name,) in found]

    def rows():
        return [fleet.conn.execute(query).fetchall() for query in tables]

    def run(vars_of=None, **options):
        fleet.clear()
        before = rows()
        done = fleet.run("drift", vars_of=vars_of, **options)
        assert not fleet.sent() and rows() == before
        assert "Traceback" not in done.output and set(done.changed.values()) == {0}
        return done

    run.fleet = fleet
    return run


def report(done):
    return done.result("Put it together and write it")


def test_what_differs_is_listed_with_what_stands_on_it(compare, tmp_path):
    done = compare(check=True, extra_vars={"drift_fail": True, "drift_report": str(tmp_path / "new/drift.json")})
    assert done.rc == 0, done.output
    found = json.loads((tmp_path / "new/drift.json").read_text(encoding="utf-8"))
    assert found["clean"] and found["summary"] == ["3 of 3 nodes compared: nothing differs"]
    assert {each["state"] for each in found["objects"]} == {"ok"}
    kinds = {kind: sum(each["kind"] == kind for each in found["objects"]) for kind in ("lvol", "export", "path", "vm")}
    assert kinds == {"lvol": 4, "export": 4, "path": 4, "vm": 2}
    assert done.result("Show what differs")["msg"] == ["# Drift: 3 of 3 nodes compared: nothing differs"]
    fleet = compare.fleet
    lame, unserved = fleet.estate.volumes
    row = next(each for each in fleet.rows("v_lvol") if each["volume_id"] == lame and each["node"] == "storage-1")
    fleet.targets["storage-1"].call("nvmf_delete_subsystem", {"nqn": row["nqn"]})
    extra = {"lvs_name": "lvs-0", "lvol_name": "999", "size_in_mib": 4, "thin_provision": True}
    fleet.targets["storage-2"].call("bdev_lvol_create", extra)
    fleet.compute.call("vhost_delete_controller", {"ctrlr": f"vhost{fleet.estate.mappings[1]}"})
    fleet.compute.call("bdev_set_qos_limit", {"name": f"raid_{unserved}", "rw_mbytes_per_sec": 7})
    fleet.until(lambda: fleet.raid(lame)["num_base_bdevs_operational"] == 1)
    done = compare(extra_vars={"drift_report_dir": str(tmp_path), "drift_fail": True})
    assert done.rc == 2
    found = json.loads((tmp_path / "drift.json").read_text(encoding="utf-8"))
    assert done.failure == "; ".join(found["summary"])
    assert not found["clean"] and found["nodes"]["storage-2"]["counts"] == {"extra": 1}
    differences = {(each["class"], each["kind"]): each for each in found["differences"]}
    assert set(differences) >= {
        ("missing", "subsystem"),
        ("missing", "vhost"),
        ("different", "raid"),
        ("different", "qos"),
        ("extra", "lvol"),
    }
    for kind, volume in (("subsystem", lame), ("raid", lame), ("vhost", unserved), ("qos", unserved)):
        assert next(each["volume"] for each in found["differences"] if each["kind"] == kind) == volume
    assert differences["missing", "subsystem"]["repair"][0] == "create the subsystem"
    assert "it is online and has " in differences["different", "raid"]["cause"]
    state = {each["id"]: each["state"] for each in found["objects"]}
    assert state[f"export:{row['id']}"] == "broken" and state[f"lvol:{row['id']}"] == "ok"
    mapping = fleet.estate.mappings[1]
    assert state[f"vhost:{mapping}"] == state[f"vm:{mapping}"] == "broken"
    assert state["lvol:storage-2:lvs-0/999"] == "differs"
    text = (tmp_path / "drift.md").read_text(encoding="utf-8")
    assert done.result("Show what differs")["msg"] == text.splitlines()
    assert "| storage-1 | storage | 1 missing |\n" in text and "| create the subsystem; show bdev" in text


def test_nodes_that_cannot_be_compared_are_listed(compare, tmp_path):
    """That nothing was compared is a failure. With --limit the rest of the estate is only named."""
    broken = {"storage-1": UNREACHABLE, "compute-1": {"compute_node_socket": str(tmp_path / "missing")}}
    done = compare(vars_of=broken, extra_vars={"drift_report": str(tmp_path / "drift.json")})
    assert done.rc == 0, done.output
    found = json.loads((tmp_path / "drift.json").read_text(encoding="utf-8"))
    assert found["summary"][0] == "1 of 3 nodes compared: nothing differs" and not found["clean"]
    assert f"there is no socket {tmp_path}/missing" in found["not_compared"]["compute-1"]
    assert "Connection refused" in found["not_compared"]["storage-1"]
    states = {node: {each["state"] for each in found["objects"] if each["node"] == node} for node in found["nodes"]}
    assert states == {"storage-1": {"unknown"}, "storage-2": {"ok"}, "compute-1": {"unknown"}}
    nowhere = {"storage_node_dsn": "host=/nowhere dbname=x", "compute_node_dsn": "host=/nowhere dbname=x"}
    done = compare(vars_of=dict.fromkeys(compare.fleet.targets, nowhere))
    assert done.rc == 2
    told = report(done)["summary"]
    assert told[0] == "0 of 3 nodes compared"
    assert [line.split(":")[0] for line in told[1:]] == ["compute-1", "storage-1", "storage-2"]
    assert all("not compared: The database failed: " in line for line in told[1:])
    assert "The report has no picture of the estate." in done.failure
    done = compare(args=["--limit", "compute-1"])
    assert done.rc == 0 and report(done)["clean"], done.output
    assert report(done)["left_out"] == ["storage-1", "storage-2"]


def test_an_inventory_without_nodes():
    done = run_playbook("excloud.diskengine.drift")
    assert done.rc == 2
    assert "No host of the inventory matches storage or compute" in done.failure
