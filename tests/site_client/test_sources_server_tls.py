"""TLS to a server of the hospital: the configured authority, the right name, or nothing is sent."""

from __future__ import annotations

import datetime
import ipaddress
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from configs.site_data import SourceConfig
from site_client.sources.interface import SourceError
from site_client.sources.server_session import ServerSession
from tests.site_client.orthanc import secret_file
from tests.site_client.stub_server import stub_server


def authority(folder: Path, name: str, host: str) -> tuple[Path, Path]:
    """(certificate of an authority, key and certificate that it signed for `host`), as PEM files."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)

    def certificate(subject, public, is_authority):
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
                   .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
                   .not_valid_after(now + datetime.timedelta(days=1))
                   .add_extension(x509.BasicConstraints(is_authority, None), True))
        if not is_authority:
            names = [x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        return builder.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    root, server = folder / f"{name}.pem", folder / f"{name}-server.pem"
    root.write_bytes(certificate(issuer, root_key.public_key(), True))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
    server.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                         serialization.NoEncryption()) + certificate(subject, key.public_key(), False))
    return root, server


def ask(port: int, folder: Path, ca_file: Path | str) -> object:
    config = SourceConfig(kind="fhir", name="ris", url=f"https://127.0.0.1:{port}/fhir", ca_file=str(ca_file),
                          secret_file=secret_file(folder, "token"), timeout_s=5.0)
    with ServerSession(config, lambda seconds: None) as session:
        return session.get_json(f"{config.url}/x", "application/json", 1000)


def answer(path: str, headers: dict[str, str]):
    return 200, {}, json.dumps("yes").encode()


def test_the_authority_of_ca_file_is_trusted_and_no_other(tmp_path):
    root, server = authority(tmp_path, "right", "127.0.0.1")
    other, _ = authority(tmp_path, "other", "127.0.0.1")
    with stub_server(answer, server) as stub:
        assert ask(stub.port, tmp_path, root) == "yes"
        for wrong in (other, ""):
            with pytest.raises(SourceError, match=r"certificate cannot be verified.*set ca_file"):
                ask(stub.port, tmp_path, wrong)
        assert len(stub.asked) == 1


def test_the_environment_adds_no_authority(tmp_path, monkeypatch):
    root, server = authority(tmp_path, "right", "127.0.0.1")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(root))
    with stub_server(answer, server) as stub, pytest.raises(SourceError, match="certificate cannot be verified"):
        ask(stub.port, tmp_path, "")


def test_a_certificate_for_another_name_is_refused(tmp_path):
    root, server = authority(tmp_path, "right", "other.example")
    with stub_server(answer, server) as stub, pytest.raises(SourceError, match="certificate cannot be verified"):
        ask(stub.port, tmp_path, root)
    assert not stub.asked


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_ca_file_that_is_none_is_one_sentence(tmp_path, content):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match="ca_file cannot be read as certificates"):
        ask(1, tmp_path, path)
