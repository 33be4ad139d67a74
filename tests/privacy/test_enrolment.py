"""An invitation and a request survive their files exactly, and nothing that was edited, forged or foreign does."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from privacy.enrolment import EnrolmentError, Invitation, SiteRequest, certificate_of, require_invited
from privacy.identity import Officer, Roster
from privacy.roster import RosterError, SignedRoster
from tests.privacy.invited import CERTIFICATE, INVITATION, key_of, node_key, request
from tests.privacy.officers import KEYS, OFFICERS, signed

OTHER = replace(INVITATION, address="fl.example.org:9000")


def openssh(public: Any) -> str:
    return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def refused(parse: Any, text: str | bytes) -> str:
    with pytest.raises(EnrolmentError) as error:
        parse(text)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    return str(error.value)


def opened(text: str | bytes) -> SiteRequest:
    return SiteRequest.open(text, INVITATION)


def edited(text: str, **changed: Any) -> str:
    return json.dumps({**json.loads(text), **changed})


# ------------------------------------------------------------------ the files


def test_an_invitation_is_read_back_from_its_file_and_its_bytes() -> None:
    again = Invitation.from_json(INVITATION.to_json())
    assert again == INVITATION and again.fingerprint() == INVITATION.fingerprint()
    assert Invitation.from_bytes(INVITATION.to_bytes()) == INVITATION
    assert Invitation.from_json(INVITATION.to_json().encode()) == INVITATION


def test_the_fingerprint_is_the_whole_hash_and_names_every_field() -> None:
    assert INVITATION.fingerprint().replace(" ", "") == INVITATION.hash().hex()
    changes: list[dict[str, Any]] = [
        {"federation_id": "other"}, {"address": "fl.example.org:9000"}, {"officers": OFFICERS[:2]},
        {"coordinator_key": key_of("x").public_bytes()}]
    assert len({replace(INVITATION, **change).fingerprint() for change in changes} | {INVITATION.fingerprint()}) == 5
    assert replace(INVITATION, officers=OFFICERS[::-1]) == INVITATION


def test_a_request_is_read_back_from_its_file_and_its_bytes() -> None:
    made = request("site-1")
    assert opened(made.to_json()) == made and opened(made.to_json().encode()) == made
    assert SiteRequest.from_bytes(made.to_bytes()) == made
    assert made.roster_site().public_key == key_of("site-1").public_bytes()


# ------------------------------------------------------------------ what an invitation cannot hold


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"federation_id": "a b"}, "federation_id"), ({"address": "fl.example.org"}, "HOST:PORT"),
        ({"address": "fl.example.org:0"}, "HOST:PORT"), ({"address": "fl.example.org:65536"}, "HOST:PORT"),
        ({"address": "a/b:1"}, "HOST:PORT"), ({"coordinator_key": b"short"}, "32 bytes"),
        ({"officers": OFFICERS[:1]}, "between 2"), ({"officers": (OFFICERS[0], OFFICERS[0])}, "twice"),
        ({"officers": (OFFICERS[0], Officer("dan", OFFICERS[0].public_key))}, "twice"),
        ({"officers": (OFFICERS[0], Officer("dan", INVITATION.coordinator_key))}, "twice"),
        ({"ca_certificate": ""}, "one certificate"), ({"ca_certificate": CERTIFICATE * 2}, "one certificate"),
        ({"ca_certificate": "# note\n" + CERTIFICATE}, "one certificate"),
        ({"ca_certificate": CERTIFICATE.replace("CERTIFICATE", "PRIVATE KEY")}, "one certificate"),
        ({"ca_certificate": "\u00e9" + CERTIFICATE}, "one certificate"),
        ({"ca_certificate": CERTIFICATE + "\n" * 9000}, "one certificate"),
    ])
def test_an_invitation_that_makes_no_sense_cannot_be_made(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(INVITATION, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"address": "evil.example.org:8443"}, "was changed after it was made"),
        ({"fingerprint": "0000"}, "was changed after it was made"), ({"fingerprint": 5}, "was changed"),
        ({"note": "hello"}, "unknown key 'note'"), ({"kind": "site-request"}, "is no invitation"),
        ({"officers": {}}, "must be a list"), ({"officers": ["ann"]}, "a name and a public_key"),
        ({"officers": [{"name": "ann", "public_key": "00", "email": ""}]}, "a name and a public_key"),
        ({"ca_certificate": CERTIFICATE}, "list of lines"), ({"ca_certificate": [1]}, "list of lines"),
        ({"coordinator_key": "zz" * 32}, "lower-case hexadecimal"), ({"coordinator_key": "AB" * 32}, "lower-case"),
        ({"coordinator_key": None}, "lower-case"), ({"address": 5}, "cannot be used"),
        ({"federation_id": "\ud800"}, "cannot be used"),
    ])
def test_an_edited_invitation_is_refused(changes: dict[str, Any], words: str) -> None:
    assert words in refused(Invitation.from_json, edited(INVITATION.to_json(), **changes))


@pytest.mark.parametrize("parse", [Invitation.from_json, opened])
@pytest.mark.parametrize(
    ("text", "words"),
    [("", "not valid JSON"), ("[]", "is no "), ("null", "is no "), ("[" * 60000, "not valid JSON"),
     (b"\xff\xfe\x00", "not valid JSON"), (" " * 70000, "longer than"), ("{" + '"kind": 1, "kind": 2' + "}", "once"),
     ("9" * 5000, "not valid JSON")])
def test_no_other_file_is_taken_for_one(parse: Any, text: str | bytes, words: str) -> None:
    assert words in refused(parse, text)


def test_a_certificate_of_an_unknown_version_is_refused_like_any_damaged_one() -> None:
    """The library's error for it is no ValueError (mutant number 20369 of one storm of `test_fuzz.py`)."""
    der = x509.load_pem_x509_certificate(CERTIFICATE.encode()).public_bytes(serialization.Encoding.DER)
    version = der.index(bytes.fromhex("a003020102")) + 4  # [0] EXPLICIT INTEGER 2, which is v3 (RFC 5280, 4.1.2.1)
    damaged = der[:version] + bytes([66]) + der[version + 1:]
    pem = f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(damaged).decode()}-----END CERTIFICATE-----\n"
    with pytest.raises(ValueError, match="unknown version"):
        certificate_of(pem.encode())
    with pytest.raises(ValueError, match="one certificate in PEM"):
        replace(INVITATION, ca_certificate=pem)


