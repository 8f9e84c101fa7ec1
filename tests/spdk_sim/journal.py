# SPDX-License-Identifier: GPL-3.0-or-later
"""The state file: an append-only journal of what is on the disks, compacted when it is opened or has grown.

One JSON array per line: [scope, medium, part or null, record or null]. A line cut off by a crash is ignored. A write
reaches the operating system before the answer to the call that caused it is sent, so that SIGKILL loses nothing.
"""

from __future__ import annotations

import json
import os
from typing import Any

from .disks import Disks, Foreign, Written
from .lvol import Lvstore
from .raid import Superblock

COMPACT_AFTER = 50_000
KINDS = {kind.kind: kind for kind in (Lvstore, Superblock, Foreign, Written)}


class Journal:
    """The state file of one process; ``scopes`` are its sets of disks by name."""

    def __init__(self, path: str, scopes: dict[str, Disks]) -> None:
        self.path = path
        self.scopes = scopes
        self.lines = 0
        self._restore()
        self._compact()

    def _restore(self) -> None:
        records: dict[tuple[str, str], dict[str | None, Any]] = {}
        try:
            text = open(self.path, "rb")
        except FileNotFoundError:
            return
        with text:
            for line in text:
                if not line.endswith(b"\n"):
                    break
                scope, key, part, record = json.loads(line)
                parts = records.setdefault((scope, key), {})
                if record is not None:
                    parts[part] = record
                elif part is None:
                    parts.clear()
                else:
                    parts.pop(part, None)
        for (scope, key), parts in records.items():
            header = parts.pop(None, None)
            if header is not None and scope in self.scopes:
                content = KINDS[header["kind"]].from_records(header, list(parts.values()))
                self.scopes[scope].contents[key] = content

    def _compact(self) -> None:
        temporary = f"{self.path}.new"
        with open(temporary, "w", encoding="utf-8") as out:
            for scope, disks in self.scopes.items():
                disks.changed.clear()
                for key, content in list(disks.contents.items()):
                    disks.write(key, content)
                self._append(out, scope, disks)
        os.replace(temporary, self.path)
        self.lines = 0
        self.out = open(self.path, "a", encoding="utf-8")

    def _append(self, out: Any, scope: str, disks: Disks) -> None:
        for key, part, record in disks.drain():
            out.write(json.dumps([scope, key, part, record], separators=(",", ":")) + "\n")
            self.lines += 1

    def save(self) -> None:
        """Append what changed since the last time; one write for all of it."""
        if not any(disks.changed for disks in self.scopes.values()):
            return
        for scope, disks in self.scopes.items():
            self._append(self.out, scope, disks)
        self.out.flush()
        if self.lines > COMPACT_AFTER:
            self.out.close()
            self._compact()
