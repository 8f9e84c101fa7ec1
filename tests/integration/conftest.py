# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the integration tests; what they do is in tests/support."""

from __future__ import annotations

import itertools
import os
import tempfile
from contextlib import ExitStack

import psycopg
import pytest
from support.ansible import run_playbook
from support.estate import make_estate, serial
from support.fleet import Fleet
from support.postgres import postgres_server
from support.schema import migrate
from support.targets import free_port, running_fleet, running_target

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres():
    """A private server for the session."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def migrated(postgres):
    """The name of a database with the schema and no rows, to make others of."""
    name = "migrated"
    with psycopg.connect(postgres.create_database(name), autocommit=True) as conn:
        migrate(conn)
    return name


@pytest.fixture
def empty_dsn(postgres):
    """The dsn of a database with nothing in it."""
    name = f"empty_{next(_numbers)}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture
def dsn(postgres, migrated):
    """The dsn of a database with the schema and no rows."""
    name = f"test_{next(_numbers)}"
    yield postgres.create_database(name, migrated)
    postgres.drop_database(name)


@pytest.fixture
def conn(dsn):
    """A connection, as the owner, to the database of dsn."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


class Site:
    """Storage nodes, each a target behind a recorder, and a database that says what they should have."""

    def __init__(self, dsn, conn, targets, ports, estate, drives=False):
        self.dsn, self.conn, self.targets, self.ports, self.estate = dsn, conn, targets, ports, estate
        self.drives = drives

    @property
    def target(self):
        """The only target."""
        (only,) = self.targets.values()
        return only

    @property
    def name(self):
        """The only node."""
        (only,) = self.targets
        return only

    def each(self):
        """A Site for each node by itself. A playbook for many nodes costs little more than one for a single node."""
        return [
            Site(self.dsn, self.conn, {name: target}, self.ports, self.estate, self.drives)
            for name, target in self.targets.items()
        ]

    def converge(self, times=1, host_vars=None, vars_of=None, before=(), **options):
        """Run the playbook, several times in one ansible-playbook if asked to, and the plays that come before it.

        vars_of gives a host's own variables.
        """
        common = {"storage_node_dsn": self.dsn, "storage_node_drives": self.drives, "storage_node_bind": False}
        hosts = {
            name: {"storage_node_socket": target.socket, **common, **(host_vars or {}), **(vars_of or {}).get(name, {})}
            for name, target in self.targets.items()
        }
        plays = [*before] + [{"name": "Again", "import_playbook": "excloud.diskengine.converge"}] * times
        return run_playbook(plays, {"all": {"children": {"storage": {"hosts": hosts}}}}, **options)

    def rows(self):
        """The lvols of these nodes as the view shows them."""
        with self.conn.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            query = "SELECT * FROM diskengine.v_lvol WHERE node = ANY(%s) ORDER BY id"
            return cursor.execute(query, [list(self.targets)]).fetchall()

    def table(self):
        """Everything that is in the tables of disks and lvols."""
        return [
            self.conn.execute(f"SELECT * FROM diskengine.{name} ORDER BY id").fetchall() for name in ("disk", "lvol")
        ]

    def mutations(self):
        """The calls that change something, of all recorders."""
        return [request for target in self.targets.values() for request in target.recorder.mutations]

    def clear(self):
        """Forget what was recorded."""
        for target in self.targets.values():
            target.recorder.clear()

    def check_served(self, but=()):
        """Every row but those with these ids is UP and exported as it says, and nothing else is there."""
        for name, target in self.targets.items():
            rows = [row for row in self.rows() if row["node"] == name and row["id"] not in but]
            lvols = {lvol["alias"]: lvol["uuid"] for lvol in target.call("bdev_lvol_get_lvols")}
            assert lvols == {f"{row['lvstore_name']}/{row['id']}": row["uuid"] for row in rows}
            assert {row["state"] for row in rows} <= {"UP"}
            assert target.exports() == {
                row["nqn"]: (
                    sorted(f"{address['traddr']}:{address['trsvcid']}" for address in row["listeners"]),
                    sorted(row["hosts"]),
                    [f"{row['lvstore_name']}/{row['id']}"],
                )
                for row in rows
            }
            assert not any(item["allow_any_host"] for item in target.call("nvmf_get_subsystems") if item["hosts"])


