"""What an attack is, what it reports, and the sentences in which a person reads it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from time import process_time
from typing import Any, ClassVar

from simulations.adversaries.breaker import Findings

__all__ = ["NOTHING", "Answer", "Attack", "Outcome", "Verdict", "judge"]

NOTHING = Findings((), (), ())


@dataclass(frozen=True)
class Answer:
    """A refusal: by whom, of which step's message, with which code, blaming whom."""

    site: str
    step: str
    code: str
    blamed: str


@dataclass
class Outcome:
    """What happened when an attack was played.

    Args:
        answers: refusals of honest parties, in order.
        findings: what the adversary could compute.
        fooled: what went wrong that is no leak, e.g. a wrong sum that nobody noticed; empty = nothing.
        notes: what a reader should know, e.g. what was reduced.
    """

    answers: list[Answer] = field(default_factory=list)
    findings: Findings = NOTHING
    fooled: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Attack(ABC):
    """One adversary. Subclasses lie in one method.

    Class variables:
        name, title: for the command line and for people.
        gain: what the attacker has if it works.
        defence: what stops it, in a few words.
        expected: (code, blamed) of the honest answer; blamed "site" = the lying site. None = no refusal is needed:
            what the attacker holds is useless.
        weakness: what `--without-defence` switches off, or empty where there is no such demonstration.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    gain: ClassVar[str]
    defence: ClassVar[str]
    expected: ClassVar[tuple[str, str] | None] = None
    weakness: ClassVar[str] = ""

    @abstractmethod
    def play(self, *, defended: bool) -> Outcome:
        """Run it once, against honest sites or against sites without the defence."""


@dataclass(frozen=True)
class Verdict:
    """An attack's result.

    Args:
        failed: the attacker got nothing beyond an allowed sum, and fooled nobody.
        as_expected: the honest answer was the named one; meaningless without the defence.
        seconds: CPU time.
    """

    name: str
    title: str
    gain: str
    defended: bool
    weakness: str
    answers: tuple[Answer, ...]
    expected: tuple[str, str] | None
    as_expected: bool
    findings: Findings
    fooled: tuple[str, ...]
    notes: tuple[str, ...]
    failed: bool
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def text(self) -> str:
        """A few lines for a person."""
        lines = [f"{self.name}: {self.title}", f"  If it works: {self.gain}"]
        if not self.defended:
            lines.append(f"  Switched off for this demonstration: {self.weakness}")
        lines += [f"  Answer: {line}" for line in _grouped(self.answers)] or ["  Answer: no refusal"]
        if self.defended and not self.as_expected and self.expected is not None:
            lines.append(f"  The expected answer was {self.expected[0]}, blaming {self.expected[1]}.")
        if self.findings.secrets:
            lines.append(f"  The attacker rebuilt: {'; '.join(self.findings.secrets)}")
        lines += [f"  The attacker computed: {known}" for known in self.findings.sums]
        if not self.findings.sums:
            lines.append("  The attacker computed: no sum at all")
        lines += [f"  MORE THAN ALLOWED: {leak}" for leak in self.findings.leaks]
        lines += [f"  FOOLED: {fooled}" for fooled in self.fooled]
        lines += [f"  Note: {note}" for note in self.notes]
        lines.append(f"  {self.conclusion} ({self.seconds:.2f} s)")
        return "\n".join(lines)

    @property
    def conclusion(self) -> str:
        """The verdict in two or three words."""
        if not self.failed:
            return "ATTACK SUCCEEDED"
        return "attack failed" if self.as_expected or not self.defended else "attack failed, BUT NOT AS EXPECTED"


def judge(attack: type[Attack], *, defended: bool = True) -> Verdict:
    """Play an attack once and judge it."""
    started = process_time()
    outcome = attack().play(defended=defended)
    given = {(answer.code, answer.blamed) for answer in outcome.answers}
    return Verdict(
        name=attack.name, title=attack.title, gain=attack.gain, defended=defended, weakness=attack.weakness,
        answers=tuple(outcome.answers), expected=attack.expected,
        as_expected=not given if attack.expected is None else attack.expected in given, findings=outcome.findings,
        fooled=outcome.fooled, notes=outcome.notes, failed=not (outcome.findings.leaks or outcome.fooled),
        seconds=process_time() - started)


def _grouped(answers: tuple[Answer, ...]) -> list[str]:
    groups: dict[tuple[str, str, str], list[str]] = {}
    for answer in answers:
        groups.setdefault((answer.step, answer.code, answer.blamed), []).append(answer.site)
    return [f"{code} at {step}, blaming {blamed}; said by {', '.join(dict.fromkeys(sites))}"
            for (step, code, blamed), sites in groups.items()]
