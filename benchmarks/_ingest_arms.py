"""The four measurements of `benchmarks.ingest`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._federation_processes import cpu_seconds, peak_memory, tree
from benchmarks._ratios import ratio_of

__all__ = ["epoch", "memory", "sandbox", "scan"]

KEY = bytes(range(32))


def _cpu() -> float:
    """CPU seconds of this process and its children, those that run and those that ended."""
    return cpu_seconds(tree(os.getpid()))


def _as_dict(values: Sequence[float]) -> dict[str, float]:
    ratio = ratio_of(values)
    return {"median": ratio.median, "low": ratio.low, "high": ratio.high, "rounds": ratio.rounds}


# ------------------------------------------------------------------ scan


def scan(folder: Path, files: int) -> dict[str, Any]:
    """One pass over `files` CT images of 64 x 64 pixels with full headers, then one over the same, unchanged."""
    from configs.site_data import ImagesConfig
    from site_client.imaging.sandbox import Sandbox
    from site_client.indexing.index_store import IndexStore
    from site_client.indexing.scan import scan_folders

    _write_files(folder / "dicom", files)
    folders = [("data", folder / "dicom")]
    with closing(IndexStore(folder / "index", KEY, "")) as store, Sandbox(ImagesConfig()) as parser:
        list(parser.scan([next((folder / "dicom").rglob("*.dcm"))]))  # its start is not counted
        cpu, wall = _cpu(), time.perf_counter()
        parsed = scan_folders(store, lambda: parser, folders, key=KEY, issuer="")
        cpu, wall = _cpu() - cpu, time.perf_counter() - wall
        again = time.perf_counter()
        known = scan_folders(store, lambda: parser, folders, key=KEY, issuer="")
        again = time.perf_counter() - again
    if parsed != files or known:
        raise RuntimeError(f"{parsed} of {files} files were parsed, and {known} again")
    return {"files": files, "CPU ms a file": 1000 * cpu / files, "files a CPU second": files / cpu,
            "files a second": files / wall, "second pass, files a second": files / again}


def _write_files(folder: Path, number: int) -> None:
    """Copies of pydicom's CT with other UIDs and patients: the length of the texts stays, so bytes are replaced."""
    import pydicom.data
    from pydicom import dcmread

    dataset = dcmread(Path(pydicom.data.__file__).parent / "test_files" / "CT_small.dcm")
    uid, patient = "1.2.826.0.1.3680043.8.498.10000000", "PAT00000000"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.PatientID = patient
    folder.mkdir(parents=True)
    dataset.save_as(folder / "first.dcm")
    content = (folder / "first.dcm").read_bytes()
    (folder / "first.dcm").unlink()
    for count in range(number):
        place = folder / f"{count // 500:04d}"
        place.mkdir(exist_ok=True)
        (place / f"{count:08d}.dcm").write_bytes(
            content.replace(uid[-8:].encode(), f"{10_000_000 + count}".encode())
            .replace(patient.encode(), f"PAT{count // 4:08d}".encode()))


# ------------------------------------------------------------------ epoch


def epoch(folder: Path, patients: int, rounds: int) -> dict[str, Any]:
    """The small model's clipped sum over patients with two pictures each, from the cache and from memory, in turn."""
    from benchmarks._ingest_model import PrivateEpoch

    work = PrivateEpoch(folder, patients)
    ratios: list[float] = []
    seconds: dict[str, list[float]] = {"cache": [], "memory": []}
    for turn in range(rounds + 1):
        for name in ("cache", "memory") if turn % 2 else ("memory", "cache"):
            begin = time.process_time()
            work.run(name)
            seconds[name].append(time.process_time() - begin)
        if turn:  # the first warms up
            ratios.append(seconds["cache"][-1] / seconds["memory"][-1])
    return {"patients": patients, "tiles a patient": work.tiles_a_patient,
            "memory, CPU s an epoch": float(np.median(seconds["memory"][1:])), "cache over memory": _as_dict(ratios)}


# ------------------------------------------------------------------ sandbox


def sandbox(folder: Path, rounds: int) -> dict[str, Any]:
    """Real CT, MR, CR and US files of several encodings, each decoded and shown in the child and in this process."""
    from configs.site_data import ImagesConfig
    from site_client.imaging.rendering import render_frames
    from site_client.imaging.sandbox import Sandbox

    files = _pictures(folder)
    ratios = []
    with Sandbox(ImagesConfig()) as parser:
        plugins = {path: _plugin(found) for path, found in parser.syntaxes(files)}  # both arms decode by the same one
        arms: dict[str, Callable[[Path], object]] = {
            "in-process": lambda path: render_frames(path, [0], plugin=plugins[path])}
        arms["sandbox"] = lambda path: parser.render(path, [0])
        for path in files:  # both arms import their decoders
            for arm in arms.values():
                arm(path)
        for turn in range(rounds):
            spent = {}
            for name in arms if turn % 2 else reversed(arms):
                begin = _cpu()
                for path in files * _REPEATS:
                    arms[name](path)
                spent[name] = _cpu() - begin
            ratios.append(spent["sandbox"] / spent["in-process"])
    return {"files": len(files), "in-process, CPU ms a file": 1000 * spent["in-process"] / len(files) / _REPEATS,
            "sandbox over in-process": _as_dict(ratios)}


