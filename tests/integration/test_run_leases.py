# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole runs hold their nodes: the second waits or says who does, and one that was overtaken changes nothing more."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from support.ansible import play, run_playbook
from support.runs import WAIT_SECONDS, at, in_background, playbook_of, until

SPDK_TASK = "Converge the SPDK target"
RECORD_TASK = "Record what is complete, what is gone, and what is free on the disks"
NO_SSH_CONFIG = {"ansible_ssh_common_args": "-F none"}
HOLD_TASK = "Leave a node alone that another run holds"


def leases(site):
    return dict(site.conn.execute("SELECT node, holder FROM diskengine.v_lease").fetchall())


@pytest.fixture
def halted(make_site):
    """Two nodes, and a run whose first node is at its first change until the event is set: (site, run, go, main).

    It has a fork for one node at a time, so that it has not come to its second. main is its ansible-playbook.
    """
    site = make_site(nodes=2, lvols=4)
    arrived, go = threading.Event(), threading.Event()

    def halt(_site, _request):
        arrived.set()
        go.wait(WAIT_SECONDS)

    requests = at(site.each()[0], "bdev_lvol_create", halt)
    first = in_background(lambda: site.converge(host_vars={"storage_node_lease": 600}, args=["--forks", "1"]))
    assert arrived.wait(WAIT_SECONDS)
    main = playbook_of(requests[0]["pid"])[0]
    yield site, first, go, main
    go.set()
    try:
        os.kill(main, signal.SIGCONT)
    except ProcessLookupError:
        pass
    first()


def test_the_second_run_waits_or_says_who_holds_the_nodes(halted):
    site, first, go, main = halted
    (holder,) = set(leases(site).values())
    assert leases(site).keys() == set(site.targets)
    assert holder.endswith(f", process {main}")

    preview = site.converge(check=True)
    assert preview.rc == 0, preview.output
    for name in site.targets:
        assert f"{name} is held by {holder} since 2" in preview.output

    # A part of the nodes is enough for a run that is there for them only.
    impatient = site.each()[1].converge(host_vars={"storage_node_lease_wait": 0})
    assert impatient.rc == 2
    said = impatient.result(HOLD_TASK)["msg"]
    assert said.startswith(f"storage-2 is held by {holder} since 2") and said.endswith("Z at the latest")
    assert site.each()[1].mutations() == []

    second = in_background(site.converge)
    until(lambda: len(site.conn.execute("SELECT FROM pg_stat_activity WHERE query LIKE '%take_leases%'").fetchall()))
    go.set()
    assert (first().rc, second().rc) == (0, 0), second().output
    assert set(second().changed.values()) == {0}
    assert leases(site) == {}
    site.check_served()


def test_a_run_that_was_frozen_and_overtaken_neither_records_nor_changes_anything(halted):
    site, first, go, main = halted
    os.kill(main, signal.SIGSTOP)
    go.set()  # its module on the first node comes to its end
    until(lambda: len(site.each()[0].mutations()) == 1 + 2 * 5)
    site.conn.execute("UPDATE diskengine.lease SET expires_at = now()")  # that much later
    second = site.converge()
    assert second.rc == 0, second.output
    site.check_served()
    before, table = site.mutations(), site.table()

    site.conn.execute("UPDATE diskengine.lvol SET state = 'DELETING'")
    third = take(site)  # so that rows come from somebody who holds the nodes
    os.kill(main, signal.SIGCONT)
    done = first()
    assert done.rc == 2
    assert "this run has lost the node: it came with lease" in done.result(SPDK_TASK, "storage-2")["msg"]
    refused = done.result(RECORD_TASK)["failures"]["storage-1"]
    assert "refused, the lease of node storage-1 was lost: it is held by somebody else since" in refused
    assert "This run had lost its lease: storage-1 is held by somebody else" in done.output
    assert site.mutations() == before
    assert [row[:2] for row in site.table()[0]] == [row[:2] for row in table[0]]
    assert {row["state"] for row in site.rows()} == {"DELETING"}
    release(site, third)
    assert site.converge().rc == 0
    assert site.rows() == []


def lease(site, **options):
    task = {"name": "Lease", "excloud.diskengine.node_lease": {"dsn": site.dsn, "nodes": list(site.targets), **options}}
    return play(task)


