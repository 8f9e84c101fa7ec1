# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys as SPDK takes them, each from a seed."""

from __future__ import annotations

import base64
import hashlib
import zlib


def dhchap(seed):
    """A DH-HMAC-CHAP secret."""
    return f"DHHC-1:00:{_checked(seed)}:"


def psk(seed):
    """A TLS PSK in interchange format."""
    return f"NVMeTLSkey-1:01:{_checked(seed)}:"


def _checked(seed):
    key = hashlib.sha256(seed.encode()).digest()
    return base64.b64encode(key + zlib.crc32(key).to_bytes(4, "little")).decode()
