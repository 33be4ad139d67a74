"""The store's database: its form, its mode, what happens to a damaged, foreign or newer one."""

from __future__ import annotations

import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from coordinator.run_store import database as module
from coordinator.run_store.database import file_url, open_database
from coordinator.run_store.importer import Importer
from coordinator.run_store.schema import METADATA
from tests.coordinator.run_store.databases import need_postgres, postgres
from tests.coordinator.run_store.journals import begin, make_run_folder, round_event


def differences(url: str) -> list[object]:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), METADATA)
    engine.dispose()
    return found


def test_the_migrations_make_the_tables_of_the_schema(tmp_path: Path) -> None:
    url = file_url(tmp_path / "runs.sqlite")
    open_database(url, "north").close()
    assert differences(url) == []


@pytest.mark.slow
def test_the_migrations_make_the_same_tables_on_postgresql(tmp_path: Path) -> None:
    need_postgres()
    with postgres(tmp_path / "cluster") as url:
        open_database(url, "north").close()
        assert differences(url) == []
        with pytest.raises(ValueError, match="federation north, not of south"):
            open_database(url, "south")
        several_at_once(url)
        with pytest.raises(ValueError, match="cannot be used") as refused:
            open_database(url.replace("console@", "nobody:hunter2@"), "north")
        assert "hunter2" not in str(refused.value) and "nobody" in str(refused.value)
    with pytest.raises(ValueError, match="cannot be used"):
        open_database(url, "north")


def several_at_once(url: str) -> None:
    """Consoles that start in one moment make the tables once."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    engine.dispose()
    faults: list[Exception] = []

    def start() -> None:
        try:
            open_database(url, "north").close()
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not faults and differences(url) == []


def test_the_way_back_leaves_nothing(tmp_path: Path) -> None:
    url = file_url(tmp_path / "runs.sqlite")
    open_database(url, "north").close()
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(module.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()


def test_the_file_is_its_users_alone_and_has_a_log_ahead(tmp_path: Path) -> None:
    opened = open_database(file_url(tmp_path / "runs.sqlite"), "north")
    with opened.reading() as connection:
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
    for path in tmp_path.glob("runs.sqlite*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    opened.close()


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    opened = open_database(file_url(tmp_path / "runs.sqlite"), "north")
    make_run_folder(tmp_path / "runs", "first", begin(1.0), round_event(1, 2.0))
    with opened.writing() as writer:
        writer.execute(text("INSERT INTO owner VALUES ('other')"))
        with opened.reading() as reader:
            assert reader.scalar(text("SELECT count(*) FROM owner")) == 1
    Importer(opened, tmp_path / "runs").bring_up_to_date()
    opened.close()


@pytest.mark.parametrize("content", [
    b"this is no database at all, and long enough to be read as one" * 20, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_file_is_put_aside_and_made_again(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    path.write_bytes(content)
    opened = open_database(file_url(path), "north")
    make_run_folder(tmp_path / "runs", "first", begin(1.0))
    assert Importer(opened, tmp_path / "runs").bring_up_to_date() == {"first"}
    opened.close()
    (kept,) = tmp_path.glob("runs.sqlite.put-aside-*")
    assert kept.read_bytes() == content


def test_a_newer_releases_file_is_put_aside_and_made_again(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    open_database(file_url(path), "north").close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    open_database(file_url(path), "north").close()
    assert len(list(tmp_path.glob("runs.sqlite.put-aside-*"))) == 1 and differences(file_url(path)) == []


def test_another_federations_file_is_refused(tmp_path: Path) -> None:
    open_database(file_url(tmp_path / "runs.sqlite"), "north").close()
    with pytest.raises(ValueError, match="federation north, not of south"):
        open_database(file_url(tmp_path / "runs.sqlite"), "south")


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises((ValueError, OSError), match=r"nowhere"):
        open_database(file_url(tmp_path / "nowhere" / "runs.sqlite"), "north")


def test_a_url_that_is_none_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="no database URL"):
        open_database("not a url", "north")
