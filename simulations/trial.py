"""`simulate make-trial`: hospitals, base model and public questions for a first real federation on one machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from configs.load import load_config
from configs.schema import SimulationConfig
from simulations.materials import Materials, Progress, prepare

__all__ = ["make_trial"]


def make_trial(out: Path, config: str, progress: Progress) -> dict[str, Any]:
    """Copy the small hospitals and the tiny base model of a simulation file into `out`, whole or not at all.

    Args:
        out: new folder: `site-1` and so on (DICOM and tables), `base` (model folder), `public.npz` (questions).
        config: a simulation file; its hospitals and base are made once and kept in the cache folder.
        progress: called with (what, done, total).

    Returns:
        {"folder", "sites": {site: declared patients}}.

    Raises:
        ValueError: `out` exists, a data package is missing, or a setting does not fit the data.
    """
    if out.exists():
        raise ValueError(f"{out} exists; name a new folder, or remove it to make it again")
    materials = prepare(load_config(SimulationConfig, config, []), progress)
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    _copy(materials, partial)
    partial.replace(out)
    return {"folder": str(out), "sites": materials.declared}


def _copy(materials: Materials, target: Path) -> None:
    for site in materials.declared:
        shutil.copytree(materials.hospitals / site, target / site)
    shutil.copytree(materials.base_model, target / "base")
    shutil.copyfile(materials.public_examples, target / "public.npz")
