# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pass of the role costs: processes on the node, and bytes that travel there and back."""

from __future__ import annotations

import json
import sys

import pytest
from support.ansible import play, run_playbook

SPDK_TASK = "Converge the SPDK target"
MODULE_TASKS = 5  # on a node, in a whole pass
OUR_KILOBYTES = 144  # of code, zipped and encoded, beside what Ansible itself sends for a module that does nothing
BYTES_PER_VOLUME = 700  # sent, with names, addresses and sizes
BYTES_BACK_NEW = 1500  # returned for a volume that was made
BYTES_BACK = 300  # for one that is as wanted


@pytest.fixture
def counting(tmp_path):
    """A Python that keeps what it was given, a file for each process: counting.path, counting.inputs()."""

    class Counting:
        path = tmp_path / "python3"

        @staticmethod
        def inputs():
            """What each process read, and forget it."""
            found = []
            for path in sorted(tmp_path.glob("input.*")):
                found.append(path.read_text(encoding="utf-8"))
                path.unlink()
            return found

    keep = f'input=$(mktemp {tmp_path}/input.XXXXXXXX)\ncat > "$input"\nexec {sys.executable} "$@" < "$input"\n'
    Counting.path.write_text("#!/bin/sh\n" + keep, encoding="utf-8")
    Counting.path.chmod(0o755)
    return Counting


def one_pass(site, counting, **options):
    """Run the playbook; returns its result and what each process on the nodes was given."""
    done = site.converge(host_vars={"ansible_python_interpreter": str(counting.path)}, **options)
    assert done.rc == 0, done.output
    return done, counting.inputs()


def test_a_pass_with_few_and_with_many_volumes(make_site, counting):
    site = make_site(lvols=2)
    few, small = one_pass(site, counting, check=True)
    # The same estate grows to a thousand volumes.
    (disk,) = site.estate.disks.values()
    site.conn.execute(
        "WITH volumes AS (INSERT INTO diskengine.volume (size_bytes, replicas) "
        "SELECT 12582912, 1 FROM generate_series(1, 998) RETURNING id), "
        "mapped AS (INSERT INTO diskengine.mapping (volume_id, node, vm) SELECT id, 'compute-1', 'vm' FROM volumes) "
        "INSERT INTO diskengine.lvol (volume_id, disk_id, size_bytes) SELECT id, %s, 12582912 FROM volumes",
        [disk],
    )
    many, large = one_pass(site, counting, check=True)
    assert len(many.result(SPDK_TASK)["actions"]) == 1 + 5 * 1000

    assert len(small) == len(large) <= MODULE_TASKS
    assert len(many.events) <= len(few.events) + 1
    nothing = {"ansible.builtin.ping": {}, "vars": {"ansible_python_interpreter": str(counting.path)}}
    assert run_playbook(play(nothing)).rc == 0
    (ping,) = counting.inputs()
    assert max(map(len, small)) - len(ping) < OUR_KILOBYTES * 1024
    assert BYTES_PER_VOLUME / 5 < (sum(map(len, large)) - sum(map(len, small))) / 998 < BYTES_PER_VOLUME
    # Each volume travels once, in one process.
    nqn = site.rows()[-1]["nqn"]
    assert [text.count(nqn) for text in large if nqn in text] == [1]


def test_what_comes_back_of_volumes_that_are_as_wanted(make_site, counting):
    site = make_site(nodes=2, lvols=80)
    first, inputs = one_pass(site, counting)
    assert len(inputs) <= 2 * MODULE_TASKS
    again, inputs = one_pass(site, counting)
    assert len(inputs) <= 2 * MODULE_TASKS
    for done, objects, limit in ((first, 1 + 2 * 40, BYTES_BACK_NEW), (again, 1 + 40, BYTES_BACK)):
        for result in done.results(SPDK_TASK):
            assert len(json.loads(result["results_document"])) == objects
            own = {key: value for key, value in result.items() if key != "invocation"}
            assert len(json.dumps(own)) / 40 < limit
    assert set(again.changed.values()) == {0}


def test_the_database_is_served_by_the_controller(make_site, counting):
    """Its tasks start no process on the node, nor anywhere else with its Python."""
    site = make_site(lvols=2)
    done, inputs = one_pass(site, counting)
    done_by = {event["action"] for event in done.events if event["event"] != "skipped"}
    assert {action for action in done_by if action.startswith("excloud.diskengine.")} == {
        "excloud.diskengine.desired_state_info",
        "excloud.diskengine.node_lease",
        "excloud.diskengine.record_state",
        "excloud.diskengine.spdk_node",
    }
    assert len(inputs) == 1
    assert "spdk_node" in inputs[0]
    assert "psycopg" not in inputs[0]


def test_the_database_is_read_once_for_all_nodes(make_site, counting):
    site = make_site(nodes=2, lvols=4)
    done, _inputs = one_pass(site, counting, check=True)
    assert len([event for event in done.events if event["action"].endswith("desired_state_info")]) == 1
    assert len([event for event in done.events if event["action"].endswith("node_lease")]) == 2
    assert len([event for event in done.events if event["action"].endswith("spdk_node")]) == 2


def test_storage_nodes_do_not_add_statements(make_site, postgres):
    """A run takes leases, reads and records for all of its nodes at once, also what it changed."""
    site = make_site(nodes=4, lvols=8)
    with postgres.statements(site.conn) as of_one:
        assert site.each()[0].converge().rc == 0
    with postgres.statements(site.conn) as of_three:
        assert site.converge(args=["--limit", "storage-2,storage-3,storage-4"]).rc == 0
    assert {row["state"] for row in site.rows()} == {"UP"}
    assert len(of_three) == len(of_one) > 10


def test_compute_nodes_do_not_add_statements(make_fleet, postgres):
    fleet = make_fleet(3, computes=3)
    assert fleet.run("converge", times=2).rc == 0
    with postgres.statements(fleet.conn) as of_one:
        assert fleet.site(args=["--limit", "localhost,storage,compute-1"]).rc == 0
    with postgres.statements(fleet.conn) as of_all:
        assert fleet.site().rc == 0
    assert fleet.states() == ["ATTACHED"] * 3
    assert len(of_all) == len(of_one) > 20
