"""The audit log: what leaves is booked first, and an altered, cut or unwritable log is found or stops the site."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privacy.identity import SigningKey
from privacy.messages import Confirm, ErrorReply, Hello, LedgerMark, MaskedHeader
from site_client.audit_chain import Event, Head, check_events, event_hash, export_lines, read_export
from site_client.audit_log import HEAD_EVERY, AuditBrokenError, AuditLog, AuditUnwritableError, head_path

KEY = SigningKey.from_private_bytes(bytes(range(32)))
CONFIRM = Confirm.signed(KEY, (), site_id="site-1").to_bytes()
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.sqlite"


def opened(path: Path) -> AuditLog:
    return AuditLog.open(path, KEY)


def filled(path: Path, rows: int = 5) -> None:
    with opened(path) as log:
        for number in range(1, rows + 1):
            assert log.egress(step="sa_confirm", body=CONFIRM, vector=None, run_id="run", round=number) == number


def broken(path: Path) -> str:
    with pytest.raises(AuditBrokenError) as error:
        opened(path).close()
    return str(error.value)


def tampered(path: Path, *statements: str) -> None:
    """As somebody would who owns the file: the triggers do not stop them."""
    database = sqlite3.connect(path)
    database.executescript("DROP TRIGGER events_no_update; DROP TRIGGER events_no_delete;")
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()


# ------------------------------------------------------------------ what is booked


def test_a_reply_is_booked_with_its_kind_sizes_and_hash(path: Path) -> None:
    upload = np.arange(12, dtype=np.uint8)
    header = MaskedHeader.signed(
        KEY, (), site_id="site-1", upload_hash=hashlib.sha256(upload.tobytes()).digest(), complaints=()).to_bytes()
    with opened(path) as log:
        log.egress(step="sa_mask", body=header, vector=upload, run_id="run", round=3)
        event = log.verify()[0]
    assert event.kind == "egress" and event.fields == {
        "step": "sa_mask", "message": "MaskedHeader", "body_bytes": len(header), "vector_bytes": 12,
        "sha256": hashlib.sha256(header).hexdigest(), "run_id": "run", "round": 3}
    assert path.stat().st_mode & 0o777 == head_path(path).stat().st_mode & 0o777 == 0o600


def test_a_refusal_is_an_event_of_its_own_as_well(path: Path) -> None:
    with opened(path) as log:
        assert log.egress(step="hello", body=ErrorReply("P_ROUNDS", "nobody").to_bytes(), vector=None) == 2
        assert [event.kind for event in log.verify()] == ["egress", "refusal"]
        assert log.verify()[1].fields == {"step": "hello", "code": "P_ROUNDS", "blamed": "nobody"}


HELLO = Hello.make(LedgerMark.empty("site-1", "fed", KEY), bytes(32), bytes(32), KEY).to_bytes()
HEADER = MaskedHeader.signed(KEY, (), site_id="site-1", upload_hash=bytes(32), complaints=()).to_bytes()
ARRAY = np.zeros(4, dtype=np.uint8)


@pytest.mark.parametrize(
    ("step", "body", "vector"),
    [
        ("sa_confirm", HELLO, None), ("roster", HELLO, None), ("hello", b"", None), ("hello", b"Smith^John", None),
        ("hello", HELLO + b"0", None), ("hello", HELLO[:-1], None), ("hello", HELLO, ARRAY),
        ("sa_mask", HEADER, ARRAY), ("sa_mask", ErrorReply("E_SITE", "nobody").to_bytes(), ARRAY),
    ])
def test_what_may_not_leave_is_refused_and_not_booked(path: Path, step: str, body: bytes, vector: Any) -> None:
    """Another step's message, bytes that are no message, a longer one, an array that no header signs."""
    with opened(path) as log:
        with pytest.raises(ValueError) as error:
            log.egress(step=step, body=body, vector=vector)
        assert "Smith" not in str(error.value) and log.verify() == ()
        assert log.egress(step="hello", body=HELLO, vector=None) == 1


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("patient", {}), ("stop", {"name": "x"}), ("stop", {"reason": "Smith^John"}), ("stop", {"reason": "two words"}),
        ("stop", {"reason": "x" * 129}), ("transport", {"count": 1.5}), ("transport", {"count": True}),
        ("egress", {"path": "x"}),
    ])
def test_only_numbers_and_words_of_the_protocol_are_noted(path: Path, kind: str, fields: dict[str, Any]) -> None:
    with opened(path) as log:
        with pytest.raises(ValueError) as error:
            log.note(kind, **fields)
        assert "Smith" not in str(error.value) and log.verify() == ()


