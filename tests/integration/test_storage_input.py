# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input to the playbook: one clear sentence, no traceback, and neither rows nor targets are touched."""

from __future__ import annotations

import itertools

import psycopg
import pytest
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_schema import ensure_login_role
from support.ansible import run_playbook

PASSWORD = "open-sesame-0815"
_numbers = itertools.count(1)


@pytest.fixture
def site(make_site):
    return make_site(lvols=2)


@pytest.fixture
def role(conn, postgres):
    """A login role that may do what convergence needs."""
    name = f"storage_{next(_numbers)}"
    ensure_login_role(conn, name, PASSWORD, True, dry_run=False)
    yield name
    conn.execute(f"DROP OWNED BY {name}")
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"DROP ROLE {name}")


def refused(done, *said):
    """The run failed with one message that says all this."""
    assert done.rc == 2, done.output
    for word in ("Traceback", "MODULE FAILURE", PASSWORD, "Conditional result"):
        assert word not in done.output
    (message,) = {event["result"]["msg"] for event in done.events if event["event"] == "failed"}
    assert "\n" not in message
    assert len(message) < 500
    for text in said:
        assert text in message


def run(site, said, touched=0, **host_vars):
    """A run with these variables of the host is refused, with as many recorded requests, and changes nothing."""
    rows = site.table()
    done = site.converge(host_vars=host_vars)
    refused(done, *said)
    assert site.mutations() == []
    assert len(site.target.recorder.requests) == touched
    assert site.table() == rows
    assert site.target.exports() == {}


def test_the_database_is_down(site, tmp_path):
    run(
        site,
        ["The database failed: ", "No such file or directory"],
        storage_node_dsn=f"host={tmp_path} dbname=x user=y",
    )


def test_the_database_refuses_connections(site):
    run(site, ["The database failed: ", "refused"], storage_node_dsn="host=127.0.0.1 port=1 dbname=x user=y")


def test_the_dsn_is_none(site):
    run(site, ["The DSN is neither a URL nor a connection string of libpq."], storage_node_dsn="somewhere")


def test_there_is_no_such_database(site, postgres):
    run(site, ['"nothing_here" does not exist'], storage_node_dsn=postgres.dsn("nothing_here"))


def test_there_is_no_schema(site, empty_dsn):
    run(site, ["run the role database first"], storage_node_dsn=empty_dsn)


def test_passwords(site, role):
    dsn = site.dsn.replace("user=postgres", f"user={role}")
    run(site, ["password authentication failed"], storage_node_dsn=dsn, storage_node_password="wrong-guess")
    run(site, ["no password supplied"], storage_node_dsn=dsn)
    done = site.converge(host_vars={"storage_node_dsn": dsn, "storage_node_password": PASSWORD})
    assert done.rc == 0
    assert PASSWORD not in done.output
    site.check_served()


def test_the_database_does_not_know_the_node(site):
    run(site, ["The database knows no node named elsewhere."], storage_node_name="elsewhere")


def test_sockets(site, tmp_path):
    (tmp_path / "file").touch()
    missing = tmp_path / "missing"
    run(site, [f"there is no socket {missing}"], storage_node_socket=str(missing))
    run(site, [f"{tmp_path}/file is not a socket"], storage_node_socket=str(tmp_path / "file"))


def test_the_target_is_dead(site):
    rows = site.table()
    site.target.kill()
    refused(site.converge(host_vars={"storage_node_socket": site.target.direct}), "nothing listens on")
    assert site.table() == rows


def test_the_target_hangs(site):
    """Stopped, it accepts connections and says nothing."""
    rows = site.table()
    with site.target.stopped():
        done = site.converge(host_vars={"storage_node_socket": site.target.direct, "storage_node_timeout": 1})
    refused(done, "accepted the connection but gave no answer (no answer within 1 s)")
    assert site.table() == rows
    assert site.converge().rc == 0
    site.check_served()


@pytest.mark.parametrize(
    "option, said",
    [
        ({"storage_node_purge": ["data"]}, "storage_node_purge must be one or more of: listeners, hosts, namespaces"),
        ({"storage_node_timeout": "soon"}, "storage_node_timeout"),
    ],
    ids=["purge", "timeout"],
)
def test_options_of_the_role(site, option, said):
    """Ansible itself refuses them, in its own words."""
    done = site.converge(host_vars=option)
    (message,) = {event["result"]["msg"] for event in done.events if event["event"] == "failed"}
    assert done.rc == 2
    assert message.startswith("Validation of arguments failed")
    assert said in message
    assert "Traceback" not in done.output
    assert site.target.recorder.requests == []


def test_an_unknown_transport_option(site):
    run(site, ["desired: ", "queue_dept"], storage_node_transport_options={"queue_dept": 4})


def test_a_host_nqn_that_spdk_would_not_take(site):
    site.conn.execute("UPDATE diskengine.node SET hostnqn = 'nqn.2024-13.io.excloud:host' WHERE kind = 'compute'")
    done = site.converge()
    refused(done, "host NQN 'nqn.2024-13.io.excloud:host' is not an NQN", *[row["nqn"] for row in site.rows()])
    assert site.target.exports() == {}
    assert {row["state"] for row in site.rows()} == {"CREATING"}
    site.conn.execute("UPDATE diskengine.node SET hostnqn = 'nqn.2024-12.io.excloud:host' WHERE kind = 'compute'")
    assert site.converge().rc == 0
    site.check_served()


def test_an_inventory_without_storage_nodes():
    refused(run_playbook("excloud.diskengine.converge"), "No host of the inventory matches storage")
