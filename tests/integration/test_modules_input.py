# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input to the modules: one clear sentence, no traceback, nothing sent."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress

import pytest
from support.ansible import play, run_playbook

NQN = "nqn.2024-01.io.excloud:storage.test"
LVOL = {"name": "1", "lvstore": "lvs-0", "size": "8MiB"}
SUBSYSTEM = {"nqn": NQN}
UNKNOWN = "11111111-2222-4333-8444-555555555555"


def address(**options):
    return {"listeners": [{"traddr": "127.0.0.1", **options}]}


def showing(**options):
    return {"namespaces": [{"bdev": "ram", **options}]}


# Each a task of its own: the module, its options, and what the message says.
TASKS = {
    "unknown lvstore": (
        "lvol",
        {**LVOL, "lvstore": "nope"},
        "lvstore nope is not loaded on this target (loaded: lvs-0)",
    ),
    "size 0": ("lvol", {**LVOL, "size": 0}, "size '0' is zero"),
    "size ten": ("lvol", {**LVOL, "size": "ten"}, "size 'ten' is not a size"),
    "slash": ("lvol", {**LVOL, "name": "a/b"}, "lvol name 'a/b' is not usable"),
    "lvol without an lvstore": ("lvol", {"name": "1"}, "lvstore"),
    "neither one nor many": ("lvol", {}, "one of the following is required: name, lvols"),
    "both one and many": ("lvol", {**LVOL, "lvols": [LVOL]}, "mutually exclusive: name|lvols"),
    "lvol twice": ("lvol", {"lvols": [LVOL, LVOL]}, "lvol lvs-0/1: it is named 2 times in the desired state"),
    "not an NQN": ("subsystem", {"nqn": "storage"}, "NQN 'storage' is not an NQN"),
    "port 0": ("subsystem", {**SUBSYSTEM, **address(trsvcid="0")}, "listener port '0' is not a port number"),
    "purge of what is not": ("subsystem", {**SUBSYSTEM, "purge": ["data"]}, "value of purge must be one or more of"),
    "lvstore over another": ("lvstore", {"name": "new", "bdev": "disk-lvs-0"}, "holds the lvstore lvs-0; it is never"),
    "no fabric": ("transport", {"trtype": "IPX"}, "transport type 'IPX' is not one of TCP, RDMA"),
    "depth": ("transport", {"trtype": "TCP", "max_queue_depth": "deep"}, "unable to convert to int"),
    "no such method": ("rpc", {"method": "bdev_lvol_creat"}, "has no method bdev_lvol_creat"),
    "no method": ("rpc", {}, "missing required arguments: method"),
    "not JSON": ("node", {"desired": "{lvols: oops"}, "desired is not a JSON document"),
    "not an object": ("node", {"desired": "[]"}, "desired is not a JSON object with a list for each kind of object"),
    "unknown kind": ("node", {"desired": '{"lvolumes": []}'}, "desired: lvolumes. Supported parameters include"),
    "kind is no list": ("node", {"desired": '{"lvols": {"name": "1"}}'}, "desired: "),
    "unknown field": ("node", {"desired": '{"lvols": [{"name": "1", "lvstore": "l", "sice": 1}]}'}, "sice"),
    "missing field": ("node", {"desired": '{"lvols": [{"name": "1"}]}'}, "lvstore"),
    "lists and a document": ("node", {"desired": "{}", "lvols": [LVOL]}, "mutually exclusive: desired|lvols"),
    "twice in a document": (
        "node",
        {"desired": json.dumps({"lvols": [LVOL, {**LVOL, "size": "4MiB"}]})},
        "it is named 2 times",
    ),
}

