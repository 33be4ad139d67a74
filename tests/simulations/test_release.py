"""A real run of the tiny federation, played through the protocol, becomes a release that holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peft import PeftModel

import coordinator.cli
from coordinator import checkpoint
from coordinator.export_run import export_run
from model.adapted import open_adapted
from model.backbone import load_base
from model.spec import LoraSpec
from privacy.identity import SigningKey
from simulations.engines import SimulatedRun, run_engine


def test_a_run_is_exported_in_both_formats_and_verified(
    federation: Any, prepared: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = federation()
    run_engine("in-process", SimulatedRun(files.coordinator_file, files.site_files, 1, ()))
    folder = Path(files.coordinator_file).parent
    key = SigningKey.from_private_bytes((folder / "coordinator.key").read_bytes())
    state = checkpoint.latest(files.output / "checkpoints", files.manifest.hash().hex())
    base = prepared.materials.base_model
    assert state is not None and state.plan
    for kind in ("peft", "merged"):
        export_run(folder, tmp_path / kind, key, kind)
        assert coordinator.cli.main(["verify-release", str(tmp_path / kind), "--roster", str(folder / "roster.bin"),
                                     "--base", str(base)]) == 0
        printed = capsys.readouterr().out
        assert "round 6 attested by site-1, site-2, site-3, site-4" in printed and "names the run only" not in printed
    loaded = PeftModel.from_pretrained(load_base(base).model, str(tmp_path / "peft"))
    ours = open_adapted(str(base), LoraSpec(rank=8, alpha=16))
    assert np.array_equal(ours.layout.read(loaded), state.average.astype(np.float32).astype(np.float64))


def test_a_run_without_privacy_says_so(
    federation: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = federation(mode="none")
    run_engine("in-process", SimulatedRun(files.coordinator_file, files.site_files, 1, ()))
    folder = Path(files.coordinator_file).parent
    key = SigningKey.from_private_bytes((folder / "coordinator.key").read_bytes())
    export_run(folder, tmp_path / "out", key)
    assert coordinator.cli.main(["verify-release", str(tmp_path / "out")]) == 0
    assert "it claims NO differential privacy" in capsys.readouterr().out
    card = (tmp_path / "out" / "README.md").read_text()
    assert "This run had NO differential privacy." in card and "this run has no differential privacy" in card
