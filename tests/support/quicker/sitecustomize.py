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


def kept(key, make):
    """What make() returned for a key, in whatever process that was: code, text, or what else marshal knows."""
    path = f"{DIRECTORY}/{_imp.source_hash(0, key).hex()}"
    try:
        with open(path, "rb") as file:
            return marshal.load(file)
    except OSError:
        pass
    made = make()
    try:
        os.makedirs(DIRECTORY, exist_ok=True)
        new = f"{path}.{os.getpid()}"
        with open(new, "wb") as file:
            marshal.dump(made, file)
        os.replace(new, path)
    except OSError:  # as when a test's host may not write here
        pass
    return made


def _compile_once(pathname, source):
    name = pathname.rpartition(".zip/")[2]
    return kept(name.encode() + b"\0" + source, lambda: _compile(pathname, source))


zipimport._compile_source = _compile_once