def _plugin(found: tuple[str, int] | str) -> str:
    """pydicom's name of the decoder that the sandbox uses for that syntax, "" for pixels that are not compressed."""
    from site_client.imaging.decoders import NATIVE, plugin_for

    name = None if isinstance(found, str) else plugin_for(*found)
    return "" if name in (None, NATIVE) else str(name)


_REPEATS = 3
_NAMES = ("JPEG2000.dcm", "J2K_pixelrep_mismatch.dcm", "693_UNCI.dcm", "RG1_J2KI.dcm", "RG1_UNCI.dcm", "RG3_J2KI.dcm",
          "US1_J2KI.dcm", "MR2_J2KI.dcm", "CT1_J2KI.dcm", "MR1_UNCI.dcm")


def _pictures(folder: Path) -> list[Path]:
    """Those of pydicom's and pydicom-data's files that are here."""
    import pydicom.data
    from pydicom.data import get_testdata_file

    known = Path(pydicom.data.__file__).parent / "test_files"
    found = [known / name if (known / name).is_file() else get_testdata_file(name, download=False) for name in _NAMES]
    folder.mkdir(parents=True, exist_ok=True)
    return [Path(path) for path in found if path is not None]


# ------------------------------------------------------------------ memory


def memory(folder: Path, headers: int) -> dict[str, Any]:
    """Peak resident size of a process that indexes made-up headers of as many empty files, and reports them."""
    out = folder / "memory.json"
    folder.mkdir(parents=True)
    code = f"from benchmarks._ingest_arms import index_headers; index_headers({str(folder)!r}, {headers}, {str(out)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    shutil.rmtree(folder / "dicom")
    return dict(json.loads(out.read_text()))


class _Headers:
    """A scanner that knows a header for each name of a file."""

    def get(self) -> _Headers:
        return self

    def scan(self, paths: Sequence[Path]) -> Iterator[tuple[Path, Any]]:
        from site_client.imaging.header import Header

        for path in paths:
            number = int(path.name)
            yield path, Header(
                sop_uid=f"1.2.826.0.1.3680043.8.498.{number:012d}",
                study_uid=f"1.2.826.0.1.3680043.8.498.1.{number // 2}",
                series_uid=f"1.2.826.0.1.3680043.8.498.2.{number // 2}", accession=f"ACC{number // 2:010d}",
                patient_id=f"MRN{number // 4:010d}", issuer="", names=(f"FAMILY{number // 4}^GIVEN^MIDDLE",),
                identifiers=(f"MRN{number // 4:010d}", f"ACC{number // 2:010d}"), dates=("19610203", "20240131"),
                sop_class="1.2.840.10008.5.1.4.1.1.1.1", modality="DX", transfer_syntax="1.2.840.10008.1.2.4.90",
                rows=2500, columns=2048, frames=1, instance_number=number % 2, position=float("nan"), suspect=False)


def index_headers(folder: str, headers: int, out: str) -> None:
    """The body of the process whose memory counts: the product's own imports, walk, store and report."""
    from site_client.index_facts import report_facts
    from site_client.indexing.build import IndexSettings, build_index
    from site_client.indexing.tile_cache import TileForm
    from site_client.sources.tables import FolderSource

    dicom = Path(folder) / "dicom"
    for count in range(headers):
        if count % 1000 == 0:
            (dicom / f"{count // 1000:04d}").mkdir(parents=True)
        (dicom / f"{count // 1000:04d}" / f"{count:08d}").touch()
    begin = time.perf_counter()
    index = build_index([FolderSource(Path(folder))], IndexSettings(
        folder=Path(folder) / "index", key=KEY, form=TileForm(336, 12)), parser=_Headers())  # type: ignore[arg-type]
    facts = report_facts("site-1", index)
    if facts["modalities"] != {"DX": headers}:
        raise RuntimeError("headers were lost")
    Path(out).write_text(json.dumps({
        "headers": headers, "headers a second": headers / (time.perf_counter() - begin),
        "peak MB": peak_memory([os.getpid()]) / 1e6,
        "index on disk, MB": (Path(folder) / "index" / "index.sqlite").stat().st_size / 1e6}))
