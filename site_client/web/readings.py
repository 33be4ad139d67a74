"""What the pages are made from: the state folder as it lies, read beside a running `site-client start`.

No lock of the site is taken and no file is made or mended. What was read is kept until one of its files changes, so a
page that is looked at all day costs the site nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.schema import SiteConfig
from privacy.ledger import Ledger, LedgerTamperedError
from privacy.transport.process_status import process_facts
from privacy.web.changes import look
from site_client.audit_chain import AuditBrokenError, Event
from site_client.audit_log import head_path, looked_at
from site_client.indexing.index_summary import read_summary
from site_client.keystore import KeyFileError, has_ledger, signing_key
from site_client.ledger_report import facts_in
from site_client.opt_out import OPT_OUT_FILE, read_opt_out
from site_client.roster_pin import RosterPin
from site_client.run_approval import RunApprovals
from site_client.sources.open_source import index_folder
from site_client.start_command import status_file
from site_client.supernode_process import read_counts
from site_client.trust import shared_caps

if TYPE_CHECKING:
    from privacy.ledger_entries import LedgerEntry

__all__ = ["LedgerReading", "LogReading", "Readings"]


class LedgerReading:
    """The ledger: `facts` (`ledger_report.facts_of`), or `fault`, or neither where the first run has yet to come."""

    def __init__(self, facts: dict[str, Any] | None = None, entries: tuple[LedgerEntry, ...] = (),
                 finished: frozenset[tuple[str, int]] = frozenset(), fault: str = "") -> None:
        self.facts, self.entries, self.finished, self.fault = facts, entries, finished, fault


class LogReading:
    """The audit log's checked events, or `fault`; neither where nothing was started yet."""

    def __init__(self, events: tuple[Event, ...] = (), fault: str = "", there: bool = False) -> None:
        self.events, self.fault, self.there = events, fault, there


class Readings:
    """Of one site; safe between threads.

    Args:
        config: the site's, as it was when the pages were begun.
    """

    def __init__(self, config: SiteConfig) -> None:
        self.config, self.state = config, Path(config.state)
        self._kept: dict[str, tuple[list[Any], Any]] = {}
        self._alone = threading.Lock()

    def files(self) -> list[Path]:
        """Those whose change is one of the pages'."""
        names = ("start.json", "ledger.sqlite", "ledger.sqlite.mark", "audit.sqlite", "audit.sqlite.head", OPT_OUT_FILE,
                 "roster.pin", "roster.offered", "pending", "transport.json", "identity.key")
        return [*(self.state / name for name in names), *self._index_files()]

    def _index_files(self) -> list[Path]:
        folder = index_folder(self.config)
        return [folder / "index.sqlite", folder / "index.sqlite-wal"]

    def _fresh(self, name: str, files: Iterable[Path], read: Callable[[], Any]) -> Any:
        """What `read` gave for these files as they are."""
        with self._alone:
            seen = look(files)
            if name not in self._kept or self._kept[name][0] != seen:
                found = read()
                self._kept[name] = (seen, found)
            return self._kept[name][1]

    def processes(self) -> dict[str, Any]:
        """`process_facts` of `site-client start`; its health service is not asked."""
        return process_facts(status_file(self.config), 0)

    def ledger(self) -> LedgerReading:
        """See there."""
        files = [self.state / name for name in ("ledger.sqlite", "ledger.sqlite.mark", "identity.key", "roster.pin")]
        reading: LedgerReading = self._fresh("ledger", files, self._read_ledger)
        if reading.fault:  # it may be gone with the next look although no file changed
            self._forget("ledger")
        return reading

    def _read_ledger(self) -> LedgerReading:
        path = self.state / "ledger.sqlite"
        if not path.is_file():
            return LedgerReading(fault="The ledger was begun here and is gone; restore the whole state folder from its "
                                       "newest backup.") if has_ledger(self.state) else LedgerReading()
        policy = self.config.policy
        try:
            self._public()
            ledger = Ledger.looking(path, policy.max_epsilon, policy.max_total_delta, shared_caps(policy))
            try:
                account = ledger.account()
                return LedgerReading(facts_in(self.config, ledger), account.entries, account.finished)
            finally:
                ledger.close()
        except (ValueError, LedgerTamperedError, TimeoutError) as error:
            return LedgerReading(fault=str(error))
        except OSError as error:
            return LedgerReading(fault=_opened(error))

    def log(self) -> LogReading:
        """See there."""
        path = self.state / "audit.sqlite"
        reading: LogReading = self._fresh(
            "log", (path, head_path(path), self.state / "identity.key"), self._read_log)
        if reading.fault:
            self._forget("log")
        return reading

    def _read_log(self) -> LogReading:
        path = self.state / "audit.sqlite"
        if not path.is_file() and not head_path(path).is_file():
            return LogReading()
        try:
            return LogReading(looked_at(path, self._public()), there=True)
        except (AuditBrokenError, ValueError, TimeoutError) as error:
            return LogReading(fault=str(error), there=True)
        except OSError as error:
            return LogReading(fault=_opened(error), there=True)

    def _public(self) -> bytes:
        """The site's identity; a missing key is never made here."""
        if not (self.state / "identity.key").is_file():
            raise KeyFileError("identity.key is missing; restore the whole state folder from its newest backup")
        return signing_key(self.state).public_bytes()

    def _forget(self, name: str) -> None:
        with self._alone:
            self._kept.pop(name, None)

    def index(self) -> dict[str, Any]:
        """{summary: counts or None, fault, opted_out: patients on the list or None, opt_out_fault}."""
        found: dict[str, Any] = self._fresh(
            "index", (*self._index_files(), self.state / OPT_OUT_FILE), self._read_index)
        return found

    def _read_index(self) -> dict[str, Any]:
        found: dict[str, Any] = {"summary": None, "fault": "", "opted_out": None, "opt_out_fault": ""}
        try:
            found["summary"] = read_summary(index_folder(self.config))
        except ValueError as error:
            found["fault"] = str(error)
        try:
            names = read_opt_out(self.state)
            found["opted_out"] = None if names is None else len(names)
        except (ValueError, OSError):
            found["opt_out_fault"] = ("The opt-out list is damaged, so nothing is indexed; restore it together with "
                                      "pseudonym.key from the newest backup.")
        return found

    def waiting(self) -> list[str]:
        """What waits for the operator's word."""
        waiting = [f"run {run.manifest.run_id}" for run in RunApprovals(self.state).pending()]
        return [*waiting, *(["a roster"] if RosterPin(self.config).offered_path.is_file() else [])]

    def roster(self) -> dict[str, Any]:
        """{federation_id, version, active} of the roster in force, or {fault}."""
        try:
            roster = RosterPin(self.config).roster()
        except ValueError as error:
            return {"fault": str(error)}
        return {"federation_id": roster.federation_id, "version": roster.version, "active": list(roster.active_ids)}

    def transport(self) -> dict[str, dict[str, int]]:
        """Requests to the coordinator by kind since `start` began."""
        return read_counts(self.state / "transport.json")

    def address(self) -> str:
        """The coordinator's, as the invitation names it; "" without a readable one."""
        from privacy.enrolment import Invitation

        try:
            return Invitation.from_json(Path(self.config.invitation).read_bytes()).address
        except (OSError, ValueError):
            return ""


def _opened(error: OSError) -> str:
    return f"It cannot be opened ({error.strerror or type(error).__name__}); run as the user that owns the folder."
