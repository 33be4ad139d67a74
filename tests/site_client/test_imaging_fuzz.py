"""Damaged and hostile files through every decoder plugin: each ends as a picture or with a code, and only its child may
die of it."""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    RLELossless,
)

from configs.site_data import ImagesConfig
from site_client.imaging.header import Header
from site_client.imaging.sandbox import Sandbox
from site_client.records import REASONS, RefusedItemError
from tests.site_client.fuzz_corpus import PLUGINS, Seed, mutants, patched, saved, seeds, small

LIMITS = ImagesConfig(workers=2, memory_gib=1, timeout_s=20)
MOST_GROWTH = 64 << 20  # bytes, of the site's own process over everything that a test sends through it


class Watched(Sandbox):
    """The sandbox, with one decoder plugin alone where `_plugin` names it, and an eye on its children."""

    def __init__(self, plugin: str = "", config: ImagesConfig = LIMITS) -> None:
        super().__init__(config)
        self._plugin = plugin  # type: ignore[misc]
        self.outcomes: Counter[str] = Counter()

    def outcome(self, path: Path) -> str:
        """What became of a file: "picture", or its code."""
        try:
            self.render(path, (0,))
        except RefusedItemError as refused:
            return refused.code
        return "picture"

    def judge(self, folder: Path, files: Iterator[bytes]) -> None:
        """Scan and then render them, batch by batch."""
        with ThreadPoolExecutor(2) as pool:
            while batch := list(islice(files, 128)):
                paths = [folder / f"{number}.dcm" for number in range(len(batch))]
                for path, data in zip(paths, batch, strict=True):
                    path.write_bytes(data)
                found = list(self.scan(paths))
                readable = [path for path, one in found if isinstance(one, Header)]
                self.outcomes.update(one for _, one in found if isinstance(one, str))
                self.outcomes.update(pool.map(self.outcome, readable))
                self.check()

    def check(self) -> None:
        """The limit holds: no child ever had more address space."""
        for place in self._places:
            if place._process is not None and place._process.alive:
                status = Path(f"/proc/{place._process.pid}/status").read_text()
                assert int(re.search(r"VmPeak:\s+(\d+)", status)[1]) << 10 <= LIMITS.memory_gib * 2**30  # type: ignore[index]


