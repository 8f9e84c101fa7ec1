# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a target measures, in the text format of Prometheus: the only place that knows the names. Private.

The names, types and labels are a contract with dashboards and alerts; docs/metrics.md describes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Callable, NamedTuple, Optional, Union

from . import _iostat
from ._drive_health import CLASSES
from ._errors import DiskengineError, Refusal
from ._health import read_health
from ._host._host import Host, Step
from ._rpc import Call, Client
from ._serving_health import RAID_CONDITIONS

LVSTORES = Call("bdev_lvol_get_lvstores", subject="all lvstores")

_DATA_UNIT = 512 * 1000  # bytes
_FIGURES = 4  # of a ratio

# Family: type and help, in the order in which they are written.
FAMILIES = {
    "diskengine_target_up": ("gauge", "Whether the SPDK target answered when this file was written."),
    "diskengine_target_info": ("gauge", "The SPDK release of the target."),
    "diskengine_nvme_info": ("gauge", "An NVMe controller of the target."),
    "diskengine_nvme_health": ("gauge", "1 for the health class that the controller is in."),
    "diskengine_nvme_critical_warning": ("gauge", "The byte critical warning of the health log."),
    "diskengine_nvme_temperature_celsius": ("gauge", "Composite temperature."),
    "diskengine_nvme_available_spare_ratio": ("gauge", "Spare capacity that is left."),
    "diskengine_nvme_available_spare_threshold_ratio": ("gauge", "Spare capacity below which the drive warns."),
    "diskengine_nvme_used_ratio": ("gauge", "Endurance used, as the vendor estimates it; may pass 1."),
    "diskengine_nvme_read_bytes_total": ("counter", "Data read from the drive over its life."),
    "diskengine_nvme_written_bytes_total": ("counter", "Data written to the drive over its life."),
    "diskengine_nvme_read_commands_total": ("counter", "Read commands over its life."),
    "diskengine_nvme_write_commands_total": ("counter", "Write commands over its life."),
    "diskengine_nvme_busy_seconds_total": ("counter", "Time with I/O under way, counted in minutes by the drive."),
    "diskengine_nvme_power_on_seconds_total": ("counter", "Time powered on, counted in hours by the drive."),
    "diskengine_nvme_power_cycles_total": ("counter", "Power cycles."),
    "diskengine_nvme_unsafe_shutdowns_total": ("counter", "Losses of power without a shutdown."),
    "diskengine_nvme_media_errors_total": ("counter", "Unrecovered data integrity errors."),
    "diskengine_nvme_error_log_entries_total": ("counter", "Entries that the error log ever had."),
    "diskengine_nvme_warning_temperature_seconds_total": ("counter", "Time above the warning temperature."),
    "diskengine_nvme_critical_temperature_seconds_total": ("counter", "Time above the critical temperature."),
    "diskengine_nvme_path_up": ("gauge", "Whether a path of a controller over a fabric is connected."),
    "diskengine_raid_health": ("gauge", "1 for the health class that the RAID is in."),
    "diskengine_raid_condition": ("gauge", "1 for the condition that the RAID is in."),
    "diskengine_raid_members": ("gauge", "Members that the RAID is made of."),
    "diskengine_raid_members_present": ("gauge", "Members that the RAID has now."),
    "diskengine_raid_rebuilt_ratio": ("gauge", "How much of a member is brought in sync."),
    "diskengine_vhost_health": ("gauge", "1 for the health class that the vhost controller is in."),
    "diskengine_vhost_sessions": ("gauge", "Connected VMs."),
    "diskengine_lvstore_size_bytes": ("gauge", "Capacity of the lvstore for data."),
    "diskengine_lvstore_free_bytes": ("gauge", "Capacity that no lvol has allocated."),
    "diskengine_lvstore_used_bytes": ("gauge", "Capacity that lvols have allocated."),
    "diskengine_lvstore_lvols": ("gauge", "Lvols in the lvstore, without snapshots."),
    "diskengine_lvstore_snapshots": ("gauge", "Snapshots in the lvstore."),
    "diskengine_bdev_bytes_total": ("counter", "Bytes of completed I/O."),
    "diskengine_bdev_operations_total": ("counter", "Completed I/O operations."),
    "diskengine_bdev_operation_seconds_total": ("counter", "Sum of the latencies of completed I/O operations."),
    "diskengine_bdev_errors_total": ("counter", "I/O operations that failed."),
    "diskengine_drift_objects": ("gauge", "Objects that differ between the database and the target."),
}

