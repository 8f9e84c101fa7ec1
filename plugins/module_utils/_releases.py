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
    "nvmf_create_subsystem": {
        "passthrough": (24, 9),
        "enable_nssr": (25, 9),
        "dmrsl": (26, 5),
        "wzsl": (26, 5),
        "admin_label": (26, 9),
    },
    "nvmf_subsystem_add_listener": {"sock_impl": (24, 9)},
    "nvmf_set_config": {"dup_host_policy": (26, 5), "discovery_filters": (26, 9)},
    "bdev_nvme_set_options": {
        "rdma_umr_per_io": (25, 5),
        "tcp_connect_timeout_ms": (25, 5),
        "enable_flush": (25, 9),
        "multipath_opts": (26, 5),
    },
    "bdev_nvme_attach_controller": {
        "allow_unrecognized_csi": (24, 9),
        "multipath_opts": (26, 5),
        "disable_sq_flow_control": (26, 9),
    },
    "bdev_aio_create": {"uuid": (24, 9), "nowait": (26, 1)},
    "bdev_malloc_create": {"dif_pi_format": (24, 9), "numa_id": (26, 1)},
    "bdev_null_create": {"dif_pi_format": (24, 9)},
    "bdev_get_iostat": {"names": (26, 1)},
    "bdev_raid_delete": {"clear_sb": (26, 5)},
    "bdev_raid_set_options": {"process_max_bandwidth_mb_sec": (24, 9)},
    "iobuf_set_options": {"enable_numa": (25, 5)},
}

# No longer known from this release on.
UNTIL = {
    "nvmf_create_subsystem": {"max_discard_size_kib": (26, 9), "max_write_zeroes_size_kib": (26, 9)},
    "bdev_nvme_set_options": {"retry_count": (24, 9)},
}

# Accepted but without effect from this release on.
WITHOUT_EFFECT = {
    "nvmf_create_transport": {"io_unit_size": (26, 5), "num_shared_buffers": (26, 5), "buf_cache_size": (26, 5)},
}

_BATCHES = (26, 5)
_BDEVS_READ_SAFELY = (26, 5)
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

    def knows(self, method: str, parameter: str) -> bool:
        """Whether this release is new enough for ``parameter`` of ``method``."""
        return self.number >= SINCE.get(method, {}).get(parameter, OLDEST)

    def may_read_bdevs(self, trtype: str, state: str) -> bool:
        """Whether ``bdev_get_bdevs`` is safe with a path like that.

        Older releases follow a pointer that an RDMA controller has only while it is connected (SPDK issue 3843).
        """
        return self.number >= _BDEVS_READ_SAFELY or trtype.upper() != "RDMA" or state == "enabled"

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
            until = UNTIL.get(method, {}).get(parameter)
            if until and self.number >= until:
                raise Refusal(
                    "{0} of {1} is unknown from SPDK v{2:02}.{3:02} on; this target is {4}".format(
                        parameter, method, until[0], until[1], self
                    )
                )
            if not self.knows(method, parameter):
                since = SINCE[method][parameter]
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
