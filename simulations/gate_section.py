"""Evaluation rounds and gates in a simulation's report: on the screen and on the page."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from coordinator.gate_report import evaluation_text

__all__ = ["gate_lines", "gate_section"]


def gate_lines(facts: Mapping[str, Any]) -> list[str]:
    """One line for each evaluation round, and how a row ended that was stopped at a gate.

    facts: the content of `report.json`.
    """
    lines = [f"{row} round {entry['round']}, {entry['stage_name']}: "
             f"{evaluation_text(entry['evaluation'], len(entry['summed']))}"
             for row, entries in facts["rounds"].items() for entry in entries if entry.get("evaluation")]
    return lines + [f"{row}: {text}" for row, text in facts.get("stopped", {}).items()]


def gate_section(facts: Mapping[str, Any]) -> str:
    """A part of `report.html`; "" for a run without evaluations."""
    lines = gate_lines(facts)
    if not lines:
        return ""
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return ("<h2>Evaluations and gates</h2><p>Each site evaluates on patients who are never trained on, adds noise "
            "that its ledger is charged for, and sends its sums and one fail bit through the secure sum. Who failed is "
            f"not known. The error is that of the noise.</p><ul>{items}</ul>")
