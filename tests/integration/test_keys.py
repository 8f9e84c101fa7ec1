# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys from the file to the handshake. The target is its own host, over loopback."""

from __future__ import annotations

import pytest
from support.ansible import play, run_playbook
from support.modules import refusals, three_steps
from support.secrets import dhchap, psk
from support.targets import RpcFailure, free_port

NQN = "nqn.2024-01.io.excloud:storage.test"
HOST = "nqn.2024-01.io.excloud:host"
ADD, REMOVE = "keyring_file_add_key", "keyring_file_remove_key"
SET = "nvmf_subsystem_set_keys"
OUT, IN = "nvmf_subsystem_remove_host", "nvmf_subsystem_add_host"


@pytest.fixture(name="site")
def _site(target):
    """A target with an export on two ports, of which one wants TLS."""
    target.call("nvmf_create_transport", {"trtype": "TCP"})
    target.call("bdev_malloc_create", {"name": "ram", "num_blocks": 8192, "block_size": 512})
    target.call("bdev_nvme_set_options", {"dhchap_dhgroups": ["ffdhe2048"], "dhchap_digests": ["sha256"]})
    target.ports = [str(free_port()) for _number in range(2)]
    return target


def wanted(site, *host_keys):
    plain, secure = ({"traddr": "127.0.0.1", "trsvcid": port} for port in site.ports)
    return {
        "nqn": NQN,
        "listeners": [plain, {**secure, "secure_channel": True}],
        "hosts": [HOST],
        "host_keys": [{"host": HOST, **keys} for keys in host_keys],
        "namespaces": [{"bdev": "ram", "nsid": 1}],
    }


def connect(site, secure=False, **keys):
    """Connect as the host, anew; whether it is let in."""
    if site.call("bdev_nvme_get_controllers"):
        site.call("bdev_nvme_detach_controller", {"name": "n0"})
    address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": site.ports[secure]}
    try:
        site.call("bdev_nvme_attach_controller", {"name": "n0", "subnqn": NQN, "hostnqn": HOST, **address, **keys})
    except RpcFailure:
        return False
    return True


def connections(site):
    return [each["cntlid"] for each in site.call("nvmf_subsystem_get_controllers", {"nqn": NQN})]


def host_key(site, directory, name, text):
    """A key of the host; it has a file of its own."""
    path = directory / f"host-{name}"
    path.touch(0o600)
    path.write_text(text)
    site.call(ADD, {"name": f"host-{name}", "path": str(path)})
    return f"host-{name}"


def test_a_life_of_keys(site, tmp_path):
    one, two = ({"name": name, "path": f"{tmp_path}/keys/{name}", "key": dhchap(name)} for name in ("one", "two"))
    both = [{**one, "key": dhchap("rotated")}, {**two, "state": "absent"}]
    runs = three_steps(
        site,
        ("add", "spdk_key", one, ["file", ADD]),
        ("more", "spdk_key", {"keys": [one, two]}, ["file", ADD]),
        (
            "export",
            "spdk_subsystem",
            wanted(site, {"dhchap_key": "two"}),
            [
                "nvmf_create_subsystem",
                "nvmf_subsystem_add_ns",
                IN,
                "nvmf_subsystem_add_listener",
                "nvmf_subsystem_add_listener",
            ],
        ),
        ("other", "spdk_subsystem", wanted(site, {"dhchap_key": "one", "dhchap_ctrlr_key": "two"}), [SET]),
        ("only", "spdk_subsystem", wanted(site, {"dhchap_key": "one"}), [SET]),
        ("rotate", "spdk_key", {"keys": both}, ["file", REMOVE]),
    )
    assert runs[-1]["results"][0]["actions"] == [f"replace what is in {tmp_path}/keys/one"]
    file = tmp_path / "keys" / "one"
    assert (file.read_text(), file.stat().st_mode & 0o7777) == (dhchap("rotated"), 0o600)
    in_use, moved, content = refusals(
        site,
        ("spdk_key", {"name": "one", "state": "absent"}),
        ("spdk_key", {"name": "one", "path": str(tmp_path / "keys" / "two")}),
        ("spdk_key", {"name": "three", "path": str(tmp_path / "three"), "key": "hunter2"}),
    )
    assert f"it is the dhchap_key of host {HOST} of {NQN}; give them another key first" in in_use
    assert f"its file is {file}, wanted {tmp_path}/keys/two, but it is" in moved
    assert "neither a DH-HMAC-CHAP secret" in content and "hunter2" not in content


