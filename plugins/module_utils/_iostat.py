# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The I/O statistics of a target's bdevs, with the names that people use and in seconds. Pure. Private.

All bdevs are read in any case: the parameter that names some changed with the releases and fails as a whole when one
of them is missing, and reading a thousand takes a target less than a tenth of a second.
"""

from __future__ import annotations

from ._errors import Refusal
from ._rpc import Call

OPERATIONS = ("read", "write", "unmap", "copy")

IOSTAT = Call("bdev_get_iostat", subject="the statistics of all bdevs")
LVOLS = Call("bdev_lvol_get_lvols", subject="all lvols")

_BYTES = {"read": "bytes_read", "write": "bytes_written", "unmap": "bytes_unmapped", "copy": "bytes_copied"}


def describe(iostat: dict, lvols: list) -> list:
    """Return an entry for each bdev of the target's answers."""
    known = {lvol["uuid"]: lvol for lvol in lvols}
    return [_bdev(item, known.get(item["name"]), iostat["tick_rate"]) for item in iostat["bdevs"]]


def select(bdevs: list, names: list) -> list:
    """Return the entries of ``bdevs`` that are named: by own name, or as ``<lvstore>/<lvol>``. Raises Refusal."""
    found = {name: bdev for bdev in bdevs for name in (bdev["name"], bdev["alias"]) if name}
    missing = [name for name in names if name not in found]
    if missing:
        raise Refusal(
            f"the target has no bdev {', '.join(missing)}; name bdevs as spdk_info shows them, an lvol by its UUID or "
            f"as <lvstore>/<lvol>"
        )
    return [found[name] for name in names]


def _bdev(item: dict, lvol: dict | None, tick_rate: int) -> dict:
    return {
        "name": item["name"],
        "lvstore": lvol["lvs"]["name"] if lvol else "",
        "lvol": lvol["name"] if lvol else "",
        "alias": lvol["alias"] if lvol else "",
        **{operation: _operation(item, operation, tick_rate) for operation in OPERATIONS},
        "errors": item.get("io_error", {}),
    }


def _operation(item: dict, operation: str, tick_rate: int) -> dict:
    ticks = f"{operation}_latency_ticks"
    return {
        "bytes": item[_BYTES[operation]],
        "operations": item[f"num_{operation}_ops"],
        "seconds": item[ticks] / tick_rate,
        "seconds_min": item[f"min_{ticks}"] / tick_rate,
        "seconds_max": item[f"max_{ticks}"] / tick_rate,
    }
