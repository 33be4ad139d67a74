"""What the process that parses a hospital's files gives up before it reads the first one (Linux).

Kept: reading files as the site's own user. Given up: memory and processor time beyond a limit, core dumps, new
privileges, and, as far as this kernel and user allow, the network, signals to other processes, and every way to write,
create, remove or start a file. The limits hold everywhere; the last three are a second fence, for a decoder that a
hostile file has taken over, and need Landlock (Linux 5.13) or the right to a network namespace.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import struct
import time

__all__ = ["allow_cpu_s", "die_with_parent", "fence", "limit"]

_SET_PDEATHSIG, _SET_NO_NEW_PRIVS = 1, 38                    # prctl(2)
_NEW_USER, _NEW_NET = 0x1000_0000, 0x4000_0000               # unshare(2)
_CREATE_RULESET, _RESTRICT_SELF = 444, 446                   # landlock(7), the same on every architecture
_READING = 1 << 2 | 1 << 3                                   # of a file, of a folder
_OPEN_FILES = 64
_libc = ctypes.CDLL(None, use_errno=True)


def limit(memory_bytes: int) -> None:
    """Address space, core dumps and open files, for good."""
    for what, most in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_CORE, 0),
                       (resource.RLIMIT_NOFILE, _OPEN_FILES)):
        resource.setrlimit(what, (most, most))


def fence() -> None:
    """No new privileges, no network, nothing written, no signal to others; what this kernel does not know is left
    out."""
    _libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # The superuser keeps its own user namespace: in a new one it could not read other users' files.
    _libc.unshare(_NEW_NET if os.geteuid() == 0 else _NEW_USER | _NEW_NET)
    version = int(_libc.syscall(_CREATE_RULESET, None, 0, 1))
    if version >= 1:
        _landlock(version)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _landlock(version: int) -> None:
    """A ruleset without a rule: all that it handles is denied (Documentation/userspace-api/landlock.rst)."""
    files = (1 << 13) - 1 | (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= 3 else 0)
    fields = [files & ~_READING]
    fields += [3] if version >= 4 else []                    # TCP: bind, connect
    fields += [] if version < 6 else [3]                     # abstract sockets, signals
    rules = struct.pack(f"={len(fields)}Q", *fields)
    descriptor = int(_libc.syscall(_CREATE_RULESET, rules, len(rules), 0))
    if descriptor >= 0:
        _libc.syscall(_RESTRICT_SELF, descriptor, 0)
        os.close(descriptor)


def die_with_parent(parent: int) -> bool:
    """The kernel kills this process when the thread that started it ends; False where `parent` is gone already."""
    _libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent


def allow_cpu_s(seconds: float) -> None:
    """That much processor time from now; SIGXCPU ends the process then."""
    most = math.ceil(time.process_time() + seconds)  # the kernel counts whole seconds
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))
