"""Full disks, wrong clocks, ended certificates and wrong keys: one site at a time, while the others go on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from simulations.network_lab import COORDINATOR
from simulations.real_checks import faults_of
from simulations.real_federation import RealFederation, until
from tests.federation.long_run import LongRun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def long_run(federation: RealFederation) -> LongRun:
    run = LongRun(federation)
    run.begin()
    return run


@contextmanager
def _small_disk(federation: RealFederation, name: str, folder: Path) -> Iterator[Callable[[], None]]:
    """`folder` on a disk of its own, with little room; the value fills it up. What is on it is kept."""
    if os.geteuid() != 0:
        pytest.skip("a small disk is a tmpfs, and only root may mount one")
    aside = folder.with_name(f"{folder.name}.aside")
    federation.end(name)
    folder.rename(aside)
    folder.mkdir(mode=aside.stat().st_mode & 0o777)
    size = sum(path.stat().st_size for path in aside.rglob("*") if path.is_file()) + (6 << 20)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)], check=True)
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True, symlinks=True)
        federation.begin(name)
        yield lambda: _fill(folder / "filler")
        federation.end(name)
        shutil.rmtree(aside)
        shutil.copytree(folder, aside, symlinks=True)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()
        aside.rename(folder)
    federation.begin(name)


def _fill(file: Path) -> None:
    with file.open("ab", buffering=0) as target, suppress(OSError):
        while True:
            target.write(b"\0" * 4096)


def test_a_site_whose_disk_is_full_sends_nothing_and_comes_back(long_run: LongRun) -> None:
    federation = long_run.federation
    with long_run.fault("site-1's disk full"), _small_disk(federation, "site-1", federation.state("site-1")) as fill:
        long_run.wait_for_everybody()
        fill()
        booked, before = federation.booked("site-1"), len(federation.history(long_run.run))
        until(lambda: f"two rounds without site-1 (newest: {long_run.newest()})", lambda: sum(
            "site-1" not in entry["masked"] for entry in federation.history(long_run.run)[before:]) >= 2, 200)
        assert federation.booked("site-1") <= booked + 1  # one may have been under way
        (federation.state("site-1") / "filler").unlink()
        long_run.wait_for_everybody()


def test_a_coordinator_whose_disk_is_full_stops_or_waits_and_goes_on(long_run: LongRun) -> None:
    federation = long_run.federation
    long_run.faults += 1  # it is restarted on the small disk, and off it again
    with long_run.fault("the coordinator's disk full"), _small_disk(federation, COORDINATOR, federation.home) as fill:
        long_run.wait_for_everybody()
        fill()
        before = len(federation.history(long_run.run))

        def noticed() -> bool:
            log = (federation.home / "log" / "executor.log").read_text(errors="replace")
            return "OSError" in log or "No space" in log or federation.queue.get(long_run.run).state == "failed"

        until(lambda: f"the full disk noticed ({federation.queue.get(long_run.run)})", noticed, 120)
        assert len(federation.history(long_run.run)) <= before + 1
        (federation.home / "filler").unlink()
        state = federation.queue.get(long_run.run)
        if state.state == "failed":
            assert "space" in state.reason.lower()
            federation.command("coordinator", "resume", "C", long_run.run)
        long_run.wait_for_everybody()


@contextmanager
def _changed(federation: RealFederation, site: str, change: Callable[[], None], back: Callable[[], None]
             ) -> Iterator[None]:
    """The site restarts with something wrong, and in the end with everything right."""
    federation.end(site)
    change()
    federation.begin(site)
    try:
        yield
    finally:
        federation.end(site)
        back()
        federation.begin(site)
        federation.wait_until_ready(site)


@contextmanager
def _node_with(federation: RealFederation, site: str, change: Callable[[], None], back: Callable[[], None]
               ) -> Iterator[None]:
    """The same for what only the site's node reads, at its start: the executor goes on."""
    change()
    federation.kill("node", site)
    try:
        yield
    finally:
        back()
        federation.wait_until_ready(site)


def _others_go_on(long_run: LongRun, site: str, rounds: int = 2) -> None:
    """Rounds without the site are made while it cannot take part."""
    federation = long_run.federation
    before = len(federation.history(long_run.run))

    def without() -> bool:
        return sum(site not in entry["started"] for entry in federation.history(long_run.run)[before:]) >= rounds

    until(lambda: f"{rounds} rounds without {site} (newest: {long_run.newest()})", without, 240)


def _reason(federation: RealFederation, site: str, *parts: str) -> None:
    """The site's operator is told all of `parts`, in what `start` prints."""
    def told() -> bool:
        return any(all(part in line for part in parts) for line in federation.said(site).splitlines())

    until(lambda: f"{site} told {parts}; said: {federation.said(site)[-800:]}", told, 120)


@pytest.mark.parametrize(("shift_s", "side"), [
    (120, "ahead of"), pytest.param(-400, "behind", marks=pytest.mark.faults)])
