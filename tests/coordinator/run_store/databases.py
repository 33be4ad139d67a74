"""A database of each kind: a SQLite file, and a PostgreSQL server of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from privacy.transport.service import free_port
from simulations.machine_tools import missing_packages, postgres_program

USER = "postgres"


def need_postgres() -> None:
    """Skip the test, or fail it where CI=true, when this machine has no PostgreSQL."""
    if missing := missing_packages("postgresql"):
        reason = f"a PostgreSQL server is needed; run: apt-get install {' '.join(missing)}"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A server with an empty cluster on a loopback port; the URL of its database. PostgreSQL never runs as root."""
    folder.mkdir(parents=True)
    as_user: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, USER)
        as_user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups"]
        for parent in folder.parents:  # pytest's folders are their user's alone
            if parent == Path("/tmp") or parent == parent.parent:
                break
            parent.chmod(parent.stat().st_mode | 0o011)
    port, data = free_port(), folder / "data"
    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}

    def run(program: str, *words: str) -> None:
        subprocess.run([*as_user, postgres_program(program), *words], check=True, env=environment, cwd=folder,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, timeout=120)

    run("initdb", "-D", str(data), "-U", "console", "--auth=trust", "--encoding=UTF8", "--no-sync")
    run("pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o",
        f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off", "start")
    try:
        yield f"postgresql+psycopg://console@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
