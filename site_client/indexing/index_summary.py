"""What the last index counted, kept beside the index for the hospital's own screens: numbers by fixed names, nobody.

The counts are exact, small ones among them, so they stay on this machine. What a file says of itself (its modality, its
transfer syntax) is named only where DICOM knows the word: anything else could be anybody's name.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from site_client.imaging.decoders import name_of
from site_client.index_facts import report_facts
from site_client.records import REASONS, SiteIndex

__all__ = ["MODALITIES", "SUMMARY", "read_summary", "summary_of"]

SUMMARY = "summary"  # the fact's name in the index
MODALITIES = frozenset([
    "AR", "AS", "ASMT", "AU", "BDUS", "BI", "BMD", "CFM", "CR", "CT", "CTPROTOCOL", "DG", "DMS", "DOC", "DX", "ECG",
    "EEG", "EMG", "EOG", "EPS", "ES", "FID", "GM", "HC", "HD", "IO", "IOL", "IVOCT", "IVUS", "KER", "KO", "LEN", "LS",
    "M3D", "MA", "MG", "MR", "NM", "OAM", "OCT", "OP", "OPM", "OPT", "OPTBSV", "OPTENF", "OPV", "OSS", "OT", "PA",
    "PLAN", "PR", "PT", "PX", "REG", "RESP", "RF", "RG", "RTDOSE", "RTIMAGE", "RTPLAN", "RTRECORD", "RTSTRUCT", "RWV",
    "SC", "SEG", "SM", "SMR", "SR", "SRF", "STAIN", "TG", "US", "VA", "XA", "XAPROTOCOL", "XC"])
"""Defined terms of Modality (0008,0060), PS3.3 C.7.3.1.1.1."""


def summary_of(index: SiteIndex) -> str:
    """As JSON text."""
    facts = report_facts("", index, exact=True)
    facts["modalities"] = _renamed(facts["modalities"], lambda word: word if word in MODALITIES else "another modality")
    facts["syntaxes"] = _renamed(facts["syntaxes"], name_of)
    del facts["site_id"]
    return json.dumps({"time": time.time(), **facts})


def _renamed(counts: Mapping[str, int], name: Any) -> dict[str, int]:
    found: Counter[str] = Counter()
    for word, count in counts.items():
        found[name(word)] += count
    return dict(found.most_common())


def read_summary(folder: Path) -> dict[str, Any] | None:
    """What the last index in `folder` counted; None where there is none, or an older release made it.

    The index is read without its lock: while it is brought up to date, these are the counts of the time before.

    Raises:
        ValueError: it cannot be read; one sentence.
    """
    path = folder / "index.sqlite"
    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            row = connection.execute("SELECT value FROM facts WHERE name = ?", (SUMMARY,)).fetchone()
        facts: dict[str, Any] | None = None if row is None else json.loads(row[0])
    except (sqlite3.Error, ValueError):
        raise ValueError("the index cannot be read just now; if it stays so, run `site-client index` again, which "
                         "makes it anew") from None
    if facts is not None:
        facts["refused_by_reason"] = {code: count for code, count in facts["refused_by_reason"].items()
                                      if code in REASONS}
    return facts
