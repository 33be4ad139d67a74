"""How a hospital joins: the coordinator's invitation, the site's signed request, and which first roster may be pinned.

*Guarantees.* An invitation has one hash, which both sides read to each other; a request that `SiteRequest.open` returns
was signed by the identity key in it, for this very invitation. `require_invited` returns a first roster only if two of
the officers that the invitation names signed it, for the same federation and coordinator.

*Assumes.* The site compared the invitation's fingerprint with an officer over another channel. Identity keys and node
keys stay at the site.

*Does not cover.* Who is behind a request: officers compare its key before they sign the roster. That a request's sender
holds the node key: whoever names another's can be admitted as nobody with it. Later rosters: `privacy.roster`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import Certificate, InvalidVersion, load_pem_x509_certificate

from privacy.identity import Officer, Roster, RosterSite, SigningKey
from privacy.roster import OFFICERS_NEEDED, RosterError, SignedRoster
from privacy.signed import SignedMessage
from privacy.wire import Message, check_hash, check_id, check_range

__all__ = ["EnrolmentError", "Invitation", "SiteRequest", "certificate_of", "check_node_key", "require_invited"]

_MOST_PEM = 8192
_MOST_JSON = 1 << 16
_MOST_OFFICERS = 100
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]{1,253}):([1-9]\d{0,4})")
_HEX = re.compile(r"(?:[0-9a-f]{2})+")


class EnrolmentError(ValueError):
    """An invitation or request that must not be used; the text is one sentence that says why and what to do."""


@dataclass(frozen=True)
class Invitation(Message):
    """What a coordinator gives to sites and officers; nothing in it is secret.

    Args:
        federation_id: name of the consortium.
        address: HOST:PORT under which the sites reach the coordinator.
        ca_certificate: the coordinator's own certificate authority, one certificate in PEM.
        coordinator_key: 32-byte Ed25519 public key.
        officers: who sign the rosters, at least two; kept in ascending order of their names.
    """

    LIMIT_BYTES: ClassVar[int] = _MOST_JSON

    federation_id: str
    address: str
    ca_certificate: str
    coordinator_key: bytes
    officers: tuple[Officer, ...]

    def check(self) -> None:
        check_id("federation_id", self.federation_id)
        check_hash("coordinator_key", self.coordinator_key)
        found = _ADDRESS.fullmatch(self.address)
        if found is None or int(found[2]) > 65535:
            raise ValueError("an invitation's address must be HOST:PORT, such as fl.example.org:443")
        _check_certificate(self.ca_certificate)
        names = {officer.name for officer in self.officers}
        keys = {self.coordinator_key, *(officer.public_key for officer in self.officers)}
        if len(names) < len(self.officers) or len(keys) < len(self.officers) + 1:
            raise ValueError("an invitation lists an officer or key twice; each officer needs an own name and key")
        check_range("the number of an invitation's officers", len(self.officers), OFFICERS_NEEDED, _MOST_OFFICERS)
        object.__setattr__(self, "officers", tuple(sorted(self.officers, key=lambda officer: officer.name)))

    def fingerprint(self) -> str:
        """The hash in hex, in groups of four digits, for reading over the telephone.

        All of it: whoever makes an invitation could find two that begin alike.
        """
        digits = self.hash().hex()
        return " ".join(digits[i : i + 4] for i in range(0, len(digits), 4))

    def to_json(self) -> str:
        """The file that people pass on: every field, keys in hex, and the fingerprint."""
        return _text({
            "kind": "invitation", "federation_id": self.federation_id, "address": self.address,
            "coordinator_key": self.coordinator_key.hex(),
            "officers": [{"name": one.name, "public_key": one.public_key.hex()} for one in self.officers],
            "ca_certificate": self.ca_certificate.splitlines(), "fingerprint": self.fingerprint()})

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The strict inverse of `to_json`. Raises EnrolmentError, also when a field was edited."""
        what = "invitation"
        values = _object(what, text, (
            "kind", "federation_id", "address", "coordinator_key", "officers", "ca_certificate", "fingerprint"))
        officers = values["officers"]
        if not isinstance(officers, list) or len(officers) > _MOST_OFFICERS:
            raise EnrolmentError("the invitation's officers must be a list; get the file again from the coordinator")
        lines = values["ca_certificate"]
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise EnrolmentError("the invitation's ca_certificate must be a list of lines; get the file again from the "
                                 "coordinator")
        try:
            made = cls(
                federation_id=values["federation_id"], address=values["address"],
                ca_certificate="".join(f"{line}\n" for line in lines),
                coordinator_key=_hex(what, "coordinator_key", values["coordinator_key"]),
                officers=tuple(_officer(one) for one in officers))
        except EnrolmentError:
            raise
        except ValueError as error:
            raise EnrolmentError(f"the invitation cannot be used: {error}") from None
        if values["fingerprint"] != made.fingerprint():
            raise EnrolmentError("the invitation was changed after it was made: its fingerprint is of other content; "
                                 "get the file again from the coordinator")
        return made


