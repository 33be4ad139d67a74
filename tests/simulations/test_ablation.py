"""`simulate ablate`: what each row leaves out, that plain sums are the federation's, and the table over seeds."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from configs.ablation import PARTS, AblationConfig
from configs.load import load_config
from configs.schema import CurriculumConfig, SimulationConfig
from coordinator.checkpoint import latest
from model.backbone import load_base
from model.evaluate import answer
from model.inputs import Example
from simulations import ablation
from simulations.ablation import BASE, FULL, QUICK_SETTINGS, ablation_rows, run_ablation, variants
from simulations.ablation_report import ablation_facts, table_text, write_ablation
from simulations.arms import ArmJob, run_arm
from simulations.blind_vision import blinded
from simulations.run import SimulationFailedError

ROOT = Path(__file__).resolve().parents[2]
FILE = "configs/simulations/ablate.yaml"


def quick(*settings: str) -> AblationConfig:
    return load_config(AblationConfig, FILE, [*QUICK_SETTINGS, *settings])


def test_the_shipped_file_drops_every_part_of_the_demo_over_three_seeds() -> None:
    config = load_config(AblationConfig, FILE)
    assert (config.simulation, config.seeds, config.drop) == ("simulations/demo.yaml", [0, 1, 2], list(PARTS))
    names = [row.name for row in ablation_rows(config)]
    assert names == [BASE, FULL, "no-vision", "no-projector", "no-stage-alignment", "no-stage-multi-image",
                     "no-stage-instruction", "no-privacy", "no-secure-aggregation", "no-alternation"]  # fmt: skip


def test_what_each_row_leaves_out() -> None:
    rows = {row.name: row for row in ablation_rows(quick())}
    full = rows[FULL]
    assert rows["no-vision"] == replace(full, name="no-vision", dropped="vision", blind=True)
    assert rows["no-projector"].groups == ("attention",)
    assert [stage.groups for stage in rows["no-projector"].stages] == [["attention"]] * 2  # alignment trains no other
    assert [stage.name for stage in rows["no-stage-multi-image"].stages] == ["alignment", "instruction"]
    assert (rows["no-privacy"].arm, rows["no-secure-aggregation"].arm) == ("federated", "plain-sums-dp")
    assert {stage.schedule for stage in rows["no-alternation"].stages} == {"both"}
    assert {stage.schedule for stage in full.stages} == {"alternate"} and rows[BASE].arm == "base"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [(["drop=[visions]"], "must be one of vision"), (["drop=[]"], "at least one part"), (["seeds=[1,1]"], "each once"),
     (["seeds=[-1]"], "from 0 up"), (["processes=0"], "greater than 0")])
def test_settings_that_are_refused(settings: list[str], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        quick(*settings)


def test_a_part_without_which_nothing_is_left_is_refused() -> None:
    config = load_config(SimulationConfig, "simulations/smoke.yaml")
    curriculum = load_config(CurriculumConfig, config.curriculum)
    only = CurriculumConfig(stages=curriculum.stages[:1])
    for part, words in (("stages", "stage alignment"), ("projector", "projector")):
        with pytest.raises(ValueError, match=f"without {words} nothing is left to train"):
            variants(config, only, [part])


def test_plain_sums_are_the_federations_up_to_rounding(prepared: Any, tmp_path: Path) -> None:
    """Same draws and noise: only the ring's rounding differs, 2 * saturation / 2^bits a site and coordinate."""
    config = replace(prepared.config, faults=[])
    adapters = {}
    job = ArmJob("federated-dp", config, prepared.materials, tmp_path / "masked", "in-process")
    masked = run_arm(job)
    state = latest(tmp_path / "masked" / "coordinator" / "checkpoints", masked["manifest"]["hash"])
    assert state is not None
    adapters["masked"] = state.average
    seen: list[np.ndarray] = []

    from simulations import arms

    train = arms.train_by_plain_sums
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arms, "train_by_plain_sums", lambda *a, **k: seen.append(train(*a, **k)) or seen[-1])
        plain = run_arm(ArmJob("plain-sums-dp", config, prepared.materials, tmp_path / "plain", "in-process"))
    moved = np.abs(adapters["masked"]).max()
    assert 0 < np.abs(seen[0] - adapters["masked"]).max() < 1e-3 * moved
    for site, spent in plain["privacy"].items():
        assert spent["epsilon"] == pytest.approx(masked["privacy"][site]["epsilon"])


def test_a_blind_vision_answers_the_same_whatever_it_is_shown(prepared: Any) -> None:
    blind = blinded(prepared.materials)
    assert blind.base_hash != prepared.materials.base_hash and blinded(prepared.materials) == blind
    base, seeing = load_base(blind.base_model), load_base(prepared.materials.base_model)
    pictures = [np.full((32, 32, 3), value, dtype=np.uint8) for value in (0, 255)]
    rows = [Example("Are the two patches alike?", "yes", images=(picture, picture)) for picture in pictures]
    assert len({answer(base.model, row, base.tokenizer, base.spec) for row in rows}) == 1
    logits = [_logits(model, rows) for model in (base, seeing)]
    assert (logits[0][0] == logits[0][1]).all() and (logits[1][0] != logits[1][1]).any()


