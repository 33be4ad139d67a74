"""Every file of a hospital is parsed and decoded in child processes with limits; the site's own process never does.

A decoder that aborts, loops, asks for all memory or is taken over ends or lies in its child: that file gets a refusal
code, and the site goes on. What a child says is checked value by value (`answers`).

What becomes of a file depends on that file alone, the installation and the limits, because a refusal that another
patient's file caused would let one patient decide about another. A child that runs out of memory or crashes is
replaced, and only if the file does the same in a child that has read nothing before is it refused; a child in which
much memory stayed behind is replaced before the next file. Time is counted as processor time of the one file. Two
things are not in this power: a machine so busy, or a disk so slow, that a file waits `_WAIT` times as long as it may
compute; and a machine that runs out of memory although every child keeps its limit: give it workers x memory_gib.

Does not cover: a child reads files as the site's own user, and a file that takes a child over can make it lie about
files that the same child reads after it, within what `answers` lets through.
"""

from __future__ import annotations

import os
import queue
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

from configs.site_data import ImagesConfig
from site_client.imaging.answers import Rendered, checked_header, checked_syntax
from site_client.imaging.header import Header
from site_client.imaging.sandbox_process import Limits, LostError, SandboxError, SandboxProcess
from site_client.records import RefusedItemError

__all__ = ["Rendered", "Sandbox", "SandboxError"]

_BATCH = 64
_WAIT = 4.0
_PATIENCE_S = 10.0
_Found = TypeVar("_Found")


class Sandbox:
    """A context manager. Its methods may be called from several threads; `workers` files are in work at once."""

    _plugin: ClassVar[str] = ""          # tests force each decoder in turn; no configuration can

    def __init__(self, config: ImagesConfig) -> None:
        self._limits = Limits(
            memory_bytes=int(config.memory_gib * 2**30), file_bytes=config.most_file_mib << 20,
            cpu_s=config.timeout_s, wall_s=_WAIT * config.timeout_s + _PATIENCE_S)
        self._workers = config.workers
        # A child dies with the thread that started it, so that it cannot outlive the site: one thread starts them all.
        self._starter = ThreadPoolExecutor(1, "sandbox-starter")
        self._free: queue.SimpleQueue[_Place] = queue.SimpleQueue()
        self._places = [_Place(self._start) for _ in range(config.workers)]
        for place in self._places:
            self._free.put(place)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for place in self._places:
            place.end()
        self._starter.shutdown()

    def scan(self, paths: Iterable[Path]) -> Iterator[tuple[Path, Header | str]]:
        """Each path, in order, with its header or the code of its refusal. Raises SandboxError."""
        return self._each("headers", paths, checked_header)

    def syntaxes(self, paths: Iterable[Path]) -> Iterator[tuple[Path, tuple[str, int] | str]]:
        """Each path, in order, with (transfer syntax, bits stored) or the code of its refusal. Raises SandboxError."""
        return self._each("syntaxes", paths, checked_syntax)

    def render(self, path: Path, frames: Sequence[int]) -> Rendered:
        """The pictures of these frames (from 0, at least one). Raises RefusedItemError and SandboxError."""
        if not frames or min(frames) < 0:
            raise ValueError("frames are numbered from 0, and at least one is wanted")
        with self._place() as place:
            while True:
                process = place.process()
                fresh = process.fresh
                try:
                    found = process.render(path, frames)
                except LostError as lost:
                    if fresh or lost.code == "decoder-timeout":
                        raise RefusedItemError(lost.code) from None
                    continue
                if isinstance(found, str):
                    raise RefusedItemError(found)
                return found

    def _each(
        self, work: str, paths: Iterable[Path], check: Callable[[Any], _Found]
    ) -> Iterator[tuple[Path, _Found | str]]:
        """Batches go to the children side by side, a few ahead of what was asked for."""
        remaining = iter(paths)
        pool = ThreadPoolExecutor(self._workers, "sandbox")
        waiting: deque[tuple[list[Path], Future[list[_Found | str]]]] = deque()
        try:
            while True:
                while len(waiting) < 2 * self._workers and (batch := list(islice(remaining, _BATCH))):
                    waiting.append((batch, pool.submit(self._batch, work, batch, check)))
                if not waiting:
                    return
                batch, answers = waiting.popleft()
                yield from zip(batch, answers.result(), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)

    def _batch(self, work: str, paths: list[Path], check: Callable[[Any], _Found]) -> list[_Found | str]:
        answers: list[_Found | str] = []
        with self._place() as place:
            while len(answers) < len(paths):
                process = place.process()
                before, fresh = len(answers), process.fresh
                try:
                    for answer in process.each(work, paths[before:], check):
                        answers.append(answer)
                except LostError as lost:
                    if lost.code == "decoder-timeout" or (fresh and len(answers) == before):
                        answers.append(lost.code)
        return answers

    @contextmanager
    def _place(self) -> Iterator[_Place]:
        place = self._free.get()
        try:
            yield place
        except RefusedItemError:
            raise
        except BaseException:  # an interrupt, say: the child is in the middle of an answer
            place.end()
            raise
        finally:
            self._free.put(place)

    def _start(self) -> SandboxProcess:
        return self._starter.submit(SandboxProcess, self._limits, self._command).result()

    def _command(self, descriptor: int) -> list[str]:
        command = [sys.executable, "-P", "-m", "site_client.imaging.sandbox_child", "--fd", str(descriptor),
                   "--parent", str(os.getpid()), "--memory-bytes", str(self._limits.memory_bytes),
                   "--cpu-s", str(self._limits.cpu_s), "--file-bytes", str(self._limits.file_bytes)]
        return [*command, "--plugin", self._plugin] if self._plugin else command


class _Place:
    """Room for one child, which is started when it is needed."""

    def __init__(self, start: Callable[[], SandboxProcess]) -> None:
        self._start = start
        self._process: SandboxProcess | None = None

    def process(self) -> SandboxProcess:
        if self._process is None or not self._process.alive:
            self._process = self._start()
        return self._process

    def end(self) -> None:
        if self._process is not None and self._process.alive:
            self._process.kill()
