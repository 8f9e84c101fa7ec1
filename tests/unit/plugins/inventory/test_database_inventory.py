# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of the inventory: safe in patterns and groups, and of one thing each."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.inventory.manager import InventoryManager, split_host_pattern
from ansible.parsing.dataloader import DataLoader
from ansible_collections.excloud.diskengine.plugins.inventory.database import domain_group, host_name, unique


@pytest.mark.parametrize(
    ("node", "host"),
    [
        ("storage-1", "storage-1"),
        ("Rack_7.row-2", "Rack_7.row-2"),
        ("10.0.0.1", "10.0.0.1"),
        ("a:b,c&d!e*f[1:2]~g h", "a_b_c_d_e_f_1_2__g_h"),
        ("-leading", "_-leading"),
        ("!not", "_not"),
        ("{{ name }}\n", "___name____"),
        ("fd00::1", "fd00__1"),
        ("all", "_all"),
        ("cordoned", "_cordoned"),
        ("failure_domain_rack_1", "_failure_domain_rack_1"),
    ],
)
def test_a_host_is_found_by_its_name(node, host):
    assert host_name(node) == host
    assert split_host_pattern(host) == [host]
    manager = InventoryManager(DataLoader(), None)
    manager._inventory = InventoryData()
    manager._inventory.add_host(host)
    assert [found.name for found in manager.get_hosts(host)] == [host]


def test_groups_of_failure_domains():
    assert domain_group("rack-1") == "failure_domain_rack_1"
    assert domain_group("row 2/ä") == "failure_domain_row_2__"


def test_what_would_be_called_the_same_is_refused():
    assert unique("node", ["b", "a", "a"], host_name) == {"a": "a", "b": "b"}
    with pytest.raises(AnsibleParserError, match="^The nodes n 1 and n:1 would both be n_1 in the inventory; rename"):
        unique("node", ["n:1", "x", "n 1"], host_name)
