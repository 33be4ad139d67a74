"""What a doctor finds: PASS, WARN or FAIL with the fix; and the checks that a site's machine and a coordinator's share.

*Guarantees.* Reads only: no file is made or changed and nothing is sent. An error that a check did not foresee becomes
a FAIL that names its kind and nothing of its text, which could quote a value.

*Assumes.* Linux: processes and mounts are read from `/proc`.

*Does not cover.* What only root sees, such as another user's processes under `hidepid`: they count as not running.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Literal

__all__ = [
    "Finding", "exit_code", "failed", "folder_findings", "key_findings", "machine_findings", "package_findings",
    "passed", "process_findings", "processes_with", "report", "until", "warned", "watch"]

Level = Literal["PASS", "WARN", "FAIL"]
GIB, GB = 2**30, 10**9
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "lustre", "fuse")
_VOLATILE = ("tmpfs", "ramfs")
_UNITS = (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))


@dataclass(frozen=True)
class Finding:
    """One line of a doctor: what was looked at, what was found, and what to do about it ("" for a PASS)."""

    level: Level
    name: str
    text: str
    fix: str = ""


def passed(name: str, text: str) -> Finding:
    """All is well."""
    return Finding("PASS", name, text)


def warned(name: str, text: str, fix: str) -> Finding:
    """It works today; somebody should look at it."""
    return Finding("WARN", name, text, fix)


def failed(name: str, text: str, fix: str) -> Finding:
    """It does not work, or must not."""
    return Finding("FAIL", name, text, fix)


def watch(name: str, check: Callable[[], Iterable[Finding]], fix: str, known: tuple[type[Exception], ...] = ()
          ) -> list[Finding]:
    """What `check` finds. One that is broken must not hide the others: its error is a FAIL.

    Args:
        fix: for an error whose text does not say what to do.
        known: errors beside ValueError whose text is one sentence that may be shown.
    """
    try:
        return list(check())
    except OSError as error:
        return [failed(name, f"cannot be read ({error.strerror or type(error).__name__})",
                       "run as the user that owns the folder")]
    except Exception as error:
        if isinstance(error, (ValueError, *known)):
            text, _, more = str(error).partition("; ")
            return [failed(name, text, more or fix)]
        return [failed(name, f"the check itself failed ({type(error).__name__})", fix)]


def report(findings: Sequence[Finding], *, as_json: bool) -> str:
    """For a screen, or as JSON: `{"ok": ..., "findings": [...]}`."""
    if as_json:
        return json.dumps({"ok": not exit_code(findings), "findings": [asdict(one) for one in findings]})
    lines = [f"{one.level}  {one.name:<13} {one.text}" + (f"\n      {'':<13} -> {one.fix}" if one.fix else "")
             for one in findings]
    count = {level: sum(one.level == level for one in findings) for level in ("PASS", "WARN", "FAIL")}
    return "\n".join([*lines, ", ".join(f"{number} {level}" for level, number in count.items())])


def exit_code(findings: Iterable[Finding]) -> int:
    """1 when anything is FAIL."""
    return int(any(one.level == "FAIL" for one in findings))


def until(name: str, what: str, ends: datetime, fix: str, now: datetime | None = None) -> Finding:
    """A certificate's end: FAIL once it has come, WARN for the 30 days before."""
    days = (ends - (now or datetime.now(UTC))).total_seconds() / 86400
    if days <= 0:
        return failed(name, f"{what} ended on {ends:%Y-%m-%d}", fix)
    if days < 30:
        return warned(name, f"{what} ends on {ends:%Y-%m-%d}, in {days:.0f} days", fix)
    return passed(name, f"{what} is valid until {ends:%Y-%m-%d}")


# ------------------------------------------------------------------ files


