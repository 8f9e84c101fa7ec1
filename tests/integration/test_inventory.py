# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory from the database, as ansible-inventory and ansible-playbook see it."""

from __future__ import annotations

import json
import re

import pytest
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database_schema import ensure_login_role
from support.ansible import LOCAL, ROOT, play, run_inventory, run_playbook
from support.estate import make_estate

PLUGIN = "excloud.diskengine.database"


def listed(dsn, env=None, **options):
    """Groups and variables of hosts, as ansible-inventory lists them, its mark of what is no template off."""
    done = run_inventory({"plugin": PLUGIN, "dsn": dsn, **options}, "--list", env=env)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout, object_hook=lambda item: item.get("__ansible_unsafe", item))
    return {name: set(group.get("hosts", ())) for name, group in found.items()}, found["_meta"]["hostvars"]


def refused(config, **options):
    """Everything that was said about an inventory that cannot be read."""
    done = run_inventory(config, "--list", **options)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return re.sub(r"\s+", " ", done.stderr)


@pytest.fixture
def estate(conn):
    return make_estate(conn, lvols=2)


def test_the_sample_estate(dsn, conn, estate):
    conn.execute("UPDATE diskengine.node SET state = 'cordoned' WHERE name = 'storage-2'")
    groups, hosts = listed(dsn)
    assert groups["storage"] == {"storage-1", "storage-2"}
    assert groups["compute"] == {"compute-1"}
    assert groups["active"] == {"storage-1", "compute-1"}
    assert groups["cordoned"] == {"storage-2"}
    assert groups["failure_domain_rack_1"] == {"storage-1"}
    (row,) = conn.execute("SELECT to_jsonb(v) FROM diskengine.v_node AS v WHERE name = 'storage-1'").fetchone()
    assert hosts["storage-1"] == {
        "ansible_host": "127.0.0.1",
        "storage_node_name": "storage-1",
        "diskengine_node": row,
    }
    assert hosts["compute-1"]["compute_node_name"] == "compute-1"
    assert "storage_node_name" not in hosts["compute-1"]


def test_the_graph_in_the_documentation(dsn, estate):
    done = run_inventory({"plugin": PLUGIN, "dsn": dsn}, "--graph")
    assert done.stdout.strip() and done.stdout in (ROOT / "docs/inventory.md").read_text(encoding="utf-8")


def test_the_addresses_of_hosts(dsn, conn, estate):
    conn.execute("DELETE FROM diskengine.node_address WHERE node = 'storage-2'")
    conn.execute("INSERT INTO diskengine.node_address (node, position, address) VALUES ('storage-1', -1, 'fd00::1')")
    _groups, hosts = listed(dsn)
    assert hosts["storage-1"]["ansible_host"] == "fd00::1"
    assert "ansible_host" not in hosts["storage-2"]
    _groups, hosts = listed(dsn, host_address="name")
    assert [host["ansible_host"] for name, host in sorted(hosts.items())] == sorted(hosts)
    _groups, hosts = listed(dsn, compose={"ansible_host": "diskengine_node.name ~ '.example.org'"})
    assert hosts["storage-2"]["ansible_host"] == "storage-2.example.org"


def test_constructed_variables_and_groups(dsn, estate):
    groups, hosts = listed(
        dsn,
        strict=True,
        compose={"storage_node_socket": "'/run/' ~ diskengine_node.name"},
        groups={"served": "diskengine_node.addresses | length > 0", "never": "diskengine_node.state == 'gone'"},
        keyed_groups=[{"key": "diskengine_node.addresses | map(attribute='trtype') | list", "prefix": "transport"}],
    )
    assert hosts["storage-1"]["storage_node_socket"] == "/run/storage-1"
    assert groups["served"] == groups["transport_TCP"] == {"storage-1", "storage-2", "compute-1"}
    assert not groups.get("never")
    wrong = {"plugin": PLUGIN, "dsn": dsn, "strict": True, "compose": {"x": "nothing_of_this_name"}}
    assert "Could not set x for host compute-1" in refused(wrong)


