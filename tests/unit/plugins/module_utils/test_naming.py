# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, NQNs, UUIDs and addresses: what is refused, and one spelling for each."""

from __future__ import annotations

import ipaddress

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils import _naming
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import Refusal
from hypothesis import given
from hypothesis import strategies as st
from spdk_sim.nvmf import is_nqn

UUID = "0f5a1c2e-1111-4222-8333-abcdefabcdef"


@pytest.mark.parametrize("name", ["1", "42", "lvol_1", "a.b:c+d@e-f", "x" * 63, "A"])
def test_store_names(name):
    assert _naming.store_name(name, "lvol name") == name


@pytest.mark.parametrize("name", ["", None, "a/b", "/", "a b", " a", "a\n", "x" * 64, "ä", "a\0", "a\tb", "a\\b"])
def test_bad_store_names(name):
    with pytest.raises(Refusal, match="^lvol name .* is not usable: 1 to 63 characters"):
        _naming.store_name(name, "lvol name")


@given(st.text(max_size=70))
def test_store_names_are_safe_in_an_alias(text):
    """What passes cannot be read as anything else: one slash in the alias, at most 63 bytes."""
    try:
        name = _naming.store_name(text, "name")
    except Refusal:
        return
    assert f"lvs/{name}".split("/") == ["lvs", name]
    assert 1 <= len(name.encode()) <= 63


def test_uuid():
    assert _naming.uuid(UUID.upper(), "uuid") == UUID
    assert _naming.is_uuid(UUID) and _naming.is_uuid(UUID.upper())


@pytest.mark.parametrize("value", ["", None, UUID[:-1], UUID + "0", UUID.replace("-", ""), "g" + UUID[1:], UUID + "\n"])
def test_bad_uuid(value):
    with pytest.raises(Refusal, match="^bdev_uuid .* is not a UUID$"):
        _naming.uuid(value, "bdev_uuid")


@pytest.mark.parametrize(
    "value",
    [
        "nqn.2024-01.io.excloud:storage.n1.d1.1",
        "nqn.2024-12.a:b",
        "nqn.2016-06.io.spdk:cnode1",
        "NQN.2024-01.IO.EXCLOUD:x",
        f"nqn.2014-08.org.nvmexpress:uuid:{UUID}",
        "nqn.2024-01.io.excloud:with:colons/and~more!",
        "nqn.2024-01.io.ex-cloud:" + "x" * (223 - 24),
        "nqn.2024-01." + "a" * 63 + ".b:c",
    ],
)
def test_nqn(value):
    assert _naming.nqn(value) == value
    assert is_nqn(value) or value.startswith("NQN")


@pytest.mark.parametrize(
    "value",
    [
        "",
        None,
        "x",
        "nqn.2024-01.io.excloud",
        "nqn.2024-01.io.excloud:",
        "nqn.2024-13.io.excloud:x",
        "nqn.2024-00.io.excloud:x",
        "nqn.24-01.io.excloud:x",
        "nqn.2024-01.:x",
        "nqn.2024-01.io..excloud:x",
        "nqn.2024-01.-io:x",
        "nqn.2024-01.io-:x",
        "nqn.2024-01.1io:x",
        "nqn.2024-01." + "a" * 64 + ":x",
        "nqn.2024-01.io.excloud:with blank",
        "nqn.2024-01.io.excloud:x\n",
        "nqn.2024-01.io.excloud:ä",
        "nqn.2024-01.\u212aelvin:x",
        "nqn.\uff12\uff10\uff12\uff14-01.io:x",
        "iqn.2024-01.io.excloud:x",
        "nqn.2014-08.org.nvmexpress:uuid:1234",
        f"nqn.2014-08.org.nvmexpress:uuid:{UUID}0",
        "nqn.2024-01.io.ex-cloud:" + "x" * (224 - 24),
    ],
)
def test_bad_nqn(value):
    with pytest.raises(Refusal, match="(?s)^host NQN .* is not an NQN; write it like nqn.2024-01.io.excloud:storage"):
        _naming.nqn(value, "host NQN")


def test_the_discovery_subsystem_is_not_ours():
    with pytest.raises(Refusal, match="is the discovery subsystem"):
        _naming.nqn(_naming.DISCOVERY_NQN)


nqn_like = st.from_regex(r"nqn\.[0-9]{4}-[01][0-9]\.[a-zA-Z0-9.-]{0,20}:[ -~]{0,20}", fullmatch=True)


@given(st.one_of(nqn_like, st.text(max_size=30)))
def test_what_passes_is_an_nqn_to_the_target(text):
    """The simulator follows SPDK's own check; year 0000 is not worth a rule."""
    try:
        value = _naming.nqn(text)
    except Refusal:
        return
    assert is_nqn(value) or value.startswith("nqn.0000")
    assert 11 < len(value.encode()) <= 223


