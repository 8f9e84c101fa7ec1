# SPDX-License-Identifier: GPL-3.0-or-later
"""The tarball holds what a user needs, installs offline, and works from there."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from ansible_collections.excloud.diskengine.tests.unit.conventions.collection import (
    BIN,
    MODULES,
    NAME,
    PLAYBOOKS,
    ROLES,
    ROOT,
    tracked,
)


def run(*command: str, cwd: Path, collections: Path) -> str:
    """Run a tool of Ansible that sees no other collections. PYTHONPATH would let it see the checkout."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env["ANSIBLE_COLLECTIONS_PATH"] = str(collections)
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=cwd, env=env, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("dist")
    run("ansible-galaxy", "collection", "build", "--output-path", str(target), cwd=ROOT, collections=target)
    return next(target.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def installed(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    command = ["ansible-galaxy", "collection", "install", str(tarball), "--offline", "-p", str(target)]
    run(*command, cwd=target, collections=target)
    return target


def test_contents(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        names = {member.name for member in archive if member.isfile()}
    assert not [name for name in names if name.startswith(("tests/", ".", "extensions/molecule/"))]
    stray = names - {str(path.relative_to(ROOT)) for path in tracked()} - {"MANIFEST.json", "FILES.json"}
    assert not stray, f"not tracked, but in the tarball: {sorted(stray)}"
    assert tarball.stat().st_size < 2 * 1024 * 1024


def test_works_from_the_installed_tarball(installed: Path) -> None:
    listing = run("ansible-doc", "--list", NAME, cwd=installed, collections=installed)
    missing = [path.stem for path in MODULES if f"{NAME}.{path.stem} " not in listing]
    assert not missing
    roles = run("ansible-doc", "--type", "role", "--list", NAME, cwd=installed, collections=installed)
    assert not [role.name for role in ROLES if f"{NAME}.{role.name}" not in roles]
    playbooks = [f"{NAME}.{path.stem}" for path in PLAYBOOKS]
    run("ansible-playbook", "-i", "localhost,", "--syntax-check", *playbooks, cwd=installed, collections=installed)
