# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The NVMe drives of a host, whoever owns them: the views of the kernel, of the records and of SPDK, joined. Private.

The judgement on binding is that of the guards, which the module that binds asks as well.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

from .. import _naming
from .._errors import DiskengineError, Refusal
from .._rpc import Call, Client
from ._guards import Asked, Reason, reasons_against_binding, reasons_of_handles, reasons_of_use
from ._host import STATE, Host
from ._pci import USERSPACE, Device, Record, System, observe, read_record, record_path


class SpdkDrive(NamedTuple):
    """A local drive as an SPDK target has it."""

    controller: str
    serial: str
    model: str
    firmware: str
    bdevs: tuple  # (name, nsid, size, block size)


class Spdk(NamedTuple):
    """What a target said: drives by BDF, or why it said nothing."""

    asked: bool
    msg: str
    drives: dict


def ask_spdk(path: Optional[str], timeout: float) -> Spdk:
    """Ask the target behind a socket for its local drives. One that is not there is no error."""
    if not path:
        return Spdk(False, "no socket was given, so no SPDK target was asked", {})
    try:
        with Client(path, timeout) as client:
            controllers, bdevs = client.read([Call("bdev_nvme_get_controllers"), Call("bdev_get_bdevs")])
    except DiskengineError as error:
        return Spdk(False, f"no SPDK target was asked: {error}", {})
    return Spdk(True, "", spdk_drives(controllers, bdevs))


def spdk_drives(controllers: list, bdevs: list) -> dict:
    """Return a target's local drives by BDF, from what it says of its controllers and bdevs. Pure."""
    drives: dict = {}
    for controller in controllers:
        for path in controller.get("ctrlrs") or ():
            transport = path.get("trid") or {}
            if str(transport.get("trtype", "")).upper() == "PCIE":
                bdf = _bdf(transport.get("traddr", ""))
                if bdf:
                    drives[bdf] = SpdkDrive(controller.get("name", ""), "", "", "", ())
    for bdev in bdevs:
        for namespace in _nvme(bdev):
            transport = namespace.get("trid") or {}
            bdf = _bdf(namespace.get("pci_address") or transport.get("traddr", ""))
            if bdf not in drives:
                continue
            data = namespace.get("ctrlr_data") or {}
            block_size = int(bdev.get("block_size", 0))
            nsid = int((namespace.get("ns_data") or {}).get("id", 0))
            entry = (bdev.get("name", ""), nsid, int(bdev.get("num_blocks", 0)) * block_size, block_size)
            drives[bdf] = drives[bdf]._replace(
                serial=str(data.get("serial_number", "")).strip(),
                model=str(data.get("model_number", "")).strip(),
                firmware=str(data.get("firmware_revision", "")).strip(),
                bdevs=(*drives[bdf].bdevs, entry),
            )
    return drives


def _nvme(bdev: dict) -> list:
    nvme: Any = (bdev.get("driver_specific") or {}).get("nvme") or []
    return nvme if isinstance(nvme, list) else [nvme]


def _bdf(text: str) -> str:
    try:
        return _naming.bdf(text)
    except Refusal:
        return ""


def describe(system: System, spdk: Spdk, records: dict) -> dict:
    """Return the drives as users read them. Pure. ``records`` holds by BDF what was known when each was bound."""
    drives = [device for device in system.devices.values() if device.is_nvme]
    disks = [_disk(device, system, spdk.drives.get(device.bdf)) for device in drives]
    known = {disk["serial"]: disk["bdf"] for disk in disks if disk["serial"]}
    missing = [
        {
            "bdf": bdf,
            "serial": record.serial,
            "model": record.model,
            "size": record.size,
            "now_at": known.get(record.serial, ""),
        }
        for bdf, record in sorted(records.items())
        if bdf not in system.devices
    ]
    return {
        "disks": disks,
        "missing": missing,
        "iommu": system.iommu,
        "spdk": {"asked": spdk.asked, "msg": spdk.msg},
    }


def _disk(device: Device, system: System, spdk: Optional[SpdkDrive]) -> dict:
    controller, record = device.controller, _fitting(device)
    if controller:
        view, source = (controller.serial, controller.model, controller.firmware), "kernel"
        namespaces = [
            {
                "name": namespace.block.name,
                "nsid": namespace.nsid,
                "size": namespace.block.size,
                "block_size": namespace.block_size,
                "wwid": namespace.wwid,
            }
            for namespace in controller.namespaces
        ]
        size = sum(namespace.block.size for namespace in controller.namespaces)
    elif spdk and spdk.serial:
        view, source = (spdk.serial, spdk.model, spdk.firmware), "spdk"
        namespaces = [
            {"name": name, "nsid": nsid, "size": length, "block_size": block_size, "wwid": ""}
            for name, nsid, length, block_size in spdk.bdevs
        ]
        size = sum(entry["size"] for entry in namespaces)
    elif record:
        view, source, namespaces, size = (record.serial, record.model, ""), "record", [], record.size
    else:
        view, source, namespaces, size = ("", "", ""), "none", [], 0
    against = [] if device.driver == "vfio-pci" else reasons_against_binding(device, system, Asked())
    return {
        "bdf": device.bdf,
        "serial": view[0],
        "model": view[1],
        "firmware": view[2],
        "size": size,
        "source": source,
        "owner": _owner(device, spdk),
        "device": f"/dev/{controller.name}" if controller else "",
        "state": controller.state if controller else "",
        "driver": device.driver,
        "spdk_controller": spdk.controller if spdk else "",
        "numa_node": device.numa_node,
        "iommu_group": device.group,
        "namespaces": namespaces,
        "in_use_by": [reason.text for reason in _uses(device, system, spdk)],
        "bindable": not against,
        "reasons": [reason._asdict() for reason in against],
    }


def _fitting(device: Device) -> Optional[Record]:
    """Return the record if it is of this kind of drive; another one may have been put into the slot since."""
    record = device.record
    return record if record and (record.vendor, record.device) == (device.vendor, device.device) else None


def _owner(device: Device, spdk: Optional[SpdkDrive]) -> str:
    if spdk:
        return "spdk"
    if device.driver in USERSPACE:
        return "vfio" if device.driver == "vfio-pci" else "uio"
    return "kernel" if device.driver else "none"


def _uses(device: Device, system: System, spdk: Optional[SpdkDrive]) -> list:
    uses = list(reasons_of_use(device.controller, system)) if device.controller else []
    uses += reasons_of_handles(device, system)
    if spdk:
        uses.append(Reason("spdk", f"SPDK has it as {spdk.controller}", "detach it there"))
    return uses


def read_records(host: Host) -> dict:
    """Return all records by BDF."""
    records = {}
    for name in host.names(f"{STATE}/pci"):
        bdf = name[: -len(".json")] if name.endswith(".json") else ""
        record = read_record(host.read(record_path(bdf))) if bdf else None
        if record:
            records[bdf] = record
    return records


def look(host: Host, path: Optional[str], timeout: float) -> dict:
    """Return the drives of a host."""
    return describe(observe(host), ask_spdk(path, timeout), read_records(host))