@pytest.mark.parametrize(("value", "canonical"), [("tcp", "TCP"), ("TCP", "TCP"), ("Rdma", "RDMA")])
def test_trtype(value, canonical):
    assert _naming.trtype(value) == canonical


@pytest.mark.parametrize("value", ["", None, "FC", "PCIe", "tcp "])
def test_bad_trtype(value):
    with pytest.raises(Refusal, match="is not one of TCP, RDMA"):
        _naming.trtype(value)


def listener(traddr: object = "10.0.0.1", trsvcid: object = "4420", **more: object) -> dict:
    return {"trtype": "TCP", "traddr": traddr, "trsvcid": trsvcid, **more}


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (listener(), ("TCP", "IPv4", "10.0.0.1", "4420")),
        (listener(adrfam="ipv4"), ("TCP", "IPv4", "10.0.0.1", "4420")),
        (listener(trtype="rdma"), ("RDMA", "IPv4", "10.0.0.1", "4420")),
        (listener(trsvcid=4420), ("TCP", "IPv4", "10.0.0.1", "4420")),
        (listener(trsvcid="04420"), ("TCP", "IPv4", "10.0.0.1", "4420")),
        (listener("::1"), ("TCP", "IPv6", "::1", "4420")),
        (listener("0:0:0:0:0:0:0:1"), ("TCP", "IPv6", "::1", "4420")),
        (listener("0000:0000:0000:0000:0000:0000:0000:0001", adrfam="IPV6"), ("TCP", "IPv6", "::1", "4420")),
        (listener("FD00::A"), ("TCP", "IPv6", "fd00::a", "4420")),
        (listener("fd00:0:0:1::"), ("TCP", "IPv6", "fd00:0:0:1::", "4420")),
    ],
)
def test_addresses(given_, expected):
    assert _naming.address(given_) == expected


@pytest.mark.parametrize(
    ("given_", "sentence"),
    [
        (listener("storage-1"), "listener address 'storage-1' is not an IP address (SPDK resolves no names)"),
        (listener(""), "is not an IP address"),
        (listener(None), "is not an IP address"),
        (listener("10.0.0.256"), "is not an IP address"),
        (listener("10.0.0.01"), "is not an IP address"),
        (listener("10.0.0.1/24"), "is not an IP address"),
        (listener("10.0.0.1", adrfam="IPv6"), "10.0.0.1 is IPv4, but adrfam says IPv6"),
        (listener("::1", adrfam="ipv4"), "::1 is IPv6, but adrfam says ipv4"),
        (listener("::1", adrfam="ib"), "adrfam says ib"),
        (listener(trsvcid="0"), "listener port '0' is not a port number from 1 to 65535"),
        (listener(trsvcid="65536"), "is not a port number"),
        (listener(trsvcid="-1"), "is not a port number"),
        (listener(trsvcid="nvme"), "is not a port number"),
        (listener(trsvcid=""), "is not a port number"),
        (listener(trsvcid=None), "is not a port number"),
        (listener(trsvcid="44²0"), "is not a port number"),
        (listener(trsvcid="٤٤٢٠"), "is not a port number"),
        (listener(trtype="FC"), "transport type 'FC' is not one of TCP, RDMA"),
    ],
)
def test_bad_addresses(given_, sentence):
    with pytest.raises(Refusal) as caught:
        _naming.address(given_)
    assert sentence in str(caught.value)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_one_spelling_for_each_address(ip, port):
    spellings = {str(ip), ip.exploded, ip.exploded.upper(), ip.compressed}
    found = {_naming.address(listener(spelling, str(port))) for spelling in spellings}
    assert len(found) == 1
    (address,) = found
    assert ipaddress.ip_address(address.traddr) == ip
    assert _naming.observed_address(address._asdict()) == address
    assert str(address) == (f"TCP [{ip}]:{port}" if ip.version == 6 else f"TCP {ip}:{port}")


@given(st.text(max_size=6))
def test_any_port_is_a_port_or_refused(text):
    try:
        assert 0 < int(_naming.address(listener(trsvcid=text)).trsvcid) < 65536
    except Refusal as refusal:
        assert "is not a port number" in str(refusal)


def test_the_controller_of_a_subsystem():
    name = _naming.controller_of("nqn.2024-01.io.excloud:storage.node-1.7.1234")
    assert name == "storage.node-1.7.1234-26863dc6fa445b9a"
    assert _naming.controller_of("nqn.2024-02.io.excloud:storage.node-1.7.1234") != name


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=200))
def test_the_controller_of_any_subsystem_can_be_named_so(text):
    assert _naming.controller_name(_naming.controller_of(f"nqn.2024-01.io:{text}"))