# Family: field of the health log, and what to multiply it with.
_LOG = {
    "diskengine_nvme_critical_warning": ("critical_warning", 1),
    "diskengine_nvme_temperature_celsius": ("temperature_celsius", 1),
    "diskengine_nvme_available_spare_ratio": ("available_spare_percentage", 0.01),
    "diskengine_nvme_available_spare_threshold_ratio": ("available_spare_threshold_percentage", 0.01),
    "diskengine_nvme_used_ratio": ("percentage_used", 0.01),
    "diskengine_nvme_read_bytes_total": ("data_units_read", _DATA_UNIT),
    "diskengine_nvme_written_bytes_total": ("data_units_written", _DATA_UNIT),
    "diskengine_nvme_read_commands_total": ("host_read_commands", 1),
    "diskengine_nvme_write_commands_total": ("host_write_commands", 1),
    "diskengine_nvme_busy_seconds_total": ("controller_busy_time", 60),
    "diskengine_nvme_power_on_seconds_total": ("power_on_hours", 3600),
    "diskengine_nvme_power_cycles_total": ("power_cycles", 1),
    "diskengine_nvme_unsafe_shutdowns_total": ("unsafe_shutdowns", 1),
    "diskengine_nvme_media_errors_total": ("media_errors", 1),
    "diskengine_nvme_error_log_entries_total": ("num_err_log_entries", 1),
    "diskengine_nvme_warning_temperature_seconds_total": ("warning_temperature_time_minutes", 60),
    "diskengine_nvme_critical_temperature_seconds_total": ("critical_composite_temperature_time_minutes", 60),
}

_OPERATION = {
    "diskengine_bdev_bytes_total": "bytes",
    "diskengine_bdev_operations_total": "operations",
    "diskengine_bdev_operation_seconds_total": "seconds",
}


class Sample(NamedTuple):
    """One value; the label ``node`` is added to all of a file."""

    family: str
    labels: dict
    value: Union[int, float]


class Wanted(NamedTuple):
    """What the user asked for, in the words of the options."""

    path: str
    node: str
    thresholds: dict
    drift: dict


def publish(connect: Callable[[], Client], wanted: Wanted, dry_run: bool) -> tuple[dict, Optional[str]]:
    """Write what a target measures now to a file; return what a user learns, and why the target could not be read.

    A target that could not be read is a value as well: the file then says so, and holds nothing of before. The file is
    written even if it does not change, so that its age is that of the values. Raises Refusal, HostError.
    """
    if not (wanted.path.startswith("/") and wanted.path.endswith(".prom")):
        raise Refusal(f"path {wanted.path} is not one from the root to a name in .prom, which alone are collected")
    drift = [Sample("diskengine_drift_objects", {"class": name}, _count(name, wanted)) for name in wanted.drift]
    failure = None
    try:
        with connect() as client:
            samples = observe(client, wanted.thresholds)
    except DiskengineError as error:
        samples, failure = [Sample("diskengine_target_up", {}, 0)], str(error)
    text = render(wanted.node, [*samples, *drift])
    host = Host()
    before = host.content(wanted.path)
    if not dry_run:
        host.do(Step("file", wanted.path, text, "write the metrics"))
    result = {"changed": text != before, "samples": len(samples) + len(drift), "before": before or "", "after": text}
    return result, failure


def observe(client: Client, thresholds: dict) -> list:
    """Return all samples of a target that is read now. Raises Unreachable, RpcError, UnknownOutcome."""
    health = read_health(client, thresholds)
    iostat, lvols, lvstores = client.read([_iostat.IOSTAT, _iostat.LVOLS, LVSTORES])
    return [
        Sample("diskengine_target_up", {}, 1),
        Sample("diskengine_target_info", {"release": str(client.release)}, 1),
        *_controllers(health["controllers"]),
        *_raids(health["raids"]),
        *_vhosts(health["vhosts"]),
        *_capacity(lvstores, lvols),
        *_statistics(_iostat.describe(iostat, lvols)),
    ]


