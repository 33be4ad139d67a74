"""Makes folders of real data for four hospitals, a public corpus and a test set.

Patients are disjoint between all folders, sites are unequal, and their labels and colours are skewed. The
same configuration always gives the same bytes. The real data is read from installed packages
(`simulations.packages`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simulations.packages import PatchPair, Report, load_pairs, load_reports, package_facts
from simulations.partition import NUM_FOLDS, Split, cut_by_colour, cut_by_label, draw_split
from simulations.site_folder import write_site_folder

__all__ = ["HospitalsConfig", "content_hash", "make_hospitals", "read_manifest"]

_RECIPE = 1  # raise it when the same configuration starts to mean other bytes
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class HospitalsConfig:
    """What to make. Counts of images are source images: each is one patient with ten pairs of patches.

    ``fold`` says which fifth of the patients the test sets come from; None takes it from ``seed`` (modulo
    five), so that five consecutive seeds have pairwise disjoint test sets. ``max_reports`` and ``max_images``
    limit the private patients of all sites together, for small runs. ``report_questions``: see `write_site_folder`.
    """

    seed: int = 0
    fold: int | None = None
    num_public_reports: int = 400
    num_test_reports: int = 600
    num_public_images: int = 40
    num_test_images: int = 40
    site_shares: tuple[float, ...] = (0.35, 0.30, 0.20, 0.15)
    max_reports: int | None = None
    max_images: int | None = None
    report_questions: str = "choices"

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must not be negative.")
        if not self.site_shares or min(self.site_shares) <= 0 or abs(sum(self.site_shares) - 1) > 1e-9:
            raise ValueError("site_shares must be positive and add up to 1.")
        if min(self.max_reports or 0, self.max_images or 0) < 0:
            raise ValueError("max_reports and max_images must not be negative.")

    @property
    def test_fold(self) -> int:
        """The fold in force, 0 to 4."""
        return self.seed % NUM_FOLDS if self.fold is None else self.fold


def make_hospitals(out: Path, config: HospitalsConfig) -> Path:
    """Make ``site-1..``, ``public``, ``test`` and ``manifest.json`` under ``out`` and return ``out``.

    Everything is written to a folder beside ``out`` that is renamed at the end, so ``out`` is either finished
    or not there. If ``out`` already holds the hospitals of this configuration and of these packages it is
    reused. Raises ValueError when ``out`` holds anything else, a package is missing or the configuration does
    not fit.
    """
    out, packages = Path(out), package_facts()
    wanted = content_hash(config, packages)
    if _is_finished(out, wanted):
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    try:
        partial.chmod(0o755)
        counts = _write_all(partial, config)
        facts: dict[str, Any] = {"recipe": _RECIPE, "content_hash": wanted}
        facts |= {"config": asdict(config), "packages": packages}
        facts |= {"test_fold": config.test_fold, "files_sha256": _hash_files(partial), "counts": counts}
        (partial / _MANIFEST).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        _publish(partial, out, wanted)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def read_manifest(out: Path) -> dict[str, Any]:
    """The facts about finished hospitals; ValueError when ``out`` holds none."""
    try:
        facts: dict[str, Any] = json.loads((out / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ValueError(f"{out} holds no finished hospitals; run make_hospitals into an empty folder.") from None
    return facts


def content_hash(config: HospitalsConfig, packages: dict[str, dict[str, str]] | None = None) -> str:
    """SHA-256 (hex) of everything the folders depend on: recipe, configuration and the data packages' files."""
    facts = package_facts() if packages is None else packages
    settings = asdict(config) | {"fold": config.test_fold}
    if config.report_questions == "choices":  # the only ones at first: their hospitals keep their names
        del settings["report_questions"]
    basis = {"recipe": _RECIPE, "config": settings, "packages": facts}
    return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()


def _is_finished(out: Path, wanted: str) -> bool:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if read_manifest(out).get("content_hash") != wanted:
        raise ValueError(f"{out} holds hospitals of another configuration; name another folder or remove this one.")
    return True


def _publish(partial: Path, out: Path, wanted: str) -> None:
    try:
        os.replace(partial, out)  # noqa: PTH105  (atomic, also over an empty folder)
    except OSError:
        # Lost a race against a process that made the same hospitals? Then its work is as good.
        if not _is_finished(out, wanted):
            raise


def _hash_files(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _write_all(folder: Path, config: HospitalsConfig) -> dict[str, dict[str, object]]:
    texts_only = config.report_questions == "impression"
    reports, images = load_reports(), [] if texts_only else _images(load_pairs())
    # Streams of their own: a change to one part of the recipe leaves the other part's draws alone.
    report_sets = _report_sets(reports, config, np.random.default_rng([config.seed, 0]))
    image_sets = {} if texts_only else _image_sets(images, config, np.random.default_rng([config.seed, 1]))
    public = [reports[i] for i in report_sets["public"]]
    counts = {}
    for name in report_sets:
        chosen, pictures = [reports[i] for i in report_sets[name]], [images[i] for i in image_sets.get(name, [])]
        write_site_folder(folder / name, chosen, pictures, public=public, seed=config.seed,
                          report_questions=config.report_questions)
        counts[name] = _count(chosen, pictures, texts_only)
    return counts


def _images(pairs: Sequence[PatchPair]) -> list[tuple[PatchPair, ...]]:
    by_source: dict[int, list[PatchPair]] = {}
    for pair in pairs:
        by_source.setdefault(pair.source, []).append(pair)
    return [tuple(by_source[source]) for source in sorted(by_source)]


def _report_sets(reports: Sequence[Report], config: HospitalsConfig, rng: np.random.Generator) -> dict[str, list[int]]:
    sizes = (len(reports), config.num_public_reports, config.num_test_reports)
    split = draw_split(*sizes, config.test_fold, rng, config.max_reports)
    normal = np.array([reports[i].normal for i in split.private], dtype=bool)
    return _name_sets(split, cut_by_label(normal, config.site_shares, rng))


def _image_sets(
    images: Sequence[tuple[PatchPair, ...]], config: HospitalsConfig, rng: np.random.Generator
) -> dict[str, list[int]]:
    sizes = (len(images), config.num_public_images, config.num_test_images)
    split = draw_split(*sizes, config.test_fold, rng, config.max_images)
    brightness = np.array([_brightness(images[i]) for i in split.private], dtype=np.float64)
    return _name_sets(split, cut_by_colour(brightness, config.site_shares, rng))


def _name_sets(split: Split, sites: Sequence[np.ndarray]) -> dict[str, list[int]]:
    named = {f"site-{k}": split.private[chosen].tolist() for k, chosen in enumerate(sites, start=1)}
    return named | {"public": split.public.tolist(), "test": split.test.tolist()}


def _brightness(pairs: Iterable[PatchPair]) -> float:
    return float(np.mean([[pair.first, pair.second] for pair in pairs]))


def _count(reports: Sequence[Report], images: Sequence[Sequence[PatchPair]], texts_only: bool) -> dict[str, object]:
    brightness = [_brightness(pairs) for pairs in images]
    return {
        "reports": len(reports),
        "normal_reports": sum(report.normal for report in reports),
        "images": len(images),
        "pairs": sum(len(pairs) for pairs in images),
        "alike_pairs": sum(pair.alike for pairs in images for pair in pairs),
        "dicom_files": 2 * sum(len(pairs) for pairs in images),
        "mean_brightness": round(float(np.mean(brightness)), 2) if images else None,
        "samples": (1 if texts_only else 2) * len(reports) + sum(len(pairs) for pairs in images),
    }