class Memory:
    """The largest resident set of this process since it was made, beyond what it was then."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")
        self._before = self._read("VmRSS")

    def growth(self) -> int:
        return self._read("VmHWM") - self._before

    @staticmethod
    def _read(name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
        assert found
        return int(found[1]) << 10


@pytest.fixture(scope="module")
def every_seed() -> list[Seed]:
    return seeds()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Watched]:
    with Watched() as opened:
        yield opened


def fuzz(every_seed: Sequence[Seed], plugin: str, each: int, folder: Path, salt: str) -> Counter[str]:
    suited = [seed for seed in every_seed if seed.suits(plugin)]
    assert len(suited) >= 13 or not plugin
    memory = Memory()
    with Watched(plugin) as sandbox:
        sandbox.judge(folder, (one for seed in suited for one in mutants(seed, each, salt + plugin)))
    assert memory.growth() < MOST_GROWTH
    assert set(sandbox.outcomes) <= {"picture", *REASONS} and sandbox.outcomes.total() == each * len(suited)
    assert sandbox.outcomes["picture"] and len(sandbox.outcomes) > 4  # the damage is neither none nor total
    return sandbox.outcomes


@pytest.mark.parametrize("plugin", PLUGINS)
def test_undamaged_seeds_are_pictures_with_every_plugin(
    every_seed: list[Seed], plugin: str, tmp_path: Path
) -> None:
    with Watched(plugin, replace(LIMITS, workers=1)) as sandbox:
        suited = [seed for seed in every_seed if seed.suits(plugin)]
        sandbox.judge(tmp_path, (seed.data for seed in suited))
        assert sandbox.outcomes["picture"] >= 0.8 * len(suited), sandbox.outcomes  # some of the vendors' are broken
        sandbox.outcomes.clear()
        sandbox.judge(tmp_path, (one for seed in suited for one in mutants(seed, 1, plugin)))
        assert set(sandbox.outcomes) <= {"picture", *REASONS}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_mutants_through_every_plugin(every_seed: list[Seed], tmp_path: Path) -> None:
    outcomes = Counter[str]()
    for plugin in PLUGINS:
        found = fuzz(every_seed, plugin, 36, tmp_path, "slow")
        print(plugin or "preferred", dict(found.most_common()))
        outcomes += found
    assert outcomes.total() >= 10_000
    assert not set(outcomes) & {"decoder-missing"}


# ------------------------------------------------------------------ bombs


def encapsulated(syntax: str, frames: list[bytes], **elements: object) -> bytes:
    dataset = small("examples_rgb_color.dcm")
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return saved(_with(dataset, **elements))


def _with(dataset: Dataset, **elements: object) -> Dataset:
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def native(**elements: object) -> bytes:
    return saved(_with(small(), **elements))


def without(keyword: str) -> bytes:
    dataset = small()
    delattr(dataset, keyword)
    return saved(dataset)


def jpeg(side: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (side, side)).save(stream, "JPEG")
    return stream.getvalue()


def jpeg_claiming(side: int) -> bytes:
    """A small stream whose frame header says `side`."""
    data = bytearray(jpeg(64))
    at = data.index(b"\xff\xc0")
    data[at + 5:at + 9] = struct.pack(">HH", side, side)
    return bytes(data)


def j2k_claiming(side: int) -> bytes:
    dataset = small("examples_rgb_color.dcm")
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    data = bytearray(saved(dataset))
    at = data.index(b"\xff\x4f\xff\x51") + 8
    data[at:at + 8] = struct.pack(">II", side, side)
    return bytes(data)


def rle(segments: int = 3) -> bytes:
    return struct.pack("<16L", segments, *(64 + 2 * number for number in range(15))) + b"\x81\0" * segments


def deflated() -> bytes:
    """An element of 100 MiB in 100 kB."""
    dataset = small()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    whole = saved(dataset)
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = packer.compress(b"\x08\x00\x05\x00UT\0\0" + struct.pack("<L", 100 << 20))
    for _ in range(100):
        bomb += packer.compress(bytes(1 << 20))
    return whole[:_meta_end(whole)] + bomb + packer.flush()


def _meta_end(data: bytes) -> int:
    return 132 + 12 + int(struct.unpack_from("<L", data, 140)[0])


def nested(depth: int) -> bytes:
    """Sequences in sequences, all of undefined length, before everything that is wanted."""
    data = native()
    start = _meta_end(data)
    opening = b"\x08\x00\x06\x00SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return data[:start] + opening * depth + data[start:]


def claimed_length(tag: bytes, head: bytes) -> bytes:
    data = native()
    at = data.index(tag)
    return data[:at] + tag + head + struct.pack("<L", 0xFFFF_FFFE) + b"0123456789"


COLOUR_FRAME = jpeg(48)
BOMBS: dict[str, tuple[Callable[[], bytes], set[str]]] = {
    "rle header of 30000 x 30000": (lambda: encapsulated(RLELossless, [rle()], Rows=30_000, Columns=30_000),
                                    {"image-size"}),
    "rle header of 8000 x 8000": (lambda: encapsulated(RLELossless, [rle()], Rows=8000, Columns=8000),
                                  {"image-size", "pixels-undecodable"}),
    "jpeg stream of 20000 x 20000 under 48 x 43": (
        lambda: encapsulated(JPEGBaseline8Bit, [jpeg_claiming(20_000)]), {"pixels-undecodable"}),
    "jpeg stream of 3000 x 3000 for the 12-bit decoder": (
        lambda: encapsulated(JPEGExtended12Bit, [jpeg_claiming(3000)], BitsStored=12, BitsAllocated=16, HighBit=11),
        {"pixels-undecodable", "decoder-memory", "decoder-crashed"}),
    "j2k stream of 30000 x 30000 under 48 x 43": (lambda: j2k_claiming(30_000), {"pixels-undecodable"}),
    "deflated": (deflated, {"deflated"}),
    "3000 sequences deep": (lambda: nested(3000), {"dicom-unreadable"}),
    "4 GB in a name": (lambda: claimed_length(b"\x10\x00\x10\x00", b"UT\0\0"), {"patient-missing"}),
    "4 GB in the pixels": (lambda: claimed_length(b"\xe0\x7f\x10\x00", b"OW\0\0"), {"pixels-truncated"}),
    "65535 x 65535": (lambda: native(Rows=65_535, Columns=65_535), {"image-size"}),
    "2000000000 frames": (lambda: native(NumberOfFrames=2_000_000_000), {"frames-malformed"}),
    "a million frames": (lambda: native(NumberOfFrames=1_000_000), {"pixels-truncated"}),
    "a million compressed frames": (
        lambda: encapsulated(JPEGBaseline8Bit, [COLOUR_FRAME], NumberOfFrames=1_000_000), {"frames-malformed"}),
    "no frames": (lambda: native(NumberOfFrames=0), {"frames-malformed"}),
    "minus one frame": (lambda: native(NumberOfFrames=-1), {"frames-malformed"}),
    "x frames": (lambda: native(NumberOfFrames=1).replace(b"IS\x02\x001 ", b"IS\x02\x00x "),
                 {"frames-malformed", "dicom-unreadable"}),
    "an empty fragment": (lambda: encapsulated(JPEGBaseline8Bit, [b"\0\0"]), {"pixels-undecodable"}),
    "a file of nothing": (lambda: b"", {"dicom-unreadable"}),
    "a preamble alone": (lambda: bytes(128) + b"DICM", {"syntax-unknown"}),
    "zeros": (lambda: bytes(1 << 20), {"dicom-unreadable"}),
    "bits beyond the allocated": (lambda: native(BitsStored=17), {"pixels-described-badly"}),
    "two samples": (lambda: native(SamplesPerPixel=2), {"pixels-described-badly"}),
    "one bit": (lambda: native(BitsAllocated=1, BitsStored=1), {"pixels-described-badly"}),
    "another instance in the meta information": (lambda: native().replace(b"1.2.3.4\0", b"1.2.3.5\0", 1),
                                                 {"identifier-differs"}),
    **{f"no {keyword}": ((lambda keyword=keyword: without(keyword)), {code}) for keyword, code in {  # type: ignore[misc]
        "Rows": "image-size", "Columns": "image-size", "BitsAllocated": "pixels-described-badly",
        "BitsStored": "pixels-described-badly", "SamplesPerPixel": "pixels-described-badly",
        "PhotometricInterpretation": "pixels-described-badly", "PixelRepresentation": "pixels-described-badly",
        "PatientID": "patient-missing", "SOPInstanceUID": "identifier-missing", "SOPClassUID": "sop-class",
        "PixelData": "pixels-truncated"}.items()},
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_within_the_limits(sandbox: Watched, name: str, tmp_path: Path) -> None:
    make, codes = BOMBS[name]
    path = tmp_path / "bomb.dcm"
    path.write_bytes(make())
    memory = Memory()
    assert sandbox.outcome(path) in codes
    ((_, scanned),) = sandbox.scan([path])
    assert isinstance(scanned, Header) or scanned in codes
    sandbox.check()
    assert memory.growth() < MOST_GROWTH


def test_files_that_are_none(sandbox: Watched, tmp_path: Path) -> None:
    pipe, link, folder = tmp_path / "pipe", tmp_path / "link", tmp_path / "folder"
    os.mkfifo(pipe)
    link.symlink_to("/etc/passwd")
    folder.mkdir()
    found = dict(sandbox.scan([pipe, link, folder, Path("/dev/zero"), tmp_path / "gone", Path("/x\0y")]))
    assert set(found.values()) == {"file-not-readable"}
    whole = tmp_path / "whole.dcm"
    whole.write_bytes(native())
    os.truncate(whole, 3 << 20)
    with Watched(config=ImagesConfig(most_file_mib=2)) as strict:
        assert strict.outcome(whole) == "file-too-large"
    assert sandbox.outcome(whole) == "picture"


def test_frames_are_not_believed_in_either_direction(sandbox: Watched, tmp_path: Path) -> None:
    path = tmp_path / "frames.dcm"
    frame = jpeg(48)
    path.write_bytes(encapsulated(JPEGBaseline8Bit, [frame], NumberOfFrames=30, Rows=48, Columns=48))
    assert len(sandbox.render(path, (0,)).pixels) == 1
    with pytest.raises(RefusedItemError) as caught:
        sandbox.render(path, (29,))
    assert caught.value.code == "pixels-undecodable"
    path.write_bytes(encapsulated(JPEGBaseline8Bit, [frame] * 30, NumberOfFrames=1, Rows=48, Columns=48))
    assert len(sandbox.render(path, (0,)).pixels) == 1
    with pytest.raises(RefusedItemError) as caught:
        sandbox.render(path, (1,))
    assert caught.value.code == "frame-missing"


def test_every_truncation_of_a_file_is_refused_and_the_whole_is_not(sandbox: Watched, tmp_path: Path) -> None:
    data = native()
    sandbox.outcomes.clear()
    sandbox.judge(tmp_path, (data[:length] for length in range(0, len(data), 61)))
    assert set(sandbox.outcomes) <= set(REASONS)
    path = tmp_path / "whole.dcm"
    path.write_bytes(data)
    assert sandbox.outcome(path) == "picture"


def test_a_value_patched_into_the_bytes_is_what_the_header_pass_reads(sandbox: Watched, tmp_path: Path) -> None:
    path = tmp_path / "patched.dcm"
    path.write_bytes(patched(native(), 0x0028_0010, 47))
    ((_, header),) = sandbox.scan([path])
    assert isinstance(header, Header) and header.rows == 47 and header.transfer_syntax == ExplicitVRLittleEndian


@pytest.mark.slow
@pytest.mark.parametrize("plugin", ["pillow", "gdcm", "pylibjpeg"])
def test_an_honest_jpeg_of_400_megapixels_stays_within_the_limit(plugin: str, tmp_path: Path) -> None:
    path = tmp_path / "large.dcm"
    side, most = 20_000, 8_000
    path.write_bytes(encapsulated(JPEGBaseline8Bit, [jpeg(side)], Rows=most, Columns=most))
    memory = Memory()
    with Watched(plugin) as sandbox:
        assert sandbox.outcome(path) in {
            "image-size", "pixels-undecodable", "decoder-memory", "decoder-crashed", "decoder-timeout"}
        path.write_bytes(encapsulated(JPEGBaseline8Bit, [jpeg(48)], Rows=48, Columns=48))
        assert sandbox.outcome(path) == "picture"
    assert memory.growth() < MOST_GROWTH