def folder_findings(name: str, folder: Path) -> list[Finding]:
    """Owner, mode 0700, and a file system on which SQLite's locks and fsync hold."""
    found = folder.stat()
    findings = []
    if found.st_uid != os.geteuid():
        findings.append(failed(name, f"{folder} belongs to user {found.st_uid} and this is user {os.geteuid()}",
                               "run as the user of the service, or: chown -R USER " + str(folder)))
    if mode := stat.S_IMODE(found.st_mode) & 0o077:
        findings.append(failed(name, f"{folder} can be entered by others (mode {mode | 0o700:o})",
                               f"chmod 700 {folder}"))
    kind = file_system(folder)
    if kind.split(".")[0] in _NETWORK:
        findings.append(warned(name, f"{folder} is on a network file system ({kind})",
                               "move it to a local disk: SQLite's locks do not hold on network file systems"))
    if kind in _VOLATILE:
        findings.append(warned(name, f"{folder} is on {kind}", "move it to a disk: it is gone after a restart"))
    return findings or [passed(name, f"{folder} is 0700 and this user's, on {kind or 'an unknown file system'}")]


def file_system(path: Path) -> str:
    """The type of the file system that holds `path`; "" where it is not known."""
    best, kind = -1, ""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    place = path.resolve()
    for line in lines:
        left, _, right = line.partition(" - ")
        mount = Path(left.split()[4].replace("\\040", " "))
        if place.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), right.split()[0]
    return kind


def key_findings(name: str, lengths: Mapping[Path, int | None]) -> list[Finding]:
    """Every key file is there, a regular file, 0600, this user's and of its length (None: any). Nothing is made."""
    findings = []
    for path, length in lengths.items():
        if path.is_symlink() or not path.is_file():
            findings.append(failed(name, f"{path} is missing or no regular file", "restore it from the newest backup"))
            continue
        found = path.stat()
        if found.st_mode & 0o077:
            findings.append(failed(name, f"{path} can be read by others (mode {stat.S_IMODE(found.st_mode):o})",
                                   f"chmod 600 {path}; if others may have read it, treat the key as lost"))
        if found.st_uid != os.geteuid():
            findings.append(failed(name, f"{path} belongs to another user", "run as the user of the service"))
        if length is not None and found.st_size != length:
            findings.append(failed(name, f"{path} has {found.st_size} bytes instead of {length}",
                                   "restore it from the newest backup"))
    return findings or [passed(name, f"{len(lengths)} key files, each 0600 and whole")]


# ------------------------------------------------------------------ processes


