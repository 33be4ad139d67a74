"""The network lab: who reaches whom, cut, slow and lossy lines, what a capture sees; nothing is left behind."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulations import network_lab
from simulations.delay_proxy import DelayProxy, main
from simulations.network_capture import Connection, Traffic, read_capture
from simulations.network_lab import Lab, LabError, cannot_run, leftovers, missing_tools, summarise
from tests.simulations.lab_here import need_lab

PORT = 9443
SERVER = f"""
import socket, threading
server = socket.create_server(("0.0.0.0", {PORT}))
print("ready", flush=True)
def serve(end):
    while data := end.recv(65536):
        end.sendall(data)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""
# arguments: address, timeout of each step, bytes to send and read back; prints the seconds it took
CLIENT = f"""
import socket, sys, threading, time
address, limit, size = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
begin = time.monotonic()
with socket.create_connection((address, {PORT}), timeout=limit) as end:
    sender = threading.Thread(target=end.sendall, args=(bytes(size),), daemon=True)
    sender.start()
    left = size
    while left:
        left -= len(end.recv(65536))
print(time.monotonic() - begin)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    need_lab()
    with Lab(2) as lab:
        server = lab.run("coordinator", [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None and server.stdout.readline() == "ready\n"
        yield lab
        server.kill()
        server.communicate()


def talk(lab: Lab, site: str, *, to: str = "coordinator", limit_s: float = 10, size: int = 1000) -> float | None:
    """Seconds that it took to send and read back `size` bytes, or None if it failed."""
    process = lab.run(site, [sys.executable, "-c", CLIENT, lab.address(to), str(limit_s), str(size)],
                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, _ = process.communicate(timeout=60)
    return float(out) if process.returncode == 0 else None


@pytest.mark.slow
def test_sites_reach_the_coordinator_and_never_each_other(lab: Lab) -> None:
    assert talk(lab, "site-1") is not None and talk(lab, "site-2") is not None
    server = lab.run("site-2", [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None and server.stdout.readline() == "ready\n"
    assert talk(lab, "coordinator", to="site-2") is not None  # it does listen
    assert talk(lab, "site-1", to="site-2", limit_s=1) is None
    server.kill()
    server.communicate()


@pytest.mark.slow
def test_no_route_and_no_name_server_lead_out(lab: Lab) -> None:
    code = ("import socket\n"
            "assert socket.gethostbyname('coordinator') == '10.77.0.1'\n"
            "try: socket.getaddrinfo('example.org', 443)\n"
            "except socket.gaierror: pass\n"
            "else: raise SystemExit('a name was resolved')\n"
            "try: socket.create_connection(('192.0.2.1', 443), timeout=5)\n"
            "except OSError as error: print(error.errno)")
    process = lab.run("site-1", [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.communicate(timeout=30)[0].strip() == "101"  # network is unreachable


@pytest.mark.slow
def test_a_partition_stops_one_site_and_healing_lets_a_waiting_connection_go_on(lab: Lab) -> None:
    lab.partition("site-1")
    try:
        assert talk(lab, "site-1", limit_s=1) is None
        assert talk(lab, "site-2") is not None
        waiting = lab.run("site-1", [sys.executable, "-c", CLIENT, lab.address("coordinator"), "30", "10"],
                          stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1.5)
    finally:
        lab.heal("site-1")
    assert float(waiting.communicate(timeout=30)[0]) > 1
    assert talk(lab, "site-1") is not None


@pytest.mark.slow
def test_a_rate_is_kept_and_removed(lab: Lab) -> None:
    size = 1 << 20
    free = talk(lab, "site-1", size=size)
    lab.limit_rate("site-1", "10mbit")
    slow = talk(lab, "site-1", size=size, limit_s=30)
    lab.limit_rate("site-1", None)
    again = talk(lab, "site-1", size=size)
    assert free is not None and slow is not None and again is not None
    assert 0.75 * size * 8 / 10e6 < slow < 5  # both directions run at once; the first burst is free
    assert free < slow / 2 and again < slow / 2


@pytest.mark.slow
def test_packets_are_lost_and_tcp_recovers(lab: Lab) -> None:
    lab.drop("site-1", 0.05)
    try:
        assert talk(lab, "site-1", size=1 << 20, limit_s=30) is not None
        assert lab.dropped("site-1") > 10 and lab.dropped("site-2") == 0
        lab.drop("site-1", 1)
        assert talk(lab, "site-1", limit_s=1) is None
    finally:
        lab.drop("site-1", 0)
    assert lab.dropped("site-1") == 0 and talk(lab, "site-1") is not None
    with pytest.raises(ValueError, match="between 0 and 1"):
        lab.drop("site-1", 1.5)


@pytest.mark.slow
def test_a_capture_sees_the_coordinator_and_nothing_else(lab: Lab, tmp_path: Path) -> None:
    capture = lab.capture("site-1", tmp_path / "one.pcap")
    assert talk(lab, "site-2") is not None  # not on this interface
    assert talk(lab, "site-1", size=100_000) is not None
    seen = summarise(capture)
    coordinator = lab.address("coordinator")
    assert seen.strays(coordinator, PORT) == [] and not seen.has_dns
    assert set(seen.peers) == {coordinator} and set(seen.protocols) == {"TCP"}
    assert seen.connections == {Connection(lab.address("site-1"), coordinator, PORT)}
    assert seen.sent_bytes > 100_000 < seen.received_bytes
    assert seen.strays(coordinator, PORT + 1)  # another port would not pass
    assert summarise(capture).peers == seen.peers


@pytest.mark.slow
def test_with_a_sink_an_attempt_to_leave_is_seen(tmp_path: Path) -> None:
    need_lab()
    code = ("import socket\n"
            "try: socket.getaddrinfo('example.org', 443)\n"
            "except socket.gaierror: pass\n"
            "try: socket.create_connection(('192.0.2.1', 443), timeout=0.5)\n"
            "except OSError: pass\n"
            "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.2', 4433))")
    with Lab(1, sink=True) as lab:
        capture = lab.capture("site-1", tmp_path / "sink.pcap")
        assert lab.run("site-1", [sys.executable, "-c", code]).wait(30) == 0
        seen = capture.stop()
    assert seen.has_dns and {"192.0.2.1", "192.0.2.2", "10.77.255.254"} <= set(seen.peers)
    assert Connection("10.77.1.1", "192.0.2.1", 443) in seen.connections and seen.ports["UDP", 4433]
    strays = " ".join(seen.strays("10.77.0.1", PORT))
    assert "192.0.2.1" in strays and "bytes of UDP" in strays and "port 443" in strays


@pytest.mark.slow
def test_nothing_is_left_after_an_error_or_a_kill(tmp_path: Path) -> None:
    need_lab()

    def of_this(pid: int) -> list[str]:
        return [path.name for root in ("/run/netns", "/etc/netns") if Path(root).is_dir()
                for path in Path(root).iterdir() if path.name.startswith(f"fml-{pid}.")]

    with pytest.raises(RuntimeError, match="in the middle"), Lab(1) as lab:
        orphan = lab.run("site-1", ["sleep", "600"])
        names = [lab.namespace("site-1"), lab.namespace("hub")]
        assert set(names) <= set(of_this(lab_pid := int(names[0].split("-")[1].split(".")[0])))
        raise RuntimeError("in the middle")
    assert orphan.wait(10) == -9 and not set(names) & set(of_this(lab_pid))

    code = ("import os, signal; from simulations.network_lab import Lab\nwith Lab(1) as lab:\n"
            " child = lab.run('site-1', ['sleep', '600']); print(child.pid, flush=True)\n"
            " os.kill(os.getpid(), signal.SIGKILL)")
    killed = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                              cwd=Path(__file__).resolve().parents[2])
    assert killed.stdout is not None
    child = int(killed.stdout.readline())
    assert killed.wait(30) == -9
    killed.stdout.close()
    assert len([name for name in leftovers() if name.startswith(f"fml-{killed.pid}.")]) == 3
    with Lab(1):
        assert not of_this(killed.pid)
        state = Path(f"/proc/{child}/stat")
        assert not state.exists() or state.read_text().split()[2] in "ZX"


def test_names_that_a_lab_does_not_have_are_refused() -> None:
    lab = Lab(2)
    assert lab.address("site-2") == "10.77.1.2"
    for name in ("site-3", "site-0", "internet"):
        with pytest.raises(ValueError, match="this lab has no"):
            lab.address(name)
    with pytest.raises(ValueError, match="1 to 250"):
        Lab(0)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_lab, "TOOLS", {"sh": "dash", "no-such-tool": "that-package", "nor-this": "dash"})
    assert missing_tools() == ["dash", "that-package"]
    reason = cannot_run()
    assert reason is not None and "apt-get install dash that-package" in reason
    with pytest.raises(LabError, match="that-package"), Lab(1):
        pass


# The capture file, byte by byte.
SITE, FAR = "10.77.1.1", "10.77.0.1"


def ipv4(source: str, target: str, protocol: int, payload: bytes) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0)
    return bytes(12) + b"\x08\x00" + head + socket.inet_aton(source) + socket.inet_aton(target) + payload


def tcp(source_port: int, target_port: int, flags: int) -> bytes:
    return struct.pack(">HHIIBBHHH", source_port, target_port, 0, 0, 0x50, flags, 0, 0, 0)


def pcap(*frames: bytes, order: str = "<") -> bytes:
    head = struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 128, 1)
    return head + b"".join(struct.pack(order + "IIII", 0, 0, len(f), len(f) + 7) + f for f in frames)


def capture_of(folder: Path, *frames: bytes, order: str = "<") -> Traffic:
    path = folder / "made.pcap"
    path.write_bytes(pcap(*frames, order=order))
    return read_capture(path, SITE)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_capture_is_counted_by_peer_protocol_port_and_connection(tmp_path: Path, order: str) -> None:
    syn, answer = ipv4(SITE, FAR, 6, tcp(40000, PORT, 0x02)), ipv4(FAR, SITE, 6, tcp(PORT, 40000, 0x12))
    arp = b"\xff" * 6 + bytes(6) + b"\x08\x06" + bytes(14) + socket.inet_aton(SITE) + bytes(6) + socket.inet_aton(FAR)
    seen = capture_of(tmp_path, syn, answer, arp, order=order)
    assert seen.packets == 3 and seen.strays(FAR, PORT) == []
    assert seen.peers == {FAR: sum(len(f) + 7 for f in (syn, answer, arp))}
    assert seen.ports == {("TCP", PORT): len(syn) + len(answer) + 14}
    assert seen.connections == {Connection(SITE, FAR, PORT)}
    assert seen.received_bytes == len(answer) + 7


@pytest.mark.parametrize(("frame", "word"), [
    (ipv4(SITE, "192.0.2.1", 6, tcp(1, PORT, 0x02)), "192.0.2.1"),
    (ipv4(SITE, FAR, 17, struct.pack(">HHHH", 1, 53, 8, 0)), "bytes of UDP"),
    (ipv4(FAR, SITE, 6, tcp(1, 22, 0x02)), "opened a connection to port 22"),
    (ipv4(SITE, FAR, 6, tcp(1, PORT + 1, 0x02)), f"port {PORT + 1}"),
    (ipv4(SITE, FAR, 47, bytes(8)), "bytes of protocol 47"),
    (bytes(12) + b"\x86\xdd" + bytes(6) + bytes([58, 1]) + bytes(32) + bytes(8), "bytes of ICMPv6"),
    (bytes(12) + b"\x88\xcc" + bytes(20), "ethertype 0x88cc"),
], ids=["peer", "dns", "incoming", "port", "tunnel", "ipv6", "other"])
def test_each_kind_of_stray_packet_is_named(tmp_path: Path, frame: bytes, word: str) -> None:
    assert any(word in line for line in capture_of(tmp_path, frame).strays(FAR, PORT))


def test_a_file_that_is_no_capture_or_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad"
    whole = pcap(ipv4(SITE, FAR, 6, tcp(1, 2, 2)))
    for data in (b"", b"text" * 10, whole[:20], whole[:30], whole[:-1]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="capture"):
            read_capture(path, SITE)


# The delay proxy.
@pytest.fixture
def echo() -> Iterator[int]:
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                end, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(end,), daemon=True).start()

    def answer(end: socket.socket) -> None:
        with end:
            while data := end.recv(65536):
                end.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    server.close()


def test_the_proxy_delays_both_ways_and_keeps_every_byte_in_order(echo: int) -> None:
    sent = b"".join(struct.pack(">I", i) for i in range(250_000))
    with DelayProxy(("127.0.0.1", echo), 0.1) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as end:
        begin = time.monotonic()
        end.sendall(b"x")
        assert end.recv(1) == b"x"
        assert 0.2 <= time.monotonic() - begin < 1
        sender = threading.Thread(target=lambda: (end.sendall(sent), end.shutdown(socket.SHUT_WR)))
        begin = time.monotonic()
        sender.start()
        got = b"".join(iter(lambda: end.recv(65536), b""))  # until the delayed end of the stream
        sender.join()
        assert got == sent
        assert time.monotonic() - begin < 3  # a delay, not a rate: chunks overlap


def test_the_proxy_passes_on_a_refusal_and_an_abort(echo: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = unused.getsockname()[1]
    with DelayProxy(("127.0.0.1", closed), 0.01) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as end:
        end.settimeout(5)
        with pytest.raises(ConnectionError):
            if end.recv(1) == b"":
                raise ConnectionError
    with pytest.raises(ValueError, match="between 0 and 60"):
        DelayProxy(("127.0.0.1", echo), -1)
    with DelayProxy(("127.0.0.1", echo), 0.01) as proxy:
        end = socket.create_connection(("127.0.0.1", proxy.port))
    with end:  # closed with the proxy, not left hanging
        end.settimeout(5)
        with pytest.raises(ConnectionError):
            if end.recv(1) == b"":
                raise ConnectionError


def test_a_port_that_is_taken_is_one_sentence(echo: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"127.0.0.1:{echo}", "127.0.0.1:9"]) == 2
    assert capsys.readouterr().err.startswith("delay proxy: ")
    with pytest.raises(SystemExit):
        main(["nowhere", "127.0.0.1:9"])
