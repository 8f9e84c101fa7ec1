# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbook diagnose.yml: the link that was broken is the one that is named."""

from __future__ import annotations

from contextlib import closing

import pytest
from support.estate import COMPUTE


class Patient:
    """A fleet that serves one volume to a VM that is connected."""

    def __init__(self, fleet):
        self.fleet = fleet
        done = fleet.site()
        assert done.rc == 0, done.output
        (self.volume,), (self.mapping,) = fleet.estate.volumes, fleet.estate.mappings
        self.leg = fleet.rows("v_lvol")[0]
        self.storage = fleet.targets[self.leg["node"]]

    def diagnose(self, **asked):
        """Run the playbook; it sends nothing that changes anything."""
        self.fleet.clear()
        asked = asked or {"diagnose_volume": self.volume}
        run = self.fleet.run("diagnose", extra_vars={"diagnose_dsn": self.fleet.dsn, "diagnose_timeout": 5, **asked})
        assert not self.fleet.sent() and "Traceback" not in run.output
        return run

    def named(self, **asked):
        """The sentence on the first broken link."""
        run = self.diagnose(**asked)
        assert run.rc == 2, run.output
        assert sum("FIRST" in line for line in run.result("Show the walk")["msg"]) == 1
        return run.result("Fail if a link is broken")["msg"]

    def export(self, method, **params):
        """Change the export of the leg."""
        self.storage.call(method, {"nqn": self.leg["nqn"], **params})

    def repair(self):
        """Converge until the mirror is whole."""
        self.fleet.until(lambda: self.fleet.site().rc == 0 and self.fleet.operational_legs() == 2)


@pytest.fixture
def patient(make_fleet):
    """A Patient whose VM is connected."""
    patient = Patient(make_fleet(1))
    with closing(patient.fleet.connect(patient.mapping)):
        yield patient


def test_all_is_well(patient):
    for asked in ({"diagnose_volume": patient.volume}, {"diagnose_mapping": patient.mapping}):
        run = patient.diagnose(**asked)
        assert run.rc == 0, run.output
        walk = run.result("Show the walk")["msg"]
        assert all(line.startswith("ok ") for line in walk), walk
        assert any(line.startswith(f"ok     vhost      vhost{patient.mapping} on {COMPUTE}: serves") for line in walk)


def test_what_a_storage_node_lost(patient):
    """Guest writes hang or the mirror is degraded, and the cause is beneath it."""
    fleet, leg = patient.fleet, patient.leg
    (listener,) = leg["listeners"]
    address = {key: str(listener[key]) for key in ("trtype", "adrfam", "traddr", "trsvcid") if listener.get(key)}
    (host,) = leg["hosts"]
    for method, params, expected in (
        ("nvmf_subsystem_remove_listener", {"listen_address": address}, "listener TCP 127.0.0.1:{trsvcid} on {node}"),
        ("nvmf_subsystem_remove_ns", {"nsid": 1}, "namespace {nqn} on {node}: has no namespace"),
        ("nvmf_subsystem_remove_host", {"host": host}, f"host {host} on {{node}}: is not allowed"),
    ):
        patient.export(method, **params)
        named = patient.named()
        assert f"The first broken link is the {expected.format(**{**leg, **address})}" in named, method
        assert f"excloud.diskengine.site --limit {leg['node']}" in named
        patient.repair()
    patient.storage.call("nvmf_delete_subsystem", {"nqn": leg["nqn"]})
    fleet.until(lambda: fleet.operational_legs() == 1)
    assert f"is the subsystem {leg['nqn']} on {leg['node']}: is not there" in patient.named()


def test_what_a_compute_node_lost(make_fleet):
    patient = Patient(make_fleet(1))
    fleet, mapping = patient.fleet, patient.mapping
    assert f"is the session vhost{mapping} on {COMPUTE}: no VM is connected" in patient.named()
    fleet.compute.call("vhost_delete_controller", {"ctrlr": f"vhost{mapping}"})
    assert f"is the vhost vhost{mapping} on {COMPUTE}: is not there" in patient.named()
    patient.repair()
    with closing(fleet.connect(mapping)):
        (raid,) = fleet.compute.call("bdev_raid_get_bdevs", {"category": "online"})
        lost = raid["base_bdevs_list"][0]["name"]
        fleet.compute.call("bdev_raid_remove_base_bdev", {"name": lost})
        fleet.until(lambda: fleet.operational_legs() == 1)
        assert f"is the raid raid_{patient.volume} on {COMPUTE}: online without {lost}" in patient.named()
        fleet.compute.call("bdev_nvme_detach_controller", {"name": lost.removesuffix("n1")})
        assert f"is the controller {lost.removesuffix('n1')} on {COMPUTE}: is not attached" in patient.named()


def test_nodes_and_rows_that_are_not_there(patient):
    """A target that is gone is a link that is broken, and so is a row."""
    fleet = patient.fleet
    assert "is the row volume 4711 on database: no such row" in patient.named(diagnose_volume=4711)
    assert "one volume (-e diagnose_volume=17) or one mapping" in patient.diagnose(diagnose_volume="x").output
    node = patient.leg["node"]
    socket, fleet.targets[node].socket = fleet.targets[node].socket, "/nowhere/spdk.sock"
    assert f"is the target SPDK on {node}:" in patient.named()
    fleet.targets[node].socket = socket
    nobody = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    assert f"is the target SPDK on {COMPUTE}:" in patient.named(diagnose_mapping=patient.mapping, **nobody)
    fleet.conn.execute("UPDATE diskengine.mapping SET state = 'DETACHING'")
    assert f"is the row mapping {patient.mapping} on database: DETACHING" in patient.named()