def test_other_events_and_a_second_opening_go_on_with_the_chain(path: Path) -> None:
    with opened(path) as log:
        log.note("start", release="ab" * 32, version="0.1.0")
        log.note("transport", request="/v1/fleet/pull-messages", count=3, bytes_out=120, bytes_in=0)
    with opened(path) as log:
        assert log.note("stop", reason="exit-305") == 3
        assert [event.kind for event in log.verify()] == ["start", "transport", "stop"]
    log.close()  # twice is once


# ------------------------------------------------------------------ tampering


@pytest.mark.parametrize("column", ["utc", "kind", "body", "hash"])
def test_an_altered_event_is_found(path: Path, column: str) -> None:
    filled(path)
    value = "zeroblob(32)" if column == "hash" else f"replace({column}, substr({column}, 3, 1), '#')"
    tampered(path, f"UPDATE events SET {column} = {value} WHERE seq = 3")
    assert broken(path) == "event 3 of the audit log was altered, or one before it removed"


def test_a_removed_event_is_found(path: Path) -> None:
    filled(path)
    tampered(path, "DELETE FROM events WHERE seq = 2")
    assert broken(path).startswith("event 3 of the audit log was altered, or one before it removed")


def test_a_removed_end_is_found_by_the_counter_or_by_the_signed_head(path: Path) -> None:
    filled(path)
    tampered(path, "DELETE FROM events WHERE seq > 3", "DELETE FROM heads")
    assert broken(path) == "events are missing at the end of the audit log"
    database = sqlite3.connect(path)
    database.execute("UPDATE sqlite_sequence SET seq = 3")
    database.commit()
    database.close()
    assert "older than its head, which has seen event 5" in broken(path)


def test_a_rewritten_chain_lacks_the_signature(path: Path) -> None:
    """Hashes anybody can compute; the head nobody but the site can sign."""
    filled(path)
    with opened(path) as log:
        events = log.verify()
    previous, statements = bytes(32), []
    for event in events:
        body = event.body.replace('"round":4', '"round":9')
        previous = event_hash(previous, event.seq, event.utc, event.kind, body)
        statements.append(f"UPDATE events SET body = '{body}', hash = x'{previous.hex()}' WHERE seq = {event.seq}")
    tampered(path, *statements)
    assert "does not hold event 5 as it was signed" in broken(path)
    tampered_head = Head.make(5, previous, SigningKey.from_private_bytes(bytes(32)))
    head_path(path).write_text(json.dumps(tampered_head.values()))
    assert "not signed by this site's identity key" in broken(path)


def test_numbers_may_not_be_skipped_even_by_whoever_can_hash() -> None:
    skipped = Event(2, "now", "stop", "{}", event_hash(bytes(32), 2, "now", "stop", "{}"))
    with pytest.raises(AuditBrokenError, match="event 2"):
        check_events([skipped])
    check_events([skipped], after=1)


def test_a_lost_or_damaged_head_and_a_lost_log_are_found(path: Path) -> None:
    filled(path)
    whole = head_path(path).read_bytes()
    head_path(path).unlink()
    assert "audit.sqlite.head is missing" in broken(path)
    head_path(path).write_bytes(whole[:-9])
    assert "audit.sqlite.head is damaged" in broken(path)
    head_path(path).write_bytes(whole)
    opened(path).close()
    path.write_bytes(b"junk" * 300)
    assert "not a readable database" in broken(path)
    path.unlink()
    assert "is gone though audit.sqlite.head is there" in broken(path)


@pytest.mark.parametrize("how", ["unlinked", "replaced", "cut"])
def test_a_log_that_is_taken_away_while_the_site_runs_lets_nothing_leave(path: Path, tmp_path: Path, how: str) -> None:
    log = opened(path)
    for number in range(3):
        log.note("transport", request="pull", count=number)
    if how == "cut":
        tampered(path, "DELETE FROM events WHERE seq = 3")
    else:
        path.unlink()
        if how == "replaced":
            path.touch()
    with pytest.raises(AuditBrokenError, match="while the site ran"):
        log.egress(step="hello", body=HELLO, vector=None)


def test_heads_are_signed_now_and_then_not_only_at_the_end(path: Path) -> None:
    log = opened(path)
    for number in range(HEAD_EVERY + 2):
        log.note("transport", request="pull", count=number)
    assert json.loads(head_path(path).read_text())["sequence"] == HEAD_EVERY
    log.close()
    assert json.loads(head_path(path).read_text())["sequence"] == HEAD_EVERY + 2


