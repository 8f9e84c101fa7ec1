# SPDX-License-Identifier: GPL-3.0-or-later
"""A changed wish is heard as the names of the nodes that it touches; results are not. From rows to a started run."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import inspect
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest
import yaml
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import record, register
from support.ansible import ROOT
from support.estate import invented_lvstores, make_estate
from support.runs import WAIT_SECONDS, until

SOURCE = ROOT / "extensions/eda/plugins/event_source/wishes.py"
UUID = "5b1a3c2e-7a3f-4d8f-9a53-0f6f4f0f8a11"


@pytest.fixture
def estate(conn):
    """Volumes on the nodes 1 and 2, 2 and 3, 3 and 1, all of them mapped to compute-1."""
    return make_estate(conn, nodes=3, disks_per_node=1, lvols=6, lvstores=invented_lvstores(3, 1))


@pytest.fixture
def heard(conn, dsn):
    """Run statements in one transaction; return the payloads that it sent, in order."""
    with psycopg.connect(dsn, autocommit=True) as listener:
        listener.execute("LISTEN diskengine_wish")

        def until_told(mark):
            conn.execute(f"NOTIFY diskengine_wish, '{mark}'")
            said = []
            while mark not in said:
                said += [notify.payload for notify in listener.notifies(timeout=WAIT_SECONDS, stop_after=1)]
            return said[:-1]

        def hear(*statements):
            until_told("begin")
            with conn.transaction():
                for statement in statements:
                    statement() if callable(statement) else conn.execute(*statement)
            return until_told("end")

        yield hear


def test_wishes_are_heard_where_something_is_to_be_done(conn, estate, heard):
    first, second, _third = estate.volumes
    one, two, three, host = "storage-1", "storage-2", "storage-3", "compute-1"
    lvol = conn.execute("SELECT min(id) FROM diskengine.v_lvol WHERE node = %s", [one]).fetchone()[0]
    disk, *_others = estate.disks.values()
    conn.execute("INSERT INTO diskengine.node (name, kind, hostnqn) VALUES ('compute-2', 'compute', 'nqn.2024-01.a:b')")

    def volume(change):
        return f"UPDATE diskengine.volume SET {change} WHERE id = %s", [first]

    assert sorted(heard(volume("rw_ios_per_sec = 5"))) == sorted([one, two, host])
    assert heard(volume("rw_ios_per_sec = 5")) == []  # it is that already
    leave = "UPDATE diskengine.mapping SET state = %s WHERE volume_id = %s AND node = %s"
    assert set(heard((leave, ["DETACHING", second, host]))) == {two, three, host}
    add = "INSERT INTO diskengine.mapping (volume_id, node) VALUES (%s, 'compute-2')"
    assert set(heard((add, [second]))) == {two, three, host, "compute-2"}
    assert heard((leave, ["DETACHED", second, host])) == []
    assert set(heard((leave, ["DETACHING", second, "compute-2"]))) == {two, three, "compute-2"}
    assert set(heard(("UPDATE diskengine.lvol SET state = 'DELETING' WHERE id = %s", [lvol]))) >= {one, host}
    assert heard(("INSERT INTO diskengine.snapshot (id, lvol_id) VALUES (1, %s)", [lvol])) == [one]
    assert heard(("UPDATE diskengine.snapshot SET state = 'DELETING'",)) == [one]
    moved = "UPDATE diskengine.disk_listener SET trsvcid = 4500 WHERE disk_id = %s"
    assert set(heard((moved, [disk]))) == {one, two, three, host}
    assert heard(("DELETE FROM diskengine.disk_listener WHERE disk_id = %s AND trsvcid = 1", [disk])) == []
    assert heard(("UPDATE diskengine.disk SET state = 'RETIRED' WHERE id = %s", [disk])) == [one]
    assert heard(lambda: register(conn, two, [{"serial": "new", "bdf": "0000:99:00.0"}])) == [two]
    assert heard((leave, ["DETACHED", second, "compute-2"])) == []
    renamed = "UPDATE diskengine.node SET hostnqn = 'nqn.2024-01.c:d' WHERE name = %s"
    assert set(heard((renamed, [host]))) == {one, two, three, host}
    assert heard(("UPDATE diskengine.node SET hostnqn = 'nqn.2024-01.e:f' WHERE name = 'compute-2'",)) == []
    assert heard(("UPDATE diskengine.node SET state = 'cordoned' WHERE name = %s", [one])) == []


def test_results_are_not_heard(conn, estate, heard):
    """Nor what is taken back, nor what removes a row that nothing is left of."""
    number, other, *_others = estate.lvols
    disk, *_others = estate.disks.values()
    conn.execute("INSERT INTO diskengine.snapshot (id, lvol_id) VALUES (1, %s)", [number])
    conn.execute("UPDATE diskengine.lvol SET state = 'DELETING' WHERE id = %s", [other])

    def results():
        for kind, change in (
            ("lvol", {"id": number, "from": "CREATING", "to": "UP", "uuid": UUID}),
            ("lvol", {"id": other, "from": "DELETING", "to": "GONE"}),
            ("snapshot", {"id": 1, "from": "CREATING", "to": "UP", "uuid": UUID}),
            ("mapping", {"id": estate.mappings[0], "from": "ASSIGNED", "to": "INITIALISED", "initialised_bytes": 7}),
            ("disk", {"id": disk, "from": "UP", "to": "UP", "free_bytes": 5, "health": "ok", "bdf": "0000:77:00.0"}),
        ):
            assert record(conn, kind, [change])[0]["outcome"] == "changed"

    assert heard(results) == []
    assert set(heard(("UPDATE diskengine.lvol SET state = 'RESIZING', size_bytes = size_bytes * 2 WHERE id = %s",
                      [number]))) >= {"storage-1", "compute-1"}  # fmt: skip
    zeroed = {"id": number, "from": "RESIZING", "to": "UP", "zeroed_bytes": 200 << 20}
    assert heard(lambda: record(conn, "lvol", [zeroed])) == []
    with pytest.raises(ZeroDivisionError):
        heard(("UPDATE diskengine.volume SET rw_ios_per_sec = 9",), lambda: 1 / 0)
    assert heard() == []


def test_a_bulk_change_names_each_node_once(conn, heard):
    estate = make_estate(conn, nodes=4, disks_per_node=1, lvols=4000)
    nodes = {*estate.nodes, "compute-1"}
    said = heard(("UPDATE diskengine.volume SET rw_ios_per_sec = 9",))
    assert (set(said), len(said)) == (nodes, len(nodes))


def load():
    spec = importlib.util.spec_from_file_location("wishes", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_its_options_are_documented():
    module = load()
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    taken = inspect.signature(module.wishes).parameters
    assert {name: option.get("default") for name, option in documented.items()} == {
        name: parameter.default or None for name, parameter in taken.items()
    }


@pytest.fixture
def source(dsn):
    """The event source as ansible-rulebook runs it; returns its next event, or None when there is none in a while."""
    events, loop = queue.Queue(), asyncio.new_event_loop()

    class Events:
        async def put(self, event):
            events.put(event)

    task = loop.create_task(load().main(Events(), {"dsn": dsn, "delay": 0.5}))

    def run():
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    yield lambda: events.get(timeout=WAIT_SECONDS)
    loop.call_soon_threadsafe(task.cancel)
    thread.join()


EVERYTHING = {"limit": "all", "meta": {"hosts": ["all"]}}


def test_events(postgres, conn, estate, source, caplog):
    assert source() == EVERYTHING  # nobody has listened before
    first, second, _third = estate.volumes
    # A burst of several transactions is one event.
    for change in (1, 2, 3):
        conn.execute("UPDATE diskengine.volume SET rw_ios_per_sec = %s WHERE id = %s", [change, first])
    nodes = ["compute-1", "storage-1", "storage-2"]
    assert source() == {"limit": ",".join(nodes), "meta": {"hosts": nodes}}
    # The connection is lost, and cannot be made for a while; wishes of that time were heard by nobody.
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        name = conn.info.dbname
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        listening = "WHERE datname = %s AND application_name = 'excloud.diskengine.wishes'"
        ended = admin.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity {listening}", [name])
        assert ended.fetchall() == [(True,)]
        conn.execute("UPDATE diskengine.volume SET rw_ios_per_sec = 9 WHERE id = %s", [second])
        until(lambda: "not currently accepting connections" in caplog.text)
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert source() == EVERYTHING
    conn.execute("UPDATE diskengine.volume SET rw_ios_per_sec = 10 WHERE id = %s", [second])
    assert source()["limit"] == "compute-1,storage-2,storage-3"


def test_without_ansible_rulebook(conn, dsn, estate, tmp_path):
    """A command is started for each event, one after the other; what comes while it runs is one event."""
    said, go = tmp_path / "said", tmp_path / "go"
    script = f'echo "$1 $2" >> {said}; while [ ! -e {go} ]; do sleep 0.05; done; exit 3'
    command = ["sh", "-c", script, "sh", "--limit"]
    environment = {"PATH": "/usr/bin:/bin", "DISKENGINE_DSN": dsn}
    program = [sys.executable, str(SOURCE), "--delay", "0.1", *command]
    with subprocess.Popen(program, env=environment, stderr=subprocess.PIPE, text=True) as process:
        until(said.exists)
        first, second, third = estate.volumes
        for volume in (first, second, third):
            conn.execute("UPDATE diskengine.volume SET rw_ios_per_sec = 5 WHERE id = %s", [volume])
        go.touch()
        until(lambda: len(said.read_text().splitlines()) == 2)
        process.send_signal(signal.SIGTERM)
        errors = process.stderr.read()
    assert said.read_text().splitlines() == ["--limit all", "--limit compute-1,storage-1,storage-2,storage-3"]
    assert "sh for all ended with 3" in errors and "Traceback" not in errors


@pytest.mark.skipif("ANSIBLE_RULEBOOK" not in os.environ, reason="ANSIBLE_RULEBOOK names no ansible-rulebook")
def test_the_rulebook(make_site, tmp_path):
    """At the start all nodes are converged, then those that a wish touches."""
    site = make_site(nodes=2, lvols=2, replicas=1)
    program = Path(os.environ["ANSIBLE_RULEBOOK"])
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {
        name: {"storage_node_socket": target.socket, "storage_node_dsn": site.dsn, "storage_node_drives": False}
        for name, target in site.targets.items()
    }
    groups = {"storage": {"hosts": hosts, "vars": local}, "compute": {}}
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(groups))
    environment = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "DISKENGINE_DSN": site.dsn,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build" / "tree"),
    }
    command = [program, "--rulebook", "excloud.diskengine.converge_on_change", "--inventory", "inventory.yml"]
    with (
        open(tmp_path / "log", "wb") as log,
        subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log) as process,
    ):
        try:
            until(lambda: {row["state"] for row in site.rows()} == {"UP"})
            until(lambda: site.conn.execute("SELECT FROM diskengine.v_lease").fetchone() is None)
            site.clear()
            (gone,) = site.each()[0].rows()
            site.conn.execute("UPDATE diskengine.lvol SET state = 'DELETING' WHERE id = %s", [gone["id"]])
            until(lambda: [row["node"] for row in site.rows()] == ["storage-2"])
        finally:
            process.terminate()
    assert [bool(node.target.recorder.requests) for node in site.each()] == [True, False]
