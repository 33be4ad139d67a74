"""Real processes for `benchmarks.federation`: started, watched, charged for CPU time, ended with the benchmark."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType

__all__ = ["Processes", "cpu_seconds", "peak_memory", "tree", "wait_for"]

_TICK = os.sysconf("SC_CLK_TCK")
_libc = ctypes.CDLL(None)


class Processes:
    """Child processes that end with the block, the youngest first.

    Args:
        folder: where each writes its output, as NAME.out.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in reversed(self.running.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, name: str, module: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Run `MODULE.main(ARGUMENTS)` in a process of one thread for numerics."""
        code = f"import sys; from {module} import main; sys.exit(main(sys.argv[1:]))"
        with (self._folder / f"{name}.out").open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}, preexec_fn=_die_with_parent)
        self.running[name] = process
        return process

    def require_all(self) -> None:
        """RuntimeError that names a process that has ended, with the end of what it wrote."""
        for name, process in self.running.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with exit code {process.returncode}: {self.tail(name)}")

    def tail(self, name: str) -> str:
        """The end of what a process wrote."""
        return (self._folder / f"{name}.out").read_text(errors="replace")[-800:].strip()

    def pids(self) -> list[int]:
        """Of every process here, with its children and theirs."""
        return sorted({pid for process in self.running.values() for pid in tree(process.pid)})


def _die_with_parent() -> None:
    _libc.prctl(1, signal.SIGKILL)


def wait_for(ready: Callable[[], object], timeout_s: float, what: str, processes: Processes | None = None) -> None:
    """Until `ready` holds; RuntimeError with `what` after the time, or when a process has ended."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if processes is not None:
            processes.require_all()
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} took longer than {timeout_s:g} s")
        time.sleep(0.05)


def tree(pid: int) -> list[int]:
    """`pid`, its children and theirs."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in _read(task).split()]
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of those processes so far, and of their children that have ended."""
    total = 0
    for pid in pids:
        fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
        total += sum(int(field) for field in fields[11:15])
    return total / _TICK


def peak_memory(pids: Sequence[int]) -> int:
    """The largest resident size that one of those processes had, bytes (Linux)."""
    return max(_peak(pid) for pid in pids)


def _peak(pid: int) -> int:
    lines = _read(Path(f"/proc/{pid}/status")).splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def _read(path: Path) -> str:
    """"" for a process that has just ended."""
    try:
        return path.read_text()
    except OSError:
        return ""
