"""An invitation and sites' requests for tests, with keys that are the same every time."""

from __future__ import annotations

import hashlib
from functools import cache

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from privacy.enrolment import Invitation, SiteRequest
from privacy.identity import SigningKey
from tests.privacy.officers import OFFICERS

# One certificate for all tests: an invitation's hash is then the same in each of them.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBzDCCAVKgAwIBAgIUBIuZb3brOIA4REhemjdvZ8zR1NkwCgYIKoZIzj0EAwMw
JDEiMCAGA1UEAwwZZmVkIGNlcnRpZmljYXRlIGF1dGhvcml0eTAeFw0yNTEyMzEy
MzAwMDBaFw0zNjAxMDEwMDAwMDBaMCQxIjAgBgNVBAMMGWZlZCBjZXJ0aWZpY2F0
ZSBhdXRob3JpdHkwdjAQBgcqhkjOPQIBBgUrgQQAIgNiAASDm0EXve0WqhXDZwRA
7gBlHLYRVwAVrHp+/3+hL5TuTgOyk0qQxxNyaNh9Y1D7NwnS4aQwoB7PqnvIuovq
0lVeqEHkAcOFcNbkmQwKsAuUftz695HNz3lysDcsCMx96oWjRTBDMB0GA1UdDgQW
BBRakuKF9RyNyDTbAZZrOoHLaWyQSDASBgNVHRMBAf8ECDAGAQH/AgEAMA4GA1Ud
DwEB/wQEAwIBBjAKBggqhkjOPQQDAwNoADBlAjEAosmhju5AKRUOAt/yO0BpAYgZ
Ol+1cY6592Th3WYI3n+BAMW69U626srv8fDpLcllAjBApwJUKegI5PqYRSSDMgf2
mCFMqsoRPSFJgDLNN5g0ki0LyZMyQbvZBaqwcjY6rQk=
-----END CERTIFICATE-----
"""


def key_of(name: str) -> SigningKey:
    return SigningKey.from_private_bytes(hashlib.sha256(f"invited {name}".encode()).digest())


@cache
def node_key(name: str) -> str:
    secret = int.from_bytes(hashlib.sha256(f"node {name}".encode()).digest(), "big")
    public = ec.derive_private_key(secret, ec.SECP384R1()).public_key()
    return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def request(name: str, invitation: Invitation | None = None, patients: int = 200) -> SiteRequest:
    """What that site hands in; its keys follow from its name."""
    return SiteRequest.make(
        key_of(name), invitation or INVITATION, site_id=name, declared_patients=patients, node_key=node_key(name))


INVITATION = Invitation("fed", "fl.example.org:8443", CERTIFICATE, key_of("coordinator").public_bytes(), OFFICERS)
