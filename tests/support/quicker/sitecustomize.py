# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps what Python compiles from zip archives. Ansible sends each module as one; compiling it is half of its time."""

from __future__ import annotations

import hashlib
import marshal
import os
import sys
import zipimport
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parents[3] / ".build" / "compiled" / sys.implementation.cache_tag
_compile = zipimport._compile_source


def _compile_once(pathname, source):
    name = pathname.rpartition(".zip/")[2]
    kept = DIRECTORY / hashlib.sha256(name.encode() + b"\0" + source).hexdigest()
    try:
        return marshal.loads(kept.read_bytes())
    except OSError:
        code = _compile(pathname, source)
    try:
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        new = kept.with_name(f"{kept.name}.{os.getpid()}")
        new.write_bytes(marshal.dumps(code))
        new.replace(kept)
    except OSError:  # as when a test's host may not write here
        pass
    return code


zipimport._compile_source = _compile_once
