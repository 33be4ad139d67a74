"""A site's backup comes back whole into a new folder, and every copy that must not is refused."""

from __future__ import annotations

import io
import json
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.load import load_config
from configs.schema import SiteConfig
from privacy.ledger import Ledger
from privacy.state_version import STATE_VERSION
from site_client.installation import Installation
from site_client.keystore import signing_key
from tests.site_client.made_site import ENTRY, MadeSite


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> MadeSite:
    made = MadeSite(tmp_path, capsys)
    made.has_worked()
    return made


def backup(site: MadeSite) -> Path:
    out = site.folder / "out.tar"
    code, _, error = site.run("backup", site.file, out)
    assert code == 0, error
    return out


def refused(site: MadeSite, made: Path) -> str:
    """What `restore` says; nothing may appear."""
    code, _, error = site.run("restore", made, site.folder / "new")
    assert code == 2 and not (site.folder / "new").exists() and not list(site.folder.glob(".new*"))
    return error


def test_a_restored_state_is_the_one_that_was_backed_up(site: MadeSite) -> None:
    (site.state / "spool").mkdir()
    (site.state / "spool" / "x.bin").write_bytes(b"an update that waits")
    (site.state / "ledger-approved.json").write_text("{}")
    (site.state / "executor.secret").write_bytes(b"x")
    Installation(site.config)  # makes the other databases
    made = backup(site)
    assert made.stat().st_mode & 0o777 == 0o600
    code, out, _ = site.run("restore", made, site.folder / "new")
    new = site.folder / "new"
    assert code == 0 and "P_WITNESS" in out and "ledger approve" in out and new.stat().st_mode & 0o777 == 0o700
    for name in ("identity.key", "pseudonym.key", "node.key", "roster.pin", "ledger.sqlite.mark", "version"):
        assert (new / name).read_bytes() == (site.state / name).read_bytes()
    missing = {"spool", "ledger-approved.json", "executor.secret", "beside"}
    assert not missing & {path.name for path in new.iterdir()}
    heads = []
    for state in (site.state, new):
        ledger = Ledger.open(state / "ledger.sqlite", signing_key=signing_key(state), must_exist=True)
        heads.append((ledger.sequence, ledger.head()))
        ledger.close()
    assert heads[0] == heads[1] and heads[0][1].hex() in out
    site.set(str(site.state), str(new))
    installation = Installation(load_config(SiteConfig, site.file))  # what a start opens
    assert installation.ledger.sequence == heads[0][0]


def test_what_is_there_is_never_overwritten(site: MadeSite) -> None:
    made = backup(site)
    before = {path: path.read_bytes() for path in site.state.rglob("*") if path.is_file()}
    code, _, error = site.run("restore", made, site.state)
    assert code == 2 and "never replaced" in error
    assert {path: path.read_bytes() for path in site.state.rglob("*") if path.is_file()} == before
    assert "never replaced" in site.run("backup", site.file, made)[2]


def changed(made: Path, name: str, change: Callable[[bytes], bytes | None]) -> Path:
    """The backup with one member changed, and its list made to fit, as somebody who wants to deceive would."""
    import hashlib

    with tarfile.open(made) as before:
        contents = {member.name: before.extractfile(member).read() for member in before}  # type: ignore[union-attr]
    notes = json.loads(contents["backup.json"])
    if name == "backup.json":
        contents[name] = change(contents[name]) or b""
    else:
        found = change(contents[name])
        del contents[name], notes["files"][name]
        if found is not None:
            contents[name], notes["files"][name] = found, hashlib.sha256(found).hexdigest()
        contents["backup.json"] = json.dumps(notes).encode()
    out = made.with_name("changed.tar")
    with tarfile.open(out, "w") as after:
        for member, content in contents.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            after.addfile(info, io.BytesIO(content))
    return out


def without_last_row(content: bytes) -> bytes:
    database = sqlite3.connect(":memory:")
    database.deserialize(content)
    table = "events"
    for trigger in [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]:
        database.execute(f"DROP TRIGGER {trigger}")
    database.execute(f"DELETE FROM {table} WHERE seq = (SELECT max(seq) FROM {table})")
    database.commit()
    return database.serialize()


@pytest.mark.parametrize(("name", "change", "says"), [
    ("ledger.sqlite", without_last_row, "does not hold together"),
    ("audit.sqlite", without_last_row, "does not hold together"),
    ("ledger.sqlite", lambda content: None, "ledger is not there"),
    ("ledger.sqlite.mark", lambda content: None, "does not hold together"),
    ("identity.key", lambda content: None, "no identity.key"),
    ("identity.key", lambda content: bytes(32), "another key"),
    ("roster.pin", lambda content: content[:-1] + bytes([content[-1] ^ 1]), "roster.pin is damaged"),
    ("backup.json", lambda content: content.replace(b'"version": "', b'"version": "9'), "newer release"),
    ("backup.json", lambda content: content.replace(
        f'"state_version": {STATE_VERSION}'.encode(), b'"state_version": 99'), "newer release"),
    ("backup.json", lambda content: content.replace(b'"kind": "site"', b'"kind": "coordinator"'), "is needed"),
])
def test_a_backup_that_does_not_hold_puts_nothing_in_place(
        site: MadeSite, name: str, change: Callable[[bytes], bytes | None], says: str) -> None:
    assert says in refused(site, changed(backup(site), name, change))


def test_a_site_that_writes_is_not_backed_up(site: MadeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    import privacy.backup

    real = privacy.backup.write_backup
    monkeypatch.setattr(privacy.backup, "write_backup", lambda *given, **named: real(*given, **named, wait_s=0.05))
    Installation(site.config)  # makes the other databases
    writer = sqlite3.connect(site.state / "peers.sqlite", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    code, _, error = site.run("backup", site.file, site.folder / "out.tar")
    writer.execute("ROLLBACK")
    writer.close()
    assert code == 2 and "between two rounds" in error and not (site.folder / "out.tar").exists()


def test_a_state_that_does_not_hold_is_not_backed_up(site: MadeSite) -> None:
    (site.state / "ledger.sqlite.mark").unlink()
    code, _, error = site.run("backup", site.file, site.folder / "out.tar")
    assert code == 2 and "mark is missing" in error and not (site.folder / "out.tar").exists()


def test_an_older_backup_is_behind_what_this_site_knew_of_itself(site: MadeSite) -> None:
    """The restored copy lacks the later row; what the peers noted of it (tests of `admission`) is what finds that."""
    made = backup(site)
    ledger = Ledger.open(site.state / "ledger.sqlite", signing_key=signing_key(site.state), epsilon_cap=8.0)
    ledger.finish_round("run-1", ENTRY.round)
    later = ledger.sequence, ledger.head()
    ledger.close()
    assert site.run("restore", made, site.folder / "new")[0] == 0
    restored = Ledger.open(site.folder / "new" / "ledger.sqlite", must_exist=True)
    assert restored.sequence == later[0] - 1 and not restored.holds(*later)
    restored.close()
