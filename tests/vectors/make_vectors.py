"""Write the frozen known answers of `fedsecagg/1` to secagg.json: python tests/vectors/make_vectors.py [hybrid]

With `hybrid` also those of the hybrid suite, to hybrid.json: new ones each time, for encapsulation is random.

Run it only when the protocol's version changes. The tests recompute every value and compare with the file, so a change
of the encoding, a label, a derivation or the order of random draws cannot go unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from privacy.encoding import digest, enc
from privacy.identity import Roster, RosterSite, SigningKey
from privacy.messages import Plan, RunManifest, SiteTerms, SourceShare, StageSpec, StopRule
from privacy.secagg.client import SiteRound
from privacy.secagg.hybrid import HybridAgreement, make_offer, pair_key
from privacy.secagg.keys import Agreement, Channel, pair_mask_key, seal, self_mask_key
from privacy.secagg.masking import apply_masks
from privacy.secagg.params import ring_params
from privacy.secagg.quantize import dequantize_sum, pack, quantize
from privacy.secagg.server import CoordinatorRound
from privacy.secagg.shamir import split

FILE = Path(__file__).with_name("secagg.json")
HYBRID_FILE = Path(__file__).with_name("hybrid.json")
SITES = ("site-1", "site-2", "site-3", "site-4")


class Stream:
    """SHA-256 in counter mode over a name."""

    def __init__(self, name: str) -> None:
        self._name, self._count = name, 0

    def random_bytes(self, n: int) -> bytes:
        out = b""
        while len(out) < n:
            out += hashlib.sha256(f"{self._name}|{self._count}".encode()).digest()
            self._count += 1
        return out[:n]


def primitives() -> dict[str, Any]:
    """Encoding, hash, keys, masks, shares, quantisation."""
    one, two = Agreement(bytes(range(32))), Agreement(bytes(range(1, 33)))
    ctx, h2 = bytes(32), b"\x01" * 32
    mask = np.zeros(5, dtype=np.uint32)
    apply_masks(mask, [bytes(range(32))], [])
    ring = ring_params(24, 1.0, 8)
    return {
        "enc": enc(None, True, False, 0, -1, 128, -(2**70), 1.5, b"\x00", "é", ("a", (1, ()))).hex(),
        "digest": digest("label", 1, "a").hex(),
        "signature": SigningKey.from_private_bytes(bytes(range(32))).sign("label", 1, "a").hex(),
        "pair_mask_key": pair_mask_key(one, two.public_bytes(), ctx, h2, "a", "b").hex(),
        "self_mask_key": self_mask_key(bytes(range(32)), ctx, h2, "a").hex(),
        "mask": [int(word) for word in mask],
        "shares": [share.to_bytes().hex() for share in split(bytes(range(32)), 3, 4, Stream("shamir"))],
        "scale": ring.scale,
        "packed": pack(quantize(np.array([0.1, -0.1, 1.0, -9.0]), ring).values, 24).tobytes().hex(),
    }


def _setting() -> tuple[Roster, RunManifest, Plan, dict[str, SigningKey], SigningKey]:
    keys = {site: SigningKey.generate(Stream(f"key {site}").random_bytes) for site in SITES}
    coordinator = SigningKey.generate(Stream("key coordinator").random_bytes)
    entries = tuple(RosterSite(site, keys[site].public_bytes(), 100) for site in SITES)
    roster = Roster("fed", 1, coordinator.public_bytes(), entries, 3, 0.5)
    sources = (SourceShare("reports", 2),)
    stage = StageSpec("one", sources, ("attention",), "b-only", 0.1, 0.9, 4, 0.1, 1.0, 5, StopRule(2, 0.0))
    manifest = RunManifest(
        federation_id="fed", run_id="run", release="0.1.0", roster_hash=roster.hash(), base_model_hash=bytes(32),
        adapter_hash=b"\x01" * 32, lora_rank=8, lora_alpha=16, privacy="patient-dp", clip_norm=1.0, target_epsilon=8.0,
        lane_share=0.1, bits=24, saturation=1.0, stages=(stage,),
        sites=tuple(SiteTerms(site, 100, 1.0, 1e-5) for site in SITES),
    )  # fmt: skip
    plan = Plan(
        federation_id="fed", run_id="run", roster_hash=roster.hash(), manifest_hash=manifest.hash(), round=1,
        attempt=1, stage=0, factor="B", model_hash=b"\x01" * 32, dimension=3, num_lanes=1, bits=24,
        scale=ring_params(24, 1.0, 4).scale, saturation=1.0,
    )  # fmt: skip
    return roster, manifest, plan, keys, coordinator


def transcript() -> dict[str, Any]:
    """SHA-256 of every message of a four-site round in which site-4 deals shares and then vanishes, and the sum."""
    roster, manifest, plan, keys, coordinator_key = _setting()
    coordinator = CoordinatorRound(plan=plan, roster=roster, signing_key=coordinator_key)
    ring = ring_params(24, 1.0, 4)
    machines = {
        site: SiteRound(
            site_id=site, signing_key=keys[site], roster=roster, manifest=manifest, entropy=Stream(site)
        )
        for site in SITES
    }
    out: dict[str, Any] = {
        "roster": roster.hash().hex(), "manifest": manifest.hash().hex(), "context": plan.context().hex(),
    }  # fmt: skip

    def note(step: str, site: str, *parts: Any) -> None:
        out[f"{step} {site}"] = hashlib.sha256(b"".join(bytes(part) for part in parts)).hexdigest()

    note("plan", "all", coordinator.signed_plan())
    for number, site in enumerate(SITES, start=1):
        vector = quantize(np.array([0.1, -0.25, 0.5]) * number, ring)
        reply = machines[site].advertise(plan, vector)
        note("advertise", site, reply)
        coordinator.receive_advertise(site, reply)
    for site, message in coordinator.close_advertise().items():
        reply = machines[site].share(message)
        note("share", site, message, reply)
        coordinator.receive_share(site, reply)
    for site, message in coordinator.close_share().items():
        if site != "site-4":
            header, packed = machines[site].mask(message)
            note("masked", site, message, header, packed)
            coordinator.receive_masked(site, header, packed)
    for site, message in coordinator.close_masked().items():
        reply = machines[site].confirm(message)
        note("confirm", site, message, reply)
        coordinator.receive_confirm(site, reply)
    for site, message in coordinator.close_confirm().items():
        reply = machines[site].unmask(message)
        note("unmask", site, message, reply)
        coordinator.receive_unmask(site, reply)
    total = coordinator.finish()
    out["sum"] = [int(word) for word in total]
    out["real sum"] = [round(float(value), 5) for value in dequantize_sum(total, ring)]
    return out


def hybrid() -> dict[str, Any]:
    """A key pair, an envelope's content and an offer of the hybrid suite, and the pair key that follows."""
    own, peer = HybridAgreement(bytes(range(32))), HybridAgreement(bytes(range(1, 33)))
    ctx, h1 = b"c" * 32, b"h" * 32
    channel = Channel(ctx, h1, "a", "b")
    offer = make_offer(peer, own.public_bytes(), channel)
    return {
        "public key": own.public_bytes().hex(),
        "sealed": seal(peer, own.public_bytes(), Channel(ctx, h1, "b", "a"), b"frozen").hex(),
        "offer": {name: getattr(offer, name).hex() for name in ("kem_ciphertext", "backup", "commitment")},
        "pair key": pair_key(own, "b", peer.public_bytes(), h1, channel, offer).hex(),
    }


def build() -> dict[str, Any]:
    """All vectors, as plain values."""
    return {"primitives": primitives(), "transcript": transcript()}


if __name__ == "__main__":
    FILE.write_text(json.dumps(build(), indent=1) + "\n")
    if sys.argv[1:] == ["hybrid"]:
        HYBRID_FILE.write_text(json.dumps(hybrid(), indent=1) + "\n")
