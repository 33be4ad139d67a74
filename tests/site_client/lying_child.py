"""A child that a hostile file has taken over: it says what the file's name asks for."""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from pathlib import Path

stream = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1])) if "--fd" in sys.argv else socket.socket()


def say(message: object, raw: bytes = b"", length: int | None = None) -> None:
    text = message if isinstance(message, bytes) else json.dumps(message).encode()
    stream.sendall(struct.pack(">IQ", len(text), len(raw) if length is None else length) + text + raw)


def ask() -> dict:  # type: ignore[type-arg]
    head = stream.recv(12, socket.MSG_WAITALL)
    return json.loads(stream.recv(struct.unpack(">IQ", head)[0], socket.MSG_WAITALL))


def picture(height: object = 2, width: object = 2, how: object = "x", raw: bytes = bytes(12), **more: object) -> None:
    say({"height": height, "width": width, "how": how, **more}, raw)


def drip() -> None:
    for _ in range(600):
        stream.sendall(b"\0")
        time.sleep(0.1)


END = {"digest": "0" * 64, "over": False}
LIES = {
    "endless-json": lambda: stream.sendall(struct.pack(">IQ", 2**32 - 1, 0) + bytes(1000)),
    "endless-raw": lambda: say({"height": 2, "width": 2, "how": "x"}, length=2**63),
    "no-json": lambda: say(b"\xff\xfe{"),
    "deep-json": lambda: say(b"[" * 200_000),
    "long-number": lambda: say(b'{"height":' + b"9" * 100_000 + b"}"),
    "list": lambda: say([1, 2, 3]),
    "null": lambda: say(None),
    "wide": lambda: picture(1 << 15, 1 << 15, raw=bytes(12)),
    "negative": lambda: picture(-2, -2),
    "fraction": lambda: picture(2.0, 2),
    "truth": lambda: picture(True, 4),
    "no-words": lambda: picture(how=7),
    "many-words": lambda: picture(how="x" * 5000),
    "control": lambda: picture(how="\x1b]0;x\x07"),
    "surrogate": lambda: picture(how="\ud800"),
    "one-more-key": lambda: picture(extra=1),
    "other-size": lambda: picture(raw=bytes(11)),
    "short": lambda: say({"height": 2, "width": 2, "how": "x"}, bytes(11), length=12),
    "two-for-one": lambda: (picture(), picture(), say(END)),
    "none-for-one": lambda: say(END),
    "end-with-bytes": lambda: (picture(), say(END, b"123")),
    "digest": lambda: (picture(), say({**END, "digest": "../../etc/passwd"})),
    "code": lambda: say({"refused": "rm -rf", "over": False}),
    "code-list": lambda: say({"refused": ["sop-class"], "over": False}),
    "drip": drip,
    "silence": lambda: time.sleep(600),
    "hang-up": stream.close,
}  # fmt: skip

if __name__ == "__main__":
    say({"ready": True})
    while True:
        request = ask()
        name = Path(request.get("path") or request["paths"][0]).stem
        if name == "honest":
            picture()
            say(END)
        else:
            LIES[name]()
