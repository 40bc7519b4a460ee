"""A PostgreSQL cluster of the tests' own: made in a temporary folder, reached by a UNIX socket alone, ended by its pid."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import psycopg

_PROGRAMS = "/usr/lib/postgresql"
_USER = "postgres"


class PostgresqlIsMissing(Exception):
    """This machine has no PostgreSQL server's programs."""


class Cluster:
    """A running server. `url` is of the database that is always there."""

    def __init__(self, folder: Path, server: subprocess.Popen[bytes], user: str) -> None:
        self._server = server
        self.url = f"postgresql:///postgres?host={quote(str(folder), safe='')}&user={user}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """An empty place for tables, gone afterwards; gives its URL. A schema: a database would take a second to make."""
        name = f"store_{uuid4().hex}"
        self.execute(f'CREATE SCHEMA "{name}"')
        try:
            yield f"{self.url}&options={quote(f'-c search_path={name}')}"
        finally:
            self.execute(f'DROP SCHEMA "{name}" CASCADE')

    def execute(self, statement: str) -> None:
        """One statement, as superuser, in the database that is always there."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)

    def disconnect_everyone(self) -> None:
        """What a restart of the server does to its clients."""
        self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    def stop(self) -> None:
        """End the server at once."""
        self._server.send_signal(signal.SIGINT)
        self._server.wait(30)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Make a cluster, start its server, and end both. Raises PostgresqlIsMissing.

    The server refuses to run as root, so root runs it as Debian's user `postgres`. It is not told to be durable: the
    tests do not pull its plug.
    """
    programs = _programs()
    # A socket's path has at most 107 characters, so pytest's own folders are too deep.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    account = pwd.getpwnam(_USER) if os.geteuid() == 0 else None
    user = pwd.getpwuid(os.geteuid()).pw_name if account is None else _USER
    identity = {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    if account is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)
    data = folder / "data"
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    try:
        subprocess.run(
            [
                programs / "initdb",
                "-D",
                data,
                "-U",
                user,
                "--auth=trust",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
            ],
            check=True,
            capture_output=True,
            env=environment,
            cwd=folder,
            **identity,
        )
        settings = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off", "max_connections": "100"}
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=folder,
                **identity,
            )
        try:
            running = Cluster(folder, server, user)
            _wait(running, server, folder / "log")
            yield running
        finally:
            with suppress(ProcessLookupError):
                server.send_signal(signal.SIGINT)
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(running: Cluster, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            running.execute("SELECT 1")
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(log.read_text("utf-8")) from None
            time.sleep(0.05)
        else:
            return


def _programs() -> Path:
    found = sorted(Path(_PROGRAMS).glob("*/bin/initdb"), key=lambda program: int(program.parts[-3]))
    if found:
        return found[-1].parent
    if (elsewhere := shutil.which("initdb")) is not None:
        return Path(elsewhere).parent
    raise PostgresqlIsMissing(f"no initdb in {_PROGRAMS} or on PATH: install Debian's package postgresql")
