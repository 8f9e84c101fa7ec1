# SPDX-License-Identifier: GPL-3.0-or-later
"""What is decided for each object: nothing, which calls, or a refusal, and for each refusal its nearest neighbour."""

from __future__ import annotations

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.excloud.diskengine.plugins.module_utils import _plan
from ansible_collections.excloud.diskengine.plugins.module_utils._plan import ANYTHING, Action, Change, Plan, make_plan
from ansible_collections.excloud.diskengine.plugins.module_utils._resources._lvstore import metadata_ratio
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.helpers import (
    GIB,
    HOST,
    KINDS,
    MIB,
    add_disk,
    add_lvstore,
    carry_out,
    filled,
    nqn,
    plan,
    read,
    refusals,
    tcp,
    want,
)
from spdk_sim import Target

MISSING = "00000000-1111-4222-8333-444444444444"


@pytest.fixture(name="target")
def _target() -> Target:
    """A target with a transport, the lvstore lvs (1 GiB, 4 MiB clusters) and the bare disk d1."""
    target = Target(seed=1, addresses=None)
    add_lvstore(target, "lvs")
    add_disk(target, "d1", 256 * MIB)
    target.call("nvmf_create_transport", {"trtype": "TCP"})
    return target


def lvol(target: Target, name: str = "1", size: int = 8, thin: bool = False, store: str = "lvs") -> str:
    """Make an lvol of ``size`` MiB; its UUID."""
    params = {"lvs_name": store, "lvol_name": name, "size_in_mib": size, "thin_provision": thin}
    return target.call("bdev_lvol_create", params)


def export(target: Target, bdev: str = "lvs/1", name: object = 1, **params) -> None:
    """Make a subsystem that shows a bdev as namespace 1."""
    target.call("nvmf_create_subsystem", {"nqn": nqn(name), **params})
    target.call("nvmf_subsystem_add_ns", {"nqn": nqn(name), "namespace": {"bdev_name": bdev}})


def serve(target: Target, bdev: str) -> None:
    """Make a vhost controller of a bdev."""
    target.call("vhost_create_blk_controller", {"ctrlr": "vm1", "dev_name": bdev})


def listen(target: Target, port: int, name: object = 1) -> None:
    address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": str(port)}
    target.call("nvmf_subsystem_add_listener", {"nqn": nqn(name), "listen_address": address})


def calls(planned: Plan) -> list:
    return [(action.method, action.params) for action in planned.actions]


def methods(planned: Plan) -> list:
    return [action.method for action in planned.actions]


def assert_refused(planned: Plan, *parts: str) -> None:
    """The one object is refused with a sentence, and nothing is planned."""
    (refusal,) = refusals(planned).values()
    for part in parts:
        assert part in refusal
    assert "\n" not in refusal and not planned.actions


def assert_works(target: Target, planned: Plan, *expected: str) -> None:
    """Nothing is refused, exactly these methods are planned, and the target takes them."""
    assert not refusals(planned)
    assert methods(planned) == list(expected)
    carry_out(target, planned)
    again = plan(target, *[item.wanted for item in planned.objects])
    assert not again.actions and not refusals(again)


def test_options_are_filled_as_the_modules_fill_them():
    given = {
        "transport": {"trtype": "TCP"},
        "lvstore": {"name": "lvs"},
        "lvol": {"name": "1", "lvstore": "lvs"},
        "subsystem": {"nqn": nqn(1), "listeners": [{"traddr": "::1"}], "namespaces": [{"bdev": "x"}]},
    }
    for kind, options in given.items():
        validated = ArgumentSpecValidator(KINDS[kind].options).validate(options)
        assert not validated.error_messages
        assert validated.validated_parameters == filled(KINDS[kind].options, options)


# --- transports ---


def test_transport_on_an_empty_target():
    planned = plan(Target(), want("transport", trtype="tcp", max_queue_depth=256))
    assert calls(planned) == [("nvmf_create_transport", {"trtype": "TCP", "max_queue_depth": 256})]
    assert planned.objects[0].change.before is None
    assert planned.objects[0].change.after == {"trtype": "TCP", "max_queue_depth": 256}
    assert planned.objects[0].subject == "transport TCP"


def test_transport_present(target):
    assert_works(target, plan(target, want("transport", trtype="TCP")))
    assert_works(target, plan(target, want("transport", trtype="tcp", max_queue_depth=128, kas=100, zcopy=False)))


def test_transport_options_differ(target):
    planned = plan(target, want("transport", trtype="TCP", max_queue_depth=256, kas=50, max_io_size=131072))
    assert_refused(planned, "max_queue_depth is 128, wanted 256; kas is 100, wanted 50", "restart the target")


def test_transport_option_without_effect(target):
    planned = plan(target, want("transport", trtype="TCP", io_unit_size=16384))
    assert not planned.actions and not refusals(planned)
    old = Target(release="26.01")
    assert calls(plan(old, want("transport", trtype="TCP", io_unit_size=16384))) == [
        ("nvmf_create_transport", {"trtype": "TCP", "io_unit_size": 16384})
    ]
    new = plan(Target(), want("transport", trtype="TCP", io_unit_size=16384))
    assert calls(new) == [("nvmf_create_transport", {"trtype": "TCP"})]
    assert new.objects[0].change.notes == ["io_unit_size has no effect in SPDK v26.09 and is not sent"]


def test_transport_option_of_a_newer_release():
    old = Target(release="24.09")
    assert_refused(plan(old, want("transport", trtype="TCP", kas=50)), "kas of nvmf_create_transport needs SPDK v25.05")
    assert_works(old, plan(old, want("transport", trtype="TCP")), "nvmf_create_transport")


def test_transport_absent(target):
    assert_refused(plan(target, want("transport", trtype="TCP", state="absent")), "SPDK cannot delete a transport")
    assert_works(target, plan(target, want("transport", trtype="RDMA", state="absent")))


def test_transport_type(target):
    assert_refused(plan(target, want("transport", trtype="FC")), "transport type 'FC' is not one of TCP, RDMA")


# --- lvstores ---


def test_lvstore_created(target):
    planned = plan(target, want("lvstore", name="new", bdev="d1", cluster_size="1MiB", clear_method="none"))
    assert calls(planned) == [
        (
            "bdev_lvol_create_lvstore",
            {"bdev_name": "d1", "lvs_name": "new", "cluster_sz": MIB, "clear_method": "none"},
        )
    ]
    assert planned.actions[0].learns == "uuid"
    assert_works(target, planned, "bdev_lvol_create_lvstore")


def test_lvstore_by_any_name_of_its_bdev(target):
    uuid = target.bdevs.get("d1").uuid
    planned = plan(target, want("lvstore", name="new", bdev=uuid.upper()))
    assert planned.actions[0].params["bdev_name"] == "d1"
    assert_works(target, planned, "bdev_lvol_create_lvstore")


