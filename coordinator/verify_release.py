"""`coordinator verify-release`: a release checked by somebody who was not there, offline, with this software alone.

The chain: officers signed the roster, the roster names the coordinator's and the sites' keys, the coordinator signed
the manifest and `release.json`, a quorum of sites signed the final state, and the files are what these name. It begins
with something that the reader knows from elsewhere: a roster, or the fingerprint of the coordinator's key.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from coordinator import release_checks as checks
from coordinator import release_words as words
from coordinator.release_folder import (
    MANIFEST_FILE,
    ROSTER_FILE,
    STATE_FILE,
    ReleaseError,
    Statement,
    open_statement,
    present_files,
    read_part,
    require_listed,
)
from privacy.aggregation import weights_follow
from privacy.errors import FaultyCoordinatorError, MessageFormatError
from privacy.identity import Roster
from privacy.messages import RunManifest, SignedManifest
from privacy.roster import OFFICERS_NEEDED, RosterError, SignedRoster
from privacy.roster_facts import fingerprint

__all__ = ["Anchor", "Verified", "verify_release"]

_NEVER_PROVED = (
    "that each site's software did what the manifest says: epsilon follows from the manifest, what was really spent is "
    "in each site's own signed ledger",
    "that the model is right, useful or safe: it is for research only, never for clinical decisions",
    "when the release was made, and that no newer or other release of the run exists",
)


@dataclass(frozen=True)
class Anchor:
    """What the reader knows from elsewhere. `key` is a public key (64 hexadecimal digits) or its fingerprint (32)."""

    roster: SignedRoster | None = None
    key: str = ""
    federation_id: str = ""


@dataclass
class Verified:
    """What was checked and what that does not prove, in the order of the checks."""

    run_id: str = ""
    federation_id: str = ""
    kind: str = ""
    coordinator_key: str = ""
    signed_by: str = ""
    checked: list[str] = field(default_factory=list)
    not_proved: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"good": True, **asdict(self)}

    def text(self) -> str:
        """For a screen."""
        return "\n".join([
            f"release of run {self.run_id} of the federation {self.federation_id}, {self.kind}", self.signed_by,
            "checked:", *(f"  {line}" for line in self.checked),
            "this does NOT prove:", *(f"  {line}" for line in self.not_proved)])


def verify_release(folder: Path, anchor: Anchor, base: Path | None = None) -> Verified:
    """Check the release in `folder`, and against the base model's folder where that is given.

    Raises:
        ReleaseError: the first thing that does not hold.
        ValueError: `folder` or `base` is no folder, or the anchor's key is no key.
    """
    for place in (folder, *([] if base is None else [base])):
        if not place.is_dir():
            raise ValueError(f"there is no folder {place}")
    present_files(folder)
    statement = open_statement(folder)
    try:
        return _verify(folder, statement, anchor, base)
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise ReleaseError("release.json lacks a value that every release has; get the release again") from None


def _verify(folder: Path, statement: Statement, anchor: Anchor, base: Path | None) -> Verified:
    facts, found = statement.facts, Verified()
    roster, manifest = _check_signatures(folder, statement, anchor, found)
    files = require_listed(folder, statement)
    found.checked.append(f"{len(files) - 2} files with the signed SHA-256 and size, and no other; no links, no pickles")
    found.checked += words.check_numbers(facts, manifest)
    result, line, bound = checks.check_attestation(facts, manifest, roster)
    found.checked.append(line)
    if not bound:
        found.not_proved.append("that the attested round belongs to this very manifest: the run's checkpoint is of an "
                                "earlier release and kept no plan; the sites' signatures name the run only")
    if line := checks.check_gates(manifest, result):
        found.checked.append(line)
    adapter, line = checks.check_state(folder / STATE_FILE, facts, result)
    found.checked.append(line)
    if facts["kind"] == "peft":
        found.checked += checks.check_adapter(folder, manifest, adapter)
        if base is not None:
            found.checked.append(checks.check_peft_base(folder, base, manifest))
    else:
        found.checked.append(checks.check_merged_files(folder))
        if base is not None:
            found.checked.append(checks.check_merged_base(folder, base, manifest, adapter))
    words.check_rounds(folder, facts, manifest, result)
    line = words.check_words(folder, facts, manifest)
    if line:
        found.checked.append(line)
    else:
        found.not_proved.append("any word of README.md, nor those in release.json on privacy, licence, loading and "
                                "audit: another version of the software wrote them")
    found.not_proved += [*words.coordinators_word(facts), *_limits(facts, base)]
    return found


def _check_signatures(
    folder: Path, statement: Statement, anchor: Anchor, found: Verified
) -> tuple[Roster, RunManifest]:
    """Roster, manifest and statement, each signed by whom the one before names; `found` learns who that is."""
    facts = statement.facts
    try:
        signed = SignedRoster.parse(read_part(folder / ROSTER_FILE, SignedRoster.LIMIT_BYTES))
        roster = signed.require_signed()
        manifest = SignedManifest.open(read_part(folder / MANIFEST_FILE, SignedManifest.LIMIT_BYTES), roster)
    except OSError:
        raise ReleaseError("the release lacks its roster or its manifest; get it again") from None
    except RosterError as error:
        raise ReleaseError(f"the roster in the release does not hold: {error}") from None
    except MessageFormatError:
        raise ReleaseError(f"{MANIFEST_FILE} is not a signed manifest of this release") from None
    except FaultyCoordinatorError as error:
        raise ReleaseError(f"the manifest in the release does not hold: {error} ({error.code})") from None
    if not weights_follow(manifest, roster):
        raise ReleaseError("the manifest weighs the sites other than by the patients that the roster declares, so a "
                           "sum may have been one site's; no site of this software takes part in such a run")
    if not statement.is_signed_by(roster.coordinator_key, manifest.hash()):
        raise ReleaseError("release.json is not signed by the coordinator of this roster for this manifest; it was "
                           "changed, or another manifest was put beside it")
    words.check_roster_words(facts, signed)
    found.run_id, found.federation_id, found.kind = manifest.run_id, manifest.federation_id, facts["kind"]
    found.coordinator_key = roster.coordinator_key.hex()
    found.checked += [
        f"roster version {roster.version} of {roster.federation_id}, signed by {', '.join(signed.signers(roster))}",
        f"manifest {manifest.hash().hex()[:16]} of run {manifest.run_id}, signed by the coordinator",
        "release.json, signed by the coordinator for this manifest"]
    found.signed_by, limits = _compare(anchor, signed)
    found.not_proved += limits
    return roster, manifest


def _compare(anchor: Anchor, signed: SignedRoster) -> tuple[str, list[str]]:
    """Who signed, in one line, and what that rests on. Raises ReleaseError when it is not whom the reader knows."""
    roster = signed.roster
    mark = fingerprint(roster.coordinator_key)
    if anchor.federation_id and anchor.federation_id != roster.federation_id:
        raise ReleaseError(f"the release is of the federation {roster.federation_id}, not of {anchor.federation_id}")
    if anchor.key and not _is_key(anchor.key, roster.coordinator_key):
        raise ReleaseError(f"the release is signed by the key {mark}, which is not the one that was given")
    if anchor.roster is not None:
        _require_known_officers(anchor.roster.require_signed(), signed)
        return f"signed by {mark}, the coordinator on the roster that was given", []
    who = ("who the officers and the sites are: the roster in the release says so, and `--roster ROSTER` compares it "
           "with one that you know")
    if anchor.key:
        return f"signed by {mark}, the key that was given", [who]
    return (f"signed by {mark}, which you must compare yourself with the consortium's",
            ["who made this release: anybody can make keys, a roster and a release that agree", who])


def _require_known_officers(known: Roster, signed: SignedRoster) -> None:
    """The release's roster is the one given, or two officers of that one signed it as well."""
    if signed.roster.hash() == known.hash():
        return
    if signed.roster.federation_id != known.federation_id:
        raise ReleaseError(f"the release is of the federation {signed.roster.federation_id}, and the roster that was "
                           f"given is of {known.federation_id}")
    if len(signed.signers_among(known.officers)) < OFFICERS_NEEDED:
        raise ReleaseError(f"the roster in the release (version {signed.roster.version}) is not the one that was given "
                           f"(version {known.version}), and fewer than {OFFICERS_NEEDED} of its officers signed it")


def _is_key(given: str, key: bytes) -> bool:
    digits = "".join(given.split()).lower().replace(":", "")
    if len(digits) not in (32, 64) or any(one not in "0123456789abcdef" for one in digits):
        raise ValueError(f"{given[:90]!r} is neither a key nor its fingerprint; give 64 or 32 hexadecimal digits")
    return digits in (key.hex(), "".join(fingerprint(key).split()))


def _limits(facts: dict[str, Any], base: Path | None) -> list[str]:
    """What no check here can say, of this release."""
    found = list(_NEVER_PROVED)
    if base is None:
        found.append("that the weights are the base's with the attested adapter added, and configuration, spec and "
                     "tokenizer the base's: give the base with --base" if facts["kind"] == "merged" else
                     "that the base has these layers, of these shapes, for the adapter's matrices, nor anything else "
                     "about the base model's files: give them with --base")
    return found
