# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of a saved configuration: whole at every moment, written only when it says something else."""

from __future__ import annotations

import json
import os
import stat

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._config import Entry
from ansible_collections.excloud.diskengine.plugins.module_utils._config_file import load, save
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import DiskengineError, Refusal


def document(*names):
    config = [{"method": "keyring_file_add_key", "params": {"name": name, "path": f"/{name}"}} for name in names]
    return {"subsystems": [{"subsystem": "keyring", "config": config}, {"subsystem": "scsi", "config": None}]}


@pytest.fixture(name="path")
def _path(tmp_path):
    return tmp_path / "made" / "spdk.json"


def names_in(path):
    return [call["params"]["name"] for call in json.loads(path.read_text())["subsystems"][0]["config"]]


def test_first_save(path):
    predicted = save(str(path), document("a"), True)
    assert not path.parent.exists()
    assert save(str(path), document("a"), False) == predicted == (True, predicted.diff, None)
    assert predicted.diff == {"before": {}, "after": {"keyring_file_add_key a": {"name": "a", "path": "/a"}}}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load(str(path)) == [Entry("keyring", "keyring_file_add_key", {"name": "a", "path": "/a"})]
    assert os.listdir(path.parent) == ["spdk.json"]


def test_the_previous_one_is_kept(path):
    save(str(path), document("a"), False)
    kept = f"{path}.previous"
    assert save(str(path), document("a", "b"), True)[::2] == (True, kept)
    assert names_in(path) == ["a"] and not os.path.exists(kept)
    done = save(str(path), document("a", "b"), False)
    assert done[::2] == (True, kept)
    assert done.diff == {"before": {}, "after": {"keyring_file_add_key b": {"name": "b", "path": "/b"}}}
    assert (names_in(path), names_in(path.with_name("spdk.json.previous"))) == (["a", "b"], ["a"])
    assert stat.S_IMODE(os.stat(kept).st_mode) == 0o600


def test_what_says_the_same_is_not_written(path):
    save(str(path), document("a", "b"), False)
    path.write_text(json.dumps(document("a", "b")))
    before = path.stat()
    assert save(str(path), document("b", "a"), False) == (False, {"before": {}, "after": {}}, None)
    assert path.stat() == before


def test_a_target_that_was_started_again_is_not_saved_over_what_it_had(path):
    settings = {"subsystem": "sock", "config": [{"method": "sock_impl_set_options", "params": {"impl_name": "posix"}}]}
    full, hollow = ({"subsystems": [*document(*names)["subsystems"], settings]} for names in (["a", "b"], []))
    save(str(path), hollow, False)
    save(str(path), full, False)
    for dry_run in (True, False):
        with pytest.raises(Refusal, match="^nothing was saved: the target has none of the 2 objects that .* names"):
            save(str(path), hollow, dry_run)
    assert names_in(path) == ["a", "b"]
    assert save(str(path), document("b"), False).changed


def test_a_mode_that_lets_others_read_is_changed(path):
    save(str(path), document("a"), False)
    path.chmod(0o644)
    assert save(str(path), document("a"), False)[::2] == (True, None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_owner_stays(path):
    if os.getuid():
        pytest.skip("only root can give files away")
    save(str(path), document("a"), False)
    os.chown(path, 1234, 4321)
    save(str(path), document("a", "b"), False)
    for name in (path, f"{path}.previous"):
        assert (os.stat(name).st_uid, os.stat(name).st_gid) == (1234, 4321)


def test_a_link_stays_a_link(path, tmp_path):
    save(str(path), document("a"), False)
    link = tmp_path / "link"
    link.symlink_to(path)
    assert save(str(link), document("a", "b"), False).previous == f"{path}.previous"
    assert link.is_symlink() and names_in(path) == ["a", "b"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"subsystems": [{"subsystem": "nvmf", "config": [{'])
def test_what_is_no_configuration_is_kept_and_not_restored(path, text):
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(Refusal, match=f"^{path} is not a saved configuration"):
        load(str(path))
    assert save(str(path), document("a"), False).previous == f"{path}.previous"
    assert path.with_name("spdk.json.previous").read_text() == text


def test_no_file(path):
    with pytest.raises(Refusal, match=f"^there is no file {path}; save a configuration first$"):
        load(str(path))
    path.mkdir(parents=True)
    with pytest.raises(Refusal, match=f"^cannot read {path}: Is a directory$"):
        load(str(path))


@pytest.mark.parametrize("step", ["fsync", "rename", "fchmod"])
@pytest.mark.parametrize("turn", [1, 2])
def test_it_is_whole_whatever_fails(path, monkeypatch, step, turn):
    """The first turn is the copy of the old file, the second the new one; each step before its rename leaves all."""
    save(str(path), document("a"), False)
    save(str(path), document("a", "b"), False)
    real, calls = getattr(os, step), []
    turns = {"fsync": [1, 3]}.get(step, [1, 2])  # a file and its directory are both synchronised

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) == turns[turn - 1]:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(DiskengineError, match=f"^cannot save to {path}: No space left on device$"):
        save(str(path), document("a", "c"), False)
    monkeypatch.undo()
    assert names_in(path) == ["a", "b"]
    assert names_in(path.with_name("spdk.json.previous")) == (["a"] if turn == 1 else ["a", "b"])
    assert sorted(os.listdir(path.parent)) == ["spdk.json", "spdk.json.previous"]
