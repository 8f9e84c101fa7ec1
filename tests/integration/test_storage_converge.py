# SPDX-License-Identifier: GPL-3.0-or-later
"""From rows in the database to exported namespaces, by the playbook, and nothing more the second time."""

from __future__ import annotations

from collections import Counter

import pytest
from support.targets import free_port

SPDK_TASK = "Converge the SPDK target"


@pytest.fixture
def site(make_site):
    """The sample estate: 2 nodes, 4 disks, 40 lvols."""
    return make_site(nodes=2, disks_per_node=2, lvols=40)


def test_check_converge_again(site):
    before, exports = site.table(), {name: target.exports() for name, target in site.targets.items()}
    checked = site.converge(check=True, diff=True)
    assert (checked.rc, site.mutations()) == (0, [])
    assert site.table() == before
    assert {name: target.exports() for name, target in site.targets.items()} == exports
    previewed = Counter(call["method"] for each in checked.results(SPDK_TASK) for call in each["actions"])
    assert previewed == {
        "nvmf_create_transport": 2,
        "bdev_lvol_create": 40,
        "nvmf_create_subsystem": 40,
        "nvmf_subsystem_add_ns": 40,
        "nvmf_subsystem_add_host": 40,
        "nvmf_subsystem_add_listener": 40,
    }

    done = site.converge()
    assert (done.rc, sorted(done.changed.values())) == (0, [0, 1, 2])  # one of the two nodes records for both
    assert Counter(call["method"] for call in site.mutations()) == previewed
    site.check_served()
    assert len(site.rows()) == 40

    settled = site.table()
    site.clear()
    again = site.converge()
    assert (again.rc, set(again.changed.values())) == (0, {0})
    assert site.mutations() == []
    assert all(target.recorder.requests for target in site.targets.values())
    assert site.table() == settled
    site.check_served()


def test_what_the_role_reports_and_purges(make_site):
    site = make_site(lvols=2)
    assert site.converge().rc == 0
    first, second = site.rows()
    stranger = "nqn.2024-01.io.excloud:stranger"
    listener = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(free_port())}
    site.target.call("nvmf_subsystem_add_host", {"nqn": first["nqn"], "host": stranger})
    site.target.call("nvmf_subsystem_add_listener", {"nqn": second["nqn"], "listen_address": listener})
    site.clear()

    told = site.converge()
    assert (told.rc, site.mutations()) == (0, [])
    warned = " ".join(told.output.split())
    assert stranger in warned and listener["trsvcid"] in warned

    purged = site.converge(extra_vars={"storage_node_purge": ["hosts", "listeners"]})
    assert purged.rc == 0
    assert [call["method"] for call in site.mutations()].count("nvmf_subsystem_remove_host") == 1
    assert [call["method"] for call in site.mutations()].count("nvmf_subsystem_remove_listener") == 1
    assert len(site.mutations()) == 2
    site.check_served()


def test_a_node_has_another_name_in_the_inventory(make_site):
    site = make_site(lvols=2)
    site.targets = {"box": site.target}
    done = site.converge(host_vars={"storage_node_name": "storage-1"})
    assert (done.rc, done.changed["box"]) == (0, 2)
    site.targets = {"storage-1": site.target}
    site.check_served()


def test_transport_options_of_the_role(make_site):
    site = make_site(lvols=1)
    options = {"max_queue_depth": 64, "in_capsule_data_size": 8192}
    assert site.converge(extra_vars={"storage_node_transport_options": options}).rc == 0
    (transport,) = site.target.call("nvmf_get_transports")
    assert {name: transport[name] for name in options} == options
    site.clear()
    refused = site.converge()
    assert (refused.rc, site.mutations()) == (2, [])
    assert "max_queue_depth is 64, wanted 256" in refused.failure
