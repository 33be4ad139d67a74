"""The site's process reads pictures through children that crash, hang, starve, leak and lie, and loses only theirs."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest

from configs.site_data import ImagesConfig
from site_client.imaging.header import Header
from site_client.imaging.header_pass import read_header
from site_client.imaging.rendering import render_frames
from site_client.imaging.sandbox import Sandbox, SandboxError
from site_client.records import REASONS, RefusedItemError
from tests.site_client.lying_child import LIES

ROOT = Path(__file__).resolve().parents[2]
REAL = Path(pydicom.__file__).parent / "data" / "test_files"
SMALL = REAL / "CT_small.dcm"


class Misbehaving(Sandbox):
    """Children do what the file's name says."""

    script = "misbehaving_child.py"

    def _command(self, descriptor: int) -> list[str]:
        command = super()._command(descriptor)
        return [sys.executable, str(Path(__file__).parent / self.script), *command[command.index("--fd"):]]


class Lying(Misbehaving):
    script = "lying_child.py"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(ImagesConfig(workers=2, memory_gib=1)) as opened:
        yield opened


@pytest.fixture(scope="module")
def misbehaving() -> Iterator[Sandbox]:
    with Misbehaving(ImagesConfig(memory_gib=1, timeout_s=0.5)) as opened:
        yield opened


def copies(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    return [Path(shutil.copy(SMALL, folder / f"{name}.dcm")) for name in names]


def pids(sandbox: Sandbox) -> list[int]:
    return [place._process.pid for place in sandbox._places if place._process is not None]


def refusal(sandbox: Sandbox, path: Path, frames: tuple[int, ...] = (0,)) -> str:
    with pytest.raises(RefusedItemError) as caught:
        sandbox.render(path, frames)
    return caught.value.code


# ------------------------------------------------------------------ what it is for


def test_headers_come_in_order_and_are_those_of_the_header_pass(sandbox: Sandbox) -> None:
    paths = sorted(REAL.glob("*.dcm")) * 3  # several batches
    found = list(sandbox.scan(paths))
    assert [path for path, _ in found] == paths
    headers = [(path, one) for path, one in found if isinstance(one, Header)]
    assert len(headers) > 100 and all(one in REASONS for _, one in found if isinstance(one, str))
    for path, header in headers[:30]:
        expected = read_header(path)
        assert header == expected or (np.isnan(header.position) and np.isnan(expected.position)
                                      and str(header) == str(expected) and header.names == expected.names)


@pytest.mark.parametrize(("name", "frames"), [
    ("CT_small.dcm", (0,)), ("examples_rgb_color.dcm", (0,)), ("MR_small_jp2klossless.dcm", (0,)),
    ("SC_rgb_rle_2frame.dcm", (0, 1)), ("examples_ybr_color.dcm", (3, 29, 3))])
def test_pictures_are_those_of_the_renderer_with_the_digest_of_the_file(
    sandbox: Sandbox, name: str, frames: tuple[int, ...]
) -> None:
    rendered = sandbox.render(REAL / name, frames)
    assert rendered.digest == hashlib.sha256((REAL / name).read_bytes()).hexdigest()
    expected = render_frames(REAL / name, frames)
    assert len(rendered.pixels) == len(frames) and rendered.how == tuple(how for _, how in expected)
    for picture, (pixels, _) in zip(rendered.pixels, expected, strict=True):
        assert picture.dtype == np.uint8 and np.array_equal(picture, pixels) and not picture.flags.writeable


def test_several_threads_render_at_once(sandbox: Sandbox) -> None:
    names = ["CT_small.dcm", "MR_small.dcm", "SC_rgb_rle.dcm", "examples_palette.dcm"]
    expected = {name: sandbox.render(REAL / name, (0,)).pixels[0] for name in names}
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: (name, sandbox.render(REAL / name, (0,)).pixels[0]), names * 10))
    assert all(np.array_equal(pixels, expected[name]) for name, pixels in found)
    assert len(set(pids(sandbox))) == 2


