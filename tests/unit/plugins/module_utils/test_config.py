# SPDX-License-Identifier: GPL-3.0-or-later
"""Saved configurations: what they say, how two of them differ, and the order in which one is brought back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from ansible_collections.excloud.diskengine.plugins.module_utils import _config
from ansible_collections.excloud.diskengine.plugins.module_utils._config import (
    START,
    Entry,
    by_object,
    changed,
    check,
    differences,
    hidden,
    parse,
    require_settings,
    stages,
    unequal,
    with_startup,
    work,
)
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import Refusal
from hypothesis import given
from hypothesis import strategies as st

SCHEMA = Path(os.environ.get("SPDK_SCHEMA") or Path(_config.__file__).resolve().parents[3] / "shared/spdk/schema.yaml")
NQN = "nqn.2024-01.io.excloud:storage.n1.d1."
STARTUP_ONLY = {"bdev_set_options", "iobuf_set_options"}


def disk(name, **more):
    return Entry("bdev", "bdev_aio_create", {"name": name, "filename": f"/dev/{name}", "block_size": 4096, **more})


def subsystem(number, **more):
    return Entry("nvmf", "nvmf_create_subsystem", {"nqn": f"{NQN}{number}", "serial_number": "1", **more})


def namespace(number, bdev, nsid=1):
    return Entry(
        "nvmf", "nvmf_subsystem_add_ns", {"nqn": f"{NQN}{number}", "namespace": {"nsid": nsid, "bdev_name": bdev}}
    )


def host(number, name, **more):
    return Entry("nvmf", "nvmf_subsystem_add_host", {"nqn": f"{NQN}{number}", "host": f"{NQN}{name}", **more})


def listener(number, trtype="TCP", **more):
    address = {"trtype": trtype, "adrfam": "IPv4", "traddr": "192.0.2.1", "trsvcid": "4420"}
    return Entry("nvmf", "nvmf_subsystem_add_listener", {"nqn": f"{NQN}{number}", "listen_address": address, **more})


OPTIONS = Entry("bdev", "bdev_set_options", {"bdev_io_pool_size": 65535, "bdev_auto_examine": False})
EXAMINED = Entry("bdev", "bdev_wait_for_examine", {})
RAID_OPTIONS = Entry("bdev", "bdev_raid_set_options", {"process_window_size_kb": 1024})

NUMBERS = st.integers(1, 3)
ENTRIES = st.one_of(
    st.builds(disk, st.sampled_from(["a", "b"]), block_size=st.sampled_from([512, 4096])),
    st.builds(subsystem, NUMBERS, serial_number=st.sampled_from(["1", "2"])),
    st.builds(namespace, NUMBERS, st.sampled_from(["x", "y"]), NUMBERS),
    st.builds(host, NUMBERS, NUMBERS),
    st.builds(listener, NUMBERS),
    st.just(OPTIONS),
    st.just(OPTIONS._replace(params={"bdev_auto_examine": True})),
    st.just(RAID_OPTIONS),
    st.just(RAID_OPTIONS._replace(params={"process_window_size_kb": 512})),
    st.builds(lambda limit: Entry("bdev", "bdev_set_qos_limit", {"name": "x", "rw_ios_per_sec": limit}), NUMBERS),
)
CONFIGURATIONS = st.lists(ENTRIES, max_size=12, unique_by=lambda entry: entry.key)


# --- reading ---


def test_parse_takes_what_spdk_writes():
    document = {
        "subsystems": [
            {"subsystem": "scsi", "config": None},
            {"subsystem": "bdev", "config": [[disk("a")._asdict(), disk("b")._asdict()], [], EXAMINED._asdict()]},
            {"subsystem": "nvmf", "config": [{"method": "nvmf_set_crdt", "params": None}]},
        ]
    }
    found = parse(document, "f")
    assert found == [disk("a"), disk("b"), EXAMINED, Entry("nvmf", "nvmf_set_crdt", {})]


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"subsystems": {}},
        {"subsystems": [1]},
        {"subsystems": [{"subsystem": "bdev"}]},
        {"subsystems": [{"subsystem": "bdev", "config": [{"params": {}}]}]},
        {"subsystems": [{"subsystem": "bdev", "config": [{"method": "bdev_aio_create", "params": 3}]}]},
        {"subsystems": [{"subsystem": "bdev", "config": ["bdev_aio_create"]}]},
    ],
)
def test_parse_refuses_what_is_no_configuration(document):
    with pytest.raises(Refusal, match="^/the/file is not a saved configuration: "):
        parse(document, "/the/file")


@pytest.mark.parametrize("method", ["bdev_lvol_create_lvstore", "nvmf_delete_subsystem", START])
def test_a_restore_makes_only_what_configurations_have(method):
    with pytest.raises(Refusal, match=f"the file has {method}, which is not restored from a configuration"):
        check([Entry("x", method, {"name": "x"})], "the file")


def test_an_entry_names_what_it_is_about():
    with pytest.raises(Refusal, match="the file has a nvmf_subsystem_add_ns without namespace.nsid"):
        check([Entry("nvmf", "nvmf_subsystem_add_ns", {"nqn": NQN, "namespace": {"bdev_name": "x"}})], "the file")
    with pytest.raises(Refusal, match="a bdev_aio_create without name"):
        check([Entry("bdev", "bdev_aio_create", {"name": ["x"]})], "the file")
    every_drive = {"name": "c", "trtype": "PCIe", "traddr": ""}
    with pytest.raises(Refusal, match="a bdev_nvme_attach_controller without traddr"):
        check([Entry("bdev", "bdev_nvme_attach_controller", every_drive)], "the file")
    pci = {"name": "c", "trtype": "PCIe", "traddr": "0000:01:00.0"}
    check([Entry("bdev", "bdev_nvme_attach_controller", pci)], "the file")


def test_names_of_objects_are_parameters_of_their_methods():
    if not SCHEMA.is_file():
        pytest.skip("no SPDK schema: set SPDK_SCHEMA to the schema.yaml of an SPDK checkout")
    methods = {
        each["name"]: {p["name"] for p in each["params"]} for each in yaml.safe_load(SCHEMA.read_text())["methods"]
    }
    known = {method: named for method, named in _config._ABOUT.items() if method in methods}
    assert len(known) > 70
    for method, named in known.items():
        assert {path.partition(".")[0] for path in named} <= methods[method], method
    for table in (_config._SETTERS, _config._FAMILIES):
        assert set(table) <= set(_config._ABOUT)


# --- comparing ---


@given(CONFIGURATIONS, CONFIGURATIONS)
def test_differences_are_the_same_from_both_sides(one, other):
    there, back = differences(one, other), differences(other, one)
    assert {(item.kind, item.entry.key) for item in there if item.kind == "missing"} == {
        ("missing", item.entry.key) for item in back if item.kind == "extra"
    }
    assert not differences(one, one)


@given(CONFIGURATIONS, CONFIGURATIONS)
def test_work_is_for_what_differs_and_leads_there(saved, live):
    """What is missing or different is sent or in conflict, nothing else is; sending it leaves only the conflicts."""
    now = frozenset(entry.method for entry in [*saved, *live]) - STARTUP_ONLY
    todo, conflicts = work(saved, live, now)
    found = [item for item in differences(saved, live) if item.kind != "extra"]
    assert {entry.key for entry in todo} | set(conflicts) == {item.entry.key for item in found}
    assert not {entry.key for entry in todo} & set(conflicts)
    assert not {entry.method for entry in todo} & STARTUP_ONLY
    for item in found:
        if item.kind == "different" and item.entry.method in ("bdev_aio_create", "nvmf_create_subsystem"):
            assert item.entry.key in conflicts
    after = {entry.key: entry for entry in [*live, *todo]}
    assert work(saved, list(after.values()), now) == ([], conflicts)


def test_examining_is_waited_for_whenever_something_is_sent():
    """Also when the disk is there already: a run that was cut off may have left SPDK looking at it."""
    export = [subsystem(1), namespace(1, "x")]
    now = frozenset({"nvmf_subsystem_add_ns"})
    assert work([EXAMINED, *export], [EXAMINED, subsystem(1)], now)[0] == [EXAMINED, namespace(1, "x")]
    assert work([EXAMINED, *export], [EXAMINED, *export], now)[0] == []
    assert not differences([EXAMINED], [])


def test_what_only_one_of_them_has_is_not_compared():
    assert not changed(disk("a"), disk("a", uuid="52e36301-a39b-4ee6-afdc-9040243816b7", readonly=False))
    older = Entry("nvmf", "nvmf_set_config", {"discovery_filter": "match_any"})
    assert not changed(older, older._replace(params={"discovery_filters": []}))


def test_keys_that_only_one_of_them_has_are_a_difference():
    for saved, live in ((None, "k"), ("k", None)):
        sides = [host(1, 1, **({"dhchap_key": key} if key else {})) for key in (saved, live)]
        (found,) = changed(*sides)
        assert (found.parameter, found.saved, found.live) == ("dhchap_key", saved, live)


def test_spelling_that_means_the_same():
    assert listener(1, "tcp").key == listener(1, "TCP").key
    assert not changed(listener(1, "tcp"), listener(1, "TCP"))
    assert host(1, "A").key != host(1, "a").key


@pytest.mark.parametrize(("level", "made"), [("raid1", False), ("raid5f", False), ("raid0", True), ("concat", True)])
def test_a_mirror_is_not_made_over_members_that_may_be_stale(level, made):
    raid = Entry("bdev", "bdev_raid_create", {"name": "r", "raid_level": level, "base_bdevs": ["a", "b"]})
    now = frozenset({"bdev_raid_create"})
    todo, conflicts = work([raid], [], now)
    assert (todo, list(conflicts)) == (([raid], []) if made else ([], [raid.key]))
    assert work([raid], [raid], now) == ([], {})


def test_conflicts_name_both():
    todo, conflicts = work(
        [OPTIONS, subsystem(1), namespace(1, "x")],
        [
            OPTIONS._replace(params={"bdev_io_pool_size": 65535, "bdev_auto_examine": True}),
            subsystem(1),
            namespace(1, "y"),
        ],
        frozenset({"nvmf_create_subsystem", "nvmf_subsystem_add_ns"}),
    )
    assert not todo
    assert list(conflicts.values()) == [
        "bdev_set_options bdev: bdev_auto_examine is true, saved as false; bdev_set_options can be called only before "
        "the framework starts, so restart the target with --wait-for-rpc, or save its configuration as it is",
        f'nvmf_subsystem_add_ns {NQN}1 1: namespace.bdev_name is "y", saved as "x"; remove it from the target, or save '
        f"it as it is",
    ]


@given(CONFIGURATIONS, CONFIGURATIONS)
def test_diff_shows_what_is_not_equal(before, after):
    shown = unequal(before, after)
    same = [entry for entry in before if entry in after]
    assert {**shown["before"], **by_object(same)} == by_object(before)
    assert {**shown["after"], **by_object(same)} == by_object(after)
    assert not set(by_object(same)) & {*shown["before"], *shown["after"]}


# --- order ---


@given(st.lists(ENTRIES, max_size=30))
def test_order(entries):
    """Of two entries the later waits for the earlier unless both are of one family and about different objects."""
    numbered = [entry._replace(params={**entry.params, "number": number}) for number, entry in enumerate(entries)]
    place = {entry.params["number"]: index for index, stage in enumerate(stages(numbered)) for entry in stage}
    assert len(place) == len(entries)
    for later in numbered:
        for earlier in numbered[: later.params["number"]]:
            first, second = place[earlier.params["number"]], place[later.params["number"]]
            if earlier.lane and later.lane and earlier.lane[0] == later.lane[0] and earlier.lane != later.lane:
                continue
            assert first < second


def test_independent_exports_go_out_together():
    entries = [each for number in range(750) for each in (subsystem(number), namespace(number, "x"), listener(number))]
    assert [len(stage) for stage in stages(entries)] == [750, 750, 750]


# --- options for before the start ---


def test_startup_stands_above_the_file():
    merged = with_startup([OPTIONS, disk("a")], {"bdev_set_options": {"bdev_auto_examine": True}, "nvmf_set_crdt": {}})
    assert merged == [
        Entry("nvmf", "nvmf_set_crdt", {}),
        OPTIONS._replace(params={"bdev_io_pool_size": 65535, "bdev_auto_examine": True}),
        disk("a"),
    ]


def test_startup_takes_settings_only():
    with pytest.raises(Refusal, match="startup has bdev_set_options without its parameters"):
        with_startup([], {"bdev_set_options": True})
    now = frozenset({"bdev_set_options", "bdev_raid_set_options"})
    require_settings({"bdev_set_options": {}, "bdev_raid_set_options": {}}, True, now)
    with pytest.raises(
        Refusal, match="startup has bdev_aio_create, which cannot be called before the framework starts"
    ):
        require_settings({"bdev_aio_create": {}}, True, now)
    running = frozenset({"bdev_aio_create", "bdev_raid_set_options"})
    require_settings({"bdev_set_options": {}, "bdev_raid_set_options": {}}, False, running)
    with pytest.raises(Refusal, match="startup has bdev_aio_create"):
        require_settings({"bdev_aio_create": {}}, False, running)


# --- secrets ---


def test_key_material_is_hidden_and_names_are_not():
    key = Entry("accel", "accel_crypto_key_create", {"name": "k", "cipher": "AES_XTS", "key": "00ff", "key2": "ff00"})
    other = key._replace(params={**key.params, "key": "1234", "key2": None})
    told = [item.describe() for item in differences([key], [other])]
    told += [item.describe() for item in differences([key], [])] + [key.describe(), unequal([key], [other])]
    told += work([key], [other], frozenset({key.method}))[1].values()
    assert len(told) == 6
    assert not [secret for secret in ("00ff", "ff00", "1234") if secret in str(told)]
    assert hidden({"path": "/k", "name": "k", "psk": "k"}) == {"path": "/k", "name": "k", "psk": "k"}
    assert hidden({"secrets": [{"user": "u", "secret": "s"}]}) == {"secrets": [{"user": "u", "secret": "(hidden)"}]}
