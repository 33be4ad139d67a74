"""What must hold of a real federation after whatever was done to it: sums, attestations, budgets, logs.

Read from outside, from the files that the processes left; the federation may still run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from configs.load import load_config
from configs.schema import SiteConfig
from coordinator import checkpoint
from model.server_optimizer import ServerState
from privacy.dp.accounting import epsilon
from privacy.ledger import Ledger
from privacy.ledger_entries import LedgerEntry
from privacy.messages import SignedManifest, SignedResult
from privacy.roster import SignedRoster
from simulations.real_federation import RealFederation
from site_client.audit_log import site_log
from site_client.ledger_report import facts_of
from site_client.round_store import RoundStore

__all__ = ["budget_faults", "faults_of", "sum_faults"]

History = list[dict[str, Any]]


def faults_of(federation: RealFederation, run: str, in_flight: int | Mapping[str, int]) -> list[str]:
    """Everything that is not as it should be, in words; [] is what a test wants.

    :param in_flight: how many rounds a site may have paid for in vain: one for each fault that was done; by site, or
        for all.
    """
    return [*sum_faults(federation, run), *_state_faults(federation, run), *budget_faults(federation, run, in_flight),
            *_log_faults(federation)]


def sum_faults(federation: RealFederation, run: str) -> Iterator[str]:
    """Each round's sum is that of the sites that it names, and a quorum attested what came of it."""
    bits, roster = _manifest(federation, run).bits, _roster(federation, run)
    for finished, entry in enumerate(history := federation.history(run), start=1):
        wrong = federation.sums.wrong(run, finished, entry["round"], bits, entry["summed"])
        if wrong:
            yield wrong
        if len(entry["attested"]) < roster.threshold(len(entry["started"])) and finished < len(history):
            yield f"round {entry['round']}: attested by {entry['attested']} only"
        if not set(entry["summed"]) <= set(entry["masked"]) <= set(entry["started"]) or len(entry["summed"]) < 3:
            yield f"round {entry['round']}: {entry['summed']} of {entry['masked']} of {entry['started']} cannot be"
    numbers = [entry["round"] for entry in history]
    if numbers != sorted(set(numbers)):
        yield f"rounds {numbers} are not ascending"


def _state_faults(federation: RealFederation, run: str) -> Iterator[str]:
    """The coordinator's model is the one in its signed result, and each site that attested holds the same state."""
    found = checkpoint.latest(federation.queue.folder(run) / "checkpoints", _manifest(federation, run).hash().hex())
    if found is None:
        return
    result = SignedResult.from_bytes(bytes.fromhex(found.result)).result
    state = ServerState(found.adapter, found.velocity, found.average, len(found.history))
    if (state.model_hash, state.state_hash) != (result.model_hash, result.state_hash):
        yield "the checkpoint's model is not the one of its signed result"
    for site in found.history[-1]["attested"]:
        store = RoundStore(federation.state(site))
        try:
            held = store.state(run)
        finally:
            store.close()
        if held is None or held.round < result.round:
            yield f"{site} attested round {result.round} and does not hold its state"
        elif held.round == result.round and held.packed.tobytes() != state.packed().tobytes():
            yield f"{site} holds another state than the coordinator"


def budget_faults(federation: RealFederation, run: str, in_flight: int | Mapping[str, int]) -> Iterator[str]:
    """No site's epsilon is below that of the rounds it is in, nor above by more than the rounds in flight."""
    history = federation.history(run)
    for site in federation.site_ids:
        path = federation.state(site) / "ledger.sqlite"
        if not path.is_file():
            if any(site in entry["masked"] for entry in history):
                yield f"{site} has no ledger"
            continue
        ledger = Ledger.open(path, must_exist=True)
        try:
            booked = [entry for entry in ledger.entries() if entry.run_id == run]
            spent = ledger.spent()
        finally:
            ledger.close()
        allowed = in_flight if isinstance(in_flight, int) else in_flight.get(site, 0)
        yield from _site_budget(site, history, booked, spent, allowed)


def _site_budget(
    site: str, history: History, booked: list[LedgerEntry], spent: float, allowed: int
) -> Iterator[str]:
    took_part = {entry["round"] for entry in history if site in entry["masked"] or site in entry["summed"]}
    times = Counter(entry.round for entry in booked)
    if missing := sorted(took_part - times.keys()):
        yield f"{site}'s ledger lacks the rounds {missing}"
    wasted = len(booked) - len(took_part)
    newest = max((entry["round"] for entry in history), default=0)
    going_on = sum(count for number, count in times.items() if number > newest)
    if wasted - min(going_on, 1) > allowed:
        yield f"{site}'s ledger has {wasted} trainings too many; {allowed} rounds were in flight"
    if took_part:
        least = [next(entry for entry in booked if entry.round == number).event() for number in sorted(took_part)]
        if not epsilon(least, booked[0].delta) <= spent:
            yield f"{site}'s epsilon {spent} is below that of its {len(took_part)} rounds"


def _log_faults(federation: RealFederation) -> Iterator[str]:
    """Chains and signatures of every site's audit log and ledger hold."""
    for site in federation.site_ids:
        try:
            log = site_log(federation.state(site))
            log.release()
            if (federation.state(site) / "ledger.sqlite").is_file():
                facts_of(load_config(SiteConfig, federation.site_file(site)))
        except Exception as error:
            yield f"{site}: {error}"


def _manifest(federation: RealFederation, run: str) -> Any:
    return SignedManifest.from_bytes(_file(federation, run, "manifest.bin").read_bytes()).manifest


def _roster(federation: RealFederation, run: str) -> Any:
    return SignedRoster.open(_file(federation, run, "roster.bin").read_bytes())


def _file(federation: RealFederation, run: str, name: str) -> Path:
    return federation.queue.folder(run) / name
