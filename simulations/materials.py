"""What every row of a simulation shares: hospitals on disk, the public base model, public and test questions."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from configs.schema import DataConfig, SimulationConfig
from model.backbone import hash_model
from model.example_file import by_kind, load_examples, save_examples
from model.inputs import Example
from model.pretrain import Recipe, cache_key, pretrain
from model.smollm2 import smollm2_base
from model.spec import TINY
from simulations.hospitals import HospitalsConfig, content_hash, make_hospitals
from simulations.seeded import derived_secret
from site_client.sources.folder import read_folder

__all__ = ["Materials", "cache_folder", "hospital_settings", "is_prepared", "prepare", "public_split"]

Progress = Callable[[str, int, int], None]  # (what, done, total)


@dataclass(frozen=True)
class Materials:
    """Paths and public constants; everything here was made from public packages."""

    hospitals: Path
    declared: dict[str, int]   # site -> declared number of patients
    base_model: Path
    base_hash: bytes
    public_examples: Path      # .npz
    test_examples: Path        # .npz

    def test(self) -> list[Example]:
        """Questions about patients that no training saw."""
        return load_examples(self.test_examples)


def cache_folder() -> Path:
    """Where hospitals and base models are kept between runs: `$XDG_CACHE_HOME/federated-medgpt`."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "federated-medgpt"


def hospital_settings(data: DataConfig) -> HospitalsConfig:
    """The settings of :func:`simulations.hospitals.make_hospitals` that a simulation file asks for."""
    return HospitalsConfig(**{**asdict(data), "site_shares": tuple(data.site_shares)})


def public_split(config: SimulationConfig) -> Path:
    """The file with every public question of `config` (after :func:`prepare`)."""
    return cache_folder() / f"examples-{content_hash(hospital_settings(config.data))[:12]}-public.npz"


def prepare(config: SimulationConfig, progress: Progress) -> Materials:
    """Make or find the hospitals and the public base model; safe to interrupt, finished parts are reused.

    Raises:
        ValueError: a data package is missing, or a setting does not fit the data.
    """
    root = cache_folder()
    root.mkdir(parents=True, exist_ok=True)
    settings = hospital_settings(config.data)
    tag = content_hash(settings)[:12]
    progress("hospitals", 0, 1)
    hospitals = make_hospitals(root / f"hospitals-{tag}", settings)
    progress("hospitals", 1, 1)
    public = _examples_of(hospitals, "public", public_split(config))
    test = _examples_of(hospitals, "test", root / f"examples-{tag}-test.npz")
    evaluation = root / f"examples-{tag}-evaluation-{config.evaluation.public_questions}.npz"
    if not evaluation.exists():
        chosen = [e for group in by_kind(load_examples(public)).values()
                  for e in group[: config.evaluation.public_questions]]
        save_examples(evaluation, chosen)
    base = _base_model(config, hospitals, public, progress)
    return Materials(
        hospitals=hospitals, declared=_declared(hospitals), base_model=base, base_hash=hash_model(base),
        public_examples=evaluation, test_examples=test)


def _base_model(config: SimulationConfig, hospitals: Path, public: Path, progress: Progress) -> Path:
    """The folder of the public base, made now or found."""
    if config.base.kind == "smollm2":
        progress("base model", 0, 1)
        base = smollm2_base(cache_folder(), config.base.adapted_layers)
        progress("base model", 1, 1)
        return base
    return pretrain(
        _base_examples(hospitals, public), TINY, cache_folder(), recipe=_recipe(config),
        progress=lambda done, total, loss: progress("base model", done, total))


def is_prepared(config: SimulationConfig) -> bool:
    """True when :func:`prepare` would find everything, the base model included."""
    public = public_split(config)
    hospitals = cache_folder() / f"hospitals-{content_hash(hospital_settings(config.data))[:12]}"
    if not (public.is_file() and hospitals.is_dir()):
        return False
    key = cache_key(_base_examples(hospitals, public), TINY, _recipe(config))
    return (cache_folder() / f"base-{key[:16]}").is_dir()


def _recipe(config: SimulationConfig) -> Recipe:
    recipe = Recipe(seed=config.base.seed)
    return replace(recipe, epochs={**recipe.epochs, **config.base.epochs})


def _base_examples(hospitals: Path, public: Path) -> list[Example]:
    """What the public base is trained on: every public question, and the public reports as free text."""
    return [*load_examples(public), *_impressions(hospitals / "public")]


def _examples_of(hospitals: Path, split: str, cached: Path) -> Path:
    """One split's questions, read through the site's own readers, as one file."""
    if not cached.exists():
        index = read_folder(hospitals / split, pseudonym_key=derived_secret(0, split))
        if index.refused:
            raise ValueError(f"the {split} split has unreadable items {index.reasons()}; remove {hospitals} to make "
                             "it again")
        patients = sorted(index.patients, key=lambda patient: patient.pseudonym)
        save_examples(cached, [replace(example, key=patient.pseudonym[:16]) for patient in patients
                               for source in sorted(patient.examples) for example in patient.examples[source]])
    return cached


def _impressions(folder: Path) -> list[Example]:
    """Public reports as free text: write the impression that follows from the findings."""
    with (folder / "reports.csv").open(newline="", encoding="utf-8") as file:
        return [Example(question=f"Findings: {row['Findings']} Write the impression.", answer=row["Impression"])
                for row in csv.DictReader(file)]


def _declared(hospitals: Path) -> dict[str, int]:
    """What each simulated site declares: its number of patients rounded to tens (a constant, not an exact count)."""
    sites: dict[str, int] = {}
    for folder in sorted(hospitals.glob("site-*")):
        with (folder / "questions.csv").open(newline="", encoding="utf-8") as file:
            patients = {row["PatientID"] for row in csv.DictReader(file)}
        sites[folder.name] = max(10, round(len(patients), -1))
    return sites