def _logits(base: Any, rows: list[Example]) -> list[np.ndarray]:
    from model.inputs import collate, encode
    from model.loss import answer_logits

    return [answer_logits(base.model, collate([encode(row, base.tokenizer, base.spec)])).detach().numpy()
            for row in rows]  # fmt: skip


def arm(right: int, *, epsilon: float | None = None) -> dict[str, Any]:
    """Ten patients a kind, the first `right` of them answered well."""
    test = {kind: {"correct": [int(n < right) for n in range(10)], "patients": [f"p{n}" for n in range(10)]}
            for kind in ("normal", "impression", "alike")}
    facts: dict[str, Any] = {"test": test, "seconds": 2.0}
    return facts if epsilon is None else {**facts, "privacy": {"a": {"epsilon": epsilon, "delta": 1e-5}}}


def test_the_table_is_over_all_seeds_and_differences_are_to_everything(tmp_path: Path) -> None:
    config = quick("drop=[privacy]", "seeds=[0,1]")
    results = {0: {BASE: arm(2), FULL: arm(6, epsilon=7.9), "no-privacy": arm(8)},
               1: {BASE: arm(4), FULL: arm(8, epsilon=7.8), "no-privacy": arm(9)}}
    facts = ablation_facts(config, ablation_rows(config), results)
    base, full, private = facts["rows"]
    assert full["accuracy"]["normal"][0] == pytest.approx(0.7) and full["seeds"]["normal"] == [0.6, 0.8]
    assert private["difference"]["alike"][0] == pytest.approx(0.15) and full["difference"] == {}
    assert (full["epsilon"], private["epsilon"]) == (7.9, None) and base["difference"]["normal"][2] < 0
    write_ablation(tmp_path, facts)
    text = (tmp_path / "ablation.md").read_text()
    assert text == table_text(facts) and "| privacy | 85.0% [" in text and "seeds 0, 1 together" in text
    assert json.loads((tmp_path / "report.json").read_text())["rows"][1]["name"] == FULL
    with Image.open(tmp_path / "ablation.png") as picture:
        assert picture.format == "PNG" and picture.size[0] > 600


def test_another_ablation_in_the_same_folder_and_a_failing_row(
    prepared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablation, "prepare", lambda config, show: prepared.materials)
    monkeypatch.setattr(ablation, "ProcessPoolExecutor", _Here)
    said = io.StringIO()
    trained: list[str] = []

    def run(job: ArmJob) -> dict[str, Any]:
        if not (job.folder / "arm.json").is_file():
            trained.append(job.folder.name)
            if len(trained) == 2:
                raise RuntimeError("the power went")
            (job.folder / "arm.json").write_text(json.dumps(arm(5)))
        return dict(json.loads((job.folder / "arm.json").read_text()))

    monkeypatch.setattr(ablation, "run_arm", run)
    config = quick("drop=[alternation]", "processes=1")
    with pytest.raises(SimulationFailedError, match="row full of seed 0 failed: the power went"):
        run_ablation(config, tmp_path, Console(file=said))
    results = run_ablation(config, tmp_path, Console(file=said))
    assert trained == [BASE, FULL, "no-alternation", FULL] and list(results[0]) == [BASE, FULL, "no-alternation"]
    written = load_config(CurriculumConfig, tmp_path / "seed-0" / "no-alternation" / "curriculum.yaml")
    assert {stage.schedule for stage in written.stages} == {"both"}
    with pytest.raises(ValueError, match="holds another ablation"):
        run_ablation(quick("drop=[privacy]"), tmp_path, Console(file=said))


class _Here:
    """A pool that runs each job at once, in this process."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Any, job: ArmJob) -> Any:
        from concurrent.futures import Future

        future: Future[Any] = Future()
        try:
            future.set_result(work(job))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, **_: Any) -> None:
        pass


@pytest.mark.demos
@pytest.mark.slow
@pytest.mark.timeout(900)  # ten federations of seconds each, minutes on a busy machine
def test_the_quick_ablation_from_end_to_end(prepared: Any, tmp_path: Path) -> None:
    code = "import sys; from simulations.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "ablate", FILE, "--quick", "--out", str(tmp_path / "out"), "--json"], cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        check=False)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert len(facts["rows"]) == 10 and (tmp_path / "out" / "ablation.png").is_file()
    rows = {row["name"]: row for row in facts["rows"]}
    assert 7.9 < rows["no-secure-aggregation"]["epsilon"] <= 8 and rows["no-privacy"]["epsilon"] is None
    assert rows["no-secure-aggregation"]["accuracy"] == rows[FULL]["accuracy"]
