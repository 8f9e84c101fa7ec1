#!/usr/bin/python
# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: database_schema
short_description: Bring the database schema up to date
version_added: 0.1.0
description:
  - Applies numbered migrations, each in a transaction of its own, and keeps in C(diskengine.schema_migration) which
    were applied, with their checksums. The role P(excloud.diskengine.database#role) calls it with its own migrations.
  - An applied migration whose file changed, or a database that is ahead of the files, is an error.
  - Only one run migrates a database at a time.
  - Optionally makes a login role, which may do what O(login_purpose) needs, and nothing else.
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.attributes
  - excloud.diskengine.attributes.state_module
  - excloud.diskengine.attributes.controller
  - excloud.diskengine.database
options:
  migrations:
    description: Directory on the controller with the files C(0001_what_it_does.sql), C(0002_...) and so on.
    type: path
    required: true
  login_role:
    description:
      - Name of the login role. Without it no role is made.
      - A role that may do more, such as a superuser or the owner of the schema, is refused.
    type: str
  login_password:
    description:
      - Password of O(login_role). It is sent and kept as a SCRAM verifier.
      - Whether the password of an existing role differs can be seen by a superuser only. Connected as anybody else,
        it is set only when the role is created.
    type: str
  login_purpose:
    description:
      - What O(login_role) is for.
      - V(convergence) reads the views and records results. V(operator) reads the views and makes wishes, as the modules
        M(excloud.diskengine.volume) and M(excloud.diskengine.volume_mapping) do.
    type: str
    choices: [convergence, operator]
    default: convergence
"""

EXAMPLES = r"""
- name: Bring the schema up to date
  excloud.diskengine.database_schema:
    dsn: host=db.example.org dbname=diskengine user=owner
    password: "{{ vault_owner_password }}"
    migrations: "{{ playbook_dir }}/migrations"
    login_role: convergence
    login_password: "{{ vault_convergence_password }}"
"""

RETURN = r"""
applied:
  description: The migrations that were (in check mode, would be) applied.
  returned: success
  type: list
  elements: str
  sample: [0001_objects.sql]
version:
  description: Number of the newest migration.
  returned: success
  type: int
  sample: 4
role_changes:
  description: What was (would be) done about O(login_role).
  returned: success
  type: list
  elements: str
  sample: [create role, set password, grant privileges]
"""
