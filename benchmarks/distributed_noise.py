"""What distributed noise adds to an aggregation: the share of noise, masks, the unmasked sum; CPU seconds and bytes.

    OMP_NUM_THREADS=1 python -m benchmarks.distributed_noise [--quick] [--json FILE]

One aggregation of a 4M-parameter adapter over 8 sites in this process, by the protocol's own code on both sides: each
site draws its share of noise for a sum of rounded patients, announces keys, masks, confirms and reveals shares; the
coordinator folds the uploads, unmasks and lifts the sum. The training step itself is not in it. Process CPU time; a
site's number is the median over sites and repetitions. For comparison, local noise on the same vector, and the server's
optimiser, which every site computes as well. `--quick` is one repetition, within 50 s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks._ratios import Goal, exit_code, goal_line
from model.server_optimizer import ServerOptimizer, initial_velocity
from privacy.aggregation import DistributedNoise, ServerUpdate, fewest_survivors, share_of
from privacy.dp.clipping import ClippedSum
from privacy.dp.noise import noisy_sum
from privacy.dp.noise_share import IntegerSum, add_share, ring_elements
from privacy.entropy import SystemEntropy
from privacy.identity import Roster, RosterSite, SigningKey
from privacy.messages import Plan, RunManifest, SiteTerms, SourceShare, StageSpec
from privacy.secagg.client import SiteRound
from privacy.secagg.quantize import QuantizedVector, dequantize_sum
from privacy.secagg.rings import ring_of, wire_lanes
from privacy.secagg.server import CoordinatorRound
from privacy.statistics import LANES

__all__ = ["Timings", "aggregation", "federation_of", "main"]

SITES, PARAMETERS = 8, 4 << 20
MOST_SECONDS, MOST_BYTES = 0.5, 4.0
_PATIENTS = 200
_NOISE = DistributedNoise(min_survivors=6, colluders=1, levels=1 << 18)


@dataclass
class Timings:
    """CPU seconds of one aggregation, the first two by site; bytes of a masked vector, and of all control messages."""

    noise: list[float] = field(default_factory=list)
    protocol: list[float] = field(default_factory=list)
    coordinator: float = 0.0
    vector_bytes: int = 0
    control_bytes: int = 0
    total: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @property
    def together(self) -> float:
        """One site's noise and protocol, and the coordinator."""
        return statistics.median(map(sum, zip(self.noise, self.protocol, strict=True))) + self.coordinator


@dataclass(frozen=True)
class _Federation:
    manifest: RunManifest
    roster: Roster
    keys: dict[str, SigningKey]
    coordinator_key: SigningKey
    plan: Plan


def federation_of(sites: int, parameters: int, noise: DistributedNoise = _NOISE) -> _Federation:
    """Keys, roster, manifest and one round's plan, in memory."""
    source = SystemEntropy()
    names = [f"site-{number:02d}" for number in range(1, sites + 1)]
    keys = {name: SigningKey.generate(source.random_bytes) for name in names}
    coordinator = SigningKey.generate(source.random_bytes)
    roster = Roster("bench", 1, coordinator.public_bytes(),
                    tuple(RosterSite(name, keys[name].public_bytes(), _PATIENTS) for name in names), 3, 0.5)
    stage = StageSpec("one", (SourceShare("reports", 2),), ("attention",), "b-only", 0.1, 0.0, 1, 0.05, 1.0, 100)
    manifest = RunManifest(
        federation_id="bench", run_id="run", release="0", roster_hash=roster.hash(), base_model_hash=bytes(32),
        adapter_hash=bytes(32), lora_rank=8, lora_alpha=16, privacy="patient-dp", clip_norm=0.1, target_epsilon=8.0,
        lane_share=0.1, bits=32, saturation=4.0, stages=(stage,),
        sites=tuple(SiteTerms(name, _PATIENTS, 1.0, 1e-5) for name in names),
        server=ServerUpdate(0.01, 0.9, 0.7, "adam", 0.999), distributed_noise=noise)
    dimension = parameters + wire_lanes(manifest)
    ring = ring_of(manifest, 0, dimension, sites)
    plan = Plan(
        federation_id="bench", run_id="run", roster_hash=roster.hash(), manifest_hash=manifest.hash(), round=1,
        attempt=1, stage=0, factor="B", model_hash=bytes(32), dimension=dimension, num_lanes=wire_lanes(manifest),
        bits=32, scale=ring.scale, saturation=4.0)
    return _Federation(manifest, roster, keys, coordinator, plan)


