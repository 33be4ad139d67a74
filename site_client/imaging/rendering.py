"""Chosen frames of one DICOM file as the model sees them: uint8 RGB, and in words how the grey values were chosen.

Made to run in a child process with limits: decoders can bring down the process, or take far more memory than a header
announces. One frame is decoded at a time, by its number; what the header announces is bounded before, and the array
compared with the header after. Deflated files are inflated up to a bound.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.filewriter import write_file_meta_info
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from site_client.imaging.grey import FOR_THE_MODEL, GREY_KEYWORDS, Choice, grey_header, grey_picture
from site_client.imaging.lookup_tables import painted, palette
from site_client.records import RefusedItemError
from site_client.sources.dicom import quiet_library

__all__ = ["MAX_FRAME_BYTES", "MAX_INFLATED_BYTES", "render_frames", "rendered"]

MAX_FRAME_BYTES = 128 * 2**20
"""Of one frame as its header announces it, uncompressed: 64 megapixels of 16 bits."""
MAX_INFLATED_BYTES = 256 * 2**20

_KEYWORDS = (
    "Rows", "Columns", "SamplesPerPixel", "PlanarConfiguration", "BitsAllocated", "HighBit", "NumberOfFrames",
    *GREY_KEYWORDS,
)  # fmt: skip
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PIXEL_DATA = (0x7FE0, 0x0010)
_PIXEL_VRS = (b"OB", b"OW", b"UN")
_BLOCK = 1 << 18

Rendered = tuple[NDArray[np.uint8], str]


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the header says of the pixels, checked. bits: allocated; stored: of these."""

    rows: int
    columns: int
    samples: int
    bits: int
    stored: int
    photometric: str
    frames: int
    syntax: UID

    @property
    def frame_bits(self) -> int:
        """Of one uncompressed frame; YBR_FULL_422 keeps half of the colour (PS3.3 C.7.6.3.1.2)."""
        bits = self.rows * self.columns * self.samples * self.bits
        halved = self.photometric == "YBR_FULL_422" and not self.syntax.is_encapsulated
        return bits * 2 // 3 if halved else bits


def render_frames(path: Path, frames: Sequence[int], *, plugin: str = "") -> list[Rendered]:
    """(uint8 (H, W, 3) RGB, how its values were chosen) of each frame, numbered from 0, as the model sees it.

    plugin: pydicom's name of the decoder for compressed pixels, "" for its own choice. Raises RefusedItemError for
    what cannot be shown, MemoryError, and nothing else but what ends a process.
    """
    try:
        stream = path.open("rb")
    except OSError:
        raise RefusedItemError("file-not-readable") from None
    with stream:
        return rendered(stream, frames, plugin=plugin)


def rendered(
    stream: BinaryIO, frames: Sequence[int], *, plugin: str = "", choice: Choice = FOR_THE_MODEL
) -> list[Rendered]:
    """As `render_frames`, of an open file; choice: the windows and percentiles that the file does not name."""
    with quiet_library():
        try:
            source = _inflated(stream)
            dataset = dcmread(source, stop_before_pixels=True, specific_tags=list(_KEYWORDS))
            layout = _layout(dataset)
            _check_length(source, layout, max(frames, default=0))
            return [_render(source, dataset, layout, frame, plugin, choice) for frame in frames]
        except (RefusedItemError, MemoryError):
            raise
        except Exception:
            # A damaged file makes the library raise nearly anything, with values of the file in the text.
            raise RefusedItemError("dicom-unreadable") from None


def _inflated(stream: BinaryIO) -> BinaryIO:
    """The file itself, or what a deflated one holds, as an explicit little-endian file (PS3.5 A.5)."""
    read_preamble(stream, False)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    begin = stream.tell()
    stream.seek(0)
    if meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
        return stream
    stream.seek(begin)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    body = inflater.decompress(stream.read(MAX_INFLATED_BYTES), MAX_INFLATED_BYTES)
    if not inflater.eof:
        raise RefusedItemError("file-too-large" if len(body) == MAX_INFLATED_BYTES else "pixels-truncated")
    whole = io.BytesIO()
    whole.write(bytes(128) + b"DICM")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    write_file_meta_info(whole, meta, enforce_standard=False)
    whole.write(body)
    whole.seek(0)
    return whole


def _layout(dataset: Dataset) -> _Layout:
    """The header's account of the pixels; RefusedItemError for kinds that are not shown, and beyond the bounds."""
    rows, columns = dataset.get("Rows"), dataset.get("Columns")
    if not all(isinstance(side, int) and side >= 1 for side in (rows, columns)):
        raise RefusedItemError("image-size")
    layout = _Layout(
        rows, columns, dataset.get("SamplesPerPixel"), dataset.get("BitsAllocated"), dataset.get("BitsStored"),
        str(dataset.get("PhotometricInterpretation") or ""), _frame_count(dataset), dataset.file_meta.TransferSyntaxUID,
    )  # fmt: skip
    if not _shown(layout, dataset):
        raise RefusedItemError("pixel-kind")
    if layout.frame_bits > 8 * MAX_FRAME_BYTES:
        raise RefusedItemError("image-size")
    return layout


