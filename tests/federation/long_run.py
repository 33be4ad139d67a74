"""A run of many short rounds to which one thing after the other happens, and how many rounds each may have cost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from simulations.real_checks import budget_faults, sum_faults
from simulations.real_federation import RealFederation, until

ROUNDS = 400


@dataclass
class LongRun:
    """The run, and the faults so far."""

    federation: RealFederation
    run: str = "long"
    faults: int = 0
    seconds: dict[str, float] = field(default_factory=Counter)

    def begin(self) -> None:
        self.federation.launch(self.run, ROUNDS)
        self.wait_for_everybody()

    def wait_for_everybody(self, rounds: int = 1, timeout_s: float = 600) -> None:
        """Until so many further rounds were made, the last one with every site; the run must not end before."""
        federation, everybody = self.federation, set(self.federation.site_ids)
        number = len(federation.history(self.run)) + rounds

        def whole() -> bool:
            history = federation.history(self.run)
            state = federation.queue.get(self.run)
            assert state.state in ("queued", "running"), f"{state.state}: {state.reason}"
            return len(history) >= number and set(history[-1]["attested"]) == everybody

        until(lambda: f"a round with everybody ({self.newest()}, {federation.queue.get(self.run)}){self._away()}",
              whole, timeout_s)

    def _away(self) -> str:
        """What the sites that were not in the newest round have of their processes and the ends of their logs."""
        federation, history = self.federation, self.federation.history(self.run)
        away = set(federation.site_ids) - set(history[-1]["attested"] if history else ())
        return "".join(
            f"\n-- {site}: {federation.status(site)}\n" + "\n".join(
                f"{name}: {_end_of(federation.state(site) / 'log' / name)}" for name in ("node.log", "executor.log"))
            for site in sorted(away))

    def newest(self) -> str:
        """The newest round in words."""
        history = self.federation.history(self.run)
        return "none" if not history else f"{history[-1]['round']} {history[-1]['summed']} {history[-1]['missing']}"

    @contextmanager
    def fault(self, name: str, in_flight: int = 1) -> Iterator[None]:
        """Something is done inside; afterwards every site takes part again, sums are right and budgets in bounds.

        :param in_flight: rounds that it may cost a site.
        """
        begin = time.monotonic()
        before = len(self.federation.history(self.run))
        self.faults += in_flight
        yield
        self.wait_for_everybody()
        self.seconds[name] = time.monotonic() - begin
        print(f"\n{name}: whole again after {self.seconds[name]:.0f} s, "
              f"{len(self.federation.history(self.run)) - before} rounds, {self.federation.queue.get(self.run)}")
        self.check()

    def check(self) -> None:
        """Sums and budgets so far; each fault may have cost each site the round in flight."""
        assert not list(sum_faults(self.federation, self.run))
        assert not list(budget_faults(self.federation, self.run, self.faults))

    def rest(self) -> None:
        """Stop it after its round."""
        self.federation.command("coordinator", "stop", "C", self.run)
        self.federation.wait(self.run, "stopped", timeout_s=120)


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-1000:] if log.is_file() else "none"