def aggregation(made: _Federation) -> Timings:
    """One aggregation, timed; `total` is the sum over sites in units of the gradient, whose patients were all zero."""
    found, plan, roster = Timings(), made.plan, made.roster
    ring = ring_of(made.manifest, 0, plan.dimension, len(roster.sites))
    share = share_of(made.manifest, 0, plan.dimension)
    assert share is not None
    clock = _Clock()
    coordinator = CoordinatorRound(
        plan=plan, roster=roster, signing_key=made.coordinator_key, ring=ring, fewest=fewest_survivors(made.manifest))
    sites = {name: SiteRound(site_id=name, signing_key=made.keys[name], roster=roster, manifest=made.manifest,
                             entropy=SystemEntropy()) for name in roster.active_ids}
    spent = dict.fromkeys(sites, 0.0)
    summed, source = IntegerSum(np.zeros(plan.dimension), float(share.levels), 0, 0), SystemEntropy()
    signed = coordinator.signed_plan()
    inbox: dict[str, bytes] = {}
    for name, site in sites.items():
        noised, seconds = clock.of(lambda: ring_elements(add_share(summed, share, source)))
        found.noise.append(seconds)
        vector = QuantizedVector(noised, ring)
        reply, spent[name] = clock.of(lambda site=site, vector=vector: site.advertise(
            SiteRound.check_plan(signed, roster=roster, manifest=made.manifest, last=None), vector))
        found.control_bytes += len(reply)
        found.coordinator += clock.of(lambda name=name, reply=reply: coordinator.receive_advertise(name, reply))[1]
    steps = (("share", coordinator.close_advertise, coordinator.receive_share),
             ("mask", coordinator.close_share, coordinator.receive_masked),
             ("confirm", coordinator.close_masked, coordinator.receive_confirm),
             ("unmask", coordinator.close_confirm, coordinator.receive_unmask))
    for step, close, receive in steps:
        inbox, seconds = clock.of(close)
        found.coordinator += seconds
        for name, body in inbox.items():
            answer, seconds = clock.of(lambda name=name, body=body, step=step: getattr(sites[name], step)(body))
            spent[name] += seconds
            parts = answer if step == "mask" else (answer,)
            found.control_bytes += len(parts[0])
            found.vector_bytes = len(parts[1]) if step == "mask" else found.vector_bytes
            found.coordinator += clock.of(lambda name=name, parts=parts, to=receive: to(name, *parts))[1]
    found.total, seconds = clock.of(lambda: dequantize_sum(coordinator.finish(), ring))
    found.coordinator += seconds
    found.protocol = list(spent.values())
    return found


class _Clock:
    """Process CPU time of one call."""

    def of(self, work: Callable[[], Any]) -> tuple[Any, float]:
        begin = time.process_time()
        value = work()
        return value, time.process_time() - begin


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the goals; exit code 1 if one is short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repetition, end within 50 s")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args(argv)
    made = federation_of(SITES, PARAMETERS)
    runs = [aggregation(made) for _ in range(1 if arguments.quick else 7)]
    best = statistics.median(run.together for run in runs)
    figures = {
        "sites": SITES, "parameters": PARAMETERS, "levels": _NOISE.levels, "repetitions": len(runs),
        "noise_s": statistics.median(s for run in runs for s in run.noise),
        "protocol_s": statistics.median(s for run in runs for s in run.protocol),
        "coordinator_s": statistics.median(run.coordinator for run in runs), "together_s": best,
        "bytes_a_coordinate": runs[0].vector_bytes / made.plan.dimension,
        "control_bytes_a_site": runs[0].control_bytes / SITES, **_beside(made)}
    for name, value in figures.items():
        print(f"{name:>22}: {value:.4g}" if isinstance(value, float) else f"{name:>22}: {value}")
    goals = [Goal("added-seconds-site-and-coordinator", MOST_SECONDS, best),
             Goal("wire-bytes-a-parameter", MOST_BYTES, figures["bytes_a_coordinate"])]
    for goal in goals:
        print(goal_line(goal))
    if arguments.json:
        arguments.json.write_text(json.dumps({**figures, "together_all_s": [run.together for run in runs]}, indent=1))
    return exit_code(goals)


def _beside(made: _Federation) -> dict[str, float]:
    """For comparison: local noise on a vector of that length, and one step of the server's Adam on it."""
    size, clock = PARAMETERS, _Clock()
    local = ClippedSum(np.zeros(size + len(LANES)), 0.1, 0, 0)
    noised, seconds = clock.of(lambda: noisy_sum(local, 1.0, SystemEntropy()))
    server = made.manifest.server
    adam = ServerOptimizer(0.001, server.momentum, server.optimizer, server.second_decay)
    adapter = np.zeros(size, dtype=np.float32)
    first = adam.step(adapter, initial_velocity(size), np.arange(size), noised[:size], 80.0)
    step = clock.of(lambda: adam.step(first[0], first[1], np.arange(size), noised[:size], 80.0))[1]
    return {"local_noise_s": seconds, "server_adam_s": step}


if __name__ == "__main__":
    raise SystemExit(main())
