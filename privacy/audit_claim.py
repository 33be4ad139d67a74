"""When an export may say "audited": only with a passing audit of exactly this release, configuration and data.

*Guarantees.*
    * `audit_claim` says "audited" only if the file is a finished audit that refuted nothing, made with system
      randomness on the unaltered mechanism, and names the same release, base model, configuration and data.
      Everything else, also a file that cannot be read, gives "not audited" with the reason in a few words.
    * `is_claim` is true of the sentences of `audit_claim` alone, so nobody's own words pass for one.
    * `configuration_hash` covers every field of manifest and stages that is not listed here as irrelevant to
      privacy, so a field that is added later counts until somebody decides otherwise.

*Assumes.*
    * The audit file was written by `simulate audit` and not by hand: it is a check against mistakes, unsigned.

*Does not cover.*
    * Proof of epsilon. An audit that passes is failure to refute.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from privacy.manifest import RunManifest
from privacy.release import release_hash

__all__ = ["AUDIT_FORMAT", "AuditClaim", "AuditSubject", "NO_AUDIT", "audit_claim", "configuration_hash", "is_claim",
           "subject_of"]

AUDIT_FORMAT = "patient-dp-audit/1"
NO_AUDIT = "not audited: no audit of this release, configuration and data was given"
_NO_PRIVACY = "not audited: this run has no differential privacy"
_NO_REFUTATION = ("audited: no test refuted the claimed epsilon (false-alarm rate {} over all tests); a pass is "
                  "failure to refute, not proof")
_OTHER_FORMAT = "the audit file has another format; audit again with this release"
_PLANTED = "the audit is of a mechanism with a planted fault"
_REPEATABLE = "the audit used repeatable randomness; audit again without --seed"
_FAILED = "the audit failed; see its report before anything is released"
_NO_PASS = "the audit's tests do not add up to a pass"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UNREADABLE = " is not an audit file that can be read"

# Names and post-processing of what was released. Release, base model and data are compared on their own.
_NOT_PRIVACY = frozenset({
    "federation_id", "run_id", "release", "roster_hash", "base_model_hash", "adapter_hash", "target_epsilon", "bits",
    "saturation", "sites", "stages", "server", "suite", "integrity_tags"})
_STAGE_NOT_PRIVACY = frozenset({"learning_rate", "momentum", "optimizer", "stop"})
_COMPARED = {"release": "release", "base_model": "base model", "configuration": "configuration", "data": "data",
             "engine": "engine for gradients"}
_RATES = (1e-6, 0.05)  # a lower rate makes an audit that cannot fail, a higher one says little


@dataclass(frozen=True)
class AuditSubject:
    """What an audit is of: four SHA-256 hashes in hex, and who made the per-patient gradients.

    An empty `data` means that the data is not known here. An audit is always of the engine "own".
    """

    release: str
    base_model: str
    configuration: str
    data: str
    engine: str = "own"


@dataclass(frozen=True)
class AuditClaim:
    """Whether an export may say "audited", and the sentence that it carries."""

    audited: bool
    text: str


def configuration_hash(manifest: RunManifest) -> str:
    """SHA-256 (hex) of everything in the manifest that the privacy of a patient rests on, in canonical JSON.

    Of the sites it covers their deltas, at which epsilon is claimed, and nothing that names them.
    """
    values: dict[str, Any] = {
        item.name: getattr(manifest, item.name) for item in fields(manifest) if item.name not in _NOT_PRIVACY}
    values["deltas"] = sorted(terms.delta for terms in manifest.sites)
    values["stages"] = [
        {name: value for name, value in asdict(stage).items() if name not in _STAGE_NOT_PRIVACY}
        for stage in manifest.stages]
    values["distributed_noise"] = None if manifest.distributed_noise is None else asdict(manifest.distributed_noise)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def subject_of(manifest: RunManifest, data: str, engine: str = "own") -> AuditSubject:
    """The subject that a run of `manifest` by the code installed here on `data` (hash in hex, or "") has.

    `engine` is what the sites compute with, where that is known: a simulation knows, a coordinator does not.
    """
    return AuditSubject(release_hash(), manifest.base_model_hash.hex(), configuration_hash(manifest), data, engine)


def audit_claim(path: str | Path | None, subject: AuditSubject, *, private: bool = True) -> AuditClaim:
    """What an export of `subject` may say, given the audit file `path` (None or "" for none). Never raises."""
    if not private:
        return AuditClaim(False, _NO_PRIVACY)
    if not path:
        return AuditClaim(False, NO_AUDIT)
    try:
        audit = json.loads(Path(path).read_text(encoding="utf-8"))
        reason = _refusal(audit, subject)
        rate = "" if reason else f"{float(audit['false_alarm_rate']):g}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        name = Path(path).name if _PLAIN_NAME.fullmatch(Path(path).name) else "the file given"
        return AuditClaim(False, f"not audited: {name}{_UNREADABLE}")
    if reason:
        return AuditClaim(False, f"not audited: {reason}")
    return AuditClaim(True, _NO_REFUTATION.format(rate))


def is_claim(audited: bool, text: str, *, private: bool = True) -> bool:
    """Whether `audit_claim` says this, of some file. It is no proof that there was one: the file is unsigned."""
    if not private or text == NO_AUDIT:
        return (audited, text) == (False, NO_AUDIT if private else _NO_PRIVACY)
    if audited:
        before, after = _NO_REFUTATION.split("{}")
        rate = text.removeprefix(before).removesuffix(after)
        return (re.fullmatch(r"[0-9.e-]{1,12}", rate) is not None and text == _NO_REFUTATION.format(rate)
                and _is_rate(rate))
    reasons = {_OTHER_FORMAT, _PLANTED, _REPEATABLE, _FAILED, _NO_PASS}
    for words in _COMPARED.values():
        reasons |= {_not_known(words), _of_another(words)}
    reason = text.removeprefix("not audited: ")
    name = reason.removesuffix(_UNREADABLE)
    named = reason != name and (name == "the file given" or _PLAIN_NAME.fullmatch(name) is not None)
    return text.startswith("not audited: ") and (named or reason in reasons)


def _is_rate(text: str) -> bool:
    try:
        return _RATES[0] <= float(text) <= _RATES[1]
    except ValueError:
        return False


def _not_known(words: str) -> str:
    return f"the {words} of this run is not known here"


def _of_another(words: str) -> str:
    return f"the audit is of another {words}"


def _refusal(audit: Any, subject: AuditSubject) -> str:
    """Why this audit says nothing about `subject`, or ""."""
    if audit["format"] != AUDIT_FORMAT:
        return _OTHER_FORMAT
    if audit["fault"] is not None:
        return _PLANTED
    if audit["simulated_entropy"] is not False:
        return _REPEATABLE
    for name, words in _COMPARED.items():
        if not getattr(subject, name):
            return _not_known(words)
        if audit["subject"][name] != getattr(subject, name):
            return _of_another(words)
    if audit["passed"] is not True:
        return _FAILED
    return "" if _adds_up(audit) else _NO_PASS


def _adds_up(audit: Any) -> bool:
    """Whether the tests in the file, at the level that its false-alarm rate gives, are a pass."""
    rate, tests = audit["false_alarm_rate"], audit["tests"]
    if not tests or not _RATES[0] <= rate <= _RATES[1]:
        return False
    level = rate / len(tests)
    return all(
        test["rejects"] is False and 0 <= test["p_value"] <= 1 and (test["p_value"] >= level or test["only_above"])
        for test in tests)
