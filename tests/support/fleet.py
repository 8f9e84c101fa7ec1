# SPDX-License-Identifier: GPL-3.0-or-later
"""Storage nodes and compute nodes with their targets, and the database that says what they should have."""

from __future__ import annotations

import socket
import time

import psycopg

from support.ansible import run_playbook
from support.estate import COMPUTE, make_estate, serial
from support.targets import free_port

MIB = 1 << 20
WAIT_SECONDS = 60


class Fleet:
    """Targets storage-1, storage-2, ... and compute-1, ..., and a database that says what they should have.

    compute-1 maps every volume; where there are more compute nodes, each in turn maps one.
    """

    def __init__(self, targets, dsn, conn, volumes, computes):
        self.dsn, self.conn = dsn, conn
        storage = [f"storage-{number}" for number in range(1, len(targets) - computes + 1)]
        names = [*storage, *(f"compute-{number}" for number in range(1, computes + 1))]
        self.targets = dict(zip(names, targets))
        lvstores, ports = {}, {}
        for name in storage:
            ports[name] = free_port()
            store = self.targets[name].add_lvstore("lvs-0", (256 + 32 * volumes // len(storage)) * MIB)
            size, free = (store[key] * store["cluster_size"] for key in ("total_data_clusters", "free_clusters"))
            known = {"name": "lvs-0", "uuid": store["uuid"], "total_bytes": size, "free_bytes": free}
            lvstores[serial(name, 0)] = known
        self.estate = make_estate(
            conn,
            len(storage),
            1,
            lvols=2 * volumes,
            lvol_bytes=12 * MIB,
            thin=False,
            ports=ports,
            lvstores=lvstores,
            computes=computes,
        )
        conn.execute("UPDATE diskengine.volume SET size_bytes = %s", [11 * MIB])
        self.compute = self.targets[COMPUTE]

    def site(self, times=1, **options):
        """Run site.yml, several times in one ansible-playbook if asked to."""
        kinds = {kind: options.pop(f"{kind}_vars", {}) for kind in ("storage", "compute")}
        return self.run("site", times, kinds, **options)

    def run(self, playbook, times=1, kinds=None, vars_of=None, **options):
        """Run a playbook of the collection on the fleet.

        kinds are further options of the nodes' roles, vars_of gives a host's own variables.
        """
        hosts = {"storage": {}, "compute": {}}
        for name, target in self.targets.items():
            kind = name.partition("-")[0]
            own = {"socket": target.socket, "dsn": self.dsn, **(kinds or {}).get(kind, {})}
            if kind == "storage":
                own |= {"drives": False, "bind": False}
            own = {f"{kind}_node_{key}": value for key, value in own.items()}
            hosts[kind][name] = {**own, **(vars_of or {}).get(name, {})}
        plays = [{"name": "All", "import_playbook": f"excloud.diskengine.{playbook}"}] * times
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

    def add_replica(self, node, size=12 * MIB):
        """Wish for another replica of the first volume; returns the id of its lvol."""
        query = (
            "INSERT INTO diskengine.lvol (volume_id, disk_id, size_bytes, thin) "
            "SELECT %s, id, %s, false FROM diskengine.disk WHERE node = %s RETURNING id"
        )
        return self.conn.execute(query, [self.estate.volumes[0], size, node]).fetchone()[0]

    def give_up(self, *lvols):
        """Wish that replicas go."""
        self.conn.execute("UPDATE diskengine.lvol SET state = 'DELETING' WHERE id = ANY (%s)", [list(lvols)])

    def legs(self):
        """What is recorded of the replicas by id, each as its state and its membership."""
        return {row["id"]: f"{row['state']} {row['membership']}" for row in self.rows("v_lvol")}

    def sockets(self):
        return sorted(item["socket"] for item in self.compute.call("vhost_get_controllers"))

    def power_cut(self):
        """Every node dies and starts again, without what it was told."""
        running = [target for target in self.targets.values() if target.is_running()]  # the simulator is one process
        for target in running:
            target.kill()
        for target in running:
            target.start()

    def connect(self, mapping):
        """A client of the mapping's vhost controller."""
        (item,) = self.compute.call("vhost_get_controllers", {"name": f"vhost{mapping}"})
        client = socket.socket(socket.AF_UNIX)
        client.connect(item["socket"])
        self.until(lambda: self._sessions(mapping))
        return client

    def until_no_session(self, mapping):
        self.until(lambda: not self._sessions(mapping))

    def _sessions(self, mapping):
        (item,) = self.compute.call("vhost_get_controllers", {"name": f"vhost{mapping}"})
        return item["sessions"]

    def operational_legs(self, mirror=None):
        """How many legs a mirror has, or the only one."""
        found = self.compute.call("bdev_raid_get_bdevs", {"category": "online"})
        (item,) = [item for item in found if mirror in (None, item["name"])]
        return item["num_base_bdevs_operational"]

    def raid(self, volume):
        """The mirror of a volume, as the target describes it."""
        raids = self.compute.call("bdev_raid_get_bdevs", {"category": "all"})
        return next(item for item in raids if item["name"] == f"raid_{volume}")

    def volume_mib(self):
        """The size of the only mirror."""
        (item,) = self.compute.call("bdev_get_bdevs", {"name": f"raid_{self.estate.volumes[0]}"})
        return item["num_blocks"] * item["block_size"] // MIB

    def until(self, condition):
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, "it did not come to this"
            time.sleep(0.1)

    def check_served(self):
        """Each mapping that is ATTACHED has its vhost controller on a mirror of two legs, and nothing else is there."""
        rows = [row for row in self.rows() if row["state"] == "ATTACHED"]
        for name, target in self.targets.items():
            if not name.startswith("compute-"):
                continue
            served = {
                item["ctrlr"]: item["backend_specific"]["block"]["bdev"]
                for item in target.call("vhost_get_controllers")
            }
            assert served == {f"vhost{row['id']}": f"raid_{row['volume_id']}" for row in rows if row["node"] == name}
            raids = {item["name"]: item for item in target.call("bdev_raid_get_bdevs", {"category": "all"})}
            assert set(raids) == set(served.values())
            for item in raids.values():
                assert (item["state"], item["num_base_bdevs_operational"]) == ("online", 2)
            assert len(target.call("bdev_nvme_get_controllers")) == 2 * len(raids)