def test_lvstore_present(target):
    for options in ({}, {"bdev": "disk-lvs"}, {"bdev": "disk-lvs", "cluster_size": "4MiB", "max_lvols": 9}):
        assert_works(target, plan(target, want("lvstore", name="lvs", **options)))
    facts = plan(target, want("lvstore", name="lvs")).objects[0].change.facts
    assert facts["uuid"] == target.call("bdev_lvol_get_lvstores")[0]["uuid"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "new"}, "the lvstore does not exist; name the bdev to create it on (bdev)"),
        ({"name": "new", "bdev": "d9"}, "there is no bdev d9 on this target"),
        ({"name": "a/b", "bdev": "d1"}, "lvstore name 'a/b' is not usable"),
        ({"name": "x" * 64, "bdev": "d1"}, "is not usable"),
        ({"name": "lvs", "bdev": "d1"}, "an lvstore of that name is on bdev disk-lvs, not on d1"),
        ({"name": "new", "bdev": "disk-lvs"}, "bdev disk-lvs holds the lvstore lvs; it is never overwritten"),
        ({"name": "lvs", "bdev": "disk-lvs", "cluster_size": "1MiB"}, "its clusters are 4 MiB, wanted 1 MiB"),
        ({"name": "new", "bdev": "d1", "cluster_size": "257MiB"}, "is larger than bdev d1 (256 MiB)"),
        ({"name": "new", "bdev": "d1", "cluster_size": "0"}, "cluster_size '0' is zero"),
        ({"name": "new", "bdev": "d1", "cluster_size": "big"}, "cluster_size 'big' is not a size"),
    ],
)
def test_lvstore_refused(target, options, sentence):
    assert_refused(plan(target, want("lvstore", **options)), sentence)


def test_lvstore_names_of_63_characters(target):
    assert_works(target, plan(target, want("lvstore", name="x" * 63, bdev="d1")), "bdev_lvol_create_lvstore")


def test_lvstore_cluster_as_large_as_the_disk(target):
    planned = plan(target, want("lvstore", name="new", bdev="d1", cluster_size="256MiB"))
    assert not refusals(planned)


def test_lvstore_on_a_bdev_in_use(target):
    export(target, "d1")
    wanted = want("lvstore", name="new", bdev="d1")
    assert_refused(plan(target, wanted), f"bdev d1 is exported as namespace 1 of {nqn(1)}")
    target.call("nvmf_delete_subsystem", {"nqn": nqn(1)})
    serve(target, "d1")
    assert_refused(plan(target, wanted), "bdev d1 is served by the vhost controller vm1")
    target.call("vhost_delete_controller", {"ctrlr": "vm1"})
    add_disk(target, "d2", 256 * MIB)
    raid = {"name": "raid", "raid_level": "raid1", "base_bdevs": ["d1", "d2"]}
    target.call("bdev_raid_create", raid)
    assert_refused(plan(target, wanted), "bdev d1 is part of the RAID raid")
    target.call("bdev_raid_delete", {"name": "raid"})
    assert_works(target, plan(target, wanted), "bdev_lvol_create_lvstore")


def test_lvstore_deleted(target):
    uuid = lvol(target)
    wanted = want("lvstore", name="lvs", state="absent")
    assert_refused(plan(target, wanted), "it holds 1 lvol(s): 1; delete them first")
    target.call("bdev_lvol_delete", {"name": uuid})
    store = target.call("bdev_lvol_get_lvstores")[0]["uuid"]
    planned = plan(target, wanted)
    assert calls(planned) == [("bdev_lvol_delete_lvstore", {"uuid": store})]
    assert planned.actions[0].risk == _plan.DESTRUCTIVE
    assert_works(target, planned, "bdev_lvol_delete_lvstore")


def test_lvstore_that_holds_many_names_some(target):
    for number in range(8):
        lvol(target, f"v{number}", thin=True)
    planned = plan(target, want("lvstore", name="lvs", state="absent"))
    assert_refused(planned, "it holds 8 lvol(s): v0, v1, v2, v3, v4 and 3 more")


def test_lvstore_with_only_a_snapshot_is_not_empty(target):
    uuid = lvol(target)
    target.call("bdev_lvol_snapshot", {"lvol_name": uuid, "snapshot_name": "snap"})
    target.call("bdev_lvol_delete", {"name": uuid})
    assert_refused(plan(target, want("lvstore", name="lvs", state="absent")), "it holds 1 lvol(s): snap")


@pytest.mark.parametrize("thin", [True, False])
@pytest.mark.parametrize("wanted", [10, 100, 300])
def test_lvstore_has_room_for_as_many_lvols_as_asked_for(wanted, thin):
    """64 clusters: with the default of one metadata page each it holds 63 lvols, thin or not."""
    target = Target(seed=1)
    add_disk(target, "d", 64 * MIB)
    planned = plan(target, want("lvstore", name="lvs", bdev="d", cluster_size="1MiB", max_lvols=wanted))
    assert ("num_md_pages_per_cluster_ratio" in planned.actions[0].params) == (wanted > 20)
    carry_out(target, planned)
    free = target.call("bdev_lvol_get_lvstores")[0]["free_clusters"]
    for number in range(wanted if thin else min(wanted, free)):
        lvol(target, str(number), 1, thin)


