# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Event source for ansible-rulebook, and without it a program that starts a command for each event."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
from collections.abc import AsyncIterator
from typing import Any

import psycopg

DOCUMENTATION = r"""
---
short_description: Tell which nodes changed wishes in the database touch
description:
  - Listens to the channel on which the schema C(diskengine) of PostgreSQL names the nodes that a changed wish touches.
    Results that convergence records are no wishes, so a run does not start the next one.
  - What comes within O(delay) seconds is one event. Its C(meta.hosts) are the nodes, to which the action
    C(run_playbook) limits a playbook by itself. Its C(limit) is the same as a pattern of hosts, for
    C(run_job_template).
  - What was notified while nobody listened is lost. So the first event, and the first one after a connection was lost,
    stands for all nodes, with C(limit) V(all).
  - A connection that cannot be made is tried again for ever, with pauses that grow from 1 to 60 seconds.
  - It needs psycopg 3.2 or newer, and a login that may connect to the database.
options:
  dsn:
    description:
      - Where the database is, as a connection string or URL of libpq.
      - Without it the environment variable E(DISKENGINE_DSN) is read, and without that libpq takes what it needs from
        its own variables.
    type: str
  password:
    description: Password of the database user. Without it libpq looks in O(dsn), E(PGPASSWORD) and the password file.
    type: str
  channel:
    description: The channel to listen to.
    type: str
    default: diskengine_wish
  delay:
    description: Seconds in which further wishes are collected into one event.
    type: float
    default: 2.0
"""

EXAMPLES = r"""
- name: Converge what changes
  hosts: all
  sources:
    - excloud.diskengine.wishes:
        dsn: host=db.example.org dbname=diskengine user=convergence sslmode=verify-full
  rules:
    - name: Converge the nodes that are touched
      condition: event.limit is defined
      action:
        run_playbook:
          name: excloud.diskengine.site
"""

CHANNEL = "diskengine_wish"
DELAY = 2.0
ALL = "all"
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_PROBE = 30.0  # seconds of silence after which a connection has to show that it still is one

logger = logging.getLogger(__name__)


async def main(queue: asyncio.Queue, args: dict[str, Any]) -> None:
    """Put an event into the queue for each set of nodes, for ever."""
    async for nodes in wishes(**args):
        await queue.put({"limit": pattern(nodes), "meta": {"hosts": sorted(nodes) or [ALL]}})


def pattern(nodes: set[str]) -> str:
    """The hosts of an event, as ansible-playbook takes them; no nodes means that nobody knows which."""
    return ",".join(sorted(nodes)) or ALL


async def wishes(
    dsn: str = "", password: str | None = None, channel: str = CHANNEL, delay: float = DELAY
) -> AsyncIterator[set[str]]:
    """The nodes that wishes touch, as sets of names; an empty set when some of them may have been missed.

    As long as whoever asks is busy, what comes is kept for the next set. Raises psycopg.ProgrammingError for a dsn that
    is none.
    """
    settings: dict[str, Any] = dict(psycopg.conninfo.conninfo_to_dict(dsn or os.environ.get("DISKENGINE_DSN") or ""))
    settings.setdefault("application_name", "excloud.diskengine.wishes")
    settings.setdefault("connect_timeout", 10)
    if password is not None:
        settings["password"] = password
    pause = _FIRST_PAUSE
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(**settings, autocommit=True) as conn:
                await conn.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))
                pause = _FIRST_PAUSE
                yield set()
                while True:
                    yield await _collected(conn, delay)
        except psycopg.OperationalError as error:
            logger.warning("no connection to the database, next try in %g s: %s", pause, str(error).strip())
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


async def _collected(conn: psycopg.AsyncConnection, delay: float) -> set[str]:
    found: set[str] = set()
    while not found:
        async for notify in conn.notifies(timeout=_PROBE, stop_after=1):
            found.add(notify.payload)
        if not found:
            await conn.execute("SELECT")
    async for notify in conn.notifies(timeout=delay):
        found.add(notify.payload)
    return found


async def _start_for_each(command: list[str], args: dict[str, Any]) -> None:
    async for nodes in wishes(**args):
        process = await asyncio.create_subprocess_exec(*command, pattern(nodes))
        if await process.wait():
            logger.warning("%s for %s ended with %s", command[0], pattern(nodes), process.returncode)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Start a command for each set of nodes that wishes in the database touch, one after the other, "
        "with the pattern of hosts as its last argument: names with commas, or all when some may have been missed."
    )
    parser.add_argument("--dsn", default="", help="connection string or URL; default: DISKENGINE_DSN, then libpq's own")
    parser.add_argument("--channel", default=CHANNEL, help="channel to listen to; default: %(default)s")
    parser.add_argument("--delay", default=DELAY, type=float, help="seconds to collect wishes; default: %(default)s")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="such as ansible-playbook -i ... --limit")
    options = vars(parser.parse_args())
    logging.basicConfig(format="%(asctime)s %(message)s")
    if not options["command"]:
        parser.error("name a command")
    asyncio.run(_start_for_each(options.pop("command"), options))
