# SPDX-License-Identifier: GPL-3.0-or-later
"""make demo: rows in a real PostgreSQL become namespaces on two storage nodes, and a second run changes nothing."""

from __future__ import annotations

import sys
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / ".build" / "tree")]

import psycopg  # noqa: E402
from support.ansible import run_playbook  # noqa: E402
from support.estate import make_estate, serial, set_lvstores  # noqa: E402
from support.postgres import postgres_server  # noqa: E402
from support.targets import is_real, running_target  # noqa: E402

STORAGE = ("storage-1", "storage-2")
MIB = 1 << 20
LOGIN = {"database_login_role": "converger", "database_login_password": "only-for-the-demo"}


def main():
    """Run the demo; the exit status tells whether the second run changed nothing."""
    with ExitStack() as stack:
        _say(f"Starting PostgreSQL and three SPDK targets ({'the real program' if is_real() else 'simulated'})")
        server = stack.enter_context(postgres_server())
        names = (*STORAGE, "compute-1")
        targets = {name: stack.enter_context(running_target(core % 2)) for core, name in enumerate(names)}
        owner = server.create_database("diskengine")
        inventory = _inventory(targets, server.dsn("diskengine", LOGIN["database_login_role"]))

        _say("Schema, disks and lvstores, and a sample estate: 2 nodes, 4 disks, 40 lvols CREATING")
        _run(HERE / "prepare.yml", inventory, extra_vars={"database_dsn": owner, **LOGIN})
        with psycopg.connect(owner, autocommit=True) as conn:
            make_estate(conn, lvol_bytes=100 * MIB)
            set_lvstores(conn, _lvstores(targets))

        _say("What would a run do? converge.yml --check --diff")
        _run("excloud.diskengine.converge", inventory, check=True, diff=True)
        _say("converge.yml")
        _run("excloud.diskengine.converge", inventory)
        for name in STORAGE:
            targets[name].recorder.clear()
        _say("converge.yml again")
        again = _run("excloud.diskengine.converge", inventory)

        _say("What is exported where")
        _table({name: targets[name] for name in STORAGE}, owner)
        changed = sum(again.changed.values())
        calls = sum(len(targets[name].recorder.mutations) for name in STORAGE)
        print(f"\nThe second run changed {changed} and sent {calls} calls that change something.")
        return 0 if changed == calls == 0 else 1


def _say(text):
    print(f"\n=== {text}\n", flush=True)


def _run(playbook, inventory, **options):
    result = run_playbook(playbook, inventory, echo=True, **options)
    if result.rc:
        sys.exit(f"\nansible-playbook ended with {result.rc}")
    return result


def _inventory(targets, dsn):
    hosts = {name: {"storage_node_socket": targets[name].socket} for name in STORAGE}
    return {
        "all": {
            "children": {
                "storage": {
                    "hosts": hosts,
                    "vars": {"storage_node_dsn": dsn, "storage_node_password": LOGIN["database_login_password"]},
                }
            }
        }
    }


def _lvstores(targets):
    found = {}
    for name in STORAGE:
        for index, store in enumerate(sorted(targets[name].call("bdev_lvol_get_lvstores"), key=lambda s: s["name"])):
            found[serial(name, index)] = {
                "name": store["name"],
                "uuid": store["uuid"],
                "total_bytes": store["total_data_clusters"] * store["cluster_size"],
                "free_bytes": store["free_clusters"] * store["cluster_size"],
            }
    return found


def _table(targets, dsn):
    with psycopg.connect(dsn) as conn:
        states = dict(conn.execute("SELECT nqn, state FROM diskengine.v_lvol").fetchall())
    print(f"{'node':<11}{'listener':<17}{'lvstore':<9}{'exports':<9}{'rows UP':<9}lvols")
    for name, target in targets.items():
        groups = defaultdict(list)
        for nqn, (listeners, _hosts, bdevs) in target.exports().items():
            lvstore, _slash, lvol = ",".join(bdevs).partition("/")
            groups[",".join(listeners), lvstore].append((int(lvol), states.get(nqn)))
        for (listener, lvstore), lvols in sorted(groups.items()):
            up = sum(state == "UP" for _lvol, state in lvols)
            named = " ".join(str(lvol) for lvol, _state in sorted(lvols))
            print(f"{name:<11}{listener:<17}{lvstore:<9}{len(lvols):<9}{up:<9}{named}")


if __name__ == "__main__":
    sys.exit(main())