@pytest.mark.parametrize(
    ("lvols", "size", "cluster"), [(10000, 4 << 40, 4 * MIB), (10000, 100 * GIB, MIB), (1, MIB, MIB)]
)
def test_metadata_ratio_covers_extent_pages(lvols, size, cluster):
    clusters = size // cluster
    pages = metadata_ratio(lvols, size, cluster) * clusters // 100
    per_lvol = -(-(clusters // lvols) // 512)
    assert pages >= 1 + lvols * (1 + per_lvol) or pages >= 1 + 2 * lvols + clusters // 512


# --- lvols ---


def test_lvol_created(target):
    store = target.call("bdev_lvol_get_lvstores")[0]["uuid"]
    planned = plan(target, want("lvol", name="1", lvstore="lvs", size="10MiB", thin=True, clear_method="none"))
    assert calls(planned) == [
        (
            "bdev_lvol_create",
            {"lvol_name": "1", "size_in_mib": 10, "thin_provision": True, "uuid": store, "clear_method": "none"},
        )
    ]
    change = planned.objects[0].change
    assert change.after == {"lvstore": "lvs", "name": "1", "size": 12 * MIB, "thin": True}
    assert change.notes == ["10 MiB was rounded up to 12 MiB, whole clusters of 4 MiB"]
    assert change.facts == {"uuid": None, "alias": "lvs/1"}
    assert_works(target, planned, "bdev_lvol_create")


def test_lvol_is_thick_unless_asked(target):
    assert plan(target, want("lvol", name="1", lvstore="lvs", size="8MiB")).actions[0].params["thin_provision"] is False


def test_lvol_by_the_uuid_of_its_lvstore(target):
    store = target.call("bdev_lvol_get_lvstores")[0]["uuid"]
    for name in (store, store.upper()):
        wanted = want("lvol", name="1", lvstore=name, size="8MiB")
        planned = plan(target, wanted)
        assert planned.objects[0].subject == "lvol lvs/1"
        assert planned.objects[0].identity == {"lvstore": name, "name": "1"}
    assert_works(target, planned, "bdev_lvol_create")


def test_lvol_present(target):
    uuid = lvol(target, size=12, thin=True)
    for options in (
        {},
        {"size": "12MiB"},
        {"size": "10MiB"},
        {"size": "9MiB", "thin": True},
        {"clear_method": "unmap"},
    ):
        assert_works(target, plan(target, want("lvol", name="1", lvstore="lvs", **options)))
    facts = plan(target, want("lvol", name="1", lvstore="lvs")).objects[0].change.facts
    assert facts == {"uuid": uuid, "alias": "lvs/1"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"name": "1", "lvstore": "nowhere", "size": "8MiB"},
            "lvstore nowhere is not loaded on this target (loaded: lvs)",
        ),
        ({"name": "1", "lvstore": MISSING, "size": "8MiB"}, f"lvstore {MISSING} is not loaded"),
        ({"name": "1", "lvstore": "nowhere", "state": "absent"}, "lvstore nowhere is not loaded"),
        ({"name": "1", "lvstore": "lvs", "size": "0"}, "size '0' is zero"),
        ({"name": "1", "lvstore": "lvs", "size": "huge"}, "size 'huge' is not a size"),
        ({"name": "1", "lvstore": "lvs"}, "the lvol does not exist; give its size"),
        ({"name": "a/b", "lvstore": "lvs", "size": "8MiB"}, "lvol name 'a/b' is not usable"),
        ({"name": "", "lvstore": "lvs", "size": "8MiB"}, "is not usable"),
        ({"name": "x" * 64, "lvstore": "lvs", "size": "8MiB"}, "is not usable"),
    ],
)
def test_lvol_refused(target, options, sentence):
    assert_refused(plan(target, want("lvol", **options)), sentence)


def test_lvol_on_a_target_without_lvstores():
    planned = plan(Target(), want("lvol", name="1", lvstore="lvs", size="8MiB"))
    assert_refused(planned, "lvstore lvs is not loaded on this target (loaded: none)")


def test_lvol_names_of_63_characters(target):
    assert_works(target, plan(target, want("lvol", name="x" * 63, lvstore="lvs", size="1")), "bdev_lvol_create")


def test_lvols_share_what_is_free(target):
    free = target.call("bdev_lvol_get_lvstores")[0]["free_clusters"]
    half = f"{free // 2 * 4}MiB"
    desired = [want("lvol", name=name, lvstore="lvs", size=half) for name in ("1", "2")]
    assert_works(target, plan(target, *desired), "bdev_lvol_create", "bdev_lvol_create")
    left = target.call("bdev_lvol_get_lvstores")[0]["free_clusters"]
    assert left == free % 2
    third = want("lvol", name="3", lvstore="lvs", size="8MiB")
    assert_refused(plan(target, third), "no space: it needs 2 clusters of 4 MiB and lvstore lvs has", f"{left} free")
    thin = want("lvol", name="3", lvstore="lvs", size="8MiB", thin=True)
    assert_works(target, plan(target, thin), "bdev_lvol_create")


def test_lvols_beyond_what_is_free_in_one_plan(target):
    free = target.call("bdev_lvol_get_lvstores")[0]["free_clusters"]
    desired = [want("lvol", name=str(number), lvstore="lvs", size=f"{free // 3 * 4}MiB") for number in range(4)]
    planned = plan(target, *desired)
    assert list(refusals(planned)) == ["lvol lvs/3"]
    carry_out(target, planned)


