# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scenarios run against: PostgreSQL, and two SPDK targets (simulated, or SPDK_TGT) with a sample estate.

environment.py start|fill|drift|verify|stop DIRECTORY, where DIRECTORY keeps what the commands tell each other.
drift and verify use neither the collection's modules nor its client.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

import psycopg
from psycopg.rows import dict_row
from support.estate import make_estate, serial
from support.postgres import postgres_server
from support.targets import MIB, Target, rpc

NODES = ("storage-1", "storage-2")
DISKS = 2
START_SECONDS = 90


def serve(directory: Path) -> None:
    """Hold everything up until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    with ExitStack() as stack:
        run = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mol", dir="/tmp")))
        server = stack.enter_context(postgres_server())
        told: dict = {"dsn": server.create_database("diskengine"), "sockets": {}, "lvstores": {}}
        for core, node in enumerate(NODES):
            (run / node).mkdir()
            target = Target(run / node, core)
            stack.callback(target.stop)
            target.start()
            for index in range(DISKS):
                store = target.add_lvstore(f"lvs-{index}", 1024 * MIB, cluster_sz=MIB)
                told["lvstores"][serial(node, index)] = {
                    "name": store["name"],
                    "uuid": store["uuid"],
                    "total_bytes": store["total_data_clusters"] * store["cluster_size"],
                    "free_bytes": store["free_clusters"] * store["cluster_size"],
                }
            told["sockets"][node] = target.socket
        ready = directory / "environment.new"
        ready.write_text(json.dumps(told))
        ready.rename(directory / "environment.json")
        while True:
            signal.pause()


def start(directory: Path) -> None:
    """Start serve() in the background and return when all is up."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "environment.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, __file__, "serve", str(directory)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (directory / "environment.pid").write_text(str(process.pid))
    deadline = time.monotonic() + START_SECONDS
    while not (directory / "environment.json").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            stop(directory)
            sys.exit("The environment did not start: " + (directory / "environment.log").read_text())
        time.sleep(0.05)


def stop(directory: Path) -> None:
    """End it, if it runs."""
    try:
        pid = int((directory / "environment.pid").read_text())
    except FileNotFoundError:
        return
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if str(directory).encode() in command:
            os.kill(pid, signal.SIGTERM)
            while Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text():
                time.sleep(0.05)
    except (FileNotFoundError, ProcessLookupError):
        pass
    for name in ("environment.json", "environment.pid"):
        (directory / name).unlink(missing_ok=True)


def told(directory: Path) -> dict:
    return json.loads((directory / "environment.json").read_text())


def fill(directory: Path) -> None:
    """Put the sample estate into the schema: 20 lvols on each node, all of them CREATING."""
    known = told(directory)
    with psycopg.connect(known["dsn"], autocommit=True) as connection:
        make_estate(connection, nodes=len(NODES), disks_per_node=DISKS, lvol_bytes=8 * MIB, lvstores=known["lvstores"])


def drift(directory: Path) -> None:
    """Take things away behind the back of the collection: an export from one node, a host's access on the other."""
    known = told(directory)
    for node, spoil in zip(NODES, (unexport, forbid)):
        with psycopg.connect(known["dsn"]) as connection:
            query = "SELECT nqn, hosts FROM diskengine.v_lvol WHERE node = %s ORDER BY id LIMIT 1"
            nqn, hosts = connection.execute(query, [node]).fetchone()
        print(node, spoil(known["sockets"][node], nqn, hosts))


def unexport(path: str, nqn: str, _hosts: list[str]) -> str:
    rpc(path, "nvmf_delete_subsystem", {"nqn": nqn})
    return f"lost {nqn}"


def forbid(path: str, nqn: str, hosts: list[str]) -> str:
    rpc(path, "nvmf_subsystem_remove_host", {"nqn": nqn, "host": hosts[0]})
    return f"lost {hosts[0]} of {nqn}"


def verify(directory: Path) -> None:
    """Compare the rows with what the targets answer, object by object. Prints what is wrong."""
    known = told(directory)
    with psycopg.connect(known["dsn"], row_factory=dict_row) as connection:
        rows = connection.execute("SELECT * FROM diskengine.v_lvol ORDER BY id").fetchall()
    wrong = [] if rows else ["there are no rows"]
    for node in NODES:
        subsystems = {item["nqn"]: item for item in rpc(known["sockets"][node], "nvmf_get_subsystems")}
        bdevs = {item["name"]: item for item in rpc(known["sockets"][node], "bdev_get_bdevs")}
        mine = [row for row in rows if row["node"] == node]
        for row in mine:
            expected = (
                "UP",
                [f"{row['lvstore_name']}/{row['id']}"],
                row["size_bytes"],
                [row["uuid"]],
                {(item["traddr"], item["trsvcid"]) for item in row["listeners"]},
                set(row["hosts"]),
                False,
            )
            bdev = bdevs.get(row["uuid"], {"aliases": [], "block_size": 0, "num_blocks": 0})
            exported = subsystems.pop(row["nqn"], None) or {
                "namespaces": [], "listen_addresses": [], "hosts": [], "allow_any_host": None,
            }  # fmt: skip
            found = (
                row["state"],
                bdev["aliases"],
                bdev["block_size"] * bdev["num_blocks"],
                [item["bdev_name"] for item in exported["namespaces"]],
                {(item["traddr"], item["trsvcid"]) for item in exported["listen_addresses"]},
                {item["nqn"] for item in exported["hosts"]},
                exported["allow_any_host"],
            )
            if found != expected:
                wrong.append(f"{node} lvol {row['id']}: expected {expected}, found {found}")
        left = [nqn for nqn, item in subsystems.items() if item["subtype"] == "NVMe"]
        lvols = [name for name, item in bdevs.items() if item["product_name"] == "Logical Volume"]
        if left or len(lvols) != len(mine):
            wrong.append(f"{node}: {len(lvols)} lvols for {len(mine)} rows, subsystems of nobody: {left}")
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{len(rows)} lvols are exported as their rows say")


if __name__ == "__main__":
    commands = {command.__name__: command for command in (serve, start, fill, drift, verify, stop)}
    commands[sys.argv[1]](Path(sys.argv[2]))
