"""Who may see the pages: tokens in files, sessions in memory, and a brake on guessing.

*Guarantees.*
    * A token is 256 bits of `privacy.entropy` in a file of its user's alone (0600); one that others can read is
      refused.
    * Tokens are compared in constant time; of cookies only hashes are kept and looked up.
    * After a few wrong tokens none is taken for a while.

*Assumes.* Whoever can read the token's file may see what the pages are made from: it lies in the same folder.

*Does not cover.* What a token opens. Sessions are forgotten with the process.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from privacy.durable import write_whole
from privacy.entropy import SystemEntropy

__all__ = ["SESSION_S", "Brake", "Sessions", "new_token", "same", "token_in"]

SESSION_S = 12 * 3600.0
_MOST_SESSIONS = 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


def token_in(path: Path) -> str:
    """The token that the file holds; made on first use. Raises ValueError when others can read it, or it is none."""
    if not path.is_file():
        return new_token(path)
    if path.stat().st_mode & 0o077:
        raise ValueError(f"token file {path} is readable by others; run: chmod 600 {path}, then the same command with "
                         "--new-token")
    text = path.read_text(encoding="ascii", errors="replace").strip()
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"{path} holds no token; remove it, a new one is made at the next start")
    return text


def new_token(path: Path) -> str:
    """Replace the token in the file (0600, its folder 0700); sessions of the old one end with the server's restart."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    token = _drawn()
    write_whole(path, token.encode() + b"\n")
    return token


def same(given: str, expected: str) -> bool:
    """Compared in constant time, whatever the length of what was given."""
    return hmac.compare_digest(hashlib.sha256(given.encode("utf-8", "replace")).digest(),
                               hashlib.sha256(expected.encode()).digest())


class Sessions:
    """Who is logged in: the hashes of their cookies, each until it ends, the oldest first to go."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends: OrderedDict[bytes, float] = OrderedDict()

    def begin(self) -> str:
        """A new session's cookie."""
        cookie = _drawn()
        self._ends[_hash(cookie)] = self._clock() + SESSION_S
        while len(self._ends) > _MOST_SESSIONS:
            self._ends.popitem(last=False)
        return cookie

    def holds(self, cookie: str) -> bool:
        """Whether the cookie is of a session that has not ended."""
        ends = self._ends.get(_hash(cookie))
        return ends is not None and self._clock() < ends

    def end(self, cookie: str) -> None:
        """Log out."""
        self._ends.pop(_hash(cookie), None)


class Brake:
    """At most `most` failed tries in `within_s` from one address, and ten times as many from all of them together."""

    def __init__(self, most: int = 5, within_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._within_s, self._clock = most, within_s, clock
        self._failed: list[tuple[float, str]] = []

    def wait_s(self, address: str) -> int:
        """Seconds until that address may try again; 0 = now."""
        now = self._clock()
        self._failed = [one for one in self._failed if now - one[0] < self._within_s]
        own = [when for when, who in self._failed if who == address]
        for times, most in ((own, self._most), ([when for when, _ in self._failed], 10 * self._most)):
            if len(times) >= most:
                return max(1, round(times[-most] + self._within_s - now))
        return 0

    def failed(self, address: str) -> None:
        """A wrong token came from there."""
        self._failed.append((self._clock(), address))


def _drawn() -> str:
    """256 random bits as 43 letters, digits, hyphens and underscores."""
    return urlsafe_b64encode(SystemEntropy().random_bytes(32)).rstrip(b"=").decode()


def _hash(cookie: str) -> bytes:
    """What is looked up is the hash, so the time of a look-up says nothing about a cookie."""
    return hashlib.sha256(cookie.encode("utf-8", "replace")).digest()
