"""A network of hospitals on one machine: every site and the coordinator in a network namespace of its own.

Each namespace has one interface (`eth0`) that leads to a bridge, the coordinator's network. Sites reach the coordinator
and never each other, as hospitals do. There is no default route and no name server; the name `coordinator` is in every
namespace's hosts file. Links can be cut, slowed, made lossy, and listened to:

    with Lab(4) as lab:
        server = lab.run("coordinator", [sys.executable, "-m", ...])
        capture = lab.capture("site-1", folder / "site-1.pcap")
        lab.partition("site-1"); lab.heal("site-1")
        assert not capture.stop().strays(lab.address("coordinator"), 9443)

Labs are independent: addresses repeat and nothing of a lab touches the machine's own network. Whatever happens, the
namespaces and the processes in them go: at the context's end, at the interpreter's exit, and what a killed process left
at the next lab's start. Needs root, Linux and the programs of :data:`TOOLS`.
"""

from __future__ import annotations

import atexit
import itertools
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from simulations.delay_proxy import DelayProxy
from simulations.network_capture import Connection, Traffic, read_capture

__all__ = [
    "COORDINATOR", "TOOLS", "Capture", "Connection", "DelayProxy", "Lab", "LabError", "Traffic",
    "cannot_run", "leftovers", "missing_tools", "remove_leftovers", "summarise",
]  # fmt: skip

COORDINATOR = "coordinator"
TOOLS = {"ip": "iproute2", "tc": "iproute2", "bridge": "iproute2", "nft": "nftables", "tcpdump": "tcpdump"}
MOST_SITES = 250
_NAME = re.compile(r"fml-(\d+)\.\d+-[a-z0-9-]+")
_SETTINGS = Path("/etc/netns")
_SERIAL = itertools.count()
_SINK, _SINK_MAC = "10.77.255.254", "02:00:00:00:77:77"
_KEPT_BYTES = 128  # of each captured packet: headers
_BURST = "32kb"


class LabError(RuntimeError):
    """A command of the lab failed, or a capture lost packets; the message has the command and what it said."""