# ------------------------------------------------------------------ exports


def test_an_export_is_checked_without_the_log(path: Path) -> None:
    filled(path)
    with opened(path) as log:
        events, head = log.verify(), log.head()
    for since in (0, 2, 5, 9, -1):
        first, read, _ = read_export("\n".join(export_lines(events, head, "site-1", since)) + "\n")
        assert read == events[max(since, 0):] and first["public_key"] == KEY.public_bytes().hex()


def test_a_falsified_export_is_refused(path: Path) -> None:
    filled(path)
    with opened(path) as log:
        events, head = log.verify(), log.head()
    lines = export_lines(events, head, "site-1")
    for changed, words in (
            ([*lines[:3], *lines[4:]], "event 4"), ([*lines[:5], lines[-1]], "do not end at the head"),
            ([line.replace('\\"round\\":2', '\\"round\\":8') for line in lines], "event 2"),
            (export_lines(events, Head(head.sequence, head.hash, head.signer, bytes(64)), "site-1"), "not signed")):
        with pytest.raises(AuditBrokenError, match=words):
            read_export("\n".join(changed))
    for text in ("", "{}", lines[0], "\n".join(lines[1:]), "[1]\n[2]"):
        with pytest.raises(ValueError, match="no audit export of this release"):
            read_export(text)


# ------------------------------------------------------------------ kill -9, a full disk, two processes

WRITER = """
import sys
from pathlib import Path
from privacy.identity import SigningKey
from site_client.audit_log import AuditLog, AuditUnwritableError
path, seed, limit, rows = Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
log = AuditLog.open(path, SigningKey.from_private_bytes(seed))
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
print("open", flush=True)
try:
    for number in range(rows):
        print(log.note("transport", request=sys.argv[5], count=number), flush=True)
except AuditUnwritableError as error:
    print("REFUSED", error, flush=True)
    sys.exit(3)
log.close()
"""


def writer(path: Path, *, limit: int = 0, rows: int = 10**6, name: str = "pull") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), KEY.private_bytes().hex(), str(limit), str(rows), name],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, stdout=subprocess.PIPE)


def last_reported(printed: str) -> int:
    """The highest number that the process said was booked; a torn last line counts for nothing."""
    return max((int(line) for line in printed.split("\n")[:-1] if line.isdigit()), default=0)


def check_killed(path: Path, pause: float) -> int:
    process = writer(path)
    assert process.stdout is not None and process.stdout.readline() == "open\n"
    time.sleep(pause)
    process.send_signal(signal.SIGKILL)
    reported = last_reported(process.stdout.read())
    assert process.wait() == -signal.SIGKILL
    with opened(path) as log:
        events = log.verify()
        assert reported <= len(events)
        assert log.note("start") == len(events) + 1  # and work goes on
    return reported


def test_killed_while_writing_no_event_that_was_reported_is_missing(path: Path) -> None:
    assert check_killed(path, 0.2) > 0


@pytest.mark.slow
def test_killed_again_and_again_the_chain_goes_on(path: Path) -> None:
    assert sum(check_killed(path, 0.003 * number) > 0 for number in range(25)) > 5


def test_on_a_full_disk_nothing_leaves_and_the_chain_stays_whole(path: Path) -> None:
    filled(path)
    process = writer(path, limit=path.stat().st_size + 8192)
    assert process.stdout is not None
    printed = process.stdout.read()
    assert process.wait() == 3
    assert "cannot be written" in printed and "nothing leaves this site: make room" in printed
    with opened(path) as log:
        assert len(log.verify()) == max(last_reported(printed), 5) > 5
        assert log.egress(step="hello", body=HELLO, vector=None)  # there is room again


def test_without_room_for_one_event_it_says_so_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = opened(path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
    try:
        with pytest.raises(AuditUnwritableError):
            log.egress(step="hello", body=HELLO, vector=None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert log.egress(step="hello", body=HELLO, vector=None) == 1 == len(log.verify())
    log.close()


def test_two_processes_append_to_one_chain(path: Path) -> None:
    processes = [writer(path, rows=40, name=name) for name in ("one", "two", "three")]
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    numbers = sorted(int(line) for text in printed for line in text.splitlines() if line.isdigit())
    assert numbers == list(range(1, 121))
    with opened(path) as log:
        events = log.verify()
    for name in ("one", "two", "three"):
        own = [event.fields["count"] for event in events if event.fields["request"] == name]
        assert own == list(range(40))
    assert json.loads(head_path(path).read_text())["sequence"] == 120
