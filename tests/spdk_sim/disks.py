# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written on the disks and therefore survives the process: lvol stores and RAID superblocks.

A medium is addressed by a key: ``malloc:NAME``, ``aio:FILE``, ``lvol:UUID``, ``raid:UUID``. Its content is an object
with ``header()``, ``parts()`` and ``part(id)``, so that a journal can store one changed lvol without the others.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Disks:
    """All media of one target and the keys whose content changed since the last ``drain``."""

    def __init__(self) -> None:
        self.contents: dict[str, Any] = {}
        self.changed: dict[tuple[str, str | None], None] = {}

    def write(self, key: str, content: Any) -> None:
        """Put ``content`` on a medium, over whatever was there."""
        self.contents[key] = content
        self.mark(key)
        for part in content.parts():
            self.mark(key, part)

    def erase(self, key: str) -> None:
        """Wipe a medium."""
        if self.contents.pop(key, None) is not None:
            self.mark(key)

    def mark(self, key: str, part: str | None = None) -> None:
        """Remember that the content (or one part of it) differs from what was drained last."""
        self.changed[key, part] = None

    def drain(self) -> list[tuple[str, str | None, Any]]:
        """The changed records as (key, part, record); record None means removed. Empties the list."""
        out = []
        for key, part in self.changed:
            content = self.contents.get(key)
            if part is None:
                out.append((key, None, content.header() if content else None))
            elif content is not None:
                out.append((key, part, content.part(part)))
        self.changed.clear()
        return out


class Medium(NamedTuple):
    """One disk's surface; several bdevs may look at the same one (an export and the controller attached to it)."""

    disks: Disks
    key: str

    def read(self) -> Any:
        """The content, or None on an empty medium."""
        return self.disks.contents.get(self.key)

    def write(self, content: Any) -> None:
        """Replace the content."""
        self.disks.write(self.key, content)

    def erase(self) -> None:
        """Wipe it."""
        self.disks.erase(self.key)

    def mark(self, part: str | None = None) -> None:
        """Note a change of the content for the journal."""
        self.disks.mark(self.key, part)


class Foreign:
    """Bytes at the start of a disk that are none of SPDK's."""

    kind = "foreign"

    def __init__(self, data: bytes) -> None:
        self.data = data

    def header(self) -> dict[str, Any]:
        """The record of the whole."""
        return {"kind": self.kind, "data": self.data.hex()}

    def parts(self) -> list[str]:
        """There are none."""
        return []

    @classmethod
    def from_records(cls, header: dict[str, Any], parts: list[dict[str, Any]]) -> Foreign:
        """The reverse of header()."""
        return cls(bytes.fromhex(header["data"]))


class Written:
    """The units of 4 KiB of one medium that were written, by number."""

    kind = "written"

    def __init__(self, units: dict[str, bytes]) -> None:
        self.units = units

    def header(self) -> dict[str, Any]:
        """The record of the whole."""
        return {"kind": self.kind}

    def parts(self) -> list[str]:
        """The numbers of the units."""
        return list(self.units)

    def part(self, number: str) -> dict[str, Any]:
        """The record of one."""
        return {"number": number, "data": self.units[number].hex()}

    @classmethod
    def from_records(cls, header: dict[str, Any], parts: list[dict[str, Any]]) -> Written:
        """The reverse of the records."""
        del header
        return cls({part["number"]: bytes.fromhex(part["data"]) for part in parts})


def written(medium: Medium) -> Medium:
    """Where it is kept what hosts have written to a medium."""
    return Medium(medium.disks, f"written:{medium.key}")


def freeze(origin: Medium, frozen: Medium) -> None:
    """Give a snapshot what its lvol holds."""
    for old, new in ((origin, frozen), (written(origin), written(frozen))):
        content = old.read()
        if content is not None:
            parts = [content.part(part) for part in content.parts()]
            new.write(type(content).from_records(content.header(), parts))
