# SPDX-License-Identifier: GPL-3.0-or-later
"""The role and the action plugins, through the real ansible-playbook."""

from __future__ import annotations

import itertools

import psycopg
import pytest
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_schema import ensure_login_role
from support.ansible import play, run_playbook
from support.estate import COMPUTE, invented_lvstores, make_estate
from support.schema import MIGRATIONS

UUID = "5b1a3c2e-7a3f-4d8f-9a53-0f6f4f0f8a11"
SECRET = "hunter2-never-shown"
_numbers = itertools.count(1)


@pytest.fixture
def estate(conn):
    return make_estate(conn, lvols=4, lvstores=invented_lvstores())


@pytest.fixture
def role(postgres):
    """The name of a login role that is removed at the end."""
    name = f"played_{next(_numbers)}"
    yield name
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"DROP ROLE IF EXISTS {name}")


def info(dsn, **options):
    return {"name": "Read", "excloud.diskengine.desired_state_info": {"dsn": dsn, **options}, "register": "desired"}


def recording(dsn, rows, **options):
    return {"name": "Record", "excloud.diskengine.record_state": {"dsn": dsn, "rows": rows, **options}}


def row(number, before="CREATING", after="UP", kind="lvol", **fields):
    return {"kind": kind, "id": number, "from": before, "to": after, **fields}


def states(conn):
    return conn.execute("SELECT id, state, uuid::text FROM diskengine.lvol ORDER BY id").fetchall()


def fails_clearly(done, *said):
    """One sentence, no traceback, no secret."""
    assert done.rc == 2
    assert "Traceback" not in done.output
    assert SECRET not in done.output
    message = done.failure
    for text in said:
        assert text in message
    assert "\n" not in message
    return message


def test_the_role_check_run_again(empty_dsn, role, postgres):
    plays = play(
        {
            "name": "Set up",
            "ansible.builtin.include_role": {"name": "excloud.diskengine.database"},
            "vars": {
                "database_dsn": empty_dsn,
                "database_login_role": role,
                "database_login_password": SECRET,
            },
        }
    )
    migrations = sorted(path.name for path in MIGRATIONS.iterdir())
    predicted = run_playbook(plays, check=True, diff=True)
    with psycopg.connect(empty_dsn) as own:
        assert own.execute("SELECT to_regnamespace('diskengine')").fetchone() == (None,)
    done = run_playbook(plays, diff=True)
    again = run_playbook(plays)
    expected = predicted.result("Bring the schema up to date")
    assert done.result("Bring the schema up to date") == expected
    assert (expected["applied"], expected["changed"]) == (migrations, True)
    assert expected["role_changes"] == ["create role", "set password", "grant privileges"]
    assert (again.rc, again.result("Bring the schema up to date")["changed"]) == (0, False)
    assert not any(SECRET in each.output for each in (predicted, done, again))
    with psycopg.connect(empty_dsn.replace("user=postgres", f"user={role}"), password=SECRET) as own:
        assert own.execute("SELECT count(*) FROM diskengine.v_node").fetchone() == (0,)
    with psycopg.connect(empty_dsn, autocommit=True) as admin:
        admin.execute(f"DROP OWNED BY {role}")


def test_role_needs_the_password_of_the_login_role(empty_dsn):
    plays = play(
        {
            "name": "Set up",
            "ansible.builtin.include_role": {"name": "excloud.diskengine.database"},
            "vars": {"database_dsn": empty_dsn, "database_login_role": "someone"},
        }
    )
    fails_clearly(run_playbook(plays), "login_password")


def test_every_host_takes_its_part(dsn, estate):
    inventory = {"all": {"hosts": {"storage-1": {}, "storage-2": {}, COMPUTE: {}}}}
    done = run_playbook(
        play(
            {**info(dsn, nodes="{{ ansible_play_hosts }}"), "run_once": True},
            {
                "name": "Count",
                "ansible.builtin.debug": {
                    "msg": "{{ desired.nodes[inventory_hostname] | dict2items | rejectattr('key', 'eq', 'node')"
                    " | map(attribute='value') | map('length') }}"
                },
            },
            hosts="all",
        ),
        inventory,
        check=True,
    )
    assert done.rc == 0
    assert [done.result("Count", host)["msg"] for host in ("storage-1", COMPUTE)] == [[2, 2, 0, 2, 0], [0, 0, 0, 2, 2]]
    assert done.result("Read")["changed"] is False
    lvol = done.result("Read")["nodes"]["storage-1"]["lvols"][0]
    assert (lvol["thin"], lvol["uuid"], lvol["listeners"][0]["trsvcid"]) == (True, None, "4421")


def test_record_check_run_again(conn, dsn, estate):
    plays = play(recording(dsn, [row(estate.lvols[0], uuid=UUID, revision=1), row(estate.lvols[1], uuid=None)]))
    before = states(conn)
    # The second row has no UUID: fine in a preview, where nothing was made yet, not fine in a run.
    predicted = run_playbook(plays, check=True, diff=True)
    assert (predicted.rc, predicted.result("Record")["changed"], states(conn)) == (0, True, before)
    assert predicted.result("Record")["diff"]["after"] == {
        f"lvol {estate.lvols[0]}": {"state": "UP", "uuid": UUID},
        f"lvol {estate.lvols[1]}": {"state": "UP", "uuid": "(known after the run)"},
    }
    done = run_playbook(plays, diff=True)
    fails_clearly(done, "1 of 2 rows", f"lvol {estate.lvols[1]}: refused", "lvol_up_has_uuid")
    assert done.result("Record")["changed"] is True
    assert states(conn)[0] == (estate.lvols[0], "UP", UUID)
    again = run_playbook(play(recording(dsn, [row(estate.lvols[0], uuid=UUID, revision=1)])), diff=True)
    assert (again.rc, again.result("Record")["changed"], "diff" in again.result("Record")) == (0, False, False)