def test_lvol_in_the_place_of_deleted_ones(target):
    """Room that deletes of the same plan make may be used, after all of them, and not by those who do not need it."""
    free = target.call("bdev_lvol_get_lvstores")[0]["free_clusters"]
    for name in ("1", "2"):
        lvol(target, name, (free - 4) // 2 * 4)
    small = want("lvol", name="small", lvstore="lvs", size="4MiB")
    large = want("lvol", name="large", lvstore="lvs", size=f"{(free - 4) * 4}MiB")
    gone = [want("lvol", name=name, lvstore="lvs", state="absent") for name in ("1", "2")]
    planned = plan(target, small, large, *gone)
    first, second, made_small, made_large = planned.actions
    assert first.method == second.method == "bdev_lvol_delete"
    assert made_small.params["lvol_name"] == "small" and not made_small.needs
    assert {first, second} <= set(made_large.needs)
    assert not first.needs and not second.needs
    assert_works(target, planned, *["bdev_lvol_delete"] * 2, *["bdev_lvol_create"] * 2)
    assert_refused(plan(target, want("lvol", name="more", lvstore="lvs", size="1GiB")), "no space")


def test_lvol_thin_or_thick(target):
    lvol(target, "thin", thin=True)
    lvol(target, "thick")
    assert_refused(plan(target, want("lvol", name="thin", lvstore="lvs", thin=False)), "it is thin, wanted thick")
    assert_refused(plan(target, want("lvol", name="thick", lvstore="lvs", thin=True)), "it is thick, wanted thin")
    for name, thin in (("thin", True), ("thick", False)):
        assert_works(target, plan(target, want("lvol", name=name, lvstore="lvs", thin=thin)))


def growth(size, **options):
    return want("lvol", name="1", lvstore="lvs", size=size, **options)


def zeroing(target, before, after):
    """The calls of one step: free clusters are taken, cleared as they are given back, and taken again."""
    (store,) = target.call("bdev_lvol_get_lvstores")
    taken = {"lvol_name": "diskengine_zero_1", "size_in_mib": after - before, "thin_provision": False}
    return [
        ("bdev_lvol_create", {**taken, "clear_method": "write_zeroes", "uuid": store["uuid"]}),
        ("bdev_lvol_delete", {"name": "lvs/diskengine_zero_1"}),
        ("bdev_lvol_resize", {"name": "lvs/1", "size_in_mib": after}),
    ]


STEP = ["bdev_lvol_create", "bdev_lvol_delete", "bdev_lvol_resize"]


def test_lvol_grown_where_it_is_known_to_be_zero(target):
    lvol(target, size=8)
    planned = plan(target, growth("13MiB", growth="plain"))
    assert calls(planned) == [("bdev_lvol_resize", {"name": "lvs/1", "size_in_mib": 16})]
    assert planned.actions[0].risk == _plan.SAFE
    assert planned.actions[0].summary == "grow from 8 MiB to 16 MiB"
    assert_works(target, planned, "bdev_lvol_resize")


def test_lvol_grown_by_zeroed_clusters(target):
    lvol(target, size=8)
    planned = plan(target, growth("13MiB"))
    assert calls(planned) == zeroing(target, 8, 16)
    assert {action.risk for action in planned.actions} == {_plan.SAFE}
    assert_works(target, planned, *STEP)


def test_lvol_grown_in_steps_up_to_the_limit():
    target = Target(seed=1, addresses=None)
    add_lvstore(target, "lvs", 4 * GIB)
    lvol(target, size=8)
    planned = plan(target, growth("3GiB", zero_limit="1.5GiB"))
    assert calls(planned) == [*zeroing(target, 8, 1032), *zeroing(target, 1032, 1544)]
    (entry,) = planned.objects
    assert entry.change.notes == ["1528 MiB are left for the next run (zero_limit 1.5GiB)"]
    carry_out(target, planned)
    assert_works(target, plan(target, growth("3GiB")), *STEP, *STEP)


def test_lvol_grown_after_a_run_that_was_cut_off(target):
    lvol(target, size=8)
    lvol(target, "diskengine_zero_1", size=4)
    planned = plan(target, growth("16MiB"))
    assert_works(target, planned, "bdev_lvol_delete", *STEP)


@pytest.mark.parametrize("options, calls_of_growth", [({}, STEP), ({"growth": "plain"}, STEP[2:])])
def test_what_a_run_that_was_cut_off_left_is_space_for_the_next(options, calls_of_growth):
    target = Target(seed=1, addresses=None)
    add_lvstore(target, "lvs", 64 * MIB)
    lvol(target, size=8)
    lvol(target, "diskengine_zero_1", size=40)
    assert_works(target, plan(target, growth("44MiB", **options)), "bdev_lvol_delete", *calls_of_growth)


def test_what_a_run_that_was_cut_off_left_is_space_for_others_when_its_lvol_is_gone():
    target = Target(seed=1, addresses=None)
    add_lvstore(target, "lvs", 64 * MIB)
    lvol(target, size=8)
    lvol(target, "diskengine_zero_1", size=40)
    planned = plan(
        target,
        want("lvol", name="1", lvstore="lvs", state="absent"),
        want("lvol", name="2", lvstore="lvs", size="52MiB"),
    )
    assert_works(target, planned, *["bdev_lvol_delete"] * 2, "bdev_lvol_create")


def test_what_a_run_that_was_cut_off_left_is_removed_when_nothing_is_to_grow(target):
    lvol(target, size=8)
    for options in ({}, {"growth": "plain"}):
        lvol(target, "diskengine_zero_1", size=4)
        assert_works(target, plan(target, growth("8MiB", **options)), "bdev_lvol_delete")
    lvol(target, "diskengine_zero_1", size=4)
    gone = want("lvol", name="1", lvstore="lvs", state="absent")
    assert_works(target, plan(target, gone), "bdev_lvol_delete", "bdev_lvol_delete")


def test_lvol_not_grown_where_old_data_could_show(target):
    lvol(target, "thin", thin=True)
    assert_refused(
        plan(target, want("lvol", name="thin", lvstore="lvs", size="64MiB")),
        "it is thin, so it would grow by bytes that show old data",
        "growth: plain grows it all the same",
    )
    lvol(target, size=8)
    assert_refused(plan(target, growth("16MiB")), "the thin lvol thin takes free clusters of lvstore lvs at any time")
    assert_works(target, plan(target, growth("16MiB", growth="plain")), "bdev_lvol_resize")


def test_lvol_grown_while_exported(target):
    lvol(target)
    export(target)
    assert_works(target, plan(target, growth("16MiB")), *STEP)


def test_lvol_grown_beyond_what_is_free(target):
    lvol(target, size=8)
    free = target.call("bdev_lvol_get_lvstores")[0]["free_clusters"]
    assert_refused(plan(target, growth(f"{(free + 3) * 4}MiB")), f"no space: it needs {free + 1} clusters")
    assert_works(target, plan(target, growth(f"{(free + 2) * 4}MiB")), *STEP)


def test_lvol_shrunk_only_when_asked(target):
    lvol(target, size=16)
    assert_refused(
        plan(target, want("lvol", name="1", lvstore="lvs", size="8MiB")),
        "shrinking from 16 MiB to 8 MiB gives up data; it is done only with allow_shrink: true",
    )
    planned = plan(target, want("lvol", name="1", lvstore="lvs", size="8MiB", allow_shrink=True))
    assert planned.actions[0].risk == _plan.DESTRUCTIVE
    assert_works(target, planned, "bdev_lvol_resize")


def exported(target: Target) -> str:
    export(target)
    return f"it is exported as namespace 1 of {nqn(1)}"


def served(target: Target) -> str:
    serve(target, "lvs/1")
    return "it is served by the vhost controller vm1"


def scsi_served(target: Target) -> str:
    target.call("vhost_create_scsi_controller", {"ctrlr": "scsi"})
    params = {"ctrlr": "scsi", "scsi_target_num": 0, "bdev_name": "lvs/1"}
    target.call("vhost_scsi_controller_add_target", params)
    return "it is served by the vhost controller scsi"


def claimed(target: Target) -> str:
    lvol(target, "2", size=16)
    target.call("bdev_raid_create", {"name": "r", "raid_level": "raid1", "base_bdevs": ["lvs/1", "lvs/2"]})
    return "it is part of the RAID r"


USES = [exported, served, scsi_served, claimed]


@pytest.mark.parametrize("use", USES)
def test_lvol_in_use_is_not_shrunk(target, use):
    lvol(target, size=16)
    sentence = use(target)
    wanted = want("lvol", name="1", lvstore="lvs", size="8MiB", allow_shrink=True)
    assert_refused(plan(target, wanted), sentence, "SPDK would free the clusters and yet report an error")


@pytest.mark.parametrize("use", USES)
def test_lvol_in_use_is_not_deleted(target, use):
    lvol(target, size=16)
    sentence = use(target)
    planned = plan(target, want("lvol", name="1", lvstore="lvs", state="absent"))
    assert_refused(planned, sentence, "take that away first")


def test_lvol_deleted(target):
    lvol(target)
    planned = plan(target, want("lvol", name="1", lvstore="lvs", state="absent"))
    assert calls(planned) == [("bdev_lvol_delete", {"name": "lvs/1"})]
    assert planned.actions[0].risk == _plan.DESTRUCTIVE
    assert planned.objects[0].change.after is None
    assert_works(target, planned, "bdev_lvol_delete")


def test_snapshots_are_left_alone(target):
    lvol(target)
    target.call("bdev_lvol_snapshot", {"lvol_name": "lvs/1", "snapshot_name": "snap"})
    assert_refused(plan(target, want("lvol", name="snap", lvstore="lvs", state="absent")), "it is a snapshot")
    assert_refused(plan(target, want("lvol", name="snap", lvstore="lvs", size="8MiB")), "a snapshot has that name")
    assert_works(target, plan(target, want("lvol", name="1", lvstore="lvs", state="absent")), "bdev_lvol_delete")


def test_lvol_without_a_bdev(target):
    """Half deleted, or a clone of something that is gone: listed, but there is no bdev of it."""
    uuid = lvol(target)
    graph = read(target)
    graph.remove_bdev(uuid)
    graph.lvols["lvs", "1"] = graph.lvols["lvs", "1"]._replace(size=None)
    planned = make_plan([want("lvol", name="1", lvstore="lvs", size="8MiB")], graph)
    assert_refused(planned, "it is listed without a bdev: half deleted, or degraded")


def test_an_lvol_absent_with_its_lvstore_stays_absent(target):
    """Not loaded is not absent (design rule 5), but a store that is wanted absent too is no riddle."""
    lvol(target)
    desired = [want("lvol", name="1", lvstore="lvs", state="absent"), want("lvstore", name="lvs", state="absent")]
    assert_works(target, plan(target, *desired), "bdev_lvol_delete", "bdev_lvol_delete_lvstore")
    assert_refused(plan(target, desired[0]), "lvstore lvs is not loaded")


# --- subsystems ---


def subsystem(name: object = 1, **options):
    return want("subsystem", nqn=nqn(name), **options)


def test_subsystem_created(target):
    lvol(target)
    planned = plan(
        target,
        subsystem(
            serial_number="S1", max_namespaces=1, listeners=[tcp()], hosts=[HOST], namespaces=[{"bdev": "lvs/1"}]
        ),
    )
    address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4420"}
    create = {"nqn": nqn(1), "serial_number": "S1", "max_namespaces": 1, "allow_any_host": False}
    assert calls(planned) == [
        ("nvmf_create_subsystem", create),
        ("nvmf_subsystem_add_ns", {"nqn": nqn(1), "namespace": {"bdev_name": "lvs/1", "nsid": 1}}),
        ("nvmf_subsystem_add_host", {"nqn": nqn(1), "host": HOST}),
        ("nvmf_subsystem_add_listener", {"nqn": nqn(1), "listen_address": address}),
    ]
    change = planned.objects[0].change
    assert change.before is None
    assert change.after == {
        "nqn": nqn(1),
        "allow_any_host": False,
        "listeners": ["TCP 127.0.0.1:4420"],
        "hosts": [HOST],
        "host_keys": {},
        "namespaces": {"1": "lvs/1"},
    }
    assert all(later.needs == (earlier,) for earlier, later in zip(planned.actions, planned.actions[1:]))
    assert_works(target, planned, *methods(planned))


def test_subsystem_parts_are_added_one_by_one(target):
    uuid = lvol(target)
    full = {"listeners": [tcp()], "hosts": [HOST], "namespaces": [{"bdev": uuid.upper()}]}
    expected = {
        "listeners": "nvmf_subsystem_add_listener",
        "hosts": "nvmf_subsystem_add_host",
        "namespaces": "nvmf_subsystem_add_ns",
    }
    target.call("nvmf_create_subsystem", {"nqn": nqn(1)})
    for part, method in expected.items():
        assert_works(target, plan(target, subsystem(**{part: full[part]})), method)
    assert_works(target, plan(target, subsystem(**full)))


def test_subsystem_listener_in_any_spelling(target):
    address = {"trtype": "tcp", "adrfam": "ipv6", "traddr": "fd00::1", "trsvcid": "4420"}
    target.call("nvmf_create_subsystem", {"nqn": nqn(1)})
    target.call("nvmf_subsystem_add_listener", {"nqn": nqn(1), "listen_address": address})
    wanted = subsystem(listeners=[{"trtype": "Tcp", "traddr": "FD00:0:0:0:0:0:0:1", "trsvcid": "04420"}])
    assert_works(target, plan(target, wanted))
    twice = subsystem(listeners=[*wanted.options["listeners"], {"trtype": "TCP", "traddr": "fd00::1", "adrfam": None}])
    assert_works(target, plan(target, twice))


def test_subsystem_extras_are_reported_and_left(target):
    lvol(target)
    export(target)
    listen(target, 4420)
    target.call("nvmf_subsystem_add_host", {"nqn": nqn(1), "host": HOST})
    wanted = {"listeners": [], "hosts": [], "namespaces": []}
    planned = plan(target, subsystem(**wanted))
    assert not planned.actions
    assert planned.objects[0].change.notes == [
        "namespace 1 (bdev lvs/1) not in the desired state, left alone (purge: [namespaces] removes)",
        f"host {HOST} not in the desired state, left alone (purge: [hosts] removes)",
        "listener TCP 127.0.0.1:4420 not in the desired state, left alone (purge: [listeners] removes)",
    ]
    assert not plan(target, subsystem()).objects[0].change.notes, "parts that are not given are not compared"
    removes = {
        "listeners": "nvmf_subsystem_remove_listener",
        "hosts": "nvmf_subsystem_remove_host",
        "namespaces": "nvmf_subsystem_remove_ns",
    }
    for part, method in removes.items():
        assert not plan(target, subsystem(purge=[part])).actions, "purge of a part that is not given removes nothing"
        planned = plan(target, subsystem(**{part: []}, purge=[part]))
        assert [action.risk for action in planned.actions] == [_plan.DISRUPTIVE]
        assert_works(target, planned, method)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"serial_number": "S2"}, "serial_number is S1, wanted S2; SPDK cannot change that"),
        ({"model_number": "M2"}, "model_number is SPDK bdev Controller, wanted M2"),
        ({"max_namespaces": 2}, "max_namespaces is 32, wanted 2"),
        ({"min_cntlid": 2}, "min_cntlid is 1, wanted 2"),
        ({"max_cntlid": 2}, "max_cntlid is 65519, wanted 2"),
    ],
)
def test_subsystem_attributes_are_fixed(target, options, sentence):
    target.call("nvmf_create_subsystem", {"nqn": nqn(1), "serial_number": "S1"})
    assert_refused(plan(target, subsystem(**options)), sentence)
    same = {"serial_number": "S1", "max_namespaces": 32, "min_cntlid": 1, "max_cntlid": 65519}
    assert_works(target, plan(target, subsystem(**same)))


