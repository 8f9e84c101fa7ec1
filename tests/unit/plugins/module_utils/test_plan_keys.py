# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and their files, the keys of hosts, and listeners with TLS."""

from __future__ import annotations

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils import _plan
from ansible_collections.excloud.diskengine.plugins.module_utils._files import File, look
from ansible_collections.excloud.diskengine.plugins.module_utils._graph import Graph
from ansible_collections.excloud.diskengine.plugins.module_utils._plan import ANYTHING, Plan, make_plan
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.helpers import (
    HOST,
    carry_out,
    nqn,
    plan,
    read,
    refusals,
    tcp,
    want,
)
from spdk_sim import Target
from spdk_sim.files import FileInfo
from support.secrets import dhchap, psk

OTHER = nqn("other")
ONE, TWO = {"host": HOST, "dhchap_key": "k0"}, {"host": HOST, "dhchap_key": "k1", "dhchap_ctrlr_key": "k0"}
SET, IN, OUT = "nvmf_subsystem_set_keys", "nvmf_subsystem_add_host", "nvmf_subsystem_remove_host"
ADD, REMOVE = "keyring_file_add_key", "keyring_file_remove_key"


def made(release: str = "26.09") -> Target:
    """A target with the keys k0, k1, tls and tls2, and the TCP transport."""
    target = Target(release=release, seed=1, addresses=None)
    for name, text in (("k0", dhchap("k0")), ("k1", dhchap("k1")), ("tls", psk("tls")), ("tls2", psk("tls2"))):
        target.files.files[f"/{name}"] = FileInfo("file", content=text)
        target.call(ADD, {"name": name, "path": f"/{name}"})
    target.call("nvmf_create_transport", {"trtype": "TCP"})
    return target


@pytest.fixture(name="target")
def _target() -> Target:
    return made()


def seen(target: Target, **files: object) -> Graph:
    """The graph with files that were looked at, by name; the target runs as user 7."""
    graph = read(target)
    graph.runs_as = 7
    graph.files = {f"/{name}": file for name, file in files.items()}
    return graph


def secret(text: str, mode: int = 0o600, owner: int = 7) -> File:
    return File(text.encode(), mode, owner)


def methods(planned: Plan) -> list:
    return [action.method for action in planned.actions]


def refusal(planned: Plan) -> str:
    (sentence,) = refusals(planned).values()
    assert not planned.actions
    return sentence


def subsystem(**options):
    return want("subsystem", nqn=nqn(1), **options)


def exported(target: Target, **keys: str) -> None:
    target.call("nvmf_create_subsystem", {"nqn": nqn(1)})
    target.call(IN, {"nqn": nqn(1), "host": HOST, **keys})


def settled(target: Target, *desired) -> None:
    again = plan(target, *desired)
    assert not again.actions and not refusals(again)


# --- keys and their files ---


def test_a_key_is_added_and_removed(target):
    planned = make_plan([want("key", name="new", path="/new")], seen(target, new=secret(dhchap("x"))))
    assert methods(planned) == [ADD]
    assert planned.objects[0].change.after == {"name": "new", "path": "/new"}
    planned = plan(target, want("key", name="k0", state="absent"), want("key", name="never", state="absent"))
    assert methods(planned) == [REMOVE]
    carry_out(target, planned)
    assert "k0" not in read(target).keys


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (None, "there is no file /new; SPDK would not take it"),
        (secret("x", mode=0o640), "can be used by others than its owner (mode 0640)"),
        (secret("x", owner=0), "belongs to user 0, the target runs as 7"),
        ("/new cannot be read: Permission denied", "/new cannot be read: Permission denied"),
    ],
)
def test_a_file_that_spdk_would_not_take(target, file, said):
    graph = seen(target, new=file)
    assert said in refusal(make_plan([want("key", name="new", path="/new")], graph))
    planned = make_plan([want("key", name="new", path="/new", key=dhchap("x"))], graph)
    assert methods(planned) == [_plan.FILE, ADD]
    (write, add) = planned.actions
    assert add.needs == (write,)


def test_content_is_compared_and_never_told(target):
    text = dhchap("new")
    wanted = want("key", name="k0", path="/k0", key=f"{text}\n")
    same = make_plan([wanted], seen(target, k0=secret(text)))
    assert not same.actions and same.objects[0].change.before["content"] == "as wanted"
    other = make_plan([wanted], seen(target, k0=secret(dhchap("k0"))))
    assert [action.summary for action in other.actions] == ["replace what is in /k0"]
    change = other.objects[0].change
    assert (change.before["content"], change.after["content"]) == ("other than wanted", "as wanted")
    assert text not in repr([action.describe() for action in other.actions]) + repr((change.before, change.after))


