# SPDX-License-Identifier: GPL-3.0-or-later
"""What each release knows, and that nothing is sent which SPDK's own schema or an older release does not know."""

from __future__ import annotations

import copy
import os
import random
import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.excloud.diskengine.plugins.module_utils import _graph
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import Refusal, Unreachable
from ansible_collections.excloud.diskengine.plugins.module_utils._options import TUNABLE
from ansible_collections.excloud.diskengine.plugins.module_utils._plan import make_plan
from ansible_collections.excloud.diskengine.plugins.module_utils._releases import (
    OLDEST,
    SINCE,
    UNTIL,
    WITHOUT_EFFECT,
    Release,
    identify,
)
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.helpers import (
    ALL_METHODS,
    GIB,
    HOST,
    Local,
    add_disk,
    nqn,
    plan,
    read,
    refusals,
    tcp,
    want,
)
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.states import some_desired, some_target
from spdk_sim import RpcFailure, Target
from spdk_sim.catalogue import RELEASES, parse_release
from spdk_sim.fabric import add_drive, add_subsystem, outside
from spdk_sim.files import FileInfo
from support.secrets import dhchap, psk

ROOT = Path(_graph.__file__).resolve().parents[2]
SCHEMA = Path(os.environ.get("SPDK_SCHEMA") or ROOT.parent / "shared/spdk/schema.yaml")
DRIVE = "0000:01:00.0"
FAR = {"traddr": "127.0.0.1", "trsvcid": "4420"}
NUMBERS = [parse_release(text) for text in RELEASES]


def release(*number: int) -> Release:
    return Release(number, frozenset(ALL_METHODS))


@pytest.mark.parametrize("number", NUMBERS, ids=str)
def test_supported(number):
    found = identify({"fields": {"major": number[0], "minor": number[1]}}, ["a", "b"])
    assert found == Release(number, frozenset({"a", "b"}))
    assert found.has_batches == (number >= (26, 5))
    assert found.request_limit == (262144 if number >= (26, 5) else 32768)
    assert str(found) == f"v{number[0]:02}.{number[1]:02}"


@pytest.mark.parametrize("version", [{"fields": {"major": 24, "minor": 1}}, {"fields": {}}, {}])
def test_too_old(version):
    with pytest.raises(Unreachable, match="releases from v24.05 on are supported"):
        identify(version, [])


def test_the_oldest_is_what_the_readme_says():
    assert OLDEST == (24, 5)


def test_unknown_method():
    with pytest.raises(Refusal, match="SPDK v26.05 of this build has no method bdev_ocf_create"):
        release(26, 5).require("bdev_ocf_create", {})


@pytest.mark.parametrize(("method", "parameter"), [(m, p) for m, known in SINCE.items() for p in known])
def test_a_parameter_is_refused_before_its_release(method, parameter):
    since = SINCE[method][parameter]
    older = max(number for number in NUMBERS if number < since)
    with pytest.raises(Refusal, match=f"{parameter} of {method} needs SPDK v{since[0]:02}.{since[1]:02} or newer"):
        release(*older).require(method, {parameter: 1})
    release(*since).require(method, {parameter: 1})


@pytest.mark.parametrize(("method", "parameter"), [(m, p) for m, known in UNTIL.items() for p in known])
def test_a_parameter_is_refused_after_its_release(method, parameter):
    until = UNTIL[method][parameter]
    with pytest.raises(Refusal, match=f"{parameter} of {method} is unknown from SPDK v{until[0]:02}.{until[1]:02} on"):
        release(*until).require(method, {parameter: 1})
    release(*max(number for number in NUMBERS if number < until)).require(method, {parameter: 1})


def test_parameters_without_effect():
    for method, known in WITHOUT_EFFECT.items():
        for parameter, until in known.items():
            assert release(26, 1).has_effect(method, parameter)
            assert not release(*until).has_effect(method, parameter)
    assert release(26, 9).has_effect("nvmf_create_transport", "max_io_size")


@pytest.mark.parametrize("text", RELEASES)
@pytest.mark.parametrize("option", sorted(TUNABLE))
def test_transport_options_of_each_release(text, option):
    """An option is sent and known, or refused, or has no effect and is left out with a note; never sent in vain.

    The simulator's table of parameters was made from the same contract by somebody else.
    """
    target = Target(release=text, rdma=True)
    value = {"bool": True, "int": 16384}[TUNABLE[option]]
    planned = plan(target, want("transport", trtype="TCP", **{option: value}))
    (item,) = planned.objects
    if item.refusal is None:
        sent = item.change.actions[0].params
        assert (option in sent) != bool(item.change.notes)
        target.call("nvmf_create_transport", sent)
        shown = target.call("nvmf_get_transports")[0].get(option, value)
        assert option not in sent or shown == value
    else:
        assert "needs SPDK v" in item.refusal and not planned.actions


