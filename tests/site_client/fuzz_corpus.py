"""Damaged DICOM files, made from real ones: the same for the same numbers, never stored in the repository.

`seeds` gives small real images in every transfer syntax that can be written here (pydicom's encoders, dcmtk's dcmcjpeg
where it is installed, files as vendors wrote them), `mutants` damages one in eight ways.
"""

from __future__ import annotations

import io
import random
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

__all__ = ["PLUGINS", "Seed", "mutants", "patched", "saved", "seeds", "small"]

REAL = Path(pydicom.__file__).parent / "data" / "test_files"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
PIXEL_DATA = b"\xe0\x7f\x10\x00"
PLUGINS: dict[str, tuple[str, ...]] = {  # pydicom's name of a plugin: ends of the transfer syntaxes that it decodes
    "": ("", ".1", ".2", ".5", ".4.50", ".4.51", ".4.57", ".4.70", ".4.80", ".4.81", ".4.90", ".4.91", ".4.201"),
    "gdcm": (".4.50", ".4.51", ".4.57", ".4.70", ".4.80", ".4.81", ".4.90", ".4.91"),
    "pillow": (".4.50", ".4.51", ".4.90", ".4.91"),
    "pylibjpeg": (".5", ".4.50", ".4.51", ".4.57", ".4.70", ".4.80", ".4.81", ".4.90", ".4.91", ".4.201"),
    "pyjpegls": (".4.80", ".4.81"),
    "pydicom": (".5",),
}
_US_TAGS = [bytes((0x28, 0, element, 0)) for element in (0x02, 0x06, 0x10, 0x11, 0x00, 0x01, 0x02, 0x03)] + [
    b"\x28\x00\x00\x01", b"\x28\x00\x01\x01", b"\x28\x00\x02\x01", b"\x28\x00\x03\x01"]
_VALUES = (0, 1, 2, 3, 7, 8, 12, 15, 16, 17, 32, 64, 255, 256, 4095, 16_384, 32_768, 65_535)
_LENGTHS = (0, 1, 3, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFF)


@dataclass(frozen=True)
class Seed:
    """One whole file. syntax: the end of its transfer syntax."""

    name: str
    data: bytes
    syntax: str

    def suits(self, plugin: str) -> bool:
        """Whether that plugin decodes files of this syntax."""
        return self.syntax in PLUGINS[plugin]


# ------------------------------------------------------------------ real images, small


def small(name: str = "CT_small.dcm", side: int = 48) -> Dataset:
    """An uncompressed piece of a real image, as a secondary capture of patient FUZZ-1; read anew for each call."""
    path = REAL / name
    dataset = dcmread(path)
    pixels = pixel_array(path, index=0) if int(dataset.get("NumberOfFrames") or 1) > 1 else pixel_array(path)
    pixels = np.ascontiguousarray(pixels[16:16 + side, 16:16 + side - 5])
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    dataset["PixelData"].VR = "OW" if pixels.itemsize > 1 else "OB"
    dataset["PixelData"].is_undefined_length = False
    if pixels.ndim == 3:
        dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    dataset.pop("NumberOfFrames", None)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for element in list(dataset):
        if element.tag.group not in (0x0008, 0x0010, 0x0020, 0x0028, 0x7FE0):
            del dataset[element.tag]
    return _named(dataset)


def _named(dataset: Dataset) -> Dataset:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SECONDARY_CAPTURE
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset.PatientID = "FUZZ-1"
    return dataset


