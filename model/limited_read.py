"""Files of others are read up to a length that is known beforehand: nobody fills a memory with a sparse file."""

from __future__ import annotations

from pathlib import Path

__all__ = ["read_limited"]


def read_limited(path: Path, limit: int) -> bytes:
    """The whole file, of at most `limit` bytes; no more than one byte beyond is ever read. ValueError when longer."""
    with path.open("rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{path} is damaged: it is longer than {limit} bytes; get the file again.")
    return data