def test_a_missing_key_is_named() -> None:
    values = json.loads(INVITATION.to_json())
    del values["address"]
    assert "lacks the key 'address'" in refused(Invitation.from_json, json.dumps(values))


# ------------------------------------------------------------------ requests


@pytest.mark.parametrize("name", ["site_id", "declared_patients", "node_key"])
def test_a_request_whose_field_was_edited_is_refused(name: str) -> None:
    other = {"site_id": "site-2", "declared_patients": 201, "node_key": node_key("site-2")}
    text = edited(request("site-1").to_json(), **{name: other[name]})
    assert "signature on the request" in refused(opened, text)


def test_a_request_under_another_key_is_refused() -> None:
    text = edited(request("site-1").to_json(), public_key=key_of("site-2").public_bytes().hex())
    assert "signature on the request" in refused(opened, text)


def test_a_request_is_for_one_invitation_and_one_federation() -> None:
    foreign = request("site-1", OTHER).to_json()
    assert "answers another invitation" in refused(opened, foreign)
    moved = edited(foreign, invitation_hash=INVITATION.hash().hex())
    assert "signature on the request" in refused(opened, moved)
    signed_for_other = SiteRequest.signed(
        key_of("site-1"), ("other",), **{k: v for k, v in vars(request("site-1")).items()
                                         if k not in ("signature", "_encoded")})
    assert "signature on the request" in refused(opened, signed_for_other.to_json())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"declared_patients": True}, "cannot be used"), ({"declared_patients": 200.0}, "cannot be used"),
        ({"declared_patients": 0}, "declared_patients"), ({"declared_patients": "200"}, "cannot be used"),
        ({"site_id": "../../etc"}, "site_id"), ({"site_id": None}, "cannot be used"),
        ({"signature": "00"}, "64 bytes"), ({"signature": ""}, "hexadecimal"), ({"extra": 1}, "unknown key 'extra'"),
        ({"node_key": node_key("site-1") + " comment"}, "EC P-384"), ({"node_key": "ssh-ed25519 AAAA"}, "EC P-384"),
        ({"node_key": node_key("site-1") + "\n"}, "EC P-384"), ({"node_key": "a" * 2000}, "EC P-384"),
        ({"node_key": openssh(ec.generate_private_key(ec.SECP256R1()).public_key())}, "EC P-384"),
        ({"node_key": openssh(ed25519.Ed25519PrivateKey.generate().public_key())}, "EC P-384"),
    ])
def test_a_request_that_makes_no_sense_is_refused(changes: dict[str, Any], words: str) -> None:
    assert words in refused(opened, edited(request("site-1").to_json(), **changes))


# ------------------------------------------------------------------ the first roster


def roster(**changes: Any) -> Roster:
    sites = tuple(request(f"site-{i}").roster_site() for i in (1, 2, 3))
    values: dict[str, Any] = {"federation_id": "fed", "version": 1, "coordinator_key": INVITATION.coordinator_key,
                              "sites": sites, "min_cohort": 3, "min_fraction": 0.5, "officers": OFFICERS}
    return Roster(**{**values, **changes})


def test_a_roster_that_two_invited_officers_signed_may_be_the_first() -> None:
    assert require_invited(signed(roster()), INVITATION) == roster()
    assert require_invited(signed(roster(version=7), "bob", "cleo"), INVITATION).version == 7


def test_a_roster_of_new_officers_needs_two_invited_ones_as_well() -> None:
    new = {name: key_of(name) for name in ("dan", "eve")}
    officers = tuple(Officer(name, key.public_bytes()) for name, key in new.items())
    made = SignedRoster.make(roster(officers=officers), *new.values())
    with pytest.raises(RosterError, match="signed by 0 of the officers that the invitation names"):
        require_invited(made, INVITATION)
    once = made.sign(KEYS["ann"], pinned=roster())
    with pytest.raises(RosterError, match="signed by 1 of the officers that the invitation names"):
        require_invited(once, INVITATION)
    assert require_invited(once.sign(KEYS["cleo"], pinned=roster()), INVITATION).officers == officers


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (signed(roster(federation_id="other")), "of the federation other"),
        (signed(roster(coordinator_key=key_of("x").public_bytes())), "another coordinator's key"),
        (signed(roster(), "ann"), "signed by 1 of its own officers"), (SignedRoster(roster()), "signed by 0"),
        (SignedRoster(roster(version=2), signed(roster()).signatures), "not good"),
    ])
def test_no_other_roster_may_be_the_first(made: SignedRoster, words: str) -> None:
    with pytest.raises(RosterError, match=words):
        require_invited(made, INVITATION)
