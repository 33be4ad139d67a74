"""FINDINGS to IMPRESSION on real chest X-ray reports: the Indiana University collection inside torchxrayvision.

3,955 reports in XML (Demner-Fushman et al., JAMIA 23:304-310, 2016; CC BY-NC-ND 4.0), 3,419 with both sections; each
is one patient (`CXR1`, `CXR2`, ...). They are read from the installed package, which is never imported; nothing of them
is copied into this project, and what an evaluation writes names patients by hashes only.

Held-out patients are a fifth of all: split `test` by the hash of the patient and a seed, or split `simulation-test`,
the test patients that `simulate` keeps out of every training of the same fold (`simulations.partition.draw_split`, of
600 reports). An adapter that was trained in a simulation is measured on the second: most of the first were in its
training.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from model.benchmarks.items import Item, with_pictures
from model.package_files import package_files

__all__ = ["FOLDS", "REPORTS_FILE", "REPORTS_PACKAGE", "REPORTS_VERSION", "SPLITS", "Report", "load_reports",
           "read_chest_reports"]  # fmt: skip

REPORTS_PACKAGE, REPORTS_VERSION = "torchxrayvision", "1.5.7"
REPORTS_FILE = re.compile(r"torchxrayvision/data/NLMCXR_reports\.tgz$")
SPLITS = ("test", "simulation-test")
FOLDS = 5
_SIMULATION_SEED, _SIMULATION_TEST = 20_240_531, 600  # simulations.partition, and DataConfig.num_test_reports


@dataclass(frozen=True)
class Report:
    """One patient's chest X-ray report. majors: its MeSH major headings; normal: the only one is ``normal``."""

    number: int
    findings: str
    impression: str
    normal: bool
    majors: tuple[str, ...] = ()


def load_reports() -> tuple[Report, ...]:
    """Every report that has both a FINDINGS and an IMPRESSION section, by report number.

    Raises ValueError when the package or its file is missing.
    """
    (archive,) = package_files(REPORTS_PACKAGE, REPORTS_VERSION, REPORTS_FILE)
    reports = []
    with tarfile.open(archive) as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.name.endswith(".xml") else None
            report = _parse_report(stream.read()) if stream is not None else None
            if report is not None:
                reports.append(report)
    return tuple(sorted(reports, key=lambda report: report.number))


def read_chest_reports(split: str, fold: int, seed: int) -> list[Item]:
    """The held-out patients' reports as questions: write the impression that follows from the findings.

    Keys are hashes of patients. Raises ValueError as `load_reports`, and for another split or fold.
    """
    if split not in SPLITS or not 0 <= fold < FOLDS:
        raise ValueError(f"chest reports have the splits {', '.join(SPLITS)} and the folds 0 to {FOLDS - 1}, not "
                         f"{split} and {fold}")
    reports = load_reports()
    if split == "test":
        kept = [report for report in reports if int(_hash(seed, report)[:8], 16) % FOLDS == fold]
    else:
        order = np.random.default_rng(_SIMULATION_SEED).permutation(len(reports))
        block = order[fold * _SIMULATION_TEST : (fold + 1) * _SIMULATION_TEST]
        kept = [reports[index] for index in np.sort(block)]
    return [_item(report, _hash(seed, report)[:16]) for report in kept]


def _item(report: Report, key: str) -> Item:
    prompt = f"Findings: {report.findings} Write the impression."  # as the demonstration's public base learned it
    return Item(key, key, "impression", with_pictures(prompt, 0), report.impression)


def _hash(seed: int, report: Report) -> str:
    return hashlib.sha256(f"chest-reports/1|{seed}|CXR{report.number}".encode()).hexdigest()


def _parse_report(xml: bytes) -> Report | None:
    root = ElementTree.fromstring(xml)
    sections = {node.get("Label"): " ".join((node.text or "").split()) for node in root.iter("AbstractText")}
    findings, impression = sections.get("FINDINGS"), sections.get("IMPRESSION")
    identity = root.find("uId")
    if not findings or not impression or identity is None:
        return None
    number = int(identity.attrib["id"].removeprefix("CXR"))
    majors = tuple(node.text or "" for node in root.iter("major"))
    return Report(number, findings, impression, normal=majors == ("normal",), majors=majors)