def test_a_file_is_written_as_spdk_wants_it(target, tmp_path):
    path = tmp_path / "keys" / "new"
    graph = read(target)
    graph.runs_as = path.parent.parent.stat().st_uid
    graph.files[str(path)] = None
    planned = make_plan([want("key", name="new", path=str(path), key=f" {dhchap('x')}\n")], graph)
    planned.actions[0].perform()
    assert look(str(path)) == File(dhchap("x").encode(), 0o600, graph.runs_as)
    assert [each.name for each in path.parent.iterdir()] == ["new"]


@pytest.mark.parametrize("text", ["", "hunter2", dhchap("x")[:-9] + "AAAAAAA=:", "DHHC-1:09:" + dhchap("x")[10:]])
def test_what_is_no_key_is_refused_without_showing_it(target, text):
    said = refusal(make_plan([want("key", name="new", path="/new", key=text)], seen(target, new=None)))
    assert "key is neither a DH-HMAC-CHAP secret" in said
    assert not text or text not in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "a:b", "path": "/x"}, "key name 'a:b' is not usable"),
        ({"name": "new"}, "give the path of its file to add it"),
        ({"name": "new", "path": "x"}, "path x is not absolute"),
        ({"name": "new", "path": "/k1", "key": dhchap("x")}, "the file /k1 is that of the key k1; give each key a"),
    ],
)
def test_keys_refused(target, options, said):
    assert said in refusal(plan(target, want("key", **options)))


def test_a_key_in_use_is_kept(target):
    exported(target, dhchap_key="k0", psk="tls")
    for options in ({"state": "absent"}, {"path": "/k9"}):
        said = refusal(make_plan([want("key", name="k0", **options)], seen(target, k9=secret(dhchap("x")))))
        assert f"but it is the dhchap_key of host {HOST} of {nqn(1)}; give them another key first" in said
    target.keys["k1"]["refcnt"] += 1
    assert "but 1 other(s) in the target use it" in refusal(plan(target, want("key", name="k1", state="absent")))
    moved = make_plan([want("key", name="tls2", path="/k9")], seen(target, k9=secret(psk("x"))))
    assert methods(moved) == [REMOVE, ADD]
    target.files.files["/k9"] = FileInfo("file", content=psk("x"))
    carry_out(target, moved)
    assert read(target).keys["tls2"].path == "/k9"


def test_a_psk_is_not_rotated_in_place(target):
    exported(target, dhchap_key="k0", psk="tls")
    rotated = [want("key", name=name, key=text) for name, text in (("k0", dhchap("new")), ("tls", psk("new")))]
    planned = make_plan(rotated, seen(target, k0=secret(dhchap("k0")), tls=secret(psk("tls"))))
    assert methods(planned) == [_plan.FILE]
    assert f"as the TLS PSK of host {HOST} of {nqn(1)} the target has read it already" in refusals(planned)["key tls"]


def test_a_host_gets_another_key_and_the_old_one_goes(target):
    exported(target, dhchap_key="k0")
    desired = [want("key", name="k0", state="absent"), subsystem(host_keys=[{"host": HOST, "dhchap_key": "k1"}])]
    planned = plan(target, *desired)
    assert methods(planned) == [SET, REMOVE]
    assert planned.actions[1].needs == (planned.actions[0],)
    carry_out(target, planned)
    settled(target, *desired)


# --- keys of hosts ---


def test_hosts_are_let_in_with_their_keys(target):
    desired = subsystem(hosts=[HOST, OTHER], host_keys=[{**TWO, "psk": "tls"}])
    planned = plan(target, desired)
    keys = {"dhchap_key": "k1", "dhchap_ctrlr_key": "k0", "psk": "tls"}
    assert [action.params for action in planned.actions][1:] == [
        {"nqn": nqn(1), "host": HOST, **keys},
        {"nqn": nqn(1), "host": OTHER},
    ]
    assert planned.objects[0].change.after["host_keys"] == {HOST: keys}
    carry_out(target, planned)
    settled(target, desired)
    settled(target, subsystem(hosts=[HOST, OTHER]))


@pytest.mark.parametrize(
    ("found", "wanted", "steps", "old"),
    [
        ({}, [ONE], [SET], [OUT, IN]),
        (ONE, [TWO], [SET], [OUT, IN]),
        (TWO, [ONE], [SET], [OUT, IN]),
        (TWO, [], [SET], [OUT, IN]),
        (ONE, [{**ONE, "psk": "tls"}], [OUT, IN], [OUT, IN]),
        ({"psk": "tls"}, [{"host": HOST, "psk": "tls2"}], [OUT, IN], [OUT, IN]),
        ({**ONE, "psk": "tls"}, [{**TWO, "psk": "tls"}], [SET], [OUT, IN]),
        ({"psk": "tls"}, [], [OUT, IN], [OUT, IN]),
    ],
)
def test_other_keys_interrupt_no_host_where_spdk_can(found, wanted, steps, old):
    for release, expected in (("26.09", steps), ("24.05", old)):
        target = made(release)
        exported(target, **{name: key for name, key in found.items() if name != "host"})
        desired = subsystem(hosts=[HOST], host_keys=wanted)
        planned = plan(target, desired)
        assert methods(planned) == expected
        risk = _plan.SAFE if expected == [SET] else _plan.DISRUPTIVE
        assert planned.actions[0].risk == risk
        carry_out(target, planned)
        settled(target, desired)


