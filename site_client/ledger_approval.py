"""The operator's word that the ledger on this disk is the newest one, for when too few peers can say so.

It is bound to the ledger's head, is used up by one start of one run, and never stands against a peer's signed mark.
"""

from __future__ import annotations

import json
from pathlib import Path

from privacy.durable import sync, write_whole
from privacy.ledger import Ledger

__all__ = ["LedgerApproval"]


class LedgerApproval:
    """One file under the site's state folder."""

    def __init__(self, state: Path) -> None:
        self._path = state / "ledger-approved.json"

    def give(self, ledger: Ledger) -> tuple[int, bytes]:
        """Write, durably, that `ledger` is approved as it is now; returns its sequence number and head."""
        sequence, head = ledger.sequence, ledger.head()
        write_whole(self._path, json.dumps({"sequence": sequence, "head": head.hex()}).encode())
        return sequence, head

    def use(self, ledger: Ledger, since: int) -> bool:
        """Whether the ledger is approved; an approval is gone, durably, once it was asked for.

        Args:
            since: the ledger's sequence number when this process opened it; an approval of an earlier one is stale.
        """
        try:
            values = json.loads(self._path.read_text(encoding="utf-8"))
            sequence, head = int(values["sequence"]), bytes.fromhex(values["head"])
        except FileNotFoundError:
            return False
        except (ValueError, KeyError, TypeError):
            sequence, head = -1, b""
        self._path.unlink()
        sync(self._path.parent)
        return sequence >= since and ledger.holds(sequence, head)
