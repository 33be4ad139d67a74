"""Who takes part in a run: sites accept the manifest, then tell each other how far they saw each other's ledger.

Three steps. `hello`: the manifest to every node. `witness`: all hellos to every site that accepted. `restore`: to each
of them what its peers said about it. The sites trust none of this; what is wrong is left out, by name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from coordinator.exchange import Link, Outgoing, Reply
from coordinator.rounds import RoundFailedError
from privacy.aggregation import fewest_survivors
from privacy.errors import MessageFormatError
from privacy.identity import Roster
from privacy.messages import ErrorReply, Hello, HelloList, Ready, RunManifest, Witness, WitnessList

__all__ = ["Door"]

_STRAGGLERS_S = 20.0  # more patience for the others once enough sites are ready
_AGAIN_S = 3.0
_ROSTER_S, _HELLO_S = 60.0, 300.0  # a first hello may index the hospital's folder
_MAY_CHANGE = ("no-reply", "transport", "P_NOT_APPROVED", "P_APPROVAL", "P_ROSTER", "P_WITNESS", "P_HOURS")


@dataclass(frozen=True, slots=True)
class Door:
    """Lets sites into one run, before its first round and again when a site was restarted.

    Args:
        signed: the signed manifest's bytes.
        wait_s: how long sites that are absent, or wait for their operator, are asked again.
        offered: the signed roster's bytes, sent to every node before the manifest; b"" = the sites have it.
        observe: told ("cohort", who is ready, who is not and why, how many are needed) after each admission.
    """

    manifest: RunManifest
    signed: bytes
    roster: Roster
    link: Link
    timeout_s: float
    observe: Callable[[str, dict[str, Any]], None]
    wait_s: float = 0.0
    offered: bytes = b""
    _last: dict[str, str] = field(default_factory=dict)  # site -> why the last admission left it out

    def admit_first(self) -> tuple[str, ...]:
        """`admit`, again and again for up to `wait_s` while sites may still come; with the floor reached, a little;
        not at all where so many refused for good (a budget that is spent, say) that the floor is out of reach.

        Raises:
            RoundFailedError: see `admit`; what the last try found.
        """
        begin = time.monotonic()
        while True:
            left = begin + self.wait_s - time.monotonic()
            try:
                ready = self.admit()
            except RoundFailedError:
                if left <= 0 or len(self.roster.active_ids) - len(self._final()) < self.floor:
                    raise
            else:
                undecided = set(self.roster.active_ids) - set(ready) - self._final()
                if not undecided or left <= 0 or time.monotonic() - begin >= min(_STRAGGLERS_S, self.wait_s):
                    return ready
            time.sleep(min(_AGAIN_S, max(left, 0.1)))

    @property
    def floor(self) -> int:
        """Fewest sites that a round can begin with: the roster's floor, or more where the run's noise needs them."""
        return max(self.roster.floor(len(self.roster.active_ids)), fewest_survivors(self.manifest))

    def meeting_s(self, most_s: float) -> float:
        """How long one meeting may wait for its slowest node: a silent one must not hold up the others for a step's
        whole time. Where nobody waits for sites (simulations), the step's time."""
        return self.timeout_s if self.wait_s <= 0 else min(self.timeout_s, most_s)

    def _final(self) -> set[str]:
        return {site for site, why in self._last.items() if not why.endswith(_MAY_CHANGE)}

    def admit(self) -> tuple[str, ...]:
        """The sites that are ready for the run, sorted.

        Raises:
            RoundFailedError: they are fewer than `floor`; the text says who refused, where and why.
        """
        seen = _Admission(self)
        seen.offer()
        seen.meet()
        ready = tuple(sorted(seen.restore(seen.witness()))) if seen.hellos else ()
        invited = len(self.roster.active_ids)
        floor = self.floor
        refused = [*seen.unnamed, *(f"{site} ({why})" for site, why in sorted(seen.refused.items()))]
        self._last.clear()
        self._last.update(seen.refused)
        self.observe("cohort", {"accepted": list(ready), "refused": refused, "floor": floor})
        if len(ready) < floor:
            raise RoundFailedError(
                f"only {len(ready)} of {invited} sites accepted the run and {floor} are needed; "
                f"refusals: {', '.join(sorted(refused)) or 'none, the others did not answer'}")
        return ready


