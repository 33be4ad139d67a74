"""Many simulated sites in one process, for `benchmarks.federation`: memory a further site, time beside the training.

Each number of sites is a process of its own (`main`), which plays a federation with `simulations.engines` on one core:
its peak resident size, the seconds that its rounds took, and the seconds of them that were local training
(`site_client.training.run_local_steps` alone: no indexing, no rehearsal, no ledger).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from benchmarks._federation_processes import Processes, peak_memory, wait_for
from configs.load import load_config
from configs.schema import CurriculumConfig, DataConfig, EvaluationConfig, LoraConfig, SimulationConfig
from simulations.hospitals import HospitalsConfig, make_hospitals
from simulations.materials import Materials

__all__ = ["LOCAL_STEPS", "curriculum_file", "main", "many_sites"]

LOCAL_STEPS = 8  # as in the instruction stage of configs/curriculum/three-stage.yaml
_REPORTS_A_SITE = 16


def curriculum_file(path: Path, *, rounds: int, local_steps: int, sampling_rate: float = 0.25) -> Path:
    """One stage that trains both factors of every adapter."""
    path.write_text(yaml.safe_dump({"stages": [{
        "name": "bench", "sources": {"reports": 1, "patches": 1}, "groups": ["attention", "projector"],
        "learning_rate": 0.5, "learning_rate_without_privacy": 0.5, "local_steps": local_steps,
        "sampling_rate": sampling_rate, "schedule": "both", "rounds": rounds, "reply_after_s": 0}]}))
    return path


def many_sites(folder: Path, materials: Materials, counts: tuple[int, int], rank: int, rounds: int) -> dict[str, Any]:
    """Figures of a run with each number of sites: `few` for two rounds (memory alone), `many` for all of them."""
    hospitals = make_hospitals(folder / "hospitals", HospitalsConfig(
        num_public_reports=20, num_test_reports=20, num_public_images=1, num_test_images=1,
        max_reports=_REPORTS_A_SITE * counts[1], max_images=counts[1],
        site_shares=(1 / counts[1],) * counts[1]))
    found: dict[str, Any] = {"counts": counts, "rounds": rounds, "rank": rank}
    with Processes(folder) as processes:
        for name, count, length in (("few", counts[0], 2), ("many", counts[1], rounds)):
            out = folder / f"{name}.json"
            process = processes.start(
                name, "benchmarks._federation_many", folder / name, "--sites", str(count), "--rounds", str(length),
                "--rank", str(rank), "--hospitals", hospitals, "--base-model", materials.base_model,
                "--base-hash", materials.base_hash.hex(), "--public-examples", materials.public_examples, "--out", out)
            wait_for(lambda: process.poll() is not None, 7200, f"the run of {count} sites")  # noqa: B023
            if process.returncode:
                raise RuntimeError(f"the run of {count} sites failed: {processes.tail(name)}")
            found[name] = json.loads(out.read_text())
    few, many = found["few"], found["many"]
    found["bytes_a_site"] = (many["peak"] - few["peak"]) / (counts[1] - counts[0])
    return found


def main(argv: list[str] | None = None) -> int:
    """Play one federation; write its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    for name in ("--sites", "--rounds", "--rank"):
        parser.add_argument(name, type=int, required=True)
    for name in ("--hospitals", "--base-model", "--public-examples", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--base-hash", required=True)
    arguments = parser.parse_args(argv)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    arguments.out.write_text(json.dumps(_played(arguments)))
    return 0


def _played(arguments: argparse.Namespace) -> dict[str, Any]:
    from model.adapted import open_adapted
    from model.adapter import adapter_hash
    from model.spec import LoraSpec
    from simulations.engines import SimulatedRun, run_engine
    from simulations.federation import lay_out

    trained = _timed_training()
    arguments.folder.mkdir()
    names = sorted(path.name for path in arguments.hospitals.glob("site-*"))
    file = curriculum_file(arguments.folder / "curriculum.yaml", rounds=arguments.rounds, local_steps=LOCAL_STEPS)
    config = SimulationConfig(
        name="bench", curriculum=str(file), site_min_patients=10, site_max_epsilon=100.0,
        data=DataConfig(site_shares=[1 / len(names)] * len(names)), lora=LoraConfig(rank=arguments.rank),
        evaluation=EvaluationConfig(every_rounds=arguments.rounds))
    lora = LoraSpec(rank=arguments.rank, alpha=config.lora.alpha, groups=tuple(config.lora.groups))
    adapted = open_adapted(str(arguments.base_model), lora)
    files = lay_out(
        arguments.folder, config, load_config(CurriculumConfig, str(file)), hospitals=arguments.hospitals,
        declared=dict.fromkeys(names[: arguments.sites], 20), base_model=arguments.base_model,
        base_hash=bytes.fromhex(arguments.base_hash), adapter_hash=adapter_hash(adapted.initial),
        public_examples=arguments.public_examples, mode="patient-dp")
    run_engine("in-process", SimulatedRun(files.coordinator_file, files.site_files, config.seed))
    lines = (files.output / "progress.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    rounds = [event for event in events if event["event"] == "round"]
    begin = next(event["time"] for event in events if event["event"] == "begin")
    return {
        "peak": peak_memory([os.getpid()]), "adapter_bytes": 4 * adapted.layout.size,
        "seconds": sum(event["seconds"] for event in rounds), "wall": rounds[-1]["time"] - begin,
        "training_s": sum(trained), "trainings": len(trained),
        "summed": [len(event["summed"]) for event in rounds], "data": asdict(config.data)["max_reports"]}


def _timed_training() -> list[float]:
    """The seconds of each local training from now on."""
    from site_client import session

    taken: list[float] = []
    train = session.run_local_steps

    def timed(*given: Any, **named: Any) -> Any:
        begin = time.monotonic()
        try:
            return train(*given, **named)
        finally:
            taken.append(time.monotonic() - begin)

    session.run_local_steps = timed
    return taken