def test_keys_of_hosts_that_nobody_names_are_left_alone(target):
    exported(target, dhchap_key="k0")
    settled(target, subsystem(hosts=[], host_keys=[]))
    settled(target, subsystem(host_keys=[]))


def test_keys_of_a_host_that_is_to_be_shut_out(target):
    exported(target, dhchap_key="k0")
    assert "which is not let in" in refusal(plan(target, subsystem(hosts=[OTHER], host_keys=[ONE])))


def test_a_key_that_was_removed_under_a_host_is_given_again(target):
    exported(target, dhchap_key="k0")
    target.call(REMOVE, {"name": "k0"})
    assert "has no key k0" in refusal(plan(target, subsystem(host_keys=[ONE])))
    target.call(ADD, {"name": "k0", "path": "/k0"})
    planned = plan(target, subsystem(host_keys=[ONE]))
    assert methods(planned) == [SET]
    assert planned.objects[0].change.before["host_keys"] == {HOST: {"dhchap_key": "k0 (removed)"}}
    carry_out(target, planned)
    settled(target, subsystem(host_keys=[ONE]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"host_keys": [ONE]}, f"host_keys names host {HOST}, which is not let in: name it in hosts too"),
        ({"hosts": [HOST], "host_keys": [ONE, TWO]}, f"host_keys names host {HOST} twice"),
        ({"hosts": [HOST], "host_keys": [{"host": HOST, "dhchap_ctrlr_key": "k0"}]}, "and no dhchap_key; SPDK takes"),
        ({"hosts": [HOST], "host_keys": [{"host": HOST, "psk": "k9"}]}, "has no key k9, the psk of"),
        ({"listeners": [{**tcp(), "secure_channel": True}], "allow_any_host": True}, "do without allow_any_host"),
    ],
)
def test_host_keys_refused(target, options, said):
    assert said in refusal(plan(target, subsystem(**options)))


def test_keys_and_the_transport_come_first():
    target = Target(seed=1, addresses=None)
    target.files.files["/tls"] = FileInfo("file", content=psk("tls"))
    desired = subsystem(hosts=[HOST], host_keys=[{"host": HOST, "psk": "tls"}])
    key, transport = want("key", name="tls", path="/tls"), want("transport", trtype="TCP")
    graph = seen(target, tls=secret(psk("tls")))
    assert "has no key tls" in refusal(make_plan([desired], graph))
    assert "needs the TCP transport" in refusals(make_plan([desired, key], graph))[f"subsystem {nqn(1)}"]
    assert not refusals(make_plan([desired], graph, ANYTHING))
    planned = make_plan([desired, key, transport], graph)
    assert sorted(action.method for action in planned.actions[-1].needs) == sorted(
        ["nvmf_create_subsystem", ADD, "nvmf_create_transport"]
    )
    carry_out(target, planned)
    settled(target, desired)


# --- TLS ---


def test_a_listener_with_tls(target):
    secure = {**tcp(4421), "secure_channel": True}
    desired = subsystem(listeners=[tcp(), secure])
    planned = plan(target, desired)
    assert [action.params.get("secure_channel") for action in planned.actions[1:]] == [None, True]
    carry_out(target, planned)
    settled(target, desired)
    settled(target, subsystem(listeners=[tcp(), tcp(4421)]))
    settled(target, subsystem(listeners=[{**tcp(), "secure_channel": False}, secure]))
    wrong = subsystem(listeners=[tcp(), {**tcp(4421), "secure_channel": False}])
    assert "TCP 127.0.0.1:4421 has secure_channel on, wanted off; hosts would lose it" in refusal(plan(target, wrong))


def test_a_wrong_listener_is_replaced_after_the_new_ones(target):
    target.call("nvmf_create_subsystem", {"nqn": nqn(1)})
    address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1"}
    for port in ("4420", "4421"):
        target.call("nvmf_subsystem_add_listener", {"nqn": nqn(1), "listen_address": {**address, "trsvcid": port}})
    desired = subsystem(listeners=[{**tcp(), "secure_channel": True}, tcp(4422)], purge=["listeners"])
    planned = plan(target, desired)
    assert [action.summary for action in planned.actions] == [
        "listen on TCP 127.0.0.1:4422",
        "stop listening on TCP 127.0.0.1:4420",
        "listen on TCP 127.0.0.1:4420 with TLS",
        "stop listening on TCP 127.0.0.1:4421",
    ]
    carry_out(target, planned)
    settled(target, desired)
