"""Answers of an evaluation as they come: one line each in a file beside the result, so that a stopped one goes on."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

__all__ = ["FORMAT", "AnswerFile", "first_line", "open_answers", "require_same"]

FORMAT = "evaluation-answers/1"
MAX_LINE_BYTES = 8 << 20


class AnswerFile:
    """The answers so far, by the question's key. `add` writes one more, whole, before it returns."""

    def __init__(self, stream: IO[bytes], answers: dict[str, dict[str, Any]]) -> None:
        self._stream = stream
        self.answers = answers

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        """Keep `record` (JSON values) as the answer to the question `key`."""
        _append(self._stream, {"key": key, **record})
        self.answers[key] = dict(record)


@contextmanager
def open_answers(path: Path, identity: Mapping[str, Any]) -> Iterator[AnswerFile]:
    """The file's answers, to be continued; made (0600) with `identity` as its first line when it does not exist.

    A last line that was not finished is cut off. Raises ValueError, one sentence, when the file holds answers of
    another evaluation (mixed inputs), is damaged, or is being written by another process.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"{path} is being written by another evaluation; wait for it, or choose another --out"
                             ) from None
        records = list(_records(stream, path))
        if records:
            require_same(records[0], identity, path)
        else:
            _append(stream, identity)
        yield AnswerFile(stream, {record.pop("key"): record for record in records[1:]})


def first_line(path: Path) -> dict[str, Any] | None:
    """What the file says its answers are of; None without a file or a whole first line. ValueError when damaged."""
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        line = stream.readline(MAX_LINE_BYTES)
    return _parsed(line, path, 1) if line.endswith(b"\n") else None


def require_same(found: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    """ValueError, one sentence that names what differs, unless `found` says all that `wanted` says."""
    differing = [name for name, value in wanted.items() if found.get(name) != value]
    if differing:
        raise ValueError(f"{path} holds answers of another evaluation (other {', '.join(differing)}); choose another "
                         "--out, or remove that file")


def _append(stream: IO[bytes], record: Mapping[str, Any]) -> None:
    stream.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
    stream.flush()


def _records(stream: IO[bytes], path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines, the stream cut and placed after the last of them."""
    whole, number = 0, 0
    while (line := stream.readline(MAX_LINE_BYTES)).endswith(b"\n"):
        number += 1
        record = _parsed(line, path, number)
        if number > 1 and not isinstance(record.get("key"), str):
            raise ValueError(f"{path}, line {number}: is no answer; remove that file")
        whole += len(line)
        yield record
    stream.seek(whole)
    stream.truncate()


def _parsed(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise ValueError(f"{path}, line {number}: is damaged; remove that line, or the file")
    return record
