"""The server certificate is one that Python's own TLS accepts from the authority, for its names and no others."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from coordinator.authority import AUTHORITY_DAYS, SERVER_DAYS, Authority, host_of, new_private_key, server_names

NOW = datetime.now(UTC)
AUTHORITY, KEY = Authority.new("fed", NOW), new_private_key()


def handshake(folder: Path, certificate: bytes, trusted: bytes, host: str, *, strict: bool = True) -> str:
    """The protocol version that a client which trusts `trusted` agreed on with a server at `host`; over loopback."""
    (folder / "server.crt").write_bytes(certificate)
    (folder / "server.key").write_bytes(KEY)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.crt", folder / "server.key")
    client = ssl.create_default_context(cadata=trusted.decode())
    if strict:
        client.verify_flags |= ssl.VERIFY_X509_STRICT
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        try:
            server.wrap_socket(connection, server_side=True).close()
        except OSError:  # the client hung up, which is what some tests want
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with (socket.create_connection(listener.getsockname(), timeout=10) as raw,
              client.wrap_socket(raw, server_hostname=host) as secure):
            return secure.version() or ""
    finally:
        thread.join(timeout=10)
        listener.close()


@pytest.mark.parametrize("host", ["fl.example.org", "localhost", "127.0.0.1", "10.1.2.3", "fd00::1"])
def test_the_certificate_verifies_for_each_of_its_names(tmp_path: Path, host: str) -> None:
    made = AUTHORITY.server_certificate(KEY, ["fl.example.org", "10.1.2.3", "fd00::1"], NOW)
    assert handshake(tmp_path, made, AUTHORITY.certificate, host) == "TLSv1.3"


def test_another_name_another_authority_and_an_expired_certificate_do_not_verify(tmp_path: Path) -> None:
    made = AUTHORITY.server_certificate(KEY, ["fl.example.org"], NOW)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(tmp_path, made, AUTHORITY.certificate, "other.example.org")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, made, Authority.new("fed", NOW).certificate, "fl.example.org")
    old = AUTHORITY.server_certificate(KEY, ["fl.example.org"], NOW - timedelta(days=SERVER_DAYS, seconds=5))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(tmp_path, old, AUTHORITY.certificate, "fl.example.org")


def test_lifetimes_and_uses_are_what_they_should_be() -> None:
    authority = x509.load_pem_x509_certificate(AUTHORITY.certificate)
    server = x509.load_pem_x509_certificate(AUTHORITY.server_certificate(KEY, ["fl.example.org"], NOW))
    assert timedelta(days=AUTHORITY_DAYS) <= authority.not_valid_after_utc - NOW + timedelta(seconds=1)
    assert server.not_valid_after_utc - NOW <= timedelta(days=SERVER_DAYS)
    assert server.not_valid_before_utc <= NOW - timedelta(minutes=59)
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and constraints.value.ca and constraints.value.path_length == 0
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert list(server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH]
    assert server.public_key() != authority.public_key()


def test_a_server_certificate_ends_with_its_authority() -> None:
    late = NOW + timedelta(days=AUTHORITY_DAYS - 10)
    made = x509.load_pem_x509_certificate(AUTHORITY.server_certificate(KEY, ["fl.example.org"], late))
    assert made.not_valid_after_utc == x509.load_pem_x509_certificate(AUTHORITY.certificate).not_valid_after_utc
    with pytest.raises(ValueError, match="authority has expired"):
        AUTHORITY.server_certificate(KEY, ["fl.example.org"], late + timedelta(days=11))


@pytest.mark.parametrize("name", ["", "a b", "-a.org", "*.example.org", "1.2.3", "300.1.1.1", "a" * 64 + ".org", "x/y"])
def test_what_is_no_host_gets_no_certificate(name: str) -> None:
    with pytest.raises(ValueError, match="neither a host name nor an IP address"):
        AUTHORITY.server_certificate(KEY, [name], NOW)


def test_keys_that_do_not_belong_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"ca\.key does not belong"):
        Authority(AUTHORITY.certificate, Authority.new("fed", NOW).key).server_certificate(KEY, [], NOW)
    with pytest.raises(ValueError, match=r"ca\.key is not an EC private key"):
        Authority(AUTHORITY.certificate, b"junk").server_certificate(KEY, [], NOW)
    with pytest.raises(ValueError, match=r"ca\.crt is not a certificate"):
        Authority(b"junk", AUTHORITY.key).server_certificate(KEY, [], NOW)
    with pytest.raises(ValueError, match=r"server\.key is not an EC private key"):
        AUTHORITY.server_certificate(b"junk", [], NOW)
    with pytest.raises(ValueError, match=r"server\.crt is not a server certificate"):
        server_names(AUTHORITY.certificate)
    assert b"PRIVATE" not in repr(AUTHORITY).encode()


def test_the_host_of_an_address() -> None:
    assert [host_of(text) for text in ("fl.example.org:1", "[fd00::1]:443", "10.0.0.1:80")] == [
        "fl.example.org", "fd00::1", "10.0.0.1"]
