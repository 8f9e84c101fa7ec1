# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for get-pip.py, which ansible-test would download from a host that few machines may reach.

ansible-test runs it in a new and empty virtual environment, with pip and its version among the arguments. There are
many of them: the wheel is fetched once, by the pip of the project's environment, and unpacked into each.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path


def main() -> None:
    home = Path.home()
    (pip,) = [argument for argument in sys.argv[1:] if argument.startswith("pip==")]
    wheels = home / ".cache" / pip
    if not any(wheels.glob("*.whl")):
        python = home.parents[1] / ".venv/bin/python"
        env = {name: value for name, value in os.environ.items() if name != "GET_PIP"}
        command = [str(python), "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), pip]
        subprocess.run(command, env=env, check=True)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(sysconfig.get_path("purelib"))


if __name__ == "__main__":
    main()
