"""The run store's database: SQLite beside the coordinator's other files, or PostgreSQL by its URL; one set of
migrations for both.

SQLite runs with a write-ahead log, so that pages are read while events are written. A SQLite file that is damaged, or
that a newer release has changed, is put aside and made again: everything in it follows from the coordinator's files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, insert, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError, SQLAlchemyError

from coordinator.run_store.schema import owner

__all__ = ["Database", "file_url", "open_database", "shown"]

_MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_MS = 10_000
_MIGRATING = 0x6D656467  # PostgreSQL's advisory lock while the tables are made: two consoles may start at once


class Database:
    """An open store whose tables have this release's form."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One moment of the store."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is kept whole or not at all; SQLite has one writer at a time."""
        with self.engine.connect().execution_options(run_store_writes=True) as connection, connection.begin():
            yield connection

    def close(self) -> None:
        """No further connection is used."""
        self.engine.dispose()


def file_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return URL.create("sqlite", database=str(path)).render_as_string()


def open_database(url: str, federation_id: str) -> Database:
    """The store at `url` for that federation, made or migrated where it has to be.

    Raises:
        ValueError: no such database, no driver, another federation's store, or a newer release's; one sentence that
            shows no password.
    """
    try:
        address = make_url(url)
    except ArgumentError:
        raise ValueError("coordinator.run_store is no database URL; give postgresql+psycopg://USER@HOST/DATABASE") \
            from None
    try:
        return _open(address, federation_id)
    except (DatabaseError, CommandError) as error:
        if isinstance(error, OperationalError) or not _is_file(address):
            raise ValueError(_refusal(address, error)) from None
    _put_aside(Path(str(address.database)))
    try:
        return _open(address, federation_id)
    except (SQLAlchemyError, CommandError) as error:
        raise ValueError(_refusal(address, error)) from None


def _open(address: URL, federation_id: str) -> Database:
    if _is_file(address):
        _make_private(Path(str(address.database)))
    try:
        engine = create_engine(address, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise ValueError(f"the run store at {shown(address)} needs the package {error.name}; install the extra "
                         "`postgres`") from None
    if address.get_backend_name() == "sqlite":
        _prepare_sqlite(engine)
    database = Database(engine)
    try:
        _migrate(database)
        _require_own(database, federation_id)
    except BaseException:
        database.close()
        raise
    return database


def shown(address: URL) -> str:
    """The URL without its password and query."""
    return address.set(query={}).render_as_string(hide_password=True)


def _refusal(address: URL, error: Exception) -> str:
    if isinstance(error, CommandError):
        return f"the run store at {shown(address)} was changed by a newer release; install that release again"
    return (f"the run store at {shown(address)} cannot be used ({type(error).__name__}); see that the database runs "
            "and that this user may write to it")


def _is_file(address: URL) -> bool:
    return address.get_backend_name() == "sqlite" and bool(address.database) and address.database != ":memory:"


def _make_private(path: Path) -> None:
    """The file is its user's alone from its first byte; SQLite's side files take its mode."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))


def _put_aside(path: Path) -> None:
    mark = time.strftime("%Y%m%dT%H%M%S")
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(path.with_name(f"{path.name}{suffix}.put-aside-{mark}"))


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for setting in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={_BUSY_MS}"):
            connection.execute(f"PRAGMA {setting}")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("run_store_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(database: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with database.writing() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _require_own(database: Database, federation_id: str) -> None:
    with database.writing() as connection:
        found = connection.scalars(select(owner.c.federation_id)).all()
        if not found:
            connection.execute(insert(owner).values(federation_id=federation_id))
        elif found != [federation_id]:
            raise ValueError(f"the run store is of the federation {found[0]}, not of {federation_id}; give each "
                             "coordinator's folder a database of its own")
