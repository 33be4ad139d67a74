"""The part of `coordinator verify-release` on what a release says: each value and each word that reaches its card.

A value is compared with the roster or the manifest, computed again, bound to a form, or named as the coordinator's own
word. Nothing here trusts a value of `release.json` before the signature over it was checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from safetensors import safe_open

from coordinator import release_facts
from coordinator.release_card import release_card
from coordinator.release_checks import read_json, same_json
from coordinator.release_folder import ROUNDS_FILE, ReleaseError, read_part
from model.spec import ModelSpec
from privacy.audit_claim import NO_AUDIT, is_claim
from privacy.gates import training_rounds
from privacy.messages import Result, RunManifest
from privacy.release import release_hash
from privacy.roster import SignedRoster

__all__ = ["check_numbers", "check_roster_words", "check_rounds", "check_words", "coordinators_word"]

_SAME_EPSILON = 0.01  # accountants of other versions may differ in the last digits
_NUMBERS = ("epsilon", "delta", "sites", "accountant")  # computed again; a machine may differ in the last digit
_MOST_CARD = 1 << 22
_TIME = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def check_roster_words(facts: Mapping[str, Any], signed: SignedRoster) -> None:
    """Version, key and signing officers that are stated are the roster's."""
    roster = signed.roster
    if facts["coordinator_key"] != roster.coordinator_key.hex():
        raise ReleaseError("release.json names another coordinator's key than the roster")
    stated = facts["roster_version"], facts["roster_signers"]
    if not same_json(stated, (roster.version, list(signed.signers(roster)))):
        raise ReleaseError("release.json states another version of the roster, or other officers who signed it")


def check_numbers(facts: Mapping[str, Any], manifest: RunManifest) -> list[str]:
    """What follows from the manifest is stated as it follows; epsilon is computed again."""
    for name, value in release_facts.manifest_facts(manifest).items():
        shown = facts[name]
        if name == "adapter":
            shown = {key: shown.get(key) for key in value}
        if not same_json(shown, value):
            raise ReleaseError(f"release.json states {name} differently from the signed manifest")
    numbers, stated = release_facts.privacy_numbers(manifest), facts["privacy"]["sites"]
    if (facts["privacy"]["claim"] == "none") != (manifest.privacy == "none") or len(numbers) != len(stated):
        raise ReleaseError("release.json claims another kind of privacy than the signed manifest")
    for own, shown in zip(numbers, stated, strict=True):
        plain = [{name: value for name, value in one.items() if name != "epsilon"} for one in (own, shown)]
        if not same_json(*plain) or not abs(shown["epsilon"] - own["epsilon"]) <= _SAME_EPSILON * own["epsilon"]:
            raise ReleaseError(f"release.json states epsilon or delta of {own['site_id']} differently from what the "
                               f"manifest gives: {own['epsilon']:.4g} at {own['delta']:.3g}")
    if not numbers:
        return ["curriculum and base as in the manifest; it claims NO differential privacy"]
    _require_largest(facts["privacy"])
    worst, delta = (max(one[name] for one in numbers) for name in ("epsilon", "delta"))
    return ["curriculum, base and privacy numbers follow from the manifest; epsilon computed again: at most "
            f"{worst:.4g} at delta {delta:.3g}"]


def _require_largest(privacy: Mapping[str, Any]) -> None:
    """What the card says in one line is the largest of its sites' numbers, of an accountant that is known here."""
    for name in ("epsilon", "delta"):
        if not same_json(privacy[name], max(one[name] for one in privacy["sites"])):
            raise ReleaseError(f"release.json states another {name} than its sites' largest")
    if not release_facts.is_accountant(privacy["accountant"]):
        raise ReleaseError("release.json names an accountant that no release of this software uses")


def check_rounds(folder: Path, facts: Mapping[str, Any], manifest: RunManifest, result: Result) -> None:
    """The rounds of each stage are those of `rounds.json`, and in all as many as the sites attested."""
    rounds = read_json(folder / ROUNDS_FILE)
    if (rounds["run_id"], rounds["manifest_hash"]) != (manifest.run_id, manifest.hash().hex()):
        raise ReleaseError(f"{ROUNDS_FILE} is of another run")
    counted = release_facts.stage_rounds(manifest, rounds["rounds"])
    if not same_json(counted, facts["stage_rounds"]):
        raise ReleaseError(f"release.json counts other rounds than {ROUNDS_FILE}")
    most = [training_rounds(stage) for stage in manifest.stages]
    if sum(counted) != result.finished or any(done > limit for done, limit in zip(counted, most, strict=True)):
        raise ReleaseError(f"{ROUNDS_FILE} has {sum(counted)} rounds with a sum, of stages of {most}, and the sites "
                           f"attested {result.finished}")


def check_words(folder: Path, facts: Mapping[str, Any], manifest: RunManifest) -> str:
    """The card, and every word in `release.json`, are those that this software writes; "" where another one did."""
    if facts["exporting_release"] != release_hash():
        return ""
    privacy, adapter, audit = facts["privacy"], facts["adapter"], facts["audit"]
    own = release_facts.privacy_facts(manifest)
    words = {
        "privacy": {**own, **{name: privacy[name] for name in _NUMBERS if name in own}},
        "adapter": release_facts.adapter_facts(manifest, adapter["size"], adapter["exported_hash"]),
        "licence": release_facts.LICENCE, "loading": _loading(folder, facts["kind"]),
        "audit": {"audited": audit["audited"] is True, "text": str(audit["text"])}}
    spoken = is_claim(audit["audited"], audit["text"], private=manifest.privacy != "none")
    card = release_card({name: value for name, value in facts.items() if name != "files"}).encode()
    if (not spoken or set(facts) != release_facts.NAMES
            or any(not same_json(facts[name], value) for name, value in words.items())
            or read_part(folder / "README.md", _MOST_CARD) != card):
        raise ReleaseError("the card or the words on privacy and licence, adapter, loading and audit are not those of "
                           "the software that is named")
    return ("README.md and the words on privacy, licence, adapter, loading and audit are what this very software "
            "writes of these facts")


def _loading(folder: Path, kind: str) -> list[str]:
    if kind == "merged":
        try:
            return release_facts.merged_loading(ModelSpec.read(folder / "spec.json"))
        except ValueError as error:
            raise ReleaseError(f"spec.json describes no model: {error}") from None
    with safe_open(str(folder / "adapter_model.safetensors"), framework="numpy") as file:
        return release_facts.peft_loading(list(file.keys()), read_json(folder / "adapter_config.json"))


def coordinators_word(facts: Mapping[str, Any]) -> list[str]:
    """What nothing but the coordinator's signature stands for, in lines. Raises ReleaseError where it has no form."""
    created, software = facts["created_utc"], facts["exporting_release"]
    try:
        if not _TIME.fullmatch(created):
            raise ValueError
        datetime.strptime(created, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        raise ReleaseError("created_utc in release.json is no time such as 2026-01-31T23:59:59Z") from None
    if not re.fullmatch(r"[0-9a-f]{64}", software):
        raise ReleaseError("exporting_release in release.json is no hash of a release of this software")
    used = facts["privacy"].get("accountant")
    version = f", the accountant's version ({used['version']})" if used else ""
    found = [f"what the coordinator alone says: when it was made ({created}), which software exported it{version}, and "
             f"in {ROUNDS_FILE} what each round gave and of which stage it was"]
    if facts["audit"]["audited"] is not False:
        found.append("the audit: its file is unsigned, the coordinator's word stands for it")
    elif facts["audit"]["text"] != NO_AUDIT:
        found.append("why there is no audit: the coordinator's word stands for it")
    return found