def render(node: str, samples: list) -> str:
    """Return samples as text, each family once with its help and type. Pure."""
    lines: dict[str, list] = {family: [] for family in FAMILIES}
    for family, labels, value in samples:
        shown = ",".join(f'{name}="{_escape(text)}"' for name, text in {"node": node, **labels}.items())
        lines[family].append(f"{family}{{{shown}}} {value}\n")
    return "".join(
        f"# HELP {family} {FAMILIES[family][1]}\n# TYPE {family} {FAMILIES[family][0]}\n{''.join(values)}"
        for family, values in lines.items()
        if values
    )


def _escape(text: str) -> str:
    """Return the value of a label as the format wants it; what is no text, such as a torn model name, as ``?``."""
    text = text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return text.encode("utf-8", "replace").decode()


def _count(name: str, wanted: Wanted) -> int:
    try:
        return int(wanted.drift[name])
    except (TypeError, ValueError):
        raise Refusal(f"drift {name} is {wanted.drift[name]!r}, which is not a number of objects") from None


def _controllers(controllers: list) -> Iterator[Sample]:
    for controller in controllers:
        labels = {"controller": controller["name"], "bdf": controller["bdf"], "serial": controller["serial"]}
        about = {"model": controller["model"], "firmware": controller["firmware"]}
        yield Sample("diskengine_nvme_info", {**labels, **about}, 1)
        yield from _one_of("diskengine_nvme_health", labels, "health", controller["health"], CLASSES)
        for family, (field, factor) in _LOG.items():
            if controller["log"] and controller["log"][field] is not None:
                yield Sample(family, labels, round(controller["log"][field] * factor, _FIGURES))
        for path in controller["paths"]:
            where = {name: path[name] for name in ("trtype", "traddr", "trsvcid")}
            up = int(path["state"] == "enabled")
            yield Sample("diskengine_nvme_path_up", {"controller": controller["name"], **where}, up)


def _raids(raids: list) -> Iterator[Sample]:
    for raid in raids:
        labels = {"raid": raid["name"], "level": raid["level"]}
        yield from _one_of("diskengine_raid_health", labels, "health", raid["health"], CLASSES)
        yield from _one_of("diskengine_raid_condition", labels, "condition", raid["condition"], RAID_CONDITIONS)
        yield Sample("diskengine_raid_members", labels, len(raid["members"]))
        yield Sample("diskengine_raid_members_present", labels, sum(each["present"] for each in raid["members"]))
        if raid["rebuilding"]:
            yield Sample("diskengine_raid_rebuilt_ratio", labels, raid["percent"] / 100)


def _vhosts(vhosts: list) -> Iterator[Sample]:
    for vhost in vhosts:
        labels = {"vhost": vhost["name"]}
        yield from _one_of("diskengine_vhost_health", labels, "health", vhost["health"], CLASSES)
        yield Sample("diskengine_vhost_sessions", labels, len(vhost["sessions"]))


def _one_of(family: str, labels: dict, label: str, found: str, words: Iterable) -> Iterator[Sample]:
    for word in words:
        yield Sample(family, {**labels, label: word}, int(found == word))


def _capacity(lvstores: list, lvols: list) -> Iterator[Sample]:
    counts = Counter((lvol["lvs"]["uuid"], lvol["is_snapshot"]) for lvol in lvols)
    for store in lvstores:
        labels = {"lvstore": store["name"], "uuid": store["uuid"], "bdev": store["base_bdev"]}
        size, free = (store[key] * store["cluster_size"] for key in ("total_data_clusters", "free_clusters"))
        yield Sample("diskengine_lvstore_size_bytes", labels, size)
        yield Sample("diskengine_lvstore_free_bytes", labels, free)
        yield Sample("diskengine_lvstore_used_bytes", labels, size - free)
        yield Sample("diskengine_lvstore_lvols", labels, counts[store["uuid"], False])
        yield Sample("diskengine_lvstore_snapshots", labels, counts[store["uuid"], True])


def _statistics(bdevs: list) -> Iterator[Sample]:
    for bdev in bdevs:
        labels = {"bdev": bdev["name"], "lvstore": bdev["lvstore"], "lvol": bdev["lvol"]}
        for family, field in _OPERATION.items():
            for operation in _iostat.OPERATIONS:
                yield Sample(family, {**labels, "operation": operation}, bdev[operation][field])
        for error, count in bdev["errors"].items():
            yield Sample("diskengine_bdev_errors_total", {**labels, "error": error}, count)
