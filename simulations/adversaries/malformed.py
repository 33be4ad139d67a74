"""A coordinator that sends bytes that are no message."""

from __future__ import annotations

from collections.abc import Callable

from privacy.messages import AdvertiseList, Confirm
from simulations.adversaries.attack import Outcome
from simulations.adversaries.consortium import STEPS, Reply
from simulations.adversaries.relay import Relay

__all__ = ["MALFORMED_ATTACKS", "Malformed"]

VICTIM = "site-01"


#: what is sent in place of the honest message
MUTATIONS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda body: b"",
    "another version": lambda body: b"\xff" + body[1:],
    "cut short": lambda body: body[:-1],
    "one byte more": lambda body: body + b"\x00",
    "another message": lambda body: Confirm("site-02", bytes(64)).to_bytes(),
    "an empty list of another step": lambda body: AdvertiseList(()).to_bytes()[:-1],
    "a huge length": lambda body: body[:2] + b"\xff" * 8 + body[10:],
    "deep nesting": lambda body: body[:1] + b"t\x00\x00\x00\x01" * 100_000 + b"N",
    "four megabytes": lambda body: body + bytes(4 << 20),
}


class Malformed(Relay):
    """Garbles one step's message to the victim; all steps and all ways of garbling, each in a round of its own."""

    name = "malformed"
    title = f"Bytes that are no message, {len(MUTATIONS)} kinds, at each of the {len(STEPS)} steps."
    gain = "a crash, memory, or an error text that quotes something"
    defence = "one canonical encoding, sizes bounded before anything is read, typed errors with fixed sentences"
    expected = ("E_FORMAT", "coordinator")
    sites = 3
    target = (0, "nothing")

    def attack(self) -> None:
        """Each garbled message meets a fresh federation."""
        given, answers, self._taken = 0, [], list[str]()
        for step in range(len(STEPS)):
            for kind in MUTATIONS:
                self.target = (step, kind)
                super().begin(True)
                super().attack()
                ours = [answer for answer in self.answers if answer.site == VICTIM]
                answers += ours
                given += 1
                if [(a.step, a.code) for a in ours] != [(STEPS[step], "E_FORMAT")]:
                    self._taken.append(f"{kind} at {STEPS[step]} was answered with {[a.code for a in ours]}")
        self.answers = answers
        self._given = given

    def outcome(self) -> Outcome:
        """A message that was taken, or refused with another code, is a success of the attacker."""
        outcome = super().outcome()
        outcome.fooled, outcome.notes = tuple(self._taken), (f"{self._given} messages were sent",)
        return outcome

    def ask(self, site: str, step: int, body: bytes) -> Reply | None:
        """The one lie: another body."""
        if (site, step) == (VICTIM, self.target[0]):
            body = MUTATIONS[self.target[1]](body)
        return super().ask(site, step, body)


MALFORMED_ATTACKS = (Malformed,)