def test_an_empty_estate(dsn):
    done = run_inventory({"plugin": PLUGIN, "dsn": dsn}, "--graph")
    assert done.returncode == 0
    for name in ("storage", "compute", "active", "cordoned"):
        assert f"@{name}:" in done.stdout


def test_the_cache_is_used_until_it_is_flushed(dsn, conn, estate, tmp_path):
    cache = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "cache")}
    config = tmp_path / "estate.diskengine.yml"
    config.write_text(json.dumps({"plugin": PLUGIN, "dsn": dsn, "password": "hunter2", **cache}), encoding="utf-8")
    first = run_inventory(config, "--list")
    conn.execute("INSERT INTO diskengine.node (name, kind) VALUES ('storage-3', 'storage')")
    assert run_inventory(config, "--list").stdout == first.stdout
    assert "storage-3" in run_inventory(config, "--list", "--flush-cache").stdout
    assert "storage-3" in run_inventory(config, "--list").stdout
    (kept,) = (tmp_path / "cache").iterdir()
    assert "hunter2" not in kept.read_text(encoding="utf-8")


def test_a_password_of_its_own(dsn, conn, estate):
    ensure_login_role(conn, "inventory", "open-sesame-0815", True)
    try:
        own = dsn.replace("user=postgres", "user=inventory")
        template = "{{ lookup('ansible.builtin.env', 'SESAME') }}"
        groups, _hosts = listed(own, env={"SESAME": "open-sesame-0815"}, password=template)
        assert len(groups["storage"]) == 2
        groups, _hosts = listed(None, env={"DISKENGINE_DSN": own, "PGPASSWORD": "open-sesame-0815"})
        assert len(groups["storage"]) == 2
        said = refused({"plugin": PLUGIN, "dsn": own, "password": "wrong-guess"})
        assert 'password authentication failed for user "inventory"' in said
        assert "wrong-guess" not in said
    finally:
        conn.execute("DROP OWNED BY inventory; DROP ROLE inventory")


def test_what_cannot_be_read_is_told_in_one_sentence(dsn, empty_dsn, conn):
    plugin = {"plugin": PLUGIN}
    assert "run the role database first" in refused({**plugin, "dsn": empty_dsn})
    assert "The DSN is neither a URL nor a connection string of libpq." in refused({**plugin, "dsn": "somewhere"})
    assert "host_address" in refused({**plugin, "dsn": dsn, "host_address": "second"})
    conn.execute("INSERT INTO diskengine.node (name, kind, failure_domain) VALUES ('a', 'storage', 'r 1')")
    conn.execute("INSERT INTO diskengine.node (name, kind, failure_domain) VALUES ('b', 'storage', 'r-1')")
    said = refused({**plugin, "dsn": dsn})
    assert "The failure domains r 1 and r-1 would both be failure_domain_r_1 in the inventory; rename one" in said
    assert "failure domains" not in refused({**plugin, "dsn": dsn}, name="estate.yml")  # it is not for this plugin


def test_odd_nodes(dsn, conn, tmp_path):
    """The views may be a site's own, with other names; nothing in them is a template."""
    conn.execute("ALTER TABLE diskengine.node DROP CONSTRAINT node_name_check")
    conn.execute(
        "INSERT INTO diskengine.node (name, kind, failure_domain) VALUES "
        "('n:1', 'storage', '{{ 1 + 1 }}'), ('{{ 2 + 2 }}', 'storage', ''), ('storage', 'storage', null)"
    )
    config = tmp_path / "estate.diskengine.yml"
    config.write_text(json.dumps({"plugin": PLUGIN, "dsn": dsn}), encoding="utf-8")
    done = run_playbook(
        play(
            {"name": "Say", "ansible.builtin.debug": {"msg": "{{ [storage_node_name, diskengine_node] }}"}}, hosts="all"
        ),
        inventory=config,
        extra_vars=LOCAL,
    )
    assert done.rc == 0, done.output
    found = {event["host"]: event["result"]["msg"] for event in done.events if event["task"] == "Say"}
    assert {host: name for host, (name, _row) in found.items()} == {
        "n_1": "n:1",
        "___2___2___": "{{ 2 + 2 }}",
        "_storage": "storage",
    }
    assert found["n_1"][1]["failure_domain"] == "{{ 1 + 1 }}"
