"""A backup is whole and of one moment; what is damaged, foreign, newer or steps outside its folder is refused."""

from __future__ import annotations

import io
import json
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import pytest

import privacy.backup
from privacy.backup import BackupError, read_notes, unpack, write_backup
from privacy.state_version import STATE_VERSION, claim_version, read_version, require_known

KIND = "site"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A backup of one file and one database with ten rows."""
    (tmp_path / "key").write_bytes(b"secret")
    with sqlite3.connect(tmp_path / "rows.sqlite") as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE rows (n INTEGER)")
        database.executemany("INSERT INTO rows VALUES (?)", [(n,) for n in range(10)])
    database.close()
    out = tmp_path / "out.tar"
    write_backup(out, KIND, {"key": tmp_path / "key", "gone": tmp_path / "gone"},
                 [("inner/rows.sqlite", tmp_path / "rows.sqlite")], {"version": b"1\n"})
    return out


def rewritten(backup: Path, change: Any) -> Path:
    """The same backup with `change(name, content)` applied to each member; None leaves it out."""
    out = backup.with_name("changed.tar")
    with tarfile.open(backup) as before, tarfile.open(out, "w") as after:
        for member in before:
            stream = before.extractfile(member)
            assert stream is not None
            content = change(member.name, stream.read())
            if content is not None:
                member.size = len(content)
                after.addfile(member, io.BytesIO(content))
    return out


def refused(backup: Path, folder: Path, kind: str = KIND) -> str:
    folder.mkdir()
    with pytest.raises(BackupError) as caught:
        unpack(backup, kind, folder)
    return str(caught.value)


def test_what_was_put_in_comes_out(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    notes = unpack(made, KIND, folder)
    assert set(notes["files"]) == {"key", "inner/rows.sqlite", "version"} and notes["state_version"] == STATE_VERSION
    assert (folder / "key").read_bytes() == b"secret" and made.stat().st_mode & 0o777 == 0o600
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o600}
    with sqlite3.connect(folder / "inner" / "rows.sqlite") as database:
        assert database.execute("SELECT count(*) FROM rows").fetchone() == (10,)
    database.close()
    assert read_notes(made, KIND) == notes


def test_a_backup_is_never_replaced_and_leaves_nothing_behind(made: Path, tmp_path: Path) -> None:
    before = made.read_bytes()
    with pytest.raises(BackupError, match="never replaced"):
        write_backup(made, KIND, {})
    with pytest.raises(BackupError, match="cannot be written"):
        write_backup(tmp_path / "nowhere" / "out.tar", KIND, {})
    assert made.read_bytes() == before and not list(tmp_path.glob("*.partial"))


def test_a_database_that_is_being_written_is_refused(made: Path, tmp_path: Path) -> None:
    writer = sqlite3.connect(tmp_path / "rows.sqlite", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(BackupError, match=r"rows\.sqlite is being written"):
        write_backup(tmp_path / "two.tar", KIND, {}, [("rows.sqlite", tmp_path / "rows.sqlite")], wait_s=0.05)
    writer.execute("ROLLBACK")
    writer.close()
    assert not (tmp_path / "two.tar").exists() and not list(tmp_path.glob(".*.partial"))
    write_backup(tmp_path / "two.tar", KIND, {}, [("rows.sqlite", tmp_path / "rows.sqlite")])


def test_nobody_writes_to_any_database_while_they_are_copied(
        made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / "rows.sqlite", tmp_path / "second.sqlite"]
    sqlite3.connect(paths[1]).close()
    tried = []
    real = privacy.backup._copy_database

    def copy(source: Path, target: Path) -> None:
        for path in paths:
            other = sqlite3.connect(path, isolation_level=None, timeout=0)
            try:
                other.execute("BEGIN IMMEDIATE")
                tried.append("written")
            except sqlite3.OperationalError:
                tried.append("locked")
            other.close()
        real(source, target)

    monkeypatch.setattr(privacy.backup, "_copy_database", copy)
    write_backup(tmp_path / "two.tar", KIND, {}, [(path.name, path) for path in paths])
    assert tried == ["locked"] * 4


@pytest.mark.parametrize(("change", "text"), [
    (lambda name, content: content + b"x" if name == "key" else content, "key .* is damaged"),
    (lambda name, content: None if name == "key" else content, "lacks key"),
    (lambda name, content: None if name == "backup.json" else content, "no backup of this project"),
    (lambda name, content: b"[1]" if name == "backup.json" else content, "no backup of this project"),
])
def test_a_changed_backup_is_refused(made: Path, tmp_path: Path, change: Any, text: str) -> None:
    with pytest.raises(BackupError, match=text):
        (tmp_path / "new").mkdir()
        unpack(rewritten(made, change), KIND, tmp_path / "new")


def noted(made: Path, **values: Any) -> Path:
    def change(name: str, content: bytes) -> bytes:
        return json.dumps({**json.loads(content), **values}).encode() if name == "backup.json" else content

    return rewritten(made, change)


def test_another_kind_and_a_newer_release_are_refused(made: Path, tmp_path: Path) -> None:
    assert "a 'site' of format" in refused(made, tmp_path / "a", "coordinator")
    assert "newer release" in refused(noted(made, state_version=STATE_VERSION + 1), tmp_path / "b")
    assert "newer release 99.1" in refused(noted(made, version="99.1"), tmp_path / "c")
    folder = tmp_path / "older"
    folder.mkdir()
    unpack(noted(made, version="0.0.9"), KIND, folder)
    assert not list((tmp_path / "b").iterdir()) and not list((tmp_path / "c").iterdir())


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_names_outside_the_folder_are_refused(made: Path, tmp_path: Path, kind: bytes) -> None:
    for number, name in enumerate(("../outside", "/tmp/outside", "key")):
        changed = rewritten(made, lambda inner, content: content if inner == "backup.json" else None)
        with tarfile.open(changed, "a") as archive:
            member = tarfile.TarInfo(name)
            member.type = kind if name == "key" else tarfile.REGTYPE
            member.linkname = "/etc/passwd"
            archive.addfile(member, io.BytesIO(b""))
        assert "no whole backup" in refused(changed, tmp_path / f"new-{number}")
    assert not (tmp_path / "outside").exists()


def test_a_file_that_is_no_tar_or_was_cut_is_refused(made: Path, tmp_path: Path) -> None:
    (tmp_path / "no.tar").write_bytes(b"x" * 4000)
    assert "damaged or no backup" in refused(tmp_path / "no.tar", tmp_path / "a")
    (tmp_path / "cut.tar").write_bytes(made.read_bytes()[:5000])
    assert "take another copy" in refused(tmp_path / "cut.tar", tmp_path / "b")
    assert "does not exist" in refused(tmp_path / "none.tar", tmp_path / "c")


def test_a_folder_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    assert read_version(tmp_path) is None
    claim_version(tmp_path)
    assert read_version(tmp_path) == STATE_VERSION
    (tmp_path / "version").write_text(f"{STATE_VERSION + 1}\n")
    for refusing in (require_known, claim_version):
        with pytest.raises(ValueError, match="written by a newer release"):
            refusing(tmp_path)
    assert read_version(tmp_path) == STATE_VERSION + 1
    (tmp_path / "version").write_text("one\n")
    with pytest.raises(ValueError, match="damaged"):
        require_known(tmp_path)
