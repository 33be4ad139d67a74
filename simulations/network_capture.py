"""What crossed one network interface: reads a capture file and names every peer, protocol, port and connection.

Only headers are read (the file holds 128 bytes of a packet at most), so that an egress report can say where a site's
packets went and how many bytes, without holding what they said.
"""

from __future__ import annotations

import ipaddress
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Connection", "Traffic", "read_capture"]

_ETHERNET, _HEADER, _RECORD = 1, 24, 16
_TYPES = {0x0806: "ARP", 0x0800: "IPv4", 0x86DD: "IPv6"}
_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6"}
_SYN, _ACK = 0x02, 0x10
DNS_PORTS = (53, 853, 5353, 5355)


@dataclass(frozen=True, order=True)
class Connection:
    """One side asked another for a TCP connection: `opener` sent a SYN to `port` of `target`."""

    opener: str
    target: str
    port: int


@dataclass
class Traffic:
    """What one interface saw. Sizes are bytes on the wire, Ethernet header included.

    :ivar address: the interface's own IPv4 address; every other end of a packet is a peer.
    :ivar peers: {address of the other end: bytes}.
    :ivar protocols: {ARP, TCP, UDP, ICMP, ICMPv6 or the number of another one: bytes}.
    :ivar ports: {(protocol, the peer's port): bytes} of what was sent, and what was received from there.
    :ivar connections: every TCP connection that was asked for, in either direction.
    """

    address: str
    packets: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    peers: Counter[str] = field(default_factory=Counter)
    protocols: Counter[str] = field(default_factory=Counter)
    ports: Counter[tuple[str, int]] = field(default_factory=Counter)
    connections: set[Connection] = field(default_factory=set)

    @property
    def has_dns(self) -> bool:
        """True if a packet went to or came from a port of DNS, DNS over TLS, mDNS or LLMNR."""
        return any(port in DNS_PORTS for _, port in self.ports)

    def strays(self, peer: str, port: int) -> list[str]:
        """One sentence for each thing that is not the site speaking TCP to `port` of `peer`; empty is a pass."""
        found = [f"{size} bytes to or from {other}" for other, size in sorted(self.peers.items()) if other != peer]
        found += [f"{size} bytes of {protocol}" for protocol, size in sorted(self.protocols.items())
                  if protocol not in ("TCP", "ARP")]
        return found + [f"{one.opener} opened a connection to port {one.port} of {one.target}"
                        for one in sorted(self.connections) if one != Connection(self.address, peer, port)]


def read_capture(path: Path, address: str) -> Traffic:
    """Read a capture file (pcap, Ethernet) taken on the interface with this IPv4 address.

    :raises ValueError: not such a file, or it ends in the middle of a packet.
    """
    traffic = Traffic(address)
    for frame, size in _frames(path):
        traffic.packets += 1
        _count(traffic, frame, size)
    return traffic


def _frames(path: Path) -> Iterator[tuple[bytes, int]]:
    """(captured bytes, size on the wire) of each packet."""
    data = path.read_bytes()
    order = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">"}.get(data[:4])
    if order is None or len(data) < _HEADER or struct.unpack_from(order + "I", data, 20)[0] != _ETHERNET:
        raise ValueError(f"{path} is not a capture of an Ethernet interface; make it with Lab.capture")
    offset = _HEADER
    while offset < len(data):
        if offset + _RECORD > len(data):
            raise ValueError(f"{path} ends in the middle of a packet; stop the capture before it is read")
        kept, size = struct.unpack_from(order + "II", data, offset + 8)
        offset += _RECORD + kept
        if offset > len(data):
            raise ValueError(f"{path} ends in the middle of a packet; stop the capture before it is read")
        yield data[offset - kept:offset], size


def _count(traffic: Traffic, frame: bytes, size: int) -> None:
    kind = int.from_bytes(frame[12:14], "big")
    name = _TYPES.get(kind)
    if name == "ARP":
        source, target, protocol, transport = _address(frame[28:32]), _address(frame[38:42]), "ARP", b""
    elif name == "IPv4":
        source, target = _address(frame[26:30]), _address(frame[30:34])
        protocol, transport = _protocol(frame[23]), frame[14 + 4 * (frame[14] & 15):]
    elif name == "IPv6":
        source, target = _address(frame[22:38]), _address(frame[38:54])
        protocol, transport = _protocol(frame[20]), frame[54:]
    else:
        source, target, protocol, transport = frame[6:12].hex(":"), frame[:6].hex(":"), f"ethertype {kind:#06x}", b""
    outgoing = source == traffic.address
    traffic.sent_bytes += size if outgoing else 0
    traffic.received_bytes += 0 if outgoing else size
    traffic.peers[target if outgoing else source] += size
    traffic.protocols[protocol] += size
    if protocol in ("TCP", "UDP") and len(transport) >= 4:
        ports = struct.unpack(">HH", transport[:4])
        traffic.ports[protocol, ports[1] if outgoing else ports[0]] += size
        if protocol == "TCP" and len(transport) >= 14 and transport[13] & (_SYN | _ACK) == _SYN:
            traffic.connections.add(Connection(source, target, ports[1]))


def _address(raw: bytes) -> str:
    return str(ipaddress.ip_address(raw)) if len(raw) in (4, 16) else "cut off"


def _protocol(number: int) -> str:
    return _PROTOCOLS.get(number, f"protocol {number}")
