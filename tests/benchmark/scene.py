# SPDX-License-Identifier: GPL-3.0-or-later
"""One storage node with a database that wants volumes on it, and the runs of Ansible against it."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import connected, read_desired, record
from ansible_collections.excloud.diskengine.plugins.plugin_utils.storage_node import storage_desired
from support.ansible import ROOT, play, run_playbook
from support.estate import MIB, make_estate, serial
from support.postgres import postgres_server
from support.schema import migrate
from support.targets import free_port, running_target

NODE = "storage-1"
CONVERGE = "excloud.diskengine.converge"
MODULE = "excloud.diskengine.spdk_node"
_MODULE_PATH = "ansible_collections.excloud.diskengine.plugins.modules.spdk_node"
TRANSPORT_OPTIONS = {"max_queue_depth": 256}
CLUSTER = 4 * MIB
_DEFAULT_SUBSYSTEMS = 1024  # the discovery subsystem is one of them
QUIET = {"ANSIBLE_CALLBACKS_ENABLED": "default"}  # it is on anyway: so only that one


class Scene:
    """A started target and a database whose rows are all CREATING; nothing is provisioned yet."""

    def __init__(self, target, dsn, volumes):
        self.socket = target.direct  # not the recorder's: nothing is to slow the calls
        self.volumes = volumes
        self._dsn = dsn
        self._document = target.directory / "desired.json"
        self._arguments = target.directory / "arguments.json"

    def read_and_record(self):
        """Read the rows and record every lvol as UP, as if it were there; rolled back."""
        with connected(self._dsn) as conn:
            rows = read_desired(conn, [NODE], ("disk", "lvol"))[NODE]["lvols"]
            done = [
                {
                    "id": row["id"],
                    "from": "CREATING",
                    "to": "UP",
                    "revision": row["revision"],
                    "nqn": row["nqn"],
                    "uuid": str(uuid4()),
                }
                for row in rows
            ]
            record(conn, "lvol", done, dry_run=True)

    def desired(self):
        """The document that the role hands to spdk_node for the rows as they are now."""
        with connected(self._dsn) as conn:
            rows = read_desired(conn, [NODE], ("disk", "lvol"))[NODE]
        return storage_desired(rows, TRANSPORT_OPTIONS)["desired"]

    def converge(self, record=False):
        """Run the playbook of the collection."""
        return self.play(CONVERGE, record)

    def play(self, playbook, record=False):
        """Run a playbook against the node and return its Result; raises RuntimeError if it fails.

        Without ``record`` nothing but the default callback looks at the results.
        """
        done = run_playbook(
            playbook,
            inventory={"all": {"children": {"storage": {"hosts": {NODE: {"storage_node_socket": self.socket}}}}}},
            extra_vars={"storage_node_transport_options": TRANSPORT_OPTIONS},
            env={"DISKENGINE_DSN": self._dsn, **({} if record else QUIET)},
            timeout=3600,
        )
        if done.rc:
            raise RuntimeError(done.output[-4000:])
        return done

    def write_arguments(self):
        """Write down what spdk_node is given for the rows as they are now, for the two methods that follow."""
        document = self.desired()
        self._document.write_text(document, encoding="utf-8")
        arguments = {"ANSIBLE_MODULE_ARGS": {"socket": self.socket, "desired": document}}
        self._arguments.write_text(json.dumps(arguments), encoding="utf-8")

    def module_task(self):
        """Run spdk_node as the only task of a play."""
        desired = f"{{{{ lookup('ansible.builtin.file', '{self._document}') }}}}"
        return self.play(storage_play([{"name": "Module", MODULE: {"socket": self.socket, "desired": desired}}]))

    def module_process(self):
        """Run spdk_node as a process without any Ansible around it."""
        done = subprocess.run(
            [sys.executable, "-m", _MODULE_PATH, str(self._arguments)],
            cwd=ROOT / ".build" / "tree",
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError((done.stdout + done.stderr)[-4000:])


class Stage:
    """Makes scenes; one PostgreSQL for all of them."""

    def __init__(self, server):
        self._server = server
        self._count = 0
        with psycopg.connect(server.create_database("template_benchmark"), autocommit=True) as conn:
            migrate(conn)

    @contextmanager
    def scene(self, volumes):
        """A fresh target and a fresh database for that many volumes."""
        large = volumes >= _DEFAULT_SUBSYSTEMS
        with running_target(options=["--wait-for-rpc"] if large else []) as target:
            if large:
                target.call("nvmf_set_max_subsystems", {"max_subsystems": volumes + 1})
                target.call("framework_start_init")
            store = target.add_lvstore(
                "lvs", (2 * volumes + 1024) * CLUSTER, cluster_sz=CLUSTER, num_md_pages_per_cluster_ratio=200
            )
            with self.database() as dsn:
                with psycopg.connect(dsn, autocommit=True) as conn:
                    _fill(conn, volumes, store)
                yield Scene(target, dsn, volumes)

    def statements(self, conn):
        """As Postgres.statements()."""
        return self._server.statements(conn)

    @contextmanager
    def database(self):
        """The dsn of a fresh database for the length of the block."""
        self._count += 1
        name = f"benchmark_{self._count}"
        try:
            yield self._server.create_database(name, "template_benchmark")
        finally:
            self._server.drop_database(name)


@contextmanager
def opened_stage():
    """A Stage for the length of the block."""
    with postgres_server() as server:
        yield Stage(server)


def _fill(conn, volumes, store):
    size = store["total_data_clusters"] * store["cluster_size"]
    described = {"name": store["name"], "uuid": store["uuid"], "total_bytes": size, "free_bytes": size}
    make_estate(
        conn,
        nodes=1,
        disks_per_node=1,
        lvols=volumes,
        lvol_bytes=CLUSTER,
        ports={NODE: free_port()},
        lvstores={serial(NODE, 0): described},
    )
    conn.execute("ANALYZE")


def storage_play(tasks):
    """A play of these tasks on the node."""
    return play(*tasks, hosts="storage")


def no_op_play(events):
    """A playbook with a task that does nothing for each of the events, of the same sort and on the same host."""
    plays = []
    for event in events:
        if not plays or plays[-1]["hosts"] != event["host"]:
            plays += play(hosts=event["host"])
        plays[-1]["tasks"].append(_no_op(event))
    return plays


def _no_op(event):
    if is_module(event["action"]):
        return {"name": "Module", "ansible.builtin.ping": {}}
    task = {"name": "Action", "ansible.builtin.debug": {"msg": "nothing"}}
    return {**task, "when": False} if event["event"] == "skipped" else task


def is_module(action):
    """Whether a task of the role runs as a module, not as an action plugin on the controller."""
    collection, _dot, name = action.rpartition(".")
    return collection == "excloud.diskengine" and not Path(ROOT, "plugins", "action", f"{name}.py").exists()
