# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps what Python compiles from zip archives. Ansible sends each module as one; compiling it is half of its time."""

from __future__ import annotations

import _imp  # and nothing that takes long to import
import marshal
import os
import sys
import zipimport

DIRECTORY = f"{__file__.rpartition('/tests/')[0]}/.build/compiled/{sys.implementation.cache_tag}"
_compile = zipimport._compile_source


def _compile_once(pathname, source):
    name = pathname.rpartition(".zip/")[2]
    key = _imp.source_hash(0, name.encode() + b"\0" + source)
    kept = f"{DIRECTORY}/{key.hex()}"
    try:
        with open(kept, "rb") as file:
            return marshal.load(file)
    except OSError:
        return _keep(kept, _compile(pathname, source))


def _keep(path, code):
    try:
        os.makedirs(DIRECTORY, exist_ok=True)
        new = f"{path}.{os.getpid()}"
        with open(new, "wb") as file:
            marshal.dump(code, file)
        os.replace(new, path)
    except OSError:  # as when a test's host may not write here
        pass
    return code


zipimport._compile_source = _compile_once