@pytest.fixture
def make_target(worker_core):
    """Start a target that ends with the test: make_target(options=())."""
    with ExitStack() as stack:
        yield lambda options=(): stack.enter_context(running_target(next(worker_core), options))


@pytest.fixture(scope="session")
def worker_core(worker_id):
    """The cores in turn, beginning with this worker's own."""
    first = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 0
    return itertools.cycle((first + number) % os.cpu_count() for number in range(os.cpu_count()))


@pytest.fixture
def make_site(make_target, dsn, conn):
    """Make a Site: make_site(nodes=1, disks_per_node=1, disk_bytes=..., and what make_estate() takes)."""

    def make(nodes=1, disks_per_node=1, disk_bytes=512 << 20, lvol_bytes=12 << 20, options=(), **estate):
        targets, lvstores, ports = {}, {}, {}
        for node in range(1, nodes + 1):
            name = f"storage-{node}"
            targets[name], ports[name] = make_target(options), free_port()
            if "--wait-for-rpc" in options:
                targets[name].call("bdev_set_options", {"bdev_auto_examine": False})
                targets[name].call("framework_start_init")
            for index in range(disks_per_node):
                store = targets[name].add_lvstore(f"lvs-{index}", disk_bytes, clear_method="none")
                lvstores[serial(name, index)] = {
                    "name": store["name"],
                    "uuid": store["uuid"],
                    "total_bytes": store["total_data_clusters"] * store["cluster_size"],
                    "free_bytes": store["free_clusters"] * store["cluster_size"],
                }
        made = make_estate(conn, nodes, disks_per_node, lvol_bytes=lvol_bytes, ports=ports, lvstores=lvstores, **estate)
        return Site(dsn, conn, targets, ports, made)

    return make


@pytest.fixture
def make_targets(worker_core):
    """Start targets that reach each other and end with the test: make_targets(count)."""
    with ExitStack() as stack:

        def make(count):
            cores = [next(worker_core) for _node in range(count)]
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="vhost", dir="/tmp"))
            return stack.enter_context(running_fleet(cores, ["-S", directory]))

        yield make


@pytest.fixture
def make_fleet(make_targets, dsn, conn):
    """Make a Fleet: make_fleet(volumes, computes, storage=2)."""
    return lambda volumes=2, computes=1, storage=2: Fleet(
        make_targets(storage + computes), dsn, conn, volumes, computes
    )


@pytest.fixture
def make_drive_site(make_target, dsn, conn):
    """Make a Site of one node whose disks are NEW and on drives: make_drive_site(bdfs, what make_estate() takes)."""

    def make(bdfs, drive_bytes=512 << 20, options=(), **estate):
        port = free_port()
        found = make_estate(conn, 1, len(bdfs), ports={"storage-1": port}, **estate)
        target = make_target([word for bdf in bdfs for word in ("--nvme", f"{bdf}={drive_bytes},4096")] + list(options))
        for bdf, disk in zip(bdfs, found.disks.values()):
            number = target.control("drive_serial", drive=bdf)["ok"]
            conn.execute("UPDATE diskengine.disk SET serial = %s, bdf = %s WHERE id = %s", [number, bdf, disk])
        return Site(dsn, conn, {"storage-1": target}, {"storage-1": port}, found, drives=True)

    return make


@pytest.fixture
def target(make_target):
    """A target with the lvstore lvs-0 on 63 clusters of 4 MiB."""
    made = make_target()
    made.add_lvstore("lvs-0", 256 << 20)
    return made