def test_the_site_process_never_loads_a_dicom_library(tmp_path: Path) -> None:
    code = ("import sys\nfrom pathlib import Path\nfrom configs.site_data import ImagesConfig\n"
            "from site_client.imaging.sandbox import Sandbox\n"
            "with Sandbox(ImagesConfig()) as sandbox:\n"
            f"    ((_, header),) = sandbox.scan([Path({str(SMALL)!r})])\n"
            f"    print(header.modality, sandbox.render(Path({str(SMALL)!r}), (0,)).pixels[0].shape)\n"
            "print(sorted({name.split('.')[0] for name in sys.modules} & {'pydicom', 'gdcm', 'openjpeg', 'PIL', "
            "'jpeg_ls', 'rle', 'libjpeg'}))")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                            env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert result.stdout == "CT (128, 128, 3)\n[]\n", result.stderr


def test_no_frame_no_file_and_a_frame_too_many(sandbox: Sandbox, tmp_path: Path) -> None:
    for frames in ((), (-1,)):
        with pytest.raises(ValueError, match="numbered from 0"):
            sandbox.render(SMALL, frames)
    assert refusal(sandbox, SMALL, (1,)) == "frame-missing"
    assert refusal(sandbox, tmp_path / "gone.dcm") == "file-not-readable"
    assert list(sandbox.scan([])) == []


def test_an_abandoned_scan_and_an_interrupt_leave_the_sandbox_usable(sandbox: Sandbox) -> None:
    scan = sandbox.scan([SMALL] * 1000)
    assert isinstance(next(scan)[1], Header)
    scan.close()
    with pytest.raises(KeyboardInterrupt), sandbox._place() as place:
        place.process()._ask({"do": "render", "path": str(SMALL), "frames": [0]})
        raise KeyboardInterrupt
    assert len(sandbox.render(REAL / "MR_small.dcm", (0,)).pixels) == 1


# ------------------------------------------------------------------ children that fail


@pytest.mark.parametrize(("act", "code"), [
    ("abort", "decoder-crashed"), ("spin", "decoder-timeout"), ("panic", "pixels-undecodable"),
    ("memory", "decoder-memory")])
def test_what_a_decoder_does_is_the_code_of_its_file_alone(
    misbehaving: Sandbox, tmp_path: Path, act: str, code: str
) -> None:
    bad, good = copies(tmp_path, act, "good")
    assert refusal(misbehaving, bad) == code
    assert misbehaving.render(good, (0,)).pixels[0].shape == (128, 128, 3)


def test_a_child_that_waits_for_ever_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("site_client.imaging.sandbox._PATIENCE_S", 0.0)
    with Misbehaving(ImagesConfig(timeout_s=0.25)) as sandbox:
        assert refusal(sandbox, copies(tmp_path, "sleep")[0]) == "decoder-timeout"