def processes_with(argument: str) -> dict[str, list[int]]:
    """module -> process numbers of the Python processes with `argument` on their command line."""
    found: dict[str, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has ended, or is another user's
            continue
        if argument in words and "-m" in words[:-1]:
            found.setdefault(words[words.index("-m") + 1], []).append(int(folder.name))
    return found


def process_findings(name: str, lock: Path, argument: str, modules: Sequence[str], command: str) -> list[Finding]:
    """One owner: the service holds its lock, and each of its processes runs once."""
    running, held = processes_with(argument), _is_held(lock)
    for module in modules:
        count = len(running.get(module, []))
        if count > 1 or (count and not held):
            numbers = ", ".join(map(str, running[module]))
            return [failed(name, f"{count} processes {module} work on this folder (pid {numbers})"
                           + ("" if held else f" and no `{command}` owns them"),
                           f"end them, then start one `{command}`")]
    missing = [module for module in modules if module not in running]
    if not held:
        return [warned(name, f"`{command}` does not run", f"start it: {command}")]
    if missing:
        return [warned(name, f"`{command}` runs, but not {', '.join(missing)}: it is being started again",
                       f"`{command.split()[0]} status` says why; the log is in log/")]
    return [passed(name, f"one `{command}`, with " + ", ".join(
        f"{module.rsplit('.', 1)[-1]} (pid {running[module][0]})" for module in modules))]


def _is_held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


# ------------------------------------------------------------------ the machine


def machine_findings(folder: Path, largest_upload: int, needed_memory: int, unit: str) -> list[Finding]:
    """Disk, memory, Flower, and what starts the service after a reboot.

    Args:
        largest_upload: bytes of the largest masked vector that may have to be kept here.
        needed_memory: bytes that a run surely takes.
        unit: name of the systemd unit.
    """
    return [_disk(folder, largest_upload), _memory(needed_memory), _flower(), _unit(unit)]


def _disk(folder: Path, largest_upload: int) -> Finding:
    free = shutil.disk_usage(folder).free
    needed = max(GB, 3 * largest_upload)
    text = f"{free / GB:.1f} GB free at {folder}"
    if free < needed:
        return failed("disk", text, f"make room: {needed / GB:.1f} GB are needed (1 GB, and three times the largest "
                                    "upload); a full disk stops every answer")
    if free < 10 * GB:
        return warned("disk", text, "make room: below 10 GB logs and databases may fill it")
    return passed("disk", text)


def _memory(needed: int) -> Finding:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return warned("memory", "not known on this system", "see that the model and one batch fit")
    text = f"{available / GIB:.1f} GiB available"
    least = max(2 * GIB, needed)
    if available < least:
        return warned("memory", text, f"free some: a run takes at least {least / GIB:.1f} GiB")
    return passed("memory", text)


def _flower() -> Finding:
    from privacy.transport.flower_internals.process import FLOWER_VERSION

    try:
        found = metadata.version("flwr")
    except metadata.PackageNotFoundError:
        found = "none"
    if found != FLOWER_VERSION:
        return failed("flower", f"flwr {found} is installed and {FLOWER_VERSION} is needed",
                      "install the release again; no other version was tested with these internals")
    asked = [name for name in ("FLWR_TELEMETRY_ENABLED",) if os.environ.get(name, "0") not in ("", "0")]
    if asked:
        return warned("flower", f"{', '.join(asked)} is set in this environment",
                      "unset it; our processes overrule it, other uses of Flower on this machine do not")
    return passed("flower", f"flwr {found}; our processes switch telemetry, update checks and installs off")


def _unit(name: str) -> Finding:
    for folder in _UNITS:
        if (folder / f"{name}.service").is_file():
            return passed("service", f"{folder / name}.service")
    return warned("service", f"no systemd unit {name}.service is installed",
                  "install docs/deploy/" + name + ".service, unless a container or another supervisor starts it")


# ------------------------------------------------------------------ the release


def package_findings() -> list[Finding]:
    """One owner of our packages: they come from one folder, and nothing else on the path could take their place."""
    from privacy.release import PACKAGES, files_hash, release_hash

    roots = {name: _root_of(name) for name in PACKAGES}
    owner = Path(__file__).resolve().parents[2]
    elsewhere = sorted(name for name, root in roots.items() if root != owner)
    if elsewhere:
        return [failed("packages", f"{', '.join(elsewhere)} would not be imported from {owner}",
                       "install the release into a fresh environment, and unset PYTHONPATH")]
    findings = []
    for place in dict.fromkeys(Path(entry or ".").resolve() for entry in (str(Path.cwd()), *sys.path)):
        copies = [name for name in PACKAGES if place != owner and (place / name / "__init__.py").is_file()]
        if copies and place == Path.cwd():
            findings.append(failed("packages", f"the working folder {place} holds another {', '.join(copies)}, which "
                                               "this site's processes would run", "start it from another folder"))
        elif copies:
            findings.append(warned("packages", f"{place} on the import path holds another {', '.join(copies)}",
                                   "remove that installation; which one runs depends on the order of the path"))
    installed = metadata.packages_distributions()
    owners = sorted({name for package in PACKAGES for name in installed.get(package, [])})
    if len(owners) > 1:
        findings.append(failed("packages", f"several installations own our packages: {', '.join(owners)}",
                               "install the release into a fresh environment"))
    if files_hash(owner) != release_hash():
        findings.append(failed("packages", "the release's files changed while this command ran", "install it again"))
    return findings or [passed("packages", f"one owner, {owner}; release {release_hash()[:16]}")]


def _root_of(package: str) -> Path | None:
    found = importlib.util.find_spec(package)
    return Path(found.origin).resolve().parent.parent if found is not None and found.origin else None
