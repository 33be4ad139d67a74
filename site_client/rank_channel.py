"""How the ranks of one site reach each other: gloo on 127.0.0.1, every byte sealed.

What goes over it is patients' samples and un-noised sums. The group listens on the loopback address only, and its
addresses are exchanged through a file in a folder that is the site's user's alone. gloo knows no authentication, and
another user of the machine could connect to a loopback port, so both directions of each channel are encrypted under a
key that the child gets over its standard input: AES-256-GCM (NIST SP 800-38D), nonce = direction and a counter, so
that what is forged, repeated, dropped or out of order fails to open. Only lengths and times can be seen.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from privacy.dp.ranks import RankError

__all__ = ["KEY_BYTES", "RankChannel", "open_group"]

KEY_BYTES = 32
_TAG_BYTES = 16
_HEADER_BYTES = 8
_CHUNK_BYTES = 1 << 26
_LARGEST_BYTES = 1 << 40
_LOOPBACK = "127.0.0.1"


def open_group(folder: Path, rank: int, size: int, timeout_s: float) -> Any:
    """The gloo group of `size` ranks; waits for all of them. `folder` (0700) is the same for all, and new.

    It is not torch's default group: no library that looks for one changes what it does. RankError when somebody does
    not come within `timeout_s`.
    """
    from torch.distributed import FileStore, ProcessGroupGloo  # type: ignore[attr-defined]

    options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._devices = [ProcessGroupGloo.create_device(hostname=_LOOPBACK)]
    options._timeout = timedelta(seconds=timeout_s)
    store = FileStore(str(folder / "addresses"), size)
    store.set_timeout(timedelta(seconds=timeout_s))
    try:
        return ProcessGroupGloo(store, rank, size, options)
    except RuntimeError as error:
        raise RankError("the ranks did not find each other in time") from error


class RankChannel:
    """Sealed messages between this rank and `peer`, in order, over a group of `open_group`.

    Every method raises RankError when the peer is gone or late, or when what came is not what it sent; a channel that
    failed once is of no use any more.
    """

    def __init__(self, group: Any, rank: int, peer: int, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a rank's key has {KEY_BYTES} bytes, this one has {len(key)}")
        self._group, self._rank, self._peer = group, rank, peer
        self._cipher = AESGCM(key)
        self._sent = self._received = 0

    def send(self, message: bytes, timeout_s: float) -> None:
        """One message of any length."""
        self._put(len(message).to_bytes(_HEADER_BYTES, "big"), timeout_s)
        for start in range(0, len(message), _CHUNK_BYTES):
            self._put(message[start : start + _CHUNK_BYTES], timeout_s)

    def receive(self, timeout_s: float) -> bytes:
        """The next message; waits for it at most `timeout_s`, and as long for each part."""
        length = int.from_bytes(self._get(_HEADER_BYTES, timeout_s), "big")
        if length > _LARGEST_BYTES:
            raise RankError(f"rank {self._peer} announces a message that is too long")
        message = bytearray()
        while len(message) < length:
            message += self._get(min(_CHUNK_BYTES, length - len(message)), timeout_s)
        return bytes(message)

    def _put(self, data: bytes, timeout_s: float) -> None:
        sealed = self._cipher.encrypt(_nonce(self._rank, self._peer, self._sent), data, None)
        self._sent += 1
        self._wait(lambda: self._group.send([_tensor(sealed)], self._peer, 0), timeout_s)

    def _get(self, size: int, timeout_s: float) -> bytes:
        buffer = torch.empty(size + _TAG_BYTES, dtype=torch.uint8)
        self._wait(lambda: self._group.recv([buffer], self._peer, 0), timeout_s)
        nonce = _nonce(self._peer, self._rank, self._received)
        self._received += 1
        try:
            return self._cipher.decrypt(nonce, buffer.numpy().tobytes(), None)
        except InvalidTag:
            raise RankError(f"rank {self._peer} did not send what arrived in its name") from None

    def _wait(self, begin: Any, timeout_s: float) -> None:
        try:
            begin().wait(timedelta(seconds=timeout_s))
        except RuntimeError as error:  # gloo's only kind
            raise RankError(f"rank {self._peer} ended or did not answer in time") from error


def _nonce(sender: int, receiver: int, count: int) -> bytes:
    """96 bits that are never used twice under one key: both ends of a channel count their own messages."""
    return sender.to_bytes(2, "big") + receiver.to_bytes(2, "big") + count.to_bytes(8, "big")


def _tensor(data: bytes) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())