def saved(dataset: Dataset) -> bytes:
    """As the bytes of a file."""
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def patched(data: bytes, tag: int, value: int, size: int = 2) -> bytes:
    """A little-endian file with another value in its first element of that tag, whose VR has a length of two bytes."""
    where = data.index((tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little")) + 8
    return data[:where] + value.to_bytes(size, "little") + data[where + size:]


def seeds() -> list[Seed]:
    """Every seed, by name."""
    return sorted([*_vendors(), *_encoded(), *_by_dcmtk()], key=lambda seed: seed.name)


def _seed(name: str, data: bytes) -> Seed:
    syntax = str(dcmread(io.BytesIO(data), stop_before_pixels=True).file_meta.TransferSyntaxUID)
    return Seed(name, data, syntax.removeprefix("1.2.840.10008.1.2"))


def _vendors() -> Iterator[Seed]:
    """Files as they are in pydicom's packages, those of less than 60 kB."""
    folders = [REAL]
    if (spec := find_spec("data_store")) is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent / "data")
    for path in sorted(path for folder in folders for path in folder.glob("*.dcm")):
        if path.stat().st_size > 60_000:
            continue
        try:
            dataset = dcmread(path)
            if "PixelData" in dataset and dataset.file_meta.get("TransferSyntaxUID"):
                yield _seed(path.stem, saved(_named(dataset)))
        except Exception:  # files that are there because they are broken
            continue


def _encoded() -> Iterator[Seed]:
    for source in ("CT_small.dcm", "MR_small.dcm", "examples_rgb_color.dcm", "examples_palette.dcm"):
        yield _seed(f"{source}-native", saved(small(source)))
        for syntax, options in ((RLELossless, {}), (JPEGLSLossless, {}), (JPEGLSNearLossless, {"jls_error": 2}),
                                (JPEG2000Lossless, {}), (JPEG2000, {"j2k_cr": [4]})):
            dataset = small(source)
            try:
                dataset.compress(syntax, generate_instance_uid=False, **options)
            except ValueError:  # signed samples and palettes have no lossy form
                continue
            yield _seed(f"{source}-{syntax.keyword}", saved(dataset))
            if syntax == JPEG2000Lossless:  # nothing here writes HTJ2K; the same decoder gets the stream
                dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
                yield _seed(f"{source}-as-ht", saved(dataset))


def _by_dcmtk() -> Iterator[Seed]:
    tool = shutil.which("dcmcjpeg")
    if tool is None:
        return
    variants = {"e1": ["+e1"], "el": ["+el", "+sv", "6"], "ee": ["+ee"], "eb": ["+eb"]}
    for source in ("CT_small.dcm", "MR_small.dcm", "examples_rgb_color.dcm"):
        for name, options in variants.items():
            encoded = _converted(tool, saved(small(source)), options)
            if encoded is not None:
                yield _seed(f"{source}-dcmtk-{name}", encoded)


def _converted(tool: str, data: bytes, options: list[str]) -> bytes | None:
    """dcmtk takes files; None where it cannot encode this image so."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.dcm"), Path(folder, "out.dcm")
        source.write_bytes(data)
        done = subprocess.run([tool, *options, "+un", str(source), str(target)], capture_output=True, check=False)
        return target.read_bytes() if done.returncode == 0 else None


# ------------------------------------------------------------------ damage


def mutants(seed: Seed, count: int, salt: str = "") -> Iterator[bytes]:
    """That many damaged forms of one file; the same for the same seed, number and salt."""
    for number in range(count):
        chance = random.Random(f"{seed.name}/{salt}/{number}")
        first = zlib.crc32(f"{seed.name}/{salt}".encode())  # so that one mutant each also takes every way
        data = bytearray(seed.data)
        _DAMAGES[(first + number) % len(_DAMAGES)](data, chance)
        yield bytes(data)


def _pixels_at(data: bytearray) -> int:
    return min(max(data.rfind(PIXEL_DATA), 132), len(data) - 8)


def _flip(data: bytearray, chance: random.Random, start: int, end: int) -> None:
    start = min(start, len(data) - 1)
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(start, max(end, start + 1))] ^= 1 << chance.randrange(8)


def _in_stream(data: bytearray, chance: random.Random) -> None:
    _flip(data, chance, _pixels_at(data) + 12, len(data))


def _in_stream_header(data: bytearray, chance: random.Random) -> None:
    start = _pixels_at(data) + 12
    _flip(data, chance, start, min(start + 120, len(data)))


def _anywhere(data: bytearray, chance: random.Random) -> None:
    _flip(data, chance, 132, len(data))


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(132, len(data)):]


def _window(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(_pixels_at(data), len(data) - 4)
    data[at:at + 4] = bytes([chance.choice((0, 0x7F, 0x80, 0xFF))]) * 4


def _described(data: bytearray, chance: random.Random) -> None:
    """Another number of rows, columns, bits, samples."""
    at = data.find(chance.choice(_US_TAGS), 132)
    if at > 0:
        data[at + 8:at + 10] = chance.choice(_VALUES).to_bytes(2, "little")


def _moved(data: bytearray, chance: random.Random) -> None:
    size = chance.randint(1, 64)
    source, target = (chance.randrange(_pixels_at(data), len(data)) for _ in range(2))
    data[target:target] = data[source:source + size]


def _length(data: bytearray, chance: random.Random) -> None:
    """Another length of an element or an item."""
    at = data.find(chance.choice((*_US_TAGS, PIXEL_DATA, b"\xfe\xff\x00\xe0", b"\x10\x00\x20\x00")), 132)
    if at > 0:
        value = chance.choice(_LENGTHS)
        offset, size = chance.choice(((4, 4), (8, 4), (6, 2)))
        data[at + offset:at + offset + size] = value.to_bytes(4, "little")[:size]


_DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _in_stream, _in_stream_header, _anywhere, _cut, _window, _described, _moved, _length)
