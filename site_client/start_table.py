"""`site-client start` on a terminal: the site's processes, its run, its budget and what left, in one table in place.

Read from the state folder as the pages of `status --web` are, without a lock of the processes that write it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from configs.schema import SiteConfig
from privacy.transport.terminal import bar, facts_grid, time_words
from site_client.run_progress import run_progress
from site_client.web.readings import Readings

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["StartTable"]


class StartTable:
    """Of one site."""

    def __init__(self, config: SiteConfig) -> None:
        self._readings = Readings(config)

    def table(self, _: Console) -> Any:
        """As it is now."""
        return facts_grid(self.facts(time.time()))

    def facts(self, now: float) -> list[tuple[str, str]]:
        """Names and values."""
        return [*self._processes(), *self._run(now), ("budget", self._budget()), *self._left(now), *self._waiting()]

    def _processes(self) -> list[tuple[str, str]]:
        facts = self._readings.processes()
        found = []
        for child in facts["children"]:
            again = f", started {child['starts']} times" if child["starts"] > 1 else ""
            why = f"; {child['last_reason']}" if child["last_reason"] and child["state"] != "running" else ""
            found.append((child["name"], f"{child['state']}{again}{why}"))
        node = next((child["state"] for child in facts["children"] if child["name"] == "node"), "")
        state = {"running": "connected", "lost": "lost", "starting": "connecting"}.get(node, "not connected")
        return [("site", f"{self._readings.config.site_id}, {facts['state']}"), *found,
                ("coordinator", f"{state}, {self._readings.address()}")]

    def _run(self, now: float) -> list[tuple[str, str]]:
        from privacy.web.words import step_words

        ledger = self._readings.ledger()
        per_run = ledger.facts["per_run"] if ledger.facts else []
        run = run_progress(ledger.entries, per_run, self._readings.log().events, now)
        if run is None:
            return [("run", "none yet")]
        where = f"stage {run.stage + 1}, " if run.stage is not None else ""
        number = run.round if run.round is not None else "-"
        lines = [("run", f"{run.run_id}: {where}round {number}" + ("" if run.going_on else ", quiet")),
                 ("answered", f"{step_words(run.step)}, {time_words(now - run.since)} ago")]
        if run.planned_steps:
            lines.append(("steps", f"{bar(run.steps / run.planned_steps)} {run.steps} of at most {run.planned_steps}"))
        if run.left_s is not None:
            lines.append(("left", f"at most about {time_words(run.left_s)}"))
        return lines

    def _budget(self) -> str:
        from site_client.ledger_report import epsilon_text

        ledger, cap = self._readings.ledger(), self._readings.config.policy.max_epsilon
        if ledger.fault:
            return f"cannot be told: {ledger.fault}"
        if ledger.facts is None:
            return f"{bar(0)} nothing spent of epsilon {cap:g}"
        spent = ledger.facts["epsilon"]
        return f"{bar(1.0 if spent is None else spent / cap)} epsilon {epsilon_text(spent)} of {cap:g} charged"

    def _left(self, now: float) -> list[tuple[str, str]]:
        from site_client.audit_commands import egress_report

        log = self._readings.log()
        if log.fault:
            return [("sent", f"the record does not hold: {log.fault}")]
        report = egress_report(log.events)
        count = sum(row["count"] for row in report["egress"])
        return [("sent", f"{count} messages, {report['bytes_that_left']:,} bytes")]

    def _waiting(self) -> list[tuple[str, str]]:
        waiting = self._readings.waiting()
        return [("waiting", f"{', '.join(waiting)}: site-client approve SITE_FILE")] if waiting else []
