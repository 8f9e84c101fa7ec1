# SPDX-License-Identifier: GPL-3.0-or-later
"""Converging from an installed tarball does what converging from the checkout does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.ansible import ROOT


def _galaxy(*arguments):
    command = Path(sys.executable).with_name("ansible-galaxy")
    subprocess.run([command, "collection", *arguments], check=True, cwd=ROOT, capture_output=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A collections path that holds nothing but what the tarball installs."""
    directory = tmp_path_factory.mktemp("galaxy")
    _galaxy("build", "--output-path", directory)
    (tarball,) = directory.glob("*.tar.gz")
    _galaxy("install", tarball, "--offline", "--force", "-p", directory / "collections")
    return directory / "collections"


def test_converge_from_the_tarball(make_site, installed):
    site = make_site(lvols=2)
    path = {"ANSIBLE_COLLECTIONS_PATH": str(installed)}
    first = site.converge(env=path)
    assert first.rc == 0, first.output
    site.check_served()
    site.clear()
    again = site.converge(env=path)
    assert again.rc == 0, again.output
    assert set(again.changed.values()) == {0}
    assert site.mutations() == []