def everything(target: Target) -> list:
    """One object of each kind with all that can be asked for."""
    transport = {name: {"bool": True, "int": 8192}[kind] for name, kind in TUNABLE.items()}
    known = {
        name: value
        for name, value in transport.items()
        if read(target).release.number >= SINCE["nvmf_create_transport"].get(name, OLDEST)
    }
    return [
        want("transport", trtype="TCP", **known),
        *(want("key", name=name, path=f"/{name}") for name in ("one", "two", "tls")),
        want("controller", name="nvme7", traddr=DRIVE),
        want(
            "controller",
            trtype="TCP",
            subnqn=nqn("far"),
            hostnqn=HOST,
            paths=[{**FAR, "hostaddr": "127.0.0.1"}, {**FAR, "trsvcid": "4421"}],
            multipath_policy="active_active",
            multipath_selector="round_robin",
            hdgst=True,
            ddgst=True,
        ),
        want("lvstore", name="lvs", bdev="disk", cluster_size="1MiB", clear_method="none", max_lvols=5000),
        want("lvol", lvstore="lvs", name="1", size="8MiB", thin=True, clear_method="unmap"),
        want("snapshot", lvstore="lvs", name="s", lvol="1"),
        want("lvol", lvstore="lvs", name="2", clone_of="s", independent="inflate"),
        want("lvol", lvstore="lvs", name="3", clone_of="s", independent="decouple"),
        want(
            "subsystem",
            nqn=nqn(1),
            serial_number="1",
            model_number="m",
            max_namespaces=8,
            min_cntlid=1,
            max_cntlid=100,
            ana_reporting=True,
            allow_any_host=True,
            listeners=[tcp()],
            hosts=[HOST],
            host_keys=[{"host": HOST, "dhchap_key": "one", "dhchap_ctrlr_key": "one", "psk": "tls"}],
            namespaces=[{"bdev": "lvs/1", "nsid": 3}],
        ),
        want("raid", name="mirror", base_bdevs=["leg0", "leg1"]),
        want("raid", name="strips", level="raid0", base_bdevs=["leg2"], strip_size="64KiB", superblock=True),
        want("raid", name="rescued", base_bdevs=["leg4", "leg5"], source="leg4"),
        want("qos", bdev="mirror", rw_ios_per_sec=1000, rw_mbytes_per_sec=1, r_mbytes_per_sec=1, w_mbytes_per_sec=1),
        want("vhost", name="vhost7", bdev="mirror", cpumask="1", readonly=True),
    ]


def undo(desired: list) -> list:
    """Changes and removals of all of it."""
    _transport, *keys, controller, far, lvstore, lvol, snapshot, clone, twin, subsystem = [
        each.options for each in desired[:-5]
    ]
    clones = [clone, twin]
    other_key = [{"host": HOST, "dhchap_key": "two", "psk": "tls"}]
    mirror, strips, _rescued, _qos, vhost = [each.options for each in desired[-5:]]
    purge = ["listeners", "hosts", "namespaces"]
    changed = {"listeners": [], "hosts": [], "host_keys": [], "namespaces": []}
    changed = {**changed, "purge": purge, "allow_any_host": False}
    moved = {"paths": [{**FAR, "trsvcid": "4422"}], "multipath_selector": "queue_depth"}
    return [
        [want("subsystem", **{**subsystem, "host_keys": other_key})],
        [want("subsystem", **{**subsystem, **changed}), want("lvol", **{**lvol, "size": "16MiB", "growth": "plain"})],
        [want("controller", **{**far, **moved})],
        [
            want("subsystem", nqn=subsystem["nqn"], state="absent"),
            *(want("key", **{**key, "state": "absent"}) for key in keys),
            want("snapshot", **{**snapshot, "state": "absent"}),
            *(want("lvol", **{**each, "state": "absent"}) for each in (lvol, *clones)),
        ],
        [want("lvstore", name=lvstore["name"], state="absent")],
        [want("controller", name=controller["name"], state="absent")],
        [want("raid", **{**mirror, "base_bdevs": ["leg0", "leg3"]})],
        [
            want("vhost", **{**vhost, "state": "absent"}),
            *(want("raid", **{**each, "state": "absent"}) for each in (mirror, strips)),
        ],
        [want("controller", subnqn=far["subnqn"], state="absent")],
    ]


def all_actions(target: Target) -> list:
    """The actions of making, changing and removing everything, each carried out."""
    desired = everything(target)
    out = []
    for wanted in [desired, *undo(desired)]:
        planned = plan(target, *wanted)
        assert not refusals(planned)
        for action in planned.actions:
            target.call(action.method, action.params)
            out.append(action)
        target.advance(60)
    return out


def with_disks(target: Target) -> Target:
    """A disk, a local drive, files of keys and a subsystem of another node; the target looks for nothing by itself."""
    target.files.files.update({f"/{name}": FileInfo("file", content=dhchap(name)) for name in ("one", "two")})
    target.files.files["/tls"] = FileInfo("file", content=psk("tls"))
    add_disk(target, "disk", 1 * GIB)
    for number in range(6):
        add_disk(target, f"leg{number}", 16 << 20)
    other = outside(target)
    add_drive(other, DRIVE, 1 * GIB, 512, "test")
    addresses = [tcp(port) for port in (4420, 4421, 4422)]
    add_subsystem(other, {"nqn": nqn("far"), "addresses": addresses, "namespaces": [{"size": GIB}]})
    target.bdevs.auto_examine = False
    return target