# Each one object of a list, with a name of its own where it has none.
LVOLS = [
    ({"lvstore": UNKNOWN}, f"lvstore {UNKNOWN} is not loaded"),
    ({"size": "0GiB"}, "size '0GiB' is zero"),
    ({"size": "-8MiB"}, "size '-8MiB' is not a size"),
    ({"size": "8 parsecs"}, "size '8 parsecs' is not a size"),
    ({"size": "0.5"}, "is not a whole number of bytes"),
    ({"size": None}, "give its size to create it"),
    ({"size": "1TiB"}, "no space: it needs 262144 clusters of 4 MiB and lvstore lvs-0 has"),
    ({"name": "a b"}, "lvol name 'a b' is not usable"),
    ({"name": ""}, "lvol name '' is not usable"),
    ({"name": "x" * 64}, "is not usable: 1 to 63 characters"),
]
SUBSYSTEMS = [
    ({"nqn": "nqn.2024-01.io.excloud"}, "is not an NQN; write it like"),
    ({"nqn": "nqn.2024-13.io.excloud:x"}, "is not an NQN; write it like"),
    ({"nqn": NQN + "x" * 223}, "is not an NQN; write it like"),
    ({"nqn": "nqn.2014-08.org.nvmexpress.discovery"}, "is the discovery subsystem"),
    ({"hosts": ["everybody"]}, "host NQN 'everybody' is not an NQN"),
    (address(trsvcid="65536"), "listener port '65536' is not a port number"),
    (address(trsvcid="nvme"), "listener port 'nvme' is not a port number"),
    (address(traddr="localhost"), "listener address 'localhost' is not an IP address"),
    (address(adrfam="IPv6"), "listener address 127.0.0.1 is IPv4, but adrfam says IPv6"),
    (address(trtype="IPX"), "transport type 'IPX' is not one of TCP, RDMA"),
    (address(), "needs the TCP transport, which the target does not have"),
    (showing(bdev="lvs-0/9"), "there is no bdev lvs-0/9 on this target"),
    (showing(nsid=-1), "namespace ID -1 of bdev ram is not from 1 to"),
    (showing(bdev="disk-lvs-0"), "is claimed by another user"),
    (showing(bdev_uuid=UNKNOWN), f"wanted {UNKNOWN}"),
    (showing(bdev_uuid="1"), "bdev_uuid '1' is not a UUID"),
]
LVSTORES = [
    ({"name": "a/b"}, "lvstore name 'a/b' is not usable"),
    ({"bdev": None}, "name the bdev to create it on"),
    ({"bdev": "nvme9n1"}, "there is no bdev nvme9n1"),
    ({"name": "lvs-0"}, "is on bdev disk-lvs-0, not on ram"),
    ({"cluster_size": "0"}, "cluster_size '0' is zero"),
    ({"cluster_size": "1GiB"}, "is larger than bdev ram (8 MiB)"),
]
LISTS = {
    "lvol": [{"name": f"v{n}", "lvstore": "lvs-0", "size": "8MiB", **case} for n, (case, _said) in enumerate(LVOLS)],
    "subsystem": [{"nqn": f"{NQN}.{n}", **case} for n, (case, _said) in enumerate(SUBSYSTEMS)],
    "lvstore": [{"name": f"s{n}", "bdev": "ram", **case} for n, (case, _said) in enumerate(LVSTORES)],
}


def attempts(cases, **defaults):
    """Run each case as a task that may fail; returns the results by the name of the case."""
    tasks = [
        {
            "name": name,
            f"excloud.diskengine.spdk_{module}": {"socket": "/nonexistent", **defaults, **options},
            "ignore_errors": True,
        }
        for name, (module, options, _said) in cases.items()
    ]
    done = run_playbook(play(*tasks))
    assert done.rc == 0, done.output
    assert "Traceback" not in done.output
    assert "MODULE FAILURE" not in done.output
    assert {event["event"] for event in done.events} == {"ignored"}
    return {event["task"]: event["result"] for event in done.events}


def judge(expected):
    """All of (message, what it says) are one sentence that says it."""
    wrong = [
        f"{message!r} does not say {said!r} in one sentence"
        for message, said in expected
        if said not in message or "\n" in message or len(message) > 500
    ]
    assert not wrong, "\n".join(wrong)


def refuse(cases, **defaults):
    """Every case fails, changes nothing and says what it should."""
    results = attempts(cases, **defaults)
    assert not any(result.get("changed") for result in results.values())
    judge([(results[name]["msg"], said) for name, (_module, _options, said) in cases.items()])


def dump(target):
    names = (
        "bdev_get_bdevs",
        "bdev_lvol_get_lvstores",
        "bdev_lvol_get_lvols",
        "nvmf_get_subsystems",
        "nvmf_get_transports",
    )
    return [target.call(name) for name in names]


@pytest.fixture
def untouched(target):
    """A target with a RAM disk that is the same after the test."""
    target.call("bdev_malloc_create", {"name": "ram", "num_blocks": 2048, "block_size": 4096})
    before = dump(target)
    yield target
    assert target.recorder.mutations == []
    assert dump(target) == before


def test_bad_options(untouched):
    refuse(TASKS, socket=untouched.socket)


def test_bad_objects(untouched):
    tasks = {kind: (kind, {f"{kind}s": objects}, "") for kind, objects in LISTS.items()}
    results = attempts(tasks, socket=untouched.socket)
    for kind, cases in (("lvol", LVOLS), ("subsystem", SUBSYSTEMS), ("lvstore", LVSTORES)):
        entries = results[kind]["results"]
        assert len(entries) == len(cases)
        assert all(entry["failed"] and not entry["changed"] for entry in entries)
        judge([(entry["msg"], said) for entry, (_case, said) in zip(entries, cases)])
        assert results[kind]["msg"].startswith(f"{len(cases)} of {len(cases)} objects failed: ")
        assert not results[kind]["changed"]


