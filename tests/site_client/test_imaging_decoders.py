"""Which decoder is used for which syntax, that it gives the right numbers, and what to install where one is missing."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from site_client.imaging import decoders
from site_client.imaging.bounded_decoders import stream_size
from site_client.imaging.decoders import NATIVE, SYNTAXES, advice, name_of, plugin_for, plugins_of
from tests.site_client.fuzz_corpus import saved, small

ROOT = Path(__file__).resolve().parents[2]
DICOM = "1.2.840.10008.1.2"


def test_every_syntax_has_a_decoder_in_the_test_environment_and_pydicom_knows_it() -> None:
    for syntax in SYNTAXES:
        for bits in (8, 12):
            plugin = plugin_for(syntax, bits)
            assert plugin is not None and advice(syntax, bits) == ""
            assert plugin == NATIVE or plugin in get_decoder(syntax).available_plugins
        assert len(plugins_of(syntax)) == {NATIVE: 0}.get(plugin_for(syntax), 2 if syntax.endswith(".4.51") else 1)


def test_twelve_bits_go_to_the_only_decoder_that_knows_them() -> None:
    assert plugin_for(f"{DICOM}.4.51", 8) == "pillow" and plugin_for(f"{DICOM}.4.51", 12) == "pylibjpeg"


def test_what_is_lacking_is_named_as_an_extra_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    monkeypatch.setattr(decoders, "installed", lambda plugin: plugin not in ("gdcm", "libjpeg"))
    wanted = {f"{DICOM}.4.57": ["dicom-gdcm", "dicom-gpl"], f"{DICOM}.4.70": ["dicom-gdcm", "dicom-gpl"],
              f"{DICOM}.4.51": ["dicom-gpl"]}
    lacking = {syntax: re.findall(r"\[([a-z-]+)\]", advice(syntax, 12)) for syntax in SYNTAXES if advice(syntax, 12)}
    assert lacking == wanted and all(name in extras for names in lacking.values() for name in names)
    assert plugin_for(f"{DICOM}.4.51", 8) == "pillow"
    monkeypatch.setattr(decoders, "installed", lambda plugin: plugin == NATIVE)
    assert "this release again" in advice(f"{DICOM}.5")


def test_what_is_no_still_image_is_to_be_converted_and_not_quoted() -> None:
    for syntax in ("", "1.2.3.4711", f"{DICOM}.4.100", decoders.DEFLATED):
        assert plugin_for(syntax) is None and "gdcmconv" in advice(syntax) and "4711" not in name_of(syntax)


@pytest.mark.parametrize("source", ["CT_small.dcm", "MR_small.dcm", "examples_rgb_color.dcm"])
@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_preferred_decoders_give_the_numbers_that_were_encoded(source: str, syntax: str, tmp_path: Path) -> None:
    dataset = small(source)
    before = pixel_array(dataset)
    dataset.compress(syntax, generate_instance_uid=False)
    path = tmp_path / "encoded.dcm"
    path.write_bytes(saved(dataset))
    after = pixel_array(path, decoding_plugin=plugin_for(syntax, dataset.BitsStored))
    assert np.array_equal(before, after) and before.dtype == after.dtype


@pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="Debian's dcmtk encodes JPEG Lossless")
@pytest.mark.parametrize("source", ["CT_small.dcm", "MR_small.dcm", "examples_rgb_color.dcm"])
@pytest.mark.parametrize("option", ["+e1", "+el"])
@pytest.mark.parametrize("plugin", ["gdcm", "pylibjpeg"])
def test_jpeg_lossless_of_another_encoder_is_exact(source: str, option: str, plugin: str, tmp_path: Path) -> None:
    plain, encoded = tmp_path / "plain.dcm", tmp_path / "encoded.dcm"
    plain.write_bytes(saved(small(source)))
    subprocess.run(["dcmcjpeg", option, "+cn", str(plain), str(encoded)], check=True, capture_output=True)
    assert dcmread(encoded).file_meta.TransferSyntaxUID in (f"{DICOM}.4.57", f"{DICOM}.4.70")
    assert np.array_equal(pixel_array(encoded, decoding_plugin=plugin), pixel_array(plain))


def test_the_size_of_a_stream_is_read_from_the_stream() -> None:
    assert stream_size(b"") is stream_size(b"\xff\xd8\xff") is stream_size(b"\xff" * 40) is None
    dri = b"\xff\xd8\xff\xdd\x00\x04\x00\x00"
    frame = b"\x00\x11\x08\x00\x30\x00\x2b\x03" + bytes(9)
    for marker in (0xC0, 0xC1, 0xC3, 0xF7):
        assert stream_size(dri + b"\xff" + bytes([0xFF, marker]) + frame) == 48 * 43
    assert stream_size(dri + b"\xff\xc4\x00\x03\x00") is None
    j2k = b"\xff\x4f\xff\x51\x00\x29\x00\x00" + b"".join(n.to_bytes(4, "big") for n in (100, 50, 10, 20))
    assert stream_size(j2k) == 90 * 30
