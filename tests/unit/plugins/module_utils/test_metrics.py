# SPDX-License-Identifier: GPL-3.0-or-later
"""Statistics and metrics: names that last, text that Prometheus reads, values as the target counts them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils import _iostat, _metrics
from ansible_collections.excloud.diskengine.plugins.module_utils._drive_health import FIELDS, THRESHOLDS
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError, Refusal
from ansible_collections.excloud.diskengine.plugins.module_utils._metrics import FAMILIES, Sample, Wanted, render
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.helpers import add_lvstore
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.serving import serving
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from spdk_sim import Target, fabric
from spdk_sim.catalogue import RELEASES

ROOT = Path(_metrics.__file__).resolve().parents[2]
RECORDED = ROOT / "tests/conformance/transcripts/12-qos-iostat-keyring-nbd.jsonl"
BDF = "0000:01:00.0"


def parsed(text):
    """{family: {labels: value}} as the library of Prometheus reads it."""
    return {
        family.name + ("_total" if family.type == "counter" else ""): {
            tuple(sorted(sample.labels.items())): sample.value for sample in family.samples
        }
        for family in text_string_to_metric_families(text)
    }


def only(values, **labels):
    """The one value whose labels these are among."""
    (value,) = [value for found, value in values.items() if labels.items() <= dict(found).items()]
    return value


def recorded_iostat():
    """The first statistics of all bdevs that the real program gave when it was recorded."""
    for line in RECORDED.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry.get("request", {}).get("method") == "bdev_get_iostat":
            return entry["response"]["result"]
    raise AssertionError("nothing was recorded")


def test_recorded_statistics_in_seconds():
    answer = recorded_iostat()
    lvols = [{"uuid": "m1", "name": "7", "alias": "lvs/7", "lvs": {"name": "lvs"}}]
    found = {bdev["name"]: bdev for bdev in _iostat.describe(answer, lvols)}
    assert found["m0"]["read"] == {
        "bytes": 37376,
        "operations": 3,
        "seconds": 577694 / 2596100000,
        "seconds_min": 41106 / 2596100000,
        "seconds_max": 335088 / 2596100000,
    }
    assert found["q"]["unmap"]["bytes"] == 67026944
    assert found["m0"]["alias"] == ""
    assert [found["m1"][key] for key in ("lvstore", "lvol", "alias")] == ["lvs", "7", "lvs/7"]


def test_bdevs_are_chosen_by_their_names():
    bdevs = _iostat.describe(recorded_iostat(), [{"uuid": "m1", "name": "7", "alias": "l/7", "lvs": {"name": "l"}}])
    assert [bdev["name"] for bdev in _iostat.select(bdevs, ["q", "l/7", "m1"])] == ["q", "m1", "m1"]
    assert _iostat.select(bdevs, []) == []
    with pytest.raises(Refusal, match="the target has no bdev nope, 7;"):
        _iostat.select(bdevs, ["nope", "q", "7"])


def test_every_family_is_documented():
    documented = re.findall(
        r"^\| `(diskengine_\w+)` \| (\w+) \|", (ROOT / "docs/metrics.md").read_text(encoding="utf-8"), re.M
    )
    assert documented == [(name, kind) for name, (kind, _help) in FAMILIES.items()]


def test_names_follow_the_rules_of_prometheus():
    for name, (kind, about) in FAMILIES.items():
        assert re.fullmatch(r"diskengine_[a-z]+(_[a-z]+)+", name)
        assert name.endswith("_total") == (kind == "counter")
        assert about.endswith(".") and "\n" not in about and "\\" not in about


def add_mirror(target):
    """Give the target a controller over a fabric, and a mirror that is rebuilt, behind a vhost controller."""
    address = {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4420"}
    target.call("nvmf_create_transport", {"trtype": "TCP"})
    target.call("nvmf_create_subsystem", {"nqn": "nqn.2024-01.io.excloud:far", "allow_any_host": True})
    target.call("nvmf_subsystem_add_listener", {"nqn": "nqn.2024-01.io.excloud:far", "listen_address": address})
    attach = {"name": "far", "subnqn": "nqn.2024-01.io.excloud:far", **address}
    target.call("bdev_nvme_attach_controller", attach)
    for name in ("m0", "m1"):
        target.call("bdev_malloc_create", {"name": name, "num_blocks": 1 << 20, "block_size": 512})
    target.call("bdev_raid_create", {"name": "r", "raid_level": "raid1", "base_bdevs": ["m0", "m1"]})
    target.raid_options["process_max_bandwidth_mb_sec"] = 1  # which not every release can be told
    target.call("bdev_raid_remove_base_bdev", {"name": "m1"})
    target.call("bdev_raid_add_base_bdev", {"raid_bdev": "r", "base_bdev": "m1"})
    target.call("vhost_create_blk_controller", {"ctrlr": "v", "dev_name": "r"})


@pytest.mark.parametrize("release", RELEASES)
def test_everything_of_a_target(release, tmp_path):
    target = Target(release=release)
    other = fabric.outside(target)
    fabric.add_drive(other, BDF, 64 << 20, 4096, "test")
    fabric.set_health(other, BDF, {**dict.fromkeys(FIELDS, 3), "data_units_written": 2**65})
    target.call("bdev_nvme_attach_controller", {"name": "nvme0", "trtype": "PCIe", "traddr": BDF})
    uuid = add_lvstore(target, "lvs", 256 << 20)
    target.call("bdev_lvol_create", {"lvs_name": "lvs", "lvol_name": "7", "size_in_mib": 12})
    target.call("bdev_lvol_snapshot", {"lvol_name": "lvs/7", "snapshot_name": "s"})
    (lvol,) = target.call("bdev_get_bdevs", {"name": "lvs/7"})
    add_mirror(target)
    path = tmp_path / "a" / "node.prom"
    with serving(target) as served:
        wanted = Wanted(str(path), "n1", THRESHOLDS, {"missing": 2, "extra": "0"})
        result, failure = _metrics.publish(served.connect, wanted, False)
        assert failure is None and result["changed"] and not served.log.mutations
        assert served.connections == 1
    text = path.read_text(encoding="utf-8")
    assert text == result["after"] and path.stat().st_mode & 0o777 == 0o644
    found = parsed(text)
    assert set(FAMILIES) - set(found) == {"diskengine_bdev_errors_total"}
    assert sum(map(len, found.values())) == result["samples"]
    assert all(dict(labels)["node"] == "n1" for values in found.values() for labels in values)
    drive = {"controller": "nvme0", "bdf": BDF}
    for family, value in {
        "diskengine_nvme_temperature_celsius": 3,
        "diskengine_nvme_available_spare_ratio": 0.03,
        "diskengine_nvme_available_spare_threshold_ratio": 0.03,
        "diskengine_nvme_used_ratio": 0.03,
        "diskengine_nvme_read_bytes_total": 1536000,
        "diskengine_nvme_written_bytes_total": 2**65 * 512000,
        "diskengine_nvme_busy_seconds_total": 180,
        "diskengine_nvme_power_on_seconds_total": 10800,
        "diskengine_nvme_warning_temperature_seconds_total": 180,
        "diskengine_nvme_media_errors_total": 3,
    }.items():
        assert only(found[family], **drive) == value, family
    assert only(found["diskengine_nvme_health"], **drive, health="critical") == 1
    assert sum(found["diskengine_nvme_health"].values()) == 2
    assert only(found["diskengine_nvme_health"], controller="far", health="ok") == 1
    assert only(found["diskengine_nvme_path_up"], controller="far", trsvcid="4420") == 1
    assert only(found["diskengine_raid_condition"], raid="r", condition="rebuilding") == 1
    assert sum(found["diskengine_raid_condition"].values()) == sum(found["diskengine_raid_health"].values()) == 1
    assert only(found["diskengine_raid_health"], raid="r", level="raid1", health="warning") == 1
    assert only(found["diskengine_raid_members"], raid="r") == only(found["diskengine_raid_members_present"]) == 2
    assert only(found["diskengine_raid_rebuilt_ratio"], raid="r") == 0
    assert only(found["diskengine_vhost_health"], vhost="v", health="ok") == 1
    assert only(found["diskengine_vhost_sessions"], vhost="v") == 0
    store = {"lvstore": "lvs", "uuid": uuid, "bdev": "disk-lvs"}
    free, used, size = (only(found[f"diskengine_lvstore_{part}_bytes"], **store) for part in ("free", "used", "size"))
    assert (used, free + used) == (12 << 20, size)
    assert only(found["diskengine_lvstore_lvols"], **store) == only(found["diskengine_lvstore_snapshots"], **store) == 1
    volume = {"bdev": lvol["name"], "lvstore": "lvs", "lvol": "7"}
    assert only(found["diskengine_bdev_operations_total"], **volume, operation="copy") == 0
    assert only(found["diskengine_drift_objects"], **{"class": "missing"}) == 2
    assert only(found["diskengine_target_info"], release=f"v{release}") == 1


def test_errors_are_counted_by_spdks_word():
    answer = recorded_iostat()
    answer["bdevs"][0]["io_error"] = {"nvme_error": 3, "aborted": 1}
    found = parsed(render("n", list(_metrics._statistics(_iostat.describe(answer, [])))))
    assert only(found["diskengine_bdev_errors_total"], bdev="m0", error="nvme_error") == 3


def test_a_target_that_is_gone_leaves_nothing_of_before(tmp_path):
    path = tmp_path / "node.prom"
    path.write_text('diskengine_target_up{node="n"} 1\n', encoding="utf-8")

    def connect():
        raise DiskengineError("there is no socket")

    for dry_run in (True, False):
        result, failure = _metrics.publish(connect, Wanted(str(path), "n", THRESHOLDS, {}), dry_run)
        assert (failure, result["changed"], result["samples"]) == ("there is no socket", True, 1)
        assert parsed(path.read_text(encoding="utf-8"))["diskengine_target_up"] == {(("node", "n"),): int(dry_run)}


@pytest.mark.parametrize("path", ["metrics.prom", "/var/lib/metrics.txt", "/var/lib/metrics.prom/x"])
def test_a_path_that_nobody_would_collect(path):
    with pytest.raises(Refusal, match=re.escape(path)):
        _metrics.publish(lambda: pytest.fail("it connected"), Wanted(path, "n", THRESHOLDS, {}), False)


@pytest.mark.parametrize("count", ["many", None, [1]])
def test_drift_that_is_no_number(count, tmp_path):
    wanted = Wanted(str(tmp_path / "a.prom"), "n", THRESHOLDS, {"missing": count})
    with pytest.raises(Refusal, match="drift missing is .*, which is not a number of objects"):
        _metrics.publish(lambda: pytest.fail("it connected"), wanted, False)


@given(st.text(), st.integers(0, 2**128))
def test_any_label_is_read_back(text, value):
    family = "diskengine_drift_objects"
    found = parsed(render("n", [Sample(family, {"class": text}, value)]))
    assert found == {family: {(("class", text), ("node", "n")): float(value)}}


@pytest.mark.parametrize(
    ("text", "read"),
    [('C:\\n"x"\\', 'C:\\n"x"\\'), ("\\\\n", "\\\\n"), ('a"b\nc', 'a"b\nc'), ("torn \udcff", "torn ?")],
)
def test_what_has_to_be_escaped(text, read):
    family = "diskengine_target_up"
    assert parsed(render(text, [Sample(family, {}, 1)])) == {family: {(("node", read),): 1}}