@pytest.mark.parametrize("text", RELEASES)
def test_every_release_takes_all_that_is_sent(text):
    target = with_disks(Target(release=text, addresses=None))
    in_source = {
        name
        for path in sorted((ROOT / "plugins/module_utils/_resources").glob("*.py"))
        for name in re.findall(r'"((?:bdev|nvmf|vhost|keyring)_\w+)"', path.read_text())
        if "_get_" not in name
    }
    assert {action.method for action in all_actions(target)} == in_source & set(target.methods())


@pytest.mark.parametrize(("text", "trtype"), [("26.01", "RDMA"), ("26.01", "TCP"), ("26.05", "RDMA")])
def test_older_releases_are_not_asked_for_bdevs_while_rdma_is_not_connected(text, trtype):
    target = Target(release=text, addresses=None, rdma=True)
    other = outside(target)
    where = {**tcp(4420), "trtype": trtype, "adrfam": "IPv4"}
    add_subsystem(other, {"nqn": nqn("far"), "addresses": [where], "namespaces": [{"size": 1 << 20}]})
    times = {"ctrlr_loss_timeout_sec": -1, "reconnect_delay_sec": 1}
    target.call("bdev_nvme_attach_controller", {"name": "c0", "subnqn": nqn("far"), **where, **times})
    read(target)
    other.call("nvmf_subsystem_remove_listener", {"nqn": nqn("far"), "listen_address": where})
    client, asked = Local(target), []
    answers = client.read
    client.read = lambda calls: asked.extend(call.method for call in calls) or answers(calls)
    if (text, trtype) == ("26.01", "RDMA"):
        with pytest.raises(Unreachable, match="may crash when its bdevs are read while controller c0 is in state"):
            _graph.read_graph(client)
        assert asked == ["bdev_nvme_get_controllers"]
    else:
        assert _graph.read_graph(client).controllers["c0"].state == "reconnect_is_delayed"


# --- against SPDK's own description of its methods ---


@pytest.fixture(name="schema", scope="module")
def _schema() -> dict:
    if not SCHEMA.is_file():
        pytest.skip("no SPDK schema: set SPDK_SCHEMA to the schema.yaml of an SPDK checkout")
    return yaml.safe_load(SCHEMA.read_text())


def check(method: str, params: dict, schema: dict) -> None:
    """A call has known parameters only, and all that are required, in nested objects too."""
    methods = {each["name"]: each["params"] for each in schema["methods"]}
    assert method in methods
    check_fields(method, params, methods[method], {each["name"]: each["fields"] for each in schema["objects"]})


def check_fields(where: str, values: dict, fields: list, objects: dict) -> None:
    known = {field["name"]: field for field in fields}
    assert not values.keys() - known.keys(), f"{where} does not know {values.keys() - known.keys()}"
    missing = {name for name, field in known.items() if field.get("required")} - values.keys()
    assert not missing, f"{where} lacks {missing}"
    python = {"string": str, "boolean": bool, "enum": str, "object": dict, "uuid": str, "array": list}
    for name, value in values.items():
        kind = known[name]["type"]
        expected = python.get(kind, int)
        assert isinstance(value, expected) and isinstance(value, bool) == (kind == "boolean"), f"{where}.{name}"
        if kind == "object":
            check_fields(f"{where}.{name}", value, objects[known[name]["class"]], objects)


def test_getters_are_in_the_schema(schema):
    for call in _graph._GETTERS.values():
        check(call.method, call.params or {}, schema)


def test_all_that_can_be_sent_is_in_the_schema(schema):
    for action in all_actions(with_disks(Target(addresses=None))):
        check(action.method, action.params, schema)


def test_every_tunable_is_in_the_schema(schema):
    method = next(each for each in schema["methods"] if each["name"] == "nvmf_create_transport")
    kinds = {field["name"]: field["type"] for field in method["params"]}
    for name, kind in TUNABLE.items():
        assert (kinds[name] == "boolean") == (kind == "bool"), name


def test_random_plans_are_in_the_schema(schema):
    checked = 0
    for seed in range(80):
        chance = random.Random(seed)
        target = some_target(chance)
        for action in make_plan(some_desired(chance), read(target)).actions:
            check(action.method, copy.deepcopy(action.params), schema)
            checked += 1
    assert checked > 100


def test_the_check_against_the_schema_can_fail(schema):
    for params in ({"nqn": "x", "nsid": 1, "extra": 1}, {"nqn": "x"}, {"nqn": "x", "nsid": "1"}):
        with pytest.raises(AssertionError):
            check("nvmf_subsystem_remove_ns", params, schema)
    with pytest.raises(AssertionError):
        check("nvmf_subsystem_add_ns", {"nqn": "x", "namespace": {"nsid": 1}}, schema)
    with pytest.raises(RpcFailure):
        Target().call("nvmf_subsystem_remove_ns", {"nqn": "x", "nsid": 1, "extra": 1})
