#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_lease
short_description: Hold nodes so that no other run works on them
version_added: 0.1.0
description:
  - Takes, renews or releases the leases of nodes in the database, of all nodes in one statement. Run it once for a
    play, with C(run_once).
  - A lease has a token, a number that is higher than all before it. Handed on as O(lease) to the modules that change a
    target and to M(excloud.diskengine.record_state), it keeps out a run that was overtaken. A target refuses the lower
    token, and the database refuses its rows.
  - A lease ends by itself, by the clock of the database, so that a run that died blocks nobody for long. A run whose
    lease has expired goes on as long as no other has taken it.
  - The roles of this collection take a lease and release it by themselves.
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.controller
  - excloud.diskengine.attributes.actiongroup_database
  - excloud.diskengine.database
attributes:
  check_mode:
    support: full
    details:
      - No lease is taken, renewed or released. Where somebody holds a node, the task warns.
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - To take, to renew or to release a lease of one's own is never a change. To end another's, with O(force), is.
options:
  nodes:
    description: Names of the nodes. A name that the database does not know is an error.
    type: list
    elements: str
    required: true
  state:
    description:
      - V(held) takes the leases, or renews those that have the token O(lease).
      - V(released) ends those that have the token O(lease). That others had been lost is a warning.
    type: str
    choices: [held, released]
    default: held
  lease:
    description: Token of leases that were taken before. Needed for O(state=released), unless there is O(force).
    type: int
  force:
    description:
      - End the leases with O(state=released) whoever holds them. Make sure first that the run that did is dead.
      - If it is not, it can record nothing more, and is refused by a target as soon as another run has been there.
    type: bool
    default: false
  duration:
    description:
      - Seconds after which a lease that is taken ends by itself, unless it was renewed. Recording renews it.
      - It should be longer than any single task of the run takes.
    type: int
    default: 900
  wait:
    description: Seconds to wait for others to release the nodes. As long as not all of them are free, none is taken.
    type: float
    default: 0.0
  partial:
    description: When O(wait) is over, take those nodes that are free, and do not fail because of the others.
    type: bool
    default: false
  holder:
    description:
      - Who holds the nodes, for people.
      - Without it that is the job of AWX, or the user, host and process of this C(ansible-playbook).
    type: str
seealso:
  - module: excloud.diskengine.record_state
"""

EXAMPLES = r"""
- name: Hold the nodes of this play
  excloud.diskengine.node_lease:
    dsn: host=db.example.org dbname=diskengine user=convergence
    password: "{{ vault_convergence_password }}"
    nodes: "{{ ansible_play_batch }}"
    wait: 60
  register: lease
  run_once: true

- name: Change something under the lease
  excloud.diskengine.spdk_lvol:
    name: "1234"
    lvstore: lvs-disk-7
    size: 100GiB
    lease: "{{ lease.lease }}"

- name: Go on holding them
  excloud.diskengine.node_lease:
    nodes: "{{ lease.held }}"
    lease: "{{ lease.lease }}"
  run_once: true

- name: Let others have them
  excloud.diskengine.node_lease:
    nodes: "{{ lease.held }}"
    state: released
    lease: "{{ lease.lease }}"
  run_once: true

- name: End the lease of a run that is known to be dead
  excloud.diskengine.node_lease:
    nodes: [storage-1]
    state: released
    force: true
"""

RETURN = r"""
lease:
  description: Token of the leases that are held, one for all of them; null if none is.
  returned: when the database was reached
  type: int
  sample: 1795772345123
held:
  description: Nodes whose lease is held now, or was released.
  returned: when the database was reached
  type: list
  elements: str
  sample: [storage-1, storage-2]
missed:
  description: Why the other nodes are not in RV(held), by their names.
  returned: when the database was reached
  type: dict
  sample:
    storage-3: >-
      storage-3 is held by alice on controller-1, process 4711 since 2026-11-27T09:41:02Z, until 2026-11-27T09:56:02Z at
      the latest
"""
