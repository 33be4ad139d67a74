"""The coordinator's own certificate authority, and the server certificate that the sites' connections are checked with.

The authority's certificate is in the invitation and never changes; the server's is renewed from it. Nobody else issues
for it: a path below the authority has no room for another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from privacy.enrolment import certificate_of

__all__ = ["AUTHORITY_DAYS", "SERVER_DAYS", "Authority", "host_of", "new_private_key", "server_names"]

AUTHORITY_DAYS = 3652
SERVER_DAYS = 397
ALWAYS = ("localhost", "127.0.0.1")
_SKEW = timedelta(hours=1)  # a site's clock may be behind
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")


@dataclass(frozen=True)
class Authority:
    """A certificate authority: its certificate and its private key, each as PEM. The key does not show in `repr`."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Authority()"

    @classmethod
    def new(cls, federation_id: str, now: datetime) -> Authority:
        """A new one for that federation, with an ECDSA P-384 key, valid for ten years from `now`."""
        private = ec.generate_private_key(ec.SECP384R1())
        name = _named(f"{federation_id} certificate authority")
        usage = _usage(key_cert_sign=True, crl_sign=True)
        made = (_begun(name, name, private.public_key(), now, now + timedelta(days=AUTHORITY_DAYS))
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(usage, critical=True)
                .sign(private, hashes.SHA384()))
        return cls(_pem(made), _private_pem(private))

    def server_certificate(self, key: bytes, names: Iterable[str], now: datetime) -> bytes:
        """A server certificate (PEM) for the private `key` (PEM), valid for 397 days from `now` for `names`.

        Args:
            names: host names and IP addresses; localhost and 127.0.0.1 are added.

        Raises:
            ValueError: a key that does not belong to the authority, an expired authority, or no name of a host.
        """
        issuer, private = self._opened()
        last = min(now + timedelta(days=SERVER_DAYS), issuer.not_valid_after_utc)
        if last <= now:
            raise ValueError("the certificate authority has expired; make a new folder with `coordinator init` and "
                             "send its invitation to every site")
        names = tuple(dict.fromkeys((*names, *ALWAYS)))
        server = _load_private(key, "server.key")
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(private.public_key())
        made = (_begun(_named("coordinator"), issuer.subject, server.public_key(), now, last)
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(_usage(digital_signature=True), critical=True)
                .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
                .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
                .add_extension(identifier, critical=False)
                .sign(private, hashes.SHA384()))
        return _pem(made)

    def _opened(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        try:
            issuer = certificate_of(self.certificate)
        except ValueError:
            raise ValueError("tls/ca.crt is not a certificate in PEM; restore it from backup") from None
        private = _load_private(self.key, "ca.key")
        if issuer.public_key() != private.public_key():
            raise ValueError("tls/ca.key does not belong to tls/ca.crt; restore both from one backup")
        return issuer, private


def new_private_key() -> bytes:
    """A new ECDSA P-256 private key as PEM, for a server."""
    return _private_pem(ec.generate_private_key(ec.SECP256R1()))


def host_of(address: str) -> str:
    """HOST of HOST:PORT, an IPv6 address without its brackets."""
    return address.rpartition(":")[0].strip("[]")


def server_names(certificate: bytes) -> tuple[str, ...]:
    """The names and addresses that a server certificate (PEM) is for. Raises ValueError when it is none."""
    try:
        found = certificate_of(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        raise ValueError("tls/server.crt is not a server certificate in PEM; remove it and renew again with --name "
                         "HOST") from None
    return (*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress)))


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    if _HOST.fullmatch(host) is None or host.replace(".", "").isdigit():
        raise ValueError(f"{host[:80]!r} is neither a host name nor an IP address; give one such as fl.example.org")
    return x509.DNSName(host)


def _begun(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, first: datetime, last: datetime
) -> x509.CertificateBuilder:
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
            .serial_number(x509.random_serial_number()).not_valid_before((first - _SKEW).astimezone(UTC))
            .not_valid_after(last.astimezone(UTC))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False))


def _named(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature, key_cert_sign=key_cert_sign, crl_sign=crl_sign, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(private: ec.EllipticCurvePrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _load_private(pem: bytes, name: str) -> ec.EllipticCurvePrivateKey:
    wrong = f"tls/{name} is not an EC private key in PEM; restore it from backup"
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        raise ValueError(wrong) from None
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise ValueError(wrong)
    return private