def test_material_is_never_shown(site, tmp_path):
    secrets = [dhchap("one"), dhchap("new"), psk("one"), "hunter2"]
    tasks = [
        {
            "name": "Keys",
            "excloud.diskengine.spdk_key": {
                "socket": site.socket,
                "keys": [{"name": f"k{number}", "path": f"{tmp_path}/{kind}", "key": text}],
            },
            "diff": True,
            "check_mode": check,
            "ignore_errors": True,
        }
        for number, (kind, text) in enumerate(zip(("chap", "chap2", "psk", "bad"), secrets))
        for check in (True, False)
    ]
    done = run_playbook(play(*tasks), args=["-vvv"])
    assert [result["changed"] for result in done.results("Keys")] == [True] * 6 + [False] * 2
    for text in secrets:
        assert text not in done.output and text not in repr(done.events)


def test_a_connected_host_stays_when_its_key_is_rotated(site, tmp_path):
    old, new, third = (host_key(site, tmp_path, name, dhchap(name)) for name in ("old", "new", "third"))
    key = {"name": "key", "path": str(tmp_path / "key"), "key": dhchap("old")}
    three_steps(site, ("add", "spdk_key", key, ["file", ADD]))
    export = {"nvmf_create_subsystem", "nvmf_subsystem_add_ns", IN, "nvmf_subsystem_add_listener"}
    steps = [*sorted(export), "nvmf_subsystem_add_listener"]
    three_steps(site, ("export", "spdk_subsystem", wanted(site, {"dhchap_key": "key"}), steps))
    assert not connect(site) and not connect(site, dhchap_key=new)
    assert connect(site, dhchap_key=old)
    connected = connections(site)
    three_steps(site, ("in place", "spdk_key", {**key, "key": dhchap("new")}, ["file"]))
    assert connections(site) == connected
    assert not connect(site, dhchap_key=old)
    assert connect(site, dhchap_key=new)
    connected = connections(site)
    other = {"name": "other", "path": str(tmp_path / "other"), "key": dhchap("third")}
    three_steps(
        site,
        ("other", "spdk_key", other, ["file", ADD]),
        ("by name", "spdk_subsystem", wanted(site, {"dhchap_key": "other"}), [SET]),
    )
    assert connections(site) == connected
    assert not connect(site, dhchap_key=new)
    assert connect(site, dhchap_key=third)


def test_tls(site, tmp_path):
    first, second = (host_key(site, tmp_path, name, psk(name)) for name in ("first", "second"))
    keys = [{"name": name, "path": str(tmp_path / name), "key": psk(name)} for name in ("first", "second")]
    node = {"keys": [{"name": key["name"], "path": key["path"]} for key in keys]}
    three_steps(site, ("keys", "spdk_key", {"keys": keys}, ["file", ADD] * 2))
    steps = ["nvmf_create_subsystem", "nvmf_subsystem_add_ns", IN, *["nvmf_subsystem_add_listener"] * 2]
    three_steps(site, ("export", "spdk_subsystem", wanted(site, {"psk": "first"}), steps))
    assert not connect(site, secure=True) and not connect(site, secure=True, psk=second)
    assert not connect(site, secure=False, psk=first)
    assert connect(site, secure=True, psk=first)
    (in_place,) = refusals(site, ("spdk_key", {**keys[0], "key": psk("rotated")}))
    assert f"as the TLS PSK of host {HOST} of {NQN} the target has read it already" in in_place
    (run,) = three_steps(site, ("rotate", "spdk_subsystem", wanted(site, {"psk": "second"}), [OUT, IN]))
    assert run["results"][0]["after"]["host_keys"] == {HOST: {"psk": "second"}}
    assert not connect(site, secure=True, psk=first)
    assert connect(site, secure=True, psk=second)
    site.recorder.clear()
    task = {"socket": site.socket, **node, "subsystems": [wanted(site, {"psk": "second"})]}
    done = run_playbook(play({"name": "Node", "excloud.diskengine.spdk_node": task}))
    assert (done.result("Node")["changed"], site.recorder.mutations) == (False, [])


def test_in_check_mode_a_key_may_come_from_an_earlier_task(site, tmp_path):
    tasks = [
        {"name": "Key", "excloud.diskengine.spdk_key": {"name": "k", "path": f"{tmp_path}/k", "key": dhchap("k")}},
        {"name": "Export", "excloud.diskengine.spdk_node": {"subsystems": [wanted(site, {"dhchap_key": "k"})]}},
    ]
    defaults = {"group/excloud.diskengine.spdk": {"socket": site.socket}}
    done = run_playbook(play(*tasks, module_defaults=defaults), check=True)
    assert done.rc == 0, done.output
    assert "in check mode it is taken to come from an earlier task" in done.result("Export")["results"][0]["notes"][0]
    assert run_playbook(play(tasks[1], module_defaults=defaults)).rc == 2
    assert run_playbook(play(*tasks, module_defaults=defaults)).rc == 0
