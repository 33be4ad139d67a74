"""Impressions in a simulation: hospitals of texts, the whole federation on a small LLaMA, table, plot and page."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from configs.load import load_config
from configs.schema import ConfigError, SimulationConfig
from model.gguf_file import open_gguf
from model.smollm2 import base_of_gguf
from simulations.arms import ArmJob, run_arm
from simulations.hospitals import HospitalsConfig, content_hash, make_hospitals
from simulations.impression_report import impression_rows, impression_table
from simulations.materials import prepare
from simulations.packages import load_reports
from simulations.site_folder import WRITE_QUESTION
from simulations.studies import impressions
from tests.model.made_gguf import small_llama, write_gguf

SMALL = ["data.max_reports=60", "data.num_public_reports=8", "data.num_test_reports=12", "site_min_patients=5",
         "evaluation.answers=3", "evaluation.answer_tokens=4"]


def arm(name: str, losses: list[float], epsilon: float | None = None) -> dict[str, Any]:
    """A row as `arm.json` has it, of four patients."""
    pairs = [[loss / 4, 1.0] for loss in losses]
    return {"name": name, "seconds": 3.0, "cpu_seconds": 2.0, "patients": ["a", "b", "c", "d"],
            "tokens": [2, 3, 2, 3], "loss": losses, "rounds": [],
            "answers": {"ROUGE-L": pairs, "finding F1": pairs, "abnormality F1": pairs},
            "privacy": {} if epsilon is None else {"site-1": {"epsilon": epsilon, "delta": 1e-5}}}


def test_the_preset_loads_and_a_tiny_base_keeps_all_layers() -> None:
    config = load_config(SimulationConfig, "configs/simulations/smollm2.yaml", [])
    assert config.base.kind == "smollm2" and config.base.adapted_layers == 2
    assert config.privacy.target_epsilon == 8
    with pytest.raises(ConfigError, match="belongs to kind smollm2"):
        load_config(SimulationConfig, "configs/simulations/smoke.yaml", ["base.adapted_layers=1"])
    with pytest.raises(ConfigError, match="report_questions=impression"):
        load_config(SimulationConfig, "configs/simulations/smoke.yaml", ["base.kind=smollm2"])


def test_hospitals_of_texts_have_one_question_a_patient_and_no_pictures(tmp_path: Path) -> None:
    config = HospitalsConfig(num_public_reports=5, num_test_reports=6, max_reports=20, report_questions="impression")
    folder = make_hospitals(tmp_path / "hospitals", config)
    reports = {f"CXR{report.number}": report for report in load_reports()}
    seen: set[str] = set()
    for name in ("site-1", "site-2", "site-3", "site-4", "public", "test"):
        with (folder / name / "questions.csv").open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        assert not (folder / name / "dicom").exists()
        assert all(row["Answer"] == reports[row["PatientID"]].impression and row["Kind"] == "question" for row in rows)
        assert all(row["Question"] == WRITE_QUESTION.format(findings=reports[row["PatientID"]].findings)
                   for row in rows)
        patients = {row["PatientID"] for row in rows}
        assert len(patients) == len(rows) and not patients & seen
        seen |= patients
    assert len(seen) == 31


def test_other_hospitals_keep_their_name() -> None:
    """Their folders are found again by it, whatever settings were added since."""
    plain, facts = HospitalsConfig(), {"p": {"version": "1", "sha256": "2"}}
    assert content_hash(plain, facts) == "4efe594056ab304c83797d51689efc6079bbd342ff103662aa38a7fea2712b4f"
    assert content_hash(HospitalsConfig(report_questions="impression"), facts) != content_hash(plain, facts)


@pytest.mark.slow
def test_a_small_llama_goes_through_the_whole_federation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a ledger, a cache of activations at each site, and nothing of a report in what is written."""
    monkeypatch.setitem(os.environ, "XDG_CACHE_HOME", str(tmp_path / "cache"))

    def small(cache: Path, layers: int) -> Path:
        if not (cache / "base-small").exists():
            path = write_gguf(tmp_path / "a.gguf", small_llama())
            base_of_gguf(open_gguf(path), cache / "base-small", name="small", adapted_layers=layers)
        return cache / "base-small"

    monkeypatch.setattr("simulations.materials.smollm2_base", small)
    config = load_config(SimulationConfig, "configs/simulations/smollm2.yaml", SMALL)
    materials = prepare(config, lambda what, done, total: None)
    rows = [run_arm(ArmJob(name, config, materials, tmp_path / name, "in-process"))
            for name in ("base", "federated-dp", "federated")]
    assert 7.5 < rows[1]["privacy"]["site-1"]["epsilon"] <= 8
    assert sum(rows[2]["loss"]) < sum(rows[0]["loss"])
    assert rows[1]["loss"] != rows[0]["loss"] and len(rows[1]["loss"]) == 12
    kept = list((tmp_path / "cache" / "federated-medgpt").glob("hospitals-*-activations/site-*/??/*.npy"))
    texts = 0  # two patients of a site with the same text share an entry
    for folder in materials.hospitals.glob("site-*"):
        with (folder / "questions.csv").open(newline="", encoding="utf-8") as stream:
            texts += len({(row["Question"], row["Answer"]) for row in csv.DictReader(stream)})
    assert len(kept) == texts >= 55
    written = (tmp_path / "federated-dp" / "arm.json").read_text(encoding="utf-8").lower()
    assert "findings:" not in written and "impression\"" not in written
    assert "federated-dp" in impression_table(impression_rows(rows))


def test_the_committed_page_is_what_the_committed_numbers_say() -> None:
    root = Path(__file__).resolve().parents[2]
    result = json.loads((root / "docs" / "results" / "smollm2.json").read_text(encoding="utf-8"))
    assert impressions.table(result) in (root / "docs" / "results.md").read_text(encoding="utf-8")


def test_table_and_plot_come_from_the_numbers_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeds = {seed: [arm("base", [4.0, 6.0, 4.0, 6.0]), arm("federated", [3.0 - seed / 10, 4.5, 3.0, 4.5]),
                    arm("federated-dp", [3.6, 5.4, 3.6 + seed / 10, 5.4], 7.99)] for seed in (1, 2, 3)}
    result = impressions.gathered(seeds)
    assert list(result["rows"]["base"]) == ["1"] and "a" not in json.dumps(result["rows"]["base"]["1"]["patients"])
    (tmp_path / "images").mkdir()
    (tmp_path / "result.json").write_text(json.dumps(result))
    page = tmp_path / "page.md"
    page.write_text("\n".join(["before", impressions._MARKS[0], "old", impressions._MARKS[1], "after"]))
    assert impressions.main(["--result", str(tmp_path / "result.json"), "--page", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after") and "old" not in text
    assert "| base | 2.000 [" in text and "| federated-dp | 1.820 [" in text and "| 7.99 |" in text
    assert "-0.510, -0.520, -0.530 | -0.520 ± 0.025 |" in text
    assert (tmp_path / "images" / "smollm2.png").read_bytes().startswith(b"\x89PNG")
    assert text in page.read_text() and impressions.table(result) in capsys.readouterr().out
    page.write_text("no marks")
    with pytest.raises(ValueError, match="lacks the marks"):
        impressions.main(["--result", str(tmp_path / "result.json"), "--page", str(page)])
