# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook drift: what it lists, what it writes, and when it fails."""

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
def fleet(make_site):
    """Two storage nodes that are as the database says, and a function that runs the playbook on them.

    It changes nothing, whatever it is given: neither targets nor rows.
    """
    site = make_site(nodes=2, lvols=4)
    assert site.converge().rc == 0

    def compare(vars_of=None, check=False, **extra_vars):
        site.clear()
        before = site.table()
        hosts = {
            name: {
                "storage_node_socket": target.socket,
                "storage_node_dsn": site.dsn,
                **(vars_of or {}).get(name, {}),
            }
            for name, target in site.targets.items()
        }
        inventory = {"all": {"children": {"storage": {"hosts": hosts}}}}
        done = run_playbook("excloud.diskengine.drift", inventory, extra_vars=extra_vars, check=check)
        assert not site.mutations() and site.table() == before
        return done

    return site, compare


def summary(done):
    return done.result("Show what differs")["msg"]


def test_a_fleet_without_drift(fleet):
    _site, compare = fleet
    for options in ({}, {"check": True}, {"drift_fail": True}):
        done = compare(**options)
        assert done.rc == 0, done.output
        assert summary(done) == ["2 of 2 nodes compared: nothing differs"]
        assert set(done.changed.values()) == {0}


def test_what_differs_is_counted_and_written(fleet, tmp_path):
    site, compare = fleet
    row = next(row for row in site.rows() if row["node"] == "storage-1")
    site.targets["storage-1"].call("nvmf_delete_subsystem", {"nqn": row["nqn"]})
    site.targets["storage-2"].call(
        "bdev_lvol_create", {"lvs_name": "lvs-0", "lvol_name": "999", "size_in_mib": 4, "thin_provision": True}
    )
    done = compare(drift_report=str(tmp_path / "drift.json"))
    assert done.rc == 0, done.output
    told = ["2 of 2 nodes compared: 1 extra, 1 missing", "storage-1: 1 missing", "storage-2: 1 extra"]
    assert summary(done) == told
    report = json.loads((tmp_path / "drift.json").read_text(encoding="utf-8"))
    assert report["summary"] == told
    assert report["nodes"]["storage-1"]["drift"][0]["object"] == row["nqn"]
    done = compare(drift_report=str(tmp_path / "drift.md"), drift_fail=True)
    assert done.rc == 2
    assert done.events[-1]["result"]["msg"] == "; ".join(told)
    text = (tmp_path / "drift.md").read_text(encoding="utf-8")
    assert "* storage-1: 1 missing\n" in text
    assert (
        f"## storage-1\n\n* missing subsystem `{row['nqn']}`: it is not there (safe)\n  * create the subsystem\n"
        in text
    )
    assert "\n## storage-2\n\n* extra lvol `lvs-0/999`: " in text


def test_a_node_that_cannot_be_compared_is_listed(fleet, tmp_path):
    _site, compare = fleet
    broken = {"storage-1": UNREACHABLE}
    done = compare(vars_of=broken, drift_report=str(tmp_path / "drift.json"))
    assert done.rc == 0, done.output
    first, second = summary(done)
    assert first == "1 of 2 nodes compared: nothing differs"
    assert second.startswith("storage-1: not compared: ") and "Connection refused" in second
    report = json.loads((tmp_path / "drift.json").read_text(encoding="utf-8"))
    assert list(report["not_compared"]) == ["storage-1"] and list(report["nodes"]) == ["storage-2"]
    assert compare(vars_of=broken, drift_fail=True).rc == 2
    done = compare(vars_of={"storage-2": {"storage_node_socket": str(tmp_path / "missing")}})
    assert done.rc == 0, done.output
    assert f"storage-2: not compared: there is no socket {tmp_path}/missing" in summary(done)[1]


def test_that_nothing_was_compared_is_a_failure(fleet):
    _site, compare = fleet
    done = compare(
        vars_of={name: {"storage_node_dsn": "host=/nowhere dbname=x"} for name in ("storage-1", "storage-2")}
    )
    assert done.rc == 2
    told = summary(done)
    assert told[0] == "0 of 2 nodes compared: nothing differs"
    assert [line.split(":")[0] for line in told[1:]] == ["storage-1", "storage-2"]
    assert all("not compared: The database failed: " in line for line in told[1:])


def test_an_inventory_without_storage_nodes():
    done = run_playbook("excloud.diskengine.drift")
    assert done.rc == 2
    assert "No host of the inventory matches storage" in done.events[-1]["result"]["msg"]
