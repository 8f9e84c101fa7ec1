# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which SPDK release knows what. Private to the collection.

A call is sent only with parameters that the connected release knows (design rule 16). The tables hold what changed
after the oldest supported release; the source is the contract, section 14.
"""

from __future__ import annotations

from typing import NamedTuple

from ._errors import Refusal, Unreachable

OLDEST = (24, 5)

SINCE = {
    "bdev_lvol_create_lvstore": {"md_page_size": (25, 5)},
    "nvmf_create_transport": {
        "disable_command_passthru": (24, 9),
        "kas": (25, 5),
        "min_kato": (25, 5),
        "iobuf_small_cache_size": (26, 5),
        "iobuf_large_cache_size": (26, 5),
    },
}

# Accepted but without effect from this release on.
WITHOUT_EFFECT = {
    "nvmf_create_transport": {"io_unit_size": (26, 5), "num_shared_buffers": (26, 5), "buf_cache_size": (26, 5)},
}

_BATCHES = (26, 5)
_RUNTIME_ONLY = "bdev_get_bdevs"


class Release(NamedTuple):
    """The connected target: release number and the methods that can be called now."""

    number: tuple[int, int]
    methods: frozenset[str]

    def __str__(self) -> str:
        return "v{0:02}.{1:02}".format(*self.number)

    @property
    def has_batches(self) -> bool:
        """Whether the server takes JSON arrays of requests."""
        return self.number >= _BATCHES

    @property
    def request_limit(self) -> int:
        """The largest request in bytes (the server's receive buffer)."""
        return (256 if self.number >= _BATCHES else 32) * 1024

    def has_effect(self, method: str, parameter: str) -> bool:
        """Whether this release still acts on ``parameter`` of ``method``."""
        return self.number < WITHOUT_EFFECT.get(method, {}).get(parameter, (99, 0))

    def require_started(self, path: str) -> None:
        """Raise Unreachable while the target behind the socket ``path`` waits for ``framework_start_init``."""
        if _RUNTIME_ONLY not in self.methods:
            raise Unreachable(
                f"the target behind {path} is not initialised yet: it was started with --wait-for-rpc and waits for "
                f"framework_start_init"
            )

    def require(self, method: str, parameters: dict) -> None:
        """Raise Refusal unless this release knows ``method`` and each of ``parameters``."""
        if method not in self.methods:
            raise Refusal(f"SPDK {self} of this build has no method {method}, or it cannot be called now")
        for parameter in parameters:
            since = SINCE.get(method, {}).get(parameter, OLDEST)
            if self.number < since:
                raise Refusal(
                    "{0} of {1} needs SPDK v{2:02}.{3:02} or newer; this target is {4}".format(
                        parameter, method, since[0], since[1], self
                    )
                )


def identify(version: dict, methods: list[str]) -> Release:
    """Build a Release from the answers of ``spdk_get_version`` and ``rpc_get_methods {current: true}``.

    Raises Unreachable for a release older than v24.05.
    """
    fields = version.get("fields", {})
    release = Release((int(fields.get("major", 0)), int(fields.get("minor", 0))), frozenset(methods))
    if release.number < OLDEST:
        raise Unreachable(f"the target runs SPDK {release}; releases from v24.05 on are supported")
    return release
