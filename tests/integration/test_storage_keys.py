# SPDX-License-Identifier: GPL-3.0-or-later
"""The role gives hosts keys, and what is in them is printed nowhere."""

from __future__ import annotations

from support.secrets import dhchap, psk


def test_exports_with_keys(make_site, tmp_path):
    site = make_site(lvols=2)
    secret, path = dhchap("fleet"), tmp_path / "keys" / "fleet"
    options = {
        "storage_node_keys": [{"name": "fleet", "path": str(path), "key": secret}],
        "storage_node_host_keys": [{"dhchap_key": "fleet"}],
    }
    check = site.converge(host_vars=options, check=True, args=["-vvv"])
    assert check.rc == 0, check.output[-3000:]
    assert site.mutations() == [] and not path.exists()
    done = site.converge(times=2, host_vars=options, args=["-vvv"])
    assert done.rc == 0, done.output[-3000:]
    assert secret not in check.output + done.output
    assert secret not in repr(check.events) + repr(done.events)
    assert path.read_text() == secret
    site.check_served()
    shown = [item for item in site.target.call("nvmf_get_subsystems") if item["hosts"]]
    assert len(shown) == 2
    assert all(host["dhchap_key"] == "fleet" for item in shown for host in item["hosts"])
    site.clear()
    again = site.converge(host_vars=options)
    assert (again.rc, again.changed["storage-1"], site.mutations()) == (0, 0, [])


def test_exports_with_tls(make_site, tmp_path):
    """A host with a PSK is let in by listeners that take TLS only; a host without one stays without."""
    site = make_site(lvols=1)
    options = {
        "storage_node_keys": [{"name": "tls", "path": str(tmp_path / "tls"), "key": psk("fleet")}],
        "storage_node_host_keys": [{"psk": "tls"}],
    }
    done = site.converge(times=2, host_vars=options)
    assert done.rc == 0, done.output[-3000:]
    assert [result["changed"] for result in done.results("Converge the SPDK target")] == [True, False]
    sent = {call["method"]: call["params"] for call in site.mutations()}
    assert sent["nvmf_subsystem_add_host"]["psk"] == "tls"
    assert sent["nvmf_subsystem_add_listener"]["secure_channel"] is True
    site.check_served()
