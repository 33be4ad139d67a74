"""The one random source of everything that privacy rests on: draws, noise, keys, shares.

*Guarantees.*
    * `SystemEntropy` is keyed with 32 bytes of the operating system's generator and takes no seed, so nobody
      can make it repeat; a forked child takes a fresh key before its first byte.
    * The stream is AES-256 in counter mode (NIST SP 800-38A section 6.5). The first 32 bytes of every request
      replace the key and are never given out ("fast key erasure", Bernstein 2017): a key read from memory
      later does not reveal noise that was added earlier.
    * `gaussian` has one fixed sequence of operations for every value, without rejection, so its timing does
      not depend on the values (Jin et al., arXiv 2112.05307, section 5 on the timing of samplers).
    * A source cannot be copied or pickled: two holders of one key would add the same noise.

*Assumes.*
    * AES-256 is a pseudo-random permutation and `os.urandom` is seeded; the key stays in this process.
    * A request stays far below 2**64 blocks (the counter starts at zero under every new key).

*Does not cover.*
    * The finite precision of float64: `gaussian` is a discrete approximation with |z| <= 9.42. The release
      mechanism rounds to a public grid (`privacy.dp.noise`), which is a mitigation and not a proof.
    * Erasing buffers that were handed out; a snapshot of a whole virtual machine that is started twice.
"""

from __future__ import annotations

import os
import threading
from typing import NoReturn, SupportsIndex, final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

__all__ = ["Entropy", "SystemEntropy"]

_KEY_BYTES = 32
_BLOCK_BYTES = 16
_ZEROS = bytes(1 << 18)

_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


def _process_mark() -> tuple[int, int]:
    """Differs between a process and its child. The count covers a reused pid, the pid a fork made in C."""
    return os.getpid(), _forks


class Entropy:
    """A keyed AES-256-CTR stream. Use `SystemEntropy`; only a simulation may derive from this class.

    `simulated` is True when the stream can be repeated (a fixed seed). What such a stream protects is not
    private, the ledger records it, and no privacy statement can be made over it.
    """

    def __init__(self, key: bytes, *, simulated: bool) -> None:
        if len(key) != _KEY_BYTES:
            raise ValueError(f"an entropy key has {_KEY_BYTES} bytes, this one has {len(key)}")
        self._key = bytes(key)
        self._simulated = bool(simulated)
        self._mark = _process_mark()
        self._lock = threading.Lock()

    @property
    def simulated(self) -> bool:
        """True when the outputs are repeatable and therefore not private."""
        return self._simulated

    def random_bytes(self, n: int) -> bytes:
        """`n` pseudo-random bytes."""
        return self._stream(n).tobytes()

    def uniform64(self, n: int) -> npt.NDArray[np.uint64]:
        """`n` integers, uniform over [0, 2**64)."""
        return self._stream(8 * n).view(np.dtype("<u8")).astype(np.uint64, copy=False)

    def gaussian(self, n: int) -> npt.NDArray[np.float64]:
        """`n` standard normal values in float64.

        Box and Muller, Ann. Math. Statist. 29(2), 1958, eq. 1: r = sqrt(-2 ln u), z = r cos t and r sin t.
        u is uniform on 2**-64 * {1..2**64} and t on a turn of 2**53 steps, so |z| <= sqrt(128 ln 2) = 9.42.
        """
        pairs = (n + 1) // 2
        bits = self.uniform64(2 * pairs)
        radius = bits[:pairs].astype(np.float64)
        radius += 1.0
        radius *= 2.0**-64
        np.log(radius, out=radius)
        radius *= -2.0
        np.sqrt(radius, out=radius)
        angle = (bits[pairs:] >> np.uint64(11)).astype(np.float64)
        angle *= 2.0 * np.pi * 2.0**-53
        normal = np.concatenate([np.cos(angle), np.sin(angle)])
        normal[:pairs] *= radius
        normal[pairs:] *= radius
        return normal[:n]

    def _stream(self, n: int) -> npt.NDArray[np.uint8]:
        if n < 0:
            raise ValueError(f"a number of random bytes cannot be negative, {n} were asked for")
        with self._lock:
            self._after_fork()
            buffer = _keystream(self._key, _KEY_BYTES + n)
            self._key = buffer[:_KEY_BYTES].tobytes()
        return buffer[_KEY_BYTES:]

    def _after_fork(self) -> None:
        """What a child process does before its first byte; a repeatable source repeats, so nothing."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("an entropy source cannot be copied or pickled: make a new one where it is needed")


@final
class SystemEntropy(Entropy):
    """The production source: keyed by the operating system, takes no argument, rekeys after a fork."""

    def __init__(self) -> None:
        super().__init__(os.urandom(_KEY_BYTES), simulated=False)

    def _after_fork(self) -> None:
        mark = _process_mark()
        if mark != self._mark:
            self._key = os.urandom(_KEY_BYTES)
            self._mark = mark


def _keystream(key: bytes, n: int) -> npt.NDArray[np.uint8]:
    """The first `n` bytes of AES-256-CTR under `key`, counter from zero; uint8[n]."""
    encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(_BLOCK_BYTES))).encryptor()
    # `update_into` asks for a block less one byte of room beyond what it writes.
    buffer = np.empty(n + _BLOCK_BYTES - 1, dtype=np.uint8)
    view = buffer.data
    for start in range(0, n, len(_ZEROS)):
        size = min(len(_ZEROS), n - start)
        encryptor.update_into(memoryview(_ZEROS)[:size], view[start:])
    return buffer[:n]
