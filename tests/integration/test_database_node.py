# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes are wished for by the module node."""

from __future__ import annotations

import psycopg
import pytest
from support.ansible import play, run_playbook
from support.documented import differences, own_keys, returned
from support.estate import make_estate

NODE = "excloud.diskengine.node"
STORAGE = {"kind": "storage", "failure_domain": "rack-1", "addresses": [{"address": "192.0.2.1", "trtype": "TCP"}]}
HOSTNQN = "nqn.2014-08.org.nvmexpress:uuid:5c1f6d1e-4a3a-4b8f-9a35-8a2e0d0f3c55"
ADDRESS = {"trtype": "TCP", "address": "192.0.2.1", "port": 4420}
GONE = {"state": "GONE"}

# What is asked for, in this order, and what is reported as changed: before and after, or why it was refused.
STEPS = [
    ({"kind": "storage", "maintaining": ""}, GONE, {"addresses": [], "kind": "storage", "state": "active"}),
    (STORAGE, {"failure_domain": None, "addresses": []}, {"failure_domain": "rack-1", "addresses": [ADDRESS]}),
    (STORAGE, {}, {}),
    ({}, {}, {}),
    ({"kind": "compute"}, "Node n: it is a storage node, and a node cannot change its kind.", None),
    ({"hostnqn": HOSTNQN}, {"hostnqn": None}, {"hostnqn": HOSTNQN}),
    ({"state": "absent"}, "Node n: node n: active -> GONE is not allowed.", None),
    (
        {"cordoned": True, "maintaining": "kernel"},
        {"state": "active", "maintaining": None},
        {"state": "cordoned", "maintaining": "kernel"},
    ),
    (
        {"maintaining": "", "maintained": "kernel", "failure_domain": ""},
        {"maintaining": "kernel", "maintained": None, "failure_domain": "rack-1"},
        {"maintaining": None, "maintained": "kernel", "failure_domain": None},
    ),
    ({"addresses": [{"address": "x"}]}, 'Node n: invalid input syntax for type inet: "x".', None),
    ({"addresses": []}, {"addresses": [ADDRESS]}, {"addresses": []}),
    ({"state": "absent"}, None, GONE),
    ({"state": "absent"}, {}, {}),
    ({}, 'Node n: null value in column "kind" of relation "node" violates not-null constraint.', None),
]


def test_a_node_from_nothing_and_back(dsn, conn):
    """Each step is looked at first, and the run does what was told."""
    tasks = [
        {
            "name": f"Step {number}",
            NODE: {"dsn": dsn, "name": "n", **options},
            "check_mode": check,
            "ignore_errors": True,
        }
        for number, (options, _before, _after) in enumerate(STEPS)
        for check in (True, False)
    ]
    run = run_playbook(play(*tasks), diff=True)
    for number, (_options, before, after) in enumerate(STEPS):
        looked, done = run.results(f"Step {number}")
        assert own_keys("node", looked) == own_keys("node", done), number
        if isinstance(before, str):
            assert done["msg"].startswith(before), done
            continue
        assert not differences(returned("node"), own_keys("node", done), False, False, "node")
        assert done["changed"] == bool(after) and done["after"].items() >= after.items(), (number, done)
        assert before is None or done["before"] == before, (number, done)
        assert done.get("diff", {"after": {}})["after"] == done["after"]
    assert conn.execute("SELECT * FROM diskengine.node").fetchall() == []


def test_a_node_with_disks_stays(dsn, conn):
    make_estate(conn, lvols=0)
    name = "Remove it"
    run = run_playbook(
        play(
            {"name": "Cordon it", NODE: {"dsn": dsn, "name": "storage-1", "cordoned": True}},
            {"name": name, NODE: {"dsn": dsn, "name": "storage-1", "state": "absent"}},
        )
    )
    assert "still name it" in run.result(name)["msg"]
    assert conn.execute("SELECT state FROM diskengine.node WHERE name = 'storage-1'").fetchone() == ("cordoned",)


def test_only_an_operator_makes_wishes(conn):
    wish = 'SELECT diskengine.wish_nodes(\'[{"name": "n", "kind": "storage"}]\')'
    for purpose in ("convergence", "operator"):
        role = f"login_{purpose}"
        conn.execute(f"CREATE ROLE {role}")
        try:
            conn.execute("SELECT diskengine.grant_purpose(%s, %s)", [role, purpose])
            conn.execute(f"SET ROLE {role}")
            if purpose == "operator":
                conn.execute(wish)
            else:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    conn.execute(wish)
        finally:
            conn.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")
