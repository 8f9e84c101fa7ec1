# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for get-pip.py, which ansible-test would download from a host that few machines may reach.

ansible-test runs it in a new and empty virtual environment, with the packages to install as arguments.
"""

from __future__ import annotations

import glob
import os
import subprocess
import sys


def main() -> int:
    env = {name: value for name, value in os.environ.items() if name != "GET_PIP"}
    try:  # in a process of its own, because ensurepip makes pip forget the machine's settings
        subprocess.run([sys.executable, "-m", "ensurepip", "--default-pip"], stdout=subprocess.DEVNULL, check=True)
    except subprocess.CalledProcessError:  # Debian without python3-venv: lend the pip of the project's environment
        env["PYTHONPATH"] = os.pathsep.join(glob.glob(os.path.expanduser("~/../../.venv/lib/python*/site-packages")))
    packages = [arg for arg in sys.argv[1:] if arg not in ("--no-setuptools", "--no-wheel")]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--ignore-installed"]
    return subprocess.run(command + packages, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
