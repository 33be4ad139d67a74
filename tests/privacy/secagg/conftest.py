"""A whole federation in memory: keys, roster, manifest, and a session that any test can stop and tamper with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np
import pytest

from privacy.errors import ProtocolError
from privacy.identity import Roster, RosterSite, SigningKey
from privacy.messages import (
    AdvertiseList,
    ConfirmList,
    EnvelopeList,
    MaskedList,
    Plan,
    RunManifest,
    SiteTerms,
    SourceShare,
    StageSpec,
)
from privacy.secagg.client import SiteRound
from privacy.secagg.params import ring_params
from privacy.secagg.quantize import quantize
from privacy.secagg.server import CoordinatorRound

LISTS = {1: AdvertiseList, 2: EnvelopeList, 3: MaskedList, 4: ConfirmList}


class Stream:
    """SHA-256 in counter mode: repeatable bytes, distinct for each name. Implements `RandomSource`."""

    def __init__(self, name: str) -> None:
        self._name, self._count = name, 0

    def random_bytes(self, n: int) -> bytes:
        out = b""
        while len(out) < n:
            out += hashlib.sha256(f"{self._name}|{self._count}".encode()).digest()
            self._count += 1
        return out[:n]


class Federation:
    """`n` hospitals with one approved manifest."""

    def __init__(
        self, n: int = 5, dimension: int = 6, bits: int = 24, min_fraction: float = 0.0, min_cohort: int = 3,
        suite: str = "x25519", tags: int = 0,
    ) -> None:
        self.ids = tuple(f"site-{i:03d}" for i in range(1, n + 1))
        self.keys = {site: SigningKey.generate(Stream(site).random_bytes) for site in self.ids}
        self.coordinator_key = SigningKey.generate(Stream("coordinator").random_bytes)
        entries = tuple(RosterSite(site, self.keys[site].public_bytes(), 200) for site in self.ids)
        self.roster = Roster("fed", 1, self.coordinator_key.public_bytes(), entries, min_cohort, min_fraction)
        self.ring = ring_params(bits, 2.0, n)
        self.manifest = RunManifest(
            federation_id="fed", run_id="run-1", release="0.1.0", roster_hash=self.roster.hash(),
            base_model_hash=bytes(32), adapter_hash=bytes(32), lora_rank=8, lora_alpha=16, privacy="patient-dp",
            clip_norm=1.0, target_epsilon=8.0, lane_share=0.1, bits=bits, saturation=2.0,
            stages=(
                StageSpec("one", (SourceShare("reports", 2),), ("attention",), "alternate", 0.1, 0.9, 4, 0.1, 1.0, 9),
            ),
            sites=tuple(SiteTerms(site, 200, 1.0, 1e-5) for site in self.ids), suite=suite, integrity_tags=tags,
        )  # fmt: skip
        self.dimension = dimension

    def plan(self, **changes: object) -> Plan:
        plan = Plan(
            federation_id="fed", run_id="run-1", roster_hash=self.roster.hash(),
            manifest_hash=self.manifest.hash(), round=1, attempt=1, stage=0, factor="B", model_hash=bytes(32),
            dimension=self.dimension, num_lanes=0, bits=self.ring.bits, scale=self.ring.scale, saturation=2.0,
        )  # fmt: skip
        return replace(plan, **changes)

    def vector(self, site: str) -> np.ndarray:
        """That site's update: repeatable, within +-c, a new array each time."""
        seed = int.from_bytes(hashlib.sha256(site.encode()).digest()[:4], "big")
        return np.random.default_rng(seed).uniform(-2.0, 2.0, self.dimension)

    def site(
        self, site: str, kind: type[SiteRound] = SiteRound, *, salt: str = "", **hooks: Callable[[], None]
    ) -> SiteRound:
        return kind(
            site_id=site, signing_key=self.keys[site], roster=self.roster, manifest=self.manifest,
            entropy=Stream(f"{site}|{salt}"), **hooks,
        )  # fmt: skip

    def coordinator(self, plan: Plan) -> CoordinatorRound:
        return CoordinatorRound(
            plan=plan, roster=self.roster, signing_key=self.coordinator_key, suite=self.manifest.suite,
            integrity_tags=self.manifest.integrity_tags)

    def session(self, **options: object) -> Session:
        return Session(self, **options)


