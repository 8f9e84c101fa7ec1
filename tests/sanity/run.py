# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs "ansible-test sanity" without docker, on a copy of the checkout and with a home of its own.

Arguments are passed on, for example: run.py --test validate-modules plugins/modules/spdk_lvol.py
"""

from __future__ import annotations

import ast
import configparser
import glob
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAGE = ROOT / ".build/sanity/ansible_collections/excloud/diskengine"
HOME = ROOT / ".build/home"


def stage() -> None:
    """Make STAGE equal to what git tracks or would track, but for the tests, which users do not get.

    ansible-test wants the real path and a git repository.
    """
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    wanted = {
        name
        for name in listing
        if name and (ROOT / name).is_file() and (name == "tests/config.yml" or not name.startswith("tests/"))
    }
    if not (STAGE / ".git").is_dir():
        shutil.rmtree(STAGE, ignore_errors=True)
        subprocess.run(["git", "init", "--quiet", str(STAGE)], check=True)
    for name in wanted:
        target = STAGE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    for path in sorted(STAGE.rglob("*"), reverse=True):
        inside = path.relative_to(STAGE)
        if inside.parts[0] == ".git" or str(inside) in wanted or inside.parts[:2] == ("tests", "output"):
            continue
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        else:
            path.unlink()


def make_home() -> None:
    """A private home with the stand-in for get-pip and the pip settings of this machine.

    ansible-test passes HOME on to pip, but neither PIP_* nor the settings in the user's own home.
    """
    cache = HOME / ".ansible/test/cache"
    cache.mkdir(parents=True, exist_ok=True)
    import ansible_test._internal.python_requirements as requirements

    version = re.search(r"pip='([0-9.]+)'", Path(requirements.__file__).read_text())
    if not version:
        sys.exit("This ansible-test does not say which get-pip it wants; see tests/sanity/run.py.")
    shutil.copy(ROOT / "tests/sanity/get_pip.py", cache / f"get_pip_{version[1].replace('.', '_')}.py")

    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    ).stdout
    settings = configparser.RawConfigParser()
    # pip takes certificates and the proxy from these as well
    for option, names in {"cert": ["REQUESTS_CA_BUNDLE"], "proxy": ["https_proxy", "HTTPS_PROXY"]}.items():
        for name in names:
            if os.environ.get(name):
                settings.read_dict({"global": {option: os.environ[name]}})
    for line in sorted(listing.splitlines(), key=lambda text: text.startswith(":env:")):
        key, _equals, value = line.partition("=")
        section, _dot, option = key.rpartition(".")
        settings.read_dict({"global" if section == ":env:" else section: {option: ast.literal_eval(value)}})
    # "no" is how to ask for --no-compile: most of what is installed is never imported
    settings.read_dict({"global": {"quiet": "2"}, "install": {"no-compile": "no"}})
    target = HOME / ".config/pip/pip.conf"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    with open(os.open(target, os.O_WRONLY | os.O_CREAT, 0o600), "w") as stream:  # an index address may hold a password
        settings.write(stream)


def search_path() -> str:
    """PATH with the directory of every Python that a managed node may have, but without pyenv's shims.

    ansible-test takes a shim for a Python of that version even when none stands behind it.
    """
    path = [str(ROOT / ".venv/bin")]
    path += [part for part in os.environ.get("PATH", os.defpath).split(os.pathsep) if not part.endswith("/shims")]
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    for version in ("3.9", "3.10", "3.11", "3.12", "3.13"):
        if not shutil.which(f"python{version}", path=os.pathsep.join(path)):
            path += glob.glob(f"{pyenv}/versions/{version}.*/bin")[:1]
    return os.pathsep.join(path)


def main() -> int:
    stage()
    make_home()
    env = dict(os.environ, HOME=str(HOME), PATH=search_path(), LC_ALL="C.UTF-8")
    for name in ("ANSIBLE_HOME", "ANSIBLE_COLLECTIONS_PATH", "XDG_CONFIG_HOME", "PYTHONPATH"):
        env.pop(name, None)
    command = ["ansible-test", "sanity", "--local", "--color", "no", *sys.argv[1:]]
    return subprocess.run(command, cwd=STAGE, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
