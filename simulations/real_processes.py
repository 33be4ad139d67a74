"""Processes of a real federation: how a command is called, which still live, what a site's log says left it."""

from __future__ import annotations

import ctypes
import json
import signal
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["egress", "end_with_us", "lives", "program"]

_SIGNAL_AT_PARENTS_END = 1  # PR_SET_PDEATHSIG
_libc = ctypes.CDLL(None)


def program(name: str) -> Sequence[str]:
    """The beginning of a command line: this interpreter runs that one of our commands."""
    return [sys.executable, "-c", f"import sys; from {name.replace('-', '_')}.cli import main; sys.exit(main())"]


def end_with_us() -> None:
    """In a child before it starts: SIGTERM reaches it when its parent ends, however that was."""
    _libc.prctl(_SIGNAL_AT_PARENTS_END, signal.SIGTERM)


def lives(pid: int) -> bool:
    """Whether it runs; one that ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def egress(log: Path) -> Iterator[tuple[int, str, str]]:
    """Read without a lock that could hold the site up; what is being written just now is seen the next time."""
    if not log.exists():
        return
    try:
        database = sqlite3.connect(f"file:{log}?mode=ro", uri=True, timeout=0)
        try:
            rows = database.execute("SELECT seq, body FROM events WHERE kind = 'egress' ORDER BY seq").fetchall()
        finally:
            database.close()
    except sqlite3.OperationalError:
        return
    for number, body in rows:
        facts = json.loads(body)
        yield int(number), str(facts["step"]), str(facts["message"])