def test_subsystem_lets_only_named_hosts_in(target):
    target.call("nvmf_create_subsystem", {"nqn": nqn(1), "allow_any_host": True})
    planned = plan(target, subsystem())
    assert calls(planned) == [("nvmf_subsystem_allow_any_host", {"nqn": nqn(1), "allow_any_host": False})]
    assert planned.actions[0].risk == _plan.DISRUPTIVE
    assert_works(target, planned, "nvmf_subsystem_allow_any_host")
    assert_works(target, plan(target, subsystem(allow_any_host=True)), "nvmf_subsystem_allow_any_host")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"listeners": [tcp(0)]}, "listener port '0' is not a port number"),
        ({"listeners": [tcp(traddr="name")]}, "listener address 'name' is not an IP address"),
        ({"listeners": [{**tcp(), "trtype": "RDMA"}]}, "needs the RDMA transport, which the target does not have"),
        ({"hosts": ["me"]}, "host NQN 'me' is not an NQN"),
        ({"namespaces": [{"bdev": "lvs/9"}]}, "there is no bdev lvs/9 on this target"),
        ({"namespaces": [{"bdev": MISSING}]}, f"there is no bdev {MISSING} on this target"),
        ({"namespaces": [{"bdev": f"{MISSING}/1"}]}, f"there is no bdev {MISSING}/1 on this target"),
        ({"namespaces": [{"bdev": "disk-lvs"}]}, "bdev disk-lvs is claimed by another user within the target"),
        ({"namespaces": [{"bdev": "lvs/1", "nsid": 0}]}, "namespace ID 0 of bdev lvs/1 is not from 1 to 32"),
        ({"namespaces": [{"bdev": "lvs/1", "nsid": 33}]}, "is not from 1 to 32 (max_namespaces)"),
        ({"namespaces": [{"bdev": "lvs/1", "nsid": 2}], "max_namespaces": 1}, "is not from 1 to 1 (max_namespaces)"),
        ({"namespaces": [{"bdev": "lvs/1"}, {"bdev": "d1"}], "max_namespaces": 1}, "namespace ID 2 of bdev d1 is not"),
        ({"namespaces": [{"bdev": "lvs/1"}, {"bdev": "lvs/1"}]}, "bdev lvs/1 is named twice"),
        (
            {"namespaces": [{"bdev": "lvs/1", "nsid": 1}, {"bdev": "d1", "nsid": 1}]},
            "namespace 1 or bdev d1 is named twice",
        ),
        ({"namespaces": [{"bdev": "lvs/1", "bdev_uuid": MISSING}]}, f"wanted {MISSING}: it is not the one"),
        ({"namespaces": [{"bdev": "lvs/1", "bdev_uuid": "x"}]}, "bdev_uuid 'x' is not a UUID"),
    ],
)
def test_subsystem_refused(target, options, sentence):
    lvol(target)
    assert_refused(plan(target, subsystem(**options)), sentence)


