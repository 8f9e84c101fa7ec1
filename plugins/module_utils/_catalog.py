# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kinds of objects that the planner knows, each imported when it is asked for. Private."""

from __future__ import annotations

from typing import Any


def resource_of(plural: str) -> Any:
    """Return the resource class of a kind by the name that lists of it have."""
    if plural == "transports":
        from ._resources._transport import TransportResource

        return TransportResource
    if plural == "keys":
        from ._resources._key import KeyResource

        return KeyResource
    if plural == "controllers":
        from ._resources._controller import ControllerResource

        return ControllerResource
    if plural == "disks":
        from ._resources._disk import DiskResource

        return DiskResource
    if plural == "lvstores":
        from ._resources._lvstore import LvstoreResource

        return LvstoreResource
    if plural == "lvols":
        from ._resources._lvol import LvolResource

        return LvolResource
    if plural == "snapshots":
        from ._resources._snapshot import SnapshotResource

        return SnapshotResource
    if plural == "raids":
        from ._resources._raid import RaidResource

        return RaidResource
    if plural == "copies":
        from ._resources._copy import CopyResource

        return CopyResource
    if plural == "qos":
        from ._resources._qos import QosResource

        return QosResource
    if plural == "vhosts":
        from ._resources._vhost import VhostResource

        return VhostResource
    from ._resources._subsystem import SubsystemResource

    return SubsystemResource