def take(site):
    done = run_playbook(lease(site, holder="somebody else"))
    assert (done.rc, done.result("Lease")["changed"], done.result("Lease")["missed"]) == (0, False, {})
    return done.result("Lease")["lease"]


def release(site, number):
    done = run_playbook(lease(site, state="released", lease=number))
    assert (done.rc, done.result("Lease")["held"]) == (0, list(site.targets))


def test_what_fails_releases_its_nodes_too(make_site):
    """A node that fails, one that is not reached, one that another run holds, and a database that lacks a node."""
    site = make_site(nodes=4, lvols=8, replicas=1)
    larger_than_the_disk = "UPDATE diskengine.lvol SET size_bytes = size_bytes * 1000, thin = false WHERE id = %s"
    site.conn.execute(larger_than_the_disk, [site.each()[0].rows()[0]["id"]])
    with_one = {"dsn": site.dsn, "nodes": ["storage-3"], "holder": "somebody else"}
    assert run_playbook(play({"name": "Lease", "excloud.diskengine.node_lease": with_one})).rc == 0
    gone = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1, **NO_SSH_CONFIG}
    done = site.converge(host_vars={"storage_node_lease_wait": 0}, vars_of={"storage-2": gone})
    failed = {event["host"]: event["result"]["msg"] for event in done.events if event["event"] == "failed"}
    assert done.rc != 0 and failed.keys() == {"storage-1", "storage-3"}
    assert "somebody else" in failed["storage-3"]
    assert {event["host"] for event in done.events if event["event"] == "unreachable"} == {"storage-2"}
    site.each()[3].check_served()
    assert leases(site) == {"storage-3": "somebody else"}

    # Broken by hand, which check mode shows.
    end = {"dsn": site.dsn, "nodes": ["storage-3"], "state": "released", "force": True}
    plays = play({"name": "Lease", "excloud.diskengine.node_lease": end})
    results = [run_playbook(plays, check=check, diff=True).result("Lease") for check in (True, False, True, False)]
    assert results[0] == results[1] and results[2] == results[3]
    assert (results[0]["changed"], results[0]["diff"]["before"]) == (True, {"storage-3": "somebody else"})
    assert (results[2]["changed"], results[2]["held"]) == (False, [])

    # The database is read under the leases, and when that fails they are released as well.
    site.conn.execute("ALTER VIEW diskengine.v_snapshot RENAME TO v_hidden")
    failing = site.converge()
    assert failing.rc != 0 and "a view is missing" in failing.output
    assert leases(site) == {}


def test_batches_of_hosts_and_the_words_of_awx(make_site):
    """With serial only those are held that are at work; the job tells who holds them."""
    site = make_site(nodes=2, lvols=2)
    awx = {"awx_job_id": 17, "awx_job_template_name": "Converge", "awx_user_name": "alice"}
    seen = []
    for node in site.each():
        at(node, "bdev_lvol_create", lambda *_args: seen.append(leases(site)))
    hosts = {
        name: {"storage_node_socket": target.socket, "storage_node_dsn": site.dsn, "storage_node_drives": False}
        for name, target in site.targets.items()
    }
    roles = [{"role": "excloud.diskengine.storage_node"}]
    plays = [{"name": "Alone", "hosts": "all", "gather_facts": False, "serial": 1, "roles": roles}]
    assert run_playbook(plays, {"all": {"hosts": hosts}}, extra_vars=awx).rc == 0
    assert seen == [{name: "AWX job 17 (Converge) of alice"} for name in site.targets]
    assert leases(site) == {}


def test_hosts_of_a_play_that_have_no_part_record_nothing(make_site):
    """As in maintenance.yml, where the nodes of one play are converged one after the other."""
    site = make_site(nodes=2, lvols=2)
    role = {"ansible.builtin.include_role": {"name": "excloud.diskengine.storage_node"}}
    one_by_one = [{"name": "Converge", **role, "when": f"inventory_hostname == '{name}'"} for name in site.targets]
    done = site.converge(times=0, before=play(*one_by_one, hosts="storage"))
    assert done.rc == 0, done.output
    recorded = [[row["id"] for row in result["results"]] for result in done.results(RECORD_TASK)]
    assert recorded == [[row["id"] for row in site.rows() if row["node"] == name] for name in site.targets]
