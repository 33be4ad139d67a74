"""Tells open pages that something changed: a number that grows, one sentence, and a stream of server-sent events.

*Guarantees.* A stream ends with its session and with the server; there are at most 64 at once. What is said is JSON
inside one event, so no text of it can forge another event.

*Assumes.* `said` is fit for the page that it is read out on: the caller chooses it.

*Does not cover.* What a page shows: it is fetched again, with its session.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["BUSY_FOR_S", "BUSY_S", "IDLE_S", "Changes", "FileChanges", "look"]

BUSY_S, IDLE_S, BUSY_FOR_S = 0.4, 2.0, 60.0  # between two looks, while something happened not long ago and otherwise
_LOOK_S, _SIGN_OF_LIFE_S = 0.25, 15.0
_MOST_STREAMS = 64
_MOST_SAID = 300  # characters
_MOST_KEPT = 16   # changes


class Changes:
    """`version` grows with every change; a subclass's `_run` finds them in a thread of its own."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="changes", daemon=True)
        self._streams = 0
        self.version = 0
        self._newest: deque[tuple[int, str]] = deque(maxlen=_MOST_KEPT)  # (version, what was said of it)

    def start(self) -> None:
        """Begin to look, in the background."""
        self._thread.start()

    def end_streams(self) -> None:
        """From a signal handler: open pages reconnect by themselves."""
        self._stop.set()

    def stop(self) -> None:
        """End the thread and every stream."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10.0)

    def touch(self, said: str) -> None:
        """Something that pages show has changed.

        Args:
            said: one sentence for a screen reader; "" where there is nothing to read out.
        """
        self._newest.append((self.version + 1, said))
        self.version += 1

    @property
    def said(self) -> str:
        """The newest sentence."""
        return next((said for _, said in reversed(list(self._newest)) if said), "")

    def _said_between(self, before: int, upto: int) -> str:
        """Every sentence of the changes after `before`, each once, in their order."""
        return "; ".join(dict.fromkeys(
            said for number, said in list(self._newest) if said and before < number <= upto))

    def _run(self) -> None:
        raise NotImplementedError

    async def stream(self, holds: Callable[[], bool]) -> AsyncIterator[str]:
        """Server-sent events: one now, one for each change, a comment as a sign of life; until `holds` says no."""
        if self._streams >= _MOST_STREAMS:
            yield "retry: 60000\n\n"
            return
        self._streams += 1
        try:
            seen, last = -1, time.monotonic()
            while not self._stop.is_set() and holds():
                if (version := self.version) != seen:
                    kind, said = ("hello", self.said) if seen < 0 else ("change", self._said_between(seen, version))
                    seen, last = version, time.monotonic()
                    yield f"id: {seen}\nevent: {kind}\ndata: {json.dumps({'said': said[:_MOST_SAID]})}\n\n"
                elif time.monotonic() - last > _SIGN_OF_LIFE_S:
                    last = time.monotonic()
                    yield ": here\n\n"
                await asyncio.sleep(_LOOK_S)
        finally:
            self._streams -= 1


class FileChanges(Changes):
    """A change is one of the files `files`: their size, time or number.

    Args:
        sentence: says what changed; asked after every change.
    """

    def __init__(self, files: Callable[[], Iterable[Path]], sentence: Callable[[], str]) -> None:
        super().__init__()
        self._files, self._sentence = files, sentence

    def _run(self) -> None:
        busy_until, seen = time.monotonic() + BUSY_S, look(self._files())
        while not self._stop.wait(BUSY_S if time.monotonic() < busy_until else IDLE_S):
            now = look(self._files())
            if now != seen:
                busy_until, seen = time.monotonic() + BUSY_FOR_S, now
                self.touch(self._sentence())


def look(files: Iterable[Path]) -> list[Any]:
    """Name, time and size of those files that are there; equal while nothing changed."""
    found: list[Any] = []
    for path in files:
        with suppress(OSError):
            facts = path.stat()
            found.append((str(path), facts.st_ino, facts.st_mtime_ns, facts.st_size))
    return found
