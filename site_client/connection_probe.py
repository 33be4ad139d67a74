"""Can this site reach its coordinator, and if not, why: one look at TCP, TLS and clock, as the node would see them.

Used when the node ended without a word, and by `site-client doctor`. Nothing of the site is sent.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["MOST_AHEAD_S", "MOST_BEHIND_S", "Connection", "probe"]

MOST_AHEAD_S, MOST_BEHIND_S = 5.0, 305.0  # what the coordinator's Flower accepts of a node's clock
_EXPIRES_SOON_S = 30 * 86400


@dataclass(frozen=True)
class Connection:
    """What was found. `reason` is "" where a node can connect; `skew_s` is this clock minus the coordinator's."""

    reason: str
    fix: str = ""
    skew_s: float | None = None
    certificate_ends: datetime | None = None

    @property
    def expires_soon(self) -> bool:
        """Whether the server's certificate ends within 30 days."""
        ends = self.certificate_ends
        return ends is not None and (ends - datetime.now(UTC)).total_seconds() < _EXPIRES_SOON_S


def probe(address: str, ca_certificate: str, timeout_s: float = 10.0) -> Connection:
    """Look at the coordinator at `address` (HOST:PORT) as the owner of `ca_certificate` (PEM) would. Never raises."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    context = ssl.create_default_context(cadata=ca_certificate)
    connection = http.client.HTTPSConnection(host, int(port), timeout=timeout_s, context=context)
    try:
        connection.connect()
        ends = _certificate_end(connection)
        connection.request("GET", "/health")
        answer = connection.getresponse()
        answer.read(64)
        return _judge(answer.status, answer.getheader("Date"), ends)
    except ssl.SSLCertVerificationError as error:
        return _certificate_fault(error, host)
    except ssl.SSLError as error:
        return Connection(f"the TLS handshake with {address} failed ({error.reason or 'no reason given'})",
                          "something between the sites may open TLS; ask the network's operator for a plain path")
    except socket.gaierror:
        return Connection(f"the name {host} is not known here", "correct the address, or the site's name service")
    except (TimeoutError, OSError, http.client.HTTPException) as error:
        return Connection(f"nothing answers at {address} ({type(error).__name__})",
                          "see whether the VPN and the firewall let this host reach it, and whether the coordinator "
                          "is up")
    except Exception as error:  # a name or an answer that no genuine coordinator has
        return Connection(f"what answers at {address} is no coordinator ({type(error).__name__})",
                          "compare the address with the invitation")
    finally:
        connection.close()


def _certificate_end(connection: http.client.HTTPSConnection) -> datetime | None:
    found = connection.sock.getpeercert() if isinstance(connection.sock, ssl.SSLSocket) else None
    text = found.get("notAfter") if found else None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC) if isinstance(text, str) else None


def _judge(status: int, date: str | None, ends: datetime | None) -> Connection:
    skew = None
    if date is not None:
        skew = time.time() - parsedate_to_datetime(date).timestamp() - 0.5  # the header has whole seconds
    if status != 200:
        return Connection(f"the coordinator answers with status {status}", "ask its operator to look at it", skew, ends)
    if skew is not None and not -MOST_BEHIND_S < skew < MOST_AHEAD_S:
        side = "ahead of" if skew > 0 else "behind"
        return Connection(f"this machine's clock is {abs(skew):.0f} s {side} the coordinator's",
                          "set the clock (NTP): at most 5 s ahead and 305 s behind are accepted", skew, ends)
    return Connection("", "", skew, ends)


def _certificate_fault(error: ssl.SSLCertVerificationError, host: str) -> Connection:
    text = error.verify_message or "not verified"
    if "expired" in text:
        return Connection("the coordinator's certificate has expired",
                          "ask its operator for `coordinator renew-certificate`; check this machine's clock too")
    if "not yet valid" in text:
        return Connection("the coordinator's certificate is not valid yet", "set this machine's clock (NTP)")
    if "mismatch" in text.lower():
        return Connection(f"the coordinator's certificate is not for the name {host}",
                          "use the address of the invitation, or ask for a certificate with this name")
    return Connection("the server's certificate is not from the invitation's certificate authority",
                      "stop: this is another server, or something between opens TLS; compare the invitation")
