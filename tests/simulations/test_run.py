"""`simulate run` as a user types it: files, table, continuation, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICK = [
    "data.max_reports=120", "data.max_images=16", "data.num_public_reports=60", "data.num_public_images=8",
    "data.num_test_reports=30", "data.num_test_images=4", "evaluation.public_questions=10",
    "base.epochs={normal: 1, impression: 0, alike: 1, free: 0}", "site_min_patients=10",
]
SIMULATE = "import sys; from simulations.cli import main; sys.exit(main(sys.argv[1:]))"


def simulate(*arguments: str, cache: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if cache is not None:
        environment["XDG_CACHE_HOME"] = cache
    return subprocess.run([sys.executable, "-c", SIMULATE, *arguments], cwd=ROOT, env=environment, check=False,
                          capture_output=True, text=True, timeout=280)


def test_a_run_leaves_report_page_adapter_and_table(prepared: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["run", "configs/simulations/smoke.yaml", "--out", str(out), "--json", *QUICK,
               "arms.names=[base,alone,pooled,federated-dp]"]
    done = simulate(*command, cache=os.environ["XDG_CACHE_HOME"])
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert [row["name"] for row in facts["rows"]] == [
        "base", "alone:site-1", "alone:site-2", "alone:site-3", "alone:site-4", "pooled", "federated-dp"]
    private = facts["rows"][-1]
    assert 7.7 < max(private["epsilon"].values()) <= 8.0
    assert private["bytes_from_sites"] > 0 and set(private["accuracy"]) == {"normal", "impression", "alike"}
    assert facts["rounds"]["federated-dp"][2]["missing"] == {"site-3": "sa_mask: transport"}
    assert {path.name for path in (out / "adapter").iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    page = (out / "report.html").read_text()
    assert "<svg" in page and "nothing in it is private" in page and "http://" not in page.replace(
        "http://www.w3.org", "").replace("http://purl.org", "").replace("http://creativecommons.org", "")
    assert all(sample["base"] and sample["federated-dp"] for sample in facts["samples"])

    before = (out / "arms" / "federated-dp" / "arm.json").stat().st_mtime_ns
    again = simulate(*command, cache=os.environ["XDG_CACHE_HOME"])
    assert again.returncode == 0
    assert (out / "arms" / "federated-dp" / "arm.json").stat().st_mtime_ns == before, "a finished row was trained again"

    other = simulate(*command[:-1], "arms.names=[base]", cache=os.environ["XDG_CACHE_HOME"])
    assert other.returncode == 2 and "another configuration" in other.stderr


@pytest.mark.parametrize(("arguments", "expected"), [
    (["run", "configs/simulations/smok.yaml"], "did you mean simulations/smoke.yaml"),
    (["run", "configs/simulations/smoke.yaml", "federaton.bits=16"], "did you mean federation"),
    (["run", "configs/simulations/smoke.yaml", "federation.bits=17"], "must be 16, 24 or 32"),
    (["run", "configs/simulations/smoke.yaml", "curriculum=curriculum/smke.yaml"], "mean curriculum/smoke.yaml"),
    (["run", "configs/simulations/smoke.yaml", "rounds"], "'rounds' is not a setting; write KEY=VALUE"),
    (["make-hospitals", "x", "seeed=3"], "did you mean seed"),
])
def test_a_users_mistake_is_one_sentence(arguments: list[str], expected: str, tmp_path: Path) -> None:
    done = simulate(*arguments, cache=str(tmp_path))
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)  # starts Ray, and may have to make the base model first; minutes on a busy machine
def test_the_flower_engine_gives_the_same_adapter_bit_for_bit(prepared: Any, tmp_path: Path) -> None:
    adapters = []
    for engine in ("in-process", "flower"):
        out = tmp_path / engine
        done = simulate("run", "configs/simulations/smoke.yaml", "--out", str(out), "--engine", engine, *QUICK,
                        "arms.names=[federated-dp]", cache=os.environ["XDG_CACHE_HOME"])
        assert done.returncode == 0, done.stderr
        adapters.append((out / "adapter" / "adapter_model.safetensors").read_bytes())
    assert adapters[0] == adapters[1]
