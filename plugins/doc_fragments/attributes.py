# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attributes of our modules: what each promises about check mode, diff mode and idempotence."""

from __future__ import annotations


class ModuleDocFragment:
    """Descriptions of the attributes, and the values that whole groups of modules share."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return the changed status prediction without modifying the target.
  diff_mode:
    description: Returns details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second run reports no change.
  platform:
    description: Where the module can be run.
"""

    # An information module: reads only, so check mode runs it as it is.
    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This module changes nothing.
  diff_mode:
    support: N/A
    details:
      - This module changes nothing.
  idempotent:
    support: full
    details:
      - This module changes nothing.
"""

    # A module that manages objects by one plan, which check mode prints and a run executes.
    STATE_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
"""

    # An action plugin that talks to the database from the controller.
    CONTROLLER = r"""
options: {}
attributes:
  platform:
    support: full
    platforms: posix
    details:
      - Runs on the controller.
"""

    # A module that talks to SPDK on the node.
    NODE = r"""
options: {}
attributes:
  platform:
    support: full
    platforms: linux
"""

    ACTIONGROUP_DATABASE = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/excloud.diskengine.database) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - excloud.diskengine.database
"""

    ACTIONGROUP_SPDK = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/excloud.diskengine.spdk) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - excloud.diskengine.spdk
"""
