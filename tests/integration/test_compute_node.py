# SPDX-License-Identifier: GPL-3.0-or-later
"""Two storage nodes and a compute node: from rows to vhost-blk disks of VMs and back, by site.yml."""

from __future__ import annotations

from contextlib import ExitStack

import psycopg
import pytest
from support.ansible import run_playbook
from support.estate import COMPUTE, make_estate, serial
from support.targets import free_port, running_fleet

MIB = 1 << 20
TASK = "Converge the SPDK target"


class Fleet:
    """Targets storage-1, storage-2 and compute-1, and a database that says what they should have."""

    def __init__(self, targets, dsn, conn, volumes):
        self.dsn, self.conn = dsn, conn
        self.targets = dict(zip(("storage-1", "storage-2", COMPUTE), targets))
        lvstores, ports = {}, {}
        for name in ("storage-1", "storage-2"):
            ports[name] = free_port()
            store = self.targets[name].add_lvstore("lvs-0", 512 * MIB)
            size, free = (store[key] * store["cluster_size"] for key in ("total_data_clusters", "free_clusters"))
            known = {"name": "lvs-0", "uuid": store["uuid"], "total_bytes": size, "free_bytes": free}
            lvstores[serial(name, 0)] = known
        self.estate = make_estate(
            conn, 2, 1, lvols=2 * volumes, lvol_bytes=12 * MIB, thin=False, ports=ports, lvstores=lvstores
        )
        conn.execute("UPDATE diskengine.volume SET size_bytes = %s", [11 * MIB])
        self.compute = self.targets[COMPUTE]

    def site(self, times=1, **options):
        """Run site.yml, several times in one ansible-playbook if asked to."""
        hosts = {"storage": {}, "compute": {}}
        for name, target in self.targets.items():
            kind = name.partition("-")[0]
            own = {"socket": target.socket, "dsn": self.dsn, **options.pop(f"{kind}_vars", {})}
            if kind == "storage":
                own |= {"drives": False, "bind": False}
            hosts[kind][name] = {f"{kind}_node_{key}": value for key, value in own.items()}
        plays = [{"name": "All", "import_playbook": "excloud.diskengine.site"}] * times
        groups = {kind: {"hosts": own} for kind, own in hosts.items()}
        return run_playbook(plays, {"all": {"children": groups}}, **options)

    def sent(self):
        return [call for target in self.targets.values() for call in target.recorder.mutations]

    def clear(self):
        for target in self.targets.values():
            target.recorder.clear()

    def rows(self, view="v_mapping"):
        with self.conn.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            return cursor.execute(f"SELECT * FROM diskengine.{view} ORDER BY id").fetchall()

    def states(self):
        return [row["state"] for row in self.rows()]

    def wish(self, state, *numbers):
        self.conn.execute("UPDATE diskengine.mapping SET state = %s WHERE id = ANY (%s)", [state, list(numbers)])

    def check_served(self):
        """Each mapping that is ATTACHED has its vhost controller on a mirror of two legs, and nothing else is there."""
        attached = [row for row in self.rows() if row["state"] == "ATTACHED"]
        served = {
            item["ctrlr"]: item["backend_specific"]["block"]["bdev"]
            for item in self.compute.call("vhost_get_controllers")
        }
        assert served == {f"vhost{row['id']}": f"raid_{row['volume_id']}" for row in attached}
        raids = {item["name"]: item for item in self.compute.call("bdev_raid_get_bdevs", {"category": "all"})}
        assert set(raids) == set(served.values())
        for item in raids.values():
            assert (item["state"], item["num_base_bdevs_operational"]) == ("online", 2)
        assert len(self.compute.call("bdev_nvme_get_controllers")) == 2 * len(raids)


@pytest.fixture
def make_fleet(worker_core, dsn, conn):
    """Make a Fleet: make_fleet(volumes)."""
    with ExitStack() as stack:

        def make(volumes=2):
            cores = [next(worker_core) for _node in range(3)]
            return Fleet(stack.enter_context(running_fleet(cores)), dsn, conn, volumes)

        yield make


def test_from_rows_to_attached_and_back_to_nothing(make_fleet):
    fleet = make_fleet()
    run = fleet.site(times=2)
    assert run.rc == 0, run.output
    assert fleet.states() == ["ATTACHED"] * 2
    assert [result["changed"] for result in run.results(TASK)] == [True] * 3 + [False] * 3
    fleet.check_served()
    first, second = fleet.estate.mappings
    fleet.wish("DETACHING", first)
    fleet.clear()
    check = fleet.site(check=True)
    assert check.rc == 0 and not fleet.sent(), check.output
    run = fleet.site(times=2)
    assert run.rc == 0, run.output
    foretold = [
        (call["method"], call["params"]) for result in check.results(TASK) for call in result.get("actions", ())
    ]
    assert [(call["method"], call["params"]) for call in fleet.sent()] == foretold
    assert fleet.states() == ["DETACHED", "ATTACHED"]
    fleet.check_served()
    fleet.wish("DETACHING", second)
    assert fleet.site().rc == 0
    fleet.conn.execute("DELETE FROM diskengine.mapping")
    fleet.conn.execute("UPDATE diskengine.lvol SET state = 'DELETING'")
    assert fleet.site().rc == 0
    assert fleet.rows("v_lvol") == []
    for name in ("storage-1", "storage-2"):
        assert fleet.targets[name].exports() == {} and not fleet.targets[name].call("bdev_lvol_get_lvols")
    assert not fleet.compute.call("bdev_nvme_get_controllers")