def test_a_scan_goes_on_behind_each_guilty_file(misbehaving: Sandbox, tmp_path: Path) -> None:
    guilty = {"abort": "decoder-crashed", "memory": "decoder-memory", "panic": "dicom-unreadable",
              "kill": "decoder-crashed", "segv": "decoder-crashed", "exit": "decoder-crashed"}
    names = [f"good-{number}" for number in range(80)]
    for position, act in enumerate(guilty):
        names.insert(13 * position + position // 2, act)
    found = {path.stem: one for path, one in misbehaving.scan(copies(tmp_path / "headers", *names))}
    assert list(found) == names
    assert {name: one for name, one in found.items() if isinstance(one, str)} == guilty


def test_a_crash_or_hunger_that_an_earlier_file_caused_is_not_blamed_on_the_next(
    misbehaving: Sandbox, tmp_path: Path
) -> None:
    good, first_only, leak, hungry = copies(tmp_path, "good", "first-only", "leak", "hungry")
    misbehaving.render(good, (0,))
    before = pids(misbehaving)
    assert len(misbehaving.render(first_only, (0,)).pixels) == 1 and pids(misbehaving) != before
    misbehaving.render(leak, (0,))
    assert len(misbehaving.render(hungry, (0,)).pixels) == 1
    before = pids(misbehaving)
    assert len(misbehaving.render(hungry, (0,)).pixels) == 1 and pids(misbehaving) == before


def test_a_child_that_died_in_the_meantime_is_replaced_without_blame(sandbox: Sandbox) -> None:
    sandbox.render(SMALL, (0,))
    for pid in pids(sandbox):
        os.kill(pid, signal.SIGKILL)
    assert all(len(sandbox.render(SMALL, (0,)).pixels) == 1 for _ in range(3))


def test_a_file_that_changes_while_it_is_read_is_refused(misbehaving: Sandbox, tmp_path: Path) -> None:
    (path,) = copies(tmp_path, "good")
    rendered = misbehaving.render(path, (0,))
    path.write_bytes(path.read_bytes() + b"\0\0")
    assert misbehaving.render(path, (0,)).digest != rendered.digest


def test_a_child_that_cannot_start_is_one_sentence_with_the_fix() -> None:
    class Small(Sandbox):
        def _command(self, descriptor: int) -> list[str]:
            command = super()._command(descriptor)
            command[command.index("--memory-bytes") + 1] = str(30 << 20)
            return command

    with Small(ImagesConfig()) as sandbox, pytest.raises(SandboxError, match=r"raise images\.memory_gib"):
        sandbox.render(SMALL, (0,))


# ------------------------------------------------------------------ what a child can do


def test_a_child_has_no_secret_no_network_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = copies(tmp_path, "state")
    for name in ("HTTPS_PROXY", "AWS_SECRET_ACCESS_KEY", "HOME"):
        monkeypatch.setenv(name, "x")
    inherited = os.open(path, os.O_RDONLY)
    os.set_inheritable(inherited, True)
    with socket.create_server(("127.0.0.1", 0)) as server, Misbehaving(ImagesConfig(memory_gib=1)) as sandbox:
        monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{server.getsockname()[1]}")
        seen = json.loads(sandbox.render(path, (0,)).how[0])
        (pid,) = pids(sandbox)
        assert resource.prlimit(pid, resource.RLIMIT_AS) == (1 << 30, 1 << 30)
    os.close(inherited)
    assert set(seen["environment"]) <= {"PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL",
                                        "LC_CTYPE", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX",
                                        "GDCM_RESOURCES_PATH", "PYTHONDONTWRITEBYTECODE"}
    assert seen["files"] == 4 and seen["limits"] == [1 << 30, 0]  # the standard streams and the channel
    assert seen["write"] != "allowed"
    if "landlock" in _security_modules():
        assert seen["remove"] == "PermissionError" and seen["connect"] != "allowed" and path.exists()


def _security_modules() -> str:
    listed = Path("/sys/kernel/security/lsm")
    return listed.read_text() if listed.exists() else ""


def test_children_end_with_the_site_process_however_it_ends() -> None:
    code = ("import time\nfrom pathlib import Path\nfrom configs.site_data import ImagesConfig\n"
            "from site_client.imaging.sandbox import Sandbox\n"
            "with Sandbox(ImagesConfig()) as sandbox:\n"
            f"    sandbox.render(Path({str(SMALL)!r}), (0,))\n"
            "    print(sandbox._places[0]._process.pid, flush=True)\n    time.sleep(600)")
    site = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                            env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert site.stdout is not None
    child = int(site.stdout.readline())
    assert _alive(child)
    site.kill()
    site.wait()
    site.stdout.close()
    end = time.monotonic() + 10
    while _alive(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


# ------------------------------------------------------------------ children that lie


@pytest.fixture(scope="module")
def lying() -> Iterator[Sandbox]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("site_client.imaging.sandbox._PATIENCE_S", 0.0)
        with Lying(ImagesConfig(timeout_s=0.25)) as opened:
            yield opened


@pytest.mark.parametrize("lie", sorted(LIES))
def test_no_lie_of_a_child_gets_through_or_hurts(lying: Sandbox, lie: str) -> None:
    late = lie in ("drip", "silence", "short")
    assert refusal(lying, Path(f"/{lie}.dcm")) == ("decoder-timeout" if late else "decoder-crashed")


def test_an_honest_answer_of_the_same_child_is_accepted(lying: Sandbox) -> None:
    rendered = lying.render(Path("/honest.dcm"), (0,))
    assert rendered.how == ("x",) and rendered.pixels[0].shape == (2, 2, 3)
