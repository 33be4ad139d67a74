"""What a header asks for, by frame, applied in the order of the standard; all values computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from site_client.imaging import grey
from site_client.imaging.grey import AS_ON_A_SCREEN, FOR_THE_MODEL, Choice, grey_header, grey_picture
from site_client.records import RefusedItemError

STORED = np.array([[0, 1, 2], [3, 4, 5]], dtype=np.uint16)
SIX = {"WindowCenter": 3, "WindowWidth": 6}  # 0..5 black to white in steps of 51


def header(**elements: Any) -> Dataset:
    made = Dataset()
    for keyword, value in {"Modality": "MR", "PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0,
                           "BitsStored": 16, **elements}.items():  # fmt: skip
        setattr(made, keyword, value)
    return made


def group(**macros: Dataset) -> Dataset:
    made = Dataset()
    for macro, content in macros.items():
        setattr(made, macro, [content])
    return made


def elements(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def table(descriptor: list[int], data: list[int]) -> Dataset:
    made = Dataset()
    made.add_new("LUTDescriptor", "US", descriptor)
    made.add_new("LUTData", "US", data)
    return made


def shown(
    stored: np.ndarray, dataset: Dataset, frame: int = 0, choice: Choice = FOR_THE_MODEL
) -> tuple[list[int], str]:
    picture, how = grey_picture(stored, grey_header(dataset, frame, little=True), choice)
    assert picture.shape == (*stored.shape, 3) and picture.dtype == np.uint8
    assert (picture == picture[..., :1]).all()
    return picture[..., 0].ravel().tolist(), how


def test_the_first_window_that_can_be_used() -> None:
    steps = [0, 51, 102, 153, 204, 255]
    assert shown(STORED, header(**SIX)) == (steps, "window 3/6 of the file")
    assert shown(STORED, header(WindowCenter=[3, 90], WindowWidth=[6, 9])) == (steps, "window 3/6 of the file")
    assert shown(STORED, header(WindowCenter=[0, 3], WindowWidth=[0, 6])) == (steps, "window 3/6 of the file")
    exact = header(WindowCenter=2.5, WindowWidth=5, VOILUTFunction="LINEAR_EXACT")
    assert shown(STORED, exact) == (steps, "window 2.5/5 (LINEAR_EXACT) of the file")


def test_without_a_usable_window_percentiles() -> None:
    stored = np.arange(1, 1001, dtype=np.uint16).reshape(25, 40)
    for dataset in (header(), header(WindowCenter=0, WindowWidth=0), header(VOILUTFunction="CUBIC", **SIX)):
        levels, how = shown(stored, dataset)
        assert how == "percentiles 0.5 to 99.5 of the values: the file names no window"
        assert levels[4] == 0 and levels[5] == round(255 / 990) and levels[499] == round(255 * 495 / 990)
        assert levels[994:] == [255] * 6
    levels, how = shown(stored, header(), choice=AS_ON_A_SCREEN)
    assert levels[1] == 0 and levels[3] == 1 and levels[-1] == 255 and how.startswith("full range")


def test_percentiles_of_a_large_picture_come_from_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grey, "_MOST_SAMPLED", 100)
    stored = np.arange(1000, dtype=np.uint16).reshape(25, 40)
    levels, _ = shown(stored, header())  # 100 values 0, 10, .. 990: the percentiles are 0 and 990
    assert levels[0] == 0 and levels[495] == 128 and levels[990:] == [255] * 10


def test_the_order_is_modality_window_inversion() -> None:
    # 2 x - 4 runs from -4 to 6; window 1.5/11 maps -4 to black and 6 to white (c - 0.5 = 1, w - 1 = 10)
    plain = header(RescaleSlope=2, RescaleIntercept=-4, WindowCenter=1.5, WindowWidth=11)
    assert shown(STORED, plain)[0] == [0, 51, 102, 153, 204, 255]
    plain.PhotometricInterpretation = "MONOCHROME1"
    assert shown(STORED, plain)[0] == [255, 204, 153, 102, 51, 0]


def test_inverse_shapes_do_not_cancel_out() -> None:
    down = [255, 204, 153, 102, 51, 0]
    assert shown(STORED, header(PresentationLUTShape="INVERSE", **SIX))[0] == down
    both = header(PresentationLUTShape="INVERSE", PhotometricInterpretation="MONOCHROME1", **SIX)
    assert shown(STORED, both)[0] == down
    assert shown(STORED, header(PresentationLUTShape="IDENTITY", **SIX))[0] == down[::-1]


def test_modality_and_voi_tables() -> None:
    modality = header(ModalityLUTSequence=[table([3, 2, 16], [0, 4, 5])], **SIX)
    assert shown(STORED, modality)[0] == [0, 0, 0, 204, 255, 255]
    # a VOI table comes before a window, and maps what rescaling gave: x - 2
    voi = header(RescaleSlope=1, RescaleIntercept=-2, VOILUTSequence=[table([3, 65535, 8], [0, 100, 255])], **SIX)
    assert shown(STORED, voi) == ([0, 0, 100, 255, 255, 255], "lookup table of the file")


def test_padding_is_black_and_not_counted() -> None:
    stored = np.array([[-2000, -2000, -1500], [0, 500, 1000]], dtype=np.int16)
    padded = header(PixelRepresentation=1, PixelPaddingValue=-2000)
    assert shown(stored, padded)[0] == [0, 0, 0, 153, 204, 255]  # -1500 is black as the least value
    padded.PixelPaddingRangeLimit = -1500
    assert shown(stored, padded)[0] == [0, 0, 0, 0, 128, 255]
    padded.PhotometricInterpretation = "MONOCHROME1"
    assert shown(stored, padded)[0] == [0, 0, 0, 255, 128, 0]
    beyond = header(PixelRepresentation=0, BitsStored=12, PixelPaddingValue=63536, **SIX)  # no 12 bits hold it
    assert shown(STORED, beyond)[0] == [0, 51, 102, 153, 204, 255]
    everything = header(PixelPaddingValue=0, PixelPaddingRangeLimit=9)
    assert shown(STORED, everything)[0] == [0] * 6


def test_a_slope_of_zero_and_numbers_out_of_range_are_refused() -> None:
    for changes in ({"RescaleSlope": 0}, {"RescaleSlope": 1, "RescaleIntercept": "1e39"}, {"RescaleSlope": "1e39"}):
        with pytest.raises(RefusedItemError, match="rescale slope"):
            grey_header(header(**changes), 0, little=True)


def test_functional_groups_count_before_the_file() -> None:
    rescale, other = elements(RescaleSlope=2, RescaleIntercept=-4), elements(RescaleSlope=1, RescaleIntercept=0)
    window = elements(WindowCenter=1.5, WindowWidth=11)
    dataset = header(
        RescaleSlope=77, RescaleIntercept=77, WindowCenter=9, WindowWidth=9,
        SharedFunctionalGroupsSequence=[group(PixelValueTransformationSequence=rescale, FrameVOILUTSequence=window)],
        PerFrameFunctionalGroupsSequence=[Dataset(), group(PixelValueTransformationSequence=other)])  # fmt: skip
    assert shown(STORED, dataset, 0) == ([0, 51, 102, 153, 204, 255], "window 1.5/11 of the file")
    # frame 1 rescales by itself: x in window 1.5/11 is (x - 1)/10 + 0.5
    assert shown(STORED, dataset, 1)[0] == [102, 128, 153, 178, 204, 230]
    # a frame without a group of its own still has the shared ones, one without any has the file's
    assert shown(STORED, dataset, 2)[0] == [0, 51, 102, 153, 204, 255]
    assert shown(STORED, header(SharedFunctionalGroupsSequence=[Dataset()], **SIX))[0] == [0, 51, 102, 153, 204, 255]


def ct(**changes: Any) -> Dataset:
    return header(**({"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 40,
                      "WindowWidth": 400, "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]} | changes))  # fmt: skip


def test_ct_in_three_windows() -> None:
    stored = np.array([[0, 1024, 1064], [1104, 1239, 2048]], dtype=np.uint16)  # -1024, 0, 40, 80, 215, 1024 HU
    for dataset in (ct(), ct(RescaleType="HU")):
        picture, how = grey_picture(stored, grey_header(dataset, 0, little=True), FOR_THE_MODEL)
        assert picture.reshape(-1, 3).tolist() == [
            [0, 0, 0], [128, 98, 0], [132, 128, 128], [137, 157, 255], [154, 255, 255], [255, 255, 255]]  # fmt: skip
        assert how == "CT windows -1024 to 1024, -135 to 215, 0 to 80 HU in red, green, blue"
    assert shown(stored, ct(), choice=AS_ON_A_SCREEN)[1] == "window 40/400 of the file"


@pytest.mark.parametrize(
    "changes",
    [{"Modality": "PT"}, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, {"RescaleType": "US"},
     {"RescaleIntercept": None}, {"PhotometricInterpretation": "MONOCHROME1"},
     {"ModalityLUTSequence": [table([3, 0, 16], [0, 4, 5])]}],
)  # fmt: skip
def test_what_is_no_ct_in_hounsfield_units_keeps_its_own_window(changes: dict[str, Any]) -> None:
    dataset = ct(**changes)
    if changes.get("RescaleIntercept", 0) is None:
        del dataset.RescaleIntercept
    assert shown(STORED, dataset)[1] == "window 40/400 of the file"


def test_an_enhanced_ct_says_by_frame_what_it_is() -> None:
    hu = elements(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
    scout = group(CTImageFrameTypeSequence=elements(FrameType=["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]))
    dataset = header(Modality="CT", SharedFunctionalGroupsSequence=[group(PixelValueTransformationSequence=hu)],
                     PerFrameFunctionalGroupsSequence=[Dataset(), scout])
    assert [grey_header(dataset, frame, little=True).hounsfield for frame in (0, 1)] == [True, False]


def test_supplementary_colours_begin_where_the_palette_does() -> None:
    dataset = header(PixelPresentation="COLOR", **SIX)
    for colour, entries in (("Red", [255, 0]), ("Green", [0, 200]), ("Blue", [9, 9])):
        dataset.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [2, 4, 8])
        dataset.add_new(f"{colour}PaletteColorLookupTableData", "OW", bytes(entries))
    picture, how = grey_picture(STORED, grey_header(dataset, 0, little=True), FOR_THE_MODEL)
    assert picture[1].tolist() == [[153, 153, 153], [255, 0, 9], [0, 200, 9]]
    assert how == "window 3/6 of the file, with the file's supplementary colours"


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_every_number_type_gives_the_same_picture(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grey, "_BLOCK", 4)
    assert shown(STORED.astype(kind), header(**SIX))[0] == [0, 51, 102, 153, 204, 255]
    if kind[0] == "i":
        signed = header(PixelRepresentation=1, WindowCenter=0, WindowWidth=6)
        assert shown((STORED.astype(kind) - 3).astype(kind), signed)[0] == [0, 51, 102, 153, 204, 255]
