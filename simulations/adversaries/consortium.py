"""The honest world of an attack: keys, a pinned roster, an approved manifest, and sites that run the real protocol."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from privacy.errors import ProtocolError
from privacy.identity import Roster, RosterSite, SigningKey
from privacy.messages import LedgerMark, Plan, RunManifest, SiteTerms, SourceShare, StageSpec
from privacy.secagg.client import SiteRound
from privacy.secagg.params import ring_params
from privacy.secagg.quantize import QuantizedVector, quantize
from simulations.seeded import SeededEntropy

__all__ = ["STEPS", "Consortium", "Member", "Refusal", "Reply", "RoundMember"]

STEPS = ("sa_train", "sa_share", "sa_mask", "sa_confirm", "sa_unmask")
Values = npt.NDArray[np.uint32]
_STAGE = StageSpec(
    name="one", sources=(SourceShare("reports", 2),), groups=("attention",), schedule="alternate", learning_rate=0.1,
    momentum=0.0, local_steps=2, sampling_rate=0.1, noise_multiplier=2.0, max_rounds=4)


class Refusal(Exception):
    """A site refused a message: its code and whom it blames."""

    def __init__(self, code: str, blamed: str) -> None:
        super().__init__(code)
        self.code, self.blamed = code, blamed


@dataclass(frozen=True)
class Reply:
    """What a site sent back: canonical bytes, and from the masked step its packed vector, uint8[d * bits / 8]."""

    body: bytes
    packed: npt.NDArray[np.uint8] | None = None


class Member(Protocol):
    """One site as the coordinator reaches it."""

    site_id: str

    def ask(self, step: int, body: bytes) -> Reply:
        """Answer the message of step 0 (`sa_train`) to 4 (`sa_unmask`). Raises Refusal."""

    def vector(self) -> Values:
        """Ground truth: the clear vector, uint32[d], that this site's newest advertisement stands for."""

    def loot(self) -> tuple[bytes, ...]:
        """The private ephemeral keys that it holds now: what a coordinator gets from a site that colludes."""


class Consortium:
    """`n` hospitals, their signed papers and the coordinator's key; all of it repeatable.

    Args:
        n: number of sites on the roster, named site-01 and so on.
        dimension: d, coordinates of a vector; small.
        bits: width of the ring.
    """

    def __init__(self, n: int = 5, dimension: int = 8, bits: int = 24) -> None:
        self.ids = tuple(f"site-{i:02d}" for i in range(1, n + 1))
        self.keys = {site: _key(site) for site in self.ids}
        self.coordinator_key = _key("the coordinator")
        self.roster = Roster(
            federation_id="fed", version=1, coordinator_key=self.coordinator_key.public_bytes(),
            sites=tuple(RosterSite(site, self.keys[site].public_bytes(), 200) for site in self.ids),
            min_cohort=3, min_fraction=0.0)
        self.ring = ring_params(bits, 2.0, n)
        self.manifest = RunManifest(
            federation_id="fed", run_id="run", release="0.1.0", roster_hash=self.roster.hash(),
            base_model_hash=bytes(32), adapter_hash=bytes(32), lora_rank=8, lora_alpha=16, privacy="patient-dp",
            clip_norm=1.0, target_epsilon=8.0, lane_share=0.1, bits=bits, saturation=2.0, stages=(_STAGE,),
            sites=tuple(SiteTerms(site, 200, 1.0, 1e-5) for site in self.ids))
        self.dimension = dimension

    def amend(self, roster: Mapping[str, object] | None = None, **manifest: object) -> None:
        """Change papers before anybody has seen them: fields of the roster, and of the manifest."""
        self.roster = replace(self.roster, **(roster or {}))  # type: ignore[arg-type]
        self.manifest = replace(self.manifest, roster_hash=self.roster.hash(), **manifest)  # type: ignore[arg-type]

    def plan(self, **changes: object) -> Plan:
        """The honest plan of round 1, attempt 1, with `changes`."""
        plan = Plan(
            federation_id="fed", run_id="run", roster_hash=self.roster.hash(), manifest_hash=self.manifest.hash(),
            round=1, attempt=1, stage=0, factor="B", model_hash=bytes(32), dimension=self.dimension, num_lanes=0,
            bits=self.ring.bits, scale=self.ring.scale, saturation=2.0)
        return replace(plan, **changes)  # type: ignore[arg-type]

    def members(self, kind: type[SiteRound], lying: dict[str, type[SiteRound]] | None = None) -> list[RoundMember]:
        """All sites, of class `kind`; those in `lying` of their own class."""
        return [RoundMember(self, site, (lying or {}).get(site, kind)) for site in self.ids]

    def entropy(self, *labels: str) -> SeededEntropy:
        """A repeatable stream for one purpose."""
        return SeededEntropy(20260, "attack", *labels)

    def floor(self, announced: Collection[str]) -> int:
        """The smallest cohort that the pinned roster allows once those sites announced keys."""
        return self.roster.floor(len(announced))


class RoundMember:
    """A site's protocol state machine with a vector, and the memory of plans that its ledger would give it."""

    def __init__(self, world: Consortium, site_id: str, kind: type[SiteRound]) -> None:
        self.site_id, self._world, self._kind = site_id, world, kind
        self._last: tuple[int, int] | None = None
        self._machine: SiteRound | None = None
        self._clear: Values = np.zeros(0, dtype=np.uint32)

    def ask(self, step: int, body: bytes) -> Reply:
        """See `Member`."""
        try:
            if step == 0:
                return Reply(self._advertise(body))
            machine = self._machine
            if machine is None:
                raise Refusal("E_STAGE", "coordinator")
            if step == 2:
                return Reply(*machine.mask(body))
            return Reply({1: machine.share, 3: machine.confirm, 4: machine.unmask}[step](body))
        except ProtocolError as error:
            raise Refusal(error.code, error.blamed) from error

    def vector(self) -> Values:
        """See `Member`."""
        return self._clear

    def loot(self) -> tuple[bytes, ...]:
        """See `Member`."""
        machine = self._machine
        pairs = () if machine is None else (machine._channel_pair, machine._mask_pair)
        return tuple(pair.private_bytes() for pair in pairs if pair is not None)

    def _advertise(self, body: bytes) -> bytes:
        world = self._world
        plan = self._kind.check_plan(body, roster=world.roster, manifest=world.manifest, last=self._last)
        self._last = (plan.round, plan.attempt)
        self._machine = self._kind(
            site_id=self.site_id, signing_key=world.keys[self.site_id], roster=world.roster, manifest=world.manifest,
            entropy=world.entropy(self.site_id, str(plan.round), str(plan.attempt)))
        vector = self._update(plan)
        self._clear = vector.values.copy()
        return self._machine.advertise(plan, vector, LedgerMark.empty(
            self.site_id, world.roster.federation_id, world.keys[self.site_id]))

    def _update(self, plan: Plan) -> QuantizedVector:
        """A new vector each round; the same one in another attempt at it."""
        source = self._world.entropy(self.site_id, "update", str(plan.round))
        uniform = source.uniform64(plan.dimension).astype(np.float64) * 2.0**-64
        return quantize(4.0 * uniform - 2.0, self._world.ring)


def _key(name: str) -> SigningKey:
    return SigningKey.generate(SeededEntropy(20260, "attack", name, "signing").random_bytes)