def test_check_and_run_show_the_same_diff(conn, dsn, estate):
    plays = play(recording(dsn, [row(number, uuid=UUID[:-1] + str(n)) for n, number in enumerate(estate.lvols)]))
    predicted, done = run_playbook(plays, check=True, diff=True), run_playbook(plays, diff=True)
    assert predicted.result("Record") == done.result("Record")


def test_reasons_are_grouped(conn, dsn, estate):
    conn.execute("UPDATE diskengine.lvol SET state = 'DELETING' WHERE id = ANY (%s)", [estate.lvols[:2]])
    done = run_playbook(play(recording(dsn, [row(number, uuid=UUID) for number in [*estate.lvols[:3], 77777]])))
    first, second = estate.lvols[:2]
    assert fails_clearly(done) == (
        f"3 of 4 rows were not recorded: lvol {first}, {second}: stale, is DELETING, expected CREATING; "
        "lvol 77777: missing, no such row."
    )
    assert states(conn)[2] == (estate.lvols[2], "UP", UUID)


def test_rows_of_all_kinds(conn, dsn, estate):
    """In one call and one result, in the order of the rows; a kind that fails does not stop the next."""
    disk, *_others = estate.disks.values()
    conn.execute("INSERT INTO diskengine.snapshot (id, lvol_id) VALUES (1, %s)", [estate.lvols[0]])
    rows = [
        row(1, uuid=UUID, kind="snapshot"),
        row(disk, "UP", "UP", kind="disk", free_bytes=5),
        row(77777, uuid=UUID),
        row(estate.lvols[0], uuid=UUID[:-1] + "7"),
        row(88888, "UP", "UP", kind="disk"),
    ]
    predicted, done = (run_playbook(play(recording(dsn, rows)), diff=True, check=check) for check in (True, False))
    said = "2 of 5 rows were not recorded: lvol 77777: missing, no such row; disk 88888: missing, no such row."
    assert [fails_clearly(predicted), fails_clearly(done)] == [said, said]
    result = done.result("Record")
    assert result["diff"] == predicted.result("Record")["diff"]
    assert [(each["kind"], each["id"], each["outcome"]) for each in result["results"]] == [
        ("snapshot", 1, "changed"),
        ("disk", disk, "changed"),
        ("lvol", 77777, "missing"),
        ("lvol", estate.lvols[0], "changed"),
        ("disk", 88888, "missing"),
    ]
    assert conn.execute("SELECT state FROM diskengine.snapshot").fetchall() == [("UP",)]
    assert conn.execute("SELECT free_bytes FROM diskengine.disk WHERE id = %s", [disk]).fetchall() == [(5,)]


def test_no_rows_no_connection():
    done = run_playbook(play(recording("host=/nowhere", [])))
    assert (done.rc, done.result("Record")["changed"], done.result("Record")["results"]) == (0, False, [])


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(
    ("task", "said"),
    [
        (info("host=/nowhere dbname=x", password=SECRET), "No such file or directory"),
        (recording("host=127.0.0.1 port=1", [row(1)], password=SECRET), "Connection refused"),
        (info(f"postgresql://u:{SECRET}@[bad"), "neither a URL nor a connection string"),
        (info("host=/nowhere", kinds=["shelf"]), "kinds"),
        (info("host=/nowhere", colour="red"), "colour"),
        (recording("host=/nowhere", [{"kind": "lvol", "id": 1, "to": "UP"}]), "from"),
        (recording("host=/nowhere", [row("many")]), "many"),
        (recording("host=/nowhere", [row(1, kind="shelf")]), "shelf"),
        (recording("host=/nowhere", [row(1)], lease=7), "each of the rows needs its node"),
    ],
)
def test_bad_input(task, said, check):
    fails_clearly(run_playbook(play(task), check=check), said)


def test_a_wrong_password(conn, dsn, role):
    ensure_login_role(conn, role, "right", True)
    login = dsn.replace("user=postgres", f"user={role}")
    fails_clearly(run_playbook(play(info(login, password=SECRET)), args=["-vvv"]), "password authentication failed")
    assert run_playbook(play(info(login, password="right"))).rc == 0
    conn.execute(f"DROP OWNED BY {role}")


def test_no_schema_and_no_such_node(empty_dsn, dsn, estate):
    fails_clearly(run_playbook(play(info(empty_dsn))), "run the role database first")
    fails_clearly(run_playbook(play(info(dsn, nodes=["storage-7"]))), "knows no node named storage-7.")


def test_without_psycopg(dsn, tmp_path):
    (tmp_path / "psycopg.py").write_text("raise ImportError('not here')\n")
    done = run_playbook(play(info(dsn)), env={"PYTHONPATH": str(tmp_path)})
    fails_clearly(done, "psycopg (version 3) is needed on the controller")


def test_the_environment_of_the_controller(dsn, estate):
    plays = play({"name": "Read", "excloud.diskengine.desired_state_info": {}})
    assert run_playbook(plays, env={"DISKENGINE_DSN": dsn}).rc == 0
    host, name = (part.split("=")[1] for part in dsn.split()[:2])
    assert run_playbook(plays, env={"PGHOST": host, "PGDATABASE": name, "PGUSER": "postgres"}).rc == 0
