# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host can connect from its addresses, below a root that is laid out like sysfs."""

from __future__ import annotations

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._host._sources import interfaces, obstacle

NAMES = {"192.0.2.5": "eth0"}
UP, BROADCAST = 0x1, 0x2


@pytest.mark.parametrize(
    ("flags", "state", "expected"),
    [
        (UP | BROADCAST, "up", None),
        (UP, "unknown", None),
        (BROADCAST, "down", "interface eth0 with the address 192.0.2.5 is down"),
        (UP, "down", "interface eth0 with the address 192.0.2.5 has no link (its state is down)"),
        (UP, "lowerlayerdown", "interface eth0 with the address 192.0.2.5 has no link (its state is lowerlayerdown)"),
    ],
)
def test_an_interface_has_to_be_up_and_linked(tmp_path, flags, state, expected):
    about = tmp_path / "sys/class/net/eth0"
    about.mkdir(parents=True)
    (about / "flags").write_text(f"{flags:#x}\n")
    (about / "operstate").write_text(f"{state}\n")
    assert obstacle("192.0.2.5", NAMES, str(tmp_path)) == expected


def test_an_address_has_to_be_of_an_interface(tmp_path):
    assert obstacle("192.0.2.6", NAMES, str(tmp_path)) == "no interface of this host has the address 192.0.2.6"


def test_an_interface_that_has_just_gone_is_down(tmp_path):
    assert obstacle("192.0.2.5", NAMES, str(tmp_path)) == "interface eth0 with the address 192.0.2.5 is down"


def test_the_loopback_of_this_host():
    names = interfaces()
    assert names["127.0.0.1"] == "lo"
    assert obstacle("127.0.0.1", names) is None
