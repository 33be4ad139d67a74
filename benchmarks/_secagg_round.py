"""One whole round of the secure aggregation in memory, recorded, so that a coordinator can be measured again on it.

The coordinator draws nothing, so the recorded bytes are valid for a fresh `CoordinatorRound` of the same plan.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from privacy.entropy import SystemEntropy
from privacy.identity import Roster, RosterSite, SigningKey
from privacy.messages import LedgerMark, Plan, RunManifest, SiteTerms, SourceShare, StageSpec
from privacy.secagg.client import SiteRound
from privacy.secagg.params import RingParams, ring_params
from privacy.secagg.quantize import dequantize_sum, quantize
from privacy.secagg.server import CoordinatorRound

__all__ = ["Federation", "Recording", "Replay", "record", "replay"]

SATURATION = 0.5
STEPS = range(5)


class Federation:
    """`n` sites, one coordinator, one manifest; vectors of `dimension` coordinates on the wire at `bits` each."""

    def __init__(self, n: int, dimension: int, bits: int = 24) -> None:
        draw = SystemEntropy().random_bytes
        self.ids = tuple(f"site-{i:03d}" for i in range(1, n + 1))
        self.keys = {site: SigningKey.generate(draw) for site in self.ids}
        self.coordinator_key = SigningKey.generate(draw)
        entries = tuple(RosterSite(site, self.keys[site].public_bytes(), 200) for site in self.ids)
        self.roster = Roster("bench", 1, self.coordinator_key.public_bytes(), entries, 3, 0.0)
        self.ring: RingParams = ring_params(bits, SATURATION, n)
        stage = StageSpec(
            "one", (SourceShare("reports", 2),), ("attention",), "alternate", 0.1, 0.9, 4, 0.1, 1.0, 9)
        self.manifest = RunManifest(
            federation_id="bench", run_id="run", release="0", roster_hash=self.roster.hash(),
            base_model_hash=bytes(32), adapter_hash=bytes(32), lora_rank=8, lora_alpha=16, privacy="patient-dp",
            clip_norm=1.0, target_epsilon=8.0, lane_share=0.1, bits=bits, saturation=SATURATION, stages=(stage,),
            sites=tuple(SiteTerms(site, 200, 1.0, 1e-5) for site in self.ids))
        self.plan = Plan(
            federation_id="bench", run_id="run", roster_hash=self.roster.hash(), manifest_hash=self.manifest.hash(),
            round=1, attempt=1, stage=0, factor="B", model_hash=bytes(32), dimension=dimension, num_lanes=0, bits=bits,
            scale=self.ring.scale, saturation=SATURATION)

    def site(self, site_id: str) -> SiteRound:
        """That site's side of the round; like a real one it states how far its ledger is with its upload."""
        key = self.keys[site_id]
        return SiteRound(site_id=site_id, signing_key=key, roster=self.roster, manifest=self.manifest,
                         entropy=SystemEntropy(),
                         on_masking=lambda: LedgerMark.make(site_id, 2, bytes(32), "bench", key))

    def coordinator(self) -> CoordinatorRound:
        """A fresh coordinator."""
        return CoordinatorRound(plan=self.plan, roster=self.roster, signing_key=self.coordinator_key)


@dataclass
class Recording:
    """What every site sent in every step (a masked step: header and packed vector), and what it cost it.

    seconds: CPU seconds a site, summed over its steps, without training, by site. up, down: bytes a site.
    """

    federation: Federation
    sent: list[dict[str, Any]] = field(default_factory=lambda: [{} for _ in STEPS])
    seconds: dict[str, float] = field(default_factory=dict)
    up: dict[str, int] = field(default_factory=dict)
    down: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Replay:
    """CPU seconds of a coordinator: `control` up to the uploads, `sums` from the first upload to the real sum, and the
    part of `sums` that folds uploads, SHA-256 included. peak_bytes: 0 unless traced."""

    control: float
    sums: float
    fold: float
    total: npt.NDArray[np.float64]
    peak_bytes: int = 0


def record(federation: Federation, vector: npt.NDArray[np.float32], dropped: int) -> Recording:
    """Run a round in which the last `dropped` sites fall silent before their upload; everyone uploads `vector`."""
    made = Recording(federation)
    coordinator = federation.coordinator()
    sites = {site: federation.site(site) for site in federation.ids}
    silent = set(federation.ids[len(federation.ids) - dropped :])
    inbox: Mapping[str, bytes] = dict.fromkeys(federation.ids, coordinator.signed_plan())
    for step in STEPS:
        for site in inbox:
            if step < 2 or site not in silent:
                begin = time.process_time()
                reply = _reply(federation, sites[site], vector, step, inbox[site])
                made.seconds[site] = made.seconds.get(site, 0.0) + time.process_time() - begin
                made.sent[step][site] = reply
                parts = reply if step == 2 else (reply,)
                made.up[site] = made.up.get(site, 0) + sum(memoryview(part).nbytes for part in parts)
                made.down[site] = made.down.get(site, 0) + len(inbox[site])
                _deliver(coordinator, step, site, reply)
        if step < 4:
            inbox = _close(coordinator, step)
    return made


def _reply(federation: Federation, site: SiteRound, vector: npt.NDArray[np.float32], step: int, inbox: bytes) -> Any:
    if step == 0:
        plan = SiteRound.check_plan(inbox, roster=federation.roster, manifest=federation.manifest, last=None)
        return site.advertise(plan, quantize(vector, federation.ring))
    return (site.share, site.mask, site.confirm, site.unmask)[step - 1](inbox)


def _deliver(to: CoordinatorRound, step: int, site: str, reply: Any) -> None:
    if step == 2:
        to.receive_masked(site, *reply)
    else:
        receivers = {0: to.receive_advertise, 1: to.receive_share, 3: to.receive_confirm, 4: to.receive_unmask}
        receivers[step](site, reply)


def _close(to: CoordinatorRound, step: int) -> dict[str, bytes]:
    return (to.close_advertise, to.close_share, to.close_masked, to.close_confirm)[step]()


def replay(recording: Recording, clock: Callable[[], float] = time.process_time) -> Replay:
    """A fresh coordinator on the recorded bytes, up to the real sum."""
    begin = clock()
    coordinator = recording.federation.coordinator()
    fold = control = 0.0
    for step in STEPS:
        start = clock()
        for site, reply in recording.sent[step].items():
            _deliver(coordinator, step, site, reply)
        if step == 2:
            fold = clock() - start
        if step < 4:
            _close(coordinator, step)
        if step == 1:
            control = clock() - begin
    total = dequantize_sum(coordinator.finish(), recording.federation.ring)
    return Replay(control, clock() - begin - control, fold, total)
