"""Which transfer syntaxes this installation can decode, by which plugin, and what to install for one that it cannot.

One plugin decodes a syntax, the first of a fixed order that is installed: pydicom alone would try every plugin until
one succeeds, so that what a damaged file shows depended on what else is installed. Plugins that are known to give
wrong numbers for a syntax without an error are not in its order: Pillow and GDCM for JPEG 2000 with more than 8 bits in
colour or with a precision that the header contradicts, everything but libjpeg for JPEG Extended beyond 8 bits.

Nothing is imported and no file is read to answer: the site's own process may ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

__all__ = ["DEFLATED", "NATIVE", "SYNTAXES", "Syntax", "advice", "installed", "name_of", "plugin_for", "plugins_of"]

_DICOM = "1.2.840.10008.1.2"
NATIVE = "native"
"""The plugin of what is not compressed."""
DEFLATED = f"{_DICOM}.1.99"
"""Refused: how much it unpacks to is known only after unpacking it."""

_MODULES = {  # of a plugin for a family of syntaxes: what must be importable
    "pillow": ("PIL",), "gdcm": ("gdcm",), "pyjpegls": ("jpeg_ls",), "openjpeg": ("pylibjpeg", "openjpeg"),
    "rle": ("pylibjpeg", "rle"), "libjpeg": ("pylibjpeg", "libjpeg"), NATIVE: (),
}  # fmt: skip
_LABELS = {"openjpeg": "pylibjpeg", "rle": "pylibjpeg", "libjpeg": "pylibjpeg"}  # pydicom's name, where it differs
_EXTRAS = {"gdcm": "dicom-gdcm", "libjpeg": "dicom-gpl"}


@dataclass(frozen=True, slots=True)
class Syntax:
    """One transfer syntax. plugins: in order of preference; deep: those that decode more than 8 bits, where these are
    others."""

    name: str
    plugins: tuple[str, ...]
    deep: tuple[str, ...] | None = None

    def order(self, bits_stored: int) -> tuple[str, ...]:
        """The plugins for that many bits, the preferred one first."""
        return self.deep if self.deep is not None and bits_stored > 8 else self.plugins


SYNTAXES: dict[str, Syntax] = {
    _DICOM: Syntax("Implicit VR Little Endian", (NATIVE,)),
    f"{_DICOM}.1": Syntax("Explicit VR Little Endian", (NATIVE,)),
    f"{_DICOM}.2": Syntax("Explicit VR Big Endian", (NATIVE,)),
    f"{_DICOM}.5": Syntax("RLE Lossless", ("rle",)),
    f"{_DICOM}.4.50": Syntax("JPEG Baseline", ("pillow",)),
    f"{_DICOM}.4.51": Syntax("JPEG Extended", ("pillow",), deep=("libjpeg",)),
    f"{_DICOM}.4.57": Syntax("JPEG Lossless", ("gdcm", "libjpeg")),
    f"{_DICOM}.4.70": Syntax("JPEG Lossless SV1", ("gdcm", "libjpeg")),
    f"{_DICOM}.4.80": Syntax("JPEG-LS Lossless", ("pyjpegls",)),
    f"{_DICOM}.4.81": Syntax("JPEG-LS Near-Lossless", ("pyjpegls",)),
    f"{_DICOM}.4.90": Syntax("JPEG 2000 Lossless", ("openjpeg",)),
    f"{_DICOM}.4.91": Syntax("JPEG 2000", ("openjpeg",)),
    f"{_DICOM}.4.201": Syntax("High-Throughput JPEG 2000 Lossless", ("openjpeg",)),
    f"{_DICOM}.4.202": Syntax("High-Throughput JPEG 2000 Lossless RPCL", ("openjpeg",)),
    f"{_DICOM}.4.203": Syntax("High-Throughput JPEG 2000", ("openjpeg",)),
}
"""Every transfer syntax of still images that can be read with the right packages (PS3.5 section 10)."""


def installed(plugin: str) -> bool:
    """Whether its packages are here; they are not imported."""
    return all(find_spec(module) is not None for module in _MODULES[plugin])


def plugin_for(syntax: str, bits_stored: int = 8) -> str | None:
    """pydicom's name of the plugin that decodes it (NATIVE where nothing is compressed), None where none is installed.

    bits_stored matters for JPEG Extended alone. None also for a syntax that is not in `SYNTAXES`.
    """
    known = SYNTAXES.get(syntax)
    for plugin in known.order(bits_stored) if known else ():
        if installed(plugin):
            return _LABELS.get(plugin, plugin)
    return None


def plugins_of(syntax: str) -> tuple[str, ...]:
    """pydicom's names of all plugins that ever decode it here, whatever the bits."""
    found = (plugin_for(syntax, bits) for bits in (8, 16))
    return tuple(dict.fromkeys(name for name in found if name is not None and name != NATIVE))


def name_of(syntax: str) -> str:
    """In words; what DICOM does not know as a still image is not quoted."""
    if syntax in SYNTAXES:
        return SYNTAXES[syntax].name
    return "Deflated Explicit VR Little Endian" if syntax == DEFLATED else "another transfer syntax"


def advice(syntax: str, bits_stored: int = 8) -> str:
    """What to do about files of a syntax that cannot be decoded here: one clause, "" where they can be."""
    if plugin_for(syntax, bits_stored) is not None:
        return ""
    extras = [_EXTRAS[plugin] for plugin in SYNTAXES[syntax].order(bits_stored) if plugin in _EXTRAS] \
        if syntax in SYNTAXES else []
    if extras:
        return "install " + " or ".join(f'`pip install "federated-medgpt[{extra}]"`' for extra in extras)
    if syntax in SYNTAXES:
        return "install this release again with its dependencies: a decoder that belongs to it is missing"
    return "convert them to Explicit VR Little Endian (such as `gdcmconv --raw`, or `dcmconv +te` for a deflated one)"