def test_a_site_with_a_wrong_clock_is_told_so(long_run: LongRun, shift_s: int, side: str) -> None:
    federation, site = long_run.federation, "site-2"
    wrong = {"CLOCK_SHIFT_S": str(shift_s), "PYTHONPATH": str(Path(__file__).parent / "wrong_clock")}
    file, port = federation.site_file(site), f"health_port: {federation.health_ports[site]}"
    right = file.read_text()
    assert port in right

    def shift() -> None:
        federation.environment[site] = wrong
        file.write_text(right.replace(port, "health_port: 0"))  # gRPC mixes Python's clock with the system's

    def back() -> None:
        del federation.environment[site]
        file.write_text(right)

    with long_run.fault(f"clock {shift_s:+d} s"), _changed(federation, site, shift, back):
        _reason(federation, site, "clock", side)
        _others_go_on(long_run, site)


def _authority() -> str:
    """Another certificate authority's certificate, PEM."""
    key, now = ec.generate_private_key(ec.SECP384R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "another authority")])
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(key, hashes.SHA384()))
    return made.public_bytes(serialization.Encoding.PEM).decode()


def test_a_site_that_trusts_another_authority_does_not_connect(long_run: LongRun) -> None:
    federation, site = long_run.federation, "site-3"
    right = (federation.home / "tls" / "ca.crt").read_text()
    with long_run.fault("wrong authority"), _changed(  # `start` reads the invitation too
            federation, site, lambda: federation.change_invitation(site, ca_certificate=_authority()),
            lambda: federation.change_invitation(site, ca_certificate=right)):
        _reason(federation, site, "certificate")
        _others_go_on(long_run, site)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def test_a_site_with_another_nodes_key_is_not_admitted(long_run: LongRun) -> None:
    key = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    federation, path = long_run.federation, long_run.federation.state("site-4") / "node.key"
    kept = path.read_bytes()
    with long_run.fault("wrong node key"), _node_with(
            federation, "site-4", lambda: _write(path, key), lambda: _write(path, kept)):
        _reason(federation, "site-4", "node", "not admitted")
        _others_go_on(long_run, "site-4")


def test_a_site_with_another_identity_is_no_site(long_run: LongRun) -> None:
    """Its ledger and audit log are another key's, so it does not even begin; its node alone answers nothing."""
    federation = long_run.federation
    federation.end("site-1")
    path = federation.state("site-1") / "identity.key"
    kept = path.read_bytes()
    path.write_bytes(os.urandom(32))
    try:
        with long_run.fault("wrong identity key"):
            try:
                said = federation.command("site-client", "start", str(federation.site_file("site-1")), check=False)
                assert "Traceback" not in said and "key" in said, said[-1500:]
                _others_go_on(long_run, "site-1")
            finally:
                path.write_bytes(kept)
                federation.begin("site-1")
                federation.wait_until_ready("site-1")
    finally:
        path.write_bytes(kept)


def _certificate(federation: RealFederation, ends: datetime) -> bytes:
    """The server's certificate once more, by its own authority, with another end."""
    tls = federation.home / "tls"
    old = x509.load_pem_x509_certificate((tls / "server.crt").read_bytes())
    authority = serialization.load_pem_private_key((tls / "ca.key").read_bytes(), None)
    begins = min(old.not_valid_before_utc, ends - timedelta(days=1))
    made = x509.CertificateBuilder(issuer_name=old.issuer, subject_name=old.subject, public_key=old.public_key(),
                                   serial_number=x509.random_serial_number(), not_valid_before=begins,
                                   not_valid_after=ends)
    for extension in old.extensions:
        made = made.add_extension(extension.value, extension.critical)
    return made.sign(authority, hashes.SHA384()).public_bytes(  # type: ignore[arg-type]
        serialization.Encoding.PEM)


def test_with_an_ended_certificate_the_coordinator_does_not_begin(long_run: LongRun) -> None:
    federation = long_run.federation
    path = federation.home / "tls" / "server.crt"
    kept = path.read_bytes()
    with long_run.fault("certificate ended, found by the coordinator"):
        federation.end(COORDINATOR)
        path.write_bytes(_certificate(federation, datetime.now(UTC) - timedelta(minutes=1)))
        try:
            said = federation.command("coordinator", "up", "C", check=False)
            assert "certificate ended" in said and "renew-certificate" in said and "Traceback" not in said
        finally:
            path.write_bytes(kept)
            federation.begin(COORDINATOR)


def test_a_certificate_that_ends_while_everything_runs_is_named_at_the_sites(long_run: LongRun) -> None:
    """The hub goes on serving it; a site's node that connects anew refuses it and says why."""
    federation = long_run.federation
    path = federation.home / "tls" / "server.crt"
    kept = path.read_bytes()
    ends = datetime.now(UTC) + timedelta(seconds=45)
    long_run.faults += 1  # two restarts of the coordinator
    with long_run.fault("certificate ended, found by the sites"):
        federation.end(COORDINATOR)
        path.write_bytes(_certificate(federation, ends))
        try:
            federation.begin(COORDINATOR)
            federation.wait_until_ready(COORDINATOR)
            until(lambda: "the certificate's end", lambda: datetime.now(UTC) > ends, 60, every_s=0.5)
            federation.kill("node", "site-2")
            _reason(federation, "site-2", "certificate")
        finally:
            path.write_bytes(kept)
            federation.end(COORDINATOR)
            federation.begin(COORDINATOR)


def test_after_all_of_it_everything_holds(long_run: LongRun) -> None:
    long_run.rest()
    assert not faults_of(long_run.federation, long_run.run, 2 * long_run.faults)