class Session:
    """One attempt. `inbox` holds the next message for each site; `run_to(k)` completes the steps before Rk."""

    def __init__(
        self,
        federation: Federation,
        *,
        kinds: dict[str, type[SiteRound]] | None = None,
        plan: Plan | None = None,
        salt: str = "",
    ) -> None:
        self.federation, self.ids = federation, federation.ids
        self.plan = plan or federation.plan()
        self.coordinator = federation.coordinator(self.plan)
        kinds = kinds or {}
        self.sites = {
            site: federation.site(site, kinds.get(site, SiteRound), salt=salt) for site in federation.ids
        }
        self.vectors = {site: quantize(federation.vector(site), federation.ring) for site in federation.ids}
        self.expected = {site: vector.values.astype(np.int64) for site, vector in self.vectors.items()}
        self.inbox: dict[str, bytes] = dict.fromkeys(federation.ids, self.coordinator.signed_plan())
        self.uploads: dict[str, tuple[bytes, np.ndarray]] = {}

    def reply(self, step: int, site: str) -> object:
        """What the site answers to its inbox message of step R0..R4."""
        machine = self.sites[site]
        if step == 0:
            return machine.advertise(self.plan, self.vectors[site])
        return (machine.share, machine.mask, machine.confirm, machine.unmask)[step - 1](self.inbox[site])

    def deliver(self, step: int, site: str, reply: object) -> None:
        """Hand a reply to the coordinator."""
        to = self.coordinator
        if step == 2:
            self.uploads[site] = reply
            to.receive_masked(site, *reply)
        else:
            (to.receive_advertise, to.receive_share, None, to.receive_confirm, to.receive_unmask)[step](site, reply)

    def close(self, step: int) -> None:
        to = self.coordinator
        self.inbox = (to.close_advertise, to.close_share, to.close_masked, to.close_confirm)[step]()

    def run_step(self, step: int, silent: Collection[str] = ()) -> None:
        for site in list(self.inbox):
            if site not in silent:
                self.deliver(step, site, self.reply(step, site))
        if step < 4:
            self.close(step)

    def run_to(self, step: int) -> Session:
        for earlier in range(step):
            self.run_step(earlier)
        return self

    def entries(self, step: int, site: str) -> list:
        """The entries of the list that is waiting for `site` before step R1..R4."""
        return list(LISTS[step].from_bytes(self.inbox[site]).entries)

    def give(self, step: int, changed: Collection, site: str) -> object:
        """What `site` answers to a list of these entries instead of the honest one."""
        self.inbox[site] = LISTS[step](tuple(changed)).to_bytes()
        return self.reply(step, site)

    def refusal(self, step: int, changed: Collection, site: str) -> tuple[str, str]:
        """The (code, blamed) with which `site` refuses those entries; it must have wiped its secrets."""
        with pytest.raises(ProtocolError) as refused:
            self.give(step, changed, site)
        assert self.wiped(site)
        return refused.value.code, refused.value.blamed

    def wiped(self, site: str) -> bool:
        machine = self.sites[site]
        secrets = (machine._seed, machine._mask_pair, machine._channel_pair, machine._vector, machine._answered)
        options = (machine._offers, machine._contribution, machine._tag_key)
        return machine.state == "aborted" and secrets == (None,) * 5 and machine._dealt == {} and not any(options)

    def finish(self) -> np.ndarray:
        return self.coordinator.finish()

    def plain_sum(self, sites: Collection[str]) -> np.ndarray:
        """The ring sum that those sites' vectors should give."""
        return sum(self.expected[site] for site in sites) % (1 << self.federation.ring.bits)


@pytest.fixture(scope="session")
def make_federation() -> type[Federation]:
    """Build a federation: make_federation(n=5, dimension=6, bits=24, min_fraction=0.0)."""
    return Federation


@pytest.fixture(scope="session")
def federation() -> Federation:
    """Five sites, at most one of them may drop out."""
    return Federation()


@pytest.fixture
def session(federation: Federation) -> Session:
    """A fresh attempt of the five-site federation."""
    return federation.session()


@pytest.fixture(scope="session")
def make_stream() -> type[Stream]:
    """A repeatable random source by name."""
    return Stream