def test_one_bad_object_does_not_stop_the_others(target):
    lvols = [LVOL, {**LVOL, "name": "a/b"}, {**LVOL, "name": "2"}]
    task = {"name": "Try", "excloud.diskengine.spdk_lvol": {"socket": target.socket, "lvols": lvols}}
    done = run_playbook(play(task))
    result = done.result("Try")
    assert (done.rc, result["changed"]) == (2, True)
    assert [entry["failed"] for entry in result["results"]] == [False, True, False]
    assert result["msg"].startswith("1 of 3 objects failed: lvol lvs-0/a/b: lvol name 'a/b' is not usable")
    assert [lvol["alias"] for lvol in target.call("bdev_lvol_get_lvols")] == ["lvs-0/1", "lvs-0/2"]


def on(path, said, timeout=2, modules=("lvol",)):
    """Cases for a socket that is none; to know it is the same code in every module."""
    options = {"info": {}, "lvol": LVOL, "rpc": {"method": "bdev_malloc_create"}}
    where = {"socket": str(path), "timeout": timeout}
    return {f"{module} {path}": (module, {**options[module], **where}, said) for module in modules}


@pytest.fixture
def listen(tmp_path_factory):
    """Listen on a socket: listen(answer) calls answer(request) for each request; None stays silent."""
    sockets = []

    def serve(listener, answer):
        while True:
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            sockets.append(connection)
            threading.Thread(target=converse, args=(connection, answer), daemon=True).start()

    def converse(connection, answer):
        with connection.makefile("r") as lines:
            for line in lines:
                said = answer(json.loads(line))
                if said is not None:
                    with suppress(BrokenPipeError):  # the module has seen enough, and has gone
                        connection.sendall(said)

    def make(answer):
        listener = socket.socket(socket.AF_UNIX)
        path = tmp_path_factory.mktemp("listen") / "s"
        listener.bind(str(path))
        listener.listen(64)
        sockets.append(listener)
        threading.Thread(target=serve, args=(listener, answer), daemon=True).start()
        return path

    yield make
    for each in sockets:
        each.close()


def old(request):
    """An SPDK from before the oldest that is supported."""
    results = {
        "spdk_get_version": {"version": "SPDK v24.01", "fields": {"major": 24, "minor": 1, "patch": 0, "suffix": ""}},
        "rpc_get_methods": ["spdk_get_version", "rpc_get_methods", "bdev_get_bdevs", "bdev_malloc_create"],
    }
    return json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": results[request["method"]]}).encode() + b"\n"


def test_sockets_that_are_none(make_target, listen, tmp_path):
    dead = make_target()
    dead.kill()
    (tmp_path / "file").touch()
    cases = {
        **on(
            tmp_path / "missing",
            "the target is not running, or its JSON-RPC socket has another path",
            modules=("info", "lvol", "rpc"),
        ),
        **on(tmp_path / "file", "is not a socket; give the path of the target's JSON-RPC socket"),
        **on(tmp_path, "is not a socket"),
        **on("/" + "x" * 120, "is longer than the 107 bytes"),
        **on(dead.direct, f"nothing listens on {dead.direct}: the socket was left behind by a target that is gone"),
        **on(dead.socket, "hung up before it answered"),
        **on(listen(lambda request: None), "gave no answer (no answer within 0.5 s): it hangs", timeout=0.5),
        **on(listen(lambda request: b"220 mail ready\n"), "something else serves this socket"),
        **on(listen(lambda request: b"EHLO\n"), "gave no answer (no answer within 0.5 s)", timeout=0.5),
        **on(
            listen(old),
            "the target runs SPDK v24.01; releases from v24.05 on are supported",
            modules=("info", "lvol", "rpc"),
        ),
    }
    refuse(cases)


def test_a_target_that_waits_for_its_start(make_target):
    waiting = make_target(["--wait-for-rpc"])
    said = "is not initialised yet: it was started with --wait-for-rpc and waits for framework_start_init"
    cases = {
        "info": ("info", {}, said),
        "lvol": ("lvol", LVOL, said),
        "node": ("node", {"desired": json.dumps({"lvols": [LVOL]})}, said),
        "subsystem": ("subsystem", SUBSYSTEM, said),
    }
    refuse(cases, socket=waiting.socket)
    assert waiting.recorder.mutations == []

    raw = {"name": "Start", "excloud.diskengine.spdk_rpc": {"socket": waiting.socket, "method": "framework_start_init"}}
    read = {"name": "Read", "excloud.diskengine.spdk_info": {"socket": waiting.socket}}
    started = run_playbook(play(raw, read))
    assert started.rc == 0, started.output
    assert started.result("Read")["desired"]["lvols"] == []
