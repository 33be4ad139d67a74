"""A demonstration that is told while it runs, and that checks what it tells: steps, commands, output, facts."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

__all__ = ["Story", "index_numbers"]

_MIRROR = re.compile(r"mirror of (\S+): (\d+) new, (\d+) known(?:, (\d+) not given.*)?")
_PATIENTS = re.compile(r"(\S+): (\d+) patients")
_SAMPLES = re.compile(r" {2}([a-z]+) +(\d+) samples of (\d+) patients")
_REASON = re.compile(r" {2} *(\d+) {2}([a-z0-9-]+) +[A-Z].*")


@dataclass
class Story:
    """Prints to `out`; `checks` are the facts so far, (text, whether it holds), and `printed` the outputs shown."""

    out: TextIO
    checks: list[tuple[str, bool]] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)
    begin: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.begin

    @property
    def failed(self) -> list[str]:
        """The facts that do not hold."""
        return [text for text, holds in self.checks if not holds]

    def say(self, text: str) -> None:
        """A step, in a line."""
        print(f"\n[{self.seconds:4.0f} s] {text}", file=self.out, flush=True)

    def show(self, text: str) -> None:
        """What a command printed, indented."""
        self.printed.append(text)
        print("".join(f"  {line}\n" for line in text.splitlines()), end="", file=self.out, flush=True)

    def show_command(self, program: str, words: Sequence[str], source: str = "") -> None:
        """As it would be typed; `source`: the file that its input would come from."""
        print(f"$ {shlex.join([program, *words])}{f' < {source}' if source else ''}", file=self.out, flush=True)

    def check(self, text: str, holds: bool) -> None:
        """A fact, for the end."""
        self.checks.append((text, bool(holds)))

    def close(self) -> None:
        """Every fact with ok or FAILED, and a last line."""
        self.say("The facts:")
        for text, holds in self.checks:
            print(f"  {'ok    ' if holds else 'FAILED'} {text}", file=self.out)
        end = f"{len(self.failed)} FAILED" if self.failed else "as it should be"
        print(f"\n{end}: {len(self.checks)} facts, {self.seconds:.0f} s", file=self.out, flush=True)

    def summary(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"seconds": round(self.seconds, 1), "failed": len(self.failed),
                "facts": [{"fact": text, "ok": holds} for text, holds in self.checks]}


def index_numbers(text: str) -> dict[str, Any]:
    """The numbers in what `site-client index` prints: `mirrors`, `patients`, `sources` (samples, patients), `reasons`.

    Raises ValueError when the text has no line of patients.
    """
    found: dict[str, Any] = {"mirrors": {}, "patients": None, "sources": {}, "reasons": {}}
    for line in text.splitlines():
        if mirror := _MIRROR.fullmatch(line):
            found["mirrors"][mirror[1]] = (int(mirror[2]), int(mirror[3]), int(mirror[4] or 0))
        elif samples := _SAMPLES.fullmatch(line):
            found["sources"][samples[1]] = (int(samples[2]), int(samples[3]))
        elif patients := _PATIENTS.fullmatch(line):
            found["patients"] = int(patients[2])
        elif reason := _REASON.fullmatch(line):
            found["reasons"][reason[2]] = int(reason[1])
    if found["patients"] is None:
        raise ValueError("this is not what `site-client index` prints: no line says how many patients there are")
    return found