@dataclass(frozen=True)
class SiteRequest(SignedMessage):
    """A hospital asks to be put on the roster; signed by its identity key, bound to (federation_id,).

    Args:
        site_id: the identifier it asks for.
        declared_patients: a constant of the roster.
        public_key: its 32-byte Ed25519 identity.
        node_key: public key of its transport (EC P-384) as one line of OpenSSH text without a comment.
        invitation_hash: of the invitation that it answers, 32 bytes.
    """

    LABEL: ClassVar[str] = "site-request"
    LIMIT_BYTES: ClassVar[int] = _MOST_JSON

    site_id: str
    declared_patients: int
    public_key: bytes
    node_key: str
    invitation_hash: bytes
    signature: bytes

    def check(self) -> None:
        super().check()
        RosterSite(self.site_id, self.public_key, self.declared_patients)
        check_node_key(self.node_key)
        check_hash("invitation_hash", self.invitation_hash)

    @classmethod
    def make(
        cls, key: SigningKey, invitation: Invitation, *, site_id: str, declared_patients: int, node_key: str
    ) -> Self:
        """A site's answer to `invitation`, signed by its identity `key`. Raises ValueError for a bad value."""
        return cls.signed(
            key, (invitation.federation_id,), site_id=site_id, declared_patients=declared_patients,
            public_key=key.public_bytes(), node_key=node_key, invitation_hash=invitation.hash())

    def roster_site(self) -> RosterSite:
        """The entry that this request asks for."""
        return RosterSite(self.site_id, self.public_key, self.declared_patients)

    def to_json(self) -> str:
        """The file that a site hands in: every field, keys in hex."""
        return _text({
            "kind": "site-request", "site_id": self.site_id, "declared_patients": self.declared_patients,
            "public_key": self.public_key.hex(), "node_key": self.node_key,
            "invitation_hash": self.invitation_hash.hex(), "signature": self.signature.hex()})

    @classmethod
    def open(cls, text: str | bytes, invitation: Invitation) -> Self:
        """The request in a file, if it answers `invitation` and its own key signed it. Raises EnrolmentError."""
        what = "site request"
        values = _object(what, text, (
            "kind", "site_id", "declared_patients", "public_key", "node_key", "invitation_hash", "signature"))
        try:
            made = cls(
                site_id=values["site_id"], declared_patients=values["declared_patients"], node_key=values["node_key"],
                **{name: _hex(what, name, values[name]) for name in ("public_key", "invitation_hash", "signature")})
        except EnrolmentError:
            raise
        except ValueError as error:
            raise EnrolmentError(f"the site request cannot be used: {error}") from None
        if made.invitation_hash != invitation.hash():
            raise EnrolmentError(f"the request of {made.site_id} answers another invitation; the site runs "
                                 "`site-client init` with the invitation whose fingerprint is "
                                 f"{invitation.fingerprint()}")
        if not made.is_signed_by(made.public_key, (invitation.federation_id,)):
            raise EnrolmentError(f"the signature on the request of {made.site_id} is not good: it was changed on its "
                                 "way; get it again from the site")
        return made


