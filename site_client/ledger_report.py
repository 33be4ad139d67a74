"""`site-client ledger show | verify | export`: the ledger as its operator, or a third party with an export, reads it.

Nothing here is sent anywhere. An export holds no patient: rounds, schedules, hashes, signatures and public keys.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from configs.schema import SiteConfig
from privacy.ledger import Ledger, account_of, objection_of
from privacy.ledger_account import shared_words
from privacy.ledger_chain import LedgerTamperedError, check_export
from privacy.ledger_file import LedgerFile
from privacy.wire import check_id
from site_client.guarantees_report import guarantee_facts, guarantee_lines
from site_client.keystore import signing_key
from site_client.policy import delta_cap
from site_client.roster_pin import RosterPin
from site_client.trust import shared_caps

__all__ = ["accept_head", "export_text", "facts_in", "facts_of", "text_of", "verify_export_file"]

_BAR = 30


def ledger_path(config: SiteConfig) -> Path:
    """The site's ledger. Raises ValueError when there is none."""
    path = Path(config.state) / "ledger.sqlite"
    if not path.is_file():
        raise ValueError(f"there is no ledger at {path}; the first run makes it, and if this site has trained before, "
                         "restore it from backup, since a new one forgets what was spent")
    return path


def facts_of(config: SiteConfig, expected_head: str | None = None) -> dict[str, Any]:
    """What is spent, by run and in all; epsilon is None when a step without noise made it infinite.

    Raises:
        ValueError: no ledger file, or `expected_head` is no 32-byte hash in hex.
        LedgerTamperedError: chain, signatures, mark or key do not hold, or the head noted earlier is not in it.
    """
    policy = config.policy
    ledger = Ledger.open(ledger_path(config), must_exist=True, epsilon_cap=policy.max_epsilon,
                         delta_cap=policy.max_total_delta, shared=shared_caps(policy))
    try:
        return facts_in(config, ledger, expected_head)
    finally:
        ledger.close()


def facts_in(config: SiteConfig, ledger: Ledger, expected_head: str | None = None) -> dict[str, Any]:
    """What `facts_of` says, of a ledger that is open."""
    policy = config.policy
    ledger.verify_chain(_head(expected_head))
    ledger.verify_bookings()
    key = ledger.current_key
    if key and key != signing_key(Path(config.state)).public_bytes():
        raise LedgerTamperedError("the ledger is signed by another key than this site's identity.key")
    account = ledger.account()
    spent, entries = account.spent(), account.entries
    return {
        "site_id": config.site_id, "chain_intact": True, "rows": ledger.sequence, "entries": len(entries),
        "runs": sorted(run.run_id for run in account.runs()), "steps": sum(entry.steps for entry in entries),
        "epsilon": _finite(spent), "ran": _finite(account.ran()), "delta": account.delta() or None,
        "max_epsilon": policy.max_epsilon, "left": max(0.0, policy.max_epsilon - spent),
        "max_delta": _delta_cap(config), "composition": account.composition, "wasted_rounds": account.wasted(),
        "max_wasted_rounds": policy.max_wasted_rounds, "private": ledger.is_private(),
        "per_run": [{name: _finite(value) if isinstance(value, float) else value
                     for name, value in asdict(run).items()} for run in account.runs()],
        "guarantees": guarantee_facts(account, policy), "head": ledger.head().hex(),
    }


def text_of(facts: dict[str, Any]) -> str:
    """The facts for a screen."""
    if not facts["chain_intact"]:
        return (f"{facts['site_id']}: chain BROKEN: {facts['fault']}\nRestore the ledger from backup before the next "
                "run; until then nothing can be reserved.")
    delta = "" if facts["delta"] is None else f" at delta {facts['delta']:.3g}"
    used = 1.0 if facts["epsilon"] is None else min(1.0, facts["epsilon"] / facts["max_epsilon"])
    filled = round(_BAR * used)
    lines = [
        f"{facts['site_id']}: {facts['entries']} entries, {facts['steps']} steps, {len(facts['runs'])} runs",
        f"  spent   epsilon {epsilon_text(facts['epsilon'])}{delta}, for each patient (what ran: "
        f"{epsilon_text(facts['ran'])})",
        f"  cap     epsilon {facts['max_epsilon']:g} (policy.max_epsilon), delta {facts['max_delta']:.3g}",
        f"  left    epsilon {facts['left']:.4g}   [{'#' * filled}{'.' * (_BAR - filled)}] {100 * used:.0f} % spent",
        *(["  noise   shared among sites, so epsilon depends on who asks:"] if facts["guarantees"] else []),
        *guarantee_lines(facts["guarantees"]),
        f"  wasted  {facts['wasted_rounds']} of {facts['max_wasted_rounds']} rounds (policy.max_wasted_rounds)",
        f"  chain   intact, {facts['rows']} signed rows, head {facts['head'][:16]}",
    ]
    if facts["per_run"]:
        lines.append(f"  {'run':<20}{'reserved':>10}{'ran':>10}{'delta':>9}{'steps':>12}{'rounds':>8}{'wasted':>8}")
    for run in facts["per_run"]:
        reserved = "-" if run["reserved"] is None else f"{run['reserved']:.4g}"
        ran = "-" if run["ran"] is None else f"{run['ran']:.4g}"
        share = "-" if run["delta"] is None else f"{run['delta']:.3g}"
        steps = f"{run['steps']}/{run['planned_steps']}"
        lines.append(f"  {run['run_id']:<20}{reserved:>10}{ran:>10}{share:>9}{steps:>12}{run['rounds']:>8}"
                     f"{run['wasted']:>8}")
        if run["evaluations"]:
            lines.append(f"    of it {run['evaluations']} evaluations on validation patients, epsilon "
                         f"{epsilon_text(run['evaluation_epsilon'])} by themselves")
    if not facts["private"]:
        lines.append("  NOT PRIVATE: an entry has no noise, or noise from a simulated source")
    return "\n".join(lines)


