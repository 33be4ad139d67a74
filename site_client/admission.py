"""Before a site works for a run: its peers say how far they saw its ledger, and it refuses to go on from an older one.

Three messages. `hello`: this site's mark and a nonce. `witness`: all hellos come back, and this site states what it had
seen of the others. `restore`: the others' statements about this site. It is ready once enough peers spoke and none
has seen what its ledger does not hold.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from privacy.entropy import Entropy
from privacy.errors import FaultyCoordinatorError, PolicyRefusalError
from privacy.identity import Roster
from privacy.messages import Hello, HelloList, LedgerMark, Ready, RunManifest, Witness, WitnessList
from privacy.secagg.checks import received
from site_client.installation import Installation

__all__ = ["MOST_RUNS", "Admission", "witnesses_needed"]

_log = logging.getLogger(__name__)
MOST_RUNS = 16  # that one process approves and is admitted to; the oldest are asked about again


def witnesses_needed(roster: Roster, at_least: int = 0) -> int:
    """How many peers must speak so that one of them took part in this site's last round, whoever it was with.

    The smallest cohort that a round can begin with has m sites (`Roster.floor`), so at most N - m peers of a roster of
    N were not in it, and one more than that is enough when nobody lies. A suspended site counts in N, since it may have
    been in that round, but it does not speak: never more are asked for than there are active peers. `at_least` is the
    site's policy.
    """
    everyone, active = len(roster.sites), len(roster.active_ids)
    smallest = next((m for m in range(1, active + 1) if roster.floor(m) <= m), active)
    return max(min(everyone - smallest + 1, max(active - 1, 1)), at_least)


@dataclass(slots=True)
class _Pending:
    """One admission in progress: the hello that was sent, and the list it came back in."""

    hello: Hello
    list_hash: bytes = b""
    statements: bytes = b""


class Admission:
    """This site's side of the three messages, for the life of a process.

    Args:
        site: the installation: its ledger, what it remembers of its peers, its policy.
        entropy: returns a random source for a purpose.
    """

    def __init__(self, site: Installation, entropy: Callable[[str], Entropy]) -> None:
        self._site, self._entropy = site, entropy
        self._opened_at = site.ledger.sequence
        self._pending: dict[bytes, _Pending] = {}  # manifest hash -> admission
        self._ready: set[bytes] = set()

    def mark(self) -> LedgerMark:
        """How far the ledger is now, signed."""
        ledger = self._site.ledger
        while True:  # another process may append between the two reads
            sequence, head = ledger.sequence, ledger.head()
            if ledger.holds(sequence, head):
                return LedgerMark.make(
                    self._site.site_id, sequence, head, self._site.roster.federation_id, self._site.key)

    def require_own_memory(self) -> None:
        """Raises PolicyRefusalError P_LEDGER when this site remembers more rows of its ledger than it holds."""
        remembered = self._site.peers.highest(self._site.site_id)
        if remembered is not None and not self._site.ledger.holds(remembered.sequence, remembered.head):
            self._ready.clear()
            raise PolicyRefusalError("P_LEDGER")

    def require_ready(self, manifest: RunManifest) -> None:
        """Raises PolicyRefusalError P_WITNESS when this process was not admitted to the run."""
        if manifest.hash() not in self._ready:
            raise PolicyRefusalError("P_WITNESS")

    def hello(self, manifest: RunManifest) -> bytes:
        """This site accepts the run. The same bytes until an admission to it was refused."""
        run = manifest.hash()
        if run not in self._pending:
            while len(self._pending) >= MOST_RUNS:  # a coordinator that asks for ever fills no memory
                oldest = next(iter(self._pending))
                del self._pending[oldest]
                self._ready.discard(oldest)
            nonce = self._entropy(f"{manifest.run_id}/hello").random_bytes(32)
            self._pending[run] = _Pending(Hello.make(self.mark(), nonce, run, self._site.key))
        return self._pending[run].hello.to_bytes()

    def witness(self, body: bytes) -> bytes:
        """What this site had seen of each other site of the list before it; then it keeps what the list says.

        Raises:
            FaultyCoordinatorError: E_FORMAT, E_DUP_SITE, E_UNKNOWN_SITE, E_SELF_MISSING, E_SIG.
            PolicyRefusalError: P_NOT_APPROVED: this process said no hello for that run.
        """
        listed = received(HelloList, body)
        pending = self._of(listed.manifest_hash)
        if pending.list_hash == listed.hash():
            return pending.statements  # at-least-once delivery
        self._check_hellos(listed, pending.hello)
        others = [hello.site_id for hello in listed.entries if hello.site_id != self._site.site_id]
        binding = (listed.manifest_hash, listed.hash())
        seen = {site: self._site.peers.highest(site) for site in others}
        statements = WitnessList(listed.manifest_hash, tuple(
            Witness.signed(self._site.key, binding, site_id=self._site.site_id, subject=site,
                           marks=() if mark is None else (mark,)) for site, mark in seen.items()))
        self.note(hello.mark for hello in listed.entries)
        pending.list_hash, pending.statements = listed.hash(), statements.to_bytes()
        return pending.statements

    def restore(self, body: bytes) -> bytes:
        """Ready, when enough peers spoke and none has seen a row that this site's ledger does not hold.

        Raises:
            FaultyCoordinatorError: E_FORMAT, E_DUP_SITE, E_UNKNOWN_SITE, E_STAGE, E_SIG.
            PolicyRefusalError: P_NOT_APPROVED, P_LEDGER, P_WITNESS.
        """
        given = received(WitnessList, body)
        run = given.manifest_hash
        pending = self._of(run)
        _refuse(not pending.list_hash, "E_STAGE")
        self._check_witnesses(given, (run, pending.list_hash))
        marks = [mark for witness in given.entries for mark in witness.marks]
        ours = [mark for mark in marks if mark.is_signed_for(self._site.roster)]
        self.note(ours)  # so that a restart finds a contradiction even if the coordinator then hides it
        if any(not self._site.ledger.holds(mark.sequence, mark.head) for mark in ours):
            self._ready.clear()
            self._pending.clear()
            raise PolicyRefusalError("P_LEDGER")
        # A mark that this site's present key did not sign confirms nothing: made up, or from before a new key.
        speaking = len(given.entries) - (len(marks) - len(ours))
        if run not in self._ready and not self._enough(speaking):
            del self._pending[run]  # the next hello has a new nonce
            raise PolicyRefusalError("P_WITNESS")
        self._ready.add(run)
        return Ready.signed(self._site.key, (run, pending.list_hash), site_id=self._site.site_id).to_bytes()

    def note(self, marks: Iterable[LedgerMark]) -> None:
        """Remember marks whose signatures were checked. A fork is logged; its evidence stays in the memory."""
        for site in self._site.peers.note(marks):
            _log.error("code=E_LEDGER_FORK blamed=%s", site)

    def _of(self, run: bytes) -> _Pending:
        if run not in self._pending:
            raise PolicyRefusalError("P_NOT_APPROVED")
        return self._pending[run]

    def _enough(self, speaking: int) -> bool:
        needed = witnesses_needed(self._site.roster, self._site.config.policy.min_ledger_witnesses)
        if speaking >= needed:
            return True
        _log.warning("ledger witnesses=%d needed=%d", speaking, needed)
        return self._site.approval.use(self._site.ledger, self._opened_at)

    def _check_hellos(self, listed: HelloList, own: Hello) -> None:
        _refuse_strangers([hello.site_id for hello in listed.entries], self._site.roster.active_ids)
        _refuse(own not in listed.entries, "E_SELF_MISSING")
        _refuse(any(not hello.proves(self._site.roster, listed.manifest_hash) for hello in listed.entries), "E_SIG")

    def _check_witnesses(self, given: WitnessList, binding: tuple[bytes, bytes]) -> None:
        roster, own = self._site.roster, self._site.site_id
        peers = [site for site in roster.active_ids if site != own]
        _refuse_strangers([witness.site_id for witness in given.entries], peers)
        for witness in given.entries:
            signed = witness.is_signed_by(roster.site(witness.site_id).public_key, binding)
            _refuse(witness.subject != own or not signed, "E_SIG")


def _refuse_strangers(sites: list[str], known: Iterable[str]) -> None:
    _refuse(any(count > 1 for count in Counter(sites).values()), "E_DUP_SITE")
    _refuse(not set(sites) <= set(known), "E_UNKNOWN_SITE")


def _refuse(condition: bool, code: str) -> None:
    if condition:
        raise FaultyCoordinatorError(code)