def require_invited(signed: SignedRoster, invitation: Invitation) -> Roster:
    """The roster, if a site with nothing but `invitation` may pin it as its first.

    Raises:
        RosterError: another federation or coordinator, or fewer than two of the invited officers signed it.
    """
    roster = signed.roster
    if roster.federation_id != invitation.federation_id:
        raise RosterError(f"the roster is of the federation {roster.federation_id} and the invitation of "
                          f"{invitation.federation_id}; ask the consortium for the right file")
    if roster.coordinator_key != invitation.coordinator_key:
        raise RosterError("the roster names another coordinator's key than the invitation; ask the consortium for a "
                          "new invitation")
    signed.require_signed()
    signers = signed.signers_among(invitation.officers)
    if len(signers) < OFFICERS_NEEDED:
        raise RosterError(f"the roster is signed by {len(signers)} of the officers that the invitation names and "
                          f"{OFFICERS_NEEDED} of them are needed; ask the consortium for the signed file")
    return roster


def check_node_key(text: str) -> None:
    """Raise ValueError unless `text` is an EC P-384 public key as one OpenSSH line without a comment."""
    wrong = "node_key must be an EC P-384 public key, one line of OpenSSH text without a comment"
    try:
        key = serialization.load_ssh_public_key(text.encode("ascii")) if len(text) < 1024 else None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(wrong) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ValueError(wrong)
    form = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    if form.decode("ascii") != text:
        raise ValueError(wrong)


def certificate_of(pem: bytes) -> Certificate:
    """The first X.509 certificate (RFC 5280) in `pem`. Raises ValueError for bytes that are none."""
    try:
        return load_pem_x509_certificate(pem)
    except InvalidVersion:  # the library's only error here that is no ValueError
        raise ValueError("an X.509 certificate of an unknown version") from None


def _check_certificate(text: str) -> None:
    try:
        found = certificate_of(text.encode("ascii")) if len(text) <= _MOST_PEM else None
    except ValueError:
        found = None
    if found is None or found.public_bytes(serialization.Encoding.PEM).decode("ascii") != text:
        raise ValueError("an invitation's ca_certificate must be one certificate in PEM and nothing else")


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2) + "\n"


def _object(what: str, text: str | bytes, keys: tuple[str, ...]) -> dict[str, Any]:
    """The JSON object in `text`, which must have exactly `keys` and be of the kind that its first one names."""
    again = f"get the {what} file again from whoever made it"
    if len(text) > _MOST_JSON:
        raise EnrolmentError(f"the {what} file is longer than {_MOST_JSON} bytes; {again}")
    try:
        values = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise EnrolmentError(f"the {what} file is not valid JSON with each key once; {again}") from None
    if not isinstance(values, dict) or values.get("kind") != what.replace(" ", "-"):
        raise EnrolmentError(f"the file is no {what} of this release; {again}")
    unknown, missing = sorted(set(values) - set(keys)), sorted(set(keys) - set(values))
    if unknown or missing:
        which = f"has the unknown key {unknown[0][:64]!r}" if unknown else f"lacks the key {missing[0]!r}"
        raise EnrolmentError(f"the {what} file {which}; {again}")
    return values


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key occurs twice")
    return values


def _hex(what: str, name: str, value: object) -> bytes:
    if not isinstance(value, str) or _HEX.fullmatch(value) is None:
        raise EnrolmentError(f"the {what}'s {name} must be lower-case hexadecimal digits; get the file again from "
                             "whoever made it")
    return bytes.fromhex(value)


def _officer(value: object) -> Officer:
    if not isinstance(value, dict) or set(value) != {"name", "public_key"}:
        raise EnrolmentError("each of the invitation's officers has a name and a public_key and nothing else; get the "
                             "file again from the coordinator")
    return Officer(value["name"], _hex("invitation", "public_key", value["public_key"]))