def _frame_count(dataset: Dataset) -> int:
    try:
        count = int(dataset.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):
        count = 0
    if count < 1:
        raise RefusedItemError("frame-count")
    return count


def _shown(layout: _Layout, dataset: Dataset) -> bool:
    """Whether the kind of pixels is one that this module shows (PS3.5 8.1.1, PS3.3 C.7.6.3.1.2)."""
    photometric, signed = layout.photometric, dataset.get("PixelRepresentation")
    depth = isinstance(layout.stored, int) and layout.bits in (1, 8, 16, 32) and 1 <= layout.stored <= layout.bits
    if not depth or dataset.get("HighBit") not in (None, layout.stored - 1) or signed not in (0, 1):
        return False
    if layout.samples == 1:
        return photometric in _GREY or (photometric == "PALETTE COLOR" and layout.bits in (8, 16))
    planes = dataset.get("PlanarConfiguration") in (None, 0, 1)
    sampled = photometric == "RGB" or layout.bits == 8 or photometric in ("YBR_ICT", "YBR_RCT")
    only_j2k = photometric in ("YBR_ICT", "YBR_RCT") and not layout.syntax.is_encapsulated
    return (layout.samples == 3 and photometric in _COLOUR and layout.bits > 1 and signed == 0 and planes and sampled
            and not only_j2k)


def _check_length(source: BinaryIO, layout: _Layout, last: int) -> None:
    """That the element which follows the header is Pixel Data and, uncompressed, reaches up to frame `last`."""
    little, implicit = layout.syntax.is_little_endian, layout.syntax.is_implicit_VR
    order, begin = "<" if little else ">", source.tell()
    head = source.read(8 if implicit else 12)
    source.seek(begin)
    if len(head) < (8 if implicit else 12):
        raise RefusedItemError("pixels-truncated")
    tag, length = struct.unpack(f"{order}HH", head[:4]), struct.unpack(f"{order}L", head[-4:])[0]
    if tag != _PIXEL_DATA:  # Float and Double Float Pixel Data (PS3.3 C.7.6.24-25) come before
        raise RefusedItemError("pixel-kind")
    if (head[4:6] in _PIXEL_VRS) == implicit:  # a file in another syntax than it says: pixels would start too late
        raise RefusedItemError("dicom-unreadable")
    left = source.seek(0, io.SEEK_END) - begin - len(head)
    source.seek(begin)
    if not layout.syntax.is_encapsulated and -(-layout.frame_bits * (last + 1) // 8) > min(length, left):
        raise RefusedItemError("pixels-truncated")


def _render(
    source: BinaryIO, dataset: Dataset, layout: _Layout, frame: int, plugin: str, choice: Choice
) -> Rendered:
    if not 0 <= frame < layout.frames:
        raise RefusedItemError("frame-missing")
    little = layout.syntax.is_little_endian
    signed = dataset.PixelRepresentation == 1
    if layout.photometric == "PALETTE COLOR":
        colours = palette(dataset, signed=signed, little=little)
        return painted(_decoded(source, layout, frame, plugin), *colours), "palette of the file"
    if layout.samples == 3:
        return _eight_bit_colour(_decoded(source, layout, frame, plugin), layout.stored), "colours of the file"
    grey = grey_header(dataset, frame, little=little)
    return grey_picture(_decoded(source, layout, frame, plugin), grey, choice)


def _decoded(source: BinaryIO, layout: _Layout, frame: int, plugin: str) -> NDArray[np.integer]:
    """Stored values (rows, columns) or (rows, columns, 3) of one frame, in this machine's byte order, contiguous."""
    try:
        if not get_decoder(layout.syntax).is_available:
            raise RefusedItemError("decoder-missing")
    except NotImplementedError:
        raise RefusedItemError("decoder-missing") from None
    try:
        source.seek(0)
        array = pixel_array(source, index=frame, decoding_plugin=plugin if layout.syntax.is_encapsulated else "")
    except MemoryError:
        raise
    except Exception:  # StopIteration too: a header may announce frames that are not there
        raise RefusedItemError("pixels-undecodable") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of Rust code, and no Exception
            raise
        raise RefusedItemError("pixels-undecodable") from None
    shape = (layout.rows, layout.columns) if layout.samples == 1 else (layout.rows, layout.columns, 3)
    if array.shape != shape or array.dtype.kind not in "iu" or array.dtype.itemsize > 4:
        raise RefusedItemError("pixels-undecodable")
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def _eight_bit_colour(pixels: NDArray[np.integer], stored: int) -> NDArray[np.uint8]:
    """(H, W, 3): values of more or fewer than 8 bits scaled by the stored ones, rounded."""
    if stored == 8:
        return pixels.astype(np.uint8, copy=False)
    flat, out = pixels.reshape(-1), np.empty(pixels.size, dtype=np.uint8)
    for start in range(0, flat.size, _BLOCK):
        part = flat[start : start + _BLOCK].astype(np.float64) * (255 / (2**stored - 1))
        out[start : start + _BLOCK] = np.rint(part).clip(0, 255)
    return out.reshape(pixels.shape)