def missing_tools() -> list[str]:
    """The Debian packages that the lab needs and this machine lacks, sorted."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return sorted({package for tool, package in TOOLS.items() if shutil.which(tool, path=path) is None})


def cannot_run() -> str | None:
    """Why no lab can be made here, in one sentence; None where one can."""
    if missing := missing_tools():
        return f"the network lab needs {', '.join(missing)}; run: apt-get install {' '.join(missing)}"
    if os.geteuid() != 0:
        return "the network lab needs root to make network namespaces; run it as root in a virtual machine or container"
    made = _ip("netns", "add", name := f"fml-{os.getpid()}.{next(_SERIAL)}-probe", check=False)
    if made.returncode:
        return f"the network lab cannot make network namespaces here ({made.stderr.strip()}); grant CAP_SYS_ADMIN"
    _remove([name])
    return None


class Lab:
    """Namespaces `site-1` to `site-N` and `coordinator` around one bridge, while the context is open.

    :param sites: number of hospitals, 1 to 250.
    :param sink: give every namespace a default route and a name server that lead nowhere. What a program sends to any
        other address then leaves on the interface and is seen by a capture, where without a route it fails unseen.
    :raises LabError: a namespace or link cannot be made; nothing is left behind.
    :raises ValueError: the number of sites.
    """

    def __init__(self, sites: int, *, sink: bool = False):
        if not 1 <= sites <= MOST_SITES:
            raise ValueError(f"a lab has 1 to {MOST_SITES} sites, not {sites}")
        self.sites = tuple(f"site-{i}" for i in range(1, sites + 1))
        self.sink = sink
        self._prefix = f"fml-{os.getpid()}.{next(_SERIAL)}-"
        self._captures: list[Capture] = []
        self._addresses = {COORDINATOR: "10.77.0.1"} | {f"site-{i}": f"10.77.1.{i}" for i in range(1, sites + 1)}

    def __enter__(self) -> Lab:
        if reason := cannot_run():
            raise LabError(reason)
        remove_leftovers()
        atexit.register(self.close)
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End every process in the namespaces and remove them; a second call does nothing."""
        atexit.unregister(self.close)
        for capture in self._captures:
            capture.abandon()
        _remove([name for name in _namespaces() if name.startswith(self._prefix)], prefix=self._prefix)

    def namespace(self, name: str) -> str:
        """The kernel's name of the namespace of `site-N`, `coordinator`, or `hub` (the bridge)."""
        if name not in self._addresses and name != "hub":
            raise ValueError(f"this lab has no {name!r}; it has {COORDINATOR} and {self.sites[0]} to {self.sites[-1]}")
        return self._prefix + name

    def address(self, name: str) -> str:
        """The IPv4 address of `site-N` or `coordinator`."""
        self.namespace(name)
        return self._addresses[name]

    def run(self, name: str, argv: Sequence[str | Path], **options: Any) -> subprocess.Popen[Any]:
        """Start a program in a namespace; `options` are those of `subprocess.Popen`. The process is the program's own
        (signals reach it), and it is killed with the lab if it still runs."""
        return subprocess.Popen(["ip", "netns", "exec", self.namespace(name), *map(str, argv)], **options)

    def partition(self, site: str) -> None:
        """Cut the site's line: packets vanish in both directions, connections hang, nobody is told."""
        self._port(site, "down")

    def heal(self, site: str) -> None:
        """Undo :meth:`partition`."""
        self._port(site, "up")

    def limit_rate(self, site: str, rate: str | None) -> None:
        """Let at most `rate` (such as `"10mbit"`) through in each direction; None removes the limit."""
        for namespace, device in self._ends(site):
            if rate is None:
                _ip("netns", "exec", namespace, "tc", "qdisc", "del", "dev", device, "root", check=False)
            else:
                _ip("netns", "exec", namespace, "tc", "qdisc", "replace", "dev", device, "root", "tbf",
                    "rate", rate, "burst", _BURST, "latency", "400ms")

    def drop(self, site: str, fraction: float) -> None:
        """Lose each packet of the site, in either direction, with this probability; 0 stops it."""
        if not 0 <= fraction <= 1:
            raise ValueError(f"the fraction of packets to drop is between 0 and 1, not {fraction}")
        for namespace, device in self._ends(site):
            table = f"netdev lab_{device.replace('-', '_')}"
            rules = f"table {table}\ndelete table {table}\n"
            if round(fraction * 1_000_000):
                rules += (f'table {table} {{ chain loss {{ type filter hook ingress device "{device}" priority 0;\n'
                          f"numgen random mod 1000000 <= {round(fraction * 1_000_000) - 1} counter drop;\n}}\n}}\n")
            _ip("netns", "exec", namespace, "nft", "-f", "-", text=rules)

    def dropped(self, site: str) -> int:
        """Packets lost by :meth:`drop` since it was last called for this site."""
        found = 0
        for namespace, device in self._ends(site):
            listed = _ip("netns", "exec", namespace, "nft", "list", "table", "netdev",
                         f"lab_{device.replace('-', '_')}", check=False).stdout
            found += sum(int(count) for count in re.findall(r"counter packets (\d+)", listed))
        return found

    def capture(self, site: str, path: Path) -> Capture:
        """Start to record the headers of every packet on the site's only interface; returns once it listens."""
        process = self.run(site, ["tcpdump", "-i", "eth0", "-n", "-U", "-s", str(_KEPT_BYTES), "-B", "16384",
                                  "--immediate-mode", "-Z", "root", "-w", path],
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        capture = Capture(path, self.address(site), process)
        self._captures.append(capture)
        capture.wait_until_listening()
        return capture

    def _port(self, site: str, state: str) -> None:
        (_, _), (hub, device) = self._ends(site)
        _ip("-n", hub, "link", "set", device, state)

    def _ends(self, site: str) -> tuple[tuple[str, str], tuple[str, str]]:
        """(namespace, device) of the line's end at the site and of its end at the bridge."""
        return (self.namespace(site), "eth0"), (self.namespace("hub"), site)

    def _build(self) -> None:
        for name in ("hub", *self._addresses):
            _write_settings(self.namespace(name), self)
            _ip("netns", "add", self.namespace(name))
            # IPv6 stays on the loopback interface: what the kernel says by itself would be noise in a capture
            _ip("netns", "exec", self.namespace(name), "sh", "-c",
                "! test -d /proc/sys/net/ipv6 || echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
            _ip("-n", self.namespace(name), "link", "set", "lo", "up")
        hub = self.namespace("hub")
        _ip("-n", hub, "link", "add", "br0", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        if self.sink:
            _ip("-n", hub, "addr", "add", f"{_SINK}/16", "dev", "br0")
        _ip("-n", hub, "link", "set", "br0", "address", _SINK_MAC, "up")
        for name in self._addresses:
            self._connect(name, hub)

    def _connect(self, name: str, hub: str) -> None:
        own = self.namespace(name)
        _ip("link", "add", "eth0", "address", self._mac(name), "netns", own, "type", "veth", "peer", "name", name,
            "netns", hub)
        # single packets, as on a wire: a loss of 1 % is of 1,500 bytes, not of 64 KB bundles
        _ip("-n", own, "link", "set", "eth0", "gso_max_segs", "1")
        _ip("-n", own, "addr", "add", f"{self._addresses[name]}/16", "dev", "eth0")
        _ip("-n", own, "link", "set", "eth0", "up")
        _ip("-n", hub, "link", "set", name, "master", "br0", "up")
        # no packet goes to a port but the one it is for, so that a capture holds the site's own packets only
        _ip("netns", "exec", hub, "bridge", "link", "set", "dev", name, "flood", "off", "mcast_flood", "off",
            "bcast_flood", "off", "learning", "off", "isolated", "off" if name == COORDINATOR else "on")
        _ip("netns", "exec", hub, "bridge", "fdb", "replace", self._mac(name), "dev", name, "master", "static")
        neighbours = {self._addresses[other]: self._mac(other) for other in self._peers(name)}
        # known beforehand: a cut line is silence, as over a VPN, and not "no route to host" after three seconds
        for address, mac in (neighbours | ({_SINK: _SINK_MAC} if self.sink else {})).items():
            _ip("-n", own, "neigh", "add", address, "lladdr", mac, "nud", "permanent", "dev", "eth0")
        if self.sink:
            _ip("-n", own, "route", "add", "default", "via", _SINK)

    def _peers(self, name: str) -> tuple[str, ...]:
        return self.sites if name == COORDINATOR else (COORDINATOR,)

    def _mac(self, name: str) -> str:
        return "02:00:" + bytes(map(int, self._addresses[name].split("."))).hex(":")


@dataclass
class Capture:
    """A recording that runs; :meth:`stop` ends it and says what it saw."""

    path: Path
    address: str
    process: subprocess.Popen[str]
    lost: int | None = None

    def wait_until_listening(self) -> None:
        """Return once packets are recorded."""
        assert self.process.stderr is not None
        said = ""
        for line in self.process.stderr:
            said += line
            if "listening on" in line:
                return
        raise LabError(f"tcpdump did not start: {said.strip()}")

    def stop(self) -> Traffic:
        """End the recording and read it.

        :raises LabError: the kernel lost packets, so that the recording proves nothing.
        """
        if self.lost is None:
            time.sleep(0.05)  # packets that were sent just now reach the file
            self.process.send_signal(signal.SIGINT)
            _, said = self.process.communicate(timeout=20)
            counted = re.search(r"(\d+) packets? dropped by kernel", said)
            if counted is None:
                raise LabError(f"tcpdump was ended by something else and proves nothing: {said.strip()}")
            self.lost = int(counted[1])
        if self.lost:
            raise LabError(f"the capture {self.path} lost {self.lost} packets and proves nothing; repeat it")
        return read_capture(self.path, self.address)

    def abandon(self) -> None:
        """End the recording without reading it."""
        if self.process.poll() is None:
            self.process.kill()
        with suppress(ValueError):  # the pipe is closed already
            self.process.communicate()


def summarise(capture: Capture) -> Traffic:
    """Stop the recording, and say which peers, protocols, ports and connections it saw."""
    return capture.stop()


def leftovers() -> list[str]:
    """Namespaces of labs whose process is gone."""
    return [name for name in _namespaces() if not Path(f"/proc/{name.split('-')[1].split('.')[0]}").exists()]


def remove_leftovers() -> list[str]:
    """Remove what killed processes left, and return the namespaces' names."""
    names = leftovers()
    _remove(names)
    for folder in _SETTINGS.glob("fml-*") if _SETTINGS.is_dir() else ():
        owner = _NAME.fullmatch(folder.name)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            shutil.rmtree(folder, ignore_errors=True)
    return names


def _namespaces() -> list[str]:
    folder = Path("/run/netns")
    return sorted(path.name for path in folder.iterdir() if _NAME.fullmatch(path.name)) if folder.is_dir() else []


def _remove(names: Sequence[str], prefix: str | None = None) -> None:
    for name in names:
        for pid in _ip("netns", "pids", name, check=False).stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        _ip("netns", "del", name, check=False)
        shutil.rmtree(_SETTINGS / name, ignore_errors=True)
    for folder in _SETTINGS.glob(f"{prefix}*") if prefix and _SETTINGS.is_dir() else ():
        shutil.rmtree(folder, ignore_errors=True)


def _write_settings(namespace: str, lab: Lab) -> None:
    """Hosts and name servers as programs in the namespace see them (`ip netns exec` mounts these over /etc)."""
    folder = _SETTINGS / namespace
    folder.mkdir(parents=True, mode=0o755)
    hosts = {"127.0.0.1": "localhost"} | {lab.address(name): name for name in (COORDINATOR, *lab.sites)}
    (folder / "hosts").write_text("".join(f"{ip} {name}\n" for ip, name in hosts.items()), encoding="ascii")
    servers = f"nameserver {_SINK}\n" if lab.sink else ""
    (folder / "resolv.conf").write_text(f"{servers}options timeout:1 attempts:1\n", encoding="ascii")


def _ip(*words: str, check: bool = True, text: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    done = subprocess.run(["ip", *words], input=text, capture_output=True, text=True, check=False, env=environment,
                          timeout=60)
    if check and done.returncode:
        raise LabError(f"ip {' '.join(words)} failed: {done.stderr.strip()}")
    return done