@pytest.mark.parametrize("name", ["x", "nqn.2014-08.org.nvmexpress.discovery", "nqn.2024-01.io.excloud"])
def test_subsystem_nqn(target, name):
    assert_refused(plan(target, want("subsystem", nqn=name)), f"NQN '{name}' is ")


def test_subsystem_neighbours_that_pass(target):
    uuid = lvol(target)
    desired = subsystem(namespaces=[{"bdev": "lvs/1", "nsid": 32, "bdev_uuid": uuid.upper()}, {"bdev": "d1"}])
    planned = plan(target, desired)
    assert planned.objects[0].change.after["namespaces"] == {"1": "d1", "32": "lvs/1"}
    assert_works(target, planned, "nvmf_create_subsystem", *["nvmf_subsystem_add_ns"] * 2)


def test_subsystem_of_a_bdev_shown_elsewhere(target):
    lvol(target)
    export(target)
    wanted = subsystem(2, namespaces=[{"bdev": "lvs/1"}])
    assert_refused(plan(target, wanted), f"bdev lvs/1 is already exported as namespace 1 of {nqn(1)}")
    assert_works(target, plan(target, subsystem(namespaces=[{"bdev": "lvs/1"}])))
    moved = [subsystem(1, state="absent"), wanted]
    planned = plan(target, *moved)
    removal, addition = planned.actions[0], planned.actions[-1]
    assert removal in all_needs(addition), "it can be shown again only when it is hidden"
    assert_works(target, planned, "nvmf_delete_subsystem", "nvmf_create_subsystem", "nvmf_subsystem_add_ns")


def test_subsystem_of_a_bdev_that_vhost_serves(target):
    lvol(target)
    serve(target, "lvs/1")
    wanted = subsystem(namespaces=[{"bdev": "lvs/1"}])
    assert_refused(plan(target, wanted), "is served by the vhost controller vm1", "both write to it")
    target.call("vhost_delete_controller", {"ctrlr": "vm1"})
    assert_works(target, plan(target, wanted), "nvmf_create_subsystem", "nvmf_subsystem_add_ns")


def test_subsystem_that_shows_another_bdev(target):
    lvol(target)
    lvol(target, "2")
    export(target)
    wanted = {"namespaces": [{"bdev": "lvs/2", "nsid": 1}]}
    assert_refused(
        plan(target, subsystem(**wanted)), "namespace 1 shows bdev lvs/1, wanted lvs/2", "purge: [namespaces]"
    )
    purged = subsystem(**wanted, purge=["namespaces"])
    assert_works(target, plan(target, purged), "nvmf_subsystem_remove_ns", "nvmf_subsystem_add_ns")


def test_subsystem_that_shows_the_bdev_under_another_number(target):
    lvol(target)
    export(target)
    wanted = {"namespaces": [{"bdev": "lvs/1", "nsid": 2}]}
    assert_refused(
        plan(target, subsystem(**wanted)), "bdev lvs/1 is shown as namespace 1, wanted 2", "purge: [namespaces]"
    )
    purged = subsystem(**wanted, purge=["namespaces"])
    assert_works(target, plan(target, purged), "nvmf_subsystem_remove_ns", "nvmf_subsystem_add_ns")


def test_namespaces_swapped(target):
    lvol(target)
    lvol(target, "2")
    export(target)
    target.call("nvmf_subsystem_add_ns", {"nqn": nqn(1), "namespace": {"bdev_name": "lvs/2"}})
    swapped = {"namespaces": [{"bdev": "lvs/2", "nsid": 1}, {"bdev": "lvs/1", "nsid": 2}]}
    planned = plan(target, subsystem(**swapped, purge=["namespaces"]))
    assert_works(target, planned, *["nvmf_subsystem_remove_ns"] * 2, *["nvmf_subsystem_add_ns"] * 2)


def test_subsystem_without_nsid_takes_the_lowest_free(target):
    for name in ("1", "2", "3"):
        lvol(target, name)
    export(target)
    given = [{"bdev": "lvs/3"}, {"bdev": "d1", "nsid": 2}, {"bdev": "lvs/1"}]
    planned = plan(target, subsystem(namespaces=given))
    assert planned.objects[0].change.after["namespaces"] == {"1": "lvs/1", "2": "d1", "3": "lvs/3"}
    assert_works(target, planned, *["nvmf_subsystem_add_ns"] * 2)


def test_subsystem_listeners_have_a_limit(target):
    ports = [tcp(port) for port in range(4420, 4437)]
    assert_refused(plan(target, subsystem(listeners=ports)), "17 listeners are wanted, SPDK takes 16")
    assert_works(
        target,
        plan(target, subsystem(listeners=ports[:16])),
        *["nvmf_create_subsystem"],
        *["nvmf_subsystem_add_listener"] * 16,
    )
    one_more = plan(target, subsystem(listeners=ports[16:]))
    assert_refused(one_more, "it has 16 listeners and 1 more are wanted; SPDK takes 16: remove some first")


def test_a_listener_named_twice_counts_once(target):
    ports = [tcp(port) for port in range(4420, 4436)]
    assert not refusals(plan(target, subsystem(listeners=ports + ports)))