@dataclass(slots=True)
class _Admission:
    """One pass through the three steps."""

    door: Door
    hellos: dict[str, Hello] = field(default_factory=dict)
    unnamed: list[str] = field(default_factory=list)        # codes of nodes that did not say which site they are
    refused: dict[str, str] = field(default_factory=dict)   # site -> step and reason
    list_hash: bytes = b""

    def offer(self) -> None:
        """Step `roster`: for sites that pin it by their own rules. What they answer is their business."""
        if self.door.offered:
            for _ in self.door.link.meet(self.door.offered, self.door.meeting_s(_ROSTER_S), "roster"):
                pass

    def meet(self) -> None:
        """Step `hello`: the sites of the roster that accept the manifest with a valid signature."""
        door = self.door
        for index, reply in enumerate(door.link.meet(door.signed, door.meeting_s(_HELLO_S))):
            if reply.failure is not None:
                self._turn_away(reply.site_id, reply.failure)
                continue
            try:
                hello = Hello.from_bytes(reply.body)
            except MessageFormatError:
                self._turn_away(reply.site_id, _code(reply.body))
                continue
            # Another site's hello, passed on from an own node, would take that site's messages away from it.
            foreign = bool(reply.site_id) and hello.site_id != reply.site_id
            if foreign or not hello.proves(door.roster, door.manifest.hash()):
                self._turn_away(reply.site_id, "E_SITE_SIG")
            elif hello.site_id not in self.hellos:
                self.hellos[hello.site_id] = hello
                door.link.bind(index, hello.site_id)

    def _turn_away(self, site: str, why: str) -> None:
        """By name where the transport knows whose node it is."""
        if site in self.door.roster.site_ids:
            self._refuse(site, "hello", why)
        else:
            self.unnamed.append(why)

    def witness(self) -> dict[str, list[Witness]]:
        """Step `witness`: for each site, what the others have seen of its ledger."""
        manifest_hash = self.door.manifest.hash()
        hellos = HelloList(manifest_hash, tuple(self.hellos[site] for site in sorted(self.hellos)))
        self.list_hash = hellos.hash()
        about: dict[str, list[Witness]] = {site: [] for site in self.hellos}
        for reply in self._exchange("witness", dict.fromkeys(self.hellos, Outgoing(hellos.to_bytes()))):
            try:
                statements = WitnessList.from_bytes(reply.body).entries
            except MessageFormatError:
                self._refuse(reply.site_id, "witness", _code(reply.body))
                continue
            if self._holds(reply.site_id, statements):
                for statement in statements:
                    about[statement.subject].append(statement)
            else:
                self._refuse(reply.site_id, "witness", "E_SITE_SIG")
        return about

    def restore(self, about: Mapping[str, list[Witness]]) -> list[str]:
        """Step `restore`: the sites that are ready."""
        manifest_hash, ready = self.door.manifest.hash(), []
        outgoing = {
            site: Outgoing(WitnessList(
                manifest_hash, tuple(sorted(statements, key=lambda one: one.site_id))).to_bytes())
            for site, statements in about.items()}
        for reply in self._exchange("restore", outgoing):
            try:
                message = Ready.from_bytes(reply.body)
            except MessageFormatError:
                self._refuse(reply.site_id, "restore", _code(reply.body))
                continue
            if message.site_id == reply.site_id and self._signed(message):
                ready.append(reply.site_id)
            else:
                self._refuse(reply.site_id, "restore", "E_SITE_SIG")
        return ready

    def _holds(self, site_id: str, statements: tuple[Witness, ...]) -> bool:
        """Whether these are that site's statements, one on each other site of the list, in this admission."""
        subjects = [statement.subject for statement in statements]
        return sorted(subjects) == sorted(set(self.hellos) - {site_id}) and all(
            statement.site_id == site_id and self._signed(statement) for statement in statements)

    def _signed(self, message: Witness | Ready) -> bool:
        key = self.door.roster.site(message.site_id).public_key
        return message.is_signed_by(key, (self.door.manifest.hash(), self.list_hash))

    def _exchange(self, step: str, outgoing: Mapping[str, Outgoing]) -> Iterator[Reply]:
        for reply in self.door.link.exchange(step, outgoing, self.door.timeout_s):
            if reply.failure is None:
                yield reply
            else:
                self._refuse(reply.site_id, step, reply.failure)

    def _refuse(self, site_id: str, step: str, reason: str) -> None:
        self.refused[site_id] = f"{step}: {reason}"


def _code(body: bytes) -> str:
    try:
        return ErrorReply.from_bytes(body).code
    except MessageFormatError:
        return "E_FORMAT"
