# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys of the target's keyring, and the files that hold them. Private to the collection.

The keyring knows names and paths. A DH-HMAC-CHAP secret is read from its file at each authentication, so replacing the
file is all that rotating it takes; a TLS PSK is read once, when a host is given it (docs/spdk-facts.md). What is in a
file is compared and never shown.
"""

from __future__ import annotations

import base64
import re
import zlib
from functools import partial
from typing import Optional

from .. import _naming, _options
from .._errors import Refusal
from .._files import File, look, place
from .._graph import Graph, Key
from .._plan import FILE, Action, Change
from .._rpc import Client
from ._named import Named

_MODE = 0o600
_OTHERS = 0o077
_SECRET = re.compile(r"(?:DHHC-1|NVMeTLSkey-1):0[0-3]:([A-Za-z0-9+/]+={0,2}):\Z")


class KeyResource(Named):
    """A key is a name for a file. One that somebody uses keeps its path and is not removed."""

    kind = "key"
    plural = "keys"
    rank = 1
    removal_rank = 9  # when the hosts of the same plan have let go of it
    options = {**_options.KEY, "key": {"type": "str", "no_log": True}}

    @staticmethod
    def keys(options: dict, graph: Graph) -> list:
        """Return the keys under which others rely on this object."""
        return [("key", options["name"])]

    @staticmethod
    def look(client: Client, wanted: list, graph: Graph) -> None:
        """Look at the files that are wanted."""
        graph.runs_as = client.peer_user
        paths = [_path(options, graph) for options in wanted if options["state"] == "present"]
        for path in filter(None, paths):
            try:
                graph.files[path] = look(path)
            except OSError as error:
                graph.files[path] = f"{path} cannot be read: {error.strerror}"

    @staticmethod
    def plan(options: dict, graph: Graph) -> Change:
        """Work out what to do. Raises Refusal."""
        name = _naming.key_name(options["name"])
        found = graph.keys.get(name)
        if options["state"] == "absent":
            return _remove(found, graph) if found else Change(None, None)
        return _Comparison(name, found, options, graph).change()


class _Comparison:
    """Compares a key and its file with what is wanted; the actions are on one key, one after the other."""

    def __init__(self, name: str, found: Optional[Key], options: dict, graph: Graph) -> None:
        self._name = name
        self._found = found
        self._graph = graph
        self._path = _path(options, graph) or ""
        self._secret = options.get("key")
        self._actions: list[Action] = []

    def change(self) -> Change:
        name, path, found = self._name, self._path, self._found
        if found is not None and found.path is None:
            raise Refusal("it is no key of a file; SPDK probed it elsewhere")
        if not path:
            raise Refusal("give the path of its file to add it")
        if not path.startswith("/"):
            raise Refusal(f"path {path} is not absolute")
        same = self._write()
        if found is not None and found.path != path:
            _require_unused(found, self._graph, f"its file is {found.path}, wanted {path}")
            self._act("keyring_file_remove_key", {"name": name}, f"forget the file {found.path}")
        if found is None or found.path != path:
            self._act("keyring_file_add_key", {"name": name, "path": path}, f"take the key from {path}")
        before = {"name": name, "path": found.path, **_content(same)} if found else None
        after = {"name": name, "path": path, **_content(None if same is None else True)}
        return Change(before, after, self._actions, predict=self._predict)

    def _write(self) -> Optional[bool]:
        """Plan to write the file, if need be; return whether its content is as wanted, None if none is wanted."""
        problem, content = self._look()
        if self._secret is None:
            if problem:
                raise Refusal(f"{problem}; SPDK would not take it")
            return None
        _require_secret(self._secret)
        shared = [key.name for key in self._graph.keys.values() if key.path == self._path and key.name != self._name]
        if shared:
            raise Refusal(f"the file {self._path} is that of the key {shared[0]}; give each key a file of its own")
        wanted = self._secret.strip().encode()
        same = content is not None and content.strip() == wanted
        if same and not problem:
            return True
        if not same:
            self._require_no_psk()
        write = partial(place, self._path, wanted, _MODE, (self._graph.runs_as, -1))
        summary = f"replace what is in {self._path}" if content is not None and not same else f"write {self._path}"
        self._act(FILE, {"path": self._path, "mode": "0600"}, summary, write)
        return same

    def _look(self) -> tuple:
        """Return what is wrong with the file, if anything, and what is in it."""
        file = self._graph.files.get(self._path, "")
        if isinstance(file, str):  # not looked at, or in vain
            return file, None
        if file is None:
            return f"there is no file {self._path}", None
        if file.mode & _OTHERS:
            return f"{self._path} can be used by others than its owner (mode {file.mode:04o})", file.content
        if file.owner != self._graph.runs_as:
            return f"{self._path} belongs to user {file.owner}, the target runs as {self._graph.runs_as}", file.content
        return "", file.content

    def _require_no_psk(self) -> None:
        for nqn, host, purpose in self._graph.key_users(self._name) if self._found else ():
            if purpose == "psk":
                raise Refusal(
                    f"what is in {self._path} differs, and as the TLS PSK of host {host} of {nqn} the target has read "
                    f"it already and keeps it: add the new one under another name and give that to the host"
                )

    def _act(self, method: str, params: dict, summary: str, perform: object = None) -> None:
        key = ("key", self._name)
        self._actions.append(Action(method, params, summary, holds=(key,), perform=perform))  # type: ignore[arg-type]

    def _predict(self, world: Graph) -> None:
        others = self._found.others if self._found else 0
        world.keys[self._name] = Key(self._name, self._path, others)
        if self._secret is not None:
            world.files[self._path] = File(self._secret.strip().encode(), _MODE, self._graph.runs_as)


def _path(options: dict, graph: Graph) -> Optional[str]:
    found = graph.keys.get(options["name"])
    return options["path"] or (found.path if found else None)


def _content(same: Optional[bool]) -> dict:
    """Say of the content no more than whether it is as wanted."""
    return {} if same is None else {"content": "as wanted" if same else "other than wanted"}


def _require_secret(text: str) -> None:
    """Refuse what no host could authenticate with; SPDK takes it and fails then. The text is not repeated."""
    match = _SECRET.match(text.strip())
    data = base64.b64decode(match.group(1) + "==") if match else b""
    if len(data) < 5 or zlib.crc32(data[:-4]).to_bytes(4, "little") != data[-4:]:
        raise Refusal(
            "key is neither a DH-HMAC-CHAP secret (DHHC-1:..:...:) nor a TLS PSK in interchange format "
            "(NVMeTLSkey-1:..:...:), or its check sum is wrong"
        )


def _require_unused(key: Key, graph: Graph, what: str) -> None:
    users = [f"the {purpose} of host {host} of {nqn}" for nqn, host, purpose in graph.key_users(key.name)]
    if users:
        more = f" and of {len(users) - 1} more" if len(users) > 1 else ""
        raise Refusal(f"{what}, but it is {users[0]}{more}; give them another key first")
    if key.others:
        raise Refusal(f"{what}, but {key.others} other(s) in the target use it, such as NVMe controllers it attached")


def _remove(found: Key, graph: Graph) -> Change:
    _require_unused(found, graph, "it is to be removed")
    action = Action(
        "keyring_file_remove_key",
        {"name": found.name},
        "remove the key; its file stays",
        holds=(("key", found.name),),
    )
    before = {"name": found.name, "path": found.path}
    return Change(before, None, [action], predict=lambda world: world.keys.pop(found.name))
