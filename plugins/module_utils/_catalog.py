# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kinds of objects that the planner knows, in the order in which they build on each other. Private."""

from __future__ import annotations

from ._resources._controller import ControllerResource
from ._resources._lvol import LvolResource
from ._resources._lvstore import LvstoreResource
from ._resources._subsystem import SubsystemResource
from ._resources._transport import TransportResource

RESOURCES = [TransportResource, ControllerResource, LvstoreResource, LvolResource, SubsystemResource]
