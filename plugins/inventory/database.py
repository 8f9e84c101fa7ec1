# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes that the database knows, as an inventory."""

from __future__ import annotations

DOCUMENTATION = r"""
name: database
short_description: The nodes in the database as hosts
version_added: 0.1.0
description:
  - Makes a host of each row of the view C(v_node), all of them read in one query.
  - Hosts are in the groups C(storage) or C(compute), C(active) or C(cordoned), and C(failure_domain_) with the
    failure domain. The first four are always there. C(storage:!cordoned) are the storage nodes that are in use.
  - A host is named as its node. Characters in a name that would mean something in a pattern of hosts become C(_), and
    those that are not allowed in the name of a group do so there. A host that would be named as a group or C(localhost)
    gets a C(_) in front. Two nodes or two failure domains that would get the same name are refused.
  - The variables of a host are C(diskengine_node), which is the row, the node's name as C(storage_node_name) or
    C(compute_node_name), and C(ansible_host).
  - What the database says is never taken for a template.
author:
  - The excloud.diskengine developers (@excloud)
extends_documentation_fragment:
  - excloud.diskengine.database
  - constructed
  - inventory_cache
options:
  plugin:
    description: Says that the file is meant for this plugin. Its name has to end with C(diskengine.yml) or C(.yaml).
    type: str
    required: true
    choices: [excloud.diskengine.database]
  host_address:
    description:
      - Where Ansible connects to, as C(ansible_host).
      - V(address) is the first address of the node. One that has none gets no C(ansible_host).
      - V(name) is the name of the node, for nodes that are not reached on the addresses that they serve.
      - For anything else set C(ansible_host) in O(compose).
    type: str
    choices: [address, name]
    default: address
notes:
  - O(dsn) and O(password) may be templates, such as a lookup, or encrypted with a vault.
  - Ansible only warns of an inventory that cannot be read. Set C(any_unparsed_is_failed = true) in the section
    C(inventory) of C(ansible.cfg) to stop there.
"""

EXAMPLES = r"""
---
# estate.diskengine.yml
plugin: excloud.diskengine.database
dsn: host=db.example.org dbname=diskengine user=convergence sslmode=verify-full
password: "{{ lookup('ansible.builtin.env', 'CONVERGENCE_PASSWORD') }}"
host_address: name
compose:
  storage_node_socket: "'/run/spdk/spdk.sock'"
groups:
  in_use: diskengine_node.state == 'active'
keyed_groups:
  - key: diskengine_node.addresses | map(attribute='trtype') | unique | list
    prefix: transport
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/diskengine
cache_timeout: 300
"""

import re

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.unsafe_proxy import wrap_var
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import (
    DatabaseError,
    connected,
    read_desired,
)

GROUPS = ("storage", "compute", "active", "cordoned")
DOMAIN = "failure_domain_"
RESERVED = (*GROUPS, "all", "ungrouped", "localhost")  # a host of such a name would be taken for something else


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Hosts and groups from the rows of nodes."""

    NAME = "excloud.diskengine.database"

    def verify_file(self, path):
        """Whether the name of the file says that it is meant for this plugin."""
        return super().verify_file(path) and path.endswith(("diskengine.yml", "diskengine.yaml"))

    def parse(self, inventory, loader, path, cache=True):
        """Add the nodes that the database or the cache knows to the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        self._add(inventory, wrap_var(self._rows(self.get_cache_key(path), cache)))

    def _rows(self, key, cache):
        if not self.get_option("cache"):
            return self._read()
        if not cache or key not in self._cache:
            self._cache[key] = self._read()
        return self._cache[key]

    def _read(self):
        try:
            with connected(
                self.templar.template(self.get_option("dsn")),
                self.templar.template(self.get_option("password")),
                self.get_option("connect_timeout"),
                self.get_option("statement_timeout"),
            ) as conn:
                return [node["node"] for node in read_desired(conn, kinds=()).values()]
        except DatabaseError as error:
            raise AnsibleParserError(str(error)) from error

    def _add(self, inventory, rows):
        hosts = unique("node", [row["name"] for row in rows], host_name)
        domains = unique(
            "failure domain", [row["failure_domain"] for row in rows if row["failure_domain"]], domain_group
        )
        for group in (*GROUPS, *domains.values()):
            inventory.add_group(group)
        for row in rows:
            host = inventory.add_host(hosts[row["name"]])
            for group in (row["kind"], row["state"], domains.get(row["failure_domain"])):
                if group:
                    inventory.add_child(group, host)
            self._set_variables(inventory, host, row)

    def _set_variables(self, inventory, host, row):
        variables = {"diskengine_node": row, f"{row['kind']}_node_name": row["name"]}
        if self.get_option("host_address") == "name":
            variables["ansible_host"] = row["name"]
        elif row["addresses"]:
            variables["ansible_host"] = row["addresses"][0]["address"]
        for name, value in variables.items():
            inventory.set_variable(host, name, value)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, host, strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict)


def host_name(node):
    """The name of a node's host: nothing that has a meaning in a pattern of hosts, and no name of a group."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", node)
    return f"_{name}" if name in RESERVED or name.startswith(("-", DOMAIN)) else name


def domain_group(domain):
    """The group of a failure domain; the name of a group may be all that the name of a variable may be."""
    return re.sub(r"[^A-Za-z0-9_]", "_", DOMAIN + domain)


def unique(what, values, name_of):
    """What each value is called in the inventory. Raises AnsibleParserError when two would be called the same."""
    names: dict[str, str] = {}
    for value in sorted(set(values)):
        name = name_of(value)
        if name in names:
            raise AnsibleParserError(
                f"The {what}s {names[name]} and {value} would both be {name} in the inventory; rename one of them."
            )
        names[name] = value
    return {value: name for name, value in names.items()}