def epsilon_text(epsilon: float | None) -> str:
    """Epsilon for a sentence."""
    return "unlimited (a step had no noise)" if epsilon is None else f"{epsilon:.4g}"


def export_text(config: SiteConfig) -> str:
    """The ledger as one JSON document that anybody can check with `verify --file`."""
    ledger = Ledger.open(ledger_path(config), must_exist=True)
    try:
        return json.dumps({"site_id": config.site_id, **ledger.export()}, indent=1)
    finally:
        ledger.close()


def verify_export_file(path: Path, expected_head: str | None = None) -> dict[str, Any]:
    """What can be said about an export whose chain and signatures hold: `said` in one sentence, and the same as facts.

    `private` is False, and `objection` says why, where its rows allow no statement of privacy: a step without noise,
    noise from a simulated source, or a release that no reservation covers. The site's name in it is signed by nobody.

    Raises:
        ValueError: not an export of this release.
        LedgerTamperedError: it does not hold, or lacks the head noted earlier.
    """
    try:
        exported = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path} is not JSON: ask the site for its export again") from None
    rows = check_export(exported)
    head = _head(expected_head)
    if head is not None and head not in {row.hash for row in rows}:
        raise LedgerTamperedError("the export does not contain the head that was noted earlier")
    account, objection, name = account_of(rows), objection_of(rows), _claimed_name(exported)
    shared = f"; {shared_words(account.guarantees())}" if account.shares_noise() else ""
    spent = _finite(account.spent())
    said = (f"{len(rows)} rows intact and signed, {len(account.entries)} entries, first key "
            f"{exported['first_key'][:16]}, current key {exported['current_key'][:16]} (compare it with the roster: "
            f"the name in the export, {name}, is not signed), "
            f"epsilon {epsilon_text(spent)} at delta {account.delta():.3g}, head {exported['head']}" + shared)
    if objection is not None:
        said = f"NOT PRIVATE: {objection}. {said}"
    return {"chain_intact": True, "private": objection is None, "objection": objection, "said": said,
            "claimed_site_id": name, "name_signed": False, "rows": len(rows), "entries": len(account.entries),
            "first_key": exported["first_key"], "current_key": exported["current_key"], "head": exported["head"],
            "epsilon": spent, "delta": account.delta() or None}


def _claimed_name(exported: dict[str, Any]) -> str:
    """The site's name as the file has it; a fixed word for what is no identifier, so a file prints nothing else."""
    name = exported.get("site_id")
    try:
        check_id("site_id", name if isinstance(name, str) else "")
    except ValueError:
        return "(none)"
    return str(name)


def accept_head(config: SiteConfig, head: str) -> str:
    """The operator's word that the ledger as it is, ending at `head`, is the newest: its mark is written anew."""
    rows = LedgerFile.accept(ledger_path(config), _head(head) or b"")
    return f"accepted {rows} rows as the newest; note the head {head} somewhere else"


def _head(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        head = bytes.fromhex(text)
    except ValueError:
        head = b""
    if len(head) != 32:
        raise ValueError("a head is 64 hexadecimal digits, as `site-client ledger show --json` prints it")
    return head


def _delta_cap(config: SiteConfig) -> float:
    """With the roster's declared patients where the roster can be read; the policy's own otherwise."""
    try:
        patients = RosterPin(config).roster().site(config.site_id).declared_patients
    except (OSError, ValueError, KeyError):
        return config.policy.max_total_delta
    return delta_cap(config.policy, patients)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
