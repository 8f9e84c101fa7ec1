# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock of a node, between processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

import ansible_collections.excloud.diskengine.plugins.module_utils._lock as lock_module
import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import Refusal, Unreachable
from ansible_collections.excloud.diskengine.plugins.module_utils._lock import node_lock

HOLD = """
import sys
from ansible_collections.excloud.diskengine.plugins.module_utils._lock import node_lock
with node_lock(sys.argv[1], 0):
    print("held", flush=True)
    sys.stdin.read()
"""
TREE = Path(lock_module.__file__).parents[5]


@pytest.fixture(name="path")
def _path() -> Iterator[str]:
    """The path of a socket."""
    with tempfile.TemporaryDirectory(prefix="lock", dir="/tmp") as directory:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"{directory}/s")
            yield f"{directory}/s"


@contextmanager
def holder(path: str) -> Iterator[subprocess.Popen]:
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path],
        env={**os.environ, "PYTHONPATH": str(TREE)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_second_run_says_who_holds_the_node(path):
    with holder(path) as other:
        with pytest.raises(Unreachable) as caught:
            with node_lock(path, 0):
                pytest.fail("two runs at once")
        assert f"another run (process {other.pid}) holds {path}.client.lock" in str(caught.value)
        assert "within 0 s" in str(caught.value)


def test_it_is_free_when_its_holder_is_killed(path):
    with holder(path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        with node_lock(path, 0):
            assert Path(f"{path}.client.lock").read_text() == f"process {os.getpid()}\n"


def test_it_is_free_when_its_holder_ends(path):
    with holder(path) as other:
        other.communicate("")
        with node_lock(path, 0):
            pass


def test_the_second_run_waits(path):
    with holder(path) as other:
        pauses = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            other.communicate("")  # the holder ends while we wait

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lock_module.time, "sleep", pause)
            with node_lock(path, 60):
                assert len(pauses) == 1


def test_it_is_let_go_after_an_error(path):
    with pytest.raises(ZeroDivisionError):
        with node_lock(path, 0):
            raise ZeroDivisionError
    with node_lock(path, 0):
        pass


def test_the_name_of_a_longer_holder_is_gone(path):
    Path(f"{path}.client.lock").write_text("process 123456789 with a long story\n")
    with node_lock(path, 0):
        assert Path(f"{path}.client.lock").read_text() == f"process {os.getpid()}\n"


def test_the_targets_own_lock_is_left_alone(path):
    with node_lock(path, 0):
        assert sorted(os.listdir(os.path.dirname(path))) == ["s", "s.client.lock"]


def test_only_its_user_can_read_it(path):
    with node_lock(path, 0):
        assert os.stat(f"{path}.client.lock").st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["missing", "file", "directory"])
def test_no_lock_file_without_a_socket(tmp_path, kind):
    path = tmp_path / "s"
    if kind == "file":
        path.write_text("")
    elif kind == "directory":
        path.mkdir()
    before = sorted(os.listdir(tmp_path))
    with node_lock(str(path), 0):
        assert sorted(os.listdir(tmp_path)) == before


def test_a_lock_file_that_cannot_be_opened(path):
    os.mkdir(f"{path}.client.lock")
    with pytest.raises(Unreachable, match="cannot open the lock file .*: Is a directory"):
        with node_lock(path, 0):
            pass


def test_a_link_is_not_followed(path, tmp_path):
    """In a directory that everybody can write to the link could point at anything."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.symlink(victim, f"{path}.client.lock")
    with pytest.raises(Unreachable, match="cannot open the lock file"):
        with node_lock(path, 0):
            pass
    assert victim.read_text() == "precious"


def came(path: str, lease: Optional[int]) -> bool:
    """Whether a call with this lease is let through."""
    try:
        with node_lock(path, 0, lease):
            return True
    except Refusal as refusal:
        assert f"came with lease {lease}" in str(refusal)
        return False


def test_a_run_that_was_overtaken_is_refused(path):
    """The highest lease that ever came counts; what comes without one belongs to no run."""
    assert [came(path, lease) for lease in (None, 7, 7, None, 9, 7, None, 8, 9, 10, 9)] == [
        *(True, True, True, True, True, False, True, False, True, True, False)
    ]
    assert Path(f"{path}.client.lock").read_text() == f"process {os.getpid()}\nlease 10\n"


def test_who_holds_it_is_said_without_the_lease(path):
    assert came(path, 7)
    with holder(path):
        with pytest.raises(Unreachable, match=r"another run \(process \d+\) holds"):
            with node_lock(path, 0, 8):
                pytest.fail("two runs at once")
    assert came(path, 7)