def test_subsystem_deleted(target):
    lvol(target)
    export(target)
    planned = plan(target, subsystem(state="absent"))
    assert calls(planned) == [("nvmf_delete_subsystem", {"nqn": nqn(1)})]
    assert planned.actions[0].risk == _plan.DISRUPTIVE
    assert_works(target, planned, "nvmf_delete_subsystem")


def test_the_number_of_subsystems_has_a_limit():
    target = Target(wait_for_rpc=True, addresses=None)
    target.call("nvmf_set_max_subsystems", {"max_subsystems": 3})
    target.call("framework_start_init")
    desired = [subsystem(number) for number in range(3)]
    planned = plan(target, *desired)
    assert list(refusals(planned)) == [f"subsystem {nqn(2)}"]
    assert "the target takes 3 subsystems" in refusals(planned)[f"subsystem {nqn(2)}"]
    carry_out(target, planned)
    assert_works(target, plan(target, *desired[:2]))


# --- several objects ---


def all_needs(action: Action) -> set:
    out = set()
    for need in action.needs:
        out |= {need} | all_needs(need)
    return out


def test_everything_at_once_from_a_bare_disk():
    target = Target(seed=1, addresses=None)
    add_disk(target, "d", 256 * MIB)
    desired = [
        subsystem(listeners=[tcp()], namespaces=[{"bdev": "lvs/1"}]),
        want("lvol", name="1", lvstore="lvs", size="8MiB"),
        want("lvstore", name="lvs", bdev="d"),
        want("transport", trtype="TCP"),
    ]
    planned = plan(target, *desired)
    transport, store, volume, create, show, listen_ = planned.actions
    assert volume.params["lvs_name"] == "lvs" and "uuid" not in volume.params
    assert (transport.needs, store.needs, volume.needs) == ((), (), (store,))
    assert create.needs == (volume,), "nothing is exported for an lvol that could not be made"
    assert create in show.needs and show in all_needs(listen_) and transport in listen_.needs
    assert_works(target, planned, *methods(planned))


def test_everything_is_removed_in_the_other_order(target):
    lvol(target)
    export(target)
    desired = [
        want("lvstore", name="lvs", state="absent"),
        want("lvol", name="1", lvstore="lvs", state="absent"),
        subsystem(state="absent"),
    ]
    planned = plan(target, *desired)
    hide, delete, destroy = planned.actions
    assert delete.needs == (hide,) and delete in destroy.needs
    assert_works(target, planned, "nvmf_delete_subsystem", "bdev_lvol_delete", "bdev_lvol_delete_lvstore")


def test_a_store_makes_room_for_another(target):
    desired = [want("lvstore", name="lvs", state="absent"), want("lvstore", name="other", bdev="disk-lvs")]
    planned = plan(target, *desired)
    assert planned.actions[1].needs == (planned.actions[0],)
    assert_works(target, planned, "bdev_lvol_delete_lvstore", "bdev_lvol_create_lvstore")


def test_dependents_of_a_refused_object_name_the_cause(target):
    desired = [
        want("lvstore", name="new", bdev="nowhere"),
        want("lvol", name="1", lvstore="new", size="8MiB"),
        subsystem(namespaces=[{"bdev": "new/1"}]),
        want("lvol", name="1", lvstore="lvs", size="8MiB"),
    ]
    found = refusals(plan(target, *desired))
    cause = "lvstore new failed: there is no bdev nowhere on this target"
    assert found == {
        "lvstore new": "there is no bdev nowhere on this target",
        "lvol new/1": f"skipped, because {cause}",
        f"subsystem {nqn(1)}": f"skipped, because lvol new/1 failed: skipped, because {cause}",
    }


def test_the_cause_is_found_through_the_uuid_of_the_store(target):
    store = target.call("bdev_lvol_get_lvstores")[0]["uuid"]
    desired = [
        want("lvol", name="1", lvstore=store, size="0"),
        subsystem(namespaces=[{"bdev": f"{store}/1"}]),
        subsystem(2, listeners=[{**tcp(), "trtype": "RDMA"}]),
    ]
    found = refusals(plan(target, *desired))
    assert found[f"subsystem {nqn(1)}"].startswith("skipped, because lvol lvs/1 failed: size '0' is zero")
    assert "skipped" not in found[f"subsystem {nqn(2)}"]


def test_duplicates(target):
    store = target.call("bdev_lvol_get_lvstores")[0]["uuid"]
    desired = [
        want("lvol", name="1", lvstore="lvs", size="8MiB"),
        want("lvol", name="1", lvstore=store, size="12MiB"),
        want("transport", trtype="tcp"),
        want("transport", trtype="TCP"),
        want("lvol", name="2", lvstore="lvs", size="8MiB"),
    ]
    planned = plan(target, *desired)
    assert refusals(planned) == {
        subject: "it is named 2 times in the desired state; name it once" for subject in ("lvol lvs/1", "transport TCP")
    }
    assert [action.subject for action in planned.actions] == ["lvol lvs/2"]
    absent = [want("lvol", name="2", lvstore="lvs", state="absent"), desired[4]]
    assert len(refusals(plan(target, *absent))) == 1


def test_one_bdev_for_two_subsystems(target):
    lvol(target)
    planned = plan(target, *[subsystem(number, namespaces=[{"bdev": "lvs/1"}]) for number in (1, 2)])
    assert list(refusals(planned)) == [f"subsystem {nqn(2)}"]
    assert "already exported as namespace 1" in refusals(planned)[f"subsystem {nqn(2)}"]


def test_independent_objects_need_nothing_of_each_other(target):
    desired = [want("lvol", name=str(number), lvstore="lvs", size="4MiB", thin=True) for number in range(50)]
    desired += [subsystem(number, namespaces=[{"bdev": f"lvs/{number}"}]) for number in range(50)]
    planned = plan(target, *desired)
    for action in planned.actions:
        subjects = {need.subject.rsplit(".", 1)[-1].rsplit("/", 1)[-1] for need in all_needs(action)}
        assert len(subjects) <= 1


def test_the_number_of_needs_grows_with_the_number_of_actions(target):
    free = target.call("bdev_lvol_get_lvstores")[0]["free_clusters"] // 2
    for number in range(free):
        lvol(target, f"old{number}", 4)
    desired = [want("lvol", name=f"old{number}", lvstore="lvs", state="absent") for number in range(free)]
    desired += [want("lvol", name=f"new{number}", lvstore="lvs", size="8MiB") for number in range(free)]
    planned = plan(target, *desired)
    assert not refusals(planned)
    assert sum(len(action.needs) for action in planned.actions) < 4 * len(planned.actions)


# --- check mode after earlier tasks that did not run ---


