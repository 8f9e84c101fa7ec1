# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Arguments for the kernel of the next boot, set by the distribution's own tool. Private to the collection.

Each purpose has a name, under which its arguments are kept apart from all others.
"""

from __future__ import annotations

import shlex
from typing import NamedTuple, Optional

from .._errors import Refusal
from ._host import STATE, Host, Step, file_steps

_GRUB = "/etc/default/grub.d"


class Names(NamedTuple):
    """The files of a purpose."""

    purpose: str

    @property
    def drop_in(self) -> str:
        """The part of GRUB's settings."""
        return f"{_GRUB}/90-diskengine-{self.purpose}.cfg"

    @property
    def marker(self) -> str:
        """The arguments that the distribution's tool was given last, written after it had ended."""
        return f"{STATE}/{self.purpose}.kernel_args"


class Loader(NamedTuple):
    """How the kernel gets arguments on this host, and those that it was given for a purpose."""

    names: Names
    tool: str  # update-grub, grubby or nothing
    files: dict
    live: bool

    @property
    def given(self) -> str:
        """The arguments of our own that the next boot has."""
        return (self.files[self.names.marker] or "").strip()

    @property
    def is_ours(self) -> bool:
        """Whether anything of ours is there, be it half done."""
        return any(text is not None for text in self.files.values())


def observe(host: Host, purpose: str) -> Loader:
    """Read it."""
    names = Names(purpose)
    grubby, update_grub = host.program("grubby"), host.program("update-grub")
    if not host.live:
        update_grub = host.exists("/usr/sbin/update-grub")
    return Loader(
        names=names,
        tool="update-grub" if update_grub else "grubby" if grubby else "",
        files={path: host.content(path) for path in (names.drop_in, names.marker)},
        live=host.live,
    )


def steps_to(loader: Loader, arguments: str, author: str, otherwise: str) -> list:
    """Return the steps after which the next boot has just these arguments for the purpose. Pure.

    ``author`` is the module that writes. Raises Refusal, which ends with ``otherwise``, on a host without a tool.
    """
    drop_in: Optional[str] = None
    if arguments:
        if not loader.tool:
            raise Refusal(
                f"neither update-grub nor grubby is on this host, so there is no safe way to set kernel arguments; "
                f"{otherwise}"
            )
        if loader.tool == "update-grub":
            drop_in = (
                f'# Written by excloud.diskengine.{author}.\nGRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {arguments}"\n'
            )
    if arguments == loader.given and loader.files[loader.names.drop_in] == drop_in:
        return []
    steps = file_steps(loader.files, {loader.names.drop_in: drop_in})
    if loader.tool == "update-grub" and loader.live:
        steps.append(Step("command", "update-grub", "", "let GRUB take the arguments"))
    elif loader.tool == "grubby":
        if loader.given:
            steps.append(_grubby("--remove-args", loader.given))
        if arguments:
            steps.append(_grubby("--args", arguments))
    # Last, so that a run that was killed in between does it again.
    return steps + file_steps(loader.files, {loader.names.marker: f"{arguments}\n" if arguments else None})


def _grubby(option: str, arguments: str) -> Step:
    verb = "give each kernel" if option == "--args" else "take from each kernel"
    value = f"--update-kernel=ALL {shlex.quote(f'{option}={arguments}')}"
    return Step("command", "grubby", value, f"{verb} the arguments {arguments}")
