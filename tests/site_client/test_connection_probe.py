"""What a site says of its connection, against real TLS servers on loopback."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from privacy.transport.service import free_port
from site_client.connection_probe import probe

NOW = datetime.now(UTC)


def certificate(
    folder: Path, name: str, *, begins: timedelta = timedelta(days=-1), ends: timedelta = timedelta(days=100),
    address: str = "127.0.0.1",
) -> tuple[Path, Path]:
    """A self-signed certificate that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(NOW + begins).not_valid_after(NOW + ends)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.KeyUsage(True, False, False, False, False, True, True, False, False), critical=True)
            .sign(key, hashes.SHA256()))
    crt, pem = folder / f"{name}.crt", folder / f"{name}.key"
    crt.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                      serialization.NoEncryption()))
    return crt, pem


@contextmanager
def server(files: tuple[Path, Path], *, clock: timedelta = timedelta(), status: int = 200) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(status)
            self.send_header("Date", format_datetime(datetime.now(UTC) + clock, usegmt=True))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    listening.socket = context.wrap_socket(listening.socket, server_side=True)
    thread = threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listening.server_port}"
    finally:
        listening.shutdown()
        listening.server_close()


def test_a_good_connection(tmp_path: Path):
    files = certificate(tmp_path, "good")
    with server(files) as address:
        found = probe(address, files[0].read_text())
    assert found.reason == ""
    assert found.skew_s is not None
    assert abs(found.skew_s) < 5
    assert found.certificate_ends is not None
    assert not found.expires_soon


def test_a_certificate_that_ends_soon_is_no_fault_yet(tmp_path: Path):
    files = certificate(tmp_path, "soon", ends=timedelta(days=20))
    with server(files) as address:
        found = probe(address, files[0].read_text())
    assert found.reason == ""
    assert found.expires_soon


@pytest.mark.parametrize(("clock", "word"), [(-8, "8 s ahead of"), (310, "behind")])
def test_a_clock_that_the_coordinator_refuses(tmp_path: Path, clock: int, word: str):
    files = certificate(tmp_path, "good")
    with server(files, clock=timedelta(seconds=clock)) as address:
        found = probe(address, files[0].read_text())
    assert word.split()[-1] in found.reason
    assert "clock" in found.reason
    assert "NTP" in found.fix


@pytest.mark.parametrize("clock", [-3, 250])
def test_a_clock_within_what_is_accepted(tmp_path: Path, clock: int):
    files = certificate(tmp_path, "good")
    with server(files, clock=timedelta(seconds=clock)) as address:
        assert probe(address, files[0].read_text()).reason == ""


def test_certificates_that_must_not_be_trusted(tmp_path: Path):
    good, other = certificate(tmp_path, "good"), certificate(tmp_path, "other")
    ended = certificate(tmp_path, "ended", begins=timedelta(days=-9), ends=timedelta(days=-1))
    later = certificate(tmp_path, "later", begins=timedelta(days=1))
    elsewhere = certificate(tmp_path, "elsewhere", address="127.0.0.2")
    for files, trusted, word in ((good, other, "not from the invitation's"), (ended, ended, "has expired"),
                                 (later, later, "not valid yet"), (elsewhere, elsewhere, "not for the name 127.0.0.1")):
        with server(files) as address:
            found = probe(address, trusted[0].read_text())
        assert word in found.reason
        assert found.fix


def test_nobody_there_and_no_such_name(tmp_path: Path):
    trusted = certificate(tmp_path, "good")[0].read_text()
    assert "nothing answers at 127.0.0.1" in probe(f"127.0.0.1:{free_port()}", trusted, timeout_s=1).reason
    assert "not known here" in probe("no-such-host.invalid:443", trusted, timeout_s=3).reason


def test_a_server_that_is_not_well(tmp_path: Path):
    files = certificate(tmp_path, "good")
    with server(files, status=503) as address:
        assert "status 503" in probe(address, files[0].read_text()).reason