def test_what_is_missing_can_be_assumed():
    target = Target(addresses=None)
    desired = [
        want("lvol", name="1", lvstore="lvs", size="10MiB"),
        subsystem(listeners=[tcp()], namespaces=[{"bdev": "lvs/1"}, {"bdev": "d9"}]),
    ]
    assert len(refusals(plan(target, *desired))) == 2
    planned = plan(target, *desired, assume=ANYTHING)
    assert not refusals(planned)
    assert methods(planned) == [
        "bdev_lvol_create",
        "nvmf_create_subsystem",
        "nvmf_subsystem_add_ns",
        "nvmf_subsystem_add_ns",
        "nvmf_subsystem_add_listener",
    ]
    notes = [note for item in planned.objects for note in item.change.notes]
    assert len([note for note in notes if note.endswith("in check mode it is taken to come from an earlier task")]) == 3


def test_an_lvstore_on_an_assumed_bdev():
    planned = plan(Target(), want("lvstore", name="lvs", bdev="d9", max_lvols=10), assume=ANYTHING)
    assert calls(planned) == [("bdev_lvol_create_lvstore", {"bdev_name": "d9", "lvs_name": "lvs"})]


def test_what_is_refused_is_not_assumed(target):
    desired = [want("lvol", name="1", lvstore="lvs", size="0"), subsystem(namespaces=[{"bdev": "lvs/1"}])]
    found = refusals(plan(target, *desired, assume=ANYTHING))
    assert found[f"subsystem {nqn(1)}"].startswith("skipped, because lvol lvs/1 failed")


# --- the rule of order by itself ---


class Step:
    """A resource whose plan is its options: a list of (holds, uses)."""

    kind = "step"
    rank = 1

    @staticmethod
    def identity(options):
        return {"name": options["name"]}

    @staticmethod
    def title(options, graph):
        return options["name"]

    @staticmethod
    def keys(options, graph):
        return [("step", options["name"])]

    @staticmethod
    def plan(options, graph):
        actions = [
            Action("bdev_get_bdevs", {}, options["name"], holds=tuple(options["holds"]), uses=tuple(options["uses"]))
        ]
        return Change(None, {}, actions)


@pytest.mark.parametrize(
    ("steps", "needs"),
    [
        ([("a", ""), ("b", "")], [[], []]),
        ([("a", ""), ("a", "")], [[], [0]]),
        ([("a", ""), ("b", "a"), ("c", "a")], [[], [0], [0]]),
        ([("", "a"), ("", "a"), ("a", "")], [[], [], [0, 1]]),
        ([("a", ""), ("", "a"), ("", "a"), ("a", ""), ("", "a")], [[], [0], [0], [0, 1, 2], [3]]),
        ([("ab", ""), ("", "ab")], [[], [0]]),
        ([("a", ""), ("b", ""), ("", "ab"), ("ab", "")], [[], [], [0, 1], [0, 1, 2]]),
    ],
)
def test_order(steps, needs):
    graph = read(Target())
    desired = [
        _plan.Wanted(Step, {"name": str(number), "holds": holds, "uses": uses})
        for number, (holds, uses) in enumerate(steps)
    ]
    actions = make_plan(desired, graph).actions
    assert [sorted(actions.index(need) for need in action.needs) for action in actions] == needs


# --- what others rely on, spellings, attributes ---


def test_what_relies_on_a_refused_lvol_is_skipped(target):
    lvol(target, thin=True)
    mirror = want("subsystem", nqn=nqn(1), namespaces=[{"bdev": "lvs/1", "nsid": 1}])
    planned = plan(target, want("lvol", name="1", lvstore="lvs", size="8MiB", thin=False), mirror)
    assert "skipped, because lvol lvs/1 failed: it is thin, wanted thick" in refusals(planned)[f"subsystem {nqn(1)}"]
    assert not planned.actions
    assert_works(target, plan(target, mirror), "nvmf_create_subsystem", "nvmf_subsystem_add_ns")


def test_a_transport_with_other_options_still_serves(target):
    exported = want("subsystem", nqn=nqn(1), listeners=[{"traddr": "127.0.0.1", "trsvcid": "4420"}])
    planned = plan(target, want("transport", trtype="TCP", max_queue_depth=7), exported)
    assert list(refusals(planned)) == ["transport TCP"]
    assert methods(planned) == ["nvmf_create_subsystem", "nvmf_subsystem_add_listener"]


def test_a_listener_in_another_spelling_is_the_same(target):
    target.call("nvmf_create_subsystem", {"nqn": nqn(1)})
    long = {"trtype": "TCP", "adrfam": "IPv6", "traddr": "fd00:0:0:0:0:0:0:1", "trsvcid": "4420"}
    target.call("nvmf_subsystem_add_listener", {"nqn": nqn(1), "listen_address": long})
    short = [{"traddr": "fd00::1", "trsvcid": "4420"}]
    assert methods(plan(target, want("subsystem", nqn=nqn(1), listeners=short))) == []
    removed = plan(target, want("subsystem", nqn=nqn(1), listeners=[], purge=["listeners"]))
    assert calls(removed) == [("nvmf_subsystem_remove_listener", {"nqn": nqn(1), "listen_address": long})]
    carry_out(target, removed)


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        ({"serial_number": "x" * 21}, {"serial_number": "x" * 20}),
        ({"model_number": "x" * 41}, {"model_number": "x" * 40}),
        ({"model_number": "Modell ä"}, {"model_number": "Model a"}),
        ({"max_namespaces": 0}, {"max_namespaces": 1}),
        ({"min_cntlid": 9, "max_cntlid": 8}, {"min_cntlid": 8, "max_cntlid": 8}),
        ({"max_cntlid": 65520}, {"max_cntlid": 65519}),
    ],
)
def test_attributes_are_checked_before_anything_is_sent(target, bad, good):
    assert_refused(plan(target, want("subsystem", nqn=nqn(1), **bad)))
    assert_works(target, plan(target, want("subsystem", nqn=nqn(1), **good)), "nvmf_create_subsystem")


@pytest.mark.parametrize("size", ["4097", "4GiB", "2KiB"])
def test_a_cluster_size_that_spdk_cannot_take(target, size):
    assert_refused(plan(target, want("lvstore", name="new", bdev="d1", cluster_size=size)), "cluster_size")


def test_more_lvols_than_a_bdev_has_room_for(target):
    assert_refused(plan(target, want("lvstore", name="new", bdev="d1", max_lvols=100_000)), "does not fit on bdev d1")
    few = plan(target, want("lvstore", name="new", bdev="d1", max_lvols=1000))
    assert_works(target, few, "bdev_lvol_create_lvstore")


def test_what_a_clone_copies_from_its_snapshot_is_counted(target):
    lvol(target, size=8)
    target.call("bdev_lvol_snapshot", {"lvol_name": "lvs/1", "snapshot_name": "s"})
    planned = plan(target, want("lvol", name="2", lvstore="lvs", clone_of="s", independent="decouple"))
    carry_out(target, planned)
    (store,) = target.call("bdev_lvol_get_lvstores")
    assert planned.predicted.lvstores["lvs"].free_clusters == store["free_clusters"]
