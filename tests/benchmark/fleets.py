# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets: two storage nodes and a compute node whose mappings are attached, or many storage nodes."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager

import inside
import psycopg
from ansible_collections.excloud.diskengine.plugins.plugin_utils.compute_node import compute_desired
from ansible_collections.excloud.diskengine.plugins.plugin_utils.database import connected, read_desired
from scene import QUIET
from support.estate import COMPUTE
from support.fleet import Fleet
from support.targets import running_fleet


class Nodes(Fleet):
    """A Fleet whose playbooks may not fail; nothing of it is attached yet."""

    def play(self, playbook):
        """Run a playbook of the collection; raises RuntimeError if it fails."""
        done = self.run(playbook, env=QUIET, timeout=3600)
        if done.rc:
            raise RuntimeError(done.output[-4000:])

    def restart(self):
        """The compute node's target dies and starts again, without what it was told."""
        self.compute.kill()
        self.compute.start()

    def attached(self):
        """How many mappings are ATTACHED."""
        return self.states().count("ATTACHED")

    def document(self):
        """The document that the role hands to spdk_node for the rows of the compute node as they are now."""
        with connected(self.dsn) as conn:
            return compute_desired(read_desired(conn, [COMPUTE], ("volume", "mapping"))[COMPUTE])["desired"]

    def work(self, document):
        """Do what the module does on the compute node."""
        inside.work(self.compute.socket, document)


@contextmanager
def opened_nodes(stage, mappings, storage=2):
    """Fresh targets and a fresh database for that many mappings, whose volumes so many storage nodes export."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="vhost", dir="/tmp"))
        targets = stack.enter_context(running_fleet([number % 2 for number in range(storage + 1)], ["-S", directory]))
        dsn = stack.enter_context(stage.database())
        conn = stack.enter_context(psycopg.connect(dsn, autocommit=True))
        for target in targets:
            target.socket = target.direct  # not the recorder's: nothing is to slow the calls
        nodes = Nodes(targets, dsn, conn, mappings, computes=1)
        conn.execute("ANALYZE")
        nodes.play("converge")
        yield nodes
