"""What each page shows, as plain values; the templates only lay them out. No value here is of one patient."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from privacy.web.words import meanings
from site_client.audit_chain import Event
from site_client.audit_commands import egress_report
from site_client.guarantees_report import guarantee_lines
from site_client.leaving import REPLIES
from site_client.policy_table import policy_rows
from site_client.records import REASONS
from site_client.run_progress import run_progress, seconds_of
from site_client.web.alarms import alarms_of
from site_client.web.readings import LedgerReading, Readings

__all__ = ["data_page", "left_page", "overview", "policy_page", "runs_page"]

Values = dict[str, Any]
_SHOWN = 50  # rows of a table that has pages


def overview(readings: Readings, site_file: str) -> Values:
    """What runs, how far it is, what is left of the budget, what is alarming."""
    processes, ledger, log = readings.processes(), readings.ledger(), readings.log()
    sent = [event for event in log.events if event.kind == "egress"]
    per_run = ledger.facts["per_run"] if ledger.facts else []
    now = run_progress(ledger.entries, per_run, log.events, time.time())
    return {
        "processes": processes, "alarms": alarms_of(readings, processes, ledger, log, site_file),
        "connection": _connection(readings, processes), "roster": readings.roster(),
        "now": None if now is None else asdict(now), "budget": budget_of(ledger), "ledger_fault": ledger.fault,
        "max_epsilon": readings.config.policy.max_epsilon, "log": log, "sent": len(sent),
        "sent_bytes": sum(_bytes(event) for event in sent), "last_sent": seconds_of(sent[-1].utc) if sent else None}


def _connection(readings: Readings, processes: Values) -> Values:
    """Of the node: whether the coordinator answers it; nothing is asked from here."""
    node = next((child for child in processes["children"] if child["name"] == "node"), None)
    if not readings.config.invitation:
        return {"address": "", "state": "none", "why": "this site file has no invitation"}
    state = {"running": "connected", "lost": "lost", "starting": "connecting"}.get(
        node["state"] if node else "", "not connected")
    return {"address": readings.address(), "state": state, "why": node["last_reason"] if node else ""}


def budget_of(ledger: LedgerReading) -> Values | None:
    """The gauge: shares of the cap that ran and that are reserved, in percent; None without a ledger."""
    facts = ledger.facts
    if facts is None:
        return None
    spent, cap = facts["epsilon"], facts["max_epsilon"]
    share = 100.0 if spent is None else min(100.0, 100.0 * spent / cap)
    ran = share if facts["ran"] is None else min(share, 100.0 * facts["ran"] / cap)
    delta = facts["delta"] or 0.0
    return {"spent": spent, "ran": facts["ran"], "cap": cap, "left": facts["left"], "share": share, "ran_share": ran,
            "delta": delta, "max_delta": facts["max_delta"],
            "delta_share": min(100.0, 100.0 * delta / facts["max_delta"]), "private": facts["private"],
            "wasted": facts["wasted_rounds"], "composition": facts["composition"],
            "guarantees": guarantee_lines(facts["guarantees"])}


def runs_page(readings: Readings, upto: int | None) -> Values:
    """Every run of the ledger, and its entries, newest first. `upto`: the newest entry's number; None = the last."""
    ledger = readings.ledger()
    rows = [{**asdict(entry), "number": number, "finished": (entry.run_id, entry.round) in ledger.finished,
             "time": _seconds(entry.created_utc)} for number, entry in enumerate(ledger.entries, 1)]
    return {"facts": ledger.facts, "fault": ledger.fault, **_page(rows, upto, "number")}


def left_page(readings: Readings, upto: int | None) -> Values:
    """Totals of what left by kind, and each message, newest first. `upto`: the newest event's number."""
    log = readings.log()
    report = egress_report(log.events)
    sent = [_sent(event) for event in log.events if event.kind == "egress"]
    refused = report["refusals"]
    kinds = {kind.__name__: step for step, kind in REPLIES.items()}
    since_start = [{"request": name, **one} for name, one in sorted(readings.transport().items())]
    return {"log": log, "report": report, "refused": refused, "meanings": meanings(*refused), "kinds": kinds,
            "since_start": since_start, "head": log.events[-1].hash.hex() if log.events else "",
            "all_sent": len(sent), **_page(sent, upto, "seq")}


def policy_page(readings: Readings) -> Values:
    """Each key of the policy with its value and meaning."""
    return {"rows": policy_rows(readings.config.policy)}


def data_page(readings: Readings) -> Values:
    """What the last index counted, exactly: these pages stay inside the hospital."""
    found = readings.index()
    summary = found["summary"]
    reasons = [] if summary is None else [
        {"code": code, "count": count, "meaning": REASONS[code]}
        for code, count in sorted(summary["refused_by_reason"].items(), key=lambda pair: -pair[1])]
    return {**found, "reasons": reasons}


def _page(rows: Sequence[Values], upto: int | None, key: str) -> Values:
    """The rows to show, newest first, and the numbers with which older and newer ones are asked for."""
    at = [row for row in rows if upto is None or row[key] <= upto]
    shown = list(at[-_SHOWN:])[::-1]
    older = at[-_SHOWN - 1][key] if len(at) > _SHOWN else None
    return {"shown": shown, "older": older, "newer": len(at) < len(rows)}


def _sent(event: Event) -> Values:
    fields = event.fields
    return {"seq": event.seq, "time": seconds_of(event.utc), "message": fields["message"], "step": fields["step"],
            "body": fields["body_bytes"], "vector": fields["vector_bytes"], "run_id": fields.get("run_id") or "",
            "round": fields.get("round"), "sha256": fields["sha256"]}


def _bytes(event: Event) -> int:
    fields = event.fields
    return int(fields["body_bytes"]) + int(fields["vector_bytes"])


def _seconds(utc: str) -> float | None:
    """Unix seconds; a time that is a placeholder of a simulation is none."""
    try:
        return seconds_of(utc)
    except ValueError:
        return None
