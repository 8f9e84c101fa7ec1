# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbook maintenance.yml: nodes go one by one, every mirror keeps a leg, a run that broke off goes on."""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager

import pytest
import yaml
from support.estate import COMPUTE
from support.targets import is_real

HOOK = [
    {
        "name": "Hand the node over",
        "ansible.builtin.copy": {"dest": "{{ hook_files }}/{{ inventory_hostname }}.stopped", "content": ""},
    },
    {
        "name": "Wait until it is back",
        "ansible.builtin.wait_for": {"path": "{{ hook_files }}/{{ inventory_hostname }}.started", "timeout": 120},
    },
    {
        "name": "Break off",
        "ansible.builtin.fail": {"msg": "the upgrade failed"},
        "when": "inventory_hostname == broken | default('')",
    },
]


class Workshop:
    """A fleet under maintenance; its hook hands each node over to be restarted."""

    def __init__(self, fleet, files):
        self.fleet, self.files = fleet, files
        self.meanwhile = lambda: None  # done once, while the first node is stopped
        (files / "hook.yml").write_text(yaml.safe_dump(HOOK))

    def maintain(self, name="kernel", **variables):
        """Run the playbook, and restart what it hands over."""
        for path in self.files.glob("*.st*ed"):
            path.unlink()
        with self._mechanic():
            return self.run(name, **variables)

    def run(self, name, **variables):
        """Run the playbook."""
        extra = {
            "maintenance_name": name,
            "maintenance_hook": str(self.files / "hook.yml"),
            "maintenance_service": "",
            "maintenance_wait": 60,
            "maintenance_dsn": self.fleet.dsn,
            "hook_files": str(self.files),
            **variables,
        }
        return self.fleet.run("maintenance", extra_vars=extra)

    def restarted(self):
        """The nodes that were handed over."""
        return sorted(path.stem for path in self.files.glob("*.started"))

    def nodes(self):
        """State and maintenance of each node."""
        query = "SELECT name, state, maintaining, maintained FROM diskengine.node ORDER BY name"
        return {name: rest for name, *rest in self.fleet.conn.execute(query)}

    @contextmanager
    def _mechanic(self):
        ended = threading.Event()
        thread = threading.Thread(target=self._work, args=(ended,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _work(self, ended):
        while not ended.wait(0.1):
            for path in self.files.glob("*.stopped"):
                self.meanwhile()
                self.meanwhile = lambda: None
                self._restart(self.fleet.targets[path.stem])
                path.rename(path.with_suffix(".started"))

    def _restart(self, target):
        """Let a target forget what it was told; the simulated ones are one process, so there it is told to."""
        if is_real():
            target.kill()
            target.start()
            return
        for nqn in target.exports():
            target.call("nvmf_delete_subsystem", {"nqn": nqn})


@pytest.fixture
def workshop(make_fleet, tmp_path):
    """A Workshop that serves two volumes."""
    fleet = make_fleet()
    done = fleet.site()
    assert done.rc == 0, done.output
    return Workshop(fleet, tmp_path)


def test_storage_nodes_go_one_after_the_other_and_a_run_that_broke_off_goes_on(workshop):
    fleet = workshop.fleet
    sockets = fleet.sockets()
    broke = workshop.maintain(target="storage", broken="storage-2")
    assert broke.rc == 2 and "the upgrade failed" in broke.output, broke.output
    assert workshop.restarted() == ["storage-1", "storage-2"]
    assert workshop.nodes() == {
        COMPUTE: ["active", None, None],
        "storage-1": ["active", None, "kernel"],
        "storage-2": ["cordoned", "kernel", None],
    }
    goes_on = workshop.maintain(target="storage")
    assert goes_on.rc == 0, goes_on.output
    assert workshop.restarted() == ["storage-2"]
    assert workshop.nodes()["storage-2"] == ["active", None, "kernel"]
    fleet.check_served()
    assert fleet.sockets() == sockets
    fleet.clear()
    again = workshop.maintain(target="storage")
    assert again.rc == 0 and not workshop.restarted() and not fleet.sent()
    assert sum(again.changed.values()) == 0, again.output


def test_a_node_waits_for_what_depends_on_it(workshop):
    """A VM keeps its compute node, and a mirror without another leg its storage node; the preview tells as much."""
    fleet = workshop.fleet
    with closing(fleet.connect(fleet.estate.mappings[0])):
        waits = workshop.maintain(target=COMPUTE, maintenance_wait=5)
    assert waits.rc == 2 and f"a VM is connected to vhost{fleet.estate.mappings[0]}" in waits.output, waits.output
    row = fleet.rows("v_lvol")[0]
    (other,) = {"storage-1", "storage-2"} - {row["node"]}
    fleet.targets[row["node"]].call("nvmf_delete_subsystem", {"nqn": row["nqn"]})
    name = f"raid_{row['volume_id']}"
    fleet.until(lambda: fleet.operational_legs(name) == 1)
    waits = workshop.maintain(target=other, maintenance_wait=5)
    assert waits.rc == 2 and f"mirror {name} has no leg in sync that stays" in waits.output, waits.output
    assert not workshop.restarted()


def test_two_maintenances_never_take_both_legs(workshop):
    """Another one refuses the node of the other leg and leaves it as it was, and the same one does not begin twice."""
    fleet, done = workshop.fleet, {}

    def meanwhile():
        before = workshop.nodes()
        done["other"] = workshop.run("disks", target="storage-2")
        done["same"] = workshop.run("kernel", target="storage", storage_node_lease_wait=0)
        done["converge"] = fleet.run("converge", extra_vars={"target": "storage-1", "storage_node_lease_wait": 0})
        assert workshop.nodes() == before
        done["restarted"] = workshop.restarted()

    workshop.meanwhile = meanwhile
    first = workshop.maintain(target="storage")
    assert first.rc == 0, first.output
    assert done["other"].rc == 2
    assert "has no leg elsewhere, but on storage-1, which is in maintenance kernel" in done["other"].output
    for each in (done["same"], done["converge"]):
        assert each.rc == 2 and "storage-1 is held by " in each.output, each.output
    assert done["restarted"] == []
    assert workshop.nodes()["storage-2"] == ["active", None, "kernel"]
    assert fleet.conn.execute("SELECT node FROM diskengine.v_lease").fetchall() == []
    fleet.check_served()
